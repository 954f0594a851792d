import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { stringify } from "yaml";
import { checkArgs } from "../config";
import { type ApiServerPolicy, allowApiServer, IDENTITY, identity } from "./apiServer";
import { ElasticsearchSecurity, securitySettings } from "./elasticsearchSecurity";
import { Namespace, TO_DNS } from "./namespace";

export interface ElasticsearchArgs {
  namespace: pulumi.Input<string>;
  /** The namespace's name for what needs no more of it, and so need not wait until it is there. @default namespace */
  namespaceName?: string;
  /**
   * Class of each node's disk. It must allow expansion for `diskSize` to grow later. Another one replaces the set, which
   * stops every node, and holds only for disks made after that.
   */
  storageClassName: pulumi.Input<string>;
  /** Nodes of the one cluster: 1, or 3 and more, since of two each would need the other to elect a master. */
  replicas: number;
  /** Memory of each node, requested and limited, as a Kubernetes quantity; Elasticsearch makes somewhat less than half of it its heap. */
  memory: string;
  /** CPU requested by each node, as a Kubernetes quantity; not limited. */
  cpu: string;
  /** Size of each node's disk, as a Kubernetes quantity. A larger one grows the disks there are; a smaller one is refused. */
  diskSize: string;
  /** Memory-mapped index files, for which a privileged DaemonSet sets `vm.max_map_count` on the nodes. */
  mmap: boolean;
  /** TLS between the nodes and to their clients, and a user for each client. Switched later, it stops the whole cluster. @default false */
  security?: boolean;
  /** Generations of the clients' passwords: the first is given to them, a second is accepted besides it. @default [1] */
  passwordGenerations?: number[];
  /** Whether two nodes may share a machine: `hard` never, `soft` where there is no other. */
  spread: "hard" | "soft";
  /** Machines that the nodes, and the DaemonSet, are limited to. @default all */
  nodeSelector?: Record<string, string>;
  /** Labels of the pods in the namespace that may reach port 9200; nobody else may. */
  clients: Record<string, string>[];
  /** Other namespaces, whose pods with the labels `ELASTICSEARCH_CLIENT` may reach it too. @default none */
  clientNamespaces?: string[];
  /** How a policy names the API server, which the first node asks once whether it may form the cluster. */
  apiServer: ApiServerPolicy;
  /** Where snapshots go. @default none can be taken */
  snapshots?: SnapshotStore;
  /** Machines that must outlive the nodes on destroy. */
  workers: pulumi.Resource[];
  /** Whether the set that owns the disks is guarded against deletion and replacement. @default false */
  protect?: boolean;
}

/** An S3-compatible store. https://www.elastic.co/docs/reference/elasticsearch/configuration-reference/s3-repository-settings */
export interface SnapshotStore {
  /** URL of the service. */
  endpoint: string;
  /** What requests are signed for. */
  region: string;
  /** The bucket is in the path, not in the host name. */
  pathStyle: boolean;
  /** Secret with the key pair, under `access-key` and `secret-key`. */
  secretName: pulumi.Input<string>;
}

/**
 * Source: https://www.docker.elastic.co/r/elasticsearch. The same version's jars, from Maven Central, run in
 * test/local/elasticsearch.test.ts.
 */
export const ELASTICSEARCH_IMAGE = "docker.elastic.co/elasticsearch/elasticsearch:9.5.3";

/** On the pods of other stacks that may reach Elasticsearch, in a namespace that the platform's configuration names. */
export const ELASTICSEARCH_CLIENT = { "hobnob/elasticsearch-client": "true" };

export const ELASTICSEARCH_LABELS = { "app.kubernetes.io/name": "elasticsearch" };
const NAME = "elasticsearch";
const DISCOVERY = "elasticsearch-discovery";
const BOOTSTRAP = "elasticsearch-bootstrap";
const GUARD = "elasticsearch-guard";
const HTTP = 9200;
const TRANSPORT = 9300;

/** User of the image, in its Dockerfile. */
const USER = 1000;
/** What Elasticsearch's bootstrap check asks for: https://www.elastic.co/docs/deploy-manage/deploy/self-managed/bootstrap-checks */
const MAX_MAP_COUNT = 262144;

