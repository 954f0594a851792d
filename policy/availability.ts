import type { Finding, Rule } from "./policies";
import {
  AUTOSCALER,
  answering,
  autoscalerOf,
  BUDGET,
  budgetsOf,
  CLUSTER,
  type Container,
  containers,
  isClustered,
  known,
  type LabelSelector,
  machines,
  namespaceOf,
  ofType,
  placed,
  type Resource,
  SERVICE,
  selects,
  serves,
  serving,
  share,
  type Workload,
  workloads,
} from "./resources";

const HOSTNAME = "kubernetes.io/hostname";
const BALANCER = "service.beta.kubernetes.io/do-loadbalancer-size-unit";

/** One pod is one machine's failure away from none; of a clustered set a majority must be left when one is lost. */
function replicas(resources: Resource[]): Finding[] {
  return placed(resources).flatMap((workload) => {
    const { resource, replicas: count } = workload;
    if (count === undefined) return [];
    if (isClustered(workload, resources) && (count < 3 || count % 2 === 0))
      return [
        { resource, found: `${count} replicas of a clustered set`, set: "spec.replicas to an odd number from 3 on" },
      ];
    const key = autoscalerOf(workload, resources) ? "minReplicas of its autoscaler" : "spec.replicas";
    return count < 2 ? [{ resource, found: `${count} replica`, set: `${key} to 2 or more` }] : [];
  });
}

/** Replicas that share a machine fail together; what is only preferred is forgotten in the night that the nodes are full. */
function spread(resources: Resource[]): Finding[] {
  return placed(resources).flatMap(({ resource, labels, pod, replicas: count }) => {
    const several = (machines(resources, pod.nodeSelector) ?? 1) > 1;
    if (count === 1 || constraints(pod).some(({ selector, hard }) => (hard || !several) && selects(selector, labels)))
      return [];
    const wish = constraints(pod).some(({ selector }) => selects(selector, labels));
    return [
      {
        resource,
        found: wish ? "pods that only should be on different machines" : "pods that may all be on one machine",
        set: `topologySpreadConstraints by ${HOSTNAME} with whenUnsatisfiable DoNotSchedule, or a required podAntiAffinity, that select its own pods`,
      },
    ];
  });
}

function constraints(pod: Workload["pod"]): { selector: LabelSelector; hard: boolean }[] {
  const {
    requiredDuringSchedulingIgnoredDuringExecution: required = [],
    preferredDuringSchedulingIgnoredDuringExecution: preferred = [],
  } = pod.affinity?.podAntiAffinity ?? {};
  return [
    // biome-ignore lint/suspicious/noExplicitAny: terms as the program wrote them
    ...required.map((term: any) => ({ ...term, hard: true })),
    // biome-ignore lint/suspicious/noExplicitAny: terms as the program wrote them
    ...preferred.map(({ podAffinityTerm }: any) => ({ ...podAffinityTerm, hard: false })),
    // biome-ignore lint/suspicious/noExplicitAny: constraints as the program wrote them
    ...(pod.topologySpreadConstraints ?? []).map((one: any) => ({
      ...one,
      hard: one.whenUnsatisfiable !== "ScheduleAnyway",
    })),
  ]
    .filter(({ topologyKey }) => topologyKey === HOSTNAME)
    .map(({ labelSelector, hard }) => ({ selector: labelSelector, hard }));
}

/** Without a budget a drain takes every pod at once; with two for one pod its eviction fails with an error, for good. */
function disruptionBudget(resources: Resource[]): Finding[] {
  return placed(resources).flatMap((workload) => {
    const budgets = budgetsOf(workload, resources);
    if (budgets.length === 1) return [];
    const found =
      budgets.length === 0
        ? "no PodDisruptionBudget"
        : `${budgets.length} PodDisruptionBudgets (${budgets.map(({ name }) => name).join(", ")})`;
    return [{ resource: workload.resource, found, set: "one PodDisruptionBudget that selects exactly its pods" }];
  });
}

/** A budget over two workloads lets one take what the other needs; one over none guards nothing. */
function budgetSelectsOne(resources: Resource[]): Finding[] {
  return ofType(resources, BUDGET).flatMap((resource) => {
    const names = counted(resource, resources).map((workload) => workload.resource.name);
    if (names.length === 1) return [];
    const found =
      names.length === 0 ? "a selector that matches no workload" : `a selector that matches ${names.join(" and ")}`;
    return [{ resource, found, set: "spec.selector to the labels of one workload's pods" }];
  });
}

