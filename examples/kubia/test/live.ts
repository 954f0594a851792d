import assert from "node:assert/strict";
import { AppsV1Api, BatchV1Api, CoreV1Api } from "@kubernetes/client-node";
import type { LiveCheck } from "../../../local/live";

interface Outputs {
  namespace: string;
  replicas: string;
  daemonSet: string;
  tasks: { once: string; quarterly: string };
  fortune: { service: string };
  ambassador: string;
}

/** Each form as the cluster has it; and where pods run, what they answer. */
const check: LiveCheck = async ({ outputs, kubeconfig, endpoints, isReal }) => {
  const { namespace, replicas, daemonSet, tasks, fortune, ambassador } = outputs as unknown as Outputs;
  const apps = kubeconfig.makeApiClient(AppsV1Api);
  const batch = kubeconfig.makeApiClient(BatchV1Api);
  const core = kubeconfig.makeApiClient(CoreV1Api);

  const { status: daemons } = await apps.readNamespacedDaemonSet({ namespace, name: daemonSet });
  assert.ok(daemons?.desiredNumberScheduled, "no machine has the labels");
  assert.equal(daemons.numberReady, daemons.desiredNumberScheduled);
  const { status: once } = await batch.readNamespacedJob({ namespace, name: tasks.once });
  assert.equal(once?.succeeded, 1);
  const { spec: quarterly } = await batch.readNamespacedCronJob({ namespace, name: tasks.quarterly });
  assert.equal(quarterly?.concurrencyPolicy, "Forbid");
  const pods = async () => (await core.listNamespacedPod({ namespace })).items.map(({ metadata }) => metadata?.name);
  const pages = await endpoints(namespace, fortune.service, "http");
  const seen = [`a monitor on ${daemons.numberReady} machines`, "the job done", `${pages.length} fortune pods`];
  if (!(await isReal(namespace, replicas))) return `${seen.join(", ")}; pods run nothing`;

  const hosts = await endpoints(namespace, replicas, "http");
  const answers = await Promise.all(hosts.map(async (host) => (await fetch(`http://${host}/`)).text()));
  const known = await pods();
  for (const answer of answers) assert.ok(known.includes(answer.replace("You've hit ", "").trim()), answer);
  assert.equal(new Set(answers).size, hosts.length);
  const self = (await (await fetch(`http://${hosts[0]}/self`)).json()) as Record<
    "env" | "files",
    Record<string, string>
  >;
  assert.deepEqual([self.env.CPU_REQUEST_MILLICORES, self.env.MEMORY_LIMIT_KIBIBYTES], ["10", "65536"]);
  assert.match(self.files.labels ?? "", /app\.kubernetes\.io\/name="kubia"/);
  assert.equal(self.files.namespace, namespace);

  const [list] = await endpoints(namespace, ambassador, "http");
  const listed = (await (await fetch(`http://${list}/`)).json()) as { name: string }[];
  const names = listed.map(({ name }) => name);
  assert.ok(
    known.every((name) => name?.startsWith("batch") || names.includes(name ?? "")),
    names.join(),
  );
  return `${[...seen, `${hosts.length} replicas by name`].join(", ")}, ${names.length} pods listed through the ambassador`;
};

export default check;
