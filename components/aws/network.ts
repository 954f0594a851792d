import * as ec2 from "@pulumi/aws/ec2";
import type * as pulumi from "@pulumi/pulumi";

export interface NetworkArgs {
  /** Of the VPC and what is in it. */
  name: string;
  region: string;
  /** Letters of the availability zones, one subnet of each kind in each. */
  zones: string[];
  /** Range of the VPC, of which each subnet takes an eighth. */
  cidr: string;
  /** Whether the VPC is guarded against deletion and replacement. */
  protect: boolean;
}

export interface Network {
  /** For the nodes and their pods. */
  privateSubnetIds: pulumi.Output<string>[];
  /** The nodes' way out: without it none of them can join or pull an image. */
  egress: pulumi.Resource[];
}

/**
 * A VPC with a public and a private subnet in each zone. One regional NAT gateway serves them all and follows the nodes from
 * zone to zone: https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateways-regional.html
 */
export function createNetwork(name: string, args: NetworkArgs, opts: pulumi.CustomResourceOptions): Network {
  const tags = { Name: args.name };
  const vpc = new ec2.Vpc(
    name,
    { cidrBlock: args.cidr, enableDnsSupport: true, enableDnsHostnames: true, tags },
    { ...opts, protect: args.protect },
  );
  const vpcId: pulumi.Output<string> = vpc.id;

  const internet = new ec2.InternetGateway(name, { vpcId, tags }, opts);
  const nat = new ec2.NatGateway(
    name,
    { vpcId, availabilityMode: "regional", connectivityType: "public", tags },
    // It reaches the world by the gateway, of which nothing in it tells.
    { ...opts, dependsOn: [internet] },
  );

  const everywhere = "0.0.0.0/0";
  const routes = {
    public: new ec2.RouteTable(
      `${name}-public`,
      { vpcId, routes: [{ cidrBlock: everywhere, gatewayId: internet.id }], tags },
      opts,
    ),
    private: new ec2.RouteTable(
      `${name}-private`,
      { vpcId, routes: [{ cidrBlock: everywhere, natGatewayId: nat.id }], tags },
      opts,
    ),
  };

  const subnet = (kind: "public" | "private", zone: string, eighth: number) => {
    const made = new ec2.Subnet(
      `${name}-${kind}-${zone}`,
      {
        vpcId,
        availabilityZone: `${args.region}${zone}`,
        cidrBlock: eighthOf(args.cidr, eighth),
        // By these the balancer finds its subnets. https://docs.aws.amazon.com/eks/latest/userguide/tag-subnets-auto.html
        tags: { ...tags, [`kubernetes.io/role/${kind === "public" ? "elb" : "internal-elb"}`]: "1" },
      },
      opts,
    );
    const route = new ec2.RouteTableAssociation(
      `${name}-${kind}-${zone}`,
      { subnetId: made.id, routeTableId: routes[kind].id },
      opts,
    );
    return { id: made.id as pulumi.Output<string>, route: route as pulumi.Resource };
  };

  const subnets = args.zones.map((zone, i) => subnet("private", zone, i));
  for (const [i, zone] of args.zones.entries()) subnet("public", zone, 4 + i);
  return { privateSubnetIds: subnets.map(({ id }) => id), egress: subnets.map(({ route }) => route) };
}

/** `10.30.0.0/16` has the eighths `10.30.0.0/19`, `10.30.32.0/19` … */
function eighthOf(cidr: string, n: number): string {
  const [address = "", bits] = cidr.split("/");
  const size = 2 ** (32 - Number(bits) - 3);
  const first = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const start = first - (first % (size * 8)) + n * size;
  return `${[24, 16, 8, 0].map((shift) => Math.floor(start / 2 ** shift) % 256).join(".")}/${Number(bits) + 3}`;
}
