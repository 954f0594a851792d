import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import {
  capacityViolations,
  parseQuantity,
  quotaViolations,
  sizeFromSlug,
  workloadNodes,
  workloadPools,
} from "../../capacity";

type Needs = Parameters<typeof capacityViolations>[0];
type Cluster = Extract<Needs["cluster"], { provider: "digitalocean" }>;

const system = { size: "s-2vcpu-4gb", count: 3 };
const workers = { size: "s-4vcpu-8gb", minCount: 4, maxCount: 6, labels: {}, taints: [] };

function needs(cluster: Partial<Cluster>, changes: Partial<Omit<Needs, "cluster">> = {}): Needs {
  return {
    cluster: { provider: "digitalocean", systemPool: system, workerPools: {}, ...cluster } as Cluster,
    elasticsearch: { replicas: 3, memory: "1Gi", cpu: "250m" },
    api: { replicas: 3, memory: "192Mi", cpu: "100m", requestsPerSecond: 100, logLevel: "info" },
    ingress: { replicas: 2 } as Needs["ingress"],
    ...changes,
  };
}

const elasticsearch = (memory: string, cpu = "250m", replicas = 3) => ({
  elasticsearch: { replicas, memory, cpu },
});

describe("capacity", () => {
  before(() =>
    pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) }, "hobnob", "dev"),
  );

  it("must accept what fits with one node drained", () => {
    assert.deepEqual(capacityViolations(needs({})), []);
  });

  it("must refuse what fits only while every node is there, and propose a number of nodes that is enough", () => {
    // Two nodes of 2560 MiB and 1.9 CPUs less 590 MiB and 0.512 CPUs for DOKS's pods; two Elasticsearch pods and all others on them.
    assert.deepEqual(capacityViolations(needs({}, elasticsearch("1400Mi"))), [
      {
        key: "hobnob:cluster.systemPool",
        given: "3 × s-2vcpu-4gb, with one node drained room for 3.8Gi and 2.8 CPUs",
        allowed:
          "room for 4.0Gi and 1.3 CPUs (elasticsearch 3 × 1400Mi and 250m, backend 3 × 192Mi and 100m, ingress 2 × 128Mi and 100m, coredns 2 × 150Mi and 100m, cilium-operator 1 × 150Mi and 100m), no pod split between nodes",
        command: "pulumi config set --path 'hobnob:cluster.systemPool.count' 4 --stack dev",
      },
    ]);
    assert.deepEqual(capacityViolations(needs({ systemPool: { ...system, count: 4 } }, elasticsearch("1400Mi"))), []);
  });

  it("must refuse too little CPU as it does too little memory", () => {
    const [violation, ...more] = capacityViolations(needs({}, elasticsearch("1Gi", "1200m")));
    assert.deepEqual(more, []);
    assert.match(violation?.given ?? "", /room for 3\.8Gi and 2\.8 CPUs$/);
    assert.match(violation?.allowed ?? "", /^room for 3\.3Gi and 3\.2 CPUs /);
  });

  it("must propose less memory where no number of nodes helps, and never another size of the system pool", () => {
    const [violation] = capacityViolations(needs({}, elasticsearch("4Gi")));
    assert.equal(violation?.command, "pulumi config set --path 'hobnob:elasticsearch.memory' 1024Mi --stack dev");
  });

  it("must propose larger workers where nothing else helps", () => {
    const [violation] = capacityViolations(
      needs({ systemPool: { size: "s-1vcpu-2gb", count: 3 } }, elasticsearch("2Gi")),
    );
    assert.equal(
      violation?.command,
      "pulumi config set --path 'hobnob:cluster.workerPools.workers.size' s-4vcpu-8gb --stack dev",
    );
  });

  it("must count a scaled pool by its least size, and propose to raise that", () => {
    const pool = { ...workers, minCount: 3 };
    const [violation] = capacityViolations(needs({ workerPools: { workers: pool } }, elasticsearch("5000Mi")));
    assert.equal(violation?.key, "hobnob:cluster.workerPools.workers");
    assert.equal(
      violation?.command,
      "pulumi config set --path 'hobnob:cluster.workerPools.workers.minCount' 4 --stack dev",
    );
    assert.deepEqual(capacityViolations(needs({ workerPools: { workers } }, elasticsearch("5000Mi"))), []);
  });

  it("must not count an Elasticsearch pod that has no node of its own while one is drained", () => {
    const three = needs({ systemPool: { size: "s-2vcpu-4gb", count: 3 } }, elasticsearch("1300Mi"));
    assert.deepEqual(capacityViolations(three), []);
  });

  it("must judge the loss of the largest node, whichever pool it is in", () => {
    const big = { ...workers, size: "s-8vcpu-16gb", minCount: 1 };
    const small = { ...workers, size: "s-2vcpu-4gb", minCount: 2 };
    const [violation] = capacityViolations(needs({ workerPools: { big, small } }, elasticsearch("1900Mi")));
    assert.match(violation?.given ?? "", /^1 × s-8vcpu-16gb \+ 2 × s-2vcpu-4gb, with one node drained room for 3\.8Gi/);
  });

  it("must not put two Elasticsearch pods on one node, however large it is", () => {
    const big = { ...workers, size: "s-8vcpu-16gb", minCount: 2 };
    const small = { ...workers, size: "s-1vcpu-2gb", minCount: 1 };
    assert.equal(capacityViolations(needs({ workerPools: { big, small } })).length, 1);
  });

  it("must judge one node alone without draining it", () => {
    const one = { systemPool: { size: "s-4vcpu-8gb", count: 1 } };
    assert.deepEqual(capacityViolations(needs(one, elasticsearch("1Gi", "250m", 1))), []);
    const [violation] = capacityViolations(needs(one, elasticsearch("5Gi", "250m", 1)));
    assert.match(violation?.given ?? "", /^1 × s-4vcpu-8gb, room for 5\.4Gi and 3\.4 CPUs$/);
  });

  it("must count the API's least number of pods and metrics-server where the API scales", () => {
    const api = {
      replicas: 3,
      memory: "192Mi",
      cpu: "100m",
      requestsPerSecond: 100,
      logLevel: "info" as const,
      autoscaling: { minReplicas: 2, maxReplicas: 20, cpuPercent: 70 },
    };
    const [violation] = capacityViolations(needs({}, { ...elasticsearch("4Gi"), api }));
    assert.match(violation?.allowed ?? "", /backend 2 × 192Mi and 100m, .*metrics-server 2 × 200Mi and 100m, /);
  });

  it("must leave sizes that their name does not tell to the account", () => {
    const unknown = { systemPool: { size: "c-2", count: 3 } };
    assert.deepEqual(capacityViolations(needs(unknown, elasticsearch("100Gi"))), []);
    const [violation] = capacityViolations(needs(unknown, elasticsearch("100Gi")), { "c-2": { vcpus: 2, memory: 4 } });
    assert.equal(violation?.key, "hobnob:cluster.systemPool");
  });

  it("must not judge an existing cluster, whose nodes it does not know", () => {
    const cluster = {
      provider: "existing",
      context: "kind",
      nodes: 1,
      cilium: false,
      storageProvisioner: "x",
    } as const;
    assert.deepEqual(capacityViolations({ ...needs({}, elasticsearch("100Gi")), cluster }), []);
  });
});

