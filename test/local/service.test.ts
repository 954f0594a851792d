import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppsV1Api, CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import { createNode } from "../../local/account/controllers/nodes";
import { adminKubeconfig, createCluster, deleteCluster } from "../../local/cluster";
import { startKubelet, stopDaemons } from "../../local/daemons";
import { type Engine, engine, type Project, prepareProject, pulumi } from "../../local/engine";
import { ServiceClient } from "../../local/kubelet/client";
import { setRealPods } from "../../local/kubelet/kwok";
import { requireLoopbackNetwork } from "../../local/kubelet/names";
import { obtainTools } from "../../local/tools";
import { recordFigures } from "../figures";
import { neverReady } from "./readiness";

/** Any digest is the clone's program; each is another version for all that a rollout knows. */
const version = (letter: string) => `registry.test/hobnob/kubia-program@sha256:${letter.repeat(64)}`;
const node = (number: number) => ({
  name: `workers-aaaa${number}`,
  nodeId: `node-${number}`,
  dropletId: 100 + number,
  size: "s-2vcpu-4gb",
  vcpus: 2,
  memoryMebibytes: 4096,
  region: "fra1",
  version: "1.36.3-do.0",
  pool: { id: "pool-1", name: "workers", labels: {}, taints: [] },
  privateAddress: `10.10.0.${number}`,
  publicAddress: `198.51.100.${number}`,
});

/** It has no stand-in, so its pods are kwok's, which is told to leave them alone. */
const BROKEN = "registry.test/hobnob/broken@sha256:0";
/** So long an `up` waits for it; for what becomes ready it waits as it does by default, however slow this machine is. */
const impatient = { "rollout:timeout": "8s" };

