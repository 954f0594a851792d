import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import getPort from "get-port";
import { imageOf } from "../../../local/kubelet/images";
import { mariadbAvailable, startMariadb } from "../../../local/mariadb/process";
import { obtainTools } from "../../../local/tools";

const token = "a token of the test";
const password = "a password of the test";

/** The real programs between real servers, on a small site of this machine. */
describe("the crawler's programs", function () {
  this.timeout(120_000);
  const directory = mkdtempSync(join(tmpdir(), "crawler-"));
  const oldState = process.env.HOBNOB_LOCAL_STATE;
  const cleanups: (() => unknown)[] = [];
  const workers: Running[] = [];
  let master: Running;
  let folder: string;
  let site: string;
  let api: string;
  let configFile: string;
  /** Requests to the site's slow page that wait for an answer. */
  let slow: ServerResponse[] = [];
  let seen: string[] = [];

  before(async function () {
    const missing = await mariadbAvailable();
    if (missing) {
      console.log(`    skipped: ${missing}`);
      this.skip();
    }
    process.env.HOBNOB_LOCAL_STATE = directory;
    const [files, database, etcd, web] = await Promise.all([
      imageOf("registry/hobnob/crawler@sha256:0")?.files("registry/hobnob/crawler@sha256:0"),
      startMariadb({ rootPassword: password, database: "crawler", user: "crawler", password }),
      startEtcd(),
      startSite(),
    ]);
    cleanups.push(database.stop);
    folder = files?.["/app"] ?? "";
    site = `http://127.0.0.1:${web}`;
    const [http, grpc] = [await getPort(), await getPort()];
    api = `http://127.0.0.1:${http}`;
    configFile = join(directory, "config.toml");
    writeFileSync(
      configFile,
      `[crawl]
allowed_hosts = ["127.0.0.1:${web}"]
allowed_networks = ["127.0.0.0/8"]
timeout_seconds = 20
max_bytes = 10000
[etcd]
address = "127.0.0.1:${etcd}"
lease_seconds = 2
[mysql]
host = "127.0.0.1"
port = ${database.port}
database = "crawler"
user = "crawler"
[master]
address = "127.0.0.1:${grpc}"
http_port = ${http}
grpc_port = ${grpc}
[worker]
http_port = 0
grpc_port = 0
concurrency = 2
`,
    );
    master = run("master");
    for (let count = 0; count < 3; count++) workers.push(run("worker", "--podip=127.0.0.1"));
    await until("the master is ready", async () => (await fetch(`${api}/readyz`)).status === 200);
    await Promise.all(workers.map(({ log }) => until("listening", () => log().includes("Server listening"))));
  });

  after(async () => {
    for (const { child } of [...workers, ...(master ? [master] : [])]) child.kill("SIGKILL");
    for (const cleanup of cleanups.reverse()) await cleanup();
    rmSync(directory, { recursive: true, force: true });
    if (oldState === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = oldState;
  });

  beforeEach(() => {
    slow = [];
    seen = [];
  });

  interface Running {
    child: ChildProcess;
    log(): string;
  }

  function run(...args: string[]): Running {
    const child = spawn(process.execPath, [join(folder, "dist", "main.js"), ...args], {
      env: { ...process.env, CONFIG_FILE: configFile, HOST: "127.0.0.1", MYSQL_PASSWORD: password, API_TOKEN: token },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let log = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (log += chunk));
    return { child, log: () => log };
  }

  async function startEtcd(): Promise<number> {
    const { etcd } = await obtainTools(["etcd"]);
    const [client, peer] = [await getPort(), await getPort()];
    const env = {
      ETCD_DATA_DIR: join(directory, "etcd"),
      ETCD_LISTEN_CLIENT_URLS: `http://127.0.0.1:${client}`,
      ETCD_ADVERTISE_CLIENT_URLS: `http://127.0.0.1:${client}`,
      ETCD_LISTEN_PEER_URLS: `http://127.0.0.1:${peer}`,
    };
    const child = spawn(etcd.path, [], { env, stdio: "ignore" });
    cleanups.push(async () => {
      child.kill();
      await once(child, "exit");
    });
    await until("etcd is ready", async () => (await fetch(`http://127.0.0.1:${client}/readyz`)).ok);
    return client;
  }

  async function startSite(): Promise<number> {
    const server = createServer((request, response) => {
      const path = request.url ?? "";
      seen.push(path);
      const html = (body: string) => response.setHeader("content-type", "text/html; charset=utf-8").end(body);
      if (path.startsWith("/slow")) slow.push(response);
      else if (path === "/")
        html(`<title>Home</title><a href="/one#part">1</a> <a class="x" href='/two'>2</a> <a href="/one">again</a>
          <a href="http://169.254.169.254/metadata">inside</a> <a href="mailto:ada@example.com">mail</a>`);
      else if (path === "/one") html('<title>One</title><a href="/">home</a><a href="/deep">deep</a>');
      else if (path === "/two") response.writeHead(302, { location: "/three" }).end();
      else if (path === "/three") html("<title>Three</title>");
      else if (path === "/away") response.writeHead(302, { location: "http://169.254.169.254/metadata" }).end();
      else if (path === "/large") html("x".repeat(10_001));
      else response.writeHead(404).end();
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    cleanups.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return (server.address() as AddressInfo).port;
  }

  async function until<T>(what: string, ask: () => T | Promise<T>): Promise<NonNullable<T>> {
    for (let left = 400; ; left--) {
      const found = await Promise.resolve(ask()).catch(() => undefined);
      if (found) return found;
      const logs = [master, ...workers].map((each) => each?.log().slice(-1500)).join("\n");
      assert.ok(left > 0, `never: ${what}\n${logs}`);
      await sleep(50);
    }
  }

  const authorization = `Bearer ${token}`;
  const start = (body: object, headers: Record<string, string> = { authorization }) =>
    fetch(`${api}/crawls`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
  // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
  const ask = async (path: string): Promise<any> => (await fetch(api + path, { headers: { authorization } })).json();
  const crawl = async (body: object): Promise<string> => {
    const response = await start(body);
    assert.equal(response.status, 202);
    return ((await response.json()) as { id: string }).id;
  };
  // biome-ignore lint/suspicious/noExplicitAny: rows as the API has them
  const pagesOf = async (id: string): Promise<any[]> => (await ask(`/crawls/${id}/pages`)).pages;
  const finished = (id: string) =>
    until(`crawl ${id} is finished`, async () => {
      const { pages } = await ask(`/crawls/${id}`);
      return pages.queued + pages.assigned === 0 && pages;
    });

  it("must follow a site's links to its depth, each page once, and no link that leaves it", async () => {
    const id = await crawl({ url: `${site}/#top`, maxDepth: 1 });
    assert.deepEqual(await finished(id), { queued: 0, assigned: 0, done: 3, failed: 0 });
    const found = (await pagesOf(id)).map(({ url, depth, status, title }) => [url, depth, status, title]);
    assert.deepEqual(found, [
      [`${site}/`, 0, 200, "Home"],
      [`${site}/one`, 1, 200, "One"],
      [`${site}/two`, 1, 200, "Three"],
    ]);
    assert.deepEqual(seen.sort(), ["/", "/one", "/three", "/two"]);
  });

  it("must fetch no more pages than were asked for", async () => {
    const id = await crawl({ url: `${site}/`, maxPages: 2 });
    assert.deepEqual(await finished(id), { queued: 0, assigned: 0, done: 2, failed: 0 });
  });

  it("must not follow a redirect into the network that it runs in, nor read a page without end", async () => {
    const ids = [await crawl({ url: `${site}/away` }), await crawl({ url: `${site}/large` })];
    for (const id of ids) assert.equal((await finished(id)).failed, 1);
    const errors = (await Promise.all(ids.map(pagesOf))).map(([page]) => page.error);
    assert.deepEqual(errors, ["169.254.169.254 is not one of the allowed hosts", "it is larger than 10000 bytes"]);
  });

  it("must not connect to an allowed name, nor to an address, that is not of the public Internet", async () => {
    const { Fetcher } = await import("../program/src/fetcher");
    const settings = {
      allowed_networks: [],
      max_redirects: 0,
      max_bytes: 1000,
      max_depth: 0,
      max_pages: 1,
      attempts: 1,
    };
    const port = new URL(site).port;
    const inside = ["localhost", "127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[fd00::1]"];
    const allowed_hosts = [...inside.map((host) => `${host}:${port}`), "*.example.com", ...inside];
    const fetcher = new Fetcher({ ...settings, allowed_hosts, timeout_seconds: 2 });
    for (const host of inside)
      await assert.rejects(
        fetcher.fetch(`http://${host}:${port}/`),
        /public address|is not one of the allowed hosts/,
        host,
      );
    assert.deepEqual(seen, []);
    assert.equal(fetcher.refusal("https://www.example.com/"), undefined);
    for (const url of ["https://example.com/", "https://evilexample.com/", "http://www.example.com:8080/"])
      assert.match(fetcher.refusal(url) ?? "", /is not one of the allowed hosts$/);
  });

  it("must refuse crawls of others, beyond its limits, and without its token", async () => {
    const refused = async (body: object) => {
      const response = await start(body);
      return [response.status, ((await response.json()) as { message: string }).message];
    };
    assert.deepEqual(await refused({ url: "http://example.com/" }), [
      400,
      "example.com is not one of the allowed hosts",
    ]);
    assert.deepEqual(await refused({ url: "file:///etc/passwd" }), [400, "file: is neither http: nor https:"]);
    assert.deepEqual(await refused({ url: `http://ada:secret@${site.slice(7)}/` }), [
      400,
      "it holds a user's name or password",
    ]);
    assert.equal((await refused({ url: site, maxDepth: 4 }))[0], 400);
    assert.equal((await start({ url: site }, {})).status, 401);
    assert.equal((await start({ url: site }, { authorization: "Bearer another" })).status, 401);
    for (const path of ["/crawls/some", "/workers"]) assert.equal((await fetch(api + path)).status, 401);
  });

  it("must hand a lost worker's page to another", async () => {
    const id = await crawl({ url: `${site}/slow/lost` });
    await until("the page is asked for", () => slow.length === 1);
    const [{ worker }] = (await pagesOf(id)) as [{ worker: string }];
    const lost = (await workerWith(worker)) as Running;
    lost.child.kill("SIGKILL");
    workers.splice(workers.indexOf(lost), 1);
    await until("another asks for it", () => slow.length === 2);
    slow.at(-1)?.end("found");
    await finished(id);
    const [page] = await pagesOf(id);
    assert.deepEqual([page.state, page.attempt, page.bytes], ["done", 2, 5]);
    assert.notEqual(page.worker, worker);
  });

  it("must count nothing that a worker says of a page that was taken from it, and take it back as a worker", async () => {
    const id = await crawl({ url: `${site}/slow/late` });
    await until("the page is asked for", () => slow.length === 1);
    const [{ worker }] = (await pagesOf(id)) as [{ worker: string }];
    const late = (await workerWith(worker)) as Running;
    late.child.kill("SIGSTOP");
    await until("another asks for it", () => slow.length === 2);
    slow[1]?.end("found");
    await finished(id);
    slow[0]?.end("found by another");
    late.child.kill("SIGCONT");
    await until("the late one has reported", () => master.log().includes("reported too late"));
    const [page] = await pagesOf(id);
    assert.deepEqual([page.state, page.attempt, page.bytes], ["done", 2, 5]);
    assert.notEqual(page.worker, worker);
    await until("it is registered again", async () => (await fetch(`${urlOf(late)}/readyz`)).status === 200);
  });

  it("must finish a worker's pages before it stops, hand it no more, and forget it at once", async () => {
    const id = await crawl({ url: `${site}/slow/stopping` });
    await until("the page is asked for", () => slow.length === 1);
    const [{ worker }] = (await pagesOf(id)) as [{ worker: string }];
    const stopping = (await workerWith(worker)) as Running;
    const exited = once(stopping.child, "exit");
    stopping.child.kill("SIGTERM");
    // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
    const registered = async () => (await ask("/workers")).workers.find((one: any) => one.id === worker);
    await until("it has told that it stops", async () => (await registered()).draining);
    const other = await crawl({ url: `${site}/one`, maxDepth: 0 });
    await finished(other);
    assert.notEqual((await pagesOf(other))[0].worker, worker);
    slow[0]?.end("found");
    assert.deepEqual(await exited, [0, null]);
    assert.equal(await registered(), undefined);
    await finished(id);
    const [page] = await pagesOf(id);
    assert.deepEqual([page.state, page.attempt, page.worker], ["done", 1, worker]);
    workers.splice(workers.indexOf(stopping), 1);
  });

  it("must lose nothing when the master is killed", async () => {
    const id = await crawl({ url: `${site}/slow/master` });
    await until("the page is asked for", () => slow.length === 1);
    master.child.kill("SIGKILL");
    await once(master.child, "exit");
    slow[0]?.end("found");
    master = run("master");
    await until("the new one is ready", async () => (await fetch(`${api}/readyz`)).status === 200);
    assert.equal((await finished(id)).done, 1);
    assert.equal((await pagesOf(id))[0].attempt, 1);
  });

  it("must say what is wrong with its settings, all at once, and end", async () => {
    const own = configFile;
    configFile = join(directory, "wrong.toml");
    try {
      writeFileSync(configFile, "[crawl]\nallowed_hosts = ['a b']\nmax_depht = 1\n[mysql]\n[etcd]\naddress = 'etcd'\n");
      const wrong = run("master");
      assert.deepEqual(await once(wrong.child, "close"), [1, null]);
      for (const part of ["wrong.toml", "crawl.allowed_hosts.0", '"max_depht"', "mysql.host", "must be host:port"])
        assert.ok(wrong.log().includes(part), `${part} is not in ${wrong.log()}`);
      const without = run("worker");
      assert.deepEqual(await once(without.child, "close"), [1, null]);
      assert.match(without.log(), /^the address by which the master finds this worker is missing; usage: /);
    } finally {
      configFile = own;
    }
  });

  const urlOf = (worker: Running) => /Server listening at (http:\S+?)"/.exec(worker.log())?.[1];

  /** A worker tells its id at /status of its HTTP port, which its log names. */
  async function workerWith(id: string): Promise<Running | undefined> {
    for (const worker of workers) {
      const { id: own } = (await (await fetch(`${urlOf(worker)}/status`)).json()) as { id: string };
      if (own === id) return worker;
    }
    return undefined;
  }
});