describe("quota of the application's namespace", () => {
  const container = { cpu: "100m", memory: "128Mi" };
  const given = (quota: { cpu: string; memory: string; pods: number }, changes: Partial<Needs> = {}) =>
    quotaViolations({ ...needs({}, elasticsearch("4Gi", "1")), ...changes, quota: { ...quota, container } });
  /** 3 × 4 GiB and 6 × 192 MiB, 3 × 1 and 6 × 100m. */
  const least = { cpu: "3600m", memory: "13440Mi", pods: 9 };

  it("must have room for the API's old and new pods at once, and no more than is there need not be given", () => {
    assert.deepEqual(given(least), []);
    assert.deepEqual(quotaViolations(needs({})), []);
    const snapshots = { elasticsearch: { ...elasticsearch("4Gi", "1").elasticsearch, snapshots: {} } };
    assert.deepEqual(
      given(least, snapshots).map(({ key }) => key),
      ["hobnob:quota.cpu", "hobnob:quota.memory", "hobnob:quota.pods"],
    );
  });

  it("must be refused where a rollout or a drain could reach it, each part by itself", () => {
    assert.deepEqual(given({ cpu: "3.5", memory: "13439Mi", pods: 8 }), [
      {
        key: "hobnob:quota.cpu",
        given: '"3.5"',
        allowed:
          "at least 3600m (elasticsearch 3 × 1, backend 6 × 100m, the API's twice: in a rollout or a drain old pods end beside new ones)",
        command: "pulumi config set --path 'hobnob:quota.cpu' 3600m --stack dev",
      },
      {
        key: "hobnob:quota.memory",
        given: '"13439Mi"',
        allowed:
          "at least 13440Mi (elasticsearch 3 × 4Gi, backend 6 × 192Mi, the API's twice: in a rollout or a drain old pods end beside new ones)",
        command: "pulumi config set --path 'hobnob:quota.memory' 13440Mi --stack dev",
      },
      {
        key: "hobnob:quota.pods",
        given: "8",
        allowed:
          "at least 9 (elasticsearch 3, backend 6, the API's twice: in a rollout or a drain old pods end beside new ones)",
        command: "pulumi config set --path 'hobnob:quota.pods' 9 --stack dev",
      },
    ]);
  });

  it("must count the most pods that the autoscaler may make", () => {
    const api = { ...needs({}).api, autoscaling: { minReplicas: 3, maxReplicas: 5, cpuPercent: 70 } };
    assert.deepEqual(
      given(least, { api }).map(({ command }) => command.split(" ")[5]),
      ["4000m", "14208Mi", "13"],
    );
  });
});