const DISK = "/usr/share/elasticsearch/data";
const CONFIG = "/usr/share/elasticsearch/config";
const SNAPSHOT_KEYS = "/var/run/secrets/snapshots";
const SCRIPTS = "/usr/local/share/elasticsearch";
/** Folder of the configuration with the files of `ElasticsearchSecurity`; outside it Elasticsearch may read none. */
const SECURITY = "security";

/** One Elasticsearch cluster that forms once, keeps its disks, and restarts one node at a time. */
export class Elasticsearch extends pulumi.ComponentResource {
  /** Name in the cluster's DNS. */
  readonly host: pulumi.Output<string>;
  readonly port = HTTP;
  readonly scheme: "http" | "https";
  /** What clients know the nodes by and are known by; absent while `security` is off. */
  readonly security?: ElasticsearchSecurity;

  readonly #child: pulumi.ComponentResourceOptions;

  constructor(name: string, args: ElasticsearchArgs, { provider, ...opts }: pulumi.ComponentResourceOptions = {}) {
    checkArgs(["elasticsearch"], { ...args, snapshots: undefined });
    // A component that is given a provider waits for it, and keys and passwords would wait for the cluster.
    super("hobnob:platform:Elasticsearch", name, {}, opts);
    const { namespace } = args;
    const child = { parent: this, provider };
    this.#child = child;
    const metadata = (fixedName: string) => ({ name: fixedName, namespace, labels: ELASTICSEARCH_LABELS });
    const skipAwait = { annotations: { "pulumi.com/skipAwait": "true" } };

    // The set waits for it, and it is two objects long: asked for first, it holds nothing up.
    const guard = this.createGuard(name, args);
    this.scheme = args.security ? "https" : "http";
    if (args.security) {
      const { passwordGenerations = [1] } = args;
      this.security = new ElasticsearchSecurity(
        `${name}-security`,
        { namespace, labels: ELASTICSEARCH_LABELS, serviceName: NAME, passwordGenerations },
        child,
      );
    }

    // The clients' address, and each node's own: elasticsearch-0.elasticsearch. Ready nodes only.
    new k8s.core.v1.Service(
      name,
      {
        metadata: { ...metadata(NAME), ...skipAwait },
        spec: { clusterIP: "None", selector: ELASTICSEARCH_LABELS, ports: [{ name: "http", port: HTTP }] },
      },
      child,
    );

    // Nodes must find each other before any is ready.
    new k8s.core.v1.Service(
      `${name}-discovery`,
      {
        metadata: { ...metadata(DISCOVERY), ...skipAwait },
        spec: {
          clusterIP: "None",
          publishNotReadyAddresses: true,
          selector: ELASTICSEARCH_LABELS,
          ports: [{ name: "transport", port: TRANSPORT }],
        },
      },
      child,
    );

    // Named by its content, so that changed settings roll the nodes.
    const files = new k8s.core.v1.ConfigMap(
      `${name}-files`,
      {
        metadata: { namespace, labels: ELASTICSEARCH_LABELS },
        immutable: true,
        data: {
          "elasticsearch.yml": stringify(settings(args)),
          "configure.sh": script("configure.sh"),
          "ready.sh": script("ready.sh"),
          "request.sh": script("request.sh"),
          "stop.sh": script("stop.sh"),
        },
      },
      child,
    );

    // What the first node needs to claim that it forms the cluster; no more.
    const account = new k8s.core.v1.ServiceAccount(
      name,
      { metadata: metadata(NAME), automountServiceAccountToken: false },
      child,
    );
    const role = new k8s.rbac.v1.Role(
      `${name}-bootstrap`,
      {
        metadata: metadata(BOOTSTRAP),
        rules: [
          { apiGroups: [""], resources: ["configmaps"], verbs: ["create"] },
          { apiGroups: [""], resources: ["configmaps"], resourceNames: [BOOTSTRAP], verbs: ["get"] },
        ],
      },
      child,
    );
    new k8s.rbac.v1.RoleBinding(
      `${name}-bootstrap`,
      {
        metadata: metadata(BOOTSTRAP),
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: role.metadata.name },
        subjects: [{ kind: "ServiceAccount", name: account.metadata.name, namespace }],
      },
      child,
    );

