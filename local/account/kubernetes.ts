import { createHash, randomBytes, randomUUID } from "node:crypto";
import { isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { stringify } from "yaml";
import { ApiError, type Body, count, find, page, type Server, strings, text, unprocessable } from "./api";
import { clusterTag } from "./attachments";
import { compareVersions, parseVersion, regions, sizes, sortVersions, type Version } from "./catalogue";
import { defaultVpc } from "./network";
import type { Cluster, Node, NodePool, Store, Taint } from "./state";

/** What stands behind the account's clusters: a real control plane, or nothing where only a plan is wanted. */
export interface Runtime {
  /** Brings a new control plane up. */
  create(cluster: Cluster): Promise<Endpoint>;
  /** Brings up again what an earlier account had running. */
  resume(cluster: Cluster): Promise<Endpoint>;
  delete(cluster: Cluster): Promise<void>;
  /** Succeeds too when the node is there. */
  addNode(cluster: Cluster, pool: NodePool, node: Node): Promise<void>;
  /** Gives a node the labels and taints that its pool has now. */
  updateNode(cluster: Cluster, pool: NodePool, node: Node, removedLabels: string[]): Promise<void>;
  removeNode(cluster: Cluster, node: Node): Promise<void>;
  stop(): Promise<void>;
  /** Whether what should run behind the clusters does. */
  isAlive(): boolean;
}

interface Endpoint {
  server: string;
  /** Base64 */
  caData: string;
}

const defaultTokenSeconds = 7 * 86_400;
const days = ["any", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

type One = { Params: { id: string }; Body: Body };
type Pool = { Params: { id: string; pool: string }; Body: Body };

/**
 * @param runtime left out: clusters exist in the account only.
 * @param ended aborted when the account ends: what is under way then is taken up again by the next one.
 * @returns what brings everything on that a stopped account had, or had not finished; to be called once it answers.
 */
export function kubernetesRoutes(
  server: Server,
  store: Store,
  runtime: Runtime | undefined,
  ended: AbortSignal,
): { resume(): Promise<void> } {
  const { data } = store;
  const clusters = () => data.clusters.filter((cluster) => cluster.state !== "deleting");
  const cluster = (id: string) => find(clusters(), id);
  const running = (id: string) => {
    const found = cluster(id);
    if (found.state === "provisioning") throw new ApiError(412, "precondition_failed", "the cluster is not ready yet");
    return found;
  };

  const wait = (seconds: number) => sleep(seconds * 1000, undefined, { signal: ended });
  const behind = (owner: Cluster) => (owner.embedded ? runtime : undefined);

  const inBackground = (work: () => Promise<void>, failed: (message: string) => void = () => {}) => {
    work()
      .catch((error: Error) => {
        if (ended.aborted) return;
        console.error(error);
        failed(error.message);
      })
      .finally(() => ended.aborted || store.save());
  };

  const provision = (created: Cluster) =>
    inBackground(
      async () => {
        const [endpoint] = await Promise.all([
          behind(created)?.create(created) ?? nothing(created),
          wait(store.settings.latency.cluster),
        ]);
        setEndpoint(created, endpoint);
        await Promise.all(created.node_pools.map((pool) => provisionNodes(created, pool)));
        if (created.state === "provisioning") Object.assign(created, { state: "running", message: "" });
      },
      (message) => Object.assign(created, { state: "error", message }),
    );

  const provisionNodes = async (owner: Cluster, pool: NodePool) => {
    await Promise.all(
      pool.nodes.map(async (node) => {
        if (node.state !== "provisioning") return;
        await behind(owner)?.addNode(owner, pool, node);
        await wait(store.settings.latency.node);
        node.state = "running";
      }),
    );
    store.save();
  };

  /** Adds and takes away nodes until the pool has `wanted`; the newest go first. */
  const resize = (owner: Cluster, pool: NodePool, wanted: number) => {
    const surplus = pool.nodes.splice(wanted);
    while (pool.nodes.length < wanted) pool.nodes.push(newNode(store, pool));
    for (const node of surplus) inBackground(async () => behind(owner)?.removeNode(owner, node));
    if (owner.state !== "provisioning") inBackground(() => provisionNodes(owner, pool));
  };

  const remove = (gone: Cluster) =>
    inBackground(async () => {
      await Promise.all([behind(gone)?.delete(gone), wait(store.settings.latency.clusterDeletion)]);
      data.clusters.splice(data.clusters.indexOf(gone), 1);
      data.credentials = data.credentials.filter(({ clusterId }) => clusterId !== gone.id);
    });

  server.get("/v2/kubernetes/options", () => ({
    options: {
      regions,
      versions: sortVersions(store.settings.kubernetesVersions).map(versionView),
      sizes: sizes.map(({ slug }) => ({ slug, name: slug })),
    },
  }));

  server.get("/v2/kubernetes/clusters", (request) => page(request, "kubernetes_clusters", clusters().map(clusterView)));

  server.post<One>("/v2/kubernetes/clusters", ({ body }, reply) => {
    const created = newCluster(store, body, runtime !== undefined && store.settings.withCluster);
    data.clusters.push(created);
    store.save();
    provision(created);
    reply.status(201);
    return { kubernetes_cluster: clusterView(created) };
  });

  server.get<One>("/v2/kubernetes/clusters/:id", ({ params }) => ({
    kubernetes_cluster: clusterView(cluster(params.id)),
  }));

  server.put<One>("/v2/kubernetes/clusters/:id", ({ params, body }, reply) => {
    const found = cluster(params.id);
    text(body, "name");
    if (found.ha && body.ha === false) throw unprocessable("validation error: high availability cannot be disabled");
    const name = body.name === found.name ? found.name : clusterName(store, text(body, "name"));
    Object.assign(found, clusterFields(body, found), { name, updated_at: store.timestamp() });
    store.save();
    reply.status(202);
    return { kubernetes_cluster: clusterView(found) };
  });

  server.delete<One>("/v2/kubernetes/clusters/:id", ({ params }, reply) => {
    const found = cluster(params.id);
    found.state = "deleting";
    store.save();
    remove(found);
    return reply.status(202).send();
  });

  server.get<One>("/v2/kubernetes/clusters/:id/upgrades", ({ params }) => ({
    available_upgrade_versions: upgrades(store, cluster(params.id)).map(versionView),
  }));

  server.post<One>("/v2/kubernetes/clusters/:id/upgrade", ({ params, body }, reply) => {
    const found = running(params.id);
    const wanted = resolveVersion(text(body, "version"), upgrades(store, found));
    if (!wanted) throw unprocessable("validation error: invalid version slug");
    Object.assign(found, { version: wanted.slug, state: "upgrading", updated_at: store.timestamp() });
    store.save();
    inBackground(async () => {
      await wait(store.settings.latency.cluster);
      found.state = "running";
    });
    return reply.status(202).send();
  });

  server.get<One>("/v2/kubernetes/clusters/:id/destroy_with_associated_resources", ({ params }) => {
    const { loadBalancers, volumes } = associated(store, cluster(params.id));
    const brief = ({ id, name }: { id: string; name: string }) => ({ id, name });
    return { load_balancers: loadBalancers.map(brief), volumes: volumes.map(brief), volume_snapshots: [] };
  });

  server.delete<One>("/v2/kubernetes/clusters/:id/destroy_with_associated_resources/dangerous", ({ params }, reply) => {
    const found = cluster(params.id);
    const { loadBalancers, volumes } = associated(store, found);
    data.loadBalancers = data.loadBalancers.filter((balancer) => !loadBalancers.includes(balancer));
    data.volumes = data.volumes.filter((volume) => !volumes.includes(volume));
    found.state = "deleting";
    store.save();
    remove(found);
    return reply.status(202).send();
  });

  server.get<One>("/v2/kubernetes/clusters/:id/credentials", ({ params, query }) =>
    issueCredentials(store, running(params.id), query),
  );

  server.get<One>("/v2/kubernetes/clusters/:id/kubeconfig", ({ params, query }, reply) => {
    const found = running(params.id);
    reply.type("application/yaml");
    return kubeconfig(found, issueCredentials(store, found, query));
  });

  server.get<One>("/v2/kubernetes/clusters/:id/node_pools", (request) =>
    page(request, "node_pools", cluster(request.params.id).node_pools.map(poolView)),
  );

  server.post<One>("/v2/kubernetes/clusters/:id/node_pools", ({ params, body }, reply) => {
    const owner = cluster(params.id);
    const pool = newPool(store, body, "worker_node_pool_spec", owner.node_pools);
    owner.node_pools.push(pool);
    store.save();
    if (owner.state !== "provisioning") inBackground(() => provisionNodes(owner, pool));
    reply.status(201);
    return { node_pool: poolView(pool) };
  });

  server.get<Pool>("/v2/kubernetes/clusters/:id/node_pools/:pool", ({ params }) => ({
    node_pool: poolView(find(cluster(params.id).node_pools, params.pool)),
  }));

  server.put<Pool>("/v2/kubernetes/clusters/:id/node_pools/:pool", ({ params, body }, reply) => {
    const owner = cluster(params.id);
    const pool = find(owner.node_pools, params.pool);
    const others = owner.node_pools.filter((other) => other !== pool);
    const { wanted, ...fields } = poolFields(body, "worker_node_pool_spec", others, pool);
    const removedLabels = Object.keys(pool.labels).filter((label) => !(label in fields.labels));
    const relabelled = !isDeepStrictEqual([pool.labels, pool.taints], [fields.labels, fields.taints]);
    Object.assign(pool, fields);
    resize(owner, pool, wanted);
    for (const node of relabelled ? pool.nodes : []) {
      if (node.state === "provisioning") continue;
      inBackground(async () => behind(owner)?.updateNode(owner, pool, node, removedLabels));
    }
    store.save();
    reply.status(202);
    return { node_pool: poolView(pool) };
  });

  server.delete<Pool>("/v2/kubernetes/clusters/:id/node_pools/:pool", ({ params }, reply) => {
    const owner = cluster(params.id);
    const pool = find(owner.node_pools, params.pool);
    if (owner.node_pools.length === 1)
      throw unprocessable("validation error: a cluster must have at least one node pool");
    resize(owner, pool, 0);
    owner.node_pools.splice(owner.node_pools.indexOf(pool), 1);
    store.save();
    return reply.status(202).send();
  });

  return {
    async resume() {
      for (const existing of [...data.clusters]) {
        if (existing.state === "provisioning") provision(existing);
        else if (existing.state === "deleting") remove(existing);
        else {
          const endpoint = await behind(existing)?.resume(existing);
          if (endpoint) setEndpoint(existing, endpoint);
          if (existing.state === "upgrading") existing.state = "running";
          for (const pool of existing.node_pools) inBackground(() => provisionNodes(existing, pool));
        }
      }
    },
  };
}

function setEndpoint(cluster: Cluster, { server, caData }: Endpoint): void {
  const { hostname } = new URL(server);
  const ipv4 = isIP(hostname) ? hostname : "203.0.113.254";
  Object.assign(cluster, { endpoint: server, certificateAuthority: caData, ipv4 });
}

/** The user that a token stands for while it is good by the account's clock. */
export function reviewToken(store: Store, token: string): { username: string; groups: string[] } | undefined {
  const credential = store.data.credentials.find(({ hash }) => hash === hashOf(token));
  const good = credential && new Date(credential.expiresAt) > store.now();
  return good ? { username: "doks-admin", groups: ["system:masters"] } : undefined;
}

const hashOf = (token: string) => createHash("sha256").update(token).digest("hex");

/** Every read makes a new token, as at DigitalOcean; 0 stands for the default of seven days. */
function issueCredentials(store: Store, cluster: Cluster, query: unknown) {
  const seconds = Number((query as { expiry_seconds?: string }).expiry_seconds ?? 0) || defaultTokenSeconds;
  const token = randomBytes(32).toString("hex");
  const expiresAt = new Date(store.now().getTime() + seconds * 1000).toISOString();
  const stillGood = store.data.credentials.filter((credential) => new Date(credential.expiresAt) > store.now());
  store.data.credentials = [...stillGood, { hash: hashOf(token), clusterId: cluster.id, expiresAt }];
  store.save();
  return {
    server: cluster.endpoint,
    certificate_authority_data: cluster.certificateAuthority,
    client_certificate_data: null,
    client_key_data: null,
    token,
    expires_at: expiresAt,
  };
}

function kubeconfig(cluster: Cluster, credentials: ReturnType<typeof issueCredentials>): string {
  const name = `do-${cluster.region}-${cluster.name}`;
  const { server, certificate_authority_data, token } = credentials;
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { "certificate-authority-data": certificate_authority_data, server } }],
    contexts: [{ name, context: { cluster: name, user: `${name}-admin` } }],
    "current-context": name,
    preferences: {},
    users: [{ name: `${name}-admin`, user: { token } }],
  });
}

