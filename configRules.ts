import { isIP } from "node:net";
import { capacityViolations, limitViolations, quotaViolations, workloadNodes, workloadPools } from "./capacity";
import { type AwsClusterConfig, type DigitalOceanClusterConfig, type PlainConfig, pushesToCluster } from "./config";
import { contextViolations } from "./kubeconfig";
import { keyName, type Path, removeCommand, secretViolation, setCommand, show, type Violation } from "./violations";

/** What must hold between keys that are right by themselves. */
interface Rule {
  /** Keys that the rule reads: where one of them is wrong by itself, its violations mean nothing. */
  reads: string[];
  violations: Violation[];
}

/** The cluster or the zone is DigitalOcean's, so that its account is asked. */
export const needsAccount = ({ cluster, dns }: Pick<PlainConfig, "cluster" | "dns">) =>
  cluster.provider === "digitalocean" || (cluster.provider === "existing" && dns.zone !== "none");

/** Every rule between keys, with what violates it. */
export function rules(config: PlainConfig, env: NodeJS.ProcessEnv): Rule[] {
  const contradictions = pools(config.cluster).flatMap(poolViolations);
  return [
    ...guards(config),
    ...pools(config.cluster).map((pool) => ({ reads: [pool.path.join(".")], violations: poolViolations(pool) })),
    { reads: ["cluster"], violations: [...taintedOnly(config), ...elasticsearchNodes(config), ...hostPorts(config)] },
    { reads: ["cluster.provider", "storage.className"], violations: storageName(config) },
    { reads: ["api.autoscaling"], violations: autoscaling(config) },
    { reads: ["ingress.namespaces", "ingress.secretNamespaces"], violations: servedNamespaces(config) },
    { reads: ["api.image", "registry"], violations: imageViolations(config) },
    { reads: ["api.image", "cluster.provider"], violations: imageTag(config) },
    { reads: ["elasticsearch.snapshots"], violations: snapshotKeys(config) },
    ...addresses(config),
    ...config.dns.records.map((record, i) => ({
      reads: [`dns.records.${i}`],
      violations: recordViolations(record, i),
    })),
    { reads: ["cluster.provider", "dns.zone"], violations: missingToken(config, env) },
    { reads: ["cluster.provider", "cluster.context"], violations: unusableContext(config, env) },
    { reads: ["quota", "elasticsearch", "api"], violations: quotaViolations(config) },
    {
      reads: ["cluster", "elasticsearch", "api", "ingress.replicas"],
      violations: contradictions.length > 0 ? [] : [...capacityViolations(config), ...limitViolations(config)],
    },
  ];
}

/** What may be deleted must not be protected. */
function guards({ cluster, dns }: PlainConfig): Rule[] {
  if (cluster.provider === "existing") return [];
  const unless = (path: Path, on: boolean): Rule => ({
    reads: ["cluster.protect", path.join(".")],
    violations: refuse(cluster.protect && on, {
      path,
      given: "true",
      allowed: "false while cluster.protect is true",
      value: false,
    }),
  });
  return [
    ...(cluster.provider === "digitalocean"
      ? [unless(["cluster", "destroyAllAssociatedResources"], cluster.destroyAllAssociatedResources)]
      : []),
    unless(["dns", "deleteZone"], dns.deleteZone),
    { reads: ["cluster.allowedAddresses", "cluster.allowedAddressesIncludeThisMachine"], violations: lockOut(cluster) },
  ];
}

/** Behind a router no machine knows the address from which it is seen: its owner must say that it is among them. */
function lockOut(cluster: DigitalOceanClusterConfig | AwsClusterConfig): Violation[] {
  const { allowedAddresses: allowed, allowedAddressesIncludeThisMachine: included } = cluster;
  return refuse(allowed.length > 0 && !included, {
    path: ["cluster", "allowedAddressesIncludeThisMachine"],
    given: `${show(included)}, while cluster.allowedAddresses closes the control plane to all but ${show(allowed)}`,
    allowed:
      "true, once the address from which this machine is seen is among them, or no later run reaches the cluster",
    value: true,
  });
}

