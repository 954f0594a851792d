import { readFileSync } from "node:fs";
import * as digitalocean from "@pulumi/digitalocean";
import type * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { checkArgs, type DigitalOceanClusterConfig } from "../config";
import type { Cluster, VersionPlan } from "./cluster";
import { clusterProvider, kubeconfigBy, WORKER_LABELS } from "./clusterProvider";

/** The keys of `hobnob:cluster`, which `config.ts` describes, with their defaults filled in. */
export interface DigitalOceanClusterArgs extends Omit<DigitalOceanClusterConfig, "provider"> {
  versionPlan: VersionPlan;
}

type Pool = Pick<DigitalOceanClusterConfig["systemPool"], "size" | "count" | "minCount" | "maxCount">;

/** A managed cluster in its own VPC, and the pools that its workloads run on. */
export class DigitalOceanCluster extends pulumi.ComponentResource implements Cluster {
  readonly provider: k8s.Provider;
  readonly id: pulumi.Output<string>;
  readonly name: pulumi.Output<string>;
  readonly displayName: string;
  readonly kubeconfig: pulumi.Output<string>;
  readonly workers: pulumi.Resource[];
  readonly vpcRange: pulumi.Output<string>;
  readonly nodeSelector?: Record<string, string>;
  readonly spread = "hard";
  /** DOKS has no other network. https://docs.digitalocean.com/products/kubernetes/details/features/ */
  readonly apiServer = "cilium";
  readonly storageProvisioner = "dobs.csi.digitalocean.com";
  readonly balancer = "digitalocean";
  readonly protect: boolean;
  readonly lacksMetrics = true;

  constructor(name: string, args: DigitalOceanClusterArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["cluster"], args);
    super("hobnob:platform:DigitalOceanCluster", name, {}, opts);
    const { protect, versionPlan } = args;
    const tags = [args.name];

    const vpc = new digitalocean.Vpc(
      name,
      { name: args.name, region: args.region, ipRange: args.vpcCidr },
      // The cluster's members leave the VPC some minutes after the cluster is gone; the provider retries for 2 by itself.
      { parent: this, protect, customTimeouts: { delete: "15m" } },
    );

    const cluster = new digitalocean.KubernetesCluster(
      name,
      {
        name: args.name,
        region: args.region,
        version: versionPlan.version,
        vpcUuid: vpc.id,
        // Unset, it defaults to on from 1.36, costs extra and can't be undone.
        ha: args.ha,
        autoUpgrade: args.autoUpgrade,
        surgeUpgrade: args.surgeUpgrade,
        maintenancePolicy: args.maintenance,
        controlPlaneFirewall: {
          enabled: args.allowedAddresses.length > 0,
          allowedAddresses: args.allowedAddresses,
        },
        destroyAllAssociatedResources: args.destroyAllAssociatedResources,
        nodePool: { name: `${args.name}-system`, ...poolSize(args.systemPool), tags },
        tags,
      },
      // Auto-upgrade moves the version on, and a lower one would replace the cluster: only a plan to upgrade is obeyed.
      { parent: this, protect, ignoreChanges: versionPlan.upgrade ? [] : ["version"] },
    );

    const pools = Object.entries(args.workerPools).map(
      ([pool, { labels, taints, ...size }]) =>
        new digitalocean.KubernetesNodePool(
          `${name}-${pool}`,
          {
            clusterId: cluster.id,
            name: pool,
            ...poolSize(size),
            labels: { ...labels, ...WORKER_LABELS },
            taints,
            tags,
          },
          { parent: this },
        ),
    );

    this.id = cluster.id;
    this.name = cluster.name;
    this.displayName = args.name;
    this.protect = protect;
    this.kubeconfig = pulumi.secret(kubeconfig(args.name, cluster));
    this.workers = pools.length > 0 ? pools : [cluster];
    this.vpcRange = vpc.ipRange;
    if (pools.length > 0) this.nodeSelector = WORKER_LABELS;
    const access = { kubeconfig: this.kubeconfig, clusterIdentifier: cluster.id };
    this.provider = clusterProvider(name, access, { parent: this });
    this.registerOutputs();
  }
}

/** With autoscaling the node count is the autoscaler's: set here, each run would set it back. */
function poolSize({ size, count, minCount, maxCount }: Pool) {
  return count === undefined
    ? { size, autoScale: true, minNodes: minCount, maxNodes: maxCount }
    : { size, autoScale: false, nodeCount: count };
}

/**
 * Of the cluster's own kubeconfig only the CA is taken: its token dies after 7 days, and another one on each read would
 * make each run a change. This one holds no token, but the script that gets one.
 */
function kubeconfig(name: string, cluster: digitalocean.KubernetesCluster): pulumi.Output<string> {
  const script = readFileSync(require.resolve("./doksCredential.mjs"), "utf8");
  const ca = cluster.kubeConfigs.apply((configs) => configs[0]?.clusterCaCertificate);
  return kubeconfigBy(
    {
      apiVersion: "client.authentication.k8s.io/v1",
      command: "node",
      args: ["--input-type=module", "-e", script, cluster.id],
      installHint: "Access to this cluster needs Node.js 20 or newer and the environment's DIGITALOCEAN_TOKEN.",
    },
    { name, server: cluster.endpoint, ca },
  );
}
