import { Resolver } from "node:dns/promises";
import * as pulumi from "@pulumi/pulumi";
import { distance } from "fastest-levenshtein";
import { capacityViolations, type Size, sizeFromSlug } from "./capacity";
import type { VersionPlan } from "./components/cluster";
import { NAME_SERVERS } from "./components/dns";
import { type AwsClusterConfig, type Config, type DigitalOceanClusterConfig, overlap } from "./config";
import { needsAccount } from "./configRules";
import { askAws, zoneViolations } from "./preflightAws";
import { lossViolations, type PreviousRun, readPreviousRun } from "./previousRun";
import { ConfigurationError, keyName, setCommand, show, type Violation } from "./violations";

/**
 * Asks the account, before the first resource, for what the configuration takes for granted, and the stack's state for what
 * an earlier run made. Reads only lists: no call mints a credential. Throws a `ConfigurationError` with everything that is
 * not so.
 * @param timeoutMs for each answer
 * @param previousRun what the stack's state holds, where it has been read already
 * @returns the Kubernetes version to ask for, where the cluster is a cloud's.
 */
export async function preflight(
  config: Config,
  { env = process.env, timeoutMs = 10_000, previousRun = readPreviousRun() } = {},
): Promise<VersionPlan | undefined> {
  const account = new Account(env, timeoutMs);
  const [previous, cluster, zone, delegation] = await Promise.all([
    previousRun,
    checkClusterOf(config, account, previousRun, env, timeoutMs),
    needsAccount(config) && config.dns.zone === "lookup" ? checkZone(config.domain, account) : [],
    config.tls.enabled ? checkDelegation(config, timeoutMs) : [],
  ]).catch(asViolation);
  const violations = [...lossViolations(config, previous), ...(cluster?.violations ?? []), ...zone, ...delegation];
  if (violations.length > 0) throw new ConfigurationError(violations);
  return cluster?.plan;
}

function checkClusterOf(
  config: Config,
  account: Account,
  previousRun: Promise<PreviousRun>,
  env: NodeJS.ProcessEnv,
  timeoutMs: number,
) {
  const { cluster } = config;
  if (cluster.provider === "existing") return undefined;
  return cluster.provider === "aws"
    ? checkAwsCluster(config, cluster, env, timeoutMs)
    : checkCluster(config, cluster, account, previousRun);
}

async function checkAwsCluster(config: Config, cluster: AwsClusterConfig, env: NodeJS.ProcessEnv, timeoutMs: number) {
  const account = await askAws(config, cluster, env, timeoutMs);
  if (Array.isArray(account)) return { violations: account };
  const plan = planVersion(cluster.version, account.offered, account.own, account.upgrading);
  const zone = zoneViolations(config, account);
  return isViolation(plan) ? { violations: [plan, ...zone] } : { plan, violations: zone };
}

// ── the cluster ─────────────────────────────────────────────────────────────────────────────────────────────────────

interface Options {
  versions: { slug: string }[];
  regions: { slug: string }[];
  sizes: { slug: string }[];
}

interface ExistingCluster {
  name: string;
  version: string;
  ha?: boolean;
  status?: { state: string };
}

export interface Vpc {
  name: string;
  region: string;
  ip_range: string;
  default: boolean;
}

