import { spawn } from "node:child_process";
import { setMaxListeners } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import type { ClientRequest, IncomingMessage } from "node:http";
import { request as httpRequest, Agent as PlainAgent } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { faultPoint } from "../faultPoint";

// Own and small on purpose: @kubernetes/client-node takes 0.8 s to import (2 s under tsx), which each provider process
// would pay, and it keeps an exec credential that the API server has stopped to accept.

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    generation?: number;
    resourceVersion?: string;
    deletionTimestamp?: string;
    annotations?: Record<string, string>;
    ownerReferences?: { uid: string }[];
    managedFields?: ManagedFields[];
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

export interface ManagedFields {
  manager: string;
  operation: "Apply" | "Update";
  apiVersion: string;
  time?: string;
  subresource?: string;
  fieldsType: string;
  fieldsV1: Record<string, unknown>;
}

/** What the API server refused; `message` is its own. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly code: number,
    readonly reason: string,
    readonly details: { kind?: string } = {},
  ) {
    super(message);
  }
}

/** The cluster serves no such kind. Wording: apimachinery, meta.NoKindMatchError. */
export class NoMatchError extends Error {
  constructor(apiVersion: string, kind: string) {
    super(`no matches for kind "${kind}" in version "${apiVersion}"`);
  }
}

interface User {
  token?: string;
  tokenFile?: string;
  username?: string;
  password?: string;
  "client-certificate"?: string;
  "client-certificate-data"?: string;
  "client-key"?: string;
  "client-key-data"?: string;
  exec?: { apiVersion?: string; command?: string; args?: string[]; env?: { name: string; value: string }[] };
}

interface Cluster {
  server?: string;
  "certificate-authority"?: string;
  "certificate-authority-data"?: string;
  "insecure-skip-tls-verify"?: boolean;
  "tls-server-name"?: string;
}

export interface Kubeconfig {
  "current-context"?: string;
  contexts?: { name: string; context: { cluster: string; user?: string; namespace?: string } }[];
  clusters?: { name: string; cluster: Cluster }[];
  users?: { name: string; user: User }[];
}

const FILE_FIELDS = ["certificate-authority", "client-certificate", "client-key", "tokenFile"] as const;

function readKubeconfig(path: string): Kubeconfig {
  const config = (parse(readFileSync(path, "utf8")) ?? {}) as Kubeconfig;
  const sections: Partial<Record<(typeof FILE_FIELDS)[number], string>>[] = [
    ...(config.clusters ?? []).map(({ cluster }) => cluster as object),
    ...(config.users ?? []).map(({ user }) => user as object),
  ];
  for (const section of sections) {
    for (const field of FILE_FIELDS) {
      if (section[field]) section[field] = resolve(dirname(path), section[field]);
    }
  }
  return config;
}

/** The first file that names an entry wins, as in kubectl. */
function mergeKubeconfigs(configs: Kubeconfig[]): Kubeconfig {
  return {
    "current-context": configs.map((config) => config["current-context"]).find(Boolean),
    contexts: configs.flatMap((config) => config.contexts ?? []),
    clusters: configs.flatMap((config) => config.clusters ?? []),
    users: configs.flatMap((config) => config.users ?? []),
  };
}

/**
 * @param pathOrContents path (`~` allowed), YAML or JSON; empty: `$KUBECONFIG`, else `~/.kube/config`
 * @throws where it is no kubeconfig
 */
export function loadKubeconfig(pathOrContents: string): Kubeconfig {
  if (pathOrContents === "") {
    const paths = process.env.KUBECONFIG?.split(delimiter).filter(Boolean) ?? [join(homedir(), ".kube", "config")];
    return mergeKubeconfigs(paths.filter((path) => existsSync(path)).map(readKubeconfig));
  }
  const path = pathOrContents.replace(/^~(?=\/)/, homedir());
  if (!path.includes("\n") && existsSync(path)) return readKubeconfig(path);
  const config: unknown = parse(pathOrContents);
  if (typeof config !== "object" || config === null) {
    throw new Error("the value is neither the path of a kubeconfig file nor its contents");
  }
  return config as Kubeconfig;
}

/** The cluster that a kubeconfig's active context points to. */
export function activeCluster(
  config: Kubeconfig,
  overrides: { context?: string; cluster?: string },
): Cluster | undefined {
  const context = overrides.context || config["current-context"];
  const name = overrides.cluster || config.contexts?.find((entry) => entry.name === context)?.context.cluster;
  return config.clusters?.find((entry) => entry.name === name)?.cluster;
}

interface Credential {
  token?: string;
  certificate?: string;
  key?: string;
  /** Milliseconds since the epoch. */
  expires: number;
}

const fileOrData = (file: string | undefined, data: string | undefined): string | undefined =>
  data ? Buffer.from(data, "base64").toString() : file && readFileSync(file, "utf8");

