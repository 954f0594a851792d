import { setTimeout as sleep } from "node:timers/promises";
import type { PlatformOutputs } from "../platform";
import { elasticsearchLogin } from "../verify/acceptance";
import { Client, reasonOf } from "../verify/client";
import type { Cluster } from "../verify/cluster";

/** A stack whose secrets are changed. */
export interface RotatedStack {
  name: string;
  /**
   * A command of the engine on the stack's settings; what it printed.
   * @param asks whether it may ask its user, who then sees what it prints
   */
  pulumi(args: string[], asks?: boolean): Promise<string>;
  /** One update, to its end. @throws where it failed */
  up(): Promise<void>;
  outputs(): Promise<Pick<PlatformOutputs, "kubeconfig" | "namespace" | "elasticsearchUrl">>;
  cluster(kubeconfig: string, namespace: string): Cluster;
  say(line: string): void;
  /** Until each node has what the kubelet brings it. @default 300 */
  patienceSeconds?: number;
}

const GENERATIONS = "hobnob:elasticsearch.passwordGenerations";

/** What can be rotated, with what each does in a line. */
export const rotations: Record<string, { what: string; rotate(stack: RotatedStack): Promise<void> }> = {
  elasticsearch: {
    what: "new passwords for all of Elasticsearch's users; the API's pods roll",
    rotate: rotatePasswords,
  },
  registry: {
    what: "another password or token to push images; asks for it; nothing rolls",
    rotate: (stack) => rotateRegistry(stack, "registryPassword"),
  },
  "registry-pull": {
    what: "another token to pull images; asks for it; nothing rolls",
    rotate: (stack) => rotateRegistry(stack, "registryPullPassword"),
  },
  cluster: { what: "after another DIGITALOCEAN_TOKEN or kubeconfig was set: nothing rolls", rotate: rotateAccess },
};

/**
 * In three updates: the nodes learn the new users, the clients get them, the nodes forget the old ones. Each generation is
 * accepted by every node before anybody uses it, and used by nobody when it goes. One that was cut off goes on where it was.
 */
async function rotatePasswords(stack: RotatedStack): Promise<void> {
  const [given, accepted] = await passwordGenerations(stack);
  const isHalfway = accepted !== undefined;
  const [old, next] = isHalfway ? [given, accepted].sort((one, other) => one - other) : [given, given + 1];
  if (old === undefined || next === undefined || given < 1) throw new Error(`No generation stands in ${GENERATIONS}`);
  if (isHalfway) stack.say(`Goes on with generation ${next}, which an earlier rotation has begun.`);
  if (given === old) {
    stack.say(`1 of 3: the nodes learn the users of generation ${next}.`);
    await setGenerations(stack, [old, next]);
    await stack.up();
    await untilAccepted(stack, next);
  }
  stack.say(`2 of 3: the clients get generation ${next}; the API's pods roll to it.`);
  await setGenerations(stack, [next, old]);
  await stack.up();
  stack.say(`3 of 3: the nodes forget generation ${old}.`);
  await setGenerations(stack, [next]);
  await stack.up();
  stack.say(`Elasticsearch's users have the passwords of generation ${next}, and no others.`);
}

async function passwordGenerations({ name, pulumi }: RotatedStack): Promise<[number, number?]> {
  const settings = JSON.parse(await pulumi(["config", "--json"])) as Record<string, { objectValue?: unknown }>;
  const elasticsearch = settings["hobnob:elasticsearch"]?.objectValue as
    | { security?: boolean | string; passwordGenerations?: number[] }
    | undefined;
  if (String(elasticsearch?.security) !== "true") {
    const command = `pulumi config set --path 'hobnob:elasticsearch.security' true --stack ${name}`;
    throw new Error(
      `Elasticsearch of the stack ${name} has no passwords: its security is off. To switch it on: ${command}`,
    );
  }
  const [given = 1, accepted] = (elasticsearch?.passwordGenerations ?? [1]).map(Number);
  return accepted === undefined ? [given] : [given, accepted];
}

async function setGenerations({ pulumi }: RotatedStack, generations: number[]): Promise<void> {
  const values = generations.flatMap((generation, i) => ["--plaintext", `${GENERATIONS}[${i}]=${generation}`]);
  await pulumi(["config", "set-all", "--path", ...values]);
  if (generations.length === 1) await pulumi(["config", "rm", "--path", `${GENERATIONS}[1]`]);
}

/**
 * The kubelets bring a changed Secret to the nodes within about two minutes, and Elasticsearch looks every 5 s.
 * Source: https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets-as-files-from-a-pod
 */
async function untilAccepted(stack: RotatedStack, generation: number): Promise<void> {
  const { kubeconfig, namespace, elasticsearchUrl } = await stack.outputs();
  const cluster = stack.cluster(kubeconfig, namespace);
  const deadline = Date.now() + (stack.patienceSeconds ?? 300) * 1000;
  try {
    const login = await elasticsearchLogin(elasticsearchUrl, cluster);
    const { pods } = await cluster.workload("StatefulSet", "elasticsearch");
    for (const { name, ports } of pods) {
      const { port, reason } = await cluster.forward(name, ports.http ?? 0);
      const client = new Client({ origin: `https://127.0.0.1:${port}`, name, explain: reason, ...login });
      stack.say(`Waits until ${name} accepts generation ${generation} …`);
      for (let answer = ""; ; await sleep(2000)) {
        answer = await client.ask("GET", "/_security/_authenticate").then(({ status }) => String(status), reasonOf);
        if (answer === "200") break;
        if (Date.now() < deadline) continue;
        const again = `npm run rotate -- ${stack.name} elasticsearch`;
        throw new Error(
          `${name} does not accept generation ${generation} (${answer}); nothing uses it yet. To go on: ${again}`,
        );
      }
      await client.close();
    }
  } finally {
    cluster.close();
  }
}

/** The Secret that pulls changes in place, and is read with each pull: no pod needs to know. */
async function rotateRegistry(stack: RotatedStack, key: "registryPassword" | "registryPullPassword"): Promise<void> {
  stack.say("Make the new token at the registry first, and delete the old one when this has ended.");
  await stack.pulumi(["config", "set", "--secret", `hobnob:${key}`], true);
  await stack.up();
}

/** No credential of the cluster is kept: each use gets its own, which lives for an hour. What made it is the environment's. */
async function rotateAccess(stack: RotatedStack): Promise<void> {
  await stack.up();
  stack.say("The account and the cluster answer to the new one. The old one can be deleted now.");
}
