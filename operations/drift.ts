import { type EngineEvent, type EventState, show } from "./events";

/** How one object differs from what the stack last made of it. */
export interface Drift {
  type: string;
  name: string;
  /** Deleted behind the stack's back. */
  isGone: boolean;
  /** In words, one for each property. */
  changes: string[];
}

/**
 * What controllers change of that which the program has given; what they add themselves is no part of a resource's inputs,
 * and so no drift anyway.
 */
const OWNED: [type: RegExp, path: RegExp, whose: string][] = [
  [/:KubernetesCluster$/, /^version$/, "the maintenance window's patches"],
  [/:KubernetesCluster$/, /^nodePool\.nodeCount$/, "the autoscaler's"],
  [/:KubernetesNodePool$/, /^nodeCount$/, "the autoscaler's"],
  [
    /^kubernetes:/,
    /^metadata\.annotations\["(deployment\.kubernetes\.io|kubectl\.kubernetes\.io)\//,
    "notes of kubectl",
  ],
  [
    /^kubernetes:/,
    /^spec\.template\.metadata\.annotations\["kubectl\.kubernetes\.io\/restartedAt"\]/,
    "kubectl rollout restart",
  ],
  [/:Service$/, /^metadata\.annotations\["kubernetes\.digitalocean\.com\/load-balancer-id"\]/, "the balancer's id"],
  [/:(Validating|Mutating)WebhookConfiguration$|:CustomResourceDefinition$/, /caBundle$/, "injected"],
];

/** @param events of `pulumi refresh --preview-only`, which compares each object with the state */
export function driftOf(events: EngineEvent[]): Drift[] {
  const found = new Map(
    events.flatMap(({ resOutputsEvent }) =>
      resOutputsEvent ? [[resOutputsEvent.metadata.urn, resOutputsEvent.metadata]] : [],
    ),
  );
  const scaled = new Set([...found.values()].map(({ old }) => scaledBy(old)));
  return [...found.values()].flatMap(({ urn, type, old, new: now, op }): Drift[] => {
    if (!old || /^pulumi:|^hobnob:/.test(type)) return [];
    const name = urn.split("::").at(-1) ?? urn;
    if (!now || op === "delete") return [{ type, name, isGone: true, changes: [] }];
    const own = differences(old.inputs, now.inputs).filter(
      ({ path }) =>
        !OWNED.some(([types, paths]) => types.test(type) && paths.test(path)) &&
        !(path === "spec.replicas" && scaled.has(objectName(old))),
    );
    return own.length === 0 ? [] : [{ type, name, isGone: false, changes: own.map((one) => inWords(type, one)) }];
  });
}

interface Difference {
  path: string;
  old: unknown;
  now: unknown;
}

/** Leaf by leaf; a list of another length is one difference. */
function differences(old: unknown, now: unknown, path = ""): Difference[] {
  if (JSON.stringify(old) === JSON.stringify(now)) return [];
  const areObjects = [old, now].every((one) => typeof one === "object" && one !== null);
  const areLists = Array.isArray(old) && Array.isArray(now);
  if (!areObjects || Array.isArray(old) !== Array.isArray(now) || (areLists && old.length !== now.length))
    return [{ path, old, now }];
  const [from, to] = [old as Record<string, unknown>, now as Record<string, unknown>];
  const names = [...new Set([...Object.keys(from), ...Object.keys(to)])].filter((name) => !name.startsWith("__"));
  return names.flatMap((name) => {
    const part = areLists ? `[${name}]` : /^[\w-]+$/.test(name) ? `${path && "."}${name}` : `["${name}"]`;
    return differences(from[name], to[name], `${path}${part}`);
  });
}

const objectName = (state: EventState) => (state.inputs?.metadata as { name?: string } | undefined)?.name;

/** Of which object an autoscaler owns the number of pods. */
function scaledBy(state: EventState | null | undefined): string | undefined {
  if (!state?.type.endsWith(":HorizontalPodAutoscaler")) return undefined;
  return (state.inputs?.spec as { scaleTargetRef?: { name?: string } } | undefined)?.scaleTargetRef?.name;
}

function inWords(type: string, { path, old, now }: Difference): string {
  const [was, is] = [show(type, path, old), show(type, path, now)];
  if (old === undefined) return `${path} was added: ${is}`;
  if (now === undefined) return `${path} was removed; the stack made it ${was}`;
  return `${path} is ${is}; the stack made it ${was}`;
}

/** For a person; each object's lines are indented, as code is in Markdown. */
export function tellDrift(stack: string, drift: Drift[]): string {
  if (drift.length === 0) return `The stack ${stack} is as it was made: nothing has drifted.`;
  const objects = drift.map(({ type, name, isGone, changes }) =>
    [
      `    ${type.split(":").at(-1)} ${name} ${isGone ? "is gone" : "was changed"}`,
      ...changes.map((change) => `      ${change}`),
    ].join("\n"),
  );
  return `${drift.length} ${drift.length === 1 ? "object" : "objects"} of the stack ${stack} changed behind its back:

${objects.join("\n")}

As the stack has them again: npm run ${stack === "local" ? "local --" : `stack -- ${stack}`} up --refresh. To keep a change, write it into the program or the settings first.`;
}
