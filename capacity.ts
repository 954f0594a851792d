import type { Config } from "./config";
import { keyName, type Path, setCommand, type Violation } from "./violations";

interface Requests {
  cpu: string;
  memory: string;
}

const MI = 2 ** 20;
const GI = 2 ** 30;

// DigitalOcean's table of allocatable memory by a node's memory, both in GiB; larger nodes keep at least the last share.
const ALLOCATABLE = [
  [2, 1],
  [4, 2.5],
  [8, 6],
  [16, 13],
] as const;

// What a node keeps of its CPU: those of two processors have 1.9 allocatable. Source: `kubectl describe node` at DOKS.
const RESERVED_CPU = 0.1;
// Requested on every node by cilium (310m, 310Mi), do-node-agent (102m, 80Mi), cpc-bridge-proxy (100m, 75Mi) and
// kube-proxy (125Mi). Source: the same.
const NODE_PODS = { cpu: 0.512, memory: 590 * MI };
/** DOKS's own pods that run once in a cluster, on any of its nodes. Source: the same. */
const CLUSTER_PODS = [
  { name: "coredns", count: 2, requests: { cpu: "100m", memory: "150Mi" }, alone: false },
  { name: "cilium-operator", count: 1, requests: { cpu: "100m", memory: "150Mi" }, alone: false },
];

/** Requested by each pod of the ingress controller. */
export const INGRESS_REQUESTS: Requests = { cpu: "100m", memory: "128Mi" };
/** Requested by metrics-server, which runs only where the API scales by itself (its project's own manifest). */
export const METRICS_SERVER_REQUESTS: Requests = { cpu: "100m", memory: "200Mi" };

const SUFFIXES: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** A Kubernetes quantity in its base unit (bytes, cores), or undefined for what is none. */
export function parseQuantity(quantity: string): number | undefined {
  const [, digits, suffix] = /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|Pi|[numkMGTP]?)$/.exec(quantity) ?? [];
  const factor = SUFFIXES[suffix ?? "none"];
  return digits === undefined || factor === undefined ? undefined : Number(digits) * factor;
}

/** A Droplet size as the account describes it. */
export interface Size {
  vcpus: number;
  /** GiB */
  memory: number;
}

/** A size's figures from its slug, such as s-2vcpu-4gb or g-2vcpu-8gb-intel; others are known to the account alone. */
export function sizeFromSlug(slug: string): Size | undefined {
  const [, vcpus, memory] = /-(\d+)vcpu-(\d+)gb(-|$)/.exec(slug) ?? [];
  return vcpus && memory ? { vcpus: Number(vcpus), memory: Number(memory) } : undefined;
}

interface Pool {
  path: Path;
  size: string;
  nodes: number;
  scales: boolean;
}

/** Whether pods that tolerate nothing may run there. */
const isOpen = ({ taints }: { taints: { effect: string }[] }) =>
  taints.every(({ effect }) => effect === "PreferNoSchedule");

/** The pools that take the platform's pods: the worker pools without a taint, or the system pool where it is the only one. */
export function workloadPools(cluster: Config["cluster"]): Pool[] {
  if (cluster.provider !== "digitalocean") return [];
  const workers = Object.entries(cluster.workerPools).map(([name, pool]) => ({
    ...pool,
    path: ["cluster", "workerPools", name],
  }));
  const untainted = workers.filter(isOpen);
  const pools = workers.length > 0 ? untainted : [{ ...cluster.systemPool, path: ["cluster", "systemPool"] }];
  return pools.map(({ path, size, count, minCount }) => ({
    path,
    size,
    nodes: count ?? minCount ?? 0,
    scales: count === undefined,
  }));
}

/** Nodes that take the platform's pods, at least; without end where each pod gets one. */
export function workloadNodes(cluster: Config["cluster"]): number {
  if (cluster.provider === "existing") return cluster.nodes;
  if (cluster.provider === "aws") return Number.POSITIVE_INFINITY;
  return workloadPools(cluster).reduce((sum, { nodes }) => sum + nodes, 0);
}

interface Room {
  cpu: number;
  memory: number;
}

interface Pod extends Room {
  /** Never two on one node. */
  alone: boolean;
}

type Sizes = Record<string, Size | undefined>;

type Needs = Pick<Config, "cluster" | "api" | "ingress"> & {
  elasticsearch: Pick<Config["elasticsearch"], "replicas" | "memory" | "cpu">;
};

/**
 * Refuses what does not fit on the nodes' allocatable memory and CPU with one of them drained. Sizes that neither the
 * slug nor `sizes` tells, and existing clusters, are not judged.
 */
