import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { METRICS_SERVER_REQUESTS } from "../capacity";
import { allowApiServer, IDENTITY, identity } from "./apiServer";

export interface MetricsServerArgs {
  /** Whether its two pods must be on different machines, or only should. */
  spread: "hard" | "soft";
  /** Machines that the pods are limited to. @default all */
  nodeSelector?: Record<string, string>;
  /** Machines that must outlive the pods on destroy. */
  workers: pulumi.Resource[];
}

/** Source: kubernetes-sigs/metrics-server, manifests/components/release/kustomization.yaml. */
const IMAGE = "registry.k8s.io/metrics-server/metrics-server:v0.8.1";
// Cluster-wide, so that a cluster which has one already refuses a second.
const NAME = "metrics-server";
const NAMESPACE = "kube-system";
const LABELS = { "k8s-app": NAME };
const RBAC = "rbac.authorization.k8s.io";
/** Of the image, which has no other: `nonroot` of distroless. */
const USER = 65532;

/**
 * CPU and memory of pods for the autoscaler, which DOKS has not by itself: the project's manifest for two replicas. Only for
 * DOKS: elsewhere kubelets sign their own certificates (kubeadm, kind, minikube), or the cluster brings one (k3d).
 */
export class MetricsServer extends pulumi.ComponentResource {
  constructor(name: string, args: MetricsServerArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:MetricsServer", name, {}, opts);
    const child = { parent: this };
    const metadata = { name: NAME, namespace: NAMESPACE, labels: LABELS };
    const selector = { matchLabels: LABELS };

    const account = new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, child);
    const bindings = bindRoles(name, account, child);

    const deployment = new k8s.apps.v1.Deployment(
      name,
      {
        metadata,
        spec: {
          replicas: 2,
          strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } },
          selector,
          template: { metadata: { labels: LABELS }, spec: podSpec(args, account.metadata.name) },
        },
      },
      // It ends when it may not read what it needs; and on destroy the machines must wait for the pods.
      { parent: this, dependsOn: [...bindings, ...args.workers] },
    );

    new k8s.policy.v1.PodDisruptionBudget(
      name,
      { metadata, spec: { selector, maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" } },
      child,
    );

    // The API server asks it for others, by way of whatever the cloud puts between them.
    new k8s.networking.v1.NetworkPolicy(
      name,
      {
        metadata,
        spec: {
          podSelector: selector,
          policyTypes: ["Ingress", "Egress"],
          ingress: [{ ports: [{ protocol: "TCP", port: "https" }] }],
        },
      },
      child,
    );
    const client = { namespace: NAMESPACE, labels: LABELS, policy: "cilium", kubelets: true } as const;
    allowApiServer(`${name}-api-server`, client, child);

    const service = new k8s.core.v1.Service(
      name,
      {
        metadata: { ...metadata, annotations: { "pulumi.com/skipAwait": "true" } },
        spec: { selector: LABELS, ports: [{ name: "https", port: 443, targetPort: "https" }] },
      },
      child,
    );

    new k8s.apiregistration.v1.APIService(
      name,
      {
        metadata: { name: "v1beta1.metrics.k8s.io", labels: LABELS },
        spec: {
          group: "metrics.k8s.io",
          version: "v1beta1",
          groupPriorityMinimum: 100,
          versionPriority: 100,
          service: { name: service.metadata.name, namespace: NAMESPACE },
          // The server makes its certificate at each start, and nobody signs it.
          insecureSkipTLSVerify: true,
        },
      },
      // While nobody serves an API that is announced, no namespace can be deleted: announced last, withdrawn first.
      { parent: this, dependsOn: deployment },
    );

    this.registerOutputs();
  }
}