/** The records and the certificate need what only a balancer and a zone give. */
function addresses({ domain, cluster, ingress, dns, tls }: PlainConfig): Rule[] {
  const balancer = ingress.expose === "LoadBalancer";
  return [
    {
      reads: ["ingress.expose", "dns.zone"],
      violations: refuse(!balancer && dns.zone !== "none", {
        path: ["dns", "zone"],
        given: show(dns.zone),
        allowed: `none while ingress.expose is ${ingress.expose}: only a balancer has an address for the records`,
        value: "none",
      }),
    },
    {
      reads: ["tls.enabled", "dns.zone"],
      violations: refuse(tls.enabled && dns.zone === "none", {
        path: ["dns", "zone"],
        given: show(dns.zone),
        allowed: "create or lookup while tls.enabled is true: the certificate's names are proved by the zone",
        value: "create",
      }),
    },
    {
      reads: ["tls.enabled", "cluster.provider", "ingress.expose"],
      violations: refuse(tls.enabled && (cluster.provider === "existing" || !balancer), {
        path: ["tls", "enabled"],
        given: "true",
        allowed:
          "false unless cluster.provider is digitalocean or aws and ingress.expose is LoadBalancer: its balancer ends TLS",
        value: false,
      }),
    },
    {
      reads: ["dns.ipv6", "cluster.provider"],
      violations: refuse(dns.ipv6 && cluster.provider === "aws", {
        path: ["dns", "ipv6"],
        given: "true",
        allowed: "false while cluster.provider is aws, whose cluster and balancer are of IPv4",
        value: false,
      }),
    },
    ...tls.hosts.map((host, i) => ({
      reads: ["domain", `tls.hosts.${i}`],
      violations: refuse(host !== domain && !host.endsWith(`.${domain}`), {
        path: ["tls", "hosts", i],
        given: show(host),
        allowed: `a name under ${domain}`,
        command: removeCommand(["tls", "hosts", i]),
      }),
    })),
  ];
}

function storageName({ cluster, storage }: PlainConfig): Violation[] {
  return refuse(cluster.provider === "digitalocean" && /^do-block-storage(-|$)/.test(storage.className), {
    path: ["storage", "className"],
    given: show(storage.className),
    allowed: "a name that DigitalOcean's own storage classes do not have, e.g. hobnob-block-storage",
    value: "hobnob-block-storage",
  });
}

function autoscaling({ api: { autoscaling: pods } }: PlainConfig): Violation[] {
  if (!pods) return [];
  return refuse(pods.minReplicas > pods.maxReplicas, {
    path: ["api", "autoscaling", "minReplicas"],
    given: show(pods.minReplicas),
    allowed: `at most api.autoscaling.maxReplicas, which is ${pods.maxReplicas}`,
    value: pods.maxReplicas,
  });
}

/** The controller can serve some namespaces and read no Secret only if it asks for those of one that it doesn't serve. */
function servedNamespaces({ ingress: { namespaces, secretNamespaces } }: PlainConfig): Violation[] {
  return refuse(namespaces.length > 0 && secretNamespaces.length === 0, {
    path: ["ingress", "namespaces"],
    given: show(namespaces),
    allowed: "nothing while ingress.secretNamespaces is empty: then every namespace is served",
    command: removeCommand(["ingress", "namespaces"]),
  });
}

function snapshotKeys(config: PlainConfig): Violation[] {
  if (!config.elasticsearch.snapshots) return [];
  return (["snapshotsAccessKey", "snapshotsSecretKey"] as const).flatMap((name) =>
    config[name] === undefined ? [secretViolation(name, show(undefined))] : [],
  );
}

