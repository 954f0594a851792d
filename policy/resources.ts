/** A resource as its stack asks for it: what the rules judge. */
export interface Resource {
  /** Such as `kubernetes:apps/v1:Deployment`. */
  type: string;
  /** Its logical name in the program. */
  name: string;
  urn: string;
  /** Its inputs, secrets unwrapped; what a preview cannot know is `UNKNOWN`. */
  // biome-ignore lint/suspicious/noExplicitAny: inputs have as many shapes as there are resource types
  props: any;
  /** Whether the engine refuses to delete it. */
  protect?: boolean;
  /** URNs of the resources that a property's value came from. */
  propertyDependencies?: Record<string, string[]>;
}

/** Stands for a value that a preview cannot know: the engine's own mark. No rule judges it. */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

type Labels = Record<string, string>;

export interface LabelSelector {
  matchLabels?: Labels;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

// biome-ignore lint/suspicious/noExplicitAny: a pod's parts, as the program wrote them
export type Container = any;

/** What makes pods, with what the rules ask of it. */
export interface Workload {
  resource: Resource;
  kind: "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "CronJob" | "Pod";
  namespace: string;
  /** Of its pods. */
  labels: Labels;
  // biome-ignore lint/suspicious/noExplicitAny: a pod's specification, as the program wrote it
  pod: any;
  /** The fewest pods that are asked for, of which an autoscaler's minimum is; undefined where a preview cannot know. */
  replicas?: number;
}

const WORKLOADS: Record<string, Workload["kind"]> = {
  "kubernetes:apps/v1:Deployment": "Deployment",
  "kubernetes:apps/v1:StatefulSet": "StatefulSet",
  "kubernetes:apps/v1:DaemonSet": "DaemonSet",
  "kubernetes:batch/v1:Job": "Job",
  "kubernetes:batch/v1:CronJob": "CronJob",
  "kubernetes:core/v1:Pod": "Pod",
};

export const SERVICE = "kubernetes:core/v1:Service";
export const BUDGET = "kubernetes:policy/v1:PodDisruptionBudget";
export const AUTOSCALER = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler";
export const CLUSTER = "digitalocean:index/kubernetesCluster:KubernetesCluster";
const POOL = "digitalocean:index/kubernetesNodePool:KubernetesNodePool";
const NAMESPACE = "kubernetes:core/v1:Namespace";

export const ofType = (resources: Resource[], type: string) => resources.filter((resource) => resource.type === type);

export const known = (value: unknown): boolean => value !== UNKNOWN;

export function workloads(resources: Resource[]): Workload[] {
  return resources.flatMap((resource) => {
    const kind = WORKLOADS[resource.type];
    if (!kind) return [];
    const { spec = {} } = resource.props;
    const template =
      kind === "Pod" ? resource.props : kind === "CronJob" ? spec.jobTemplate?.spec?.template : spec.template;
    const labels: Labels = template?.metadata?.labels ?? {};
    const workload = { resource, kind, namespace: namespaceOf(resource, resources), labels, pod: template?.spec ?? {} };
    return [{ ...workload, replicas: fewest(workload, resources) }];
  });
}

/** The workloads that others depend on: selected by a Service, or listening on a port of their machine. */
export function serving(resources: Resource[]): Workload[] {
  const services = ofType(resources, SERVICE);
  return workloads(resources).filter(
    (workload) =>
      services.some((service) => serves(service, workload, resources)) ||
      containers(workload).some(({ ports = [] }) => ports.some(({ hostPort }: Container) => hostPort !== undefined)),
  );
}

/** Those of them whose pods a scheduler places: a DaemonSet has one on each machine as it is. */
export const placed = (resources: Resource[]): Workload[] =>
  serving(resources).filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet");

/** Whether the Service sends its requests to the workload's pods. */
export function serves(service: Resource, workload: Workload, resources: Resource[]): boolean {
  const { selector } = service.props.spec ?? {};
  if (selector === undefined || Object.keys(selector).length === 0) return false;
  return namespaceOf(service, resources) === workload.namespace && selects({ matchLabels: selector }, workload.labels);
}

/** Members that must find each other before any is ready: a majority of them decides, so an even one is no help. */
export const isClustered = (workload: Workload, resources: Resource[]): boolean =>
  workload.kind === "StatefulSet" &&
  ofType(resources, SERVICE).some(
    (service) => service.props.spec?.publishNotReadyAddresses === true && serves(service, workload, resources),
  );

export const containers = ({ pod }: Workload): Container[] => pod.containers ?? [];

/** The containers that answer: those with ports, or all where none names any. */
export function answering(workload: Workload): Container[] {
  const withPorts = containers(workload).filter(({ ports = [] }) => ports.length > 0);
  return withPorts.length > 0 ? withPorts : containers(workload);
}

/** The budgets that count this workload's pods. */
export const budgetsOf = (workload: Workload, resources: Resource[]): Resource[] =>
  ofType(resources, BUDGET).filter(
    (budget) =>
      namespaceOf(budget, resources) === workload.namespace && selects(budget.props.spec?.selector, workload.labels),
  );

/** The autoscaler that sets this workload's number of pods. */
export function autoscalerOf({ resource, kind, namespace }: Omit<Workload, "replicas">, resources: Resource[]) {
  return ofType(resources, AUTOSCALER).find((autoscaler) => {
    const target = autoscaler.props.spec?.scaleTargetRef;
    if (target?.kind !== kind || namespaceOf(autoscaler, resources) !== namespace) return false;
    if (known(target.name)) return target.name === (resource.props.metadata?.name ?? resource.name);
    return autoscaler.propertyDependencies?.spec?.includes(resource.urn) === true;
  });
}

/** Whether a selector matches labels, as Kubernetes reads both; one that is not there matches nothing, an empty one all. */
export function selects(selector: LabelSelector | undefined, labels: Labels): boolean {
  if (selector === undefined) return false;
  const { matchLabels = {}, matchExpressions = [] } = selector;
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === "Exists") return value !== undefined;
      if (operator === "DoesNotExist") return value === undefined;
      const listed = value !== undefined && values.includes(value);
      return operator === "In" ? listed : !listed;
    })
  );
}

