import { existsSync, readdirSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ApiextensionsV1Api,
  CustomObjectsApi,
  DiscoveryV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1EndpointSlice,
  type V1Node,
  type V1PersistentVolume,
  type V1Pod,
} from "@kubernetes/client-node";
import { Cluster, type Store, unless } from "../account/controllers/watch";
import { stateDirectory } from "../paths";
import { allContainers, isReal } from "./images";
import { kwokKinds } from "./kwok";
import { podNetwork, writeNames } from "./names";
import { type Host, RealPod, removeFromCluster } from "./pod";
import { endSurvivors } from "./process";
import { diskDirectory } from "./volumes";

const strategicPatch = setHeaderOptions("Content-Type", PatchStrategy.StrategicMergePatch);
const apply = setHeaderOptions("Content-Type", PatchStrategy.ServerSideApply);
const group = "kwok.x-k8s.io";
const version = "v1alpha1";

/** One kubelet for all simulated nodes of the embedded cluster: it runs those pods that have a stand-in here. */
export class Kubelet implements Host {
  readonly core;
  private readonly cluster: Cluster;
  private readonly custom: CustomObjectsApi;
  private readonly pods = new Map<string, RealPod>();
  private readonly allPods: Store<V1Pod>;
  private readonly nodes: Store<V1Node>;
  private readonly slices: Store<V1EndpointSlice>;
  private nextAddress = Math.floor(Math.random() * 254);
  private namesDue = false;
  private stopped = false;

  constructor(
    private readonly config: KubeConfig,
    private readonly report: (line: string) => void,
  ) {
    for (const uid of podDirectories()) endSurvivors(join(podsDirectory(), uid));
    this.cluster = new Cluster(config, report);
    this.core = this.cluster.core;
    this.custom = config.makeApiClient(CustomObjectsApi);
    const discovery = config.makeApiClient(DiscoveryV1Api);
    this.nodes = this.cluster.store(
      "/api/v1/nodes",
      () => this.core.listNode(),
      (node) => void this.leadToKwok(node),
    );
    this.slices = this.cluster.store(
      "/apis/discovery.k8s.io/v1/endpointslices",
      () => discovery.listEndpointSliceForAllNamespaces(),
      () => this.renewNames(),
    );
    this.allPods = this.cluster.store(
      "/api/v1/pods",
      () => this.core.listPodForAllNamespaces(),
      // The store is told after its watchers.
      (pod) => setImmediate(() => this.follow(pod)),
    );
    this.cluster.store(
      "/api/v1/persistentvolumes",
      () => this.core.listPersistentVolume(),
      (volume) => void this.releaseDisk(volume),
    );
    void this.persist(() => this.defineKinds());
    void this.persist(() => this.forgetOldPods());
  }

  /** Ends all processes and returns when none is left; pods and their data stay. */
  async stop(seconds: number): Promise<void> {
    this.stopped = true;
    await Promise.all([...this.pods.values()].map((pod) => pod.stop(seconds)));
    await this.cluster.stop();
  }

  nodeAddress({ spec }: V1Pod): string {
    const node = this.nodes.get(spec?.nodeName ?? "");
    return node?.status?.addresses?.find(({ type }) => type === "InternalIP")?.address ?? "";
  }

  event(pod: V1Pod, type: "Normal" | "Warning", reason: string, message: string): void {
    const object = { apiVersion: "v1", kind: "Pod", metadata: pod.metadata };
    this.cluster.event(object, "kubelet", type, reason, message).catch(() => {});
  }

  private follow(changed: V1Pod): void {
    if (this.stopped) return;
    const { name = "", namespace = "", uid = "" } = changed.metadata ?? {};
    const current = this.allPods.get(name, namespace);
    // One that has come in the place of another of its name may be the only word of the other's end.
    for (const real of this.pods.values())
      if (real.name === name && real.namespace === namespace && real.uid !== current?.metadata?.uid) this.drop(real);
    if (current?.metadata?.uid !== uid) return;
    const running = this.pods.get(uid);
    if (running) running.update(current);
    else if (current.spec?.nodeName && isReal(current)) this.take(current);
  }

  private drop(real: RealPod): void {
    void real.remove().finally(() => this.pods.delete(real.uid));
  }

  private take(pod: V1Pod): void {
    const { uid = "", deletionTimestamp, name, namespace = "" } = pod.metadata ?? {};
    const phase = pod.status?.phase;
    if (deletionTimestamp || phase === "Succeeded" || phase === "Failed") {
      if (deletionTimestamp) void removeFromCluster(this.core, pod);
      return;
    }
    const known = pod.status?.podIP;
    const resumed = known?.startsWith(`${podNetwork()}.`) ?? false;
    const object = { ...pod, status: { ...pod.status, podIP: resumed ? known : this.freeAddress() } };
    this.renewNames();
    writeNames(namespace, this.slices.list());
    const real = new RealPod(this, object, join(podsDirectory(), uid), resumed);
    this.pods.set(uid, real);
    this.report(`${namespace}/${name} is ${real.address}`);
    void this.persist(() => this.passOn(object, real));
  }

