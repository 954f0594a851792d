import type { DigitalOceanClusterConfig } from "../../config";

/** A DigitalOcean cluster with every default, written out: tests must not take it from the code that they test. */
export const config: DigitalOceanClusterConfig = {
  provider: "digitalocean",
  name: "hobnob-dev",
  region: "fra1",
  version: "1.36",
  ha: false,
  autoUpgrade: true,
  surgeUpgrade: true,
  maintenance: { day: "sunday", startTime: "04:00" },
  vpcCidr: "10.10.0.0/20",
  allowedAddresses: [],
  allowedAddressesIncludeThisMachine: false,
  destroyAllAssociatedResources: false,
  protect: false,
  systemPool: { size: "s-2vcpu-4gb", count: 3 },
  workerPools: {},
};