    // Where Elasticsearch has no passwords, this alone says who may speak to it.
    new k8s.networking.v1.NetworkPolicy(
      name,
      {
        metadata: metadata(NAME),
        spec: {
          podSelector: { matchLabels: ELASTICSEARCH_LABELS },
          policyTypes: ["Ingress", "Egress"],
          ingress: allowed(args),
          egress: [TO_NODES, TO_DNS, ...(args.snapshots ? [toStore(args.snapshots)] : [])],
        },
      },
      child,
    );
    allowApiServer(`${name}-api-server`, { namespace, labels: ELASTICSEARCH_LABELS, policy: args.apiServer }, child);

    // Drains and upgrades take one node at a time.
    new k8s.policy.v1.PodDisruptionBudget(
      name,
      { metadata: metadata(NAME), spec: { maxUnavailable: 1, selector: { matchLabels: ELASTICSEARCH_LABELS } } },
      child,
    );

    const statefulSet = new k8s.apps.v1.StatefulSet(
      name,
      {
        metadata: metadata(NAME),
        spec: {
          serviceName: NAME,
          replicas: args.replicas,
          podManagementPolicy: "Parallel",
          updateStrategy: { type: "RollingUpdate" },
          persistentVolumeClaimRetentionPolicy: { whenDeleted: "Retain", whenScaled: "Retain" },
          selector: { matchLabels: ELASTICSEARCH_LABELS },
          template: {
            metadata: { labels: ELASTICSEARCH_LABELS },
            spec: podSpec(args, {
              account: account.metadata.name,
              files: files.metadata.name,
              security: this.security?.nodesSecretName,
            }),
          },
          volumeClaimTemplates: [
            {
              metadata: { name: "data" },
              spec: {
                accessModes: ["ReadWriteOnce"],
                storageClassName: args.storageClassName,
                resources: { requests: { storage: args.diskSize } },
              },
            },
          ],
        },
      },
      {
        ...child,
        protect: args.protect,
        // Without the guard an update could lower the nodes.
        dependsOn: [...guard, ...args.workers],
        // A claim template can't change: the provider would replace the set, and so stop every node. The claims grow below.
        ignoreChanges: ["spec.volumeClaimTemplates[0].spec.resources"],
        // On an update one node after the other, each until the cluster is green again.
        customTimeouts: { create: "15m", update: `${10 * args.replicas}m` },
      },
    );

