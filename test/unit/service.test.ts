import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { Namespace, TO_DNS } from "../../components/namespace";
import { Service, type ServiceArgs } from "../../components/service";
import { violations } from "../../policy/policies";
import { type Captured, capture, edges, find, ofType, Pool, unwrap } from "./graph";

const COMPONENT = "hobnob:platform:Service";
const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const SERVICE = "kubernetes:core/v1:Service";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const ACCOUNT = "kubernetes:core/v1:ServiceAccount";
const BUDGET = "kubernetes:policy/v1:PodDisruptionBudget";
const AUTOSCALER = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler";
const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const SECRET = "kubernetes:core/v1:Secret";

const IMAGE = `registry.test/shop@sha256:${"a".repeat(64)}`;
const NEXT = `registry.test/shop@sha256:${"b".repeat(64)}`;
const LABELS = { "app.kubernetes.io/name": "shop" };
const STABLE = { ...LABELS, "hobnob/track": "stable" };
const CANARY = { ...LABELS, "hobnob/track": "canary" };
const METADATA = { name: "shop", namespace: "shops", labels: LABELS };
const AWAITED_BY_NONE = { "pulumi.com/skipAwait": "true" };
const base: ServiceArgs = {
  namespace: "shops",
  image: IMAGE,
  memory: "64Mi",
  cpu: "50m",
  ports: [{ name: "http", port: 80, targetPort: 8080 }],
};

let service: Service;

const deploy = (changes: Partial<ServiceArgs> = {}, preview = false): Promise<Captured[]> =>
  capture(
    () => {
      service = new Service("shop", { ...base, ...changes });
    },
    { preview },
  );

const podOf = (graph: Captured[], name = "shop") => find(graph, DEPLOYMENT, name).inputs.spec.template.spec;
const containerOf = (graph: Captured[], name = "shop") => podOf(graph, name).containers[0];
const names = (graph: Captured[]) => graph.map(({ type, name }) => `${type}::${name}`).sort();
const children = (...more: string[]) =>
  [
    `${COMPONENT}::shop`,
    ...[SERVICE, POLICY, BUDGET, ACCOUNT, DEPLOYMENT].map((type) => `${type}::shop`),
    ...more,
  ].sort();

