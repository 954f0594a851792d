import * as pulumi from "@pulumi/pulumi";
import type { Service } from "hobnob-platform/components/service";
import { Task } from "hobnob-platform/components/task";
import type { Chapter } from "./chapter";
import { CLIENTS, PORT } from "./replicas";

/** Work that ends, once, for whose end `up` waits, and again and again: it asks the replicas and counts who answers. */
export function tasks({ spread: _, ...chapter }: Chapter, kubia: Service, opts: pulumi.ComponentResourceOptions) {
  const batch = {
    ...chapter,
    args: ["batch"],
    env: { URL: pulumi.interpolate`http://${kubia.serviceName}:${PORT}/`, SECONDS: "60" },
    labels: CLIENTS.matchLabels,
    to: [{ to: [{ podSelector: { matchLabels: kubia.labels } }], ports: [{ protocol: "TCP", port: PORT }] }],
    memory: "48Mi",
    cpu: "10m",
  };
  const once = new Task("batch", { ...batch, deadlineSeconds: 300 }, opts);
  const often = new Task(
    "batch-quarterly",
    { ...batch, schedule: "0,15,30,45 * * * *", startingDeadlineSeconds: 15, deadlineSeconds: 300 },
    opts,
  );
  return { once: once.jobName, quarterly: often.jobName };
}
