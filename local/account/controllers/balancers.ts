import { isDeepStrictEqual } from "node:util";
import type { V1Service } from "@kubernetes/client-node";
import type { AccountForControllers, Balancer, BalancerRequest, ControllerSettings, ForwardingRule } from "./index";
import { type Cluster, keyOf, mergePatch, messageOf, splitKey, unless } from "./watch";

const idAnnotation = "kubernetes.digitalocean.com/load-balancer-id";
const disownAnnotation = "service.kubernetes.io/do-loadbalancer-disown";
const prefix = "service.beta.kubernetes.io/do-loadbalancer-";
const finalizer = "service.kubernetes.io/load-balancer-cleanup";
const component = "service-controller";

/** DigitalOcean's cloud controller manager, so far as it serves Services of type LoadBalancer. */
export function startBalancers(
  cluster: Cluster,
  account: AccountForControllers,
  settings: () => ControllerSettings,
): void {
  const activeAt = new Map<string, number>();
  const queue = cluster.queue("service", async (key) => {
    const { namespace, name } = splitKey(key);
    const service = services.get(name, namespace);
    if (!service) return undefined;
    if (!wantsBalancer(service)) return release(service);
    try {
      return await ensure(service);
    } catch (error) {
      const message = `Error syncing load balancer: failed to ensure load balancer: ${messageOf(error)}`;
      await notify(service, "Warning", "SyncLoadBalancerFailed", message);
      throw new Error(message);
    }
  });
  const services = cluster.store(
    "/api/v1/services",
    () => cluster.core.listServiceForAllNamespaces(),
    (service) => queue.add(keyOf(service)),
  );
  const notify = (service: V1Service, type: "Normal" | "Warning", reason: string, message: string) =>
    cluster.event({ apiVersion: "v1", kind: "Service", metadata: service.metadata }, component, type, reason, message);

  async function ensure(service: V1Service): Promise<number | undefined> {
    if (parseBoolean(service, disownAnnotation, "failed to get disown LB configuration setting")) return undefined;
    if (!service.metadata?.finalizers?.includes(finalizer)) {
      await setFinalizers(service, [...(service.metadata?.finalizers ?? []), finalizer]);
      return undefined;
    }
    const found = await find(service);
    // The type is fixed when a balancer is created: the real controller overwrites a changed annotation in silence.
    const wanted = found ? withAnnotations(service, { type: found.type }) : service;
    const request = await buildRequest(wanted, account, settings());
    if (!found) await notify(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer");
    const balancer = found ?? (await explain("failed to create load-balancer", account.createBalancer(request)));
    await annotate(service, { [idAnnotation]: balancer.id, [`${prefix}type`]: balancer.type });

    if (balancer.status === "new") {
      const seconds = secondsUntilActive(balancer.id);
      return seconds > 0 ? seconds : setAddress(service, await activate(balancer.id));
    }
    return setAddress(service, differs(request, balancer) ? await update(service, balancer.id, request) : balancer);
  }

  async function activate(id: string): Promise<Balancer> {
    const balancer = await account.activateBalancer(id);
    await writeCertificateRecords(balancer);
    return balancer;
  }

  async function update(service: V1Service, id: string, request: BalancerRequest): Promise<Balancer> {
    const balancer = await explain(`failed to update load-balancer with ID ${id}`, account.updateBalancer(id, request));
    await writeCertificateRecords(balancer);
    await notify(service, "Normal", "UpdatedLoadBalancer", "Updated load balancer");
    return balancer;
  }

  function secondsUntilActive(id: string): number {
    const at = activeAt.get(id) ?? Date.now() + settings().balancerSeconds * 1000;
    activeAt.set(id, at);
    return (at - Date.now()) / 1000;
  }

  async function find(service: V1Service): Promise<Balancer | undefined> {
    const id = service.metadata?.annotations?.[idAnnotation];
    return id ? account.balancerById(id) : account.balancerByName(balancerName(service));
  }

  async function writeCertificateRecords(balancer: Balancer): Promise<void> {
    if (balancer.disable_lets_encrypt_dns_records) return;
    const id = balancer.forwarding_rules.find((rule) => rule.certificate_id)?.certificate_id;
    const certificate = id ? await account.certificateById(id) : undefined;
    if (certificate?.type === "lets_encrypt") await account.writeAddressRecords(certificate.dns_names, balancer.ip);
  }

  async function setAddress(service: V1Service, balancer: Balancer): Promise<undefined> {
    const ingress = addresses(service, balancer);
    const old = service.status?.loadBalancer?.ingress ?? [];
    const flat = (entries: Array<{ ip?: string; hostname?: string }>) =>
      entries.map(({ ip, hostname }) => ip ?? hostname);
    if (String(flat(old)) === String(flat(ingress))) return undefined;
    await cluster.core.patchNamespacedServiceStatus(
      { ...reference(service), body: { status: { loadBalancer: { ingress } } } },
      mergePatch,
    );
    await notify(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer");
    return undefined;
  }

  /** Deletes the balancer of a Service that is going away or is no LoadBalancer any more. */
  async function release(service: V1Service): Promise<undefined> {
    if (!service.metadata?.finalizers?.includes(finalizer)) return undefined;
    const disowned = parseBoolean(service, disownAnnotation, "failed to get disown LB configuration setting");
    const found = disowned ? undefined : await find(service);
    if (found) {
      await notify(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer");
      await account.deleteBalancer(found.id);
      await notify(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer");
    }
    if (service.status?.loadBalancer?.ingress) {
      await cluster.core.patchNamespacedServiceStatus(
        { ...reference(service), body: { status: { loadBalancer: null } } },
        mergePatch,
      );
    }
    const others = service.metadata.finalizers.filter((entry) => entry !== finalizer);
    await unless(404, setFinalizers(service, others));
    return undefined;
  }

  async function annotate(service: V1Service, annotations: Record<string, string>): Promise<void> {
    const old = service.metadata?.annotations ?? {};
    if (Object.entries(annotations).every(([key, value]) => old[key] === value)) return;
    await patch(service, { metadata: { annotations } });
  }

  /** With the version that was read: another's finalizer must not get lost. */
  const setFinalizers = (service: V1Service, finalizers: string[]) =>
    patch(service, { metadata: { finalizers, resourceVersion: service.metadata?.resourceVersion } });

  const patch = (service: V1Service, body: object) =>
    cluster.core.patchNamespacedService({ ...reference(service), body }, mergePatch);
}

const reference = (service: V1Service) => ({
  name: service.metadata?.name ?? "",
  namespace: service.metadata?.namespace ?? "",
});

const wantsBalancer = ({ metadata, spec }: V1Service): boolean =>
  spec?.type === "LoadBalancer" && !spec.loadBalancerClass && !metadata?.deletionTimestamp;

const withAnnotations = (service: V1Service, values: Record<string, string>): V1Service => ({
  ...service,
  metadata: {
    ...service.metadata,
    annotations: {
      ...service.metadata?.annotations,
      ...Object.fromEntries(Object.entries(values).map(([name, value]) => [prefix + name, value])),
    },
  },
});

/** Without a name of its own a balancer is called by the Service's uid, as every cloud provider does. */
const balancerName = (service: V1Service): string =>
  read(service, "name") || `a${service.metadata?.uid?.replaceAll("-", "")}`.slice(0, 32);

function addresses(service: V1Service, balancer: Balancer): Array<{ ip?: string; hostname?: string }> {
  const hostname = read(service, "hostname");
  if (hostname) return [{ hostname: hostname.toLowerCase() }];
  return [{ ip: balancer.ip }, ...(balancer.ipv6 ? [{ ip: balancer.ipv6 }] : [])];
}

const differs = (request: BalancerRequest, balancer: Balancer): boolean =>
  Object.entries(request).some(([key, value]) => !isDeepStrictEqual(value, balancer[key as keyof BalancerRequest]));

async function explain<T>(what: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw new Error(`${what}: ${messageOf(error)}`);
  }
}

// The request, refused in the words of digitalocean-cloud-controller-manager, cloud-controller-manager/do/loadbalancers.go.

const annotations = [
  "name",
  "type",
  "network",
  "protocol",
  "http-ports",
  "tls-ports",
  "http2-ports",
  "http3-port",
  "tls-passthrough",
  "certificate-id",
  "certificate-name",
  "hostname",
  "algorithm",
  "size-slug",
  "size-unit",
  "sticky-sessions-type",
  "sticky-sessions-cookie-name",
  "sticky-sessions-cookie-ttl",
  "redirect-http-to-https",
  "disable-lets-encrypt-dns-records",
  "enable-proxy-protocol",
  "enable-backend-keepalive",
  "http-idle-timeout-seconds",
  "deny-rules",
  "allow-rules",
  "override-health-check",
  "healthcheck-path",
  "healthcheck-port",
  "healthcheck-protocol",
  "healthcheck-check-interval-seconds",
  "healthcheck-response-timeout-seconds",
  "healthcheck-unhealthy-threshold",
  "healthcheck-healthy-threshold",
];

/** What a layer 4 balancer has no use for. The real controller drops them in silence, and the traffic is not what was asked. */
const layer7 = [
  "protocol",
  "http-ports",
  "tls-ports",
  "http2-ports",
  "http3-port",
  "tls-passthrough",
  "certificate-id",
  "certificate-name",
  "sticky-sessions-type",
  "redirect-http-to-https",
  "enable-proxy-protocol",
  "http-idle-timeout-seconds",
];

async function buildRequest(
  service: V1Service,
  account: AccountForControllers,
  { clusterId, region }: ControllerSettings,
): Promise<BalancerRequest> {
  try {
    refuseUnknown(service);
    const type = oneOf(service, "type", ["REGIONAL_NETWORK", "REGIONAL"], "types") as BalancerRequest["type"];
    const timeout = number(service, "http-idle-timeout-seconds", 30, 600);
    return {
      name: balancerName(service),
      type,
      network: oneOf(service, "network", ["EXTERNAL", "INTERNAL"], "networks") as BalancerRequest["network"],
      network_stack: type === "REGIONAL" ? "DUALSTACK" : "IPV4",
      size_unit: sizeUnit(service),
      region,
      tags: [`k8s:${clusterId}`],
      forwarding_rules: type === "REGIONAL" ? await forwardingRules(service, account) : networkRules(service),
      health_check: healthCheck(service),
      sticky_sessions: stickySessions(service),
      redirect_http_to_https: flag(service, "redirect-http-to-https", "HTTP-to-HTTPS"),
      disable_lets_encrypt_dns_records: flag(
        service,
        "disable-lets-encrypt-dns-records",
        "disable lets encrypt dns records",
      ),
      enable_proxy_protocol: flag(service, "enable-proxy-protocol", "proxy protocol"),
      enable_backend_keepalive: flag(service, "enable-backend-keepalive", "backend keepalive"),
      ...(timeout !== undefined && { http_idle_timeout_seconds: timeout }),
      ...firewall(service),
    };
  } catch (error) {
    throw new Error(`failed to build load-balancer request: ${messageOf(error)}`);
  }
}

/** The real controller ignores a misspelt annotation, and the balancer lacks what it asked for. */
function refuseUnknown(service: V1Service): void {
  for (const key of Object.keys(service.metadata?.annotations ?? {})) {
    const name = key.startsWith(prefix) ? key.slice(prefix.length) : undefined;
    if (name !== undefined && !annotations.includes(name)) throw new Error(`unknown annotation "${key}"`);
  }
}

async function forwardingRules(service: V1Service, account: AccountForControllers): Promise<ForwardingRule[]> {
  const protocols = ["tcp", "http", "https", "http2", "http3"];
  const protocol = read(service, "protocol") ?? "tcp";
  if (!protocols.includes(protocol)) {
    throw new Error(`invalid protocol "${protocol}" specified in annotation "${prefix}protocol"`);
  }
  const httpPorts = ports(service, "http-ports");
  const tlsPorts = ports(service, "tls-ports");
  const http2Ports = ports(service, "http2-ports");
  const all = [...httpPorts, ...tlsPorts, ...http2Ports];
  const shared = [...new Set(all.filter((port, index) => all.indexOf(port) !== index))].sort();
  if (shared.length > 0) {
    throw new Error(`ports from annotations "${prefix}*-ports" cannot be shared but found: ${shared.join(", ")}`);
  }
  const certificate = await certificateId(service, account);
  const passthrough = flag(service, "tls-passthrough", "TLS passthrough");
  if ((certificate || passthrough) && tlsPorts.length === 0 && !http2Ports.includes(443)) tlsPorts.push(443);

  const entryProtocol = (port: number, transport: string) => {
    if (transport === "UDP") return "udp";
    if (http2Ports.includes(port)) return "http2";
    if (tlsPorts.includes(port)) return "https";
    return httpPorts.includes(port) ? "http" : protocol;
  };
  const rules = servicePorts(service).map(({ port, nodePort = 0, protocol: transport }) => {
    const entry = entryProtocol(port, transport ?? "TCP");
    const rule = { entry_protocol: entry, entry_port: port, target_protocol: entry, target_port: nodePort };
    return entry === "https" || entry === "http2" ? { ...rule, ...tlsEnd(certificate, passthrough) } : rule;
  });
  return [...rules, ...http3Rule(service, certificate, passthrough)];
}

function tlsEnd(certificate: string | undefined, passthrough: boolean): Partial<ForwardingRule> {
  const part = "failed to build TLS part(s) of forwarding rule";
  if (!certificate && !passthrough) throw new Error(`${part}: must set certificate id or enable tls pass through`);
  if (certificate && passthrough) {
    throw new Error(`${part}: either certificate id should be set or tls pass through enabled, not both`);
  }
  return certificate ? { certificate_id: certificate, target_protocol: "http" } : { tls_passthrough: true };
}

function http3Rule(service: V1Service, certificate: string | undefined, passthrough: boolean): ForwardingRule[] {
  const entry = number(service, "http3-port", 1, 65535);
  if (entry === undefined) return [];
  const part = "failed to construct http3 forwarding rule";
  if (passthrough) throw new Error(`${part}: TLS passthrough is not allowed to be used in conjunction with HTTP3`);
  if (!certificate) throw new Error(`${part}: certificate ID is required for HTTP3`);
  const target = servicePorts(service).find(({ port }) => port === entry)?.nodePort;
  if (!target) return [];
  return [
    {
      entry_protocol: "http3",
      entry_port: entry,
      target_protocol: "http",
      target_port: target,
      certificate_id: certificate,
    },
  ];
}

/** A network balancer sends to the Service's own port on the nodes, so the two ports must be one number. */
function networkRules(service: V1Service): ForwardingRule[] {
  const unused = layer7.find((name) => read(service, name) !== undefined);
  if (unused) {
    throw new Error(
      `annotation "${prefix}${unused}" needs a load balancer of type REGIONAL, got: REGIONAL_NETWORK (the default), which ends no TLS or HTTP`,
    );
  }
  return servicePorts(service).map(({ port, targetPort, protocol = "TCP" }) => {
    if (protocol !== "TCP" && protocol !== "UDP") {
      throw new Error(`only TCP or UDP protocol is supported, got: "${protocol}"`);
    }
    if (typeof targetPort === "number" && targetPort !== port) {
      throw new Error(
        `a load balancer of type REGIONAL_NETWORK needs a port equal to its targetPort, got: port ${port}, targetPort ${targetPort}`,
      );
    }
    const transport = protocol.toLowerCase();
    return { entry_protocol: transport, entry_port: port, target_protocol: transport, target_port: port };
  });
}

async function certificateId(service: V1Service, account: AccountForControllers): Promise<string | undefined> {
  const id = read(service, "certificate-id");
  if (id) {
    if (!(await account.certificateById(id))) throw new Error(`certificate with ID: "${id}" not found`);
    return id;
  }
  const name = read(service, "certificate-name");
  if (!name) return undefined;
  const certificate = await account.certificateByName(name);
  if (!certificate) throw new Error(`certificate with name: "${name}" not found`);
  return certificate.id;
}

function healthCheck(service: V1Service): Record<string, string | number> {
  const override = read(service, "override-health-check") !== undefined;
  const local = service.spec?.externalTrafficPolicy === "Local" ? service.spec.healthCheckNodePort : undefined;
  // What is asked of the nodes is kube-proxy's own answer, unless the override is set; wrong values are refused either way.
  const asked = {
    protocol: healthProtocol(service),
    port: healthPort(service),
    path: read(service, "healthcheck-path") ?? "",
  };
  return {
    ...(override ? asked : { protocol: "http", port: local ?? 10256, path: "/healthz" }),
    check_interval_seconds: number(service, "healthcheck-check-interval-seconds", 3, 300) ?? 3,
    response_timeout_seconds: number(service, "healthcheck-response-timeout-seconds", 3, 300) ?? 5,
    unhealthy_threshold: number(service, "healthcheck-unhealthy-threshold", 2, 10) ?? 3,
    healthy_threshold: number(service, "healthcheck-healthy-threshold", 2, 10) ?? 5,
  };
}

function healthProtocol(service: V1Service): string {
  const protocol = read(service, "healthcheck-protocol");
  if (!protocol) return read(service, "healthcheck-path") ? "http" : "tcp";
  if (["tcp", "http", "https"].includes(protocol)) return protocol;
  throw new Error(`invalid protocol "${protocol}" specified in annotation "${prefix}healthcheck-protocol"`);
}

function healthPort(service: V1Service): number {
  const [wanted, ...more] = ports(service, "healthcheck-port");
  const key = `${prefix}healthcheck-port`;
  if (more.length > 0) {
    throw new Error(
      `annotation ${key} only supports a single port, but found multiple: [${[wanted, ...more].join(" ")}]`,
    );
  }
  const all = servicePorts(service);
  const found =
    wanted === undefined ? all.find(({ protocol }) => protocol !== "UDP") : all.find((p) => p.port === wanted);
  if (found?.protocol === "UDP") throw new Error(`health check port: ${wanted}, cannot be of protocol type UDP`);
  if (wanted !== undefined && !found) {
    const { namespace, name } = reference(service);
    throw new Error(`specified health check port ${wanted} does not exist on service ${namespace}/${name}`);
  }
  return found?.nodePort ?? 0;
}

function stickySessions(service: V1Service): Record<string, string | number> {
  const type = oneOf(service, "sticky-sessions-type", ["none", "cookies"], "sticky session types");
  if (type === "none") return { type };
  const name = read(service, "sticky-sessions-cookie-name");
  if (!name) throw new Error("sticky session cookie name not specified, but required");
  const ttl = number(service, "sticky-sessions-cookie-ttl", 1, 34650);
  if (ttl === undefined) throw new Error("sticky session cookie ttl not specified, but required");
  return { type, cookie_name: name, cookie_ttl_seconds: ttl };
}

/** The slugs are the old names of 1, 3 and 6 units. */
function sizeUnit(service: V1Service): number {
  const slug = read(service, "size-slug");
  const units = { "lb-small": 1, "lb-medium": 3, "lb-large": 6 }[slug ?? "lb-small"];
  if (units === undefined) throw new Error(`invalid LB size slug provided: ${slug}`);
  const unit = number(service, "size-unit", 1, 200);
  if (slug && unit !== undefined) throw new Error("only one of LB size slug and size unit can be provided");
  return unit ?? units;
}

function firewall(service: V1Service): Pick<BalancerRequest, "firewall"> {
  const ranges = service.spec?.loadBalancerSourceRanges?.map((range) => `cidr:${range}`);
  const allow = ranges?.length ? ranges : rules(service, "allow-rules");
  const deny = rules(service, "deny-rules");
  return allow.length + deny.length > 0 ? { firewall: { allow, deny } } : {};
}

function rules(service: V1Service, name: string): string[] {
  const values = list(service, name);
  const wrong = values.find((value) => !/^(ip|cidr):[0-9a-fA-F.:]+(\/\d+)?$/.test(value));
  if (wrong === undefined) return values;
  throw new Error(
    `invalid rule "${wrong}" specified in annotation "${prefix}${name}": want ip:{address} or cidr:{range}`,
  );
}

// Readers of one annotation.

/** An empty value counts as none, as it does in the real controller. */
const read = (service: V1Service, name: string): string | undefined =>
  service.metadata?.annotations?.[prefix + name] || undefined;

const list = (service: V1Service, name: string): string[] =>
  (read(service, name)?.split(",") ?? []).map((value) => value.trim());

function oneOf(service: V1Service, name: string, allowed: [string, ...string[]], what: string): string {
  const value = read(service, name) ?? allowed[0];
  if (!allowed.includes(value)) throw new Error(`only LB ${what} supported are (${[...allowed].sort().join(", ")})`);
  return value;
}

function ports(service: V1Service, name: string): number[] {
  return list(service, name).map((value) => {
    const port = integer(value);
    if (port !== undefined && port > 0 && port < 65536) return port;
    throw new Error(`invalid port "${value}" specified in annotation "${prefix}${name}"`);
  });
}

function number(service: V1Service, name: string, least: number, most: number): number | undefined {
  const text = read(service, name);
  if (text === undefined) return undefined;
  const value = integer(text);
  if (value !== undefined && value >= least && value <= most) return value;
  throw new Error(`invalid value "${text}" specified in annotation "${prefix}${name}": want ${least} to ${most}`);
}

const integer = (text: string): number | undefined => (/^-?\d+$/.test(text) ? Number(text) : undefined);

const flag = (service: V1Service, name: string, what: string): boolean =>
  parseBoolean(service, prefix + name, `failed to get ${what} configuration setting`);

/** Go's strconv.ParseBool. */
function parseBoolean(service: V1Service, key: string, failure: string): boolean {
  const text = service.metadata?.annotations?.[key];
  if (text === undefined) return false;
  if (["1", "t", "T", "true", "TRUE", "True"].includes(text)) return true;
  if (["0", "f", "F", "false", "FALSE", "False"].includes(text)) return false;
  throw new Error(
    `${failure}: cannot convert value "${text}" for annotation "${key}" to bool: strconv.ParseBool: parsing "${text}": invalid syntax`,
  );
}

const servicePorts = (service: V1Service) => service.spec?.ports ?? [];