describe("service", () => {
  for (const preview of [true, false])
    it(`must be one component with these resources in ${preview ? "a preview" : "an update"}`, async () => {
      const graph = await deploy({}, preview);
      assert.deepEqual(names(graph), children());
      assert.deepEqual(find(graph, COMPONENT).inputs, {});
      for (const resource of graph.slice(1)) assert.equal(resource.parent, find(graph, COMPONENT).urn, resource.urn);
    });

  it("must be, with nothing but what it needs, this Deployment", async () => {
    const { inputs, customTimeouts } = find(await deploy(), DEPLOYMENT);
    assert.deepEqual(inputs.metadata, METADATA);
    assert.deepEqual(customTimeouts, {});
    assert.deepEqual(inputs.spec, {
      replicas: 2,
      revisionHistoryLimit: 3,
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      selector: { matchLabels: STABLE },
      template: {
        metadata: { labels: STABLE },
        spec: {
          serviceAccountName: "shop",
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: 10001,
            runAsGroup: 10001,
            seccompProfile: { type: "RuntimeDefault" },
          },
          terminationGracePeriodSeconds: 40,
          topologySpreadConstraints: [
            {
              maxSkew: 1,
              topologyKey: "kubernetes.io/hostname",
              labelSelector: { matchLabels: STABLE },
              matchLabelKeys: ["pod-template-hash"],
              nodeTaintsPolicy: "Honor",
              whenUnsatisfiable: "ScheduleAnyway",
            },
          ],
          containers: [
            {
              name: "shop",
              image: IMAGE,
              ports: [{ name: "http", containerPort: 8080 }],
              lifecycle: { preStop: { sleep: { seconds: 10 } } },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                capabilities: { drop: ["ALL"] },
              },
              resources: { requests: { cpu: "50m", memory: "64Mi" }, limits: { memory: "64Mi" } },
            },
          ],
        },
      },
    });
  });

  it("must be, with nothing but what it needs, these other objects", async () => {
    const graph = await deploy();
    const of = (type: string) => find(graph, type).inputs;
    assert.deepEqual(of(SERVICE).metadata, { ...METADATA, annotations: AWAITED_BY_NONE });
    assert.deepEqual(of(SERVICE).spec, { selector: LABELS, ports: [{ name: "http", port: 80, targetPort: "http" }] });
    assert.deepEqual(of(BUDGET).metadata, METADATA);
    assert.deepEqual(of(BUDGET).spec, {
      selector: { matchLabels: STABLE },
      maxUnavailable: 1,
      unhealthyPodEvictionPolicy: "AlwaysAllow",
    });
    assert.deepEqual(of(ACCOUNT).metadata, METADATA);
    assert.equal(of(ACCOUNT).automountServiceAccountToken, false);
    assert.deepEqual(of(POLICY).metadata, METADATA);
    assert.deepEqual(of(POLICY).spec, {
      podSelector: { matchLabels: LABELS },
      policyTypes: ["Ingress", "Egress"],
      ingress: [],
      egress: [TO_DNS],
    });
    const outputs = [service.serviceName, service.serviceAccountName].map(
      async (output) => (await unwrap(output)).value,
    );
    assert.deepEqual([...(await Promise.all(outputs)), service.labels], ["shop", "shop", LABELS]);
  });

  it("must be judged clean by every policy, its canary and scaling by itself too", async () => {
    const probes = {
      readiness: { httpGet: { path: "/readyz", port: "http" } },
      liveness: { httpGet: { path: "/healthz", port: "http" } },
    };
    const judge = async (changes: Partial<ServiceArgs>) => {
      const graph = await capture(() => {
        const { name } = new Namespace("shops", { name: "shops" });
        new Service("shop", { ...base, ...probes, spread: "hard", namespace: name, ...changes });
      });
      return violations(graph.map((resource) => ({ ...resource, props: resource.inputs }))).map(
        ({ message }) => message,
      );
    };
    assert.deepEqual(await judge({}), []);
    assert.deepEqual(await judge({ canary: { image: NEXT }, spread: "soft" }), []);
    assert.deepEqual(await judge({ canary: { image: NEXT, requests: "routed" }, secretEnv: { PASSWORD: "p" } }), []);
    assert.deepEqual(await judge({ autoscaling: { minReplicas: 2, maxReplicas: 4, cpuPercent: 70 } }), []);
    assert.deepEqual(await judge({ ports: [], replicas: 1, readiness: undefined, liveness: undefined }), []);
    assert.match((await judge({ strategy: "Recreate" })).join(), /strategy Recreate/);
  });

  it("must have the name that it is given, whatever the component's is", async () => {
    const graph = await deploy({ name: "store" });
    assert.deepEqual(names(graph), children());
    for (const type of [DEPLOYMENT, SERVICE, POLICY, BUDGET, ACCOUNT])
      assert.equal(find(graph, type).inputs.metadata.name, "store", type);
    assert.equal(containerOf(graph).name, "store");
    assert.deepEqual(service.labels, { "app.kubernetes.io/name": "store" });
    assert.equal(containerOf(await deploy({ name: undefined })).name, "shop");
  });

  it("must run the command, arguments and environment that it is given, and what is secret from a Secret", async () => {
    const graph = await deploy({
      command: ["worker"],
      args: ["--podip=$(MY_POD_IP)"],
      env: {
        LEVEL: "info",
        HOST: pulumi.output("db"),
        MY_POD_IP: { fieldRef: { fieldPath: "status.podIP" } },
        COLOUR: { configMapKeyRef: { name: "colours", key: "shop" } },
      },
      secretEnv: { PASSWORD: pulumi.secret("open sesame") },
    });
    const { command, args, env } = containerOf(graph);
    assert.deepEqual([command, args], [["worker"], ["--podip=$(MY_POD_IP)"]]);
    assert.deepEqual(env, [
      { name: "LEVEL", value: "info" },
      { name: "HOST", value: "db" },
      { name: "MY_POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
      { name: "COLOUR", valueFrom: { configMapKeyRef: { name: "colours", key: "shop" } } },
      { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "shop-env-0a1b2c3d", key: "PASSWORD" } } },
    ]);
    const { inputs, secrets } = find(graph, SECRET);
    assert.deepEqual([inputs.stringData, secrets], [{ PASSWORD: "open sesame" }, ["stringData"]]);
  });

  it("must mount files from objects that the engine names, so that changed ones are others and start new pods", async () => {
    const graph = await deploy({
      files: { "/app/config": { "config.toml": "a = 1" } },
      secretFiles: { "/etc/tls": { "tls.key": "k" } },
      volumes: { "/tmp": { emptyDir: {} }, "/var/run/secrets/db": { name: "db", secret: { secretName: "db" } } },
    });
    const config = find(graph, CONFIG_MAP, "shop-app-config").inputs;
    assert.deepEqual(config.metadata, { namespace: "shops", labels: LABELS });
    assert.deepEqual([config.immutable, config.data], [true, { "config.toml": "a = 1" }]);
    const tls = find(graph, SECRET, "shop-etc-tls").inputs;
    assert.deepEqual(tls.metadata, { namespace: "shops", labels: LABELS });
    assert.deepEqual([tls.immutable, tls.stringData], [true, { "tls.key": "k" }]);
    assert.deepEqual(podOf(graph).volumes, [
      { name: "app-config", configMap: { name: "shop-app-config-0a1b2c3d" } },
      { name: "etc-tls", secret: { secretName: "shop-etc-tls-0a1b2c3d", defaultMode: 0o440 } },
      { name: "tmp", emptyDir: {} },
      { name: "db", secret: { secretName: "db" } },
    ]);
    assert.deepEqual(containerOf(graph).volumeMounts, [
      { name: "app-config", mountPath: "/app/config", readOnly: true },
      { name: "etc-tls", mountPath: "/etc/tls", readOnly: true },
      { name: "tmp", mountPath: "/tmp" },
      { name: "db", mountPath: "/var/run/secrets/db", readOnly: true },
    ]);
    assert.equal(podOf(graph).securityContext.fsGroup, 10001);
  });

  it("must be reached on the ports that it names, on machines or without an address where that is asked for", async () => {
    const ports = [
      { name: "http", port: 80, targetPort: 8081, nodePort: 30080, appProtocol: "http" },
      { name: "dns", port: 53, protocol: "UDP" as const },
    ];
    const nodePort = await deploy({ ports, serviceType: "NodePort" });
    assert.deepEqual(find(nodePort, SERVICE).inputs.spec, {
      type: "NodePort",
      selector: LABELS,
      ports: [
        { name: "http", port: 80, targetPort: "http", nodePort: 30080, appProtocol: "http" },
        { name: "dns", port: 53, targetPort: "dns", protocol: "UDP" },
      ],
    });
    assert.deepEqual(containerOf(nodePort).ports, [
      { name: "http", containerPort: 8081 },
      { name: "dns", containerPort: 53, protocol: "UDP" },
    ]);
    const headless = await deploy({ serviceType: "Headless" });
    assert.equal(find(headless, SERVICE).inputs.spec.clusterIP, "None");
  });

  it("must have no Service where it has no ports, say so to who asks, and not wait at its end for clients", async () => {
    const graph = await deploy({ ports: [] });
    assert.equal(ofType(graph, SERVICE).length, 0);
    assert.throws(() => service.serviceName, /without ports has no name .* allowed: ports/);
    assert.deepEqual([containerOf(graph).ports, containerOf(graph).lifecycle], [undefined, undefined]);
    assert.equal(podOf(graph).terminationGracePeriodSeconds, 30);
  });

  it("must be reached by its ingress class's controller on what is not internal, and by whom else is named", async () => {
    const peer = { from: [{ podSelector: { matchLabels: { app: "till" } } }] };
    const to = { to: [{ podSelector: { matchLabels: { app: "db" } } }], ports: [{ protocol: "TCP", port: 3306 }] };
    const graph = await deploy({
      ports: [
        { name: "http", port: 80 },
        { name: "grpc", port: 9090, internal: true },
        { name: "dns", port: 53, protocol: "UDP" },
      ],
      ingressClass: pulumi.output("public"),
      from: [peer],
      to: [to],
      labels: { tier: "front" },
    });
    const { ingress, egress } = find(graph, POLICY).inputs.spec;
    const controller = {
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "nginx-ingress-public" } },
      podSelector: { matchLabels: { "app.kubernetes.io/name": "nginx-ingress" } },
    };
    assert.deepEqual(ingress, [{ from: [controller], ports: [{ protocol: "TCP", port: "http" }] }, peer]);
    assert.deepEqual(egress, [to, TO_DNS]);
    const { template, selector } = find(graph, DEPLOYMENT).inputs.spec;
    assert.deepEqual(template.metadata.labels, { ...STABLE, tier: "front", "hobnob/ingress-class": "public" });
    assert.deepEqual(selector, { matchLabels: STABLE });
  });

  it("must keep one pod drainable: a budget of one would keep its machine for ever, or guard nothing", async () => {
    assert.equal(ofType(await deploy({ replicas: 1 }), BUDGET).length, 0);
    const one = { minReplicas: 1, maxReplicas: 3, cpuPercent: 70 };
    assert.equal(ofType(await deploy({ autoscaling: one }), BUDGET).length, 0);
    assert.equal(ofType(await deploy({ replicas: 3 }), BUDGET).length, 1);
  });

  it("must leave the number of pods to the autoscaler where there is one", async () => {
    const graph = await deploy({ autoscaling: { minReplicas: 2, maxReplicas: 6, cpuPercent: 70 } });
    assert.deepEqual(names(graph), children(`${AUTOSCALER}::shop`));
    assert.equal("replicas" in find(graph, DEPLOYMENT).inputs.spec, false);
    const { inputs } = find(graph, AUTOSCALER);
    assert.deepEqual(inputs.metadata, METADATA);
    assert.deepEqual(inputs.spec, {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "shop" },
      minReplicas: 2,
      maxReplicas: 6,
      metrics: [
        { type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 70 } } },
      ],
    });
  });

  it("must probe, stop, place and time out as it is told", async () => {
    const probe = (path: string) => ({ httpGet: { path, port: "http" } });
    const pool = { pool: "workers" };
    const toleration = { key: "dedicated", operator: "Exists" };
    const graph = await deploy({
      replicas: 5,
      startup: probe("/started"),
      readiness: probe("/readyz"),
      liveness: probe("/healthz"),
      preStopSeconds: 20,
      stopSeconds: 35,
      user: 101,
      pullSecretName: "registry-1",
      nodeSelector: pool,
      tolerations: [toleration],
      spread: "hard",
      strategy: "Recreate",
      readyTimeout: "20m",
    });
    const { startupProbe, readinessProbe, livenessProbe, lifecycle } = containerOf(graph);
    assert.deepEqual([startupProbe, readinessProbe, livenessProbe], ["/started", "/readyz", "/healthz"].map(probe));
    assert.deepEqual(lifecycle, { preStop: { sleep: { seconds: 20 } } });
    const pod = podOf(graph);
    assert.equal(pod.terminationGracePeriodSeconds, 55);
    assert.deepEqual([pod.securityContext.runAsUser, pod.securityContext.runAsGroup], [101, 101]);
    assert.deepEqual(
      [pod.imagePullSecrets, pod.nodeSelector, pod.tolerations],
      [[{ name: "registry-1" }], pool, [toleration]],
    );
    const [{ whenUnsatisfiable, minDomains }] = pod.topologySpreadConstraints;
    assert.deepEqual([whenUnsatisfiable, minDomains], ["DoNotSchedule", 2]);
    const { inputs, customTimeouts } = find(graph, DEPLOYMENT);
    assert.deepEqual([inputs.spec.replicas, inputs.spec.strategy], [5, { type: "Recreate" }]);
    assert.deepEqual(customTimeouts, { create: "20m", update: "20m" });
  });

  it("must outlive nothing but its machines: only the pods depend on them", async () => {
    const graph = await capture(() => new Service("shop", { ...base, workers: [new Pool("workers")] }));
    const urn = (type: string) => find(graph, type).urn;
    assert.deepEqual(
      edges(find(graph, DEPLOYMENT)).sort(),
      [urn(ACCOUNT), urn("test:index:Pool"), urn(COMPONENT)].sort(),
    );
    for (const type of [SERVICE, POLICY, BUDGET]) assert.deepEqual(edges(find(graph, type)), [urn(COMPONENT)], type);
  });
});

