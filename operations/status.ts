import Table from "cli-table3";
import { amount } from "../cost";
import { OWNER_LABEL } from "../owner";
import type { PlatformOutputs } from "../platform";
import { acceptance, type Target } from "../verify/acceptance";
import { type Check, elsewhere, miss, off, pass, type Result, runChecks, type Status } from "../verify/checks";
import { reasonOf } from "../verify/client";
import type { Cluster, Overview } from "../verify/cluster";
import { NODES_ANSWER, SHARDS } from "../verify/elasticsearch";
import { CERTIFICATE, DNS_SYSTEM, DNS_ZONE } from "../verify/public";
import type { Pulumi } from "../verify/stack";

export interface StatusOptions extends Pick<Target, "nothingPublic" | "world"> {
  stack: string;
  /** Those of an older program lack some. */
  outputs: Partial<PlatformOutputs> & Pick<PlatformOutputs, "namespace">;
  cluster: Cluster & Overview;
  pulumi: Pulumi;
  /** Why no pod can be asked. @default they can */
  nothingInPods?: string;
  /** Looks for what an update would change. @default false */
  preview?: boolean;
  signal?: AbortSignal;
}

const NODES = "nodes";

/** The acceptance's probes that only read. */
const OF_PODS = [NODES_ANSWER, SHARDS];
const PUBLIC = [DNS_ZONE, DNS_SYSTEM, CERTIFICATE];

/** How a stack is, in the order of a screen. Only reads. */
export async function status(options: StatusOptions): Promise<Result[]> {
  const { outputs, cluster, nothingInPods, nothingPublic, world, signal = new AbortController().signal } = options;
  const { checks, close } = acceptance({ outputs: outputs as PlatformOutputs, cluster, nothingPublic, world });
  const probes = (names: string[]) => checks.filter(({ name }) => names.includes(name));
  const ofPods = probes(OF_PODS).map(({ name, needs = [], run }) =>
    nothingInPods === undefined
      ? { name, needs: [NODES, ...needs], run }
      : { name, run: async () => elsewhere(nothingInPods) },
  );
  const all = [...ofCluster(options), ...ofPods, ...probes(PUBLIC), ...ofState(options)];
  return runChecks(all, signal).finally(close);
}

// ── what the cluster tells ──────────────────────────────────────────────────────────────────────────────────────────

function ofCluster({ outputs, cluster }: StatusOptions): Check[] {
  const needs = [NODES];
  return [
    { name: NODES, run: () => nodes(cluster) },
    { name: "workloads", needs, run: () => workloads(cluster, outputs) },
    { name: "balancer", needs, run: () => balancer(cluster, outputs) },
  ];
}

async function nodes(cluster: Overview) {
  const found = await cluster.nodes().catch((error) => {
    const { code } = error as { code?: number | string };
    throw new Error(
      `the cluster cannot be reached (${typeof code === "number" ? `it answers ${code}` : reasonOf(error)})`,
    );
  });
  const away = found.filter(({ ready }) => !ready).map(({ name }) => `${name} is not ready`);
  const cordoned = found.filter((node) => node.cordoned).map(({ name }) => `${name} takes no pods`);
  const detail = [`${found.length - away.length} of ${found.length} ready`, ...away, ...cordoned].join("; ");
  return away.length > 0 || found.length === 0 ? miss(detail) : pass(detail);
}

async function workloads(cluster: Overview, { namespace, ingressNamespace = "" }: StatusOptions["outputs"]) {
  const found = await cluster.workloads(OWNER_LABEL, [namespace, ingressNamespace]);
  const faults = found.flatMap(({ name, ready, wanted, updated = wanted }) => {
    if (ready < wanted) return `${name} has ${ready} of ${wanted} pods ready`;
    // Its old pods serve on, whatever keeps the new ones from it.
    return updated < wanted ? `${name} is not rolled out: ${updated} of ${wanted} pods are new` : [];
  });
  if (faults.length > 0) return miss(faults.join("; "));
  if (found.length === 0) return miss("there are none");
  return pass(found.map(({ name, wanted }) => `${name.split("/").at(-1)} ${wanted}`).join(", "));
}

async function balancer(cluster: Overview, outputs: StatusOptions["outputs"]) {
  const { ingressNamespace, ingressExpose, ingressAddress } = outputs;
  if (ingressNamespace === undefined) return elsewhere("the deployed program does not tell the controller's namespace");
  if (ingressExpose !== "LoadBalancer") return off(`the controller is reached by ${ingressExpose}`);
  const [found] = await cluster.balancers(ingressNamespace);
  if (!found) return miss(`there is no Service of type LoadBalancer in ${ingressNamespace}`);
  const now = found.addresses.join(", ") || "none";
  if (found.addresses.length > 0 && (!ingressAddress || found.addresses.includes(ingressAddress))) return pass(now);
  return miss(`its address is ${now}${ingressAddress ? ` instead of ${ingressAddress}` : ""}`);
}

