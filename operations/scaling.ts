import { setTimeout as sleep } from "node:timers/promises";
import type { Elasticsearch } from "./elasticsearch";

/*
 * What a plain update can't do: take nodes out of a running cluster. Each step may be cut off and run again.
 * https://www.elastic.co/docs/deploy-manage/maintenance/add-and-remove-elasticsearch-nodes
 */

const EXCLUDED = "cluster.routing.allocation.exclude._name";
const NODE = /^elasticsearch-\d+$/;

/** The nodes that a set of `from` loses when it has `to`: a StatefulSet removes the last ones. */
export const leaving = (from: number, to: number): string[] =>
  Array.from({ length: Math.max(0, from - to) }, (_, index) => `elasticsearch-${to + index}`);

/** @throws where the nodes that stay can't hold what an index demands: its shards would wait on the others for ever. */
export async function checkCopies(elasticsearch: Elasticsearch, nodes: number): Promise<void> {
  const indices: { index: string; rep: string }[] = await elasticsearch.ask(
    "GET",
    "/_cat/indices?format=json&h=index,rep&expand_wildcards=all",
  );
  const settings = await elasticsearch.ask(
    "GET",
    "/_all/_settings/index.auto_expand_replicas?flat_settings=true&expand_wildcards=all",
  );
  const expands = (index: string) => {
    const value = settings[index]?.settings?.["index.auto_expand_replicas"];
    return value !== undefined && value !== "false";
  };
  const demanding = indices.filter(({ index, rep }) => Number(rep) >= nodes && !expands(index));
  if (demanding.length === 0) return;
  const names = demanding.map(({ index, rep }) => `${index} (number_of_replicas ${rep})`).join(", ");
  throw new Error(
    `${nodes} nodes can't hold every copy of ${names}.\n` +
      `Lower it first, for each: PUT /<index>/_settings {"index.number_of_replicas": ${nodes - 1}}`,
  );
}

/** Moves every shard off the nodes and takes their votes; they then hold nothing that the cluster needs. */
export async function vacate(
  elasticsearch: Elasticsearch,
  nodes: string[],
  { say, pollMilliseconds = 2_000 }: { say: (line: string) => void; pollMilliseconds?: number },
): Promise<void> {
  await exclude(elasticsearch, (others) => [...others, ...nodes]);
  for (let before = -1; ; await sleep(pollMilliseconds)) {
    const left = await shardsOn(elasticsearch, nodes);
    if (left === 0) break;
    if (left !== before) say(`${left} shards are still to move off ${nodes.join(", ")}`);
    before = left;
  }
  const { metadata } = await elasticsearch.ask(
    "GET",
    "/_cluster/state/metadata?filter_path=metadata.cluster_coordination.voting_config_exclusions",
  );
  const known = (metadata?.cluster_coordination?.voting_config_exclusions ?? []).map(
    ({ node_name: name }: { node_name: string }) => name,
  );
  const without = nodes.filter((name) => !known.includes(name));
  if (without.length > 0)
    await elasticsearch.ask("POST", `/_cluster/voting_config_exclusions?node_names=${without}&timeout=60s`);
}

/** Takes back what `vacate` has set, once the nodes have left. */
export async function settle(elasticsearch: Elasticsearch, gone: string[], pollMilliseconds = 2_000): Promise<void> {
  for (;;) {
    const { nodes } = await elasticsearch.ask("GET", "/_cluster/state/nodes");
    if (!Object.values<{ name: string }>(nodes).some(({ name }) => gone.includes(name))) break;
    await sleep(pollMilliseconds);
  }
  await elasticsearch.ask("DELETE", "/_cluster/voting_config_exclusions?wait_for_removal=false");
  await exclude(elasticsearch, (others) => others);
}

/** Names that somebody else has excluded stay so. */
async function exclude(elasticsearch: Elasticsearch, nodes: (others: string[]) => string[]): Promise<void> {
  const { persistent } = await elasticsearch.ask("GET", "/_cluster/settings?flat_settings=true");
  const before: string = persistent[EXCLUDED] ?? "";
  const others = before.split(",").filter((name) => name !== "" && !NODE.test(name));
  const wanted = nodes(others).join(",");
  if (wanted !== before)
    await elasticsearch.ask("PUT", "/_cluster/settings", { persistent: { [EXCLUDED]: wanted || null } });
}

async function shardsOn(elasticsearch: Elasticsearch, names: string[]): Promise<number> {
  const { nodes, routing_nodes: routing } = await elasticsearch.ask("GET", "/_cluster/state/nodes,routing_nodes");
  const ids = Object.keys(nodes).filter((id) => names.includes(nodes[id].name));
  return ids.reduce((sum, id) => sum + (routing.nodes[id]?.length ?? 0), 0);
}
