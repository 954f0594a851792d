import { fork } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { decode, encode } from "dns-packet";
import { execa } from "execa";
import { parse, stringify } from "yaml";
import { NAME_SERVERS } from "../components/dns";
import { adminKubeconfig } from "../local/cluster";
import { stopDaemons } from "../local/daemons";
import { account, type Engine, projectDirectory, pulumi } from "../local/engine";
import { cloneDirectory } from "../local/paths";
import { startPlatform } from "../local/start";
import { obtainTools } from "../local/tools";
import { type GraphResource, longestPath } from "../operations/graph";
import { type Bench, type Context, type Figures, figures, type Measured, ratio, type Sample } from "./harness";
import { revealed } from "./objects";

/** Seconds that a minute of the real cloud takes here: 9 minutes of it are the graph's longest path. */
const MINUTE = Number(process.env.HOBNOB_BENCH_MINUTE ?? 22);

/** Minutes of a real cloud. */
const TAKES = { cluster: 5, nodePool: 2, build: 2, push: 1, balancer: 2, attachment: 1, diskPod: 1, certificate: 1 };

/** A cluster's nodes come after its control plane, and both are its five minutes. */
const LATENCY = {
  cluster: MINUTE * (TAKES.cluster - TAKES.nodePool),
  node: MINUTE * TAKES.nodePool,
  balancer: MINUTE * TAKES.balancer,
  certificate: MINUTE * TAKES.certificate,
  volume: 0,
  attachment: MINUTE * TAKES.attachment,
  diskPod: MINUTE * TAKES.diskPod,
};
const [BUILD, PUSH] = [MINUTE * TAKES.build, MINUTE * TAKES.push];

/** A resource as the state has it, its secrets in the clear. */
interface Resource extends GraphResource {
  // biome-ignore lint/suspicious/noExplicitAny: as many shapes as types
  inputs?: any;
}

const bench: Bench = {
  name: "cloudTime",
  title: "e. A real cloud's time: makespan against the graph's longest path, a checklist and two phases",
  minutes: 35,
  async run(context) {
    const nameServer = await startNameServer();
    try {
      const { port } = nameServer.address();
      const { resources } = await runApart({ variant: "graph", port, resources: [] }, context.scratch);
      const [busy, began] = [processorSeconds(), performance.now()];
      const made = await rounds({ port, resources }, context);
      const share = (processorSeconds() - busy) / ((performance.now() - began) / 1000) / cpus().length;
      return measured(resources, made, share);
    } finally {
      nameServer.close();
    }
  },
};

export default bench;

const variants = ["hobnob", "checklist", "phases"] as const;
type Name = (typeof variants)[number];

/** Their three runs of a round are side by side, since almost all of each is waiting; none starts with another. */
async function rounds(given: Omit<Work, "variant">, { repetitions, scratch, say }: Context) {
  const samples: Record<Name, Sample[]> = { hobnob: [], checklist: [], phases: [] };
  for (let round = 0; round < repetitions; round++) {
    const order = round % 2 === 0 ? variants : variants.toReversed();
    const one = async (variant: Name, turn: number) => {
      await sleep((turn * MINUTE * 1000) / 2);
      const { seconds } = await runApart({ ...given, variant }, scratch);
      samples[variant].push({ seconds });
      say(`${variant}, ${round + 1} of ${repetitions}: ${seconds.toFixed(2)} s`);
    };
    await Promise.all(order.map(one));
  }
  return Object.fromEntries(variants.map((name) => [name, figures(samples[name])])) as Record<Name, Figures>;
}

