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
