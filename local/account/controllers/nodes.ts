import { setTimeout as sleep } from "node:timers/promises";
import { CoreV1Api, KubeConfig, StorageV1Api, type V1Pod, type V1Taint } from "@kubernetes/client-node";
import { driver } from "./volumes";
import { mergePatch, statusOf, unless } from "./watch";

/** A droplet as a cluster sees it. */
export interface NodeRequest {
  /** `<pool>-<five letters>`, as DOKS names its droplets. */
  name: string;
  nodeId: string;
  dropletId: number;
  /** A size's slug, such as `s-2vcpu-4gb`. */
  size: string;
  vcpus: number;
  memoryMebibytes: number;
  region: string;
  /** The cluster's slug, such as `1.36.3-do.0`. */
  version: string;
  pool: { id: string; name: string; labels: Record<string, string>; taints: V1Taint[] };
  privateAddress: string;
  publicAddress: string;
  /** Volumes that a droplet takes. @default 15, DigitalOcean's own limit */
  volumeLimit?: number;
}

/** Adds the node and what its CSI driver says of it; kwok makes it Ready. Succeeds too when it is there already. */
export async function createNode(kubeconfigPath: string, node: NodeRequest): Promise<void> {
  const { core, storage } = clients(kubeconfigPath);
  const capacity = resources(node.vcpus * 1000, node.memoryMebibytes);
  const allocatable = resources(node.vcpus * 1000 - reservedMillicpu, allocatableMebibytes(node.memoryMebibytes));
  const created = await unless(
    409,
    core.createNode({
      body: {
        metadata: {
          name: node.name,
          labels: { ...node.pool.labels, ...systemLabels(node) },
          annotations: {
            "node.alpha.kubernetes.io/ttl": "0",
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
          },
        },
        spec: { providerID: `digitalocean://${node.dropletId}`, taints: node.pool.taints },
        status: {
          capacity,
          allocatable,
          addresses: [
            { type: "Hostname", address: node.name },
            { type: "InternalIP", address: node.privateAddress },
            { type: "ExternalIP", address: node.publicAddress },
          ],
          nodeInfo: nodeInfo(node),
        },
      },
    }),
  );
  const uid = (created ?? (await core.readNode({ name: node.name }))).metadata?.uid ?? "";
  const csiDriver = {
    name: driver,
    nodeID: String(node.dropletId),
    topologyKeys: ["region"],
    allocatable: { count: node.volumeLimit ?? 15 },
  };
  await unless(
    409,
    storage.createCSINode({
      body: {
        metadata: { name: node.name, ownerReferences: [{ apiVersion: "v1", kind: "Node", name: node.name, uid }] },
        spec: { drivers: [csiDriver] },
      },
    }),
  );
}

/** How long a pool waits for a disruption budget to allow an eviction before it takes the node away all the same. */
const drainSeconds = 30;

/**
 * Takes a node away as DOKS does when a pool shrinks: cordon, evict within the disruption budgets, delete.
 * Succeeds too when the node is already gone.
 *
 * @param drain false takes it away like a droplet that dies. @default true
 */
export async function deleteNode(kubeconfigPath: string, name: string, { drain = true } = {}): Promise<void> {
  const { core } = clients(kubeconfigPath);
  const node = await unless(404, core.patchNode({ name, body: { spec: { unschedulable: true } } }, mergePatch));
  if (!node) return;
  const podsOf = async () =>
    (await core.listPodForAllNamespaces({ fieldSelector: `spec.nodeName=${name}` })).items.filter(isEvictable);
  const deadline = Date.now() + drainSeconds * 1000;
  for (let pods = await podsOf(); drain && pods.length > 0 && Date.now() < deadline; pods = await podsOf()) {
    for (const { metadata } of pods) await evict(core, metadata?.namespace ?? "", metadata?.name ?? "");
    await sleep(500);
  }
  await unless(404, core.deleteNode({ name }));
  const { items } = await core.listPodForAllNamespaces({ fieldSelector: `spec.nodeName=${name}` });
  for (const { metadata } of items) {
    const pod = { namespace: metadata?.namespace ?? "", name: metadata?.name ?? "", gracePeriodSeconds: 0 };
    await unless(404, core.deleteNamespacedPod(pod));
  }
}

/** 429 is a disruption budget's "not now". */
async function evict(core: CoreV1Api, namespace: string, name: string): Promise<void> {
  try {
    await core.createNamespacedPodEviction({ namespace, name, body: { metadata: { name, namespace } } });
  } catch (error) {
    if (![404, 429].includes(statusOf(error) ?? 0)) throw error;
  }
}

const isEvictable = (pod: V1Pod): boolean => !pod.metadata?.ownerReferences?.some(({ kind }) => kind === "DaemonSet");

/** As `kubectl describe node` shows them on DOKS: a region, but no zone. */
const systemLabels = (node: NodeRequest): Record<string, string> => ({
  "beta.kubernetes.io/arch": "amd64",
  "beta.kubernetes.io/instance-type": node.size,
  "beta.kubernetes.io/os": "linux",
  "doks.digitalocean.com/managed": "true",
  "doks.digitalocean.com/node-id": node.nodeId,
  "doks.digitalocean.com/node-pool": node.pool.name,
  "doks.digitalocean.com/node-pool-id": node.pool.id,
  "doks.digitalocean.com/version": node.version,
  "failure-domain.beta.kubernetes.io/region": node.region,
  "kubernetes.io/arch": "amd64",
  "kubernetes.io/hostname": node.name,
  "kubernetes.io/os": "linux",
  "node.kubernetes.io/instance-type": node.size,
  region: node.region,
  "topology.kubernetes.io/region": node.region,
});

const nodeInfo = (node: NodeRequest) => ({
  architecture: "amd64",
  bootID: "",
  containerRuntimeVersion: "containerd://2.1.4",
  kernelVersion: "6.1.0-40-amd64",
  kubeProxyVersion: "",
  kubeletVersion: `v${node.version.replace(/-do\.\d+$/, "")}`,
  machineID: "",
  operatingSystem: "linux",
  osImage: "Debian GNU/Linux 12 (bookworm)",
  systemUUID: "",
});

/** The kubelet's own share of a DOKS node's processors. */
const reservedMillicpu = 100;

/** DigitalOcean's table (Kubernetes limits, "allocatable memory"), in GiB; above it the share that stays free. */
const allocatableGibibytes: Record<number, number> = { 2: 1, 4: 2.5, 8: 6, 16: 13 };

const allocatableMebibytes = (memoryMebibytes: number): number =>
  Math.floor((allocatableGibibytes[memoryMebibytes / 1024] ?? (memoryMebibytes / 1024) * 0.88) * 1024);

const resources = (millicpu: number, memoryMebibytes: number): Record<string, string> => ({
  cpu: `${millicpu}m`,
  memory: `${memoryMebibytes}Mi`,
  pods: "110",
  "ephemeral-storage": "50Gi",
});

function clients(kubeconfigPath: string) {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfigPath);
  return { core: config.makeApiClient(CoreV1Api), storage: config.makeApiClient(StorageV1Api) };
}
