import assert from "node:assert/strict";
import { METRICS_SERVER_REQUESTS } from "../../capacity";
import { MetricsServer, type MetricsServerArgs } from "../../components/metricsServer";
import { type Captured, capture, edges, find, Pool, waitsFor } from "./graph";

const COMPONENT = "hobnob:platform:MetricsServer";
const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const SERVICE = "kubernetes:core/v1:Service";
const ACCOUNT = "kubernetes:core/v1:ServiceAccount";
const BUDGET = "kubernetes:policy/v1:PodDisruptionBudget";
const API_SERVICE = "kubernetes:apiregistration.k8s.io/v1:APIService";
const ROLE = "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole";
const CLUSTER_BINDING = "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding";
const BINDING = "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding";
const LABELS = { "k8s-app": "metrics-server" };
const METADATA = { name: "metrics-server", namespace: "kube-system", labels: LABELS };
const RBAC = "rbac.authorization.k8s.io";
const SUBJECTS = [{ kind: "ServiceAccount", name: "metrics-server", namespace: "kube-system" }];

const deploy = (changes: Partial<MetricsServerArgs> = {}, preview = false): Promise<Captured[]> =>
  capture(() => void new MetricsServer("metrics", { spread: "hard", workers: [new Pool("workers")], ...changes }), {
    preview,
  });

const podOf = (graph: Captured[]) => find(graph, DEPLOYMENT).inputs.spec.template.spec;

