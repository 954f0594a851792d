import * as acm from "@pulumi/aws/acm";
import * as lb from "@pulumi/aws/lb";
import { Provider } from "@pulumi/aws/provider";
import * as route53 from "@pulumi/aws/route53";
import * as pulumi from "@pulumi/pulumi";
import { checkArgs, type DnsRecordConfig } from "../../config";
import { UserError } from "../../violations";
import type { DnsCertificate, DnsZone, HostRecordsArgs, ZoneArgs } from "../zone";

/** The domain's public zone in Route 53. */
export class Route53Zone extends pulumi.ComponentResource implements DnsZone {
  readonly domain: pulumi.Output<string>;
  readonly nameServers: pulumi.Output<string[]>;
  private readonly zoneId: pulumi.Output<string>;
  private readonly account: InstanceType<typeof Provider>;

  /** @param region of the balancer, whose certificate must be there too */
  constructor(name: string, args: ZoneArgs & { region: string }, opts?: pulumi.ComponentResourceOptions) {
    const { domain, zone, deleteZone, protect, region } = args;
    checkArgs([], { domain, dns: { zone } });
    super("hobnob:platform:Route53Zone", name, {}, opts);
    this.account = new Provider(name, { region }, { parent: this });
    const inAccount = { parent: this, provider: this.account };
    const found =
      zone === "create"
        ? new route53.Zone(
            name,
            // Of itself Route 53 deletes no zone that has records.
            { name: domain, forceDestroy: deleteZone },
            { ...inAccount, protect, retainOnDelete: !deleteZone },
          )
        : route53.getZoneOutput({ name: domain, privateZone: false }, inAccount);
    this.zoneId = found.zoneId;
    this.nameServers = found.nameServers;
    this.domain = found.zoneId.apply(() => domain);
    this.registerOutputs();
  }

  certificate(name: string, hosts: string[]): DnsCertificate {
    return new AcmCertificate(name, { zoneId: this.zoneId, hosts, account: this.account });
  }

  records(name: string, args: HostRecordsArgs): pulumi.Resource {
    return new Route53Records(name, { ...args, zoneId: this.zoneId, domain: this.domain, account: this.account });
  }
}

interface CertificateArgs {
  zoneId: pulumi.Input<string>;
  /** Names that the certificate covers, each once. Another list makes another certificate. */
  hosts: string[];
  account: InstanceType<typeof Provider>;
}

/** A certificate of AWS, proved by records that stay, by which AWS renews it. */
class AcmCertificate extends pulumi.ComponentResource implements DnsCertificate {
  readonly certificateName: pulumi.Output<string>;

  constructor(name: string, { zoneId, hosts, account }: CertificateArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:AcmCertificate", name, {}, opts);
    const inAccount = { parent: this, provider: account };
    const [first = "", ...others] = [...hosts].sort();
    const certificate = new acm.Certificate(
      name,
      { domainName: first, subjectAlternativeNames: others, validationMethod: "DNS" },
      inAccount,
    );
    // A name and the wildcard below it are proved by the same record.
    const proved = [...new Set([first, ...others].map((host) => host.replace(/^\*\./, "")))];
    const records = proved.map((host) => {
      const option = certificate.domainValidationOptions.apply((options: ValidationOption[]) => proofOf(host, options));
      const field = (of: keyof ValidationOption) => option.apply((found: ValidationOption) => found[of]);
      return new route53.Record(
        `${name}-${host}`,
        {
          zoneId,
          name: field("resourceRecordName"),
          type: field("resourceRecordType"),
          records: [field("resourceRecordValue")],
          ttl: 300,
          // The next certificate of the same name has the same record.
          allowOverwrite: true,
        },
        inAccount,
      );
    });
    const validated = new acm.CertificateValidation(
      name,
      { certificateArn: certificate.arn, validationRecordFqdns: records.map(({ fqdn }) => fqdn) },
      inAccount,
    );
    this.certificateName = validated.certificateArn;
    this.registerOutputs();
  }
}

interface ValidationOption {
  domainName: string;
  resourceRecordName: string;
  resourceRecordType: string;
  resourceRecordValue: string;
}

/** In whatever order they come. */
function proofOf(host: string, options: ValidationOption[]): ValidationOption {
  const found = options.find(({ domainName }) => domainName.replace(/^\*\./, "") === host);
  if (found) return found;
  if (pulumi.runtime.isDryRun()) return pulumi.unknown as unknown as ValidationOption;
  throw new UserError(`AWS says of no record that would prove ${host}`);
}

interface RecordsArgs extends HostRecordsArgs {
  zoneId: pulumi.Input<string>;
  domain: pulumi.Input<string>;
  account: InstanceType<typeof Provider>;
}

/** The hosts as aliases of the balancer, whose addresses may change, and further records. Only the hosts wait for it. */
class Route53Records extends pulumi.ComponentResource {
  constructor(name: string, args: RecordsArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["dns"], { ttl: args.ttl, records: args.records });
    super("hobnob:platform:Route53Records", name, {}, opts);
    const { zoneId, account, domain } = args;
    const inAccount = { parent: this, provider: account };
    const under = (label: string) => (label === "@" ? domain : pulumi.interpolate`${label}.${domain}`);
    const balancer = lb.getHostedZoneIdOutput({ loadBalancerType: "network" }, inAccount);

    for (const host of args.hosts)
      new route53.Record(
        `${name}-${host}-a`,
        {
          zoneId,
          name: under(host),
          type: "A",
          aliases: [{ name: args.target.hostname ?? "", zoneId: balancer.id, evaluateTargetHealth: true }],
        },
        inAccount,
      );
    // Of one name and type Route 53 has one record with all values.
    for (const [[first, ...others], key] of recordSets(args.records))
      new route53.Record(
        `${name}-${key}`,
        {
          zoneId,
          name: under(first.name),
          type: first.type,
          ttl: first.ttl ?? args.ttl,
          records: [first, ...others].map((record) => pulumi.output(domain).apply((zone) => recordValue(record, zone))),
        },
        inAccount,
      );
    this.registerOutputs();
  }
}

type Several = [DnsRecordConfig, ...DnsRecordConfig[]];

function recordSets(records: DnsRecordConfig[]): [Several, string][] {
  const sets = new Map<string, Several>();
  for (const record of records) {
    const key = `${record.name}-${record.type.toLowerCase()}`;
    const set = sets.get(key);
    if (set) set.push(record);
    else sets.set(key, [record]);
  }
  return [...sets].map(([key, set]) => [set, key]);
}

/** https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html */
function recordValue({ type, value, priority, weight, port, flags, tag }: DnsRecordConfig, domain: string): string {
  const host = value === "@" ? `${domain}.` : value;
  switch (type) {
    case "MX":
      return `${priority} ${host}`;
    case "SRV":
      return `${priority} ${weight} ${port} ${host}`;
    case "CAA":
      return `${flags} ${tag} "${value.replace(/\.$/, "")}"`;
    case "TXT":
      // Strings of 255 at most; the provider puts the outer quotes.
      return (value.match(/.{1,255}/g) ?? []).join('""');
    default:
      return host;
  }
}
