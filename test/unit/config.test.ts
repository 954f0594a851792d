import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { ConfigurationError, overlap, readConfig, secretKeys } from "../../config";
import { configurationReference } from "../../scripts/configurationReference";
import type { Violation } from "../../violations";
import { unwrap } from "./graph";

// biome-ignore lint/suspicious/noExplicitAny: configurations that break the schema have no type
type Settings = Record<string, any>;

const image = `docker.io/acme/hobnob-backend@sha256:${"a".repeat(64)}`;
const workers = { size: "s-4vcpu-8gb", minCount: 4, maxCount: 6 };
const existing = { provider: "existing", context: "kind-test", nodes: 3, storageProvisioner: "rancher.io/local-path" };

/** The least that a stack must say. */
const least = (): Settings => ({
  domain: "example.com",
  cluster: { region: "fra1", systemPool: { size: "s-2vcpu-4gb", count: 3 } },
  registry: { repository: "acme/hobnob-backend", username: "acme" },
  registryPassword: "push-token",
});

let directory: string;
let env: NodeJS.ProcessEnv;

const startStack = (stack: string) =>
  pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) }, "hobnob", stack);

/** As the engine hands it over: objects as JSON, secrets by name. */
function read(settings: Settings, secrets: string[] = [...secretKeys]) {
  const values = Object.entries(settings).filter(([, value]) => value !== undefined);
  pulumi.runtime.setAllConfig(
    Object.fromEntries(
      values.map(([key, value]) => [`hobnob:${key}`, typeof value === "string" ? value : JSON.stringify(value)]),
    ),
    secrets.map((key) => `hobnob:${key}`),
  );
  return readConfig(env);
}

function violations(settings: Settings, secrets?: string[]): Violation[] {
  try {
    read(settings, secrets);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigurationError, String(error));
    return error.violations;
  }
}

type Wrong = [string, (c: Settings) => void, string, string, string, string];

