import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import * as http from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import dockerignore from "@balena/dockerignore";
import { buildSite, PACKAGE, run, startSite, stopSite } from "./site";

const API_URL = "https://api.example.com";

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

/** Unlike fetch, it sends any path and Host, and leaves a body as it came. */
function ask(url: string, path: string, headers: http.OutgoingHttpHeaders = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url);
    const request = http.get({ hostname, port, path, headers, agent: false }, async (response) => {
      const body = Buffer.concat(await response.toArray());
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body });
    });
    request.on("error", reject);
  });
}

describe("front end's server", function () {
  this.timeout(60_000);
  let site: Awaited<ReturnType<typeof startSite>>;
  let asset: string;

  before("build it and start it", async () => {
    await buildSite();
    site = await startSite({ API_URL, PUBLIC_URL: "https://www.example.com", REDIRECT_HOST: "example.com" });
    const { body } = await ask(site.url, "/");
    asset = /src="(\/assets\/main-[A-Z0-9]{8}\.js)"/.exec(String(body))?.[1] ?? "";
    assert.notEqual(asset, "");
  });
  after(() => site && stopSite(site));

  describe("its image", () => {
    it("must be made of its sources alone: no other file may cause a new one", () => {
      const ignore = dockerignore().add(readFileSync(join(PACKAGE, ".dockerignore"), "utf8"));
      const files = [
        ...["package.json", "package-lock.json", ".npmrc", "tsconfig.json", "build.mjs"],
        ...["src/main.ts", "page/index.html"],
      ];
      const others = ["README.md", "node_modules/fastify/package.json", "dist/main.js", ".env", "a.log"];
      assert.deepEqual(ignore.filter([...files, ...others]), files);
    });

    it("must be of pinned parts, the API's own, run as no root, and hand SIGTERM to the process itself", () => {
      const dockerfile = (folder: string) => readFileSync(join(folder, "Dockerfile"), "utf8");
      const bases = (text: string) => text.match(/^FROM \S+/gm);
      const own = dockerfile(PACKAGE);
      assert.deepEqual(bases(own), bases(dockerfile(join(__dirname, "../../../app/api"))));
      const last = own.slice(own.lastIndexOf("FROM "));
      assert.match(last, /^USER 10001$/m);
      assert.match(last, /^CMD \["node", "dist\/main\.js"\]$/m);
    });

    it("must know no stage: the API's address is told by the settings alone", async () => {
      assert.deepEqual(JSON.parse(String((await ask(site.url, "/config.json")).body)), { apiUrl: API_URL });
      const other = await startSite({ API_URL: "http://api.other.test:8080" });
      const { body, headers } = await ask(other.url, "/config.json");
      await stopSite(other);
      assert.deepEqual(JSON.parse(String(body)), { apiUrl: "http://api.other.test:8080" });
      assert.match(String(headers["content-security-policy"]), /connect-src 'self' http:\/\/api\.other\.test:8080;/);
    });
  });

  it("must let only its own files run and be shown, and only the API be asked, whatever the answer", async () => {
    for (const path of ["/", asset, "/config.json", "/nothing", "/healthz", "/%"]) {
      const { headers } = await ask(site.url, path);
      assert.equal(
        headers["content-security-policy"],
        `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ${API_URL}; ` +
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        path,
      );
      assert.equal(headers["x-content-type-options"], "nosniff");
      assert.equal(headers["referrer-policy"], "no-referrer");
      assert.equal(headers["cross-origin-opener-policy"], "same-origin");
    }
  });

  it("must let assets be kept for ever by their names, and the page never without asking", async () => {
    const kept = await ask(site.url, asset);
    assert.equal(kept.headers["cache-control"], "public, max-age=31536000, immutable");
    for (const path of ["/", "/config.json", "/favicon.svg"])
      assert.equal((await ask(site.url, path)).headers["cache-control"], "no-cache", path);
    const { headers } = await ask(site.url, "/");
    const again = await ask(site.url, "/", { "if-none-match": headers.etag });
    assert.deepEqual([again.status, again.body.length], [304, 0]);
  });

  it("must send each file as small as the client can read it", async () => {
    const plain = await ask(site.url, asset);
    const brotli = await ask(site.url, asset, { "accept-encoding": "gzip, br" });
    const gzip = await ask(site.url, asset, { "accept-encoding": "gzip" });
    assert.deepEqual([brotli.headers["content-encoding"], gzip.headers["content-encoding"]], ["br", "gzip"]);
    assert.deepEqual(brotliDecompressSync(brotli.body), plain.body);
    assert.deepEqual(gunzipSync(gzip.body), plain.body);
    assert.match(String(brotli.headers.vary), /accept-encoding/);
    const files = readdirSync(join(PACKAGE, "dist/page"), { recursive: true, withFileTypes: true });
    const whole = files.filter(({ name }) => name.endsWith(".br"));
    const bytes = whole.map((file) => readFileSync(join(file.parentPath, file.name)).length);
    assert.ok(bytes.reduce((sum, size) => sum + size) < 10_000, `${bytes} bytes`);
  });

  it("must serve the page's files and no other", async () => {
    const paths = ["/main.js", "/../main.js", "/%2e%2e/main.js", "/assets/../../main.js", "/assets/", `${asset}.br`];
    for (const path of paths) assert.equal((await ask(site.url, path)).status, 404, path);
    const post = await fetch(`${site.url}/`, { method: "POST", body: "x" });
    assert.equal(post.status, 404);
  });

  it("must send who comes by the bare domain to the page's home, and nobody else anywhere", async () => {
    const there = await ask(site.url, "/?query=ada", { host: "example.com" });
    assert.deepEqual([there.status, there.headers.location], [308, "https://www.example.com/?query=ada"]);
    const odd = await ask(site.url, "@evil.test/", { host: "example.com" }).catch(() => undefined);
    assert.ok([undefined, "https://www.example.com/"].includes(odd?.headers.location), odd?.headers.location);
    for (const host of ["www.example.com", "127.0.0.1", "evil.test"])
      assert.equal((await ask(site.url, "/", { host })).status, 200, host);
  });

  it("must name every wrong setting before it listens, without a stack", async () => {
    const { process, output } = run({ API_URL: "api.example.com", PORT: "http" });
    const [code] = await once(process, "close");
    assert.deepEqual(
      [code, output()],
      [
        1,
        [
          "Wrong settings in the environment:",
          '  API_URL is "api.example.com", but must match pattern "^https?://[\\w.-]+(:\\d+)?$"',
          '  PORT is "http", but must be integer',
          "",
        ].join("\n"),
      ],
    );
    const missing = run({});
    await once(missing.process, "close");
    assert.equal(missing.output(), "Wrong settings in the environment:\n  API_URL is missing\n");
  });

  it("must lose no request while it stops, and hand its clients on", async () => {
    const stopping = await startSite({ API_URL, DRAIN_SECONDS: "2" });
    const closed = once(stopping.process, "close");
    stopping.process.kill("SIGTERM");
    const statuses: (number | undefined)[] = [];
    for (const end = Date.now() + 1_500; Date.now() < end; await sleep(20)) {
      const { status, headers } = await ask(stopping.url, "/", { connection: "keep-alive" });
      statuses.push(status);
      if (statuses.length > 5) assert.equal(headers.connection, "close");
    }
    assert.deepEqual([...new Set(statuses)], [200]);
    assert.equal((await ask(stopping.url, "/readyz")).status, 503);
    assert.equal((await ask(stopping.url, "/healthz")).status, 200);
    assert.deepEqual(await closed, [0, null]);
  });
});
