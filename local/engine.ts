import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa, type Options } from "execa";
import { parse, stringify } from "yaml";
import { releaseDeadLock } from "../operations/lock";
import { engineSettings, type Runner, recover } from "../operations/recovery";
import { bundlePlugins, bundlesDirectory } from "./bundles";
import { cloneDirectory, stateDirectory } from "./paths";
import { policyPackStarter, withPolicyPacks } from "./policyPacks";
import type { Tool } from "./tools";

/** The providers of the program; each is the official plugin where one is installed, else the simulation in local/providers. */
const providers = ["kubernetes", "digitalocean", "docker", "random", "tls"] as const;
type Provider = (typeof providers)[number];

export interface Engine {
  /** Environment for every command of the engine, and for whatever must reach the simulated account. */
  environment: NodeJS.ProcessEnv;
  /** Which plugin each provider is served by. */
  sources: Record<Provider, "official" | "simulated">;
  /** The Node language host. */
  languageHost: Tool;
  /** Whether the language host starts policy packs. */
  startsPolicyPacks: boolean;
}

/** A Pulumi project of the clone: the platform, or one that stands on it. */
export interface Project {
  /** As its Pulumi.yaml has it. */
  name: string;
  /** Where its files are, which no run writes into. */
  source: string;
  /** The copy of its settings, in which the engine runs. */
  directory: string;
}

export const projectDirectory = () => join(stateDirectory(), "project");

const platformProject = (): Project => ({ name: "hobnob", source: cloneDirectory, directory: projectDirectory() });

interface StackConfig {
  config?: Record<string, unknown>;
  encryptionsalt?: string;
}

const read = (file: string): StackConfig => (existsSync(file) ? (parse(readFileSync(file, "utf8")) ?? {}) : {});

export const isEncrypted = (value: unknown): boolean =>
  typeof value === "object" && value !== null && "secure" in value;

/** The engine with its own home, state backend and passphrase, all under the platform's state directory. */
export function engine(tools: Record<"pulumi" | "pulumi-language-nodejs", Tool>, accountPort: number): Engine {
  const sources = Object.fromEntries(providers.map((name) => [name, official(name) ? "official" : "simulated"]));
  const home = join(stateDirectory(), "pulumi");
  mkdirSync(home, { recursive: true });
  shareInstalledPlugins(home);
  return {
    sources: sources as Engine["sources"],
    languageHost: tools["pulumi-language-nodejs"],
    startsPolicyPacks: !isFromModule(tools["pulumi-language-nodejs"]),
    environment: {
      ...process.env,
      PATH: [dirname(tools.pulumi.path), process.env.PATH].join(delimiter),
      PULUMI_HOME: home,
      // Without a file of attributes beside each file, which nothing reads: one write fewer a step.
      PULUMI_BACKEND_URL: `file://${home}?metadata=skip`,
      PULUMI_CONFIG_PASSPHRASE: passphrase(),
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
      ...engineSettings(process.env),
      DIGITALOCEAN_TOKEN: "local-simulated-account",
      DIGITALOCEAN_API_URL: `http://127.0.0.1:${accountPort}`,
    },
  };
}

/** Runs the engine on a project; resolves with what it printed where stdout is a pipe. */
export async function pulumi(
  engine: Engine,
  args: string[],
  { env, ...options }: Options = {},
  project = platformProject(),
) {
  return execa("pulumi", withPolicyPacks(args, engine.startsPolicyPacks), {
    cwd: project.directory,
    // The program's own: from the copy no loader would find it.
    env: { ...engine.environment, TSX_TSCONFIG_PATH: join(project.source, "tsconfig.json"), ...env },
    ...options,
  });
}

/**
 * The stack's settings live in a copy of the project, so that a run never writes into the clone: Pulumi.yaml and
 * Pulumi.<stack>.yaml are copied, the program is the clone's own, reached through a link.
 */
