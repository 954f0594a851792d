import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { parse } from "yaml";
import { cloneDirectory } from "../../local/paths";

const directory = join(cloneDirectory, "examples");
const projects = readdirSync(directory)
  .filter((name) => existsSync(join(directory, name, "Pulumi.yaml")))
  .map((name) => parse(readFileSync(join(directory, name, "Pulumi.yaml"), "utf8")).name as string);

describe("the example stacks on the embedded default", function () {
  this.timeout(15 * 60_000);
  const state = mkdtempSync(join(tmpdir(), "hobnob-examples-"));
  const run = (...args: string[]) =>
    execa(process.execPath, [join(cloneDirectory, "local", "bootstrap.mjs"), ...args], {
      cwd: cloneDirectory,
      env: { HOBNOB_LOCAL_STATE: state },
      all: true,
      reject: false,
      stdin: "ignore",
    });

  after(async () => {
    await run("reset");
    rmSync(state, { recursive: true, force: true });
  });

  it("must refuse one that is not there, and name those that are", async () => {
    const { exitCode, all } = await run("examples", "nothing");
    assert.equal(exitCode, 1);
    assert.match(all, /^Given: nothing; allowed: .*\. For example: npm run examples -- \w+$/m);
  });

  it("must stay where asked to, on a platform that was not there before", async () => {
    const { exitCode, all } = await run("examples", "dashboard", "--keep");
    assert.equal(exitCode, 0, all);
    assert.doesNotMatch(all, / down$/m);
  });

  it("must all come up together by one command, each Deployment available, hosts and outputs listed, and go again", async () => {
    // The token with which the first one was made is long dead.
    const { port } = JSON.parse(readFileSync(join(state, "run.json"), "utf8")).account;
    const headers = { Authorization: "Bearer local-test", "Content-Type": "application/json" };
    const body = JSON.stringify({ advanceSeconds: 8 * 24 * 3600 });
    assert.ok((await fetch(`http://127.0.0.1:${port}/local/clock`, { method: "POST", headers, body })).ok);

    const { exitCode, all } = await run("examples");
    assert.equal(exitCode, 0, all);
    const rows = all.split("\n").map((line) => line.split("│").map((cell) => cell.trim()));
    for (const project of ["hobnob", ...projects]) {
      const workloads = rows.filter(
        ([, stack, workload = ""]) => stack === project && /^\w+Set |^Deployment /.test(workload),
      );
      assert.ok(workloads.length > 0, `${project} has no workload in:\n${all}`);
      for (const [, , workload, pods = ""] of workloads) {
        const [available, desired] = pods.split(" / ");
        assert.ok(Number(desired) > 0 && available === desired, `${workload}: ${pods}`);
      }
      const [, , , hosts, outputs] =
        rows.find(([, stack, seconds = ""]) => stack === project && /^\d*$/.test(seconds)) ?? [];
      assert.ok(outputs, `${project} lists no output in:\n${all}`);
      if (project === "hobnob") assert.equal(hosts, "api.hobnob.test");
    }
    for (const project of projects) assert.match(all, new RegExp(`✔ ${project} down`));
    assert.match((await run("local", "stack", "output", "apiUrl")).all, /^http:\/\/api\.hobnob\.test$/m);
  });
});
