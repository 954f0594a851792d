import Table from "cli-table3";
import type { Result, Status } from "./checks";

const WORDS: Record<Status, string> = {
  pass: "pass",
  miss: "MISS",
  off: "not configured",
  elsewhere: "not here",
  unchecked: "not checked",
};

/** Whether nothing that could be checked missed. */
export const passed = (results: Result[]): boolean => results.every(({ status }) => status !== "miss");

/** @param width of the terminal, into which long lines are broken; without it none is */
export function table(results: Result[], width?: number): string {
  const names = Math.max(...results.map(({ name }) => name.length));
  const rest = width && Math.max(20, width - names - 32);
  const lines = new Table({
    head: ["check", "result", "s", "found"],
    colAligns: ["left", "left", "right", "left"],
    colWidths: [null, null, null, rest ?? null],
    wordWrap: true,
    style: { head: [], border: [], compact: true },
  });
  for (const { name, status, seconds, detail } of results)
    lines.push([name, WORDS[status], seconds.toFixed(1), detail]);
  return lines.toString();
}

/** `9 passed, 1 missed, 3 not here, 12 s` */
export function summary(results: Result[]): string {
  const count = (status: Status) => results.filter((result) => result.status === status).length;
  const rest = (["off", "elsewhere", "unchecked"] as const)
    .filter((status) => count(status) > 0)
    .map((status) => `, ${count(status)} ${WORDS[status]}`);
  const seconds = results.reduce((sum, result) => sum + result.seconds, 0);
  return `${count("pass")} passed, ${count("miss")} missed${rest.join("")}; ${seconds.toFixed(0)} s`;
}
