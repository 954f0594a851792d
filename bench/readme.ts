import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Bench, type Goal, isMet, summary, threeDigits } from "./harness";
import { limitOf, type Result, readResult } from "./results";

const file = join(__dirname, "README.md");
const [BEGIN, END] = ["<!-- begin of what `npm run bench -- --keep` writes -->", "<!-- end -->"];

/** Writes the tables between the two marks. */
export function writeReadme(benches: Pick<Bench, "name">[]): void {
  writeFileSync(file, withTables(readFileSync(file, "utf8"), benches));
}

export function withTables(text: string, benches: Pick<Bench, "name">[]): string {
  const results = benches.flatMap(({ name }) => readResult("results", name) ?? []);
  const [before, after] = [text.slice(0, text.indexOf(BEGIN)), text.slice(text.indexOf(END))];
  return `${before}${BEGIN}\n\n${goalsTable(results)}\n${results.map(section).join("\n")}\n${after}`;
}

function goalsTable(results: Result[]): string {
  const rows = results.flatMap(({ name, goals }) => {
    const first = readResult("before", name)?.goals ?? [];
    return goals.map((goal) => goalRow(goal, first));
  });
  return `| goal | limit | before | now | |\n| --- | --- | --- | --- | --- |\n${rows.join("\n")}\n`;
}

function goalRow(goal: Goal, first: Goal[]): string {
  const before = first.find(({ goal: name }) => name === goal.goal);
  const hasLimit = goal.atMost !== undefined || goal.atLeast !== undefined;
  const verdict = hasLimit ? (isMet(goal) ? "✔" : "✖") : "";
  return `| ${goal.goal} | ${limitOf(goal)} | ${before ? threeDigits(before.value) : ""} | ${threeDigits(goal.value)} | ${verdict} |`;
}

function section({ title, date, repetitions, machine, cases, notes = [] }: Result): string {
  const rows = cases.flatMap(({ case: name, variants }) =>
    Object.entries(variants).map(
      ([variant, figures]) =>
        `| ${name} | ${variant} | ${summary(figures)} | ${figures.megabytes ? `${figures.megabytes} MB` : ""} |`,
    ),
  );
  const { processors, memory, system, node } = machine;
  return [
    `## ${title}\n`,
    `${date}, ${processors}, ${memory}, ${system}, Node ${node}; ${repetitions} repetitions: median (least–most).\n`,
    `| | variant | | peak memory |\n| --- | --- | --- | --- |\n${rows.join("\n")}\n`,
    ...notes.map((note) => `- ${note}`),
    "",
  ].join("\n");
}