const nothing = async ({ id }: Cluster) => ({
  server: `https://${id}.k8s.ondigitalocean.com`,
  caData: Buffer.from("no cluster stands behind this account").toString("base64"),
});

const versionView = ({ slug, major, minor, patch }: Version) => ({
  slug,
  kubernetes_version: `${major}.${minor}.${patch}`,
  supported_features: ["cluster-autoscaler", "docr-integration", "ha-control-plane", "token-authentication"],
});

function clusterView(cluster: Cluster) {
  const { state, message, certificateAuthority, embedded, node_pools, ...shown } = cluster;
  return {
    ...shown,
    node_pools: node_pools.map(poolView),
    registry_enabled: false,
    status: { state, ...(message && { message }) },
  };
}

const poolView = ({ nodes, ...pool }: NodePool) => ({
  ...pool,
  count: nodes.length,
  nodes: nodes.map(({ state, ...node }) => ({ ...node, status: { state } })),
});

/** On offer, newer than the cluster's, and at most one minor ahead. */
function upgrades(store: Store, cluster: Cluster): Version[] {
  const own = parseVersion(cluster.version);
  if (!own) return [];
  return sortVersions(store.settings.kubernetesVersions).filter(
    (version) => compareVersions(version, own) > 0 && version.minor <= own.minor + 1,
  );
}

