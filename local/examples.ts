import { createWriteStream, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { AppsV1Api, KubeConfig } from "@kubernetes/client-node";
import Table from "cli-table3";
import { Listr } from "listr2";
import { parse } from "yaml";
import { adminKubeconfig } from "./cluster";
import { registryPassword, registryUser } from "./daemons";
import {
  type Engine,
  type Project,
  prepareProject,
  pulumi,
  recoverRun,
  type StateResource,
  stackResources,
} from "./engine";
import { isReal } from "./kubelet/images";
import { runsRealPods } from "./kubelet/kwok";
import { endpoints, type Live, type LiveCheck, podsOf } from "./live";
import { cloneDirectory, stateDirectory } from "./paths";
import { chooseRealPods, progress, run, startPlatform } from "./start";

const STACK = "local";
const PLATFORM = "organization/hobnob/local";
const examplesDirectory = join(cloneDirectory, "examples");

/** What all examples at once ask of the platform besides Pulumi.local.yaml. */
function platformSettings(): Record<string, unknown> {
  const { config } = parse(readFileSync(join(cloneDirectory, `Pulumi.${STACK}.yaml`), "utf8"));
  const { systemPool, ...cluster } = config["hobnob:cluster"];
  return {
    "hobnob:cluster": { ...cluster, systemPool: { ...systemPool, count: 2 * systemPool.count } },
    // For the crawler's Ingress without a host.
    "hobnob:ingress": { ...config["hobnob:ingress"], allowEmptyHost: true },
  };
}

/** A stack under examples/, and how its run went. */
interface Example {
  project: Project;
  log: string;
  seconds: number;
  /** What its `test/live.ts` saw. */
  seen: string;
  failure?: string;
}

const ASKS_LITTLE =
  "Pods run nothing on this platform, so only what the API server knows is checked.\n" +
  "With real processes: npm start -- --real, or npm run reset and then this command";

/** What the command line alone knows. */
interface Command {
  isInterrupted(): boolean;
  /** Removes the embedded platform. */
  reset(): Promise<unknown>;
}

/**
 * `npm run examples [-- <name> … [--keep]]`: the platform up, each example up on it and checked, a table of what is there,
 * then all down again, also after a failure. A platform that was there before stays.
 */
export async function runExamples(args: string[], command: Command): Promise<number> {
  const { names, keep } = chosen(args);
  const wasThere = stackResources(STACK).length > 0;
  if (!wasThere) await realPodsWherePossible();
  else if (!runsRealPods()) console.error(ASKS_LITTLE);
  const { platform, flags } = await startPlatform("up", platformSettings());
  let code = await run(platform, ["up", "--yes", "--skip-preview", "--suppress-outputs", ...flags]);
  const examples = names.map(exampleOf);
  try {
    if (code === 0) {
      await bringUp(platform, examples);
      console.log(await summary(platform, examples));
      code = examples.every(({ failure }) => failure === undefined) ? 0 : 1;
    }
  } finally {
    if (keep && !command.isInterrupted()) {
      console.log(`\nKept. Down again: npm run examples -- ${names.join(" ")}; and the platform: npm run reset`);
    } else {
      if (!(await takeDown(platform, examples))) code = 1;
      if (wasThere)
        console.log("\nThe platform keeps the machines that the examples asked for until the next: npm start");
      else await command.reset();
    }
  }
  return command.isInterrupted() ? 130 : code;
}

function chosen(args: string[]): { names: string[]; keep: boolean } {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { keep: { type: "boolean" } } });
  const all = existsSync(examplesDirectory)
    ? readdirSync(examplesDirectory).filter((name) => existsSync(join(examplesDirectory, name, "Pulumi.yaml")))
    : [];
  const unknown = positionals.filter((name) => !all.includes(name));
  if (unknown.length > 0)
    throw new Error(
      `Given: ${unknown.join(", ")}; allowed: ${all.join(", ")}. For example: npm run examples -- ${all[0]}`,
    );
  return { names: positionals.length > 0 ? positionals : all, keep: values.keep ?? false };
}

async function realPodsWherePossible(): Promise<void> {
  try {
    await chooseRealPods(true);
  } catch (error) {
    console.error(
      `Pods run nothing in this run, so only what the API server knows is checked.\n${(error as Error).message}`,
    );
    await chooseRealPods(false);
  }
}