export async function prepareProject(
  engine: Engine,
  stack: string,
  overrides: Record<string, unknown>,
  secrets: Record<string, string>,
  project = platformProject(),
): Promise<void> {
  const { directory, source } = project;
  mkdirSync(directory, { recursive: true });
  const program = join(directory, "program");
  if (!existsSync(program)) symlinkSync(source, program);
  const settings = parse(readFileSync(join(source, "Pulumi.yaml"), "utf8"));
  const plugins = pluginFolders(engine, languageHostDirectory(engine.languageHost, project, settings.runtime.options));
  writeFileSync(join(directory, "Pulumi.yaml"), stringify({ ...settings, main: "program/index.ts", plugins }));

  const file = join(directory, `Pulumi.${stack}.yaml`);
  const kept = read(file);
  const given = read(join(source, `Pulumi.${stack}.yaml`));
  const keptSecrets = Object.entries(kept.config ?? {}).filter(([key]) => key in secrets);
  const others = Object.entries(given.config ?? {}).filter(([key]) => !(key in secrets));
  const config = { ...Object.fromEntries(others), ...overrides, ...Object.fromEntries(keptSecrets) };
  // That of its owner's passphrase: nobody else has it, and it is in the way where nothing is left that it encrypts.
  const givenSalt = others.some(([, value]) => isEncrypted(value)) ? given.encryptionsalt : undefined;
  const salt = kept.encryptionsalt ?? givenSalt;
  writeFileSync(file, stringify({ ...(salt && { encryptionsalt: salt }), config }));

  if (!existsSync(checkpointFile(stack, project))) {
    await pulumi(engine, ["stack", "select", "--create", stack], {}, project);
  }
  for (const [key, value] of Object.entries(secrets)) {
    if (kept.config?.[key] === undefined) {
      await pulumi(engine, ["config", "set", "--stack", stack, "--secret", key], { input: value }, project);
    }
  }
}

/**
 * Goes on from a run that was cut off or that failed, as for any stack.
 * @returns the flags that `command` needs besides its own
 */
export async function recoverRun(
  engine: Engine,
  stack: string,
  command: string,
  say: (line: string) => void,
  project = platformProject(),
): Promise<string[]> {
  await orphansAreGone();
  const runner: Runner = {
    stack,
    environment: engine.environment,
    say,
    async pulumi(args, input) {
      const options = input === undefined ? {} : { input };
      const { stdout } = await pulumi(engine, [...args, "--stack", stack], options, project);
      return String(stdout);
    },
  };
  const wasKilled = await releaseDeadLock(runner, String(engine.environment.PULUMI_BACKEND_URL), project.name);
  await followMovedCluster(engine, stack, project);
  return recover(runner, command, wasKilled);
}

/** A plugin outlives a killed engine by an instant, in which it may still make something. */
async function orphansAreGone(): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const { stdout } = await execa("ps", ["-ww", "-eo", "ppid=,pid=,args="]);
    const processes = stdout.split("\n").map((line) => /^\s*(\d+)\s+(\d+) (.*)$/.exec(line) ?? []);
    const engines = new Set(processes.filter(([, , , args = ""]) => /pulumi/.test(args)).map(([, , pid]) => pid));
    const orphans = processes.filter(
      ([, ppid, , args = ""]) => args.includes(bundlesDirectory()) && !engines.has(ppid),
    );
    if (orphans.length === 0) return;
    await sleep(100);
  }
}

/**
 * A cluster whose port was taken while it was stopped has moved. The engine reads a resource again only in a refresh, and
 * a refresh of all would ask the old address: the cluster alone is read again.
 */
async function followMovedCluster(engine: Engine, stack: string, project: Project): Promise<void> {
  const [now] = (await account<{ kubernetes_clusters: { endpoint: string }[] }>(engine, "/v2/kubernetes/clusters"))
    .kubernetes_clusters;
  const known = stackResources(stack, project).find(({ type }) => type.endsWith(":KubernetesCluster"));
  if (!now || !known || known.outputs?.endpoint === now.endpoint) return;
  await pulumi(engine, ["refresh", "--stack", stack, "--yes", "--skip-preview", "--target", known.urn]);
}

