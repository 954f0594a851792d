/** A finding that stays, for a reason. Each part is matched exactly, so that it excepts that and nothing else. */
export interface Exception {
  /** Name of the rule. */
  rule: string;
  /** `type::name` of the resource, as the violation names it. */
  resource: string;
  /** What the violation says was found. */
  found: string;
  reason: string;
}

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
];
