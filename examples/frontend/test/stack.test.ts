import assert from "node:assert/strict";
import { violations } from "hobnob-platform/policy";
import type { OutputName } from "../../../platform";
import { type Captured, type CaptureOptions, capture, find, ofType, UNKNOWN, waitsFor } from "../../../test/unit/graph";
import { platformOutputs, platformStack } from "../../../test/unit/platformOutputs";

const PROJECT = "frontend";
const settings = {
  "frontend:platform": "acme/hobnob/prod",
  "frontend:repository": "acme/frontend-site",
  "frontend:registryUsername": "acme",
  "frontend:registryPassword": "a password",
};

/** The stack on a platform that is at DigitalOcean, but for these settings and outputs. */
function graphOf(
  more: { config?: Record<string, string | undefined>; platform?: { [Name in OutputName]?: unknown } } = {},
  options: CaptureOptions = {},
): Promise<Captured[]> {
  const config = Object.entries({ ...settings, ...more.config }).filter((entry) => entry[1] !== undefined);
  return capture(() => (require("../index") as () => Promise<unknown>)(), {
    project: PROJECT,
    config: Object.fromEntries(config) as Record<string, string>,
    secretKeys: ["frontend:registryPassword"],
    mocks: { resource: platformStack(more.platform) },
    ...options,
  });
}

const pod = (graph: Captured[]) => find(graph, "kubernetes:apps/v1:Deployment").inputs.spec.template;
const env = (graph: Captured[]) =>
  Object.fromEntries(
    pod(graph).spec.containers[0].env.map(({ name, value }: { name: string; value: string }) => [name, value]),
  );

