import { instance } from "@viz-js/viz";

/** What a picture needs of a resource, from a state, a preview or a test's capture. */
export interface GraphResource {
  urn: string;
  type: string;
  parent?: string;
  /** URNs that it waits for. */
  dependencies?: string[];
  /** The same, by the input that makes it wait. */
  propertyDependencies?: Record<string, string[]>;
  /** URN of its explicit provider, or as a state has it, with the id behind it. */
  provider?: string;
  /** A Service of type LoadBalancer takes longer than another. */
  inputs?: { spec?: { type?: string } };
}

/** A component with all that it holds; or the resources of one type that are in none. */
interface Group {
  id: string;
  label: string;
  resources: GraphResource[];
}

export interface Picture {
  groups: Group[];
  /** Groups by id: `to` waits for `from`. */
  edges: { from: string; to: string; critical: boolean }[];
  /** The chain of resources that takes longest, first to last. */
  criticalPath: GraphResource[];
}

/** Seconds that a real cloud takes, roughly: they only decide which chain is the longest. What is not named takes one. */
const TYPICAL: [pattern: RegExp, seconds: number][] = [
  [/:KubernetesCluster$/, 300],
  [/:KubernetesNodePool$/, 120],
  [/^docker:.*:Image$/, 180],
  [/:StatefulSet$/, 120],
  [/:Deployment$/, 60],
  [/:Certificate$/, 60],
];
const BALANCER_SECONDS = 120;

/** The picture of a stack: its resources by component, and which component waits for which. It is the same in whatever order they come. */
export function picture(unordered: GraphResource[]): Picture {
  const all = [...unordered].sort((a, b) => (a.urn < b.urn ? -1 : 1));
  const byUrn = new Map(all.map((resource) => [resource.urn, resource]));
  const outermost = (resource: GraphResource): GraphResource => {
    const parent = byUrn.get(resource.parent ?? "");
    return parent && parent.type !== STACK ? outermost(parent) : resource;
  };
  const held = new Set(all.filter(({ type }) => !isComponent(type)).map((resource) => outermost(resource).urn));
  const shown = all.filter((resource) => isShown(outermost(resource)) && held.has(outermost(resource).urn));
  const parents = new Set(shown.map(({ parent }) => parent));
  const keyOf = (resource: GraphResource) => {
    const top = outermost(resource);
    return parents.has(top.urn) ? top.urn : top.type;
  };
  const members = new Map<string, GraphResource[]>();
  for (const resource of shown) members.set(keyOf(resource), [...(members.get(keyOf(resource)) ?? []), resource]);
  const groups = [...members].map(([key, resources], i) => ({ id: `g${i}`, key, label: label(resources), resources }));
  const ids = new Map(groups.map(({ key, id }) => [key, id]));
  const idOf = (resource: GraphResource) => ids.get(keyOf(resource)) as string;

  const visible = new Map(shown.map((resource) => [resource.urn, resource]));
  const { resources: criticalPath } = longestPath(shown);
  const steps = criticalPath.slice(1).map((to, i) => `${idOf(criticalPath[i] as GraphResource)} ${idOf(to)}`);
  const critical = new Set(steps.filter((pair) => pair.split(" ")[0] !== pair.split(" ")[1]));
  const pairs = new Set(critical);
  for (const to of shown) {
    for (const from of predecessors(to, visible)) if (idOf(from) !== idOf(to)) pairs.add(`${idOf(from)} ${idOf(to)}`);
  }
  const edges = withoutImplied(
    [...pairs].map((pair) => pair.split(" ") as [string, string]),
    critical,
  );
  return {
    groups: groups.map(({ id, label, resources }) => ({ id, label, resources })),
    edges: edges.map(([from, to]) => ({ from, to, critical: critical.has(`${from} ${to}`) })),
    criticalPath,
  };
}

/** Mermaid text of a picture; thick is the critical path. */
export function mermaid({ groups, edges, criticalPath }: Picture): string {
  const thick = groups.filter(isOn(criticalPath)).map(({ id }) => id);
  return [
    "flowchart LR",
    ...groups.map(({ id, label, resources }) => `  ${id}["${[label, ...details(resources)].join("<br/>")}"]`),
    ...edges.map(({ from, to, critical }) => `  ${from} ${critical ? "==>" : "-->"} ${to}`),
    "  classDef critical stroke-width:3px,stroke:#b3261e",
    `  class ${thick.join(",")} critical`,
  ].join("\n");
}

/** SVG of a picture; thick and red is the critical path. */
export async function svg(shown: Picture): Promise<string> {
  const viz = await instance();
  const drawn = viz.renderString(dot(shown), { format: "svg" });
  return drawn.replace(/<svg[^>]*>/, "$&\n<title>Components of a stack, and which waits for which</title>");
}

function dot({ groups, edges, criticalPath }: Picture): string {
  const onPath = isOn(criticalPath);
  const red = 'color="#b3261e", penwidth=2.5';
  return [
    "digraph stack {",
    "  rankdir=LR; nodesep=0.25; ranksep=0.4; bgcolor=white;",
    // The margin is for fonts that are wider than the one that is reckoned with.
    '  node [shape=box, style="rounded,filled", fillcolor="#f6f8fa", color="#57606a", fontname=Helvetica, fontsize=12, margin="0.22,0.08"];',
    '  edge [color="#57606a", arrowsize=0.7];',
    ...groups.map((group) => {
      const text = JSON.stringify([group.label, ...details(group.resources)].join("\n"));
      return `  ${group.id} [label=${text}${onPath(group) ? `, ${red}` : ""}];`;
    }),
    ...edges.map(({ from, to, critical }) => `  ${from} -> ${to}${critical ? ` [${red}]` : ""};`),
    "}",
  ].join("\n");
}

