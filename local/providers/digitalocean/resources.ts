/**
 * The resources of the program. Source of what each of them validates, replaces, waits for and says: Terraform's
 * provider for DigitalOcean (digitalocean/kubernetes, vpc, domain, certificate), whose behaviour the official plugin has.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { type DiffKind, type Properties, secret } from "../server";
import { type Answer, CallError, type Client } from "./client";
import { atLeast, atMostLetters, between, cidr, type Field, type Fields, notEmpty, oneOf } from "./schema";

interface Context {
  client: Client;
  /** Ends waits when the user cancels. */
  signal: AbortSignal;
}

export interface Resource {
  fields: Fields;
  /** What is only known to be wrong once the inputs are taken together; refused in preview too. */
  refuse?(inputs: Properties): string | undefined;
  adjustDiff?(differences: Record<string, DiffKind>, inputs: Properties, state: Properties): void;
  create(context: Context, inputs: Properties): Promise<{ id: string; outputs: Properties }>;
  /** `state` is empty in an import. */
  read(context: Context, id: string, state: Properties): Promise<{ id: string; outputs: Properties } | undefined>;
  update?(context: Context, id: string, inputs: Properties, state: Properties): Promise<Properties>;
  delete(context: Context, id: string, state: Properties, timeout: number): Promise<void>;
}

const pollMilliseconds = 250;

const required: Field = { type: "string", required: true, validate: notEmpty };
const name: Field = { type: "string", autoName: true, validate: notEmpty };
const text: Field = { type: "string" };
const flag: Field = { type: "boolean" };
const tags: Field = { type: "list" };
const output = (type: Field["type"]): Field => ({ type, output: true });
const replacing = (field: Field): Field => ({ ...field, forceNew: true });
const enabled: Field = { type: "object", computed: true, fields: { enabled: { type: "boolean", required: true } } };

/** As Go prints a time. */
const goTime = (time: string) => time.replace("T", " ").replace(/(\.\d+)?Z$/, " +0000 UTC");

async function until<Result>(
  context: Context,
  seconds: number,
  what: string,
  attempt: () => Promise<Result | undefined>,
) {
  for (const deadline = Date.now() + seconds * 1000; ; ) {
    const result = await attempt();
    if (result !== undefined) return result;
    if (Date.now() > deadline) throw new Error(`Timeout waiting to ${what}`);
    await sleep(pollMilliseconds, undefined, { signal: context.signal });
  }
}

/** Says what was being done before the API's own words. */
async function saying<Result>(what: string, work: Promise<Result>): Promise<Result> {
  return work.catch((error: Error) => {
    throw new Error(`${what}${error.message}`);
  });
}

/** Repeats what the API refuses for now; its last refusal is the error. */
async function retrying(
  context: Context,
  seconds: number,
  isPassing: (error: CallError) => boolean,
  work: () => Promise<unknown>,
) {
  for (const deadline = Date.now() + seconds * 1000; ; ) {
    try {
      await work();
      return;
    } catch (error) {
      if (!(error instanceof CallError && isPassing(error)) || Date.now() > deadline) throw error;
    }
    await sleep(pollMilliseconds * 2, undefined, { signal: context.signal });
  }
}

const vpc: Resource = {
  fields: {
    name,
    region: replacing(required),
    description: { ...text, validate: atMostLetters(255) },
    ipRange: { ...replacing(text), computed: true, validate: cidr },
    createdAt: output("string"),
    default: output("boolean"),
    vpcUrn: output("string"),
  },
  async create(context, { name, region, description, ipRange }) {
    const body = { name, region, description: description ?? "", ip_range: ipRange ?? "" };
    const { vpc: created } = await saying("Error creating VPC: ", context.client.post("/v2/vpcs", body));
    return { id: created.id, outputs: vpcOutputs(created) };
  },
  async read({ client }, id) {
    const found = await saying("Error reading VPC: ", client.find(`/v2/vpcs/${id}`));
    return found && { id, outputs: vpcOutputs(found.vpc) };
  },
  async update({ client }, id, { name, description }, state) {
    const body = { name, description: description ?? "", default: state.default };
    return vpcOutputs((await saying("Error updating VPC : ", client.put(`/v2/vpcs/${id}`, body))).vpc);
  },
  // Its members go after it was asked to be deleted: terraform-provider-digitalocean#1424.
  async delete(context, id, _state, timeout) {
    const passing = ({ status }: CallError) => status === 403 || status === 409;
    const work = retrying(context, timeout || 120, passing, () => context.client.delete(`/v2/vpcs/${id}`));
    await saying("Error deleting VPC: ", work);
  },
};

