import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { decode, encode } from "dns-packet";
import { NAME_SERVERS } from "../../components/dns";
import { contract, type OutputName, outputMeta } from "../../platform";
import { type Captured, type CaptureOptions, capture, find, ofType, unwrap, waitsFor } from "./graph";

const account = {
  "/v2/kubernetes/options": {
    options: {
      versions: [{ slug: "1.36.3-do.0" }],
      regions: [{ slug: "fra1" }],
      sizes: [{ slug: "s-2vcpu-4gb" }, { slug: "s-4vcpu-8gb" }],
    },
  },
  "/v2/kubernetes/clusters": { kubernetes_clusters: [] },
  "/v2/vpcs": { vpcs: [{ name: "default-fra1", region: "fra1", ip_range: "10.114.0.0/20", default: true }] },
};

const settings = {
  "hobnob:domain": "example.com",
  "hobnob:cluster": JSON.stringify({ region: "fra1", systemPool: { size: "s-2vcpu-4gb", count: 3 } }),
  "hobnob:registry": JSON.stringify({ repository: "acme/backend", username: "acme" }),
  "hobnob:registryPassword": "a secret of the test",
};

const workerPools = { workers: { size: "s-4vcpu-8gb", minCount: 4, maxCount: 6 } };
const withPool = {
  "hobnob:cluster": JSON.stringify({
    region: "fra1",
    systemPool: { size: "s-2vcpu-4gb", count: 2 },
    workerPools,
  }),
};

const protectedCluster = {
  "hobnob:cluster": JSON.stringify({ ...JSON.parse(settings["hobnob:cluster"]), protect: true }),
};

const PROTECTION = "hobnob:platform:Protection";

const autoscaling = { "hobnob:api": JSON.stringify({ autoscaling: { minReplicas: 3, maxReplicas: 6 } }) };

/** A domain that is delegated, as TLS needs it. */
async function delegation() {
  const socket = createSocket("udp4", (message, { port, address }) => {
    const { id, questions } = decode(message);
    const name = questions?.[0]?.name ?? "";
    const answers = NAME_SERVERS.map((data) => ({ type: "NS" as const, name, data }));
    socket.send(encode({ type: "response", id, questions, answers }), port, address);
  });
  await once(socket.bind(0, "127.0.0.1"), "listening");
  return { resolver: `127.0.0.1:${socket.address().port}`, close: () => socket.close() };
}

/** A kubeconfig that has the context `there`. */
function kubeconfig() {
  const directory = mkdtempSync(join(tmpdir(), "hobnob-"));
  const file = join(directory, "config");
  const contexts = [{ name: "there", context: { cluster: "there", user: "there" } }];
  const clusters = [{ name: "there", cluster: { server: "https://there.test" } }];
  writeFileSync(file, JSON.stringify({ contexts, clusters, users: [{ name: "there", user: { token: "t" } }] }));
  return { file, remove: () => rmSync(directory, { recursive: true }) };
}

