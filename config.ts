import { BlockList, isIP } from "node:net";
import * as pulumi from "@pulumi/pulumi";
import { distance } from "fastest-levenshtein";
import { z } from "zod";
import { parseQuantity } from "./capacity";
import { rules } from "./configRules";
import type { PlatformOutputs } from "./platform";
import {
  ConfigurationError,
  editCommand,
  isSetAsSecret,
  keyName,
  type Path,
  PROJECT,
  removeCommand,
  SECRET_ALLOWED,
  type SecretKey,
  secretViolation,
  setCommand,
  show,
  type Violation,
} from "./violations";

export { ConfigurationError };

/** The minor version of a new cluster; the account picks its newest patch. */
export const KUBERNETES_MINOR = "1.36";

// ── what every key means ────────────────────────────────────────────────────────────────────────────────────────────

interface Meta {
  description: string;
  /** What a violation names as allowed. */
  allowed: string;
  /** Fills the command that a violation proposes. */
  example?: string | number | boolean;
}

const key = <T extends z.ZodType>(schema: T, description: string, allowed: string, example?: Meta["example"]): T =>
  schema.meta({ description, allowed, example } satisfies Meta);

/** `pulumi config set --path` writes 12 and true as a number and a boolean, where text was meant. */
const text = (schema: z.ZodString) =>
  z.preprocess((value) => (typeof value === "number" || typeof value === "boolean" ? String(value) : value), schema);

/** It also writes "12" and "true" as text, where the value that it replaces was in quotes. */
const unquoted = <T extends z.ZodType>(pattern: RegExp, schema: T) =>
  z.preprocess((value) => (typeof value === "string" && pattern.test(value) ? JSON.parse(value) : value), schema);

const flag = (description: string) => unquoted(/^(true|false)$/, key(z.boolean(), description, "true or false", true));

const NUMBER = /^(0|[1-9]\d{0,8})$/;

const whole = (min: number, max: number, description: string, example: number) =>
  unquoted(NUMBER, key(z.int().min(min).max(max), description, `a whole number from ${min} to ${max}`, example));

/** Pods, nodes: more than this many is a slip of the finger, and would keep the program busy for hours. */
const MANY = 1000;

const count = (description: string, example: number, max = MANY) => whole(1, max, description, example);

const choice = <const T extends readonly [string, ...string[]]>(
  values: T,
  description: string,
  example: T[number] = values[0],
) => key(z.enum(values), description, values.join(", "), example);

const quantity = (description: string, min: string, max: string, example: string) => {
  const amount = (value: string) => parseQuantity(value) ?? Number.NaN;
  const schema = z.string().refine((value) => amount(value) >= amount(min) && amount(value) <= amount(max));
  return text(key(schema, description, `a Kubernetes quantity from ${min} to ${max}, e.g. ${example}`, example));
};

/** Minute, hour, day of the month, month, day of the week. */
const CRON_RANGES = [
  [0, 59],
  [0, 23],
  [1, 31],
  [1, 12],
  [0, 7],
] as const;
const isCron = (schedule: string) => {
  const fields = schedule.split(" ");
  return (
    fields.length === 5 &&
    CRON_RANGES.every(([min, max], i) => (fields[i] ?? "").split(",").every(isCronPart(min, max)))
  );
};
const isCronPart = (min: number, max: number) => (part: string) => {
  const [, first, last = first, step = "1"] = /^(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:\/([1-9]\d?))?$/.exec(part) ?? [];
  if (first === undefined) return /^\*(\/[1-9]\d?)?$/.test(part);
  return Number(first) >= min && Number(first) <= Number(last) && Number(last) <= max && Number(step) <= max;
};
const isOrigin = (url: string) =>
  URL.canParse(url) && /^https?:$/.test(new URL(url).protocol) && new URL(url).origin === url;
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** Room is left for the hosts below it; and one that ends in digits is an address. */
export const isDnsName = (name: string) =>
  name.length <= 240 && /\.(?!\d+$)[^.]+$/.test(name) && name.split(".").every((label) => DNS_LABEL.test(label));
const isRegistry = (server: string) => {
  const [, host = "", port = "1"] = /^([^:]+)(?::([1-9]\d{0,4}))?$/.exec(server) ?? [];
  return host.length <= 253 && Number(port) < 65536 && host.split(".").every((label) => DNS_LABEL.test(label));
};
/** Kubernetes' qualified names: of labels, taints and provisioners. */
const QUALIFIED_NAME = /^([a-z0-9]([-a-z0-9.]{0,100}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
/** Nothing that is invisible, ends a line or moves a terminal. */
const VISIBLE = /^\P{C}{1,253}$/u;
const isCidr = (value: string) => z.cidrv4().safeParse(value).success || z.cidrv6().safeParse(value).success;

const kubernetesName = (description: string, example: string) =>
  key(z.string().regex(DNS_LABEL), description, `lower-case letters, digits and "-", e.g. ${example}`, example);

const size = key(
  z.string().regex(/^[a-z0-9][a-z0-9.-]{0,62}$/),
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
  key: key(z.string().regex(QUALIFIED_NAME), "Key of the taint.", "a Kubernetes label key", "dedicated"),
  value: text(key(z.string().regex(LABEL_VALUE), "Value of the taint.", "a Kubernetes label value", "search")).default(
    "",
  ),
  effect: choice(["NoSchedule", "PreferNoSchedule", "NoExecute"], "What happens to pods that do not tolerate it."),
});

const DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "any"] as const;

const PROVIDERS = "digitalocean, aws, existing";

const clusterName = kubernetesName(
  "Name of the cluster, its VPC and its balancer, by which they are found again: fixed for their life; default `hobnob-<stack>`.",
  "hobnob-dev",
).prefault(() => `hobnob-${pulumi.getStack()}`);

const allowedAddressesIncludeThisMachine = flag(
  "Says that `allowedAddresses` holds the address from which this machine is seen; without it the next run could not reach the cluster.",
).default(false);