/** One key or rule broken at a time: title, what is broken, and the violation's key, given, allowed and command. */
const wrong: Wrong[] = [
  [
    "a missing domain",
    (c) => {
      c.domain = undefined;
    },
    "hobnob:domain",
    "nothing",
    "a domain name in lower case, e.g. example.com",
    "pulumi config set 'hobnob:domain' example.com",
  ],
  [
    "a domain that is none",
    (c) => {
      c.domain = "Example_com";
    },
    "hobnob:domain",
    '"Example_com"',
    "a domain name in lower case, e.g. example.com",
    "pulumi config set 'hobnob:domain' example.com",
  ],
  [
    "a domain of one label",
    (c) => {
      c.domain = "localhost";
    },
    "hobnob:domain",
    '"localhost"',
    "a domain name in lower case, e.g. example.com",
    "pulumi config set 'hobnob:domain' example.com",
  ],
  [
    "an unknown key beside a known one",
    (c) => {
      c.cluster.regoin = "fra1";
    },
    "hobnob:cluster.regoin",
    '"fra1"',
    "no such key; did you mean hobnob:cluster.region?",
    "pulumi config rm --path 'hobnob:cluster.regoin'",
  ],
  [
    "an unknown key that belongs to a section",
    (c) => {
      c.replcas = 3;
    },
    "hobnob:replcas",
    "3",
    "no such key; did you mean hobnob:elasticsearch.replicas?",
    "pulumi config rm 'hobnob:replcas'",
  ],
  [
    "an unknown key that resembles none",
    (c) => {
      c.storage = { colour: "blue" };
    },
    "hobnob:storage.colour",
    '"blue"',
    "no such key; known are className, fsType",
    "pulumi config rm --path 'hobnob:storage.colour'",
  ],
  [
    "a key of the other kind of cluster",
    (c) => {
      c.cluster.context = "minikube";
    },
    "hobnob:cluster.context",
    '"minikube"',
    "no such key with this cluster.provider",
    "pulumi config rm --path 'hobnob:cluster.context'",
  ],
  [
    "a section that is no object",
    (c) => {
      c.api = "three";
    },
    "hobnob:api",
    '"three" (text)',
    "an object with the keys image, replicas, memory, cpu, autoscaling, requestsPerSecond, logLevel",
    "pulumi config rm 'hobnob:api'",
  ],
  [
    "text where a number is meant",
    (c) => {
      c.api = { replicas: "three" };
    },
    "hobnob:api.replicas",
    '"three" (text)',
    "a whole number from 1 to 1000",
    "pulumi config set --path 'hobnob:api.replicas' 3",
  ],
  [
    "a number where text is meant",
    (c) => {
      c.cluster.version = 1.36;
    },
    "hobnob:cluster.version",
    "1.36 (a number)",
    'a minor version in quotes, e.g. "1.36"',
    "pulumi config set --path 'hobnob:cluster.version' 1.36",
  ],
  [
    "text where a flag is meant",
    (c) => {
      c.cluster.ha = "yes";
    },
    "hobnob:cluster.ha",
    '"yes" (text)',
    "true or false",
    "pulumi config set --path 'hobnob:cluster.ha' true",
  ],
  [
    "a list where an object is meant",
    (c) => {
      c.cluster.systemPool = [3];
    },
    "hobnob:cluster.systemPool",
    "[3] (a list)",
    "an object with size and count, or size, minCount and maxCount",
    "pulumi config rm --path 'hobnob:cluster.systemPool'",
  ],
  [
    "an object where a list is meant",
    (c) => {
      c.cluster.allowedAddresses = {};
    },
    "hobnob:cluster.allowedAddresses",
    "{} (an object)",
    "a list of IP addresses or ranges",
    "pulumi config rm --path 'hobnob:cluster.allowedAddresses'",
  ],
  [
    "an unknown provider",
    (c) => {
      c.cluster.provider = "google";
    },
    "hobnob:cluster.provider",
    '"google"',
    "digitalocean, aws, existing",
    "pulumi config rm --path 'hobnob:cluster.provider'",
  ],
  [
    "a class whose controller's namespace could have no name",
    (c) => {
      c.ingress = { className: "n".repeat(50) };
    },
    "hobnob:ingress.className",
    `"${"n".repeat(50)}"`,
    'at most 49 lower-case letters, digits and "-", e.g. nginx',
    "pulumi config set --path 'hobnob:ingress.className' nginx",
  ],
  [
    "a provider by a name that every object has",
    (c) => {
      c.cluster.provider = "constructor";
    },
    "hobnob:cluster.provider",
    '"constructor"',
    "digitalocean, aws, existing",
    "pulumi config rm --path 'hobnob:cluster.provider'",
  ],
  [
    "a provider that can't be a text",
    (c) => {
      c.cluster.provider = { toString: { polluted: true } };
    },
    "hobnob:cluster.provider",
    '{"toString":{"polluted":true}}',
    "digitalocean, aws, existing",
    "pulumi config rm --path 'hobnob:cluster.provider'",
  ],
  [
    "a cluster's name that is none",
    (c) => {
      c.cluster.name = "Hobnob Dev";
    },
    "hobnob:cluster.name",
    '"Hobnob Dev"',
    'lower-case letters, digits and "-", e.g. hobnob-dev',
    "pulumi config set --path 'hobnob:cluster.name' hobnob-dev",
  ],
  [
    "a missing region",
    (c) => {
      c.cluster.region = undefined;
    },
    "hobnob:cluster.region",
    "nothing",
    "a DigitalOcean region, e.g. fra1",
    "pulumi config set --path 'hobnob:cluster.region' fra1",
  ],
  [
    "a region that is none",
    (c) => {
      c.cluster.region = "Frankfurt";
    },
    "hobnob:cluster.region",
    '"Frankfurt"',
    "a DigitalOcean region, e.g. fra1",
    "pulumi config set --path 'hobnob:cluster.region' fra1",
  ],
  [
    "a patch version",
    (c) => {
      c.cluster.version = "1.36.3";
    },
    "hobnob:cluster.version",
    '"1.36.3"',
    'a minor version in quotes, e.g. "1.36"',
    "pulumi config set --path 'hobnob:cluster.version' 1.36",
  ],
  [
    "a generation of passwords that is none",
    (c) => {
      c.elasticsearch = { passwordGenerations: ["one"] };
    },
    "hobnob:elasticsearch.passwordGenerations[0]",
    '"one" (text)',
    "a whole number from 1 to 1000000",
    "pulumi config set --path 'hobnob:elasticsearch.passwordGenerations[0]' 1",
  ],
  ...[[], [2, 2], [1, 2, 3]].map(
    (generations): Wrong => [
      `generations of passwords that are ${JSON.stringify(generations)}`,
      (c) => {
        c.elasticsearch = { passwordGenerations: generations };
      },
      `hobnob:elasticsearch.passwordGenerations`,
      JSON.stringify(generations),
      "one whole number, or two different ones, e.g. [1] or [1, 2]",
      "pulumi config rm --path 'hobnob:elasticsearch.passwordGenerations'",
    ],
  ),
  [
    "an unknown day",
    (c) => {
      c.cluster.maintenance = { day: "someday" };
    },
    "hobnob:cluster.maintenance.day",
    '"someday"',
    "monday, tuesday, wednesday, thursday, friday, saturday, sunday, any",
    "pulumi config set --path 'hobnob:cluster.maintenance.day' sunday",
  ],
  [
    "an unknown time",
    (c) => {
      c.cluster.maintenance = { startTime: "24:00" };
    },
    "hobnob:cluster.maintenance.startTime",
    '"24:00"',
    'a time in quotes, e.g. "04:00"',
    "pulumi config set --path 'hobnob:cluster.maintenance.startTime' 04:00",
  ],
  [
    "a public VPC range",
    (c) => {
      c.cluster.vpcCidr = "8.8.0.0/20";
    },
    "hobnob:cluster.vpcCidr",
    '"8.8.0.0/20"',
    "a private IPv4 range from /16 to /28 outside 10.229.0.0/16, 10.244.0.0/16, 10.245.0.0/16 and 10.246.0.0/24",
    "pulumi config set --path 'hobnob:cluster.vpcCidr' 10.10.0.0/20",
  ],
  [
    "a VPC range that DigitalOcean keeps",
    (c) => {
      c.cluster.vpcCidr = "10.244.16.0/20";
    },
    "hobnob:cluster.vpcCidr",
    '"10.244.16.0/20"',
    "a private IPv4 range from /16 to /28 outside 10.229.0.0/16, 10.244.0.0/16, 10.245.0.0/16 and 10.246.0.0/24",
    "pulumi config set --path 'hobnob:cluster.vpcCidr' 10.10.0.0/20",
  ],
  [
    "a VPC range that is too large",
    (c) => {
      c.cluster.vpcCidr = "10.0.0.0/8";
    },
    "hobnob:cluster.vpcCidr",
    '"10.0.0.0/8"',
    "a private IPv4 range from /16 to /28 outside 10.229.0.0/16, 10.244.0.0/16, 10.245.0.0/16 and 10.246.0.0/24",
    "pulumi config set --path 'hobnob:cluster.vpcCidr' 10.10.0.0/20",
  ],
  [
    "an address that is none",
    (c) => {
      c.cluster.allowedAddresses = ["203.0.113.7", "office"];
    },
    "hobnob:cluster.allowedAddresses[1]",
    '"office"',
    "an IP address or range, e.g. 203.0.113.7 or 203.0.113.0/24",
    "pulumi config set --path 'hobnob:cluster.allowedAddresses[1]' 203.0.113.7",
  ],
  [
    "a missing system pool",
    (c) => {
      c.cluster.systemPool = undefined;
    },
    "hobnob:cluster.systemPool",
    "nothing",
    "an object with size and count, or size, minCount and maxCount",
    "pulumi config set --path 'hobnob:cluster.systemPool.size' s-2vcpu-4gb",
  ],
  [
    "a size that is none",
    (c) => {
      c.cluster.systemPool.size = "Big One";
    },
    "hobnob:cluster.systemPool.size",
    '"Big One"',
    "a Droplet size, e.g. s-2vcpu-4gb",
    "pulumi config set --path 'hobnob:cluster.systemPool.size' s-2vcpu-4gb",
  ],
  [
    "a pool of no nodes",
    (c) => {
      c.cluster.systemPool.count = 0;
    },
    "hobnob:cluster.systemPool.count",
    "0",
    "a whole number from 1 to 1000",
    "pulumi config set --path 'hobnob:cluster.systemPool.count' 3",
  ],
  [
    "a pool's name that is none",
    (c) => {
      c.cluster.workerPools = { "Big Ones": workers };
    },
    'hobnob:cluster.workerPools["Big Ones"]',
    '"Big Ones"',
    'lower-case letters, digits and "-", e.g. workers',
    `pulumi config rm --path 'hobnob:cluster.workerPools["Big Ones"]'`,
  ],
  [
    "an unknown taint effect",
    (c) => {
      c.cluster.workerPools = { workers, search: { ...workers, taints: [{ key: "a", effect: "Never" }] } };
    },
    "hobnob:cluster.workerPools.search.taints[0].effect",
    '"Never"',
    "NoSchedule, PreferNoSchedule, NoExecute",
    "pulumi config set --path 'hobnob:cluster.workerPools.search.taints[0].effect' NoSchedule",
  ],
  [
    "an unknown filesystem",
    (c) => {
      c.storage = { fsType: "zfs" };
    },
    "hobnob:storage.fsType",
    '"zfs"',
    "ext4, xfs",
    "pulumi config set --path 'hobnob:storage.fsType' ext4",
  ],
  [
    "a registry with a scheme",
    (c) => {
      c.registry.server = "https://docker.io";
    },
    "hobnob:registry.server",
    '"https://docker.io"',
    "a host name, with a port where it needs one, e.g. docker.io",
    "pulumi config set --path 'hobnob:registry.server' docker.io",
  ],
  [
    "a repository with a tag",
    (c) => {
      c.registry.repository = "acme/backend:latest";
    },
    "hobnob:registry.repository",
    '"acme/backend:latest"',
    "a repository without host and tag, e.g. acme/hobnob-backend",
    "pulumi config set --path 'hobnob:registry.repository' acme/hobnob-backend",
  ],
  [
    "two Elasticsearch nodes",
    (c) => {
      c.elasticsearch = { replicas: 2 };
    },
    "hobnob:elasticsearch.replicas",
    "2",
    "1, or a whole number from 3 to 100: of two nodes each would need the other to elect a master",
    "pulumi config set --path 'hobnob:elasticsearch.replicas' 3",
  ],
  [
    "an unreadable quantity",
    (c) => {
      c.elasticsearch = { memory: "1GB" };
    },
    "hobnob:elasticsearch.memory",
    '"1GB"',
    "a Kubernetes quantity from 512Mi to 1Ti, e.g. 1Gi",
    "pulumi config set --path 'hobnob:elasticsearch.memory' 1Gi",
  ],
  [
    "too little memory for Elasticsearch",
    (c) => {
      c.elasticsearch = { memory: "256Mi" };
    },
    "hobnob:elasticsearch.memory",
    '"256Mi"',
    "a Kubernetes quantity from 512Mi to 1Ti, e.g. 1Gi",
    "pulumi config set --path 'hobnob:elasticsearch.memory' 1Gi",
  ],
  [
    "an image by version, which the nodes would pull",
    (c) => {
      c.api = { image: "docker.io/acme/backend:1.0.0" };
    },
    "hobnob:api.image",
    '"docker.io/acme/backend:1.0.0"',
    "repository@sha256:<64 hexadecimal digits>; by version only on an existing cluster, where it was loaded",
    "pulumi config rm --path 'hobnob:api.image'",
  ],
  [
    "an image by a tag that moves",
    (c) => {
      c.api = { image: "docker.io/acme/backend:latest" };
    },
    "hobnob:api.image",
    '"docker.io/acme/backend:latest"',
    "repository@sha256:<64 hexadecimal digits>",
    "pulumi config rm --path 'hobnob:api.image'",
  ],
  [
    "an unknown log level",
    (c) => {
      c.api = { logLevel: "verbose" };
    },
    "hobnob:api.logLevel",
    '"verbose"',
    "fatal, error, warn, info, debug, trace",
    "pulumi config set --path 'hobnob:api.logLevel' info",
  ],
  [
    "a rate limit of nothing",
    (c) => {
      c.ingress = { rateLimit: { requestsPerSecond: 0, burst: 40 } };
    },
    "hobnob:ingress.rateLimit.requestsPerSecond",
    "0",
    "a whole number from 1 to 1000000",
    "pulumi config set --path 'hobnob:ingress.rateLimit.requestsPerSecond' 20",
  ],
  [
    "a rate limit without a burst",
    (c) => {
      c.ingress = { rateLimit: { requestsPerSecond: 20 } };
    },
    "hobnob:ingress.rateLimit.burst",
    "nothing",
    "a whole number from 1 to 1000000",
    "pulumi config set --path 'hobnob:ingress.rateLimit.burst' 40",
  ],
  [
    "a body size that NGINX does not read",
    (c) => {
      c.ingress = { maxBodySize: "1MiB" };
    },
    "hobnob:ingress.maxBodySize",
    '"1MiB"',
    "a size as NGINX writes it, e.g. 1m",
    "pulumi config set --path 'hobnob:ingress.maxBodySize' 1m",
  ],
  [
    "more balancer nodes than there may be",
    (c) => {
      c.ingress = { sizeUnit: 201 };
    },
    "hobnob:ingress.sizeUnit",
    "201",
    "a whole number from 1 to 200",
    "pulumi config set --path 'hobnob:ingress.sizeUnit' 1",
  ],
  [
    "an unknown way to expose",
    (c) => {
      c.ingress = { expose: "HostNetwork" };
    },
    "hobnob:ingress.expose",
    '"HostNetwork"',
    "LoadBalancer, NodePort, HostPort",
    "pulumi config set --path 'hobnob:ingress.expose' LoadBalancer",
  ],
  [
    "a TTL that is too short",
    (c) => {
      c.dns = { ttl: 10 };
    },
    "hobnob:dns.ttl",
    "10",
    "a whole number from 30 to 86400",
    "pulumi config set --path 'hobnob:dns.ttl' 300",
  ],
  [
    "an unknown record type",
    (c) => {
      c.dns = { records: [{ name: "www", type: "PTR", value: "x" }] };
    },
    "hobnob:dns.records[0].type",
    '"PTR"',
    "A, AAAA, CAA, CNAME, MX, NS, SRV, TXT",
    "pulumi config set --path 'hobnob:dns.records[0].type' A",
  ],
  [
    "a resolver by name",
    (c) => {
      c.tls = { resolver: "dns.example.com" };
    },
    "hobnob:tls.resolver",
    '"dns.example.com"',
    "an IP address, with a port where it needs one, e.g. 127.0.0.1:5353",
    "pulumi config set --path 'hobnob:tls.resolver' 1.1.1.1",
  ],
  [
    "a host that is none",
    (c) => {
      c.tls = { hosts: ["shop example"] };
    },
    "hobnob:tls.hosts[0]",
    '"shop example"',
    "a name under the domain, e.g. shop.example.com",
    "pulumi config set --path 'hobnob:tls.hosts[0]' shop.example.com",
  ],
  [
    "deletion of what belongs to a protected cluster",
    (c) => {
      Object.assign(c.cluster, { protect: true, destroyAllAssociatedResources: true });
    },
    "hobnob:cluster.destroyAllAssociatedResources",
    "true",
    "false while cluster.protect is true",
    "pulumi config set --path 'hobnob:cluster.destroyAllAssociatedResources' false",
  ],
  [
    "deletion of the zone of a protected cluster",
    (c) => {
      c.cluster.protect = true;
      c.dns = { deleteZone: true };
    },
    "hobnob:dns.deleteZone",
    "true",
    "false while cluster.protect is true",
    "pulumi config set --path 'hobnob:dns.deleteZone' false",
  ],
  [
    "a pool of a fixed and a scaled size",
    (c) => {
      Object.assign(c.cluster.systemPool, { minCount: 3, maxCount: 5 });
    },
    "hobnob:cluster.systemPool.count",
    "3 beside minCount 3 and maxCount 5",
    "either count, or both minCount and maxCount",
    "pulumi config rm --path 'hobnob:cluster.systemPool.count'",
  ],
  [
    "a pool without a number of nodes",
    (c) => {
      c.cluster.systemPool.count = undefined;
    },
    "hobnob:cluster.systemPool.count",
    "nothing",
    "either count, or both minCount and maxCount",
    "pulumi config set --path 'hobnob:cluster.systemPool.count' 3",
  ],
  [
    "a scaled pool without a maximum",
    (c) => {
      c.cluster.workerPools = { workers: { ...workers, maxCount: undefined } };
    },
    "hobnob:cluster.workerPools.workers.maxCount",
    "nothing",
    "either count, or both minCount and maxCount",
    "pulumi config set --path 'hobnob:cluster.workerPools.workers.maxCount' 4",
  ],
  [
    "a scaled pool without a minimum",
    (c) => {
      c.cluster.workerPools = { workers: { ...workers, minCount: undefined } };
    },
    "hobnob:cluster.workerPools.workers.minCount",
    "nothing",
    "either count, or both minCount and maxCount",
    "pulumi config set --path 'hobnob:cluster.workerPools.workers.minCount' 6",
  ],
  [
    "a scaled pool whose least is its most and more",
    (c) => {
      c.cluster.workerPools = { workers: { ...workers, minCount: 7 } };
    },
    "hobnob:cluster.workerPools.workers.minCount",
    "7",
    "at most maxCount, which is 6",
    "pulumi config set --path 'hobnob:cluster.workerPools.workers.minCount' 6",
  ],
  [
    "worker pools that all have taints",
    (c) => {
      c.cluster.workerPools = { search: { ...workers, taints: [{ key: "a", effect: "NoSchedule" }] } };
    },
    "hobnob:cluster.workerPools",
    "pools with taints only",
    "at least one pool without taints, for the platform's own pods",
    "pulumi config set --path 'hobnob:cluster.workerPools.workers.size' s-4vcpu-8gb",
  ],
  [
    "namespaces that are served where all are",
    (c) => {
      c.ingress = { namespaces: ["shop"] };
    },
    "hobnob:ingress.namespaces",
    '["shop"]',
    "nothing while ingress.secretNamespaces is empty: then every namespace is served",
    "pulumi config rm --path 'hobnob:ingress.namespaces'",
  ],
  [
    "a storage class that DigitalOcean has",
    (c) => {
      c.storage = { className: "do-block-storage-retain" };
    },
    "hobnob:storage.className",
    '"do-block-storage-retain"',
    "a name that DigitalOcean's own storage classes do not have, e.g. hobnob-block-storage",
    "pulumi config set --path 'hobnob:storage.className' hobnob-block-storage",
  ],
  [
    "more Elasticsearch nodes than nodes",
    (c) => {
      c.elasticsearch = { replicas: 5 };
    },
    "hobnob:elasticsearch.replicas",
    "5",
    "at most 3, one for each node that takes workloads (pools count by their least size)",
    "pulumi config set --path 'hobnob:elasticsearch.replicas' 3",
  ],
  [
    "more Elasticsearch nodes than nodes of an existing cluster",
    (c) => {
      c.cluster = { ...existing, nodes: 2 };
    },
    "hobnob:elasticsearch.replicas",
    "3",
    "at most 2, one for each node that takes workloads (pools count by their least size)",
    "pulumi config set --path 'hobnob:elasticsearch.replicas' 1",
  ],
  [
    "more host ports than nodes",
    (c) => {
      c.ingress = { expose: "HostPort", replicas: 4 };
      c.dns = { zone: "none" };
    },
    "hobnob:ingress.replicas",
    "4",
    "at most 3 while ingress.expose is HostPort, one for each node that takes workloads",
    "pulumi config set --path 'hobnob:ingress.replicas' 3",
  ],
  [
    "API pods whose least is more than their most",
    (c) => {
      c.api = { autoscaling: { minReplicas: 3, maxReplicas: 2 } };
    },
    "hobnob:api.autoscaling.minReplicas",
    "3",
    "at most api.autoscaling.maxReplicas, which is 2",
    "pulumi config set --path 'hobnob:api.autoscaling.minReplicas' 2",
  ],
  [
    "a quota that a rollout of the platform's own pods could reach",
    (c) => {
      c.quota = { cpu: "4", memory: "8Gi", pods: 8 };
    },
    "hobnob:quota.pods",
    "8",
    "at least 9 (elasticsearch 3, backend 6, the API's twice: in a rollout or a drain old pods end beside new ones)",
    "pulumi config set --path 'hobnob:quota.pods' 9",
  ],
  [
    "an image to build without a repository",
    (c) => {
      c.registry.repository = undefined;
    },
    "hobnob:registry.repository",
    "nothing",
    "a repository without host and tag, as no api.image is given and one is built",
    "pulumi config set --path 'hobnob:registry.repository' acme/hobnob-backend",
  ],
  [
    "an image to build without a user",
    (c) => {
      c.registry.username = undefined;
    },
    "hobnob:registry.username",
    "nothing",
    "a user of the registry, as no api.image is given and one is built",
    "pulumi config set --path 'hobnob:registry.username' acme",
  ],
  [
    "an image to build without a password",
    (c) => {
      c.registryPassword = undefined;
    },
    "hobnob:registryPassword",
    "nothing",
    "a secret, set with --secret (the command asks for its value)",
    "pulumi config set --secret hobnob:registryPassword",
  ],
  [
    "snapshots without the access key of their store",
    (c) => {
      c.elasticsearch = { snapshots: { bucket: "acme-snapshots", region: "ams3" } };
      c.snapshotsSecretKey = "hidden";
    },
    "hobnob:snapshotsAccessKey",
    "nothing",
    "a secret, set with --secret (the command asks for its value)",
    "pulumi config set --secret hobnob:snapshotsAccessKey",
  ],
  [
    "a private image without a password",
    (c) => {
      c.api = { image };
      c.registryPassword = undefined;
    },
    "hobnob:registryPullPassword",
    "nothing",
    "a secret, set with --secret (the command asks for its value)",
    "pulumi config set --secret hobnob:registryPullPassword",
  ],
  [
    "a private image without a user",
    (c) => {
      c.api = { image };
      c.registry.username = undefined;
    },
    "hobnob:registry.username",
    "nothing",
    "a user of the registry, as registry.private is true",
    "pulumi config set --path 'hobnob:registry.username' acme",
  ],
  [
    "a private image of another registry",
    (c) => {
      c.api = { image: image.replace("docker.io", "registry.example.com:5000") };
    },
    "hobnob:registry.server",
    '"docker.io"',
    "registry.example.com:5000, the registry of api.image, as registry.private is true",
    "pulumi config set --path 'hobnob:registry.server' registry.example.com:5000",
  ],
  [
    "records of what has no balancer",
    (c) => {
      c.ingress = { expose: "NodePort" };
    },
    "hobnob:dns.zone",
    '"create"',
    "none while ingress.expose is NodePort: only a balancer has an address for the records",
    "pulumi config set --path 'hobnob:dns.zone' none",
  ],
  [
    "TLS without a zone",
    (c) => {
      c.dns = { zone: "none" };
      c.tls = { enabled: true };
    },
    "hobnob:dns.zone",
    '"none"',
    "create or lookup while tls.enabled is true: the certificate's names are proved by the zone",
    "pulumi config set --path 'hobnob:dns.zone' create",
  ],
  [
    "TLS without a cloud's balancer",
    (c) => {
      c.cluster = existing;
      c.tls = { enabled: true };
    },
    "hobnob:tls.enabled",
    "true",
    "false unless cluster.provider is digitalocean or aws and ingress.expose is LoadBalancer: its balancer ends TLS",
    "pulumi config set --path 'hobnob:tls.enabled' false",
  ],
  [
    "a certificate for a foreign host",
    (c) => {
      c.tls = { hosts: ["shop.example.com", "shop.example.org"] };
    },
    "hobnob:tls.hosts[1]",
    '"shop.example.org"',
    "a name under example.com",
    "pulumi config rm --path 'hobnob:tls.hosts[1]'",
  ],
  [
    "a closed control plane that may lock this machine out",
    (c) => {
      c.cluster.allowedAddresses = ["203.0.113.7"];
    },
    "hobnob:cluster.allowedAddressesIncludeThisMachine",
    'false, while cluster.allowedAddresses closes the control plane to all but ["203.0.113.7"]',
    "true, once the address from which this machine is seen is among them, or no later run reaches the cluster",
    "pulumi config set --path 'hobnob:cluster.allowedAddressesIncludeThisMachine' true",
  ],
  [
    "an A record without an IPv4 address",
    (c) => {
      c.dns = { records: [{ name: "www", type: "A", value: "2001:db8::7" }] };
    },
    "hobnob:dns.records[0].value",
    '"2001:db8::7"',
    "an IPv4 address, as the record's type is A",
    "pulumi config set --path 'hobnob:dns.records[0].value' 203.0.113.7",
  ],
  [
    "an AAAA record without an IPv6 address",
    (c) => {
      c.dns = { records: [{ name: "www", type: "AAAA", value: "203.0.113.7" }] };
    },
    "hobnob:dns.records[0].value",
    '"203.0.113.7"',
    "an IPv6 address, as the record's type is AAAA",
    "pulumi config set --path 'hobnob:dns.records[0].value' 2001:db8::7",
  ],
  [
    "a relative target",
    (c) => {
      c.dns = { records: [{ name: "www", type: "CNAME", value: "example.net" }] };
    },
    "hobnob:dns.records[0].value",
    '"example.net"',
    "a host name that ends with a dot, as the record's type is CNAME",
    "pulumi config set --path 'hobnob:dns.records[0].value' example.net.",
  ],
  [
    "a record in the platform's own place",
    (c) => {
      c.dns = { records: [{ name: "api", type: "CNAME", value: "example.net." }] };
    },
    "hobnob:dns.records[0].name",
    '"api"',
    "a name other than api and docs, whose addresses are the balancer's",
    "pulumi config rm --path 'hobnob:dns.records[0]'",
  ],
  [
    "a mail record without a priority",
    (c) => {
      c.dns = { records: [{ name: "@", type: "MX", value: "mail.example.com." }] };
    },
    "hobnob:dns.records[0].priority",
    "nothing",
    "a value, as the record's type is MX",
    "pulumi config set --path 'hobnob:dns.records[0].priority' 0",
  ],
  [
    "an authority record without its tag",
    (c) => {
      c.dns = { records: [{ name: "@", type: "CAA", value: "letsencrypt.org.", flags: 0 }] };
    },
    "hobnob:dns.records[0].tag",
    "nothing",
    "a value, as the record's type is CAA",
    "pulumi config set --path 'hobnob:dns.records[0].tag' issue",
  ],
  [
    "an unknown context",
    (c) => {
      c.cluster = { ...existing, context: "minikub" };
    },
    "hobnob:cluster.context",
    '"minikub"',
    "one of kind-test, minikube",
    "pulumi config set --path 'hobnob:cluster.context' kind-test",
  ],
];

