import { execFile, execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { delimiter, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import getPort, { portNumbers } from "get-port";
import { parse, parseAllDocuments, stringify } from "yaml";
import { configureKwok, delayDiskPods, runsRealPods } from "./kubelet/kwok";
import { stateDirectory } from "./paths";
import { obtainTools, type Tool } from "./tools";

/*
 * One embedded cluster a clone: a real control plane and kwok's simulated nodes. kwokctl makes the certificates and the
 * components' arguments and starts them. What it does not do is done here: it trusts a process id in a file, even one
 * that another program has been given since; its ports are fixed for good; and it kills etcd in mid-write.
 */

export interface ClusterOptions {
  /** Port of the simulated account, which the API server asks whether a bearer token is good. */
  accountPort: number;
  /** Takes a line a second while tools are downloaded or built. */
  report?: (line: string) => void;
  /**
   * Seconds from a simulated pod's being given a node to its being ready, where it claims a disk; a new cluster keeps them.
   * @default 0
   */
  diskPodSeconds?: number;
}

/** A pod with this annotation, on itself or its template, stays Pending: a test then sets its status as a kubelet would. */
export const holdAnnotation = "kwok.x-k8s.io/hold";

const toolNames = ["kwokctl", "kwok", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] as const;
/** All that kwokctl does with kubectl is to ask whether the API server answers, which is waited for here: none is built for it. */
const kubectlForKwokctl = join(__dirname, "kwokctl");
/** In the order in which they stop. */
const components = ["kwok-controller", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"];
/** The API server, once etcd is dead, never ends by itself. */
const stopSeconds = 5;
const readySeconds = 120;

/** Creates the cluster and starts it; one that is there is started. What an interrupted creation left is made anew. */
export async function createCluster(options: ClusterOptions): Promise<void> {
  if (clusterExists()) return startCluster(options);
  await deleteCluster();
  mkdirSync(kwokDirectory(), { recursive: true });
  writeTokenWebhook(options.accountPort);
  const tools = await obtain(options);
  const configFile = join(kwokDirectory(), "kwokctl.yaml");
  writeFileSync(configFile, stringify(await configuration(tools)));
  await kwokctl(tools, "create", "cluster", "--config", configFile, "--kubeconfig", "", "--wait", `${readySeconds}s`);
  writeKwokConfiguration(options.diskPodSeconds);
  await waitUntilReady();
  await restartKwok(tools);
  writeFileSync(createdFile(), `${new Date().toISOString()}\n`);
}

/** Starts the cluster with all that was in it. A port that another program has taken since is replaced. */
export async function startCluster(options: ClusterOptions): Promise<void> {
  if (!clusterExists()) throw new Error("There is no embedded cluster in this clone: npm start creates it.");
  writeTokenWebhook(options.accountPort);
  if (!isRunning()) {
    await stopCluster();
    await replaceTakenPorts();
    const tools = await obtain(options);
    linkTools(tools);
    writeKwokConfiguration();
    for (const log of readdirSync(join(workDirectory(), "logs"))) rmSync(join(workDirectory(), "logs", log));
    await kwokctl(tools, "start", "cluster", "--wait", `${readySeconds}s`);
  }
  await waitUntilReady();
}

/** Ends the cluster's processes and returns when none is left; what is in the cluster stays. */
export async function stopCluster(): Promise<void> {
  for (const component of components) await end(component);
}

/** Ends the cluster and removes all that was in it. */
export async function deleteCluster(): Promise<void> {
  await stopCluster();
  rmSync(kwokDirectory(), { recursive: true, force: true });
}

/** Whether each of the cluster's processes runs. */
export const isRunning = (): boolean => running().size === components.length;

/** Process ids of those of the cluster's components that run. */
export const clusterPids = (): number[] => [...running().values()];

/** A kubeconfig with all rights, for what runs beside the cluster; users get theirs from the account. */
export const adminKubeconfig = (): string => join(workDirectory(), "kubeconfig.yaml");

/** Where the API server answers, and the certificate authority (base64) that proves it. */
export function clusterEndpoint(): { server: string; caData: string } {
  const { clusters } = parse(readFileSync(adminKubeconfig(), "utf8"));
  const caData = readFileSync(join(workDirectory(), "pki", "ca.crt")).toString("base64");
  return { server: clusters[0].cluster.server, caData };
}

/** The Kubernetes version that the embedded binaries are, such as `1.36.3`. */
export async function kubernetesVersion(): Promise<string> {
  const tools = await obtainTools(["kube-apiserver"]);
  return tools["kube-apiserver"].version.replace(/^v/, "");
}

const obtain = ({ report }: Pick<ClusterOptions, "report">): Promise<Tools> =>
  obtainTools(toolNames, ({ phase, tool, elapsedSeconds, estimatedSeconds }) =>
    report?.(`${phase} ${tool}: ${elapsedSeconds} of about ${estimatedSeconds} s`),
  );

type Tools = Record<(typeof toolNames)[number], Tool>;

const kwokDirectory = () => resolve(stateDirectory(), "cluster");
const hash = () => createHash("sha256").update(kwokDirectory()).digest();
/** The clone's own, so that contexts of two clones can be told apart. */
const clusterName = () => `hobnob-${hash().toString("hex").slice(0, 8)}`;
const workDirectory = () => join(kwokDirectory(), "clusters", clusterName());
const configurationFile = () => join(workDirectory(), "kwok.yaml");
const tokenWebhookFile = () => join(kwokDirectory(), "token-webhook.yaml");
const createdFile = () => join(kwokDirectory(), "created");
const pidFile = (component: string) => join(workDirectory(), "pids", `${component}.pid`);
/** Whether this clone has a cluster, running or not. */
export const clusterExists = (): boolean => existsSync(createdFile());

const portOptions = [
  "kubeApiserverPort",
  "etcdPort",
  "etcdPeerPort",
  "kubeControllerManagerPort",
  "kubeSchedulerPort",
  "kwokControllerPort",
] as const;

async function configuration(tools: Tools) {
  const ports: Array<[string, number]> = [];
  for (const option of portOptions) ports.push([option, await freePort(ports.map(([, port]) => port))]);
  return {
    apiVersion: "config.kwok.x-k8s.io/v1alpha1",
    kind: "KwokctlConfiguration",
    options: {
      runtime: "binary",
      bindAddress: "127.0.0.1",
      ...Object.fromEntries(ports),
      kubeVersion: `v${tools["kube-apiserver"].version.replace(/^v/, "")}`,
      etcdBinary: tools.etcd.path,
      kubeApiserverBinary: tools["kube-apiserver"].path,
      kubeControllerManagerBinary: tools["kube-controller-manager"].path,
      kubeSchedulerBinary: tools["kube-scheduler"].path,
      kubectlBinary: join(kubectlForKwokctl, "kubectl"),
      kwokControllerBinary: tools.kwok.path,
    },
    componentsPatches: [
      // After a restart kwok takes a node up again only when its own earlier lease has run out: 200 s by default.
      { name: "kwok-controller", extraArgs: [{ key: "node-lease-duration-seconds", value: "40", override: true }] },
      {
        name: "kube-apiserver",
        extraArgs: [
          { key: "authentication-token-webhook-config-file", value: tokenWebhookFile() },
          { key: "authentication-token-webhook-version", value: "v1" },
          { key: "authentication-token-webhook-cache-ttl", value: "1s" },
          // Without it the API server looks for a network interface, and a machine that is offline may have none.
          { key: "advertise-address", value: "192.0.2.1" },
        ],
      },
    ],
  };
}

/** The state directory's own twenty ports first, so that clones that start at once don't choose the same. */
function freePort(exclude: number[]): Promise<number> {
  const first = 30000 + (hash().readUInt16BE() % 500) * 20;
  return getPort({ host: "127.0.0.1", port: portNumbers(first, first + 19), exclude });
}

function writeTokenWebhook(accountPort: number): void {
  const configuration = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "account", cluster: { server: `http://127.0.0.1:${accountPort}/local/token-review` } }],
    users: [{ name: "api-server", user: {} }],
    contexts: [{ name: "account", context: { cluster: "account", user: "api-server" } }],
    "current-context": "account",
  };
  writeFileSync(tokenWebhookFile(), stringify(configuration));
}

