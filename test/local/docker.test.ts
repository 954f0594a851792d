import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { version } from "@pulumi/docker/package.json";
import bcrypt from "bcryptjs";
import getPort from "get-port";
import { stringify } from "yaml";
import { packLayer } from "../../local/providers/docker/context";
import { obtainTools } from "../../local/tools";
import { type Bag, Plugin, UNKNOWN } from "./plugin";

const image = "docker:index/image:Image";

describe("the simulated docker plugin", function () {
  this.timeout(30_000);
  const root = mkdtempSync(join(tmpdir(), "hobnob-docker-test-"));
  const context = join(root, "app");
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  };
  /** A PATH without docker, whatever the machine has. */
  const path = join(root, "bin");
  let plugin: Plugin;
  let registry: ChildProcess;
  let server: string;

  const inputs = (extra: Bag = {}, build: Bag = {}) => ({
    imageName: `${server}/acme/backend:latest`,
    build: { context: "app", platform: "linux/amd64", ...build },
    registry: { server, username: "hobnob", password: "right" },
    ...extra,
  });
  const start = () => plugin.configure({});

  before(async () => {
    write("app/Dockerfile", "FROM scratch\nCOPY . .\n");
    write("app/.dockerignore", "*.md\nnode_modules\n!node_modules/kept\n");
    write("app/index.js", "1");
    write("app/src/a.js", "a");
    mkdirSync(path);
    symlinkSync(process.execPath, join(path, "node"));
    symlinkSync("/usr/bin/dirname", join(path, "dirname"));
    plugin = await Plugin.start("docker", { cwd: root, env: { ...process.env, PATH: path } });

    const port = await getPort();
    server = `127.0.0.1:${port}`;
    write("registry/htpasswd", `hobnob:${bcrypt.hashSync("right", 4)}\n`);
    const config = {
      version: 0.1,
      log: { level: "error", accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(root, "registry/data") } },
      auth: { htpasswd: { realm: "test", path: join(root, "registry/htpasswd") } },
      http: { addr: server },
    };
    write("registry/config.yml", stringify(config));
    const tools = await obtainTools(["registry"]);
    registry = spawn(tools.registry.path, ["serve", join(root, "registry/config.yml")], { stdio: "ignore" });
    while (!(await fetch(`http://${server}/v2/`).catch(() => undefined))) await setTimeout(50);
  });
  after(async () => {
    await plugin.stop();
    registry.kill();
    await once(registry, "exit");
    rmSync(root, { recursive: true });
  });

  const authorization = `Basic ${Buffer.from("hobnob:right").toString("base64")}`;
  const manifest = (digest: string) =>
    fetch(`http://${server}/v2/acme/backend/manifests/${digest}`, {
      headers: { authorization, accept: "application/vnd.oci.image.manifest.v1+json" },
    });

  it("must have the version of the SDK that the program uses", async () => {
    assert.equal(await plugin.version(), version);
  });

  it("must push for real where no container engine answers, and say that nothing was built", async () => {
    await start();
    const { id, state } = await plugin.create(image, inputs());
    assert.equal(id, `${server}/acme/backend:latest`);
    const { __inputs, repoDigest, ...outputs } = state;
    assert.deepEqual(outputs, {
      imageName: id,
      baseImageName: id,
      context: "app",
      dockerfile: "Dockerfile",
      platform: "linux/amd64",
      registryServer: server,
    });
    assert.match(repoDigest, new RegExp(`^${server.replaceAll(".", "\\.")}/acme/backend@sha256:[0-9a-f]{64}$`));
    const digest = repoDigest.split("@")[1];
    const stored = await manifest(digest);
    assert.equal(stored.status, 200);
    assert.equal(stored.headers.get("docker-content-digest"), digest);
    assert.equal((await manifest("latest")).headers.get("docker-content-digest"), digest);
    assert.deepEqual(
      plugin.logs.map(({ severity }) => severity),
      ["warning"],
    );
    assert.match(plugin.logs[0]?.message ?? "", /^No container engine answers.*cannot run\.$/);
  });

  it("must give the same content the same digest, and other content another one", async () => {
    const first = (await plugin.create(image, inputs())).state.repoDigest;
    utimesSync(join(context, "index.js"), new Date(0), new Date(0));
    write("app/README.md", "ignored");
    assert.equal((await plugin.create(image, inputs())).state.repoDigest, first);
    write("app/index.js", "2");
    assert.notEqual((await plugin.create(image, inputs())).state.repoDigest, first);
    write("app/index.js", "1");
    assert.equal((await plugin.create(image, inputs())).state.repoDigest, first);
  });

  it("must pack what .dockerignore leaves, in the same order everywhere", async () => {
    write("app/node_modules/x/index.js", "x");
    write("app/node_modules/kept/index.js", "k");
    const layer = (await packLayer(context, join(context, "Dockerfile"))).toString("latin1");
    assert.equal(layer.slice(136, 147), "00000000000", "no time of the machine in the tar's first header");
    const names = [...layer.matchAll(/app\/[\w./]+/g)].map(([name]) => name);
    assert.deepEqual(names, [
      "app/.dockerignore",
      "app/Dockerfile",
      "app/index.js",
      "app/node_modules/kept/index.js",
      "app/src/a.js",
    ]);
    rmSync(join(context, "node_modules"), { recursive: true });
  });

  it("must rebuild for a changed file, name or mode, and not for an ignored one or a new time", async () => {
    const made = await plugin.create(image, inputs());
    const changes = async () => (await plugin.diff(image, made, inputs())).changes;
    assert.deepEqual(await changes(), {});
    write("app/CHANGELOG.md", "ignored");
    write("app/node_modules/x.js", "ignored");
    utimesSync(join(context, "src/a.js"), new Date(0), new Date(0));
    assert.deepEqual(await changes(), {});
    write("app/src/a.js", "b");
    assert.deepEqual(await changes(), { "build.contextDigest": "update" });
    write("app/src/a.js", "a");
    chmodSync(join(context, "src/a.js"), 0o755);
    assert.deepEqual(await changes(), { "build.contextDigest": "update" });
    chmodSync(join(context, "src/a.js"), 0o644);
    write("app/src/b.js", "");
    assert.deepEqual(await changes(), { "build.contextDigest": "update" });
    rmSync(join(context, "src/b.js"));
    assert.deepEqual(await changes(), {});
  });

  it("must rebuild for another platform, argument or name, and not for other credentials", async () => {
    const made = await plugin.create(image, inputs());
    const changes = async (extra: Bag, build: Bag = {}) =>
      (await plugin.diff(image, made, inputs(extra, build))).changes;
    assert.deepEqual(await changes({ registry: { server, username: "other", password: "changed" } }), {});
    assert.deepEqual(await changes({}, { platform: "linux/arm64" }), { "build.platform": "update" });
    assert.deepEqual(await changes({}, { args: { A: "1" } }), { "build.args": "add" });
    assert.deepEqual(await changes({ imageName: `${server}/acme/other` }), { imageName: "update" });
  });

  it("must keep the password out of everything but secrets", async () => {
    const secret = { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", value: "right" };
    const { state } = await plugin.create(
      image,
      inputs({ registry: { server, username: "hobnob", password: secret } }),
    );
    assert.equal(state.__inputs["4dabf18193072939515e22adb298388d"], "1b47061264138c4ac30d75fd1eb44270");
    assert.ok(!JSON.stringify({ ...state, __inputs: undefined }).includes("right"));
  });

  it("must not know the digest in a preview", async () => {
    const planned = await plugin.create(image, inputs(), { preview: true });
    assert.equal(planned.state.repoDigest, undefined);
    assert.equal(planned.state.imageName, `${server}/acme/backend:latest`);
    const unknown = await plugin.check(image, inputs({ registry: { server, username: "hobnob", password: UNKNOWN } }));
    assert.equal(unknown.registry.password, UNKNOWN);
  });

  it("must be refused with a wrong or a missing password, in docker's words", async () => {
    const wrong = { server, username: "hobnob", password: "wrong" };
    await assert.rejects(plugin.create(image, inputs({ registry: wrong })), {
      message: "unauthorized: authentication required",
    });
    await assert.rejects(plugin.create(image, inputs({ registry: undefined })), {
      message: "no basic auth credentials",
    });
  });

  it("must refuse an image without its registry, and a Dockerfile that is not there, with a hint where it is", async () => {
    await assert.rejects(
      plugin.check(image, inputs({ imageName: "acme/backend" })),
      /all image names to be fully qualified/,
    );
    await assert.rejects(plugin.check(image, inputs({}, { dockerfile: "Dockerfile" })), {
      message: 'could not open dockerfile at relative path Dockerfile. Try setting `dockerfile` to "app/Dockerfile"',
    });
    await assert.rejects(plugin.check(image, inputs({}, { dockerfile: "Nope" })), {
      message: "could not open dockerfile at relative path Nope: stat Nope: no such file or directory",
    });
  });

  describe("with a registry that gives tokens", () => {
    let hub: Server;
    let domain: string;
    const seen: string[] = [];

    before(async () => {
      hub = createServer((request, response) => {
        const [place = "", query = ""] = (request.url ?? "").split("?");
        const answer = (status: number, body: Bag = {}, headers: Record<string, string> = {}) =>
          response.writeHead(status, headers).end(request.method === "HEAD" ? undefined : JSON.stringify(body));
        request.resume();
        if (place === "/token") {
          seen.push(new URLSearchParams(query).get("scope") ?? "");
          const [user, password] = Buffer.from((request.headers.authorization ?? "").slice(6), "base64")
            .toString()
            .split(":");
          return password === "right" ? answer(200, { token: user }) : answer(401);
        }
        const token = request.headers.authorization?.replace("Bearer ", "");
        if (!token) {
          const challenge = `Bearer realm="http://${domain}/token",service="test"`;
          return answer(
            401,
            { errors: [{ code: "UNAUTHORIZED", message: "authentication required" }] },
            { "www-authenticate": challenge },
          );
        }
        if (place === "/v2/") return answer(200);
        if (token !== "owner") {
          return answer(403, { errors: [{ code: "DENIED", message: "requested access to the resource is denied" }] });
        }
        if (request.method === "HEAD") return answer(404);
        return answer(request.method === "POST" ? 202 : 201, {}, { location: "/upload" });
      });
      hub.listen(0, "127.0.0.1");
      await once(hub, "listening");
      domain = `127.0.0.1:${(hub.address() as AddressInfo).port}`;
    });
    after(() => {
      hub.closeAllConnections();
      hub.close();
    });

    const push = (username: string, password: string) =>
      plugin.create(image, {
        imageName: `${domain}/acme/backend:1`,
        build: { context: "app", platform: "linux/amd64" },
        registry: { server: domain, username, password },
      });

    it("must ask for a token for its repository and push with it", async () => {
      const { state } = await push("owner", "right");
      assert.match(state.repoDigest, /\/acme\/backend@sha256:/);
      assert.deepEqual(seen, ["repository:acme/backend:pull,push"]);
    });

    it("must be refused in docker's words: no such password, no such right", async () => {
      await assert.rejects(push("owner", "wrong"), { message: "unauthorized: incorrect username or password" });
      await assert.rejects(push("guest", "right"), { message: "denied: requested access to the resource is denied" });
    });
  });

  describe("with a container engine", () => {
    const calls = join(root, "calls");
    const temporary = join(root, "tmp");
    let withDocker: Plugin;

    before(async () => {
      write(
        "docker/docker",
        `#!/bin/sh
echo "$* | $(ls $DOCKER_CONFIG 2>/dev/null | tr '\\n' ' ')| $(cat $DOCKER_CONFIG/config.json 2>/dev/null)" >> ${calls}
case "$1 $2" in
  "info --format") echo 29.0 ;;
  "image inspect") echo '["acme/backend@sha256:${"a".repeat(64)}"]' ;;
  "push docker.io/acme/refused:1") echo "denied: requested access to the resource is denied" >&2; exit 1 ;;
esac
`,
      );
      chmodSync(join(root, "docker/docker"), 0o755);
      mkdirSync(temporary);
      const env = {
        ...process.env,
        PATH: `${join(root, "docker")}:${process.env.PATH}`,
        DOCKER_CONFIG: join(root, "none"),
        TMPDIR: temporary,
      };
      withDocker = await Plugin.start("docker", { cwd: root, env });
    });
    after(() => withDocker.stop());
    beforeEach(() => rmSync(calls, { force: true }));

    const create = (name: string) =>
      withDocker.create(image, {
        imageName: `docker.io/acme/${name}:1`,
        build: {
          context: "app",
          platform: "linux/amd64",
          args: { A: "1" },
          cacheFrom: { images: [`docker.io/acme/${name}:1`] },
        },
        registry: { server: "docker.io", username: "acme", password: "right" },
      });

    it("must build and push with it, the credentials only in a directory that is gone afterwards", async () => {
      const { state } = await create("backend");
      assert.equal(state.repoDigest, `acme/backend@sha256:${"a".repeat(64)}`);
      const auth = Buffer.from("acme:right").toString("base64");
      const config = `config.json | {"auths":{"https://index.docker.io/v1/":{"auth":"${auth}"}}}`;
      const lines = readFileSync(calls, "utf8").trim().split("\n");
      assert.deepEqual(lines.slice(2), [
        `build --file app/Dockerfile --tag docker.io/acme/backend:1 --platform linux/amd64 --build-arg A=1 --cache-from docker.io/acme/backend:1 app | ${config}`,
        `push docker.io/acme/backend:1 | ${config}`,
        `image inspect --format {{json .RepoDigests}} docker.io/acme/backend:1 | ${config}`,
      ]);
      assert.deepEqual(leftovers(), []);
      assert.deepEqual(withDocker.logs, []);
    });

    it("must fail with docker's own words, and leave no credentials behind", async () => {
      await assert.rejects(create("refused"), { message: "denied: requested access to the resource is denied" });
      assert.deepEqual(leftovers(), []);
    });

    const leftovers = () => readdirSync(temporary).filter((name) => name.startsWith("hobnob-"));
  });
});
