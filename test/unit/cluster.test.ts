import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import * as k8s from "@pulumi/kubernetes";
import { type Cluster, createCluster, type VersionPlan } from "../../components/cluster";
import type { Config, DigitalOceanClusterConfig } from "../../config";
import { config } from "./clusterConfig";
import { type CaptureOptions, capture, find, ofType, unwrap, waitsFor } from "./graph";

const VPC = "digitalocean:index/vpc:Vpc";
const CLUSTER = "digitalocean:index/kubernetesCluster:KubernetesCluster";
const POOL = "digitalocean:index/kubernetesNodePool:KubernetesNodePool";
const PROVIDER = "pulumi:providers:kubernetes";
const NAMESPACE = "kubernetes:core/v1:Namespace";

const workers = { size: "s-4vcpu-8gb", minCount: 4, maxCount: 6, labels: { tier: "app" }, taints: [] };
const plan: VersionPlan = { version: "1.36.3-do.0", upgrade: false };

async function cluster(config: Config["cluster"], options: CaptureOptions = {}, versionPlan = plan) {
  let made: Cluster | undefined;
  const graph = await capture(() => {
    made = createCluster("cluster", config, versionPlan);
    new k8s.core.v1.Namespace("workload", {}, { provider: made.provider, dependsOn: made.workers });
  }, options);
  assert.ok(made);
  return { graph, made };
}

const digitalOcean = (changes: Partial<DigitalOceanClusterConfig> = {}, options?: CaptureOptions, plan?: VersionPlan) =>
  cluster({ ...config, ...changes }, options, plan);

const PROVIDER_INPUTS = ["clusterIdentifier", "enablePatchForce", "enableSecretMutable", "kubeconfig"];

