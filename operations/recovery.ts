import type { Found, Objects } from "./objects";
import { type Deployment, hasUnknown, isObject, marksOf, plaintext, type StateResource, withFound } from "./state";

/** How the engine is run on one stack. */
export interface Runner {
  /** As a command names it: `dev`, or `organization/hobnob/dev`. */
  stack: string;
  environment: NodeJS.ProcessEnv;
  /** @returns what it printed. @throws where it fails. @param input for its stdin */
  pulumi(args: string[], input?: string): Promise<string>;
  say(line: string): void;
}

/** Set for a program whose run has resolved pending operations before it. */
export const RECOVERED = "HOBNOB_RECOVERED";

/** What makes the engine fast, and tells the program that pending operations have been resolved. */
export const engineSettings = (environment: NodeJS.ProcessEnv) => ({
  PULUMI_SKIP_UPDATE_CHECK: "true",
  PULUMI_PARALLEL: environment.PULUMI_PARALLEL ?? "64",
  // Each step writes the whole state anew: the engine, written in Go, is busy with its garbage, and memory is cheap.
  GOGC: environment.GOGC ?? "400",
  [RECOVERED]: "true",
});

interface Exported {
  deployment: Deployment & { manifest?: { time?: string } };
}

/**
 * Makes the state know all that an earlier run made or removed before it was cut off or failed; a run that ended well
 * costs two questions to the backend. An operation that was pending is looked up by name and owner. Where the engine
 * itself outlived the failure it has noted nothing, so that what the next run would create is looked up as well.
 * @param command what is to be run next
 * @param wasKilled whether a dead engine's lock was found
 * @returns the flags that the command needs besides its own: what was updated or removed is read again
 */
export async function recover(runner: Runner, command: string, wasKilled = false): Promise<string[]> {
  const [exported, endedWell] = await Promise.all([exportState(runner), lastRunEndedWell(runner)]);
  const { resources = [], pending_operations: pending = [] } = exported.deployment;
  if (resources.length === 0 && pending.length === 0) return [];
  if (pending.length === 0 && endedWell && !wasKilled) return [];
  runner.say("The last run did not end well: looking up what it made and removed.");
  const kubeconfigs = await readKubeconfigs(runner, resources);
  const resolved = pending.length > 0 ? await resolvePending(runner, exported, kubeconfigs) : exported;
  await takeUpLost(runner, resolved, kubeconfigs);
  if (/^(up|update|destroy)$/.test(command)) return ["--refresh"];
  if (command !== "refresh") await runner.pulumi(refresh);
  return [];
}

const refresh = ["refresh", "--yes", "--skip-preview", "--non-interactive", "--suppress-outputs"];

/** A refresh, such as the recovery's own, ends nothing. */
async function lastRunEndedWell(runner: Runner): Promise<boolean> {
  const history = await runner.pulumi(["stack", "history", "--json", "--page-size", "20"]);
  const runs = JSON.parse(history || "[]") as { kind: string; result: string }[];
  const last = runs.find(({ kind }) => kind !== "refresh");
  return last === undefined || last.result === "succeeded";
}

async function exportState(runner: Runner, ...flags: string[]): Promise<Exported> {
  return JSON.parse(await runner.pulumi(["stack", "export", ...flags])) as Exported;
}

async function resolvePending(runner: Runner, exported: Exported, kubeconfigs: Kubeconfigs): Promise<Exported> {
  const { resources = [], pending_operations: pending = [] } = exported.deployment;
  const operations = pending.filter(({ resource }) => isObject(resource));
  const creations = operations.filter(({ type }) => type === "creating").map(({ resource }) => resource);
  const deletions = operations.filter(({ type }) => type === "deleting").map(({ resource }) => resource);
  const objects = await objectsOf(runner, kubeconfigs, resources, creations);
  const found = await lookUp(runner, objects, creations);
  const gone = new Set<string>();
  for (const resource of deletions) if (await objects.isGone(resource)) gone.add(key(resource));
  runner.say(
    `${pending.length} operations were cut off: ${found.length} of ${creations.length} creations and ${gone.size} of ${deletions.length} deletions had been done.`,
  );
  const left = resources.filter((resource) => !gone.has(key(resource)));
  return importState(runner, exported, withFound(left, found));
}

const key = ({ urn, id, delete: old = false }: StateResource) => `${urn} ${id} ${old}`;