export function capacityViolations(config: Needs, sizes: Sizes = {}): Violation[] {
  const pools = workloadPools(config.cluster);
  const [first] = pools;
  if (!first || fits(config, pools, sizes) !== false) return [];
  const pods = podsOf(config);
  const nodes = pools.flatMap((pool) => nodesOf(pool, sizes));
  const drained = nodes.length > 1;
  const total = sum(drained ? withoutLargest(nodes) : nodes);
  const needed = sum(
    drained ? pods.slice(Math.max(0, pods.filter(({ alone }) => alone).length - nodes.length + 1)) : pods,
  );
  return [
    {
      key: keyName(first.path),
      given: `${pools.map(({ nodes, size }) => `${nodes} × ${size}`).join(" + ")}, ${drained ? "with one node drained " : ""}room for ${show(total)}`,
      allowed: `room for ${show(needed)} (${listOf(config)}), no pod split between nodes`,
      command: remedy(config, first, sizes),
    },
  ];
}

/**
 * At AWS nodes are made as pods need them, up to a pool's limits. Refuses limits that the pods reach by themselves with one
 * node more, which takes a drained one's place before that is gone.
 */
export function limitViolations(config: Needs): Violation[] {
  const { cluster } = config;
  if (cluster.provider !== "aws" || Object.keys(cluster.workerPools).length === 0) return [];
  const pools = Object.entries(cluster.workerPools).filter(([, pool]) => isOpen(pool));
  const [first] = pools;
  if (!first) {
    const given = "pools with taints only";
    const allowed = "at least one pool without taints, for the platform's own pods";
    const path = ["cluster", "workerPools", "workers", "maxCpu"];
    return [{ key: keyName(["cluster", "workerPools"]), given, allowed, command: setCommand(path, 32) }];
  }
  const pods = podsOf(config, []);
  const largest = pods.reduce((a, b) => (a.memory > b.memory ? a : b));
  const needed = sum([...pods, largest]);
  const cpu = pools.reduce((total, [, { maxCpu }]) => total + maxCpu, 0);
  // One without a limit of memory is limited by its CPUs alone.
  const memory = pools.reduce((total, [, { maxMemory }]) => total + (parseQuantity(maxMemory ?? "1Pi") ?? 0), 0);
  const [name, pool] = first;
  const refuse = (key: "maxCpu" | "maxMemory", least: string | number): Violation => ({
    key: keyName(["cluster", "workerPools", name, key]),
    given: JSON.stringify(pool[key]),
    allowed: `room for ${show(needed)} in all pools together (${listOf(config, [])}, and one node's more for a drain)`,
    command: setCommand(["cluster", "workerPools", name, key], least),
  });
  return [
    ...(cpu < needed.cpu ? [refuse("maxCpu", pool.maxCpu + Math.ceil(needed.cpu - cpu))] : []),
    ...(memory < needed.memory
      ? [
          refuse(
            "maxMemory",
            `${Math.ceil(((parseQuantity(pool.maxMemory ?? "") ?? 0) + needed.memory - memory) / GI)}Gi`,
          ),
        ]
      : []),
  ];
}

/** Whether all pods find a node with any one node drained; undefined where a size is not known. */
function fits(config: Needs, pools: Pool[], sizes: Sizes): boolean | undefined {
  if (pools.some(({ size }) => !(sizes[size] ?? sizeFromSlug(size)))) return undefined;
  const nodes = pools.flatMap((pool) => nodesOf(pool, sizes));
  // Those of a pool are alike: to drain one is to drain any.
  const firsts = pools.map((_, i) => pools.slice(0, i).reduce((before, pool) => before + pool.nodes, 0));
  const drains = nodes.length > 1 ? firsts.map((first) => nodes.filter((_, i) => i !== first)) : [];
  return [nodes, ...drains].every((left) => place(podsOf(config), left));
}

/** Greatest first, each to the node with the most memory left. */
function place(pods: Pod[], nodes: Room[]): boolean {
  const left = nodes.map((node) => ({ ...node, taken: false }));
  const alone = pods.filter((pod) => pod.alone).slice(0, nodes.length);
  const others = pods.filter((pod) => !pod.alone).sort((a, b) => b.memory - a.memory);
  return [...alone, ...others].every((pod) => {
    const node = left
      .filter(({ cpu, memory, taken }) => cpu >= pod.cpu && memory >= pod.memory && !(pod.alone && taken))
      .sort((a, b) => b.memory - a.memory)[0];
    if (!node) return false;
    node.cpu -= pod.cpu;
    node.memory -= pod.memory;
    node.taken ||= pod.alone;
    return true;
  });
}

function nodesOf({ size, nodes }: Pool, sizes: Sizes): Room[] {
  const { vcpus, memory } = sizes[size] ?? sizeFromSlug(size) ?? { vcpus: 0, memory: 0 };
  const [of, allocatable] = ALLOCATABLE.findLast(([gib]) => gib <= memory) ?? [2, 1];
  const room = {
    cpu: vcpus - RESERVED_CPU - NODE_PODS.cpu,
    memory: (memory * GI * allocatable) / of - NODE_PODS.memory,
  };
  return Array.from({ length: nodes }, () => room);
}