/** A slug, a minor such as `1.36` (its newest patch), or `latest`. `versions` are newest first. */
const resolveVersion = (wanted: string, versions: Version[]): Version | undefined =>
  wanted === "latest"
    ? versions[0]
    : versions.find(({ slug, major, minor }) => wanted === slug || wanted === `${major}.${minor}`);

function associated({ data }: Store, { id }: Cluster) {
  const ours = ({ tags }: { tags: string[] }) => tags.includes(clusterTag(id));
  return { loadBalancers: data.loadBalancers.filter(ours), volumes: data.volumes.filter(ours) };
}

function clusterName({ data }: Store, name: string): string {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) {
    throw unprocessable("validation error: name must consist of lowercase alphanumeric characters or '-'");
  }
  if (data.clusters.some((cluster) => cluster.name === name && cluster.state !== "deleting")) {
    throw unprocessable("validation error: a cluster with this name already exists");
  }
  return name;
}

/** Wordings: terraform-provider-digitalocean#521 (version), #827 (size), #602 (min nodes). */
function newCluster(store: Store, body: Body, embedded: boolean): Cluster {
  const { data, settings } = store;
  const name = clusterName(store, text(body, "name"));
  const region = text(body, "region");
  if (!regions.some(({ slug }) => slug === region)) throw unprocessable("validation error: invalid region slug");
  const version = resolveVersion(text(body, "version"), sortVersions(settings.kubernetesVersions));
  if (!version) throw unprocessable("validation error: invalid version slug");
  const specs = Array.isArray(body.node_pools) ? (body.node_pools as Body[]) : [];
  if (specs.length === 0) throw unprocessable("validation error: a cluster must have at least one node pool");
  const pools: NodePool[] = [];
  specs.forEach((spec, index) => {
    pools.push(newPool(store, spec, `worker_node_pool_specs[${index}]`, pools));
  });
  if (embedded && data.clusters.some((other) => other.embedded && other.state !== "deleting")) {
    throw unprocessable("this simulated account runs one cluster at a time: delete the other one first");
  }
  const vpc = body.vpc_uuid ? data.vpcs.find(({ id }) => id === body.vpc_uuid) : defaultVpc(store, region);
  if (!vpc) throw unprocessable("validation error: VPC not found");
  if (vpc.region !== region) throw unprocessable("validation error: the VPC is in another region than the cluster");
  const id = randomUUID();
  const atLeast136 = version.major > 1 || version.minor >= 36;
  return {
    id,
    name,
    region,
    version: version.slug,
    cluster_subnet: String(body.cluster_subnet || "10.244.0.0/16"),
    service_subnet: String(body.service_subnet || "10.245.0.0/16"),
    vpc_uuid: vpc.id,
    ipv4: "",
    endpoint: "",
    certificateAuthority: "",
    node_pools: pools,
    ...clusterFields(body, {
      tags: ["k8s", clusterTag(id)],
      // From 1.36 on: costs money and can't be undone. Source: research/field.md, section 1.
      ha: atLeast136,
      auto_upgrade: false,
      surge_upgrade: false,
      maintenance_policy: { day: "any", start_time: "06:00", duration: "4h0m0s" },
      control_plane_firewall: { enabled: false, allowed_addresses: [] },
      cluster_autoscaler_configuration: {},
    }),
    state: "provisioning",
    message: "provisioning",
    created_at: store.timestamp(),
    updated_at: store.timestamp(),
    embedded,
  };
}