function measured(resources: Resource[], { hobnob, checklist, phases }: Record<Name, Figures>, busy: number): Measured {
  const waiting = resources.map((one) => ({ ...one, dependencies: [...(one.dependencies ?? []), one.parent ?? ""] }));
  const { total, resources: longest } = longestPath(waiting, latencyOf);
  const path = { samples: hobnob.samples.map(() => total) };
  return {
    cases: [
      {
        case: `${total / MINUTE} minutes of a real cloud at ${MINUTE} s each`,
        variants: {
          "the graph's longest path": path,
          hobnob,
          "the same steps one after the other": checklist,
          "cloud first, then Kubernetes": phases,
        },
      },
    ],
    goals: [
      { goal: "e. cloud time: hobnob ÷ the graph's longest path", value: ratio(hobnob, path), atMost: 1.03 },
      { goal: "e. cloud time: one step after the other ÷ hobnob", value: ratio(checklist, hobnob), atLeast: 1.4 },
      { goal: "e. cloud time: cloud first, then Kubernetes ÷ hobnob", value: ratio(phases, hobnob) },
    ],
    notes: [
      `The longest path, by the state's dependencies, providers and parents and by each resource's configured latency alone: ${longest
        .filter((one) => latencyOf(one) > 0)
        .map((one) => `${kindOf(one.type)} ${latencyOf(one)} s`)
        .join(" → ")}.`,
      "Prod's settings with a certificate, from `pulumi up` to its end, program start and plugins included; the latencies are the simulated account's, and pods but Elasticsearch's are ready at once.",
      "One after the other: the account's API (as doctl asks it), the time of `docker build` and `docker push`, and `kubectl apply` with `rollout status` or `wait` for the same objects, each once the one before is done, in one process that knows all names.",
      "Two phases: a program with the cluster, its pools, image, zone and certificate, and then the whole one on the same stack.",
      `The three of a round ran side by side, each on a platform of its own, half a minute of that cloud apart: the machine's processors were ${Math.round(busy * 100)} % busy.`,
    ],
  };
}

/** One run from nothing. */
interface Work {
  /** `graph`: as `hobnob`, without latencies. */
  variant: Name | "graph";
  /** Of the name server. */
  port: number;
  /** What the graph makes, with its inputs. */
  resources: Resource[];
}

interface Done {
  seconds: number;
  resources: Resource[];
}

/** In a process of its own, as a process has one state directory. */
async function runApart(work: Work, scratch: string): Promise<Done> {
  const directory = mkdtempSync(join(scratch, "state-"));
  const images = work.variant === "graph" ? {} : { HOBNOB_LOCAL_IMAGE_SECONDS: `${BUILD} ${PUSH}` };
  const env = { ...process.env, ...images, HOBNOB_LOCAL_STATE: directory };
  const child = fork(__filename, [], { env, stdio: ["ignore", "ignore", "ignore", "ipc"] });
  child.send(work);
  const [answer] = await Promise.race([once(child, "message"), once(child, "exit")]);
  rmSync(directory, { recursive: true, force: true, maxRetries: 20 });
  if (typeof answer === "object" && answer !== null && "seconds" in answer) return answer as Done;
  throw new Error(`${work.variant}: ${JSON.stringify(answer)}`);
}

if (require.main === module) process.once("message", (work: Work) => void answer(work));

async function answer(work: Work): Promise<void> {
  // Also where the benchmark itself has been ended.
  const end = async (message?: object) => {
    await stopDaemons();
    if (message && process.connected) process.send?.(message);
    process.disconnect?.();
  };
  process.once("disconnect", () => void end());
  try {
    await end(await run(work));
  } catch (error) {
    await end({ error: String(error) });
  }
}

async function run({ variant, port, resources }: Work): Promise<Done> {
  const { platform } = await startPlatform("up", settings(port));
  const none = Object.fromEntries(Object.keys(LATENCY).map((name) => [name, 0]));
  await account(platform, "/local/settings", { latency: variant === "graph" ? none : LATENCY });
  const began = performance.now();
  if (variant === "checklist") await checklist(platform, resources);
  else if (variant === "phases") await twoPhases(platform);
  else await up(platform);
  const seconds = (performance.now() - began) / 1000;
  return { seconds, resources: variant === "graph" ? await graphOf(platform) : [] };
}

