import { OWNER_DESCRIPTION, OWNER_LABEL, OWNER_TAG, type Owner } from "../owner";

/** A resource as an exported state holds it. */
export interface StateResource {
  urn: string;
  type: string;
  custom?: boolean;
  id?: string;
  delete?: boolean;
  pendingReplacement?: boolean;
  parent?: string;
  /** `urn::id` of the provider. */
  provider?: string;
  deletedWith?: string;
  dependencies?: string[];
  propertyDependencies?: Record<string, string[] | null>;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
}

export interface PendingOperation {
  type: "creating" | "updating" | "deleting" | "reading" | "importing";
  resource: StateResource;
}

export interface Deployment {
  resources?: StateResource[];
  pending_operations?: PendingOperation[];
}

/** The marks of the stack's owner, as its own resources carry them; one that none carries is not there. */
export function marksOf(resources: StateResource[]): Partial<Owner> {
  // biome-ignore lint/suspicious/noExplicitAny: inputs have as many shapes as there are types
  const inputs = resources.map((resource) => (resource.inputs ?? {}) as any);
  const first = (mark: (one: (typeof inputs)[number]) => unknown) =>
    inputs.map(mark).find((value) => typeof value === "string") as string | undefined;
  return {
    label: first(({ metadata }) => metadata?.labels?.[OWNER_LABEL]),
    tag: first(({ tags }) => Array.isArray(tags) && tags.find((tag: string) => tag.startsWith(OWNER_TAG))),
    description: first(({ description }) => String(description ?? "").startsWith(OWNER_DESCRIPTION) && description),
  };
}

/**
 * What is no object of its own: components, providers, values of the state, and what is the same when it is done twice
 * (the push of an image, a patch of an object that another made).
 */
export const isObject = ({ type, custom }: StateResource): boolean =>
  custom !== false && /^(kubernetes|digitalocean):/.test(type) && !/^kubernetes:.*Patch$/.test(type);

/**
 * The state with `found` in it, each where what it refers to stands before it, as the engine wants it. What it replaces is
 * marked for deletion, as the engine would have done.
 */
export function withFound(resources: StateResource[], found: StateResource[]): StateResource[] {
  const edited = [...resources];
  for (const resource of found) {
    const at = edited.findIndex(({ urn, delete: old }) => urn === resource.urn && !old);
    const replaced = edited[at];
    if (!replaced) {
      edited.push(resource);
      continue;
    }
    edited[at] = resource;
    // One that was deleted before its replacement is gone.
    if (!replaced.pendingReplacement) edited.push({ ...replaced, delete: true });
  }
  return inOrder(edited);
}

/** A stable order in which each stands behind all that it refers to; references to what is missing are left out. */
function inOrder(resources: StateResource[]): StateResource[] {
  const byUrn = new Map(resources.filter((one) => !one.delete).map((one) => [one.urn, one]));
  const known = new Set(resources.map(({ urn }) => urn));
  const ordered = new Set<StateResource>();
  const place = (resource: StateResource) => {
    if (ordered.has(resource)) return;
    for (const urn of references(resource)) {
      const target = byUrn.get(urn);
      if (target && target !== resource) place(target);
    }
    ordered.add(resource);
  };
  for (const resource of resources) place(resource);
  return [...ordered].map((resource) => withoutMissing(resource, known));
}

const references = ({ parent, provider, deletedWith, dependencies, propertyDependencies }: StateResource): string[] =>
  [
    parent,
    provider?.replace(/::[^:]*$/, ""),
    deletedWith,
    ...(dependencies ?? []),
    ...Object.values(propertyDependencies ?? {}).flatMap((urns) => urns ?? []),
  ].filter((urn) => urn !== undefined);

function withoutMissing(resource: StateResource, known: Set<string>): StateResource {
  if (references(resource).every((urn) => known.has(urn))) return resource;
  const there = (urns: string[] | null | undefined) => (urns ?? []).filter((urn) => known.has(urn));
  const byProperty = Object.entries(resource.propertyDependencies ?? {}).map(([name, urns]) => [name, there(urns)]);
  return {
    ...resource,
    dependencies: there(resource.dependencies),
    propertyDependencies: Object.fromEntries(byProperty),
  };
}

const SIGNATURE = "4dabf18193072939515e22adb298388d";
/** What stands for a value that a preview does not know. Source: SDK, runtime/rpc `unknownValue`, and the CLI's digest. */
const UNKNOWN = /^(04da6b54-80e4-46f7-96ec-b56ff0331ba9|\[secret\]|output<.*>)$/;

/** A secret of a state that was exported with its secrets. */
export function plaintext(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  const secret = value as { [SIGNATURE]?: string; plaintext?: string } | undefined;
  return secret?.plaintext === undefined ? undefined : String(JSON.parse(secret.plaintext));
}

/** Whether a value of a preview holds what it does not know or does not show. */
export function hasUnknown(value: unknown): boolean {
  if (typeof value === "string") return UNKNOWN.test(value);
  return typeof value === "object" && value !== null && Object.values(value).some(hasUnknown);
}