describe("DigitalOcean cluster", () => {
  it("must stand in its own VPC with every choice made explicitly", async () => {
    const { graph } = await digitalOcean();
    assert.deepEqual(
      graph.map((r) => r.type),
      ["hobnob:platform:DigitalOceanCluster", VPC, CLUSTER, PROVIDER, NAMESPACE],
    );
    assert.deepEqual(find(graph, VPC, "cluster").inputs, {
      name: "hobnob-dev",
      region: "fra1",
      ipRange: "10.10.0.0/20",
    });
    assert.deepEqual(find(graph, CLUSTER, "cluster").inputs, {
      name: "hobnob-dev",
      region: "fra1",
      version: "1.36.3-do.0",
      vpcUuid: "cluster-id",
      ha: false,
      autoUpgrade: true,
      surgeUpgrade: true,
      maintenancePolicy: { day: "sunday", startTime: "04:00" },
      controlPlaneFirewall: { enabled: false, allowedAddresses: [] },
      destroyAllAssociatedResources: false,
      nodePool: {
        name: "hobnob-dev-system",
        size: "s-2vcpu-4gb",
        autoScale: false,
        nodeCount: 3,
        tags: ["hobnob-dev"],
      },
      tags: ["hobnob-dev"],
    });
  });

  for (const ha of [true, false])
    it(`must say that the control plane is ${ha ? "" : "not "}highly available, since the default depends on the version`, async () => {
      assert.equal(find((await digitalOcean({ ha })).graph, CLUSTER).inputs.ha, ha);
    });

  it("must not set the number of nodes where the autoscaler does", async () => {
    const systemPool = { size: "s-2vcpu-4gb", minCount: 2, maxCount: 5 };
    const { nodePool } = find((await digitalOcean({ systemPool })).graph, CLUSTER).inputs;
    assert.deepEqual(nodePool, {
      name: "hobnob-dev-system",
      size: "s-2vcpu-4gb",
      autoScale: true,
      minNodes: 2,
      maxNodes: 5,
      tags: ["hobnob-dev"],
    });
  });

  it("must close the control plane to all but the allowed addresses", async () => {
    const { graph } = await digitalOcean({ allowedAddresses: ["203.0.113.7"] });
    assert.deepEqual(find(graph, CLUSTER).inputs.controlPlaneFirewall, {
      enabled: true,
      allowedAddresses: ["203.0.113.7"],
    });
  });

  it("must delete what it made outside the state only when asked to", async () => {
    const { graph } = await digitalOcean({ destroyAllAssociatedResources: true });
    assert.equal(find(graph, CLUSTER).inputs.destroyAllAssociatedResources, true);
  });

  it("must run workloads on pools of their own, whose size can change without a new cluster", async () => {
    const taints = [{ key: "dedicated", value: "search", effect: "NoSchedule" as const }];
    const search = { size: "s-4vcpu-8gb", count: 3, labels: {}, taints };
    const { graph, made } = await digitalOcean({ workerPools: { workers, search } });
    assert.deepEqual(find(graph, POOL, "cluster-workers").inputs, {
      clusterId: "cluster-id",
      name: "workers",
      size: "s-4vcpu-8gb",
      autoScale: true,
      minNodes: 4,
      maxNodes: 6,
      labels: { tier: "app", "hobnob/workloads": "true" },
      taints: [],
      tags: ["hobnob-dev"],
    });
    assert.deepEqual(find(graph, POOL, "cluster-search").inputs, {
      clusterId: "cluster-id",
      name: "search",
      size: "s-4vcpu-8gb",
      autoScale: false,
      nodeCount: 3,
      labels: { "hobnob/workloads": "true" },
      taints,
      tags: ["hobnob-dev"],
    });
    assert.deepEqual(made.nodeSelector, { "hobnob/workloads": "true" });
  });

  it("must not let a pool's own labels take it from the workloads", async () => {
    const labels = { "hobnob/workloads": "false" };
    const { graph } = await digitalOcean({ workerPools: { workers: { ...workers, labels } } });
    assert.deepEqual(find(graph, POOL).inputs.labels, { "hobnob/workloads": "true" });
  });

  it("must let workloads go before their nodes, and nothing else wait for the pools", async () => {
    const { graph } = await digitalOcean({ workerPools: { workers } });
    const pool = find(graph, POOL);
    assert.equal(waitsFor(graph, find(graph, NAMESPACE), pool), true);
    assert.equal(waitsFor(graph, find(graph, PROVIDER), pool), false);
    const withoutPools = (await digitalOcean()).graph;
    assert.deepEqual(find(withoutPools, NAMESPACE).dependencies, [find(withoutPools, CLUSTER).urn]);
  });

  it("must place workloads anywhere where the system pool is the only one", async () => {
    const { graph, made } = await digitalOcean();
    assert.deepEqual([ofType(graph, POOL), made.nodeSelector], [[], undefined]);
  });

  it("must guard the cluster and its VPC, and nothing else, when protected", async () => {
    const guarded = ({ graph }: Awaited<ReturnType<typeof digitalOcean>>) =>
      graph.filter((r) => r.protect).map((r) => r.type);
    assert.deepEqual(guarded(await digitalOcean({ protect: true, workerPools: { workers } })), [VPC, CLUSTER]);
    assert.deepEqual(guarded(await digitalOcean({ workerPools: { workers } })), []);
  });

  it("must wait for the VPC's members to leave before it gives up on deleting it", async () => {
    assert.deepEqual(find((await digitalOcean()).graph, VPC).customTimeouts, { delete: "15m" });
  });

  it("must not touch the version of a cluster that is there, unless an upgrade is planned", async () => {
    const upgrade = { version: "1.37.1-do.0", upgrade: true };
    const kept = find((await digitalOcean()).graph, CLUSTER);
    const upgraded = find((await digitalOcean({}, {}, upgrade)).graph, CLUSTER);
    assert.deepEqual([kept.ignoreChanges, upgraded.ignoreChanges], [["version"], []]);
    assert.deepEqual([kept.inputs.version, upgraded.inputs.version], ["1.36.3-do.0", "1.37.1-do.0"]);
  });

  it("must not be created without a version plan", () => {
    assert.throws(() => createCluster("cluster", config), {
      message: "a new cluster needs a version plan: run the preflight first",
    });
  });

  it("must tell the graph what it needs, and keep the kubeconfig secret", async () => {
    const { made } = await digitalOcean();
    const outputs = await Promise.all([made.id, made.name, made.vpcRange ?? made.id].map((output) => unwrap(output)));
    assert.deepEqual(
      outputs.map(({ value }) => value),
      ["cluster-id", "hobnob-dev", "10.10.0.0/20"],
    );
    assert.deepEqual([made.spread, made.storageProvisioner], ["hard", "dobs.csi.digitalocean.com"]);
    assert.equal((await unwrap(made.kubeconfig)).secret, true);
  });

  it("must reach the API server by a script that gets a token, and hold none itself", async () => {
    const { graph, made } = await digitalOcean();
    const provider = find(graph, PROVIDER, "cluster");
    assert.deepEqual(Object.keys(provider.inputs), PROVIDER_INPUTS);
    assert.equal(provider.inputs.enableSecretMutable, "true");
    assert.equal(provider.inputs.clusterIdentifier, "cluster-id");
    // The SDK hands a provider's settings over as JSON.
    assert.equal(provider.inputs.enablePatchForce, "true");
    assert.deepEqual(provider.secrets, ["kubeconfig"]);
    assert.equal(provider.inputs.kubeconfig, (await unwrap(made.kubeconfig)).value);

    const kubeconfig = JSON.parse(provider.inputs.kubeconfig);
    const { args, ...exec } = kubeconfig.users[0].user.exec;
    assert.deepEqual(kubeconfig.clusters, [
      { name: "hobnob-dev", cluster: { server: "https://cluster.test", "certificate-authority-data": "Y2E=" } },
    ]);
    assert.deepEqual(kubeconfig.contexts, [
      { name: "hobnob-dev", context: { cluster: "hobnob-dev", user: "hobnob-dev" } },
    ]);
    assert.equal(kubeconfig["current-context"], "hobnob-dev");
    assert.deepEqual(Object.keys(kubeconfig.users[0].user), ["exec"]);
    assert.deepEqual(exec, {
      apiVersion: "client.authentication.k8s.io/v1",
      command: "node",
      interactiveMode: "Never",
      installHint: "Access to this cluster needs Node.js 20 or newer and the environment's DIGITALOCEAN_TOKEN.",
    });
    assert.deepEqual([...args.slice(0, 2), args[3], args.length], ["--input-type=module", "-e", "cluster-id", 4]);
  });

  it("must give the provider the same inputs whenever its token was read", async () => {
    const inputs = async (token: string) => {
      const kubeConfigs = [{ token, clusterCaCertificate: "Y2E=", host: "https://cluster.test", rawConfig: token }];
      const state = { ...config, endpoint: "https://cluster.test", kubeConfigs };
      const resource: NonNullable<CaptureOptions["mocks"]>["resource"] = ({ type }) =>
        type === CLUSTER ? { state } : undefined;
      return find((await digitalOcean({}, { mocks: { resource } })).graph, PROVIDER).inputs;
    };
    assert.deepEqual(await inputs("monday's"), await inputs("next monday's"));
  });

  it("must have the same resources in a preview", async () => {
    const names = async (preview: boolean) =>
      (await digitalOcean({ workerPools: { workers } }, { preview })).graph.map((r) => r.urn);
    assert.deepEqual(await names(true), await names(false));
  });
});

