import { createHash } from "node:crypto";
import * as digitalocean from "@pulumi/digitalocean";
import * as pulumi from "@pulumi/pulumi";

export interface CertificateArgs {
  /** The zone's domain, as the zone gives it: the certificate's names are proved by records in it. */
  domain: pulumi.Input<string>;
  /** Names that the certificate covers, each once, all under the domain. Another list makes another certificate. */
  hosts: string[];
}

/**
 * A certificate of Let's Encrypt that DigitalOcean proves, keeps and renews; the balancer refers to it by name. The old one
 * can be deleted once the balancer has left it, for which the provider waits 30 s: a delete that failed is finished by the
 * next `pulumi up`.
 */
export class Certificate extends pulumi.ComponentResource {
  readonly certificateName: pulumi.Output<string>;

  constructor(name: string, { domain, hosts }: CertificateArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:Certificate", name, {}, opts);
    const domains = [...hosts].sort();
    const certificate = new digitalocean.Certificate(
      name,
      {
        // Another list has another name, so that the new one is there before the balancer leaves the old one.
        name: `hobnob-${createHash("sha256").update(domains.join("\n")).digest("hex").slice(0, 8)}`,
        type: digitalocean.CertificateType.LetsEncrypt,
        // Made only in a zone that exists.
        domains: pulumi.output(domain).apply(() => domains),
      },
      // The provider would delete first whatever has a given name, and one that the balancer uses cannot be deleted.
      { parent: this, deleteBeforeReplace: false },
    );
    this.certificateName = certificate.name;
    this.registerOutputs();
  }
}
