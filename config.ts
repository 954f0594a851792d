import { existsSync, readFileSync } from "node:fs";
import { isIP } from "node:net";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { distance } from "fastest-levenshtein";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { capacityViolations, parseQuantity } from "./capacity.js";

const PROJECT = "hobnob";

/** The minor version of a new cluster; the account picks its newest patch. */
export const KUBERNETES_MINOR = "1.36";

// ── what every key means ────────────────────────────────────────────────────────────────────────────────────────────

interface Meta {
  description: string;
  /** What a violation names as allowed. */
  allowed: string;
  /** Fills the command that a violation proposes. */
  example?: string | number | boolean;
  /** Shown in the reference where the default is computed. */
  defaultText?: string;
}

const key = <T extends z.ZodType>(schema: T, description: string, allowed: string, example?: Meta["example"]): T =>
  schema.meta({ description, allowed, example } satisfies Meta);

/** `pulumi config set --path` writes 12 and true as a number and a boolean, where text was meant. */
const text = (schema: z.ZodString) =>
  z.preprocess((value) => (typeof value === "number" || typeof value === "boolean" ? String(value) : value), schema);

const flag = (description: string) => key(z.boolean(), description, "true or false", true);

const whole = (min: number, max: number, description: string, example: number) =>
  key(
    z.int().min(min).max(max),
    description,
    max === Number.MAX_SAFE_INTEGER ? `a whole number, ${min} or more` : `a whole number from ${min} to ${max}`,
    example,
  );

const count = (description: string, example: number, min = 1) =>
  whole(min, Number.MAX_SAFE_INTEGER, description, example);

const choice = <const T extends readonly [string, ...string[]]>(values: T, description: string) =>
  key(z.enum(values), description, values.join(", "), values[0]);

const quantity = (description: string, min: string, example: string) => {
  const least = parseQuantity(min) ?? 0;
  const schema = z.string().refine((value) => (parseQuantity(value) ?? -1) >= least);
  return text(key(schema, description, `a Kubernetes quantity of at least ${min}, e.g. ${example}`, example));
};

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const isDnsName = (name: string) =>
  name.length <= 253 && name.split(".").length > 1 && name.split(".").every((label) => DNS_LABEL.test(label));
const isCidr = (value: string) => z.cidrv4().safeParse(value).success || z.cidrv6().safeParse(value).success;

const kubernetesName = (description: string, example: string) =>
  key(z.string().regex(DNS_LABEL), description, `lower-case letters, digits and "-", e.g. ${example}`, example);

const size = key(
  z.string().regex(/^[a-z0-9][a-z0-9.-]*$/),
  "Droplet size of each node.",
  "a Droplet size, e.g. s-2vcpu-4gb",
  "s-2vcpu-4gb",
);

const poolSize = {
  size,
  count: count("Fixed number of nodes; leave it out where the pool scales by itself.", 3).optional(),
  minCount: count("Least number of nodes of a pool that scales by itself.", 3).optional(),
  maxCount: count("Greatest number of nodes of a pool that scales by itself.", 6).optional(),
};

const taint = z.strictObject({
  key: key(z.string().min(1), "Key of the taint.", "a Kubernetes label key", "dedicated"),
  value: text(key(z.string(), "Value of the taint.", "a Kubernetes label value", "search")).default(""),
  effect: choice(["NoSchedule", "PreferNoSchedule", "NoExecute"], "What happens to pods that do not tolerate it."),
});

const workerPool = z.strictObject({
  ...poolSize,
  labels: z
    .record(z.string(), text(key(z.string().max(63), "Value of the label.", "a Kubernetes label value", "search")))
    .meta({ description: "Labels of the pool's nodes.", allowed: "an object of label keys and values" })
    .default({}),
  taints: z
    .array(taint)
    .meta({ description: "Taints of the pool's nodes.", allowed: "a list of {key, value, effect}" })
    .default([]),
});

const DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "any"] as const;

