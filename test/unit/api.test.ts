import assert from "node:assert/strict";
import { Api, type ApiArgs } from "../../components/api";
import { TO_DNS } from "../../components/namespace";
import { type Captured, capture, edges, find, ofType, Pool } from "./graph";

const COMPONENT = "hobnob:platform:Api";
const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const SERVICE = "kubernetes:core/v1:Service";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const ACCOUNT = "kubernetes:core/v1:ServiceAccount";
const BUDGET = "kubernetes:policy/v1:PodDisruptionBudget";
const AUTOSCALER = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler";
const IMAGE = `docker.io/acme/hobnob-backend@sha256:${"a".repeat(64)}`;
const LABELS = { "app.kubernetes.io/name": "backend" };
const METADATA = { name: "backend", namespace: "hobnob", labels: LABELS };

let api: Api;

function deploy(changes: Partial<ApiArgs> = {}, preview = false): Promise<Captured[]> {
  return capture(
    () => {
      api = new Api("api", {
        namespace: "hobnob",
        image: IMAGE,
        elasticsearchHost: "elasticsearch.hobnob.svc",
        elasticsearchPort: 9200,
        publicUrl: "https://api.example.com",
        replicas: 3,
        memory: "192Mi",
        cpu: "100m",
        requestsPerSecond: 100,
        logLevel: "info",
        spread: "hard",
        ingressClass: "nginx",
        workers: [new Pool("workers")],
        ...changes,
      });
    },
    { preview },
  );
}

const podOf = (graph: Captured[]) => find(graph, DEPLOYMENT).inputs.spec.template.spec;
const containerOf = (graph: Captured[]) => podOf(graph).containers[0];
const names = (graph: Captured[]) => graph.map(({ type, name }) => `${type}::${name}`);