async function kwokctl(tools: Tools, ...args: string[]): Promise<void> {
  const env = {
    ...process.env,
    KWOK_WORKDIR: kwokDirectory(),
    PATH: [kubectlForKwokctl, process.env.PATH].join(delimiter),
  };
  try {
    await promisify(execFile)(tools.kwokctl.path, ["--name", clusterName(), ...args], { env });
  } catch (error) {
    throw new Error(`The embedded cluster did not start:\n${(error as { stderr?: string }).stderr}`);
  }
}

/** Lets a cluster that runs follow a change of who runs its pods; one that doesn't follows when it starts. */
export async function followRealPods(): Promise<void> {
  if (!clusterExists() || !isRunning() || !writeKwokConfiguration()) return;
  await restartKwok(await obtain({}));
}

/** kwok reads its configuration once, when it starts. @return whether it has changed. */
function writeKwokConfiguration(diskPodSeconds = 0): boolean {
  const before = readFileSync(configurationFile(), "utf8");
  const documents = parseAllDocuments(before);
  const stage = documents.find((document) => document.getIn(["metadata", "name"]) === "pod-ready");
  const selector = { key: `.metadata.annotations["${holdAnnotation}"]`, operator: "DoesNotExist" };
  if (!before.includes(holdAnnotation)) stage?.addIn(["spec", "selector", "matchExpressions"], selector);
  if (diskPodSeconds > 0) delayDiskPods(documents, diskPodSeconds);
  configureKwok(documents, runsRealPods());
  const after = documents.map(String).join("");
  writeFileSync(configurationFile(), after);
  return after !== before;
}