const vpcOutputs = (vpc: Answer): Properties => ({
  name: vpc.name,
  region: vpc.region,
  description: vpc.description,
  ipRange: vpc.ip_range,
  vpcUrn: vpc.urn,
  default: vpc.default,
  createdAt: goTime(vpc.created_at),
});

const taints: Field = {
  type: "list",
  fields: {
    key: { type: "string", required: true },
    value: { type: "string", required: true },
    effect: { type: "string", required: true, validate: oneOf("NoSchedule", "PreferNoSchedule", "NoExecute") },
  },
};

const poolFields: Fields = {
  size: replacing(required),
  nodeCount: { type: "number" },
  autoScale: { type: "boolean" },
  minNodes: { type: "number" },
  maxNodes: { type: "number" },
  labels: { type: "map" },
  taints: { ...taints, terraform: "taint" },
  tags,
  gpuPartitionMode: replacing(text),
  actualNodeCount: output("number"),
  nodes: output("list"),
};

/** Marks a cluster's built-in pool. Source: resource_kubernetes_node_pool.go. */
const defaultPoolTag = "terraform:default-node-pool";
const ownTags = (all: string[]) => all.filter((tag) => !/^(k8s$|k8s:|terraform:)/.test(tag));

const poolRequest = (pool: Properties, ...moreTags: string[]) => ({
  name: pool.name,
  auto_scale: pool.autoScale ?? false,
  min_nodes: pool.minNodes ?? 0,
  max_nodes: pool.maxNodes ?? 0,
  labels: pool.labels ?? {},
  taints: pool.taints ?? [],
  tags: [...((pool.tags as string[] | undefined) ?? []), ...moreTags],
});

/** @param counted whether `nodeCount` was given: only then it is part of the state. */
const poolOutputs = (pool: Answer, counted: boolean): Properties => ({
  name: pool.name,
  size: pool.size,
  actualNodeCount: pool.count,
  ...(counted && { nodeCount: pool.count }),
  autoScale: pool.auto_scale,
  minNodes: pool.min_nodes,
  maxNodes: pool.max_nodes,
  labels: pool.labels,
  taints: pool.taints,
  tags: ownTags(pool.tags),
  nodes: pool.nodes.map((node: Answer) => ({
    id: node.id,
    name: node.name,
    status: node.status.state,
    dropletId: node.droplet_id,
    createdAt: goTime(node.created_at),
    updatedAt: goTime(node.updated_at),
  })),
});

/** The autoscaler's count is no difference as long as it is the one that is asked for. */
function suppressNodeCount(differences: Record<string, DiffKind>, path: string, inputs: Properties, state: Properties) {
  if ((inputs.nodeCount ?? state.nodeCount) === state.actualNodeCount) delete differences[path];
}

const poolPath = (clusterId: unknown, id: string) => `/v2/kubernetes/clusters/${clusterId}/node_pools/${id}`;

const poolIsRunning = (context: Context, clusterId: unknown, id: string): Promise<Answer> =>
  until(context, 1800, "create nodepool", async () => {
    const { node_pool: pool } = await saying(
      "Error trying to read nodepool state: ",
      context.client.get(poolPath(clusterId, id)),
    );
    return pool.nodes.every((node: Answer) => node.status.state === "running") ? pool : undefined;
  });

async function updatePool(context: Context, clusterId: unknown, id: string, pool: Properties, ...moreTags: string[]) {
  const body = { ...poolRequest(pool, ...moreTags), ...(pool.nodeCount !== undefined && { count: pool.nodeCount }) };
  await saying("Unable to update nodepool: ", context.client.put(poolPath(clusterId, id), body));
  return poolIsRunning(context, clusterId, id);
}

