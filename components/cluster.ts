import type * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import type { Config } from "../config";
import type { ApiServerPolicy } from "./apiServer";
import { loadAws } from "./aws/load";
import type { BalancerKind } from "./balancer";
import { DigitalOceanCluster } from "./digitalOceanCluster";
import { ExistingCluster } from "./existingCluster";
import type { BuiltImageArgs, ReadyImageArgs } from "./image";

/** What the rest of the graph knows of a cluster, whoever runs it. Another cloud is one more class of this shape. */
export interface Cluster {
  /** Known as soon as the engine has heard of the component. */
  readonly urn: pulumi.Output<pulumi.URN>;
  readonly provider: k8s.Provider;
  /** Identifies the cluster for its whole life. */
  readonly id: pulumi.Output<string>;
  readonly name: pulumi.Output<string>;
  /** Its name, known before anything is there: what belongs to it in its cloud is named by it. */
  readonly displayName: string;
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
  /** Whose balancer a Service gets. */
  readonly balancer: BalancerKind;
  /** Whether what holds data, and the cluster, is guarded against deletion and replacement. */
  readonly protect: boolean;
  /** Whether metrics-server is to be installed for whoever scales by CPU. */
  readonly lacksMetrics: boolean;
  /** Makes a repository in the cloud's own registry, which the nodes pull from without a secret; absent where there is none. */
  readonly createRegistry?: (repository: string) => ImageRegistry;
}

export type ImageRegistry = Required<Pick<BuiltImageArgs, "server" | "username" | "password">>;

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
  if (!versionPlan) throw new Error("a new cluster needs a version plan: run the preflight first");
  if (config.provider === "aws") {
    const { AwsCluster } = loadAws();
    return new AwsCluster(name, { ...config, versionPlan }, opts);
  }
  return new DigitalOceanCluster(name, { ...config, versionPlan }, opts);
}

/** An image that is built for no registry in particular goes to the cluster's own. */
export function withRegistry(image: Config["image"], { createRegistry }: Cluster): BuiltImageArgs | ReadyImageArgs {
  if ("image" in image || "server" in image) return image;
  if (!createRegistry) throw new Error(`the image ${image.repository} has no registry, and the cluster has none`);
  return { ...image, ...createRegistry(image.repository) };
}
