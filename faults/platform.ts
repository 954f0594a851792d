import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeConfig, type KubernetesObject, KubernetesObjectApi } from "@kubernetes/client-node";
import { parse, stringify } from "yaml";
import { cloneDirectory } from "../local/paths";
import type { FaultPoint } from "../local/providers/faultPoint";
import { kindsOf } from "../operations/objects";
import { type Deployment, isObject, type StateResource } from "../operations/state";
import { OWNER_LABEL } from "../owner";

export const victims = ["engine", "provider", "machine", "api-server", "registry", "account"] as const;
export type Program = "platform" | "account";
export type Victim = (typeof victims)[number];

interface Process {
  pid: number;
  parent: number;
  command: string;
}

export interface Run {
  code: number | null;
  output: string;
  seconds: number;
}

/** Every object with what tells it from a later one of the same name. */
export interface Inventory {
  /** `account type name` or `cluster type id`, each with its id or uid. */
  objects: Map<string, string>;
  problems: string[];
}

// biome-ignore lint/suspicious/noExplicitAny: the account's answers have as many shapes as paths
type Fields = Record<string, any>;

/** A clone with a platform of its own, driven by its commands as a user does. */
export class Platform {
  readonly directory = realpathSync(mkdtempSync(join(tmpdir(), "hobnob-faults-")));
  readonly clone = join(this.directory, "clone");
  readonly state = join(this.directory, "state");
  readonly points = join(this.directory, "points");

