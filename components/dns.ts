import * as digitalocean from "@pulumi/digitalocean";
import * as pulumi from "@pulumi/pulumi";
import { checkArgs, type DnsRecordConfig } from "../config";
import { ConfigurationError, keyName, setCommand } from "../violations";
import { Certificate } from "./certificate";
import type { DnsZone, HostRecordsArgs, ZoneArgs } from "./zone";

/** DigitalOcean's name servers, the same for every zone; the domain's registrar must name them. */
export const NAME_SERVERS = ["ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com"];

/** The domain's zone at DigitalOcean. */
export class Zone extends pulumi.ComponentResource implements DnsZone {
  readonly domain: pulumi.Output<string>;
  readonly nameServers = NAME_SERVERS;

  constructor(name: string, { domain, zone, deleteZone, protect }: ZoneArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs([], { domain, dns: { zone } });
    super("hobnob:platform:Zone", name, {}, opts);
    this.domain =
      zone === "create"
        ? new digitalocean.Domain(name, { name: domain }, { parent: this, protect, retainOnDelete: !deleteZone }).name
        : digitalocean.getDomainOutput({ name: domain }, { parent: this }).name;
    this.registerOutputs();
  }

  certificate(name: string, hosts: string[]): Certificate {
    return new Certificate(name, { domain: this.domain, hosts });
  }

  records(name: string, { target, ...args }: HostRecordsArgs): Records {
    const { address = "", ipv6 } = target;
    return new Records(name, { ...args, domain: this.domain, address, ipv6 });
  }
}

export interface RecordsArgs {
  /** The zone's domain, as the zone gives it. */
  domain: pulumi.Input<string>;
  /** Seconds that resolvers may keep a record that has no TTL of its own. */
  ttl: number;
  /** IPv4 address of the balancer. */
  address: pulumi.Input<string>;
  /** IPv6 address of the balancer; with it each host has an AAAA record, too. */
  ipv6?: pulumi.Input<string | undefined>;
  /** Names under the domain that lead to the balancer, such as `api`. */
  hosts: string[];
  /** Further records of the zone. */
  records: DnsRecordConfig[];
}

/** The hosts' addresses and further records. Only the hosts wait for the balancer. */
export class Records extends pulumi.ComponentResource {
  constructor(name: string, args: RecordsArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["dns"], { ttl: args.ttl, records: args.records });
    super("hobnob:platform:Records", name, {}, opts);
    const { domain, ttl, address } = args;
    const ipv6 = args.ipv6 === undefined ? undefined : pulumi.output(args.ipv6).apply(required);
    const record = (suffix: string, fields: Omit<digitalocean.DnsRecordArgs, "domain">) =>
      new digitalocean.DnsRecord(`${name}-${suffix}`, { ttl, ...fields, domain }, { parent: this });

    for (const host of args.hosts) {
      record(`${host}-a`, { name: host, type: "A", value: address });
      if (ipv6) record(`${host}-aaaa`, { name: host, type: "AAAA", value: ipv6 });
    }
    // Without its value, so that a changed value changes the record: a second CNAME of one name would be refused.
    const seen = new Map<string, number>();
    for (const fields of args.records) {
      const base = `${fields.name}-${fields.type.toLowerCase()}`;
      const nth = (seen.get(base) ?? 0) + 1;
      seen.set(base, nth);
      record(nth === 1 ? base : `${base}-${nth}`, fields);
    }
    this.registerOutputs();
  }
}

function required(ipv6: string | undefined): string {
  if (ipv6) return ipv6;
  throw new ConfigurationError([
    {
      key: keyName(["dns", "ipv6"]),
      given: "true, while the balancer has no IPv6 address",
      allowed: "false, or a balancer with an IPv6 address",
      command: setCommand(["dns", "ipv6"], false),
    },
  ]);
}
