import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { version } from "@pulumi/kubernetes/package.json";
import { adminKubeconfig, createCluster, deleteCluster, holdAnnotation } from "../../local/cluster";
import { type AwaitError, awaitReady, type Clock, SETTLE_SECONDS } from "../../local/providers/kubernetes/await";
import {
  ApiError,
  Client,
  Informer,
  type KubeObject,
  type Listener,
  loadKubeconfig,
} from "../../local/providers/kubernetes/client";
import { changes, pruneLive, replacingFields } from "../../local/providers/kubernetes/diff";
import { propertyPath } from "../../local/providers/server";
import { type Bag, type Made, Plugin, PluginError, secret, UNKNOWN } from "./plugin";

const types = {
  namespace: "kubernetes:core/v1:Namespace",
  configMap: "kubernetes:core/v1:ConfigMap",
  secret: "kubernetes:core/v1:Secret",
  service: "kubernetes:core/v1:Service",
  deployment: "kubernetes:apps/v1:Deployment",
  statefulSet: "kubernetes:apps/v1:StatefulSet",
  job: "kubernetes:batch/v1:Job",
};

describe("changes of a simulated Kubernetes object", () => {
  const changed = (kind: string, field: string): boolean => {
    const [apiVersion, name] = [kind.slice(0, kind.lastIndexOf("/")), kind.slice(kind.lastIndexOf("/") + 1)];
    const object = { apiVersion, kind: name, metadata: { name: "a" } } as KubeObject;
    const nest = (value: unknown) =>
      field.split(".").reduceRight<unknown>((inner, part) => (part === "0" ? [inner] : { [part]: inner }), value);
    const found = changes(nest("old"), nest("new"), replacingFields(object, { configMaps: false, secrets: false }));
    assert.equal(found.length, 1);
    return found[0]?.kind === "update-replace";
  };

  const replaced: Record<string, string[]> = {
    "apps/v1/StatefulSet": [
      "spec.podManagementPolicy",
      "spec.revisionHistoryLimit",
      "spec.selector.matchLabels.app",
      "spec.serviceName",
      "spec.volumeClaimTemplates.0.spec.storageClassName",
    ],
    "apps/v1/Deployment": ["spec.selector.matchLabels.app"],
    "apps/v1/DaemonSet": ["spec.selector.matchLabels.app"],
    "batch/v1/Job": ["spec.template.spec.restartPolicy", "spec.selector.matchLabels.app", "spec.parallelism"],
    "v1/Service": ["spec.clusterIP", "metadata.name", "metadata.namespace"],
    "v1/PersistentVolumeClaim": ["spec.accessModes.0", "spec.selector.a", "spec.storageClassName", "spec.volumeName"],
    "v1/Secret": ["type", "data.a", "stringData.a"],
    "v1/ConfigMap": ["data.a", "binaryData.a"],
    "v1/Pod": ["spec.containers.0.image", "spec.nodeName"],
    "storage.k8s.io/v1/StorageClass": ["parameters.a", "provisioner"],
    "rbac.authorization.k8s.io/v1/ClusterRoleBinding": ["roleRef.name"],
  };
  for (const [kind, fields] of Object.entries(replaced)) {
    it(`must replace a ${kind} where ${fields.join(", ")} change`, () => {
      for (const field of fields) assert.ok(changed(kind, field), field);
    });
  }

  const updated: Record<string, string[]> = {
    "apps/v1/StatefulSet": ["spec.template.spec.containers.0.image", "spec.replicas", "spec.updateStrategy.type"],
    "apps/v1/Deployment": ["spec.template.spec.containers.0.image", "spec.replicas"],
    "v1/Service": ["spec.type", "spec.ports.0.port", "metadata.annotations.a"],
    "v1/PersistentVolumeClaim": ["spec.resources.requests.storage"],
    "storage.k8s.io/v1/StorageClass": ["reclaimPolicy"],
    "example.com/v1/Anything": ["spec.selector", "data.a"],
  };
  for (const [kind, fields] of Object.entries(updated)) {
    it(`must update a ${kind} in place where ${fields.join(", ")} change`, () => {
      for (const field of fields) assert.ok(!changed(kind, field), field);
    });
  }

  it("must replace only by the type where Secrets are mutable", () => {
    const object = { apiVersion: "v1", kind: "Secret", metadata: { name: "a" } } as KubeObject;
    const fields = (extra: Bag) => replacingFields({ ...object, ...extra }, { configMaps: false, secrets: true });
    assert.deepEqual(fields({}), ["metadata.name", "metadata.namespace", "type"]);
    assert.ok(fields({ immutable: true }).includes("data"));
  });

  it("must not call a change what the API server only rewrites, leaves out or adds", () => {
    const inputs = {
      spec: {
        resources: { requests: { cpu: "1000m", memory: "1024Mi" }, limits: { cpu: 0.5 } },
        nodeSelector: {},
        hostNetwork: false,
        env: [{ name: "A", value: "" }],
      },
    };
    const live = {
      spec: {
        resources: { requests: { cpu: "1", memory: "1Gi" }, limits: { cpu: "500m" } },
        env: [{ name: "A" }],
        dnsPolicy: "ClusterFirst",
      },
    };
    const differences = (news: Bag) => changes(pruneLive(live, inputs), news, []).map(({ path }) => propertyPath(path));
    assert.deepEqual(differences(inputs), []);
    const spec = {
      ...inputs.spec,
      resources: { ...inputs.spec.resources, limits: { cpu: "600m" } },
      hostNetwork: true,
    };
    assert.deepEqual(differences({ spec }), ["spec.resources.limits.cpu", "spec.hostNetwork"]);
  });
});

