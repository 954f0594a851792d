import * as digitalocean from "@pulumi/digitalocean";
import * as pulumi from "@pulumi/pulumi";
import { Certificate } from "../components/certificate";
import { Records, Zone } from "../components/dns";
import { readConfig } from "../config";
import { ownedBy, ownerOf } from "../owner";
import { preflight } from "../preflight";

/**
 * What the platform has in the account, without what runs in its cluster: creations that cost most when they are lost, in a
 * run of seconds. The certificate's hosts follow the records, so that a change replaces it.
 */
export = async () => {
  const config = readConfig();
  const plan = await preflight(config);
  if (config.cluster.provider !== "digitalocean" || !plan)
    throw new Error("The account's half is DigitalOcean's alone.");
  const { name, region, vpcCidr, systemPool, workerPools } = config.cluster;
  const owner = ownerOf(pulumi.getOrganization(), pulumi.getProject(), pulumi.getStack());
  const owned = { transformations: [ownedBy(owner)] };

  const vpc = new digitalocean.Vpc("cluster", { name, region, ipRange: vpcCidr }, owned);
  const cluster = new digitalocean.KubernetesCluster(
    "cluster",
    {
      name,
      region,
      version: plan.version,
      vpcUuid: vpc.id,
      ha: false,
      nodePool: { name: `${name}-system`, size: systemPool.size, nodeCount: systemPool.count },
    },
    owned,
  );
  for (const [pool, { size, count }] of Object.entries(workerPools)) {
    new digitalocean.KubernetesNodePool(pool, { clusterId: cluster.id, name: pool, size, nodeCount: count }, owned);
  }
  const { domain } = new Zone("zone", { domain: config.domain, zone: "create", deleteZone: true, protect: false });
  const { ttl, records } = config.dns;
  new Records("records", { domain, ttl, records, hosts: ["api", "docs"], address: "203.0.113.10" });
  new Certificate("certificate", { domain, hosts: records.map((record) => `${record.name}.${config.domain}`) });
};
