import type * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

type Capabilities = k8s.types.input.core.v1.Capabilities;
type SecurityContext = k8s.types.input.core.v1.SecurityContext;
type PodSecurityContext = k8s.types.input.core.v1.PodSecurityContext;
type PodSpec = k8s.types.input.core.v1.PodSpec;
type Container = k8s.types.input.core.v1.Container;

/**
 * The same pod, as Pod Security's level `restricted` and the policies of policy/ want it: not root, no escalation, no
 * capability, a root filesystem that is read only, no token of the API server. Whatever the given one says itself wins.
 * https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
 */
export function hardened(spec: PodSpec): PodSpec {
  return {
    ...spec,
    automountServiceAccountToken: spec.automountServiceAccountToken ?? false,
    // They would be named like settings of its own: of a Service `redis`, REDIS_PORT is a URL.
    enableServiceLinks: spec.enableServiceLinks ?? false,
    securityContext: within<PodSecurityContext>(spec.securityContext, {}, (given) => ({
      runAsNonRoot: true,
      seccompProfile: { type: "RuntimeDefault" },
      ...given,
    })),
    containers: everyContainer(spec.containers),
    ...(spec.initContainers && { initContainers: everyContainer(spec.initContainers) }),
  };
}

const everyContainer = (containers: PodSpec["initContainers"]) =>
  within<pulumi.Input<Container>[]>(containers, [], (all) =>
    all.map((container) => within<Container>(container, { name: "" }, hardenedContainer)),
  );

const hardenedContainer = (container: Container): Container => ({
  ...container,
  securityContext: within<SecurityContext>(container.securityContext, {}, (given) => ({
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    ...given,
    capabilities: within<Capabilities>(given.capabilities, {}, (capabilities) => ({ drop: ["ALL"], ...capabilities })),
  })),
});

/**
 * Keeps pods with these labels on different machines: `hard` where they must be, `soft` where they only should. Nodes of DOKS
 * have no zone label: the machine is the one domain of failure that is known.
 */
export function spreadOverMachines(
  matchLabels: Record<string, string>,
  spread: pulumi.Input<"hard" | "soft">,
): pulumi.Output<k8s.types.input.core.v1.TopologySpreadConstraint[]> {
  const machines = {
    maxSkew: 1,
    topologyKey: "kubernetes.io/hostname",
    labelSelector: { matchLabels },
    // Each version by itself: else the pods that a rollout is about to remove decide where the new ones may go.
    matchLabelKeys: ["pod-template-hash"],
    // A drained machine, which is tainted, is no domain: else its missing pod would keep the others from doubling up.
    nodeTaintsPolicy: "Honor",
  };
  const soft = { ...machines, whenUnsatisfiable: "ScheduleAnyway" };
  // With one machine left, further pods wait: that, not a pile on one machine, makes the pool scale.
  const hard = { ...machines, whenUnsatisfiable: "DoNotSchedule", minDomains: 2 };
  return pulumi.output(spread).apply((wanted) => [wanted === "hard" ? hard : soft]);
}

/** Changes what is there at once; what is an output, later. Its parts stay as they are, so that one unknown hides no other. */
function within<T extends object>(
  value: pulumi.Input<T | undefined>,
  none: T,
  change: (value: T) => T,
): pulumi.Input<T> {
  if (pulumi.Output.isInstance(value) || value instanceof Promise)
    return pulumi.output(value).apply((known) => change((known as T | undefined) ?? none)) as pulumi.Output<T>;
  return change((value as T | undefined) ?? none);
}
