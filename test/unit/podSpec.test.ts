import assert from "node:assert/strict";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { hardened } from "../../components/podSpec";
import { violations } from "../../policy/policies";
import { capture, find, UNKNOWN } from "./graph";

type PodSpec = k8s.types.input.core.v1.PodSpec;

const POD = "kubernetes:core/v1:Pod";
const CONFINED = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
};
const POD_CONTEXT = { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } };

/** As the engine sees it. */
async function seen(spec: () => PodSpec, preview = false) {
  const graph = await capture(() => new k8s.core.v1.Pod("pod", { spec: hardened(spec()) }), { preview });
  return find(graph, POD).inputs.spec;
}

describe("hardened", () => {
  it("must make the least pod one that Pod Security's level restricted takes, with no token", async () => {
    assert.deepEqual(await seen(() => ({ containers: [{ name: "shop", image: "acme/shop:1.2.3" }] })), {
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: POD_CONTEXT,
      containers: [{ name: "shop", image: "acme/shop:1.2.3", securityContext: CONFINED }],
    });
  });

  it("must confine init containers and sidecars alike, and add no list of them", async () => {
    const sidecar = { name: "log", restartPolicy: "Always" };
    const spec = await seen(() => ({ initContainers: [{ name: "init" }, sidecar], containers: [{ name: "shop" }] }));
    assert.deepEqual(spec.initContainers, [
      { name: "init", securityContext: CONFINED },
      { ...sidecar, securityContext: CONFINED },
    ]);
  });

  it("must let the pod's own word win, and add to it what it leaves out", async () => {
    const spec = await seen(() => ({
      hostNetwork: true,
      automountServiceAccountToken: true,
      securityContext: { runAsUser: 101, runAsNonRoot: false },
      containers: [
        {
          name: "shop",
          securityContext: { readOnlyRootFilesystem: false, capabilities: { add: ["NET_BIND_SERVICE"] } },
        },
        { name: "all", securityContext: { capabilities: { drop: ["NET_RAW"] } } },
      ],
    }));
    assert.deepEqual([spec.hostNetwork, spec.automountServiceAccountToken], [true, true]);
    assert.deepEqual(spec.securityContext, { ...POD_CONTEXT, runAsUser: 101, runAsNonRoot: false });
    assert.deepEqual(
      spec.containers.map(({ securityContext }: { securityContext: object }) => securityContext),
      [
        { ...CONFINED, readOnlyRootFilesystem: false, capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] } },
        { ...CONFINED, capabilities: { drop: ["NET_RAW"] } },
      ],
    );
  });

  it("must change no pod that it is given", () => {
    const spec: PodSpec = { securityContext: { fsGroup: 1 }, containers: [{ name: "shop", securityContext: {} }] };
    const before = structuredClone(spec);
    hardened(spec);
    assert.deepEqual(spec, before);
  });

  it("must reach into outputs, and hide nothing for one value that a preview cannot know", async () => {
    const made = () => new k8s.core.v1.ConfigMap("made", {});
    const late = () => pulumi.output([{ name: "shop", securityContext: { runAsUser: 7 } }]);
    const spec = await seen(() => ({ containers: late() }));
    assert.deepEqual(spec.containers, [{ name: "shop", securityContext: { ...CONFINED, runAsUser: 7 } }]);
    const unknown = await seen(() => ({ containers: [{ name: "shop", image: made().metadata.name }] }), true);
    assert.deepEqual(unknown.containers, [{ name: "shop", image: UNKNOWN, securityContext: CONFINED }]);
  });

  it("must leave of a pod's violations of restricted none", async () => {
    const judge = async (change: (spec: PodSpec) => PodSpec) => {
      const bare = { serviceAccountName: "shop", containers: [{ name: "shop", image: "acme/shop:1.2.3" }] };
      const template = { metadata: { labels: { app: "shop" } }, spec: change(bare) };
      const spec = { selector: { matchLabels: { app: "shop" } }, template };
      const graph = await capture(() => new k8s.apps.v1.DaemonSet("shop", { spec }));
      const judged = graph.map((resource) => ({ ...resource, props: resource.inputs }));
      return violations(judged).map(({ rule }) => rule);
    };
    assert.deepEqual(await judge((spec) => spec), ["container-resources", "restricted", "read-only-root", "no-token"]);
    assert.deepEqual(await judge(hardened), ["container-resources"]);
  });
});
