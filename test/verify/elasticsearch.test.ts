import assert from "node:assert/strict";
import {
  type ElasticsearchProcesses,
  elasticsearchAvailable,
  startElasticsearch,
} from "../../local/elasticsearch/process";
import { runChecks } from "../../verify/checks";
import { Client } from "../../verify/client";
import {
  ALL_NODES,
  DOCUMENT,
  elasticsearchChecks,
  NODES_ANSWER,
  ONE_CLUSTER,
  SHARDS,
} from "../../verify/elasticsearch";
import { recordFigures } from "../figures";

describe("acceptance of real Elasticsearch processes", function () {
  this.timeout(600_000);
  const running: ElasticsearchProcesses[] = [];

  before(async function () {
    const reason = await elasticsearchAvailable();
    if (!reason) return;
    console.log(`    skipped: ${reason}`);
    this.skip();
  });
  afterEach(async () => {
    await Promise.all(running.splice(0).map((processes) => processes.stop()));
  });

  async function start(nodes: 1 | 3): Promise<string[]> {
    const processes = await startElasticsearch({ nodes });
    running.push(processes);
    return processes.urls;
  }

  /** What each check says of pods that answer at these addresses. */
  async function verify(urls: string[]) {
    const nodes = urls.map((origin, ordinal) => {
      const pod = `elasticsearch-${ordinal}`;
      return { pod, client: new Client({ origin, name: pod }) };
    });
    const checks = elasticsearchChecks(async () => ({ replicas: urls.length, nodes }));
    const results = await runChecks(checks, new AbortController().signal);
    await Promise.all(nodes.map(({ client }) => client.close()));
    return Object.fromEntries(results.map(({ name, ...result }) => [name, result]));
  }

  it("must pass three nodes of one cluster, and leave no index in it", async () => {
    const urls = await start(3);
    const results = await verify(urls);
    const missed = Object.values(results).filter(({ status }) => status !== "pass");
    assert.deepEqual(missed, []);
    assert.match(results[ONE_CLUSTER]?.detail ?? "", /^cluster_uuid [\w-]{22} on each$/);
    assert.match(
      results[ALL_NODES]?.detail ?? "",
      /^elasticsearch-0, elasticsearch-1, elasticsearch-2; master elasticsearch-\d$/,
    );
    const indices = (await (await fetch(`${urls[0]}/_all?expand_wildcards=all`)).json()) as object;
    assert.deepEqual(Object.keys(indices), []);
    recordFigures("verify", { "checks of real Elasticsearch processes": Object.keys(results).length, missed: 0 });
  });

  it("must miss two clusters of one node each, in which every node is content", async () => {
    const [one, other] = await Promise.all([start(1), start(1)]);
    const results = await verify([...one, ...other]);
    assert.equal(results[NODES_ANSWER]?.status, "pass");
    assert.equal(results[ONE_CLUSTER]?.status, "miss");
    assert.match(
      results[ONE_CLUSTER]?.detail ?? "",
      /^elasticsearch-0: (?<uuid>[\w-]{22}); elasticsearch-1: (?!\k<uuid>)[\w-]{22}$/,
    );
    assert.equal(results[ALL_NODES]?.status, "miss");
    assert.equal(results[DOCUMENT]?.status, "miss");
    assert.equal(results[SHARDS]?.status, "pass", results[SHARDS]?.detail);
  });
});
