import "reflect-metadata";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import * as x509 from "@peculiar/x509";
import { decode, encode } from "dns-packet";
import { acceptance, type Target } from "../../verify/acceptance";
import { type Result, runChecks } from "../../verify/checks";
import type { Cluster, PodInfo } from "../../verify/cluster";
import { platformOutputs } from "../unit/platformOutputs";

const HOSTS = { api: "api.hobnob.test", docs: "docs.hobnob.test" };
const NAME_SERVERS = ["ns1.dns.test", "ns2.dns.test"];
const ADDRESS = "127.0.0.1";
const DAY = 86_400_000;

interface Shown {
  ca: x509.X509Certificate;
  caKeys: KeyPair;
  hosts: string[];
  /** Days from now. */
  from: number;
  to: number;
}

/** What each part answers; a test changes one thing, and with it one check must miss. */
export class FakePlatform {
  elasticsearch = { replicas: 3, nodes: [0, 1, 2].map((ordinal) => new FakeNode(`elasticsearch-${ordinal}`)) };
  /** Elasticsearch's; `user` and `password` are what the Secret has, `shown` the nodes' certificate. */
  security = { enabled: false, user: "verify-1", password: "right", secret: true, shown: {} as Partial<Shown> };
  api = {
    publicly: 200,
    replicas: 2,
    ready: [true, true],
    user: { status: 201, token: "secret", read: "as written", deletable: true },
  };
  dns = { records: { ...hostsAt(ADDRESS) }, system: { ...hostsAt(ADDRESS) }, refuses: false };
  tls = { enabled: true, shown: {} as Partial<Shown> };
  docs = { page: "<title>Swagger UI</title>", server: "" };
  http = { status: 307, location: (host: string, path: string) => `https://${host}${path}` };
  hsts = { annotated: false, sent: false };
  /** As annotated; `answers` is what a request above it gets. */
  limit = { annotated: false, rate: 50, burst: 20, answers: 429, recovers: true };
  /** All users that there are, by id. */
  readonly users = new Map<string, { name: string }>();
  /** All documents that there are, by index. */
  readonly indices = new Map<string, Map<string, object>>();
  /** Called with each request to the public API or a pod. */
  onRequest: (method: string, path: string) => void = () => {};
  private readonly servers: Server[] = [];
  private readonly nameServer: Socket = createSocket("udp4");
  private ports = { https: 0, http: 0, dns: 0 };
  private readonly pods = new Map<string, number>();
  private bucket = { level: 0, at: Date.now() };
  private ca = "";

  /** Starts the servers with what is set by then. */
  async start(): Promise<void> {
    const authority = await newAuthority();
    this.ca = authority.ca.toString("pem");
    const publicly: RequestListener = (request, response) => this.public(request, response);
    const leaf = await newCertificate({
      ...authority,
      hosts: Object.values(HOSTS),
      from: -1,
      to: 60,
      ...this.tls.shown,
    });
    const tls = createTlsServer(leaf, publicly);
    this.ports.https = await this.listen(this.tls.enabled ? tls : createServer(publicly));
    this.ports.http = await this.listen(createServer((request, response) => this.redirect(request, response)));
    const hosts = ["elasticsearch", "elasticsearch.hobnob.svc", "*.elasticsearch.hobnob.svc"];
    const own = await newCertificate({ ...authority, hosts, from: -1, to: 60, ...this.security.shown });
    for (const node of this.elasticsearch.nodes) {
      const pod: RequestListener = (request, response) => this.node(node, request, response);
      this.pods.set(
        node.name,
        await this.listen(this.security.enabled ? createTlsServer(own, pod) : createServer(pod)),
      );
    }
    for (const [index] of this.api.ready.entries()) {
      const pod: RequestListener = (request, response) => this.usersApi(request, response, index);
      this.pods.set(`backend-${index}`, await this.listen(createServer(pod)));
    }
    this.nameServer.on("message", (message, from) =>
      this.nameServer.send(this.resolve(message), from.port, from.address),
    );
    this.nameServer.bind(0, ADDRESS);
    await once(this.nameServer, "listening");
    this.ports.dns = this.nameServer.address().port;
  }

  async stop(): Promise<void> {
    for (const server of this.servers) {
      server.close();
      (server as ReturnType<typeof createServer>).closeAllConnections();
    }
    this.nameServer.close();
  }