    // The claims are the set's. Each patch is a whole claim, so that a preview that adds nodes can try it before they are.
    for (let node = 0; node < args.replicas; node++) {
      new k8s.core.v1.PersistentVolumeClaimPatch(
        `${name}-disk-${node}`,
        {
          metadata: { name: `data-${NAME}-${node}`, namespace },
          spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: args.diskSize } } },
        },
        // To let go of the size would leave a claim without one, which the API server refuses.
        { ...child, dependsOn: statefulSet, retainOnDelete: true },
      );
    }

    if (args.mmap) this.createHostSettings(`${name}-host-settings`, args);
    this.host = pulumi.interpolate`${NAME}.${namespace}.svc`;
    this.registerOutputs();
  }

  /**
   * Whoever lowers the number of nodes stops them with the shards and votes that they hold: the API server refuses it, to
   * an update and already to its preview, unless the scale-down command has said on the set that this number is safe.
   */
  private createGuard(name: string, { namespace, namespaceName }: ElasticsearchArgs): pulumi.Resource[] {
    const policy = new k8s.admissionregistration.v1.ValidatingAdmissionPolicy(
      `${name}-guard`,
      {
        metadata: { name: GUARD, labels: ELASTICSEARCH_LABELS },
        spec: {
          failurePolicy: "Fail",
          matchConstraints: {
            namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespaceName ?? namespace } },
            resourceRules: [
              {
                apiGroups: ["apps"],
                apiVersions: ["v1"],
                operations: ["UPDATE"],
                resources: ["statefulsets", "statefulsets/scale"],
                resourceNames: [NAME],
              },
            ],
          },
          validations: [{ expression: keepsNodes, messageExpression: whyKeepNodes(pulumi.getStack()) }],
        },
      },
      this.#child,
    );
    // Bound by its fixed name: the API server takes the two in either order.
    const binding = new k8s.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
      `${name}-guard`,
      {
        metadata: { name: GUARD, labels: ELASTICSEARCH_LABELS },
        spec: { policyName: GUARD, validationActions: ["Deny"] },
      },
      this.#child,
    );
    return [policy, binding];
  }

  /** `vm.max_map_count` belongs to the machine: a pod can set it only as root of the machine, so that one does nothing else. */
  private createHostSettings(name: string, { nodeSelector, workers }: ElasticsearchArgs) {
    const labels = { "app.kubernetes.io/name": "elasticsearch-host-settings" };
    const namespace = new Namespace(
      name,
      { name: "elasticsearch-host-settings", labels, level: "privileged" },
      this.#child,
    );
    const account = new k8s.core.v1.ServiceAccount(
      name,
      {
        metadata: { name: "elasticsearch-host-settings", namespace: namespace.name, labels },
        automountServiceAccountToken: false,
      },
      this.#child,
    );
    const small = { requests: { cpu: "1m", memory: "32Mi" }, limits: { memory: "32Mi" } };
    new k8s.apps.v1.DaemonSet(
      name,
      {
        metadata: { name: "elasticsearch-host-settings", namespace: namespace.name, labels },
        spec: {
          selector: { matchLabels: labels },
          updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "100%" } },
          template: {
            metadata: { labels },
            spec: {
              serviceAccountName: account.metadata.name,
              automountServiceAccountToken: false,
              enableServiceLinks: false,
              nodeSelector,
              terminationGracePeriodSeconds: 1,
              securityContext: { seccompProfile: { type: "RuntimeDefault" } },
              initContainers: [
                {
                  name: "max-map-count",
                  // Elasticsearch's own image, since these machines pull it anyway.
                  image: ELASTICSEARCH_IMAGE,
                  command: ["/bin/bash", "-c", raiseMaxMapCount],
                  securityContext: { privileged: true, runAsUser: 0, readOnlyRootFilesystem: true },
                  resources: small,
                },
              ],
              containers: [
                {
                  name: "idle",
                  image: ELASTICSEARCH_IMAGE,
                  command: ["/bin/bash", "-c", "trap 'exit 0' TERM; sleep infinity & wait"],
                  securityContext: { ...RESTRICTED, runAsNonRoot: true, runAsUser: USER },
                  resources: small,
                },
              ],
            },
          },
        },
      },
      { ...this.#child, dependsOn: workers },
    );
  }
}

/** Set on the StatefulSet by the scale-down command: the number of nodes to which it may go down. */
export const MAY_SHRINK_TO = "elasticsearch.hobnob/may-shrink-to";

const keepsNodes =
  "object.spec.replicas >= oldObject.spec.replicas || (has(oldObject.metadata.annotations) && " +
  `oldObject.metadata.annotations[?"${MAY_SHRINK_TO}"].orValue("") == string(object.spec.replicas))`;

const whyKeepNodes = (stack: string) =>
  '"elasticsearch.replicas would go from " + string(oldObject.spec.replicas) + " to " + string(object.spec.replicas) + ' +
  '", which stops nodes at once, with the shards and votes that they hold. This moves them first: ' +
  `npm run scale-down -- ${stack} " + string(object.spec.replicas)`;

const raiseMaxMapCount = `file=/proc/sys/vm/max_map_count; [ "$(<$file)" -ge ${MAX_MAP_COUNT} ] || echo ${MAX_MAP_COUNT} >$file`;

const awaitMaxMapCount = `until [ "$(</proc/sys/vm/max_map_count)" -ge ${MAX_MAP_COUNT} ]; do echo "waits for vm.max_map_count=${MAX_MAP_COUNT} on this machine"; sleep 2; done`;

const RESTRICTED: k8s.types.input.core.v1.SecurityContext = {
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
};

const script = (file: string): string => readFileSync(join(__dirname, "elasticsearch", file), "utf8");

