import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Table from "cli-table3";
import { type Goal, isMet, type Measured, type machine, summary, threeDigits } from "./harness";

/** What a run of one benchmark leaves in `results/`. */
export interface Result extends Measured {
  name: string;
  title: string;
  date: string;
  repetitions: number;
  machine: ReturnType<typeof machine>;
}

const fileOf = (directory: string, name: string) => join(__dirname, directory, `${name}.json`);

/** @param directory `results`, or `before`: the first figures that were taken */
export function readResult(directory: "results" | "before", name: string): Result | undefined {
  const file = fileOf(directory, name);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Result) : undefined;
}

export function writeResult(result: Result): void {
  mkdirSync(join(__dirname, "results"), { recursive: true });
  writeFileSync(fileOf("results", result.name), `${JSON.stringify(result, null, 2)}\n`);
}

export function tableOf({ title, machine: { processors, memory, node }, repetitions, ...measured }: Result): string {
  const style = { head: [], border: [] };
  const table = new Table({ head: ["", "variant", "median (least–most)", "memory", "runs"], style });
  for (const { case: name, variants } of measured.cases)
    for (const [variant, figures] of Object.entries(variants)) {
      const { megabytes, samples } = figures;
      table.push([name, variant, summary(figures), megabytes ? `${megabytes} MB` : "", samples.length]);
    }
  const goals = measured.goals.map(
    (goal) => `${isMet(goal) ? "✔" : "✖"} ${goal.goal}: ${threeDigits(goal.value)} (${limitOf(goal)})`,
  );
  const head = `${title} · ${processors}, ${memory}, Node ${node} · ${repetitions} repetitions`;
  return [head, table.toString(), ...goals, ...(measured.notes ?? []), ""].join("\n");
}

export const limitOf = ({ atMost, atLeast }: Goal): string => {
  if (atMost !== undefined) return `≤ ${atMost}`;
  return atLeast === undefined ? "no goal" : `≥ ${atLeast}`;
};

/** How much worse than the committed ratio one may be: these machines are noisy, a regression of the code is more. */
const TOLERANCE = 1.4;

/** What got worse than what is committed. A ratio that still meets its goal by a margin is none. */
export function regressions(now: Measured, committed: Measured): string[] {
  return now.goals.flatMap((goal) => {
    const before = committed.goals.find(({ goal: name }) => name === goal.goal);
    if (!before) return [];
    const worse = goal.atLeast === undefined ? goal.value / before.value : before.value / goal.value;
    if (worse <= TOLERANCE || (isMet(goal) && isMet(before) && worse <= TOLERANCE ** 2)) return [];
    const [is, was] = [goal.value, before.value].map(threeDigits);
    return [`${goal.goal}: ${is}, and ${was} in bench/results (${limitOf(goal)})`];
  });
}
