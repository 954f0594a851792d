/** A resource as an event of the engine tells it: its secrets read `[secret]`. */
export interface EventState {
  type: string;
  urn: string;
  id?: string;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
}

/** @see https://github.com/pulumi/pulumi/blob/v3.230.0/sdk/go/common/apitype/events.go */
export interface Step {
  op: string;
  urn: string;
  type: string;
  old?: EventState | null;
  new?: EventState | null;
  /** Properties that need a replacement. */
  keys?: string[] | null;
  /** Properties that differ, where there is no `detailedDiff`. */
  diffs?: string[] | null;
  detailedDiff?: Record<string, { diffKind: string }> | null;
}

export interface EngineEvent {
  resourcePreEvent?: { metadata: Step };
  resOutputsEvent?: { metadata: Step };
  diagnosticEvent?: { urn?: string; message: string; severity: string };
  policyEvent?: {
    resourceUrn?: string;
    message: string;
    policyName: string;
    policyPackName: string;
    enforcementLevel: string;
  };
  policyAnalyzeStackSummaryEvent?: { passed?: string[]; failed?: string[] };
  summaryEvent?: { resourceChanges?: Record<string, number> };
}

/** @param log what the engine writes to `--event-log`, one event a line; a line that was cut off is left out */
export function parseEvents(log: string): EngineEvent[] {
  return log.split("\n").flatMap((line) => {
    try {
      return line.trim() ? [JSON.parse(line) as EngineEvent] : [];
    } catch {
      return [];
    }
  });
}

/** What the stack gives out now, and what it would; the engine tells it at the end of a preview that did not fail. */
export function outputsOf(events: EngineEvent[]): Record<"before" | "after", Record<string, unknown>> {
  const last = events.findLast(({ resOutputsEvent }) => resOutputsEvent?.metadata.type === "pulumi:pulumi:Stack");
  const { old, new: wanted } = last?.resOutputsEvent?.metadata ?? {};
  return { before: old?.outputs ?? {}, after: wanted?.outputs ?? {} };
}

/** What would happen to one resource. */
export interface Change {
  kind: "create" | "update" | "replace" | "delete";
  urn: string;
  type: string;
  name: string;
  old?: EventState;
  new?: EventState;
  properties: PropertyChange[];
}

interface PropertyChange {
  path: string;
  /** Absent where it is added. */
  old?: string;
  /** Absent where it is removed. */
  new?: string;
  /** Because of it the resource is replaced. */
  replaces: boolean;
}

const KINDS: Record<string, Change["kind"]> = {
  create: "create",
  import: "create",
  update: "update",
  delete: "delete",
  replace: "replace",
  "import-replacement": "replace",
  "create-replacement": "replace",
  "delete-replaced": "replace",
};

/** One for each resource that changes: the engine tells a replacement in three steps. */
export function changesOf(events: EngineEvent[]): Change[] {
  const steps = events.flatMap(({ resourcePreEvent }) => resourcePreEvent?.metadata ?? []);
  const byUrn = new Map<string, Step>();
  // The last step of a replacement knows neither the difference nor the new resource.
  for (const step of steps) {
    // As in the engine's own count: providers that nobody wrote down are no resources.
    const isCounted = KINDS[step.op] && !/^pulumi:providers:.*::default/.test(step.urn.split("::").slice(2).join("::"));
    if (isCounted && !byUrn.get(step.urn)?.new) byUrn.set(step.urn, step);
  }
  return [...byUrn.values()].map(changeOf);
}

function changeOf(step: Step): Change {
  const { op, urn, type, old, new: wanted } = step;
  return {
    kind: KINDS[op] ?? "update",
    urn,
    type,
    name: urn.split("::").at(-1) ?? urn,
    old: old ?? undefined,
    new: wanted ?? undefined,
    properties: propertiesOf(step),
  };
}

