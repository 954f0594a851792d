import assert from "node:assert/strict";
import { ELASTICSEARCH_CLIENT } from "../../components/elasticsearch";
import { recordFigures } from "../figures";
import type { Captured } from "./graph";
import { allowed, type Connection, type Peer } from "./reach";
import { captureStack, everything, withContext } from "./stacks";

const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const NAMESPACE = "kubernetes:core/v1:Namespace";
const WORKLOADS = /:(Deployment|StatefulSet|DaemonSet|Job|CronJob)$/;

const pod = (
  name: string,
  namespace: string,
  labels: Record<string, string>,
  ports = {},
  namespaceLabels = {},
): Peer => ({
  name,
  pod: {
    namespace,
    labels,
    ports,
    namespaceLabels: { "kubernetes.io/metadata.name": namespace, ...namespaceLabels },
  },
});

const API_SERVER: Peer = { name: "API server", address: "203.0.113.1", entity: "kube-apiserver" };
const WORLD: Peer = { name: "world", address: "198.51.100.7", entity: "world" };
const MACHINES: Peer = { name: "machines", address: "10.20.0.5", entity: "host" };
const DNS = pod("DNS", "kube-system", { "k8s-app": "kube-dns" }, { dns: 53 });
const DNS_CACHE: Peer = { name: "DNS cache", address: "169.254.20.10", entity: "host" };
/** A pod of somebody else's, that has taken the labels of the platform's. */
const STRANGER = pod("stranger", "default", {
  "app.kubernetes.io/name": "backend",
  "app.kubernetes.io/instance": "nginx",
});
/** A pod beside the platform's, such as another stack's in the same namespace. */
const NEIGHBOUR = pod("neighbour", "hobnob", { app: "neighbour" });

/** Pods of another stack that the platform's ingress controller may reach, and that a second controller may. */
const GUEST = pod("guest", "shop", { app: "shop", "hobnob/ingress-class": "nginx" });
const INTERNAL = pod("internal guest", "shop", { app: "shop", "hobnob/ingress-class": "internal" });

const OUTSIDE = [API_SERVER, WORLD, MACHINES, DNS, DNS_CACHE, STRANGER, NEIGHBOUR, GUEST, INTERNAL];
/** What listens there. */
const PORTS: Record<string, number[]> = {
  "API server": [443],
  world: [80, 443],
  machines: [22, 10250],
  DNS: [53],
  "DNS cache": [53],
  stranger: [8080],
  neighbour: [8080],
  guest: [8080],
  "internal guest": [8080],
};
/** One on which none of the workloads is meant to be reached. */
const OTHER = 12345;

interface Container {
  ports?: { name: string; containerPort: number }[];
}

/** Each workload's pods. */
function workloads(graph: Captured[]): Peer[] {
  return graph
    .filter(({ type }) => WORKLOADS.test(type))
    .map(({ name, inputs: { metadata, spec } }) => {
      const { template } = spec.jobTemplate?.spec ?? spec;
      const ports = template.spec.containers.flatMap((container: Container) => container.ports ?? []);
      const numbers = ports.map((port: { name: string; containerPort: number }) => [port.name, port.containerPort]);
      return pod(name, metadata.namespace, template.metadata.labels, Object.fromEntries(numbers));
    });
}

/** Every ordered pair, on every port on which the second listens and on one on which it does not. */
function connections(graph: Captured[]): Connection[] {
  const ours = workloads(graph);
  const peers = [...ours, ...OUTSIDE];
  return peers.flatMap((from) =>
    peers
      // Machines reach their own pods whatever policies say, and what is between others is not ours.
      .filter((to) => (ours.includes(from) || ours.includes(to)) && from !== MACHINES && from !== DNS_CACHE)
      .flatMap((to) => {
        const listening = PORTS[to.name] ?? [...new Set(Object.values(to.pod?.ports ?? {}))];
        return [...listening, OTHER].map((port) => ({ from, to, port }));
      }),
  );
}

function reachable(graph: Captured[]): string[] {
  const open = connections(graph).filter(
    (connection) =>
      allowed(graph, connection) || (connection.port === 53 && allowed(graph, { ...connection, protocol: "UDP" })),
  );
  return [...group(open)].map(([ends, list]) => `${ends}: ${list.map(({ port }) => port).join(", ")}`).sort();
}

