import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import {
  ApiException,
  ApisApi,
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
} from "@kubernetes/client-node";
import { OWNER_LABEL, type Owner } from "../owner";
import type { Account } from "../preflight";
import type { StateResource } from "./state";

/** What has become of a creation: its object, nothing, or something of its name that is another's. */
export type Found = { id: string } | "absent" | { foreign: string; command: string };

export interface Unknown {
  what: string;
  isAutonamed: boolean;
  remove(): Promise<unknown>;
}

export interface World {
  /** What has none of these marks, or others, is not ours. */
  owner: Partial<Owner>;
  account: Account;
  environment: NodeJS.ProcessEnv;
  /** What the state knows already: never an answer to another creation. */
  known: StateResource[];
  /** All creations that are being resolved: what each would write may stand in a zone that is ours. */
  wanted: StateResource[];
  /** Of the Kubernetes providers in the state, by the provider's URN. */
  kubeconfigs: Map<string, string>;
  say(line: string): void;
  /** Between two looks at what goes on by itself. @default 2000 */
  pollMilliseconds?: number;
}

// biome-ignore lint/suspicious/noExplicitAny: inputs and answers have as many shapes as there are types
type Fields = Record<string, any>;

/** Minutes that an object may take to appear or to go before it is taken as it is. */
const PATIENCE = { cluster: 40, deletion: 5 };

/** The objects of a stack in the account and in its clusters, each looked up by name and owner. */
export class Objects {
  readonly #clusters = new Map<string, Promise<Cluster | undefined>>();

  constructor(private readonly world: World) {}

  /** What a creation that was cut off, or that failed, has made. */
  find(resource: StateResource): Promise<Found> {
    const inputs = (resource.inputs ?? {}) as Fields;
    if (resource.type.startsWith("kubernetes:")) return this.#findInCluster(resource, inputs);
    switch (resource.type.split(":").at(-1)) {
      case "Vpc":
        return this.#findVpc(inputs);
      case "KubernetesCluster":
        return this.#findCluster(inputs);
      case "KubernetesNodePool":
        return this.#findPool(inputs);
      case "Domain":
        return this.#findZone(inputs);
      case "DnsRecord":
        return this.#findRecord(inputs);
      case "Certificate":
        return this.#findCertificate(inputs);
      default:
        throw new Error(`A ${resource.type} has no way to be looked up: add one to operations/objects.ts`);
    }
  }

  /** Whether what the state holds is gone; one that is just going is waited for. */
  async isGone(resource: StateResource): Promise<boolean> {
    if (resource.type.startsWith("kubernetes:")) return this.#isGoneFromCluster(resource);
    const { id = "" } = resource;
    const { account } = this.world;
    const inputs = (resource.inputs ?? {}) as Fields;
    const path = {
      Vpc: `/v2/vpcs/${id}`,
      KubernetesCluster: `/v2/kubernetes/clusters/${id}`,
      KubernetesNodePool: `/v2/kubernetes/clusters/${inputs.clusterId}/node_pools/${id}`,
      Domain: `/v2/domains/${id}`,
      DnsRecord: `/v2/domains/${inputs.domain}/records/${id}`,
    }[resource.type.split(":").at(-1) ?? ""];
    if (path) return !(await account.has(path));
    const certificates = await account.list<Fields>("/v2/certificates", "certificates");
    return certificates.every(({ name }) => name !== id);
  }

  // ── the account ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** What was deleted before its replacement stands in the state still, under the name that its replacement has. */
  #isKnown = (type: string, id: unknown) =>
    this.world.known.some((one) => one.type.endsWith(`:${type}`) && one.id === String(id) && !one.pendingReplacement);