  /** @param program `account`: only what the platform has in the account, and no cluster behind it */
  constructor(readonly program: Program = "platform") {
    const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
      cwd: cloneDirectory,
      encoding: "utf8",
    });
    for (const file of files.trim().split("\n")) {
      if (existsSync(join(cloneDirectory, file))) cpSync(join(cloneDirectory, file), join(this.clone, file));
    }
    symlinkSync(join(cloneDirectory, "node_modules"), join(this.clone, "node_modules"));
    mkdirSync(this.points);
    if (program === "account") this.#takeAccountProgram();
  }

  #takeAccountProgram(): void {
    writeFileSync(join(this.clone, "index.ts"), 'export = require("./faults/accountProgram");\n');
    mkdirSync(join(this.state, "account"), { recursive: true });
    const latency = { cluster: 1, clusterDeletion: 0.2, node: 0.1, certificate: 0.2 };
    writeFileSync(
      join(this.state, "account", "state.json"),
      JSON.stringify({ settings: { withCluster: false, latency } }),
    );
  }

  configure(config: Record<string, unknown>): void {
    const file = join(this.clone, "Pulumi.local.yaml");
    const settings = parse(readFileSync(file, "utf8"));
    writeFileSync(file, stringify({ ...settings, config: { ...settings.config, ...config } }));
  }

  /** Changes the sample API, and with it the image. */
  editImage(text: string): void {
    writeFileSync(join(this.clone, "app", "api", "src", "fault.ts"), `export const fault = ${JSON.stringify(text)};\n`);
  }

  /** A command of the clone, left to itself. */
  async run(...args: string[]): Promise<Run> {
    return this.start(args).ended;
  }

  /** A command that the caller watches. */
  start(args: string[], environment: NodeJS.ProcessEnv = {}) {
    const started = Date.now();
    const child = spawn(process.execPath, ["--import", "tsx", join(this.clone, "local", "cli.ts"), ...args], {
      cwd: this.clone,
      env: { ...process.env, HOBNOB_REPORT: "", HOBNOB_LOCAL_STATE: this.state, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    const ended = once(child, "exit").then(([code]): Run => ({ code, output, seconds: (Date.now() - started) / 1000 }));
    return { pid: child.pid ?? 0, ended, isOver: () => child.exitCode !== null || child.signalCode !== null };
  }

  arm(point: FaultPoint): void {
    this.disarm();
    for (const name of ["passed", "reached"]) rmSync(join(this.points, name), { force: true });
    writeFileSync(join(this.points, "passed"), "");
    writeFileSync(join(this.points, "armed"), JSON.stringify(point));
  }

  disarm = () => rmSync(join(this.points, "armed"), { force: true });

  /** The request at which the armed point was reached. */
  reached(): string | undefined {
    const file = join(this.points, "reached");
    return existsSync(file) ? readFileSync(file, "utf8").trim() || undefined : undefined;
  }

  /** @param run process of the command under way @returns the processes that were killed */
  kill(victim: Victim | "run", run: number, point: string): Process[] {
    const all = processes();
    const own = descendants(all, run);
    const here = all.filter(({ command }) => command.includes(this.directory));
    const matching = (from: Process[], pattern: RegExp) => from.filter(({ command }) => pattern.test(command));
    const provider = / \/apis?\//.test(point) ? "kubernetes" : "digitalocean";
    const chosen = {
      run: () => own,
      engine: () => matching(own, /^(\S*\/)?pulumi (up|destroy) /),
      provider: () => matching(own, new RegExp(`^\\S*node .*plugins/${provider}/${provider}\\.js`)),
      machine: () => [...new Set([...own, ...here])],
      "api-server": () => matching(here, /^\S*\/bin\/kube-apiserver /),
      registry: () => matching(here, /registry serve /),
      account: () => matching(here, /local\/account\/main\.ts/),
    }[victim]();
    for (const { pid } of chosen) end(pid);
    return chosen;
  }

  /** What exists, in the account and in the cluster, against what the state knows. */
  async inventory(): Promise<Inventory> {
    const known = this.resources();
    const problems: string[] = [];
    const objects = new Map<string, string>();
    const unknown = new Set(known.filter(isObject).map((resource) => `${resource.type} ${resource.id}`));
    const see = (type: string, id: string, identity: string, isExpected = true) => {
      objects.set(`${type} ${id}`, identity);
      if (!unknown.delete(`${type} ${id}`) && isExpected) problems.push(`orphaned: ${type} ${id}`);
    };
    await this.#seeAccount(see, problems);
    await this.#seeCluster(see);
    for (const missing of unknown) problems.push(`in the state only: ${missing}`);
    const { pending_operations: pending = [] } = this.#deployment();
    if (pending.length > 0) problems.push(`${pending.length} operations are pending`);
    for (const resource of known) if (resource.delete) problems.push(`still to be deleted: ${resource.urn}`);
    return { objects, problems };
  }

  async #seeAccount(see: (type: string, id: string, identity: string) => void, problems: string[]): Promise<void> {
    const { vpcs } = await this.account("/v2/vpcs?per_page=200");
    for (const { id, name, default: own } of vpcs) if (!own) see("digitalocean:index/vpc:Vpc", id, name);
    const { kubernetes_clusters: clusters } = await this.account("/v2/kubernetes/clusters");
    for (const { id, name, node_pools: pools } of clusters) {
      see("digitalocean:index/kubernetesCluster:KubernetesCluster", id, name);
      for (const pool of pools) {
        const isBuiltIn = pool.tags.includes("terraform:default-node-pool");
        if (!isBuiltIn) see("digitalocean:index/kubernetesNodePool:KubernetesNodePool", pool.id, pool.name);
      }
    }
    const { domains } = await this.account("/v2/domains");
    for (const { name } of domains) {
      see("digitalocean:index/domain:Domain", name, name);
      const { domain_records: records } = await this.account(`/v2/domains/${name}/records?per_page=200`);
      const seen = new Set<string>();
      for (const { id, type, name: host, data } of records as Fields[]) {
        if (["SOA", "NS"].includes(type)) continue;
        see("digitalocean:index/dnsRecord:DnsRecord", String(id), `${type} ${host} ${data}`);
        if (seen.has(`${type} ${host} ${data}`)) problems.push(`duplicated: record ${type} ${host} ${data}`);
        seen.add(`${type} ${host} ${data}`);
      }
    }
    const { certificates } = await this.account("/v2/certificates");
    for (const { id, name } of certificates) see("digitalocean:index/certificate:Certificate", name, id);
    const { load_balancers: balancers } = await this.account("/v2/load_balancers");
    if (balancers.length > clusters.length) problems.push(`${balancers.length} balancers`);
  }

  async #seeCluster(see: (type: string, id: string, identity: string) => void): Promise<void> {
    const kubeconfig = this.#kubeconfig();
    const { kubernetes_clusters: clusters } = await this.account("/v2/kubernetes/clusters");
    if (!kubeconfig || clusters.length === 0 || this.program === "account") return;
    const config = new KubeConfig();
    config.loadFromString(kubeconfig);
    const client = KubernetesObjectApi.makeApiClient(config);
    for (const { apiVersion, kind } of await kindsOf(config)) {
      if (kind === "EndpointSlice" || kind === "Endpoints") continue;
      const none = undefined;
      const { items } = await client.list(apiVersion, kind, none, none, none, none, none, OWNER_LABEL);
      for (const { metadata } of items as KubernetesObject[]) {
        const { name, namespace, uid, ownerReferences, deletionTimestamp } = metadata ?? {};
        if (ownerReferences || deletionTimestamp) continue;
        const group = apiVersion === "v1" ? "core/v1" : apiVersion;
        see(`kubernetes:${group}:${kind}`, namespace ? `${namespace}/${name}` : String(name), String(uid));
      }
    }
  }

  /** Volumes hold data: none may come or go but with their claims. */
  async volumes(): Promise<string[]> {
    return (await this.account("/v2/volumes?per_page=200")).volumes.map(({ id }: Fields) => String(id)).sort();
  }

  resources = (): StateResource[] => this.#deployment().resources ?? [];

  #deployment(): Deployment {
    const file = join(this.state, "pulumi", ".pulumi", "stacks", "hobnob", "local.json");
    return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")).checkpoint?.latest ?? {}) : {};
  }

  async account(path: string, body?: object): Promise<Fields> {
    const { port } = JSON.parse(readFileSync(join(this.state, "run.json"), "utf8")).account;
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      headers: { Authorization: "Bearer local-faults", "Content-Type": "application/json" },
      ...(body && { method: "POST", body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as Fields;
  }

  #kubeconfig(): string | undefined {
    const clusters = join(this.state, "cluster", "clusters");
    const [name] = existsSync(clusters) ? readdirSync(clusters) : [];
    const file = name && join(clusters, name, "kubeconfig.yaml");
    return file && existsSync(file) ? readFileSync(file, "utf8") : undefined;
  }

  async remove(): Promise<void> {
    await this.run("reset");
    const left = processes().filter(({ command }) => command.includes(this.directory));
    for (const { pid } of left) end(pid);
    await sleep(200);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function processes(): Process[] {
  const lines = execFileSync("ps", ["-ww", "-eo", "pid=,ppid=,args="], { encoding: "utf8", maxBuffer: 2 ** 26 });
  return lines.split("\n").flatMap((line) => {
    const [, pid, parent, command] = /^\s*(\d+)\s+(\d+) (.*)$/.exec(line) ?? [];
    return command === undefined ? [] : [{ pid: Number(pid), parent: Number(parent), command }];
  });
}

function descendants(all: Process[], root: number): Process[] {
  const children = all.filter(({ parent }) => parent === root);
  const self = all.filter(({ pid }) => pid === root);
  return [...self, ...children.flatMap(({ pid }) => descendants(all, pid))];
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself in between.
  }
}