function exampleOf(name: string): Example {
  const source = join(examplesDirectory, name);
  const { name: projectName } = parse(readFileSync(join(source, "Pulumi.yaml"), "utf8"));
  const directory = join(stateDirectory(), "projects", name);
  mkdirSync(directory, { recursive: true });
  return {
    project: { name: projectName, source, directory },
    log: join(directory, "pulumi.log"),
    seconds: 0,
    seen: "",
  };
}

/** Two at a time: each is an engine with its plugins. */
const AT_ONCE = 2;

async function bringUp(platform: Engine, examples: Example[]): Promise<void> {
  const outputs = await outputsOf(platform);
  await new Listr(
    examples.map((example) => ({
      title: example.project.name,
      task: async (_: unknown, task: { title: string; output: string }) => {
        const started = Date.now();
        try {
          await up(platform, example, (line) => {
            task.output = line;
          });
          example.seen = await check(platform, example, outputs);
        } catch (error) {
          example.failure = (error as Error).message;
          throw error;
        } finally {
          example.seconds = Math.round((Date.now() - started) / 1000);
          task.title = `${example.project.name}: ${example.failure ? "failed" : example.seen} (${example.seconds} s)`;
        }
      },
    })),
    { ...progress, concurrent: AT_ONCE, exitOnError: false },
  ).run();
}

async function up(platform: Engine, example: Example, say: (line: string) => void): Promise<void> {
  const { project } = example;
  await prepareProject(platform, STACK, ...settingsOf(project), project);
  const flags = await recoverRun(platform, STACK, "up", say, project);
  await logged(platform, example, ["up", "--yes", "--skip-preview", "--suppress-outputs", ...flags]);
}

/** What only this machine knows: the platform's name here, and the local registry's user and password for who pushes images. */
function settingsOf({ name, source }: Project): [overrides: Record<string, unknown>, secrets: Record<string, string>] {
  const { config } = parse(readFileSync(join(source, `Pulumi.${STACK}.yaml`), "utf8"));
  const pushes = `${name}:registryUsername` in config;
  return [
    { [`${name}:platform`]: PLATFORM, ...(pushes && { [`${name}:registryUsername`]: registryUser }) },
    pushes ? { [`${name}:registryPassword`]: registryPassword() } : {},
  ];
}

/** An engine command whose output goes to the example's log. @throws with the log's end where it fails */
async function logged(platform: Engine, { project, log }: Example, args: string[]): Promise<void> {
  const options = { all: true, reject: false, stdin: "ignore" } as const;
  const all = [...args, "--stack", STACK, "--non-interactive", "--color", "never"];
  const { exitCode, all: said } = await pulumi(platform, all, options, project);
  createWriteStream(log, { flags: "a" }).end(`$ pulumi ${all.join(" ")}\n${said}\n`);
  if (exitCode === 0) return;
  const lines = String(said).trimEnd().split("\n").slice(-25);
  throw new Error(`pulumi ${args[0]} failed (${log}):\n${lines.join("\n")}`);
}

async function check(platform: Engine, { project }: Example, outputs: Live["platform"]): Promise<string> {
  const file = join(project.source, "test", "live.ts");
  if (!existsSync(file)) return "up";
  const { default: live } = require(file) as { default: LiveCheck };
  const kubeconfig = cluster();
  return live({
    outputs: await outputsOf(platform, project),
    platform: outputs,
    kubeconfig,
    real: runsRealPods(),
    isReal: async (namespace, service) =>
      runsRealPods() && (await podsOf(kubeconfig, namespace, service)).every(isReal),
    endpoints: (namespace, service, portName) => endpoints(kubeconfig, { namespace, service, portName }),
  });
}

function cluster(): KubeConfig {
  const kubeconfig = new KubeConfig();
  kubeconfig.loadFromFile(adminKubeconfig());
  return kubeconfig;
}

// biome-ignore lint/suspicious/noExplicitAny: each stack has its own outputs
async function outputsOf(platform: Engine, project?: Project, ...flags: string[]): Promise<any> {
  const secrets = flags.length > 0 ? flags : ["--show-secrets"];
  const { stdout } = await pulumi(platform, ["stack", "output", "--json", "--stack", STACK, ...secrets], {}, project);
  return JSON.parse(String(stdout));
}

