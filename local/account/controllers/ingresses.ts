import type { V1Ingress, V1Pod } from "@kubernetes/client-node";
import { type Cluster, keyOf, mergePatch, type Store, splitKey } from "./watch";

const controllerName = "nginx.org/ingress-controller";
const component = "nginx-ingress-controller";

/**
 * What F5's NGINX Ingress Controller tells the API server: its pods run nothing here, so their arguments speak for them.
 * An Ingress has an address only while a ready pod serves its class and reports for a Service that has one.
 */
export function startIngresses(cluster: Cluster): void {
  const queue = cluster.queue("ingress", async (key) => {
    const { namespace, name } = splitKey(key);
    const ingress = ingresses.get(name, namespace);
    if (ingress && !ingress.metadata?.deletionTimestamp) await report(ingress);
    return undefined;
  });
  const all = () => {
    for (const ingress of ingresses.list()) queue.add(keyOf(ingress));
  };
  // One Ingress decides over another's hosts, so any change is a reason to look at all.
  const ingresses: Store<V1Ingress> = cluster.store(
    "/apis/networking.k8s.io/v1/ingresses",
    () => cluster.networking.listIngressForAllNamespaces(),
    all,
  );
  const classes = cluster.store(
    "/apis/networking.k8s.io/v1/ingressclasses",
    () => cluster.networking.listIngressClass(),
    all,
  );
  const services = cluster.store("/api/v1/services", () => cluster.core.listServiceForAllNamespaces(), all);
  const pods = cluster.store(
    "/api/v1/pods",
    () => cluster.core.listPodForAllNamespaces(),
    (pod) => {
      if (classOf(pod)) all();
    },
  );

  async function report(ingress: V1Ingress): Promise<void> {
    const className = ingress.spec?.ingressClassName ?? "";
    const controller = controllerOf(className);
    if (!controller) return;
    const refusal = refusalOf(ingress, controller);
    await notify(ingress, refusal);
    const { "-report-ingress-status": reports, "-external-service": name } = argumentsOf(controller);
    if (reports !== "true" || !name) return;
    const service = services.get(name, controller.metadata?.namespace);
    await setAddress(ingress, refusal ? [] : (service?.status?.loadBalancer?.ingress ?? []));
  }

  /** The oldest ready pod that serves a class of F5's. */
  function controllerOf(className: string): V1Pod | undefined {
    if (classes.get(className)?.spec?.controller !== controllerName) return undefined;
    return [...pods.list()].filter((pod) => classOf(pod) === className && isReady(pod)).sort(byAge)[0];
  }

  /** In the controller's own words, internal/k8s/configuration.go and validation.go. */
  function refusalOf(ingress: V1Ingress, controller: V1Pod): string | undefined {
    const rules = ingress.spec?.rules ?? [];
    const name = keyOf(ingress);
    const emptyHost = rules.findIndex(({ host }) => !host);
    if (rules.length === 0) return `${name} was rejected: with error: spec.rules: Required value`;
    if (emptyHost >= 0 && argumentsOf(controller)["-allow-empty-ingress-host"] !== "true") {
      return `${name} was rejected: with error: spec.rules[${emptyHost}].host: Required value`;
    }
    const taken = (host: string) =>
      ingresses
        .list()
        .some((other) => other !== ingress && sharesHost(other, ingress, host) && byAge(other, ingress) < 0);
    return rules.every(({ host }) => taken(host ?? "")) ? "All hosts are taken by other resources" : undefined;
  }

  const notify = async (ingress: V1Ingress, refusal: string | undefined) => {
    const version = ingress.metadata?.generation;
    const key = `${ingress.metadata?.uid} ${version} ${refusal}`;
    if (told.get(keyOf(ingress)) === key) return;
    const reference = { apiVersion: "networking.k8s.io/v1", kind: "Ingress", metadata: ingress.metadata };
    const [type, reason] = refusal ? (["Warning", "Rejected"] as const) : (["Normal", "AddedOrUpdated"] as const);
    await cluster.event(
      reference,
      component,
      type,
      reason,
      refusal ?? `Configuration for ${keyOf(ingress)} was added or updated`,
    );
    told.set(keyOf(ingress), key);
  };
  const told = new Map<string, string>();

  async function setAddress(ingress: V1Ingress, wanted: Array<{ ip?: string; hostname?: string }>): Promise<void> {
    const flat = (entries: typeof wanted) => entries.map(({ ip, hostname }) => ip ?? hostname).join();
    if (flat(ingress.status?.loadBalancer?.ingress ?? []) === flat(wanted)) return;
    const entries = wanted.map(({ ip, hostname }) => (ip ? { ip } : { hostname }));
    const { name = "", namespace = "" } = ingress.metadata ?? {};
    const body = { status: { loadBalancer: { ingress: entries } } };
    await cluster.networking.patchNamespacedIngressStatus({ name, namespace, body }, mergePatch);
  }
}

const sharesHost = (other: V1Ingress, ingress: V1Ingress, host: string): boolean =>
  other.spec?.ingressClassName === ingress.spec?.ingressClassName &&
  !other.metadata?.deletionTimestamp &&
  !(isMinion(other) || isMinion(ingress)) &&
  (other.spec?.rules ?? []).some((rule) => (rule.host ?? "") === host);

/** A minion shares its master's host by design. */
const isMinion = (ingress: V1Ingress): boolean =>
  ingress.metadata?.annotations?.["nginx.org/mergeable-ingress-type"] === "minion";

/** Negative if the first is the older one; of two of one second, the lesser uid, as the controller decides. */
function byAge(one: V1Ingress | V1Pod, other: V1Ingress | V1Pod): number {
  const time = (object: typeof one) => new Date(object.metadata?.creationTimestamp ?? 0).getTime();
  return time(one) - time(other) || ((one.metadata?.uid ?? "") < (other.metadata?.uid ?? "") ? -1 : 1);
}

const isReady = (pod: V1Pod): boolean =>
  !pod.metadata?.deletionTimestamp &&
  (pod.status?.conditions ?? []).some(({ type, status }) => type === "Ready" && status === "True");

const classOf = (pod: V1Pod): string | undefined => argumentsOf(pod)["-ingress-class"];

/** Go's flags: one dash or two, `-flag` alone means true, and `$(POD_NAMESPACE)/` before a name is the pod's own. */
function argumentsOf(pod: V1Pod): Record<string, string> {
  const entries = (pod.spec?.containers ?? [])
    .flatMap(({ command = [], args = [] }) => [...command, ...args])
    .map((argument) => /^--?([^=]+)(?:=(.*))?$/.exec(argument))
    .flatMap((match) => (match?.[1] ? [[`-${match[1]}`, match[2] ?? "true"]] : []));
  return Object.fromEntries(entries);
}