  async verify(options: { signal?: AbortSignal; nothingPublic?: string } = {}): Promise<Result[]> {
    const { checks, close } = acceptance(this.target(options.nothingPublic));
    return runChecks(checks, options.signal ?? new AbortController().signal).finally(close);
  }

  target(nothingPublic?: string): Target {
    const scheme = this.tls.enabled ? "https" : "http";
    const url = (host: string) => `${scheme}://${host}:${this.ports.https}`;
    return {
      outputs: {
        ...platformOutputs,
        apiUrl: url(HOSTS.api),
        docsUrl: url(HOSTS.docs),
        ingressAddress: ADDRESS,
        nameServers: NAME_SERVERS,
        coveredHosts: this.tls.enabled ? Object.values(HOSTS) : [],
        elasticsearchCa: "",
        elasticsearchUrl: `${this.security.enabled ? "https" : "http"}://elasticsearch.hobnob.svc:9200`,
      },
      cluster: this.cluster(),
      nothingPublic,
      world: {
        ca: this.ca,
        dnsPort: this.ports.dns,
        httpPort: this.ports.http,
        lookup: (host, { all }, done) => {
          const address = NAME_SERVERS.includes(host) ? ADDRESS : this.dns.system[host];
          if (!address)
            return done(Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), { code: "ENOTFOUND" }), "");
          if (all) return done(null, [{ address, family: 4 }]);
          done(null, address, 4);
        },
      },
    };
  }

  private cluster(): Cluster {
    const pod = (name: string): PodInfo => ({ name, ready: true, ports: { http: 1 } });
    return {
      workload: async (kind) =>
        kind === "StatefulSet"
          ? { replicas: this.elasticsearch.replicas, pods: this.elasticsearch.nodes.map(({ name }) => pod(name)) }
          : { replicas: this.api.replicas, pods: this.api.ready.map((_, index) => pod(`backend-${index}`)) },
      ingress: async () => ({
        ...(this.hsts.annotated && { "nginx.org/hsts": "true" }),
        ...(this.limit.annotated && {
          "nginx.org/limit-req-rate": `${this.limit.rate}r/s`,
          "nginx.org/limit-req-burst": String(this.limit.burst),
        }),
      }),
      secret: async () => {
        const { user, password, secret } = this.security;
        return secret ? { username: user, password, "ca.crt": this.ca } : undefined;
      },
      forward: async (name) => ({ port: this.pods.get(name) ?? 0, reason: () => undefined }),
      close: () => {},
    };
  }

  private async listen(server: Server): Promise<number> {
    this.servers.push(server.listen(0, ADDRESS));
    await once(server, "listening");
    return (server.address() as AddressInfo).port;
  }

  private resolve(message: Buffer): Buffer {
    const { id, questions } = decode(message);
    const name = questions?.[0]?.name ?? "";
    const data = this.dns.records[name];
    const answers = data ? [{ type: "A" as const, name, data }] : [];
    return encode({
      type: "response",
      id,
      flags: this.dns.refuses ? 5 : answers.length > 0 ? 0 : 3,
      questions,
      answers,
    });
  }

  private redirect({ headers, url = "" }: IncomingMessage, response: ServerResponse) {
    const host = headers.host?.split(":")[0] ?? "";
    response.writeHead(this.http.status, { location: this.http.location(host, url) }).end();
  }

  private public(request: IncomingMessage, response: ServerResponse) {
    if (this.hsts.sent) response.setHeader("strict-transport-security", "max-age=2592000");
    if (this.limit.annotated && this.exceeds()) return void response.writeHead(this.limit.answers).end();
    if (request.headers.host?.startsWith(HOSTS.api)) return this.usersApi(request, response, 0);
    if (request.url === "/") return void response.end(this.docs.page);
    const url = this.docs.server || `http${this.tls.enabled ? "s" : ""}://${HOSTS.api}:${this.ports.https}`;
    response.end(JSON.stringify({ servers: [{ url }] }));
  }

  /** A bucket that leaks at the rate, as NGINX has it. */
  private exceeds(): boolean {
    const now = Date.now();
    const leaked = ((now - this.bucket.at) / 1000) * this.limit.rate;
    const full = this.bucket.level > this.limit.burst;
    if (full && !this.limit.recovers) return true;
    this.bucket = { level: Math.max(0, this.bucket.level - leaked) + 1, at: now };
    if (this.bucket.level <= this.limit.burst + 1) return false;
    this.bucket.level = this.limit.recovers ? this.limit.burst + 1 : this.limit.burst + 2;
    return true;
  }

  private usersApi(request: IncomingMessage, response: ServerResponse, pod: number) {
    const { method = "", url = "" } = request;
    this.onRequest(method, url);
    const answer = (status: number, body?: object) => void response.writeHead(status).end(body && JSON.stringify(body));
    const { user, ready } = this.api;
    if (url === "/readyz") return answer(ready[pod] ? 200 : 503);
    if (url === "/healthz") return answer(200);
    if (url.startsWith("/users?")) return answer(this.api.publicly, { users: [...this.users.values()] });
    if (method === "POST")
      return void body(request).then((json) => {
        if (user.status === 201) this.users.set(json.id, json);
        answer(user.status, { id: json.id, token: user.token });
      });
    const id = url.replace("/users/", "");
    const found = this.users.get(id);
    if (!found) return answer(404);
    if (method === "GET") return answer(200, user.read === "as written" ? found : { name: user.read });
    if (!user.deletable || request.headers.authorization !== `Bearer ${user.token}`) return answer(403);
    this.users.delete(id);
    answer(204);
  }

  private node(node: FakeNode, request: IncomingMessage, response: ServerResponse) {
    const { method = "", url = "" } = request;
    this.onRequest(method, url);
    if (node.silent) return void response.destroy();
    const answer = (status: number, body: object) => void response.writeHead(status).end(JSON.stringify(body));
    const login = `Basic ${Buffer.from("verify-1:right").toString("base64")}`;
    if (this.security.enabled && request.headers.authorization !== login) return answer(401, {});
    const [, index = "", kind] = url.split(/[/?]/);
    const path = url.split("?")[0];
    if (path?.startsWith("/_cluster/state")) return answer(200, node.state(this.elasticsearch.nodes));
    if (path === "/_cluster/health") return answer(node.health.status === "green" ? 200 : 408, node.health);
    if (kind === "_doc" && method === "PUT")
      return void body(request).then((json) => {
        this.indices.get(index)?.set("1", json);
        answer(201, {});
      });
    if (kind === "_doc") {
      const found = node.reads && this.indices.get(index)?.get("1");
      return answer(found ? 200 : 404, found ? { _source: found } : {});
    }
    if (method === "PUT") this.indices.set(index, new Map());
    if (method === "DELETE" && !node.deletable) return answer(403, {});
    if (method === "DELETE") this.indices.delete(index);
    return answer(200, {});
  }
}

