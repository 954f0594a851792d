import type * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import type { Config } from "../config";
import type { ApiServerPolicy } from "./apiServer";
import { DigitalOceanCluster } from "./digitalOceanCluster";
import { ExistingCluster } from "./existingCluster";

/** What the rest of the graph knows of a cluster, whoever runs it. Another cloud is one more class of this shape. */
export interface Cluster {
  readonly provider: k8s.Provider;
  /** Identifies the cluster for its whole life. */
  readonly id: pulumi.Output<string>;
  readonly name: pulumi.Output<string>;
  /** Secret; its credentials do not expire. */
  readonly kubeconfig: pulumi.Output<string>;
  /** What the workloads run on. They depend on it, so that on destroy they are gone before their nodes. */
  readonly workers: pulumi.Resource[];
  /** Addresses from which a balancer of the cluster's cloud reaches the nodes. */
  readonly vpcRange?: pulumi.Output<string>;
  /** Labels of the nodes that are meant for workloads; absent where every node is. */
  readonly nodeSelector?: Record<string, string>;
  /** Whether replicas must be on different nodes, or only should. */
  readonly spread: "hard" | "soft";
  /** How a network policy names the cluster's API server. */
  readonly apiServer: ApiServerPolicy;
  /** Provisioner of the cluster's block storage. */
  readonly storageProvisioner: string;
}

/** What is decided about the Kubernetes version before the first resource. */
export interface VersionPlan {
  /** As the cloud names it, such as `1.36.3-do.0`. */
  version: string;
  /** Whether an existing cluster moves to `version`. Else it keeps what it has, and `version` is for a new cluster. */
  upgrade: boolean;
}

export function createCluster(
  name: string,
  config: Config["cluster"],
  versionPlan?: VersionPlan,
  opts?: pulumi.ComponentResourceOptions,
): Cluster {
  if (config.provider === "existing") return new ExistingCluster(name, config, opts);
  if (!versionPlan) throw new Error("a DigitalOcean cluster needs a version plan: run the preflight first");
  return new DigitalOceanCluster(name, { ...config, versionPlan }, opts);
}