/** Objects as a test puts them; the clock moves when told. */
class Scene {
  readonly #run = new AbortController();
  readonly signal = this.#run.signal;
  readonly #objects = new Map<string, Map<string, KubeObject>>();
  readonly #listeners = new Set<Listener>();
  #timers: { at: number; callback: () => void }[] = [];
  #now = 0;

  readonly clock: Clock = {
    after: (seconds, callback) => {
      const timer = { at: this.#now + seconds, callback };
      this.#timers.push(timer);
      return () => {
        this.#timers = this.#timers.filter((entry) => entry !== timer);
      };
    },
  };

  #of(kind: string): Map<string, KubeObject> {
    const objects = this.#objects.get(kind) ?? new Map();
    this.#objects.set(kind, objects);
    return objects;
  }

  async informer(_: string, kind: string) {
    const listen = async (listener: Listener) => {
      this.#listeners.add(listener);
      return () => this.#listeners.delete(listener);
    };
    return { objects: this.#of(kind), listen };
  }

  cancel(): Promise<void> {
    this.#run.abort();
    return setImmediate();
  }

  put(object: Bag): KubeObject {
    const complete = {
      ...object,
      metadata: { name: "a", uid: "u", resourceVersion: "1", ...object.metadata },
    } as KubeObject;
    this.#of(complete.kind).set(complete.metadata.name, complete);
    for (const listener of this.#listeners) listener("MODIFIED", complete);
    return complete;
  }

  async pass(seconds: number): Promise<void> {
    this.#now += seconds;
    for (const timer of this.#timers.filter(({ at }) => at <= this.#now)) timer.callback();
    this.#timers = this.#timers.filter(({ at }) => at > this.#now);
    await setImmediate();
  }

  /** Begins to wait; `ended` tells whether it is over. */
  async wait(object: KubeObject, timeout = 0) {
    const wait = { ended: false, error: undefined as AwaitError | undefined };
    awaitReady(object, { cluster: this, clock: this.clock, inputs: object, timeout, report: () => {} }).then(
      () => {
        wait.ended = true;
      },
      (error) => {
        wait.ended = true;
        wait.error = error;
      },
    );
    await setImmediate();
    return wait;
  }
}

describe("waiting for a simulated Kubernetes object", () => {
  const service = (spec: Bag, extra: Bag = {}) => ({ apiVersion: "v1", kind: "Service", spec, ...extra });
  const endpoints = (subset: Bag) => ({ apiVersion: "v1", kind: "Endpoints", subsets: [subset] });
  const selecting = { selector: { app: "a" }, clusterIP: "10.0.0.1" };
  const address = { status: { loadBalancer: { ingress: [{ ip: "1.2.3.4" }] } } };

  it("must settle a Service for the official plugin's fixed 10 s, from each change of its endpoints", async () => {
    assert.equal(SETTLE_SECONDS, 10);
    const scene = new Scene();
    const wait = await scene.wait(scene.put(service(selecting)));
    await scene.pass(60);
    assert.equal(wait.ended, false, "no endpoints yet");
    scene.put(endpoints({ addresses: [{ ip: "10.1.0.1" }] }));
    await scene.pass(9.9);
    assert.equal(wait.ended, false, "settling");
    await scene.pass(0.1);
    assert.deepEqual(wait, { ended: true, error: undefined });
  });

  it("must settle a Service whose endpoints were there before", async () => {
    const scene = new Scene();
    scene.put(endpoints({ addresses: [{ ip: "10.1.0.1" }] }));
    const wait = await scene.wait(scene.put(service(selecting)));
    await scene.pass(9);
    assert.equal(wait.ended, false);
    await scene.pass(1);
    assert.equal(wait.ended, true);
  });

  it("must not take a Service with unready endpoints, and must say why when the time is up", async () => {
    const scene = new Scene();
    const wait = await scene.wait(scene.put(service(selecting)));
    scene.put(endpoints({ addresses: [{ ip: "10.1.0.1" }], notReadyAddresses: [{ ip: "10.1.0.2" }] }));
    await scene.pass(599);
    assert.equal(wait.ended, false);
    await scene.pass(1);
    assert.equal(wait.error?.message, "'a' timed out waiting to be Ready");
    assert.deepEqual(wait.error?.reasons, [
      "Service does not target any Pods. Selected Pods may not be ready, or field '.spec.selector' may not match labels on any Pods",
    ]);
  });

  for (const [name, spec] of Object.entries({
    headless: { ...selecting, clusterIP: "None" },
    "selector-less": { clusterIP: "10.0.0.1" },
    ExternalName: { type: "ExternalName", selector: { app: "a" } },
  })) {
    it(`must not wait for the endpoints of a ${name} Service`, async () => {
      const scene = new Scene();
      assert.deepEqual(await scene.wait(scene.put(service(spec))), { ended: true, error: undefined });
    });
  }

  it("must not wait for a Service with pulumi.com/skipAwait", async () => {
    const scene = new Scene();
    const metadata = { annotations: { "pulumi.com/skipAwait": "true" } };
    assert.equal((await scene.wait(scene.put(service(selecting, { metadata })))).ended, true);
  });

  it("must wait for the field that pulumi.com/waitFor names, and for nothing else", async () => {
    const scene = new Scene();
    const metadata = { annotations: { "pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress[0]}" } };
    const spec = { ...selecting, type: "LoadBalancer" };
    const wait = await scene.wait(scene.put(service(spec, { metadata, status: { loadBalancer: {} } })));
    await scene.pass(60);
    assert.equal(wait.ended, false);
    scene.put(service(spec, { metadata, ...address }));
    await setImmediate();
    assert.deepEqual(wait, { ended: true, error: undefined });
  });

  it("must say which field is missing when the time is up", async () => {
    const scene = new Scene();
    const metadata = { annotations: { "pulumi.com/waitFor": "jsonpath={.status.phase}" } };
    const wait = await scene.wait(scene.put({ apiVersion: "v1", kind: "ConfigMap", metadata }), 5);
    await scene.pass(5);
    assert.deepEqual(wait.error?.reasons, ["{.status.phase} selected nothing"]);
  });

  it("must not take a LoadBalancer without an address", async () => {
    const scene = new Scene();
    const spec = { ...selecting, type: "LoadBalancer" };
    const wait = await scene.wait(scene.put(service(spec)));
    scene.put(endpoints({ addresses: [{ ip: "10.1.0.1" }] }));
    await scene.pass(30);
    assert.equal(wait.ended, false);
    scene.put(service(spec, address));
    await setImmediate();
    assert.equal(wait.ended, true);
  });

  it("must not take an Ingress without an address, or whose Service has no endpoints", async () => {
    const rules = [{ http: { paths: [{ backend: { service: { name: "a" } } }] } }];
    const ingress = { apiVersion: "networking.k8s.io/v1", kind: "Ingress", spec: { rules } };
    const scene = new Scene();
    const wait = await scene.wait(scene.put(ingress));
    scene.put(endpoints({}));
    await scene.pass(500);
    assert.equal(wait.ended, false, "no address");
    await scene.pass(100);
    assert.match(wait.error?.reasons.join() ?? "", /^Ingress \.status\.loadBalancer field was not updated/);

    const unserved = new Scene();
    const second = await unserved.wait(unserved.put({ ...ingress, ...address }));
    await unserved.pass(59);
    assert.equal(second.ended, false, "no endpoints in 60 s");
    await unserved.pass(1);
    assert.equal(second.ended, true);
  });

  it("must take a claim as Pending only where its class waits for the first consumer", async () => {
    const claim = {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      spec: { storageClassName: "c" },
      status: { phase: "Pending" },
    };
    const scene = new Scene();
    const storageClass = { apiVersion: "storage.k8s.io/v1", kind: "StorageClass", metadata: { name: "c" } };
    scene.put({ ...storageClass, volumeBindingMode: "WaitForFirstConsumer" });
    assert.equal((await scene.wait(scene.put(claim))).ended, true);

    scene.put({ ...storageClass, volumeBindingMode: "Immediate" });
    const wait = await scene.wait(scene.put(claim));
    assert.equal(wait.ended, false);
    scene.put({ ...claim, status: { phase: "Bound" } });
    await setImmediate();
    assert.equal(wait.ended, true);
  });

  it("must take the time from customTimeouts, else from the annotation, else from the kind", async () => {
    const annotated = service(selecting, { metadata: { annotations: { "pulumi.com/timeoutSeconds": "30" } } });
    const endsAfter = async (object: Bag, seconds: number, timeout?: number) => {
      const scene = new Scene();
      const wait = await scene.wait(scene.put(object), timeout);
      await scene.pass(seconds - 0.1);
      assert.equal(wait.ended, false, `${seconds} s`);
      await scene.pass(0.1);
      assert.match(wait.error?.message ?? "", /timed out/);
    };
    await endsAfter(annotated, 20, 20);
    await endsAfter(annotated, 30);
    await endsAfter(service(selecting), 600);
    await endsAfter({ apiVersion: "v1", kind: "PersistentVolumeClaim", spec: {}, status: {} }, 300);
  });

  it("must end with the run that the user cancels", async () => {
    const scene = new Scene();
    const wait = await scene.wait(scene.put(service(selecting)));
    await scene.cancel();
    assert.equal(wait.error?.message, 'Resource operation was cancelled for "a"');
  });

  it("must fail a Job at once when it has failed", async () => {
    const conditions = [{ type: "Failed", status: "True", reason: "BackoffLimitExceeded", message: "too often" }];
    const scene = new Scene();
    const wait = await scene.wait(scene.put({ apiVersion: "batch/v1", kind: "Job", spec: {}, status: { conditions } }));
    assert.deepEqual(wait.error?.reasons, ["[BackoffLimitExceeded] too often"]);
  });

  it("must not take a StatefulSet by a status that is older than its update", async () => {
    const counts = { replicas: 3, readyReplicas: 3, currentReplicas: 3, currentRevision: "r1", updateRevision: "r1" };
    const set = { apiVersion: "apps/v1", kind: "StatefulSet", spec: { replicas: 3 } };
    const scene = new Scene();
    const stale = { ...set, metadata: { generation: 2 }, status: { ...counts, observedGeneration: 1 } };
    const wait = await scene.wait(scene.put(stale));
    assert.equal(wait.ended, false);
    scene.put({ ...stale, status: { ...counts, observedGeneration: 2 } });
    await setImmediate();
    assert.equal(wait.ended, true);
  });
});

describe("watching for a simulated Kubernetes object", () => {
  it("must say what the API server does not let it watch, instead of waiting", async () => {
    const request = () => Promise.reject(new ApiError("pods is forbidden", 403, "Forbidden"));
    const watch = async function* () {};
    const informer = new Informer({ request, watch, signal: new AbortController().signal }, "/api/v1/pods");
    await assert.rejects(
      informer.listen(() => {}),
      { message: "pods is forbidden" },
    );
  });
});

describe("the simulated kubernetes plugin's credentials", () => {
  it("must run the exec credential once, and again only when the API server refuses it", async () => {
    const directory = mkdtempSync(join(tmpdir(), "hobnob-exec-"));
    const counter = join(directory, "runs");
    writeFileSync(counter, "");
    const script = `const fs = require("fs"); fs.appendFileSync(${JSON.stringify(counter)}, process.argv[1]);
      const token = "token" + fs.readFileSync(${JSON.stringify(counter)}).length;
      console.log(JSON.stringify({ kind: "ExecCredential", status: { token } }))`;
    const accepted = new Set(["Bearer token1"]);
    const server: Server = createServer((request, response) => {
      const ok = accepted.has(request.headers.authorization ?? "");
      response.writeHead(ok ? 200 : 401).end(JSON.stringify({ kind: "List", resources: [] }));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "node", args: ["-e", script, "x"] };
    const config = {
      "current-context": "c",
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      clusters: [{ name: "c", cluster: { server: url } }],
      users: [{ name: "u", user: { exec } }],
    };
    const client = new Client(loadKubeconfig(JSON.stringify(config)), {}, new AbortController().signal);
    try {
      await Promise.all([client.request("GET", "/a"), client.request("GET", "/b")]);
      assert.equal(readFileSync(counter, "utf8"), "x");
      accepted.clear();
      accepted.add("Bearer token2");
      await client.request("GET", "/c");
      assert.equal(readFileSync(counter, "utf8"), "xx");
      accepted.clear();
      await assert.rejects(client.request("GET", "/d"), /the server has asked for the client to provide credentials/);
      assert.equal(readFileSync(counter, "utf8"), "xxx");
    } finally {
      server.closeAllConnections();
      server.close();
      rmSync(directory, { recursive: true });
    }
  });
});

describe("the simulated kubernetes plugin", function () {
  this.timeout(60_000);
  const kubeconfig = (server: string, name = "c") =>
    JSON.stringify({
      "current-context": name,
      contexts: [{ name, context: { cluster: name, user: "u" } }],
      clusters: [{ name, cluster: { server } }],
      users: [{ name: "u", user: { token: "t" } }],
    });
  const labels = { app: "web" };
  const pods = (annotations: Bag = {}) => ({
    metadata: { labels, annotations },
    spec: { containers: [{ name: "web", image: "nginx:1" }] },
  });
  let plugin: Plugin;

  before(async () => {
    plugin = await Plugin.start("kubernetes");
  });
  after(() => plugin.stop());

  it("must have the version of the SDK that the program uses", async () => {
    assert.equal(await plugin.version(), version);
  });

  it("must not replace a cluster whose identifier stays, whatever its kubeconfig says", async () => {
    const old = { kubeconfig: kubeconfig("https://a"), clusterIdentifier: "one" };
    const moved = kubeconfig("https://b");
    assert.deepEqual(await plugin.diffConfig(old, { ...old, kubeconfig: moved }), []);
    assert.deepEqual(await plugin.diffConfig(old, { ...old, kubeconfig: UNKNOWN }), []);
    assert.deepEqual(await plugin.diffConfig(old, { ...old, clusterIdentifier: "two" }), ["clusterIdentifier"]);
  });

  it("must replace a cluster without identifier only where it points elsewhere, or may", async () => {
    const old = { kubeconfig: kubeconfig("https://a") };
    assert.deepEqual(await plugin.diffConfig(old, { kubeconfig: kubeconfig("https://a", "renamed") }), []);
    assert.deepEqual(await plugin.diffConfig(old, { kubeconfig: kubeconfig("https://b") }), ["kubeconfig"]);
    assert.deepEqual(await plugin.diffConfig(old, { kubeconfig: UNKNOWN }), ["kubeconfig"]);
    assert.deepEqual(await plugin.diffConfig(old, { ...old, clusterIdentifier: "one" }), []);
  });

  it("must refuse what it does not simulate", async () => {
    await assert.rejects(plugin.check("kubernetes:helm.sh/v3:Release", {}), /needs the official kubernetes plugin/);
    await assert.rejects(plugin.check("kubernetes:yaml:ConfigFile", {}), /needs the official kubernetes plugin/);
    for (const wanted of [
      "condition=Ready",
      "jsonpath={.status.phase}=Bound",
      "jsonpath={.status[*].a}",
      '["jsonpath={.a}"]',
    ]) {
      const waiting = { metadata: { annotations: { "pulumi.com/waitFor": wanted } } };
      await assert.rejects(plugin.check(types.configMap, waiting), /needs the official kubernetes plugin/, wanted);
    }
    await assert.rejects(plugin.check("kubernetes:core/v1:SecretList", {}), /list resources exist for compatibility/);
  });

  describe("with an unreachable cluster", () => {
    const inputs = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a" }, data: { a: "1" } };
    const reason =
      'unable to load schema information from the API server: Get "http://127.0.0.1:1/api/v1": dial tcp 127.0.0.1:1: connect: connection refused';
    const configure = (options: Bag = {}) =>
      plugin.configure({ kubeconfig: kubeconfig("http://127.0.0.1:1"), ...options });
    const made = { id: "default/a", inputs, state: { ...inputs, __inputs: inputs } };

    it("must preview with a warning and fail only what is real", async () => {
      await configure();
      const preview = await plugin.create(types.configMap, inputs, { preview: true });
      assert.deepEqual(preview.state.data, inputs.data);
      assert.deepEqual(plugin.logs, [
        { severity: "warning", message: `configured Kubernetes cluster is unreachable: ${reason}` },
      ]);
      await assert.rejects(plugin.create(types.configMap, inputs), {
        message: `configured Kubernetes cluster is unreachable: ${reason}`,
      });
    });

    it("must keep what it cannot delete, unless it is told to forget it", async () => {
      await configure();
      await assert.rejects(
        plugin.delete(types.configMap, made),
        /^Error: configured Kubernetes cluster is unreachable\. If the cluster was deleted, you can remove this resource/,
      );
      await assert.rejects(
        plugin.read(types.configMap, made.id, made),
        /failed to read resource state due to unreachable/,
      );
      await configure({ deleteUnreachable: "true" });
      await plugin.delete(types.configMap, made);
      assert.equal(await plugin.read(types.configMap, made.id, made), undefined);
    });

    it("must keep the old inputs under skipUpdateUnreachable", async () => {
      await configure({ skipUpdateUnreachable: "true" });
      assert.deepEqual(await plugin.check(types.configMap, { ...inputs, data: { a: "2" } }, inputs), inputs);
    });

    it("must name a context that is not there", async () => {
      await plugin.configure({ kubeconfig: kubeconfig("http://127.0.0.1:1"), context: "nope" });
      await assert.rejects(plugin.create(types.configMap, inputs), /context "nope" does not exist$/);
    });
  });

  describe("with a cluster", function () {
    this.timeout(180_000);
    const oldState = process.env.HOBNOB_LOCAL_STATE;
    const state = mkdtempSync(join(tmpdir(), "hobnob-providers-"));
    let admin: Client;

    before(async () => {
      process.env.HOBNOB_LOCAL_STATE = state;
      await createCluster({ accountPort: 1 });
      admin = new Client(loadKubeconfig(adminKubeconfig()), {}, new AbortController().signal);
      const allocatable = { cpu: "4", memory: "4Gi", pods: "100" };
      const node = {
        apiVersion: "v1",
        kind: "Node",
        metadata: { name: "n", annotations: { "kwok.x-k8s.io/node": "fake" } },
      };
      await admin.request("POST", "/api/v1/nodes", {
        body: { ...node, status: { allocatable, capacity: allocatable } },
      });
    });
    after(async () => {
      await deleteCluster();
      rmSync(state, { recursive: true });
      if (oldState === undefined) delete process.env.HOBNOB_LOCAL_STATE;
      else process.env.HOBNOB_LOCAL_STATE = oldState;
    });
    beforeEach(() => configure());

    const configure = (options: Bag = {}) =>
      plugin.configure({ kubeconfig: readFileSync(adminKubeconfig(), "utf8"), ...options });
    const configMap = (name: string | undefined, data: Bag = { a: "1" }) => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: name ? { name } : {},
      data,
    });
    const deployment = (name: string, template: Bag = pods(), extra: Bag = {}) => ({
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, ...extra },
      spec: { replicas: 1, selector: { matchLabels: labels }, template },
    });
    const patch = (path: string, body: Bag, manager = "someone") =>
      admin.request("PATCH", path, {
        contentType: "application/merge-patch+json",
        body,
        query: { fieldManager: manager },
      });
    const configMapPath = (name: string) => `/api/v1/namespaces/default/configmaps/${name}`;

    it("must refuse to create what exists, unless it is told to take it over", async () => {
      const first = await plugin.create(types.configMap, configMap("twice"));
      assert.equal(first.id, "default/twice");
      await assert.rejects(plugin.create(types.configMap, configMap("twice")), {
        message: `resource "urn:pulumi:test::test::${types.configMap}::thing" was not successfully created by the Kubernetes API server: configmaps "twice" already exists`,
      });
      await configure({ upsertExistingObjects: "true", enablePatchForce: "true" });
      const taken = await plugin.create(types.configMap, configMap("twice", { a: "2" }));
      assert.deepEqual(taken.state.data, { a: "2" });
    });

    it("must replace a Job that has not ended well where it is told to, and leave one that has", async () => {
      const job = (name: string, annotations: Bag, spec: Bag = {}) => ({
        apiVersion: "batch/v1",
        kind: "Job",
        metadata: { name, annotations },
        spec: { ...spec, template: { spec: { ...pods().spec, restartPolicy: "Never" } } },
      });
      const again = { "pulumi.com/replaceUnready": "true" };
      const differs = async (name: string, annotations: Bag, spec?: Bag) => {
        const made = await plugin.create(types.job, job(name, annotations, spec));
        return (await plugin.diff(types.job, made, made.inputs)).changes;
      };
      const suspended = { "pulumi.com/skipAwait": "true" };
      assert.deepEqual(await differs("waits", suspended, { suspend: true }), {});
      assert.deepEqual(await differs("unready", { ...suspended, ...again }, { suspend: true }), {
        'metadata.annotations["pulumi.com/replaceUnready"]': "update-replace",
      });
      assert.deepEqual(await differs("done", again), {});
    });

    it("must patch what somebody else made, own the patched fields alone, and let go of them when deleted", async () => {
      const type = "kubernetes:core/v1:ConfigMapPatch";
      const others = await plugin.create(types.configMap, configMap("patched", { a: "1", b: "1" }));
      const some = (data: Bag) => configMap("patched", data);
      const data = async () => (await admin.request("GET", configMapPath("patched"))).data;
      await assert.rejects(plugin.check(type, { metadata: {} }), /patch resources require the \.metadata\.name field/);
      await assert.rejects(plugin.create(type, some({ a: "2" })), /had an apply conflict/);
      await configure({ enablePatchForce: "true" });
      const preview = await plugin.create(type, some({ a: "2" }), { preview: true });
      assert.deepEqual([preview.state.data, await data()], [{ a: "2", b: "1" }, others.state.data]);

      const made = await plugin.create(type, some({ a: "2", c: "2" }));
      assert.deepEqual(made.state.data, { a: "2", b: "1", c: "2" });
      assert.deepEqual((await plugin.diff(type, made, some({ a: "2", c: "2" }))).changes, {});
      const updated = await plugin.update(type, made, some({ a: "3", c: "3" }));
      assert.deepEqual(updated.state.data, { a: "3", b: "1", c: "3" });

      await plugin.delete(type, updated);
      assert.deepEqual(await data(), { b: "1" });
      await plugin.delete(types.configMap, others);
      await plugin.delete(type, updated);
    });

    it("must name what has no name, keep that name, and replace it by another one first", async () => {
      const made = await plugin.create(types.configMap, configMap(undefined));
      assert.match(made.inputs.metadata.name, /^thing-[0-9a-f]{8}$/);
      assert.equal(made.inputs.metadata.namespace, "default");
      assert.deepEqual(await plugin.diff(types.configMap, made, configMap(undefined)), {
        changes: {},
        deleteBeforeReplace: false,
      });
      assert.deepEqual(await plugin.diff(types.configMap, made, configMap(undefined, { a: "2" })), {
        changes: { "data.a": "update-replace" },
        deleteBeforeReplace: false,
      });
    });

    it("must delete first what has a name of its own and must be replaced", async () => {
      const made = await plugin.create(types.configMap, configMap("named"));
      const { deleteBeforeReplace } = await plugin.diff(types.configMap, made, configMap("named", { a: "2" }));
      assert.equal(deleteBeforeReplace, true);
      const renamed = await plugin.diff(types.configMap, made, configMap("other", { a: "2" }));
      assert.equal(renamed.deleteBeforeReplace, false);
    });

    it("must keep a Secret's values secret, whatever the program says", async () => {
      const inputs = {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "creds" },
        stringData: { password: "hunter2" },
      };
      const made = await plugin.create(types.secret, inputs);
      assert.deepEqual(made.state.data, secret({ password: Buffer.from("hunter2").toString("base64") }));
      assert.deepEqual(made.inputs.stringData, secret({ password: "hunter2" }));
      assert.ok(!JSON.stringify({ ...made.state, data: 0, __inputs: 0 }).includes("hunter2"));
      assert.deepEqual(made.state.__inputs.stringData, secret({ password: "hunter2" }));
      assert.deepEqual((await plugin.diff(types.secret, made, inputs)).changes, {});
    });

    it("must preview with the inputs alone where the namespace is still to come, and invent no status", async () => {
      const inputs = {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "s", namespace: "later" },
        spec: { ports: [{ port: 80 }] },
      };
      const planned = await plugin.create(types.service, inputs, { preview: true });
      assert.deepEqual(planned.state, inputs);
      const dry = await plugin.create(types.service, { ...inputs, metadata: { name: "s" } }, { preview: true });
      assert.equal(dry.state.spec.type, "ClusterIP", "the API server's own defaults");
      assert.equal(dry.state.status, undefined);
      assert.equal(await plugin.read(types.service, "default/s"), undefined);
    });

    it("must update by server-side apply without a conflict with its own create, and remove what the program removed", async () => {
      const quiet = { "pulumi.com/skipAwait": "true" };
      const inputs = deployment("applied", pods(), { annotations: { ...quiet, gone: "soon" } });
      const made = await plugin.create(types.deployment, inputs);
      const next = {
        ...inputs,
        metadata: { name: "applied", annotations: quiet },
        spec: { ...inputs.spec, replicas: 0 },
      };
      const { changes } = await plugin.diff(types.deployment, made, next);
      assert.deepEqual(changes, { "metadata.annotations.gone": "delete", "spec.replicas": "update" });
      const updated = await plugin.update(types.deployment, made, next);
      assert.equal(updated.state.spec.replicas, 0);
      assert.equal(updated.state.metadata.annotations.gone, undefined);
      assert.equal(updated.state.__fieldManager, made.state.__fieldManager);
      assert.deepEqual((await plugin.diff(types.deployment, updated, next)).changes, {});
    });

    it("must not take a field from another manager, unless the object says so", async () => {
      await configure({ enableConfigMapMutable: "true" });
      const made = await plugin.create(types.configMap, configMap("shared"));
      await patch(configMapPath("shared"), { data: { a: "theirs" } });
      const failure = await plugin
        .update(types.configMap, made, configMap("shared", { a: "2" }))
        .catch((error) => error);
      assert.ok(failure instanceof PluginError);
      assert.match(failure.message, /Server-Side Apply field conflict detected/);
      assert.match(failure.message, /conflict with "someone".*: \.data\.a/s);
      const forced = configMap("shared", { a: "2" });
      forced.metadata = { name: "shared", annotations: { "pulumi.com/patchForce": "true" } } as typeof forced.metadata;
      assert.deepEqual((await plugin.update(types.configMap, made, forced)).state.data, { a: "2" });
    });

    it("must leave a field that it ignores to the one who set it", async () => {
      await configure({ enableConfigMapMutable: "true" });
      const made = await plugin.create(types.configMap, configMap("ignored", { a: "1", b: "1" }));
      await patch(configMapPath("ignored"), { data: { a: "theirs" } });
      const next = configMap("ignored", { a: "1", b: "2" });
      const updated = await plugin.update(types.configMap, made, next, { ignoreChanges: ["data.a"] });
      assert.deepEqual(updated.state.data, { a: "theirs", b: "2" });
      const own = updated.state.metadata.managedFields.find(
        (entry: Bag) => entry.manager === made.state.__fieldManager,
      );
      assert.deepEqual(own.fieldsV1["f:data"], { "f:b": {} }, "the field stays theirs");
    });

    it("must show drift after a refresh, and no more than that", async () => {
      const made = await plugin.create(types.configMap, configMap("drift", { a: "1", b: "1" }));
      await patch(configMapPath("drift"), { data: { a: "theirs", added: "x" } });
      const read = (await plugin.read(types.configMap, made.id, made)) as Made;
      assert.deepEqual(read.inputs.data, { a: "theirs", b: "1" });
      const { changes } = await plugin.diff(types.configMap, read, configMap("drift", { a: "1", b: "1" }));
      assert.deepEqual(changes, { "data.a": "update-replace" });
      await admin.request("DELETE", configMapPath("drift"));
      assert.equal(await plugin.read(types.configMap, made.id, made), undefined);
    });

    it("must import an object by namespace and name with inputs that change nothing", async () => {
      await admin.request("POST", "/api/v1/namespaces/default/configmaps", { body: configMap("found") });
      const found = (await plugin.read(types.configMap, "default/found")) as Made;
      assert.deepEqual(found.inputs, {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name: "found", namespace: "default" },
        data: { a: "1" },
      });
      assert.deepEqual((await plugin.diff(types.configMap, found, configMap("found"))).changes, {});
    });

    it("must return from a deletion when the object and what it owns are gone, and take a missing one as deleted", async () => {
      const namespace = await plugin.create(types.namespace, {
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name: "old" },
      });
      const inputs = configMap("inside");
      const metadata = { name: "inside", namespace: "old", finalizers: ["example.com/held"] };
      const held = await plugin.create(types.configMap, { ...inputs, metadata });
      await assert.rejects(plugin.delete(types.configMap, held, 1), {
        message:
          'Timed out waiting for deletion of v1/ConfigMap "inside": it still has the finalizers example.com/held',
      });
      await patch("/api/v1/namespaces/old/configmaps/inside", { metadata: { finalizers: null } });
      await plugin.delete(types.configMap, held);
      await plugin.delete(types.namespace, namespace);
      await assert.rejects(admin.request("GET", "/api/v1/namespaces/old"), { code: 404 });
      await plugin.delete(types.namespace, namespace);
    });