/** Runs a credential plugin. Source: client.authentication.k8s.io, ExecCredential. */
function runCredentialPlugin({ apiVersion, command = "", args, env }: NonNullable<User["exec"]>): Promise<Credential> {
  const info = { apiVersion, kind: "ExecCredential", spec: { interactive: false } };
  const variables = Object.fromEntries((env ?? []).map(({ name, value }) => [name, value]));
  const child = spawn(command, args ?? [], {
    env: { ...process.env, KUBERNETES_EXEC_INFO: JSON.stringify(info), ...variables },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  let errors = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    output += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    errors += text;
  });
  return new Promise((fulfil, reject) => {
    child.on("error", (error) =>
      reject(new Error(`getting credentials: exec: executable ${command} failed: ${error.message}`)),
    );
    child.on("close", (code) => {
      if (code !== 0) {
        reject(
          new Error(
            `getting credentials: exec: executable ${command} failed with exit code ${code}: ${errors.trim().split("\n").at(-1)}`,
          ),
        );
        return;
      }
      try {
        const { status } = JSON.parse(output);
        const { token, clientCertificateData: certificate, clientKeyData: key, expirationTimestamp } = status;
        fulfil({ token, certificate, key, expires: Date.parse(expirationTimestamp ?? "") || Number.POSITIVE_INFINITY });
      } catch {
        reject(new Error(`getting credentials: decoding stdout: ${command} printed no ExecCredential`));
      }
    });
  });
}

const NETWORK_ERRORS: Record<string, string> = {
  ECONNREFUSED: "connect: connection refused",
  ENOTFOUND: "no such host",
  EAI_AGAIN: "lookup failed: temporary failure in name resolution",
  ECONNRESET: "read: connection reset by peer",
  ETIMEDOUT: "i/o timeout",
  EHOSTUNREACH: "connect: no route to host",
};

/** Go's wording, so that messages read as the official provider's. */
function networkError(method: string, url: URL, error: NodeJS.ErrnoException): Error {
  const verb = method[0] + method.slice(1).toLowerCase();
  const reason = NETWORK_ERRORS[error.code ?? ""];
  const detail = reason ? `dial tcp ${url.host}: ${reason}` : error.message;
  return Object.assign(new Error(`${verb} "${url}": ${detail}`), { code: error.code });
}

const CONNECT_MILLISECONDS = 32_000; // client-go's discovery timeout

export interface Resource {
  /** Path up to and without the namespace: `/apis/apps/v1`. */
  root: string;
  plural: string;
  namespaced: boolean;
}

export interface RequestOptions {
  query?: Record<string, string | undefined>;
  body?: unknown;
  contentType?: string;
}

/** The API server of one kubeconfig context. */
export class Client {
  readonly namespace: string;
  readonly #server: URL;
  readonly #cluster: Cluster;
  readonly #user: User;
  #credential: Promise<Credential> | undefined;
  #agents = new Map<string, Agent | PlainAgent>();
  #discovery = new Map<string, Promise<Map<string, Resource>>>();
  #informers = new Map<string, Informer>();

  /** @throws where the context or its cluster is not in the kubeconfig; client-go's wording */
  constructor(
    config: Kubeconfig,
    overrides: { context?: string; cluster?: string; namespace?: string },
    readonly signal: AbortSignal,
  ) {
    setMaxListeners(0, signal); // each request and each wait listens
    const name = overrides.context || config["current-context"];
    const context = config.contexts?.find((entry) => entry.name === name)?.context;
    if (!context) {
      throw new Error(
        name ? `context "${name}" does not exist` : "invalid configuration: no configuration has been provided",
      );
    }
    const cluster = activeCluster(config, overrides);
    if (!cluster?.server) throw new Error(`cluster "${overrides.cluster || context.cluster}" does not exist`);
    this.#cluster = cluster;
    this.#server = new URL(cluster.server.replace(/\/$/, ""));
    this.#user = config.users?.find((entry) => entry.name === context.user)?.user ?? {};
    this.namespace = overrides.namespace || context.namespace || "default";
  }