function group(open: Connection[]): Map<string, Connection[]> {
  const groups = new Map<string, Connection[]>();
  for (const connection of open) {
    const ends = `${connection.from.name} → ${connection.to.name}`;
    groups.set(ends, [...(groups.get(ends) ?? []), connection]);
  }
  return groups;
}

/** Whoever no policy of ours holds back: the controller is there for them. */
const PUBLIC = ["API server", "DNS", "guest", "internal guest", "stranger", "world"];

const DEV = [
  ...PUBLIC.map((from) => `${from} → ingress: 80`),
  "backend → DNS cache: 53",
  "backend → DNS: 53",
  "backend → elasticsearch: 9200",
  "elasticsearch → API server: 443, 12345",
  "elasticsearch → DNS cache: 53",
  "elasticsearch → DNS: 53",
  "elasticsearch → elasticsearch: 9300",
  "ingress → API server: 443, 12345",
  "ingress → backend: 8080, 8100",
  // On which of its ports is its own policy's to say.
  "ingress → guest: 8080, 12345",
];

/** A store has no address of its own: Elasticsearch reaches whatever is no pod, on the store's port alone. */
const PROD = [
  ...DEV,
  "elasticsearch → world: 443",
  "snapshots → DNS cache: 53",
  "snapshots → DNS: 53",
  "snapshots → elasticsearch: 9200",
  ...PUBLIC.map((from) => `${from} → metrics-server: 10250`),
  "metrics-server → API server: 443, 12345",
  "metrics-server → machines: 10250",
];

/** Where policies cannot name the API server, its ports are open to every address that is no pod. */
const EXISTING = [
  ...DEV.filter((line) => !line.includes("→ API server")),
  ...["elasticsearch", "ingress"].flatMap((from) => [`${from} → API server: 443`, `${from} → world: 443`]),
];

/** NGINX ends TLS itself where it may read a certificate and no balancer does. */
const OWN_TLS = EXISTING.map((line) => line.replace(/→ ingress: 80$/, "→ ingress: 80, 443"));

const existing = {
  "hobnob:cluster": { provider: "existing", context: "there", nodes: 3, storageProvisioner: "local" },
  "hobnob:ingress": { expose: "NodePort" },
  "hobnob:dns": { zone: "none" },
};

const ownTls = { ...existing, "hobnob:ingress": { expose: "NodePort", secretNamespaces: ["shop"] } };

describe("reachability", () => {
  const stacks: [string, () => Promise<Captured[]>, string[]][] = [
    ["dev", () => captureStack("dev"), DEV],
    ["prod with everything", () => captureStack("prod", everything), PROD],
    ["an existing cluster", () => withContext("there", () => captureStack("dev", existing)), EXISTING],
    ["an existing cluster with own TLS", () => withContext("there", () => captureStack("dev", ownTls)), OWN_TLS],
  ];
  const figures: Record<string, number> = {};

  for (const [title, graphOf, expected] of stacks)
    it(`must be these paths and no other: ${title}`, async () => {
      const graph = await graphOf();
      assert.deepEqual(reachable(graph), [...expected].sort());
      figures[`${title}: connections judged`] = connections(graph).length;
      figures[`${title}: paths open`] = expected.length;
      recordFigures("reachability", figures);
    });

  it("must let pods of a named namespace reach Elasticsearch that say so, and none else, on its one port", async () => {
    const graph = await captureStack("dev", { "hobnob:elasticsearch": { clientNamespaces: ["shop"] } });
    const elasticsearch = workloads(graph).find(({ name }) => name === "elasticsearch");
    assert.ok(elasticsearch);
    const may = (from: Peer, port = 9200) => allowed(graph, { from, to: elasticsearch, port });
    assert.equal(may(pod("client", "shop", ELASTICSEARCH_CLIENT)), true);
    assert.deepEqual(
      [
        may(pod("without the label", "shop", {})),
        may(pod("of another namespace", "other", ELASTICSEARCH_CLIENT)),
        may(pod("client", "shop", ELASTICSEARCH_CLIENT), 9300),
      ],
      [false, false, false],
    );
    const before = await captureStack("dev");
    assert.equal(
      allowed(before, { from: pod("client", "shop", ELASTICSEARCH_CLIENT), to: elasticsearch, port: 9200 }),
      false,
    );
  });

  it("must be denied by default in every namespace of the platform", async () => {
    const graph = await captureStack("prod", everything);
    const namespaces = graph.filter(({ type }) => type === NAMESPACE).map(({ inputs }) => inputs.metadata.name);
    const denied = graph
      .filter(({ type, inputs }) => type === POLICY && inputs.metadata.name === "default-deny")
      .map(({ inputs }) => inputs.metadata.namespace);
    assert.deepEqual(denied.sort(), namespaces.sort());
    assert.equal(namespaces.length, 3);
  });
});

