import { randomBytes } from "node:crypto";
import { type Check, Miss, miss, pass, type Run } from "./checks";
import type { Client } from "./client";

/** One Elasticsearch node, asked itself and not through a Service. */
interface Node {
  pod: string;
  client: Client;
}

export interface Elasticsearch {
  /** As many as are configured. */
  replicas: number;
  nodes: Node[];
}

export const NODES_ANSWER = "elasticsearch: each pod answers";
export const ONE_CLUSTER = "elasticsearch: one cluster";
export const ALL_NODES = "elasticsearch: each node sees all";
export const DOCUMENT = "elasticsearch: written through one, read through each";
export const SHARDS = "elasticsearch: shards complete";

/**
 * @param find gives the pods that there are; it is asked once
 */
export function elasticsearchChecks(find: () => Promise<Elasticsearch>): Check[] {
  let found: Promise<Elasticsearch> | undefined;
  const elasticsearch = () => {
    found ??= find();
    return found;
  };
  const index = `hobnob-verify-${randomBytes(4).toString("hex")}`;
  const needs = [NODES_ANSWER];
  return [
    { name: NODES_ANSWER, run: async (run) => nodesAnswer(await elasticsearch(), run) },
    { name: ONE_CLUSTER, needs, run: async (run) => oneCluster(await elasticsearch(), run) },
    { name: ALL_NODES, needs, run: async (run) => allNodes(await elasticsearch(), run) },
    { name: DOCUMENT, needs, run: async (run) => document(await elasticsearch(), index, run) },
    { name: SHARDS, needs, run: async (run) => shards(await elasticsearch(), run) },
  ];
}

/** The node's own copy of the cluster's state, master or not. */
const state = (metric: string, filter: string) => `/_cluster/state/${metric}?local=true&filter_path=${filter}`;

async function nodesAnswer({ replicas, nodes }: Elasticsearch, { signal }: Run) {
  const silent = await Promise.all(
    nodes.map(({ client }) =>
      client.expect(200, "GET", state("master_node", "cluster_uuid"), { signal }).then(
        () => undefined,
        (error: Error) => error.message,
      ),
    ),
  );
  const faults = silent.filter((fault) => fault !== undefined);
  if (nodes.length !== replicas) faults.unshift(`${nodes.length} pods instead of the ${replicas} configured`);
  return faults.length > 0 ? miss(faults.join("; ")) : pass(nodes.map(({ pod }) => pod).join(", "));
}

async function oneCluster({ nodes }: Elasticsearch, { signal }: Run) {
  const uuids = await each(nodes, async ({ client }) => {
    const { json } = await client.expect(200, "GET", state("master_node", "cluster_uuid"), { signal });
    return String(json?.cluster_uuid ?? "_na_");
  });
  const [first] = uuids.values();
  if ([...uuids.values()].some((uuid) => uuid === "_na_" || uuid !== first)) return miss(list(uuids));
  return pass(`cluster_uuid ${first} on each`);
}

async function allNodes({ nodes }: Elasticsearch, { signal }: Run) {
  const wanted = nodes.map(({ pod }) => pod).sort();
  const views = await each(nodes, async ({ client }) => {
    const { json } = await client.expect(200, "GET", state("nodes,master_node", "nodes.*.name,master_node"), {
      signal,
    });
    const known: Record<string, { name: string }> = json?.nodes ?? {};
    const names = Object.values(known).map(({ name }) => name);
    return `${names.sort().join(", ") || "no node"}; master ${known[json?.master_node]?.name ?? "none"}`;
  });
  const [first] = views.values();
  const agreed = [...views.values()].every((view) => view === first && !view.endsWith("master none"));
  if (!agreed || first?.split(";")[0] !== wanted.join(", ")) return miss(list(views));
  return pass(first);
}

async function document({ nodes }: Elasticsearch, index: string, { cleanUp, signal }: Run) {
  const [writer, ...readers] = nodes as [Node, ...Node[]];
  cleanUp(`index ${index}`, async () => {
    const { status } = await writer.client.ask("DELETE", `/${index}`);
    if (status !== 200 && status !== 404) throw new Miss(`${writer.pod} answers its deletion with ${status}`);
  });
  // A copy on a second node, wherever there is one, and waited for: else a reader may ask a copy that is not there yet.
  const settings = { number_of_shards: 1, auto_expand_replicas: "0-1", "index.write.wait_for_active_shards": "all" };
  await writer.client.expect(200, "PUT", `/${index}?wait_for_active_shards=all&timeout=5s`, { body: { settings } });
  const text = randomBytes(8).toString("hex");
  await writer.client.expect(201, "PUT", `/${index}/_doc/1`, { body: { text } });
  const faults = await each(readers, async ({ client, pod }) => {
    const { status, json } = await client.ask("GET", `/${index}/_doc/1`, { signal });
    if (json?._source?.text === text) return "";
    return `${pod} reads ${status === 200 ? "another one" : `none (${status})`}`;
  });
  const wrong = [...faults.values()].filter(Boolean);
  if (wrong.length > 0) return miss(`a document written through ${writer.pod}: ${wrong.join("; ")}`);
  return pass(`through ${writer.pod}, then ${readers.map(({ pod }) => pod).join(", ") || "no other, of one node"}`);
}

async function shards({ nodes }: Elasticsearch, { signal }: Run) {
  const views = await each(nodes, async ({ client }) => {
    // Shorter than the client waits; a cluster that isn't green by then answers 408, with its health.
    const { json } = await client.ask("GET", "/_cluster/health?wait_for_status=green&timeout=5s", { signal });
    const unassigned = json?.unassigned_shards ?? "unknown";
    return `${json?.status ?? "no health"}, ${json?.active_shards ?? "?"} shards, ${unassigned} unassigned`;
  });
  const whole = [...views.values()].every((view) => /^green, .*, 0 unassigned$/.test(view));
  return whole ? pass([...views.values()][0] as string) : miss(list(views));
}

async function each<T>(nodes: Node[], ask: (node: Node) => Promise<T>): Promise<Map<string, T>> {
  return new Map(await Promise.all(nodes.map(async (node) => [node.pod, await ask(node)] as const)));
}

const list = (views: Map<string, string>) => [...views].map(([pod, view]) => `${pod}: ${view}`).join("; ");
