import type { PlatformOutputs } from "../platform";
import { Client, type ClientOptions } from "../verify/client";
import { kubernetesCluster } from "../verify/cluster";

/** One Elasticsearch cluster, asked at one of its nodes. */
export interface Elasticsearch {
  /** @throws where the answer is an error, with Elasticsearch's own words. */
  // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
  ask(method: "GET" | "PUT" | "POST" | "DELETE", path: string, body?: object): Promise<any>;
}

/** Some calls wait for the cluster, for a minute at most. */
const SECONDS = 90;

export function elasticsearchAt(options: ClientOptions): Elasticsearch & { close(): Promise<void> } {
  const client = new Client({ timeout: SECONDS, ...options });
  return {
    async ask(method, path, body) {
      const { status, json, text } = await client.ask(method, path, { body });
      if (status < 400) return json;
      throw new Error(`${method} ${path}: ${status} ${json?.error?.reason ?? text}`);
    },
    close: client.close,
  };
}

/** The stack's Elasticsearch, through the cluster's API server: its first node, which every order leaves in its place. */
export async function connect({ kubeconfig, namespace, elasticsearchUrl }: PlatformOutputs) {
  const cluster = kubernetesCluster(kubeconfig, namespace);
  const pod = "elasticsearch-0";
  const { port, reason } = await cluster.forward(pod, 9200);
  const { protocol, hostname } = new URL(elasticsearchUrl);
  const options: ClientOptions = { origin: `${protocol}//127.0.0.1:${port}`, name: pod, explain: reason };
  if (protocol === "https:") {
    const secret = await cluster.secret(ADMINISTRATOR);
    const { username, password, "ca.crt": ca } = secret ?? {};
    if (!username || !password || !ca)
      throw new Error(`There is no Secret ${ADMINISTRATOR} with username, password and ca.crt`);
    Object.assign(options, { ca, servername: hostname, user: { name: username, password } });
  }
  const elasticsearch = elasticsearchAt(options);
  return {
    elasticsearch,
    close: async () => {
      await elasticsearch.close();
      cluster.close();
    },
  };
}

/** Secret of who may do everything, where Elasticsearch has security. */
const ADMINISTRATOR = "elasticsearch-operator";
