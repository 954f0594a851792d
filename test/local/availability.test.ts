import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  CoreV1Api,
  DiscoveryV1Api,
  type Informer,
  KubeConfig,
  makeInformer,
  type V1EndpointSlice,
  type V1Pod,
  type V1Service,
} from "@kubernetes/client-node";
import { execa } from "execa";
import { adminKubeconfig } from "../../local/cluster";
import { cloneDirectory } from "../../local/paths";
import { obtainTools } from "../../local/tools";
import { recordFigures } from "../figures";
import { delayReadiness } from "./readiness";

const long = process.env.HOBNOB_REPORT !== undefined;
/** A pod runs at once and is ready after this: long enough that drains which do not wait for it leave nobody. */
const READY_SECONDS = long ? 15 : 6;
/** Each pod of a node may have to wait for the one before; a drain that takes longer is taken for blocked. */
const DRAIN_SECONDS = 300;

const nameOf = ({ metadata }: { metadata?: { namespace?: string; name?: string } }) =>
  `${metadata?.namespace}/${metadata?.name}`;
const ownerOf = ({ metadata }: V1Pod) => metadata?.ownerReferences?.[0]?.uid;
const isReady = ({ metadata, status }: V1Pod) =>
  !metadata?.deletionTimestamp &&
  status?.conditions?.some((one) => one.type === "Ready" && one.status === "True") === true;

/** Counts the ready endpoints of Services at every change of their EndpointSlices. */
class Watcher {
  changes = 0;
  /** The fewest that each Service had. */
  readonly fewest = new Map<string, number>();
  /** Each time that a Service was left with none. */
  readonly outages: string[] = [];
  readonly #slices = new Map<string, V1EndpointSlice>();
  #informer: Informer<V1EndpointSlice>;

  constructor(config: KubeConfig, services: V1Service[]) {
    const api = config.makeApiClient(DiscoveryV1Api);
    this.#informer = makeInformer(config, "/apis/discovery.k8s.io/v1/endpointslices", () =>
      api.listEndpointSliceForAllNamespaces(),
    );
    const names = services.map(nameOf);
    const changed = (slice: V1EndpointSlice, change: () => void) => {
      const service = `${slice.metadata?.namespace}/${slice.metadata?.labels?.["kubernetes.io/service-name"]}`;
      if (!names.includes(service)) return;
      change();
      this.#count(service);
    };
    for (const event of ["add", "update"] as const)
      this.#informer.on(event, (slice) => changed(slice, () => this.#slices.set(nameOf(slice), slice)));
    this.#informer.on("delete", (slice) => changed(slice, () => this.#slices.delete(nameOf(slice))));
  }

  start = () => this.#informer.start();
  stop = () => this.#informer.stop();

  /** From here on, as if nothing had been seen. */
  forget(): void {
    this.changes = 0;
    this.fewest.clear();
    this.outages.length = 0;
  }

  #count(service: string): void {
    const [namespace, name] = service.split("/");
    const ready = [...this.#slices.values()]
      .filter(
        ({ metadata }) =>
          metadata?.namespace === namespace && metadata?.labels?.["kubernetes.io/service-name"] === name,
      )
      .flatMap(({ endpoints }) => endpoints ?? [])
      .filter(({ conditions }) => conditions?.ready !== false).length;
    this.changes += 1;
    this.fewest.set(service, Math.min(ready, this.fewest.get(service) ?? ready));
    if (ready === 0) this.outages.push(`${service} at ${new Date().toISOString()}`);
  }
}