const nodeLabels = z
  .record(
    key(z.string().regex(QUALIFIED_NAME), "Key of the label.", "a Kubernetes label key", "dedicated"),
    text(key(z.string().regex(LABEL_VALUE), "Value of the label.", "a Kubernetes label value", "search")),
  )
  .meta({ description: "Labels of the pool's nodes.", allowed: "an object of label keys and values" })
  .default({});

const nodeTaints = z
  .array(taint)
  .meta({ description: "Taints of the pool's nodes.", allowed: "a list of {key, value, effect}" })
  .default([]);

const workerPool = z.strictObject({ ...poolSize, labels: nodeLabels, taints: nodeTaints });

const digitalOceanCluster = z.strictObject({
  provider: key(z.literal("digitalocean"), "A new cluster in a DigitalOcean account.", PROVIDERS).default(
    "digitalocean",
  ),
  name: clusterName,
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
      day: choice(DAYS, "Day of the maintenance window.", "sunday").default("sunday"),
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
    "Range of the cluster's own VPC, which no other VPC of the account may overlap; fixed for its life.",
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
  allowedAddressesIncludeThisMachine,
  destroyAllAssociatedResources: flag(
    "`pulumi destroy` also deletes the volumes, snapshots and balancers that the cluster made. Takes effect with the `pulumi up` that sets it.",
  ).default(false),
  protect: flag(
    "The stack cannot be destroyed, nor its cluster, VPC, zone and disks be replaced. Switched off, it guards until the `pulumi up` after.",
  ).default(false),
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

const ZONES = ["a", "b", "c", "d", "e", "f"] as const;

const instanceType = key(
  z.string().regex(/^[a-z][a-z0-9-]{1,20}\.[a-z0-9-]{2,20}$/),
  "Type of the pool's instances, for x86-64.",
  "an EC2 instance type that EKS Auto Mode runs, e.g. m7i.xlarge",
  "m7i.xlarge",
);

const awsCluster = z.strictObject({
  provider: key(
    z.literal("aws"),
    "A new cluster in an AWS account: EKS in Auto Mode. Needs the package @pulumi/aws and the AWS CLI.",
    PROVIDERS,
    "aws",
  ),
  name: clusterName,
  region: key(
    z.string().regex(/^(?!cn-|us-gov-|us-iso)[a-z]{2}(-[a-z]{4,12}){1,2}-\d$/),
    "Region of the cluster.",
    "an AWS region of the public partition, e.g. eu-central-1",
    "eu-central-1",
  ),
  version: key(
    z.string().regex(/^\d+\.\d+$/),
    "Minor version of Kubernetes; raised later, the cluster is upgraded. Patches come by themselves.",
    `a minor version in quotes, e.g. "${KUBERNETES_MINOR}"`,
    KUBERNETES_MINOR,
  ).default(KUBERNETES_MINOR),
  extendedSupport: flag(
    "A minor version out of standard support is kept, at a higher price; without it AWS then upgrades the cluster by itself.",
  ).default(false),
  zones: z
    .array(choice(ZONES, "Letter of an availability zone."))
    .min(2)
    .max(4)
    .refine((letters) => new Set(letters).size === letters.length)
    .meta({
      description: "Letters of the availability zones that the nodes are spread over; later only added at the end.",
      allowed: 'two to four different letters, e.g. ["a", "b", "c"]',
    })
    .default(["a", "b", "c"]),
  vpcCidr: key(
    z.string().refine(isAwsVpcRange),
    "Range of the cluster's own VPC, of which each subnet takes an eighth; fixed for its life.",
    "a private IPv4 range from /16 to /20 outside 172.16.0.0/12, e.g. 10.30.0.0/16",
    "10.30.0.0/16",
  ).default("10.30.0.0/16"),
  allowedAddresses: z
    .array(
      key(
        z.string().refine((value) => isIP(value) === 4 || z.cidrv4().safeParse(value).success),
        "An IPv4 address or range that may reach the control plane.",
        "an IPv4 address or range, e.g. 203.0.113.7 or 203.0.113.0/24",
        "203.0.113.7",
      ),
    )
    .meta({
      description: "Addresses that may reach the control plane, this machine's among them; empty: all may.",
      allowed: "a list of IPv4 addresses or ranges",
    })
    .default([]),
  allowedAddressesIncludeThisMachine,
  admins: z
    .array(
      key(
        z.string().regex(/^arn:aws:iam::\d{12}:(role|user)\/[\w+=,.@/-]{1,128}$/),
        "A role or user that administers the cluster.",
        "the ARN of an IAM role or user, e.g. arn:aws:iam::111122223333:role/operators",
        "arn:aws:iam::111122223333:role/operators",
      ),
    )
    .meta({
      description: "Who administers the cluster besides whoever makes it.",
      allowed: "a list of ARNs of IAM roles and users",
    })
    .default([]),
  imageRegistry: flag(
    "The API's image is pushed to a repository of the account (ECR), from which the nodes pull by their role; without it, to `registry.server`.",
  ).default(true),
  protect: flag(
    "The stack cannot be destroyed, nor its cluster, VPC, zone and disks be replaced, nor the cluster be deleted at AWS. Switched off, it guards until the `pulumi up` after.",
  ).default(false),
  workerPools: z
    .record(
      kubernetesName("Name of the pool.", "workers"),
      z.strictObject({
        instanceTypes: z
          .array(instanceType)
          .min(1)
          .meta({
            description: "Types of the pool's instances; left out, whatever of the families c, m and r fits the pods.",
            allowed: "a list of EC2 instance types",
          })
          .optional(),
        maxCpu: whole(2, 10_000, "CPUs that all nodes of the pool have together, at most.", 32),
        maxMemory: quantity("Memory that they have together, at most.", "1Gi", "100Ti", "128Gi").optional(),
        labels: nodeLabels,
        taints: nodeTaints,
      }),
    )
    .meta({
      description:
        "Pools by name, whose nodes come and go with the pods; with none, EKS' own pool has as many as the pods need.",
      allowed: "an object of pools by name",
    })
    .default({}),
});

const existingCluster = z.strictObject({
  provider: key(z.literal("existing"), "A cluster that is there, of any kind.", PROVIDERS, "existing"),
  context: key(z.string().regex(VISIBLE), "Context of the kubeconfig.", "a context of the kubeconfig", "minikube"),
  // Source: https://kubernetes.io/docs/setup/best-practices/cluster-large/
  nodes: count("Nodes that take pods; with 1 nothing is spread.", 1, 5000).default(1),
  cilium: flag(
    "The cluster's network is Cilium, whose policies can name the API server; any other's can only open its ports to the world.",
  ).default(false),
  storageProvisioner: key(
    z.string().regex(QUALIFIED_NAME),
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
    z
      .string()
      .regex(/^(@|\*|(\*\.)?[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?){0,3})$/),
    "Name under the domain.",
    'a name under the domain, or "@" for the domain itself',
    "www",
  ),
  type: choice(RECORD_TYPES, "Type of the record."),
  value: text(
    key(
      z.string().regex(/^[!-~]([ -~]{0,4000}[!-~])?$/),
      "Value of the record.",
      "the value of a record of its type",
      "203.0.113.7",
    ),
  ),
  ttl: ttl("Seconds that resolvers may keep it; default `dns.ttl`.").optional(),
  priority: whole(0, 65535, "Priority, of MX and SRV.", 10).optional(),
  weight: whole(0, 65535, "Weight, of SRV.", 10).optional(),
  port: whole(1, 65535, "Port, of SRV.", 443).optional(),
  flags: whole(0, 255, "Flags, of CAA.", 0).optional(),
  tag: choice(["issue", "issuewild", "iodef"], "Tag, of CAA.").optional(),
});

// A password that was read from a file often has the line's end with it, and is then refused by the registry alone.
const secret = (description: string) => key(z.string().regex(/^\P{Cc}{1,4096}$/u), description, SECRET_ALLOWED);

export const schema = z.strictObject({
  domain: key(
    z.string().refine(isDnsName),
    "Domain of the platform: the API is at `api.<domain>`, its documentation at `docs.<domain>`.",
    "a domain name in lower case, e.g. example.com",
    "example.com",
  ),
  cluster: z.preprocess(
    (value) => (isObject(value) || value === undefined ? { provider: "digitalocean", ...value } : value),
    z.discriminatedUnion("provider", [digitalOceanCluster, awsCluster, existingCluster]).meta({
      description: "The Kubernetes cluster: a new one at DigitalOcean or AWS, or an existing one.",
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
        z.string().refine(isRegistry),
        "Host of the image registry.",
        "a host name, with a port where it needs one, e.g. docker.io",
        "docker.io",
      ).default("docker.io"),
      repository: key(
        // As the registries' own protocol has it: separators neither at an end nor mixed.
        z
          .string()
          .max(200)
          .regex(/^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/),
        "Repository of the API's image, without host and tag; needed unless `api.image` is given.",
        "a repository without host and tag, e.g. acme/hobnob-backend",
        "acme/hobnob-backend",
      ).optional(),
      username: text(
        key(
          // A colon would end it in the header that carries it.
          z.string().regex(/^[!-9;-~]{1,253}$/),
          "User that pushes and pulls.",
          "a user of the registry, e.g. acme",
          "acme",
        ),
      ).optional(),
      private: flag("The cluster needs a secret to pull the image.").default(true),
      anonymous: flag(
        "The registry asks nobody for a login, to push nor to pull, as that of a local cluster: no user, no password and no secret is needed.",
      ).default(false),
      clusterServer: key(
        z.string().refine(isRegistry),
        "Host under which the cluster's nodes know the registry, where it is not the one that this machine pushes to; default `registry.server`.",
        "a host name, with a port where it needs one, e.g. k3d-hobnob.localhost:5050",
        "k3d-hobnob.localhost:5050",
      ).optional(),
    })
    .prefault({}),
  registryPassword: secret("Password or token that may push images; needed unless `api.image` is given.").optional(),
  registryPullPassword: secret(
    "Read-only token with which the cluster pulls; without it, the cluster gets the one that may push.",
  ).optional(),
  snapshotsAccessKey: secret("Access key of the store for snapshots.").optional(),
  snapshotsSecretKey: secret("Secret key of the store for snapshots.").optional(),
  elasticsearch: z
    .strictObject({
      replicas: unquoted(
        NUMBER,
        key(
          z
            .int()
            .min(1)
            .max(100)
            .refine((n) => n !== 2),
          "Elasticsearch nodes. More can be set at any time; fewer are refused, as `npm run scale-down` moves their shards off first.",
          "1, or a whole number from 3 to 100: of two nodes each would need the other to elect a master",
          3,
        ),
      ).default(3),
      memory: quantity(
        "Memory of each node; somewhat less than half of it becomes heap.",
        "512Mi",
        "1Ti",
        "1Gi",
      ).default("1Gi"),
      cpu: quantity("CPU requested by each node.", "50m", "256", "250m").default("250m"),
      diskSize: quantity(
        "Disk of each node. A larger one grows the disks there are; a smaller one is refused.",
        "1Gi",
        // The most that DigitalOcean's driver makes: csi-digitalocean, driver/controller.go.
        "16Ti",
        "10Gi",
      ).default("10Gi"),
      snapshots: z
        .strictObject({
          bucket: key(
            z.string().regex(/^(?=.{3,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/),
            "Bucket for snapshots, which must exist and which nothing else writes to.",
            "the name of a bucket, e.g. acme-hobnob-snapshots",
            "acme-hobnob-snapshots",
          ),
          region: key(
            z.string().regex(/^[a-z0-9-]{1,40}$/),
            "Region of the bucket; best another one than the cluster's.",
            "a region of DigitalOcean Spaces, e.g. ams3",
            "ams3",
          ),
          endpoint: key(
            z.string().refine(isOrigin),
            "Another S3-compatible service than DigitalOcean Spaces.",
            "the URL of an S3-compatible service, e.g. https://s3.example.com",
            "https://s3.example.com",
          ).optional(),
          schedule: key(
            z.string().refine(isCron),
            "When one is taken, UTC.",
            'five cron fields in quotes, e.g. "0 2 * * *"',
            "0 2 * * *",
          ).default("0 2 * * *"),
          keep: count("Successful snapshots that are kept.", 14).default(14),
        })
        .meta({
          description:
            "Scheduled snapshots to DigitalOcean Spaces; needs the secrets `snapshotsAccessKey` and `snapshotsSecretKey`.",
          allowed: "an object with bucket and region",
        })
        .optional(),
      mmap: flag(
        "Memory-mapped index files: faster, but a privileged DaemonSet then sets `vm.max_map_count` on the nodes.",
      ).default(false),
      security: flag(
        "TLS between the nodes and to their clients, and a password for each client; without it a NetworkPolicy is the only guard. Switching it on or off later stops the whole cluster: see docs/operations.md.",
      ).default(false),
      clientNamespaces: z
        .array(kubernetesName("A namespace.", "shop"))
        .meta({
          description:
            'Namespaces of other stacks whose pods with the label `hobnob/elasticsearch-client: "true"` may reach it; with `security` they also need a user, which the platform does not make.',
          allowed: "a list of namespaces",
        })
        .default([]),
      passwordGenerations: key(
        z
          .array(count("A generation.", 1, 1_000_000))
          .min(1)
          .max(2)
          .refine(([first, second]) => first === undefined || first !== second),
        "Generations of the clients' passwords: the first is given to them, a second is accepted besides it. `npm run rotate` changes it, in steps.",
        "one whole number, or two different ones, e.g. [1] or [1, 2]",
      ).default([1]),
    })
    .prefault({}),
  api: z
    .strictObject({
      image: key(
        z
          .string()
          .regex(/^[a-z0-9]([a-z0-9._:/-]{0,200}[a-z0-9])?(@sha256:[0-9a-f]{64}|:v?\d+\.\d+\.\d+[\w.-]{0,64})$/),
        "A ready image by digest; left out, the image is built from `app/api` and pushed. By a version of three numbers, one that was loaded onto the nodes of an existing cluster.",
        "repository@sha256:<64 hexadecimal digits>",
      ).optional(),
      replicas: count("Pods of the API, unless `autoscaling` is given.", 3).default(3),
      memory: quantity("Memory of each pod.", "64Mi", "1Ti", "192Mi").default("192Mi"),
      cpu: quantity("CPU requested by each pod.", "10m", "256", "100m").default("100m"),
      autoscaling: z
        .strictObject({
          minReplicas: count("Least number of pods.", 3),
          maxReplicas: count("Greatest number of pods.", 6),
          cpuPercent: whole(1, 100, "Share of the requested CPU that is aimed at.", 70).default(70),
        })
        .meta({
          description:
            "The number of pods follows their CPU. Needs metrics-server, which a new cluster gets with it and an existing one must have.",
          allowed: "an object with minReplicas, maxReplicas and cpuPercent",
        })
        .optional(),
      requestsPerSecond: count(
        "Requests that one client's address may make of each pod in a second; the rest is answered 429.",
        100,
      ).default(100),
      logLevel: choice(
        ["fatal", "error", "warn", "info", "debug", "trace"],
        "Least level that is logged.",
        "info",
      ).default("info"),
    })
    .prefault({}),
  quota: z
    .strictObject({
      cpu: quantity("CPU that all pods of the application's namespace may request together.", "1m", "10000", "8"),
      memory: quantity("Memory that they may request together.", "1Mi", "100Ti", "24Gi"),
      pods: count("Pods that the namespace may have.", 40),
      container: z
        .strictObject({
          cpu: quantity("CPU requested by a container that says nothing.", "1m", "256", "100m").default("100m"),
          memory: quantity("Memory requested by a container that says nothing.", "1Mi", "1Ti", "128Mi").default(
            "128Mi",
          ),
        })
        .prefault({}),
    })
    .meta({
      description:
        "Most that the application's namespace takes of the cluster, other stacks' pods in it included. It must have room for the platform's own pods while a rollout or a drain ends old ones beside new ones.",
      allowed: "an object with cpu, memory and pods",
    })
    .optional(),
  ingress: z
    .strictObject({
      className: key(
        // The controller's namespace has it in its name.
        z.string().regex(/^[a-z0-9]([-a-z0-9]{0,47}[a-z0-9])?$/),
        "Name of the ingress class.",
        'at most 49 lower-case letters, digits and "-", e.g. nginx',
        "nginx",
      ).default("nginx"),
      replicas: count("Pods of the ingress controller.", 2).default(2),
      expose: choice(["LoadBalancer", "NodePort", "HostPort"], "How traffic reaches the controller.").default(
        "LoadBalancer",
      ),
      allowEmptyHost: flag("Ingresses without a host are served.").default(false),
      customResources: flag(
        "VirtualServers and Policies are served, which canaries need. Switched off, all such objects of the cluster are deleted.",
      ).default(false),
      secretNamespaces: z
        .array(kubernetesName("A namespace, which must be there.", "shop"))
        .meta({
          description:
            "Namespaces whose Secrets the controller may read, for users and own TLS. With any, only these, `ingress.namespaces` and the application's are served.",
          allowed: "a list of namespaces",
        })
        .default([]),
      namespaces: z
        .array(kubernetesName("A namespace.", "shop"))
        .meta({
          description:
            "Further namespaces that are served where `ingress.secretNamespaces` names some; without those all are.",
          allowed: "a list of namespaces",
        })
        .default([]),
      rateLimit: z
        .strictObject({
          requestsPerSecond: count("Requests that one client's address may make each second.", 20, 1_000_000),
          burst: count("Requests above that which are let through at once.", 40, 1_000_000),
        })
        .meta({ description: "Limit by client address.", allowed: "an object with requestsPerSecond and burst" })
        .optional(),
      maxBodySize: text(
        key(z.string().regex(/^\d{1,9}[kmg]?$/), "Largest request body.", "a size as NGINX writes it, e.g. 1m", "1m"),
      ).default("1m"),
      sizeUnit: whole(1, 200, "Nodes of the balancer; with 1 it is a single point of failure.", 1).default(1),
    })
    .prefault({}),
  monitoring: z
    .strictObject({
      namespace: kubernetesName("Namespace of the Prometheus that the team runs, which must be there.", "monitoring"),
      alerts: choice(
        ["none", "PrometheusRule", "ConfigMap"],
        "The platform's alert rules in that namespace: for Prometheus' operator, whose kinds the cluster must have, or as a file in a ConfigMap.",
        "ConfigMap",
      ).default("none"),
      labels: z
        .record(
          key(z.string().regex(QUALIFIED_NAME), "Key of the label.", "a Kubernetes label key", "release"),
          text(key(z.string().regex(LABEL_VALUE), "Value of the label.", "a Kubernetes label value", "prometheus")),
        )
        .meta({
          description: "Labels of the rules, by which that Prometheus finds them.",
          allowed: "an object of label keys and values",
        })
        .default({}),
      scrape: flag(
        "The ingress controller serves metrics to that namespace, and its pods carry the annotations `prometheus.io/scrape` and `prometheus.io/port`. Rolls its pods.",
      ).default(false),
    })
    .meta({
      description: "What a Prometheus that the team runs gets of the platform.",
      allowed: "an object with namespace, and alerts or scrape",
    })
    .optional(),
  dns: z
    .strictObject({
      zone: choice(
        ["create", "lookup", "none"],
        "The domain's zone: made by this stack, already in the account (as after a `pulumi destroy` that kept it), or not managed here.",
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

/** The keys that must be set with `--secret`. */
export const secretKeys: SecretKey[] = [
  "registryPassword",
  "registryPullPassword",
  "snapshotsAccessKey",
  "snapshotsSecretKey",
];

/** The configuration as the stack's file has it, with its defaults. */
export type PlainConfig = z.infer<typeof schema>;

/** A stack's configuration, checked, with its defaults; its secrets stay secret. */
export interface Config extends Omit<PlainConfig, SecretKey | "registry" | "elasticsearch"> {
  elasticsearch: Omit<PlainConfig["elasticsearch"], "snapshots">;
  registry: PlatformOutputs["registry"];
  /** The API's image: what to build and where to push it, or the ready one. */
  image:
    | (Partial<RegistryLogin> & { server: string; clusterServer?: string; repository: string; context: string })
    // In the registry of the cluster's cloud.
    | { repository: string; context: string }
    | { image: string };
  /** How the cluster pulls the image; absent where anyone may. */
  pull?: RegistryLogin;
  /** Where snapshots go, with the key pair; absent where none are taken. */
  snapshots?: NonNullable<PlainConfig["elasticsearch"]["snapshots"]> & {
    accessKey: pulumi.Output<string>;
    secretKey: pulumi.Output<string>;
  };
}

interface RegistryLogin {
  server: string;
  username: string;
  password: pulumi.Output<string>;
}

export type DigitalOceanClusterConfig = z.infer<typeof digitalOceanCluster>;
export type AwsClusterConfig = z.infer<typeof awsCluster>;
export type ExistingClusterConfig = z.infer<typeof existingCluster>;
export type DnsRecordConfig = z.infer<typeof record>;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An IP address, with or without a port: what `Resolver.setServers` takes. */
function isResolver(value: string): boolean {
  const bracketed = /^\[(.+)\](?::\d{1,5})?$/.exec(value)?.[1];
  return isIP(bracketed ?? value) !== 0 || isIP(value.replace(/:\d{1,5}$/, "")) === 4;
}

const PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
// docs.digitalocean.com/products/networking/vpc/concepts/plan-your-network: kept for DigitalOcean's own use.
const RESERVED = ["10.229.0.0/16", "10.244.0.0/16", "10.245.0.0/16", "10.246.0.0/24"];

function isVpcRange(range: string): boolean {
  const bits = Number(range.split("/")[1]);
  if (!z.cidrv4().safeParse(range).success || bits < 16 || bits > 28) return false;
  return PRIVATE.some((other) => overlap(range, other)) && !RESERVED.some((other) => overlap(range, other));
}

/** The Services of the cluster are in 172.20.0.0/16, and AWS's own may be in the rest of that block. */
function isAwsVpcRange(range: string): boolean {
  const bits = Number(range.split("/")[1]);
  if (!z.cidrv4().safeParse(range).success || bits < 16 || bits > 20) return false;
  return PRIVATE.some((other) => overlap(range, other)) && !overlap(range, "172.16.0.0/12");
}

/** Of two IPv4 ranges that overlap, one holds the first address of the other. */
export function overlap(one: string, other: string): boolean {
  const holds = (range: string, address: string) => {
    const [network = "", bits] = range.split("/");
    const list = new BlockList();
    list.addSubnet(network, Number(bits), "ipv4");
    return list.check(address.split("/")[0] ?? "");
  };
  return holds(one, other) || holds(other, one);
}

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────

type Raw = Record<string, unknown>;

/** Reads and checks the stack's configuration. Throws a `ConfigurationError` that lists every violation. */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const raw = readRaw();
  const forged = prototypeKeys(raw).map((path) => takeOut(path, raw));
  const parsed = schema.safeParse(raw);
  const found = [
    ...forged,
    ...(parsed.error?.issues ?? []).flatMap((issue) => explain(issue, raw)),
    ...plainSecrets(raw),
  ];
  const violations = [...found.map(({ violation }) => violation), ...brokenRules(raw, found, env)];
  if (violations.length > 0 || !parsed.success) throw new ConfigurationError(withoutSecrets(violations, raw));
  const { registryPassword, registryPullPassword, snapshotsAccessKey, snapshotsSecretKey, ...config } = parsed.data;
  const { snapshots: _, ...elasticsearch } = config.elasticsearch;
  const { server, clusterServer = server, anonymous, private: isPrivate } = config.registry;
  const registry = { server, clusterServer, anonymous, private: isPrivate };
  return { ...config, registry, elasticsearch, ...images(parsed.data), ...snapshots(parsed.data) };
}

/** The rules have refused snapshots without a key pair here. */
function snapshots({ elasticsearch, snapshotsAccessKey = "", snapshotsSecretKey = "" }: PlainConfig) {
  if (!elasticsearch.snapshots) return {};
  const keys = { accessKey: pulumi.secret(snapshotsAccessKey), secretKey: pulumi.secret(snapshotsSecretKey) };
  return { snapshots: { ...elasticsearch.snapshots, ...keys } };
}

/** Whether the image is built, and goes to the registry of the cluster's cloud. */
export const pushesToCluster = ({ cluster, api }: Pick<PlainConfig, "cluster" | "api">): boolean =>
  cluster.provider === "aws" && cluster.imageRegistry && api.image === undefined;

/** The rules have refused a configuration in which something is missing here. */
function images({ cluster, api, registry, registryPassword = "", registryPullPassword }: PlainConfig) {
  const { server, clusterServer, repository = "", username = "", anonymous } = registry;
  const login = (password: string) => ({ username, password: pulumi.secret(password) });
  const source = { repository, context: "app/api" };
  if (pushesToCluster({ cluster, api })) return { image: source };
  const built = { server, clusterServer, ...source, ...(!anonymous && login(registryPassword)) };
  return {
    image: api.image === undefined ? built : { image: api.image },
    pull:
      registry.private && !anonymous
        ? { server: clusterServer ?? server, ...login(registryPullPassword ?? registryPassword) }
        : undefined,
  };
}

/** Every key of the namespace; Pulumi hands objects over as JSON. */
function readRaw(): Raw {
  const sections = Object.entries(pulumi.runtime.allConfig())
    .filter(([name]) => name.startsWith(`${PROJECT}:`))
    .map(([name, value]) => {
      const section = name.slice(PROJECT.length + 1);
      const isText = inner(schemaAt([section]) ?? z.unknown()) instanceof z.ZodString;
      return [section, isText ? value : fromJson(value)];
    });
  return Object.fromEntries(sections);
}

function fromJson(value: string): unknown {
  try {
    return nests(value) ? value : JSON.parse(value);
  } catch {
    return value;
  }
}

/** Whether a text nests deeper than any key: it stays one, since whoever walks through it would run out of stack. */
function nests(text: string): boolean {
  let depth = 0;
  for (const char of text) {
    if (char === "{" || char === "[") depth++;
    else if (char === "}" || char === "]") depth--;
    if (depth > 32) return true;
  }
  return false;
}

/** Keys that would not add to an object but change what it is; the schema's library passes over them in silence. */
function prototypeKeys(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) => {
    const below = [...path, Array.isArray(value) ? Number(name) : name];
    return name === "__proto__" ? [below] : prototypeKeys(member, below);
  });
}

function takeOut(path: Path, raw: Raw): Found {
  const found = unknownKey(path, raw);
  Reflect.deleteProperty(valueAt(raw, path.slice(0, -1)) as Raw, "__proto__");
  return found;
}

/** Rules speak of several keys: what one of them tells must not be what another keeps secret. */
function withoutSecrets(violations: Violation[], raw: Raw): Violation[] {
  const secrets = Object.keys(raw)
    .filter(isSecret)
    .flatMap((name) => textsIn(raw[name]))
    .map((text) => show(text).slice(1, -1));
  const conceal = (text: string) => secrets.reduce((rest, secret) => rest.replaceAll(secret, "[secret]"), text);
  // Its quotes are not the secret's own: what is left of it without the secret may be another command.
  const tells = (command: string) =>
    secrets.some((secret) => [secret, secret.replaceAll("'", "'\\''")].some((form) => command.includes(form)));
  return violations.map(({ key, given, allowed, command }) => ({
    key,
    given: conceal(given),
    allowed: conceal(allowed),
    command: tells(command) ? editCommand() : command,
  }));
}

/** Short ones are in every sentence, and guessed anyway. */
function textsIn(value: unknown): string[] {
  if (typeof value === "string") return value.length < 6 ? [] : [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(textsIn) : [];
}

const isSecret = (name: PropertyKey | undefined) => isSetAsSecret(`${PROJECT}:${String(name)}`);

const isSecretKey = (name: unknown): name is SecretKey => secretKeys.some((key) => key === name);

interface Found {
  path: Path;
  violation: Violation;
  /** What stands in for the wrong value while the other rules are judged. */
  standIn?: unknown;
}

/** A secret that the stack's file holds in plain text. */
function plainSecrets(raw: Raw): Found[] {
  return secretKeys
    .filter((name) => raw[name] !== undefined && !isSecret(name))
    .map((name) => ({ path: [name], standIn: raw[name], violation: secretViolation(name, "a value in plain text") }));
}

/** What one of the schema's complaints means to the user. */
function explain(issue: z.core.$ZodIssue, raw: Raw): Found[] {
  if (issue.code === "unrecognized_keys") return issue.keys.map((name) => unknownKey([...issue.path, name], raw));
  const { path } = issue;
  if (isSecretKey(path[0])) {
    return [{ path, standIn: "stand-in", violation: secretViolation(path[0], emptyOrOdd(raw[path[0]])) }];
  }
  if (issue.code === "invalid_key") return [badName(path)];
  const value = valueAt(raw, path);
  const expected = inner(schemaAt(path, raw) ?? z.unknown());
  const given = isSecret(path[0]) ? "a secret" : `${show(value)}${wordForType(issue, value)}`;
  const violation = {
    key: keyName(path),
    given,
    allowed: metaOf(expected).allowed,
    command: fixCommand(path, value, raw),
  };
  return [{ path, violation, standIn: exampleOf(expected) }];
}

const emptyOrOdd = (value: unknown) =>
  value === "" ? "an empty value" : "a value with a control character, such as a line's end";

/** A name that the user chose, such as a pool's. */
function badName(path: Path): Found {
  const { keyType } = inner(schemaAt(path.slice(0, -1)) ?? z.unknown()) as z.ZodRecord;
  const { allowed } = metaOf(inner(keyType as z.ZodType));
  return { path, violation: { key: keyName(path), given: show(path.at(-1)), allowed, command: removeCommand(path) } };
}

function wordForType(issue: z.core.$ZodIssue, value: unknown): string {
  if (issue.code !== "invalid_type" || value === undefined || value === null) return "";
  if (Array.isArray(value)) return " (a list)";
  return (
    { string: " (text)", number: " (a number)", boolean: " (true or false)", object: " (an object)" }[
      typeof value as string
    ] ?? ""
  );
}

function unknownKey(path: Path, raw: Raw): Found {
  const name = String(path.at(-1));
  const siblings = inner(schemaAt(path.slice(0, -1), raw) ?? z.unknown());
  const known = siblings instanceof z.ZodObject ? Object.keys(siblings.shape) : [];
  const hidden = isSecret(path[0]) || path.some((part) => /passw|token|secret|credential/i.test(String(part)));
  const given = hidden ? "a secret" : show(valueAt(raw, path));
  const violation = { key: keyName(path), given, allowed: suggestion(path, name, known), command: removeCommand(path) };
  return { path, violation };
}

let known: { name: string; key: string }[] | undefined;

const everyKey = () => {
  known ??= leaves().map(({ path }) => ({ name: String(path.at(-1)), key: keyName(path) }));
  return known;
};

/** The nearest known key: first beside the unknown one, then anywhere. */
function suggestion(path: Path, name: string, siblings: string[]): string {
  if (name.length > 64) return `no such key; known are ${siblings.join(", ")}`;
  const near = (candidates: { name: string; key: string }[]) =>
    candidates
      .map((candidate) => ({ ...candidate, edits: distance(name.toLowerCase(), candidate.name.toLowerCase()) }))
      .filter(({ edits }) => edits <= Math.max(1, Math.floor(name.length / 3)))
      .sort((a, b) => a.edits - b.edits)[0];
  const beside = near(siblings.map((sibling) => ({ name: sibling, key: keyName([...path.slice(0, -1), sibling]) })));
  const found = beside ?? near(everyKey());
  if (found?.key === keyName(path)) return "no such key with this cluster.provider";
  if (found) return `no such key; did you mean ${found.key}?`;
  return `no such key; known are ${siblings.join(", ")}`;
}

function fixCommand(path: Path, value: unknown, raw: Raw): string {
  const expected = inner(schemaAt(path, raw) ?? z.unknown());
  const leaf = firstLeaf(expected);
  // A value of another shape is in the way of the keys below it; and nobody's value can be a proposal for an image.
  if (value !== undefined && (leaf.path.length > 0 || leaf.example === undefined)) return removeCommand(path);
  return setCommand([...path, ...leaf.path], leaf.example ?? "<value>");
}

/** Rules between keys, judged with stand-ins for what is wrong by itself, as far as they read none of it. */
function brokenRules(raw: Raw, found: Found[], env: NodeJS.ProcessEnv): Violation[] {
  const mended = structuredClone(raw);
  for (const { path, standIn } of found) mend(mended, path, standIn);
  const { data } = schema.safeParse(mended);
  if (!data) return [];
  const wrong = found.map(({ path }) => path.join("."));
  const touches = (read: string) =>
    wrong.some((key) => `${key}.`.startsWith(`${read}.`) || `${read}.`.startsWith(`${key}.`));
  return rules(data, env).flatMap(({ reads, violations }) => (reads.some(touches) ? [] : violations));
}

function mend(raw: Raw, path: Path, standIn: unknown): void {
  const parent = valueAt(raw, path.slice(0, -1)) as Record<PropertyKey, unknown> | undefined;
  const last = path.at(-1);
  if (last === undefined) return;
  if (parent === undefined) mend(raw, path.slice(0, -1), { [last]: standIn });
  else if (standIn === undefined) delete parent[last];
  else parent[last] = standIn;
}

const valueAt = (raw: unknown, path: Path): unknown =>
  path.reduce<unknown>((value, part) => ownMember(value, part), raw);

/** Not what every object has, such as `constructor`. */
const ownMember = (value: unknown, part: PropertyKey): unknown =>
  typeof value === "object" && value !== null && Object.hasOwn(value, part)
    ? (value as Record<PropertyKey, unknown>)[part]
    : undefined;

/**
 * Refuses a component's args of which the schema refuses one, as the key they come from: a stack that makes components by
 * itself is held to what a configuration is. To be called before the component exists; outputs are known too late for it.
 */
export function checkArgs(path: Path, args: object): void {
  const raw = path.length === 0 ? (args as Raw) : { [String(path[0])]: args };
  const violations = argViolations(path, args, raw);
  if (violations.length > 0) throw new ConfigurationError(violations);
}

function argViolations(path: Path, value: unknown, raw: Raw): Violation[] {
  const expected = path.length === 0 ? schema : schemaAt(path, raw);
  if (!expected || value === undefined || pulumi.Output.isInstance(value) || value instanceof Promise) return [];
  const isContainer = !isScalar(expected);
  const fits = isContainer ? typeof value === "object" && value !== null : isTaken(expected, value);
  if (!fits) {
    const { allowed } = metaOf(expected);
    return [{ key: keyName(path), given: show(value), allowed, command: fixCommand(path, value, raw) }];
  }
  if (!isContainer) return [];
  return [
    ...missingArgs(path, value as Raw, expected, raw),
    ...Object.entries(value as object).flatMap(([name, member]) => {
      const part = Array.isArray(value) ? Number(name) : name;
      return argViolations([...path, part], member, raw);
    }),
  ];
}

/** Of a section as a whole a component may take a part. */
function missingArgs(path: Path, value: Raw, expected: z.ZodType, raw: Raw): Violation[] {
  if (path.length < 2 || !(expected instanceof z.ZodObject)) return [];
  return Object.entries(expected.shape as Record<string, z.ZodType>)
    .filter(([name, s]) => value[name] === undefined && !s.safeParse(undefined).success)
    .map(([name, s]) => ({
      key: keyName([...path, name]),
      given: show(undefined),
      allowed: metaOf(inner(s)).allowed,
      command: fixCommand([...path, name], undefined, raw),
    }));
}

const isScalar = (expected: z.ZodType) =>
  [z.ZodString, z.ZodNumber, z.ZodBoolean, z.ZodEnum, z.ZodLiteral].some((kind) => expected instanceof kind);

/** As it is: a component converts nothing. */
const isTaken = (expected: z.ZodType, value: unknown) => expected.safeParse(value).success;

// ── walking the schema ──────────────────────────────────────────────────────────────────────────────────────────────

/** The schema below its defaults and conversions. */
function inner(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return inner(schema.unwrap() as z.ZodType);
  }
  return schema instanceof z.ZodPipe ? inner(schema.out as z.ZodType) : schema;
}

/** The schema of a key; `raw` tells which kind of cluster is meant. */
function schemaAt(path: Path, raw: unknown = {}): z.ZodType | undefined {
  let current: z.ZodType | undefined = schema;
  let value: unknown = raw;
  for (const part of path) {
    const container: z.ZodType = variant(inner(current), value);
    value = ownMember(value, part);
    if (container instanceof z.ZodObject) current = ownMember(container.shape, part) as z.ZodType | undefined;
    else if (container instanceof z.ZodRecord) current = container.valueType as z.ZodType;
    else if (container instanceof z.ZodArray) current = container.element as z.ZodType;
    else return undefined;
    if (!current) return undefined;
  }
  return variant(inner(current), value);
}

function variant(container: z.ZodType, value: unknown): z.ZodType {
  if (!(container instanceof z.ZodDiscriminatedUnion)) return container;
  const meant = isObject(value) ? value.provider : undefined;
  if (meant === "aws") return awsCluster;
  return meant === "existing" ? existingCluster : digitalOceanCluster;
}

function metaOf(schema: z.ZodType): Meta {
  const meta = schema.meta() as Meta | undefined;
  if (meta?.allowed) return meta;
  const keys = schema instanceof z.ZodObject ? Object.keys(schema.shape).join(", ") : "";
  return { description: "", ...meta, allowed: `an object with the keys ${keys}` };
}

/** A valid value made of the examples of all keys that have no default. */
function exampleOf(schema: z.ZodType): unknown {
  if (schema instanceof z.ZodRecord) return {};
  if (schema instanceof z.ZodArray) return [];
  if (!(schema instanceof z.ZodObject)) return (schema.meta() as Meta | undefined)?.example;
  const required = Object.entries(schema.shape as Record<string, z.ZodType>).filter(
    ([, s]) => !s.safeParse(undefined).success,
  );
  return Object.fromEntries(required.map(([name, s]) => [name, exampleOf(inner(s))]));
}

/** The first key to set below a key, and what to set it to. */
function firstLeaf(schema: z.ZodType): { path: Path; example?: Meta["example"] } {
  const below = (name: PropertyKey, s: z.ZodType) => {
    const leaf = firstLeaf(inner(s));
    return { ...leaf, path: [name, ...leaf.path] };
  };
  if (schema instanceof z.ZodArray) return below(0, schema.element as z.ZodType);
  if (schema instanceof z.ZodRecord) return below("workers", schema.valueType as z.ZodType);
  const [first] = schema instanceof z.ZodObject ? Object.entries(schema.shape as Record<string, z.ZodType>) : [];
  return first ? below(...first) : { path: [], example: (schema.meta() as Meta | undefined)?.example };
}

export interface Leaf extends Meta {
  path: Path;
  /** The kind of cluster that has the key, where not every kind has it. */
  variant?: string;
  /** As the reference prints it: `required`, `–`, or the value. */
  default: string;
}

/** Every key with its meaning, in the schema's order: the source of docs/configuration.md. */
export function leaves(from: z.ZodType = schema, path: Path = []): Leaf[] {
  const bare = inner(from);
  if (bare instanceof z.ZodDiscriminatedUnion) {
    return (bare.options as z.ZodObject[]).flatMap((option) => {
      const variant = String((inner(option.shape.provider as z.ZodType) as z.ZodLiteral).value);
      return leaves(option, path).map((leaf) => ({ ...leaf, variant }));
    });
  }
  const own = bare.meta() ? [leafOf(from, path)] : [];
  if (bare instanceof z.ZodObject) return [...own, ...below(bare, path)];
  if (bare instanceof z.ZodArray) return [...own, ...below(inner(bare.element as z.ZodType), [...path, 0])];
  if (bare instanceof z.ZodRecord) return [...own, ...below(inner(bare.valueType as z.ZodType), [...path, "<name>"])];
  return own;
}

function below(object: z.ZodType, path: Path): Leaf[] {
  const shape = object instanceof z.ZodObject ? (object.shape as Record<string, z.ZodType>) : {};
  return Object.entries(shape).flatMap(([name, s]) => leaves(s, [...path, name]));
}

function leafOf(schema: z.ZodType, path: Path): Leaf {
  const { success, data } = schema.safeParse(undefined);
  const fallback = data === undefined ? "–" : JSON.stringify(data);
  return { ...metaOf(inner(schema)), path, default: success ? fallback : "required" };
}
