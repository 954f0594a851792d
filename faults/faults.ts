import { setTimeout as sleep } from "node:timers/promises";
import { type Inventory, Platform, type Program, type Run, type Victim, victims } from "./platform";
import { Random } from "./random";

export interface Fault {
  /** `--seed` and `--from` that repeat its series. */
  seed: string;
  /** Of its series: the run that follows a fault may be hit by another, and the last one is left alone. */
  number: number;
  /** Its place in the series, from 1. */
  link: number;
  /** The `--changes` that it was made with. */
  changes: number;
  /** Of the whole platform, or of what it has in the account alone. */
  program: Program;
  during: "up" | "change" | "destroy";
  /** The request at which it hit. */
  point: string;
  victim: Victim;
  /** Whether an API had accepted a creation that the engine had not written yet. */
  withinGap: boolean;
  converged: boolean;
  /** What the audit found, in words. */
  problems: string[];
  /** Of the run that was left alone, which recovers and converges. */
  seconds: number;
}

export interface Options {
  seed: string;
  /** Number of the first fault. @default 1 */
  from?: number;
  count: number;
  /** Changes between two destructions. @default 14 */
  changes?: number;
  /** @default platform */
  program?: Program;
  /** Called after each series. */
  report(faults: Fault[]): void;
  say(line: string): void;
  /** Nothing new is begun after it. */
  deadline?: number;
}

const UP = ["start"];
const DESTROY = ["local", "destroy", "--yes", "--skip-preview"];

/** Creations that matter most when a platform is made, and how many of the others there are. */
const FIRST = ["^POST /v2/vpcs ", "^POST /v2/kubernetes/clusters ", "^POST /v2/domains "] as const;
const KUBERNETES = "^POST /apis?/";

/** Injects faults one after the other; each is followed by a run that must converge. */
export async function injectFaults(options: Options): Promise<Fault[]> {
  const { seed, from = 1, count, changes = 14, program = "platform", say } = options;
  const platform = new Platform(program);
  const faults: Fault[] = [];
  const cycle = changes + 2;
  let isUp = false;
  try {
    platform.configure({ ...base, ...target(new Random(`${seed}:base`)) });
    // A series whose points are not reached counts for nothing; many of them in a row are a fault of the harness.
    for (
      let number = from;
      faults.length < count && number < from + 3 * count && Date.now() < (options.deadline ?? Infinity);
      number++
    ) {
      const random = new Random(`${seed}:${number}`);
      const turn = (number - 1) % cycle;
      const during = turn === 0 ? "up" : turn === cycle - 1 ? "destroy" : "change";
      if (during === "up" ? isUp : !isUp) {
        say(`(${during === "up" ? "taking the platform down" : "bringing the platform up"} for fault ${number})`);
        await platform.run(...(isUp ? DESTROY : UP));
      }
      const series = await inject(platform, random, during, `${seed} ${number}`);
      isUp = during !== "destroy";
      if (series.length === 0) say(`${number}: the point was not reached`);
      const numbered = series.map((fault, index) => ({ ...fault, program, seed, number, link: index + 1, changes }));
      faults.push(...numbered);
      options.report(numbered);
    }
  } finally {
    await platform.remove();
  }
  return faults;
}

type Hit = Pick<Fault, "during" | "point" | "victim" | "withinGap">;

/** A series: runs that are hit, one after the other, and then one that is left alone and must converge. */
async function inject(platform: Platform, random: Random, during: Fault["during"], id: string) {
  const before = during === "change" ? await platform.inventory() : undefined;
  const volumes = during === "up" ? [] : await platform.volumes();
  if (during === "change") {
    platform.configure(target(random));
    if (random.chance(0.2)) platform.editImage(id);
  }
  const command = during === "destroy" ? DESTROY : UP;
  const hits: Hit[] = [];
  let last: Run | undefined;
  const isSmall = platform.program === "account";
  for (
    let left = isSmall ? random.between(3, 6) : random.pick([1, 2, 3, 3] as const);
    left > 0 && last?.code !== 0;
    left--
  ) {
    const [hit, run] = await strike(platform, random, during, command, hits.length === 0);
    if (hit) hits.push(hit);
    last = run;
  }
  if (hits.length === 0) return [];
  const cutOff = last;
  const next = last?.code === 0 ? last : await platform.run(...command);
  const problems = next.code === 0 ? [] : [`the next run ended with ${next.code}: ${tail(next)}`];
  problems.push(...(await audit(platform, during, before, volumes)));
  if (problems.length > 0 && cutOff)
    problems.push(`the run that was cut off: ${tail(cutOff)}`, `the next: ${next.output}`);
  return hits.map((hit) => ({ ...hit, converged: problems.length === 0, problems, seconds: next.seconds }));
}