describe("the whole graph", () => {
  let server: Server;
  const environment = { ...process.env };

  before(async () => {
    server = createServer((request, response) => {
      const path = new URL(request.url ?? "", "http://account").pathname;
      response.setHeader("content-type", "application/json");
      const answer = account[path as keyof typeof account];
      response.writeHead(answer ? 200 : 404).end(JSON.stringify(answer ?? { id: "not_found" }));
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    process.env.DIGITALOCEAN_TOKEN = "test";
    process.env.DIGITALOCEAN_API_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });

  after(() => {
    process.env = environment;
    server.close();
  });

  // biome-ignore lint/suspicious/noExplicitAny: the outputs are judged one by one
  let outputs: any;
  const graph = (config: Record<string, string> = {}, options: Omit<CaptureOptions, "config"> = {}) =>
    capture(
      async () => {
        outputs = await (require("../../index") as () => Promise<unknown>)();
      },
      { config: { ...settings, ...config }, secretKeys: ["hobnob:registryPassword"], ...options },
    );

  const image = (all: Captured[]) => find(all, "docker:index/image:Image");
  const cluster = (all: Captured[]) => find(all, "digitalocean:index/kubernetesCluster:KubernetesCluster");
  const elasticsearch = (all: Captured[]) => find(all, "kubernetes:apps/v1:StatefulSet");
  const api = (all: Captured[]) => find(all, "kubernetes:apps/v1:Deployment", "backend");
  const balancer = (all: Captured[]) => {
    const [service] = all.filter(
      ({ type, inputs }) => type === "kubernetes:core/v1:Service" && inputs.spec.type === "LoadBalancer",
    );
    assert.ok(service);
    return service;
  };
  const record = (all: Captured[]) => find(all, "digitalocean:index/dnsRecord:DnsRecord", "records-api-a");

  const guard = (part: string) => (all: Captured[]) =>
    find(all, `kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmission${part}`, "elasticsearch-guard");
  const namespace = (all: Captured[]) => find(all, "kubernetes:core/v1:Namespace", "hobnob");

  for (const [one, other, title] of [
    [image, cluster, "the image and the cluster"],
    [elasticsearch, balancer, "Elasticsearch and the balancer"],
    [record, api, "the DNS records and the API"],
    [api, elasticsearch, "the API and Elasticsearch"],
    [guard("Policy"), guard("PolicyBinding"), "the two parts of Elasticsearch's guard"],
    [guard("Policy"), namespace, "Elasticsearch's guard and the namespace"],
  ] as const) {
    it(`must bring up ${title} side by side`, async () => {
      const all = await graph();
      assert.equal(waitsFor(all, one(all), other(all)), false, "the first waits for the second");
      assert.equal(waitsFor(all, other(all), one(all)), false, "the second waits for the first");
    });
  }

  it("must not hold anything back by an await that no edge shows: all is registered while each of these is not done", async () => {
    // What refuses a destroy waits for everything, and nothing for it.
    const complete = (await graph()).length - 1;
    for (const stuck of [
      "docker:index/image:Image",
      "kubernetes:apps/v1:StatefulSet",
      "kubernetes:apps/v1:Deployment",
    ]) {
      const all = await graph({}, { stuck });
      const missing = complete - all.length;
      // A workload for its image, and each disk for the set that makes its claim.
      const waiting = stuck.startsWith("docker") ? 1 : stuck.endsWith("StatefulSet") ? 3 : 0;
      assert.ok(missing <= waiting, `${missing} resources wait for ${stuck}`);
    }
  });

  it("must make Elasticsearch's keys and passwords while the cluster is being made", async () => {
    const secured = { "hobnob:elasticsearch": JSON.stringify({ security: true }) };
    const all = await graph(secured, { stuck: "digitalocean:index/kubernetesCluster:KubernetesCluster" });
    const made = (type: string) => all.filter((resource) => resource.type === type).length;
    assert.equal(made("tls:index/privateKey:PrivateKey"), 2);
    assert.equal(made("random:index/randomPassword:RandomPassword"), 5);
  });

  it("must not let the API's policy wait for the controller that it names", async () => {
    const all = await graph();
    const policy = find(all, "kubernetes:networking.k8s.io/v1:NetworkPolicy", "backend");
    const [{ from }] = policy.inputs.spec.ingress;
    assert.deepEqual(from[0].namespaceSelector, { matchLabels: { "kubernetes.io/metadata.name": "nginx-ingress" } });
    const namespace = find(all, "kubernetes:core/v1:Namespace", "ingress");
    assert.equal(namespace.inputs.metadata.name, "nginx-ingress");
    assert.equal(waitsFor(all, policy, namespace), false);
  });

  it("must cover and tell each host once", async () => {
    const { resolver, close } = await delegation();
    const hosts = ["shop.example.com", "api.example.com", "shop.example.com"];
    try {
      const all = await graph({ "hobnob:tls": JSON.stringify({ enabled: true, resolver, hosts }) });
      const covered = ["api.example.com", "docs.example.com", "shop.example.com"];
      assert.deepEqual(outputs.coveredHosts, covered);
      assert.deepEqual(find(all, "digitalocean:index/certificate:Certificate").inputs.domains, covered);
    } finally {
      close();
    }
  });

  it("must bring a metrics server with autoscaling to DOKS alone: another cluster has its own, or needs another", async () => {
    const METRICS_SERVER = "hobnob:platform:MetricsServer";
    assert.equal(ofType(await graph(), METRICS_SERVER).length, 0);
    assert.equal(ofType(await graph({ ...withPool, ...autoscaling }), METRICS_SERVER).length, 1);
    const { file, remove } = kubeconfig();
    process.env.KUBECONFIG = file;
    try {
      const all = await graph({
        ...autoscaling,
        "hobnob:cluster": JSON.stringify({ provider: "existing", context: "there", storageProvisioner: "local" }),
        "hobnob:ingress": JSON.stringify({ expose: "NodePort" }),
        "hobnob:dns": JSON.stringify({ zone: "none" }),
      });
      assert.equal(ofType(all, METRICS_SERVER).length, 0);
      assert.equal(ofType(all, "kubernetes:autoscaling/v2:HorizontalPodAutoscaler").length, 1);
    } finally {
      delete process.env.KUBECONFIG;
      remove();
    }
  });

  it("must treat its Ingresses as their controller is exposed", async () => {
    const annotations = async (expose: string) => {
      const all = await graph({
        "hobnob:ingress": JSON.stringify({ expose, rateLimit: { requestsPerSecond: 20, burst: 40 } }),
        "hobnob:dns": JSON.stringify({ zone: expose === "LoadBalancer" ? "create" : "none" }),
      });
      return ["api", "docs"].map((name) => {
        const { metadata } = find(all, "kubernetes:networking.k8s.io/v1:Ingress", name).inputs;
        return metadata.annotations["nginx.org/limit-req-scale"];
      });
    };
    assert.deepEqual(await annotations("LoadBalancer"), ["true", "true"]);
    assert.deepEqual(await annotations("NodePort"), ["true", "true"]);
    assert.deepEqual(await annotations("HostPort"), [undefined, undefined]);
  });

  it("must let the records wait for the balancer and the zone alone", async () => {
    const all = await graph();
    assert.ok(waitsFor(all, record(all), balancer(all)));
    assert.ok(waitsFor(all, record(all), find(all, "digitalocean:index/domain:Domain")));
    assert.equal(waitsFor(all, record(all), image(all)), false);
  });

  it("must delete workloads before their nodes: each depends on the worker pool", async () => {
    const all = await graph(withPool);
    const pool = find(all, "digitalocean:index/kubernetesNodePool:KubernetesNodePool");
    const workloads = [
      ...ofType(all, "kubernetes:apps/v1:Deployment"),
      ...ofType(all, "kubernetes:apps/v1:StatefulSet"),
    ];
    assert.equal(workloads.length, 3);
    for (const workload of workloads) assert.ok(waitsFor(all, workload, pool), workload.urn);
  });

  it("must make nothing but workloads and what they make wait for the worker pool", async () => {
    const all = await graph(withPool);
    const pool = find(all, "digitalocean:index/kubernetesNodePool:KubernetesNodePool");
    const waiting = all.filter((resource) => waitsFor(all, resource, pool)).map(({ type }) => type);
    const kinds = ["apps/v1:Deployment", "apps/v1:StatefulSet", "core/v1:PersistentVolumeClaimPatch"];
    const allowed = [...kinds.map((kind) => `kubernetes:${kind}`), PROTECTION];
    assert.deepEqual(
      [...new Set(waiting)].filter((type) => !allowed.includes(type)),
      [],
    );
  });

  it("must delete first, on destroy, what refuses it: it depends on every other resource", async () => {
    for (const config of [{}, { ...withPool, ...autoscaling }, protectedCluster]) {
      const all = await graph(config);
      const guard = find(all, PROTECTION);
      const before = all.filter((other) => other.custom && !waitsFor(all, guard, other)).map(({ urn }) => urn);
      assert.deepEqual(
        before,
        [],
        "deleted before the destroy is refused; add it to Protection's `everything` in index.ts",
      );
    }
  });

  it("must guard the cluster, its VPC, the zone, the claims' set and namespace, and the destroy, and nothing else", async () => {
    const guarded = (all: Captured[]) =>
      all.filter(({ protect }) => protect).map(({ type, name }) => `${type}::${name}`);
    assert.deepEqual(guarded(await graph(protectedCluster)).sort(), [
      "digitalocean:index/domain:Domain::zone",
      "digitalocean:index/kubernetesCluster:KubernetesCluster::cluster",
      "digitalocean:index/vpc:Vpc::cluster",
      `${PROTECTION}::cluster.protect`,
      "kubernetes:apps/v1:StatefulSet::elasticsearch",
      "kubernetes:core/v1:Namespace::hobnob",
    ]);
    assert.deepEqual(guarded(await graph()), []);
  });

  it("must ask for the same resources in a preview as in an update", async () => {
    const names = (all: Captured[]) => all.map(({ urn }) => urn).sort();
    assert.deepEqual(names(await graph({}, { preview: true })), names(await graph()));
  });

  it("must ask for nothing in an update after a run that was cut off; a preview, which touches nothing, is refused in the end", async () => {
    const directory = mkdtempSync(join(tmpdir(), "hobnob-"));
    const type = "digitalocean:index/vpc:Vpc";
    const urn = `urn:pulumi:test::hobnob::${type}::cluster`;
    const state = { deployment: { pending_operations: [{ type: "creating", resource: { urn, type } }] } };
    writeFileSync(join(directory, "pulumi"), `#!/bin/sh\necho '${JSON.stringify(state)}'\n`, { mode: 0o755 });
    const { PATH, HOBNOB_RECOVERED } = process.env;
    Object.assign(process.env, { PATH: `${directory}:${PATH}`, HOBNOB_RECOVERED: "" });
    try {
      for (const preview of [false, true]) {
        let asked = 0;
        const mocks = {
          resource: () => void asked++,
          calls: { "pulumi:pulumi:readStackResourceOutputs": () => ({ outputs: { [urn]: {} } }) },
        };
        await assert.rejects(graph({}, { preview, mocks }), /was cut off while it made cluster/);
        assert.equal(asked > 0, preview);
      }
    } finally {
      rmSync(directory, { recursive: true });
      process.env.PATH = PATH;
      if (HOBNOB_RECOVERED === undefined) delete process.env.HOBNOB_RECOVERED;
      else process.env.HOBNOB_RECOVERED = HOBNOB_RECOVERED;
    }
  });

  it("must use no default provider: every Kubernetes object names the cluster's", async () => {
    const all = await graph();
    const provider = find(all, "pulumi:providers:kubernetes");
    const objects = all.filter(({ type }) => type.startsWith("kubernetes:"));
    assert.ok(objects.length > 20);
    for (const object of objects) assert.ok(object.provider?.startsWith(provider.urn), object.urn);
  });

  it("must run the API by digest", async () => {
    const { inputs } = api(await graph());
    assert.match(inputs.spec.template.spec.containers[0].image, /^docker\.io\/acme\/backend@sha256:[0-9a-f]{64}$/);
  });

  it("must give every output of the contract in its shape, secret where it says so and plain where not", async () => {
    const newCluster = await graph().then(() => outputs);
    const withTls = await delegation();
    const secured = JSON.stringify({ enabled: true, resolver: withTls.resolver });
    await graph({ "hobnob:tls": secured, "hobnob:dns": JSON.stringify({ ipv6: true }) }).finally(withTls.close);
    for (const given of [newCluster, outputs]) {
      assert.deepEqual(Object.keys(given).sort(), Object.keys(contract.shape).sort());
      for (const name of Object.keys(contract.shape) as OutputName[]) {
        const { value, secret } = await unwrap(pulumi.output(given[name]));
        assert.ok(contract.shape[name].safeParse(value).success, `${name} is ${JSON.stringify(value)}`);
        assert.equal(secret, outputMeta(name).secret === true, name);
      }
    }
  });

  it("must give the outputs their documented form", async () => {
    await graph();
    assert.equal(outputs.apiUrl, "http://api.example.com");
    assert.equal(outputs.docsUrl, "http://docs.example.com");
    assert.equal((await unwrap(outputs.ingressAddress)).value, "203.0.113.10");
    assert.equal((await unwrap(outputs.elasticsearchUrl)).value, "http://elasticsearch.hobnob.svc:9200");
    assert.deepEqual(outputs.coveredHosts, []);
    assert.equal(outputs.domain, "example.com");
    assert.equal((await unwrap(outputs.zone)).value, "example.com");
    assert.equal(outputs.ingressNamespace, "nginx-ingress");
    assert.equal((await unwrap(outputs.ingressIpv6)).value, "2001:db8::10");
    const registry = { server: "docker.io", clusterServer: "docker.io", private: true, anonymous: false };
    assert.deepEqual(outputs.registry, registry);
    assert.equal(outputs.spread, "hard");
    assert.equal((await unwrap(outputs.ingressProxyRange)).value, "10.10.0.0/20");
  });
});