/**
 * What the simulated account answers to a GET of the path, or to a POST of the body.
 * @throws where it refuses
 */
// biome-ignore lint/suspicious/noExplicitAny: its answers have as many shapes as paths
export async function account<Answer = any>({ environment }: Engine, path: string, body?: object): Promise<Answer> {
  const { DIGITALOCEAN_API_URL: url, DIGITALOCEAN_TOKEN: token } = environment;
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const response = await fetch(`${url}${path}`, {
    headers,
    ...(body && { method: "POST", body: JSON.stringify(body) }),
  });
  if (!response.ok)
    throw new Error(`The simulated account answered ${response.status} to ${path}: ${await response.text()}`);
  return (await response.json()) as Answer;
}

/** A resource as the state keeps it. */
export interface StateResource {
  urn: string;
  type: string;
  id?: string;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
}

const checkpointFile = (stack: string, { name }: Project) =>
  join(stateDirectory(), "pulumi", ".pulumi", "stacks", name, `${stack}.json`);

/** The stack's state as the engine last wrote it; nothing where there is no such stack. */
export function stackResources(stack: string, project = platformProject()): StateResource[] {
  const file = checkpointFile(stack, project);
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")).checkpoint?.latest?.resources ?? []) : [];
}

/** Named in the project's file, so that neither the PATH nor a download decides which plugin is run. */
function pluginFolders({ sources }: Engine, languageHost: string) {
  const folders = bundlePlugins(providers.filter((name) => sources[name] === "simulated"));
  return {
    languages: [{ name: "nodejs", path: languageHost }],
    analyzers: [policyPackStarter],
    providers: Object.entries(folders).map(([name, path]) => ({ name, path })),
  };
}

/** Of a Pulumi.yaml. */
interface RuntimeOptions {
  typescript: boolean;
  nodeargs: string;
}

/**
 * The language host that can be built from a Go module takes the project's runtime options as flags, which no engine of
 * today passes (pulumi sdk/v3.60.0, nodejs/cmd/pulumi-language-nodejs/main.go): a launcher passes them.
 */
export function languageHostDirectory(tool: Tool, project: Project, { typescript, nodeargs }: RuntimeOptions): string {
  const { path } = tool;
  if (!isFromModule(tool)) return dirname(path);
  const directory = join(project.directory, "language-host");
  mkdirSync(directory, { recursive: true });
  // `-root` does nothing there, but tells whose process this is.
  const options = `-root='${project.directory}' -typescript=${typescript} -nodeargs='${nodeargs}'`;
  const launcher = `#!/bin/sh\nexec '${path}' ${options} "$@"\n`;
  writeFileSync(join(directory, "pulumi-language-nodejs"), launcher, { mode: 0o755 });
  return directory;
}

const isFromModule = ({ version }: Tool): boolean => version.startsWith("3.60.");

/** Whether the provider's own plugin is at hand: on PATH or among the user's installed plugins, in the SDK's version. */
function official(name: Provider): boolean {
  const executable = `pulumi-resource-${name}`;
  const onPath = (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, executable)));
  const { version } = require(`@pulumi/${name}/package.json`) as { version: string };
  return onPath || existsSync(join(installedPlugins(), `resource-${name}-v${version}`, executable));
}

const installedPlugins = () => join(process.env.PULUMI_HOME ?? join(homedir(), ".pulumi"), "plugins");

function shareInstalledPlugins(home: string) {
  const own = join(home, "plugins");
  if (existsSync(installedPlugins()) && readdirSync(installedPlugins()).length > 0 && !existsSync(own)) {
    rmSync(own, { force: true });
    symlinkSync(installedPlugins(), own);
  }
}

/** Encrypts the local stack's secrets: made once, kept beside the state that it protects. */
function passphrase(): string {
  const file = join(stateDirectory(), "pulumi", "passphrase");
  if (!existsSync(file)) {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, randomBytes(24).toString("base64url"), { mode: 0o600 });
  }
  return readFileSync(file, "utf8");
}