async function checkCluster(
  config: Config,
  cluster: DigitalOceanClusterConfig,
  account: Account,
  previousRun: Promise<PreviousRun>,
) {
  const pools = Object.entries(cluster.workerPools).map(([name, { size }]) => ({
    path: ["cluster", "workerPools", name, "size"],
    size,
  }));
  const wanted = [{ path: ["cluster", "systemPool", "size"], size: cluster.systemPool.size }, ...pools];
  const [{ options }, clusters, vpcs, zoneExists, sizes, { begun }] = await Promise.all([
    account.get<{ options: Options }>("/v2/kubernetes/options"),
    account.list<ExistingCluster>("/v2/kubernetes/clusters", "kubernetes_clusters"),
    account.list<Vpc>("/v2/vpcs", "vpcs"),
    config.dns.zone === "create" && account.has(`/v2/domains/${config.domain}`),
    wanted.every(({ size }) => sizeFromSlug(size)) ? {} : sizesOf(account),
    previousRun,
  ]);
  const offered = options.versions.map(({ slug }) => slug);
  const own = clusters.find(({ name }) => name === cluster.name);
  const plan = planVersion(cluster.version, offered, own?.version, own?.status?.state === "upgrading");
  const known = options.sizes.map(({ slug }) => slug);
  const unknown = wanted.filter(({ size }) => !known.includes(size));
  const regions = options.regions.map(({ slug }) => slug);
  return {
    plan: isViolation(plan) ? undefined : plan,
    violations: [
      ...regionViolations(cluster.region, regions),
      ...(regions.includes(cluster.region) ? defaultVpcViolations(cluster.region, vpcs) : []),
      ...rangeViolations(cluster, vpcs),
      ...(!begun && zoneExists ? [zoneViolation(config.domain)] : []),
      ...(isViolation(plan) ? [plan] : []),
      ...(own?.ha && !cluster.ha ? [haViolation()] : []),
      ...unknown.map(({ path, size }) => sizeViolation(path, size, known)),
      // What fits by the slugs has been judged with the configuration.
      ...(unknown.length > 0 || Object.keys(sizes).length === 0 ? [] : capacityViolations(config, sizes)),
    ],
  };
}

async function sizesOf(account: Account): Promise<Record<string, Size>> {
  const sizes = await account.list<{ slug: string; vcpus: number; memory: number }>("/v2/sizes", "sizes");
  return Object.fromEntries(sizes.map(({ slug, vcpus, memory }) => [slug, { vcpus, memory: memory / 1024 }]));
}

function regionViolations(region: string, known: string[]): Violation[] {
  if (known.includes(region)) return [];
  const path = ["cluster", "region"];
  const nearest = sortByDistance(region, known)[0] ?? "fra1";
  return [{ key: keyName(path), given: show(region), allowed: known.join(", "), command: setCommand(path, nearest) }];
}

/** The first VPC of a region becomes its default one, which DigitalOcean never deletes. */
function defaultVpcViolations(region: string, vpcs: Vpc[]): Violation[] {
  if (vpcs.some((vpc) => vpc.default && vpc.region === region)) return [];
  return [
    {
      key: keyName(["cluster", "region"]),
      given: `${show(region)}, where the account has no default VPC`,
      allowed: "a region with a default VPC: else the cluster's becomes the default one, which can never be deleted",
      command: `doctl vpcs create --name default-${region} --region ${region}`,
    },
  ];
}

/** The cluster's own VPC has its name. */
function rangeViolations({ name, vpcCidr }: DigitalOceanClusterConfig, vpcs: Vpc[]): Violation[] {
  const others = vpcs.filter((vpc) => vpc.name !== name);
  const free = (range: string) => others.every((vpc) => !overlap(range, vpc.ip_range));
  if (free(vpcCidr)) return [];
  const path = ["cluster", "vpcCidr"];
  const [taken] = others.filter((vpc) => overlap(vpcCidr, vpc.ip_range));
  return [
    {
      key: keyName(path),
      given: `${show(vpcCidr)}, which overlaps with ${taken?.ip_range} of the VPC ${taken?.name}`,
      allowed: "a range that no other VPC of the account has",
      command: setCommand(path, freeRange(others) ?? "<range>"),
    },
  ];
}

/** A range for a new VPC, which no other one of the account overlaps. */
export function freeRange(others: Vpc[]): string | undefined {
  const candidates = Array.from({ length: 200 }, (_, i) => `10.${10 + i}.0.0/20`);
  return candidates.find((range) => others.every((vpc) => !overlap(range, vpc.ip_range)));
}

function haViolation(): Violation {
  const path = ["cluster", "ha"];
  const allowed = "true, as the cluster's highly available control plane cannot be switched off";
  return { key: keyName(path), given: show(false), allowed, command: setCommand(path, true) };
}

function sizeViolation(path: string[], size: string, known: string[]): Violation {
  const near = sortByDistance(size, known).slice(0, 4);
  const allowed = `a size that the account offers for Kubernetes, such as ${near.join(", ")}`;
  return { key: keyName(path), given: show(size), allowed, command: setCommand(path, near[0] ?? "s-2vcpu-4gb") };
}