async function twoPhases(platform: Engine): Promise<void> {
  useProgram(firstPhase());
  await up(platform);
  useProgram("program/index.ts");
  await up(platform);
}

async function graphOf(platform: Engine): Promise<Resource[]> {
  const { stdout } = await pulumi(platform, ["stack", "export", "--stack", "local", "--show-secrets"]);
  return revealed(JSON.parse(String(stdout)).deployment.resources) as Resource[];
}

/** As a README would have it: a command, its wait, the next command. Its objects are the ones that the graph makes. */
async function checklist(platform: Engine, resources: Resource[]): Promise<void> {
  const { kubectl } = await obtainTools(["kubectl"]);
  const made = resources.filter(({ type }) => !type.startsWith("hobnob:"));
  const of = (...kinds: string[]) => made.filter(({ type }) => kinds.includes(kindOf(type)));
  const input = (kind: string) => of(kind)[0]?.inputs;
  const post = (path: string, body: object) => account(platform, `/v2/${path}`, body);

  const { vpc } = await post("vpcs", { name: "checklist", region: "fra1", ip_range: input("Vpc").ipRange });
  const { name, region, version, ha, nodePool } = input("KubernetesCluster");
  const ours = { name, region, version, ha, vpc_uuid: vpc.id, node_pools: [poolRequest(nodePool)] };
  const { kubernetes_cluster: cluster } = await post("kubernetes/clusters", ours);
  const path = `/v2/kubernetes/clusters/${cluster.id}`;
  await until(async () => (await account(platform, path)).kubernetes_cluster.status.state === "running");
  for (const { inputs } of of("KubernetesNodePool")) {
    const { node_pool: pool } = await post(`kubernetes/clusters/${cluster.id}/node_pools`, poolRequest(inputs));
    const isRunning = ({ status }: { status: { state: string } }) => status.state === "running";
    await until(async () =>
      (await account(platform, `${path}/node_pools/${pool.id}`)).node_pool.nodes.every(isRunning),
    );
  }

  // docker build, docker push: what a registry of this machine takes itself is left out, to the checklist's good.
  await sleep((BUILD + PUSH) * 1000);

  const { domains, ...request } = input("Certificate");
  await post("domains", { name: input("Domain").name });
  const { certificate } = await post("certificates", { ...request, dns_names: domains });
  await until(
    async () => (await account(platform, `/v2/certificates/${certificate.id}`)).certificate.state === "verified",
  );

  const env = { KUBECONFIG: adminKubeconfig() };
  const run = (args: string[], input?: string) => execa(kubectl.path, args, { env, ...(input && { input }) });
  const apply = (resources: Resource[]) =>
    run(
      ["apply", "-f", "-"],
      JSON.stringify({ apiVersion: "v1", kind: "List", items: resources.map((one) => one.inputs) }),
    );
  const waited = [...of("StatefulSet", "DaemonSet", "Deployment", "Ingress"), ...made.filter(isBalancer)];
  await apply(made.filter((one) => isObject(one) && !waited.includes(one)));
  for (const kind of ["DaemonSet", "StatefulSet", "Deployment"]) {
    for (const one of of(kind)) {
      const { name, namespace } = one.inputs.metadata;
      await apply([one]);
      await run(["rollout", "status", `${kind}/${name}`, "--namespace", namespace, "--timeout", "15m"]);
    }
  }
  let address = "";
  for (const one of [...resources.filter(isBalancer), ...of("Ingress")]) {
    const { name, namespace } = one.inputs.metadata;
    const ip = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    const named = [`${one.inputs.kind}/${name}`, "--namespace", namespace];
    await apply([one]);
    await run(["wait", ...named, `--for=${ip}`, "--timeout", "15m"]);
    if (isBalancer(one)) {
      address = (await run(["get", ...named, "--output", ip])).stdout;
      for (const { inputs } of of("DnsRecord"))
        await post(`domains/${inputs.domain}/records`, {
          type: inputs.type,
          name: inputs.name,
          ttl: inputs.ttl,
          data: address,
        });
    }
  }
}