/** What the next run would create although it is there and ours: the answer to its creation was lost. */
async function takeUpLost(runner: Runner, resolved: Exported, kubeconfigs: Kubeconfigs): Promise<void> {
  let exported = resolved;
  const known = () => exported.deployment.resources ?? [];
  const plan = async () => {
    // What was taken up is known by its inputs alone so far.
    await runner.pulumi(refresh);
    exported = await exportState(runner);
    return plannedCreations(runner);
  };
  // The plan costs seconds and is needed only where something is there that the state does not know, or may be.
  const { label, tag, description } = marksOf(known());
  let planned = label && tag && description ? undefined : await plan();
  const objects = await objectsOf(runner, kubeconfigs, known(), planned ?? []);
  const unknown = await objects.unknownInClusters([...kubeconfigs.keys()]);
  for (const { what, remove } of unknown.filter(({ isAutonamed }) => isAutonamed)) {
    runner.say(`Removed ${what}, which the last run made and nothing refers to.`);
    await remove();
  }
  const isKnown = unknown.every(({ isAutonamed }) => isAutonamed) && !(await objects.isUnknownInAccount());
  planned ??= isKnown ? [] : await plan();
  if (planned.length === 0) return;
  const found = await lookUp(runner, await objectsOf(runner, kubeconfigs, known(), planned), planned);
  if (found.length === 0) return;
  runner.say(`${found.length} creations had been done although they failed for the engine: ${names(found)}.`);
  await importState(runner, exported, withFound(known(), found));
}

const names = (found: StateResource[]) => found.map(({ urn }) => urn.split("::").at(-1)).join(", ");

async function plannedCreations(runner: Runner): Promise<StateResource[]> {
  interface Step {
    op: string;
    newState?: StateResource;
  }
  const preview = await runner.pulumi(["preview", "--json", "--non-interactive"]).catch(() => "{}");
  const { steps = [] } = JSON.parse(preview) as { steps?: Step[] };
  return steps.flatMap(({ op, newState }) =>
    newState && /^(create|replace)$/.test(op) && isObject(newState) ? [newState] : [],
  );
}

/** Looks each creation up; what is another's is named and left alone. */
async function lookUp(runner: Runner, objects: Objects, creations: StateResource[]): Promise<StateResource[]> {
  const results = await Promise.all(
    creations.map(async (resource): Promise<[StateResource, Found]> => [resource, await objects.find(resource)]),
  );
  return results.flatMap(([resource, found]) => {
    if (found === "absent") return [];
    if ("id" in found) return [adopted(resource, found.id)];
    runner.say(
      `Not taken up: ${found.foreign} is there, but this stack did not make it.\n  It stands in the way of ${resource.urn.split("::").at(-1)}. What helps: ${found.command}`,
    );
    return [];
  });
}

/**
 * The resource as if its creation had been noted: a provider reads one that has outputs again, and takes one without for
 * an import, which would forget what the API does not tell.
 */
function adopted({ outputs: _, ...resource }: StateResource, id: string): StateResource {
  const { inputs = {} } = resource;
  // A preview hides secrets and does not know everything: what is not known is read from the object.
  if (hasUnknown(inputs)) return { ...resource, id: importId(resource, id), inputs: {}, outputs: {} };
  const isKubernetes = resource.type.startsWith("kubernetes:");
  return { ...resource, id, outputs: isKubernetes ? { ...inputs, __inputs: inputs } : inputs };
}

const importId = ({ type, inputs = {} }: StateResource, id: string) =>
  type.endsWith(":DnsRecord") ? `${inputs.domain},${id}` : id;

async function importState(runner: Runner, exported: Exported, resources: StateResource[]): Promise<Exported> {
  const state = { ...exported, deployment: { ...exported.deployment, resources, pending_operations: [] } };
  await runner.pulumi(["stack", "import"], JSON.stringify(state));
  return state;
}

/** By the URN of their provider. */
type Kubeconfigs = Map<string, string>;

async function readKubeconfigs(runner: Runner, resources: StateResource[]): Promise<Kubeconfigs> {
  const isProvider = ({ type }: StateResource) => type === "pulumi:providers:kubernetes";
  const readable = resources.some(isProvider) ? await exportState(runner, "--show-secrets") : undefined;
  const providers = (readable?.deployment.resources ?? []).filter(isProvider);
  return new Map(providers.map(({ urn, inputs }) => [urn, plaintext(inputs?.kubeconfig) ?? ""]));
}

/** Loaded only when there is something to ask. */
async function objectsOf(
  runner: Runner,
  kubeconfigs: Kubeconfigs,
  known: StateResource[],
  wanted: StateResource[],
): Promise<Objects> {
  const [{ Objects }, { Account }] = await Promise.all([import("./objects"), import("../preflight")]);
  const { environment, say } = runner;
  const owner = marksOf([...wanted, ...known]);
  const account = new Account(environment, 30_000);
  return new Objects({ owner, account, environment, known, wanted, kubeconfigs, say });
}