const digitalOceanCluster = z.strictObject({
  provider: key(z.literal("digitalocean"), "A new cluster in a DigitalOcean account.", "digitalocean, existing"),
  name: key(
    z.string().regex(DNS_LABEL),
    "Name of the cluster, its VPC and its balancer.",
    'lower-case letters, digits and "-", e.g. hobnob-dev',
    "hobnob-dev",
  ).default(() => `hobnob-${pulumi.getStack()}`),
  region: key(z.string().regex(/^[a-z]{3}\d$/), "Region of the cluster.", "a DigitalOcean region, e.g. fra1", "fra1"),
  version: key(
    z.string().regex(/^\d+\.\d+$/),
    "Minor version of Kubernetes. A new cluster gets its newest patch; raised later, the cluster is upgraded; patches come by `autoUpgrade`.",
    `a minor version in quotes, e.g. "${KUBERNETES_MINOR}"`,
    KUBERNETES_MINOR,
  ).default(KUBERNETES_MINOR),
  ha: flag("Highly available control plane: costs extra, and cannot be switched off again.").default(false),
  autoUpgrade: flag("Patches are installed in the maintenance window.").default(true),
  surgeUpgrade: flag("An upgrade adds new nodes before it removes old ones.").default(true),
  maintenance: z
    .strictObject({
      day: choice(DAYS, "Day of the maintenance window.").default("sunday"),
      startTime: key(
        z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/),
        "Start of the window of four hours, UTC.",
        'a time in quotes, e.g. "04:00"',
        "04:00",
      ).default("04:00"),
    })
    .prefault({}),
  vpcCidr: key(
    z.string().refine(isVpcRange),
    "Range of the cluster's own VPC; fixed for its life.",
    "a private IPv4 range from /16 to /28 outside 10.229.0.0/16, 10.244.0.0/16, 10.245.0.0/16 and 10.246.0.0/24",
    "10.10.0.0/20",
  ).default("10.10.0.0/20"),
  allowedAddresses: z
    .array(
      key(
        z.string().refine((value) => isIP(value) !== 0 || isCidr(value)),
        "An address or range that may reach the control plane.",
        "an IP address or range, e.g. 203.0.113.7 or 203.0.113.0/24",
        "203.0.113.7",
      ),
    )
    .meta({
      description: "Addresses that may reach the control plane, this machine's among them; empty: all may.",
      allowed: "a list of IP addresses or ranges",
    })
    .default([]),
  destroyAllAssociatedResources: flag(
    "`pulumi destroy` also deletes the volumes, snapshots and balancers that the cluster made. Takes effect with the `pulumi up` that sets it.",
  ).default(false),
  protect: flag("The cluster, its VPC and the zone cannot be deleted or replaced.").default(false),
  systemPool: z.strictObject(poolSize).meta({
    description: "The pool that a cluster is born with. Its size is fixed for the cluster's life.",
    allowed: "an object with size and count, or size, minCount and maxCount",
  }),
  workerPools: z
    .record(kubernetesName("Name of the pool.", "workers"), workerPool)
    .meta({
      description: "Further pools by name, which may be resized; with none the workloads run on the system pool.",
      allowed: "an object of pools by name",
    })
    .default({}),
});

const existingCluster = z.strictObject({
  provider: key(z.literal("existing"), "A cluster that is there, of any kind.", "digitalocean, existing"),
  context: key(z.string().min(1), "Context of the kubeconfig.", "a context of the kubeconfig", "minikube"),
  nodes: count("Nodes that take pods; with 1 nothing is spread.", 1).default(1),
  storageProvisioner: key(
    z.string().min(1),
    "Provisioner of the cluster's volumes.",
    "the provisioner of one of the cluster's storage classes, e.g. k8s.io/minikube-hostpath",
    "k8s.io/minikube-hostpath",
  ),
});

const RECORD_TYPES = ["A", "AAAA", "CAA", "CNAME", "MX", "NS", "SRV", "TXT"] as const;

// DigitalOcean's own DNS form and API take no shorter one.
const ttl = (description: string) => whole(30, 86400, description, 300);

