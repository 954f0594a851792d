import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { recordFigures } from "../figures";
import { autoscaling, captureStack } from "../unit/stacks";
import { type Suppressed, suppressed } from "./suppressed";
import { checkov, type Finding, kubeScore, missing, type Report } from "./tools";

// biome-ignore lint/suspicious/noExplicitAny: a manifest has as many shapes as there are kinds
type Manifest = any;

/** Every Kubernetes object of the stack `prod`, with all that is optional in it. */
async function manifests(): Promise<Manifest[]> {
  const graph = await captureStack("prod", autoscaling);
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
  let reports: Record<Finding["tool"], Report>;

  before("build the checkers where they are not there, and let them judge", async function () {
    const reason = await missing();
    if (reason) {
      console.log(`    The public checkers are left out: ${reason}.`);
      this.skip();
    }
    objects = await manifests();
    const [score, check] = await inFile(objects, (file) => Promise.all([kubeScore(file), checkov(file)]));
    reports = { "kube-score": score, checkov: check };
  });

  const findings = () => [...reports["kube-score"].findings, ...reports.checkov.findings];

  it("must find nothing but what is suppressed with a reason", () => {
    const open = findings().filter((finding) => !suppressed.some((one) => covers(one, finding)));
    assert.deepEqual([...new Set(open.map(print))], []);
  });

  it("must need every suppression, and every object that one names", () => {
    const idle = suppressed.flatMap((one) => {
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
    const reasons = Object.fromEntries(
      suppressed.map((one) => {
        const count = findings().filter((finding) => covers(one, finding)).length;
        return [`suppressed: ${one.tool} ${one.check} × ${count}`, one.reason];
      }),
    );
    recordFigures("checkers", {
      objects: objects.length,
      "kube-score: checks": reports["kube-score"].checks,
      "checkov: checks": reports.checkov.checks,
      findings: findings().length,
      "findings without a reason": 0,
      ...reasons,
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
    const both = await inFile([bad], (file) => Promise.all([kubeScore(file), checkov(file)]));
    const checks = both.flatMap((report) => report.findings.map(({ check }) => check));
    for (const check of ["container-security-context-privileged", "container-image-tag", "CKV_K8S_16", "CKV_K8S_19"])
      assert.ok(checks.includes(check), check);
  });
});