describe("availability of the platform on the embedded cluster", function () {
  this.timeout(long ? 30 * 60_000 : 10 * 60_000);
  const state = mkdtempSync(join(tmpdir(), "hobnob-test-"));
  const environment = { ...process.env };
  let core: CoreV1Api;
  let watcher: Watcher;
  let services: V1Service[];

  const run = async (...args: string[]) => {
    const command = [join(cloneDirectory, "local", "bootstrap.mjs"), ...args];
    const result = await execa(process.execPath, command, {
      cwd: cloneDirectory,
      all: true,
      reject: false,
      stdin: "ignore",
    });
    assert.equal(result.exitCode, 0, `${args.join(" ")} failed:\n${result.all}`);
    return result.all;
  };
  const kubectl = async (...args: string[]) =>
    execa((await obtainTools(["kubectl"])).kubectl.path, args, { env: { KUBECONFIG: adminKubeconfig() } });
  const pods = async () => (await core.listPodForAllNamespaces()).items;

  before("npm start, and then simulated pods that take their time to be ready", async () => {
    process.env.HOBNOB_LOCAL_STATE = state;
    await run("start");
    await delayReadiness(READY_SECONDS);
    const config = new KubeConfig();
    config.loadFromFile(adminKubeconfig());
    core = config.makeApiClient(CoreV1Api);
    services = (await core.listServiceForAllNamespaces()).items.filter(({ spec }) => spec?.selector);
    watcher = new Watcher(config, services);
    await watcher.start();
    await until(
      "every Service has an endpoint",
      () => watcher.fewest.size === services.length && watcher.outages.length === 0,
    );
  });

  after("npm run reset", async () => {
    await watcher?.stop();
    await run("reset");
    process.env = environment;
    rmSync(state, { recursive: true, force: true });
  });

  const figures = {
    processes: `simulated, ready after ${READY_SECONDS} s`,
    nodes: 0,
    pods: 0,
    services: 0,
    changes: 0,
    "times without endpoint": 0,
    "longest drain, seconds": 0,
  };
  const serveThroughout = () => {
    assert.deepEqual(watcher.outages, [], "a Service had no ready endpoint");
    // Had nothing been taken away, nothing would have been shown.
    for (const service of services) assert.ok(watcher.fewest.has(nameOf(service)), `${nameOf(service)} never changed`);
    figures.changes += watcher.changes;
  };

  it("must satisfy the policy pack, given as a path from where the command is run", async () => {
    assert.match(await run("local", "preview", "--policy-pack", join("policy", "pack")), /Policies:\n\s+✅ hobnob@v/);
  });

  it("must keep every Service answering while each node is drained in turn, and end each drain", async () => {
    watcher.forget();
    const nodes = (await core.listNode()).items.map(({ metadata }) => metadata?.name ?? "");
    assert.ok(nodes.length >= 3);
    for (const node of nodes) {
      const started = Date.now();
      await drain(node);
      figures["longest drain, seconds"] = Math.max(
        figures["longest drain, seconds"],
        Math.round((Date.now() - started) / 1000),
      );
      const left = (await pods()).filter(({ spec }) => spec?.nodeName === node);
      assert.deepEqual(left.map(nameOf), [], `${node} is not empty`);
      await kubectl("uncordon", node);
    }
    figures.nodes = nodes.length;
    figures.services = services.length;
    serveThroughout();
  });

  /** As an operator does it, by evictions that ask the budgets. */
  const drain = (node: string) =>
    kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", `--timeout=${DRAIN_SECONDS}s`);

  it("must keep every Service answering while each pod is deleted in turn", async () => {
    await until("every pod is ready", async () => (await pods()).every(isReady));
    watcher.forget();
    const all = await pods();
    const owners = new Set(all.map(ownerOf));
    await Promise.all(
      [...owners].map(async (owner) => {
        const members = all.filter((pod) => ownerOf(pod) === owner);
        for (const pod of members) {
          await remove(pod);
          await whole(members.length, pod);
          figures.pods += 1;
        }
      }),
    );
    serveThroughout();
    recordFigures("availability", { ...figures, "times without endpoint": watcher.outages.length });
  });

  it("must see it when a Service loses its last endpoint: one replica is too few", async () => {
    watcher.forget();
    await kubectl("scale", "deployment/backend", "--namespace", "hobnob", "--replicas", "1");
    await until("one is left", () => watcher.fewest.get("hobnob/backend") === 1);
    assert.deepEqual(watcher.outages, []);
    const [last] = (await pods()).filter(
      (pod) => pod.metadata?.labels?.["app.kubernetes.io/name"] === "backend" && isReady(pod),
    );
    assert.ok(last);
    await remove(last);
    await until("the outage is seen", () => watcher.outages.length > 0);
    assert.match(watcher.outages[0] ?? "", /^hobnob\/backend at /);
  });

  const remove = ({ metadata: { name = "", namespace = "" } = {} }: V1Pod) =>
    core.deleteNamespacedPod({ name, namespace });

  const whole = (count: number, gone: V1Pod) =>
    until(`${nameOf(gone)} is replaced`, async () => {
      const members = (await pods()).filter((pod) => ownerOf(pod) === ownerOf(gone));
      return (
        members.filter(isReady).length === count &&
        members.every(({ metadata }) => metadata?.uid !== gone.metadata?.uid)
      );
    });

  async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    for (const deadline = Date.now() + 300_000; !(await holds()); await sleep(200))
      assert.ok(Date.now() < deadline, `waited 300 s in vain: ${what}`);
  }
});
