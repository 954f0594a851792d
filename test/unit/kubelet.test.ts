import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import type { CoreV1Api, V1Container, V1EndpointSlice, V1Pod, V1PodSpec, V1PodStatus } from "@kubernetes/client-node";
import { adminKubeconfig } from "../../local/cluster";
import { fieldOf } from "../../local/kubelet/environment";
import { isReal } from "../../local/kubelet/images";
import { loopback, namesDirectory, podNetwork, writeNames } from "../../local/kubelet/names";
import { RealPod } from "../../local/kubelet/pod";
import { endSurvivors } from "../../local/kubelet/process";
import { cloneDirectory } from "../../local/paths";

const image = "docker.elastic.co/elasticsearch/elasticsearch:9";
const namespace = "hobnob";

/** Real shells behind pods of an API server that only remembers. */
describe("the kubelet of real pods", () => {
  const oldState = process.env.HOBNOB_LOCAL_STATE;
  const running: RealPod[] = [];
  let state: string;
  let statuses: V1PodStatus[];
  let deleted: unknown[];
  let events: string[];
  let objects: Record<string, Record<string, string>>;

  beforeEach(() => {
    state = mkdtempSync(join(tmpdir(), "hobnob-kubelet-"));
    process.env.HOBNOB_LOCAL_STATE = state;
    [statuses, deleted, events, objects] = [[], [], [], {}];
    mkdirSync(dirname(adminKubeconfig()), { recursive: true });
    writeFileSync(adminKubeconfig(), JSON.stringify({ clusters: [{ cluster: { server: "https://127.0.0.1:6443" } }] }));
    mkdirSync(join(dirname(adminKubeconfig()), "pki"));
    writeFileSync(join(dirname(adminKubeconfig()), "pki", "ca.crt"), "");
  });

  afterEach(async () => {
    await Promise.all(running.splice(0).map((pod) => pod.stop(0)));
    rmSync(state, { recursive: true, force: true });
    if (oldState === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = oldState;
  });

  const read = async ({ name }: { name: string }) => {
    if (!objects[name]) throw new Error(`"${name}" not found`);
    return { data: objects[name] };
  };
  const core = {
    patchNamespacedPodStatus: async ({ body }: { body: { status: V1PodStatus } }) => void statuses.push(body.status),
    deleteNamespacedPod: async (call: unknown) => void deleted.push(call),
    readNamespacedConfigMap: read,
    readNamespacedSecret: read,
    readNamespacedPersistentVolumeClaim: async () => ({ spec: { volumeName: "pvc-1" } }),
    createNamespacedServiceAccountToken: async (call: object) => ({ status: { token: JSON.stringify(call) } }),
  } as unknown as CoreV1Api;

  const podOf = (spec: Partial<V1PodSpec>, uid = "one"): V1Pod => ({
    metadata: { name: "elasticsearch-0", namespace, uid, labels: { tier: "data" } },
    spec: { containers: [], nodeName: "worker", terminationGracePeriodSeconds: 5, ...spec },
    status: { podIP: "10.1.2.3" },
  });
  const container = (script: string, more: Partial<V1Container> = {}): V1Container => ({
    name: "main",
    image,
    command: ["/bin/bash", "-c", script],
    ...more,
  });
  const start = (pod: V1Pod): RealPod => {
    const directory = join(state, "kubelet", "pods", pod.metadata?.uid ?? "");
    const host = {
      core,
      nodeAddress: () => "10.0.0.9",
      event: (_pod: V1Pod, _type: string, reason: string, message: string) => void events.push(`${reason}: ${message}`),
    };
    const real = new RealPod(host, pod, directory, false);
    running.push(real);
    return real;
  };
  const status = () => statuses.at(-1) ?? {};
  const main = () => status().containerStatuses?.[0];
  const isPodReady = () => status()?.conditions?.find(({ type }) => type === "Ready")?.status === "True";
  const until = async (what: string, condition: () => unknown) => {
    const deadline = Date.now() + 15_000;
    while (!condition()) {
      assert.ok(Date.now() < deadline, `never ${what}: ${JSON.stringify(status())} ${events.join("; ")}`);
      await sleep(20);
    }
  };
  const log = (pod: RealPod, name = "main") => {
    const file = join(pod.directory, name, "current.log");
    return existsSync(file) ? readFileSync(file, "utf8") : "";
  };

  it("must start no container before each init container, in turn, has ended well", async () => {
    const init = (name: string, script: string) => container(script, { name });
    const data = { volumeMounts: [{ name: "data", mountPath: "/data" }] };
    const pod = start(
      podOf({
        initContainers: [
          {
            ...init("first", "echo first >>/data/order; test -e /data/again || { touch /data/again; exit 3; }"),
            ...data,
          },
          { ...init("second", "echo second >>/data/order"), ...data },
        ].map((each) => ({
          ...each,
          command: ["/bin/bash", "-c", `cd "$DATA"; ${each.command?.[2]?.replaceAll("/data/", "")}`],
          env: [{ name: "DATA", value: "/data" }],
        })),
        containers: [container("sleep 60")],
        volumes: [{ name: "data", emptyDir: {} }],
      }),
    );
    await until("ready", isPodReady);
    assert.equal(readFileSync(join(pod.directory, "volumes", "data", "order"), "utf8"), "first\nfirst\nsecond\n");
    const [first, second] = status().initContainerStatuses ?? [];
    assert.deepEqual([first?.restartCount, first?.lastState?.terminated?.exitCode], [1, 3]);
    assert.deepEqual([second?.restartCount, second?.state?.terminated?.exitCode], [0, 0]);
    const unready = statuses.filter(({ phase }) => phase === "Pending");
    assert.ok(unready.length > 0 && unready.every(({ containerStatuses }) => containerStatuses?.[0]?.state?.waiting));
  });

  it("must write all of a pod's labels and annotations as the kubelet does: sorted, a line each, in quotes", () => {
    const pod = { metadata: { labels: { tier: "data", app: 'the "shop"' } } };
    assert.equal(fieldOf(pod, "metadata.labels"), 'app="the \\"shop\\""\ntier="data"');
    assert.equal(fieldOf(pod, "metadata.annotations"), "");
  });

  it("must give a process the variables and files of its pod's spec, its paths and addresses those of this machine", async () => {
    objects.settings = { "a.yml": "from the ConfigMap" };
    objects.secret = { password: Buffer.from("hidden").toString("base64") };
    const script = 'env; cat "$FILE" "$SECRET_FILE"; echo; cat "$TOKEN"; echo; sleep 60';
    const fromField = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });
    const pod = start(
      podOf({
        serviceAccountName: "robot",
        containers: [
          container(script, {
            env: [
              fromField("POD_IP", "status.podIP"),
              fromField("NODE", "spec.nodeName"),
              fromField("TIER", "metadata.labels['tier']"),
              { name: "URL", value: "http://$(POD_IP):9200/$$(POD_IP)" },
              { name: "FILE", value: "/etc/settings/a.yml" },
              { name: "SECRET_FILE", value: "/etc/secret/renamed" },
              { name: "TOKEN", value: "/var/run/token" },
              { name: "SETTING", valueFrom: { configMapKeyRef: { name: "settings", key: "a.yml" } } },
              { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "secret", key: "password" } } },
              { name: "LIMIT", valueFrom: { resourceFieldRef: { resource: "limits.memory", divisor: "1Mi" } } },
            ],
            resources: { limits: { memory: "1Gi" } },
            volumeMounts: [
              { name: "settings", mountPath: "/etc/settings" },
              { name: "secret", mountPath: "/etc/secret" },
              { name: "identity", mountPath: "/var/run" },
              { name: "tmp", mountPath: "/tmp" },
            ],
          }),
        ],
        volumes: [
          { name: "settings", configMap: { name: "settings" } },
          {
            name: "secret",
            secret: { secretName: "secret", items: [{ key: "password", path: "renamed" }], defaultMode: 0o400 },
          },
          {
            name: "identity",
            projected: { sources: [{ serviceAccountToken: { path: "token", expirationSeconds: 600 } }] },
          },
          { name: "tmp", emptyDir: {} },
        ],
      }),
    );
    await until("ready", () => main()?.state?.running && /"boundObjectRef"/.test(log(pod)));
    const said = log(pod);
    const lines = said.split("\n").map((line) => line.replace(/^\S+Z stdout F /, ""));
    for (const line of [
      "POD_IP=127.1.2.3",
      "NODE=worker",
      "TIER=data",
      "URL=http://127.1.2.3:9200/$(POD_IP)",
      "SETTING=from the ConfigMap",
      "PASSWORD=hidden",
      "LIMIT=1024",
      "from the ConfigMaphidden",
      `TMPDIR=${join(pod.directory, "volumes", "tmp")}`,
      "KUBERNETES_SERVICE_PORT=6443",
    ])
      assert.ok(lines.includes(line), `${line} is not in\n${said}`);
    const token = JSON.parse(lines.find((line) => line.startsWith("{")) ?? "");
    assert.equal(token.name, "robot");
    assert.deepEqual(token.body.spec.boundObjectRef, {
      apiVersion: "v1",
      kind: "Pod",
      name: "elasticsearch-0",
      uid: "one",
    });
    assert.ok(!lines.some((line) => line.startsWith("HOBNOB_LOCAL_STATE=")), "it got the kubelet's own variables");
    assert.match(said, /^\d{4}-\d\d-\d\dT[\d:.]+Z stdout F /);
  });

  it("must wait for a Secret that is missing, say so, and go on with it", async () => {
    const env = [{ name: "PASSWORD", valueFrom: { secretKeyRef: { name: "late", key: "password" } } }];
    start(podOf({ containers: [container("sleep 60", { env })] }));
    await until("waiting", () => main()?.state?.waiting?.reason === "CreateContainerConfigError");
    assert.match(main()?.state?.waiting?.message ?? "", /"late" not found/);
    objects.late = { password: "" };
    await until("ready", isPodReady);
  });

  it("must ask for readiness only after the startup probe, and follow it both ways", async () => {
    const probe = (file: string) => ({
      exec: { command: ["test", "-e", `/data/${file}`] },
      periodSeconds: 1,
      failureThreshold: 1,
    });
    const pod = start(
      podOf({
        containers: [
          container("sleep 60", {
            volumeMounts: [{ name: "data", mountPath: "/data" }],
            startupProbe: { ...probe("started"), failureThreshold: 60 },
            readinessProbe: probe("ready"),
          }),
        ],
        volumes: [{ name: "data", emptyDir: {} }],
      }),
    );
    const file = (name: string) => join(pod.directory, "volumes", "data", name);
    await until("asked", () => events.some((event) => event.startsWith("Unhealthy: Startup")));
    writeFileSync(file("ready"), "");
    await sleep(1500);
    assert.equal(isPodReady(), false);
    writeFileSync(file("started"), "");
    await until("ready", isPodReady);
    rmSync(file("ready"));
    await until("unready", () => !isPodReady());
    assert.equal(main()?.restartCount, 0);
    assert.equal(status().phase, "Running");
  });

  it("must restart a container that fails its liveness probe or ends, at once first and later after a pause", async () => {
    const livenessProbe = { exec: { command: ["false"] }, periodSeconds: 1, failureThreshold: 2 };
    start(podOf({ containers: [container("exec sleep 60", { livenessProbe })] }));
    await until("restarted", () => main()?.restartCount === 1);
    assert.equal(main()?.lastState?.terminated?.exitCode, 143);
    await until("paused", () => main()?.state?.waiting?.reason === "CrashLoopBackOff");
    assert.match(main()?.state?.waiting?.message ?? "", /^back-off 10s/);
    assert.equal(isPodReady(), false);
  });

  it("must end a deleted pod in order: hook, SIGTERM, SIGKILL at the deadline, and only then the pod itself", async () => {
    const data = { volumeMounts: [{ name: "data", mountPath: "/data" }], env: [{ name: "DATA", value: "/data" }] };
    const script = `trap 'echo TERM >>"$DATA/order"' TERM; while true; do sleep 0.05; done`;
    const hook = ["/bin/bash", "-c", 'echo hook >>"$DATA/order"; sleep 1; echo hooked >>"$DATA/order"'];
    const object = podOf({
      containers: [container(script, { ...data, lifecycle: { preStop: { exec: { command: hook } } } })],
      volumes: [{ name: "data", persistentVolumeClaim: { claimName: "data" } }],
    });
    const pod = start(object);
    await until("ready", isPodReady);
    const id = Number(main()?.containerID?.replace("process://", ""));
    const since = Date.now();
    pod.update({ ...object, metadata: { ...object.metadata, deletionTimestamp: new Date(since + 4000) } });
    await until("hooked", () => existsSync(join(state, "kubelet", "volumes", "pvc-1", "order")));
    assert.deepEqual(deleted, []);
    await until("deleted", () => deleted.length > 0);
    assert.ok(Date.now() - since > 3900, "it was killed before its time");
    assert.throws(() => process.kill(id, 0), { code: "ESRCH" });
    assert.equal(main()?.state?.terminated?.exitCode, 137);
    const order = readFileSync(join(state, "kubelet", "volumes", "pvc-1", "order"), "utf8");
    assert.equal(order, "hook\nhooked\nTERM\n");
    assert.deepEqual(deleted, [
      { name: "elasticsearch-0", namespace, body: { gracePeriodSeconds: 0, preconditions: { uid: "one" } } },
    ]);
    await pod.remove();
    assert.equal(existsSync(pod.directory), false);
    assert.ok(existsSync(join(state, "kubelet", "volumes", "pvc-1", "order")), "the volume went with the pod");
  });

  it("must end at once, with all that it started, a pod that is gone from the API server", async () => {
    const pod = start(podOf({ containers: [container("sleep 600 & sleep 600")] }));
    await until("ready", isPodReady);
    const id = Number(main()?.containerID?.replace("process://", ""));
    await pod.remove();
    const alive = () => {
      try {
        return process.kill(-id, 0);
      } catch {
        return false;
      }
    };
    await until("all have ended", () => !alive());
  });

  it("must tell a pod that runs once how it ended", async () => {
    start(podOf({ restartPolicy: "Never", containers: [container("exit 4")] }));
    await until("failed", () => status().phase === "Failed");
    assert.equal(main()?.state?.terminated?.exitCode, 4);
    // What it leaves running ends with it.
    start(podOf({ restartPolicy: "OnFailure", containers: [container("sleep 600 & exit 0")] }, "two"));
    await until("succeeded", () => status().phase === "Succeeded");
    const initContainers = [container("exit 4", { name: "first" })];
    start(podOf({ restartPolicy: "Never", initContainers, containers: [container("sleep 60")] }, "three"));
    await until("failed", () => status().phase === "Failed");
    await sleep(200);
    assert.equal(main()?.state?.running, undefined);
  });

  it("must end what a killed kubelet left, and never a stranger with the same process id", async () => {
    const survivor = spawn("sleep", ["600"], { detached: true });
    const directory = join(state, "pod", "main");
    mkdirSync(directory, { recursive: true });
    const { stdout } = await promisify(execFile)("ps", ["-o", "lstart=", "-p", String(survivor.pid)]);
    writeFileSync(join(directory, "pid"), `${survivor.pid} Thu Jan  1 00:00:00 1970`);
    endSurvivors(join(state, "pod"));
    await sleep(200);
    assert.equal(survivor.signalCode, null);
    writeFileSync(join(directory, "pid"), `${survivor.pid} ${stdout.trim()}`);
    const exit = once(survivor, "exit");
    endSurvivors(join(state, "pod"));
    assert.equal((await exit)[1], "SIGKILL");
  });

  it("must run only what it has a stand-in for, and nothing that could change this machine", () => {
    const one = (more: Partial<V1Container>) => podOf({ containers: [container("", more)] });
    assert.equal(isReal(one({})), true);
    assert.equal(isReal(one({ image: "127.0.0.1:20003/hobnob/backend@sha256:00" })), true);
    for (const image of ["gcr.io/etcd-development/etcd:v3.6.16", "docker.io/library/mysql:9.7.2", "mariadb:12.3.3"])
      assert.equal(isReal(one({ image })), true, image);
    for (const image of ["docker.io/nginx/nginx-ingress:5.2.0", "acme/mysql-exporter:1.0.0", "acme/etcdctl:1.0.0"])
      assert.equal(isReal(one({ image })), false, image);
    assert.equal(isReal(one({ securityContext: { privileged: true } })), false);
    assert.equal(
      isReal(
        podOf({
          initContainers: [container("", { securityContext: { privileged: true } })],
          containers: [container("")],
        }),
      ),
      false,
    );
  });

  it("must know a Service by its ready endpoints alone, and no name besides", async () => {
    assert.equal(loopback("10.1.2.3"), "127.1.2.3");
    assert.match(podNetwork(), /^10\.\d+\.\d+$/);
    const slice = (
      service: string,
      of: string,
      ready: boolean,
      address: string,
      hostname?: string,
    ): V1EndpointSlice => ({
      addressType: "IPv4",
      metadata: { namespace: of, labels: { "kubernetes.io/service-name": service } },
      ports: [{ port: 9200 }],
      endpoints: [{ addresses: [address], conditions: { ready }, hostname }],
    });
    writeNames(namespace, [
      slice("elasticsearch", namespace, true, "10.1.2.3", "elasticsearch-0"),
      slice("elasticsearch", namespace, false, "10.1.2.4", "elasticsearch-1"),
      slice("other", "elsewhere", true, "10.1.2.5"),
    ]);
    const lookup = join(cloneDirectory, "local", "kubelet", "lookup.mjs");
    const script = `
      import { lookup } from "node:dns/promises";
      for (const name of process.argv.slice(1)) console.log(name, await lookup(name).then((found) => found.address, (error) => error.code));`;
    const names = [
      "elasticsearch",
      "elasticsearch.hobnob.svc",
      "elasticsearch-0.elasticsearch",
      "elasticsearch-1.elasticsearch",
      "other",
      "other.elsewhere.svc.cluster.local",
      "example.com",
    ];
    const child = promisify(execFile)(
      process.execPath,
      ["--import", pathToFileURL(lookup).href, "--input-type=module", "--eval", script, ...names],
      { env: { HOSTS_FILE: join(namesDirectory(namespace), "hosts") } },
    );
    const answers = (await child).stdout
      .trim()
      .split("\n")
      .map((line) => line.split(" ")[1]);
    assert.deepEqual(answers, [
      "127.1.2.3",
      "127.1.2.3",
      "127.1.2.3",
      "ENOTFOUND",
      "ENOTFOUND",
      "127.1.2.5",
      "ENOTFOUND",
    ]);
    const curl = readFileSync(join(namesDirectory(namespace), ".curlrc"), "utf8");
    assert.match(curl, /^connect-to = "kubernetes\.default\.svc:443:127\.0\.0\.1:6443"$/m);
    assert.match(curl, /^resolve = "elasticsearch:9200:127\.1\.2\.3"$/m);
  });
});
