import type * as k8s from "@pulumi/kubernetes";
import { Namespace } from "../../components/namespace";
import { Service, type ServiceArgs } from "../../components/service";

/** So many services, in a namespace of their own. */
export function addServices(
  count: number,
  provider: k8s.Provider | undefined,
  placement: Pick<ServiceArgs, "spread" | "nodeSelector"> = {},
): void {
  const onCluster = { provider };
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
        ...placement,
      },
      onCluster,
    );
}
