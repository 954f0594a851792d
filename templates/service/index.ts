import * as pulumi from "@pulumi/pulumi";
import { Platform } from "hobnob-platform";
import { Namespace } from "hobnob-platform/components/namespace";
import { ofPlatform, Routes } from "hobnob-platform/components/routes";
import { Service } from "hobnob-platform/components/service";

/** The service in a namespace of its own on the platform's cluster, and the host under the platform's domain that leads to it. */
export = () => {
  const config = new pulumi.Config();
  const name = pulumi.getProject();
  const port = config.getNumber("port") ?? 8080;

  const platform = new Platform(config.require("platform"));
  const onCluster = { provider: platform.provider("platform") };

  const namespace = new Namespace(name, { name }, onCluster);
  const service = new Service(
    name,
    {
      namespace: namespace.name,
      image: config.require("image"),
      ports: [{ name: "http", port: 80, targetPort: port }],
      ingressClass: platform.output("ingressClass"),
      memory: "128Mi",
      cpu: "50m",
      readiness: { httpGet: { path: "/", port: "http" } },
      liveness: { tcpSocket: { port: "http" } },
      volumes: { "/tmp": { emptyDir: {} } },
      spread: platform.output("spread"),
      nodeSelector: platform.output("nodeSelector"),
    },
    onCluster,
  );
  const routes = new Routes(
    name,
    {
      ...ofPlatform(platform),
      namespace: namespace.name,
      hosts: [pulumi.interpolate`${name}.${platform.output("domain")}`],
      paths: [{ serviceName: service.serviceName, port: 80 }],
    },
    onCluster,
  );

  return { url: routes.urls.apply(([url]) => url) };
};
