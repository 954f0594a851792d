import { existsSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { execa } from "execa";
import { restoreStack } from "../operations/restoreStack";
import { type Operator, scaleDown } from "../operations/scaleDown";
import { type Pulumi, pulumiIn, stackOutputs } from "../verify/stack";
import { isRunning } from "./cluster";
import { runningDaemon } from "./daemons";
import { engine, projectDirectory, pulumi } from "./engine";
import { cloneDirectory } from "./paths";
import { obtainTools } from "./tools";

/** Runs any engine command on the local stack, as `npm run local` does. @returns its exit code */
export type Local = (args: string[]) => Promise<number>;

/** `npm run scale-down -- <stack> <replicas> [flags of pulumi up]` */
export async function scaleDownStack([stack, replicas = "", ...flags]: string[], local: Local): Promise<number> {
  if (!stack || !/^[1-9]\d*$/.test(replicas) || replicas === "2")
    throw new Error(
      `Given: ${[stack, replicas].filter(Boolean).join(" ") || "nothing"}; a stack and a number of nodes are needed, 1 or at least 3. ` +
        "For example: npm run scale-down -- prod 3",
    );
  return scaleDown(await operatorOf(stack, flags, local), Number(replicas));
}

/** `npm run restore -- <stack> [<snapshot> [--indices a,b] [--replace] [--yes]]` */
export async function restoreFor(args: string[], local: Local): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { indices: { type: "string" }, replace: { type: "boolean" }, yes: { type: "boolean" } },
  });
  const [stack, snapshot, ...more] = positionals;
  if (!stack || more.length > 0)
    throw new Error(
      "A stack is needed, and to restore one of its snapshots. For example: npm run restore -- prod, which lists them; " +
        "npm run restore -- prod snapshot-20261121-020000 --indices users",
    );
  const { outputs, say } = await operatorOf(stack, [], local);
  const wishes = { snapshot, indices: values.indices?.split(","), replace: values.replace };
  return restoreStack(await outputs(), wishes, { say, confirm: async (question) => values.yes || confirmed(question) });
}

async function confirmed(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} (yes/no) `).finally(() => terminal.close());
  return answer === "yes";
}

/** Of `local` by the clone's own commands, of any other stack with its user's own pulumi. */
async function operatorOf(stack: string, flags: string[], local: Local): Promise<Operator> {
  const say = (line: string) => console.log(line);
  if (stack !== "local") {
    const run = async (file: string, ...args: string[]) => {
      const settings = { cwd: cloneDirectory, stdio: "inherit", reject: false } as const;
      return (await execa(file, args, settings)).exitCode ?? 1;
    };
    return {
      stack,
      say,
      outputs: () => stackOutputs(stack, pulumiIn(cloneDirectory), `npm run stack -- ${stack} up`),
      configure: async (path, value) =>
        succeeded(await run("pulumi", "config", "set", "--path", path, value, "--stack", stack)),
      up: () => run("npm", "run", "--silent", "stack", "--", stack, "up", ...flags),
    };
  }
  const runner = await localPulumi();
  return {
    stack,
    say,
    outputs: () => stackOutputs("local", runner, "npm start -- --real"),
    configure: async (path, value) => succeeded(await local(["config", "set", "--path", path, value])),
    up: () => local(["up", "--yes", "--skip-preview", "--suppress-outputs", ...flags]),
  };
}

function succeeded(code: number): void {
  if (code !== 0) throw new Error("The stack's settings could not be written; the reason is above.");
}

/** The engine's command line on the stack `local`, where it runs. */
export async function localPulumi(): Promise<Pulumi> {
  const account = runningDaemon("account");
  if (!account || !isRunning() || !existsSync(projectDirectory()))
    throw new Error("The stack local does not run; start it: npm start -- --real");
  const runner = engine(await obtainTools(["pulumi", "pulumi-language-nodejs"]), account.port);
  // The kubeconfig's command asks the simulated account for a token.
  Object.assign(process.env, runner.environment);
  return (args) => pulumi(runner, args, { reject: false, stdin: "ignore" });
}
