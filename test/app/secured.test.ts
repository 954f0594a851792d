import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import getPort from "get-port";
import {
  type ElasticsearchProcesses,
  elasticsearchAvailable,
  startElasticsearch,
} from "../../local/elasticsearch/process";
import { Guard, writeSecret } from "../elasticsearch/guard";
import { Secured } from "../elasticsearch/secured";
import { recordFigures } from "../figures";
import { type Captured, find } from "../unit/graph";

const PACKAGE = join(__dirname, "../../app/api");
const SECRET = "kubernetes:core/v1:Secret";

const dataOf = (graph: Captured[], part: string): Record<string, string> =>
  find(graph, SECRET, `elasticsearch-security-${part}`).inputs.data;

/**
 * The component's own files and users, true passwords and certificates, and a real Elasticsearch process; only its security,
 * whose module no registry has, is played by test/elasticsearch/guard.ts as documented.
 */
describe("Elasticsearch's security, with real clients", function () {
  this.timeout(4 * 60_000);
  const root = mkdtempSync(join(tmpdir(), "hobnob-secured-"));
  const secured = new Secured();
  const running: ChildProcess[] = [];
  let graph: Captured[];

  const nodes = join(root, "nodes");
  /** A folder with a client's Secret, as its pod has it mounted. */
  function mounted(from: Captured[], client: string, changes: Record<string, string> = {}): string {
    const folder = mkdtempSync(join(root, `${client}-`));
    const encoded = Object.fromEntries(
      Object.entries(changes).map(([name, value]) => [name, Buffer.from(value).toString("base64")]),
    );
    writeSecret(folder, { ...dataOf(from, client), ...encoded });
    return folder;
  }

  before(async () => {
    await secured.start();
    graph = await secured.graph([1]);
    writeSecret(nodes, dataOf(graph, "nodes"));
  });

  after(async () => {
    for (const child of running) if (child.exitCode === null) child.kill("SIGKILL");
    await secured.stop();
    rmSync(root, { recursive: true, force: true });
  });

  describe("a node's probe", () => {
    const POD_IP = "127.0.77.1";
    let elasticsearch: ReturnType<typeof createServer>;
    let guard: Guard;

    before(async () => {
      const answers: Record<string, unknown> = {
        "/_cluster/state/master_node": { cluster_uuid: "the-cluster", master_node: "m" },
        "/_nodes/_local/jvm": { nodes: { m: { jvm: { start_time_in_millis: 1 } } } },
        "/_cluster/health": { status: "green" },
        "/_all/_settings/index.unassigned.node_left.delayed_timeout": {},
      };
      elasticsearch = createServer((request, response) => {
        const answer = answers[request.url?.replace(/\?.*/, "") ?? ""];
        response.writeHead(answer ? 200 : 404).end(JSON.stringify(answer ?? {}));
      }).listen(0, "127.0.0.1");
      await once(elasticsearch, "listening");
      const { port } = elasticsearch.address() as AddressInfo;
      guard = await Guard.start(nodes, () => port, { host: POD_IP, port: 9200 });
    });
    after(() => {
      guard?.stop();
      elasticsearch?.close();
    });

    /** The script of the captured ConfigMap with the environment that the pod has, volumes aside. */
    async function probe(env: Record<string, string> = {}, from = graph) {
      const folder = mkdtempSync(join(root, "pod-"));
      const script = join(folder, "ready.sh");
      const files = find(from, "kubernetes:core/v1:ConfigMap").inputs.data;
      for (const [name, text] of Object.entries<string>(files)) writeFileSync(join(folder, name), text);
      const disk = { DISK: folder, TMPDIR: folder, WHOLE: "green", POD_IP, SECURITY: nodes };
      const child = spawn("bash", [script], { env: { PATH: process.env.PATH, ...disk, ...env } });
      let output = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
      const commands: string[] = [];
      const watch = setInterval(() => {
        execFile("ps", ["-ww", "-o", "args=", "--ppid", String(child.pid)], (_, said) => commands.push(said));
      }, 5);
      const [code] = await once(child, "exit");
      clearInterval(watch);
      return { code, output: output.trim(), commands: commands.join("\n") };
    }

    it("must pass through TLS with its own user, and without a password in any argument", async () => {
      const { code, output, commands } = await probe();
      assert.deepEqual({ code, output }, { code: 0, output: "" });
      assert.deepEqual([...guard.users], ["probe-1"]);
      assert.deepEqual(guard.refused, []);
      const password = /user = "probe-1:(\w{32})"/.exec(readFileSync(join(nodes, "probe.curl"), "utf8"))?.[1];
      assert.ok(password);
      assert.doesNotMatch(commands, new RegExp(password));
    });

    it("must fail without a password, and where another than Elasticsearch answers", async () => {
      const other = new Secured();
      await other.start();
      try {
        const foreign = join(root, "foreign");
        writeSecret(foreign, dataOf(await other.graph([1]), "nodes"));
        const { code, output } = await probe({ SECURITY: foreign });
        assert.deepEqual({ code, output }, { code: 1, output: "Elasticsearch does not answer" });
      } finally {
        await other.stop();
      }
      assert.equal((await probe({ SECURITY: "" })).code, 1, "plain HTTP");
      const anonymous = join(root, "anonymous");
      writeSecret(anonymous, { ...dataOf(graph, "nodes"), "probe.curl": "" });
      const { code } = await probe({ SECURITY: anonymous });
      assert.equal(code, 1);
      assert.match(guard.refused.at(-1) ?? "", /^401 nobody/);
    });

    it("must have its users' files as links that Elasticsearch reads again", async () => {
      const folder = mkdtempSync(join(root, "configure-"));
      const paths = { DISK: join(folder, "disk"), CONFIG: join(folder, "config"), DEFAULTS: join(folder, "defaults") };
      for (const path of Object.values(paths)) mkdirSync(path);
      for (const name of ["users", "users_roles", "roles.yml", "jvm.options"])
        writeFileSync(join(paths.DEFAULTS, name), "# of the image\n");
      const { data } = find(graph, "kubernetes:core/v1:ConfigMap").inputs;
      for (const [name, text] of Object.entries<string>(data)) writeFileSync(join(folder, name), text);
      writeFileSync(join(paths.DISK, ".formed"), "the-cluster\n");
      const env = {
        PATH: process.env.PATH,
        POD_NAME: "elasticsearch-0",
        SCRIPTS: folder,
        SECURITY: "security",
        ...paths,
      };
      const others = { NAMESPACE: "hobnob", IDENTITY: folder, KUBERNETES_API: "http://127.0.0.1:1" };
      // A container that starts again in its pod configures again.
      for (let start = 0; start < 2; start++)
        await promisify(execFile)("bash", [join(folder, "configure.sh")], { env: { ...env, ...others } });
      writeSecret(join(paths.CONFIG, "security"), dataOf(graph, "nodes"));
      const read = (name: string) => readFileSync(join(paths.CONFIG, name), "utf8");
      assert.match(read("users"), /^backend-1:\$2[aby]\$10\$/);
      assert.match(read("roles.yml"), /^backend:/);
      assert.equal(read("jvm.options"), "# of the image\n");
      writeSecret(join(paths.CONFIG, "security"), dataOf(await secured.graph([1, 2]), "nodes"));
      assert.match(read("users"), /^backend-2:/m);
      assert.match(read("users_roles"), /^backend:backend-1,backend-2$/m);
      assert.match(read("security/tls.key"), /^-----BEGIN PRIVATE KEY-----/);
    });
  });

  describe("the API", () => {
    let elasticsearch: ElasticsearchProcesses;
    let guard: Guard;

    before(async function () {
      const reason = await elasticsearchAvailable();
      if (reason) {
        console.log(`      skipped: ${reason}`);
        this.skip();
      }
      await promisify(execFile)("npm", ["run", "--silent", "build"], { cwd: PACKAGE });
      elasticsearch = await startElasticsearch();
      guard = await Guard.start(nodes, () => Number(new URL(elasticsearch.urls[0] ?? "").port));
    });
    after(async () => {
      guard?.stop();
      await elasticsearch?.stop();
    });

    async function start(credentials: string, env: Record<string, string> = {}) {
      const [port, docsPort] = [await getPort(), await getPort()];
      const child = spawn(process.execPath, [join(PACKAGE, "dist/main.js")], {
        env: {
          ...{ PATH: process.env.PATH, HOST: "127.0.0.1", PORT: String(port), DOCS_PORT: String(docsPort) },
          ...{ ELASTICSEARCH_HOSTNAME: "https://localhost", ELASTICSEARCH_PORT: String(guard.port) },
          ...{ ELASTICSEARCH_CREDENTIALS: credentials, DRAIN_SECONDS: "1", RATE_LIMIT: "1000000", ...env },
        },
        stdio: ["ignore", "pipe", "pipe"],
      });
      running.push(child);
      let log = "";
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (log += chunk));
      const url = `http://127.0.0.1:${port}`;
      const status = (path: string, init?: RequestInit) =>
        fetch(url + path, init).then(
          (response) => response.status,
          () => 0,
        );
      return { child, url, status, log: () => log };
    }
    async function untilReady(api: Awaited<ReturnType<typeof start>>) {
      for (let attempt = 0; attempt < 300; attempt++) {
        if ((await api.status("/readyz")) === 200) return;
        assert.equal(api.child.exitCode, null, api.log());
        await sleep(100);
      }
      throw new Error(`never ready:\n${api.log()}`);
    }
    async function stop(api: Awaited<ReturnType<typeof start>>) {
      api.child.kill("SIGTERM");
      await once(api.child, "exit");
    }
    const json = { "content-type": "application/json" };

    it("must do all that it does as a user that may do nothing else", async () => {
      guard.users.clear();
      const api = await start(mounted(graph, "backend"));
      await untilReady(api);
      const created = await fetch(`${api.url}/users`, {
        method: "POST",
        headers: json,
        body: JSON.stringify({ id: "ada", name: "Ada Lovelace" }),
      });
      assert.equal(created.status, 201);
      const { token } = (await created.json()) as { token: string };
      const owner = { ...json, authorization: `Bearer ${token}` };
      assert.equal(await api.status("/users/ada"), 200);
      assert.equal(await api.status("/users?query=ada"), 200);
      const body = JSON.stringify({ about: "Wrote the first program" });
      assert.equal(await api.status("/users/ada", { method: "PATCH", headers: owner, body }), 200);
      assert.equal(
        await api.status("/users/ada", { method: "DELETE", headers: { authorization: owner.authorization } }),
        204,
      );
      assert.equal(await api.status("/users/ada"), 404);
      assert.deepEqual([...guard.users], ["backend-1"]);
      assert.deepEqual(
        guard.refused.filter((line) => line.startsWith("403")),
        [],
      );
      const password = readFileSync(join(mounted(graph, "backend"), "password"), "utf8");
      const direct = (path: string, init: RequestInit = {}) =>
        fetchTls(guard.port, path, `backend-1:${password}`, dataOf(graph, "backend")["ca.crt"] ?? "", init.method);
      assert.equal(await direct("/users-1", { method: "DELETE" }), 403, "its own index");
      assert.equal(await direct("/others/_search"), 403, "another index");
      assert.equal(await direct("/_nodes"), 403, "the nodes");
      assert.doesNotMatch(api.log(), new RegExp(password));
      await stop(api);
    });

    it("must not be ready, answer 503, and tell no password, where Elasticsearch or it is another than it says", async () => {
      const wrong: Record<string, Record<string, string>> = {
        "an authority of its own": { "ca.crt": Buffer.from(OTHER_AUTHORITY).toString() },
        "another password": { password: "not-the-password" },
        "an unknown user": { username: "backend-9" },
      };
      for (const [title, changes] of Object.entries(wrong)) {
        const api = await start(mounted(graph, "backend", changes));
        for (let attempt = 0; attempt < 100 && (await api.status("/healthz")) !== 200; attempt++) await sleep(50);
        assert.equal(await api.status("/readyz"), 503, title);
        assert.equal(await api.status("/users/ada"), 503, title);
        const { password } = Object.fromEntries(
          Object.entries(dataOf(graph, "backend")).map(([name, value]) => [
            name,
            Buffer.from(value, "base64").toString(),
          ]),
        );
        assert.ok(!api.log().includes(password ?? "") && !api.log().includes("not-the-password"), title);
        await stop(api);
      }
    });

    it("must not start where it would send its password in the clear, or where a file of it is missing", async () => {
      const open = await start(mounted(graph, "backend"), { ELASTICSEARCH_HOSTNAME: "http://localhost" });
      assert.equal((await once(open.child, "exit"))[0], 1);
      assert.match(open.log(), /ELASTICSEARCH_HOSTNAME does not start with https:/);
      const none = await start(join(root, "nowhere"));
      assert.equal((await once(none.child, "exit"))[0], 1);
      assert.match(none.log(), /no such file.+nowhere/s);
    });

    it("must lose no request while its password is rotated and the nodes' certificate renewed, and leave the old ones worthless", async () => {
      const [added, given, removed] = [
        await secured.graph([1, 2]),
        await secured.graph([2, 1]),
        await secured.graph([2]),
      ] as const;
      let current = await start(mounted(graph, "backend"));
      await untilReady(current);
      const sent = { ok: 0, failed: 0 };
      let isOver = false;
      const load = Promise.all(
        Array.from({ length: 4 }, async () => {
          while (!isOver) {
            const { url } = current;
            const status = await fetch(`${url}/users?limit=1`).then(
              async (response) => {
                await response.text();
                return response.status;
              },
              () => 0,
            );
            sent[status === 200 ? "ok" : "failed"]++;
            await sleep(5);
          }
        }),
      );
      guard.refused.length = 0;
      await sleep(300);
      writeSecret(nodes, dataOf(added, "nodes"));
      await sleep(300);
      writeSecret(nodes, dataOf(given, "nodes"));
      const next = await start(mounted(given, "backend"));
      await untilReady(next);
      const old = current;
      current = next;
      await stop(old);
      assert.deepEqual(guard.refused, [], "somebody was refused while both were to be accepted");
      writeSecret(nodes, dataOf(removed, "nodes"));
      await sleep(300);
      secured.expire();
      const renewed = await secured.graph([2]);
      assert.notEqual(dataOf(renewed, "nodes")["tls.crt"], dataOf(removed, "nodes")["tls.crt"]);
      assert.equal(dataOf(renewed, "nodes")["tls.key"], dataOf(removed, "nodes")["tls.key"]);
      writeSecret(nodes, dataOf(renewed, "nodes"));
      await sleep(300);
      // New connections only: of a client that knows the old authority's certificate, and of one that knows the renewed.
      const password = Buffer.from(dataOf(renewed, "backend").password ?? "", "base64").toString();
      for (const known of [given, renewed]) {
        const ca = dataOf(known, "backend")["ca.crt"] ?? "";
        assert.equal(await fetchTls(guard.port, "/_cluster/health", `backend-2:${password}`, ca), 200);
      }
      isOver = true;
      await load;
      assert.deepEqual(guard.refused, []);
      const formerly = Buffer.from(dataOf(graph, "backend").password ?? "", "base64").toString();
      const ca = dataOf(renewed, "backend")["ca.crt"] ?? "";
      assert.equal(await fetchTls(guard.port, "/_cluster/health", `backend-1:${formerly}`, ca), 401);
      recordFigures("elasticsearch-security", {
        "requests during a rotation": sent.ok + sent.failed,
        failed: sent.failed,
      });
      assert.equal(sent.failed, 0);
      assert.ok(sent.ok > 100, String(sent.ok));
      await stop(current);
    });
  });
});

/** Status of a request over a new TLS connection; the authority as a Secret has it. */
async function fetchTls(port: number, path: string, user: string, ca: string, method = "GET"): Promise<number> {
  const { Agent, request } = await import("undici");
  const dispatcher = new Agent({ connect: { ca: Buffer.from(ca, "base64").toString(), servername: "elasticsearch" } });
  const headers = { authorization: `Basic ${Buffer.from(user).toString("base64")}` };
  try {
    const answer = await request(`https://127.0.0.1:${port}${path}`, { method: method as "GET", dispatcher, headers });
    await answer.body.dump();
    return answer.statusCode;
  } finally {
    await dispatcher.close();
  }
}

/** Of nobody here: Node's own first one. */
const OTHER_AUTHORITY = require("node:tls").rootCertificates[0] as string;
