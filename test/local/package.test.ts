import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { execa } from "execa";
import { cloneDirectory } from "../../local/paths";
import { obtainTools } from "../../local/tools";

/** The template as its user has it: outside the clone, with the package as npm packs it. */
describe("a project from the template, in a folder of its own", function () {
  this.timeout(8 * 60_000);
  const directory = mkdtempSync(join(tmpdir(), "hobnob-package-"));
  const project = join(directory, "shop");
  const installed = join(project, "node_modules", "hobnob-platform");
  const run = (file: string, ...args: string[]) =>
    execa(file, args, {
      cwd: project,
      all: true,
      reject: false,
      stdin: "ignore",
      preferLocal: true,
      localDir: project,
    });
  const succeed = async (file: string, ...args: string[]) => {
    const { exitCode, all } = await run(file, ...args);
    assert.equal(exitCode, 0, `${file} ${args.join(" ")}:\n${all}`);
    return all;
  };

  before("npm pack, pulumi new, npm install", async () => {
    const home = join(directory, "home");
    for (const folder of [project, home]) mkdirSync(folder);
    const tools = await obtainTools(["pulumi", "pulumi-language-nodejs"]);
    const path = Object.values(tools).map((tool) => dirname(tool.path));
    const template = join(cloneDirectory, "templates", "service");
    const flags = ["--generate-only", "--name", "shop", "--description", "A shop", "--yes", "--non-interactive"];
    const PATH = [...path, process.env.PATH].join(delimiter);
    const backend = { PATH, PULUMI_HOME: home, PULUMI_BACKEND_URL: `file://${home}`, PULUMI_SKIP_UPDATE_CHECK: "true" };
    const made = await execa(tools.pulumi.path, ["new", template, ...flags], { cwd: project, env: backend, all: true });
    assert.match(made.all, /Your new project is ready to go!/);
    await succeed("npm", "pack", "--pack-destination", directory, cloneDirectory);
    const { version } = JSON.parse(readFileSync(join(cloneDirectory, "package.json"), "utf8"));
    const quietly = ["--no-audit", "--no-fund", "--prefer-offline"];
    await succeed("npm", "install", ...quietly, join(directory, `hobnob-platform-${version}.tgz`));
  });

  after(() => rmSync(directory, { recursive: true, force: true }));

  it("must have types that hold, and pass its own tests", async () => {
    await succeed("tsc", "--noEmit");
    assert.match(await succeed("npm", "test"), /11 passing/);
  });

  it("must get every component with the files that it reads, by packages that the package depends on", async () => {
    const all = `
      const { readdirSync } = require("node:fs");
      const names = readdirSync(${JSON.stringify(join(installed, "dist", "components"))}).filter((name) => name.endsWith(".js"));
      for (const name of names) require("hobnob-platform/components/" + name.slice(0, -3));
      require("hobnob-platform/policy");
      console.log(names.length + " components");`;
    assert.match(await succeed("npm", "prune", "--omit=dev", "--no-audit"), /removed \d+ packages/);
    assert.match(await succeed(process.execPath, "-e", all), /^\d\d components$/m);
    await succeed("npm", "install", "--no-audit", "--prefer-offline");
  });

  it("must break where the platform's contract loses an output that it uses", async () => {
    const without = (file: string, what: RegExp) => {
      const path = join(installed, "dist", file);
      const text = readFileSync(path, "utf8");
      assert.match(text, what);
      writeFileSync(path, text.replace(what, ""));
    };
    cpSync(join(installed, "dist"), join(directory, "dist"), { recursive: true });
    without("platform.d.ts", /^ {4}domain: .*\n/m);
    without("platform.js", /^ {4}domain: .*\n/m);
    without("test/unit/platformOutputs.js", /^ {4}domain: .*\n/m);
    const types = await run("tsc", "--noEmit");
    assert.match(types.all, /index\.ts.*error TS2345: Argument of type '"domain"' is not assignable/);
    const tests = await run("npm", "test");
    assert.notEqual(tests.exitCode, 0);
    cpSync(join(directory, "dist"), join(installed, "dist"), { recursive: true });
    await succeed("tsc", "--noEmit");
  });
});