    it("must wait for a rollout, and judge the new pods", async () => {
      const made = await plugin.create(types.deployment, deployment("rolling"));
      assert.equal(made.state.status.readyReplicas, 1);
      const updated = await plugin.update(types.deployment, made, deployment("rolling", pods({ changed: "yes" })));
      assert.equal(updated.state.status.updatedReplicas, 1);
      assert.equal(updated.state.metadata.annotations["deployment.kubernetes.io/revision"], "2");
    });

    for (const [reason, message] of [
      ["ImagePullBackOff", 'Back-off pulling image "nope:1"'],
      ["CrashLoopBackOff", "back-off 5m0s restarting failed container"],
    ] as const) {
      it(`must fail a workload in ${reason} with its reason when the time is up, and go on with it in the next run`, async () => {
        const name = reason.toLowerCase();
        const making = plugin.create(types.deployment, deployment(name, pods({ [holdAnnotation]: "true" })), {
          timeout: 8,
        });
        const failing = making.catch((error: PluginError) => error);
        const pod = await podOf(name);
        const statuses = [
          {
            name: "web",
            ready: false,
            restartCount: 0,
            image: "a",
            imageID: "",
            state: { waiting: { reason, message } },
          },
        ];
        const condition = (type: string, status: string, more: Bag = {}) => ({ type, status, ...more });
        await patch(`/api/v1/namespaces/default/pods/${pod}/status`, {
          status: {
            phase: "Pending",
            conditions: [
              condition("PodScheduled", "True"),
              condition("Initialized", "True"),
              condition("Ready", "False", {
                reason: "ContainersNotReady",
                message: "containers with unready status: [web]",
              }),
            ],
            containerStatuses: statuses,
          },
        });
        const failure = (await failing) as PluginError;
        assert.equal(failure.id, `default/${name}`);
        assert.match(
          failure.message,
          new RegExp(`failed to fully initialize or become live: '${name}' timed out waiting to be Ready$`),
        );
        assert.deepEqual(failure.reasons?.slice(-1), [
          `[Pod ${pod}]: containers with unready status: [web]\n[${reason}] ${message}`,
        ]);
        assert.ok(failure.reasons?.includes("Minimum number of live Pods was not attained"));
        const left = { id: failure.id as string, state: failure.state as Bag, inputs: failure.state?.__inputs };
        const fixed = await plugin.update(types.deployment, left, deployment(name));
        assert.equal(fixed.state.status.readyReplicas, 1);
      });
    }

