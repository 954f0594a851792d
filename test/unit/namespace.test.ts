import assert from "node:assert/strict";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { Namespace, type NamespaceArgs } from "../../components/namespace";
import { capture, find, ofType } from "./graph";

const NAMESPACE = "kubernetes:core/v1:Namespace";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";

const made = (changes: Partial<NamespaceArgs> = {}) =>
  capture(() => void new Namespace("shop", { name: "shop", ...changes }));

const labels = async (changes: Partial<NamespaceArgs> = {}) =>
  find(await made(changes), NAMESPACE).inputs.metadata.labels;

describe("namespace", () => {
  it("must be exactly these resources, all in it", async () => {
    const graph = await made();
    assert.deepEqual(
      graph.map(({ type, name }) => `${type}::${name}`),
      ["hobnob:platform:Namespace::shop", `${NAMESPACE}::shop`, `${POLICY}::shop-default-deny`],
    );
    assert.equal(find(graph, POLICY).inputs.metadata.namespace, "shop");
  });

  it("must run restricted pods only, by standards that an upgrade of the cluster does not change", async () => {
    assert.deepEqual(await labels({ labels: { team: "shop" } }), {
      team: "shop",
      "pod-security.kubernetes.io/enforce": "restricted",
      "pod-security.kubernetes.io/enforce-version": "v1.36",
      "pod-security.kubernetes.io/warn": "restricted",
      "pod-security.kubernetes.io/warn-version": "latest",
      "pod-security.kubernetes.io/audit": "restricted",
      "pod-security.kubernetes.io/audit-version": "latest",
    });
  });

  it("must run others only when told so", async () => {
    assert.equal((await labels({ level: "privileged" }))["pod-security.kubernetes.io/enforce"], "privileged");
  });

  it("must deny its pods every connection, in and out", async () => {
    assert.deepEqual(find(await made(), POLICY).inputs.spec, { podSelector: {}, policyTypes: ["Ingress", "Egress"] });
  });

  it("must limit what pods request only where asked to, and give those that say nothing a request", async () => {
    const quota = { cpu: "4", memory: "8Gi", pods: 20, container: { cpu: "50m", memory: "64Mi" } };
    const graph = await made({ quota });
    const [{ inputs }] = [find(graph, "kubernetes:core/v1:ResourceQuota")];
    assert.deepEqual(inputs.spec, { hard: { "requests.cpu": "4", "requests.memory": "8Gi", pods: "20" } });
    const limits = [{ type: "Container", defaultRequest: { cpu: "50m", memory: "64Mi" } }];
    assert.deepEqual(find(graph, "kubernetes:core/v1:LimitRange").inputs.spec, { limits });
    for (const type of ["kubernetes:core/v1:ResourceQuota", "kubernetes:core/v1:LimitRange"])
      assert.equal(ofType(await made(), type).length, 0);
  });

  it("must stay the namespace that it was before it had a component; at the top of a stack test/local/upgrade.test.ts sees it", async () => {
    const nested = await capture(() => {
      const parent = new pulumi.ComponentResource("hobnob:platform:Shop", "shop");
      new Namespace("shop", { name: "shop" }, { parent });
    });
    assert.deepEqual(find(nested, NAMESPACE).aliases, [find(nested, "hobnob:platform:Shop").urn]);
  });

  it("must be known by its name only when it is there", async () => {
    const graph = await capture(() => {
      const { name } = new Namespace("shop", { name: "shop" });
      new k8s.core.v1.ConfigMap("shop", { metadata: { namespace: name } });
    });
    const { propertyDependencies } = find(graph, "kubernetes:core/v1:ConfigMap");
    assert.deepEqual(propertyDependencies.metadata, [find(graph, NAMESPACE).urn]);
  });
});