/** A budget that allows no disruption stops every drain and so every upgrade of the machines; one that allows all guards nothing. */
function budgetAllowsOne(resources: Resource[]): Finding[] {
  return ofType(resources, BUDGET).flatMap((resource) => {
    const { maxUnavailable, minAvailable } = resource.props.spec ?? {};
    const limit = maxUnavailable === undefined ? `minAvailable ${minAvailable}` : `maxUnavailable ${maxUnavailable}`;
    return counted(resource, resources).flatMap((workload) => {
      const { replicas: count } = workload;
      if (count === undefined || count === 1) return [];
      // Kubernetes rounds either up.
      const given = share(maxUnavailable ?? minAvailable ?? 1, count, Math.ceil);
      if (given === undefined) return [];
      const allowed = maxUnavailable === undefined ? count - given : given;
      const most = isClustered(workload, resources) ? Math.max(1, Math.floor((count - 1) / 2)) : count - 1;
      if (allowed >= 1 && allowed <= most) return [];
      const found = `${limit}, by which ${allowed} of ${workload.resource.name}'s ${count} pods may go at once`;
      return [
        { resource, found, set: most === 1 ? "spec.maxUnavailable to 1" : `spec.maxUnavailable between 1 and ${most}` },
      ];
    });
  });
}

/** By default pods that never become ready hold a drain up for ever, though they serve nobody. Members of a set may hold data. */
function unhealthyPodsYield(resources: Resource[]): Finding[] {
  return ofType(resources, BUDGET)
    .filter((budget) => counted(budget, resources).some(({ kind }) => kind === "Deployment"))
    .filter(({ props }) => props.spec?.unhealthyPodEvictionPolicy !== "AlwaysAllow")
    .map((resource) => ({
      resource,
      found: `unhealthyPodEvictionPolicy ${resource.props.spec?.unhealthyPodEvictionPolicy ?? "unset, which is IfHealthyBudget"}`,
      set: "spec.unhealthyPodEvictionPolicy to AlwaysAllow",
    }));
}

const counted = (budget: Resource, resources: Resource[]) =>
  workloads(resources).filter((workload) => budgetsOf(workload, resources).includes(budget));

/** Without it a pod gets requests before it can answer, and an update goes on over pods that never will. */
const readinessProbe = (resources: Resource[]): Finding[] =>
  lacking(serving(resources), "readinessProbe", "a readinessProbe that asks what the Service's clients ask");

/** A process that hangs is restarted by nothing else. */
const livenessProbe = (resources: Resource[]): Finding[] =>
  lacking(serving(resources), "livenessProbe", "a livenessProbe that asks the process alone");

const lacking = (all: Workload[], probe: "readinessProbe" | "livenessProbe", set: string) =>
  all.flatMap((workload) =>
    answering(workload)
      .filter((container) => container[probe] === undefined)
      .map(({ name }) => ({ resource: workload.resource, found: `container ${name} without ${probe}`, set })),
  );

/** Where both ask the same, what takes all pods out of service restarts them all, again and again. */
function livenessIsNotReadiness(resources: Resource[]): Finding[] {
  const asks = ({ httpGet, exec, tcpSocket, grpc }: Container = {}) => JSON.stringify([httpGet, exec, tcpSocket, grpc]);
  return serving(resources).flatMap((workload) =>
    answering(workload)
      .filter(({ livenessProbe, readinessProbe }) => livenessProbe && asks(livenessProbe) === asks(readinessProbe))
      .map(({ name }) => ({
        resource: workload.resource,
        found: `container ${name} whose livenessProbe asks what its readinessProbe asks`,
        set: "a livenessProbe that asks the process alone, and nothing that it depends on",
      })),
  );
}

/** Requests still come while the balancer and the nodes learn that a pod goes: it must serve on for so long. */
function gracefulStop(resources: Resource[]): Finding[] {
  return serving(resources).flatMap((workload) => {
    const { resource, pod } = workload;
    const grace = pod.terminationGracePeriodSeconds ?? 30;
    return answering(workload).flatMap(({ name, lifecycle }): Finding[] => {
      if (!lifecycle?.preStop)
        return [
          {
            resource,
            found: `container ${name} without preStop`,
            set: "lifecycle.preStop.sleep.seconds to what clients need to notice",
          },
        ];
      const seconds = preStopSeconds(lifecycle.preStop);
      if (seconds === undefined || !known(grace) || grace > seconds) return [];
      const found = `container ${name} that sleeps ${seconds} s of the ${grace} s after which it is killed`;
      return [{ resource, found, set: `terminationGracePeriodSeconds to more than ${seconds}` }];
    });
  });
}