    it("must name what keeps a pod from being scheduled", async () => {
      const template = pods();
      const unplaceable = { ...template, spec: { ...template.spec, nodeSelector: { no: "where" } } };
      const failure = await plugin
        .create(types.deployment, deployment("unschedulable", unplaceable), { timeout: 4 })
        .catch((error: PluginError) => error);
      assert.ok(failure instanceof PluginError);
      assert.match(
        failure.reasons?.at(-1) ?? "",
        /0\/1 nodes are available: 1 node\(s\) didn't match Pod's node affinity/,
      );
    });

    it("must let a custom resource follow its definition", async () => {
      const names = { kind: "Widget", plural: "widgets", singular: "widget" };
      const schema = { openAPIV3Schema: { type: "object", x_kubernetes_preserve_unknown_fields: true } };
      await plugin.create("kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition", {
        apiVersion: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        metadata: { name: "widgets.example.com" },
        spec: {
          group: "example.com",
          scope: "Cluster",
          names,
          versions: [{ name: "v1", served: true, storage: true, schema }],
        },
      });
      const widget = { apiVersion: "example.com/v1", kind: "Widget", metadata: { name: "w" }, spec: { size: 1 } };
      const made = await plugin.create("kubernetes:example.com/v1:Widget", widget);
      assert.equal(made.id, "w");
      assert.deepEqual(made.state.spec, { size: 1 });
    });

    async function podOf(name: string): Promise<string> {
      for (;;) {
        const { items } = await admin.request<{ items: KubeObject[] }>("GET", "/api/v1/namespaces/default/pods");
        const pod = items.find(({ metadata }) => metadata.name.startsWith(`${name}-`));
        if (pod) return pod.metadata.name;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  });
});
