import assert from "node:assert/strict";
import { marked } from "marked";
import { type EngineEvent, parseEvents, type Step } from "../../operations/events";
import { COMMENT_LIMIT, renderComment } from "../../operations/previewComment";

const CLUSTER = "digitalocean:index/kubernetesCluster:KubernetesCluster";
const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";

const step = (op: string, type: string, name: string, more: Partial<Step> = {}): EngineEvent => {
  const urn = `urn:pulumi:prod::hobnob::${type}::${name}`;
  return { resourcePreEvent: { metadata: { op, urn, type, ...more } } };
};
const inputs = (type: string, of: Record<string, unknown>) => ({ type, urn: "", inputs: of });
const update = (type: string, name: string, path: string, from: unknown, to: unknown) => {
  const [old, wanted] = [inputs(type, { [path]: from }), inputs(type, { [path]: to })];
  return step("update", type, name, { old, new: wanted, detailedDiff: { [path]: { diffKind: "update" } } });
};
const said = (message: string, severity = "error"): EngineEvent => ({ diagnosticEvent: { message, severity } });
const comment = (events: EngineEvent[], exitCode = 0, stderr = "") =>
  renderComment({ stack: "prod", events, exitCode, stderr });
const html = (markdown: string) => String(marked.parse(markdown, { async: false }));

