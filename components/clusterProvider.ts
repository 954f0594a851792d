import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";

/** How a cluster is reached and told from others, for its whole life. */
export interface ClusterAccess {
  /** Secret; without a token that dies. */
  kubeconfig: pulumi.Input<string>;
  /** Another one replaces every object on the cluster. */
  clusterIdentifier: pulumi.Input<string>;
}

/** The one way in which this platform, and who stands on it, speaks to a cluster: two providers never differ in what they do. */
export const clusterProvider = (name: string, access: ClusterAccess, opts?: pulumi.ResourceOptions): k8s.Provider =>
  // ConfigMaps stay immutable: a change makes a new one, and rolls those who use it to it. So do Secrets that say so.
  new k8s.Provider(name, { ...access, enablePatchForce: true, enableSecretMutable: true }, opts);
