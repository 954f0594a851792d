import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { Elasticsearch, type ElasticsearchArgs, toElasticsearch } from "../../components/elasticsearch";
import { TO_DNS } from "../../components/namespace";
import { type Captured, capture, edges, find, ofType, unwrap, waitsFor } from "./graph";

const IMAGE = "docker.elastic.co/elasticsearch/elasticsearch:9.5.3";
const LABELS = { "app.kubernetes.io/name": "elasticsearch" };
const STATEFUL_SET = "kubernetes:apps/v1:StatefulSet";
const CLAIM_PATCH = "kubernetes:core/v1:PersistentVolumeClaimPatch";
const ADMISSION = "kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmission";
const DAEMON_SET = "kubernetes:apps/v1:DaemonSet";
const RESTRICTED = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
};

class Workers extends pulumi.CustomResource {
  constructor() {
    super("test:index:Workers", "workers", {});
  }
}

const graphOf = (changes: Partial<ElasticsearchArgs> = {}, outputs?: (component: Elasticsearch) => Promise<void>) =>
  capture(async () => {
    const component = new Elasticsearch("elasticsearch", {
      namespace: "hobnob",
      storageClassName: "hobnob-block-storage",
      replicas: 3,
      memory: "2Gi",
      cpu: "500m",
      diskSize: "20Gi",
      mmap: false,
      spread: "hard",
      apiServer: "cilium",
      clients: [{ "app.kubernetes.io/name": "backend" }],
      workers: [new Workers()],
      ...changes,
    });
    await outputs?.(component);
  });

// biome-ignore lint/suspicious/noExplicitAny: a pod has as many shapes as Kubernetes has kinds
type Spec = any;

const podSpec = (graph: Captured[]): Spec => find(graph, STATEFUL_SET).inputs.spec.template.spec;
const container = (graph: Captured[], name: string): Spec =>
  [...podSpec(graph).initContainers, ...podSpec(graph).containers].find((each: Spec) => each.name === name);
const envOf = (one: Spec) =>
  Object.fromEntries(one.env.map((each: Spec) => [each.name, each.value ?? each.valueFrom.fieldRef.fieldPath]));
const filesOf = (graph: Captured[]) => find(graph, "kubernetes:core/v1:ConfigMap", "elasticsearch-files").inputs;