describe("a Service's rollouts, with real processes behind its pods", function () {
  this.timeout(120_000);
  const state = mkdtempSync(join(tmpdir(), "hobnob-service-"));
  const oldState = process.env.HOBNOB_LOCAL_STATE;
  const project: Project = { name: "rollout", source: join(__dirname, "rollout"), directory: join(state, "rollout") };
  const good = { "rollout:image": version("a"), "rollout:prices": "low" };
  const figures: Record<string, number> = {};
  let runner: Engine;
  let core: CoreV1Api;
  let apps: AppsV1Api;
  let shop: ServiceClient;

  async function up(settings: Record<string, string>): Promise<{ code?: number; said: string }> {
    const kubeconfig = readFileSync(adminKubeconfig(), "utf8");
    await prepareProject(runner, "test", { "rollout:kubeconfig": kubeconfig, ...settings }, {}, project);
    const args = ["up", "--yes", "--skip-preview", "--stack", "test", "--color", "never"];
    const { exitCode, all } = await pulumi(runner, args, { all: true, reject: false, stdin: "ignore" }, project);
    return { code: exitCode, said: String(all) };
  }

  /** Nobody may see that it goes on. */
  async function unseen<T>(what: string, work: () => Promise<T>): Promise<T> {
    const load = shop.load("/", 20);
    // Stopped after a failure too: it would keep the tests' process for ever.
    const [outcome] = await Promise.allSettled([work()]);
    const { sent, failed, reasons } = await load.stop();
    figures[`${what}, requests sent`] = sent;
    figures[`${what}, requests failed`] = failed;
    if (outcome.status === "rejected") throw outcome.reason;
    assert.deepEqual(reasons, [], what);
    assert.ok(sent > 50, `${what}: ${sent} sent`);
    return outcome.value;
  }

  const podsOf = async (image: string) =>
    (await core.listNamespacedPod({ namespace: "shops" })).items
      .filter(({ spec, metadata }) => spec?.containers[0]?.image === image && !metadata?.deletionTimestamp)
      .map(({ metadata }) => metadata?.name);
  const configMaps = async () =>
    (await core.listNamespacedConfigMap({ namespace: "shops" })).items
      .filter(({ data }) => data?.prices !== undefined)
      .map(({ data }) => data?.prices);
  /** Who answers. */
  async function answering(): Promise<Set<string>> {
    const answers = new Set<string>();
    for (let i = 0; i < 12; i++) answers.add((await shop.request("GET", "/")).body.replace("You've hit ", "").trim());
    return answers;
  }

  before("a cluster with a kubelet, and the first version", async function () {
    const missing = await requireLoopbackNetwork().then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (missing) {
      console.log(`    left out: ${missing}`);
      this.skip();
    }
    process.env.HOBNOB_LOCAL_STATE = state;
    setRealPods(true);
    await createCluster({ accountPort: 1 });
    await neverReady(BROKEN);
    await Promise.all([1, 2].map((number) => createNode(adminKubeconfig(), node(number))));
    await startKubelet();
    runner = engine(await obtainTools(["pulumi", "pulumi-language-nodejs"]), 1);
    const config = new KubeConfig();
    config.loadFromFile(adminKubeconfig());
    core = config.makeApiClient(CoreV1Api);
    apps = config.makeApiClient(AppsV1Api);
    const { code, said } = await up(good);
    assert.equal(code, 0, said);
    shop = new ServiceClient(config, { namespace: "shops", name: "shop", port: "http" });
    await shop.untilReady(2);
  });

  after(async () => {
    await shop?.close();
    await stopDaemons();
    await deleteCluster();
    rmSync(state, { recursive: true, force: true });
    if (oldState === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = oldState;
    recordFigures("service-rollouts", figures);
  });

  it("must leave the old pods and their files serving when a version never becomes ready, and return by the old args", async () => {
    const before = await podsOf(version("a"));
    await unseen("a version that never becomes ready", async () => {
      const { code, said } = await up({ ...good, ...impatient, "rollout:image": BROKEN, "rollout:prices": "high" });
      assert.notEqual(code, 0);
      assert.match(said, /shop/);
      assert.deepEqual(await podsOf(version("a")), before);
      assert.equal((await podsOf(BROKEN)).length, 1);
      assert.deepEqual((await configMaps()).sort(), ["high", "low"]);
    });
    await unseen("the way back", async () => {
      const { code, said } = await up(good);
      assert.equal(code, 0, said);
    });
    // Its files are another object once more, and so the pods are others.
    assert.deepEqual([(await podsOf(version("a"))).length, await podsOf(BROKEN)], [2, []]);
    assert.deepEqual(await configMaps(), ["low"]);
  });

  it("must roll to a new version and its files without a request that fails, and then remove what no pod needs", async () => {
    const { code, said } = await unseen("a new version", () =>
      up({ "rollout:image": version("b"), "rollout:prices": "fair" }),
    );
    assert.equal(code, 0, said);
    assert.deepEqual([(await podsOf(version("a"))).length, (await podsOf(version("b"))).length], [0, 2]);
    assert.deepEqual(await configMaps(), ["fair"]);
    await shop.untilReady(2);
    const { body } = await shop.request("GET", "/self");
    assert.deepEqual(body.files, { prices: "fair" });
  });

  it("must give a canary its share only once it is ready, and be without it as before when it is taken back", async () => {
    const now = { "rollout:image": version("b"), "rollout:prices": "fair" };
    const before = (await podsOf(version("b"))).sort();
    const unready = await unseen("a canary that never becomes ready", () =>
      up({ ...now, ...impatient, "rollout:canary": BROKEN }),
    );
    assert.notEqual(unready.code, 0);
    assert.match(unready.said, /shop-canary/);
    assert.deepEqual([...(await answering())].sort(), before);

    const ready = await unseen("a canary", () => up({ ...now, "rollout:canary": version("c") }));
    assert.equal(ready.code, 0, ready.said);
    await shop.untilReady(3);
    assert.deepEqual([...(await answering())].sort(), [...before, ...(await podsOf(version("c")))].sort());

    const { code, said } = await unseen("the canary's end", () => up(now));
    assert.equal(code, 0, said);
    await shop.untilReady(2);
    assert.deepEqual((await podsOf(version("b"))).sort(), before);
    const { items } = await apps.listNamespacedDeployment({ namespace: "shops" });
    assert.deepEqual(
      items.map(({ metadata }) => metadata?.name),
      ["shop"],
    );
  });
});
