import { readdirSync, readFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { execa, type Options } from "execa";

/** One benchmark: a file of its own, whose default export this is. */
export interface Bench {
  /** As `npm run bench -- <name>` has it. */
  name: string;
  title: string;
  /** Of a whole run, for the estimate that is shown. */
  minutes: number;
  run(context: Context): Promise<Measured>;
}

export interface Context {
  /** How often each variant runs. At least 5 for figures that are kept. */
  repetitions: number;
  /** An empty folder that is removed afterwards. */
  scratch: string;
  say(line: string): void;
}

export interface Measured {
  cases: Case[];
  goals: Goal[];
  /** What a reader must know to judge the figures. */
  notes?: string[];
}

/** The variants of one case, which ran in turn. */
export interface Case {
  case: string;
  variants: Record<string, Figures>;
}

export interface Figures {
  /** One a repetition, in the order in which they ran; {@link summary} is what is shown. */
  samples: number[];
  /** @default s */
  unit?: string;
  /** Peak of the resident memory of the command and all its children. */
  megabytes?: number;
}

/** A ratio that must stay on one side of a limit. */
export interface Goal {
  goal: string;
  value: number;
  atMost?: number;
  atLeast?: number;
}

export interface Sample {
  seconds: number;
  megabytes?: number;
}

export interface Variant {
  /** Untimed, before each run. */
  prepare?(): Promise<void>;
  run(): Promise<Sample>;
  /** Untimed, after each run. */
  restore?(): Promise<void>;
}

/** Runs the variants in turn, each second round in the opposite order, so that a drift of the machine favours none. */
export async function alternate<Name extends string>(
  variants: Record<Name, Variant>,
  { repetitions, say }: Context,
): Promise<Record<Name, Figures>> {
  const names = Object.keys(variants) as Name[];
  const samples = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, Sample[]>;
  for (let round = 0; round < repetitions; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const { prepare, run, restore } = variants[name];
      await prepare?.();
      const sample = await run();
      await restore?.();
      samples[name].push(sample);
      say(`${name}, ${round + 1} of ${repetitions}: ${sample.seconds.toFixed(2)} s`);
    }
  }
  return Object.fromEntries(names.map((name) => [name, figures(samples[name])])) as Record<Name, Figures>;
}

export function figures(samples: Sample[]): Figures {
  const peaks = samples.flatMap(({ megabytes }) => megabytes ?? []);
  return {
    samples: samples.map(({ seconds }) => seconds),
    ...(peaks.length > 0 && { megabytes: Math.max(...peaks) }),
  };
}

export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.floor(middle)] ?? Number.NaN) + (sorted[Math.ceil(middle) - 1] ?? Number.NaN)) / 2;
}

/** The median of the rounds' ratios: the two of a round ran one after the other, on the same mood of the machine. */
export const ratio = (one: Figures, other: Figures): number =>
  median(one.samples.map((sample, round) => sample / (other.samples[round] ?? Number.NaN)));

export const isMet = ({ value, atMost = Number.POSITIVE_INFINITY, atLeast = 0 }: Goal): boolean =>
  value <= atMost && value >= atLeast;

/** Such as `1.42 (1.38–1.61) s`. */
export function summary({ samples, unit = "s" }: Figures): string {
  const [middle, least, most] = [median(samples), Math.min(...samples), Math.max(...samples)].map(threeDigits);
  return samples.length === 1 ? `${middle} ${unit}` : `${middle} (${least}–${most}) ${unit}`;
}

export const threeDigits = (number: number): string =>
  number >= 100 ? number.toFixed(0) : Number(number.toPrecision(3)).toString();

/** Runs a command to its end, and takes the peak of its processes' memory (Linux only). @throws where it fails */
export async function timed(command: string, args: string[], options: Options = {}): Promise<Sample> {
  const began = performance.now();
  const running = execa(command, args, { stdin: "ignore", ...options });
  const peak = watchMemory(running.pid);
  try {
    await running;
    return { seconds: (performance.now() - began) / 1000, megabytes: peak() };
  } finally {
    peak();
  }
}

/** Samples what a process and its descendants hold. @returns ends it, and gives the peak in megabytes */
export function watchMemory(pid: number | undefined): () => number | undefined {
  if (pid === undefined || process.platform !== "linux") return () => undefined;
  let most = 0;
  const sample = () => {
    most = Math.max(most, residentKilobytes(pid));
  };
  const timer = setInterval(sample, 100);
  return () => {
    clearInterval(timer);
    return Math.round(most / 1024);
  };
}

function residentKilobytes(root: number): number {
  const children = new Map<number, number[]>();
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    const parent = Number(/\)\s\S\s(\d+)/.exec(read(`/proc/${entry}/stat`))?.[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
  }
  const of = (pid: number): number => {
    const own = Number(/^VmRSS:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
    return (children.get(pid) ?? []).reduce((sum, child) => sum + of(child), own);
  };
  return of(root);
}

/** Empty of a process that has ended meanwhile. */
function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** What the figures were measured on. */
export const machine = () => ({
  processors: `${cpus().length} × ${cpus()[0]?.model.trim() ?? "unknown"}`,
  memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
  system: `${process.platform} ${process.arch}`,
  node: process.version,
});
