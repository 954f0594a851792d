import { execFile } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ElasticsearchNode, leaveOutUnpublished, startNode } from "../../local/elasticsearch/process";
import { type Captured, find } from "../unit/graph";

/** What the API server answers to the init container, for the one account that its Role names. */
export class ConfigMapApi {
  readonly objects = new Map<string, { data: Record<string, string> }>();
  /** Each request's method, path and bearer token. */
  readonly requests: string[] = [];
  /** Answered, in turn, before the true answers. */
  readonly failures: number[] = [];
  private server?: Server;

  async start(): Promise<string> {
    this.server = createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      this.requests.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      const [status, answer] = this.answer(request.method ?? "", request.url ?? "", body);
      // The real one indents what it gives to curl.
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer, null, 2));
    });
    await new Promise<void>((resolve) => this.server?.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    await new Promise((resolve) => this.server?.close(resolve));
  }

  private answer(method: string, path: string, body: string): [number, unknown] {
    const failure = this.failures.shift();
    if (failure) return [failure, { kind: "Status", code: failure }];
    const collection = "/api/v1/namespaces/hobnob/configmaps";
    if (method === "POST" && path === collection) {
      const object = JSON.parse(body);
      if (this.objects.has(object.metadata.name)) return [409, { kind: "Status", reason: "AlreadyExists" }];
      this.objects.set(object.metadata.name, object);
      return [201, object];
    }
    const object = method === "GET" && this.objects.get(path.slice(collection.length + 1));
    return object ? [200, object] : [404, { kind: "Status", reason: "NotFound" }];
  }
}

interface Container {
  name: string;
  command?: string[];
  env?: { name: string; value?: string; valueFrom?: { fieldRef: { fieldPath: string } } }[];
  volumeMounts?: { name: string; mountPath: string }[];
  readinessProbe?: { exec: { command: string[] } };
  lifecycle?: { preStop: { exec: { command: string[] } } };
}

export interface Run {
  code: number;
  output: string;
}

/** One pod of the captured StatefulSet as processes of this machine: its volumes are directories, its scripts run as they are. */
export class Pod {
  readonly name: string;
  readonly disk: string;
  readonly url: string;
  /** What `configure` said at each start. */
  readonly configured: string[] = [];
  private node?: ElasticsearchNode;

  constructor(
    private readonly set: StatefulSetProcesses,
    private readonly ordinal: number,
  ) {
    this.name = `elasticsearch-${ordinal}`;
    this.disk = this.volume("data");
    this.url = `http://${this.address}:9200`;
  }

  get address(): string {
    return this.set.addresses[this.ordinal] as string;
  }

  get log(): string {
    return this.node?.log() ?? "";
  }

  /** As the kubelet does: fresh volumes but for the disk, init containers, then Elasticsearch. */
  async start(): Promise<void> {
    await this.configure();
    await this.startContainer();
  }

  async configure(): Promise<Run> {
    for (const volume of ["files", "config", "logs", "tmp", "identity", "defaults"])
      await rm(this.volume(volume), { recursive: true, force: true }).then(() =>
        mkdir(this.volume(volume), { recursive: true }),
      );
    await mkdir(this.disk, { recursive: true });
    const files = find(this.set.graph, "kubernetes:core/v1:ConfigMap", "elasticsearch-files").inputs.data;
    for (const [name, text] of Object.entries<string>(files)) await writeFile(join(this.volume("files"), name), text);
    await writeFile(join(this.volume("identity"), "token"), `token-of-${this.name}`);
    await writeFile(join(this.volume("identity"), "ca.crt"), "");
    await writeFile(join(this.volume("defaults"), "jvm.options"), "");
    const container = this.set.container("initContainers", "configure");
    const run = await this.execute(container, container.command as string[]);
    this.configured.push(run.output);
    return run;
  }

  /** Also what a container does that starts again within its pod. */
  async startContainer(): Promise<void> {
    await leaveOutUnpublished(this.volume("config"));
    this.node = await startNode({
      configDirectory: this.volume("config"),
      logFile: join(this.set.directory, this.name, "log"),
      env: this.environment(this.set.container("containers", "elasticsearch")),
      hostsFile: this.set.hostsFile,
      version: this.set.version,
      settings: {
        ...this.set.settings,
        "network.bind_host": this.address,
        "path.logs": this.volume("logs"),
        // A node without a master else answers after 30 s only.
        "discovery.initial_state_timeout": "3s",
      },
    });
  }

  settings = (): Promise<string> => readFile(join(this.volume("config"), "elasticsearch.yml"), "utf8");

  async stop(signal?: NodeJS.Signals): Promise<void> {
    await this.node?.stop(signal);
  }

  /** As the kubelet ends a pod that is not wanted there any more: the hook before the signal. */
  async terminate(): Promise<Run> {
    const container = this.set.container("containers", "elasticsearch");
    const run = await this.execute(container, container.lifecycle?.preStop.exec.command as string[]);
    await this.stop("SIGTERM");
    return run;
  }

  /** One readiness probe. */
  ready(): Promise<Run> {
    const container = this.set.container("containers", "elasticsearch");
    return this.execute(container, container.readinessProbe?.exec.command as string[]);
  }