function propertiesOf({ op, type, old, new: wanted, keys, diffs, detailedDiff }: Step): PropertyChange[] {
  if (KINDS[op] === "delete") return [];
  const detailed = Object.entries(detailedDiff ?? {});
  const all = detailed.length > 0 ? detailed : (diffs ?? []).map((path) => [path, { diffKind: "update" }] as const);
  const properties = all.map(([path, { diffKind }]) => {
    const replaces = diffKind.endsWith("replace") || (keys ?? []).includes(path);
    const [from, to] = differing(stateAt(old, path), stateAt(wanted, path));
    const shown = {
      ...(!diffKind.startsWith("add") && { old: show(type, path, from) }),
      ...(!diffKind.startsWith("delete") && { new: show(type, path, to) }),
    };
    return { path, ...shown, replaces };
  });
  return properties.sort((a, b) => Number(b.replaces) - Number(a.replaces));
}

const stateAt = (state: EventState | null | undefined, path: string): unknown =>
  at(state?.inputs, path) ?? at(state?.outputs, path);

/** @param path as the engine writes it: `spec.ports[0].port`, `data["a.b"]` */
const at = (value: unknown, path: string): unknown =>
  [...path.matchAll(/\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.[\]]+)/g)].reduce<unknown>(
    (below, [, quoted, index, name]) =>
      typeof below === "object" && below !== null
        ? (below as Record<string, unknown>)[quoted ?? index ?? name ?? ""]
        : undefined,
    value,
  );

/** Of two long texts the part in which they differ. */
function differing(old: unknown, wanted: unknown): [unknown, unknown] {
  if (typeof old !== "string" || typeof wanted !== "string") return [old, wanted];
  if (old.length < LONGEST && wanted.length < LONGEST) return [old, wanted];
  const least = Math.min(old.length, wanted.length);
  let start = 0;
  while (start < least && old[start] === wanted[start]) start++;
  let end = 0;
  while (end < least - start && old.at(-1 - end) === wanted.at(-1 - end)) end++;
  const from = Math.max(0, start - 20);
  const part = (text: string) =>
    `${from > 0 ? "…" : ""}${text.slice(from, text.length - Math.max(0, end - 20))}${end > 20 ? "…" : ""}`;
  return [part(old), part(wanted)];
}

const SECRET = "[secret]";
const HIDDEN = /passw|token|secret(?!Name|Ref|Key)|credential|private_?key|api_?key|kubeconfig|accessKey|secretKey/i;
/** What stands for a value that a preview does not know, and what marks one that is secret. Source: SDK, runtime/rpc. */
const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const SIGNATURE = "4dabf18193072939515e22adb298388d";
const LONGEST = 160;

/** A value as one short line, without what is secret. */
export function show(type: string, path: string, value: unknown): string {
  // Its data is secret by its kind, whether or not the program has said so.
  if (type === "kubernetes:core/v1:Secret" && /^(data|stringData)\b/.test(path)) return SECRET;
  if (HIDDEN.test(path.split(/[.[\]]+/).at(-1) ?? "") && typeof value !== "boolean") return SECRET;
  if (value === UNKNOWN) return "(known once it is made)";
  if (value === undefined) return "(unknown)";
  const text = JSON.stringify(value, (name, part) => {
    if (HIDDEN.test(name) && typeof part === "string") return SECRET;
    if (part === UNKNOWN) return "(known once it is made)";
    return typeof part === "object" && part !== null && SIGNATURE in part ? SECRET : part;
  });
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length} characters)` : text;
}

/** The leaves of what a resource is made with, as far as they can be shown. */
export function inputsOf({ type, new: wanted, old }: Change): PropertyChange[] {
  const walk = (value: unknown, path: string): PropertyChange[] => {
    const isBranch = typeof value === "object" && value !== null && !(SIGNATURE in value) && !Array.isArray(value);
    if (!isBranch) return [{ path, new: show(type, path, value), replaces: false }];
    return (
      Object.entries(value)
        // What kind it is stands above it.
        .filter(([name]) => !name.startsWith("__") && (path !== "" || !/^(apiVersion|kind)$/.test(name)))
        .flatMap(([name, below]) => {
          const part = /^[\w-]+$/.test(name) ? `${path && "."}${name}` : `["${name}"]`;
          return walk(below, `${path}${part}`);
        })
    );
  };
  return walk((wanted ?? old)?.inputs ?? {}, "");
}
