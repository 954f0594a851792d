import * as pulumi from "@pulumi/pulumi";
import type { Config, DnsRecordConfig } from "../config";
import type { Platform } from "../platform";
import { loadAws } from "./aws/load";
import { Records, Zone } from "./dns";

export interface ZoneArgs {
  domain: string;
  /** Zones belong to the account, not to a stack: `lookup` takes one that is there. */
  zone: "create" | "lookup";
  /** Whether destroying the stack deletes the zone, and with it every record in it. Only of a zone that it created. */
  deleteZone: boolean;
  /** Whether the zone is guarded against deletion and replacement. */
  protect: boolean;
}

/** What the graph knows of a domain's zone, whoever keeps it: what else is proved or found by it is made by it. */
export interface DnsZone extends pulumi.Resource {
  /** Known once the zone exists: what is in the zone takes its domain from here. */
  readonly domain: pulumi.Output<string>;
  /** The registrar must name them. */
  readonly nameServers: pulumi.Input<string[]>;
  /** @param hosts names that the certificate covers, each once, all under the domain */
  certificate(name: string, hosts: string[]): DnsCertificate;
  records(name: string, args: HostRecordsArgs): pulumi.Resource;
}

export interface DnsCertificate extends pulumi.Resource {
  /** By which the cloud's balancer refers to it. */
  readonly certificateName: pulumi.Output<string>;
}

export interface HostRecordsArgs {
  /** Names under the domain that lead to the balancer, such as `api`. */
  hosts: string[];
  /** Seconds that resolvers may keep a record that has no TTL of its own. */
  ttl: number;
  /** Further records of the zone. */
  records: DnsRecordConfig[];
  /** The balancer, by its addresses or by its host name. */
  target: {
    address?: pulumi.Input<string>;
    /** With it each host has an AAAA record, too. */
    ipv6?: pulumi.Input<string | undefined>;
    hostname?: pulumi.Input<string>;
  };
}

/** The zone is where the cluster is; that of a cluster which belongs to no cloud is at DigitalOcean. */
export function createZone(
  name: string,
  cluster: Config["cluster"],
  args: ZoneArgs,
  opts?: pulumi.ComponentResourceOptions,
): DnsZone {
  if (cluster.provider !== "aws") return new Zone(name, args, opts);
  const { Route53Zone } = loadAws();
  return new Route53Zone(name, { ...args, region: cluster.region }, opts);
}

/**
 * Records of another stack's hosts in a platform's zone, whichever cloud keeps it, that lead to the platform's balancer; none
 * where the platform has no zone or no balancer.
 * @param hosts names under the zone's domain, such as `www`; `@` is the domain itself
 * @param ttl seconds that resolvers may keep them. @default 300
 */
export async function platformRecords(
  name: string,
  platform: Platform,
  { hosts, ttl = 300 }: { hosts: string[]; ttl?: number },
  opts?: pulumi.ComponentResourceOptions,
): Promise<pulumi.Resource | undefined> {
  const [domain, address, ipv6, hostname] = await Promise.all([
    platform.value("zone"),
    platform.value("ingressAddress"),
    platform.value("ingressIpv6"),
    platform.value("ingressHostname"),
  ]);
  if (!domain) return undefined;
  if (!hostname) {
    const addresses = { address, ...(ipv6 && { ipv6 }) };
    return address ? new Records(name, { domain, hosts, ttl, records: [], ...addresses }, opts) : undefined;
  }
  const { Route53Zone } = loadAws();
  const lookup = { domain, zone: "lookup", deleteZone: false, protect: false, region: regionOf(hostname) } as const;
  return new Route53Zone(name, lookup, opts).records(name, { hosts, ttl, records: [], target: { hostname } });
}

/** https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html#dns-name */
function regionOf(hostname: string): string {
  const [, region] = /\.elb\.([a-z0-9-]+)\.amazonaws\.com$/.exec(hostname) ?? [];
  if (region) return region;
  throw new pulumi.RunError(`${hostname} is no balancer of AWS; allowed: <name>.elb.<region>.amazonaws.com`);
}
