import * as ecr from "@pulumi/aws/ecr";
import * as eks from "@pulumi/aws/eks";
import * as iam from "@pulumi/aws/iam";
import { Provider } from "@pulumi/aws/provider";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { type AwsClusterConfig, checkArgs } from "../../config";
import type { Cluster, ImageRegistry, VersionPlan } from "../cluster";
import { clusterProvider, kubeconfigBy, WORKER_LABELS } from "../clusterProvider";
import { createNetwork } from "./network";

/** The keys of `hobnob:cluster` with `provider: aws`, which `config.ts` describes, with their defaults filled in. */
interface AwsClusterArgs extends Omit<AwsClusterConfig, "provider"> {
  versionPlan: VersionPlan;
}

/** Chosen, so that the DNS has the address which the namespaces' policies open. */
const SERVICE_RANGE = "172.20.0.0/16";

const POLICIES = "arn:aws:iam::aws:policy";
/** https://docs.aws.amazon.com/eks/latest/userguide/automode-get-started-cli.html */
const CLUSTER_POLICIES = [
  "AmazonEKSClusterPolicy",
  "AmazonEKSComputePolicy",
  "AmazonEKSBlockStoragePolicy",
  "AmazonEKSLoadBalancingPolicy",
  "AmazonEKSNetworkingPolicy",
];
const NODE_POLICIES = ["AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly"];

/**
 * EKS in Auto Mode in its own VPC: AWS runs the nodes, and with them the network, the disks' driver, the balancer's
 * controller and DNS, so that none of these is installed here.
 */
export class AwsCluster extends pulumi.ComponentResource implements Cluster {
  readonly provider: k8s.Provider;
  readonly id: pulumi.Output<string>;
  readonly name: pulumi.Output<string>;
  readonly displayName: string;
  readonly kubeconfig: pulumi.Output<string>;
  readonly workers: pulumi.Resource[];
  readonly nodeSelector?: Record<string, string>;
  readonly spread = "hard";
  readonly apiServer = "ports";
  readonly storageProvisioner = "ebs.csi.eks.amazonaws.com";
  readonly balancer = "aws";
  readonly protect: boolean;
  readonly lacksMetrics = false;
  readonly createRegistry?: (repository: string) => ImageRegistry;

  constructor(name: string, args: AwsClusterArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["cluster"], { ...args, provider: "aws" });
    super("hobnob:platform:AwsCluster", name, {}, opts);
    const { region, protect, versionPlan, workerPools } = args;
    // Its own provider: another one of the environment may mean another region.
    const account = new Provider(name, { region }, { parent: this });
    const inAccount = { parent: this, provider: account };

    const network = createNetwork(
      name,
      { name: args.name, region, zones: args.zones, cidr: args.vpcCidr, protect },
      inAccount,
    );
    const clusterRole = createRole(
      `${name}-cluster`,
      "eks",
      ["sts:AssumeRole", "sts:TagSession"],
      CLUSTER_POLICIES,
      inAccount,
    );
    const nodeRole = createRole(`${name}-node`, "ec2", ["sts:AssumeRole"], NODE_POLICIES, inAccount);

    const cluster = new eks.Cluster(
      name,
      {
        name: args.name,
        version: versionPlan.version,
        roleArn: clusterRole.arn,
        vpcConfig: {
          subnetIds: network.privateSubnetIds,
          endpointPrivateAccess: true,
          endpointPublicAccess: true,
          publicAccessCidrs: args.allowedAddresses.length > 0 ? args.allowedAddresses.map(asRange) : ["0.0.0.0/0"],
        },
        accessConfig: { authenticationMode: "API", bootstrapClusterCreatorAdminPermissions: true },
        bootstrapSelfManagedAddons: false,
        // Auto Mode is these three, together.
        computeConfig: {
          enabled: true,
          // Own pools take the place of the general one, which knows no limit; without a built-in one there would be no node class.
          nodePools: Object.keys(workerPools).length > 0 ? ["system"] : ["general-purpose", "system"],
          nodeRoleArn: nodeRole.arn,
        },
        kubernetesNetworkConfig: { elasticLoadBalancing: { enabled: true }, serviceIpv4Cidr: SERVICE_RANGE },
        storageConfig: { blockStorage: { enabled: true } },
        upgradePolicy: { supportType: args.extendedSupport ? "EXTENDED" : "STANDARD" },
        deletionProtection: protect,
      },
      {
        ...inAccount,
        protect,
        // AWS moves a version on that is no longer supported: only a plan to upgrade is obeyed.
        ignoreChanges: versionPlan.upgrade ? [] : ["version"],
        // On destroy the cluster needs its rights until its nodes, disks and balancers are gone.
        dependsOn: [...clusterRole.policies, ...nodeRole.policies],
      },
    );
    this.id = cluster.arn;
    this.name = cluster.name;
    this.displayName = args.name;
    this.protect = protect;
    this.kubeconfig = pulumi.secret(kubeconfig(args.name, region, cluster));
    const access = { kubeconfig: this.kubeconfig, clusterIdentifier: cluster.arn };
    this.provider = clusterProvider(name, access, { parent: this });
    const onCluster = { parent: this, provider: this.provider };

    for (const arn of args.admins) admit(`${name}-${arn.split("/").at(-1)}`, cluster.name, arn, inAccount);

