import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { withEditedClone } from "./clone";

/** A workload as somebody adds it in a hurry: it works, until its machine is drained. */
const HURRIED = `
  const k8s = require("@pulumi/kubernetes");
  const shop = { app: "shop" };
  new k8s.apps.v1.Deployment(
    "shop",
    {
      metadata: { name: "shop", namespace },
      spec: {
        selector: { matchLabels: shop },
        template: { metadata: { labels: shop }, spec: { containers: [{ name: "shop", image: image.ref }] } },
      },
    },
    onCluster,
  );
  new k8s.core.v1.Service("shop", { metadata: { namespace }, spec: { selector: shop, ports: [{ port: 80 }] } }, onCluster);
`;

describe("the policy pack", function () {
  this.timeout(5 * 60_000);

  it("must fail the preview of a workload that one machine can take down, and say what to set", async () => {
    const state = mkdtempSync(join(tmpdir(), "hobnob-test-"));
    const edit = (program: string) => program.replace("\n  return {", `${HURRIED}\n  return {`);
    try {
      await withEditedClone(edit, async (clone) => {
        const command = [join(clone, "local", "bootstrap.mjs"), "preview", "prod"];
        const env = { HOBNOB_LOCAL_STATE: state };
        const { exitCode, all } = await execa(process.execPath, command, {
          cwd: clone,
          env,
          all: true,
          reject: false,
          stdin: "ignore",
        });
        assert.notEqual(exitCode, 0, all);
        assert.match(all, /Policies:\n\s+❌ hobnob@v/);
        // Of everything else, which is prod as it is, nothing is said.
        const judged = [...all.matchAll(/\[mandatory\] .*: ([\w.-]+)\)/g)].map(([, name]) => name);
        assert.deepEqual([...new Set(judged)], ["shop"], all);
        for (const [rule, message] of [
          ["replicas", "found 1 replica; set spec.replicas to 2 or more."],
          [
            "disruption-budget",
            "found no PodDisruptionBudget; set one PodDisruptionBudget that selects exactly its pods.",
          ],
          [
            "readiness-probe",
            "found container shop without readinessProbe; set a readinessProbe that asks what the Service's clients ask.",
          ],
          ["container-resources", "found container shop without requests.cpu, requests.memory, limits.memory;"],
        ]) {
          assert.match(all, new RegExp(`\\[mandatory\\]\\s+${rule} +\\(kubernetes:apps/v1:Deployment: shop\\)`));
          assert.ok(all.includes(`kubernetes:apps/v1:Deployment::shop: ${message}`), `${message}\n${all}`);
        }
      });
    } finally {
      rmSync(state, { recursive: true, force: true });
    }
  });
});
