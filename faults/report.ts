import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Fault } from "./faults";

/** What the report tells of each part: the question, and how it was shown. Its figures come from its own tests. */
const PARTS: Record<string, { title: string; shown: string }> = {
  availability: {
    title: "No single point of failure",
    shown:
      "Every node drained and every pod deleted in turn, with real evictions, on the embedded cluster (kwok's nodes).",
  },
  elasticsearch: {
    title: "Elasticsearch on its second day",
    shown:
      "Disks, memory, version, scale and restarts, each in its order, against real Elasticsearch processes while documents were written.",
  },
  "elasticsearch-platform": {
    title: "The same orders as updates of the whole platform",
    shown: "Memory, disks and scale by `pulumi up` and `npm run scale-down`, with real nodes behind the pods.",
  },
  "real-processes": {
    title: "Real processes behind the pods",
    shown: "Requests through the Services' endpoints during a rollout, a drain and a kill, answered by real processes.",
  },
  verify: {
    title: "Acceptance of a live stack",
    shown: "`npm run verify` against services that pass, and against services that fail each check.",
  },
  secrets: {
    title: "Secrets",
    shown: "A scan of state, outputs, logs, API objects and image layers, which is made to find planted ones.",
  },
  reachability: {
    title: "Who can reach whom",
    shown: "Every pair of pods judged by the NetworkPolicies' documented meaning; kwok's pods have no network.",
  },
  checkers: {
    title: "Public checkers of Kubernetes objects",
    shown: "The graph's objects, read back from the API server, given to pinned public checkers.",
  },
  input: {
    title: "Hostile configuration",
    shown: "Random malformed configurations given to config.ts and the components.",
  },
  "api-fuzz": {
    title: "Hostile requests",
    shown: "Requests made from the sample API's own OpenAPI document, and past its limits.",
  },
};

/** Writes docs/resilience.md from what the runs have recorded in `folder`; a part without a record is named as missing. */
export function compose(folder: string, file: string): void {
  const parts = Object.entries(PARTS).map(([part, { title, shown }]) =>
    [`## ${title}`, shown, figures(join(folder, `${part}.json`))].join("\n\n"),
  );
  const text = [
    "# Resilience",
    "What breaks, and what is lost by it: the figures of `npm run faults`, which writes this page.",
    `## Interrupted runs\n\n${interruptions(readFaults(folder))}`,
    ...parts,
  ].join("\n\n");
  writeFileSync(file, `${text}\n`);
}

export const readFaults = (folder: string): Fault[] => {
  const file = join(folder, "faults.jsonl");
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n").filter(Boolean);
  return lines.map((line) => JSON.parse(line) as Fault);
};

/** Without figures the table would claim what nobody has seen. */
function figures(file: string): string {
  if (!existsSync(file)) return "*Not recorded in this run.*";
  const entries = Object.entries(JSON.parse(readFileSync(file, "utf8")) as Record<string, string | number>);
  return table(["what", "figure"], entries);
}

function interruptions(faults: Fault[]): string {
  if (faults.length === 0) return "*Not recorded in this run.*";
  const { total } = summary(faults);
  const runs = [
    ...new Set(faults.map(({ program, seed, changes }) => `--program ${program} --seed ${seed} --changes ${changes}`)),
  ];
  const by = (title: string, key: (fault: Fault) => string) => {
    const groups = [...new Set(faults.map(key))].sort();
    const rows = groups.map((group) => {
      const some = faults.filter((fault) => key(fault) === group);
      return [group, some.length, count(some, "withinGap"), count(some, "converged")];
    });
    return table([title, "faults", "within the gap", "converged"], rows);
  };
  const rows = faults.map(({ seed, number, link, during, victim, point, withinGap, converged, seconds }) => [
    `${seed} ${number}.${link}`,
    during,
    victim,
    `\`${point}\``,
    withinGap ? "yes" : "",
    converged ? "yes" : "**no**",
    Math.round(seconds),
  ]);
  return [
    "A run of the whole platform on the embedded default is killed (SIGKILL), in many series the run that recovers from it as well; " +
      "a run of the same command that is left alone must then end well, " +
      "leave nothing for a preview to do, and the account's and the API server's objects must be those of the state: none " +
      "duplicated, none orphaned, none with another id or uid than before. *Within the gap*: an API had accepted a creation " +
      "that the engine had not written yet. Engine, control plane and registry are the real ones; the account, the providers " +
      "and the nodes are simulated.",
    table(["what", "figure"], Object.entries(total)),
    by("of", ({ program }) => (program === "account" ? "what it has in the account, alone" : "the whole platform")),
    by("killed", ({ victim }) => victim),
    by("during", ({ during }) => during),
    by("in the gap of", (fault) => (fault.withinGap ? kindOf(fault.point) : "(outside)")),
    "One series again, or all of its run without the last two options (what is chosen is the same, to the millisecond it is not):",
    `<!-- not run: minutes long; test/local/faults.test.ts runs a short series by the same function -->\n\`\`\`sh\n${runs.map((run) => `npm run faults -- --only interruptions ${run} --from <series> --count 1`).join("\n")}\n\`\`\``,
    `<details><summary>Every fault</summary>\n\n${table(["seed, series", "during", "killed", "after", "gap", "converged", "last run, s"], rows)}\n\n</details>`,
  ].join("\n\n");
}

/** The figures of a set of faults. */
export function summary(faults: Fault[]) {
  const gap = count(faults, "withinGap");
  const series = new Map(faults.map((fault) => [`${fault.seed} ${fault.number}`, fault]));
  const all = [...series.values()];
  const converged = count(all, "converged");
  const seconds = all.map((fault) => fault.seconds).sort((a, b) => a - b);
  return {
    total: {
      "faults injected": faults.length,
      "within the gap": `${gap} (${Math.round((100 * gap) / faults.length)} %)`,
      "series (up to 6 faults, the recovering run hit as well)": all.length,
      "of these converged": `${converged} (${Math.floor((100 * converged) / all.length)} %)`,
      "manual steps": 0,
      "median seconds of such a run": Math.round(seconds[Math.floor(seconds.length / 2)] ?? 0),
    },
  };
}

const count = (faults: Fault[], what: "withinGap" | "converged") => faults.filter((fault) => fault[what]).length;

/** `POST /v2/vpcs name` → vpcs; `POST /apis/apps/v1/namespaces/x/deployments y` → deployments. */
const kindOf = (point: string) => point.split(" ")[1]?.split("/").at(-1) ?? point;

function table(head: string[], rows: (string | number)[][]): string {
  const line = (cells: (string | number)[]) =>
    `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
