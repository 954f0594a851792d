import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  AppsV1Api,
  CoreV1Api,
  KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1ContainerStatus,
  type V1Pod,
} from "@kubernetes/client-node";
import { execa } from "execa";
import getPort from "get-port";
import { adminKubeconfig } from "../../local/cluster";
import { requireRealPods } from "../../local/kubelet/choice";
import { podUrl, ServiceClient } from "../../local/kubelet/client";
import { cloneDirectory } from "../../local/paths";
import { obtainTools } from "../../local/tools";
import { recordFigures } from "../figures";

const namespace = "hobnob";
const merge = setHeaderOptions("Content-Type", PatchStrategy.StrategicMergePatch);

/** One platform as its user has it; each test leaves it whole. */
describe("real processes behind the pods", function () {
  this.timeout(240_000);
  const state = mkdtempSync(join(tmpdir(), "hobnob-real-"));
  const oldState = process.env.HOBNOB_LOCAL_STATE;
  let kubectlPath: string;
  let core: CoreV1Api;
  let apps: AppsV1Api;
  let backend: ServiceClient;
  let elasticsearch: ServiceClient;
  const figures: Record<string, number> = {};

  const run = async (...args: string[]) => {
    const { exitCode, all } = await execa(process.execPath, [join(cloneDirectory, "local", "bootstrap.mjs"), ...args], {
      cwd: cloneDirectory,
      all: true,
      reject: false,
      stdin: "ignore",
    });
    assert.equal(exitCode, 0, `${args.join(" ")} failed:\n${all}`);
    return all;
  };
  const kubectl = async (...args: string[]) =>
    (await execa(kubectlPath, ["--kubeconfig", adminKubeconfig(), "--namespace", namespace, ...args])).stdout;
  const pod = (name: string) => core.readNamespacedPod({ namespace, name });
  const podsOf = async (app: string) =>
    (await core.listNamespacedPod({ namespace, labelSelector: `app.kubernetes.io/name=${app}` })).items;
  const container = ({ status }: V1Pod): V1ContainerStatus => status?.containerStatuses?.[0] as V1ContainerStatus;
  const processOf = (of: V1Pod) => Number(container(of).containerID?.replace("process://", ""));
  const isReady = ({ status }: V1Pod) =>
    status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
  const until = async <T>(what: string, ask: () => Promise<T | undefined | false>, seconds = 120): Promise<T> => {
    const deadline = Date.now() + seconds * 1000;
    for (;;) {
      const found = await ask().catch(() => undefined);
      if (found) return found;
      assert.ok(Date.now() < deadline, `never: ${what}`);
      await sleep(200);
    }
  };
  const client = (name: string, retries = 0) => new ServiceClient(config(), { namespace, name, port: "http" }, retries);
  const whole = async () => {
    await backend.untilReady(3);
    await elasticsearch.untilReady(3);
  };
  // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
  const ask = async (url: string, path: string): Promise<any> => (await fetch(url + path)).json();

  const under = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    const load = backend.load("/users?query=lovelace");
    await work();
    await whole();
    const { sent, failed, reasons } = await load.stop();
    figures[`${what}, requests sent`] = sent;
    figures[`${what}, requests failed`] = failed;
    console.log(`      ${what}: ${sent} sent, ${failed} failed ${reasons.join("; ")}`);
    assert.deepEqual(reasons, []);
  };

  before("npm start -- --real", async function () {
    process.env.HOBNOB_LOCAL_STATE = state;
    const missing = await requireRealPods().then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (missing) {
      console.log(`    skipped: ${missing}`);
      this.skip();
    }
    await run("start", "--real");
    kubectlPath = (await obtainTools(["kubectl"])).kubectl.path;
    core = config().makeApiClient(CoreV1Api);
    apps = config().makeApiClient(AppsV1Api);
    backend = client("backend");
    elasticsearch = client("elasticsearch");
    await whole();
  });

  after(async () => {
    await backend?.close();
    await elasticsearch?.close();
    await run("reset");
    rmSync(state, { recursive: true, force: true });
    if (oldState === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = oldState;
    recordFigures("real-processes", figures);
  });

  it("must make three pods one Elasticsearch cluster", async () => {
    const pods = await podsOf("elasticsearch");
    assert.equal(pods.length, 3);
    const answers = await Promise.all(pods.map((each) => ask(podUrl(each, 9200), "/")));
    assert.equal(new Set(answers.map(({ cluster_uuid }) => cluster_uuid)).size, 1);
    const { nodes } = (await elasticsearch.request("GET", "/_nodes/http")).body;
    const published = Object.values<{ http: { publish_address: string } }>(nodes).map(
      ({ http }) => http.publish_address,
    );
    assert.deepEqual(published.sort(), pods.map((each) => podUrl(each, 9200).slice("http://".length)).sort());
    for (const { status } of pods) assert.match(status?.podIP ?? "", /^10\./);
  });

  it("must be accepted by npm run verify, which counts nothing simulated as passed and leaves nothing behind", async () => {
    const { accepted, checks } = JSON.parse(await run("verify", "local", "--json"));
    const of = (wanted: string) => checks.filter(({ status }: { status: string }) => status === wanted).length;
    assert.deepEqual([accepted, of("pass"), of("elsewhere"), checks.length], [true, 8, 8, 16], JSON.stringify(checks));
    const indices = Object.keys((await elasticsearch.request("GET", "/_all")).body);
    assert.deepEqual(indices, ["users-1"]);
    figures["acceptance, checks passed"] = of("pass");
    figures["acceptance, checks missed"] = of("miss");
  });

  it("must let the sample API store and find a user through its Service", async () => {
    const created = await backend.request("POST", "/users", { id: "ada", name: "Ada Lovelace" });
    assert.equal(created.status, 201, JSON.stringify(created.body));
    await until("the user is found through each pod", async () => {
      const found = await Promise.all(backend.urls().map((url) => ask(url, "/users?query=lovelace")));
      return found.length === 3 && found.every(({ users }) => users.length === 1);
    });
  });

  it("must answer kubectl logs, of init containers too, and kubectl port-forward", async () => {
    assert.match(
      (await kubectl("logs", "elasticsearch-0", "--container", "configure")) ?? "",
      /forms the cluster: disk/,
    );
    assert.match(
      (await kubectl("logs", "elasticsearch-0", "--container", "elasticsearch")) ?? "",
      /started \{elasticsearch-0\}/,
    );
    assert.match((await kubectl("logs", "deployment/backend", "--tail", "1")) ?? "", /"level":/);
    const port = await getPort();
    const forwarding = ["-n", namespace, "port-forward", "elasticsearch-1", `${port}:9200`];
    const forward = spawn(kubectlPath, ["--kubeconfig", adminKubeconfig(), ...forwarding]);
    try {
      await once(forward.stdout, "data");
      assert.equal((await ask(`http://127.0.0.1:${port}`, "/")).name, "elasticsearch-1");
    } finally {
      forward.kill();
      await once(forward, "exit");
    }
  });

  it("must restart a container whose process was killed, and count it", async () => {
    const before = await pod("elasticsearch-2");
    process.kill(processOf(before), "SIGKILL");
    const after = await until("restarted and ready", async () => {
      const now = await pod("elasticsearch-2");
      return isReady(now) && container(now).restartCount === container(before).restartCount + 1 && now;
    });
    assert.equal(after.metadata?.uid, before.metadata?.uid);
    assert.notEqual(processOf(after), processOf(before));
    assert.equal(container(after).lastState?.terminated?.exitCode, 137);
  });

  it("must end deleted pods' processes, fail no request meanwhile, and give a successor the same disk", async () => {
    const node = async () => (await ask(podUrl(await pod("elasticsearch-1"), 9200), "/_nodes/_local")).nodes;
    const [nodeId] = Object.keys(await node());
    const before = [await pod("elasticsearch-1"), (await podsOf("backend"))[0] as V1Pod];
    await under("pods deleted", async () => {
      for (const { metadata } of before) await core.deleteNamespacedPod({ namespace, name: metadata?.name ?? "" });
      await until("both are gone, and elasticsearch-1 is ready again", async () => {
        const now = [...(await podsOf("elasticsearch")), ...(await podsOf("backend"))];
        const old = now.some((each) => before.some(({ metadata }) => metadata?.uid === each.metadata?.uid));
        return !old && isReady(await pod("elasticsearch-1"));
      });
    });
    assert.deepEqual(before.map(processOf).filter(isAlive), []);
    assert.deepEqual(Object.keys(await node()), [nodeId]);
    const { status } = await pod("elasticsearch-1");
    assert.equal(status?.initContainerStatuses?.[0]?.state?.terminated?.exitCode, 0);
  });

  it("must take a pod out of its Service while its readiness probe fails, and back after", async () => {
    const [one] = await podsOf("elasticsearch");
    // A stopped process answers nobody, and so no probe.
    process.kill(processOf(one as V1Pod), "SIGSTOP");
    try {
      await elasticsearch.untilReady(2);
      assert.ok(!elasticsearch.urls().includes(podUrl(one as V1Pod, 9200)));
    } finally {
      process.kill(processOf(one as V1Pod), "SIGCONT");
    }
    await elasticsearch.untilReady(3);
    assert.equal(container(await pod(one?.metadata?.name ?? "")).restartCount, container(one as V1Pod).restartCount);
  });

  it("must fail no request while the API is rolled and a machine is drained", async () => {
    await under("rollout", async () => {
      await kubectl("rollout", "restart", "deployment/backend");
      await kubectl("rollout", "status", "deployment/backend");
    });
    const { spec } = await pod("elasticsearch-0");
    await under("drain", async () => {
      await kubectl(
        "drain",
        spec?.nodeName ?? "",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout",
        "150s",
      );
      await kubectl("uncordon", spec?.nodeName ?? "");
    });
  });

  it("must fail no request of a client that asks the next endpoint, when a process is killed", async () => {
    const [one] = await podsOf("backend");
    const retrying = client("backend", 1);
    await retrying.untilReady(3);
    const loads = [backend.load("/users?query=lovelace"), retrying.load("/users?query=lovelace")] as const;
    await sleep(1000);
    process.kill(processOf(one as V1Pod), "SIGKILL");
    await until(
      "restarted",
      async () => container(await pod(one?.metadata?.name ?? "")).restartCount > container(one as V1Pod).restartCount,
    );
    await whole();
    const [plain, next] = await Promise.all(loads.map((load) => load.stop()));
    await retrying.close();
    Object.assign(figures, {
      "process killed, requests sent": next?.sent,
      "process killed, requests failed": next?.failed,
      "process killed, requests failed without a retry": plain?.failed,
    });
    console.log(`      killed: ${next?.sent} sent, ${next?.failed} failed; without a retry ${plain?.failed}`);
    assert.deepEqual(next?.reasons, []);
  });

  it("must show a wrong discovery setting: the pods are never ready", async () => {
    const { spec } = await apps.readNamespacedStatefulSet({ namespace, name: "elasticsearch" });
    const name = spec?.template.spec?.volumes?.find((volume) => volume.name === "files")?.configMap?.name ?? "";
    const files = await core.readNamespacedConfigMap({ namespace, name });
    const wrong =
      files.data?.["elasticsearch.yml"]?.replace("elasticsearch-discovery", "elasticsearch-discovary") ?? "";
    assert.notEqual(wrong, files.data?.["elasticsearch.yml"]);
    const data = { ...files.data, "elasticsearch.yml": wrong };
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: "wrong" }, data } });
    const useFiles = (configMap: string) => {
      const volumes = [{ name: "files", configMap: { name: configMap } }];
      const body = { spec: { template: { spec: { volumes } } } };
      return apps.patchNamespacedStatefulSet({ namespace, name: "elasticsearch", body }, merge);
    };
    const before = await pod("elasticsearch-2");
    await useFiles("wrong");
    const after = await until("elasticsearch-2 is another pod", async () => {
      const now = await pod("elasticsearch-2");
      return now.metadata?.uid !== before.metadata?.uid && now;
    });
    const event = await until("it says why it is not ready", async () => {
      const { items } = await core.listNamespacedEvent({ namespace });
      return items.find(
        ({ involvedObject, message }) =>
          involvedObject.uid === after.metadata?.uid && message?.includes("this node has found no cluster"),
      );
    });
    assert.equal(event.reason, "Unhealthy");
    // Whoever looks for the others by a right name has found them by then.
    await sleep(5000);
    assert.equal(isReady(await pod("elasticsearch-2")), false);
    // The update stops at it: the others have not been touched.
    assert.equal(elasticsearch.urls().length, 2);
    await useFiles(name);
    await core.deleteNamespacedPod({ namespace, name: "elasticsearch-2" });
    await whole();
  });

  it("must end what a killed kubelet has left, and run each pod once", async () => {
    const before = await podsOf("elasticsearch");
    process.kill(daemon("kubelet"), "SIGKILL");
    await run("start", "--real");
    await until("all pods run again", async () => {
      const now = await podsOf("elasticsearch");
      return now.every(isReady) && now.every((each, index) => processOf(each) !== processOf(before[index] as V1Pod));
    });
    assert.deepEqual(before.map(processOf).filter(isAlive), []);
    await whole();
  });

  it("must end all processes on npm stop, leave the pods to kwok, and take them again with their data", async () => {
    const pids = [...(await podsOf("elasticsearch")), ...(await podsOf("backend"))].map(processOf);
    assert.equal(pids.every(isAlive), true);
    await backend.close();
    await elasticsearch.close();
    await run("stop");
    assert.deepEqual(pids.filter(isAlive), []);

    await run("start");
    await until("kwok's pods are ready", async () => (await podsOf("elasticsearch")).filter(isReady).length === 3);
    assert.equal(container((await podsOf("elasticsearch"))[0] as V1Pod).containerID, undefined);

    await run("start", "--real");
    [backend, elasticsearch] = [client("backend"), client("elasticsearch")];
    await until("the pods are real", async () => (await podsOf("elasticsearch")).every((each) => processOf(each) > 0));
    await whole();
    assert.equal((await backend.request("GET", "/users/ada")).body.name, "Ada Lovelace");
  });

  const daemon = (name: string): number => JSON.parse(readFileSync(join(state, "run.json"), "utf8"))[name].pid;
});

function config(): KubeConfig {
  const loaded = new KubeConfig();
  loaded.loadFromFile(adminKubeconfig());
  return loaded;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !existsSync(`/proc/${pid}/stat`) || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