  async #findVpc({ name }: Fields): Promise<Found> {
    const vpcs = await this.world.account.list<Fields>("/v2/vpcs", "vpcs");
    const vpc = vpcs.find((one) => one.name === name);
    if (!vpc || this.#isKnown("Vpc", vpc.id)) return "absent";
    if (this.#isOurs(vpc.description, "description")) return { id: vpc.id };
    return { foreign: `the VPC ${name} (${vpc.id})`, command: `doctl vpcs delete ${vpc.id}` };
  }

  /** A cluster goes on being made without its engine: what needs it can only go on when it runs. */
  async #findCluster({ name }: Fields): Promise<Found> {
    const deadline = Date.now() + PATIENCE.cluster * 60_000;
    for (let said = 0; ; ) {
      const clusters = await this.world.account.list<Fields>("/v2/kubernetes/clusters", "kubernetes_clusters");
      const cluster = clusters.find((one) => one.name === name);
      if (!cluster || this.#isKnown("KubernetesCluster", cluster.id)) return "absent";
      if (!this.#hasTag(cluster.tags)) {
        return {
          foreign: `the cluster ${name} (${cluster.id})`,
          command: `doctl kubernetes cluster delete ${cluster.id}`,
        };
      }
      if (cluster.status.state !== "provisioning" || Date.now() > deadline) return { id: cluster.id };
      if (Date.now() - said > 15_000) {
        said = Date.now();
        this.world.say(`The cluster ${name} is still being made (about 5 min in all); waiting for it …`);
      }
      await this.#pause();
    }
  }

  async #findPool({ name, clusterId }: Fields): Promise<Found> {
    const path = `/v2/kubernetes/clusters/${clusterId}/node_pools`;
    if (!(await this.world.account.has(`/v2/kubernetes/clusters/${clusterId}`))) return "absent";
    const pool = (await this.world.account.list<Fields>(path, "node_pools")).find((one) => one.name === name);
    if (!pool || this.#isKnown("KubernetesNodePool", pool.id)) return "absent";
    if (this.#hasTag(pool.tags)) return { id: pool.id };
    const command = `doctl kubernetes cluster node-pool delete ${clusterId} ${pool.id}`;
    return { foreign: `the node pool ${name} (${pool.id})`, command };
  }

  #isOurs = (mark: string | undefined, kind: "label" | "description") =>
    mark !== undefined && mark === this.world.owner[kind];

  // DigitalOcean keeps a tag's first spelling.
  #hasTag = (tags: string[]) => tags.some((tag) => tag.toLowerCase() === this.world.owner.tag?.toLowerCase());

  /** A zone holds no mark: ours holds nothing yet but DigitalOcean's own records, and those that were just being made. */
  async #findZone({ name }: Fields): Promise<Found> {
    const { account, wanted, known } = this.world;
    if (this.#isKnown("Domain", name) || !(await account.has(`/v2/domains/${name}`))) return "absent";
    const records = await account.list<Fields>(`/v2/domains/${name}/records`, "domain_records");
    const ours = [...wanted, ...known].filter(({ type }) => type.endsWith(":DnsRecord"));
    const others = records.filter(
      (record) =>
        !["SOA", "NS"].includes(record.type) &&
        !ours.some(({ inputs = {} }) => inputs.domain === name && isRecord(record, inputs)),
    );
    if (others.length === 0) return { id: name };
    const [first] = others;
    return {
      foreign: `the zone ${name}, which holds records of others (such as ${first?.type} ${first?.name})`,
      command: "pulumi config set --path 'hobnob:dns.zone' lookup",
    };
  }

  /** A record holds no mark: ours has all that we would have written. The last one of several is the newest. */
  async #findRecord(inputs: Fields): Promise<Found> {
    const { account } = this.world;
    if (!(await account.has(`/v2/domains/${inputs.domain}`))) return "absent";
    const records = await account.list<Fields>(`/v2/domains/${inputs.domain}/records`, "domain_records");
    const [newest] = records
      .filter((record) => isRecord(record, inputs) && !this.#isKnown("DnsRecord", record.id))
      .sort((a, b) => b.id - a.id);
    return newest ? { id: String(newest.id) } : "absent";
  }

  async #findCertificate({ name, domains = [] }: Fields): Promise<Found> {
    const certificates = await this.world.account.list<Fields>("/v2/certificates", "certificates");
    const certificate = certificates.find((one) => one.name === name);
    if (!certificate || this.#isKnown("Certificate", name)) return "absent";
    if (isDeepStrictEqual([...certificate.dns_names].sort(), [...domains].sort())) return { id: name };
    const covered = certificate.dns_names.join(", ");
    const command = `doctl compute certificate delete ${certificate.id}`;
    return { foreign: `the certificate ${name}, which covers ${covered}`, command };
  }

  // ── the cluster ───────────────────────────────────────────────────────────────────────────────────────────────────

  async #findInCluster(resource: StateResource, { apiVersion, kind, metadata }: Fields): Promise<Found> {
    const { name, namespace } = metadata;
    const id = namespace ? `${namespace}/${name}` : String(name);
    if (this.#isKnown(resource.type.split(":").slice(1).join(":"), id)) return "absent";
    const object = await this.#present(resource, { apiVersion, kind, metadata: { name, namespace } });
    if (!object) return "absent";
    if (this.#isOurs(object.metadata?.labels?.[OWNER_LABEL], "label")) return { id };
    const flags = namespace ? ` --namespace ${namespace}` : "";
    return {
      foreign: `${kind} ${id}`,
      command: `kubectl label ${kind} ${name}${flags} ${OWNER_LABEL}=${this.world.owner.label}   # if it is to be this stack's`,
    };
  }

  async #isGoneFromCluster(resource: StateResource): Promise<boolean> {
    const { apiVersion, kind } = (resource.inputs ?? {}) as Fields;
    const [first = "", second] = (resource.id ?? "").split("/");
    const metadata = second === undefined ? { name: first } : { namespace: first, name: second };
    return (await this.#present(resource, { apiVersion, kind, metadata })) === undefined;
  }

  /** An object that is being deleted is waited for: it is of no use to anyone. */
  async #present(resource: StateResource, wanted: KubernetesObject): Promise<KubernetesObject | undefined> {
    const cluster = await this.#cluster(resource.provider?.replace(/::[^:]*$/, "") ?? "");
    if (!cluster) return undefined;
    const deadline = Date.now() + PATIENCE.deletion * 60_000;
    for (;;) {
      const object = await read(cluster.client, wanted);
      if (!object?.metadata?.deletionTimestamp || Date.now() > deadline) return object;
      await this.#pause();
    }
  }

  /** @returns nothing where the cluster is gone with all that was in it. */
  #cluster(urn: string): Promise<Cluster | undefined> {
    const made = this.#clusters.get(urn) ?? this.#connect(urn);
    this.#clusters.set(urn, made);
    return made;
  }

  async #connect(urn: string): Promise<Cluster | undefined> {
    const kubeconfig = this.world.kubeconfigs.get(urn);
    if (!kubeconfig) return undefined;
    for (const { type, id } of this.world.known) {
      const isCluster = type.endsWith(":KubernetesCluster") && id && kubeconfig.includes(id);
      if (isCluster && !(await this.world.account.has(`/v2/kubernetes/clusters/${id}`))) return undefined;
    }
    const config = kubernetesConfig(kubeconfig, this.world.environment);
    // The credential's program is run here, once: requests that start together would each run it.
    await config.applyToHTTPSOptions({});
    return { config, client: KubernetesObjectApi.makeApiClient(config) };
  }

