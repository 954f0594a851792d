import * as pulumi from "@pulumi/pulumi";
import { createCluster, withRegistry } from "../../../components/cluster";
import { Image } from "../../../components/image";
import { createZone } from "../../../components/zone";
import { readConfig } from "../../../config";
import { ownedBy, ownerOf } from "../../../owner";
import { preflight } from "../../../preflight";

/** What of the platform is in the account and the registry, as index.ts has it: the first of the usual two phases. */
export = async (): Promise<void> => {
  const config = readConfig();
  const versionPlan = await preflight(config);
  const owner = ownerOf(pulumi.getOrganization(), pulumi.getProject(), pulumi.getStack());
  const owned = { transformations: [ownedBy(owner)] };

  const cluster = createCluster("cluster", config.cluster, versionPlan, owned);
  new Image("backend", withRegistry(config.image, cluster));

  const { domain, dns, tls } = config;
  if (dns.zone === "none") return;
  const { protect } = cluster;
  const zone = createZone(
    "zone",
    config.cluster,
    { domain, zone: dns.zone, deleteZone: dns.deleteZone, protect },
    owned,
  );
  if (tls.enabled) zone.certificate("certificate", [`api.${domain}`, `docs.${domain}`]);
};