    // Else policies are accepted and mean nothing. https://docs.aws.amazon.com/eks/latest/userguide/auto-net-pol.html
    new k8s.core.v1.ConfigMap(
      `${name}-network-policies`,
      {
        metadata: { name: "amazon-vpc-cni", namespace: "kube-system" },
        data: { "enable-network-policy-controller": "true" },
      },
      onCluster,
    );

    const pools = Object.entries(workerPools).map(
      ([pool, settings]) =>
        new k8s.apiextensions.CustomResource(`${name}-${pool}`, nodePool(pool, settings), {
          ...onCluster,
          dependsOn: network.egress,
        }),
    );
    this.workers = pools.length > 0 ? pools : [cluster, ...network.egress];
    if (pools.length > 0) this.nodeSelector = WORKER_LABELS;

    new eks.Addon(
      `${name}-metrics-server`,
      { clusterName: cluster.name, addonName: "metrics-server", resolveConflictsOnUpdate: "OVERWRITE" },
      // Done when its pods run, which takes nodes.
      { ...inAccount, dependsOn: this.workers },
    );

    if (args.imageRegistry) this.createRegistry = (repository) => createRegistry(name, repository, inAccount);
    this.registerOutputs();
  }
}

const asRange = (address: string) => (address.includes("/") ? address : `${address}/32`);

function createRole(
  name: string,
  service: "eks" | "ec2",
  actions: string[],
  policies: string[],
  opts: pulumi.CustomResourceOptions,
) {
  const statement = { Effect: "Allow", Principal: { Service: `${service}.amazonaws.com` }, Action: actions };
  const role = new iam.Role(
    name,
    { assumeRolePolicy: JSON.stringify({ Version: "2012-10-17", Statement: [statement] }) },
    opts,
  );
  const attached: pulumi.Resource[] = policies.map(
    (policy) =>
      new iam.RolePolicyAttachment(`${name}-${policy}`, { role: role.name, policyArn: `${POLICIES}/${policy}` }, opts),
  );
  return { arn: role.arn as pulumi.Output<string>, policies: attached };
}

/** Whoever made the cluster administers it; anyone else is let in by name. */
function admit(
  name: string,
  clusterName: pulumi.Output<string>,
  principalArn: string,
  opts: pulumi.CustomResourceOptions,
) {
  const entry = new eks.AccessEntry(name, { clusterName, principalArn }, opts);
  new eks.AccessPolicyAssociation(
    name,
    {
      clusterName,
      principalArn: entry.principalArn,
      policyArn: "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
      accessScope: { type: "cluster" },
    },
    opts,
  );
}

/** https://docs.aws.amazon.com/eks/latest/userguide/create-node-pool.html */
function nodePool(name: string, pool: AwsClusterConfig["workerPools"][string]) {
  const { instanceTypes, labels, taints, maxCpu, maxMemory } = pool;
  const oneOf = (key: string, values: string[]) => ({ key, operator: "In", values });
  return {
    apiVersion: "karpenter.sh/v1",
    kind: "NodePool",
    metadata: { name },
    spec: {
      template: {
        metadata: { labels: { ...labels, ...WORKER_LABELS } },
        spec: {
          nodeClassRef: { group: "eks.amazonaws.com", kind: "NodeClass", name: "default" },
          requirements: [
            // What the images are built for.
            oneOf("kubernetes.io/arch", ["amd64"]),
            oneOf("karpenter.sh/capacity-type", ["on-demand"]),
            instanceTypes
              ? oneOf("node.kubernetes.io/instance-type", instanceTypes)
              : oneOf("eks.amazonaws.com/instance-category", ["c", "m", "r"]),
          ],
          taints,
        },
      },
      limits: { cpu: String(maxCpu), ...(maxMemory !== undefined && { memory: maxMemory }) },
      // A node that is merely not full stays: to empty it would restart an Elasticsearch node each time.
      disruption: { consolidationPolicy: "WhenEmpty", consolidateAfter: "5m", budgets: [{ nodes: "1" }] },
    },
  };
}

/** A repository that the nodes pull from by their role, and a login to push that lives for 12 hours. */
function createRegistry(name: string, repository: string, opts: pulumi.CustomResourceOptions): ImageRegistry {
  const made = new ecr.Repository(
    `${name}-images`,
    // What is in it is built anew by whoever needs it.
    { name: repository, imageScanningConfiguration: { scanOnPush: true }, forceDelete: true },
    opts,
  );
  const token = ecr.getAuthorizationTokenOutput({}, { parent: opts.parent, provider: opts.provider });
  return {
    server: made.repositoryUrl.apply((url: string) => url.split("/")[0] ?? url),
    username: token.userName,
    password: pulumi.secret(token.password),
  };
}

/** The AWS CLI gets the token, by whatever credentials it finds: a key, a profile, a single sign-on, a machine's role. */
function kubeconfig(name: string, region: string, cluster: InstanceType<typeof eks.Cluster>): pulumi.Output<string> {
  const ca = cluster.certificateAuthority.apply(({ data }: { data: string }) => data);
  return kubeconfigBy(
    {
      apiVersion: "client.authentication.k8s.io/v1beta1",
      command: "aws",
      args: ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"],
      installHint: "Access to this cluster needs the AWS CLI 2 and credentials of its account.",
    },
    { name, server: cluster.endpoint, ca },
  );
}
