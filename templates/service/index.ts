import * as pulumi from "@pulumi/pulumi";
import { Platform } from "hobnob-platform";
import { Namespace } from "hobnob-platform/components/namespace";
import { ofPlatform, Routes } from "hobnob-platform/components/routes";
import { Service } from "hobnob-platform/components/service";
import { readSettings } from "hobnob-platform/settings";
import { z } from "zod";

const IMAGE = "an image by digest, repository@sha256:…";
const PORT = "a port from 1024 to 65535, since the process is not root";

/** The stack's own keys, beside `platform`; each message says what is allowed. */
const keys = {
  image: z.string(IMAGE).regex(/^\S+@sha256:[0-9a-f]{64}$/, IMAGE),
  port: z.int(PORT).min(1024, PORT).max(65535, PORT).default(8080),
};

/** The service in a namespace of its own on the platform's cluster, and the host under the platform's domain that leads to it. */
export = () => {
  const settings = readSettings(keys);
  const name = pulumi.getProject();
  const platform = new Platform(settings.platform);
  const onCluster = { provider: platform.provider("platform") };

  const namespace = new Namespace(name, { name }, onCluster);
  const service = new Service(
    name,
    {
      namespace: namespace.name,
      image: settings.image,
      ports: [{ name: "http", port: 80, targetPort: settings.port }],
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
