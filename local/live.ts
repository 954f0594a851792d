import { setTimeout as sleep } from "node:timers/promises";
import { CoreV1Api, DiscoveryV1Api, type KubeConfig } from "@kubernetes/client-node";
import type { PlatformOutputs } from "../platform";
import { loopback } from "./kubelet/names";

/** What an example's `test/live.ts` gets of its stack, which is up, and of the platform below it. */
export interface Live {
  /** The example's outputs, its secrets too. */
  outputs: Record<string, unknown>;
  platform: PlatformOutputs;
  /** Of the cluster, with all rights. */
  kubeconfig: KubeConfig;
  /** Real processes stand behind the pods whose images have a stand-in. Else pods run nothing, and answer nothing. */
  real: boolean;
  /** The same for one Service: whether all its pods are real ones. */
  isReal(namespace: string, service: string): Promise<boolean>;
  /**
   * Where the processes of a Service's ready pods listen, such as `127.66.3.4:8080`; waits until there is one.
   * @param portName of the Service; needed where it has several
   */
  endpoints(namespace: string, service: string, portName?: string): Promise<string[]>;
}

/** The default export of `test/live.ts`. Rejects where something is not as it must be. @returns what it saw, in one line */
export type LiveCheck = (live: Live) => Promise<string>;

const ENDPOINTS_SECONDS = 60;

/** @throws where the Service has no ready pod in time */
export async function endpoints(
  kubeconfig: KubeConfig,
  { namespace, service, portName }: { namespace: string; service: string; portName?: string },
): Promise<string[]> {
  const client = kubeconfig.makeApiClient(DiscoveryV1Api);
  for (let waited = 0; waited < ENDPOINTS_SECONDS; waited++) {
    const labelSelector = `kubernetes.io/service-name=${service}`;
    const { items } = await client.listNamespacedEndpointSlice({ namespace, labelSelector });
    const found = items.flatMap(({ endpoints: pods = [], ports = [] }) => {
      const [port] = ports.filter(({ name }) => portName === undefined || name === portName);
      const ready = pods.filter(({ conditions }) => conditions?.ready !== false);
      return port ? ready.flatMap(({ addresses }) => addresses.map((ip) => `${loopback(ip)}:${port.port}`)) : [];
    });
    if (found.length > 0) return found;
    await sleep(1000);
  }
  throw new Error(`The Service ${namespace}/${service} has no ready pod${portName ? ` with a port ${portName}` : ""}.`);
}

/** The pods that a Service selects. */
export async function podsOf(kubeconfig: KubeConfig, namespace: string, service: string) {
  const core = kubeconfig.makeApiClient(CoreV1Api);
  const { spec } = await core.readNamespacedService({ namespace, name: service });
  const labelSelector = Object.entries(spec?.selector ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
  return (await core.listNamespacedPod({ namespace, labelSelector })).items;
}