function hostsAt(address: string): Record<string, string> {
  return Object.fromEntries(Object.values(HOSTS).map((host) => [host, address]));
}

class FakeNode {
  uuid = "uuid-of-one-cluster";
  master = "elasticsearch-0";
  /** Names of the nodes that it sees. @default all */
  sees?: string[];
  silent = false;
  reads = true;
  deletable = true;
  health = { status: "green", active_shards: 4, unassigned_shards: 0 };

  constructor(readonly name: string) {}

  state(all: FakeNode[]): object {
    const names = this.sees ?? all.map(({ name }) => name);
    return {
      cluster_uuid: this.uuid,
      master_node: this.master && `id-${this.master}`,
      nodes: Object.fromEntries(names.map((name) => [`id-${name}`, { name }])),
    };
  }
}

// biome-ignore lint/suspicious/noExplicitAny: bodies have as many shapes as there are requests
async function body(request: IncomingMessage): Promise<any> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
type KeyPair = Awaited<ReturnType<typeof newKeys>>;
const newKeys = () => crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);

export async function newAuthority(name = "test"): Promise<{ ca: x509.X509Certificate; caKeys: KeyPair }> {
  const caKeys = await newKeys();
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=Authority ${name}`,
    keys: caKeys,
    signingAlgorithm: ALGORITHM,
    notBefore: new Date(Date.now() - 400 * DAY),
    notAfter: new Date(Date.now() + 400 * DAY),
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  return { ca, caKeys };
}

async function newCertificate({ ca, caKeys, hosts, from, to }: Shown): Promise<{ key: string; cert: string }> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${hosts[0]}`,
    issuer: ca.subject,
    publicKey: keys.publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm: ALGORITHM,
    notBefore: new Date(Date.now() + from * DAY),
    notAfter: new Date(Date.now() + to * DAY + DAY / 2),
    extensions: [new x509.SubjectAlternativeNameExtension(hosts.map((value) => ({ type: "dns", value })))],
  });
  const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return { cert: certificate.toString("pem"), key: x509.PemConverter.encode(key, "PRIVATE KEY") };
}