// ── what the state tells ────────────────────────────────────────────────────────────────────────────────────────────

function ofState(options: StatusOptions): Check[] {
  return [
    { name: "last update", run: () => lastUpdate(options) },
    { name: "pending operations", run: () => pendingOperations(options) },
    { name: "pending changes", run: () => pendingChanges(options) },
    { name: "cost", run: () => cost(options) },
  ];
}

interface Update {
  kind: string;
  result: string;
  endTime?: string;
  resourceChanges?: Record<string, number>;
}

async function lastUpdate({ stack, pulumi }: StatusOptions) {
  const answer = await pulumi(["stack", "history", "--json", "--page-size", "1", "--stack", stack]);
  if (answer.exitCode !== 0) return elsewhere(`the history cannot be read: ${firstLine(answer.stderr)}`);
  const [last] = (JSON.parse(String(answer.stdout)) ?? []) as Update[];
  if (!last) return elsewhere("the backend keeps no history of it");
  const detail = [`${last.kind} ${last.result}`, last.endTime, changes(last.resourceChanges)]
    .filter(Boolean)
    .join(", ");
  return last.result === "succeeded" || last.result === "in-progress" ? pass(detail) : miss(detail);
}

async function pendingOperations({ stack, pulumi }: StatusOptions) {
  const answer = await pulumi(["stack", "export", "--stack", stack]);
  if (answer.exitCode !== 0) return elsewhere(`the state cannot be read: ${firstLine(answer.stderr)}`);
  const { deployment } = JSON.parse(String(answer.stdout)) as {
    deployment?: { pending_operations?: { type: string; resource: { urn: string } }[] };
  };
  const pending = deployment?.pending_operations ?? [];
  if (pending.length === 0) return pass("none");
  const names = pending.map(({ type, resource }) => `${type} ${resource.urn.split("::").at(-1)}`);
  const command = stack === "local" ? "npm start" : `npm run stack -- ${stack} up`;
  return miss(`a run was cut off while ${names.join(", ")}; go on: ${command}`);
}

async function pendingChanges({ stack, pulumi, preview }: StatusOptions) {
  if (!preview) return elsewhere(`not looked for; npm run status -- ${stack} --preview`);
  const answer = await pulumi(["preview", "--json", "--stack", stack]);
  if (answer.exitCode !== 0) return miss(`the preview fails; why: pulumi preview --stack ${stack}`);
  const { changeSummary } = JSON.parse(String(answer.stdout)) as { changeSummary?: Record<string, number> };
  return pass(changes(changeSummary) || "none");
}

async function cost({ stack, outputs: { monthlyCost } }: StatusOptions) {
  if (!monthlyCost) return elsewhere(`the deployed program does not tell it; npm run cost -- ${stack}`);
  return monthlyCost.priced ? pass(`${amount(monthlyCost)} a month`) : elsewhere("not priced here");
}

/** `2 update, 1 replace` */
const changes = (summary: Record<string, number> = {}): string =>
  Object.entries(summary)
    .filter(([operation, count]) => operation !== "same" && count > 0)
    .map(([operation, count]) => `${count} ${operation}`)
    .join(", ");

const firstLine = (text: unknown) =>
  String(text)
    .trim()
    .replace(/^error: /, "")
    .split("\n")[0];

// ── the screen ──────────────────────────────────────────────────────────────────────────────────────────────────────

const WORDS: Record<Status, string> = { pass: "well", miss: "NOT WELL", off: "–", elsewhere: "?", unchecked: "?" };

/** Whether nothing is known to be wrong. */
export const isWell = (results: Result[]): boolean => results.every(({ status }) => status !== "miss");

/** @param width of the terminal, into which long lines are broken; without it none is */
export function screen(stack: string, results: Result[], width?: number): string {
  const names = Math.max(...results.map(({ name }) => name.length));
  const lines = new Table({
    colWidths: [null, null, width ? Math.max(20, width - names - 18) : null],
    wordWrap: true,
    style: { head: [], border: [], compact: true },
  });
  for (const { name, status, detail } of results) lines.push([name, WORDS[status], detail]);
  const count = (...of: Status[]) => results.filter(({ status }) => of.includes(status)).length;
  const unknown = count("elsewhere", "unchecked");
  const verdict = isWell(results) ? "well" : `NOT WELL in ${count("miss")}`;
  return `${lines.toString()}\n${stack}: ${verdict}${unknown > 0 ? `, ${unknown} not known` : ""}`;
}
