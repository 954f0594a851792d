import { BlockList, isIP } from "node:net";
import type { Captured } from "./graph";

/*
 * Who may reach whom by the NetworkPolicies of a graph, as https://kubernetes.io/docs/concepts/services-networking/network-policies/
 * says it, and by the egress rules of CiliumNetworkPolicies that name entities, which add to them
 * (https://docs.cilium.io/en/stable/security/policy/). Traffic between a pod and its own machine is always allowed, and not judged.
 */

type Labels = Record<string, string>;

/** What connects or is connected to. */
export interface Peer {
  /** As findings name it. */
  name: string;
  /** Of a pod. */
  pod?: { namespace: string; namespaceLabels: Labels; labels: Labels; ports: Record<string, number> };
  /** Of what is no pod. */
  address?: string;
  /** What Cilium calls it. */
  entity?: "kube-apiserver" | "host" | "world";
}

export interface Connection {
  from: Peer;
  to: Peer;
  port: number;
  protocol?: "TCP" | "UDP";
}

// biome-ignore lint/suspicious/noExplicitAny: captured inputs are untyped
type Spec = any;

/** Whether both ends allow it: the source's egress and the destination's ingress. */
export function allowed(graph: Captured[], connection: Connection): boolean {
  return allows(graph, "Egress", connection) && allows(graph, "Ingress", connection);
}

function allows(graph: Captured[], direction: "Ingress" | "Egress", connection: Connection): boolean {
  const [self, other] = direction === "Egress" ? [connection.from, connection.to] : [connection.to, connection.from];
  const { pod } = self;
  if (!pod) return true;
  const inNamespace = (type: string, selector: string) =>
    graph
      .filter((resource) => resource.type === type && resource.inputs.metadata.namespace === pod.namespace)
      .map(({ inputs }) => inputs.spec)
      .filter((spec: Spec) => matches(spec[selector], pod.labels));
  const policies = inNamespace("kubernetes:networking.k8s.io/v1:NetworkPolicy", "podSelector").filter((spec: Spec) =>
    typesOf(spec).includes(direction),
  );
  const cilium = inNamespace("kubernetes:cilium.io/v2:CiliumNetworkPolicy", "endpointSelector");
  const key = direction.toLowerCase();
  const ciliumRules = cilium.flatMap((spec: Spec) => spec[key] ?? []);
  if (policies.length === 0 && cilium.every((spec: Spec) => spec[key] === undefined)) return true;
  const rules = policies.flatMap((spec: Spec) => ruleList(spec, direction));
  return (
    rules.some((rule: Spec) => peerMatches(rule, direction, pod.namespace, other) && portMatches(rule, connection)) ||
    ciliumRules.some((rule: Spec) => entityMatches(rule, direction, connection, other))
  );
}

const ruleList = (spec: Spec, direction: "Ingress" | "Egress"): Spec[] =>
  (direction === "Ingress" ? spec.ingress : spec.egress) ?? [];

const typesOf = ({ policyTypes, egress }: Spec): string[] =>
  policyTypes ?? ["Ingress", ...(egress === undefined ? [] : ["Egress"])];

function peerMatches(rule: Spec, direction: "Ingress" | "Egress", namespace: string, other: Peer): boolean {
  const peers: Spec[] = (direction === "Ingress" ? rule.from : rule.to) ?? [];
  if (peers.length === 0) return true;
  return peers.some(({ ipBlock, namespaceSelector, podSelector }) => {
    if (ipBlock) return other.address !== undefined && inBlock(ipBlock, other.address);
    if (!other.pod) return false;
    const inNamespace = namespaceSelector
      ? matches(namespaceSelector, other.pod.namespaceLabels)
      : other.pod.namespace === namespace;
    return inNamespace && matches(podSelector ?? {}, other.pod.labels);
  });
}

/** A port's name is resolved at the pod that is connected to. */
function portMatches({ ports }: Spec, { to, port, protocol = "TCP" }: Connection): boolean {
  if (!ports || ports.length === 0) return true;
  return ports.some((rule: Spec) => {
    if ((rule.protocol ?? "TCP") !== protocol) return false;
    if (rule.port === undefined) return true;
    if (typeof rule.port === "string") return to.pod?.ports[rule.port] === port;
    return rule.port <= port && port <= (rule.endPort ?? rule.port);
  });
}

function entityMatches(
  rule: Spec,
  direction: "Ingress" | "Egress",
  { port, protocol = "TCP" }: Connection,
  other: Peer,
): boolean {
  const entities: string[] = (direction === "Ingress" ? rule.fromEntities : rule.toEntities) ?? [];
  const names: (string | undefined)[] = other.entity === "host" ? ["host", "remote-node"] : [other.entity];
  if (!entities.some((entity) => names.includes(entity))) return false;
  const ports: Spec[] | undefined = rule.toPorts?.flatMap((to: Spec) => to.ports);
  return !ports || ports.some((each) => Number(each.port) === port && (each.protocol ?? "TCP") === protocol);
}

/** `{}` selects all. */
function matches({ matchLabels = {}, matchExpressions = [] }: Spec, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }: Spec) => {
      if (operator === "Exists") return key in labels;
      if (operator === "DoesNotExist") return !(key in labels);
      return values.includes(labels[key]) === (operator === "In");
    })
  );
}

function inBlock({ cidr, except = [] }: Spec, address: string): boolean {
  const within = (range: string) => {
    const [network = "", bits] = range.split("/");
    if (isIP(network) !== isIP(address)) return false;
    const list = new BlockList();
    const family = isIP(network) === 6 ? "ipv6" : "ipv4";
    list.addSubnet(network, Number(bits), family);
    return list.check(address, family);
  };
  return within(cidr) && !except.some(within);
}
