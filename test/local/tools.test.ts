import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, createServer as createSocketServer } from "node:net";
import { availableParallelism, freemem, tmpdir } from "node:os";
import { join } from "node:path";
import { execaSync } from "execa";
import { create } from "tar";
import { build, type GoModule, pin, pinnedVersion, ToolError } from "../../local/build";
import { download, publishedChecksum } from "../../local/download";
import { catalogue, type Origin, obtain, type Report } from "../../local/tools";

const sha256 = (content: string | Buffer) => createHash("sha256").update(content).digest("hex");
const never = "0".repeat(64);
const goAt = execaSync("go", ["env", "GOCACHE", "GOMODCACHE"], { reject: false });

describe("tools", function () {
  this.timeout(60_000);
  const environment = { ...process.env };
  let scratch: string;
  let servers: Server[];

  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), "hobnob-tools-"));
    servers = [];
    const [GOCACHE, GOMODCACHE] = goAt.failed ? [] : goAt.stdout.split("\n");
    Object.assign(process.env, { XDG_CACHE_HOME: join(scratch, "cache"), GOPROXY: "off", GOCACHE, GOMODCACHE });
    delete process.env.HOBNOB_NO_DOWNLOAD;
  });

  afterEach(async () => {
    for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name];
    Object.assign(process.env, environment);
    for (const server of servers) {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    }
    rmSync(scratch, { recursive: true, force: true });
  });

  /** Answers with `files` by path, or as `listener` does; resolves with the address and the paths that were asked. */
  async function serve(files: Record<string, string | Buffer | RequestListener>) {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      const path = request.url ?? "";
      asked.push(path);
      const file = files[path];
      if (typeof file === "function") file(request, response);
      else if (file === undefined) response.writeHead(404).end();
      else response.end(file);
    });
    servers.push(server);
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
  }

  const into = () => join(scratch, "out");
  const left = () => readdirSync(into());
  const limits = { connect: 300, silence: 300, total: 3000 };

  describe("a download", () => {
    const fetchTool = (url: string, members?: Record<string, string>) =>
      download({ url: `${url}/tool`, checksums: `${url}/sums`, members }, ["tool"], into(), limits);

    it("must give the published file, executable and alone", async () => {
      const { url, asked } = await serve({ "/tool": "content", "/sums": `${sha256("content")}  tool\n` });
      await fetchTool(url);
      assert.equal(readFileSync(join(into(), "tool"), "utf8"), "content");
      assert.equal(statSync(join(into(), "tool")).mode & 0o777, 0o755);
      assert.deepEqual(left(), ["tool"]);
      assert.deepEqual(asked, ["/sums", "/tool"]);
    });

    it("must take nothing but the wanted member out of an archive", async () => {
      mkdirSync(join(scratch, "release"));
      for (const name of ["tool", "other", "README"]) writeFileSync(join(scratch, "release", name), `the ${name}`);
      await create({ gzip: true, file: join(scratch, "tool.tgz"), cwd: scratch }, ["release"]);
      const archive = readFileSync(join(scratch, "tool.tgz"));
      const { url } = await serve({ "/tool": archive, "/sums": sha256(archive) });
      await fetchTool(url, { tool: "release/tool" });
      assert.equal(readFileSync(join(into(), "tool"), "utf8"), "the tool");
      assert.deepEqual(left(), ["tool"]);
      await assert.rejects(fetchTool(url, { tool: "release/missing" }), /^Error: fetched holds no release\/missing$/);
      assert.deepEqual(left(), ["tool"]);
    });

    const stall: RequestListener = (_, response) =>
      void response.writeHead(200, { "content-length": 100 }).write("con");
    const cut: RequestListener = (_, response) => {
      response.writeHead(200, { "content-length": 100 }).write("con");
      setTimeout(() => response.destroy(), 50);
    };
    const bad: [string, Record<string, string | RequestListener>, RegExp][] = [
      [
        "of another checksum",
        { "/tool": "content", "/sums": never },
        /its SHA-256 is ed7002b4.*, the published one 0000/,
      ],
      ["without a checksum", { "/tool": "content", "/sums": `${never}  another` }, /no SHA-256 is published for tool/],
      ["that is not there", { "/sums": never }, /\/tool: 404 Not Found/],
      ["whose checksums are not there", { "/tool": "content" }, /\/sums: 404 Not Found/],
      ["that is cut off", { "/tool": cut, "/sums": never }, /\/tool: other side closed/],
      ["that stalls", { "/tool": stall, "/sums": never }, /\/tool: Body Timeout Error/],
      ["that is never answered", { "/tool": () => {}, "/sums": never }, /\/tool: Headers Timeout Error/],
    ];
    for (const [which, files, message] of bad) {
      it(`must leave nothing of a file ${which}`, async () => {
        const { url } = await serve(files);
        await assert.rejects(fetchTool(url), message);
        assert.deepEqual(left(), []);
      });
    }

    it("must not take longer than its limit in all, however slowly it goes on", async () => {
      const drip: RequestListener = (_, response) => {
        const timer = setInterval(() => response.write("x"), 50);
        response.on("close", () => clearInterval(timer));
      };
      const { url } = await serve({ "/tool": drip, "/sums": never });
      const source = { url: `${url}/tool`, checksums: `${url}/sums` };
      await assert.rejects(download(source, ["tool"], into(), { ...limits, total: 400 }), /aborted due to timeout/);
      assert.deepEqual(left(), []);
    });

    it("must ask a host that did not answer only once", async () => {
      const closed = createSocketServer();
      await new Promise<void>((listening) => closed.listen(0, "127.0.0.1", listening));
      const host = `127.0.0.1:${(closed.address() as AddressInfo).port}`;
      await new Promise((done) => closed.close(done));
      await assert.rejects(fetchTool(`http://${host}`), /\/sums: connect ECONNREFUSED/);
      await assert.rejects(fetchTool(`http://${host}`), new RegExp(`/sums: ${host} failed before`));
    });

    it("must ask a host again that only lacked a file", async () => {
      const { url, asked } = await serve({});
      await assert.rejects(fetchTool(url), /404/);
      await assert.rejects(fetchTool(url), /404/);
      assert.deepEqual(asked, ["/sums", "/sums"]);
    });
  });

  it("must read each vendor's way to publish a checksum, for the named file alone", () => {
    const [one, two] = [sha256("1"), sha256("2")];
    assert.equal(publishedChecksum(two, "b"), two);
    assert.equal(publishedChecksum(`${one}  a\n${two}  b\n`, "b"), two);
    assert.equal(publishedChecksum(`${one} *a\n${two} *./b\n`, "b"), two);
    const assets = [
      { name: "a", digest: `sha256:${one}` },
      { name: "b", digest: `sha256:${two}` },
    ];
    assert.equal(publishedChecksum(JSON.stringify({ assets }), "b"), two);
    for (const list of ["", "<html>", `${one}  a`, JSON.stringify({ assets: [{ name: "b", digest: null }] })]) {
      assert.throws(() => publishedChecksum(list, "b"), /^Error: no SHA-256 is published for b$/);
    }
  });

  describe("obtained", () => {
    const program = 'package main\nvar version = "unset"\nfunc main() { println("tool", version) }\n';

    function goModule(source = program): GoModule {
      const directory = join(scratch, "module");
      mkdirSync(join(directory, "tool"), { recursive: true });
      writeFileSync(join(directory, "go.mod"), "module example.com/tiny\n\ngo 1.21\n");
      writeFileSync(join(directory, "tool", "main.go"), source);
      return { directory, stamp: { "main.version": "1.2.3" } };
    }

    function origin(more: Partial<Origin> = {}): Origin {
      const module = more.module ?? goModule();
      const defaults = { range: "^1.2.0", versionArguments: ["--version"], version: "1.2.3", seconds: 2, megabytes: 1 };
      return { ...defaults, module, package: "example.com/tiny/tool", ...more };
    }

    /** Puts an executable before everything else on the PATH. */
    function onPath(name: string, script: string, directory = join(scratch, "bin")): string {
      mkdirSync(directory, { recursive: true });
      const path = join(directory, name);
      writeFileSync(path, `#!/bin/sh\n${script}\n`);
      chmodSync(path, 0o755);
      process.env.PATH = `${directory}:${process.env.PATH}`;
      return path;
    }

    const needsGo = () =>
      before(function () {
        if (goAt.failed) this.skip();
      });

    describe("without a build", () => {
      it("must be a fitting version of the PATH", async () => {
        const path = onPath("tool", "echo tool v1.9.0-vendor");
        const { tool } = await obtain({ tool: origin() }, ["tool"]);
        assert.deepEqual(tool, { path, source: "path", version: "1.9.0-vendor" });
      });

      it("must on the PATH stand beside the tool that it belongs to", async () => {
        const host = onPath("host", "exit 1");
        const origins = { tool: origin(), host: origin({ beside: "tool" }) };
        onPath("tool", "echo 1.2.4");
        assert.deepEqual((await obtain(origins, ["host"])).host, { path: host, source: "path", version: "1.2.4" });
        onPath("tool", "echo 1.2.5", join(scratch, "elsewhere"));
        process.env.PATH = process.env.PATH?.replace(/:.*/, "");
        await assert.rejects(obtain(origins, ["host"]), /Building host needs Go/);
      });

      it("must be the release, then the cache's, with the vendor asked only once", async () => {
        const { url, asked } = await serve({ "/tool": "#!/bin/sh\n", "/sums": sha256("#!/bin/sh\n") });
        const release = { version: "1.3.0", download: { url: `${url}/tool`, checksums: `${url}/sums` } };
        const reports: Report[] = [];
        const first = await obtain({ tool: origin({ release }) }, ["tool"], (report) => reports.push(report));
        const second = await obtain({ tool: origin({ release }) }, ["tool"], () => assert.fail("nothing to report"));
        assert.deepEqual([first.tool.source, first.tool.version], ["download", "1.3.0"]);
        assert.deepEqual(second.tool, { ...first.tool, source: "cache" });
        assert.deepEqual(asked, ["/sums", "/tool"]);
        assert.deepEqual(reports, [{ tool: "tool", phase: "downloading", elapsedSeconds: 0, estimatedSeconds: 60 }]);
      });

      it("must come from one download where two are in one archive", async () => {
        mkdirSync(join(scratch, "release"));
        for (const name of ["one", "two"]) writeFileSync(join(scratch, "release", name), name);
        await create({ gzip: true, file: join(scratch, "tgz"), cwd: scratch }, ["release"]);
        const archive = readFileSync(join(scratch, "tgz"));
        const { url, asked } = await serve({ "/archive": archive, "/sums": sha256(archive) });
        const members = { one: "release/one", two: "release/two" };
        const release = { version: "1", download: { url: `${url}/archive`, checksums: `${url}/sums`, members } };
        const tools = await obtain({ one: origin({ release }), two: origin({ release }) }, ["one", "two"]);
        assert.equal(readFileSync(tools.two.path, "utf8"), "two");
        assert.deepEqual(asked, ["/sums", "/archive"]);
      });

      it("must not be without Go, with what was tried and what helps", async () => {
        process.env.PATH = join(scratch, "nothing");
        const { url } = await serve({});
        const release = { version: "1.3.0", download: { url: `${url}/tool`, checksums: `${url}/sums` } };
        await assert.rejects(obtain({ tool: origin({ release }) }, ["tool"]), (error: Error) => {
          assert.ok(error instanceof ToolError);
          assert.equal(
            error.message,
            "Building tool needs Go ≥ 1.21, but there is no go on the PATH. Install it from https://go.dev/dl, " +
              `or put the tools themselves on the PATH.\n  not downloaded: tool: ${url}/sums: 404 Not Found`,
          );
          return true;
        });
      });

      it("must not be with a Go that is too old", async () => {
        onPath("go", 'printf "go1.20.14\\n/tmp\\n/tmp\\n"');
        await assert.rejects(
          obtain({ tool: origin() }, ["tool"]),
          /^Error: Building tool needs Go ≥ 1.21, but go on the PATH is go1.20.14\. Install/,
        );
      });
    });

    describe("by a build", () => {
      needsGo();

      it("must carry the pinned version, then be the cache's", async () => {
        const reports: Report[] = [];
        const first = await obtain({ tool: origin() }, ["tool"], (report) => reports.push(report));
        assert.equal(execaSync(first.tool.path, { all: true }).all, "tool 1.2.3");
        assert.equal(first.tool.source, "build");
        assert.equal(reports[0]?.phase, "building");
        const second = await obtain({ tool: origin() }, ["tool"]);
        assert.deepEqual(second.tool, { ...first.tool, source: "cache" });
      });

      it("must take the place of a version on the PATH that does not fit or does not tell", async () => {
        for (const answer of ["echo tool 2.0.0", "echo tool", "exit 1"]) {
          onPath("tool", answer);
          assert.notEqual((await obtain({ tool: origin() }, ["tool"])).tool.source, "path");
        }
      });

      it("must follow a download that failed", async () => {
        const { url } = await serve({ "/tool": "content", "/sums": never });
        const release = { version: "1.3.0", download: { url: `${url}/tool`, checksums: `${url}/sums` } };
        const { tool } = await obtain({ tool: origin({ release }) }, ["tool"]);
        assert.deepEqual([tool.source, tool.version], ["build", "1.2.3"]);
      });

      it("must come before any download with HOBNOB_NO_DOWNLOAD=1", async () => {
        process.env.HOBNOB_NO_DOWNLOAD = "1";
        const { url, asked } = await serve({ "/tool": "content", "/sums": sha256("content") });
        const release = { version: "1.3.0", download: { url: `${url}/tool`, checksums: `${url}/sums` } };
        assert.equal((await obtain({ tool: origin({ release }) }, ["tool"])).tool.source, "build");
        assert.deepEqual(asked, []);
      });

      it("must be built once for two that want it at the same time", async () => {
        const both = await Promise.all([1, 2].map(() => obtain({ tool: origin() }, ["tool"])));
        assert.deepEqual(both.map(({ tool }) => tool.source).sort(), ["build", "cache"]);
        assert.equal(both[0]?.tool.path, both[1]?.tool.path);
      });

      it("must take one module after the other, each with the tools that are missing of it, and estimate their sum", async () => {
        const log = join(scratch, "go.log");
        const go = execaSync("go", ["env", "GOROOT"]).stdout;
        onPath("go", `echo "$1 $(basename "$PWD") \${GOGC-default}" >> ${log}; ${go}/bin/go "$@"`);
        const module = (name: string, ...packages: string[]) => {
          const { directory, stamp } = goModule();
          for (const path of packages) cpSync(join(directory, "tool"), join(directory, path), { recursive: true });
          cpSync(directory, join(scratch, name), { recursive: true });
          return { directory: join(scratch, name), stamp };
        };
        const [small, large] = [module("small"), module("large", "second", "third")];
        const origins = {
          one: origin({ module: large, seconds: 3 }),
          other: origin({ module: small, seconds: 2 }),
          two: origin({ module: large, package: "example.com/tiny/second", seconds: 4 }),
          present: origin({ module: large, package: "example.com/tiny/third", seconds: 8 }),
        };
        await obtain(origins, ["present"]);
        const reports: Report[] = [];
        await obtain(origins, ["one", "other", "two", "present"], (report) => reports.push(report));
        assert.equal(reports[0]?.estimatedSeconds, (9 * 2) / availableParallelism());
        assert.deepEqual([...new Set(reports.map(({ tool }) => tool))], ["one, two", "other"]);
        const collector = freemem() < 4 * 2 ** 30 ? "default" : "off";
        const calls = readFileSync(log, "utf8").trim().split("\n");
        assert.deepEqual(
          calls.filter((call) => call.startsWith("build")),
          ["large", "large", "small"].map((name) => `build ${name} ${collector}`),
        );
      });

      it("must not depend on the user's Go settings", async () => {
        Object.assign(process.env, { GOFLAGS: "-mod=vendor", GOOS: "plan9", GOWORK: join(scratch, "go.work") });
        const { tool } = await obtain({ tool: origin() }, ["tool"]);
        assert.equal(execaSync(tool.path, { all: true }).all, "tool 1.2.3");
      });

      it("must not be the cache's any more once its pin changed", () => {
        const module = goModule();
        const pins = [pin(module), pin({ ...module, stamp: { "main.version": "1.2.4" } })];
        writeFileSync(join(module.directory, "go.sum"), "example.com/a v1.0.0 h1:=\n");
        pins.push(pin(module));
        writeFileSync(join(module.directory, "go.mod"), "module example.com/tiny\n\ngo 1.22\n");
        pins.push(pin(module));
        assert.equal(new Set(pins).size, 4);
      });

      it("must leave nothing that looks whole when it fails, and tell why", async () => {
        const module = goModule("package main\nfunc main() { undefinedFunction() }\n");
        await assert.rejects(obtain({ tool: origin({ module }) }, ["tool"]), (error: Error) => {
          assert.ok(error instanceof ToolError);
          assert.match(error.message, /^Building tool failed:\n.*\n.*main\.go:2:15: undefined: undefinedFunction\n/);
          const log = error.message.match(/All of it: (.*)$/)?.[1] ?? "";
          assert.match(readFileSync(log, "utf8"), /undefinedFunction/);
          return true;
        });
        assert.deepEqual(readdirSync(join(scratch, "cache", "hobnob", "tools")), []);
        goModule();
        assert.equal((await obtain({ tool: origin() }, ["tool"])).tool.source, "build");
      });

      it("must clear away what an interrupted one left, and be interruptible itself", async () => {
        mkdirSync(join(into(), ".build-killed"), { recursive: true });
        writeFileSync(join(into(), ".build-killed", "tool"), "half");
        const { package: path, module } = origin();
        const stopped = build(module, { tool: path }, into(), AbortSignal.abort());
        await assert.rejects(stopped, /^Error: The build was interrupted\. The next one goes on from there\.$/);
        assert.deepEqual(left(), []);
        await build(module, { tool: path }, into(), new AbortController().signal);
        assert.deepEqual(left(), ["tool"]);
      });

      it("must not begin without the room for it", async () => {
        await assert.rejects(
          obtain({ tool: origin({ megabytes: 1e9 }) }, ["tool"]),
          /^Error: Building the tools needs 1000000000 MB in .*hobnob, where \d+ MB are free\. Make room/,
        );
        assert.ok(!existsSync(join(scratch, "cache", "hobnob", "tools")));
      });
    });
  });

  describe("the catalogue", () => {
    it("must build exactly what the Go modules hold: the tools of go.mod and a main package of their own", () => {
      const origins = Object.values(catalogue());
      const directories = [...new Set(origins.map(({ module }) => module.directory))];
      const held = directories.flatMap((directory) => {
        const goMod = readFileSync(join(directory, "go.mod"), "utf8");
        const own = existsSync(join(directory, "main.go")) ? /^module (\S+)$/gm : /(?!)/g;
        const tools = /^(?:tool)?\s+([^\s()]+\/[^\s()]+)$/gm;
        return [own, tools].flatMap((pattern) => [...goMod.matchAll(pattern)].map(([, path]) => path));
      });
      assert.deepEqual(held.sort(), origins.map((origin) => origin.package).sort());
    });

    it("must build what two modules share in one version, so that it is compiled once", () => {
      const directories = new Set(Object.values(catalogue()).map(({ module }) => module.directory));
      const seen = new Map<string, string>();
      for (const directory of directories) {
        const required = readFileSync(join(directory, "go.mod"), "utf8").matchAll(
          /^(?:require)?\s+(\S+) (v\S+)(?: \/\/.*)?$/gm,
        );
        for (const [, path = "", version = ""] of required) {
          // The engine's own, in two versions on purpose.
          if (path === "github.com/pulumi/pulumi/sdk/v3") continue;
          assert.equal(version, seen.get(path) ?? version, path);
          seen.set(path, version);
        }
      }
      assert.equal(directories.size, 2);
    });

    it("must take every part of Kubernetes in the version of the whole", () => {
      const { directory } = catalogue()["kube-apiserver"].module;
      const parts = `v${pinnedVersion(directory, "k8s.io/kubernetes").replace(/^1\./, "0.")}`;
      const replaced = [...readFileSync(join(directory, "go.mod"), "utf8").matchAll(/^\s+(\S+) => (\S+) (\S+)$/gm)];
      assert.equal(replaced.length, 30);
      for (const [, from, to, version] of replaced) assert.deepEqual([to, version], [from, parts]);
    });

    it("must fetch over TLS, with a checksum from the vendor's own host", () => {
      for (const [name, { release }] of Object.entries(catalogue())) {
        if (!release) continue;
        const [file, sums] = [new URL(release.download.url), new URL(release.download.checksums)];
        assert.deepEqual([file.protocol, sums.protocol], ["https:", "https:"], name);
        assert.equal(sums.host.replace(/^api\./, ""), file.host, name);
      }
    });
  });
});
