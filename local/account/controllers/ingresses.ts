import type { KubernetesListObject, KubernetesObject, V1Ingress, V1Pod } from "@kubernetes/client-node";
import { type Cluster, keyOf, mergePatch, type Store, splitKey } from "./watch";

const controllerName = "nginx.org/ingress-controller";
const component = "nginx-ingress-controller";
const servers = { group: "k8s.nginx.org", version: "v1", plural: "virtualservers" };

interface VirtualServer extends KubernetesObject {
  spec?: { ingressClassName?: string; host?: string };
  status?: { state?: string; message?: string; externalEndpoints?: object[] };
}

type Routing = V1Ingress | VirtualServer;

/**
 * What F5's NGINX Ingress Controller tells the API server: its pods run nothing here, so their arguments speak for them.
 * An Ingress has an address only while a ready pod serves its class and reports for a Service that has one; a VirtualServer
 * only where that pod serves custom resources too.
 */
export function startIngresses(cluster: Cluster): void {
  const queue = cluster.queue("ingress", async (key) => {
    const { namespace, name } = splitKey(key);
    const ingress = ingresses.get(name, namespace);
    if (ingress && !ingress.metadata?.deletionTimestamp) await report(ingress);
    return undefined;
  });
  const serverQueue = cluster.queue("virtualserver", async (key) => {
    const { namespace, name } = splitKey(key);
    const server = virtualServers?.get(name, namespace);
    if (server && !server.metadata?.deletionTimestamp) await reportServer(server);
    return undefined;
  });
  const all = () => {
    for (const ingress of ingresses.list()) queue.add(keyOf(ingress));
    for (const server of virtualServers?.list() ?? []) serverQueue.add(keyOf(server));
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
  let virtualServers: Store<VirtualServer> | undefined;
  cluster.store(
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    () => cluster.definitions.listCustomResourceDefinition(),
    ({ metadata, status }) => {
      const known = status?.conditions?.some(
        (condition) => condition.type === "Established" && condition.status === "True",
      );
      if (metadata?.name !== `${servers.plural}.${servers.group}` || !known) return;
      virtualServers ??= cluster.store<VirtualServer>(
        `/apis/${servers.group}/${servers.version}/${servers.plural}`,
        // The client has no types for it.
        () => cluster.customObjects.listClusterCustomObject(servers) as Promise<KubernetesListObject<VirtualServer>>,
        all,
      );
    },
  );

  async function report(ingress: V1Ingress): Promise<void> {
    const controller = controllerOf(ingress);
    if (!controller) return;
    const refusal = refusalOf(ingress, controller);
    await notify(ingress, refusal);
    if (argumentsOf(controller)["-report-ingress-status"] !== "true") return;
    await setAddress(ingress, refusal ? [] : addresses(controller));
  }

  async function reportServer(server: VirtualServer): Promise<void> {
    const controller = controllerOf(server);
    if (!controller || !servesServers(controller)) return;
    const refusal = isTaken(server, server.spec?.host ?? "", controller)
      ? "Host is taken by another resource"
      : undefined;
    const status = {
      state: refusal ? "Warning" : "Valid",
      reason: refusal ? "Rejected" : "AddedOrUpdated",
      message: refusal ?? `Configuration for ${keyOf(server)} was added or updated `,
      externalEndpoints: refusal ? [] : addresses(controller).map(({ ip }) => ({ ip, ports: "[80,443]" })),
    };
    const flat = ({ state, message, externalEndpoints }: NonNullable<VirtualServer["status"]>) =>
      JSON.stringify([state, message, externalEndpoints]);
    if (server.status && flat(server.status) === flat(status)) return;
    const { name = "", namespace = "" } = server.metadata ?? {};
    await cluster.customObjects.patchNamespacedCustomObjectStatus(
      { ...servers, name, namespace, body: { status } },
      mergePatch,
    );
  }

  function addresses(controller: V1Pod): Array<{ ip?: string; hostname?: string }> {
    const name = argumentsOf(controller)["-external-service"];
    const service = name ? services.get(name, controller.metadata?.namespace) : undefined;
    return service?.status?.loadBalancer?.ingress ?? [];
  }

  /** The oldest ready pod that serves the class, if it is one of F5's, and the namespace. */
  function controllerOf(routing: Routing): V1Pod | undefined {
    const className = routing.spec?.ingressClassName ?? "";
    if (classes.get(className)?.spec?.controller !== controllerName) return undefined;
    const namespace = routing.metadata?.namespace ?? "";
    return [...pods.list()]
      .filter((pod) => classOf(pod) === className && isReady(pod) && serves(pod, namespace))
      .sort(byAge)[0];
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
    return rules.every(({ host }) => isTaken(ingress, host ?? "", controller))
      ? "All hosts are taken by other resources"
      : undefined;
  }

  /** By an older one of the class, among those that its controller serves. */
  const isTaken = (routing: Routing, host: string, controller: V1Pod): boolean =>
    [...ingresses.list(), ...(servesServers(controller) ? (virtualServers?.list() ?? []) : [])].some(
      (other) => other !== routing && sharesHost(other, routing, host) && byAge(other, routing) < 0,
    );

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

const sharesHost = (other: Routing, routing: Routing, host: string): boolean =>
  other.spec?.ingressClassName === routing.spec?.ingressClassName &&
  !other.metadata?.deletionTimestamp &&
  !(isMinion(other) || isMinion(routing)) &&
  hostsOf(other).includes(host);

const hostsOf = ({ spec = {} }: Routing): string[] =>
  "rules" in spec ? (spec.rules ?? []).map((rule) => rule.host ?? "") : "host" in spec ? [spec.host ?? ""] : [];

/** A minion shares its master's host by design. */
const isMinion = (ingress: Routing): boolean =>
  ingress.metadata?.annotations?.["nginx.org/mergeable-ingress-type"] === "minion";

/** Negative if the first is the older one; of two of one second, the lesser uid, as the controller decides. */
function byAge(one: Routing | V1Pod, other: Routing | V1Pod): number {
  const time = (object: typeof one) => new Date(object.metadata?.creationTimestamp ?? 0).getTime();
  return time(one) - time(other) || ((one.metadata?.uid ?? "") < (other.metadata?.uid ?? "") ? -1 : 1);
}

const isReady = (pod: V1Pod): boolean =>
  !pod.metadata?.deletionTimestamp &&
  (pod.status?.conditions ?? []).some(({ type, status }) => type === "Ready" && status === "True");

const classOf = (pod: V1Pod): string | undefined => argumentsOf(pod)["-ingress-class"];

const servesServers = (pod: V1Pod): boolean => argumentsOf(pod)["-enable-custom-resources"] !== "false";

/** Without a list it serves every namespace. */
function serves(pod: V1Pod, namespace: string): boolean {
  const watched = argumentsOf(pod)["-watch-namespace"];
  return (
    !watched ||
    watched
      .replace("$(POD_NAMESPACE)", pod.metadata?.namespace ?? "")
      .split(",")
      .includes(namespace)
  );
}

/** Go's flags: one dash or two, `-flag` alone means true, and `$(POD_NAMESPACE)/` before a name is the pod's own. */
function argumentsOf(pod: V1Pod): Record<string, string> {
  const entries = (pod.spec?.containers ?? [])
    .flatMap(({ command = [], args = [] }) => [...command, ...args])
    .map((argument) => /^--?([^=]+)(?:=(.*))?$/.exec(argument))
    .flatMap((match) => (match?.[1] ? [[`-${match[1]}`, match[2] ?? "true"]] : []));
  return Object.fromEntries(entries);
}
