import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import { hardened } from "hobnob-platform/components/podSpec";
import { type Chapter, pullWith, resources } from "./chapter";

/** One pod on each machine that has the labels, also on those that get them later: it watches their disk. */
export function daemonSet(chapter: Chapter, nodeSelector: Record<string, string>, opts: pulumi.CustomResourceOptions) {
  const labels = { "app.kubernetes.io/name": "disk-monitor" };
  const metadata = { name: "disk-monitor", namespace: chapter.namespace, labels };
  const account = new k8s.core.v1.ServiceAccount(
    "disk-monitor",
    { metadata, automountServiceAccountToken: false },
    opts,
  );
  const monitor = new k8s.apps.v1.DaemonSet(
    "disk-monitor",
    {
      metadata,
      spec: {
        selector: { matchLabels: labels },
        // One machine after the other.
        updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
        template: {
          metadata: { labels },
          spec: hardened({
            nodeSelector,
            serviceAccountName: account.metadata.name,
            imagePullSecrets: pullWith(chapter),
            containers: [
              {
                name: "disk-monitor",
                image: chapter.image,
                args: ["monitor"],
                env: [
                  { name: "NODE_NAME", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
                  { name: "SECONDS", value: "30" },
                ],
                resources: resources("48Mi"),
              },
            ],
          }),
        },
      },
    },
    opts,
  );
  return monitor.metadata.name;
}
