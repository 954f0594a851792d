import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Elasticsearch } from "../../components/elasticsearch";
import { elasticsearchAvailable } from "../../local/elasticsearch/process";
import { type Elasticsearch as Client, elasticsearchAt } from "../../operations/elasticsearch";
import { planRestore, type RestoreOptions, restore, snapshots } from "../../operations/restore";
import { checkCopies, leaving, settle, vacate } from "../../operations/scaling";
import { ConfigMapApi, type Pod, StatefulSetProcesses } from "../elasticsearch/pod";
import { values, Writer } from "../elasticsearch/writer";
import { recordFigures } from "../figures";
import { capture } from "../unit/graph";

const program = () => {
  new Elasticsearch("elasticsearch", {
    namespace: "hobnob",
    storageClassName: "hobnob-block-storage",
    replicas: 3,
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

/** What is running before the upgrade; the newest that the machine's JDK runs comes after. */
const BEFORE = "9.5.2";
const INDEX = "orders";

/** One cluster of real processes, through every order in turn, while a client writes. */
describe("Elasticsearch's orders, while documents are written", function () {
  this.timeout(300_000);
  let directory: string;
  let api: ConfigMapApi;
  let set: StatefulSetProcesses;
  let writer: Writer;
  let client: Client;
  let cluster: string;

  const pod = (ordinal: number) => set.pods[ordinal] as Pod;
  const allReady = () => Promise.all(set.pods.map((each) => each.until(0)));
  const clusters = async () =>
    Promise.all(set.pods.map(async (each) => (await each.request("GET", "/")).body.cluster_uuid));
  const versions = async () =>
    new Set(
      (await client.ask("GET", "/_cat/nodes?format=json&h=version")).map(({ version }: { version: string }) => version),
    );
  const health = () => client.ask("GET", "/_cluster/health");

  before(async function () {
    const reason =
      process.platform === "linux"
        ? ((await elasticsearchAvailable()) ?? (await elasticsearchAvailable(BEFORE)))
        : "the pods' scripts and addresses need Linux";
    if (reason) {
      console.log(`    skipped: ${reason}`);
      this.skip();
    }
    directory = await mkdtemp(join(tmpdir(), "elasticsearch-"));
    api = new ConfigMapApi();
    set = new StatefulSetProcesses(await capture(program), directory, await api.start());
    set.version = BEFORE;
    set.settings = { "path.repo": directory };
    await set.start();
    await allReady();
    client = elasticsearchAt({ origin: pod(0).url });
    [cluster = ""] = await clusters();
    await client.ask("PUT", `/${INDEX}`, { settings: { number_of_shards: 3, number_of_replicas: 1 } });
    writer = new Writer(() => set.pods.map(({ url }) => url), INDEX).start();
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

  const long = process.env.HOBNOB_REPORT ? it : it.skip;

  long("must restart one by one, each once the cluster is whole again", async () => {
    await set.roll(async () => assert.equal((await health()).status, "green"));
    assert.deepEqual(await clusters(), [cluster, cluster, cluster]);
  });

  it("must keep a restarting node's copies for it, and a lost node's no longer than usual", async () => {
    const delay = async () =>
      (await pod(0).request("GET", `/${INDEX}/_settings?flat_settings=true`)).body[INDEX].settings[
        "index.unassigned.node_left.delayed_timeout"
      ];
    await pod(2).terminate();
    assert.equal(await delay(), "5m");
    const { delayed_unassigned_shards: delayed, relocating_shards: moving } = await health();
    assert.ok(delayed > 0, `${delayed} shards wait for the node`);
    assert.equal(moving, 0);
    await pod(2).start();
    await pod(2).until(0);
    assert.equal(await delay(), undefined);
  });

  it("must upgrade one by one, to a version that reads the disks of the one before", async () => {
    assert.deepEqual(await versions(), new Set([BEFORE]));
    set.version = undefined;
    await set.roll(async () => assert.equal((await health()).status, "green"));
    const after = await versions();
    assert.equal(after.size, 1);
    assert.ok(!after.has(BEFORE), "the version has not changed");
    assert.deepEqual(await clusters(), [cluster, cluster, cluster]);
  });

  it("must take more nodes in, of which none forms a cluster", async () => {
    await set.scale(5);
    await allReady();
    assert.deepEqual(
      await clusters(),
      Array.from({ length: 5 }, () => cluster),
    );
    assert.equal((await health()).number_of_nodes, 5);
    for (const each of set.pods.slice(3)) assert.match(each.configured.join(), /joins: only the first node may form/);
  });

  it("must refuse to go down to fewer nodes than an index has copies", async () => {
    await client.ask("PUT", "/wide", { settings: { number_of_replicas: 3 } });
    await assert.rejects(
      checkCopies(client, 3),
      /^Error: 3 nodes can't hold every copy of wide \(number_of_replicas 3\)\./,
    );
    await client.ask("DELETE", "/wide");
    await checkCopies(client, 3);
  });

  it("must let nodes go only when they hold no shard and no vote, also when it is cut off and run again", async () => {
    const going = leaving(5, 3);
    assert.deepEqual(going, ["elasticsearch-3", "elasticsearch-4"]);
    const options = { say: () => {}, pollMilliseconds: 200 };
    await vacate(client, going, options);
    await vacate(client, going, options);
    const shards = await client.ask("GET", "/_cat/shards?format=json&h=node");
    for (const { node } of shards) assert.ok(!going.includes(node), `${node} has a shard`);
    const { metadata } = await client.ask("GET", "/_cluster/state/metadata?filter_path=metadata.cluster_coordination");
    assert.equal(metadata.cluster_coordination.last_committed_config.length, 3);
    await set.scale(3);
    await settle(client, going, 200);
    await settle(client, going, 200);
    assert.equal((await health()).number_of_nodes, 3);
    assert.equal((await health()).status, "green");
    assert.deepEqual((await client.ask("GET", "/_cluster/settings")).persistent, {});
    assert.deepEqual(await clusters(), [cluster, cluster, cluster]);
  });

  long("must take the nodes back with the disks that they left", async () => {
    await set.scale(5);
    await allReady();
    assert.deepEqual(
      await clusters(),
      Array.from({ length: 5 }, () => cluster),
    );
    for (const each of set.pods) assert.equal(await readFile(join(each.disk, ".formed"), "utf8"), `${cluster}\n`);
  });

  describe("snapshots", () => {
    const repository = "snapshots";
    /** The scheduled job's own script, on a store that the published jars have: S3's module is not among them. */
    const takeSnapshot = (keep: number) =>
      promisify(execFile)("bash", [join(__dirname, "../../components/elasticsearch/snapshot.sh")], {
        env: {
          PATH: process.env.PATH,
          ELASTICSEARCH_URL: pod(0).url,
          REPOSITORY: repository,
          REPOSITORY_SETTINGS: JSON.stringify({ type: "fs", settings: { location: join(directory, "store") } }),
          KEEP: String(keep),
          POLL_SECONDS: "0.5",
        },
      });
    const names = async () => (await snapshots(client, repository)).map(({ id }) => id);
    const plan = async (wishes: Partial<RestoreOptions> = {}) => {
      const options = { repository, snapshot: (await names()).at(-1) as string, pollMilliseconds: 200, ...wishes };
      return { options, targets: await planRestore(client, options) };
    };
    let before: string[];

    it("must hold every document that was acknowledged when they began", async () => {
      before = writer.ids();
      const { stdout } = await takeSnapshot(2);
      assert.match(stdout, /kept 1$/m);
      const { options, targets } = await plan();
      assert.deepEqual([...targets], [[INDEX, `restored-${INDEX}`]]);
      const counts = await restore(client, options, targets);
      const found = await values(pod(1).url, `restored-${INDEX}`);
      assert.deepEqual(
        before.filter((id) => !found.has(id)),
        [],
      );
      assert.deepEqual([...counts], [[`restored-${INDEX}`, found.size]]);
      await assert.rejects(planRestore(client, options), /restored-orders would be overwritten/);
      await client.ask("DELETE", `/restored-${INDEX}`);
    });

    it("must bring an index back in its own place, with its alias, as it was", async () => {
      const texts = async () => {
        const { hits } = (await client.ask("GET", "/notes/_search")).hits;
        return Object.fromEntries(
          hits.map(({ _id, _source }: { _id: string; _source: { text: string } }) => [_id, _source.text]),
        );
      };
      const write = (id: string, text: string) => client.ask("PUT", `/notes/_doc/${id}?refresh=true`, { text });
      await client.ask("PUT", "/notes-1", { aliases: { notes: {} } });
      await write("kept", "as it was");
      await write("deleted", "too early");
      await sleep(1_000);
      await takeSnapshot(3);
      await write("kept", "changed by mistake");
      await write("wrong", "never wanted");
      await client.ask("DELETE", "/notes-1/_doc/deleted?refresh=true");
      const { options, targets } = await plan({ indices: ["notes-*"], replace: true });
      assert.deepEqual([...(await restore(client, options, targets))], [["notes-1", 2]]);
      assert.deepEqual(await texts(), { kept: "as it was", deleted: "too early" });
      await client.ask("DELETE", "/notes-1");
      await client.ask("DELETE", `/_snapshot/${repository}/${options.snapshot}`);
    });

    it("must be removed past the number to keep, the oldest first", async () => {
      const [first] = await names();
      await sleep(1_000);
      await takeSnapshot(2);
      await sleep(1_000);
      const { stdout } = await takeSnapshot(2);
      assert.match(stdout, new RegExp(`removed ${first}, as 2 later ones succeeded`));
      assert.equal((await names()).length, 2);
      assert.ok(!(await names()).includes(first as string));
    });

    it("must end with an error, in Elasticsearch's words, where the store refuses", async () => {
      await rm(join(directory, "store"), { recursive: true });
      await assert.rejects(takeSnapshot(2), ({ code, stdout, stderr }) => {
        assert.notEqual(code, 0);
        assert.match(stdout + stderr, /failed: \/_\S+\/snapshots\S*: .*"reason":/);
        return true;
      });
    });
  });

  // The last, as its nodes go on from all of the above.
  describe("in the end", () => {
    it("must have lost no document that it acknowledged", async () => {
      const { written, acknowledged, lost, longestPause, retried } = await writer.stop();
      console.log(`    ${JSON.stringify({ written, acknowledged, lost, retried, longestPause })}`);
      recordFigures("elasticsearch", {
        "documents written": written,
        "documents acknowledged": acknowledged,
        "documents lost": lost,
        "longest pause between two acknowledgements, ms": longestPause,
      });
      assert.ok(acknowledged > 500, `only ${acknowledged} documents were acknowledged`);
      assert.equal(lost, 0);
      assert.deepEqual([...api.objects.keys()], ["elasticsearch-bootstrap"]);
    });
  });
});
