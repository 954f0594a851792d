import { setTimeout as sleep } from "node:timers/promises";
import type { Elasticsearch } from "./elasticsearch";

export interface RestoreOptions {
  /** What the cluster calls the store. */
  repository: string;
  /** Name of the snapshot. */
  snapshot: string;
  /** Names or patterns with `*`. @default every index but the hidden ones */
  indices?: string[];
  /** In place of the indices there are, which are closed for it. @default beside them, as `restored-<index>` */
  replace?: boolean;
  pollMilliseconds?: number;
}

export interface Snapshot {
  id: string;
  status: string;
  start: string;
  indices: string;
}

const BESIDE = "restored-";

/** The oldest first. */
export async function snapshots(elasticsearch: Elasticsearch, repository: string): Promise<Snapshot[]> {
  const rows = await elasticsearch.ask(
    "GET",
    `/_cat/snapshots/${repository}?format=json&h=id,status,start_epoch,indices&s=start_epoch,id`,
  );
  return rows.map(({ start_epoch, ...row }: Snapshot & { start_epoch: string }) => ({
    ...row,
    start: new Date(Number(start_epoch) * 1000).toISOString(),
  }));
}

/**
 * What the restore would write, by the index it comes from.
 * @throws where the snapshot or an index is not there, or where an index of that name is in the way
 */
export async function planRestore(elasticsearch: Elasticsearch, options: RestoreOptions): Promise<Map<string, string>> {
  const { repository, snapshot, replace } = options;
  const known = await snapshots(elasticsearch, repository);
  const found = known.find(({ id }) => id === snapshot);
  if (found?.status !== "SUCCESS") {
    const whole = known.filter(({ status }) => status === "SUCCESS").map(({ id }) => id);
    throw new Error(`${snapshot} is no complete snapshot; there are: ${whole.join(", ") || "none"}`);
  }
  const { snapshots: details } = await elasticsearch.ask("GET", `/_snapshot/${repository}/${snapshot}`);
  const patterns = (options.indices ?? ["*"]).map(
    (pattern) => new RegExp(`^${pattern.split("*").map(escaped).join(".*")}$`),
  );
  const wanted: string[] = details[0].indices.filter(
    (index: string) => (options.indices || !index.startsWith(".")) && patterns.some((pattern) => pattern.test(index)),
  );
  if (wanted.length === 0)
    throw new Error(`${snapshot} has none of these; it has: ${details[0].indices.join(", ") || "nothing"}`);
  const targets = new Map(wanted.map((index) => [index, replace ? index : BESIDE + index]));
  if (replace) return targets;
  const present = await existing(elasticsearch, [...targets.values()]);
  if (present.length > 0)
    throw new Error(
      `${present.join(", ")} would be overwritten; remove first what is not needed: DELETE /${present.join(",")}`,
    );
  return targets;
}

/** Restores and waits until every copy of each is there. @returns the documents of each index that was written */
export async function restore(
  elasticsearch: Elasticsearch,
  options: RestoreOptions,
  targets: Map<string, string>,
): Promise<Map<string, number>> {
  const { repository, snapshot, replace, pollMilliseconds = 1_000 } = options;
  const names = [...targets.values()];
  const present = replace ? await existing(elasticsearch, names) : [];
  if (present.length > 0) await elasticsearch.ask("POST", `/${present.join(",")}/_close`);
  await elasticsearch.ask("POST", `/_snapshot/${repository}/${snapshot}/_restore`, {
    indices: [...targets.keys()].join(","),
    include_global_state: false,
    // An alias would make searches find each document twice.
    include_aliases: replace ?? false,
    ...(!replace && { rename_pattern: "(.+)", rename_replacement: `${BESIDE}$1` }),
  });
  while ((await elasticsearch.ask("GET", `/_cluster/health/${names.join(",")}`)).status !== "green")
    await sleep(pollMilliseconds);
  const counts = new Map<string, number>();
  for (const name of names) {
    await elasticsearch.ask("POST", `/${name}/_refresh`);
    counts.set(name, (await elasticsearch.ask("GET", `/${name}/_count`)).count);
  }
  return counts;
}

const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");

async function existing(elasticsearch: Elasticsearch, names: string[]): Promise<string[]> {
  const rows: { index: string }[] = await elasticsearch.ask(
    "GET",
    "/_cat/indices?format=json&h=index&expand_wildcards=all",
  );
  return names.filter((name) => rows.some(({ index }) => index === name));
}
