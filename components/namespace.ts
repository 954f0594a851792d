import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

/** Most that the pods of a namespace may request together. */
interface Quota {
  /** Kubernetes quantity of CPU. */
  cpu: string;
  /** Kubernetes quantity of memory. */
  memory: string;
  /** Pods that have not ended. */
  pods: number;
  /** What a container requests that says nothing, as Kubernetes quantities: under a quota each must request something. */
  container: { cpu: string; memory: string };
}

export interface NamespaceArgs {
  /** Its fixed name, by which policies and people address it. */
  name: string;
  labels?: Record<string, string>;
  /** What its pods may do. Another level than the default stands with its reason in policy/exceptions.ts. @default restricted */
  level?: "restricted" | "baseline" | "privileged";
  /** @default no limit */
  quota?: Quota;
  /** Whether it is guarded against deletion, with which the claims in it would go. @default false */
  protect?: boolean;
}

/** The version of the standards that is enforced: a newer cluster must not refuse pods that ran the day before. */
const PINNED = "v1.36";

/** A namespace that runs restricted pods only, which reach nobody and are reached by nobody until a policy says so. */
export class Namespace extends pulumi.ComponentResource {
  readonly name: pulumi.Output<string>;

  constructor(name: string, args: NamespaceArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:Namespace", name, {}, opts);
    const child = { parent: this };

    const namespace = new k8s.core.v1.Namespace(
      name,
      { metadata: { name: args.name, labels: { ...args.labels, ...podSecurity(args) } } },
      // Before this component there was the namespace alone: replaced, it would take all that is in it along.
      { parent: this, protect: args.protect, aliases: [{ parent: opts?.parent ?? pulumi.rootStackResource }] },
    );
    this.name = namespace.metadata.name;

    new k8s.networking.v1.NetworkPolicy(
      `${name}-default-deny`,
      {
        metadata: { name: "default-deny", namespace: this.name },
        spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] },
      },
      child,
    );

    if (args.quota) createQuota(name, this.name, args.quota, child);
    this.registerOutputs();
  }
}

/** What is enforced is pinned; what the newest standards would refuse is warned of and audited. */
function podSecurity({ level = "restricted" }: NamespaceArgs): Record<string, string> {
  const label = (mode: string, version: string) => ({
    [`pod-security.kubernetes.io/${mode}`]: level,
    [`pod-security.kubernetes.io/${mode}-version`]: version,
  });
  return { ...label("enforce", PINNED), ...label("warn", "latest"), ...label("audit", "latest") };
}

function createQuota(
  name: string,
  namespace: pulumi.Output<string>,
  { cpu, memory, pods, container }: Quota,
  child: pulumi.CustomResourceOptions,
) {
  // No default limit: one below what a container requests would refuse the pod.
  new k8s.core.v1.LimitRange(
    name,
    {
      metadata: { name: "container-defaults", namespace },
      spec: { limits: [{ type: "Container", defaultRequest: container }] },
    },
    child,
  );
  new k8s.core.v1.ResourceQuota(
    name,
    {
      metadata: { name: "quota", namespace },
      spec: { hard: { "requests.cpu": cpu, "requests.memory": memory, pods: String(pods) } },
    },
    child,
  );
}

type EgressRule = k8s.types.input.networking.v1.NetworkPolicyEgressRule;

/** Names are resolved by the cluster's DNS, which is outside every namespace of ours. */
export const TO_DNS: EgressRule = {
  to: [
    {
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } },
      podSelector: { matchLabels: { "k8s-app": "kube-dns" } },
    },
    // The address of a cache on each node, where a cluster has one.
    // Source: https://kubernetes.io/docs/tasks/administer-cluster/nodelocaldns/
    { ipBlock: { cidr: "169.254.20.10/32" } },
    // EKS Auto Mode has it on each node and in no pod: policies can name the Service's address alone, which the cluster's
    // range of Services decides. Source: https://github.com/aws/containers-roadmap/issues/2552
    { ipBlock: { cidr: "172.20.0.10/32" } },
  ],
  ports: [
    { protocol: "UDP", port: 53 },
    { protocol: "TCP", port: 53 },
  ],
};