describe("front end's stack", () => {
  it("must be the page's server in two pods or more, on other machines, and what leads there", async () => {
    const graph = await graphOf();
    const counted = graph.filter(({ custom }) => custom).map(({ type, name }) => `${type}::${name}`);
    assert.deepEqual(counted.sort(), [
      "digitalocean:index/dnsRecord:DnsRecord::records-@-a",
      "digitalocean:index/dnsRecord:DnsRecord::records-@-aaaa",
      "digitalocean:index/dnsRecord:DnsRecord::records-www-a",
      "digitalocean:index/dnsRecord:DnsRecord::records-www-aaaa",
      "docker:index/image:Image::site",
      "kubernetes:apps/v1:Deployment::site",
      "kubernetes:core/v1:Namespace::frontend",
      "kubernetes:core/v1:Secret::registry",
      "kubernetes:core/v1:Service::site",
      "kubernetes:core/v1:ServiceAccount::site",
      "kubernetes:networking.k8s.io/v1:Ingress::site",
      "kubernetes:networking.k8s.io/v1:NetworkPolicy::frontend-default-deny",
      "kubernetes:networking.k8s.io/v1:NetworkPolicy::site",
      "kubernetes:policy/v1:PodDisruptionBudget::site",
      "pulumi:providers:kubernetes::platform",
    ]);
    const { spec } = find(graph, "kubernetes:apps/v1:Deployment").inputs;
    assert.equal(spec.replicas, 2);
    assert.equal(spec.template.spec.topologySpreadConstraints[0].whenUnsatisfiable, "DoNotSchedule");
    assert.deepEqual(spec.template.spec.nodeSelector, platformOutputs.nodeSelector);
    assert.match(spec.template.spec.containers[0].image, /^docker\.io\/acme\/frontend-site@sha256:[0-9a-f]{64}$/);
  });

  it("must break no policy, in preview as in update", async () => {
    for (const preview of [true, false]) {
      const graph = await graphOf({}, { preview });
      const resources = graph.map(({ inputs, ...rest }) => ({ ...rest, props: inputs }));
      assert.deepEqual(violations(resources), []);
    }
  });

  it("must make the same resources in preview as in update", async () => {
    const names = (graph: Captured[]) => graph.map(({ urn }) => urn).sort();
    assert.deepEqual(names(await graphOf({}, { preview: true })), names(await graphOf()));
  });

  it("must tell the page where this stage's API is, and send the bare domain to www", async () => {
    assert.deepEqual(env(await graphOf()), {
      API_URL: "https://api.example.com",
      PUBLIC_URL: "https://www.example.com",
      REDIRECT_HOST: "example.com",
      PORT: "8080",
      DRAIN_SECONDS: "5",
    });
    const plain = await graphOf({ platform: { coveredHosts: [], apiUrl: "http://api.example.com" } });
    assert.equal(env(plain).PUBLIC_URL, "http://www.example.com");
  });

  it("must build one image for every stage: nothing of a stage goes into the build", async () => {
    const { build, ...image } = find(await graphOf(), "docker:index/image:Image").inputs;
    assert.deepEqual(build.args, { BUILDKIT_INLINE_CACHE: "1" });
    assert.match(build.context, /examples\/frontend\/site$/);
    assert.equal(image.imageName, "docker.io/acme/frontend-site:latest");
  });

  it("must not wait for the cluster to build, nor for the build to make the names known", async () => {
    const graph = await graphOf();
    const image = find(graph, "docker:index/image:Image");
    assert.ok(!waitsFor(graph, image, find(graph, "kubernetes:core/v1:Namespace")));
    for (const record of ofType(graph, "digitalocean:index/dnsRecord:DnsRecord"))
      assert.ok(!waitsFor(graph, record, image));
  });

  it("must let the ingress controller reach the server's port and nobody else, and let the server reach nobody", async () => {
    const graph = await graphOf();
    const { spec } = find(graph, "kubernetes:networking.k8s.io/v1:NetworkPolicy", "site").inputs;
    assert.deepEqual(spec.ingress.length, 1);
    assert.deepEqual(spec.ingress[0].ports, [{ protocol: "TCP", port: "http" }]);
    assert.deepEqual(spec.ingress[0].from.length, 1);
    assert.deepEqual(
      spec.egress.flatMap(({ ports }: { ports: { port: number }[] }) => ports.map(({ port }) => port)),
      [53, 53],
    );
    assert.equal(pod(graph).metadata.labels["hobnob/ingress-class"], "nginx");
  });

  it("must be at www and the bare domain, in the platform's zone", async () => {
    const graph = await graphOf();
    const { rules, ingressClassName } = find(graph, "kubernetes:networking.k8s.io/v1:Ingress").inputs.spec;
    assert.equal(ingressClassName, "nginx");
    assert.deepEqual(
      rules.map(({ host }: { host: string }) => host),
      ["www.example.com", "example.com"],
    );
    const records = ofType(graph, "digitalocean:index/dnsRecord:DnsRecord");
    const inOrder = records.sort((a, b) => a.name.localeCompare(b.name)).map(({ inputs }) => inputs);
    const [ipv4, ipv6] = [
      { type: "A", value: "203.0.113.10" },
      { type: "AAAA", value: "2001:db8::10" },
    ];
    const of = (name: string) => [ipv4, ipv6].map((fields) => ({ domain: "example.com", name, ttl: 300, ...fields }));
    assert.deepEqual(inOrder, [...of("@"), ...of("www")]);
  });

  it("must refuse hosts that the platform's certificate does not cover", async () => {
    const coveredHosts = ["api.example.com", "docs.example.com"];
    await assert.rejects(graphOf({ platform: { coveredHosts } }), /www\.example\.com/);
  });

  it("must have records where the platform has a zone, and of the addresses that its balancer has", async () => {
    const DNS_RECORD = "digitalocean:index/dnsRecord:DnsRecord";
    assert.deepEqual(ofType(await graphOf({ platform: { zone: "" } }), DNS_RECORD), []);
    const plain = await graphOf({ platform: { ingressIpv6: "" } });
    assert.deepEqual(
      ofType(plain, DNS_RECORD).map(({ inputs }) => inputs.type),
      ["A", "A"],
    );
  });

  it("must take an image that is there, and then build, push and pull with no password", async () => {
    const image = `ghcr.io/acme/frontend@sha256:${"a".repeat(64)}`;
    const graph = await graphOf({ config: { "frontend:image": image } });
    assert.equal(pod(graph).spec.containers[0].image, image);
    assert.deepEqual([...ofType(graph, "docker:index/image:Image"), ...ofType(graph, "kubernetes:core/v1:Secret")], []);
  });

  it("must keep the password in Secrets", async () => {
    const graph = await graphOf();
    const plain = graph.filter(({ inputs }) => JSON.stringify(inputs).includes("a password"));
    assert.deepEqual(
      plain.map(({ type, secrets }) => [type, secrets]),
      [["docker:index/image:Image", ["registry.password"]]],
    );
  });

  it("must ask for a password where the registry does, and for none where it does not", async () => {
    const half = { "frontend:registryPassword": undefined };
    await assert.rejects(graphOf({ config: half }), /frontend:registryPassword\n {4}given: {3}nothing/);
    const config = { ...half, "frontend:registryUsername": undefined };
    await assert.rejects(
      graphOf({ config }),
      /frontend:registryUsername\n.*\n {4}allowed: a user who may push to docker.io/,
    );
    const registry = { ...platformOutputs.registry, private: false, anonymous: true };
    assert.deepEqual(ofType(await graphOf({ config, platform: { registry } }), "kubernetes:core/v1:Secret"), []);
  });

  it("must list all that is wrong in its settings, each with the command that helps", async () => {
    const config = {
      "frontend:platform": undefined,
      "frontend:repository": undefined,
      "frontend:replicas": "1",
    };
    await assert.rejects(graphOf({ config }), (error: Error) => {
      for (const part of [
        "3 violations",
        "frontend:platform\n    given:   nothing\n    allowed: the full name of a platform stack",
        "frontend:repository\n    given:   nothing",
        "frontend:replicas\n    given:   1\n    allowed: a whole number of 2 to 100\n    command: pulumi config set 'frontend:replicas'",
      ])
        assert.ok(error.message.includes(part), `${part} is not in:\n${error.message}`);
      return true;
    });
  });

  const used: OutputName[] = [
    ...(["apiUrl", "clusterId", "coveredHosts", "domain", "kubeconfig", "nodeSelector", "registry"] as const),
    ...([
      "ingressAddress",
      "ingressClass",
      "ingressExpose",
      "ingressHostname",
      "ingressIpv6",
      "spread",
      "zone",
    ] as const),
    ...(["ingressCustomResources", "ingressSecretNamespaces"] as const),
  ];
  for (const name of used)
    it(`must say so where the platform's contract lacks ${name}`, async () => {
      await assert.rejects(graphOf({ platform: { [name]: undefined } }), (error: Error) => {
        assert.match(error.message, new RegExp(`\\n {2}${name}\\n`));
        return true;
      });
    });

  it("must use of the contract what these tests take away, and no more", async () => {
    const others = Object.keys(platformOutputs).filter((name) => !used.some((one) => one === name));
    const graph = await graphOf({ platform: Object.fromEntries(others.map((name) => [name, undefined])) });
    assert.ok(!JSON.stringify(graph).includes(UNKNOWN));
  });
});
