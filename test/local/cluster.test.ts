import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiException, CoreV1Api, KubeConfig, VersionApi } from "@kubernetes/client-node";
import {
  adminKubeconfig,
  clusterEndpoint,
  clusterPids,
  createCluster,
  deleteCluster,
  isRunning,
  kubernetesVersion,
  startCluster,
  stopCluster,
} from "../../local/cluster";

describe("embedded cluster", function () {
  this.timeout(180_000);
  const oldState = process.env.HOBNOB_LOCAL_STATE;
  const state = mkdtempSync(join(tmpdir(), "hobnob-cluster-"));
  const tokens: string[] = [];
  let account: Server;
  const accountPort = () => (account.address() as AddressInfo).port;

  before(async () => {
    process.env.HOBNOB_LOCAL_STATE = state;
    account = await startTokenReview(tokens);
    await createCluster({ accountPort: accountPort() });
    await admin().createNamespace({ body: { metadata: { name: "kept" } } });
  });

  after(async () => {
    await deleteCluster();
    account.close();
    rmSync(state, { recursive: true });
    if (oldState === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = oldState;
  });

  it("must run the Kubernetes version that it reports, on this machine's own address only", async () => {
    const { server, caData } = clusterEndpoint();
    assert.match(server, /^https:\/\/127\.0\.0\.1:\d+$/);
    assert.match(Buffer.from(caData, "base64").toString(), /^-----BEGIN CERTIFICATE-----/);
    const { gitVersion } = await bearer("local-version").makeApiClient(VersionApi).getCode();
    assert.equal(gitVersion, `v${await kubernetesVersion()}`);
  });

  it("must ask the account for each token, and refuse the one that it refuses", async () => {
    tokens.length = 0;
    assert.equal((await readKept("local-valid")).metadata?.name, "kept");
    await assert.rejects(() => readKept("local-expired"), isStatus(401));
    assert.deepEqual([...new Set(tokens)], ["local-valid", "local-expired"]);
  });

  it("must leave no process behind when it stops, and start with what was in it, on its own ports", async () => {
    const endpoint = clusterEndpoint();
    const pids = clusterPids();
    assert.equal(pids.length, 5);
    for (const file of readdirSync(pidsDirectory())) rmSync(join(pidsDirectory(), file));
    await stopCluster();
    assert.deepEqual(pids.filter(isAlive), []);
    assert.equal(isRunning(), false);
    await startCluster({ accountPort: accountPort() });
    assert.equal((await admin().readNamespace({ name: "kept" })).status?.phase, "Active");
    assert.deepEqual(clusterEndpoint(), endpoint);
  });

  it("must start after a machine's restart, which kills all and gives their process ids to others", async () => {
    const stranger = spawn("sleep", ["600"]);
    try {
      for (const pid of clusterPids()) process.kill(pid, "SIGKILL");
      for (const file of readdirSync(pidsDirectory())) writeFileSync(join(pidsDirectory(), file), String(stranger.pid));
      assert.equal(isRunning(), false);
      await startCluster({ accountPort: accountPort() });
      assert.equal(clusterPids().length, 5);
      assert.equal(stranger.exitCode ?? stranger.signalCode, null);
      assert.equal((await admin().readNamespace({ name: "kept" })).status?.phase, "Active");
    } finally {
      await endChild(stranger);
    }
  });

  it("must start all again when one of its processes has died", async () => {
    const pids = clusterPids();
    process.kill(pids[0] ?? 0, "SIGKILL");
    await startCluster({ accountPort: accountPort() });
    assert.equal(clusterPids().length, 5);
    assert.deepEqual(pids.filter(isAlive), []);
  });

  it("must take another port when its own has been taken, and the account's new one", async () => {
    const before = new URL(clusterEndpoint().server);
    await stopCluster();
    const squatter = createServer();
    await new Promise<void>((resolve) => squatter.listen(Number(before.port), "127.0.0.1", resolve));
    const moved = await startTokenReview(tokens);
    try {
      await startCluster({ accountPort: (moved.address() as AddressInfo).port });
      const after = new URL(clusterEndpoint().server);
      assert.notEqual(after.port, before.port);
      account.close();
      assert.equal((await readKept("local-moved")).metadata?.name, "kept");
    } finally {
      squatter.close();
      account.close();
      account = moved;
    }
  });

  it("must run beside another clone's, and make an interrupted creation anew", async () => {
    const other = mkdtempSync(join(tmpdir(), "hobnob-cluster-"));
    const first = clusterEndpoint().server;
    try {
      process.env.HOBNOB_LOCAL_STATE = other;
      await createCluster({ accountPort: accountPort() });
      rmSync(join(other, "cluster", "created"));
      await createCluster({ accountPort: accountPort() });
      assert.notEqual(clusterEndpoint().server, first);
      await assert.rejects(() => admin().readNamespace({ name: "kept" }), isStatus(404));
      const pids = clusterPids();
      await deleteCluster();
      assert.deepEqual(pids.filter(isAlive), []);
      assert.deepEqual(readdirSync(other), []);
    } finally {
      process.env.HOBNOB_LOCAL_STATE = state;
      rmSync(other, { recursive: true });
    }
    assert.equal(clusterPids().length, 5);
  });

  it("must say which command creates it where there is none", async () => {
    const empty = mkdtempSync(join(tmpdir(), "hobnob-cluster-"));
    process.env.HOBNOB_LOCAL_STATE = empty;
    try {
      await assert.rejects(
        () => startCluster({ accountPort: accountPort() }),
        new Error("There is no embedded cluster in this clone: npm start creates it."),
      );
    } finally {
      process.env.HOBNOB_LOCAL_STATE = state;
      rmSync(empty, { recursive: true });
    }
  });
});

const pidsDirectory = () => join(adminKubeconfig(), "..", "pids");

function admin(): CoreV1Api {
  const config = new KubeConfig();
  config.loadFromFile(adminKubeconfig());
  return config.makeApiClient(CoreV1Api);
}

/** A client that holds a bearer token, as a user's does. */
function bearer(token: string): KubeConfig {
  const { server, caData } = clusterEndpoint();
  const config = new KubeConfig();
  config.loadFromClusterAndUser({ name: "cluster", server, caData, skipTLSVerify: false }, { name: "user", token });
  return config;
}

const readKept = (token: string) => bearer(token).makeApiClient(CoreV1Api).readNamespace({ name: "kept" });

const isStatus = (code: number) => (error: unknown) => error instanceof ApiException && error.code === code;

/** The account's part: every token but the expired one belongs to an administrator. */
function startTokenReview(tokens: string[]): Promise<Server> {
  const server = createServer((request, response) => {
    if (!request.url?.startsWith("/local/token-review")) return void response.writeHead(404).end();
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      const review = JSON.parse(body);
      tokens.push(review.spec.token);
      const authenticated = review.spec.token !== "local-expired";
      const user = { username: "admin", groups: ["system:masters"] };
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ ...review, status: { authenticated, ...(authenticated && { user }) } }));
    });
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

/** A process that has ended but was not reaped yet is dead. */
function isAlive(pid: number): boolean {
  const { status, stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return status === 0 && !stdout.trim().startsWith("Z");
}

async function endChild(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once("exit", resolve));
  if (child.kill()) await ended;
}
