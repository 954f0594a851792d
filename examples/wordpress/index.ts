import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { Platform } from "hobnob-platform";
import { Certificate } from "hobnob-platform/components/certificate";
import { Records } from "hobnob-platform/components/dns";
import { IngressController } from "hobnob-platform/components/ingress";
import { Namespace } from "hobnob-platform/components/namespace";
import { ofPlatform, Routes } from "hobnob-platform/components/routes";
import { platformRecords } from "hobnob-platform/components/zone";
import { refuseSettings } from "hobnob-platform/settings";
import { Mariadb } from "./mariadb";
import { readSettings, type Settings } from "./settings";
import { SITE_LABELS, Site } from "./site";
import { Uploads } from "./uploads";

const DATABASE = "wordpress";
/** Seconds that resolvers may keep the site's address. */
const TTL = 300;

export = async () => {
  const settings = readSettings();
  const { hostname, ingressClass, protect } = settings;
  const platform = new Platform(settings.platform);
  const [zone, apiServer, spread, domain, expose, balancerHost] = await Promise.all([
    platform.value("zone"),
    platform.value("apiServer"),
    platform.value("spread"),
    platform.value("domain"),
    platform.value("ingressExpose"),
    platform.value("ingressHostname"),
    // What the records need, so that a platform without it is refused before there is any resource.
    platform.value("ingressAddress"),
    platform.value("ingressIpv6"),
  ]);
  refuseElsewhere(settings, { zone, isDigitalOcean: expose === "LoadBalancer" && !balancerHost });
  const onCluster = { provider: platform.provider("platform") };
  const host = `${hostname}.${domain}`;
  const nodeSelector = platform.output("nodeSelector");

  const { name: namespace } = new Namespace("wordpress", { name: "wordpress" }, onCluster);

  const certificate = settings.tls ? new Certificate("certificate", { domain: zone, hosts: [host] }) : undefined;
  const controller =
    ingressClass === undefined
      ? undefined
      : new IngressController(
          ingressClass,
          {
            className: ingressClass,
            replicas: 2,
            expose: "LoadBalancer",
            allowEmptyHost: false,
            maxBodySize: "1m",
            apiServer,
            spread,
            loadBalancer: {
              name: ingressClass,
              sizeUnit: settings.balancerNodes,
              certificateName: certificate?.certificateName,
              vpcRange: platform.output("ingressProxyRange"),
            },
            workers: [],
          },
          onCluster,
        );
  const routes = controller
    ? { ...controller.forRoutes, coveredHosts: settings.tls ? [host] : [] }
    : ofPlatform(platform);
  const url = pulumi
    .output(routes.coveredHosts)
    .apply((covered) => `${covered.length > 0 ? "https" : "http"}://${host}`);

  const storageClassName = platform.output("storageClass");
  const mariadb = new Mariadb(
    "mariadb",
    {
      namespace,
      database: DATABASE,
      password: new random.RandomPassword("mariadb-wordpress", { length: 32, special: false }).result,
      rootPassword: new random.RandomPassword("mariadb-root", { length: 32, special: false }).result,
      diskSize: settings.databaseDisk,
      storageClassName,
      nodeSelector,
      clients: SITE_LABELS,
      protect,
    },
    onCluster,
  );
  const uploads = new Uploads("uploads", { ...settings, namespace, storageClassName }, onCluster);
  const site = new Site(
    "wordpress",
    {
      ...settings,
      namespace,
      url,
      database: { host: mariadb.host, name: DATABASE, secretName: mariadb.secretName, labels: mariadb.labels },
      uploadsClaim: uploads.claimName,
      oneMachine: settings.uploads === "machine",
      ingressClass: routes.className,
      spread,
      nodeSelector,
    },
    onCluster,
  );

  if (settings.public) {
    const paths = [{ serviceName: site.serviceName, port: site.port }];
    // As much as PHP takes of an upload in the image.
    new Routes("wordpress", { ...routes, namespace, hosts: [host], paths, maxBodySize: "8m" }, onCluster);
    if (!controller) await platformRecords("records", platform, { hosts: [hostname], ttl: TTL });
    else if (zone && controller.address) {
      const { address } = controller;
      new Records("records", { domain: zone, hosts: [hostname], address, ttl: TTL, records: [] });
    }
  }

  return { url, namespace, serviceName: site.serviceName, databaseService: mariadb.host };
};

/** What the platform's cloud does not have, though it may be wanted. */
function refuseElsewhere(settings: Settings, platform: { zone: string; isDigitalOcean: boolean }) {
  const { ingressClass, tls } = settings;
  refuseSettings(settings, [
    ...(ingressClass !== undefined && !platform.isDigitalOcean
      ? [
          {
            key: "ingressClass" as const,
            allowed:
              "none on this platform, so that its own is taken: the balancer of another class would be DigitalOcean's",
            command: "remove" as const,
          },
        ]
      : []),
    ...(tls && !platform.zone
      ? [{ key: "tls" as const, allowed: "false: the platform has no DNS zone, which would prove the host" }]
      : []),
  ]);
}
