import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** Where a fault is to hit, in the file `armed` of the folder that HOBNOB_FAULT_POINTS names. */
export interface FaultPoint {
  /** Regular expression of the requests that count, such as `^POST .*domains`. */
  match: string;
  /** Which of them, from 1. */
  nth: number;
}

/**
 * For the fault harness alone. Called when an API has accepted a change and the engine does not know it yet: an armed point
 * is held there until the harness has killed what it wanted to kill.
 */
export async function faultPoint(request: string): Promise<void> {
  const folder = process.env.HOBNOB_FAULT_POINTS;
  if (!folder) return;
  const [armed, passed, reached] = ["armed", "passed", "reached"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  appendFileSync(passed, `${request}\n`);
  if (!existsSync(armed) || existsSync(reached)) return;
  const { match, nth } = JSON.parse(readFileSync(armed, "utf8")) as FaultPoint;
  const matching = readFileSync(passed, "utf8")
    .split("\n")
    .filter((line) => new RegExp(match).test(line));
  if (!new RegExp(match).test(request) || matching.length < nth) return;
  writeFileSync(reached, request);
  while (existsSync(armed)) await sleep(20);
}