function demands({ elasticsearch, api, ingress }: Needs, cloud = CLUSTER_PODS) {
  return [
    { name: "elasticsearch", count: elasticsearch.replicas, requests: elasticsearch, alone: true },
    { name: "backend", count: api.autoscaling?.minReplicas ?? api.replicas, requests: api, alone: false },
    { name: "ingress", count: ingress.replicas, requests: INGRESS_REQUESTS, alone: false },
    { name: "metrics-server", count: api.autoscaling ? 2 : 0, requests: METRICS_SERVER_REQUESTS, alone: false },
    ...cloud,
  ].filter(({ count }) => count > 0);
}

/** What the scheduled snapshot's pod requests. */
export const SNAPSHOT_POD = { cpu: "50m", memory: "64Mi" };

/**
 * Refuses a quota of the application's namespace that its own pods could reach. While a rollout or a drain goes on, the
 * API's old pods count until they have ended, and each has its successor beside it: twice as many. Elasticsearch's don't,
 * as a StatefulSet waits for the end of one before it makes the next.
 */
export function quotaViolations({
  quota,
  elasticsearch,
  api,
}: Pick<Config, "quota"> &
  Pick<Needs, "api"> & { elasticsearch: Needs["elasticsearch"] & { snapshots?: object } }): Violation[] {
  if (!quota) return [];
  const pods = [
    { name: "elasticsearch", count: elasticsearch.replicas, requests: elasticsearch },
    { name: "backend", count: 2 * (api.autoscaling?.maxReplicas ?? api.replicas), requests: api },
    ...(elasticsearch.snapshots ? [{ name: "elasticsearch-snapshots", count: 1, requests: SNAPSHOT_POD }] : []),
  ];
  const total = (of: "cpu" | "memory") =>
    pods.reduce((sum, { count, requests }) => sum + count * (parseQuantity(requests[of]) ?? 0), 0);
  const count = pods.reduce((sum, pod) => sum + pod.count, 0);
  const list = (of: "cpu" | "memory" | "pods") =>
    pods.map(({ name, count, requests }) => `${name} ${count}${of === "pods" ? "" : ` × ${requests[of]}`}`).join(", ");
  const least = [
    {
      of: "cpu",
      given: parseQuantity(quota.cpu) ?? 0,
      needs: total("cpu"),
      value: `${Math.ceil(total("cpu") * 1000 - 1e-6)}m`,
    },
    {
      of: "memory",
      given: parseQuantity(quota.memory) ?? 0,
      needs: total("memory"),
      value: `${Math.ceil(total("memory") / MI)}Mi`,
    },
    { of: "pods", given: quota.pods, needs: count, value: count },
  ] as const;
  return (
    least
      // Sums of fractions such as 0.1 are off by less than this.
      .filter(({ given, needs }) => given < needs - 1e-6)
      .map(({ of, value }) => ({
        key: keyName(["quota", of]),
        given: JSON.stringify(quota[of]),
        allowed: `at least ${value} (${list(of)}, the API's twice: in a rollout or a drain old pods end beside new ones)`,
        command: setCommand(["quota", of], value),
      }))
  );
}

const podsOf = (config: Needs, cloud?: typeof CLUSTER_PODS): Pod[] =>
  demands(config, cloud).flatMap(({ count, requests, alone }) =>
    Array.from({ length: count }, () => ({
      cpu: parseQuantity(requests.cpu) ?? 0,
      memory: parseQuantity(requests.memory) ?? 0,
      alone,
    })),
  );

const listOf = (config: Needs, cloud?: typeof CLUSTER_PODS) =>
  demands(config, cloud)
    .map(({ name, count, requests }) => `${name} ${count} × ${requests.memory} and ${requests.cpu}`)
    .join(", ");

const sum = (rooms: Room[]): Room =>
  rooms.reduce((a, b) => ({ cpu: a.cpu + b.cpu, memory: a.memory + b.memory }), { cpu: 0, memory: 0 });

const withoutLargest = (nodes: Room[]) => [...nodes].sort((a, b) => b.memory - a.memory).slice(1);

const show = ({ cpu, memory }: Room) => `${(memory / GI).toFixed(1)}Gi and ${cpu.toFixed(1)} CPUs`;

/** More nodes where that helps, else less memory; never another size of the system pool, which replaces the cluster. */
function remedy(config: Needs, pool: Pool, sizes: Sizes): string {
  const others = workloadPools(config.cluster).slice(1);
  for (let nodes = pool.nodes + 1; nodes <= pool.nodes + 10; nodes++) {
    const count = pool.scales ? "minCount" : "count";
    if (fits(config, [{ ...pool, nodes }, ...others], sizes)) return setCommand([...pool.path, count], nodes);
  }
  const { elasticsearch } = config;
  for (let mi = Math.floor((parseQuantity(elasticsearch.memory) ?? 0) / MI / 2); mi >= 512; mi = Math.floor(mi / 2)) {
    const smaller = { ...config, elasticsearch: { ...elasticsearch, memory: `${mi}Mi` } };
    if (fits(smaller, [pool, ...others], sizes)) return setCommand(["elasticsearch", "memory"], `${mi}Mi`);
  }
  return setCommand(["cluster", "workerPools", "workers", "size"], "s-4vcpu-8gb");
}
