import "reflect-metadata";
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import dockerignore from "@balena/dockerignore";
import * as x509 from "@peculiar/x509";
import getPort from "get-port";

const PROGRAM = join(__dirname, "../program");

describe("kubia's program", function () {
  this.timeout(30_000);
  const directory = mkdtempSync(join(tmpdir(), "hobnob-kubia-"));
  const running: ChildProcess[] = [];

  /** One of its jobs, with what it has printed so far. */
  function run(job: string, env: Record<string, string>) {
    const args = ["--import", "tsx", join(PROGRAM, "src/main.ts"), job];
    const child = spawn(process.execPath, args, { env: { PATH: process.env.PATH ?? "", HOST: "127.0.0.1", ...env } });
    running.push(child);
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text) => (said += text));
    return { child, said: () => said };
  }

  /** Its answer, as soon as it listens. */
  async function ask(port: number, path: string, method = "GET"): Promise<{ status: number; text: string }> {
    for (let attempt = 0; ; attempt++) {
      try {
        const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
        return { status: response.status, text: await response.text() };
      } catch (error) {
        if (attempt === 100) throw error;
        await sleep(100);
      }
    }
  }

  const stop = async (child: ChildProcess) => {
    child.kill("SIGTERM");
    return (await once(child, "exit"))[0];
  };

  after(() => {
    for (const child of running) child.kill("SIGKILL");
    rmSync(directory, { recursive: true });
  });

  it("must say as a replica who it is, by variables and by the files that follow them, and end when told to", async () => {
    writeFileSync(join(directory, "labels"), 'app="kubia"');
    writeFileSync(join(directory, "..data"), "the kubelet's own");
    const port = await getPort();
    const { child } = run("replica", {
      PORT: String(port),
      POD_NAME: "kubia-1",
      DOWNWARD: directory,
      SECRET: "not this",
    });
    assert.deepEqual(await ask(port, "/"), { status: 200, text: "You've hit kubia-1\n" });
    writeFileSync(join(directory, "labels"), 'app="kubia",canary="yes"');
    assert.deepEqual(JSON.parse((await ask(port, "/self")).text), {
      env: { POD_NAME: "kubia-1" },
      files: { labels: 'app="kubia",canary="yes"' },
    });
    for (const path of ["/readyz", "/healthz"]) assert.equal((await ask(port, path)).status, 200);
    assert.equal((await ask(port, "/other")).status, 404);
    assert.equal((await ask(port, "/__proto__")).status, 404);
    assert.equal((await ask(port, "/", "POST")).status, 405);
    assert.equal(await stop(child), 0);
  });

  it("must write as fortune another page again and again, whole each time, and end when told to", async () => {
    const { child, said } = run("fortune", { SECONDS: "1", HTML: directory });
    const page = join(directory, "index.html");
    for (let attempt = 0; attempt < 100 && said().split("\n").length < 3; attempt++) await sleep(100);
    assert.match(readFileSync(page, "utf8"), /^<!doctype html><title>Fortune<\/title><p>.+<\/p>\n$/);
    assert.equal(existsSync(`${page}.new`), false);
    assert.equal(await stop(child), 0);
  });

  it("must tell as monitor what is free, and of which machine", async () => {
    const { child, said } = run("monitor", { SECONDS: "1", NODE_NAME: "worker-1" });
    for (let attempt = 0; attempt < 100 && !said().includes("\n"); attempt++) await sleep(100);
    const { node, freeMebibytes, freeShare } = JSON.parse(said().split("\n")[0] ?? "");
    assert.equal(node, "worker-1");
    assert.ok(freeMebibytes > 0 && freeShare > 0 && freeShare < 1, said());
    assert.equal(await stop(child), 0);
  });

  it("must ask as batch until it has its answers, and end; or fail when its time is up", async () => {
    const PORT = String(await getPort());
    const URL = `http://127.0.0.1:${PORT}/`;
    const { child, said } = run("batch", { SECONDS: "20", URL });
    const replica = run("replica", { PORT, POD_NAME: "kubia-1" });
    assert.equal((await once(child, "close"))[0], 0, said());
    assert.deepEqual(JSON.parse(said()).answers, { "You've hit kubia-1": 20 });
    await stop(replica.child);
    const alone = run("batch", { SECONDS: "1", URL });
    assert.equal((await once(alone.child, "close"))[0], 1);
  });

  it("must refuse what is no job, or no time", async () => {
    const unknown = run("bath", {});
    assert.equal((await once(unknown.child, "close"))[0], 2);
    assert.equal(unknown.said(), "Given: bath; allowed: ambassador, batch, fortune, monitor, pods, replica\n");
    const timeless = run("batch", { SECONDS: "soon", URL: "http://127.0.0.1:1/" });
    assert.notEqual((await once(timeless.child, "close"))[0], 0);
    assert.match(timeless.said(), /SECONDS is soon; allowed: 1 to 99999/);
  });

  describe("ambassador and the list of pods", () => {
    let apiServer: Server;
    let ports: { api: number; ambassador: number; list: number };
    const asked: { method?: string; url?: string; authorization?: string }[] = [];

    before("start both before an API server that only they know", async () => {
      const { ca, key } = await selfSigned();
      apiServer = createServer({ cert: ca, key }, ({ method, url, headers }, response) => {
        asked.push({ method, url, authorization: headers.authorization });
        const isAllowed = headers.authorization === "Bearer second";
        const items = [{ metadata: { name: "kubia-1" }, status: { phase: "Running" } }];
        response.writeHead(isAllowed ? 200 : 401, { "content-type": "application/json" });
        response.end(JSON.stringify(isAllowed ? { items } : { message: "Unauthorized" }));
      }).listen(0, "127.0.0.1");
      await once(apiServer, "listening");
      writeFileSync(join(directory, "ca.crt"), ca);
      writeFileSync(join(directory, "token"), "first\n");
      ports = { api: (apiServer.address() as AddressInfo).port, ambassador: await getPort(), list: await getPort() };
      const AMBASSADOR_PORT = String(ports.ambassador);
      const server = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(ports.api) };
      run("ambassador", { ...server, AMBASSADOR_PORT, IDENTITY: directory });
      run("pods", { AMBASSADOR_PORT, PORT: String(ports.list), NAMESPACE: "kubia" });
      await ask(ports.ambassador, "/version");
    });
    after(() => apiServer.close());

    it("must pass on that the API server refuses it, and be right again with the next token", async () => {
      const refused = await ask(ports.list, "/");
      assert.deepEqual(refused, {
        status: 502,
        text: 'The ambassador answered 401: {"message":"Unauthorized"}\n',
      });
      assert.equal((await ask(ports.list, "/healthz")).status, 200);
      writeFileSync(join(directory, "token"), "second\n");
      assert.deepEqual(JSON.parse((await ask(ports.list, "/")).text), [{ name: "kubia-1", phase: "Running" }]);
      assert.deepEqual(asked.at(-1), {
        method: "GET",
        url: "/api/v1/namespaces/kubia/pods",
        authorization: "Bearer second",
      });
    });

    it("must let nothing be changed, whatever its own rights", async () => {
      const before = asked.length;
      for (const method of ["POST", "DELETE", "PATCH"])
        assert.equal((await ask(ports.ambassador, "/api/v1/namespaces/kubia/pods/a", method)).status, 405);
      assert.equal(asked.length, before);
    });

    it("must not speak with a server that another authority vouches for", async () => {
      const port = await getPort();
      const folder = mkdtempSync(join(directory, "other-"));
      writeFileSync(join(folder, "ca.crt"), (await selfSigned()).ca);
      writeFileSync(join(folder, "token"), "second");
      const server = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: String(ports.api) };
      run("ambassador", { ...server, AMBASSADOR_PORT: String(port), IDENTITY: folder });
      const before = asked.length;
      const { status, text } = await ask(port, "/version");
      assert.equal(status, 502);
      assert.match(text, /certificate/);
      assert.equal(asked.length, before);
    });
  });

  it("must have an image of its sources alone, on the API's own base, as no root", () => {
    const ignore = dockerignore().add(readFileSync(join(PROGRAM, ".dockerignore"), "utf8"));
    const files = ["package.json", "package-lock.json", ".npmrc", "tsconfig.json", "src/main.ts"];
    assert.deepEqual(ignore.filter([...files, "README.md", "dist/main.js", ".env"]), files);
    const dockerfile = (folder: string) => readFileSync(join(folder, "Dockerfile"), "utf8");
    const bases = (text: string) => text.match(/^FROM \S+/gm);
    const own = dockerfile(PROGRAM);
    assert.deepEqual(bases(own), bases(dockerfile(join(__dirname, "../../../app/api"))));
    assert.match(own.slice(own.lastIndexOf("FROM ")), /^USER 10001$/m);
  });
});

async function selfSigned(): Promise<{ ca: string; key: string }> {
  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=API server of the test",
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.SubjectAlternativeNameExtension([{ type: "ip", value: "127.0.0.1" }]),
    ],
  });
  const key = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return { ca: certificate.toString("pem"), key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n` };
}
