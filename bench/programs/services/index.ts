import * as pulumi from "@pulumi/pulumi";
import { Platform } from "hobnob-platform";
import { Namespace } from "hobnob-platform/components/namespace";
import { Service } from "hobnob-platform/components/service";

const config = new pulumi.Config();
const platform = new Platform(config.require("platform"));
const onCluster = { provider: platform.provider("platform") };
const { name: namespace } = new Namespace("services", { name: "services" }, onCluster);

for (let i = 0; i < config.requireNumber("count"); i++)
  new Service(
    `service-${i}`,
    {
      namespace,
      image: "docker.io/acme/service:1.0.0",
      ports: [{ name: "http", port: 8080 }],
      memory: "64Mi",
      cpu: "10m",
      readiness: { httpGet: { path: "/", port: "http" } },
      spread: platform.output("spread"),
      nodeSelector: platform.output("nodeSelector"),
    },
    onCluster,
  );