describe("the comment on a preview", () => {
  it("must begin with a mark of its own for each stack, by which it is found again", () => {
    const first = (stack: string) => renderComment({ stack, events: [], exitCode: 0 }).split("\n")[0];
    assert.equal(first("prod"), "<!-- hobnob preview prod -->");
    assert.notEqual(first("dev"), first("prod"));
    assert.equal(first("a--><b>"), "<!-- hobnob preview a--b -->");
  });

  it("must count each resource once, as the engine does", () => {
    const replaced = { old: inputs(CLUSTER, {}), new: inputs(CLUSTER, {}) };
    const events = [
      step("create-replacement", CLUSTER, "cluster", replaced),
      step("replace", CLUSTER, "cluster", replaced),
      step("delete-replaced", CLUSTER, "cluster"),
      step("same", CONFIG_MAP, "kept"),
      step("create", CONFIG_MAP, "new"),
      step("create", "pulumi:providers:docker", "default_5_2_0"),
      update(CONFIG_MAP, "other", "a", 1, 2),
      { summaryEvent: { resourceChanges: { create: 1, replace: 1, same: 1, update: 1 } } },
    ];
    const text = comment(events);
    assert.match(text, /^## Preview of `prod`: 1 replaced, 1 updated, 1 created$/m);
    assert.match(text, /^\| 1 \| 1 \| \*\*1\*\* \| 0 \| 1 \|$/m);
  });

  it("must say that nothing changes, and leave the rest out", () => {
    const text = comment([{ summaryEvent: { resourceChanges: { same: 62 } } }]);
    assert.match(text, /no changes/);
    assert.match(text, /\| 0 \| 0 \| 0 \| 0 \| 62 \|/);
    assert.doesNotMatch(text, /details|CAUTION|Policies|Cost/);
  });

  for (const [type, loss] of Object.entries({
    [CLUSTER]: "all that runs in it",
    "digitalocean:index/vpc:Vpc": "the cluster in it",
    "digitalocean:index/domain:Domain": "every record",
    "kubernetes:core/v1:Namespace": "claims of disks",
    "kubernetes:apps/v1:StatefulSet": "all its pods stop",
    "kubernetes:core/v1:PersistentVolumeClaim": "the data on it",
    "aws:eks/cluster:Cluster": "all that runs in it",
  })) {
    it(`must name the deletion and the replacement of ${type.split(":").at(-1)} before anything else`, () => {
      for (const op of ["delete", "replace"]) {
        const text = comment([step("create", CONFIG_MAP, "new"), step(op, type, "precious")]);
        const [caution, table] = [text.indexOf("[!CAUTION]"), text.indexOf("| create |")];
        assert.ok(caution > 0 && caution < table, text);
        const line = text.split("\n").find((one) => one.startsWith(`> - **${op}**`)) ?? "";
        assert.match(line, new RegExp(`\`precious\`: .*${loss}`));
        assert.ok(text.indexOf(`- ${op} `) < text.indexOf("+ create"), "and in the diff");
      }
    });
  }

  it("must begin the diff with what is lost, also where something else is replaced", () => {
    const text = comment([step("replace", CONFIG_MAP, "harmless"), step("delete", CLUSTER, "cluster")]);
    assert.match(text, /```diff\n- delete KubernetesCluster cluster/);
  });

  it("must name a balancer whose address would change, and no other Service", () => {
    const service = (type: string) =>
      comment([step("delete", "kubernetes:core/v1:Service", "a", { old: inputs("", { spec: { type } }) })]);
    assert.match(service("LoadBalancer"), /the public address/);
    assert.doesNotMatch(service("ClusterIP"), /CAUTION/);
  });

  it("must say because of what something is replaced, first of all its properties", () => {
    const type = "kubernetes:apps/v1:StatefulSet";
    const state = (name: string) => inputs(type, { spec: { claims: [{ class: name }] }, labels: { "a.b/c": name } });
    const detailedDiff = {
      'labels["a.b/c"]': { diffKind: "update" },
      "spec.claims[0].class": { diffKind: "update-replace" },
    };
    const text = comment([step("replace", type, "search", { old: state("slow"), new: state("fast"), detailedDiff })]);
    assert.match(text, /because of `spec.claims\[0\].class`: `"slow"` → `"fast"`/);
    const lines = text.split("\n").filter((line) => line.startsWith("    "));
    assert.deepEqual(lines, [
      '    spec.claims[0].class: "slow" → "fast"   # replaces it',
      '    labels["a.b/c"]: "slow" → "fast"',
    ]);
  });

  it("must tell what is added and what is taken away", () => {
    const detailedDiff = { "a.b": { diffKind: "add" }, c: { diffKind: "delete" } };
    const [old, wanted] = [inputs(CONFIG_MAP, { c: 1 }), inputs(CONFIG_MAP, { a: { b: 2 } })];
    const text = comment([step("update", CONFIG_MAP, "x", { old, new: wanted, detailedDiff })]);
    assert.match(text, /a\.b: \(nothing\) → 2\n {4}c: 1 → \(nothing\)/);
  });

  it("must show of two long texts where they differ", () => {
    const text = (word: string) => `${"same ".repeat(100)}${word}${" rest".repeat(100)}`;
    assert.match(comment([update(CONFIG_MAP, "x", "data", text("old"), text("new"))]), /same old rest.*same new rest/);
  });

  it("must never show a secret, whoever forgot to mark it", () => {
    const secret = { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", ciphertext: "hush" };
    const events = [
      step("create", "kubernetes:core/v1:Secret", "s", {
        new: inputs("kubernetes:core/v1:Secret", { data: { a: "hush" } }),
      }),
      update("kubernetes:core/v1:Secret", "t", "stringData", { a: "hush" }, { a: "hush2" }),
      update(CONFIG_MAP, "u", "password", "hush", "hush2"),
      update(CONFIG_MAP, "v", "login", { token: "hush" }, { token: "hush2" }),
      update(CONFIG_MAP, "w", "value", [secret], secret),
      step("create", CONFIG_MAP, "x", { new: inputs(CONFIG_MAP, { a: secret, registry: { password: "hush" } }) }),
    ];
    const text = comment(events);
    assert.doesNotMatch(text, /hush/);
    assert.equal(text.match(/\[secret\]/g)?.length, 11);
  });

  it("must let no text of others be Markdown, HTML or a mention", () => {
    const evil = "`</code>`` <script>alert(1)</script> @everyone | ``` \n# big\n</details>";
    const events = [
      step("delete", CLUSTER, evil),
      update(CONFIG_MAP, evil, "a", evil, "b"),
      said(evil),
      said(evil, "warning"),
      { policyEvent: { message: evil, policyName: evil, policyPackName: "p", enforcementLevel: "mandatory" } },
    ];
    const shown = html(comment(events, 1));
    assert.doesNotMatch(shown, /<script|<h1/);
    assert.equal(shown.match(/<\/details>/g)?.length, 2);
    assert.doesNotMatch(shown.replaceAll(/<code[^>]*>[\s\S]*?<\/code>/g, ""), /@everyone/);
    assert.equal(shown.match(/<tr>/g)?.length, 4, "two tables of a head and a row");
  });

  it("must tell each finding of a policy, and otherwise how many rules are kept", () => {
    const message =
      "No replicas.\nkubernetes:apps/v1:Deployment::shop: found 1 replica; set spec.replicas to 2 or more.";
    const found = { message, policyName: "replicas", policyPackName: "hobnob", enforcementLevel: "mandatory" };
    assert.match(
      comment([{ policyEvent: found }], 1),
      /\| ❌ mandatory \| `replicas` \| `kubernetes:apps\/v1:Deployment::shop: found 1 replica; set .*` \|/,
    );
    assert.match(comment([{ policyAnalyzeStackSummaryEvent: { passed: ["a", "b"] } }]), /all 2 rules are kept/);
  });

  it("must tell why a preview failed, with and without a word of the engine", () => {
    const failed = comment(
      [said("The configuration has 1 violation:\n\n  hobnob:domain\n"), said("noise", "debug")],
      255,
    );
    assert.match(failed, /^## ❌ Preview of `prod`: failed$/m);
    assert.match(failed, /hobnob:domain/);
    assert.doesNotMatch(failed, /noise/);
    assert.match(comment([], 255, "error: no stack named 'prod' found"), /no stack named 'prod'/);
    assert.match(comment([], 1), /without a word/);
  });

  it("must stay within GitHub's limit, and then keep the summary and the gravest changes", () => {
    const long = "x".repeat(150);
    const created = Array.from({ length: 4000 }, (_, index) =>
      step("create", CONFIG_MAP, `map-${index}`, { new: inputs(CONFIG_MAP, { data: { a: long, b: long } }) }),
    );
    const text = comment([...created, step("delete", CLUSTER, "cluster")]);
    assert.ok(text.length <= COMMENT_LIMIT && text.length > COMMENT_LIMIT - 1000, `${text.length} characters`);
    assert.match(text, /\*\*delete\*\* `KubernetesCluster` `cluster`/);
    assert.match(text, /```diff\n- delete KubernetesCluster cluster/);
    assert.match(text, /… and \d+ more; all of them: npm run stack -- prod preview --diff/);
    assert.equal(html(text).match(/<\/details>/g)?.length, 1, "the fold is closed");
  });

  it("must leave away what new resources are made with before it leaves any resource away", () => {
    const created = Array.from({ length: 300 }, (_, index) =>
      step("create", CONFIG_MAP, `map-${index}`, {
        new: inputs(CONFIG_MAP, { data: "x".repeat(150), more: "x".repeat(150) }),
      }),
    );
    const text = comment(created);
    assert.match(text, /\+ create ConfigMap map-299/);
    assert.doesNotMatch(text, /more; all of them/);
  });

  it("must fit where errors and findings alone are too long", () => {
    const message = "finding ".repeat(200);
    const found = Array.from(
      { length: 500 },
      (): EngineEvent => ({
        policyEvent: { message, policyName: "rule", policyPackName: "p", enforcementLevel: "mandatory" },
      }),
    );
    const text = comment([...found, said("e".repeat(1_000_000)), said("w".repeat(1_000_000), "warning")], 1);
    assert.ok(text.length <= COMMENT_LIMIT, `${text.length} characters`);
    assert.match(text, /characters more/);
    assert.match(text, /and 460 more/);
  });

  it("must be made of a log that was cut off as well", () => {
    const whole = JSON.stringify(said("why"));
    assert.match(comment(parseEvents(`${whole}\n{"diagnosticEv`), 1), /why/);
  });
});