const nodePool: Resource = {
  fields: { clusterId: replacing(required), name, ...poolFields },
  adjustDiff: (differences, inputs, state) => suppressNodeCount(differences, "nodeCount", inputs, state),
  async create(context, inputs) {
    const path = `/v2/kubernetes/clusters/${inputs.clusterId}/node_pools`;
    const body = { ...poolRequest(inputs), size: inputs.size, count: inputs.nodeCount ?? 0 };
    const created = context.client.post(path, body);
    const what = "Error creating Kubernetes node pool: Unable to create new default node pool ";
    const { id } = (await saying(what, created)).node_pool;
    const pool = await poolIsRunning(context, inputs.clusterId, id);
    return { id, outputs: { ...inputs, ...poolOutputs(pool, true) } };
  },
  async read({ client }, id, state) {
    const clusterId = state.clusterId ?? (await owningCluster(client, id));
    const found = await saying("Error retrieving Kubernetes node pool: ", client.find(poolPath(clusterId, id)));
    return found && { id, outputs: { ...state, clusterId, ...poolOutputs(found.node_pool, true) } };
  },
  async update(context, id, inputs) {
    const pool = await saying("Error updating node pool: ", updatePool(context, inputs.clusterId, id, inputs));
    return { ...inputs, ...poolOutputs(pool, true) };
  },
  async delete(context, id, { clusterId }, timeout) {
    await saying("Unable to delete node pool ", context.client.delete(poolPath(clusterId, id)));
    await until(context, timeout || 1800, "delete nodepool", async () =>
      (await context.client.find(poolPath(clusterId, id))) ? undefined : true,
    );
  },
};

async function owningCluster(client: Client, poolId: string): Promise<string> {
  for (const cluster of await client.list("/v2/kubernetes/clusters", "kubernetes_clusters")) {
    const pool = cluster.node_pools.find(({ id }: Answer) => id === poolId);
    if (pool?.tags.includes(defaultPoolTag)) {
      throw new Error(
        `Node pool ${poolId} has the default node pool tag set; import the owning digitalocean_kubernetes_cluster resource instead (cluster ID=${cluster.id})`,
      );
    }
    if (pool) return cluster.id;
  }
  throw new Error(`Did not find the cluster owning the node pool ${poolId}`);
}