/** What the server may: read what it measures, and let the API server's callers be checked by the API server. */
function bindRoles(name: string, account: k8s.core.v1.ServiceAccount, child: pulumi.CustomResourceOptions) {
  const subjects = [{ kind: "ServiceAccount", name: account.metadata.name, namespace: NAMESPACE }];
  const metadata = (fixedName: string) => ({ name: fixedName, labels: LABELS });
  const role = new k8s.rbac.v1.ClusterRole(
    name,
    {
      metadata: metadata("system:metrics-server"),
      rules: [
        { apiGroups: [""], resources: ["nodes/metrics"], verbs: ["get"] },
        { apiGroups: [""], resources: ["pods", "nodes"], verbs: ["get", "list", "watch"] },
      ],
    },
    child,
  );
  new k8s.rbac.v1.ClusterRole(
    `${name}-reader`,
    {
      metadata: {
        name: "system:aggregated-metrics-reader",
        labels: {
          ...LABELS,
          ...Object.fromEntries(
            ["view", "edit", "admin"].map((role) => [`rbac.authorization.k8s.io/aggregate-to-${role}`, "true"]),
          ),
        },
      },
      rules: [{ apiGroups: ["metrics.k8s.io"], resources: ["pods", "nodes"], verbs: ["get", "list", "watch"] }],
    },
    child,
  );
  return [
    new k8s.rbac.v1.ClusterRoleBinding(
      name,
      {
        metadata: metadata("system:metrics-server"),
        roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: role.metadata.name },
        subjects,
      },
      child,
    ),
    new k8s.rbac.v1.ClusterRoleBinding(
      `${name}-auth-delegator`,
      {
        metadata: metadata("metrics-server:system:auth-delegator"),
        roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: "system:auth-delegator" },
        subjects,
      },
      child,
    ),
    new k8s.rbac.v1.RoleBinding(
      `${name}-auth-reader`,
      {
        metadata: { ...metadata("metrics-server-auth-reader"), namespace: NAMESPACE },
        roleRef: { apiGroup: RBAC, kind: "Role", name: "extension-apiserver-authentication-reader" },
        subjects,
      },
      child,
    ),
  ];
}

function podSpec(args: MetricsServerArgs, serviceAccountName: pulumi.Input<string>): k8s.types.input.core.v1.PodSpec {
  return {
    serviceAccountName,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    priorityClassName: "system-cluster-critical",
    nodeSelector: args.nodeSelector,
    affinity: { podAntiAffinity: apart(args.spread) },
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      seccompProfile: { type: "RuntimeDefault" },
    },
    containers: [
      {
        name: NAME,
        image: IMAGE,
        // The kubelets' certificates are checked: `--kubelet-insecure-tls` is not given.
        args: [
          "--cert-dir=/tmp",
          "--secure-port=10250",
          "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
          "--kubelet-use-node-status-port",
          "--metric-resolution=15s",
        ],
        ports: [{ name: "https", containerPort: 10250 }],
        readinessProbe: {
          httpGet: { path: "/readyz", port: "https", scheme: "HTTPS" },
          initialDelaySeconds: 20,
          periodSeconds: 10,
          failureThreshold: 3,
        },
        livenessProbe: {
          httpGet: { path: "/livez", port: "https", scheme: "HTTPS" },
          periodSeconds: 10,
          failureThreshold: 3,
        },
        // The API server goes on asking it until it has seen that the pod goes.
        lifecycle: { preStop: { sleep: { seconds: 10 } } },
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
        resources: { requests: { ...METRICS_SERVER_REQUESTS }, limits: { memory: METRICS_SERVER_REQUESTS.memory } },
        volumeMounts: [
          { name: "tmp", mountPath: "/tmp" },
          { name: "identity", mountPath: IDENTITY, readOnly: true },
        ],
      },
    ],
    volumes: [{ name: "tmp", emptyDir: {} }, identity("identity")],
  };
}

function apart(spread: MetricsServerArgs["spread"]): k8s.types.input.core.v1.PodAntiAffinity {
  const term = { labelSelector: { matchLabels: LABELS }, topologyKey: "kubernetes.io/hostname" };
  return spread === "hard"
    ? { requiredDuringSchedulingIgnoredDuringExecution: [term] }
    : { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term }] };
}