const sortByDistance = (name: string, known: string[]) =>
  [...known].sort((a, b) => distance(a, name) - distance(b, name));

// ── the Kubernetes version ──────────────────────────────────────────────────────────────────────────────────────────

/**
 * A new cluster gets the newest patch of its minor. One that exists keeps its version, whatever has become of the list,
 * unless the configured minor is higher: patches come by auto-upgrade, and a lower version would replace the cluster.
 * @param offered version slugs on offer, such as `1.36.3-do.0`
 * @param own slug of the cluster, where it exists
 * @param upgrading whether an upgrade of it is under way, during which it still tells its old version
 */
export function planVersion(
  minor: string,
  offered: string[],
  own?: string,
  upgrading = false,
): VersionPlan | Violation {
  if (own !== undefined && upgrading) return { version: own, upgrade: false };
  const newest = offered
    .filter((slug) => minorOf(slug) === minor)
    .sort(byVersion)
    .at(-1);
  if (own !== undefined && byVersion(minor, minorOf(own)) <= 0) return { version: own, upgrade: false };
  if (own !== undefined && minor !== nextMinor(own)) {
    return versionViolation(
      minor,
      `at most ${nextMinor(own)}, as an upgrade moves one minor at a time`,
      nextMinor(own),
    );
  }
  if (newest !== undefined) return { version: newest, upgrade: own !== undefined };
  const minors = [...new Set([...offered].sort(byVersion).map(minorOf))].reverse();
  // A cluster that exists goes on with its own minor until the next one is offered.
  return versionViolation(
    minor,
    `on offer: ${minors.join(", ")}`,
    own === undefined ? (minors[0] ?? minor) : minorOf(own),
  );
}

function versionViolation(given: string, allowed: string, instead: string): Violation {
  const path = ["cluster", "version"];
  return { key: keyName(path), given: show(given), allowed, command: setCommand(path, instead) };
}

const isViolation = (plan: VersionPlan | Violation): plan is Violation => "allowed" in plan;
const numbers = (version: string) => (version.match(/\d+/g) ?? []).map(Number);
const minorOf = (slug: string) => numbers(slug).slice(0, 2).join(".");

function nextMinor(slug: string): string {
  const [major = 0, minor = 0] = numbers(slug);
  return `${major}.${minor + 1}`;
}

/** Orders slugs by all their numbers: 1.36.10-do.0 is newer than 1.36.9-do.3. */
function byVersion(one: string, other: string): number {
  const [a, b] = [numbers(one), numbers(other)];
  const differing = a.map((part, i) => part - (b[i] ?? 0)).find((difference) => difference !== 0);
  return differing ?? 0;
}

// ── the zone ────────────────────────────────────────────────────────────────────────────────────────────────────────

async function checkZone(domain: string, account: Account): Promise<Violation[]> {
  if (await account.has(`/v2/domains/${domain}`)) return [];
  const path = ["dns", "zone"];
  const allowed = `create, as the account has no zone ${domain}`;
  return [{ key: keyName(path), given: show("lookup"), allowed, command: setCommand(path, "create") }];
}

/** Zones outlive their stack unless `dns.deleteZone` says otherwise. */
function zoneViolation(domain: string): Violation {
  const path = ["dns", "zone"];
  const given = `"create", while the account has the zone ${domain} already`;
  return {
    key: keyName(path),
    given,
    allowed: "lookup, for a zone that is there",
    command: setCommand(path, "lookup"),
  };
}