function preStopSeconds({ sleep, exec }: Container): number | undefined {
  const seconds = sleep?.seconds ?? /\bsleep (\d+)/.exec((exec?.command ?? []).join(" "))?.[1];
  return seconds === undefined || !known(seconds) ? undefined : Number(seconds);
}

/** An update that stops the old pods first is an outage, planned by nobody. */
function rollout(resources: Resource[]): Finding[] {
  return placed(resources).flatMap((workload) => {
    const { resource, kind, replicas: count } = workload;
    const { strategy = {}, updateStrategy = {} } = resource.props.spec;
    if (strategy.type === "Recreate")
      return [{ resource, found: "strategy Recreate", set: "spec.strategy.type to RollingUpdate" }];
    if (updateStrategy.type === "OnDelete")
      return [{ resource, found: "updateStrategy OnDelete", set: "spec.updateStrategy.type to RollingUpdate" }];
    if (count === undefined || count === 1) return [];
    const less = (kind === "Deployment" ? strategy : updateStrategy).rollingUpdate?.maxUnavailable;
    // A Deployment's share is rounded down, a set's up. https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/
    const gone = kind === "Deployment" ? share(less ?? "25%", count, Math.floor) : share(less ?? 1, count, Math.ceil);
    const most = isClustered(workload, resources) ? Math.floor((count - 1) / 2) : count - 1;
    if (gone === undefined || gone <= Math.max(1, most)) return [];
    return [
      {
        resource,
        found: `an update that takes ${gone} of ${count} pods at once`,
        set: "rollingUpdate.maxUnavailable to 0 or 1",
      },
    ];
  });
}

/** Without requests pods are piled on a full machine, and without a memory limit one takes its neighbours with it. */
function containerResources(resources: Resource[]): Finding[] {
  return workloads(resources).flatMap((workload) =>
    [...(workload.pod.initContainers ?? []), ...containers(workload)].flatMap(
      ({ name, resources: own = {} }: Container) => {
        const missing = ["requests.cpu", "requests.memory", "limits.memory"].filter((path) => {
          const [kind = "", what = ""] = path.split(".");
          return known(own) && known(own[kind]) && own[kind]?.[what] === undefined;
        });
        const found = `container ${name} without ${missing.join(", ")}`;
        return missing.length > 0
          ? [{ resource: workload.resource, found, set: `resources.${missing.join(" and resources.")}` }]
          : [];
      },
    ),
  );
}

/** A Service that selects nothing answers nothing, and nothing else says so. */
function serviceSelects(resources: Resource[]): Finding[] {
  return ofType(resources, SERVICE).flatMap((resource): Finding[] => {
    const { selector, ports = [] } = resource.props.spec ?? {};
    if (selector === undefined || Object.values(selector).some((value) => !known(value))) return [];
    const selected = workloads(resources).filter((workload) => serves(resource, workload, resources));
    if (selected.length === 0)
      return [
        {
          resource,
          found: `selector ${JSON.stringify(selector)}, which no workload's pods have`,
          set: "spec.selector to a workload's labels",
        },
      ];
    const names = selected.flatMap((workload) =>
      containers(workload).flatMap((one) => (one.ports ?? []).map((port: Container) => port.name)),
    );
    return ports
      .filter(
        ({ targetPort }: Container) =>
          typeof targetPort === "string" && known(targetPort) && Number.isNaN(Number(targetPort)),
      )
      .filter(({ targetPort }: Container) => !names.includes(targetPort))
      .map(({ targetPort }: Container) => ({
        resource,
        found: `targetPort ${targetPort}, which no container names`,
        set: "it to the name of a container's port",
      }));
  });
}

/** Two controllers that count each other's pods as their own delete them in turn. */
function selectorsApart(resources: Resource[]): Finding[] {
  const all = workloads(resources);
  return all.flatMap(({ resource, namespace }) =>
    all
      .filter((other) => other.resource !== resource && other.namespace === namespace)
      .filter((other) => selects(resource.props.spec?.selector, other.labels))
      .map((other) => ({
        resource,
        found: `a selector that matches the pods of ${other.resource.name} too`,
        set: "labels on each by which they differ, and spec.selector to its own",
      })),
  );
}

const ROUTES = ["kubernetes:networking.k8s.io/v1:Ingress", "kubernetes:k8s.nginx.org/v1:VirtualServer"];

