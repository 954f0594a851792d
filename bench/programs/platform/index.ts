import * as pulumi from "@pulumi/pulumi";
import { clusterProvider } from "../../../components/clusterProvider";
import { Namespace } from "../../../components/namespace";
import { Service } from "../../../components/service";

import platform = require("../../../index");

/** The platform as it is, and `bench:services` further services on its cluster. */
export = async () => {
  const outputs = await platform();
  const count = new pulumi.Config("bench").requireNumber("services");
  const { kubeconfig, clusterId: clusterIdentifier } = outputs;
  const onCluster = { provider: clusterProvider("services", { kubeconfig, clusterIdentifier }) };
  const { name: namespace } = new Namespace("services", { name: "services" }, onCluster);
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
