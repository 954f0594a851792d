import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { ToolError } from "../../local/build";
import { recordFigures } from "../figures";
import { captureStack, everything } from "../unit/stacks";
import { type Suppressed, suppressed } from "./suppressed";
import { checkov, type Finding, kubeScore, type Report } from "./tools";

// biome-ignore lint/suspicious/noExplicitAny: a manifest has as many shapes as there are kinds
type Manifest = any;

/** Every Kubernetes object of the stack `prod`, with all that is optional in it. */
async function manifests(): Promise<Manifest[]> {
  const graph = await captureStack("prod", everything);
  return graph
    .filter(({ type }) => type.startsWith("kubernetes:"))
    .map(({ name, inputs }) => ({ ...inputs, metadata: { name, ...inputs.metadata } }));
}

async function inFile<T>(objects: Manifest[], use: (file: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "hobnob-"));
  const file = join(directory, "objects.yaml");
  writeFileSync(file, objects.map((object) => stringify(object)).join("---\n"));
  return use(file).finally(() => rmSync(directory, { recursive: true }));
}

const covers = ({ tool, check, says, objects }: Suppressed, finding: Finding) =>
  tool === finding.tool &&
  check === finding.check &&
  (says === undefined || says === finding.says) &&
  (objects === "*" || objects.includes(finding.object));

const print = ({ tool, check, says, object }: Finding) => `${tool} ${check} ${object}${says ? `: ${says}` : ""}`;

describe("public checkers", function () {
  this.timeout(8 * 60_000);
  let objects: Manifest[];
  const reports: Partial<Record<Finding["tool"], Report>> = {};

  before("make the checkers where they are not there, and let them judge", async function () {
    objects = await manifests();
    await inFile(objects, (file) =>
      Promise.all(
        Object.entries({ "kube-score": kubeScore, checkov }).map(async ([tool, judge]) => {
          try {
            reports[tool as Finding["tool"]] = await judge(file);
          } catch (error) {
            if (!(error instanceof ToolError)) throw error;
            console.log(`    ${tool} is left out: ${error.message}`);
          }
        }),
      ),
    );
    if (Object.keys(reports).length === 0) this.skip();
  });

  const findings = () => Object.values(reports).flatMap((report) => report.findings);
  const reasons = () => suppressed.filter(({ tool }) => reports[tool]);

  const open = () => findings().filter((finding) => !reasons().some((one) => covers(one, finding)));

  it("must find nothing but what is suppressed with a reason", () => {
    assert.deepEqual([...new Set(open().map(print))], []);
  });

  it("must need every suppression, and every object that one names", () => {
    const idle = reasons().flatMap((one) => {
      const of = (object?: string) => (finding: Finding) =>
        covers(one, finding) && (object === undefined || finding.object === object);
      const parts = one.objects === "*" ? [undefined] : one.objects;
      return parts
        .filter((object) => !findings().some(of(object)))
        .map((object) => `${one.tool} ${one.check} ${object}`);
    });
    assert.deepEqual(idle, []);
  });

  it("must judge every object", () => {
    assert.ok(objects.length > 50);
    for (const { checks } of Object.values(reports)) assert.ok(checks > objects.length, `${checks} checks`);
    const counted = Object.fromEntries(
      reasons().map((one) => {
        const count = findings().filter((finding) => covers(one, finding)).length;
        return [`suppressed: ${one.tool} ${one.check} × ${count}`, one.reason];
      }),
    );
    recordFigures("checkers", {
      objects: objects.length,
      ...Object.fromEntries(Object.entries(reports).map(([tool, { checks }]) => [`${tool}: checks`, checks])),
      findings: findings().length,
      "findings without a reason": open().length,
      ...counted,
    });
  });

  it("must be seen to find: a pod that runs as root, with the machine's network and every right", async () => {
    const container = { name: "bad", image: "bad:latest", securityContext: { privileged: true, runAsUser: 0 } };
    const bad = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "bad", namespace: "shop" },
      spec: { hostNetwork: true, containers: [container] },
    };
    const judges = { "kube-score": kubeScore, checkov };
    const expected = {
      "kube-score": ["container-security-context-privileged", "container-image-tag"],
      checkov: ["CKV_K8S_16", "CKV_K8S_19"],
    };
    for (const tool of Object.keys(reports) as Finding["tool"][]) {
      const { findings } = await inFile([bad], judges[tool]);
      const checks = findings.map(({ check }) => check);
      for (const check of expected[tool]) assert.ok(checks.includes(check), check);
    }
  });
});
