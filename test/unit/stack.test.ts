import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { execa } from "execa";
import { refuseCutOff } from "../../cutOff";

const urn = "urn:pulumi:dev::hobnob::digitalocean:index/vpc:Vpc::cluster";
const vpc = { urn, type: "digitalocean:index/vpc:Vpc", custom: true, inputs: { name: "hobnob-dev" } };
const creating = { type: "creating", resource: vpc };

describe("a run on any backend", () => {
  const directory = mkdtempSync(join(tmpdir(), "hobnob-stack-"));
  const backend = join(directory, "backend");
  const calls = join(directory, "calls");
  const environment = () => ({
    ...process.env,
    PATH: `${directory}:${process.env.PATH}`,
    GOGC: undefined,
    HOBNOB_RECOVERED: "",
  });

  /** Stands for the engine: notes each call and answers from a state. */
  const engine = (state: object, history: object[] = [{ kind: "update", result: "succeeded" }], fails = "destroy") => {
    rmSync(calls, { force: true });
    const answers = { whoami: { url: `file://${backend}` }, export: { deployment: state }, history };
    writeFileSync(
      join(directory, "pulumi"),
      `#!${process.execPath}
const args = process.argv.slice(2);
const note = { args, parallel: process.env.PULUMI_PARALLEL, garbage: process.env.GOGC, recovered: process.env.HOBNOB_RECOVERED };
require("node:fs").appendFileSync(${JSON.stringify(calls)}, JSON.stringify(note) + "\\n");
const answer = ${JSON.stringify(answers)}[args[0] === "stack" ? args[1] : args[0]];
if (answer) console.log(JSON.stringify(answer));
if (args[0] === "${fails}") process.exitCode = 3;
`,
      { mode: 0o755 },
    );
  };
  const called = () =>
    readFileSync(calls, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { args: string[]; parallel: string; garbage: string; recovered: string });
  const stack = (...args: string[]) =>
    execa(process.execPath, ["--import", "tsx", join(__dirname, "..", "..", "operations", "stack.ts"), ...args], {
      env: environment(),
      reject: false,
      stdin: "ignore",
    });

  after(() => rmSync(directory, { recursive: true, force: true }));

  it("must be the command itself, in parallel, after a run that ended well", async () => {
    engine({ resources: [{ ...vpc, id: "v1" }] });
    assert.equal((await stack("dev", "up", "--yes")).exitCode, 0);
    const last = called().at(-1);
    const settings = { parallel: "64", garbage: "400", recovered: "true" };
    assert.deepEqual(last, { args: ["up", "--stack", "dev", "--yes"], ...settings });
    assert.ok(called().every(({ args }) => args[1] !== "import"));
  });

  it("must give on how the command ended", async () => {
    engine({ resources: [] });
    assert.equal((await stack("dev", "destroy")).exitCode, 3);
  });

  it("must name the way back after an update that failed at the API's rollout, and only then", async () => {
    const [good, bad] = ["a@sha256:1", "a@sha256:2"];
    const state = (image: string) => {
      const spec = { template: { spec: { containers: [{ image }] } } };
      const noted = {
        urn: "urn:pulumi:dev::hobnob::hobnob:platform:Protection::p",
        outputs: { images: { backend: good } },
      };
      const api = "urn:pulumi:dev::hobnob::hobnob:platform:Api$kubernetes:apps/v1:Deployment::backend";
      return { resources: [noted, { urn: api, type: "kubernetes:apps/v1:Deployment", inputs: { spec } }] };
    };
    engine(state(bad), undefined, "up");
    const failed = await stack("dev", "up");
    assert.equal(failed.exitCode, 3);
    assert.match(failed.stderr, /the pods of a@sha256:1 serve on\.\nBack to it: npm run rollback -- dev/);
    engine(state(good), undefined, "up");
    assert.doesNotMatch((await stack("dev", "up")).stderr, /rollback/);
    engine(state(bad));
    assert.doesNotMatch((await stack("dev", "up")).stderr, /rollback/);
  });

  it("must say how it is called, and call nothing, without a stack or a command", async () => {
    engine({ resources: [] });
    for (const args of [[], ["dev"], ["dev", "--yes"]]) {
      const { exitCode, stderr } = await stack(...args);
      assert.equal(exitCode, 1);
      assert.match(stderr, /npm run stack -- <stack> up\|destroy\|refresh\|preview/);
    }
    assert.equal(existsSync(calls), false);
  });

  describe("with a lock", () => {
    const locks = join(backend, ".pulumi", "locks", "organization", "hobnob", "dev");
    const lock = (owner: object) => {
      mkdirSync(locks, { recursive: true });
      writeFileSync(join(locks, "lock.json"), JSON.stringify(owner));
    };
    const cancelled = async () => {
      engine({ resources: [] });
      await stack("dev", "up");
      return called().some(({ args }) => args[0] === "cancel");
    };
    const ended = Number(execFileSync("sh", ["-c", "echo $$"], { encoding: "utf8" }));

    it("must release that of a dead engine, also where another program has its process id", async () => {
      lock({ pid: ended, hostname: hostname() });
      assert.equal(await cancelled(), true);
      lock({ pid: process.ppid, hostname: hostname() });
      assert.equal(await cancelled(), true);
    });

    it("must let the engine read again what a dead one was just writing, of this stack alone", async () => {
      const stacks = join(backend, ".pulumi", "stacks", "hobnob");
      const attributes = (stack: string, text: string) => {
        mkdirSync(stacks, { recursive: true });
        writeFileSync(join(stacks, `${stack}.json.attrs`), text);
        return () => existsSync(join(stacks, `${stack}.json.attrs`));
      };
      const [torn, others] = [attributes("dev", ""), attributes("prod", "")];
      lock({ pid: ended, hostname: "elsewhere" });
      await cancelled();
      assert.equal(torn(), true, "it may be that host's, which is writing it");
      lock({ pid: ended, hostname: hostname() });
      await cancelled();
      assert.deepEqual([torn(), others()], [false, true]);
      const whole = attributes("dev", "{}");
      await cancelled();
      assert.equal(whole(), true);
    });

    it("must leave that of another host, and that of an engine that lives", async () => {
      lock({ pid: ended, hostname: "elsewhere" });
      assert.equal(await cancelled(), false);
      const living = execa(process.execPath, ["-e", "setTimeout(() => {}, 30_000)", "pulumi"], { reject: false });
      lock({ pid: living.pid, hostname: hostname() });
      assert.equal(await cancelled(), false);
      living.kill();
      await living;
    });
  });

  describe("by the engine alone", () => {
    before(() =>
      pulumi.runtime.setMocks(
        { newResource: () => ({ id: "", state: {} }), call: () => ({}) },
        "hobnob",
        "dev",
        false,
        "organization",
      ),
    );

    const begun = Promise.resolve({ begun: true });

    it("must not go on from a creation that was cut off, and must name the command that resolves it", async () => {
      engine({ pending_operations: [creating] });
      await assert.rejects(refuseCutOff(begun, environment()), {
        name: "Error",
        message:
          "An earlier run of the stack dev was cut off while it made cluster, which may be there by now.\n\n  command: npm run stack -- dev up\n",
      });
      assert.deepEqual(called()[0]?.args, ["stack", "export", "--stack", "organization/hobnob/dev"]);
    });

    it("must go on from what can be done twice, and from a state that is whole", async () => {
      engine({ pending_operations: [{ ...creating, type: "updating" }] });
      await refuseCutOff(begun, environment());
      engine({ resources: [] });
      await refuseCutOff(begun, environment());
    });

    it("must not ask again where the command has resolved it, nor of a new stack, nor fail where nobody answers", async () => {
      engine({ pending_operations: [creating] });
      await refuseCutOff(Promise.resolve({ begun: false }), environment());
      await refuseCutOff(begun, { ...environment(), HOBNOB_RECOVERED: "true" });
      assert.equal(existsSync(calls), false);
      await refuseCutOff(begun, { ...environment(), PATH: "/nowhere" });
    });
  });
});
