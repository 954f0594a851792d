import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { cloneDirectory } from "../../local/paths";
import { tellDrift } from "../../operations/drift";
import { status } from "../../operations/status";
import { FakePlatform } from "./platform";

/** What a command printed into the README must be what it prints today, as far as that can be known without its stack. */
describe("what the README shows of a command's output", function () {
  this.timeout(60_000);
  const readme = readFileSync(join(cloneDirectory, "README.md"), "utf8");
  const section = readme.slice(readme.indexOf("## What the commands print"));
  const shown = (command: string) => {
    const session = new RegExp(`^\\$ npm run ${command}\\b.*\\n([\\s\\S]*?)^\`\`\`$`, "m").exec(section);
    assert.ok(session?.[1], `${command} is not shown`);
    return session[1];
  };

  it("must have each line of npm run status, in its order", async () => {
    const { cluster, ...target } = new FakePlatform().target();
    const nobody = async () => Promise.reject(new Error("nobody"));
    const none = { nodes: nobody, workloads: nobody, balancers: nobody };
    const pulumi = async () => ({ exitCode: 1, stdout: "", stderr: "" });
    const options = { stack: "local", ...target, cluster: { ...cluster, ...none }, pulumi };
    const results = await status({ ...options, nothingPublic: "simulated" });
    const names = [...shown("status").matchAll(/^│ (.+?) +│/gm)].map(([, name]) => name);
    assert.deepEqual(
      names,
      results.map(({ name }) => name),
    );
  });

  it("must be what npm run cost prints", async () => {
    const command = [join(cloneDirectory, "local", "bootstrap.mjs"), "cost", "prod"];
    const env = { DIGITALOCEAN_TOKEN: undefined };
    const { stdout } = await execa(process.execPath, command, { cwd: cloneDirectory, env });
    assert.equal(shown("cost").trim(), stdout.trim());
  });

  it("must be what npm run drift says of an object that is gone and of one that was changed", () => {
    const [gone, changed] = ["policy/v1:PodDisruptionBudget", "apps/v1:Deployment"].map((type) => ({
      type: `kubernetes:${type}`,
      name: "backend",
    }));
    assert.ok(gone && changed);
    const changes = ["spec.replicas is 1; the stack made it 3"];
    const drift = [
      { ...gone, isGone: true, changes: [] },
      { ...changed, isGone: false, changes },
    ];
    assert.equal(shown("drift").trim(), tellDrift("local", drift));
  });

  it("must have the form of npm run outdated", () => {
    const newer = /^(Kubernetes|image|provider|package) \S+ +\S+ → \S+ {2}risk (none known|low|middle|high)(: .+)?$/;
    const lines = shown("outdated").trim().split("\n");
    assert.deepEqual(
      lines.filter((line) => !newer.test(line) && !/^Not asked: .+, for .+: .+$/.test(line)),
      [],
    );
  });
});