const isOn =
  (path: GraphResource[]) =>
  ({ resources }: Group): boolean =>
    resources.some((resource) => path.includes(resource));

const STACK = "pulumi:pulumi:Stack";

const isComponent = (type: string) => type.startsWith("hobnob:");

/** Providers that the engine makes by itself, the stack and other stacks hold nothing that a reader asks for. */
const isShown = ({ type, parent }: GraphResource): boolean =>
  type !== STACK &&
  type !== "pulumi:pulumi:StackReference" &&
  !(type.startsWith("pulumi:providers:") && parent === undefined);

const kindOf = ({ type }: GraphResource): string => type.split(":").at(-1) ?? type;

const topOf = (resources: GraphResource[]): GraphResource =>
  resources.find(({ parent }) => resources.every(({ urn }) => urn !== parent)) as GraphResource;

/** `Elasticsearch`, and its name where that says more than its type; `3 × Secret` of those that are in no component. */
function label(resources: GraphResource[]): string {
  const top = topOf(resources);
  const kind = kindOf(top);
  const isComponent = resources.some(({ parent }) => parent === top.urn);
  if (!isComponent && resources.length > 1) return `${resources.length} × ${kind}`;
  const name = top.urn.split("::").at(-1) ?? "";
  const plain = (text: string) => text.replaceAll("-", "").toLowerCase();
  return plain(kind).includes(plain(name)) ? kind : `${kind} ${name}`;
}

/** What a component holds, by kind: first what takes longest, and the rest as a number. */
function details(resources: GraphResource[]): string[] {
  const top = topOf(resources);
  const held = resources.filter((resource) => resource !== top);
  if (!held.some(({ parent }) => parent === top.urn)) return [];
  const kinds = new Map<string, GraphResource[]>();
  for (const resource of held) kinds.set(kindOf(resource), [...(kinds.get(kindOf(resource)) ?? []), resource]);
  const slowest = (all: GraphResource[]) => Math.max(...all.map(seconds));
  const sorted = [...kinds].sort(([, a], [, b]) => slowest(b) - slowest(a));
  const named = sorted.slice(0, 2).map(([kind, all]) => (all.length > 1 ? `${all.length} × ${kind}` : kind));
  const rest = sorted.slice(2).reduce((sum, [, all]) => sum + all.length, 0);
  return [named.join(", "), ...(rest > 0 ? [`and ${rest} more`] : [])];
}

const seconds = ({ type, inputs }: GraphResource): number =>
  inputs?.spec?.type === "LoadBalancer"
    ? BALANCER_SECONDS
    : (TYPICAL.find(([pattern]) => pattern.test(type))?.[1] ?? 1);

function predecessors(resource: GraphResource, byUrn: Map<string, GraphResource>): GraphResource[] {
  const { dependencies = [], propertyDependencies = {}, provider = "" } = resource;
  // In a state an id follows the provider's URN.
  const providers = [provider, provider.slice(0, Math.max(0, provider.lastIndexOf("::")))];
  const urns = [...dependencies, ...Object.values(propertyDependencies).flat(), ...providers];
  return [...new Set(urns)].sort().flatMap((urn) => byUrn.get(urn) ?? []);
}

/**
 * The chain of resources that takes longest, first to last, and the seconds that it takes.
 * @param taking the seconds of one resource. @default what a real cloud takes, roughly
 */
export function longestPath(
  resources: GraphResource[],
  taking: (resource: GraphResource) => number = seconds,
): { total: number; resources: GraphResource[] } {
  const byUrn = new Map(resources.map((resource) => [resource.urn, resource]));
  const known = new Map<GraphResource, { total: number; resources: GraphResource[] }>();
  const none = { total: 0, resources: [] };
  const longest = (paths: { total: number; resources: GraphResource[] }[]) =>
    paths.reduce((a, b) => (b.total > a.total ? b : a), none);
  const to = (resource: GraphResource): { total: number; resources: GraphResource[] } => {
    const found = known.get(resource);
    if (found) return found;
    const before = longest(predecessors(resource, byUrn).map(to));
    const path = { total: before.total + taking(resource), resources: [...before.resources, resource] };
    known.set(resource, path);
    return path;
  };
  return longest(resources.map(to));
}

/** Without the edges that a longer way implies; those of the critical path stay. */
function withoutImplied(edges: [string, string][], critical: Set<string>): [string, string][] {
  const kept = new Set(edges.map((edge) => edge.join(" ")));
  const reaches = (from: string, goal: string, seen: Set<string>): boolean =>
    edges.some(([start, to]) => {
      if (start !== from || !kept.has(`${start} ${to}`) || seen.has(to)) return false;
      seen.add(to);
      return to === goal || reaches(to, goal, seen);
    });
  for (const [from, to] of edges) {
    if (critical.has(`${from} ${to}`)) continue;
    kept.delete(`${from} ${to}`);
    if (!reaches(from, to, new Set())) kept.add(`${from} ${to}`);
  }
  return edges.filter((edge) => kept.has(edge.join(" ")));
}
