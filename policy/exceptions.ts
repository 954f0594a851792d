/** A finding that stays, for a reason. Each part is matched exactly, so that it excepts that and nothing else. */
export interface Exception {
  /** Name of the rule. */
  rule: string;
  /** `type::name` of the resource, as the violation names it. */
  resource: string;
  /** What the violation says was found. */
  found: string;
  reason: string;
  /** Only some settings of a stack need it: where the resource has nothing to except, nobody is told. */
  bySettings?: true;
}

const HOST_PORTS =
  "With ingress.expose HostPort the controller takes port 80 of its machine, and the level baseline allows no host port.";
const HOST_SETTINGS =
  "vm.max_map_count belongs to the machine: only a privileged container can set it, and the level baseline allows none.";

/** A stack without the resource doesn't need its exception; a stack in which the resource has mended says so. */
export const exceptions: Exception[] = [
  {
    rule: "liveness-probe",
    resource: "kubernetes:apps/v1:StatefulSet::elasticsearch",
    found: "container elasticsearch without livenessProbe",
    reason:
      "A node that does not answer is mostly busy or recovering, and a restart adds to that work; a crash ends the process.",
  },
  {
    rule: "liveness-probe",
    resource: "kubernetes:apps/v1:Deployment::ingress",
    found: "container nginx-ingress without livenessProbe",
    reason:
      "The controller ends when its NGINX does, and has no address that tells more than /nginx-ready, which is the readiness probe.",
  },
  {
    rule: "restricted",
    resource: "kubernetes:apps/v1:DaemonSet::elasticsearch-host-settings",
    found: "container max-map-count privileged, able to escalate privileges, with capabilities kept, as root",
    reason: HOST_SETTINGS,
  },
  {
    rule: "namespace-level",
    resource: "kubernetes:core/v1:Namespace::elasticsearch-host-settings",
    found: "pod-security.kubernetes.io/enforce: privileged",
    reason: HOST_SETTINGS,
  },
  {
    rule: "restricted",
    resource: "kubernetes:apps/v1:Deployment::ingress",
    found: "container nginx-ingress on a port of its machine",
    reason: HOST_PORTS,
    bySettings: true,
  },
  {
    rule: "namespace-level",
    resource: "kubernetes:core/v1:Namespace::ingress",
    found: "pod-security.kubernetes.io/enforce: privileged",
    reason: HOST_PORTS,
    bySettings: true,
  },
];