function taintedOnly({ cluster }: PlainConfig): Violation[] {
  return refuse(cluster.provider === "digitalocean" && workloadPools(cluster).length === 0, {
    path: ["cluster", "workerPools"],
    given: "pools with taints only",
    allowed: "at least one pool without taints, for the platform's own pods",
    command: setCommand(["cluster", "workerPools", "workers", "size"], "s-4vcpu-8gb"),
  });
}

interface Finding {
  path: Path;
  given: string;
  allowed: string;
  /** What the command sets the key to. */
  value?: string | number | boolean;
  /** Where another command helps. */
  command?: string;
}

function refuse(wrong: boolean, { path, given, allowed, value = "<value>", command }: Finding): Violation[] {
  return wrong ? [{ key: keyName(path), given, allowed, command: command ?? setCommand(path, value) }] : [];
}

type Pool = { path: Path; count?: number; minCount?: number; maxCount?: number };

function pools(cluster: PlainConfig["cluster"]): Pool[] {
  if (cluster.provider !== "digitalocean") return [];
  const workers = Object.entries(cluster.workerPools).map(([name, pool]) => ({
    ...pool,
    path: ["cluster", "workerPools", name],
  }));
  return [{ ...cluster.systemPool, path: ["cluster", "systemPool"] }, ...workers];
}

const POOL_COUNT = "either count, or both minCount and maxCount";

function poolViolations({ path, count, minCount, maxCount }: Pool): Violation[] {
  const at = (name: string) => [...path, name];
  if (count !== undefined) {
    return refuse(minCount !== undefined || maxCount !== undefined, {
      path: at("count"),
      given: `${show(count)} beside minCount ${show(minCount)} and maxCount ${show(maxCount)}`,
      allowed: POOL_COUNT,
      command: removeCommand(at("count")),
    });
  }
  if (minCount === undefined && maxCount === undefined) {
    return refuse(true, { path: at("count"), given: show(undefined), allowed: POOL_COUNT, value: 3 });
  }
  if (minCount === undefined || maxCount === undefined) {
    const missing = at(minCount === undefined ? "minCount" : "maxCount");
    return refuse(true, { path: missing, given: show(undefined), allowed: POOL_COUNT, value: minCount ?? maxCount });
  }
  return refuse(minCount > maxCount, {
    path: at("minCount"),
    given: show(minCount),
    allowed: `at most maxCount, which is ${maxCount}`,
    value: maxCount,
  });
}

/** Each Elasticsearch pod wants a node of its own, unless the cluster has but one. */
function elasticsearchNodes({ cluster, elasticsearch: { replicas } }: PlainConfig): Violation[] {
  const nodes = workloadNodes(cluster);
  const soft = cluster.provider === "existing" && nodes === 1;
  return refuse(!soft && nodes > 0 && replicas > nodes, {
    path: ["elasticsearch", "replicas"],
    given: show(replicas),
    allowed: `at most ${nodes}, one for each node that takes workloads (pools count by their least size)`,
    value: nodes === 2 ? 1 : nodes,
  });
}

function hostPorts({ cluster, ingress: { expose, replicas } }: PlainConfig): Violation[] {
  const nodes = workloadNodes(cluster);
  return refuse(expose === "HostPort" && nodes > 0 && replicas > nodes, {
    path: ["ingress", "replicas"],
    given: show(replicas),
    allowed: `at most ${nodes} while ingress.expose is HostPort, one for each node that takes workloads`,
    value: nodes,
  });
}