describe("existing cluster", () => {
  let directory: string;
  const before = process.env.KUBECONFIG;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "kubeconfig-"));
    writeFileSync(join(directory, "ca.crt"), "the ca");
    const entries = (name: string, ca: object) => ({
      contexts: [{ name, context: { cluster: `${name}-cluster`, user: `${name}-user` } }],
      clusters: [{ name: `${name}-cluster`, cluster: { server: `https://${name}.test`, ...ca } }],
      users: [{ name: `${name}-user`, user: { token: `${name}-token` } }],
    });
    write("one", { "current-context": "other", ...entries("minikube", { "certificate-authority": "ca.crt" }) });
    write("two", entries("other", {}));
    process.env.KUBECONFIG = [join(directory, "one"), join(directory, "missing"), join(directory, "two")].join(
      delimiter,
    );
  });
  afterEach(() => {
    rmSync(directory, { recursive: true });
    if (before === undefined) delete process.env.KUBECONFIG;
    else process.env.KUBECONFIG = before;
  });
  const write = (name: string, content: object) => writeFileSync(join(directory, name), JSON.stringify(content));

  const existing = (context: string, nodes = 1, cilium = false) =>
    cluster({ provider: "existing", context, nodes, cilium, storageProvisioner: "k8s.io/minikube-hostpath" });

  it("must have its API server named by ports, unless it is said to have Cilium, as DOKS has", async () => {
    assert.equal((await existing("minikube")).made.apiServer, "ports");
    assert.equal((await existing("minikube", 1, true)).made.apiServer, "cilium");
    assert.equal((await cluster(config)).made.apiServer, "cilium");
  });

  it("must be reached by its own context alone, with its files inside", async () => {
    const { graph } = await existing("minikube");
    assert.deepEqual(
      graph.map((r) => r.type),
      ["hobnob:platform:ExistingCluster", PROVIDER, NAMESPACE],
    );
    const { inputs, secrets } = find(graph, PROVIDER, "cluster");
    assert.deepEqual(Object.keys(inputs), PROVIDER_INPUTS);
    assert.deepEqual([inputs.clusterIdentifier, secrets], ["minikube", ["kubeconfig"]]);
    const ca = Buffer.from("the ca").toString("base64");
    assert.deepEqual(JSON.parse(inputs.kubeconfig), {
      apiVersion: "v1",
      kind: "Config",
      "current-context": "minikube",
      contexts: [{ name: "minikube", context: { cluster: "minikube-cluster", user: "minikube-user" } }],
      clusters: [
        { name: "minikube-cluster", cluster: { server: "https://minikube.test", "certificate-authority-data": ca } },
      ],
      users: [{ name: "minikube-user", user: { token: "minikube-token" } }],
    });
  });

  it("must be found in any of the kubeconfig's files, the first one first", async () => {
    write("two", {
      contexts: [
        { name: "minikube", context: { cluster: "wrong", user: "wrong" } },
        { name: "other", context: { cluster: "other-cluster", user: "other-user" } },
      ],
    });
    const current = async (context: string) =>
      JSON.parse(find((await existing(context)).graph, PROVIDER).inputs.kubeconfig).contexts[0].context.cluster;
    assert.deepEqual([await current("minikube"), await current("other")], ["minikube-cluster", "other-cluster"]);
  });

  it("must tell the graph what it needs, and keep the kubeconfig secret", async () => {
    const { made } = await existing("minikube");
    const [id, name, kubeconfig] = await Promise.all([made.id, made.name, made.kubeconfig].map((o) => unwrap(o)));
    assert.deepEqual([id?.value, name?.value, kubeconfig?.secret], ["minikube", "minikube", true]);
    assert.deepEqual(
      [made.workers, made.vpcRange, made.nodeSelector, made.storageProvisioner],
      [[], undefined, undefined, "k8s.io/minikube-hostpath"],
    );
  });

  it("must not demand different nodes of a cluster that has one", async () => {
    const spread = async (nodes: number) => (await existing("minikube", nodes)).made.spread;
    assert.deepEqual([await spread(1), await spread(2)], ["soft", "hard"]);
  });

  it("must be reached with the token that a file holds, wherever the file is", async () => {
    writeFileSync(join(directory, "token"), "from the file\n");
    write("two", {
      contexts: [{ name: "other", context: { cluster: "other", user: "other" } }],
      users: [{ name: "other", user: { tokenFile: "token" } }],
    });
    const { kubeconfig } = find((await existing("other")).graph, PROVIDER).inputs;
    assert.deepEqual(JSON.parse(kubeconfig).users, [{ name: "other", user: { token: "from the file" } }]);
  });

  it("must not be made from a context that there is not", async () => {
    await assert.rejects(existing("minikub"), { name: "ConfigurationError" });
  });
});
