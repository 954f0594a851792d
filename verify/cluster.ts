import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { Writable } from "node:stream";
import {
  AppsV1Api,
  CoreV1Api,
  KubeConfig,
  NetworkingV1Api,
  PortForward,
  setHeaderOptions,
  type V1Pod,
} from "@kubernetes/client-node";
import { reasonOf } from "./client";

export interface PodInfo {
  name: string;
  ready: boolean;
  /** Container ports by their names. */
  ports: Record<string, number>;
}

/** A pod's port on this machine. */
interface Forward {
  port: number;
  /** Why the last connection failed, where the cluster told it. */
  reason(): string | undefined;
}

/** What the acceptance asks of Kubernetes; with an own kubeconfig, no other access is needed. */
export interface Cluster {
  /** The workload's configured number of pods, and those that it has. */
  workload(kind: "StatefulSet" | "Deployment", name: string): Promise<{ replicas: number; pods: PodInfo[] }>;
  /** The annotations of the Ingress that serves the host; none where no Ingress does. */
  ingress(host: string): Promise<Record<string, string> | undefined>;
  /** The Secret's values by key; none where there is no such Secret. */
  secret(name: string): Promise<Record<string, string> | undefined>;
  forward(pod: string, port: number): Promise<Forward>;
  close(): void;
}

/** A controller of pods, and how many of those that it wants are ready. */
interface Workload {
  /** `namespace/name` */
  name: string;
  ready: number;
  wanted: number;
  /** Pods of the newest revision, of a Deployment. */
  updated?: number;
}

/** What `npm run status` asks besides. */
export interface Overview {
  nodes(): Promise<{ name: string; ready: boolean; cordoned: boolean }[]>;
  /** Those that carry the label, in whatever namespace, and all of the namespaces. */
  workloads(label: string, namespaces: string[]): Promise<Workload[]>;
  /** The addresses of each balancer of the namespace, by its Service's name. */
  balancers(namespace: string): Promise<{ name: string; addresses: string[] }[]>;
}

/**
 * @param kubeconfig as the stack's output has it
 * @param seconds for each answer: a firewall may let it come never
 */