type ClusterFields = Pick<
  Cluster,
  | "tags"
  | "ha"
  | "auto_upgrade"
  | "surge_upgrade"
  | "maintenance_policy"
  | "control_plane_firewall"
  | "cluster_autoscaler_configuration"
>;

/** What both creation and update take; a field that is left out keeps `current`. */
function clusterFields(body: Body, current: ClusterFields): ClusterFields {
  const flag = (field: "ha" | "auto_upgrade" | "surge_upgrade") =>
    typeof body[field] === "boolean" ? body[field] : current[field];
  const own = current.tags.filter((tag) => tag === "k8s" || tag.startsWith("k8s:"));
  return {
    tags: body.tags === undefined ? current.tags : [...new Set([...own, ...strings(body.tags)])],
    ha: flag("ha"),
    auto_upgrade: flag("auto_upgrade"),
    surge_upgrade: flag("surge_upgrade"),
    maintenance_policy: maintenance(body.maintenance_policy as Body | undefined, current.maintenance_policy),
    control_plane_firewall: firewall(body.control_plane_firewall as Body | undefined, current.control_plane_firewall),
    cluster_autoscaler_configuration: {
      ...current.cluster_autoscaler_configuration,
      ...(body.cluster_autoscaler_configuration as Body | undefined),
    },
  };
}