describe("metrics server", () => {
  for (const preview of [true, false])
    it(`must be one component with these resources in ${preview ? "a preview" : "an update"}`, async () => {
      const graph = await deploy({}, preview);
      const expected = [
        "test:index:Pool::workers",
        `${COMPONENT}::metrics`,
        `${ACCOUNT}::metrics`,
        `${ROLE}::metrics`,
        `${ROLE}::metrics-reader`,
        `${CLUSTER_BINDING}::metrics`,
        `${CLUSTER_BINDING}::metrics-auth-delegator`,
        `${BINDING}::metrics-auth-reader`,
        "kubernetes:networking.k8s.io/v1:NetworkPolicy::metrics",
        "kubernetes:cilium.io/v2:CiliumNetworkPolicy::metrics-api-server",
        `${DEPLOYMENT}::metrics`,
        `${BUDGET}::metrics`,
        `${SERVICE}::metrics`,
        `${API_SERVICE}::metrics`,
      ];
      assert.deepEqual(graph.map(({ type, name }) => `${type}::${name}`).sort(), expected.sort());
      const component = find(graph, COMPONENT);
      assert.deepEqual(component.inputs, {});
      for (const resource of graph.slice(2)) assert.equal(resource.parent, component.urn, resource.urn);
    });

  it("must run a pinned image twice, on different machines, and give one at a time to a rollout or a drain", async () => {
    const graph = await deploy();
    const { metadata, spec } = find(graph, DEPLOYMENT).inputs;
    assert.deepEqual([metadata, spec.replicas], [METADATA, 2]);
    assert.deepEqual(spec.strategy, { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } });
    assert.deepEqual([spec.selector, spec.template.metadata], [{ matchLabels: LABELS }, { labels: LABELS }]);
    assert.equal(podOf(graph).containers[0].image, "registry.k8s.io/metrics-server/metrics-server:v0.8.1");
    assert.deepEqual(podOf(graph).affinity.podAntiAffinity, {
      requiredDuringSchedulingIgnoredDuringExecution: [
        { labelSelector: { matchLabels: LABELS }, topologyKey: "kubernetes.io/hostname" },
      ],
    });
    const unhealthyPodEvictionPolicy = "AlwaysAllow";
    const budget = { selector: { matchLabels: LABELS }, maxUnavailable: 1, unhealthyPodEvictionPolicy };
    assert.deepEqual(find(graph, BUDGET).inputs.spec, budget);
  });

  it("must run twice on a single machine where the spread is soft", async () => {
    assert.deepEqual(podOf(await deploy({ spread: "soft" })).affinity.podAntiAffinity, {
      preferredDuringSchedulingIgnoredDuringExecution: [
        {
          weight: 100,
          podAffinityTerm: { labelSelector: { matchLabels: LABELS }, topologyKey: "kubernetes.io/hostname" },
        },
      ],
    });
  });

  it("must check the kubelets' certificates", async () => {
    assert.deepEqual(podOf(await deploy()).containers[0].args, [
      "--cert-dir=/tmp",
      "--secure-port=10250",
      "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
      "--kubelet-use-node-status-port",
      "--metric-resolution=15s",
    ]);
  });

  it("must not be root, nor write anywhere but to /tmp", async () => {
    const pod = podOf(await deploy());
    assert.deepEqual(pod.securityContext, {
      runAsNonRoot: true,
      runAsUser: 65532,
      runAsGroup: 65532,
      seccompProfile: { type: "RuntimeDefault" },
    });
    assert.deepEqual(pod.containers[0].securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    const writable = pod.containers[0].volumeMounts.filter(({ readOnly }: { readOnly?: boolean }) => !readOnly);
    assert.deepEqual(writable, [{ name: "tmp", mountPath: "/tmp" }]);
    assert.deepEqual(pod.volumes[0], { name: "tmp", emptyDir: {} });
  });

  it("must request what the capacity check counts, and be the last to be evicted", async () => {
    const pod = podOf(await deploy({ nodeSelector: { pool: "workers" } }));
    assert.deepEqual(pod.containers[0].resources, {
      requests: METRICS_SERVER_REQUESTS,
      limits: { memory: METRICS_SERVER_REQUESTS.memory },
    });
    assert.deepEqual([pod.priorityClassName, pod.nodeSelector], ["system-cluster-critical", { pool: "workers" }]);
  });

  it("must be asked over TLS whether it lives, and whether it has metrics", async () => {
    const [container] = podOf(await deploy()).containers;
    const check = (path: string) => ({
      httpGet: { path, port: "https", scheme: "HTTPS" },
      periodSeconds: 10,
      failureThreshold: 3,
    });
    assert.deepEqual(container.ports, [{ name: "https", containerPort: 10250 }]);
    assert.deepEqual(container.livenessProbe, check("/livez"));
    assert.deepEqual(container.readinessProbe, { ...check("/readyz"), initialDelaySeconds: 20 });
  });

  it("must read what it measures and no more", async () => {
    const graph = await deploy();
    assert.deepEqual(find(graph, ROLE, "metrics").inputs, {
      apiVersion: `${RBAC}/v1`,
      kind: "ClusterRole",
      metadata: { name: "system:metrics-server", labels: LABELS },
      rules: [
        { apiGroups: [""], resources: ["nodes/metrics"], verbs: ["get"] },
        { apiGroups: [""], resources: ["pods", "nodes"], verbs: ["get", "list", "watch"] },
      ],
    });
    const assertBound = (type: string, name: string, boundAs: string, kind: string, role: string) => {
      const { metadata, roleRef, subjects } = find(graph, type, name).inputs;
      assert.equal(metadata.name, boundAs);
      assert.deepEqual(roleRef, { apiGroup: RBAC, kind, name: role });
      assert.deepEqual(subjects, SUBJECTS);
    };
    const cluster = "ClusterRole";
    assertBound(CLUSTER_BINDING, "metrics", "system:metrics-server", cluster, "system:metrics-server");
    const delegator = "metrics-server:system:auth-delegator";
    assertBound(CLUSTER_BINDING, "metrics-auth-delegator", delegator, cluster, "system:auth-delegator");
    const reader = "extension-apiserver-authentication-reader";
    assertBound(BINDING, "metrics-auth-reader", "metrics-server-auth-reader", "Role", reader);
    assert.equal(find(graph, BINDING).inputs.metadata.namespace, "kube-system");
    assert.equal(find(graph, ACCOUNT).inputs.automountServiceAccountToken, false);
    assert.deepEqual(
      [podOf(graph).serviceAccountName, podOf(graph).automountServiceAccountToken],
      ["metrics-server", false],
    );
  });

  it("must let everybody who may view a namespace see its metrics", async () => {
    const { metadata, rules } = find(await deploy(), ROLE, "metrics-reader").inputs;
    assert.equal(metadata.name, "system:aggregated-metrics-reader");
    assert.deepEqual(metadata.labels, {
      ...LABELS,
      "rbac.authorization.k8s.io/aggregate-to-view": "true",
      "rbac.authorization.k8s.io/aggregate-to-edit": "true",
      "rbac.authorization.k8s.io/aggregate-to-admin": "true",
    });
    assert.deepEqual(rules, [
      { apiGroups: ["metrics.k8s.io"], resources: ["pods", "nodes"], verbs: ["get", "list", "watch"] },
    ]);
  });

  it("must announce its API only while its pods run: else no namespace could be deleted", async () => {
    const graph = await deploy();
    const announced = find(graph, API_SERVICE);
    assert.deepEqual(announced.inputs.metadata, { name: "v1beta1.metrics.k8s.io", labels: LABELS });
    assert.deepEqual(announced.inputs.spec, {
      group: "metrics.k8s.io",
      version: "v1beta1",
      groupPriorityMinimum: 100,
      versionPriority: 100,
      service: { name: "metrics-server", namespace: "kube-system" },
      insecureSkipTLSVerify: true,
    });
    for (const type of [DEPLOYMENT, SERVICE]) assert.equal(waitsFor(graph, announced, find(graph, type)), true, type);
  });

  it("must start with its rights, and outlive nothing but its machines", async () => {
    const graph = await deploy();
    const needed = [
      find(graph, COMPONENT),
      find(graph, ACCOUNT),
      find(graph, "test:index:Pool"),
      find(graph, CLUSTER_BINDING, "metrics"),
      find(graph, CLUSTER_BINDING, "metrics-auth-delegator"),
      find(graph, BINDING),
    ];
    assert.deepEqual(edges(find(graph, DEPLOYMENT)).sort(), needed.map(({ urn }) => urn).sort());
  });

  it("must not be waited for by the provider's fixed 10 s for a Service", async () => {
    const { metadata, spec } = find(await deploy(), SERVICE).inputs;
    assert.deepEqual(metadata, { ...METADATA, annotations: { "pulumi.com/skipAwait": "true" } });
    assert.deepEqual(spec, { selector: LABELS, ports: [{ name: "https", port: 443, targetPort: "https" }] });
  });
});
