import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { Namespace } from "../../../components/namespace";
import { Service } from "../../../components/service";

import platform = require("../../../index");

/** The platform as it is, and `bench:services` further services on its cluster, by the same provider. */
export = async () => {
  let provider: k8s.Provider | undefined;
  pulumi.runtime.registerStackTransformation(({ resource }) => {
    if (resource instanceof k8s.Provider) provider = resource;
    return undefined;
  });
  const outputs = await platform();
  const onCluster = { provider };
  const { name: namespace } = new Namespace("services", { name: "services" }, onCluster);
  const count = new pulumi.Config("bench").requireNumber("services");
  for (let i = 0; i < count; i++)
    new Service(
      `service-${i}`,
      {
        namespace,
        image: "docker.io/acme/service:1.0.0",
        ports: [{ name: "http", port: 8080 }],
        memory: "64Mi",
        cpu: "10m",
        readiness: { httpGet: { path: "/", port: "http" } },
      },
      onCluster,
    );
  return outputs;
};
