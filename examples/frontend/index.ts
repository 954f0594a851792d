import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { Platform } from "hobnob-platform";
import { ownImage } from "hobnob-platform/components/image";
import { Namespace } from "hobnob-platform/components/namespace";
import { ofPlatform, Routes } from "hobnob-platform/components/routes";
import { Service } from "hobnob-platform/components/service";
import { platformRecords } from "hobnob-platform/components/zone";
import { readSettings } from "./settings";

const PORT = 8080;
/** What the server waits for its clients to move on, and 10 s more for the requests under way. */
const DRAIN_SECONDS = 5;

export = async () => {
  const settings = readSettings();
  const platform = new Platform(settings.platform);
  const [registry, coveredHosts] = await Promise.all([platform.value("registry"), platform.value("coveredHosts")]);
  const onCluster = { provider: platform.provider("platform") };

  const apex = platform.output("domain");
  const home = pulumi.interpolate`www.${apex}`;
  const homeUrl = pulumi.interpolate`${coveredHosts.length > 0 ? "https" : "http"}://${home}`;

  const image = ownImage("site", { settings, registry, context: join(__dirname, "site") });
  const { name: namespace } = new Namespace("frontend", { name: "frontend" }, onCluster);
  const pullSecretName = image.pullSecretIn(namespace, onCluster);
  // The browser asks the API, the server asks nobody.
  const site = new Service(
    "site",
    {
      namespace,
      image: image.ref,
      pullSecretName,
      replicas: settings.replicas,
      spread: platform.output("spread"),
      nodeSelector: platform.output("nodeSelector"),
      ports: [{ name: "http", port: PORT, appProtocol: "http" }],
      ingressClass: platform.output("ingressClass"),
      env: {
        API_URL: platform.output("apiUrl"),
        PUBLIC_URL: homeUrl,
        REDIRECT_HOST: apex,
        PORT: String(PORT),
        DRAIN_SECONDS: String(DRAIN_SECONDS),
      },
      startup: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 1, failureThreshold: 30 },
      readiness: { httpGet: { path: "/readyz", port: "http" }, periodSeconds: 5 },
      liveness: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 10, timeoutSeconds: 5 },
      stopSeconds: DRAIN_SECONDS + 15,
      memory: "96Mi",
      cpu: "20m",
    },
    onCluster,
  );

  const paths = [{ serviceName: site.serviceName, port: PORT }];
  new Routes("site", { ...ofPlatform(platform), namespace, hosts: [home, apex], paths }, onCluster);

  await platformRecords("records", platform, { hosts: ["www", "@"] });

  return { url: homeUrl, namespace, serviceName: site.serviceName };
};