describe("a service's canary", () => {
  const canary = { image: NEXT };

  it("must stand beside pods that it changes in nothing, and share the Service's requests with them", async () => {
    const before = await deploy();
    const graph = await deploy({ canary });
    assert.deepEqual(names(graph), children(...[DEPLOYMENT, SERVICE, BUDGET].map((type) => `${type}::shop-canary`)));
    for (const { type, name, inputs } of before.slice(1)) assert.deepEqual(find(graph, type, name).inputs, inputs);
    const trial = find(graph, DEPLOYMENT, "shop-canary").inputs;
    assert.deepEqual(trial.metadata, { ...METADATA, name: "shop-canary" });
    assert.deepEqual([trial.spec.replicas, trial.spec.selector], [2, { matchLabels: CANARY }]);
    assert.deepEqual(trial.spec.template.metadata.labels, CANARY);
    assert.deepEqual(containerOf(graph, "shop-canary"), { ...containerOf(graph), image: NEXT });
    const own = find(graph, BUDGET, "shop-canary").inputs;
    assert.deepEqual([own.metadata.name, own.spec.selector], ["shop-canary", { matchLabels: CANARY }]);
  });

  it("must wait for no other pods, nor they for it: a canary that never gets ready holds up nothing", async () => {
    const graph = await deploy({ canary });
    const urns = ["shop", "shop-canary"].map((name) => find(graph, DEPLOYMENT, name).urn);
    for (const name of ["shop", "shop-canary"])
      assert.ok(edges(find(graph, DEPLOYMENT, name)).every((urn) => !urns.includes(urn)));
  });

  it("must get no request but by its own Service where routes give it its share", async () => {
    const graph = await deploy({ canary: { ...canary, requests: "routed" }, serviceType: "NodePort" });
    assert.deepEqual(find(graph, SERVICE, "shop").inputs.spec.selector, STABLE);
    const { metadata, spec } = find(graph, SERVICE, "shop-canary").inputs;
    assert.deepEqual(metadata, { ...METADATA, name: "shop-canary", annotations: AWAITED_BY_NONE });
    assert.deepEqual(spec, { selector: CANARY, ports: [{ name: "http", port: 80, targetPort: "http" }] });
    assert.ok(service.canaryServiceName);
    assert.equal((await unwrap(service.canaryServiceName)).value, "shop-canary");
  });

  it("must have as many pods as asked for, and with one no budget", async () => {
    const graph = await deploy({ canary: { ...canary, replicas: 1 } });
    assert.equal(find(graph, DEPLOYMENT, "shop-canary").inputs.spec.replicas, 1);
    assert.deepEqual(
      ofType(graph, BUDGET).map(({ name }) => name),
      ["shop"],
    );
  });
});

