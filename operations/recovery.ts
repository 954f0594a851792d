import type { Found, Objects, World } from "./objects";
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
  [RECOVERED]: "true",
});

interface Exported {
  deployment: Deployment & { manifest?: { time?: string } };
}

/**
 * Makes the state know all that an earlier run made or removed before it was cut off or failed; a run that ended well
 * costs two questions to the backend. An operation that was pending is looked up by name and owner. Where the engine
 * itself outlived the failure it has noted nothing, so that what the next run would create is looked up as well.
 * @param wasKilled whether a dead engine's lock was found
 */
export async function recover(runner: Runner, wasKilled = false): Promise<void> {
  const [exported, endedWell] = await Promise.all([exportState(runner), lastRunEndedWell(runner)]);
  const { resources = [], pending_operations: pending = [] } = exported.deployment;
  if (resources.length === 0 && pending.length === 0) return;
  if (pending.length === 0 && endedWell && !wasKilled) return;
  runner.say("The last run did not end well: looking up what it made and removed.");
  if (pending.length > 0) await resolvePending(runner, exported);
  await runner.pulumi(["refresh", "--yes", "--skip-preview", "--non-interactive", "--suppress-outputs"]);
  await takeUpLost(runner);
}

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

async function resolvePending(runner: Runner, exported: Exported): Promise<void> {
  const { resources = [], pending_operations: pending = [] } = exported.deployment;
  const operations = pending.filter(({ resource }) => isObject(resource));
  const creations = operations.filter(({ type }) => type === "creating").map(({ resource }) => resource);
  const deletions = operations.filter(({ type }) => type === "deleting").map(({ resource }) => resource);
  const { objects } = await world(runner, resources, creations);
  const found = await lookUp(runner, objects, creations);
  const gone = new Set<string>();
  for (const resource of deletions) if (await objects.isGone(resource)) gone.add(key(resource));
  runner.say(
    `${pending.length} operations were cut off: ${found.length} of ${creations.length} creations and ${gone.size} of ${deletions.length} deletions had been done.`,
  );
  const left = resources.filter((resource) => !gone.has(key(resource)));
  await importState(runner, exported, withFound(left, found));
}

const key = ({ urn, id, delete: old = false }: StateResource) => `${urn} ${id} ${old}`;

/** What the next run would create although it is there and ours: the answer to its creation was lost. */
async function takeUpLost(runner: Runner): Promise<void> {
  const exported = await exportState(runner);
  const { resources = [] } = exported.deployment;
  // The plan costs seconds and is needed only where something is there that the state does not know, or may be.
  const { label, tag, description } = marksOf(resources);
  let planned = label && tag && description ? undefined : await plannedCreations(runner);
  const { objects, providers } = await world(runner, resources, planned ?? []);
  const unknown = await objects.unknownInClusters(providers);
  for (const { what, remove } of unknown.filter(({ isAutonamed }) => isAutonamed)) {
    runner.say(`Removed ${what}, which the last run made and nothing refers to.`);
    await remove();
  }
  const isKnown = unknown.every(({ isAutonamed }) => isAutonamed) && !(await objects.isUnknownInAccount());
  planned ??= isKnown ? [] : await plannedCreations(runner);
  const found =
    planned.length > 0 ? await lookUp(runner, (await world(runner, resources, planned)).objects, planned) : [];
  if (found.length === 0) return;
  runner.say(`${found.length} creations had been done although they failed for the engine: ${names(found)}.`);
  await importState(runner, exported, withFound(resources, found));
  const targets = found.flatMap(({ urn }) => ["--target", urn]);
  await runner.pulumi(["refresh", "--yes", "--skip-preview", "--non-interactive", "--suppress-outputs", ...targets]);
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
    newState && /^create(-replacement)?$/.test(op) && isObject(newState) ? [newState] : [],
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

async function importState(runner: Runner, exported: Exported, resources: StateResource[]): Promise<void> {
  const state = { ...exported, deployment: { ...exported.deployment, resources, pending_operations: [] } };
  await runner.pulumi(["stack", "import"], JSON.stringify(state));
}

/** What is asked about the objects of this stack, loaded only when there is something to ask. */
async function world(runner: Runner, known: StateResource[], wanted: StateResource[]) {
  const [{ Objects }, { Account }] = await Promise.all([import("./objects"), import("../preflight")]);
  const providers = known.filter(({ type }) => type === "pulumi:providers:kubernetes");
  const readable = providers.length > 0 ? (await exportState(runner, "--show-secrets")).deployment.resources : [];
  const kubeconfigs = new Map(
    (readable ?? [])
      .filter(({ type }) => type === "pulumi:providers:kubernetes")
      .map(({ urn, inputs }) => [urn, plaintext(inputs?.kubeconfig)]),
  );
  const made: World = {
    owner: marksOf([...wanted, ...known]),
    account: new Account(runner.environment, 30_000),
    environment: runner.environment,
    known,
    wanted,
    kubeconfig: (urn) => kubeconfigs.get(urn),
    say: runner.say,
  };
  return { objects: new Objects(made), providers };
}