const hostsOf = ({ props: { spec = {} } }: Resource): string[] =>
  [...(spec.rules ?? []), spec]
    .map(({ host }: { host?: string }) => host)
    .filter((host) => host !== undefined && known(host)) as string[];

/** The controller serves a host for the oldest route alone: the others' requests are answered 404. */
function hostOnce(resources: Resource[]): Finding[] {
  const all = resources.filter(({ type }) => ROUTES.includes(type));
  const className = ({ props }: Resource) => props.spec?.ingressClassName;
  return all.flatMap((resource, i) =>
    hostsOf(resource).flatMap((host) =>
      all
        .slice(0, i)
        .filter((other) => className(other) === className(resource) && hostsOf(other).includes(host))
        .map((other) => ({
          resource,
          found: `the host ${host}, which ${other.name} has`,
          set: "its paths in the route that has the host, or another host",
        })),
    ),
  );
}

/** A volume of one machine holds every further pod at `ContainerCreating`, and an update at its first new pod. */
function singleWriter(resources: Resource[]): Finding[] {
  const claims = ofType(resources, "kubernetes:core/v1:PersistentVolumeClaim").filter(({ props }) =>
    (props.spec?.accessModes ?? []).every((mode: string) => mode.startsWith("ReadWriteOnce")),
  );
  return workloads(resources)
    .filter(({ kind }) => kind === "Deployment")
    .flatMap(({ resource, namespace, pod }) =>
      (pod.volumes ?? []).flatMap(({ persistentVolumeClaim }: Container) => {
        const claim = claims.find(
          (one) => namespaceOf(one, resources) === namespace && claimName(one) === persistentVolumeClaim?.claimName,
        );
        if (!claim) return [];
        const found = `the ReadWriteOnce claim ${claim.name} in a Deployment`;
        return [{ resource, found, set: "a StatefulSet with volumeClaimTemplates, or a claim that is ReadWriteMany" }];
      }),
    );
}

const claimName = ({ name, props }: Resource): string => props.metadata?.name ?? name;

/** Each `up` would set the autoscaler's number of pods back, in the middle of the load that it was raised for. */
function autoscalerOwnsReplicas(resources: Resource[]): Finding[] {
  return workloads(resources)
    .filter((workload) => autoscalerOf(workload, resources) && workload.resource.props.spec?.replicas !== undefined)
    .map(({ resource }) => ({
      resource,
      found: `${resource.props.spec.replicas} replicas and an autoscaler`,
      set: "the autoscaler's minReplicas, and spec.replicas not at all",
    }));
}

/** An autoscaler of nothing scales nothing. */
function autoscalerTarget(resources: Resource[]): Finding[] {
  const all = workloads(resources);
  return ofType(resources, AUTOSCALER)
    .filter((autoscaler) => known(autoscaler.props.spec?.scaleTargetRef?.name))
    .filter((autoscaler) => !all.some((workload) => autoscalerOf(workload, resources) === autoscaler))
    .map((resource) => ({
      resource,
      found: `the target ${resource.props.spec?.scaleTargetRef?.kind} ${resource.props.spec?.scaleTargetRef?.name}, which is none of the stack's`,
      set: "spec.scaleTargetRef to a workload of its namespace that no other autoscaler has",
    }));
}

/** Nothing makes a bare pod again when its machine is gone, and a pinned one has no other machine to go to. */
function replaceable(resources: Resource[]): Finding[] {
  return workloads(resources).flatMap(({ resource, kind, pod }): Finding[] => {
    if (kind === "Pod")
      return [{ resource, found: "a bare Pod", set: "a Deployment, a StatefulSet or a Job in its place" }];
    const pin = pod.nodeName ? "nodeName" : pod.nodeSelector?.[HOSTNAME] ? `nodeSelector ${HOSTNAME}` : undefined;
    return pin
      ? [{ resource, found: `pods pinned to one machine by ${pin}`, set: "a nodeSelector that several machines match" }]
      : [];
  });
}

/** A machine lost in the middle of a job must not end it; jobs that start over one that hangs fill the cluster. */
function jobs(resources: Resource[]): Finding[] {
  return workloads(resources).flatMap(({ resource, kind }): Finding[] => {
    const { spec = {} } = resource.props;
    const job = kind === "Job" ? spec : kind === "CronJob" ? (spec.jobTemplate?.spec ?? {}) : undefined;
    if (job?.backoffLimit === 0) return [{ resource, found: "backoffLimit 0", set: "backoffLimit to 1 or more" }];
    const concurrency = spec.concurrencyPolicy ?? "Allow";
    return kind === "CronJob" && concurrency === "Allow"
      ? [{ resource, found: "concurrencyPolicy Allow", set: "spec.concurrencyPolicy to Forbid or Replace" }]
      : [];
  });
}