describe("a service's args", () => {
  const port = { name: "http", port: 80 };
  /** What is refused, as `arg | given | allowed`. */
  async function refusals(changes: object): Promise<string[]> {
    try {
      const graph = await deploy(changes as Partial<ServiceArgs>);
      assert.fail(`${graph.length} resources`);
    } catch (error) {
      assert.ok(error instanceof pulumi.RunError, String(error));
      const [head = "", ...told] = error.message.split(/\n {2}(?=\S)/);
      assert.match(head, /^The Service "shop" has (an arg|\d+ args) that cannot be:\n$/);
      return told.map((one) =>
        one
          .trim()
          .split(/\n\s+(?:given|allowed): +/)
          .join(" | "),
      );
    }
  }

  const cases: [what: string, changes: object, refused: string][] = [
    [
      "a number of pods beside autoscaling",
      { replicas: 3, autoscaling: { minReplicas: 2, maxReplicas: 4, cpuPercent: 70 } },
      "replicas | 3 beside autoscaling | one of the two",
    ],
    [
      "a minimum above the maximum",
      { autoscaling: { minReplicas: 5, maxReplicas: 4, cpuPercent: 70 } },
      "autoscaling.minReplicas | 5 | at most maxReplicas, 4",
    ],
    ["no pods", { replicas: 0 }, "replicas | 0 | a whole number from 1 to 1000"],
    [
      "a canary of what can't be there twice",
      { strategy: "Recreate", canary: { image: NEXT } },
      "canary | beside strategy Recreate | strategy Rolling: two versions run side by side",
    ],
    ["an unknown strategy", { strategy: "Canary" }, 'strategy | "Canary" | Rolling, Recreate'],
    [
      "a kind of Service without ports",
      { ports: [], serviceType: "NodePort" },
      "serviceType | without ports | ports, or none of it",
    ],
    [
      "an ingress class without ports",
      { ports: [], ingressClass: "nginx" },
      "ingressClass | without ports | ports, or none of it",
    ],
    ["clients without ports", { ports: [], from: [{}] }, "from | without ports | ports, or none of it"],
    [
      "an ingress class without a port for it",
      { ports: [{ ...port, internal: true }], ingressClass: "nginx" },
      "ingressClass | no TCP port that isn't internal | one such port or more",
    ],
    [
      "a machine's port without serviceType NodePort",
      { ports: [{ ...port, nodePort: 30080 }] },
      "ports[0].nodePort | 30080 with serviceType ClusterIP | serviceType NodePort",
    ],
    [
      "a machine's port out of range",
      { ports: [{ ...port, nodePort: 80 }], serviceType: "NodePort" },
      "ports[0].nodePort | 80 | a whole number from 30000 to 32767",
    ],
    [
      "a port's name twice",
      { ports: [port, { ...port, port: 81 }] },
      "ports[1].name | http for a second time | one that no other port has",
    ],
    [
      "a port twice",
      { ports: [port, { name: "other", port: 80 }] },
      "ports[1].port | 80/TCP for a second time | one that no other port has",
    ],
    [
      "a port's name that cannot be",
      { ports: [{ name: "HTTP", port: 80 }] },
      'ports[0].name | "HTTP" | at most 15 of a-z, 0-9 and "-", a letter among them',
    ],
    [
      "a port that cannot be",
      { ports: [{ name: "http", port: 70000 }] },
      "ports[0].port | 70000 | a whole number from 1 to 65535",
    ],
    [
      "a probe of a port that it hasn't",
      { readiness: { httpGet: { path: "/", port: "web" } } },
      "readiness | the port web | http, or a number",
    ],
    ["a name that cannot be", { name: "Shop" }, 'name | "Shop" | at most 50 of a-z, 0-9 and "-", the first a letter'],
    ["memory that is none", { memory: "64 MB" }, 'memory | "64 MB" | a Kubernetes quantity, e.g. 128Mi'],
    ["no CPU", { cpu: undefined }, "cpu | nothing | a Kubernetes quantity, e.g. 100m"],
    ["root", { user: 0 }, "user | 0 | a whole number from 1 to 2147483647"],
    [
      "a variable's name that cannot be",
      { env: { "log-level": "info" } },
      'env["log-level"] | "log-level" | a name of letters, digits and _, e.g. LOG_LEVEL',
    ],
    [
      "a variable that is a number",
      { secretEnv: { PIN: 1234 } },
      "secretEnv.PIN | a number | a text, or an output of one",
    ],
    [
      "a variable twice",
      { env: { A: "1" }, secretEnv: { A: "2" } },
      "secretEnv.A | a second value, beside env | one of the two",
    ],
    [
      "a directory that is relative",
      { files: { config: { a: "1" } } },
      'files.config | "config" | an absolute path of a directory, e.g. /app/config',
    ],
    [
      "a path as a file's name",
      { files: { "/app": { "a/b": "1" } } },
      'files["/app"]["a/b"] | "a/b" | a file name of letters, digits, -, _ and .',
    ],
    [
      "a directory twice",
      { files: { "/app": { a: "1" } }, volumes: { "/app": { emptyDir: {} } } },
      "files, secretFiles, volumes | /app, for a second time or in nearly the same letters | a directory once, in letters and digits that no other has",
    ],
    ["a directory without files", { secretFiles: { "/app": {} } }, 'secretFiles["/app"] | no file | one file or more'],
    ["a time that is none", { readyTimeout: "20" }, 'readyTimeout | "20" | a time such as 90s or 20m'],
    ["an arg that there is none of", { replica: 3 }, "args | replica | no such arg"],
  ];
  for (const [what, changes, refused] of cases)
    it(`must be refused with ${what}`, async () => assert.deepEqual(await refusals(changes), [refused]));

  it("must be refused all at once, before any resource", async () => {
    const changes = {
      replicas: 0,
      user: 0,
      ports: [
        { ...port, nodePort: 30080 },
        { ...port, port: 0 },
      ],
    };
    assert.deepEqual(
      (await refusals(changes)).map((told) => told.split(" | ")[0]),
      ["user", "ports[1].port", "replicas", "ports[1].name", "ports[0].nodePort"],
    );
  });

  it("must not print what is secret", async () => {
    const changes = {
      secretEnv: { "a-b": "open sesame", PIN: ["open sesame"] },
      secretFiles: { "/x/../y": { k: "open sesame" } },
    };
    assert.doesNotMatch((await refusals(changes)).join(), /sesame/);
  });
});
