import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Engine, engine, type Project, prepareProject, pulumi } from "../../local/engine";
import { cloneDirectory } from "../../local/paths";
import { obtainTools } from "../../local/tools";
import { platformOutputs } from "../unit/platformOutputs";

const PROGRAM = `import { Platform } from "hobnob-platform";
const platform = new Platform("organization/hobnob/local");
export const host = platform.output("domain").apply((domain) => "shop." + domain);
export const kubeconfig = platform.output("kubeconfig");
`;

describe("a stack on a platform stack, run by the engine", function () {
  this.timeout(3 * 60_000);
  const directory = mkdtempSync(join(tmpdir(), "hobnob-contract-"));
  const stateBefore = process.env.HOBNOB_LOCAL_STATE;
  const project: Project = {
    name: "shop",
    source: join(directory, "source"),
    directory: join(directory, "projects", "shop"),
  };
  let runner: Engine;

  before(async () => {
    process.env.HOBNOB_LOCAL_STATE = directory;
    runner = engine(await obtainTools(["pulumi", "pulumi-language-nodejs"]), 9);
    mkdirSync(project.source);
    symlinkSync(join(cloneDirectory, "node_modules"), join(project.source, "node_modules"));
    const write = (file: string, text: string) => writeFileSync(join(project.source, file), text);
    write(
      "Pulumi.yaml",
      "name: shop\nruntime:\n  name: nodejs\n  options: { typescript: false, nodeargs: --import tsx }\n",
    );
    write("package.json", "{}");
    write("tsconfig.json", JSON.stringify({ extends: join(cloneDirectory, "tsconfig.json") }));
    write("index.ts", PROGRAM);
    await prepareProject(runner, "live", {}, {}, project);
  });

  after(() => {
    if (stateBefore === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = stateBefore;
    rmSync(directory, { recursive: true, force: true });
  });

  const preview = async (...flags: string[]) => {
    const args = ["preview", "--stack", "live", "--non-interactive", "--color", "never", ...flags];
    const { exitCode, all } = await pulumi(runner, args, { reject: false, all: true }, project);
    return { code: exitCode, said: String(all) };
  };
  /** Makes the platform stack one that was deployed with these outputs. */
  const deployed = async (outputs: object) => {
    const type = "pulumi:pulumi:Stack";
    const resource = { urn: `urn:pulumi:local::hobnob::${type}::hobnob-local`, custom: false, type, outputs };
    const input = JSON.stringify({ version: 3, deployment: { manifest: { time: new Date() }, resources: [resource] } });
    await pulumi(runner, ["stack", "import", "--stack", "local"], { input });
  };

  it("must be told that there is no such platform stack", async () => {
    const { code, said } = await preview();
    assert.notEqual(code, 0);
    assert.match(said, /error: Preview failed: unknown stack "organization\/hobnob\/local"/);
  });

  it("must be told of all that is missing, without a stack trace, where the platform was never deployed", async () => {
    await prepareProject(runner, "local", {}, {});
    const { code, said } = await preview();
    assert.notEqual(code, 0);
    for (const [name, release] of [
      ["domain", "0.2.0"],
      ["kubeconfig", "0.1.0"],
    ]) {
      const lines = [
        `      ${name}`,
        "        given:   nothing, nor a contract version: the stack was never deployed, or is none of hobnob-platform",
        `        allowed: what contract version ${release === "0.2.0" ? 2 : 1} has, which came with hobnob-platform ${release}`,
        `        command: npm run stack -- local up, in hobnob-platform ${release} or newer`,
      ];
      assert.ok(said.includes(lines.join("\n")), said);
    }
    assert.doesNotMatch(said, /^\s+at .*:\d+:\d+/m);
  });

  it("must be told which release has what an older platform lacks", async () => {
    const { domain: _, ...older } = platformOutputs;
    await deployed({ ...older, contractVersion: 1 });
    const { code, said } = await preview();
    assert.notEqual(code, 0);
    assert.match(
      said,
      /given: {3}nothing; the stack has contract version 1\n.* which came with hobnob-platform 0\.2\.0/,
    );
    assert.doesNotMatch(said, /^ +kubeconfig$/m);
  });

  it("must get the outputs, and keep the secret one secret", async () => {
    await deployed(platformOutputs);
    const { code, said } = await preview();
    assert.equal(code, 0, said);
    assert.match(said, /host +: "shop\.example\.com"\n +kubeconfig: \[secret\]/);
  });
});