const cluster: Resource = {
  fields: {
    name,
    region: replacing(required),
    version: required,
    nodePool: {
      type: "object",
      required: true,
      fields: { id: output("string"), ...poolFields, name: { type: "string", required: true, validate: notEmpty } },
    },
    ha: { ...flag, computed: true },
    autoUpgrade: flag,
    surgeUpgrade: { ...flag, default: true },
    maintenancePolicy: {
      type: "object",
      computed: true,
      fields: {
        day: {
          ...text,
          computed: true,
          validate: oneOf("any", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
        },
        startTime: { ...text, computed: true },
        duration: output("string"),
      },
    },
    vpcUuid: { ...replacing(text), computed: true },
    workerSubnetUuid: { ...replacing(text), computed: true },
    clusterSubnet: { ...replacing(text), computed: true, validate: cidr },
    serviceSubnet: { ...replacing(text), computed: true, validate: cidr },
    controlPlaneFirewall: {
      type: "object",
      computed: true,
      fields: { enabled: { ...flag, required: true }, allowedAddresses: { type: "list", required: true } },
    },
    clusterAutoscalerConfigurations: {
      type: "list",
      terraform: "cluster_autoscaler_configuration",
      fields: {
        expanders: { type: "list" },
        scaleDownUnneededTime: text,
        scaleDownUtilizationThreshold: { type: "number" },
      },
    },
    tags,
    registryIntegration: { ...flag, default: false },
    destroyAllAssociatedResources: { ...flag, default: false },
    kubeconfigExpireSeconds: { type: "number", validate: atLeast(0) },
    isolatedWorkers: replacing(flag),
    amdGpuDeviceMetricsExporterPlugin: enabled,
    amdGpuDevicePlugin: enabled,
    amdGpuDraDriver: enabled,
    corednsAutoscaler: enabled,
    nvidiaGpuDevicePlugin: enabled,
    nvidiaGpuDraDriver: enabled,
    p2pOciRegistryPlugin: enabled,
    rdmaSharedDevicePlugin: enabled,
    routingAgent: enabled,
    ssos: {
      type: "list",
      terraform: "sso",
      fields: { clientId: text, enabled: { ...flag, required: true }, issuerUrl: text, required: flag },
    },
    clusterUrn: output("string"),
    createdAt: output("string"),
    endpoint: output("string"),
    ipv4Address: output("string"),
    kubeConfigs: output("list"),
    status: output("string"),
    updatedAt: output("string"),
  },
  adjustDiff(differences, inputs, state) {
    if (differences.version && isLower(String(inputs.version), String(state.version))) {
      differences.version = "update-replace";
    }
    const pools = [inputs.nodePool ?? {}, state.nodePool ?? {}] as [Properties, Properties];
    suppressNodeCount(differences, "nodePool.nodeCount", ...pools);
  },
  async create(context, inputs) {
    const pool = inputs.nodePool as Properties;
    const body = {
      ...clusterRequest(inputs),
      region: inputs.region,
      version: inputs.version,
      vpc_uuid: inputs.vpcUuid,
      cluster_subnet: inputs.clusterSubnet,
      service_subnet: inputs.serviceSubnet,
      node_pools: [{ ...poolRequest(pool, defaultPoolTag), size: pool.size, count: pool.nodeCount ?? 0 }],
    };
    const failed = "Error creating Kubernetes cluster: ";
    const { id } = (await saying(failed, context.client.post("/v2/kubernetes/clusters", body))).kubernetes_cluster;
    const running = until(context, 1800, "create cluster", async () => {
      const { kubernetes_cluster: read } = await context.client.get(`/v2/kubernetes/clusters/${id}`);
      if (read.status.state === "error") throw new Error(read.status.message);
      return read.status.state === "running" ? read : undefined;
    });
    return { id, outputs: await clusterOutputs(context.client, await saying(failed, running), inputs) };
  },
  async read({ client }, id, state) {
    const found = await saying("Error retrieving Kubernetes cluster: ", client.find(`/v2/kubernetes/clusters/${id}`));
    if (!found) return undefined;
    const read = found.kubernetes_cluster;
    if (Object.keys(state).length === 0) await markDefaultPool(client, read);
    return { id, outputs: await clusterOutputs(client, read, state) };
  },
  async update(context, id, inputs, state) {
    const { client } = context;
    const path = `/v2/kubernetes/clusters/${id}`;
    const [before, after] = [clusterRequest(state), clusterRequest(inputs)].map((request) => JSON.stringify(request));
    if (before !== after) await saying("Unable to update cluster: ", client.put(path, clusterRequest(inputs)));
    const [oldPool, pool] = [state.nodePool as Properties, inputs.nodePool as Properties];
    const changed =
      JSON.stringify(poolRequest(oldPool)) !== JSON.stringify(poolRequest(pool)) ||
      (pool.nodeCount !== undefined && pool.nodeCount !== oldPool.actualNodeCount);
    if (changed) await updatePool(context, id, String(oldPool.id), pool, defaultPoolTag);
    if (inputs.version !== state.version) {
      const upgrade = client.post(`${path}/upgrade`, { version: inputs.version });
      await saying("Unable to upgrade cluster version: ", upgrade);
    }
    const { kubernetes_cluster: read } = await client.get(path);
    return clusterOutputs(client, read, { ...inputs, kubeConfigs: state.kubeConfigs });
  },
  // It does not wait: the VPC's deletion does.
  async delete({ client }, id, state) {
    const path = `/v2/kubernetes/clusters/${id}`;
    const all = state.destroyAllAssociatedResources === true;
    const work = client.delete(all ? `${path}/destroy_with_associated_resources/dangerous` : path);
    await saying("Unable to delete cluster: ", work.catch(ignoreMissing));
  },
};

const ignoreMissing = (error: Error) => {
  if (!(error instanceof CallError && error.status === 404)) throw error;
};

function isLower(a: string, b: string): boolean {
  const numbers = (version: string) => version.split(/\D+/).map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  const index = left.findIndex((number, position) => number !== right[position]);
  return index >= 0 && (left[index] ?? 0) < (right[index] ?? 0);
}

/** What creation and update both send. */
function clusterRequest(inputs: Properties) {
  const maintenance = inputs.maintenancePolicy as Properties | undefined;
  const firewall = inputs.controlPlaneFirewall as Properties | undefined;
  const [autoscaler] = (inputs.clusterAutoscalerConfigurations ?? []) as Properties[];
  return {
    name: inputs.name,
    tags: inputs.tags ?? [],
    ha: inputs.ha,
    auto_upgrade: inputs.autoUpgrade ?? false,
    surge_upgrade: inputs.surgeUpgrade,
    maintenance_policy: maintenance && { day: maintenance.day, start_time: maintenance.startTime },
    control_plane_firewall: firewall && { enabled: firewall.enabled, allowed_addresses: firewall.allowedAddresses },
    cluster_autoscaler_configuration: autoscaler && {
      expanders: autoscaler.expanders,
      scale_down_unneeded_time: autoscaler.scaleDownUnneededTime,
      scale_down_utilization_threshold: autoscaler.scaleDownUtilizationThreshold,
    },
  };
}

/** @param known the inputs or the old state: what the API does not tell, and credentials that are still good. */
async function clusterOutputs(client: Client, read: Answer, known: Properties): Promise<Properties> {
  const { day, start_time: startTime, duration } = read.maintenance_policy;
  const { enabled: on, allowed_addresses: allowedAddresses } = read.control_plane_firewall;
  const oldPool = known.nodePool as Properties | undefined;
  const pool = read.node_pools.find((candidate: Answer) => candidate.tags.includes(defaultPoolTag));
  const [old] = (known.kubeConfigs ?? []) as Properties[];
  const good = old?.expiresAt && new Date(String(old.expiresAt)) > client.now;
  return {
    ...known,
    name: read.name,
    region: read.region,
    version: read.version,
    surgeUpgrade: read.surge_upgrade,
    autoUpgrade: read.auto_upgrade,
    ha: read.ha,
    clusterSubnet: read.cluster_subnet,
    serviceSubnet: read.service_subnet,
    vpcUuid: read.vpc_uuid,
    ipv4Address: read.ipv4,
    endpoint: read.endpoint,
    tags: ownTags(read.tags),
    status: read.status.state,
    createdAt: goTime(read.created_at),
    updatedAt: goTime(read.updated_at),
    clusterUrn: `do:kubernetes:${read.id}`,
    maintenancePolicy: { day, startTime, duration },
    controlPlaneFirewall: { enabled: on, allowedAddresses },
    nodePool: pool ? { id: pool.id, ...poolOutputs(pool, oldPool?.nodeCount !== undefined) } : oldPool,
    kubeConfigs: secret(good ? known.kubeConfigs : await credentials(client, read, known.kubeconfigExpireSeconds)),
  };
}

/** A new token, which is what makes the official plugin's state differ after a week. */
async function credentials(client: Client, { id, name: clusterName, region }: Answer, expirySeconds: unknown) {
  const path = `/v2/kubernetes/clusters/${id}/credentials?expiry_seconds=${expirySeconds ?? 0}`;
  const read = await saying("Unable to fetch Kubernetes credentials: ", client.get(path));
  const context = `do-${region}-${clusterName}`;
  const user = `${context}-admin`;
  const authority = read.certificate_authority_data;
  const rawConfig = stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ cluster: { "certificate-authority-data": authority, server: read.server }, name: context }],
    contexts: [{ context: { cluster: context, user }, name: context }],
    "current-context": context,
    users: [{ name: user, user: { token: read.token } }],
  });
  return [
    {
      clusterCaCertificate: authority,
      host: read.server,
      token: read.token,
      expiresAt: read.expires_at.replace(/\.\d+Z$/, "Z"),
      rawConfig,
      clientCertificate: "",
      clientKey: "",
    },
  ];
}