  #authenticate(): Promise<Credential> {
    const { exec, token, tokenFile } = this.#user;
    this.#credential ??= exec
      ? runCredentialPlugin(exec)
      : Promise.resolve({
          token: token ?? (tokenFile && readFileSync(tokenFile, "utf8").trim()),
          certificate: fileOrData(this.#user["client-certificate"], this.#user["client-certificate-data"]),
          key: fileOrData(this.#user["client-key"], this.#user["client-key-data"]),
          expires: Number.POSITIVE_INFINITY,
        });
    this.#credential.catch(() => {
      this.#credential = undefined;
    });
    return this.#credential;
  }

  async #currentCredential(): Promise<Credential> {
    const pending = this.#authenticate();
    const credential = await pending;
    if (credential.expires > Date.now()) return credential;
    this.#forget(pending);
    return this.#authenticate();
  }

  #forget(refused: Promise<Credential> | undefined): void {
    if (this.#credential === refused) this.#credential = undefined;
  }

  #agent({ certificate, key }: Credential): Agent | PlainAgent {
    const cached = this.#agents.get(certificate ?? "");
    if (cached) return cached;
    const agent =
      this.#server.protocol === "http:"
        ? new PlainAgent({ keepAlive: true })
        : new Agent({
            keepAlive: true,
            ca: fileOrData(this.#cluster["certificate-authority"], this.#cluster["certificate-authority-data"]),
            rejectUnauthorized: !this.#cluster["insecure-skip-tls-verify"],
            servername: this.#cluster["tls-server-name"],
            cert: certificate,
            key,
          });
    this.#agents.set(certificate ?? "", agent);
    return agent;
  }

  async #send(method: string, path: string, options: RequestOptions): Promise<IncomingMessage> {
    const credential = await this.#currentCredential();
    const url = new URL(this.#server.pathname.replace(/\/$/, "") + path, this.#server);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, value);
    }
    const { username, password } = this.#user;
    const authorization = credential.token
      ? `Bearer ${credential.token}`
      : username && `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
    const body = options.body === undefined ? undefined : JSON.stringify(options.body);
    const send = url.protocol === "http:" ? httpRequest : httpsRequest;
    return new Promise((fulfil, reject) => {
      const request: ClientRequest = send(url, {
        method,
        agent: this.#agent(credential),
        signal: this.signal,
        timeout: CONNECT_MILLISECONDS,
        headers: {
          accept: "application/json",
          "user-agent": "pulumi-kubernetes",
          ...(authorization && { authorization }),
          ...(body !== undefined && {
            "content-type": options.contentType ?? "application/json",
            "content-length": Buffer.byteLength(body),
          }),
        },
      });
      request.on("timeout", () => request.destroy(Object.assign(new Error("timeout"), { code: "ETIMEDOUT" })));
      request.on("error", (error) => reject(networkError(method, url, error)));
      request.on("response", (response) => {
        response.setTimeout(0);
        fulfil(response);
      });
      request.end(body);
    });
  }

  /** Sends once more with a new credential where the API server no longer accepts the old one. */
  async #authenticated(method: string, path: string, options: RequestOptions): Promise<IncomingMessage> {
    const used = this.#authenticate();
    const response = await this.#send(method, path, options);
    if (response.statusCode !== 401 || !this.#user.exec) return response;
    response.resume();
    this.#forget(used);
    return this.#send(method, path, options);
  }

  async request<T = KubeObject>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.#authenticated(method, path, options);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    const code = response.statusCode ?? 0;
    if (code >= 400) throw apiError(code, text);
    if (method !== "GET" && !options.query?.dryRun) {
      await faultPoint(`${method} ${path} ${(options.body as Partial<KubeObject>)?.metadata?.name ?? ""}`);
    }
    return JSON.parse(text);
  }

  /** Lines of a watch, until the server ends it. */
  async *watch(path: string, query: RequestOptions["query"]): AsyncGenerator<{ type: string; object: KubeObject }> {
    const response = await this.#authenticated("GET", path, { query: { ...query, watch: "true" } });
    response.setEncoding("utf8");
    if ((response.statusCode ?? 0) >= 400) throw apiError(response.statusCode ?? 0, "");
    let rest = "";
    for await (const chunk of response) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) yield JSON.parse(line);
    }
  }

  /** @throws NoMatchError */
  async resource(apiVersion: string, kind: string): Promise<Resource> {
    const version = apiVersion.replace(/^core\//, "");
    const found = (await this.#discover(version)).get(kind);
    if (found) return found;
    this.#discovery.delete(version); // a CustomResourceDefinition may be about to appear
    throw new NoMatchError(apiVersion, kind);
  }

  #discover(apiVersion: string): Promise<Map<string, Resource>> {
    const cached = this.#discovery.get(apiVersion);
    if (cached) return cached;
    const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
    const pending = this.request<{ resources: { name: string; kind: string; namespaced: boolean }[] }>(
      "GET",
      root,
    ).then(
      ({ resources }) =>
        new Map(
          resources
            .filter(({ name }) => !name.includes("/"))
            .map(({ name, kind, namespaced }) => [kind, { root, plural: name, namespaced }]),
        ),
      (error) => {
        this.#discovery.delete(apiVersion);
        if (error instanceof ApiError && error.code === 404) return new Map<string, Resource>();
        throw error;
      },
    );
    this.#discovery.set(apiVersion, pending);
    return pending;
  }

  collectionPath({ root, plural, namespaced }: Resource, namespace: string): string {
    return namespaced ? `${root}/namespaces/${namespace}/${plural}` : `${root}/${plural}`;
  }

  /** Path of one object. @throws NoMatchError */
  async path({ apiVersion, kind, metadata }: KubeObject): Promise<string> {
    const resource = await this.resource(apiVersion, kind);
    return `${this.collectionPath(resource, metadata.namespace || this.namespace)}/${metadata.name}`;
  }

  /** The informer of one kind in one namespace, shared by all who wait. */
  async informer(apiVersion: string, kind: string, namespace: string): Promise<Informer> {
    const path = this.collectionPath(await this.resource(apiVersion, kind), namespace);
    const shared = this.#informers.get(path) ?? new Informer(this, path);
    this.#informers.set(path, shared);
    return shared;
  }
}

function apiError(code: number, text: string): ApiError {
  try {
    const status = JSON.parse(text);
    if (code === 401) return unauthorized();
    return new ApiError(status.message ?? text, code, status.reason ?? "", status.details ?? {});
  } catch {
    return code === 401 ? unauthorized() : new ApiError(text.trim() || `the server answered ${code}`, code, "");
  }
}

const unauthorized = () =>
  new ApiError("the server has asked for the client to provide credentials", 401, "Unauthorized");

export type Listener = (type: "ADDED" | "MODIFIED" | "DELETED", object: KubeObject) => void;

const RELIST_MILLISECONDS = 1000;
const UNREACHABLE_MILLISECONDS = 60_000;

/** All objects at one path by name, kept current by one list and one watch for as long as someone listens. */
export class Informer {
  readonly objects = new Map<string, KubeObject>();
  readonly #listeners = new Set<Listener>();
  #running: Promise<void> | undefined;
  #synced: Promise<void> | undefined;

  constructor(
    readonly client: Pick<Client, "request" | "watch" | "signal">,
    readonly path: string,
  ) {}

  /**
   * Resolves when `objects` is filled; the listener is then told of every change. Call the result to end it.
   * @throws {ApiError} where the API server refuses the list; one that is out of reach is tried again for a minute
   */
  async listen(listener: Listener): Promise<() => void> {
    this.#listeners.add(listener);
    const end = () => this.#listeners.delete(listener);
    this.#running ??= this.#run();
    try {
      await this.#synced;
    } catch (error) {
      end();
      throw error;
    }
    return end;
  }

  #emit(type: Parameters<Listener>[0], object: KubeObject): void {
    if (type === "DELETED") this.objects.delete(object.metadata.name);
    else this.objects.set(object.metadata.name, object);
    for (const listener of [...this.#listeners]) listener(type, object);
  }

  async #list(): Promise<string> {
    const list = await this.client.request<{
      apiVersion: string;
      kind: string;
      metadata: { resourceVersion: string };
      items: KubeObject[];
    }>("GET", this.path);
    const kind = list.kind.replace(/List$/, "");
    const names = new Set(list.items.map(({ metadata }) => metadata.name));
    for (const [name, object] of this.objects) {
      if (!names.has(name)) this.#emit("DELETED", object);
    }
    for (const item of list.items) {
      const known = this.objects.get(item.metadata.name);
      if (known?.metadata.resourceVersion === item.metadata.resourceVersion) continue;
      this.#emit(known ? "MODIFIED" : "ADDED", { ...item, apiVersion: list.apiVersion, kind });
    }
    return list.metadata.resourceVersion;
  }

  /** @returns where a watch can go on, or nothing where the server asks to list again */
  async #follow(resourceVersion: string): Promise<string | undefined> {
    let last = resourceVersion;
    const query = { resourceVersion, allowWatchBookmarks: "true", timeoutSeconds: "290" };
    for await (const { type, object } of this.client.watch(this.path, query)) {
      if (type === "ERROR") return undefined;
      last = object.metadata.resourceVersion ?? last;
      if (type === "ADDED" || type === "MODIFIED" || type === "DELETED") this.#emit(type, object);
    }
    return last;
  }

  async #run(): Promise<void> {
    let [synced, refused] = [() => {}, (_: unknown) => {}];
    this.#synced = new Promise((fulfil, reject) => {
      [synced, refused] = [fulfil, reject];
    });
    const began = Date.now();
    let [version, isSynced]: [string | undefined, boolean] = [undefined, false];
    while (this.#listeners.size > 0 && !this.client.signal.aborted) {
      try {
        version ??= await this.#list();
        isSynced = true;
        synced();
        version = await this.#follow(version);
      } catch (error) {
        version = undefined; // once filled, who waits has a timeout of its own
        if (!isSynced && (error instanceof ApiError || Date.now() - began > UNREACHABLE_MILLISECONDS)) {
          refused(error);
          break;
        }
        await new Promise((fulfil) => setTimeout(fulfil, RELIST_MILLISECONDS));
      }
    }
    synced();
    this.#running = undefined;
  }
}
