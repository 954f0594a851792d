import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { execa } from "execa";
import { driftOf, tellDrift } from "../operations/drift";
import { parseEvents } from "../operations/events";
import { pulumi } from "./engine";
import { runningEngine } from "./operate";
import { cloneDirectory } from "./paths";

/** `npm run drift -- <stack> [--out file]` @returns 0: none, 1: drift, 2: it could not be told */
export async function driftCommand(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { out: { type: "string" } } });
  const [stack, ...more] = positionals;
  if (!stack || more.length > 0) throw new Error("One stack is needed; for example: npm run drift -- prod");
  const directory = mkdtempSync(join(tmpdir(), "hobnob-drift-"));
  try {
    const log = join(directory, "events");
    // Changes nothing, neither objects nor the state.
    const command = ["refresh", "--preview-only", "--non-interactive", "--stack", stack, "--event-log", log];
    const options = { env: { PULUMI_DEBUG_COMMANDS: "true" }, reject: false, stdin: "ignore", all: true } as const;
    const { exitCode, all } =
      stack === "local"
        ? await pulumi(await runningEngine(), command, options)
        : await execa("pulumi", command, { ...options, cwd: cloneDirectory });
    if (exitCode !== 0 || !existsSync(log)) {
      console.error(`Whether the stack ${stack} has drifted could not be told:\n${all}`);
      return 2;
    }
    const drift = driftOf(parseEvents(readFileSync(log, "utf8")));
    const text = tellDrift(stack, drift);
    console.log(text);
    if (values.out && drift.length > 0) writeFileSync(values.out, `${text}\n`);
    return drift.length > 0 ? 1 : 0;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