/** An imported cluster's only pool becomes the built-in one. */
async function markDefaultPool(client: Client, { id, node_pools: pools }: Answer): Promise<void> {
  const marked = pools.filter((pool: Answer) => pool.tags.includes(defaultPoolTag));
  if (marked.length === 1) return;
  if (marked.length > 1) {
    throw new Error(
      `Multiple node pools are tagged as the default node pool; only one node pool may have the \`${defaultPoolTag}\` tag`,
    );
  }
  if (pools.length > 1) {
    throw new Error(
      `Cluster contains multiple node pools. Manually add the \`${defaultPoolTag}\` tag to the pool that should be used as the default. Additional pools must be imported separately as 'digitalocean_kubernetes_node_pool' resources.`,
    );
  }
  const [pool] = pools;
  pool.tags.push(defaultPoolTag);
  await client.put(poolPath(id, pool.id), { name: pool.name, count: pool.count, tags: pool.tags });
}

const domain: Resource = {
  fields: {
    name: replacing(required),
    ipAddress: { ...replacing(text), validate: notEmpty },
    domainUrn: output("string"),
    ttl: output("number"),
  },
  async create({ client }, inputs) {
    const body = { name: inputs.name, ...(inputs.ipAddress !== undefined && { ip_address: inputs.ipAddress }) };
    const { domain: created } = await saying("Error creating Domain: ", client.post("/v2/domains", body));
    const { domain: read } = await client.get(`/v2/domains/${created.name}`);
    return { id: created.name, outputs: { ...inputs, ...domainOutputs(read) } };
  },
  async read({ client }, id, state) {
    const found = await saying("Error retrieving domain: ", client.find(`/v2/domains/${id}`));
    return found && { id, outputs: { ...state, ...domainOutputs(found.domain) } };
  },
  async delete({ client }, id) {
    await saying("Error deleting Domain: ", client.delete(`/v2/domains/${id}`));
  },
};

