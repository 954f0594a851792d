import type { Exception } from "../../../policy/exceptions";

const ONE =
  "Its data is on one disk, which one machine at a time has; a budget that keeps a single pod would stop every drain for good.";
const MASTER =
  "There is one master by design: it keeps nothing itself, so another one is back within seconds and goes on where it was.";

const single = (resource: string, reason: string): Exception[] => [
  { rule: "replicas", resource, found: "1 replica", reason },
  { rule: "disruption-budget", resource, found: "no PodDisruptionBudget", reason },
];

/** What one pod alone breaks of the policies. */
export const exceptions: Exception[] = [
  ...single("kubernetes:apps/v1:StatefulSet::mysql", ONE),
  ...single("kubernetes:apps/v1:StatefulSet::etcd", ONE),
  ...single("kubernetes:apps/v1:Deployment::master", MASTER),
  ...["mysql", "etcd"].map((name) => ({
    rule: "graceful-stop",
    resource: `kubernetes:apps/v1:StatefulSet::${name}`,
    found: `container ${name} without preStop`,
    reason: "There is no other one that clients could go to meanwhile.",
  })),
  {
    rule: "graceful-stop",
    resource: "kubernetes:apps/v1:Deployment::worker",
    found: "container worker without preStop",
    reason:
      "On SIGTERM it tells the master, takes no more pages and finishes those that it has: to wait before would tell later.",
  },
  {
    rule: "liveness-probe",
    resource: "kubernetes:apps/v1:StatefulSet::mysql",
    found: "container mysql without livenessProbe",
    reason:
      "A server that does not answer is mostly recovering, and a restart begins that anew; a crash ends the process.",
  },
];
