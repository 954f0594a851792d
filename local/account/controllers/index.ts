/**
 * What DigitalOcean runs inside a DOKS cluster, played against the simulated account: the cloud controller manager
 * (balancers), the CSI driver with its side-cars (volumes), and the status reports of F5's ingress controller, whose
 * pods run nothing here.
 */
import { KubeConfig } from "@kubernetes/client-node";
import { startBalancers } from "./balancers";
import { startIngresses } from "./ingresses";
import { createBuiltInStorageClasses, startVolumes } from "./volumes";
import { Cluster } from "./watch";

/** The body of `POST /v2/load_balancers`, as the cloud controller manager fills it. */
export interface BalancerRequest {
  name: string;
  type: "REGIONAL" | "REGIONAL_NETWORK";
  network: "EXTERNAL" | "INTERNAL";
  network_stack: "IPV4" | "DUALSTACK";
  size_unit: number;
  region: string;
  tags: string[];
  forwarding_rules: ForwardingRule[];
  health_check: Record<string, string | number>;
  sticky_sessions: Record<string, string | number>;
  redirect_http_to_https: boolean;
  disable_lets_encrypt_dns_records: boolean;
  enable_proxy_protocol: boolean;
  enable_backend_keepalive: boolean;
  http_idle_timeout_seconds?: number;
  firewall?: { allow: string[]; deny: string[] };
}

export interface ForwardingRule {
  entry_protocol: string;
  entry_port: number;
  target_protocol: string;
  target_port: number;
  certificate_id?: string;
  tls_passthrough?: boolean;
}

/** A balancer as the account keeps it. It is `new`, and carries no traffic, until it is activated. */
export interface Balancer extends BalancerRequest {
  id: string;
  ip: string;
  /** Absent on a network balancer. */
  ipv6?: string;
  status: "new" | "active";
}

/** The body of `POST /v2/volumes`. */
export interface VolumeRequest {
  name: string;
  size_gigabytes: number;
  /** Left out: the driver formats the disk when a node first mounts it. */
  filesystem_type?: string;
  region: string;
  tags: string[];
}

export interface Volume extends VolumeRequest {
  id: string;
}

export interface AccountCertificate {
  id: string;
  name: string;
  type: "lets_encrypt" | "custom";
  dns_names: string[];
}

/** What the controllers ask of the account. A call that the account refuses rejects with its message. */
export interface AccountForControllers {
  createBalancer(request: BalancerRequest): Promise<Balancer>;
  /** From `new` to `active`: called once the settings' delay is over. */
  activateBalancer(id: string): Promise<Balancer>;
  updateBalancer(id: string, request: BalancerRequest): Promise<Balancer>;
  balancerById(id: string): Promise<Balancer | undefined>;
  balancerByName(name: string): Promise<Balancer | undefined>;
  /** Succeeds too when the balancer is already gone. */
  deleteBalancer(id: string): Promise<void>;
  certificateById(id: string): Promise<AccountCertificate | undefined>;
  certificateByName(name: string): Promise<AccountCertificate | undefined>;
  /** The A records that a balancer writes for its Let's Encrypt names, in each name's own zone. */
  writeAddressRecords(hosts: string[], address: string): Promise<void>;
  /** Given twice with one name it returns the volume that is there, as the driver's own lookup does. */
  createVolume(request: VolumeRequest): Promise<Volume>;
  volumeById(id: string): Promise<Volume | undefined>;
  resizeVolume(id: string, sizeGigabytes: number): Promise<Volume>;
  attachVolume(id: string, dropletId: number): Promise<void>;
  /** Succeeds too when it is not attached. */
  detachVolume(id: string, dropletId: number): Promise<void>;
  /** Succeeds too when the volume is already gone. */
  deleteVolume(id: string): Promise<void>;
}

export interface ControllerSettings {
  /** The cluster's id: the account's resources are tagged `k8s:<id>`. */
  clusterId: string;
  region: string;
  /** Seconds from a balancer's creation to its address. A real one takes about 90. @default 0 */
  balancerSeconds: number;
  /** Seconds that a volume's creation takes. @default 0 */
  volumeSeconds: number;
  /** Seconds from an attachment's request to the device on the node. @default 0 */
  attachSeconds: number;
}

/**
 * Starts the loops and returns at once; they retry until the API server answers.
 *
 * @param settings asked at each use, so that a change acts on what starts after it.
 * @param report takes what a controller could not do, once for each reason.
 */
export function startControllers(
  kubeconfigPath: string,
  account: AccountForControllers,
  settings: () => ControllerSettings,
  report: (line: string) => void = console.error,
): { stop(): Promise<void> } {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfigPath);
  const cluster = new Cluster(config, report);
  cluster.queue("built-in storage classes", () => createBuiltInStorageClasses(cluster)).add("/");
  startBalancers(cluster, account, settings);
  startVolumes(cluster, account, settings);
  startIngresses(cluster);
  return { stop: () => cluster.stop() };
}