const domainOutputs = ({ name: zone, ttl }: Answer) => ({ name: zone, ttl, domainUrn: `do:domain:${zone}` });

const port: Field = { type: "number", validate: between(0, 65535) };

const record: Resource = {
  fields: {
    domain: replacing(required),
    type: {
      type: "string",
      required: true,
      forceNew: true,
      validate: oneOf("A", "AAAA", "CAA", "CNAME", "MX", "NS", "TXT", "SRV", "SOA"),
    },
    name,
    value: { type: "string", required: true },
    ttl: { type: "number", computed: true, validate: atLeast(1) },
    port,
    priority: port,
    weight: port,
    flags: { type: "number", validate: between(0, 255) },
    tag: { ...text, validate: oneOf("issue", "issuewild", "iodef") },
    fqdn: output("string"),
  },
  refuse(inputs) {
    const needs: Record<string, string[]> = { MX: ["priority"], SRV: ["priority", "weight"], CAA: ["flags", "tag"] };
    const missing = needs[String(inputs.type)]?.find((field) => inputs[field] === undefined);
    return missing && `\`${missing}\` is required for when type is \`${inputs.type}\``;
  },
  // A host may be written relative to the zone or in full.
  adjustDiff(differences, inputs, state) {
    const zone = `${inputs.domain}.`;
    const apex = (old: unknown, now: unknown) => old === "@" && now === zone;
    if (apex(state.name, inputs.name) || `${state.name}.${zone}` === inputs.name) delete differences.name;
    if (apex(state.value, inputs.value) || state.value === `${inputs.value}.${zone}`) delete differences.value;
  },
  async create({ client }, inputs) {
    if (inputs.type === "SRV" && inputs.port === undefined) {
      throw new Error("`port` is required for when type is `SRV`");
    }
    const body = { type: inputs.type, ...recordRequest(inputs) };
    const work = client.post(`/v2/domains/${inputs.domain}/records`, body);
    const { domain_record: created } = await saying("Failed to create record: ", work);
    return { id: String(created.id), outputs: { ...inputs, ...recordOutputs(created, inputs.domain) } };
  },
  async read({ client }, given, state) {
    const [zone, id = ""] = given.includes(",") ? given.split(",") : [String(state.domain ?? ""), given];
    if (!/^\d+$/.test(id)) throw new Error(`invalid record ID: ${id}`);
    const found = await client.find(`/v2/domains/${zone}/records/${id}`);
    return found && { id, outputs: { ...state, domain: zone, ...recordOutputs(found.domain_record, zone) } };
  },
  async update({ client }, id, inputs) {
    const work = client.put(`/v2/domains/${inputs.domain}/records/${id}`, recordRequest(inputs));
    const { domain_record: updated } = await saying("Failed to update record: ", work);
    return { ...inputs, ...recordOutputs(updated, inputs.domain) };
  },
  async delete({ client }, id, state) {
    const work = client.delete(`/v2/domains/${state.domain}/records/${id}`);
    await saying("Error deleting record: ", work.catch(ignoreMissing));
  },
};