function imageViolations(config: PlainConfig): Violation[] {
  const { api, registry, registryPassword, registryPullPassword } = config;
  const given = show(undefined);
  const missing = (name: "repository" | "username", example: string, why: string) =>
    refuse(registry[name] === undefined, {
      path: ["registry", name],
      given,
      allowed: `${name === "username" ? "a user of the registry" : "a repository without host and tag"}, ${why}`,
      value: example,
    });
  if (pushesToCluster(config)) return missing("repository", "hobnob/backend", "as that of the account is named by it");
  if (api.image === undefined) {
    const why = "as no api.image is given and one is built";
    const repository = missing("repository", "acme/hobnob-backend", why);
    if (registry.anonymous) return repository;
    const password = registryPassword === undefined ? [secretViolation("registryPassword", given)] : [];
    return [...repository, ...missing("username", "acme", why), ...password];
  }
  if (!registry.private || registry.anonymous) return [];
  const noPassword = registryPassword === undefined && registryPullPassword === undefined;
  const host = imageHost(api.image);
  return [
    ...missing("username", "acme", "as registry.private is true"),
    ...(noPassword ? [secretViolation("registryPullPassword", given)] : []),
    ...refuse(host !== registry.server, {
      path: ["registry", "server"],
      given: show(registry.server),
      allowed: `${host}, the registry of api.image, as registry.private is true`,
      value: host,
    }),
  ];
}

/** Only by its digest is what nodes pull always the same; what was loaded onto them has none. */
function imageTag({ api: { image }, cluster }: PlainConfig): Violation[] {
  const path = ["api", "image"];
  return refuse(image !== undefined && !image.includes("@") && cluster.provider !== "existing", {
    path,
    given: show(image),
    allowed: "repository@sha256:<64 hexadecimal digits>; by version only on an existing cluster, where it was loaded",
    command: removeCommand(path),
  });
}

/** The registry that a container runtime asks for an image. */
function imageHost(image: string): string {
  const [first = "", rest] = image.split("/");
  return rest !== undefined && /[.:]|^localhost$/.test(first) ? first : "docker.io";
}

type DnsRecord = PlainConfig["dns"]["records"][number];

const NEEDED: Partial<Record<DnsRecord["type"], ("priority" | "weight" | "port" | "flags" | "tag")[]>> = {
  MX: ["priority"],
  SRV: ["priority", "weight", "port"],
  CAA: ["flags", "tag"],
};

function recordViolations(record: DnsRecord, i: number): Violation[] {
  const path = ["dns", "records", i];
  const family = { A: 4, AAAA: 6 }[record.type as string];
  const needed = NEEDED[record.type] ?? [];
  return [
    ...refuse(family !== undefined && isIP(record.value) !== family, {
      path: [...path, "value"],
      given: show(record.value),
      allowed: `an IPv${family} address, as the record's type is ${record.type}`,
      value: family === 4 ? "203.0.113.7" : "2001:db8::7",
    }),
    ...refuse(/^(CAA|CNAME|MX|NS|SRV)$/.test(record.type) && !/(^@|\.)$/.test(record.value), {
      path: [...path, "value"],
      given: show(record.value),
      allowed: `a host name that ends with a dot, as the record's type is ${record.type}`,
      value: `${record.value}.`,
    }),
    ...refuse(/^(api|docs)$/.test(record.name) && /^(A|AAAA|CNAME)$/.test(record.type), {
      path: [...path, "name"],
      given: show(record.name),
      allowed: "a name other than api and docs, whose addresses are the balancer's",
      command: removeCommand(path),
    }),
    ...needed.flatMap((name) =>
      refuse(record[name] === undefined, {
        path: [...path, name],
        given: show(undefined),
        allowed: `a value, as the record's type is ${record.type}`,
        value: name === "tag" ? "issue" : 0,
      }),
    ),
  ];
}

function missingToken(config: PlainConfig, env: NodeJS.ProcessEnv): Violation[] {
  if (!needsAccount(config) || env.DIGITALOCEAN_TOKEN) return [];
  const what = config.cluster.provider === "digitalocean" ? "the cluster" : "the DNS zone";
  return [
    {
      key: "DIGITALOCEAN_TOKEN",
      given: show(undefined),
      allowed: `an API token of the DigitalOcean account that has ${what}, in the environment`,
      command: "export DIGITALOCEAN_TOKEN=<token>",
    },
  ];
}

const unusableContext = ({ cluster }: PlainConfig, env: NodeJS.ProcessEnv): Violation[] =>
  cluster.provider === "existing" ? contextViolations(cluster.context, env) : [];
