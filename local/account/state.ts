import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { z } from "zod";
import { defaultVersions, parseVersion } from "./catalogue";
import type { BalancerRequest, Volume } from "./controllers/index";

const seconds = z.number().min(0).max(3600);

/** What tests and previews may change; everything has a default, so `{}` is a whole answer. */
const settingsSchema = z.strictObject({
  /** Off: clusters exist in the account only, as a preview needs them. */
  withCluster: z.boolean().default(true),
  /** Slugs on offer; a cluster keeps a version that has been withdrawn. */
  kubernetesVersions: z
    .array(z.string().refine((slug) => parseVersion(slug) !== undefined, "not a slug such as 1.36.3-do.0"))
    .default(defaultVersions),
  /** How long things take, in seconds; a real cluster takes about 300, a balancer 90. */
  latency: z
    .strictObject({
      cluster: seconds.default(1),
      /** After a cluster's deletion its VPC still counts it as a member for so long. */
      clusterDeletion: seconds.default(1),
      node: seconds.default(0.2),
      certificate: seconds.default(1),
      balancer: seconds.default(1),
      volume: seconds.default(0.2),
      attachment: seconds.default(0.2),
      /** From its disk being attached to its being ready, of a pod that claims one. Taken when the cluster is created. */
      diskPod: seconds.default(0),
    })
    .prefault({}),
});
export type Settings = z.infer<typeof settingsSchema>;

export interface Vpc {
  id: string;
  name: string;
  description: string;
  region: string;
  ip_range: string;
  default: boolean;
  created_at: string;
}

export interface Node {
  id: string;
  name: string;
  state: "provisioning" | "running" | "deleting";
  droplet_id: string;
  created_at: string;
  updated_at: string;
}

export interface Taint {
  key: string;
  value: string;
  effect: string;
}

export interface NodePool {
  id: string;
  name: string;
  size: string;
  tags: string[];
  labels: Record<string, string>;
  taints: Taint[];
  auto_scale: boolean;
  min_nodes: number;
  max_nodes: number;
  /** As many as the pool's count asks for, in the order of their creation. */
  nodes: Node[];
}

export interface Cluster {
  id: string;
  name: string;
  region: string;
  version: string;
  cluster_subnet: string;
  service_subnet: string;
  vpc_uuid: string;
  ipv4: string;
  endpoint: string;
  /** Base64 of the API server's certificate authority. */
  certificateAuthority: string;
  tags: string[];
  node_pools: NodePool[];
  maintenance_policy: { day: string; start_time: string; duration: string };
  auto_upgrade: boolean;
  surge_upgrade: boolean;
  ha: boolean;
  control_plane_firewall: { enabled: boolean; allowed_addresses: string[] };
  cluster_autoscaler_configuration: Record<string, unknown>;
  /** `deleting`: gone for every reader but its VPC. */
  state: "provisioning" | "running" | "upgrading" | "error" | "deleting";
  message: string;
  created_at: string;
  updated_at: string;
  /** Whether the embedded cluster stands behind it. */
  embedded: boolean;
}

export interface Domain {
  name: string;
  ttl: number;
  records: DomainRecord[];
}

export interface DomainRecord {
  id: number;
  type: string;
  name: string;
  data: string;
  priority: number | null;
  port: number | null;
  ttl: number;
  weight: number | null;
  flags: number | null;
  tag: string | null;
}

export interface Certificate {
  id: string;
  name: string;
  type: "lets_encrypt" | "custom";
  dns_names: string[];
  state: "pending" | "verified" | "error";
  not_after: string;
  sha1_fingerprint: string;
  created_at: string;
}

export interface LoadBalancer extends BalancerRequest {
  id: string;
  ip: string;
  ipv6?: string;
  status: "new" | "active";
  vpc_uuid: string;
  created_at: string;
}

export interface BlockVolume extends Volume {
  droplet_ids: number[];
  created_at: string;
}

/** A cluster credential: the token itself is given out once and kept as its hash only. */
interface Credential {
  hash: string;
  clusterId: string;
  expiresAt: string;
}

export interface State {
  /** What was changed: the rest follows the defaults of the day. */
  settings: z.input<typeof settingsSchema>;
  /** How far the account's clock runs ahead of the machine's, in seconds. */
  clockAhead: number;
  /** Source of droplet and record ids. */
  lastId: number;
  vpcs: Vpc[];
  clusters: Cluster[];
  domains: Domain[];
  certificates: Certificate[];
  loadBalancers: LoadBalancer[];
  volumes: BlockVolume[];
  credentials: Credential[];
}

const empty = (): State => ({
  settings: {},
  clockAhead: 0,
  lastId: 400_000_000,
  vpcs: [],
  clusters: [],
  domains: [],
  certificates: [],
  loadBalancers: [],
  volumes: [],
  credentials: [],
});

/** The account's state: in memory, written whole and atomically after each change. */
export class Store {
  readonly data: State;
  settings: Settings;

  /** @param file left out: nothing is kept. */
  constructor(private readonly file?: string) {
    const kept = file && existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Partial<State>) : {};
    this.data = { ...empty(), ...kept };
    this.settings = settingsSchema.parse(this.data.settings);
  }

  /** @throws z.ZodError where one of the changes is unknown or wrong: then none is made. */
  changeSettings({ latency, ...changes }: State["settings"]): void {
    const { settings } = this.data;
    const changed = { ...settings, ...changes, latency: { ...settings.latency, ...latency } };
    this.settings = settingsSchema.parse(changed);
    this.data.settings = changed;
    this.save();
  }

  save(): void {
    if (!this.file) return;
    mkdirSync(dirname(this.file), { recursive: true });
    writeFileSync(`${this.file}.new`, JSON.stringify(this.data), { mode: 0o600 });
    renameSync(`${this.file}.new`, this.file);
  }

  /** The account's clock, which tests move. */
  now(): Date {
    return new Date(Date.now() + this.data.clockAhead * 1000);
  }

  /** The time as the API writes it. */
  timestamp(): string {
    return this.now()
      .toISOString()
      .replace(/\.\d+Z$/, "Z");
  }

  nextId(): number {
    this.data.lastId += 1;
    return this.data.lastId;
  }
}
