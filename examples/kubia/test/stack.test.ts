import assert from "node:assert/strict";
import { violations } from "hobnob-platform/policy";
import { type OutputName, releases } from "../../../platform";
import { type Captured, type CaptureOptions, capture, find, ofType, UNKNOWN, waitsFor } from "../../../test/unit/graph";
import { platformOutputs, platformStack } from "../../../test/unit/platformOutputs";
import { allowed, type Peer } from "../../../test/unit/reach";

const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const DAEMON_SET = "kubernetes:apps/v1:DaemonSet";
const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const SECRET = "kubernetes:core/v1:Secret";
const ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role";

const settings = {
  "kubia:platform": "acme/hobnob/prod",
  "kubia:repository": "acme/kubia-program",
  "kubia:registryUsername": "acme",
  "kubia:registryPassword": "a password",
};

interface More {
  config?: Record<string, string | undefined>;
  platform?: { [Name in OutputName]?: unknown };
}

/** The stack on a platform that is at DigitalOcean, but for these settings and outputs. */
function graphOf({ config, platform }: More = {}, options: CaptureOptions = {}): Promise<Captured[]> {
  const all = Object.entries({ ...settings, ...config }).filter((entry) => entry[1] !== undefined);
  return capture(() => (require("../index") as () => Promise<unknown>)(), {
    project: "kubia",
    config: Object.fromEntries(all) as Record<string, string>,
    secretKeys: ["kubia:registryPassword"],
    mocks: { resource: platformStack(platform) },
    ...options,
  });
}

// biome-ignore lint/suspicious/noExplicitAny: captured inputs are untyped
type Container = any;
const podOf = (graph: Captured[], type: string, name: string) => find(graph, type, name).inputs.spec.template.spec;
const containersOf = (graph: Captured[], name: string): Container[] => podOf(graph, DEPLOYMENT, name).containers;
const named = (list: Container[], name: string) => list.find((one) => one.name === name);

