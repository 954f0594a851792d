import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import { execa } from "execa";
import { type Cluster, createCluster, type VersionPlan } from "../../components/cluster";
import { createZone, type DnsZone, type HostRecordsArgs, platformRecords } from "../../components/zone";
import { type AwsClusterConfig, schema } from "../../config";
import { ToolError } from "../../local/build";
import { cloneDirectory } from "../../local/paths";
import { Platform } from "../../platform";
import { violations } from "../../policy/policies";
import { type Captured, type CaptureOptions, capture, edges, find, ofType, unwrap, waitsFor } from "../unit/graph";
import { platformStack } from "../unit/platformOutputs";
import { captureSettings, captureStack, withContext } from "../unit/stacks";
import { ARN, HOSTNAME, mocks, withCli } from "./account";
import { obtainSdk, useSdk } from "./sdk";

const EKS = "aws:eks/cluster:Cluster";
const VPC = "aws:ec2/vpc:Vpc";
const SUBNET = "aws:ec2/subnet:Subnet";
const NAT = "aws:ec2/natGateway:NatGateway";
const ROUTES = "aws:ec2/routeTable:RouteTable";
const ADDON = "aws:eks/addon:Addon";
const REPOSITORY = "aws:ecr/repository:Repository";
const RECORD = "aws:route53/record:Record";
const ZONE = "aws:route53/zone:Zone";
const ACCOUNT = "pulumi:providers:aws";
const KUBERNETES = "pulumi:providers:kubernetes";
const POOL = "kubernetes:karpenter.sh/v1:NodePool";
const NAMESPACE = "kubernetes:core/v1:Namespace";
const SERVICE = "kubernetes:core/v1:Service";

const plan: VersionPlan = { version: "1.36", upgrade: false };
const least = { provider: "aws", name: "hobnob-prod", region: "eu-central-1" } as const;
const workers = { maxCpu: 16, maxMemory: "64Gi", labels: { tier: "app" } };

/** With the defaults of the configuration. */
const settings = (changes: object = {}): AwsClusterConfig =>
  schema.shape.cluster.parse({ ...least, ...changes }) as AwsClusterConfig;