describe("config", () => {
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "hobnob-config-"));
    writeFileSync(join(directory, "kubeconfig"), "contexts: [{name: kind-test}, {name: minikube}]\n");
  });
  after(() => rmSync(directory, { recursive: true }));
  beforeEach(() => {
    env = { DIGITALOCEAN_TOKEN: "token", KUBECONFIG: join(directory, "kubeconfig") };
    return startStack("dev");
  });
  describe("configuration", () => {
    for (const [title, edit, key, given, allowed, command] of wrong) {
      it(`must refuse ${title}`, () => {
        const settings = least();
        edit(settings);
        assert.deepEqual(violations(settings), [{ key, given, allowed, command: `${command} --stack dev` }]);
      });
    }

    it("must list all violations at once, of keys and of the rules between them, in one message", () => {
      const settings = least();
      settings.domain = "example";
      settings.cluster = {
        ragion: "fra1",
        protect: true,
        destroyAllAssociatedResources: true,
        systemPool: { count: "many" },
      };
      settings.registry.username = undefined;
      env.DIGITALOCEAN_TOKEN = "";
      assert.throws(() => read(settings, []), {
        name: "ConfigurationError",
        message: `The configuration of the stack dev has 9 violations:

  hobnob:domain
    given:   "example"
    allowed: a domain name in lower case, e.g. example.com
    command: pulumi config set 'hobnob:domain' example.com --stack dev

  hobnob:cluster.region
    given:   nothing
    allowed: a DigitalOcean region, e.g. fra1
    command: pulumi config set --path 'hobnob:cluster.region' fra1 --stack dev

  hobnob:cluster.systemPool.size
    given:   nothing
    allowed: a Droplet size, e.g. s-2vcpu-4gb
    command: pulumi config set --path 'hobnob:cluster.systemPool.size' s-2vcpu-4gb --stack dev

  hobnob:cluster.systemPool.count
    given:   "many" (text)
    allowed: a whole number from 1 to 1000
    command: pulumi config set --path 'hobnob:cluster.systemPool.count' 3 --stack dev

  hobnob:cluster.ragion
    given:   "fra1"
    allowed: no such key; did you mean hobnob:cluster.region?
    command: pulumi config rm --path 'hobnob:cluster.ragion' --stack dev

  hobnob:registryPassword
    given:   a value in plain text
    allowed: a secret, set with --secret (the command asks for its value)
    command: pulumi config set --secret hobnob:registryPassword --stack dev

  hobnob:cluster.destroyAllAssociatedResources
    given:   true
    allowed: false while cluster.protect is true
    command: pulumi config set --path 'hobnob:cluster.destroyAllAssociatedResources' false --stack dev

  hobnob:registry.username
    given:   nothing
    allowed: a user of the registry, as no api.image is given and one is built
    command: pulumi config set --path 'hobnob:registry.username' acme --stack dev

  DIGITALOCEAN_TOKEN
    given:   nothing
    allowed: an API token of the DigitalOcean account that has the cluster, in the environment
    command: export DIGITALOCEAN_TOKEN=<token>
`,
      });
    });

    it("must reach the user without a stack trace, as the engine's host shows a RunError", () => {
      assert.ok(pulumi.RunError.isInstance(new ConfigurationError([])));
    });

    it("must name what an empty stack lacks, and nothing that has a default", () => {
      const keys = violations({}).map(({ key }) => key);
      assert.deepEqual(keys, [
        "hobnob:domain",
        "hobnob:cluster.region",
        "hobnob:cluster.systemPool",
        "hobnob:registry.repository",
        "hobnob:registry.username",
        "hobnob:registryPassword",
      ]);
    });

    it("must not judge a rule that reads what is wrong by itself", () => {
      const settings = least();
      settings.domain = "example";
      settings.tls = { hosts: ["shop.example.org"] };
      assert.deepEqual(
        violations(settings).map(({ key }) => key),
        ["hobnob:domain"],
      );
    });

    it("must ignore other namespaces, which belong to providers and to the engine", () => {
      read(least());
      const all = { ...pulumi.runtime.allConfig(), "digitalocean:token": "x", "pulumi:autonaming": "{}", domain: "x" };
      pulumi.runtime.setAllConfig(all, ["hobnob:registryPassword"]);
      assert.equal(readConfig(env).domain, "example.com");
    });

    it("must take as text what `pulumi config set --path` writes as a number or a flag", () => {
      const settings = least();
      settings.registry.username = 12345;
      settings.elasticsearch = { cpu: 1 };
      settings.cluster.workerPools = { workers: { ...workers, labels: { spot: false } } };
      const config = read(settings);
      assert.equal(config.elasticsearch.cpu, "1");
      assert.equal(config.pull?.username, "12345");
      assert.ok(config.cluster.provider === "digitalocean");
      assert.deepEqual(config.cluster.workerPools.workers?.labels, { spot: "false" });
    });

    it("must take a number or a flag in quotes, which `pulumi config set` keeps", () => {
      const settings = least();
      settings.cluster.systemPool.count = "4";
      settings.cluster.ha = "true";
      settings.elasticsearch = { replicas: "1" };
      const { cluster, elasticsearch } = read(settings);
      assert.ok(cluster.provider === "digitalocean");
      assert.deepEqual([cluster.systemPool.count, cluster.ha, elasticsearch.replicas], [4, true, 1]);
    });

    it("must fill in exactly these defaults", () => {
      const { image: _image, pull: _pull, ...config } = read(least());
      assert.deepEqual(config, {
        domain: "example.com",
        cluster: {
          provider: "digitalocean",
          name: "hobnob-dev",
          region: "fra1",
          version: "1.36",
          ha: false,
          autoUpgrade: true,
          surgeUpgrade: true,
          maintenance: { day: "sunday", startTime: "04:00" },
          vpcCidr: "10.10.0.0/20",
          allowedAddresses: [],
          allowedAddressesIncludeThisMachine: false,
          destroyAllAssociatedResources: false,
          protect: false,
          systemPool: { size: "s-2vcpu-4gb", count: 3 },
          workerPools: {},
        },
        storage: { className: "hobnob-block-storage", fsType: "ext4" },
        elasticsearch: {
          ...{ replicas: 3, memory: "1Gi", cpu: "250m", diskSize: "10Gi", mmap: false },
          ...{ security: false, passwordGenerations: [1], clientNamespaces: [] },
        },
        api: { replicas: 3, memory: "192Mi", cpu: "100m", requestsPerSecond: 100, logLevel: "info" },
        ingress: {
          className: "nginx",
          replicas: 2,
          expose: "LoadBalancer",
          allowEmptyHost: false,
          customResources: false,
          namespaces: [],
          secretNamespaces: [],
          maxBodySize: "1m",
          sizeUnit: 1,
        },
        registry: { server: "docker.io", clusterServer: "docker.io", private: true, anonymous: false },
        dns: { zone: "create", ttl: 300, ipv6: false, deleteZone: false, records: [] },
        tls: { enabled: false, hosts: [] },
      });
    });
  });

  describe("secrets of the configuration", () => {
    it("must be set as secrets, and never be printed", () => {
      const settings = { ...least(), registryPassword: "hunter2", registryPullPassword: "hunter3" };
      const found = violations(settings, []);
      assert.deepEqual(
        found.map(({ key, given }) => [key, given]),
        [
          ["hobnob:registryPassword", "a value in plain text"],
          ["hobnob:registryPullPassword", "a value in plain text"],
        ],
      );
      assert.doesNotMatch(new ConfigurationError(found).message, /hunter/);
    });

    it("must not be empty", () => {
      assert.deepEqual(
        violations({ ...least(), registryPassword: "" }).map(({ given }) => given),
        ["an empty value"],
      );
    });

    it("must not be printed where a whole object was set as a secret", () => {
      const settings = least();
      settings.registry.server = "https://hunter2";
      settings.registry.token = "hunter2";
      const found = violations(settings, [...secretKeys, "registry"]);
      assert.deepEqual(
        found.map(({ key, given }) => [key, given]),
        [
          ["hobnob:registry.server", "a secret"],
          ["hobnob:registry.token", "a secret"],
        ],
      );
    });

    it("must stay secret in what is derived from them, and nowhere else", async () => {
      const config = read({ ...least(), registryPullPassword: "pull-token" });
      assert.ok("password" in config.image && config.image.password && config.pull);
      assert.deepEqual(await unwrap(config.image.password), { value: "push-token", secret: true, known: true });
      assert.deepEqual(await unwrap(config.pull.password), { value: "pull-token", secret: true, known: true });
      assert.doesNotMatch(JSON.stringify({ ...config, image: undefined, pull: undefined }), /token/);
    });
  });

  describe("image of the configuration", () => {
    it("must be built from the API's sources and pulled with the push password, where nothing else is said", async () => {
      const config = read(least());
      assert.ok("password" in config.image && config.pull);
      const { password, ...built } = config.image;
      assert.deepEqual(built, {
        server: "docker.io",
        clusterServer: undefined,
        repository: "acme/hobnob-backend",
        username: "acme",
        context: "app/api",
      });
      assert.equal((await unwrap(config.pull.password)).value, "push-token");
    });

    it("must need no login where the registry asks for none, and be pulled by the name that the nodes know", () => {
      const registry = { server: "localhost:5050", clusterServer: "nodes.test:5050", repository: "a/b" };
      const settings = { ...least(), registry: { ...registry, anonymous: true }, registryPassword: undefined };
      const config = read(settings);
      assert.deepEqual(config.image, { ...registry, context: "app/api" });
      assert.equal(config.pull, undefined);
      const withLogin = read({ ...least(), registry: { ...registry, username: "acme" } });
      assert.equal(withLogin.pull?.server, "nodes.test:5050");
    });

    it("must need no registry at all where a public one is given", () => {
      const config = read({ ...least(), api: { image }, registry: { private: false }, registryPassword: undefined });
      assert.deepEqual(config.image, { image });
      assert.equal(config.pull, undefined);
    });
  });

  describe("environment", () => {
    const token = (settings: Settings) =>
      violations(settings)
        .filter(({ key }) => key === "DIGITALOCEAN_TOKEN")
        .map(({ allowed }) => allowed);
    beforeEach(() => {
      env.DIGITALOCEAN_TOKEN = undefined;
    });

    it("must have a token for a cluster at DigitalOcean, or a zone", () => {
      const needed = (what: string) => [
        `an API token of the DigitalOcean account that has ${what}, in the environment`,
      ];
      assert.deepEqual(token(least()), needed("the cluster"));
      assert.deepEqual(token({ ...least(), cluster: existing }), needed("the DNS zone"));
    });

    it("must not need a token where nothing is DigitalOcean's", () => {
      assert.deepEqual(violations({ ...least(), cluster: existing, dns: { zone: "none" } }), []);
    });

    it("must have its contexts in any file of KUBECONFIG, or in the home directory", () => {
      const settings = { ...least(), cluster: existing, dns: { zone: "none" } };
      const found = env.KUBECONFIG;
      env = { KUBECONFIG: [join(directory, "none"), found].join(delimiter) };
      assert.deepEqual(violations(settings), []);
      env = { HOME: directory };
      assert.deepEqual(violations(settings), [
        {
          key: "hobnob:cluster.context",
          given: '"kind-test"',
          allowed: `a context of a kubeconfig; ${join(directory, ".kube", "config")} has none`,
          command: "export KUBECONFIG=<file>",
        },
      ]);
    });
  });

  describe("kubeconfig", () => {
    const settings = () => ({ ...least(), cluster: existing, dns: { zone: "none" } });
    const file = () => join(directory, "wrong");
    const violation = () => {
      env = { KUBECONFIG: file() };
      const [found, ...more] = violations(settings());
      assert.deepEqual(more, []);
      assert.deepEqual([found?.key, found?.command], ["KUBECONFIG", "kubectl config view --flatten"]);
      return found;
    };

    for (const [title, content, reason] of [
      ["broken", "contexts: [", /^Flow sequence in block collection must be .* at line 1, column 12$/],
      ["no kubeconfig", "just text", /^not a kubeconfig$/],
    ] as const) {
      it(`must be named with the reason where it is ${title}`, () => {
        writeFileSync(file(), content);
        const { given = "", allowed } = violation() ?? {};
        const [, named, why = ""] = /^(.*), which cannot be read \((.*)\)$/.exec(given) ?? [];
        assert.equal(named, file());
        assert.match(why, reason);
        assert.equal(allowed, "a kubeconfig, as kubectl writes it");
      });
    }

    it("must be there with the files that its context names, and not with those that others name", () => {
      const context = (name: string) => ({
        contexts: [{ name, context: { cluster: name } }],
        clusters: [{ name, cluster: { "certificate-authority": "gone.crt" } }],
      });
      writeFileSync(file(), JSON.stringify(context("kind-test")));
      const gone = join(directory, "gone.crt");
      const { given, allowed } = violation() ?? {};
      assert.equal(given, `${gone}, which cannot be read (ENOENT: no such file or directory, open '${gone}')`);
      assert.equal(allowed, "a file that the kubeconfig's context names");
      writeFileSync(file(), JSON.stringify(context("other")));
      env = { KUBECONFIG: [file(), join(directory, "kubeconfig")].join(delimiter) };
      assert.deepEqual(violations(settings()), []);
    });

    it("must not keep the other violations from being listed", () => {
      writeFileSync(file(), "contexts: [");
      env = { KUBECONFIG: file() };
      assert.deepEqual(
        violations({ ...settings(), dns: { zone: "create" } }).map(({ key }) => key),
        ["DIGITALOCEAN_TOKEN", "KUBECONFIG"],
      );
    });

    it("must not be read where the cluster is a new one", () => {
      writeFileSync(file(), "contexts: [");
      env = { DIGITALOCEAN_TOKEN: "token", KUBECONFIG: file() };
      assert.deepEqual(violations(least()), []);
    });
  });

  describe("stacks", () => {
    const root = join(__dirname, "..", "..");
    const settings = (stack: string): Settings => {
      const { config } = parse(readFileSync(join(root, `Pulumi.${stack}.yaml`), "utf8")) as { config: Settings };
      return Object.fromEntries(Object.entries(config).map(([key, value]) => [key.replace(/^hobnob:/, ""), value]));
    };
    const stack = async (name: string) => {
      await startStack(name);
      return read({ ...settings(name), registryPassword: "push-token" });
    };
    const clusterOf = async (name: string) => {
      const { cluster } = await stack(name);
      assert.ok(cluster.provider === "digitalocean");
      return cluster;
    };

    for (const name of ["dev", "prod", "local"]) {
      it(`must be complete but for the secrets, and hold none: ${name}`, async () => {
        await stack(name);
        const { config, ...rest } = parse(readFileSync(join(root, `Pulumi.${name}.yaml`), "utf8"));
        assert.deepEqual(rest, {});
        assert.deepEqual(
          secretKeys.filter((key) => `hobnob:${key}` in config),
          [],
        );
      });
    }

    it("must be small in dev: three nodes in one pool, and a single control plane", async () => {
      const { systemPool, workerPools, ha, protect } = await clusterOf("dev");
      assert.deepEqual(
        { systemPool, workerPools, ha, protect },
        { systemPool: { size: "s-2vcpu-4gb", count: 3 }, workerPools: {}, ha: false, protect: false },
      );
    });

    it("must not have ranges that overlap, as one account may have both dev and prod", async () => {
      const ranges = [(await clusterOf("dev")).vpcCidr, (await clusterOf("prod")).vpcCidr] as const;
      assert.equal(overlap(...ranges), false, ranges.join(" and "));
    });

    it("must be guarded and survive the loss of a node in prod, the balancer's among them", async () => {
      const { elasticsearch, dns, ingress } = await stack("prod");
      assert.equal(ingress.sizeUnit, 2);
      const { ha, protect, destroyAllAssociatedResources, workerPools } = await clusterOf("prod");
      assert.deepEqual(
        {
          ...{ ha, protect, destroyAllAssociatedResources, deleteZone: dns.deleteZone },
          ...{ mmap: elasticsearch.mmap, security: elasticsearch.security },
        },
        {
          ha: true,
          protect: true,
          destroyAllAssociatedResources: false,
          deleteZone: false,
          mmap: true,
          security: true,
        },
      );
      const { minCount = 0, maxCount = 0, count } = workerPools.workers ?? {};
      assert.equal(count, undefined);
      assert.ok(minCount >= elasticsearch.replicas + 1);
      assert.ok(maxCount > minCount);
    });

    it("must leave the judgement of their values to the program, which sees all of them at once", () => {
      const project = parse(readFileSync(join(root, "Pulumi.yaml"), "utf8"));
      assert.deepEqual(
        Object.keys(project.config).filter((name) => !name.startsWith("pulumi:")),
        [],
      );
    });

    it("must have a reference page that says what the schema says", async () => {
      const page = readFileSync(join(root, "docs", "configuration.md"), "utf8");
      assert.equal(page, await configurationReference(), "run: npm run docs");
    });
  });
});