/** One machine holds everything, or three replicas do not fit on two. */
function enoughMachines(resources: Resource[]): Finding[] {
  return ofType(resources, CLUSTER).flatMap((resource) => {
    const count = machines(resources);
    return count !== undefined && count < 2
      ? [{ resource, found: `${count} machine`, set: "nodePool.nodeCount, or a pool's minNodes, to 2 or more" }]
      : [];
  });
}

/** A control plane of one machine stops deployments, autoscaling and recovery; it cannot be had in the night that it is missed. */
const controlPlane = (resources: Resource[]): Finding[] =>
  ofType(resources, CLUSTER)
    .filter(({ props, protect }) => protect && props.ha !== true && known(props.ha))
    .map((resource) => ({ resource, found: `a protected cluster with ha ${resource.props.ha}`, set: "ha to true" }));

/** Where the control plane may not be one machine, what all requests go through may not either. */
function balancerNodes(resources: Resource[]): Finding[] {
  if (!ofType(resources, CLUSTER).some(({ props, protect }) => props.ha === true || protect)) return [];
  return ofType(resources, SERVICE)
    .filter(({ props }) => props.spec?.type === "LoadBalancer")
    .map((resource) => ({ resource, nodes: resource.props.metadata?.annotations?.[BALANCER] ?? "1" }))
    .filter(({ nodes }) => known(nodes) && Number(nodes) < 2)
    .map(({ resource, nodes }) => ({
      resource,
      found: `a balancer of ${nodes} node`,
      set: `the annotation ${BALANCER} to "2" or more`,
    }));
}

export const availability: Rule[] = [
  {
    name: "replicas",
    description: "What serves has at least two pods, a clustered set an odd number from three on.",
    check: replicas,
  },
  { name: "spread", description: "Pods that stand for each other are on different machines.", check: spread },
  { name: "disruption-budget", description: "What serves has exactly one disruption budget.", check: disruptionBudget },
  {
    name: "budget-selects-one",
    description: "A disruption budget counts the pods of one workload.",
    check: budgetSelectsOne,
  },
  {
    name: "budget-allows-one",
    description: "A disruption budget lets some pods go, and never all or a majority.",
    check: budgetAllowsOne,
  },
  {
    name: "unhealthy-pods-yield",
    description: "Pods that are not ready never hold up a drain.",
    check: unhealthyPodsYield,
  },
  { name: "readiness-probe", description: "A container that serves tells when it can.", check: readinessProbe },
  { name: "liveness-probe", description: "A container that serves is restarted when it hangs.", check: livenessProbe },
  {
    name: "liveness-is-not-readiness",
    description: "What makes pods unready does not restart them.",
    check: livenessIsNotReadiness,
  },
  { name: "graceful-stop", description: "A pod serves on until its clients know that it goes.", check: gracefulStop },
  { name: "rollout", description: "An update never takes the last ready pod.", check: rollout },
  {
    name: "container-resources",
    description: "Every container has requests and a memory limit.",
    check: containerResources,
  },
  { name: "service-selects", description: "A Service selects pods and ports that there are.", check: serviceSelects },
  { name: "selectors-apart", description: "No workload selects another's pods.", check: selectorsApart },
  { name: "host-once", description: "A host of a class belongs to one route.", check: hostOnce },
  {
    name: "single-writer",
    description: "A volume that one machine can mount is not in a Deployment.",
    check: singleWriter,
  },
  { name: "autoscaler-owns-replicas", description: "The number of pods has one owner.", check: autoscalerOwnsReplicas },
  { name: "autoscaler-target", description: "An autoscaler has a workload of its own.", check: autoscalerTarget },
  { name: "replaceable", description: "A pod that is lost is made again, on any machine.", check: replaceable },
  { name: "jobs", description: "A job survives the loss of a machine and never runs over itself.", check: jobs },
  { name: "enough-machines", description: "A cluster has at least two machines.", check: enoughMachines },
  {
    name: "control-plane",
    description: "A protected cluster has a highly available control plane.",
    check: controlPlane,
  },
  {
    name: "balancer-nodes",
    description: "The balancer of a highly available cluster has at least two nodes.",
    check: balancerNodes,
  },
];