/** Examples of https://kubernetes.io/docs/concepts/services-networking/network-policies/ */
describe("evaluation of policies", () => {
  const policy = (spec: object, namespace = "default"): Captured =>
    ({ type: POLICY, inputs: { metadata: { namespace }, spec } }) as Captured;
  const at = (address: string): Peer => ({ name: address, address });
  const judge = (policies: Captured[], from: Peer, to: Peer, port: number, protocol?: "TCP" | "UDP") =>
    allowed(policies, { from, to, port, protocol });

  const db = pod("db", "default", { role: "db" });
  const frontend = pod("frontend", "default", { role: "frontend" });
  const other = pod("other", "default", {});
  const elsewhere = pod("elsewhere", "two", { role: "frontend" }, {}, { project: "myproject" });

  it("must follow the page's first example, each sentence of it", () => {
    const example = policy({
      podSelector: { matchLabels: { role: "db" } },
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        {
          from: [
            { ipBlock: { cidr: "172.17.0.0/16", except: ["172.17.1.0/24"] } },
            { namespaceSelector: { matchLabels: { project: "myproject" } } },
            { podSelector: { matchLabels: { role: "frontend" } } },
          ],
          ports: [{ protocol: "TCP", port: 6379 }],
        },
      ],
      egress: [{ to: [{ ipBlock: { cidr: "10.0.0.0/24" } }], ports: [{ protocol: "TCP", port: 5978 }] }],
    });
    const to = (from: Peer, port = 6379) => judge([example], from, db, port);
    assert.equal(to(frontend), true, "any pod in the namespace with role=frontend");
    assert.equal(to(elsewhere), true, "any pod in a namespace with project=myproject");
    assert.deepEqual([to(at("172.17.0.1")), to(at("172.17.2.0")), to(at("172.17.255.255"))], [true, true, true]);
    assert.equal(to(at("172.17.1.9")), false, "excepted");
    assert.deepEqual(
      [to(other), to(pod("x", "three", { role: "frontend" })), to(frontend, 6380)],
      [false, false, false],
    );
    assert.equal(judge([example], db, at("10.0.0.9"), 5978), true);
    assert.deepEqual([judge([example], db, at("10.0.1.9"), 5978), judge([example], db, other, 5978)], [false, false]);
    assert.equal(judge([example], frontend, other, 1), true, "pods that it does not select are not isolated");
  });

  it("must tell a peer with both selectors from two peers with one each", () => {
    const namespaceSelector = { matchLabels: { user: "alice" } };
    const podSelector = { matchLabels: { role: "client" } };
    const both = policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector, podSelector }] }] });
    const either = policy({ podSelector: {}, ingress: [{ from: [{ namespaceSelector }, { podSelector }] }] });
    const alice = (labels: Record<string, string>) => pod("alice", "alice", labels, {}, { user: "alice" });
    const peers = [alice({ role: "client" }), alice({}), pod("here", "default", { role: "client" })];
    assert.deepEqual(
      peers.map((peer) => judge([both], peer, db, 1)),
      [true, false, false],
    );
    assert.deepEqual(
      peers.map((peer) => judge([either], peer, db, 1)),
      [true, true, true],
    );
  });

  it("must follow the page's default policies, and add up policies", () => {
    const denyIngress = policy({ podSelector: {}, policyTypes: ["Ingress"] });
    const allowIngress = policy({ podSelector: {}, ingress: [{}], policyTypes: ["Ingress"] });
    const denyEgress = policy({ podSelector: {}, policyTypes: ["Egress"] });
    const allowEgress = policy({ podSelector: {}, egress: [{}], policyTypes: ["Egress"] });
    assert.equal(judge([], other, db, 1), true);
    assert.equal(judge([denyIngress], other, db, 1), false);
    assert.equal(judge([denyIngress, allowIngress], other, db, 1), true);
    assert.equal(judge([denyEgress], other, db, 1), false);
    assert.equal(judge([denyEgress, allowEgress], other, db, 1), true);
    assert.equal(judge([denyEgress], elsewhere, db, 1), true, "the other namespace's egress is its own");
    assert.equal(judge([denyEgress, denyIngress, allowIngress], other, db, 1), false, "both ends must allow it");
  });

  it("must take a policy without types for one of ingress, and of egress where it has egress rules", () => {
    assert.equal(judge([policy({ podSelector: {} })], db, at("10.0.0.1"), 1), true);
    assert.equal(judge([policy({ podSelector: {} })], other, db, 1), false);
    assert.equal(judge([policy({ podSelector: {}, egress: [] })], db, at("10.0.0.1"), 1), false);
  });

  it("must judge a range of ports, a port's name at the pod connected to, and the protocol", () => {
    const range = policy({
      podSelector: { matchLabels: { role: "db" } },
      policyTypes: ["Egress"],
      egress: [
        { to: [{ ipBlock: { cidr: "10.0.0.0/24" } }], ports: [{ protocol: "TCP", port: 32000, endPort: 32768 }] },
      ],
    });
    const ports = [31999, 32000, 32768, 32769].map((port) => judge([range], db, at("10.0.0.1"), port));
    assert.deepEqual(ports, [false, true, true, false]);
    assert.equal(judge([range], db, at("10.0.0.1"), 32000, "UDP"), false);
    const named = policy({ podSelector: {}, ingress: [{ ports: [{ port: "web" }] }] });
    const web = pod("web", "default", {}, { web: 8080 });
    assert.deepEqual([judge([named], other, web, 8080), judge([named], other, web, 80)], [true, false]);
  });

  it("must select by expressions, several namespaces by name, and addresses of the same family alone", () => {
    const names = { key: "kubernetes.io/metadata.name", operator: "In", values: ["two", "three"] };
    const byName = policy({
      podSelector: {},
      ingress: [{ from: [{ namespaceSelector: { matchExpressions: [names] } }] }],
    });
    assert.deepEqual([judge([byName], elsewhere, db, 1), judge([byName], other, db, 1)], [true, false]);
    const notTwo = policy({
      podSelector: {},
      ingress: [{ from: [{ namespaceSelector: { matchExpressions: [{ ...names, operator: "NotIn" }] } }] }],
    });
    assert.deepEqual([judge([notTwo], elsewhere, db, 1), judge([notTwo], other, db, 1)], [false, true]);
    const six = policy({ podSelector: {}, egress: [{ to: [{ ipBlock: { cidr: "::/0" } }] }] });
    assert.deepEqual([judge([six], db, at("2001:db8::1"), 1), judge([six], db, at("10.0.0.1"), 1)], [true, false]);
  });

  it("must add what Cilium's entities allow, and isolate by them alone too", () => {
    const entity = {
      type: "kubernetes:cilium.io/v2:CiliumNetworkPolicy",
      inputs: {
        metadata: { namespace: "default" },
        spec: { endpointSelector: { matchLabels: { role: "db" } }, egress: [{ toEntities: ["kube-apiserver"] }] },
      },
    } as unknown as Captured;
    const deny = policy({ podSelector: {}, policyTypes: ["Egress"] });
    assert.deepEqual(
      [judge([deny, entity], db, API_SERVER, 443), judge([deny, entity], db, WORLD, 443)],
      [true, false],
    );
    assert.deepEqual([judge([entity], db, WORLD, 443), judge([deny, entity], other, API_SERVER, 443)], [false, false]);
  });
});
