import assert from "node:assert/strict";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { capture, find, UNKNOWN, unwrap, waitsFor } from "./graph";

const SECRET = "kubernetes:core/v1:Secret";
const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";

class Pair extends pulumi.ComponentResource {
  constructor(name: string, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:Pair", name, {}, opts);
    const secret = new k8s.core.v1.Secret(name, { stringData: { a: pulumi.secret("x") } }, { parent: this });
    new k8s.core.v1.ConfigMap(name, { data: { a: secret.metadata.name } }, { parent: this });
    this.registerOutputs();
  }
}

function twoPairs() {
  const provider = new k8s.Provider("cluster", { kubeconfig: "{}" });
  const one = new Pair("one", { provider });
  new Pair("two", { provider, dependsOn: [one] });
}

describe("graph capture", () => {
  for (const run of ["first", "second"])
    it(`must see every resource and edge in the ${run} run of one process`, async () => {
      const graph = await capture(twoPairs);
      assert.deepEqual(
        graph.map((r) => `${r.type}::${r.name}`),
        [
          "pulumi:providers:kubernetes::cluster",
          "hobnob:platform:Pair::one",
          `${SECRET}::one`,
          `${CONFIG_MAP}::one`,
          "hobnob:platform:Pair::two",
          `${SECRET}::two`,
          `${CONFIG_MAP}::two`,
        ],
      );
      const configMap = find(graph, CONFIG_MAP, "one");
      const secret = find(graph, SECRET, "one");
      assert.equal(configMap.urn, `urn:pulumi:test::hobnob::hobnob:platform:Pair$${CONFIG_MAP}::one`);
      assert.deepEqual(configMap.propertyDependencies, { data: [secret.urn] });
      assert.deepEqual(configMap.inputs.data, { a: "one-0a1b2c3d" });
      assert.deepEqual([secret.inputs.stringData, secret.secrets], [{ a: "x" }, ["stringData"]]);
      assert.equal(secret.provider, find(graph, "pulumi:providers:kubernetes").urn);
    });

  it("must tell who waits for whom through a component's dependsOn, and only in that direction", async () => {
    const graph = await capture(twoPairs);
    const before = find(graph, CONFIG_MAP, "one");
    const after = find(graph, SECRET, "two");
    assert.equal(waitsFor(graph, after, before), true);
    assert.equal(waitsFor(graph, before, after), false);
    assert.equal(waitsFor(graph, before, find(graph, SECRET, "one")), true);
    assert.equal(waitsFor(graph, before, find(graph, "pulumi:providers:kubernetes")), true);
  });

  it("must show what never waited for a stuck resource", async () => {
    const graph = await capture(twoPairs, { stuck: `${SECRET}::one` });
    assert.deepEqual(
      graph.map((r) => `${r.type}::${r.name}`),
      ["pulumi:providers:kubernetes::cluster", "hobnob:platform:Pair::one", `${SECRET}::one`],
    );
  });

  it("must leave computed values unknown in a preview", async () => {
    const graph = await capture(twoPairs, { preview: true });
    assert.equal(graph.length, 7);
    assert.deepEqual(find(graph, CONFIG_MAP, "two").inputs.data, { a: UNKNOWN });
  });

  it("must wait for resources that an output creates late", async () => {
    const graph = await capture(() => {
      let late = pulumi.output(0);
      for (let i = 0; i < 50; i++) late = late.apply((n) => pulumi.output(n).apply((m) => m + 1));
      late.apply(() => new Pair("late"));
    });
    assert.equal(graph.length, 3);
  });

  it("must fail as the capture's own error, in the program and in an output alike", async () => {
    const throws = () => {
      throw new Error("bad program");
    };
    await assert.rejects(capture(throws), { message: "bad program" });
    const unknownCall = () => void pulumi.output(pulumi.runtime.invoke("a:b:c", {}));
    await assert.rejects(capture(unknownCall), /Mock call not implemented: a:b:c/);
    const duplicate = () => [new Pair("one"), new Pair("one")];
    await assert.rejects(
      capture(duplicate),
      /Duplicate resource URN 'urn:pulumi:test::hobnob::hobnob:platform:Pair::one'/,
    );
  });

  it("must tell a secret output from a plain one", async () => {
    assert.deepEqual(await unwrap(pulumi.secret("x")), { value: "x", secret: true, known: true });
    assert.deepEqual(await unwrap(pulumi.output("x")), { value: "x", secret: false, known: true });
  });
});
