import type * as pulumi from "@pulumi/pulumi";
import type { Config, DnsRecordConfig } from "../config";
import { loadAws } from "./aws/load";
import { Zone } from "./dns";

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
