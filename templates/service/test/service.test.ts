import assert from "node:assert/strict";
import { violations } from "hobnob-platform/policy";
import { capture, find, ofType, platformOutputs, platformStack } from "hobnob-platform/testing";

const image = `docker.io/acme/shop@sha256:${"1".repeat(64)}`;

/** What the program asks the engine for, on a platform that differs from the usual one by `changes`. */
const graph = (changes: Parameters<typeof platformStack>[0] = {}, config: Record<string, string> = {}) =>
  capture(() => require("../index")(), {
    project: "shop",
    stack: "prod",
    config: { "shop:platform": "acme/hobnob/prod", "shop:image": image, ...config },
    mocks: { resource: platformStack({ coveredHosts: ["*.example.com"], ...changes }) },
  });

describe("the service", () => {
  it("must run the given image, in two pods or more, on the platform's cluster alone", async () => {
    const all = await graph();
    const { inputs } = find(all, "kubernetes:apps/v1:Deployment");
    assert.equal(inputs.spec.template.spec.containers[0].image, image);
    assert.ok(inputs.spec.replicas >= 2);
    const { urn } = find(all, "pulumi:providers:kubernetes");
    for (const object of all.filter(({ type }) => type.startsWith("kubernetes:")))
      assert.ok(object.provider?.startsWith(urn), object.urn);
  });

  it("must answer at its name under the platform's domain, by the platform's ingress class", async () => {
    const { spec } = find(await graph(), "kubernetes:networking.k8s.io/v1:Ingress").inputs;
    assert.equal(spec.rules[0].host, "shop.example.com");
    assert.equal(spec.ingressClassName, platformOutputs.ingressClass);
  });

  it("must be reached by nobody whom no policy names", async () => {
    const policies = ofType(await graph(), "kubernetes:networking.k8s.io/v1:NetworkPolicy");
    assert.ok(policies.some(({ inputs }) => Object.keys(inputs.spec.podSelector).length === 0));
  });

  it("must list all that is wrong in its settings", async () => {
    const wrong = { "shop:platform": "prod", "shop:image": "shop:latest", "shop:port": "80" };
    await assert.rejects(graph({}, wrong), /3 violations.*shop:platform.*shop:image.*shop:port/s);
  });

  it("must break none of the platform's policies", async () => {
    const resources = (await graph()).map(({ inputs, ...resource }) => ({ ...resource, props: inputs }));
    assert.deepEqual(violations(resources), []);
  });

  for (const name of ["kubeconfig", "clusterId", "domain", "ingressClass", "coveredHosts", "spread"] as const) {
    it(`must refuse a platform without ${name}`, async () => {
      await assert.rejects(
        graph({ [name]: undefined }),
        new RegExp(`platform stack acme/hobnob/prod .*\n\n {2}${name}\n`),
      );
    });
  }
});
