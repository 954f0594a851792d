import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Elasticsearch } from "../../components/elasticsearch";
import { elasticsearchAvailable } from "../../local/elasticsearch/process";
import { ConfigMapApi, type Pod, StatefulSetProcesses } from "../elasticsearch/pod";
import { type Captured, capture } from "../unit/graph";

const program = (replicas: number) => () => {
  new Elasticsearch("elasticsearch", {
    namespace: "hobnob",
    storageClassName: "hobnob-block-storage",
    replicas,
    memory: "1Gi",
    cpu: "250m",
    diskSize: "10Gi",
    mmap: false,
    spread: "hard",
    clients: [],
    apiServer: "cilium",
    workers: [],
  });
};

const CLAIM = "elasticsearch-bootstrap";

async function skipWithout(context: Mocha.Context, reasons: (string | undefined)[]) {
  const reason = reasons.find(Boolean);
  if (!reason) return;
  console.log(`    skipped: ${reason}`);
  context.skip();
}

async function linuxTools(): Promise<string | undefined> {
  if (process.platform !== "linux") return "the pods' scripts and addresses need Linux";
  const curl = await promisify(execFile)("curl", ["--version"]).catch(() => undefined);
  return curl ? undefined : "curl is missing";
}

describe("Elasticsearch's right to form the cluster", function () {
  this.timeout(20_000);
  let graph: Captured[];
  let directory: string;
  let api: ConfigMapApi;
  let first: Pod;
  let second: Pod;

  before(async function () {
    await skipWithout(this, [await linuxTools()]);
    graph = await capture(program(3));
  });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "elasticsearch-"));
    api = new ConfigMapApi();
    [first, second] = new StatefulSetProcesses(graph, directory, await api.start()).pods as [Pod, Pod];
  });

  afterEach(async () => {
    await api?.stop();
    if (directory) await rm(directory, { recursive: true, force: true });
  });

  const mayForm = async (pod: Pod) => /^cluster\.initial_master_nodes: (.+)$/m.exec(await pod.settings())?.[1];
  const diskId = async (pod: Pod) => (await readFile(join(pod.disk, ".disk-id"), "utf8")).trim();

  it("must be the first disk's alone, and claimed in the namespace", async () => {
    const { code, output } = await first.configure();
    const disk = await diskId(first);
    assert.equal(code, 0, output);
    assert.equal(await mayForm(first), '["elasticsearch-0"]');
    assert.match(output, new RegExp(`^\\S+Z forms the cluster: disk ${disk} is the first$`));
    assert.deepEqual([...api.objects.keys()], [CLAIM]);
    assert.deepEqual(api.objects.get(CLAIM), {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: CLAIM, labels: { "app.kubernetes.io/name": "elasticsearch" } },
      immutable: true,
      data: { disk },
    });
    assert.deepEqual(api.requests, ["POST /api/v1/namespaces/hobnob/configmaps Bearer token-of-elasticsearch-0"]);
  });

  it("must never be another node's, nor need the API there", async () => {
    const { code, output } = await second.configure();
    assert.equal(code, 0, output);
    assert.match(output, /joins: only the first node may form the cluster$/);
    assert.equal(await mayForm(second), undefined);
    assert.deepEqual(api.requests, []);
  });

  it("must outlast a start that was cut off before the cluster had formed", async () => {
    await first.configure();
    const { output } = await first.configure();
    assert.match(output, /forms the cluster, as this disk was chosen for it$/);
    assert.equal(await mayForm(first), '["elasticsearch-0"]');
  });

  it("must not pass to another disk, and the log must say what to do", async () => {
    await first.configure();
    const lost = await diskId(first);
    await first.loseDisk();
    const { code, output } = await first.configure();
    const disk = await diskId(first);
    assert.equal(code, 0, output);
    assert.notEqual(disk, lost);
    assert.equal(await mayForm(first), undefined);
    const [verdict, advice] = output.split("\n").map((line) => line.replace(/^\S+Z /, ""));
    assert.equal(
      verdict,
      `joins: disk ${lost} was chosen to form the cluster, and this disk, ${disk}, is another one.`,
    );
    assert.equal(
      advice,
      "If no node of that cluster has its disk any more, this node waits for ever. Only then, to begin again with an " +
        "empty cluster: kubectl --namespace hobnob delete configmap elasticsearch-bootstrap && " +
        "kubectl --namespace hobnob delete pod elasticsearch-0",
    );

    api.objects.delete(CLAIM);
    await first.configure();
    assert.equal(await mayForm(first), '["elasticsearch-0"]');
  });

  it("must wait for an API server that refuses or fails", async () => {
    api.failures.push(403);
    const { code, output } = await first.configure();
    assert.equal(code, 0, output);
    assert.match(output, /waits: cannot create ConfigMap hobnob\/elasticsearch-bootstrap \(HTTP status 403\)$/m);
    assert.equal(await mayForm(first), '["elasticsearch-0"]');
  });
});