/** One run, hit where it is; nothing where it ended before. */
async function strike(
  platform: Platform,
  random: Random,
  during: Fault["during"],
  command: string[],
  isFirst: boolean,
): Promise<[Hit | undefined, Run]> {
  const { match, nth, victim, hold, delay } = choose(random, during, isFirst, platform.program);
  platform.arm({ match, nth });
  const run = platform.start(command, {
    HOBNOB_FAULT_POINTS: platform.points,
    // Few at a time, so that there is something left to do for the run after a fault.
    ...(platform.program === "account" && { PULUMI_PARALLEL: "2" }),
  });
  let point: string | undefined;
  for (point = platform.reached(); !point && !run.isOver(); point = platform.reached()) await sleep(20);
  if (point && !hold) {
    platform.disarm();
    await sleep(delay);
  }
  const killed = point && !run.isOver() ? platform.kill(victim, run.pid, point) : [];
  platform.disarm();
  const result = await (killed.length > 0 ? ended(run.ended, () => platform.kill("run", run.pid, "")) : run.ended);
  const hit = point && { during, point, victim, withinGap: hold && point.startsWith("POST") };
  return [killed.length > 0 && hit ? hit : undefined, result];
}

/** A run may wait for minutes for what was killed: whoever started it loses patience. */
async function ended(run: Promise<Run>, endAll: () => void): Promise<Run> {
  const patience = setTimeout(endAll, 20_000);
  const result = await run;
  clearTimeout(patience);
  return result;
}

const tail = ({ output }: Run) => output.trim().split("\n").slice(-15).join("\n");

/** Where a fault hits and what it kills: most of them in the gap between a creation and its entry in the state. */
function choose(random: Random, during: Fault["during"], isFirst: boolean, program: Program) {
  const isSmall = program === "account";
  const hold = random.chance(during === "destroy" ? 0.5 : 0.75);
  const anything = isSmall ? (["engine", "provider", "machine", "account"] as const) : victims;
  const victim = hold
    ? random.pick(["engine", "engine", "provider", "provider", "machine"] as const)
    : random.pick<Victim>(anything);
  const delay = random.between(0, 1500);
  const at = (match: string, upTo: number) => ({ match, nth: random.between(1, upTo), victim, hold, delay });
  if (!hold) return at(".", isFirst && during !== "change" ? (isSmall ? 6 : 20) : 3);
  if (during === "destroy") return at("^DELETE ", isSmall ? 8 : 25);
  if (during === "change") return at("^POST ", isFirst ? 2 : 1);
  const others = isSmall ? "^POST " : KUBERNETES;
  if (!isFirst) return at(others, isSmall ? 3 : 8);
  const match = random.pick([...FIRST, others] as const);
  return at(match, match === others ? (isSmall ? 10 : 30) : 1);
}

/** Three nodes for the workloads from the start, so that a further pool moves none of them. */
const base = {
  "hobnob:cluster": {
    region: "fra1",
    ha: false,
    systemPool: { size: "s-2vcpu-4gb", count: 1 },
    workerPools: { workers: { size: "s-4vcpu-8gb", count: 3 } },
  },
};

/** A platform between the sizes of dev and of prod, with records and pools of its own: each always differs from the last. */
function target(random: Random): Record<string, unknown> {
  const name = () => `r${random.between(1000, 9999)}`;
  const records = Array.from({ length: random.between(4, 6) }, () =>
    random.pick([
      { name: name(), type: "TXT", value: `v=${random.between(1, 99)}` },
      { name: name(), type: "A", value: `203.0.113.${random.between(1, 250)}` },
      { name: name(), type: "CNAME", value: "api.hobnob.test." },
    ]),
  );
  const { "hobnob:cluster": cluster } = base;
  const extra = { [`extra${random.between(1, 5)}`]: { size: "s-2vcpu-4gb", count: 1 } };
  return {
    "hobnob:cluster": {
      ...cluster,
      workerPools: { ...cluster.workerPools, ...(random.chance(0.5) && extra) },
    },
    "hobnob:dns": { deleteZone: true, records },
    "hobnob:api": { replicas: random.between(2, 4), memory: random.pick(["192Mi", "256Mi"]) },
    "hobnob:elasticsearch": {
      memory: random.chance(0.15) ? "1536Mi" : "1Gi",
      mmap: random.chance(0.2),
    },
    // Its ConfigMap is replaced under a new name, and the controller's pods follow it.
    "hobnob:ingress": { maxBodySize: `${random.between(1, 4)}m` },
  };
}

/** Nothing left to do, nothing duplicated or orphaned, nothing replaced that need not be. */
async function audit(
  platform: Platform,
  during: Fault["during"],
  before: Inventory | undefined,
  volumes: string[],
): Promise<string[]> {
  const problems: string[] = [];
  if (during !== "destroy") {
    const preview = await platform.run("local", "preview", "--expect-no-changes");
    if (preview.code !== 0) problems.push(`a preview finds changes: ${preview.output}`);
  }
  const after = await platform.inventory();
  problems.push(...after.problems);
  for (const [object, identity] of before?.objects ?? []) {
    const now = after.objects.get(object);
    if (now !== undefined && now !== identity) problems.push(`replaced: ${object}`);
  }
  const disks = await platform.volumes();
  if (volumes.some((id) => !disks.includes(id))) {
    problems.push(`volumes: ${disks.length} of ${volumes.length}`);
  }
  const cluster = /KubernetesCluster|:Vpc /;
  const lost = [...(before?.objects.keys() ?? [])].filter((key) => cluster.test(key) && !after.objects.has(key));
  problems.push(...lost.map((object) => `gone: ${object}`));
  return problems;
}