/** Every workload with its pods, every host, every output, and what was checked. */
async function summary(platform: Engine, examples: Example[]): Promise<string> {
  const workloads = new Table({ head: ["stack", "workload", "available / desired"], style: plain });
  const head = ["stack", "seconds", "hosts", "outputs", "checked"];
  const stacks = new Table({ head, style: plain, wordWrap: true, colWidths: [null, null, null, null, 60] });
  const apps = cluster().makeApiClient(AppsV1Api);
  const all: [string, Example | undefined][] = [
    ["hobnob", undefined],
    ...examples.map((example): [string, Example] => [example.project.name, example]),
  ];
  for (const [name, example] of all) {
    const resources = stackResources(STACK, example?.project);
    for (const { id = "", type } of resources.filter(({ type }) => type in kinds)) {
      const [namespace = "", workload = ""] = id.split("/");
      const amounts = await kinds[type]?.(apps, { namespace, name: workload }).catch(() => "0 / ?");
      workloads.push([name, `${type.split(":").at(-1)} ${id}`, amounts ?? ""]);
      if (example && amounts && new Set(amounts.split(" / ")).size > 1) example.failure ??= `${id}: ${amounts} pods`;
    }
    const outputs = example?.failure
      ? []
      : Object.entries(await outputsOf(platform, example?.project, "--non-interactive"));
    const shown = outputs.map(([key, value]) =>
      short(`${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`),
    );
    stacks.push([
      name,
      example?.seconds ?? "",
      hosts(resources).join("\n"),
      (example ? shown : shown.filter((line) => /^(apiUrl|docsUrl|ingressAddress|contractVersion):/.test(line))).join(
        "\n",
      ),
      example?.failure ?? example?.seen ?? "",
    ]);
  }
  return `${workloads}\n${stacks}`;
}

const short = (text: string) => (text.length > 90 ? `${text.slice(0, 90)}…` : text);

/** No colour: the table is for logs too. */
const plain = { head: [], border: [] };

type Read = (apps: AppsV1Api, object: { namespace: string; name: string }) => Promise<string>;

const kinds: Record<string, Read> = {
  "kubernetes:apps/v1:Deployment": async (apps, object) => {
    const { spec, status } = await apps.readNamespacedDeployment(object);
    return `${status?.availableReplicas ?? 0} / ${spec?.replicas}`;
  },
  "kubernetes:apps/v1:StatefulSet": async (apps, object) => {
    const { spec, status } = await apps.readNamespacedStatefulSet(object);
    return `${status?.availableReplicas ?? 0} / ${spec?.replicas}`;
  },
  "kubernetes:apps/v1:DaemonSet": async (apps, object) => {
    const { status } = await apps.readNamespacedDaemonSet(object);
    return `${status?.numberAvailable ?? 0} / ${status?.desiredNumberScheduled}`;
  },
};

interface Routing {
  spec?: { host?: string; rules?: { host?: string }[] };
}

/** Of every Ingress and VirtualServer. */
function hosts(resources: StateResource[]): string[] {
  const found = resources
    .filter(({ type, urn }) => type.endsWith(":Ingress") || urn.includes(":VirtualServer"))
    .flatMap(({ inputs }) => {
      const { host, rules = [] } = (inputs as Routing).spec ?? {};
      return host === undefined ? rules.map((rule) => rule.host ?? "any host") : [host];
    });
  return [...new Set(found)].sort();
}

/** @returns whether nothing is left of them */
async function takeDown(platform: Engine, examples: Example[]): Promise<boolean> {
  const there = examples.filter(({ project }) => stackResources(STACK, project).length > 0).reverse();
  const steps = new Listr(
    there.map((example) => ({
      title: `${example.project.name} down`,
      task: async () => {
        const flags = await recoverRun(platform, STACK, "destroy", () => {}, example.project);
        await logged(platform, example, ["destroy", "--yes", "--skip-preview", ...flags]);
      },
    })),
    { ...progress, concurrent: AT_ONCE, exitOnError: false },
  );
  await steps.run();
  for (const { message } of steps.errors) console.error(message);
  return steps.errors.length === 0;
}
