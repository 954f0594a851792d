import type * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { checkArgs, type ExistingClusterConfig } from "../config";
import { contextOnly } from "../kubeconfig";
import type { ApiServerPolicy } from "./apiServer";
import type { Cluster } from "./cluster";
import { clusterProvider } from "./clusterProvider";

/** The keys of `hobnob:cluster` with `provider: existing`, which `config.ts` describes. */
export type ExistingClusterArgs = Omit<ExistingClusterConfig, "provider">;

/** A cluster that is there, by its context in the kubeconfig: minikube, k3d, kind, kubeadm, any. */
export class ExistingCluster extends pulumi.ComponentResource implements Cluster {
  readonly provider: k8s.Provider;
  readonly id: pulumi.Output<string>;
  readonly name: pulumi.Output<string>;
  readonly displayName: string;
  readonly kubeconfig: pulumi.Output<string>;
  readonly workers: pulumi.Resource[] = [];
  readonly spread: "hard" | "soft";
  readonly apiServer: ApiServerPolicy;
  readonly storageProvisioner: string;
  /** Its annotations are nothing to others than DOKS, which a context may be. */
  readonly balancer = "digitalocean";
  readonly protect = false;
  /** It may have one, and its kubelets may sign for themselves, which ours refuses. */
  readonly lacksMetrics = false;

  constructor(name: string, args: ExistingClusterArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["cluster"], { ...args, provider: "existing" });
    super("hobnob:platform:ExistingCluster", name, {}, opts);
    this.id = pulumi.output(args.context);
    this.name = pulumi.output(args.context);
    this.displayName = args.context;
    this.kubeconfig = pulumi.secret(JSON.stringify(contextOnly(args.context, process.env)));
    this.spread = args.nodes > 1 ? "hard" : "soft";
    this.apiServer = args.cilium ? "cilium" : "ports";
    this.storageProvisioner = args.storageProvisioner;
    // The context is the cluster's identity: minikube and kind change their address with each start.
    const access = { kubeconfig: this.kubeconfig, clusterIdentifier: args.context };
    this.provider = clusterProvider(name, access, { parent: this });
    this.registerOutputs();
  }
}
