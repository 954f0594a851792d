import type { PlatformOutputs } from "../platform";
import { acceptance, type Target } from "./acceptance";
import { runChecks } from "./checks";
import { reasonOf } from "./client";
import { type Cluster, kubernetesCluster } from "./cluster";
import { passed, summary, table } from "./report";
import { type Pulumi, stackOutputs } from "./stack";

export interface VerifyOptions extends Pick<Target, "nothingPublic"> {
  pulumi: Pulumi;
  /** The commands that help where there is no platform to be checked. */
  commands: { deploy: string; access: string };
  /** Prints one JSON object instead of the table. */
  json: boolean;
}

/**
 * Accepts a live stack, or says what it misses.
 * @returns the exit code: 0 where nothing missed, 1 where something did, 130 after a Ctrl-C
 * @throws one line, where there is nothing to be checked
 */
export async function verify(stack: string, options: VerifyOptions): Promise<number> {
  const { pulumi, commands, json, nothingPublic } = options;
  const outputs = await stackOutputs(stack, pulumi, commands.deploy);
  const cluster = await reach(stack, outputs, commands);
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => interrupt.abort());
  const { checks, close } = acceptance({ outputs, cluster, nothingPublic });
  const { isTTY, columns } = process.stdout;
  const results = await runChecks(checks, interrupt.signal, (name) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${name} …`);
  }).finally(close);
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  const accepted = passed(results) && !interrupt.signal.aborted;
  if (json) console.log(JSON.stringify({ stack, accepted, checks: results }, null, 2));
  else console.log(`${table(results, isTTY ? columns : undefined)}\n${stack}: ${summary(results)}`);
  if (interrupt.signal.aborted) console.error("Interrupted: the checks that are not listed were not made.");
  return interrupt.signal.aborted ? 130 : accepted ? 0 : 1;
}

/** The cluster, once it has answered: whatever keeps it from that would else be a miss of each check. */
async function reach(
  stack: string,
  { kubeconfig, namespace, clusterName }: PlatformOutputs,
  { deploy, access }: VerifyOptions["commands"],
): Promise<Cluster> {
  try {
    const cluster = kubernetesCluster(kubeconfig, namespace);
    await cluster.workload("StatefulSet", "elasticsearch");
    return cluster;
  } catch (error) {
    const { code } = error as { code?: number | string };
    const where = `The cluster ${clusterName} of the stack ${stack}`;
    if (code === 404) throw new Error(`${where} has no Elasticsearch; deploy it: ${deploy}`);
    const reason = typeof code === "number" ? `it answers ${code}` : reasonOf(error);
    throw new Error(`${where} cannot be reached (${reason}); try: ${access}`);
  }
}