export function kubernetesCluster(kubeconfig: string, namespace: string, seconds = 15): Cluster & Overview {
  const within = async <T>(ask: (options: ReturnType<typeof withSignal>) => Promise<T>): Promise<T> => {
    const signal = AbortSignal.timeout(seconds * 1_000);
    return ask(withSignal(signal)).catch((error) => {
      throw signal.aborted ? new Error(`no answer within ${seconds} s`) : error;
    });
  };
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  const [apps, core, networking] = [AppsV1Api, CoreV1Api, NetworkingV1Api].map((api) =>
    config.makeApiClient(api as never),
  ) as unknown as [AppsV1Api, CoreV1Api, NetworkingV1Api];
  const forwarder = new PortForward(config);
  const servers: { server: Server; sockets: Set<Socket> }[] = [];
  return {
    async workload(kind, name) {
      const { spec } =
        kind === "StatefulSet"
          ? await within((options) => apps.readNamespacedStatefulSet({ name, namespace }, options))
          : await within((options) => apps.readNamespacedDeployment({ name, namespace }, options));
      const labelSelector = Object.entries(spec?.selector.matchLabels ?? {})
        .map(([key, value]) => `${key}=${value}`)
        .join(",");
      const { items } = await within((options) => core.listNamespacedPod({ namespace, labelSelector }, options));
      const living = items.filter(({ metadata }) => !metadata?.deletionTimestamp);
      return { replicas: spec?.replicas ?? 1, pods: living.map(podInfo) };
    },
    async ingress(host) {
      const { items } = await within((options) => networking.listNamespacedIngress({ namespace }, options));
      const found = items.find(({ spec }) => spec?.rules?.some((rule) => rule.host === host));
      return found && (found.metadata?.annotations ?? {});
    },
    async secret(name) {
      const { items } = await within((options) =>
        core.listNamespacedSecret({ namespace, fieldSelector: `metadata.name=${name}` }, options),
      );
      const decoded = Object.entries(items[0]?.data ?? {}).map(([key, value]) => [
        key,
        Buffer.from(value, "base64").toString("utf8"),
      ]);
      return items[0] && Object.fromEntries(decoded);
    },
    async nodes() {
      const { items } = await within((options) => core.listNode({}, options));
      return items.map(({ metadata, spec, status }) => ({
        name: metadata?.name ?? "",
        ready: status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false,
        cordoned: spec?.unschedulable ?? false,
      }));
    },
    async workloads(label, namespaces) {
      const [deployments, sets, daemons] = await Promise.all([
        within((options) => apps.listDeploymentForAllNamespaces({}, options)),
        within((options) => apps.listStatefulSetForAllNamespaces({}, options)),
        within((options) => apps.listDaemonSetForAllNamespaces({}, options)),
      ]);
      const rolled = deployments.items.map(({ metadata, spec, status }) => ({
        metadata,
        ready: status?.readyReplicas ?? 0,
        wanted: spec?.replicas ?? 1,
        updated: status?.updatedReplicas ?? 0,
      }));
      const sized = sets.items.map(({ metadata, spec, status }) => ({
        metadata,
        ready: status?.readyReplicas ?? 0,
        wanted: spec?.replicas ?? 1,
      }));
      const each = daemons.items.map(({ metadata, status }) => ({
        metadata,
        ready: status?.numberReady ?? 0,
        wanted: status?.desiredNumberScheduled ?? 0,
      }));
      return [...rolled, ...sized, ...each]
        .filter(
          ({ metadata }) => metadata?.labels?.[label] !== undefined || namespaces.includes(metadata?.namespace ?? ""),
        )
        .map(({ metadata, ...counts }) => ({ name: `${metadata?.namespace}/${metadata?.name}`, ...counts }));
    },
    async balancers(namespace) {
      const { items } = await within((options) => core.listNamespacedService({ namespace }, options));
      return items
        .filter(({ spec }) => spec?.type === "LoadBalancer")
        .map(({ metadata, status }) => ({
          name: metadata?.name ?? "",
          addresses: status?.loadBalancer?.ingress?.flatMap(({ ip, hostname }) => ip ?? hostname ?? []) ?? [],
        }));
    },
    async forward(pod, port) {
      let reason: string | undefined;
      const sockets = new Set<Socket>();
      const server = createServer((socket) => {
        sockets.add(socket.on("close", () => sockets.delete(socket)).on("error", () => {}));
        const refuse = (why: string) => {
          reason = why.trim();
          socket.destroy();
        };
        const errors = new Writable({
          write(chunk, _encoding, done) {
            // Each stream opens with its port alone, which the client cuts off.
            if (chunk.length > 0) refuse(String(chunk));
            done();
          },
        });
        forwarder.portForward(namespace, pod, [port], socket, errors, socket).then(
          (connection) => {
            const webSocket = connection as Exclude<typeof connection, () => unknown>;
            webSocket.onclose = () => socket.end();
            socket.on("close", () => webSocket.close());
          },
          (error) => refuse(`the cluster forwards nothing to it: ${reasonOf(error)}`),
        );
      }).listen(0, "127.0.0.1");
      await once(server, "listening");
      servers.push({ server, sockets });
      return { port: (server.address() as AddressInfo).port, reason: () => reason };
    },
    close() {
      for (const { server, sockets } of servers) {
        server.close();
        for (const socket of sockets) socket.destroy();
      }
    },
  };
}

/** The client takes a signal only by what it lets others do to a request before it is sent. */
function withSignal(signal: AbortSignal) {
  const { middleware = [], ...options } = setHeaderOptions("Accept", "application/json");
  const signalled = middleware.map((each) => ({
    ...each,
    pre: (request: Parameters<typeof each.pre>[0]) => {
      request.setSignal(signal);
      return each.pre(request);
    },
  }));
  return { ...options, middleware: signalled };
}

function podInfo({ metadata, spec, status }: V1Pod): PodInfo {
  const ports = spec?.containers.flatMap((container) => container.ports ?? []) ?? [];
  return {
    name: metadata?.name ?? "",
    ready: status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false,
    ports: Object.fromEntries(ports.map(({ name, containerPort }) => [name, containerPort])),
  };
}
