import { isWell, type StatusOptions, screen, status } from "../operations/status";
import { kubernetesCluster } from "../verify/cluster";
import { pulumiIn, stackOutputs } from "../verify/stack";
import { runsRealPods } from "./kubelet/kwok";
import { localPulumi } from "./operate";
import { cloneDirectory } from "./paths";

const FLAGS = ["--json", "--preview"];

/** `npm run status -- <stack> [--preview] [--json]` */
export async function statusCommand(args: string[]): Promise<number> {
  const [stack, ...unknown] = args.filter((arg) => !FLAGS.includes(arg));
  if (!stack || unknown.length > 0 || stack.startsWith("-"))
    throw new Error(`Given: ${args.join(" ") || "nothing"}; a stack is needed. For example: npm run status -- prod`);
  const [json, preview] = FLAGS.map((flag) => args.includes(flag));
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => interrupt.abort());
  const results = await status({ ...(await target(stack)), preview, signal: interrupt.signal });
  if (interrupt.signal.aborted) return 130;
  const { isTTY, columns } = process.stdout;
  if (json) console.log(JSON.stringify({ stack, well: isWell(results), lines: results }, null, 2));
  else console.log(screen(stack, results, isTTY ? columns : undefined));
  return isWell(results) ? 0 : 1;
}

/** `local` as far as it is here, any other by its user's own pulumi and the kubeconfig in its outputs. */
async function target(stack: string): Promise<StatusOptions> {
  const isLocal = stack === "local";
  const pulumi = isLocal ? await localPulumi() : pulumiIn(cloneDirectory);
  const outputs = await stackOutputs(stack, pulumi, isLocal ? "npm start" : `npm run stack -- ${stack} up`);
  return {
    stack,
    outputs,
    pulumi,
    cluster: kubernetesCluster(outputs.kubeconfig, outputs.namespace),
    ...(isLocal && {
      nothingPublic: "balancer, DNS and TLS of the stack local are simulated",
      nothingInPods: runsRealPods() ? undefined : "simulated pods run nothing; real ones: npm start -- --real",
    }),
  };
}