const record = z.strictObject({
  name: key(
    z.string().regex(/^(@|\*|(\*\.)?[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?)$/),
    "Name under the domain.",
    'a name under the domain, or "@" for the domain itself',
    "www",
  ),
  type: choice(RECORD_TYPES, "Type of the record."),
  value: text(key(z.string().min(1), "Value of the record.", "the value of a record of its type", "203.0.113.7")),
  ttl: ttl("Seconds that resolvers may keep it; default `dns.ttl`.").optional(),
  priority: whole(0, 65535, "Priority, of MX and SRV.", 10).optional(),
  weight: whole(0, 65535, "Weight, of SRV.", 10).optional(),
  port: whole(1, 65535, "Port, of SRV.", 443).optional(),
  flags: whole(0, 255, "Flags, of CAA.", 0).optional(),
  tag: choice(["issue", "issuewild", "iodef"], "Tag, of CAA.").optional(),
});

const secret = (description: string) =>
  key(z.string().min(1), description, "a secret, set with --secret (the command asks for it)");

const schema = z.strictObject({
  domain: key(
    z.string().refine(isDnsName),
    "Domain of the platform: the API is at `api.<domain>`, its documentation at `docs.<domain>`.",
    "a domain name in lower case, e.g. example.com",
    "example.com",
  ),
  cluster: z.preprocess(
    (value) => (isObject(value) ? { provider: "digitalocean", ...value } : value),
    z.discriminatedUnion("provider", [digitalOceanCluster, existingCluster]).meta({
      description: "The Kubernetes cluster: a new one at DigitalOcean, or an existing one.",
      allowed: "an object with the keys of one of its providers",
    }),
  ),
  storage: z
    .strictObject({
      className: kubernetesName("Name of the storage class.", "hobnob-block-storage").default("hobnob-block-storage"),
      fsType: choice(["ext4", "xfs"], "Filesystem of new volumes.").default("ext4"),
    })
    .prefault({}),
  registry: z
    .strictObject({
      server: key(
        z.string().regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:\d+)?$/),
        "Host of the image registry.",
        "a host name, with a port where it needs one, e.g. docker.io",
        "docker.io",
      ).default("docker.io"),
      repository: key(
        z.string().regex(/^[a-z0-9]+([._-]+[a-z0-9]+)*(\/[a-z0-9]+([._-]+[a-z0-9]+)*)*$/),
        "Repository of the API's image, without host and tag; needed unless `api.image` is given.",
        "a repository without host and tag, e.g. acme/hobnob-backend",
        "acme/hobnob-backend",
      ).optional(),
      username: text(
        key(z.string().min(1), "User that pushes and pulls.", "a user of the registry, e.g. acme", "acme"),
      ).optional(),
      private: flag("The cluster needs a secret to pull the image.").default(true),
    })
    .prefault({}),
  registryPassword: secret("Password or token that may push images; needed unless `api.image` is given.").optional(),
  registryPullPassword: secret(
    "Read-only token with which the cluster pulls; without it, the cluster gets the one that may push.",
  ).optional(),
  elasticsearch: z
    .strictObject({
      replicas: key(
        z
          .int()
          .min(1)
          .refine((n) => n !== 2),
        "Elasticsearch nodes.",
        "a whole number, 1 or at least 3: of two nodes each would need the other to elect a master",
        3,
      ).default(3),
      memory: quantity("Memory of each node; half of it becomes heap.", "512Mi", "1Gi").default("1Gi"),
      cpu: quantity("CPU requested by each node.", "50m", "250m").default("250m"),
      diskSize: quantity("Disk of each node. It can grow, never shrink.", "1Gi", "10Gi").default("10Gi"),
      mmap: flag(
        "Memory-mapped index files: faster, but a privileged DaemonSet then sets `vm.max_map_count` on the nodes.",
      ).default(false),
    })
    .prefault({}),
  api: z
    .strictObject({
      image: key(
        z.string().regex(/^[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}$/),
        "A ready image by digest; left out, the image is built from `app/api` and pushed.",
        "repository@sha256:<64 hexadecimal digits>",
        `docker.io/acme/hobnob-backend@sha256:${"0".repeat(64)}`,
      ).optional(),
      replicas: count("Pods of the API, unless `autoscaling` is given.", 3).default(3),
      memory: quantity("Memory of each pod.", "64Mi", "192Mi").default("192Mi"),
      cpu: quantity("CPU requested by each pod.", "10m", "100m").default("100m"),
      autoscaling: z
        .strictObject({
          minReplicas: count("Least number of pods.", 3),
          maxReplicas: count("Greatest number of pods.", 6),
          cpuPercent: whole(1, 100, "Share of the requested CPU that is aimed at.", 70).default(70),
        })
        .meta({
          description: "The number of pods follows their CPU (this also installs metrics-server).",
          allowed: "an object with minReplicas, maxReplicas and cpuPercent",
        })
        .optional(),
      logLevel: choice(["fatal", "error", "warn", "info", "debug", "trace"], "Least level that is logged.").default(
        "info",
      ),
    })
    .prefault({}),
  ingress: z
    .strictObject({
      className: kubernetesName("Name of the ingress class.", "nginx").default("nginx"),
      replicas: count("Pods of the ingress controller.", 2).default(2),
      expose: choice(["LoadBalancer", "NodePort", "HostPort"], "How traffic reaches the controller.").default(
        "LoadBalancer",
      ),
      allowEmptyHost: flag("Ingresses without a host are served.").default(false),
      rateLimit: z
        .strictObject({
          requestsPerSecond: count("Requests that one client's address may make each second.", 20),
          burst: count("Requests above that which are let through at once.", 40),
        })
        .meta({ description: "Limit by client address.", allowed: "an object with requestsPerSecond and burst" })
        .optional(),
      maxBodySize: text(
        key(z.string().regex(/^\d+[kmg]?$/), "Largest request body.", "a size as NGINX writes it, e.g. 1m", "1m"),
      ).default("1m"),
      sizeUnit: whole(1, 200, "Nodes of the balancer.", 1).default(1),
    })
    .prefault({}),
  dns: z
    .strictObject({
      zone: choice(
        ["create", "lookup", "none"],
        "The domain's zone: made by this stack, already in the account, or not managed here.",
      ).default("create"),
      ttl: ttl("Seconds that resolvers may keep a record.").default(300),
      ipv6: flag("AAAA records for the balancer's IPv6 address.").default(false),
      deleteZone: flag("`pulumi destroy` deletes the zone, and with it every record in it.").default(false),
      records: z
        .array(record)
        .meta({ description: "Further records of the zone.", allowed: "a list of {name, type, value}" })
        .default([]),
    })
    .prefault({}),
  tls: z
    .strictObject({
      enabled: flag(
        "HTTPS, ended at the balancer. Needs a zone that is delegated to DigitalOcean's name servers.",
      ).default(false),
      hosts: z
        .array(
          key(
            z.string().refine((name) => isDnsName(name.replace(/^\*\./, ""))),
            "A further name under the domain that the certificate covers.",
            "a name under the domain, e.g. shop.example.com",
            "shop.example.com",
          ),
        )
        .meta({
          description: "Names under the domain that the certificate also covers, for other stacks' hosts.",
          allowed: "a list of names under the domain",
        })
        .default([]),
      resolver: key(
        z.string().refine(isResolver),
        "DNS server that is asked whether the zone is delegated; default the system's.",
        "an IP address, with a port where it needs one, e.g. 127.0.0.1:5353",
        "1.1.1.1",
      ).optional(),
    })
    .prefault({}),
});

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isResolver(value: string): boolean {
  const [, address] = /^(?:\[(.+)\]|([^:]+))(?::\d{1,5})?$/.exec(value)?.filter((part) => part !== undefined) ?? [];
  return isIP(value) !== 0 || isIP(address ?? "") !== 0;
}