  // ── what the state does not know ──────────────────────────────────────────────────────────────────────────────────

  /**
   * What carries our mark in the clusters of these providers and is in no state: a creation made it whose answer was lost.
   * One with an automatic name is no longer of use to anyone, as the next run gives another name.
   */
  async unknownInClusters(providers: string[]): Promise<Unknown[]> {
    const found: Unknown[] = [];
    for (const provider of this.world.owner.label === undefined ? [] : providers) {
      const cluster = await this.#cluster(provider);
      if (!cluster) continue;
      const { client, config } = cluster;
      const kinds = await kindsOf(config);
      const lists = await Promise.all(kinds.map((kind) => this.#marked(client, kind)));
      for (const object of lists.flat()) {
        const { name, namespace, annotations } = object.metadata ?? {};
        const id = namespace ? `${namespace}/${name}` : String(name);
        const type = `kubernetes:${object.apiVersion === "v1" ? "core/v1" : object.apiVersion}:${object.kind}`;
        if (this.world.known.some((one) => one.type === type && one.id === id)) continue;
        const isAutonamed = annotations?.["pulumi.com/autonamed"] === "true";
        found.push({ what: `${object.kind} ${id}`, isAutonamed, remove: () => client.delete(object) });
      }
    }
    return found;
  }

  /** Only what a Pulumi provider made: controllers copy labels to what they make. */
  async #marked(client: KubernetesObjectApi, { apiVersion, kind }: Kind): Promise<KubernetesObject[]> {
    const selector = `${OWNER_LABEL}=${this.world.owner.label}`;
    const none = undefined;
    const { items } = await patiently(() => client.list(apiVersion, kind, none, none, none, none, none, selector));
    return items
      .filter(({ metadata }) => !metadata?.deletionTimestamp && !metadata?.ownerReferences)
      .filter(({ metadata }) => metadata?.managedFields?.some(({ manager = "" }) => /^pulumi/.test(manager)))
      .map((object) => ({ ...object, apiVersion, kind }));
  }

  /** Whether the account holds anything that may be ours and is in no state. */
  async isUnknownInAccount(): Promise<boolean> {
    const { account } = this.world;
    const [vpcs, clusters, zones, certificates] = await Promise.all([
      account.list<Fields>("/v2/vpcs", "vpcs"),
      account.list<Fields>("/v2/kubernetes/clusters", "kubernetes_clusters"),
      account.list<Fields>("/v2/domains", "domains"),
      account.list<Fields>("/v2/certificates", "certificates"),
    ]);
    const pools = clusters
      .filter(({ id }) => this.#isKnown("KubernetesCluster", id))
      .flatMap(({ node_pools }) => node_pools as Fields[])
      .filter(({ tags }) => !tags.includes("terraform:default-node-pool"));
    const zoneOfState = zones.filter(({ name }) => this.#isKnown("Domain", name));
    const records = await Promise.all(
      zoneOfState.map(({ name }) => account.list<Fields>(`/v2/domains/${name}/records`, "domain_records")),
    );
    return (
      vpcs.some(({ id, description }) => this.#isOurs(description, "description") && !this.#isKnown("Vpc", id)) ||
      clusters.some(({ id, tags }) => this.#hasTag(tags) && !this.#isKnown("KubernetesCluster", id)) ||
      pools.some(({ id, tags }) => this.#hasTag(tags) && !this.#isKnown("KubernetesNodePool", id)) ||
      zones.length > zoneOfState.length ||
      certificates.some(({ name }) => !this.#isKnown("Certificate", name)) ||
      records.flat().some(({ type, id }) => !["SOA", "NS"].includes(type) && !this.#isKnown("DnsRecord", id))
    );
  }

  #pause = () => sleep(this.world.pollMilliseconds ?? 2000);
}

/** The API gives a host back without the final dot that it wants. */
const withoutDot = (value: unknown) => String(value).replace(/\.$/, "");

const isRecord = (record: Fields, inputs: Fields) =>
  record.name === inputs.name && record.type === inputs.type && withoutDot(record.data) === withoutDot(inputs.value);

async function read(client: KubernetesObjectApi, wanted: KubernetesObject): Promise<KubernetesObject | undefined> {
  try {
    return await patiently(() => client.read(wanted as Parameters<KubernetesObjectApi["read"]>[0]));
  } catch (error) {
    const isMissing = error instanceof ApiException && error.code === 404;
    if (isMissing || /Unrecognized API version and kind/.test((error as Error).message)) return undefined;
    throw new Error(
      `The cluster cannot be asked what became of ${wanted.kind} ${wanted.metadata?.name}: ${(error as Error).message}\nNothing was changed. Run the same command again when the cluster answers.`,
    );
  }
}

interface Cluster {
  config: KubeConfig;
  client: KubernetesObjectApi;
}

/** An API server that has just started asks for patience: its storage of a kind is still being made. */
async function patiently<Answer>(ask: () => Promise<Answer>, seconds = 60): Promise<Answer> {
  for (const deadline = Date.now() + seconds * 1000; ; await sleep(1000)) {
    try {
      return await ask();
    } catch (error) {
      const isBusy = error instanceof ApiException && [429, 503].includes(error.code);
      if (!isBusy || Date.now() > deadline) throw error;
    }
  }
}

interface Kind {
  apiVersion: string;
  kind: string;
}

/** Every kind that the cluster lists, each in its group's preferred version. */
export async function kindsOf(config: KubeConfig): Promise<Kind[]> {
  const { groups } = await config.makeApiClient(ApisApi).getAPIVersions();
  const custom = config.makeApiClient(CustomObjectsApi);
  const ofGroups = groups.map(async ({ name, preferredVersion, versions }) => {
    const version = preferredVersion?.version ?? versions[0]?.version ?? "v1";
    return { apiVersion: `${name}/${version}`, list: await custom.getAPIResources({ group: name, version }) };
  });
  const ofCore = config
    .makeApiClient(CoreV1Api)
    .getAPIResources()
    .then((list) => ({ apiVersion: "v1", list }));
  return (await Promise.all([ofCore, ...ofGroups])).flatMap(({ apiVersion, list }) =>
    list.resources
      .filter(({ name, verbs }) => !name.includes("/") && verbs.includes("list") && verbs.includes("delete"))
      .map(({ kind }) => ({ apiVersion, kind })),
  );
}

function kubernetesConfig(kubeconfig: string, environment: NodeJS.ProcessEnv): KubeConfig {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  const { DIGITALOCEAN_TOKEN, DIGITALOCEAN_API_URL } = environment;
  const env = Object.entries({ DIGITALOCEAN_TOKEN, DIGITALOCEAN_API_URL })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ({ name, value }));
  for (const user of config.users) if (user.exec) user.exec.env = [...(user.exec.env ?? []), ...env];
  return config;
}
