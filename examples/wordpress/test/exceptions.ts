import type { Exception } from "../../../policy/exceptions";

const STORE = "kubernetes:apps/v1:StatefulSet::mariadb";
const ONE =
  "Its data is on one disk, which one machine at a time has; a budget that keeps a single pod would stop every drain for good.";
const MACHINE = "ReadWriteOnce is one machine's, and by their affinity all pods are there: each may write.";

/** What the database's one pod alone breaks of the policies, and the pods that share a machine's volume. */
export const exceptions: Exception[] = [
  { rule: "replicas", resource: STORE, found: "1 replica", reason: ONE },
  { rule: "disruption-budget", resource: STORE, found: "no PodDisruptionBudget", reason: ONE },
  {
    rule: "graceful-stop",
    resource: STORE,
    found: "container mariadb without preStop",
    reason: "There is no other one that clients could go to meanwhile.",
  },
  {
    rule: "liveness-probe",
    resource: STORE,
    found: "container mariadb without livenessProbe",
    reason:
      "A server that does not answer is mostly recovering, and a restart begins that anew; a crash ends the process.",
  },
  {
    rule: "spread",
    resource: "kubernetes:apps/v1:Deployment::wordpress",
    found: "pods that may all be on one machine",
    reason: MACHINE,
    bySettings: true,
  },
  {
    rule: "disruption-budget",
    resource: "kubernetes:apps/v1:Deployment::wordpress",
    found: "no PodDisruptionBudget",
    reason:
      "A pod may only start where the others are, so none could on another machine before all have gone: with a budget every drain would hang.",
    bySettings: true,
  },
  {
    rule: "single-writer",
    resource: "kubernetes:apps/v1:Deployment::wordpress",
    found: "the ReadWriteOnce claim uploads in a Deployment",
    reason: MACHINE,
    bySettings: true,
  },
  {
    rule: "liveness-probe",
    resource: "kubernetes:apps/v1:Deployment::blog",
    found: "container nginx-ingress without livenessProbe",
    reason: "As of the platform's own controller: it ends when its NGINX does.",
    bySettings: true,
  },
];