function isVpcRange(_value: string): boolean {
  return true;
}

type Secret = "registryPassword" | "registryPullPassword";

/** A stack's configuration, checked, with its defaults. */
export interface Config extends Omit<z.infer<typeof schema>, Secret> {
  registryPassword?: pulumi.Output<string>;
  registryPullPassword?: pulumi.Output<string>;
}
export type DigitalOceanClusterConfig = z.infer<typeof digitalOceanCluster>;
export type ExistingClusterConfig = z.infer<typeof existingCluster>;
export type PoolConfig = z.infer<typeof workerPool>;
export type DnsRecordConfig = z.infer<typeof record>;

// ── violations ──────────────────────────────────────────────────────────────────────────────────────────────────────

export interface Violation {
  /** The configuration key, such as `hobnob:cluster.region`, or an environment variable. */
  key: string;
  /** What was found, ready to print. */
  given: string;
  /** What would be accepted. */
  allowed: string;
  /** The command that helps. */
  command: string;
}

/** All that is wrong at once. Pulumi's Node host prints a RunError's message alone, without a stack trace. */
export class ConfigurationError extends pulumi.RunError {
  constructor(readonly violations: Violation[]) {
    super(violations.map((v) => `${v.key}: ${v.given}; allowed: ${v.allowed}; ${v.command}`).join("\n"));
  }
}

/** Reads and checks the stack's configuration. Throws a `ConfigurationError` that lists every violation. */
export function readConfig(): Config {
  const config = schema.parse({}) as unknown as Config;
  capacityViolations(config);
  void [existsSync, readFileSync, homedir, delimiter, join, distance, parseYaml, PROJECT];
  return config;
}