describe("pools of the platform's pods", () => {
  const pools = (workerPools: Cluster["workerPools"]) => workloadPools(needs({ workerPools }).cluster);
  const tainted = { ...workers, taints: [{ key: "a", value: "", effect: "NoSchedule" as const }] };

  it("must be the worker pools where there are any, else the system pool", () => {
    assert.deepEqual(pools({}), [{ path: ["cluster", "systemPool"], size: "s-2vcpu-4gb", nodes: 3, scales: false }]);
    assert.deepEqual(pools({ workers }), [
      { path: ["cluster", "workerPools", "workers"], size: "s-4vcpu-8gb", nodes: 4, scales: true },
    ]);
  });

  it("must not be pools with a taint that keeps pods off", () => {
    const avoided = { ...workers, taints: [{ key: "a", value: "", effect: "PreferNoSchedule" as const }] };
    assert.deepEqual(
      pools({ tainted, avoided }).map(({ path }) => path[2]),
      ["avoided"],
    );
    assert.equal(workloadNodes(needs({ workerPools: { tainted, workers } }).cluster), 4);
  });
});

describe("quantity", () => {
  for (const [text, value] of [
    ["1", 1],
    ["250m", 0.25],
    ["1.5", 1.5],
    ["2k", 2000],
    ["512Mi", 512 * 2 ** 20],
    ["1.5Gi", 1.5 * 2 ** 30],
    ["2G", 2e9],
    ["1GB", undefined],
    ["Gi", undefined],
    ["-1Gi", undefined],
    ["1 Gi", undefined],
    ["", undefined],
  ] as const) {
    it(`must be read as Kubernetes reads it: "${text}"`, () => assert.equal(parseQuantity(text), value));
  }
});

describe("size", () => {
  it("must be read from the name where the name tells it", () => {
    assert.deepEqual(sizeFromSlug("s-2vcpu-4gb"), { vcpus: 2, memory: 4 });
    assert.deepEqual(sizeFromSlug("gd-8vcpu-32gb-intel"), { vcpus: 8, memory: 32 });
    assert.equal(sizeFromSlug("c-2"), undefined);
    assert.equal(sizeFromSlug("gpu-h100x1-80gb"), undefined);
  });
});
