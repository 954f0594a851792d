/** `npm run faults`: every fault and every long form of the tests, then the report docs/resilience.md. */
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { execa } from "execa";
import { recordFigures } from "../test/figures";
import { type Fault, injectFaults } from "./faults";
import type { Program } from "./platform";
import { compose, readFaults, summary } from "./report";

const project = join(__dirname, "..");
const usage = `npm run faults -- [options]
  --seed S               the same faults again
  --from N --count N     which of them (1 and 100)
  --program P            platform: the whole of it; account: only what it has there, in seconds a fault
                         (without it two faults of five and three of five)
  --changes C            changes between two destructions (14)
  --minutes M            begin none after so long
  --only interruptions   without the other parts' tests; --only parts: without the interruptions
  --report-only          write docs/resilience.md from what is recorded in .faults`;

function options() {
  try {
    return parseArgs({
      options: {
        seed: { type: "string", default: new Date().toISOString().slice(0, 16) },
        count: { type: "string", default: "100" },
        from: { type: "string", default: "1" },
        changes: { type: "string", default: "14" },
        minutes: { type: "string", default: "600" },
        program: { type: "string", default: "both" },
        only: { type: "string", default: "" },
        "report-only": { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(1);
  }
}

async function main(): Promise<number> {
  const values = options();
  const folder = process.env.HOBNOB_REPORT || join(project, ".faults");
  process.env.HOBNOB_REPORT = folder;
  mkdirSync(folder, { recursive: true });
  const failures: string[] = [];
  if (!values["report-only"]) {
    if (values.only !== "parts" && !(await interruptions(values, folder))) failures.push("interruptions");
    if (values.only !== "interruptions") failures.push(...(await longForms(values.count)));
  }
  compose(folder, join(project, "docs", "resilience.md"));
  console.log("Written: docs/resilience.md");
  if (failures.length > 0) console.error(`Failed: ${failures.join(", ")}`);
  return failures.length === 0 ? 0 : 1;
}

async function interruptions(values: ReturnType<typeof options>, folder: string): Promise<boolean> {
  const report = (series: Fault[]) => {
    for (const fault of series) {
      appendFileSync(join(folder, "faults.jsonl"), `${JSON.stringify(fault)}\n`);
      console.log(describe(fault));
    }
  };
  const { seed, count, from, changes, minutes, program } = values;
  const deadline = Date.now() + Number(minutes) * 60_000;
  const all = Number(count);
  const shares: [Program, number][] = [
    ["account", program === "both" ? Math.ceil(all * 0.6) : program === "account" ? all : 0],
    ["platform", program === "both" ? Math.floor(all * 0.4) : program === "platform" ? all : 0],
  ];
  const faults: Fault[] = [];
  for (const [part, share] of shares) {
    if (share === 0) continue;
    console.log(`${part}, seed ${seed}`);
    const options = { seed, count: share, from: Number(from), changes: Number(changes), program: part, deadline };
    faults.push(...(await injectFaults({ ...options, report, say: console.log })));
  }
  const { total } = summary(readFaults(folder));
  recordFigures("interruptions", total);
  console.log(total);
  return faults.every(({ converged }) => converged);
}

function describe({ number, link, during, victim, point, withinGap, converged, seconds, problems }: Fault): string {
  const result = `${converged ? "ok  " : "FAIL"} ${number}.${link} ${during}: ${victim} killed at ${point}`;
  const lines = problems.map((problem) => `    ${problem.replaceAll("\n", "\n    ")}`);
  return [`${result}${withinGap ? " (gap)" : ""}, ${Math.round(seconds)} s`, ...lines].join("\n");
}

/** The tests that record figures, each in its long form. @returns those that failed */
async function longForms(count: string): Promise<string[]> {
  const files = readdirSync(join(project, "test"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => join("test", file))
    .filter((file) => readFileSync(join(project, file), "utf8").includes("recordFigures("))
    .filter((file) => !file.endsWith("faults.test.ts"));
  const failed: string[] = [];
  for (const file of files) {
    console.log(`\n${file}`);
    const options = { cwd: project, preferLocal: true, stdio: "inherit", reject: false } as const;
    const { exitCode } = await execa("mocha", [file], { ...options, env: { HOBNOB_FAULTS: count } });
    if (exitCode !== 0) failed.push(file);
  }
  return failed;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