function maintenance(body: Body | undefined, current: Cluster["maintenance_policy"]) {
  const day = String(body?.day ?? current.day);
  const start_time = String(body?.start_time || current.start_time);
  if (!days.includes(day)) throw unprocessable(`validation error: maintenance_policy.day "${day}" is invalid`);
  if (!/^([01]?\d|2[0-3]):[0-5]\d$/.test(start_time)) {
    throw unprocessable(`validation error: maintenance_policy.start_time "${start_time}" is invalid`);
  }
  return { ...current, day, start_time };
}

function firewall(body: Body | undefined, current: Cluster["control_plane_firewall"]) {
  const enabled = typeof body?.enabled === "boolean" ? body.enabled : current.enabled;
  const allowed_addresses = body?.allowed_addresses ? strings(body.allowed_addresses) : current.allowed_addresses;
  const bad = allowed_addresses.find((address) => {
    const [host = "", prefix] = address.split("/");
    return !isIP(host) || (prefix !== undefined && !(/^\d+$/.test(prefix) && Number(prefix) <= 128));
  });
  if (bad !== undefined) throw unprocessable(`validation error: control_plane_firewall: invalid address "${bad}"`);
  return { enabled, allowed_addresses };
}

function newPool(store: Store, body: Body, where: string, others: NodePool[]): NodePool {
  const size = text(body, "size");
  if (!sizes.some(({ slug }) => slug === size)) throw unprocessable(`validation error: ${where}.invalid droplet size`);
  const { wanted, ...fields } = poolFields(body, where, others);
  const pool: NodePool = { id: randomUUID(), size, ...fields, nodes: [] };
  while (pool.nodes.length < wanted) pool.nodes.push(newNode(store, pool));
  return pool;
}

