/** `npm run faults -- [--seed S] [--count N] [--from N] [--minutes M] [--report-only]` */
import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Fault, injectFaults } from "./faults";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: new Date().toISOString().slice(0, 16) },
    count: { type: "string", default: "100" },
    from: { type: "string", default: "1" },
    changes: { type: "string", default: "14" },
    minutes: { type: "string", default: "300" },
    "report-only": { type: "boolean", default: false },
  },
});

async function main(): Promise<number> {
  const folder = process.env.HOBNOB_REPORT || join(__dirname, "..", ".faults");
  mkdirSync(folder, { recursive: true });
  const report = (fault: Fault) => {
    appendFileSync(join(folder, "faults.jsonl"), `${JSON.stringify(fault)}\n`);
    const { number, during, victim, point, withinGap, converged, seconds, problems } = fault;
    console.log(
      `${converged ? "ok  " : "FAIL"} ${number} ${during}: ${victim} killed at ${point}${withinGap ? " (gap)" : ""}, ${Math.round(seconds)} s`,
    );
    for (const problem of problems) console.log(`    ${problem.replaceAll("\n", "\n    ")}`);
  };
  const deadline = Date.now() + Number(values.minutes) * 60_000;
  const { seed, count, from, changes } = values;
  const counts = { count: Number(count), from: Number(from), changes: Number(changes) };
  console.log(`seed ${seed}`);
  const faults = await injectFaults({ seed, ...counts, deadline, report, say: console.log });
  const converged = faults.filter((fault) => fault.converged).length;
  const inGap = faults.filter(({ withinGap }) => withinGap).length;
  console.log(`${faults.length} faults, ${inGap} within the gap, ${converged} converged`);
  return converged === faults.length ? 0 : 1;
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