const recordRequest = (inputs: Properties) => ({
  name: inputs.name,
  data: inputs.value,
  ttl: inputs.ttl,
  port: inputs.port,
  priority: inputs.priority ?? 0,
  weight: inputs.weight ?? 0,
  flags: inputs.flags ?? 0,
  tag: inputs.tag,
});

function recordOutputs(read: Answer, zone: unknown): Properties {
  const isHost = ["CNAME", "MX", "NS", "SRV", "CAA"].includes(read.type) && read.data !== "@" && read.tag !== "iodef";
  return {
    name: read.name,
    type: read.type,
    value: isHost ? `${read.data}.` : read.data,
    ttl: read.ttl,
    port: read.port ?? 0,
    priority: read.priority ?? 0,
    weight: read.weight ?? 0,
    flags: read.flags ?? 0,
    tag: read.tag ?? "",
    fqdn: read.name === "@" ? zone : `${read.name}.${zone}`,
  };
}

const certificate: Resource = {
  fields: {
    name: replacing(name),
    type: { ...replacing(text), default: "custom", validate: oneOf("custom", "lets_encrypt") },
    domains: {
      type: "list",
      forceNew: true,
      conflictsWith: ["privateKey", "leafCertificate", "certificateChain"],
    },
    privateKey: { ...replacing(text), validate: notEmpty },
    leafCertificate: { ...replacing(text), validate: notEmpty },
    certificateChain: { ...replacing(text), validate: notEmpty },
    notAfter: output("string"),
    sha1Fingerprint: output("string"),
    state: output("string"),
    uuid: output("string"),
  },
  adjustDiff(differences, inputs) {
    if (inputs.type === "custom") delete differences.domains;
  },
  async create(context, inputs) {
    const needs = inputs.type === "custom" ? ["privateKey", "leafCertificate"] : ["domains"];
    const missing = needs.find((field) => inputs[field] === undefined);
    if (missing) {
      const terraform = missing.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      const type = inputs.type === "custom" ? "`custom` or empty" : `\`${inputs.type}\``;
      throw new Error(`\`${terraform}\` is required for when type is ${type}`);
    }
    const body = {
      name: inputs.name,
      type: inputs.type,
      dns_names: inputs.domains,
      private_key: inputs.privateKey,
      leaf_certificate: inputs.leafCertificate,
      certificate_chain: inputs.certificateChain,
    };
    const made = await saying("Error creating Certificate: ", context.client.post("/v2/certificates", body));
    const path = `/v2/certificates/${made.certificate.id}`;
    const verified = until(context, 1200, "verify the certificate", async () => {
      const { certificate: read } = await context.client.get(path);
      if (read.state === "error") throw new Error("unexpected state 'error', wanted target 'verified'");
      return read.state === "verified" ? read : undefined;
    });
    const read = await saying(`Error waiting for certificate (${inputs.name}) to become active: `, verified);
    // An id changes when Let's Encrypt renews: the name is what stays.
    return { id: read.name, outputs: { ...inputs, ...certificateOutputs(read) } };
  },
  async read({ client }, id, state) {
    const read = await saying("Error retrieving Certificate: ", certificateByName(client, id));
    return read && { id, outputs: { ...state, ...certificateOutputs(read) } };
  },
  async delete(context, id) {
    const { client } = context;
    const read = await saying("Error retrieving Certificate: ", certificateByName(client, id));
    if (!read) return;
    const inUse = ({ status, reason }: CallError) => status === 403 && /not in use before deleting it/.test(reason);
    const work = retrying(context, 30, inUse, () => client.delete(`/v2/certificates/${read.id}`));
    await saying("Error deleting Certificate: ", work);
  },
};

