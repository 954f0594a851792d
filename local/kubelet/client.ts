import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { DiscoveryV1Api, type KubeConfig, type V1EndpointSlice, type V1Pod } from "@kubernetes/client-node";
import { Cluster, type Store } from "../account/controllers/watch";
import { loopback } from "./names";

/** Where a real pod's port is reached from this machine, `http://127.…:PORT`. */
export const podUrl = ({ status }: V1Pod, port: number): string => `http://${loopback(status?.podIP ?? "")}:${port}`;

interface Answer {
  status: number;
  /** Parsed, where it is JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
  body: any;
  /** Who answered, `http://127.…:PORT`. */
  url: string;
}

interface Counts {
  sent: number;
  /** No answer, or one of 500 and more. */
  failed: number;
  /** What was wrong with the first ten of them. */
  reasons: string[];
}

/**
 * A client of a Service as a pod of the cluster is one: each request is a connection of its own to the next endpoint that
 * is ready by the API server's latest word.
 */
export class ServiceClient {
  private readonly cluster: Cluster;
  private readonly slices: Store<V1EndpointSlice>;
  private turn = 0;

  /**
   * @param port of the Service, by name.
   * @param retries other endpoints that are asked where one gives no answer, as NGINX's proxy_next_upstream does. @default 0
   */
  constructor(
    config: KubeConfig,
    private readonly service: { namespace: string; name: string; port: string },
    private readonly retries = 0,
  ) {
    this.cluster = new Cluster(config, () => {});
    const discovery = config.makeApiClient(DiscoveryV1Api);
    const { namespace } = service;
    this.slices = this.cluster.store(
      `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`,
      () => discovery.listNamespacedEndpointSlice({ namespace }),
      () => {},
    );
  }

  /** The ready endpoints, `http://127.…:PORT`. */
  urls(): string[] {
    return this.slices.list().flatMap(({ metadata, endpoints, ports }) => {
      const port = ports?.find(({ name }) => name === this.service.port)?.port;
      if (metadata?.labels?.["kubernetes.io/service-name"] !== this.service.name || !port) return [];
      const ready = (endpoints ?? []).filter(({ conditions }) => conditions?.ready !== false);
      return ready.flatMap(({ addresses }) => addresses.map((address) => `http://${loopback(address)}:${port}`));
    });
  }

  /** Rejects where no endpoint answers within ten seconds. */
  async request(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<Answer> {
    const asked = new Set<string>();
    for (let tries = 0; ; tries++) {
      const urls = this.urls().filter((each) => !asked.has(each));
      const url = urls[this.turn++ % urls.length];
      if (url) asked.add(url);
      try {
        if (!url) throw new Error(`the Service ${this.service.name} has no other ready endpoint`);
        return await send(url, method, path, body, headers);
      } catch (error) {
        if (tries >= this.retries) throw error;
      }
    }
  }

  /** Sends a GET every `periodMs`, whatever becomes of those before, until it is stopped. */
  load(path: string, periodMs = 20): { stop(): Promise<Counts> } {
    const counts: Counts = { sent: 0, failed: 0, reasons: [] };
    const underWay = new Set<Promise<void>>();
    const one = async () => {
      counts.sent++;
      const since = new Date().toISOString();
      const problem = await this.request("GET", path).then(
        ({ status, url }) => (status < 500 ? undefined : `${status} of ${url}`),
        (error: Error) => error.message,
      );
      if (!problem) return;
      counts.failed++;
      if (counts.reasons.length < 10) counts.reasons.push(`${since} ${problem}`);
    };
    const timer = setInterval(() => {
      const sent = one().finally(() => underWay.delete(sent));
      underWay.add(sent);
    }, periodMs);
    return {
      stop: async () => {
        clearInterval(timer);
        await Promise.all(underWay);
        return counts;
      },
    };
  }

  /** Resolves when the Service has as many ready endpoints; throws the last number after `seconds`. */
  async untilReady(endpoints: number, seconds = 120): Promise<void> {
    const deadline = Date.now() + seconds * 1000;
    while (this.urls().length !== endpoints) {
      if (Date.now() > deadline)
        throw new Error(`${this.service.name} has ${this.urls().length} ready endpoints, not ${endpoints}`);
      await sleep(100);
    }
  }

  close(): Promise<void> {
    return this.cluster.stop();
  }
}

function send(url: string, method: string, path: string, body: object | undefined, extra: Record<string, string>) {
  const text = body && JSON.stringify(body);
  const headers = { ...(text && { "content-type": "application/json" }), ...extra };
  return new Promise<Answer>((resolve, reject) => {
    const signal = AbortSignal.timeout(10_000);
    const sent = request(new URL(path, url), { method, headers, agent: false, signal }, async (response) => {
      try {
        let answer = "";
        for await (const chunk of response) answer += chunk;
        const isJson = response.headers["content-type"]?.includes("json") && answer;
        resolve({ status: response.statusCode ?? 0, body: isJson ? JSON.parse(answer) : answer, url });
      } catch (error) {
        reject(new Error(`${url}: ${(error as Error).message}`));
      }
    });
    sent.on("error", (error) => reject(new Error(`${url}: ${error.message}`))).end(text);
  });
}