describe("Elasticsearch", () => {
  let graph: Captured[];

  before(async () => {
    graph = await graphOf();
  });

  it("must consist of exactly these resources, all under the component", () => {
    const resources = graph.filter(({ type }) => type !== "test:index:Workers" && !type.startsWith("pulumi:"));
    assert.deepEqual(resources.map(({ type, name }) => `${type}::${name}`).sort(), [
      "hobnob:platform:Elasticsearch::elasticsearch",
      `${ADMISSION}Policy::elasticsearch-guard`,
      `${ADMISSION}PolicyBinding::elasticsearch-guard`,
      "kubernetes:apps/v1:StatefulSet::elasticsearch",
      "kubernetes:cilium.io/v2:CiliumNetworkPolicy::elasticsearch-api-server",
      "kubernetes:core/v1:ConfigMap::elasticsearch-files",
      ...[0, 1, 2].map((node) => `${CLAIM_PATCH}::elasticsearch-disk-${node}`),
      "kubernetes:core/v1:Service::elasticsearch",
      "kubernetes:core/v1:Service::elasticsearch-discovery",
      "kubernetes:core/v1:ServiceAccount::elasticsearch",
      "kubernetes:networking.k8s.io/v1:NetworkPolicy::elasticsearch",
      "kubernetes:policy/v1:PodDisruptionBudget::elasticsearch",
      "kubernetes:rbac.authorization.k8s.io/v1:Role::elasticsearch-bootstrap",
      "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding::elasticsearch-bootstrap",
    ]);
    const component = find(graph, "hobnob:platform:Elasticsearch");
    for (const { type, parent, inputs } of resources.filter(({ custom }) => custom)) {
      assert.equal(parent, component.urn, type);
      assert.equal(inputs.metadata.namespace, type.startsWith(ADMISSION) ? undefined : "hobnob", type);
      // A claim's labels are the set's to give.
      assert.deepEqual(inputs.metadata.labels, type === CLAIM_PATCH ? undefined : LABELS, type);
    }
  });

  it("must give its address without waiting for anything", async () => {
    await graphOf({}, async ({ host, port }) => {
      assert.deepEqual(await unwrap(host), { value: "elasticsearch.hobnob.svc", secret: false, known: true });
      assert.equal(port, 9200);
      const { allResources } = host as unknown as { allResources(): Promise<Set<pulumi.Resource>> };
      assert.deepEqual(await allResources(), new Set());
    });
  });

  it("must be found by clients on ready nodes only, under the StatefulSet's own service", () => {
    const { inputs } = find(graph, "kubernetes:core/v1:Service", "elasticsearch");
    assert.deepEqual(inputs.metadata, {
      name: "elasticsearch",
      namespace: "hobnob",
      labels: LABELS,
      annotations: { "pulumi.com/skipAwait": "true" },
    });
    assert.deepEqual(inputs.spec, { clusterIP: "None", selector: LABELS, ports: [{ name: "http", port: 9200 }] });
    assert.equal(find(graph, STATEFUL_SET).inputs.spec.serviceName, "elasticsearch");
  });

  it("must let nodes find each other before they are ready", () => {
    const { inputs } = find(graph, "kubernetes:core/v1:Service", "elasticsearch-discovery");
    assert.deepEqual(inputs.metadata.annotations, { "pulumi.com/skipAwait": "true" });
    assert.deepEqual(inputs.spec, {
      clusterIP: "None",
      publishNotReadyAddresses: true,
      selector: LABELS,
      ports: [{ name: "transport", port: 9300 }],
    });
    assert.deepEqual(parse(filesOf(graph).data["elasticsearch.yml"])["discovery.seed_hosts"], [
      inputs.metadata.name as string,
    ]);
  });

  it("must start all nodes at once and restart them one at a time, with time for each", async () => {
    const { inputs, customTimeouts } = find(graph, STATEFUL_SET);
    const { podManagementPolicy, updateStrategy, replicas, selector, template } = inputs.spec;
    assert.equal(inputs.metadata.name, "elasticsearch");
    assert.equal(replicas, 3);
    assert.equal(podManagementPolicy, "Parallel");
    assert.deepEqual(updateStrategy, { type: "RollingUpdate" });
    assert.deepEqual(selector, { matchLabels: LABELS });
    assert.deepEqual(template.metadata, { labels: LABELS });
    assert.deepEqual(customTimeouts, { create: "15m", update: "30m" });
    assert.equal(find(await graphOf({ replicas: 5 }), STATEFUL_SET).customTimeouts.update, "50m");
    assert.deepEqual(find(graph, "kubernetes:policy/v1:PodDisruptionBudget").inputs.spec, {
      maxUnavailable: 1,
      selector: { matchLabels: LABELS },
    });
  });

  it("must give each node a disk that outlives it, and never replace the set for its size, which alone is ignored", () => {
    const { inputs, ignoreChanges } = find(graph, STATEFUL_SET);
    assert.deepEqual(inputs.spec.volumeClaimTemplates, [
      {
        metadata: { name: "data" },
        spec: {
          accessModes: ["ReadWriteOnce"],
          storageClassName: "hobnob-block-storage",
          resources: { requests: { storage: "20Gi" } },
        },
      },
    ]);
    assert.deepEqual(inputs.spec.persistentVolumeClaimRetentionPolicy, { whenDeleted: "Retain", whenScaled: "Retain" });
    assert.deepEqual(ignoreChanges, ["spec.volumeClaimTemplates[0].spec.resources"]);
  });

  it("must grow each node's claim after the set has made it, and leave it when the node goes", () => {
    const patches = ofType(graph, CLAIM_PATCH);
    assert.deepEqual(
      patches.map(({ inputs: { metadata, spec } }) => ({ ...metadata, ...spec })),
      [0, 1, 2].map((node) => ({
        name: `data-elasticsearch-${node}`,
        namespace: "hobnob",
        accessModes: ["ReadWriteOnce"],
        resources: { requests: { storage: "20Gi" } },
      })),
    );
    for (const patch of patches) {
      assert.ok(waitsFor(graph, patch, find(graph, STATEFUL_SET)));
      assert.equal(patch.retainOnDelete, true);
    }
  });

  it("must have the API server guard the number of nodes before the set is touched", () => {
    const guard = find(graph, `${ADMISSION}Policy`);
    const binding = find(graph, `${ADMISSION}PolicyBinding`);
    for (const part of [guard, binding]) assert.ok(waitsFor(graph, find(graph, STATEFUL_SET), part));
    assert.deepEqual(binding.inputs.spec, { policyName: "elasticsearch-guard", validationActions: ["Deny"] });
    assert.equal(guard.inputs.spec.failurePolicy, "Fail");
    assert.deepEqual(guard.inputs.spec.matchConstraints, {
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "hobnob" } },
      resourceRules: [
        {
          apiGroups: ["apps"],
          apiVersions: ["v1"],
          operations: ["UPDATE"],
          resources: ["statefulsets", "statefulsets/scale"],
          resourceNames: ["elasticsearch"],
        },
      ],
    });
  });

  it("must never put two nodes on one machine where there are enough, and may where there are not", async () => {
    const term = { labelSelector: { matchLabels: LABELS }, topologyKey: "kubernetes.io/hostname" };
    assert.deepEqual(podSpec(graph).affinity, {
      podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term] },
    });
    assert.deepEqual(podSpec(await graphOf({ spread: "soft" })).affinity, {
      podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term }] },
    });
  });

  it("must stay on the machines that are meant for it", async () => {
    const nodeSelector = { "hobnob/pool": "workers" };
    const selected = await graphOf({ nodeSelector, mmap: true });
    assert.equal(podSpec(graph).nodeSelector, undefined);
    assert.deepEqual(podSpec(selected).nodeSelector, nodeSelector);
    assert.deepEqual(find(selected, DAEMON_SET).inputs.spec.template.spec.nodeSelector, nodeSelector);
  });

  it("must have settings that are the same for every node and run, and hold no bootstrap list", () => {
    const inputs = filesOf(graph);
    assert.equal(inputs.metadata.name, undefined);
    assert.equal(inputs.immutable, true);
    assert.deepEqual(Object.keys(inputs.data), [
      "configure.sh",
      "elasticsearch.yml",
      "ready.sh",
      "request.sh",
      "stop.sh",
    ]);
    assert.deepEqual(parse(inputs.data["elasticsearch.yml"]), {
      "cluster.name": "elasticsearch",
      "node.name": `\${POD_NAME}`,
      "node.attr.k8s_node_name": `\${NODE_NAME}`,
      "cluster.routing.allocation.awareness.attributes": "k8s_node_name",
      "discovery.seed_hosts": ["elasticsearch-discovery"],
      "network.host": "0.0.0.0",
      "network.publish_host": `\${POD_IP}`,
      "http.shutdown_grace_period": "10s",
      "path.data": `\${DISK}/node`,
      "node.store.allow_mmap": false,
      "xpack.security.enabled": false,
    });
    assert.doesNotMatch(JSON.stringify(find(graph, STATEFUL_SET).inputs), /initial_master_nodes/);
  });

  it("must run the image with heap by its memory limit, and without rights", () => {
    const spec = podSpec(graph);
    const main = container(graph, "elasticsearch");
    assert.equal(spec.containers.length, 1);
    assert.equal(main.image, IMAGE);
    assert.equal(main.command, undefined);
    assert.deepEqual(main.resources, { requests: { cpu: "500m", memory: "2Gi" }, limits: { memory: "2Gi" } });
    assert.deepEqual(envOf(main), {
      POD_NAME: "metadata.name",
      POD_IP: "status.podIP",
      DRAIN_SECONDS: "10",
      NODE_NAME: "spec.nodeName",
      DISK: "/usr/share/elasticsearch/data",
      WHOLE: "green",
    });
    assert.deepEqual(main.ports, [
      { name: "http", containerPort: 9200 },
      { name: "transport", containerPort: 9300 },
    ]);
    assert.deepEqual(spec.securityContext, {
      runAsNonRoot: true,
      runAsUser: 1000,
      runAsGroup: 1000,
      fsGroup: 1000,
      fsGroupChangePolicy: "OnRootMismatch",
      seccompProfile: { type: "RuntimeDefault" },
    });
    for (const { name, securityContext } of [...spec.initContainers, ...spec.containers])
      assert.deepEqual(securityContext, RESTRICTED, name);
    assert.equal(spec.enableServiceLinks, false);
  });

  it("must be able to write only where it has to", () => {
    const writable = (name: string) =>
      Object.fromEntries(
        container(graph, name)
          .volumeMounts.filter((mount: Spec) => !mount.readOnly)
          .map((mount: Spec) => [mount.mountPath, mount.name]),
      );
    assert.deepEqual(writable("elasticsearch"), {
      "/usr/share/elasticsearch/data": "data",
      "/usr/share/elasticsearch/config": "config",
      "/usr/share/elasticsearch/logs": "logs",
      "/tmp": "tmp",
    });
    assert.deepEqual(writable("configure"), { "/usr/share/elasticsearch/data": "data", "/config": "config" });
  });

  it("must be ready by its script, must not be restarted for being slow, and must leave after its clients", () => {
    const main = container(graph, "elasticsearch");
    assert.deepEqual(main.readinessProbe, {
      exec: { command: ["/bin/bash", "/usr/local/share/elasticsearch/ready.sh"] },
      periodSeconds: 5,
      timeoutSeconds: 10,
      failureThreshold: 3,
    });
    assert.equal(main.livenessProbe, undefined);
    assert.equal(main.startupProbe, undefined);
    assert.deepEqual(main.lifecycle.preStop.exec.command, ["/bin/bash", "/usr/local/share/elasticsearch/stop.sh"]);
    assert.equal(podSpec(graph).terminationGracePeriodSeconds, 120);
  });

  it("must not wait for a replica that a single node can never place", async () => {
    assert.equal(envOf(container(await graphOf({ replicas: 1 }), "elasticsearch")).WHOLE, "yellow");
  });

  it("must decide who forms the cluster in an init container, which alone has an identity", () => {
    const configure = container(graph, "configure");
    assert.equal(configure.image, IMAGE);
    assert.deepEqual(configure.command, ["/bin/bash", "/usr/local/share/elasticsearch/configure.sh"]);
    assert.deepEqual(envOf(configure), {
      POD_NAME: "metadata.name",
      NAMESPACE: "metadata.namespace",
      DISK: "/usr/share/elasticsearch/data",
      DEFAULTS: "/usr/share/elasticsearch/config",
      CONFIG: "/config",
      SCRIPTS: "/usr/local/share/elasticsearch",
      IDENTITY: "/var/run/secrets/kubernetes.io/serviceaccount",
      KUBERNETES_API: "https://kubernetes.default.svc",
    });
    const { initContainers, containers, volumes, automountServiceAccountToken } = podSpec(graph);
    assert.equal(automountServiceAccountToken, false);
    assert.equal(find(graph, "kubernetes:core/v1:ServiceAccount").inputs.automountServiceAccountToken, false);
    assert.deepEqual(volumes.find(({ name }: Spec) => name === "identity").projected.sources, [
      { serviceAccountToken: { path: "token", expirationSeconds: 600 } },
      { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
    ]);
    const holders = [...initContainers, ...containers].filter(({ volumeMounts }: Spec) =>
      volumeMounts.some(({ name }: Spec) => name === "identity"),
    );
    assert.deepEqual(
      holders.map(({ name }) => name),
      ["configure"],
    );
  });

  it("must be allowed to create ConfigMaps and to read one, nothing else", () => {
    assert.deepEqual(find(graph, "kubernetes:rbac.authorization.k8s.io/v1:Role").inputs.rules, [
      { apiGroups: [""], resources: ["configmaps"], verbs: ["create"] },
      { apiGroups: [""], resources: ["configmaps"], resourceNames: ["elasticsearch-bootstrap"], verbs: ["get"] },
    ]);
    const binding = find(graph, "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding").inputs;
    assert.deepEqual(binding.roleRef, {
      apiGroup: "rbac.authorization.k8s.io",
      kind: "Role",
      name: "elasticsearch-bootstrap",
    });
    assert.deepEqual(binding.subjects, [{ kind: "ServiceAccount", name: "elasticsearch", namespace: "hobnob" }]);
    assert.equal(podSpec(graph).serviceAccountName, "elasticsearch");
  });

  it("must be reached by its clients on 9200, by its own nodes on 9300, and by nobody else", async () => {
    const nodes = { from: [{ podSelector: { matchLabels: LABELS } }], ports: [{ protocol: "TCP", port: 9300 }] };
    const policy = (one: Captured[]) => find(one, "kubernetes:networking.k8s.io/v1:NetworkPolicy").inputs.spec;
    assert.deepEqual(policy(graph), {
      podSelector: { matchLabels: LABELS },
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        nodes,
        {
          from: [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "backend" } } }],
          ports: [{ protocol: "TCP", port: 9200 }],
        },
      ],
      egress: [{ to: nodes.from, ports: nodes.ports }, TO_DNS],
    });
    const toStore = async (endpoint: string) =>
      policy(
        await graphOf({ snapshots: { endpoint, region: "ams3", pathStyle: false, secretName: "keys" } }),
      ).egress.at(-1);
    const to = [{ ipBlock: { cidr: "0.0.0.0/0" } }, { ipBlock: { cidr: "::/0" } }];
    assert.deepEqual(await toStore("https://s3.test"), { to, ports: [{ protocol: "TCP", port: 443 }] });
    assert.deepEqual(await toStore("http://s3.test:9000"), { to, ports: [{ protocol: "TCP", port: 9000 }] });
    const guests = policy(await graphOf({ clients: [], clientNamespaces: ["shop"] })).ingress;
    const namespaceSelector = { matchLabels: { "kubernetes.io/metadata.name": "shop" } };
    const podSelector = { matchLabels: { "hobnob/elasticsearch-client": "true" } };
    assert.deepEqual(guests, [
      nodes,
      { from: [{ namespaceSelector, podSelector }], ports: [{ protocol: "TCP", port: 9200 }] },
    ]);
    const egress = toElasticsearch("hobnob");
    assert.deepEqual(
      [egress.to, egress.ports],
      [
        [
          {
            namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "hobnob" } },
            podSelector: { matchLabels: { "app.kubernetes.io/name": "elasticsearch" } },
          },
        ],
        [{ protocol: "TCP", port: 9200 }],
      ],
    );
    assert.deepEqual(policy(await graphOf({ clients: [] })).ingress, [nodes]);
  });

  it("must leave the machines alone without mmap, and set max_map_count on them with it", async () => {
    assert.deepEqual(ofType(graph, DAEMON_SET), []);
    assert.deepEqual(
      podSpec(graph).initContainers.map(({ name }: Spec) => name),
      ["configure"],
    );

    const mapped = await graphOf({ mmap: true });
    assert.equal(parse(filesOf(mapped).data["elasticsearch.yml"])["node.store.allow_mmap"], true);
    const namespace = find(mapped, "kubernetes:core/v1:Namespace").inputs.metadata;
    assert.equal(namespace.name, "elasticsearch-host-settings");
    assert.equal(namespace.labels["pod-security.kubernetes.io/enforce"], "privileged");
    const { metadata, spec } = find(mapped, DAEMON_SET).inputs;
    assert.equal(metadata.namespace, "elasticsearch-host-settings");
    const { initContainers, containers, automountServiceAccountToken } = spec.template.spec;
    assert.equal(automountServiceAccountToken, false);
    assert.deepEqual(
      initContainers.map(({ image, command, securityContext }: Spec) => ({ image, command, securityContext })),
      [
        {
          image: IMAGE,
          command: [
            "/bin/bash",
            "-c",
            'file=/proc/sys/vm/max_map_count; [ "$(<$file)" -ge 262144 ] || echo 262144 >$file',
          ],
          securityContext: { privileged: true, runAsUser: 0, readOnlyRootFilesystem: true },
        },
      ],
    );
    assert.deepEqual(
      containers.map(({ securityContext }: Spec) => securityContext),
      [{ ...RESTRICTED, runAsNonRoot: true, runAsUser: 1000 }],
    );

    const [wait, configure] = podSpec(mapped).initContainers;
    assert.equal(configure.name, "configure");
    assert.equal(wait.name, "wait-for-host-settings");
    assert.deepEqual(wait.securityContext, RESTRICTED);
    assert.equal(
      wait.command.at(-1),
      'until [ "$(</proc/sys/vm/max_map_count)" -ge 262144 ]; do echo "waits for vm.max_map_count=262144 on this machine"; sleep 2; done',
    );
  });

  it("must wait for its machines and for what its inputs come from, nothing else", async () => {
    const mapped = await graphOf({ mmap: true });
    const waits = (type: string, name?: string) =>
      edges(find(mapped, type, name))
        .map((urn) => urn.split("::").slice(2).join("::"))
        .map((path) => path.split("$").at(-1))
        .sort();
    const component = "hobnob:platform:Elasticsearch::elasticsearch";
    assert.deepEqual(waits(STATEFUL_SET), [
      component,
      `${ADMISSION}Policy::elasticsearch-guard`,
      `${ADMISSION}PolicyBinding::elasticsearch-guard`,
      "kubernetes:core/v1:ConfigMap::elasticsearch-files",
      "kubernetes:core/v1:ServiceAccount::elasticsearch",
      "test:index:Workers::workers",
    ]);
    assert.deepEqual(waits(DAEMON_SET), [
      component,
      "kubernetes:core/v1:Namespace::elasticsearch-host-settings",
      "kubernetes:core/v1:ServiceAccount::elasticsearch-host-settings",
      "test:index:Workers::workers",
    ]);
    assert.deepEqual(waits("kubernetes:core/v1:Service", "elasticsearch"), [component]);
  });
});