  /** Addresses are given in turn: one that was just given up is not a stranger's at once. */
  private freeAddress(): string {
    const used = new Set(this.allPods.list().map(({ status }) => status?.podIP));
    for (const pod of this.pods.values()) used.add(pod.address.replace(/^127\./, "10."));
    for (let tries = 0; tries < 254; tries++) {
      this.nextAddress = (this.nextAddress % 254) + 1;
      const address = `${podNetwork()}.${this.nextAddress}`;
      if (!used.has(address)) return address;
    }
    throw new Error("254 pods run: no address is left");
  }

  private renewNames(): void {
    if (this.namesDue) return;
    this.namesDue = true;
    setTimeout(() => {
      this.namesDue = false;
      const slices = this.slices.list();
      const namespaces = new Set(
        this.allPods.list().flatMap((pod) => (isReal(pod) ? (pod.metadata?.namespace ?? []) : [])),
      );
      for (const namespace of namespaces) writeNames(namespace, slices);
    }, 20);
  }

  /** The API server asks a node for logs by its host name, first of all; these nodes' kubelet is kwok's, on this machine. */
  private async leadToKwok({ metadata, status }: V1Node): Promise<void> {
    const address = status?.addresses?.find(({ type }) => type === "Hostname")?.address;
    if (!address || address === "localhost") return;
    const body = { status: { addresses: [{ type: "Hostname", address: "localhost" }] } };
    await this.core.patchNodeStatus({ name: metadata?.name ?? "", body }, strategicPatch).catch(() => {});
  }

  /** Tells kwok where kubectl finds the pod's ports and logs; with the pod they are gone. */
  private async passOn(pod: V1Pod, real: RealPod): Promise<void> {
    const { name = "", namespace = "", uid = "" } = pod.metadata ?? {};
    const containers = pod.spec?.containers ?? [];
    const ports = containers.flatMap((each) => each.ports ?? []).map(({ containerPort }) => containerPort);
    const logs = allContainers(pod.spec).map((each) => ({
      containers: [each.name],
      logsFile: join(real.directory, each.name, "current.log"),
      previousLogsFile: join(real.directory, each.name, "previous.log"),
      follow: true,
    }));
    const forwards = ports.map((port) => ({ ports: [port], target: { port, address: real.address } }));
    const ownerReferences = [{ apiVersion: "v1", kind: "Pod", name, uid }];
    for (const [kind, spec] of Object.entries({ PortForward: { forwards }, Logs: { logs } })) {
      const plural = kwokKinds[kind as keyof typeof kwokKinds];
      const body = { apiVersion: `${group}/${version}`, kind, metadata: { name, namespace, ownerReferences }, spec };
      const call = { group, version, namespace, plural, name, body, fieldManager: "kubelet", force: true };
      await this.custom.patchNamespacedCustomObject(call, apply);
    }
  }

  /** kwok's kinds are new to the API server for a moment, and it may be away for longer. */
  private async persist(work: () => Promise<void>): Promise<void> {
    for (let tries = 0; tries < 30 && !this.stopped; tries++) {
      try {
        return await work();
      } catch (error) {
        if (tries === 29) this.report((error as Error).message);
        await sleep(1000);
      }
    }
  }

  private async defineKinds(): Promise<void> {
    const definitions = this.config.makeApiClient(ApiextensionsV1Api);
    for (const [kind, plural] of Object.entries(kwokKinds)) {
      const schema = {
        openAPIV3Schema: {
          type: "object",
          properties: { spec: { type: "object", x_kubernetes_preserve_unknown_fields: true } },
        },
      };
      const body = {
        metadata: { name: `${plural}.${group}` },
        spec: {
          group,
          names: { kind, plural },
          scope: "Namespaced",
          versions: [{ name: version, served: true, storage: true, schema }],
        },
      };
      await unless(409, definitions.createCustomResourceDefinition({ body }));
    }
  }

  private async forgetOldPods(): Promise<void> {
    const { items } = await this.core.listPodForAllNamespaces();
    const known = new Set(items.map(({ metadata }) => metadata?.uid));
    for (const uid of podDirectories())
      if (!known.has(uid)) rmSync(join(podsDirectory(), uid), { recursive: true, force: true });
  }

  /** With policy Delete a volume's data goes with it; with Retain the account keeps the disk, and so its data is kept. */
  private async releaseDisk(volume: V1PersistentVolume): Promise<void> {
    const { name = "", deletionTimestamp } = volume.metadata ?? {};
    if (!deletionTimestamp || volume.spec?.persistentVolumeReclaimPolicy !== "Delete") return;
    await rm(diskDirectory(name), { recursive: true, force: true });
  }
}

export const podsDirectory = (): string => join(stateDirectory(), "kubelet", "pods");

const podDirectories = (): string[] => (existsSync(podsDirectory()) ? readdirSync(podsDirectory()) : []);
