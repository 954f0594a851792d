import { existsSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { execa } from "execa";
import { releaseIn, rollbackTarget } from "../operations/release";
import { restoreStack } from "../operations/restoreStack";
import { type Operator, scaleDown } from "../operations/scaleDown";
import { type Pulumi, pulumiIn, stackOutputs } from "../verify/stack";
import { isRunning } from "./cluster";
import { runningDaemon } from "./daemons";
import { type Engine, engine, projectDirectory, pulumi } from "./engine";
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

/** `npm run rollback -- <stack> [flags of pulumi up]`: to the last image with which an update ended well */
export async function rollbackStack([stack, ...flags]: string[], local: Local): Promise<number> {
  if (!stack || stack.startsWith("-")) throw new Error("No stack was named; for example: npm run rollback -- prod");
  const release = releaseIn(await exportedState(stack));
  const image = rollbackTarget(release, stack);
  console.log(`The stack ${stack} goes back${release.wanted ? ` from ${release.wanted}` : ""} to ${image}`);
  return updateTo(image, stack, flags, local);
}

const BY_DIGEST = /^[^\s@]+@sha256:[0-9a-f]{64}$/;

/** `npm run promote -- <stack> <image by digest> [flags of pulumi up]` */
export async function promoteTo([stack, image = "", ...flags]: string[], local: Local): Promise<number> {
  if (!stack || !BY_DIGEST.test(image))
    throw new Error(
      `Given: ${[stack, image].filter(Boolean).join(" ") || "nothing"}; a stack and an image by digest are needed. ` +
        "What serves in dev: npm run ci -- image dev. For example: npm run promote -- prod docker.io/acme/hobnob-backend@sha256:<64 hexadecimal digits>",
    );
  return updateTo(image, stack, flags, local);
}

/** It stands in the stack's settings from then on: else the next update would build another. */
async function updateTo(image: string, stack: string, flags: string[], local: Local): Promise<number> {
  const { configure, up } = await operatorOf(stack, flags, local);
  await configure("hobnob:api.image", image);
  const code = await up();
  console.log(
    `Pulumi.${stack}.yaml now names this image; to build it again: ${stack === "local" ? "npm run local --" : "pulumi"} config rm --path hobnob:api.image${stack === "local" ? "" : ` --stack ${stack}`}`,
  );
  return code;
}

async function exportedState(stack: string): Promise<string> {
  const run = stack === "local" ? await localPulumi() : pulumiIn(cloneDirectory);
  const { exitCode, stdout, stderr } = await run(["stack", "export", "--stack", stack]);
  if (exitCode !== 0) throw new Error(`The state of the stack ${stack} cannot be read: ${String(stderr).trim()}`);
  return String(stdout);
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
  const runner = await runningEngine();
  return (args) => pulumi(runner, args, { reject: false, stdin: "ignore" });
}

/** Of the embedded platform. @throws where it does not run */
export async function runningEngine(): Promise<Engine> {
  const account = runningDaemon("account");
  if (!account || !isRunning() || !existsSync(projectDirectory()))
    throw new Error("The stack local does not run; start it: npm start -- --real");
  const runner = engine(await obtainTools(["pulumi", "pulumi-language-nodejs"]), account.port);
  // The kubeconfig's command asks the simulated account for a token.
  Object.assign(process.env, runner.environment);
  return runner;
}