  /** The probe's last answer, once it is what is waited for. */
  async until(code: 0 | 1, output = /^/, seconds = 240): Promise<Run> {
    const deadline = Date.now() + seconds * 1_000;
    for (;;) {
      const run = await this.ready();
      if (run.code === code && output.test(run.output)) return run;
      if (Date.now() > deadline)
        throw new Error(`${this.name} answers ${run.code} "${run.output}"; its log:\n${this.log.slice(-2_000)}`);
      await sleep(500);
    }
  }

  // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
  async request(method: string, path: string, body?: object): Promise<{ status: number; body: any }> {
    const headers = { "content-type": "application/json" };
    const response = await fetch(this.url + path, { method, headers, ...(body && { body: JSON.stringify(body) }) });
    return { status: response.status, body: await response.json() };
  }

  /** The claim gets another volume; the old one can be put back. */
  async loseDisk(): Promise<() => Promise<void>> {
    const kept = `${this.disk}-${Date.now()}`;
    await rename(this.disk, kept);
    return async () => {
      await rm(this.disk, { recursive: true, force: true });
      await rename(kept, this.disk);
    };
  }

  private volume(name: string): string {
    return join(this.set.directory, this.name, name);
  }

  private environment({ env = [], volumeMounts = [] }: Container): Record<string, string> {
    const fields: Record<string, string> = {
      "metadata.name": this.name,
      "metadata.namespace": "hobnob",
      "status.podIP": this.address,
      "spec.nodeName": `worker-${this.ordinal}`,
    };
    const values = env.map(({ name, value, valueFrom }) => [
      name,
      valueFrom ? fields[valueFrom.fieldRef.fieldPath] : this.mapped(value as string, volumeMounts),
    ]);
    const { PATH } = process.env;
    return {
      PATH,
      ...Object.fromEntries(values),
      KUBERNETES_API: this.set.api,
      DEFAULTS: this.volume("defaults"),
      TMPDIR: this.volume("tmp"),
      DRAIN_SECONDS: "1",
    };
  }

  private mapped(text: string, mounts: { name: string; mountPath: string }[]): string {
    const mount = mounts.find(({ mountPath }) => text === mountPath || text.startsWith(`${mountPath}/`));
    return mount ? this.volume(mount.name) + text.slice(mount.mountPath.length) : text;
  }

  private execute(container: Container, command: string[]): Promise<Run> {
    const [file, ...words] = command.map((word) => this.mapped(word, container.volumeMounts ?? []));
    return new Promise((resolve) =>
      execFile(file as string, words, { env: this.environment(container) }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code) : 0, output: (stdout + stderr).trim() }),
      ),
    );
  }
}

const MOST_PODS = 5;

/** All pods of the captured StatefulSet on addresses of their own, with the ports of the cluster. */
export class StatefulSetProcesses {
  pods: Pod[];
  readonly addresses: string[];
  readonly hostsFile: string;
  /** Of Elasticsearch, for the starts to come; the newest where none is given. */
  version?: string;
  /** Further settings of the processes, for the starts to come. */
  settings: Record<string, string> = {};

  constructor(
    readonly graph: Captured[],
    readonly directory: string,
    readonly api: string,
  ) {
    const network = `127.${randomInt(1, 255)}.${randomInt(0, 255)}`;
    const { replicas } = find(graph, "kubernetes:apps/v1:StatefulSet").inputs.spec;
    this.addresses = Array.from({ length: MOST_PODS }, (_, ordinal) => `${network}.${ordinal + 1}`);
    this.pods = this.ordinals(replicas).map((ordinal) => new Pod(this, ordinal));
    this.hostsFile = join(directory, "hosts");
  }

  async start(): Promise<void> {
    await this.publish();
    await Promise.all(this.pods.map((pod) => pod.start()));
  }

  /** As the set's controller does with parallel pods: new ones start at once, the last ones end at once. */
  async scale(replicas: number): Promise<void> {
    const added = this.ordinals(replicas)
      .slice(this.pods.length)
      .map((ordinal) => new Pod(this, ordinal));
    const removed = this.pods.slice(replicas);
    this.pods = [...this.pods.slice(0, replicas), ...added];
    await this.publish();
    await Promise.all([...added.map((pod) => pod.start()), ...removed.map((pod) => pod.terminate())]);
  }

  /** As the set's controller does: from the last pod to the first, each once the one before is ready. */
  async roll(between: (pod: Pod) => Promise<void> = async () => {}): Promise<void> {
    for (const pod of this.pods.toReversed()) {
      await pod.terminate();
      await pod.start();
      await pod.until(0);
      await between(pod);
    }
  }

  private ordinals = (replicas: number) => Array.from({ length: replicas }, (_, ordinal) => ordinal);

  /** The discovery Service gives the addresses of all pods, ready or not; no other name is known. */
  private async publish(): Promise<void> {
    const service = find(this.graph, "kubernetes:core/v1:Service", "elasticsearch-discovery").inputs.metadata.name;
    await writeFile(this.hostsFile, this.pods.map(({ address }) => `${address} ${service}\n`).join(""));
  }

  async stop(): Promise<void> {
    await Promise.all(this.pods.map((pod) => pod.stop("SIGKILL")));
  }

  container(kind: "containers" | "initContainers", name: string): Container {
    const { spec } = find(this.graph, "kubernetes:apps/v1:StatefulSet").inputs.spec.template;
    return spec[kind].find((container: Container) => container.name === name);
  }
}