/** The same for every node and every run: what differs comes from the pod's environment. */
function settings({ mmap, security, snapshots }: ElasticsearchArgs): Record<string, unknown> {
  return {
    "cluster.name": NAME,
    "node.name": `\${POD_NAME}`,
    // Where nodes share a machine, a shard's copies do not.
    "node.attr.k8s_node_name": `\${NODE_NAME}`,
    "cluster.routing.allocation.awareness.attributes": "k8s_node_name",
    "discovery.seed_hosts": [DISCOVERY],
    "network.host": "0.0.0.0",
    "network.publish_host": `\${POD_IP}`,
    // On SIGTERM requests under way are answered first; the default is to cut them off.
    "http.shutdown_grace_period": "10s",
    "path.data": `\${DISK}/node`,
    "node.store.allow_mmap": mmap,
    ...(security ? securitySettings(SECURITY) : { "xpack.security.enabled": false }),
    ...(snapshots && {
      "s3.client.default.endpoint": snapshots.endpoint,
      "s3.client.default.region": snapshots.region,
      "s3.client.default.path_style_access": snapshots.pathStyle,
    }),
  };
}

function podSpec(
  args: ElasticsearchArgs,
  names: { account: pulumi.Input<string>; files: pulumi.Input<string>; security?: pulumi.Input<string> },
): k8s.types.input.core.v1.PodSpec {
  const disk = { name: "data", mountPath: DISK };
  const scripts = { name: "files", mountPath: SCRIPTS, readOnly: true };
  // Only `configure` sees the key pair as it is.
  const keys = args.snapshots && {
    volume: { name: "snapshot-keys", secret: { secretName: args.snapshots.secretName, defaultMode: 0o440 } },
    mount: { name: "snapshot-keys", mountPath: SNAPSHOT_KEYS, readOnly: true },
    env: { name: "SNAPSHOT_KEYS", value: SNAPSHOT_KEYS },
  };
  const tiny = { requests: { cpu: "50m", memory: "64Mi" }, limits: { memory: "64Mi" } };
  return {
    serviceAccountName: names.account,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    nodeSelector: args.nodeSelector,
    affinity: { podAntiAffinity: antiAffinity(args.spread) },
    terminationGracePeriodSeconds: 120,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      fsGroupChangePolicy: "OnRootMismatch",
      seccompProfile: { type: "RuntimeDefault" },
    },
    initContainers: [
      ...(args.mmap
        ? [
            {
              name: "wait-for-host-settings",
              image: ELASTICSEARCH_IMAGE,
              command: ["/bin/bash", "-c", awaitMaxMapCount],
              securityContext: RESTRICTED,
              resources: tiny,
            },
          ]
        : []),
      {
        name: "configure",
        image: ELASTICSEARCH_IMAGE,
        command: ["/bin/bash", `${SCRIPTS}/configure.sh`],
        env: [
          field("POD_NAME", "metadata.name"),
          field("NAMESPACE", "metadata.namespace"),
          { name: "DISK", value: DISK },
          { name: "DEFAULTS", value: CONFIG },
          { name: "CONFIG", value: "/config" },
          { name: "SCRIPTS", value: SCRIPTS },
          { name: "IDENTITY", value: IDENTITY },
          { name: "KUBERNETES_API", value: "https://kubernetes.default.svc" },
          ...(names.security === undefined ? [] : [{ name: "SECURITY", value: SECURITY }]),
          ...(keys ? [keys.env] : []),
        ],
        volumeMounts: [
          disk,
          scripts,
          { name: "config", mountPath: "/config" },
          { name: "identity", mountPath: IDENTITY, readOnly: true },
          ...(keys ? [keys.mount, { name: "tmp", mountPath: "/tmp" }] : []),
        ],
        securityContext: RESTRICTED,
        // The keystore's tool is a Java program.
        resources: keys ? { requests: tiny.requests, limits: { memory: "256Mi" } } : tiny,
      },
    ],
    containers: [
      {
        name: NAME,
        image: ELASTICSEARCH_IMAGE,
        env: [
          field("POD_NAME", "metadata.name"),
          field("POD_IP", "status.podIP"),
          field("NODE_NAME", "spec.nodeName"),
          { name: "DISK", value: DISK },
          // An index has a replica by default, which a single node can never place.
          { name: "WHOLE", value: args.replicas > 1 ? "green" : "yellow" },
          ...(names.security === undefined ? [] : [{ name: "SECURITY", value: `${CONFIG}/${SECURITY}` }]),
          { name: "DRAIN_SECONDS", value: "10" },
        ],
        ports: [
          { name: "http", containerPort: HTTP },
          { name: "transport", containerPort: TRANSPORT },
        ],
        // No liveness probe: a node that is slow is busy or recovering, and a restart would add to its work.
        readinessProbe: {
          exec: { command: ["/bin/bash", `${SCRIPTS}/ready.sh`] },
          periodSeconds: 5,
          timeoutSeconds: 10,
          failureThreshold: 3,
        },
        lifecycle: { preStop: { exec: { command: ["/bin/bash", `${SCRIPTS}/stop.sh`] } } },
        securityContext: RESTRICTED,
        resources: { requests: { cpu: args.cpu, memory: args.memory }, limits: { memory: args.memory } },
        volumeMounts: [
          disk,
          scripts,
          { name: "config", mountPath: CONFIG },
          ...(names.security === undefined
            ? []
            : [{ name: SECURITY, mountPath: `${CONFIG}/${SECURITY}`, readOnly: true }]),
          { name: "logs", mountPath: "/usr/share/elasticsearch/logs" },
          { name: "tmp", mountPath: "/tmp" },
        ],
      },
    ],
    volumes: [
      { name: "files", configMap: { name: names.files } },
      { name: "config", emptyDir: {} },
      { name: "logs", emptyDir: {} },
      { name: "tmp", emptyDir: {} },
      ...(names.security === undefined
        ? []
        : [{ name: SECURITY, secret: { secretName: names.security, defaultMode: 0o440 } }]),
      ...(keys ? [keys.volume] : []),
      // Only `configure` mounts it: Elasticsearch itself has no identity in the cluster.
      identity("identity", 600),
    ],
  };
}

