import { CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import {
  adminKubeconfig,
  clusterEndpoint,
  createCluster,
  deleteCluster,
  isRunning,
  startCluster,
  stopCluster,
} from "../cluster";
import { accountForControllers } from "./attachments";
import { sizes } from "./catalogue";
import { installCiliumPolicies } from "./cilium";
import { startControllers } from "./controllers/index";
import { createNode, deleteNode } from "./controllers/nodes";
import { mergePatch } from "./controllers/watch";
import type { Runtime } from "./kubernetes";
import type { Cluster, Node, NodePool, Store } from "./state";

/** The account's runtime where a real control plane stands behind its cluster, with what DigitalOcean runs inside it. */
export class EmbeddedCluster implements Runtime {
  #controllers: ReturnType<typeof startControllers> | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly store: Store,
    private readonly accountPort: number,
  ) {}

  create(cluster: Cluster) {
    return this.#inTurn(async () => {
      await createCluster(this.#options());
      await installCiliumPolicies(adminKubeconfig());
      this.#startControllers(cluster);
      return clusterEndpoint();
    });
  }

  resume(cluster: Cluster) {
    return this.#inTurn(async () => {
      await startCluster(this.#options());
      await installCiliumPolicies(adminKubeconfig());
      this.#startControllers(cluster);
      return clusterEndpoint();
    });
  }

  delete() {
    return this.#inTurn(async () => {
      await this.#stopControllers();
      await deleteCluster();
    });
  }

  isAlive = () => this.#controllers === undefined || isRunning();

  /** Ends its processes and keeps its state. */
  stop() {
    return this.#inTurn(async () => {
      await this.#stopControllers();
      await stopCluster();
    });
  }

  async addNode(cluster: Cluster, pool: NodePool, node: Node) {
    const size = sizes.find(({ slug }) => slug === pool.size);
    const droplet = Number(node.droplet_id);
    await createNode(adminKubeconfig(), {
      name: node.name,
      nodeId: node.id,
      dropletId: droplet,
      size: pool.size,
      vcpus: size?.vcpus ?? 0,
      memoryMebibytes: size?.memory ?? 0,
      region: cluster.region,
      version: cluster.version,
      pool,
      privateAddress: this.#privateAddress(cluster, droplet),
      publicAddress: `198.51.100.${droplet % 254}`, // a documentation range (RFC 5737)
    });
  }

  async updateNode(_cluster: Cluster, pool: NodePool, node: Node, removedLabels: string[]) {
    const config = new KubeConfig();
    config.loadFromFile(adminKubeconfig());
    const core = config.makeApiClient(CoreV1Api);
    const { spec } = await core.readNode({ name: node.name });
    const ofKubernetes = (spec?.taints ?? []).filter(({ key }) => key.startsWith("node.kubernetes.io/"));
    const labels = { ...pool.labels, ...Object.fromEntries(removedLabels.map((label) => [label, null])) };
    const body = { metadata: { labels }, spec: { taints: [...ofKubernetes, ...pool.taints] } };
    await core.patchNode({ name: node.name, body }, mergePatch);
  }

  async removeNode(_cluster: Cluster, node: Node) {
    await deleteNode(adminKubeconfig(), node.name);
  }

  /** One at a time: there is one control plane, and a replacement creates it while the old one is being deleted. */
  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => {});
    return result;
  }

  #options() {
    const { attachment, diskPod } = this.store.settings.latency;
    return {
      accountPort: this.accountPort,
      report: (line: string) => console.log(line),
      ...(diskPod > 0 && { diskPodSeconds: attachment + diskPod }),
    };
  }

  #startControllers(cluster: Cluster) {
    this.#controllers = startControllers(adminKubeconfig(), accountForControllers(this.store), () => {
      const { balancer, volume, attachment } = this.store.settings.latency;
      return {
        clusterId: cluster.id,
        region: cluster.region,
        balancerSeconds: balancer,
        volumeSeconds: volume,
        attachSeconds: attachment,
      };
    });
  }

  async #stopControllers() {
    await this.#controllers?.stop();
    this.#controllers = undefined;
  }

  /** A host of the cluster's VPC; ids are given in turn, so neighbours differ. */
  #privateAddress(cluster: Cluster, droplet: number): string {
    const range = this.store.data.vpcs.find(({ id }) => id === cluster.vpc_uuid)?.ip_range ?? "10.0.0.0/20";
    const [base = "", prefix] = range.split("/");
    const bytes = base.split(".").map(Number);
    const host = (droplet % (2 ** (32 - Number(prefix)) - 12)) + 10;
    const address = bytes.reduce((sum, byte) => sum * 256 + byte, 0) + host;
    return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
  }
}
