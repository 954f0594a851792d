import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

/** On the nodes of every worker pool: the one label that selects them all, whatever pools are added or renamed. */
export const WORKER_LABELS = { "hobnob/workloads": "true" };

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

/** Gets a short-lived token, each time that one is needed. */
interface Exec {
  apiVersion: string;
  command: string;
  args: pulumi.Input<string>[];
  /** Said where the command is missing. */
  installHint: string;
}

/** A kubeconfig without a token in it: whoever uses it runs the command that gets one. */
export function kubeconfigBy(
  exec: Exec,
  { name, server, ca }: { name: string; server: pulumi.Input<string>; ca: pulumi.Input<string | undefined> },
): pulumi.Output<string> {
  const { apiVersion, command, args, installHint } = exec;
  return pulumi.jsonStringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server, "certificate-authority-data": ca } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
    users: [{ name, user: { exec: { apiVersion, command, args, interactiveMode: "Never", installHint } } }],
  });
}