/** What both creation and update take, and the number of nodes that follows from it. */
function poolFields(body: Body, where: string, others: NodePool[], current?: NodePool) {
  const refuse = (message: string) => unprocessable(`validation error: ${where}.${message}`);
  const name = text(body, "name");
  if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(name)) throw refuse("pool names must be valid DNS labels");
  if (name.length > 55) throw refuse("pool names cannot be greater than 55 characters");
  if (others.some((other) => other.name === name)) throw refuse("pool names must be unique within a cluster");
  const auto_scale = typeof body.auto_scale === "boolean" ? body.auto_scale : (current?.auto_scale ?? false);
  const min_nodes = count(body, "min_nodes", current?.min_nodes ?? 0);
  const max_nodes = count(body, "max_nodes", current?.max_nodes ?? 0);
  const given = count(body, "count", current?.nodes.length ?? 0);
  if (auto_scale && min_nodes < 1) throw refuse("min nodes must be greater than or equal to 1");
  if (auto_scale && max_nodes < min_nodes) throw refuse("max nodes must be greater than or equal to min nodes");
  if (!auto_scale && given < 1) throw refuse("count must be greater than or equal to 1");
  return {
    name,
    auto_scale,
    min_nodes,
    max_nodes,
    tags: body.tags === undefined ? (current?.tags ?? []) : strings(body.tags),
    labels: (body.labels ?? current?.labels ?? {}) as Record<string, string>,
    taints: body.taints === undefined ? (current?.taints ?? []) : taints(body.taints, refuse),
    wanted: auto_scale ? Math.min(Math.max(given, min_nodes), max_nodes) : given,
  };
}

function taints(value: unknown, refuse: (message: string) => ApiError): Taint[] {
  return (Array.isArray(value) ? value : []).map(({ key, value: of = "", effect }: Taint) => {
    if (!key) throw refuse("taint key must not be empty");
    if (!effects.includes(effect)) throw refuse(`taint effect "${effect}" must be one of ${effects.join(", ")}`);
    return { key, value: of, effect };
  });
}

const newNode = (store: Store, pool: Pick<NodePool, "name">): Node => ({
  id: randomUUID(),
  // As DOKS names them: five characters after the pool's name.
  name: `${pool.name}-${randomBytes(16)
    .toString("base64url")
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")
    .slice(0, 5)}`,
  state: "provisioning",
  droplet_id: String(store.nextId()),
  created_at: store.timestamp(),
  updated_at: store.timestamp(),
});