/** A store of the cloud has no address of its own. */
const toStore = ({ endpoint }: SnapshotStore): k8s.types.input.networking.v1.NetworkPolicyEgressRule => ({
  to: [{ ipBlock: { cidr: "0.0.0.0/0" } }, { ipBlock: { cidr: "::/0" } }],
  ports: [{ protocol: "TCP", port: Number(new URL(endpoint).port) || (endpoint.startsWith("http:") ? 80 : 443) }],
});

const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });

function antiAffinity(spread: ElasticsearchArgs["spread"]): k8s.types.input.core.v1.PodAntiAffinity {
  const term = { labelSelector: { matchLabels: ELASTICSEARCH_LABELS }, topologyKey: "kubernetes.io/hostname" };
  return spread === "hard"
    ? { requiredDuringSchedulingIgnoredDuringExecution: [term] }
    : { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term }] };
}

/** Lets pods of another stack reach Elasticsearch, if the platform lets them in; for a Service's `to`. */
export const toElasticsearch = (
  namespace: pulumi.Input<string>,
): k8s.types.input.networking.v1.NetworkPolicyEgressRule => ({
  to: [
    {
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
      podSelector: { matchLabels: ELASTICSEARCH_LABELS },
    },
  ],
  ports: [{ protocol: "TCP", port: HTTP }],
});

const TO_NODES: k8s.types.input.networking.v1.NetworkPolicyEgressRule = {
  to: [{ podSelector: { matchLabels: ELASTICSEARCH_LABELS } }],
  ports: [{ protocol: "TCP", port: TRANSPORT }],
};

function allowed({ clients, clientNamespaces = [] }: ElasticsearchArgs) {
  const from = (labels: Record<string, string>[]) => labels.map((matchLabels) => ({ podSelector: { matchLabels } }));
  const nodes = { from: from([ELASTICSEARCH_LABELS]), ports: [{ protocol: "TCP", port: TRANSPORT }] };
  const guests = clientNamespaces.map((namespace) => ({
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
    podSelector: { matchLabels: ELASTICSEARCH_CLIENT },
  }));
  const all = [...from(clients), ...guests];
  // A rule with an empty list of sources would let everybody in.
  return all.length > 0 ? [nodes, { from: all, ports: [{ protocol: "TCP", port: HTTP }] }] : [nodes];
}
