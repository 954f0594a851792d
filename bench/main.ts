/** `npm run bench [-- <name> …]`: the benchmarks, each a table and a JSON file in `results/`. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { UserError } from "../violations";
import cloudTime from "./cloudTime";
import firstStart from "./firstStart";
import fromNothing from "./fromNothing";
import growth from "./growth";
import { type Bench, machine } from "./harness";
import noChange from "./noChange";
import oneChange from "./oneChange";
import programStart from "./programStart";
import { writeReadme } from "./readme";
import { type Result, readResult, regressions, tableOf, writeResult } from "./results";
import sampleApi from "./sampleApi";

/** In the order of the README. */
export const benches: Bench[] = [
  fromNothing,
  noChange,
  oneChange,
  growth,
  cloudTime,
  programStart,
  firstStart,
  sampleApi,
];

const help = `npm run bench [-- <name> …] [--repetitions <n>] [--check] [--keep]

  --repetitions <n>  of each variant; 5 unless given
  --check            compare the ratios with the committed ones, and keep nothing
  --keep             write bench/results/<name>.json and the tables of bench/README.md
`;

export async function runBenches(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      repetitions: { type: "string", default: "5" },
      check: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return tell(help);
  const unknown = positionals.filter((name) => benches.every((bench) => bench.name !== name));
  if (unknown.length > 0)
    throw new UserError(`No benchmark ${unknown.join(", ")}. There are ${benches.map(({ name }) => name).join(", ")}.`);
  const chosen = benches.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  const repetitions = Number(values.repetitions);
  if (!(Number.isInteger(repetitions) && repetitions > 0))
    throw new UserError(`--repetitions is ${values.repetitions}: a whole number from 1 up, such as 5.`);

  const worse: string[] = [];
  for (const bench of chosen) {
    console.log(`\n${bench.title}: about ${bench.minutes} min`);
    const result = await runOne(bench, repetitions);
    console.log(`\n${tableOf(result)}`);
    const committed = readResult("results", bench.name);
    if (values.check && committed) worse.push(...regressions(result, committed));
    if (values.keep) writeResult(result);
  }
  if (values.keep) writeReadme(benches);
  if (worse.length === 0) return 0;
  console.error(`Worse than what is committed:\n  ${worse.join("\n  ")}`);
  return 1;
}

async function runOne(bench: Bench, repetitions: number): Promise<Result> {
  const scratch = mkdtempSync(join(tmpdir(), `hobnob-bench-${bench.name}-`));
  try {
    const measured = await bench.run({ repetitions, scratch, say: (line) => console.log(`  ${line}`) });
    const { name, title } = bench;
    return { name, title, date: new Date().toISOString().slice(0, 10), repetitions, machine: machine(), ...measured };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function tell(text: string): number {
  console.log(text);
  return 0;
}
