import type * as pulumi from "@pulumi/pulumi";
import { Service } from "hobnob-platform/components/service";
import type { Chapter } from "./chapter";

const DOWNWARD = "/etc/downward";
export const PORT = 8080;
/** Pods with this label may ask the replicas. */
export const CLIENTS = { matchLabels: { "kubia/client": "true" } };

/**
 * Replicas that tell their names, and the downward API: what a pod can learn of itself, as variables and as files. Files
 * follow a changed label, variables don't.
 */
export function replicas(chapter: Chapter, count: number, opts: pulumi.ComponentResourceOptions) {
  const kubia = new Service(
    "kubia",
    {
      ...chapter,
      args: ["replica"],
      replicas: count,
      ports: [{ name: "http", port: PORT, appProtocol: "http" }],
      env: {
        POD_NAME: { fieldRef: { fieldPath: "metadata.name" } },
        POD_IP: { fieldRef: { fieldPath: "status.podIP" } },
        NODE_NAME: { fieldRef: { fieldPath: "spec.nodeName" } },
        CPU_REQUEST_MILLICORES: { resourceFieldRef: { resource: "requests.cpu", divisor: "1m" } },
        MEMORY_LIMIT_KIBIBYTES: { resourceFieldRef: { resource: "limits.memory", divisor: "1Ki" } },
        DOWNWARD,
      },
      volumes: {
        [DOWNWARD]: {
          downwardAPI: {
            items: [
              { path: "labels", fieldRef: { fieldPath: "metadata.labels" } },
              { path: "namespace", fieldRef: { fieldPath: "metadata.namespace" } },
            ],
          },
        },
      },
      readiness: { httpGet: { path: "/readyz", port: "http" }, periodSeconds: 5 },
      liveness: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 10 },
      from: [{ from: [{ podSelector: CLIENTS }], ports: [{ protocol: "TCP", port: "http" }] }],
      memory: "64Mi",
      cpu: "10m",
    },
    opts,
  );
  return kubia;
}