const certificateByName = async (client: Client, wanted: string): Promise<Answer | undefined> =>
  (await client.list("/v2/certificates", "certificates")).find((candidate) => candidate.name === wanted);

const certificateOutputs = (read: Answer): Properties => ({
  name: read.name,
  uuid: read.id,
  type: read.type,
  state: read.state,
  notAfter: read.not_after,
  sha1Fingerprint: read.sha1_fingerprint,
  domains: read.dns_names,
});

export const resources: Record<string, Resource> = {
  "digitalocean:index/vpc:Vpc": vpc,
  "digitalocean:index/kubernetesCluster:KubernetesCluster": cluster,
  "digitalocean:index/kubernetesNodePool:KubernetesNodePool": nodePool,
  "digitalocean:index/domain:Domain": domain,
  "digitalocean:index/dnsRecord:DnsRecord": record,
  "digitalocean:index/certificate:Certificate": certificate,
};

type Look = (client: Client, args: Properties) => Promise<Properties>;

export const functions: Record<string, Look> = {
  async "digitalocean:index/getKubernetesVersions:getKubernetesVersions"(client, { versionPrefix }) {
    const { options } = await client.get("/v2/kubernetes/options");
    const all = options.versions.map(({ slug }: Answer) => slug) as string[];
    const validVersions = all.filter((slug) => slug.startsWith(String(versionPrefix ?? "")));
    return { id: "kubernetes-versions", versionPrefix, validVersions, latestVersion: validVersions[0] ?? "" };
  },
  async "digitalocean:index/getDomain:getDomain"(client, args) {
    const found = await client.find(`/v2/domains/${args.name}`);
    if (!found) throw new Error(`domain not found: ${args.name}`);
    return { id: found.domain.name, ...domainOutputs(found.domain), zoneFile: found.domain.zone_file };
  },
  async "digitalocean:index/getKubernetesCluster:getKubernetesCluster"(client, args) {
    const all = await client.list("/v2/kubernetes/clusters", "kubernetes_clusters");
    const found = all.find((candidate) => candidate.name === args.name);
    if (!found) throw new Error(`Unable to find cluster with name: ${args.name}`);
    const {
      maintenancePolicy,
      controlPlaneFirewall,
      clusterUrn,
      nodePool: _,
      ...outputs
    } = await clusterOutputs(client, found, { kubeconfigExpireSeconds: args.kubeconfigExpireSeconds });
    return {
      ...outputs,
      id: found.id,
      urn: clusterUrn,
      maintenancePolicies: [maintenancePolicy],
      controlPlaneFirewalls: [controlPlaneFirewall],
      nodePools: found.node_pools.map((pool: Answer) => ({ id: pool.id, ...poolOutputs(pool, true) })),
    };
  },
  async "digitalocean:index/getLoadBalancer:getLoadBalancer"(client, args) {
    const all = await client.list("/v2/load_balancers", "load_balancers");
    const found = all.find((candidate) => candidate.id === args.id || candidate.name === args.name);
    if (!found) throw new Error(`There was no load balancer with the name ${args.name ?? args.id}`);
    return {
      id: found.id,
      name: found.name,
      ip: found.ip,
      ipv6: found.ipv6 ?? "",
      status: found.status,
      type: found.type,
      network: found.network,
      region: found.region.slug,
      sizeUnit: found.size_unit,
      vpcUuid: found.vpc_uuid,
      redirectHttpToHttps: found.redirect_http_to_https,
      enableProxyProtocol: found.enable_proxy_protocol,
      loadBalancerUrn: `do:loadbalancer:${found.id}`,
      forwardingRules: found.forwarding_rules.map((rule: Answer) => ({
        entryProtocol: rule.entry_protocol,
        entryPort: rule.entry_port,
        targetProtocol: rule.target_protocol,
        targetPort: rule.target_port,
        certificateId: rule.certificate_id ?? "",
        tlsPassthrough: rule.tls_passthrough ?? false,
      })),
    };
  },
};