async function restartKwok(tools: Tools): Promise<void> {
  await end("kwok-controller");
  await kwokctl(tools, "start", "cluster");
}

/** The tools may stand elsewhere than when the cluster was created: on PATH then, in the cache now. */
function linkTools(tools: Tools): void {
  for (const name of readdirSync(join(workDirectory(), "bin"))) {
    const link = join(workDirectory(), "bin", name);
    rmSync(link);
    symlinkSync(tools[name === "kwok-controller" ? "kwok" : (name as keyof Tools)].path, link);
  }
}

async function replaceTakenPorts(): Promise<void> {
  const [main] = parseAllDocuments(readFileSync(configurationFile(), "utf8"));
  const ports = portOptions.map((option) => Number(main?.getIn(["options", option])));
  for (const old of ports) {
    if (!(await isTaken(old))) continue;
    const port = await freePort(ports);
    ports.push(port);
    for (const file of readdirSync(workDirectory(), { withFileTypes: true })) {
      if (!file.isFile()) continue;
      const path = join(workDirectory(), file.name);
      writeFileSync(path, readFileSync(path, "utf8").replace(new RegExp(`\\b${old}\\b`, "g"), String(port)));
    }
  }
}

function isTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

/** Process ids by component, known by the path they were started with: it is this clone's alone, an id may be anyone's. */
function running(): Map<string, number> {
  const prefix = join(workDirectory(), "bin/");
  const lines = execFileSync("ps", ["-A", "-ww", "-o", "pid=,args="], { encoding: "utf8", maxBuffer: 2 ** 26 }).split(
    "\n",
  );
  return new Map(
    lines.flatMap((line): Array<[string, number]> => {
      const [, pid, command = ""] = /^\s*(\d+) (.*)$/.exec(line) ?? [];
      if (!command.startsWith(prefix)) return [];
      return [[command.slice(prefix.length).split(" ", 1)[0] ?? "", Number(pid)]];
    }),
  );
}

const runningPid = (component: string): number | undefined => running().get(component);

/** Without its file kwokctl would take a process that nobody has reaped yet for running. */
async function end(component: string): Promise<void> {
  const pid = runningPid(component);
  if (pid) signal(pid, "SIGTERM");
  const deadline = Date.now() + stopSeconds * 1000;
  while (pid && runningPid(component)) {
    if (Date.now() > deadline) signal(pid, "SIGKILL");
    if (Date.now() > deadline + 5000) throw new Error(`${component} (process ${pid}) does not end.`);
    await sleep(50);
  }
  rmSync(pidFile(component), { force: true });
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Ready as the API server says it, with its own namespaces made. */
async function waitUntilReady(): Promise<void> {
  const config = new KubeConfig();
  config.loadFromFile(adminKubeconfig());
  const core = config.makeApiClient(CoreV1Api);
  const deadline = Date.now() + readySeconds * 1000;
  for (;;) {
    try {
      await core.readNamespacedServiceAccount({ namespace: "default", name: "default" });
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(100);
    }
  }
}