/** The namespace's name, which a first preview knows only from the Namespace that it comes from. */
export function namespaceOf({ props, propertyDependencies }: Resource, resources: Resource[]): string {
  const namespace: string = props.metadata?.namespace ?? "default";
  if (known(namespace)) return namespace;
  const sources = propertyDependencies?.metadata ?? [];
  const [source] = ofType(resources, NAMESPACE).filter(({ urn }) => sources.includes(urn));
  return source?.props.metadata?.name ?? source?.urn ?? UNKNOWN;
}

/** How many machines the pods may run on at least; undefined where no resource tells. */
export function machines(resources: Resource[], nodeSelector: Labels = {}): number | undefined {
  const clusters = ofType(resources, CLUSTER).map(({ props }) => props.nodePool ?? {});
  if (clusters.length === 0) return undefined;
  const pools = [...clusters, ...ofType(resources, POOL).map(({ props }) => props)];
  const counts = pools
    .filter(({ labels = {} }) => selects({ matchLabels: nodeSelector }, labels))
    .map(({ autoScale, minNodes, nodeCount }) => (autoScale ? (minNodes ?? 1) : (nodeCount ?? 1)));
  return counts.every(known) ? counts.reduce((sum, count) => sum + count, 0) : undefined;
}

/** `25%` of 4 is 1; a number is itself. Undefined where it cannot be known. */
export function share(value: number | string, of: number, round: (share: number) => number): number | undefined {
  if (!known(value)) return undefined;
  const text = String(value);
  return text.endsWith("%") ? round((Number.parseInt(text, 10) * of) / 100) : Number(text);
}

function fewest(workload: Omit<Workload, "replicas">, resources: Resource[]): number | undefined {
  const autoscaler = autoscalerOf(workload, resources);
  const count = autoscaler ? autoscaler.props.spec.minReplicas : workload.resource.props.spec?.replicas;
  return known(count) ? (count ?? 1) : undefined;
}