/** Those of `prod`, with a certificate, on this machine's registry. */
function settings(nameServerPort: number): Record<string, unknown> {
  const { config } = parse(readFileSync(join(cloneDirectory, "Pulumi.prod.yaml"), "utf8"));
  const { "hobnob:registry": _, ...ours } = config;
  return {
    ...ours,
    "hobnob:domain": "hobnob.test",
    "hobnob:tls": { enabled: true, resolver: `127.0.0.1:${nameServerPort}` },
  };
}

/** By it the world finds every zone at DigitalOcean's name servers: else no certificate could be had. */
async function startNameServer(): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.on("message", (message, { address, port }) => {
    const { id, questions = [] } = decode(message);
    const answers = NAME_SERVERS.map((data) => ({ type: "NS" as const, name: questions[0]?.name ?? "", data }));
    socket.send(encode({ type: "response", id, questions, answers }), port, address);
  });
  await once(socket.bind(0, "127.0.0.1"), "listening");
  return socket;
}

const up = (platform: Engine) =>
  pulumi(platform, ["up", "--yes", "--skip-preview", "--suppress-outputs", "--stack", "local"]);

/** @param main in the copy of the project, whose `program` is the clone */
function useProgram(main: string): void {
  const file = join(projectDirectory(), "Pulumi.yaml");
  writeFileSync(file, stringify({ ...parse(readFileSync(file, "utf8")), main }));
}

/** A program finds the image's context and its loader beside its main file, and so cannot run where it stands. */
function firstPhase(): string {
  const directory = join(projectDirectory(), "first-phase");
  mkdirSync(directory);
  for (const name of ["app", "loader.cjs", "node_modules", "package.json"])
    symlinkSync(join(cloneDirectory, name), join(directory, name));
  const program = JSON.stringify(join(cloneDirectory, "bench", "programs", "cloudTime"));
  writeFileSync(join(directory, "index.js"), `module.exports = require(${program});\n`);
  return "first-phase/index.js";
}

/** What the settings above make of one resource; what is not named takes no time. */
function latencyOf({ type, inputs }: Resource): number {
  const kind = kindOf(type);
  if (kind === "KubernetesCluster") return LATENCY.cluster + LATENCY.node;
  if (kind === "KubernetesNodePool") return LATENCY.node;
  if (kind === "Image" && type.startsWith("docker:")) return BUILD + PUSH;
  if (kind === "Certificate" && type.startsWith("digitalocean:")) return LATENCY.certificate;
  if (kind === "StatefulSet") return LATENCY.attachment + LATENCY.diskPod;
  return inputs?.spec?.type === "LoadBalancer" ? LATENCY.balancer : 0;
}

const kindOf = (type: string) => type.split(":").at(-1) ?? type;
const isBalancer = ({ inputs }: Resource): boolean => inputs?.spec?.type === "LoadBalancer";
const isObject = ({ type }: Resource) => /^kubernetes:(?!.*Patch$)/.test(type);

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(250);
}

// biome-ignore lint/suspicious/noExplicitAny: the inputs of a pool, wherever they stand
const poolRequest = ({ autoScale, nodeCount, minNodes, maxNodes, name, size, labels, taints, tags }: any) => ({
  ...{ name, size, labels, taints, tags, count: nodeCount ?? minNodes },
  ...(autoScale && { auto_scale: true, min_nodes: minNodes, max_nodes: maxNodes }),
});

/** That all processors of the machine have been busy since it started (Linux). */
function processorSeconds(): number {
  return cpus().reduce((sum, { times: { user, nice, sys, irq } }) => sum + user + nice + sys + irq, 0) / 1000;
}