describe("kubia's stack", () => {
  it("must have each form once", async () => {
    const workloads = /:(Deployment|DaemonSet|StatefulSet|Job|CronJob|Pod)$/;
    const graph = await graphOf();
    assert.deepEqual(
      graph
        .filter(({ type }) => workloads.test(type))
        .map(({ type, name }) => `${type.split(":").at(-1)} ${name}`)
        .sort(),
      [
        "CronJob batch-quarterly",
        "DaemonSet disk-monitor",
        "Deployment fortune",
        "Deployment kubia",
        "Deployment pod-list",
        "Job batch",
      ],
    );
  });

  it("must break no policy, in preview as in update", async () => {
    for (const preview of [true, false]) {
      const resources = (await graphOf({}, { preview })).map(({ inputs, ...rest }) => ({ ...rest, props: inputs }));
      assert.deepEqual(violations(resources), []);
    }
  });

  it("must make the same resources in preview as in update", async () => {
    const urns = (graph: Captured[]) => graph.map(({ urn }) => urn).sort();
    assert.deepEqual(urns(await graphOf({}, { preview: true })), urns(await graphOf()));
  });

  it("must run as many replicas as wanted of the one image, which waits for no cluster", async () => {
    const graph = await graphOf({ config: { "kubia:replicas": "5" } });
    assert.equal(find(graph, DEPLOYMENT, "kubia").inputs.spec.replicas, 5);
    assert.equal(find(await graphOf(), DEPLOYMENT, "kubia").inputs.spec.replicas, 3);
    const image = find(graph, "docker:index/image:Image");
    assert.ok(!waitsFor(graph, image, find(graph, "kubernetes:core/v1:Namespace")));
    const images = graph.flatMap(({ inputs }) => inputs.spec?.template?.spec?.containers ?? []).map((one) => one.image);
    const own = images.filter((one: string) => /^docker\.io\/acme\/kubia-program@sha256:[0-9a-f]{64}$/.test(one));
    assert.deepEqual([own.length, images.length], [6, 7]);
  });

  it("must tell a replica of itself by variables and by files", async () => {
    const graph = await graphOf();
    const [container] = containersOf(graph, "kubia");
    const sources = container.env.filter((one: Container) => one.valueFrom).map((one: Container) => one.name);
    assert.deepEqual(sources, ["POD_NAME", "POD_IP", "NODE_NAME", "CPU_REQUEST_MILLICORES", "MEMORY_LIMIT_KIBIBYTES"]);
    const [volume] = podOf(graph, DEPLOYMENT, "kubia").volumes;
    assert.deepEqual(
      volume.downwardAPI.items.map(({ path }: { path: string }) => path),
      ["labels", "namespace"],
    );
    assert.equal(container.volumeMounts[0].mountPath, named(container.env, "DOWNWARD").value);
  });

  it("must watch the machines that are labelled, and no other", async () => {
    const selector = async (given?: object) => {
      const config = given && { "kubia:monitoredNodes": JSON.stringify(given) };
      return podOf(await graphOf({ config }), DAEMON_SET, "disk-monitor").nodeSelector;
    };
    assert.deepEqual(await selector(), { disk: "ssd" });
    assert.deepEqual(await selector({ pool: "workers" }), { pool: "workers" });
  });

  it("must serve the page that the neighbour writes, its interval, NGINX's settings and the key from objects of their own", async () => {
    const graph = await graphOf();
    const pod = podOf(graph, DEPLOYMENT, "fortune");
    const [generator, server] = pod.containers;
    const mounts = (container: Container, volume: string) => named(container.volumeMounts, volume);
    assert.deepEqual(named(pod.volumes, "html"), { name: "html", emptyDir: { sizeLimit: "1Mi" } });
    assert.equal(mounts(generator, "html").mountPath, named(generator.env, "HTML").value);
    assert.deepEqual(mounts(server, "html"), { name: "html", mountPath: "/usr/share/nginx/html", readOnly: true });
    const config = { name: "fortune-0a1b2c3d" };
    assert.deepEqual(named(generator.env, "SECONDS").valueFrom, { configMapKeyRef: { ...config, key: "SECONDS" } });
    assert.equal(named(pod.volumes, "config").configMap.name, config.name);
    const { inputs, secrets } = find(graph, SECRET, "fortune");
    assert.deepEqual([inputs.type, secrets], ["kubernetes.io/tls", ["stringData"]]);
    assert.deepEqual(Object.keys(inputs.stringData), ["tls.crt", "tls.key"]);
    const conf: string = find(graph, CONFIG_MAP, "fortune").inputs.data["nginx.conf"];
    for (const { name, mountPath } of server.volumeMounts)
      assert.ok(conf.includes(mountPath) || name === "config", name);
    const written = [...conf.matchAll(/^\s*(?:pid|\w+_temp_path) (\S+);/gm)].map(([, path]) => path);
    assert.ok(written.length === 6 && written.every((path) => path?.startsWith("/tmp/")), String(written));
  });

  it("must give the token to the ambassador alone, and with it no right but to list the namespace's pods", async () => {
    const graph = await graphOf();
    const pods = graph.map(({ inputs }) => inputs.spec?.template?.spec ?? inputs.spec?.jobTemplate?.spec.template.spec);
    const holders = pods
      .flatMap((pod) => (pod?.containers ?? []).map((container: Container) => ({ pod, container })))
      .filter(({ pod, container }) =>
        (container.volumeMounts ?? []).some((mount: Container) => named(pod.volumes, mount.name).projected),
      );
    assert.deepEqual(
      holders.map(({ container }) => container.name),
      ["ambassador"],
    );
    assert.deepEqual(holders[0]?.container.ports, undefined);
    for (const pod of pods.filter(Boolean)) assert.equal(pod.automountServiceAccountToken, false);
    assert.deepEqual(
      ofType(graph, ROLE).map(({ inputs }) => inputs.rules),
      [[{ apiGroups: [""], resources: ["pods"], verbs: ["list"] }]],
    );
    assert.equal(graph.filter(({ type }) => type.includes(":ClusterRole")).length, 0);
  });

  it("must be reachable on these paths and no other", async () => {
    const graph = await graphOf();
    const pod = (name: string, namespace: string, labels: Record<string, string>): Peer => ({
      name,
      pod: {
        namespace,
        labels,
        namespaceLabels: { "kubernetes.io/metadata.name": namespace },
        ports: { http: 8080, https: 8443 },
      },
    });
    const ours = graph.flatMap(({ name, inputs: { spec } }) => {
      const template = spec?.jobTemplate?.spec.template ?? spec?.template;
      return template ? [pod(name, "kubia", template.metadata.labels)] : [];
    });
    assert.equal(ours.length, 6);
    const apiServer: Peer = { name: "API server", address: "203.0.113.1", entity: "kube-apiserver" };
    const world: Peer = { name: "world", address: "198.51.100.7", entity: "world" };
    const others = [apiServer, world, pod("stranger", "default", { "kubia/client": "true" })];
    const open = (graph: Captured[]) =>
      [...ours, ...others].flatMap((from) =>
        [...ours, ...others]
          .filter((to) => ours.includes(from) || ours.includes(to))
          .flatMap((to) => [443, 8080, 8443, 9999].map((port) => ({ from, to, port })))
          .filter((connection) => allowed(graph, connection))
          .map(({ from, to, port }) => `${from.name} → ${to.name}: ${port}`),
      );
    const within = ["batch → kubia: 8080", "batch-quarterly → kubia: 8080"];
    const toApiServer = [443, 8080, 8443, 9999].map((port) => `pod-list → API server: ${port}`);
    assert.deepEqual(open(graph).sort(), [...within, ...toApiServer].sort());
    const ports = await graphOf({ platform: { apiServer: "ports" } });
    const byPorts = ["API server", "world"].flatMap((to) => [443, 8443].map((port) => `pod-list → ${to}: ${port}`));
    assert.deepEqual(open(ports).sort(), [...within, ...byPorts].sort());
  });

  for (const name of ["kubeconfig", "clusterId", "registry", "spread", "nodeSelector", "apiServer"] as const)
    it(`must not go up on a platform without ${name}, and say what has it`, async () => {
      await assert.rejects(graphOf({ platform: { [name]: undefined } }), (error: Error) => {
        assert.match(error.message, new RegExp(`acme/hobnob/prod does not have:\n\n {2}${name}\n`));
        assert.match(error.message, new RegExp(`hobnob-platform (${Object.values(releases).join("|")}) or newer`));
        return true;
      });
    });

  it("must be placed where the platform places workloads", async () => {
    const graph = await graphOf();
    for (const name of ["kubia", "fortune", "pod-list"]) {
      const { nodeSelector, topologySpreadConstraints } = podOf(graph, DEPLOYMENT, name);
      assert.deepEqual(nodeSelector, platformOutputs.nodeSelector);
      const [{ whenUnsatisfiable, minDomains }] = topologySpreadConstraints;
      assert.deepEqual([name, whenUnsatisfiable, minDomains], [name, "DoNotSchedule", 2]);
    }
    const soft = podOf(await graphOf({ platform: { spread: "soft" } }), DEPLOYMENT, "fortune");
    assert.equal(soft.topologySpreadConstraints[0].whenUnsatisfiable, "ScheduleAnyway");
  });

  it("must pull with a Secret only where the registry asks for a user", async () => {
    const graph = await graphOf({
      config: { "kubia:registryUsername": undefined, "kubia:registryPassword": undefined },
      platform: { registry: { ...platformOutputs.registry, private: false, anonymous: true } },
    });
    assert.deepEqual(
      ofType(graph, SECRET).map(({ name }) => name),
      ["fortune"],
    );
    assert.equal(podOf(graph, DEPLOYMENT, "kubia").imagePullSecrets, undefined);
    assert.deepEqual(podOf(await graphOf(), DAEMON_SET, "disk-monitor").imagePullSecrets, [
      { name: "registry-0a1b2c3d" },
    ]);
  });

  it("must refuse wrong settings all at once, with the command for each", async () => {
    const config = {
      "kubia:platform": undefined,
      "kubia:repository": undefined,
      "kubia:replicas": "1",
      "kubia:registryPassword": undefined,
      "kubia:monitoredNodes": "[]",
    };
    await assert.rejects(graphOf({ config }), (error: Error) => {
      for (const part of [
        "kubia:platform",
        "kubia:repository",
        "kubia:replicas",
        "kubia:registryPassword",
        "kubia:monitoredNodes",
      ])
        assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
      return true;
    });
  });

  it("must show in a preview all but what only the cluster knows", async () => {
    const graph = await graphOf({}, { preview: true });
    const [generator] = containersOf(graph, "fortune");
    assert.deepEqual(generator.args, ["fortune"]);
    assert.deepEqual(generator.image, UNKNOWN);
  });
});
