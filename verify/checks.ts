import { setTimeout as sleep } from "node:timers/promises";

/** `off`: the stack is not configured for it. `elsewhere`: there is no such thing where the stack runs. */
export type Status = "pass" | "miss" | "off" | "elsewhere" | "unchecked";

export interface Outcome {
  status: Status;
  /** One line: what was found, or what is wrong with it. */
  detail: string;
}

export interface Result extends Outcome {
  name: string;
  seconds: number;
}

export interface Check {
  name: string;
  /** Names of checks without which this one could not tell its own fault from theirs: it is not made where one missed. */
  needs?: string[];
  run(run: Run): Promise<Outcome>;
}

export const pass = (detail: string): Outcome => ({ status: "pass", detail });
export const miss = (detail: string): Outcome => ({ status: "miss", detail });
export const off = (detail: string): Outcome => ({ status: "off", detail });
export const elsewhere = (detail: string): Outcome => ({ status: "elsewhere", detail });

/** What was found is not what it must be; its message is the check's detail. */
export class Miss extends Error {}

/** One acceptance under way. */
export interface Run {
  /** Ends what is under way, as by Ctrl-C; what must not be cut off, such as the making of a thing, does not heed it. */
  signal: AbortSignal;
  /**
   * To be called before a thing is made: what takes it away again, run at the end of the acceptance however that comes.
   * @param name of the thing, for the report of one that stays behind
   */
  cleanUp(name: string, undo: () => Promise<void>): void;
}

const CLEAN_UP = "clean-up";

/**
 * Makes the checks one after the other, then cleans up; a check that throws has missed.
 * @param signal stops after the check under way, which is not reported; things made are taken away all the same
 * @param started takes the name of each check as it starts
 */
export async function runChecks(
  checks: Check[],
  signal: AbortSignal,
  started: (name: string) => void = () => {},
): Promise<Result[]> {
  const results: Result[] = [];
  const undos: { name: string; undo: () => Promise<void> }[] = [];
  const run: Run = { signal, cleanUp: (name, undo) => void undos.unshift({ name, undo }) };
  for (const check of checks) {
    started(check.name);
    const begin = performance.now();
    const outcome = await outcomeOf(check, run, results);
    if (signal.aborted) break;
    results.push({ name: check.name, ...outcome, seconds: secondsSince(begin) });
  }
  if (undos.length === 0) return results;
  started(CLEAN_UP);
  const begin = performance.now();
  const left: string[] = [];
  for (const { name, undo } of undos)
    await undo()
      // What is used up, as a rate limit, or on its way, as a new master, comes back.
      .catch(() => sleep(2_000).then(undo))
      .catch((error: Error) => left.push(`${name} (${error.message})`));
  const outcome =
    left.length > 0
      ? miss(`left behind: ${left.join(", ")}`)
      : pass(`taken away: ${undos.map(({ name }) => name).join(", ")}`);
  return [...results, { name: CLEAN_UP, ...outcome, seconds: secondsSince(begin) }];
}

const secondsSince = (begin: number) => Math.round(performance.now() - begin) / 1000;

async function outcomeOf(check: Check, run: Run, results: Result[]): Promise<Outcome> {
  const missed = check.needs?.filter((name) =>
    results.some((result) => result.name === name && (result.status === "miss" || result.status === "unchecked")),
  );
  if (missed && missed.length > 0) return { status: "unchecked", detail: `needs: ${missed.join(", ")}` };
  return check.run(run).catch((error: Error) => miss(error.message));
}