describe("api", () => {
  const base = [
    "test:index:Pool::workers",
    `${COMPONENT}::api`,
    `${SERVICE}::api`,
    `${POLICY}::api`,
    `${BUDGET}::api`,
    `${ACCOUNT}::api`,
    `${DEPLOYMENT}::api`,
  ];

  for (const preview of [true, false])
    it(`must be one component with these resources in ${preview ? "a preview" : "an update"}`, async () => {
      const graph = await deploy({}, preview);
      assert.deepEqual(names(graph).sort(), [...base].sort());
      const component = find(graph, COMPONENT);
      assert.deepEqual(component.inputs, {});
      for (const resource of graph.slice(2)) assert.equal(resource.parent, component.urn, resource.urn);
    });

  it("must be addressed by one fixed name, on 8080 and 8100, without the provider's wait for a Service", async () => {
    const { inputs } = find(await deploy(), SERVICE);
    assert.deepEqual(inputs.metadata, { ...METADATA, annotations: { "pulumi.com/skipAwait": "true" } });
    assert.deepEqual(inputs.spec, {
      selector: LABELS,
      ports: [
        { name: "http", port: 8080, targetPort: "http", appProtocol: "http" },
        { name: "docs", port: 8100, targetPort: "docs", appProtocol: "http" },
      ],
    });
    assert.deepEqual([api.apiPort, api.docsPort, api.labels], [8080, 8100, LABELS]);
  });

  it("must never have fewer pods than configured while a version is rolled out", async () => {
    const { inputs } = find(await deploy({ replicas: 5 }), DEPLOYMENT);
    assert.deepEqual(inputs.metadata, METADATA);
    assert.deepEqual([inputs.spec.replicas, inputs.spec.revisionHistoryLimit], [5, 3]);
    assert.deepEqual(inputs.spec.strategy, {
      type: "RollingUpdate",
      rollingUpdate: { maxSurge: 1, maxUnavailable: 0 },
    });
    assert.deepEqual(
      [inputs.spec.selector, inputs.spec.template.metadata],
      [{ matchLabels: LABELS }, { labels: { ...LABELS, "hobnob/ingress-class": "nginx" } }],
    );
  });

  it("must be given longer to be ready than Elasticsearch, without which it is not", async () => {
    assert.deepEqual(find(await deploy(), DEPLOYMENT).customTimeouts, { create: "20m", update: "20m" });
  });

  it("must run the image's digest on the configured memory and cpu, whose limit is the memory alone", async () => {
    const graph = await deploy({ memory: "256Mi", cpu: "50m" });
    assert.equal(podOf(graph).containers.length, 1);
    assert.equal(containerOf(graph).image, IMAGE);
    assert.deepEqual(containerOf(graph).resources, {
      requests: { cpu: "50m", memory: "256Mi" },
      limits: { memory: "256Mi" },
    });
    assert.deepEqual(containerOf(graph).ports, [
      { name: "http", containerPort: 8080 },
      { name: "docs", containerPort: 8100 },
    ]);
  });

  it("must know Elasticsearch's address and not be told another by the Service of that name", async () => {
    const graph = await deploy({ elasticsearchPort: 9201, logLevel: "debug" });
    assert.deepEqual(containerOf(graph).env, [
      { name: "ELASTICSEARCH_HOSTNAME", value: "http://elasticsearch.hobnob.svc" },
      { name: "ELASTICSEARCH_PORT", value: "9201" },
      { name: "PORT", value: "8080" },
      { name: "DOCS_PORT", value: "8100" },
      { name: "PUBLIC_URL", value: "https://api.example.com" },
      { name: "RATE_LIMIT", value: "100" },
      { name: "TRUSTED_PROXIES", value: "1" },
      { name: "LOG_LEVEL", value: "debug" },
      { name: "DRAIN_SECONDS", value: "20" },
    ]);
    assert.equal(podOf(graph).enableServiceLinks, false);
  });

  it("must be restarted for its own process alone, and be sent requests only while it can serve them", async () => {
    const { startupProbe, readinessProbe, livenessProbe } = containerOf(await deploy());
    const alive = { path: "/healthz", port: "http" };
    assert.deepEqual(startupProbe, { httpGet: alive, periodSeconds: 1, failureThreshold: 60 });
    assert.deepEqual(livenessProbe, { httpGet: alive, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3 });
    assert.deepEqual(readinessProbe, {
      httpGet: { path: "/readyz", port: "http" },
      periodSeconds: 5,
      timeoutSeconds: 8,
      failureThreshold: 3,
    });
  });

  it("must be given the time to leave the balancers and to drain before it is killed", async () => {
    const graph = await deploy();
    assert.deepEqual(containerOf(graph).lifecycle, { preStop: { sleep: { seconds: 10 } } });
    // 10 s of preStop, 20 s of drain, 10 s of requests under way, and a margin.
    assert.equal(podOf(graph).terminationGracePeriodSeconds, 45);
  });

  it("must hold nothing that an intruder could use: root, a writable disk, capabilities, a token of the cluster", async () => {
    const graph = await deploy();
    const { automountServiceAccountToken, securityContext, serviceAccountName, hostNetwork, volumes } = podOf(graph);
    assert.equal(automountServiceAccountToken, false);
    assert.deepEqual(securityContext, {
      runAsNonRoot: true,
      runAsUser: 10001,
      runAsGroup: 10001,
      seccompProfile: { type: "RuntimeDefault" },
    });
    assert.deepEqual(containerOf(graph).securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    assert.deepEqual([serviceAccountName, hostNetwork, volumes], ["backend", undefined, undefined]);
    assert.equal(find(graph, ACCOUNT).inputs.automountServiceAccountToken, false);
  });

  it("must spread each version over the machines that take pods, on two of them at least", async () => {
    assert.deepEqual(podOf(await deploy()).topologySpreadConstraints, [
      {
        maxSkew: 1,
        topologyKey: "kubernetes.io/hostname",
        labelSelector: { matchLabels: LABELS },
        matchLabelKeys: ["pod-template-hash"],
        nodeTaintsPolicy: "Honor",
        whenUnsatisfiable: "DoNotSchedule",
        minDomains: 2,
      },
    ]);
  });

  it("must run on a single machine where the spread is soft", async () => {
    assert.deepEqual(podOf(await deploy({ spread: "soft" })).topologySpreadConstraints, [
      {
        maxSkew: 1,
        topologyKey: "kubernetes.io/hostname",
        labelSelector: { matchLabels: LABELS },
        matchLabelKeys: ["pod-template-hash"],
        nodeTaintsPolicy: "Honor",
        whenUnsatisfiable: "ScheduleAnyway",
      },
    ]);
  });

  it("must lose at most one pod to a drain, which a pod that serves nobody must not block", async () => {
    const { inputs } = find(await deploy(), BUDGET);
    assert.deepEqual(inputs.metadata, METADATA);
    assert.deepEqual(inputs.spec, {
      selector: { matchLabels: LABELS },
      maxUnavailable: 1,
      unhealthyPodEvictionPolicy: "AlwaysAllow",
    });
  });

  it("must be reached by the ingress controller alone, and reach only Elasticsearch and DNS", async () => {
    const { inputs } = find(await deploy({ ingressClass: "second" }), POLICY);
    const tcp = (port: string | number) => ({ protocol: "TCP", port });
    assert.deepEqual(inputs.spec, {
      podSelector: { matchLabels: LABELS },
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        {
          from: [
            {
              namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "nginx-ingress-second" } },
              podSelector: { matchLabels: { "app.kubernetes.io/name": "nginx-ingress" } },
            },
          ],
          ports: [tcp("http"), tcp("docs")],
        },
      ],
      egress: [
        { to: [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "elasticsearch" } } }], ports: [tcp(9200)] },
        TO_DNS,
      ],
    });
  });

  it("must pull with a Secret and stay on labelled machines only where they are given", async () => {
    const without = podOf(await deploy());
    assert.deepEqual([without.imagePullSecrets, without.nodeSelector], [undefined, undefined]);
    const given = podOf(await deploy({ pullSecretName: "registry-1", nodeSelector: { pool: "workers" } }));
    assert.deepEqual([given.imagePullSecrets, given.nodeSelector], [[{ name: "registry-1" }], { pool: "workers" }]);
  });

  it("must leave the number of pods to the autoscaler where there is one", async () => {
    const graph = await deploy({ autoscaling: { minReplicas: 3, maxReplicas: 6, cpuPercent: 70 } });
    assert.deepEqual(names(graph).sort(), [...base, `${AUTOSCALER}::api`].sort());
    assert.equal("replicas" in find(graph, DEPLOYMENT).inputs.spec, false);
    const { inputs } = find(graph, AUTOSCALER);
    assert.deepEqual(inputs.metadata, METADATA);
    assert.deepEqual(inputs.spec, {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "backend" },
      minReplicas: 3,
      maxReplicas: 6,
      metrics: [
        { type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 70 } } },
      ],
    });
  });

  it("must outlive nothing but its machines: only the pods depend on them, and on nothing else", async () => {
    const graph = await deploy();
    const component = find(graph, COMPONENT).urn;
    const pool = find(graph, "test:index:Pool").urn;
    const account = find(graph, ACCOUNT).urn;
    assert.deepEqual(edges(find(graph, DEPLOYMENT)).sort(), [account, pool, component].sort());
    for (const type of [SERVICE, POLICY, BUDGET]) assert.deepEqual(edges(find(graph, type)), [component], type);
    assert.equal(ofType(graph, AUTOSCALER).length, 0);
  });
});
