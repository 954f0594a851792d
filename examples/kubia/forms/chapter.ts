import type * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";

/** What every chapter gets. */
export interface Chapter {
  namespace: pulumi.Output<string>;
  image: pulumi.Output<string>;
  pullSecretName?: pulumi.Output<string>;
  spread: pulumi.Output<"hard" | "soft">;
  nodeSelector: pulumi.Output<Record<string, string>>;
}

/** A container's share of its machine. */
export const resources = (memory: string, cpu = "10m") => ({ requests: { cpu, memory }, limits: { memory } });

export const pullWith = ({ pullSecretName }: Chapter) => pullSecretName && [{ name: pullSecretName }];

/** Pods with these labels on as many machines as there are. */
export const apart = (
  matchLabels: Record<string, string>,
  { spread }: Chapter,
): PodSpec["topologySpreadConstraints"] => [
  {
    maxSkew: 1,
    topologyKey: "kubernetes.io/hostname",
    labelSelector: { matchLabels },
    matchLabelKeys: ["pod-template-hash"],
    nodeTaintsPolicy: "Honor",
    whenUnsatisfiable: spread.apply((wanted) => (wanted === "hard" ? "DoNotSchedule" : "ScheduleAnyway")),
  },
];

type PodSpec = k8s.types.input.core.v1.PodSpec;
