import { AppsV1Api, KubeConfig, PatchStrategy, setHeaderOptions } from "@kubernetes/client-node";
import { MAY_SHRINK_TO } from "../components/elasticsearch";
import type { PlatformOutputs } from "../platform";
import { connect } from "./elasticsearch";
import { checkCopies, leaving, settle, vacate } from "./scaling";

/** Who runs one stack. */
export interface Operator {
  stack: string;
  outputs(): Promise<PlatformOutputs>;
  /** Sets a key of the stack's settings. */
  configure(path: string, value: string): Promise<void>;
  /** @returns its exit code */
  up(): Promise<number>;
  say(line: string): void;
}

/**
 * Takes the last nodes out of the stack's Elasticsearch. Cut off, it goes on when it is run again; with the number that
 * there is, it takes back what an earlier run has begun.
 * @returns the exit code
 */
export async function scaleDown(operator: Operator, replicas: number): Promise<number> {
  const { say } = operator;
  const outputs = await operator.outputs();
  const set = statefulSet(outputs);
  const current = await set.replicas();
  if (replicas > current)
    throw new Error(
      `Elasticsearch has ${current} nodes. A plain update adds some: ` +
        `pulumi config set --path hobnob:elasticsearch.replicas ${replicas} --stack ${operator.stack} && pulumi up --stack ${operator.stack}`,
    );
  const { elasticsearch, close } = await connect(outputs);
  try {
    const nodes = leaving(current, replicas);
    if (nodes.length > 0) {
      await checkCopies(elasticsearch, replicas);
      say(`Moves all shards off ${nodes.join(", ")}, which takes its time; a Ctrl-C and the same command go on later.`);
      await vacate(elasticsearch, nodes, { say });
      say(`${nodes.join(", ")} hold nothing any more.`);
      await set.mayShrinkTo(String(replicas));
    }
    await operator.configure("hobnob:elasticsearch.replicas", String(replicas));
    const code = await operator.up();
    if (code !== 0) {
      say("The update did not finish. The same command goes on from there.");
      return code;
    }
    await settle(elasticsearch, nodes);
    await set.mayShrinkTo(null);
    say(`Elasticsearch has ${replicas} nodes.`);
    for (const node of nodes) say(`Kept: claim data-${node} with its disk; a later scale-up takes it again.`);
    return 0;
  } finally {
    await close();
  }
}

function statefulSet({ kubeconfig, namespace }: PlatformOutputs) {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  const apps = config.makeApiClient(AppsV1Api);
  const name = "elasticsearch";
  return {
    replicas: async () => (await apps.readNamespacedStatefulSet({ name, namespace })).spec?.replicas ?? 1,
    mayShrinkTo: (value: string | null) =>
      apps.patchNamespacedStatefulSet(
        { name, namespace, body: { metadata: { annotations: { [MAY_SHRINK_TO]: value } } } },
        setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
      ),
  };
}