describe("Elasticsearch processes under the StatefulSet's settings", function () {
  this.timeout(300_000);
  let directory: string;
  let api: ConfigMapApi;
  let set: StatefulSetProcesses;
  let cluster: string;

  before(async function () {
    await skipWithout(this, [await linuxTools(), await elasticsearchAvailable()]);
    directory = await mkdtemp(join(tmpdir(), "elasticsearch-"));
    api = new ConfigMapApi();
    set = new StatefulSetProcesses(await capture(program(3)), directory, await api.start());
    await set.start();
  });

  // Each test goes on where the one before ended.
  let failed = false;
  beforeEach(function () {
    if (failed) this.skip();
  });
  afterEach(function () {
    failed ||= this.currentTest?.state === "failed";
  });

  after(async () => {
    await set?.stop();
    await api?.stop();
    if (directory) await rm(directory, { recursive: true, force: true });
  });

  const pod = (ordinal: number) => set.pods[ordinal] as Pod;
  const allReady = () => Promise.all(set.pods.map((each) => each.until(0)));
  const clusterOf = async (each: Pod): Promise<string> => (await each.request("GET", "/")).body.cluster_uuid;

  /** Every cluster that any node was ever in, by their logs since the first start. */
  const clustersEver = () =>
    new Set(
      set.pods.flatMap(({ log }) => [...log.matchAll(/cluster UUID set to \[([^\]]+)\]/g)].map(([, uuid]) => uuid)),
    );

  const document = async (each: Pod) => (await each.request("GET", "/users/_doc/1")).body._source;

  it("must form one cluster, whose nodes all serve a document put through one", async () => {
    await allReady();
    cluster = await clusterOf(pod(0));
    assert.deepEqual(await Promise.all(set.pods.map(clusterOf)), [cluster, cluster, cluster]);
    for (const each of set.pods) {
      const { body } = await each.request("GET", "/_cluster/state/nodes");
      const names = Object.values<{ name: string }>(body.nodes).map(({ name }) => name);
      assert.deepEqual(names.sort(), ["elasticsearch-0", "elasticsearch-1", "elasticsearch-2"]);
      assert.equal(await readFile(join(each.disk, ".formed"), "utf8"), `${cluster}\n`);
    }
    // A crashed node's copies are else kept for it for a minute.
    const settings = { "index.unassigned.node_left.delayed_timeout": "0ms" };
    assert.equal((await pod(0).request("PUT", "/users", { settings })).status, 200);
    const put = await pod(0).request("PUT", "/users/_doc/1?wait_for_active_shards=all", { name: "Ada" });
    assert.equal(put.status, 201);
    assert.deepEqual(put.body._shards, { total: 2, successful: 2, failed: 0 });
    assert.deepEqual(await document(pod(1)), { name: "Ada" });
    assert.deepEqual(await document(pod(2)), { name: "Ada" });
    assert.deepEqual([...api.objects.keys()], [CLAIM]);
    assert.deepEqual([...clustersEver()], [cluster]);
  });

  it("must not be ready after a start before the cluster is green, nor unready when it is yellow later", async () => {
    const allocation = (value: string | null) =>
      pod(0).request("PUT", "/_cluster/settings", { persistent: { "cluster.routing.allocation.enable": value } });
    const replicas = (count: number) => pod(0).request("PUT", "/users/_settings", { number_of_replicas: count });
    await replicas(2);
    const { body } = await pod(0).request("GET", "/_cluster/health?wait_for_status=green&timeout=120s");
    assert.equal(body.status, "green");
    await allocation("primaries");
    await pod(2).stop("SIGKILL");
    assert.deepEqual(await pod(2).ready(), { code: 1, output: "Elasticsearch does not answer" });

    // Within its pod, with what the container before it left there.
    await pod(2).startContainer();
    const { output } = await pod(2).until(1, /^waits/);
    assert.match(
      output,
      /^waits, after its start, until the cluster is green: \{"status":"yellow",.*"unassigned_shards":1/,
    );
    assert.deepEqual(await pod(0).ready(), { code: 0, output: "" });
    assert.deepEqual(await pod(1).ready(), { code: 0, output: "" });

    await allocation(null);
    await pod(2).until(0);
    await replicas(3);
    assert.equal((await pod(2).request("GET", "/_cluster/health")).body.status, "yellow");
    for (const each of set.pods) assert.deepEqual(await each.ready(), { code: 0, output: "" });
    await replicas(2);
  });

  for (const lost of [0, 1, 2]) {
    it(`must stay the same cluster when node ${lost} loses its disk`, async () => {
      await pod(lost).stop("SIGKILL");
      await pod(lost).loseDisk();
      await pod(lost).start();
      await allReady();
      assert.deepEqual(await Promise.all(set.pods.map(clusterOf)), [cluster, cluster, cluster]);
      for (const each of set.pods) assert.deepEqual(await document(each), { name: "Ada" });
      assert.deepEqual([...clustersEver()], [cluster]);
    });
  }

  for (const lost of [
    [0, 1],
    [0, 2],
    [1, 2],
  ] as const) {
    it(`must stop and say so, not form a second cluster, when nodes ${lost.join(" and ")} lose their disks`, async () => {
      const starts = set.pods.map(({ log }) => log.length);
      await Promise.all(lost.map((ordinal) => pod(ordinal).stop("SIGKILL")));
      const putBack = await Promise.all(lost.map((ordinal) => pod(ordinal).loseDisk()));
      await Promise.all(lost.map((ordinal) => pod(ordinal).start()));

      // Each node has looked for a master for a while when it says so.
      for (const [ordinal, each] of set.pods.entries()) {
        const { output } = await each.until(1, /^no master/);
        assert.equal(
          output,
          "no master: this node has found no cluster, or too few of the cluster's nodes to elect one",
        );
        await logged(each, starts[ordinal] as number, /master not discovered (or elected )?yet/);
        assert.equal((await each.request("PUT", "/users/_doc/2?timeout=1s", { name: "Eve" })).status, 503);
      }
      for (const ordinal of lost) assert.equal(existsSync(join(pod(ordinal).disk, ".formed")), false);
      assert.deepEqual([...clustersEver()], [cluster]);

      await Promise.all(lost.map((ordinal) => pod(ordinal).stop("SIGKILL")));
      await Promise.all(putBack.map((restore) => restore()));
      await Promise.all(lost.map((ordinal) => pod(ordinal).start()));
      await allReady();
      assert.deepEqual(await Promise.all(set.pods.map(clusterOf)), [cluster, cluster, cluster]);
      assert.deepEqual(await document(pod(0)), { name: "Ada" });
    });
  }
});

async function logged(pod: Pod, from: number, line: RegExp): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!line.test(pod.log.slice(from))) {
    assert.ok(Date.now() < deadline, `${pod.name} never logged ${line}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