/** A certificate is issued only where the world finds the zone at DigitalOcean's name servers. */
async function checkDelegation({ domain, tls, cluster }: Config, timeoutMs: number): Promise<Violation[]> {
  const isAws = cluster.provider === "aws";
  const resolver = new Resolver({ timeout: timeoutMs / 2, tries: 2 });
  if (tls.resolver) resolver.setServers([tls.resolver]);
  const found = await resolver.resolveNs(domain).catch((error: NodeJS.ErrnoException) => String(error.code));
  const unknown = typeof found === "string" && !/^(ENOTFOUND|ENODATA)$/.test(found);
  if (unknown) {
    await pulumi.log.warn(
      `Whether ${domain} is delegated to ${isAws ? "AWS" : "DigitalOcean"} cannot be looked up (${found}); without it, no certificate is issued.`,
    );
    return [];
  }
  const servers =
    typeof found === "string" ? [] : found.map((server) => server.toLowerCase().replace(/\.$/, "")).sort();
  // Each zone of Route 53 has four of its own, which only the zone tells.
  const isOurs = (server: string) =>
    isAws ? /^ns-\d+\.awsdns-\d+\.(com|net|org|co\.uk)$/.test(server) : NAME_SERVERS.includes(server);
  if (servers.length > 0 && servers.every(isOurs)) return [];
  const now = `is delegated to ${servers.length > 0 ? servers.join(", ") : "no name server"}`;
  return [
    {
      key: keyName(["tls", "enabled"]),
      given: `true, while ${domain} ${now}`,
      allowed: `true once the domain's registrar names ${isAws ? "those of the output nameServers" : NAME_SERVERS.join(", ")} as its name servers`,
      command: `${setCommand(["tls", "enabled"], false)}; dig +short NS ${domain}`,
    },
  ];
}

// ── the account ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** No answer of the account that says anything about the configuration. */
class AccountError extends Error {
  constructor(readonly violation: Violation) {
    super(violation.given);
  }
}

/** @throws what keeps the account from answering as a `ConfigurationError`, anything else as it is */
export function asViolation(error: unknown): never {
  throw error instanceof AccountError ? new ConfigurationError([error.violation]) : error;
}

/** Reads DigitalOcean's API. The two variables are those that DigitalOcean's own provider reads. */
export class Account {
  readonly #url: string;
  readonly #token: string;

  constructor(
    readonly env: NodeJS.ProcessEnv,
    readonly timeoutMs: number,
  ) {
    this.#url = env.DIGITALOCEAN_API_URL || "https://api.digitalocean.com";
    this.#token = env.DIGITALOCEAN_TOKEN ?? "";
  }

  async get<T>(path: string): Promise<T> {
    const response = await this.#ask(path);
    if (!response.ok) throw this.#refused(response.status, path);
    return (await response.json()) as T;
  }

  async has(path: string): Promise<boolean> {
    const response = await this.#ask(path);
    if (!response.ok && response.status !== 404) throw this.#refused(response.status, path);
    return response.ok;
  }

  /** Every page of a list. */
  async list<T>(path: string, key: string): Promise<T[]> {
    const items: T[] = [];
    for (let page = 1; ; page++) {
      const answer = await this.get<Record<string, T[]> & { links?: { pages?: { next?: string } } }>(
        `${path}?per_page=200&page=${page}`,
      );
      items.push(...(answer[key] ?? []));
      if (!answer.links?.pages?.next) return items;
    }
  }

  async #ask(path: string): Promise<Response> {
    const headers = { Authorization: `Bearer ${this.#token}` };
    return fetch(new URL(path, this.#url), { headers, signal: AbortSignal.timeout(this.timeoutMs) }).catch((error) => {
      throw this.#unreachable(error.cause?.code ?? error.cause?.message ?? error.message);
    });
  }

  #unreachable(reason: string): AccountError {
    return new AccountError({
      key: "DIGITALOCEAN_API_URL",
      given: `${this.#url}, which cannot be reached (${reason})`,
      allowed: "the address of DigitalOcean's API; without it https://api.digitalocean.com",
      command: this.env.DIGITALOCEAN_API_URL ? "unset DIGITALOCEAN_API_URL" : `curl --head ${this.#url}`,
    });
  }

  #refused(status: number, path: string): AccountError {
    const asked = `GET ${path.split("?")[0]} of ${this.#url}`;
    if (status === 401 || status === 403) {
      return new AccountError({
        key: "DIGITALOCEAN_TOKEN",
        given: `a token that ${asked} answers with ${status}`,
        allowed:
          status === 401 ? "a token of the account that has not expired" : "a token whose scopes allow this call",
        command: "export DIGITALOCEAN_TOKEN=<token>",
      });
    }
    return new AccountError({
      key: "DIGITALOCEAN_API_URL",
      given: `${this.#url}, which answers ${asked.split(" of ")[0]} with ${status}`,
      allowed: "the address of DigitalOcean's API; one that is overloaded may answer a minute later",
      command: `curl --include ${this.#url}/v2/kubernetes/options`,
    });
  }
}
