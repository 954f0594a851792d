import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runInNewContext } from "node:vm";
import { execa } from "execa";
import { parse } from "yaml";

/** What GitHub is to a workflow, as far as those of this repository ask. */
export interface Host {
  /** The folder that each job gets anew, with the repository in it. */
  workspace: string;
  checkout(): Promise<void>;
  /** The context `github`, with what has happened. */
  github: object;
  /** Of the environment with that name; a job without one has none. */
  secrets(environment?: string): Record<string, string>;
  /** What the runner has by itself. */
  variables(environment?: string): NodeJS.ProcessEnv;
  /** Whether the job is run. @default each one */
  runs?(job: string): boolean;
  /** Whether a command that failed has all the same done what can be asked of it there. @default never */
  excuses?(command: string, output: string): boolean;
}

/** A command of a workflow's, as it was run. */
interface Command {
  job: string;
  environment?: string;
  run: string;
  code: number;
  output: string;
}

interface Step {
  id?: string;
  if?: string;
  run?: string;
  uses?: string;
  env?: Record<string, string>;
}
interface Job {
  if?: string;
  needs?: string | string[];
  uses?: string;
  with?: Record<string, string>;
  strategy?: { matrix: Record<string, unknown> };
  environment?: string;
  env?: Record<string, string>;
  outputs?: Record<string, string>;
  steps?: Step[];
}
interface Workflow {
  on: {
    workflow_call?: { inputs?: Record<string, { default?: unknown }>; outputs?: Record<string, { value: string }> };
  };
  jobs: Record<string, Job>;
}
interface Done {
  result: "success" | "failure" | "skipped";
  outputs: Record<string, unknown>;
}

/** Of expressions that workflows here use, all mean in JavaScript what they mean at GitHub; actionlint knows the others. */
export const evaluate = (expression: string, contexts: object): unknown =>
  runInNewContext(expression, { fromJSON: JSON.parse, always: () => true, cancelled: () => false, ...contexts });

function filled(text: unknown, contexts: object): unknown {
  if (typeof text !== "string") return text;
  const whole = /^\$\{\{((?!\}\}).)*\}\}$/s.test(text);
  if (whole) return evaluate(text.slice(3, -2), contexts) ?? "";
  return text.replaceAll(/\$\{\{(.*?)\}\}/g, (_, expression: string) => String(evaluate(expression, contexts) ?? ""));
}

const allFilled = <T>(values: Record<string, unknown> = {}, contexts: object) =>
  Object.fromEntries(Object.entries(values).map(([key, value]) => [key, filled(value, contexts)])) as Record<string, T>;

/** Runs a file of .github/workflows, its commands as they stand there, one job after the other. */
export async function runWorkflow(file: string, host: Host, given: Record<string, unknown> = {}) {
  const path = join(host.workspace, ".github", "workflows", file);
  const { on, jobs } = parse(readFileSync(path, "utf8")) as Workflow;
  const defaults = Object.entries(on.workflow_call?.inputs ?? {}).map(([key, input]) => [key, input.default]);
  const inputs = { ...Object.fromEntries(defaults), ...given };
  const commands: Command[] = [];
  const done: Record<string, Done> = {};
  for (const [name, job] of Object.entries(jobs)) {
    const needs = Object.fromEntries([job.needs ?? []].flat().map((each) => [each, done[each]]));
    const success = Object.values(needs).every((each) => each?.result === "success");
    const contexts = { github: host.github, inputs, needs, success: () => success };
    const wanted = success && (job.if === undefined || evaluate(job.if, contexts)) && (host.runs?.(name) ?? true);
    const left = host.runs?.(name) === false;
    done[name] = { result: left ? "success" : "skipped", outputs: {} };
    if (!wanted) continue;
    const matrix = allFilled<string[]>(job.strategy?.matrix, contexts);
    const [[key, values] = ["", [""]]] = Object.entries(matrix);
    for (const value of values) {
      const all = { ...contexts, matrix: { [key]: value } };
      const one = job.uses
        ? await runWorkflow(job.uses.split("/").at(-1) ?? "", host, allFilled(job.with, all))
        : await runJob(name, job, host, all);
      commands.push(...one.commands);
      if (done[name]?.result !== "failure") done[name] = { result: one.result, outputs: one.outputs };
    }
  }
  const result = Object.values(done).some((each) => each.result === "failure") ? "failure" : "success";
  const values = Object.entries(on.workflow_call?.outputs ?? {}).map(([key, { value }]) => [key, value]);
  return { result, outputs: allFilled(Object.fromEntries(values), { jobs: done }), commands } as const;
}

async function runJob(name: string, job: Job, host: Host, outer: object) {
  const environment = job.environment && String(filled(job.environment, outer));
  const contexts = { ...outer, secrets: host.secrets(environment) };
  const scratch = mkdtempSync(join(tmpdir(), "hobnob-job-"));
  const outputsFile = join(scratch, "outputs");
  const steps: Record<string, { outputs: Record<string, string> }> = {};
  const commands: Command[] = [];
  let failed = false;
  try {
    for (const step of (job.steps ?? []).flatMap((one) => flat(one, host.workspace))) {
      const now = {
        ...contexts,
        steps,
        success: () => !failed,
        failure: () => failed,
        hashFiles: (each: string) => (existsSync(join(host.workspace, each)) ? "some" : ""),
      };
      const condition = step.if?.replace(/^\$\{\{(.*)\}\}$/s, "$1") ?? "true";
      const asksItself = /\b(success|failure|always|cancelled)\(\)/.test(condition);
      if (!((asksItself || !failed) && evaluate(condition, now))) continue;
      if (step.uses?.startsWith("actions/checkout@")) await host.checkout();
      if (step.run === undefined) continue;
      writeFileSync(outputsFile, "");
      const env = {
        ...host.variables(environment),
        GITHUB_OUTPUT: outputsFile,
        GITHUB_STEP_SUMMARY: join(scratch, "summary"),
        ...allFilled<string>(job.env, now),
        ...allFilled<string>(step.env, now),
      };
      const shell = ["--noprofile", "--norc", "-eo", "pipefail", "-c", step.run];
      const options = {
        cwd: host.workspace,
        env,
        extendEnv: false,
        all: true,
        reject: false,
        stdin: "ignore",
      } as const;
      const { exitCode = 1, all } = await execa("bash", shell, options);
      const summary = existsSync(join(scratch, "summary")) ? readFileSync(join(scratch, "summary"), "utf8") : "";
      const output = `${all}${summary}`;
      commands.push({ job: name, environment, run: step.run, code: exitCode, output });
      if (exitCode !== 0 && !host.excuses?.(step.run, output)) failed = true;
      const said = readFileSync(outputsFile, "utf8").trim().split("\n").filter(Boolean);
      if (step.id)
        steps[step.id] = { outputs: Object.fromEntries(said.map((line) => line.split(/=(.*)/s).slice(0, 2))) };
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const outputs = failed ? {} : allFilled(job.outputs, { ...contexts, steps });
  return { result: failed ? "failure" : "success", outputs, commands } as const;
}

/** A composite action's steps in the place of its call. */
function flat(step: Step, workspace: string): Step[] {
  if (!step.uses?.startsWith("./")) return [step];
  const action = parse(readFileSync(join(workspace, step.uses, "action.yml"), "utf8")) as { runs: { steps: Step[] } };
  // Others' actions set up what the test's own PATH has.
  return action.runs.steps.filter(({ run }) => run !== undefined);
}