describe("AWS", function () {
  this.timeout(5 * 60_000);
  let modules = "";
  let end = () => {};

  before("install the SDK where it is not there", async function () {
    try {
      modules = await obtainSdk();
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      console.log(`    left out: ${error.message}`);
      this.skip();
    }
    end = useSdk(modules);
  });
  after(() => end());

  async function cluster(changes: object = {}, options: CaptureOptions = {}, versionPlan = plan) {
    let made: Cluster | undefined;
    const graph = await capture(
      () => {
        made = createCluster("cluster", settings(changes), versionPlan);
        new k8s.core.v1.Namespace("workload", {}, { provider: made.provider, dependsOn: made.workers });
      },
      { mocks, ...options },
    );
    assert.ok(made);
    return { graph, made };
  }

  describe("cluster", () => {
    it("must be exactly these resources, in a preview too", async () => {
      const names = async (preview: boolean) =>
        (await cluster({ workerPools: { workers } }, { preview })).graph.map(({ type, name }) => `${type}::${name}`);
      const attached = (role: string, policies: string[]) =>
        policies.map((policy) => `aws:iam/rolePolicyAttachment:RolePolicyAttachment::cluster-${role}-${policy}`);
      const perZone = ["a", "b", "c"].flatMap((zone) =>
        ["private", "public"].flatMap((kind) => [
          `${SUBNET}::cluster-${kind}-${zone}`,
          `aws:ec2/routeTableAssociation:RouteTableAssociation::cluster-${kind}-${zone}`,
        ]),
      );
      const all = [
        "hobnob:platform:AwsCluster::cluster",
        `${ACCOUNT}::cluster`,
        `${VPC}::cluster`,
        "aws:ec2/internetGateway:InternetGateway::cluster",
        `${NAT}::cluster`,
        `${ROUTES}::cluster-public`,
        `${ROUTES}::cluster-private`,
        ...perZone,
        "aws:iam/role:Role::cluster-cluster",
        ...attached("cluster", [
          "AmazonEKSClusterPolicy",
          "AmazonEKSComputePolicy",
          "AmazonEKSBlockStoragePolicy",
          "AmazonEKSLoadBalancingPolicy",
          "AmazonEKSNetworkingPolicy",
        ]),
        "aws:iam/role:Role::cluster-node",
        ...attached("node", ["AmazonEKSWorkerNodeMinimalPolicy", "AmazonEC2ContainerRegistryPullOnly"]),
        `${EKS}::cluster`,
        `${KUBERNETES}::cluster`,
        "kubernetes:core/v1:ConfigMap::cluster-network-policies",
        `${POOL}::cluster-workers`,
        `${ADDON}::cluster-metrics-server`,
        `${NAMESPACE}::workload`,
      ];
      assert.deepEqual((await names(false)).sort(), all.sort());
      assert.deepEqual((await names(true)).sort(), all.sort());
    });

    it("must have every choice made explicitly: Auto Mode's three parts together, and no add-on of its own", async () => {
      const { graph } = await cluster();
      assert.deepEqual(find(graph, EKS).inputs, {
        name: "hobnob-prod",
        version: "1.36",
        roleArn: "arn:aws:iam::111122223333:role/cluster-cluster",
        vpcConfig: {
          subnetIds: ["cluster-private-a-id", "cluster-private-b-id", "cluster-private-c-id"],
          endpointPrivateAccess: true,
          endpointPublicAccess: true,
          publicAccessCidrs: ["0.0.0.0/0"],
        },
        accessConfig: { authenticationMode: "API", bootstrapClusterCreatorAdminPermissions: true },
        bootstrapSelfManagedAddons: false,
        computeConfig: {
          enabled: true,
          nodePools: ["general-purpose", "system"],
          nodeRoleArn: "arn:aws:iam::111122223333:role/cluster-node",
        },
        kubernetesNetworkConfig: { elasticLoadBalancing: { enabled: true }, serviceIpv4Cidr: "172.20.0.0/16" },
        storageConfig: { blockStorage: { enabled: true } },
        upgradePolicy: { supportType: "STANDARD" },
        deletionProtection: false,
      });
    });

    it("must stand in zones of its own VPC, whose ranges never overlap, with one way out that has no single point of failure", async () => {
      const { graph } = await cluster({ zones: ["a", "b", "c", "d"], vpcCidr: "10.30.16.0/20" });
      const subnets = ofType(graph, SUBNET).map(({ inputs }) => [
        inputs.availabilityZone,
        inputs.cidrBlock,
        Object.keys(inputs.tags)[1],
      ]);
      const zones = ["a", "b", "c", "d"].map((zone) => `eu-central-1${zone}`);
      assert.deepEqual(subnets, [
        ...zones.map((zone, i) => [zone, `10.30.${16 + 2 * i}.0/23`, "kubernetes.io/role/internal-elb"]),
        ...zones.map((zone, i) => [zone, `10.30.${24 + 2 * i}.0/23`, "kubernetes.io/role/elb"]),
      ]);
      const { availabilityMode, subnetId } = find(graph, NAT).inputs;
      assert.deepEqual([availabilityMode, subnetId], ["regional", undefined]);
      assert.deepEqual(find(graph, ROUTES, "cluster-private").inputs.routes, [
        { cidrBlock: "0.0.0.0/0", natGatewayId: "cluster-id" },
      ]);
    });

    it("must keep the ranges of its zones when one is added at the end", async () => {
      const ranges = async (zones: string[]) =>
        Object.fromEntries(
          ofType((await cluster({ zones })).graph, SUBNET).map(({ name, inputs }) => [name, inputs.cidrBlock]),
        );
      const two = await ranges(["a", "b"]);
      const three = await ranges(["a", "b", "c"]);
      assert.deepEqual({ ...three, ...two }, three);
      assert.equal(Object.keys(three).length, 6);
    });

    it("must act in its own region and account alone, whatever the environment says", async () => {
      const { graph } = await cluster({ workerPools: { workers } });
      assert.deepEqual(find(graph, ACCOUNT).inputs.region, "eu-central-1");
      const others = graph.filter(
        ({ type, provider }) => type.startsWith("aws:") && provider !== find(graph, ACCOUNT).urn,
      );
      assert.deepEqual(others, []);
    });

    it("must let nobody take its rights but EKS and the nodes, and give the nodes no more than joining and pulling", async () => {
      const { graph } = await cluster();
      const trust = ofType(graph, "aws:iam/role:Role").map(
        ({ inputs }) => JSON.parse(inputs.assumeRolePolicy).Statement,
      );
      assert.deepEqual(trust, [
        [
          {
            Effect: "Allow",
            Principal: { Service: "eks.amazonaws.com" },
            Action: ["sts:AssumeRole", "sts:TagSession"],
          },
        ],
        [{ Effect: "Allow", Principal: { Service: "ec2.amazonaws.com" }, Action: ["sts:AssumeRole"] }],
      ]);
    });

    it("must keep its rights until the last node, disk and balancer is gone", async () => {
      const { graph } = await cluster();
      const eks = find(graph, EKS);
      for (const policy of ofType(graph, "aws:iam/rolePolicyAttachment:RolePolicyAttachment"))
        assert.equal(waitsFor(graph, eks, policy), true, policy.name);
    });

    it("must be made beside its way out, which only the nodes need", async () => {
      const { graph } = await cluster({ workerPools: { workers } });
      assert.equal(waitsFor(graph, find(graph, EKS), find(graph, NAT)), false);
      assert.equal(waitsFor(graph, find(graph, POOL), find(graph, NAT)), true);
      const builtIn = (await cluster()).graph;
      assert.equal(waitsFor(builtIn, find(builtIn, NAMESPACE), find(builtIn, NAT)), true);
    });

    it("must run workloads on pools of their own, within limits, on machines for which the images are built", async () => {
      const taints = [{ key: "dedicated", value: "search", effect: "NoSchedule" }];
      const search = { maxCpu: 8, instanceTypes: ["r7i.xlarge"], taints, labels: { "hobnob/workloads": "false" } };
      const { graph, made } = await cluster({ workerPools: { workers, search } });
      assert.deepEqual(find(graph, POOL, "cluster-workers").inputs, {
        apiVersion: "karpenter.sh/v1",
        kind: "NodePool",
        metadata: { name: "workers" },
        spec: {
          template: {
            metadata: { labels: { tier: "app", "hobnob/workloads": "true" } },
            spec: {
              nodeClassRef: { group: "eks.amazonaws.com", kind: "NodeClass", name: "default" },
              requirements: [
                { key: "kubernetes.io/arch", operator: "In", values: ["amd64"] },
                { key: "karpenter.sh/capacity-type", operator: "In", values: ["on-demand"] },
                { key: "eks.amazonaws.com/instance-category", operator: "In", values: ["c", "m", "r"] },
              ],
              taints: [],
            },
          },
          limits: { cpu: "16", memory: "64Gi" },
          disruption: { consolidationPolicy: "WhenEmpty", consolidateAfter: "5m", budgets: [{ nodes: "1" }] },
        },
      });
      const { spec } = find(graph, POOL, "cluster-search").inputs;
      assert.deepEqual(spec.template.spec.requirements[2], {
        key: "node.kubernetes.io/instance-type",
        operator: "In",
        values: ["r7i.xlarge"],
      });
      assert.deepEqual([spec.template.spec.taints, spec.limits], [taints, { cpu: "8" }]);
      assert.equal(spec.template.metadata.labels["hobnob/workloads"], "true");
      assert.deepEqual(made.nodeSelector, { "hobnob/workloads": "true" });
      // The general one knows no limit; the system one brings the node class.
      assert.deepEqual(find(graph, EKS).inputs.computeConfig.nodePools, ["system"]);
    });

    it("must let workloads go before their nodes", async () => {
      const { graph } = await cluster({ workerPools: { workers } });
      assert.equal(waitsFor(graph, find(graph, NAMESPACE), find(graph, POOL)), true);
      assert.equal(waitsFor(graph, find(graph, KUBERNETES), find(graph, POOL)), false);
      assert.deepEqual((await cluster()).made.nodeSelector, undefined);
    });

    it("must enforce network policies, which it otherwise takes and ignores", async () => {
      const { inputs } = find((await cluster()).graph, "kubernetes:core/v1:ConfigMap");
      assert.deepEqual(
        [inputs.metadata, inputs.data],
        [{ name: "amazon-vpc-cni", namespace: "kube-system" }, { "enable-network-policy-controller": "true" }],
      );
    });

    it("must be guarded, here and at AWS, when protected, and only then", async () => {
      const guarded = ({ graph }: Awaited<ReturnType<typeof cluster>>) =>
        graph.filter((resource) => resource.protect).map(({ type }) => type);
      const on = await cluster({ protect: true });
      assert.deepEqual(guarded(on), [VPC, EKS]);
      assert.equal(find(on.graph, EKS).inputs.deletionProtection, true);
      assert.equal(on.made.protect, true);
      assert.deepEqual(guarded(await cluster()), []);
    });

    it("must close the control plane to all but the allowed addresses", async () => {
      const { graph } = await cluster({ allowedAddresses: ["203.0.113.7", "198.51.100.0/24"] });
      assert.deepEqual(find(graph, EKS).inputs.vpcConfig.publicAccessCidrs, ["203.0.113.7/32", "198.51.100.0/24"]);
    });

    it("must let in as administrators whom it names, and nobody else", async () => {
      const role = "arn:aws:iam::111122223333:role/operators";
      const { graph } = await cluster({ admins: [role] });
      const { principalArn, policyArn, accessScope } = find(
        graph,
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
        "cluster-operators",
      ).inputs;
      assert.deepEqual([principalArn, accessScope], [role, { type: "cluster" }]);
      assert.match(policyArn, /AmazonEKSClusterAdminPolicy$/);
      assert.deepEqual(ofType((await cluster()).graph, "aws:eks/accessEntry:AccessEntry"), []);
    });

    it("must not touch the version of a cluster that is there, unless an upgrade is planned", async () => {
      const upgraded = find((await cluster({}, {}, { version: "1.37", upgrade: true })).graph, EKS);
      assert.deepEqual(find((await cluster()).graph, EKS).ignoreChanges, ["version"]);
      assert.deepEqual([upgraded.ignoreChanges, upgraded.inputs.version], [[], "1.37"]);
    });

    it("must pay for a version out of support only when told to", async () => {
      const { graph } = await cluster({ extendedSupport: true });
      assert.deepEqual(find(graph, EKS).inputs.upgradePolicy, { supportType: "EXTENDED" });
    });

    it("must be reached by a command that gets a token, and hold none itself", async () => {
      const { graph, made } = await cluster();
      const { inputs, secrets } = find(graph, KUBERNETES);
      assert.deepEqual(secrets, ["kubeconfig"]);
      assert.equal(inputs.clusterIdentifier, "arn:aws:eks:eu-central-1:111122223333:cluster/hobnob-prod");
      const kubeconfig = JSON.parse(inputs.kubeconfig);
      const server = "https://0A1B.gr7.eu-central-1.eks.amazonaws.com";
      assert.deepEqual(kubeconfig.clusters, [
        { name: "hobnob-prod", cluster: { server, "certificate-authority-data": "Y2E=" } },
      ]);
      assert.deepEqual(kubeconfig.users[0].user, {
        exec: {
          apiVersion: "client.authentication.k8s.io/v1beta1",
          command: "aws",
          args: ["eks", "get-token", "--cluster-name", "hobnob-prod", "--region", "eu-central-1", "--output", "json"],
          interactiveMode: "Never",
          installHint: "Access to this cluster needs the AWS CLI 2 and credentials of its account.",
        },
      });
      assert.equal((await unwrap(made.kubeconfig)).secret, true);
    });

    it("must tell the graph what it needs", async () => {
      const { made } = await cluster();
      const { spread, apiServer, storageProvisioner, balancer, vpcRange, displayName, lacksMetrics } = made;
      assert.deepEqual(
        [spread, apiServer, storageProvisioner, balancer, vpcRange, displayName, lacksMetrics],
        ["hard", "ports", "ebs.csi.eks.amazonaws.com", "aws", undefined, "hobnob-prod", false],
      );
      assert.equal((await unwrap(made.name)).value, "hobnob-prod");
    });

    it("must not be created without a version plan, nor from args that the configuration refuses", () => {
      assert.throws(() => createCluster("cluster", settings()), /a new cluster needs a version plan/);
      const wrong = { ...settings(), region: "fra1" };
      assert.throws(() => createCluster("cluster", wrong, plan), /hobnob:cluster\.region/);
    });
  });

  describe("Route 53", () => {
    async function zone(run: (zone: DnsZone) => void = () => {}, changes: object = {}, options: CaptureOptions = {}) {
      let made: DnsZone | undefined;
      const args = { domain: "example.org", zone: "create", deleteZone: false, protect: false, ...changes } as const;
      const graph = await capture(
        () => {
          made = createZone("zone", settings(), args);
          run(made);
        },
        { mocks, ...options },
      );
      assert.ok(made);
      return { graph, made };
    }
    const target = { hostname: HOSTNAME };
    const records = (more: HostRecordsArgs["records"] = []) =>
      zone((made) => made.records("records", { hosts: ["api", "docs"], ttl: 300, records: more, target }));

    it("must be kept when the stack goes, unless its owner allowed its deletion, with all that is in it", async () => {
      const kept = find((await zone()).graph, ZONE);
      assert.deepEqual([kept.inputs.name, kept.inputs.forceDestroy, kept.retainOnDelete], ["example.org", false, true]);
      const deleted = find((await zone(undefined, { deleteZone: true, protect: true })).graph, ZONE);
      assert.deepEqual([deleted.inputs.forceDestroy, deleted.retainOnDelete, deleted.protect], [true, false, true]);
    });

    it("must never be made or owned when it is looked up, and name its own servers either way", async () => {
      const { graph, made } = await zone(undefined, { zone: "lookup", protect: true });
      assert.deepEqual(
        graph.map(({ type }) => type),
        ["hobnob:platform:Route53Zone", ACCOUNT],
      );
      const servers = async (zone: DnsZone) => (await unwrap(zone.nameServers as never)).value;
      assert.deepEqual(await servers(made), ["ns-9.awsdns-09.net"]);
      assert.deepEqual(await servers((await zone()).made), ["ns-1.awsdns-01.org", "ns-2.awsdns-02.com"]);
    });

    it("must take another stack's records, found by the domain, where the balancer is", async () => {
      const aws = { ingressAddress: "", ingressIpv6: "", ingressHostname: HOSTNAME };
      const answer = platformStack(aws);
      const program = async () => {
        await platformRecords("records", new Platform("acme/hobnob/prod"), { hosts: ["www", "@"] });
      };
      const both = {
        ...mocks,
        resource: (args: pulumi.runtime.MockResourceArgs) => answer(args) ?? mocks?.resource?.(args),
      };
      const graph = await capture(program, { mocks: both });
      assert.equal(find(graph, ACCOUNT).inputs.region, "eu-central-1");
      assert.deepEqual(ofType(graph, ZONE), []);
      assert.deepEqual(
        ofType(graph, RECORD)
          .sort((a, b) => a.name.localeCompare(b.name))
          .map(({ inputs }) => [inputs.zoneId, inputs.name, inputs.type, inputs.aliases[0].name]),
        ["example.com", "www.example.com"].map((name) => ["Z9", name, "A", HOSTNAME]),
      );
    });

    it("must have hosts as aliases of the balancer, whose addresses change", async () => {
      const { graph } = await records();
      assert.deepEqual(
        ofType(graph, RECORD).map(({ name, inputs }) => [name, inputs]),
        ["api", "docs"].map((host) => [
          `records-${host}-a`,
          {
            zoneId: "Z123",
            name: `${host}.example.org`,
            type: "A",
            aliases: [{ name: HOSTNAME, zoneId: "ZNLB", evaluateTargetHealth: true }],
          },
        ]),
      );
    });

    it("must have one record of a name and type, in Route 53's own writing", async () => {
      const long = "v=DKIM1; p=".padEnd(300, "x");
      const { graph } = await records([
        { name: "@", type: "MX", value: "mx1.example.net.", priority: 10 },
        { name: "@", type: "MX", value: "@", priority: 20, ttl: 60 },
        { name: "_sip._tcp", type: "SRV", value: "sip.example.net.", priority: 1, weight: 2, port: 5060 },
        { name: "@", type: "CAA", value: "letsencrypt.org.", flags: 0, tag: "issue" },
        { name: "www", type: "CNAME", value: "@" },
        { name: "mail._domainkey", type: "TXT", value: long },
      ]);
      const further = ofType(graph, RECORD).slice(2);
      assert.deepEqual(
        further.map(({ name, inputs }) => [name, inputs.name, inputs.type, inputs.ttl, inputs.records]).sort(),
        [
          ["records-@-mx", "example.org", "MX", 300, ["10 mx1.example.net.", "20 example.org."]],
          ["records-_sip._tcp-srv", "_sip._tcp.example.org", "SRV", 300, ["1 2 5060 sip.example.net."]],
          ["records-@-caa", "example.org", "CAA", 300, ['0 issue "letsencrypt.org"']],
          ["records-www-cname", "www.example.org", "CNAME", 300, ["example.org."]],
          [
            "records-mail._domainkey-txt",
            "mail._domainkey.example.org",
            "TXT",
            300,
            [`${long.slice(0, 255)}""${long.slice(255)}`],
          ],
        ].sort(),
      );
    });

    it("must prove each name of the certificate once, and give the balancer no certificate before it is proved", async () => {
      const hosts = ["api.example.org", "*.shop.example.org", "shop.example.org"];
      let name: DnsZone | undefined;
      const { graph } = await zone((made) => {
        name = made;
        new k8s.core.v1.ConfigMap("balancer", {
          data: { arn: made.certificate("certificate", hosts).certificateName },
        });
      });
      assert.ok(name);
      const certificate = find(graph, "aws:acm/certificate:Certificate").inputs;
      assert.deepEqual(
        [certificate.domainName, certificate.subjectAlternativeNames, certificate.validationMethod],
        ["*.shop.example.org", ["api.example.org", "shop.example.org"], "DNS"],
      );
      assert.deepEqual(
        ofType(graph, RECORD).map(({ inputs }) => [inputs.name, inputs.type, inputs.records[0], inputs.allowOverwrite]),
        ["shop.example.org", "api.example.org"].map((host) => [
          `_proof.${host}.`,
          "CNAME",
          `_value-of-${host}.acm-validations.aws.`,
          true,
        ]),
      );
      const user = find(graph, "kubernetes:core/v1:ConfigMap");
      assert.equal(user.inputs.data.arn, ARN);
      const validation = find(graph, "aws:acm/certificateValidation:CertificateValidation");
      assert.equal(waitsFor(graph, user, validation), true);
      for (const record of ofType(graph, RECORD)) assert.equal(waitsFor(graph, validation, record), true);
    });

    it("must have the same resources in a preview, which does not know the proofs", async () => {
      const names = async (preview: boolean) =>
        (
          await zone((made) => made.certificate("certificate", ["b.example.org", "a.example.org"]), {}, { preview })
        ).graph.map(({ urn }) => urn);
      assert.deepEqual(await names(true), await names(false));
      assert.equal((await names(true)).length, 8);
    });
  });

  describe("stack", () => {
    const FILE = "clusters/Pulumi.aws.yaml";
    const stack = (more: Record<string, unknown> = {}, options: { preview?: boolean; stuck?: string } = {}) =>
      withCli({}, () => captureSettings(FILE, more, { mocks, ...options }));
    const withTls = { "hobnob:tls": { enabled: true, resolver: "127.0.0.1:9" } };
    const owned = (graph: Captured[]) =>
      graph.filter(({ type }) => type.startsWith("kubernetes:")).map(({ type, name }) => `${type}::${name}`);

    it("must have the same objects in the cluster as prod at DigitalOcean", async () => {
      const prod = owned(await captureStack("prod")).filter((one) => !/CiliumNetworkPolicy|::registry$/.test(one));
      const policies = ["elasticsearch-api-server", "ingress-api-server"];
      const more = [
        ...policies.map((name) => `kubernetes:networking.k8s.io/v1:NetworkPolicy::${name}`),
        "kubernetes:core/v1:ConfigMap::cluster-network-policies",
        `${POOL}::cluster-workers`,
        "kubernetes:policy/v1:ResourceQuota::hobnob",
      ];
      const aws = [...owned(await stack()), "kubernetes:policy/v1:ResourceQuota::hobnob"];
      const quota = /LimitRange|ResourceQuota/;
      assert.deepEqual(
        aws.filter((one) => !quota.test(one)).sort(),
        [...prod, ...more].filter((one) => !quota.test(one)).sort(),
      );
    });

    it("must make nothing at DigitalOcean, and need nothing of it", async () => {
      const graph = await stack(withTls);
      assert.doesNotMatch(JSON.stringify(graph), /digitalocean|do-loadbalancer/i);
    });

    it("must satisfy every policy, in a first preview and in an update", async () => {
      for (const preview of [true, false]) {
        const graph = await stack({}, { preview });
        const found = violations(graph.map(({ inputs, ...one }) => ({ ...one, props: inputs })));
        assert.deepEqual(found, [], String(preview));
      }
    });

    it("must open exactly the paths that an existing cluster has, whose policies can't name the API server either", async () => {
      const policies = (graph: Captured[]) =>
        ofType(graph, "kubernetes:networking.k8s.io/v1:NetworkPolicy")
          .map(({ name, inputs }) => [name, inputs.metadata.namespace, inputs.spec])
          .sort();
      const cluster = { provider: "existing", context: "there", nodes: 4, storageProvisioner: "local" };
      const elsewhere = { "hobnob:cluster": cluster, "hobnob:dns": { zone: "none" } };
      const existing = await withContext("there", () => captureStack("prod", elsewhere));
      assert.deepEqual(policies(await stack()), policies(existing));
    });

    it("must let pods ask the DNS where Auto Mode has it: at the Service's address, as no pod is behind it", async () => {
      const graph = await stack();
      const { serviceIpv4Cidr } = find(graph, EKS).inputs.kubernetesNetworkConfig;
      const address = serviceIpv4Cidr.replace(/\.0\/16$/, ".10/32");
      const clients = ofType(graph, "kubernetes:networking.k8s.io/v1:NetworkPolicy").filter(({ inputs }) =>
        JSON.stringify(inputs.spec.egress ?? []).includes("kube-dns"),
      );
      assert.ok(clients.length >= 2);
      for (const { name, inputs } of clients) assert.ok(JSON.stringify(inputs.spec.egress).includes(address), name);
    });

    it("must push to the account's registry, while the cluster is being made, and pull by the nodes' role", async () => {
      const graph = await stack();
      const image = find(graph, "docker:index/image:Image");
      const server = "111122223333.dkr.ecr.eu-central-1.amazonaws.com";
      assert.equal(image.inputs.imageName, `${server}/hobnob/backend:latest`);
      assert.deepEqual(image.inputs.registry, { server, username: "AWS", password: "12 hours" });
      assert.deepEqual(image.secrets, ["registry.password"]);
      assert.equal(waitsFor(graph, image, find(graph, EKS)), false);
      assert.equal(waitsFor(graph, image, find(graph, REPOSITORY)), true);
      const { spec } = find(graph, "kubernetes:apps/v1:Deployment", "backend").inputs.spec.template;
      assert.match(spec.containers[0].image, new RegExp(`^${server}/hobnob/backend@sha256:`));
      assert.equal(spec.imagePullSecrets, undefined);
    });

    it("must push to Docker Hub instead where it is told to", async () => {
      const cluster = { ...least, imageRegistry: false };
      const registry = { repository: "acme/hobnob-backend", username: "acme" };
      const graph = await stack({ "hobnob:cluster": cluster, "hobnob:registry": registry });
      assert.equal(find(graph, "docker:index/image:Image").inputs.imageName, "docker.io/acme/hobnob-backend:latest");
      assert.deepEqual(ofType(graph, REPOSITORY), []);
      assert.equal(find(graph, "kubernetes:core/v1:Secret", "registry").inputs.type, "kubernetes.io/dockerconfigjson");
    });

    it("must keep disks by EBS: encrypted, retained, made where their pod is", async () => {
      const { inputs } = find(await stack(), "kubernetes:storage.k8s.io/v1:StorageClass");
      const { metadata, provisioner, parameters, reclaimPolicy, allowVolumeExpansion, volumeBindingMode } = inputs;
      assert.equal(metadata.name, "hobnob-block-storage");
      assert.deepEqual(
        [provisioner, reclaimPolicy, allowVolumeExpansion, volumeBindingMode],
        ["ebs.csi.eks.amazonaws.com", "Retain", true, "WaitForFirstConsumer"],
      );
      assert.deepEqual(parameters, { type: "gp3", encrypted: "true", "csi.storage.k8s.io/fstype": "ext4" });
    });

    it("must end TLS at the balancer by the proved certificate, for which nothing else waits", async () => {
      const graph = await stack(withTls);
      const service = find(graph, SERVICE, "ingress");
      assert.equal(service.inputs.metadata.annotations["service.beta.kubernetes.io/aws-load-balancer-ssl-cert"], ARN);
      const certificate = find(graph, "aws:acm/certificateValidation:CertificateValidation");
      const waiting = graph.filter((resource) => waitsFor(graph, resource, certificate));
      for (const one of waiting)
        assert.match(
          `${one.type}::${one.name}`,
          /(Service|Record|ConfigMap|Deployment|PodDisruptionBudget|Ingress|Routes|Records|Protection|AcmCertificate)/,
        );
      for (const name of ["backend", "elasticsearch"])
        assert.equal(
          waiting.some((one) => one.name === name && one.type.startsWith("kubernetes:apps/")),
          false,
          name,
        );
      assert.equal(waitsFor(graph, certificate, find(graph, EKS)), false);
    });

    it("must have hosts wait for the balancer alone, and Elasticsearch not for it", async () => {
      const graph = await stack();
      const service = find(graph, SERVICE, "ingress");
      const hosts = ofType(graph, RECORD);
      assert.deepEqual(
        hosts.map(({ inputs }) => [inputs.name, inputs.aliases[0].name]),
        [
          ["api.example.org", HOSTNAME],
          ["docs.example.org", HOSTNAME],
        ],
      );
      for (const host of hosts) assert.equal(waitsFor(graph, host, service), true);
      assert.equal(waitsFor(graph, find(graph, "kubernetes:apps/v1:StatefulSet"), service), false);
      assert.equal(waitsFor(graph, find(graph, ZONE), find(graph, EKS)), false);
    });

    it("must not wait for what it doesn't use: all but the nodes' work is there while the network is being made", async () => {
      const graph = await stack({}, { stuck: `${NAT}::cluster` });
      const made = new Set(graph.map(({ type }) => type));
      for (const type of [EKS, "docker:index/image:Image", ZONE, "kubernetes:storage.k8s.io/v1:StorageClass"])
        assert.ok(made.has(type), type);
      assert.equal(made.has(POOL), false);
    });

    it("must be told from other stacks' by its tags", async () => {
      const providers = ofType(await stack(), ACCOUNT).map(({ inputs }) => JSON.parse(inputs.defaultTags));
      const tagged = { tags: { "hobnob/owner": "organization.hobnob.aws" } };
      assert.deepEqual(providers, [tagged, tagged]);
    });

    it("must keep every token secret", async () => {
      const graph = await stack();
      const plain = JSON.stringify(graph.map(({ inputs, secrets, ...rest }) => rest));
      assert.doesNotMatch(plain, /12 hours/);
      assert.ok(edges(find(graph, "docker:index/image:Image")).length > 0);
    });

    it("must have the same resources in a preview", async () => {
      const urns = async (preview: boolean) => (await stack(withTls, { preview })).map(({ urn }) => urn).sort();
      assert.deepEqual(await urns(true), await urns(false));
    });
  });

  describe("types", () => {
    it("must be checked against the SDK, of which the clone's own check knows nothing", async () => {
      const directory = mkdtempSync(join(tmpdir(), "hobnob-"));
      const at = (path: string) => join(cloneDirectory, path);
      const own = {
        "@pulumi/pulumi": [at("node_modules/@pulumi/pulumi")],
        "@pulumi/pulumi/*": [at("node_modules/@pulumi/pulumi/*")],
      };
      const config = {
        extends: at("tsconfig.json"),
        compilerOptions: {
          paths: { ...own, "@pulumi/aws/*": [join(modules, "@pulumi/aws/*")] },
          typeRoots: [at("node_modules/@types")],
          types: ["node"],
        },
        include: [],
        files: [at("components/aws/index.ts")],
      };
      const file = join(directory, "tsconfig.json");
      writeFileSync(file, JSON.stringify(config));
      const result = await execa("tsc", ["--noEmit", "-p", file], {
        preferLocal: true,
        localDir: cloneDirectory,
        reject: false,
      });
      rmSync(directory, { recursive: true });
      assert.equal(result.stdout, "");
    });
  });
});
