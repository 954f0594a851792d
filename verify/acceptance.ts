import type { PlatformOutputs } from "../platform";
import { API_PODS, apiPodsCheck, apiUserCheck } from "./api";
import { type Check, elsewhere, Miss } from "./checks";
import { Client, type ClientOptions } from "./client";
import type { Cluster, PodInfo } from "./cluster";
import { type Elasticsearch, elasticsearchChecks } from "./elasticsearch";
import { API, PUBLIC_CHECKS, publicChecks, publicClient, rateLimitCheck, type World } from "./public";

export interface Target {
  outputs: PlatformOutputs;
  cluster: Cluster;
  /** Why nothing of the stack can be reached from outside. @default it can */
  nothingPublic?: string;
  world?: World;
}

/** The acceptance's own user, and the authority of the nodes' certificates; nothing where Elasticsearch has no security. */
export async function elasticsearchLogin(url: string, cluster: Cluster): Promise<Partial<ClientOptions>> {
  const { protocol, hostname } = new URL(url);
  if (protocol === "http:") return {};
  const secret = await cluster.secret("elasticsearch-verify");
  const { username, password, "ca.crt": ca } = secret ?? {};
  if (!username || !password || !ca)
    throw new Miss("there is no Secret elasticsearch-verify with username, password and ca.crt to ask it with");
  return { ca, servername: hostname, user: { name: username, password } };
}

/** All checks of a platform, in order, and what ends the connections that they opened. */
export function acceptance({ outputs, cluster, nothingPublic, world = {} }: Target) {
  const clients: Client[] = [];
  const keep = (client: Client) => {
    clients.push(client);
    return client;
  };
  const podClient = async ({ name, ports }: PodInfo, options: Partial<ClientOptions> = {}) => {
    const { port, reason } = await cluster.forward(name, ports.http ?? 0);
    const scheme = options.ca ? "https" : "http";
    return keep(new Client({ origin: `${scheme}://127.0.0.1:${port}`, name, explain: reason, ...options }));
  };
  const elasticsearch = async (): Promise<Elasticsearch> => {
    const { replicas, pods } = await cluster.workload("StatefulSet", "elasticsearch");
    const login = await elasticsearchLogin(outputs.elasticsearchUrl, cluster);
    const nodes = pods.map(async (pod) => ({ pod: pod.name, client: await podClient(pod, login) }));
    return { replicas, nodes: await Promise.all(nodes) };
  };
  const api = async () => {
    const { replicas, pods } = await cluster.workload("Deployment", "backend");
    return { replicas, pods: await Promise.all(pods.map((pod) => podClient(pod))) };
  };
  const anyApiPod = async () => (await api()).pods[0] as Client;
  const annotations = (host: string) => cluster.ingress(host);
  const ofTheCluster: Check[] = [...elasticsearchChecks(elasticsearch), apiPodsCheck(api)];
  const checks: Check[] =
    nothingPublic === undefined
      ? [
          ...ofTheCluster,
          ...publicChecks(outputs, annotations, world),
          apiUserCheck(async () => keep(publicClient(outputs.apiUrl, world)), [API]),
          rateLimitCheck(outputs, annotations, world),
        ]
      : [
          ...ofTheCluster,
          apiUserCheck(anyApiPod, [API_PODS]),
          ...PUBLIC_CHECKS.map((name) => ({ name, run: async () => elsewhere(nothingPublic) })),
        ];
  return {
    checks,
    close: async () => {
      await Promise.all(clients.map((client) => client.close()));
      cluster.close();
    },
  };
}
