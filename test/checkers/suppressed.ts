/** A finding of a public checker that stays, for a reason; matched exactly but for the objects. */
export interface Suppressed {
  tool: "kube-score" | "checkov";
  /** The checker's own name of the check. */
  check: string;
  /** What it says, where one check says several things. */
  says?: string;
  /** `kind/namespace/name` of the objects, or `*` for all. */
  objects: string[] | "*";
  reason: string;
}

const HOST_SETTINGS = ["DaemonSet/elasticsearch-host-settings/elasticsearch-host-settings"];
const CONTROLLER = ["Deployment/nginx-ingress/nginx-ingress"];
const ELASTICSEARCH = ["StatefulSet/hobnob/elasticsearch"];

const SNAPSHOTS = ["CronJob/hobnob/elasticsearch-snapshots"];

const NO_CPU_LIMIT = "Requests share the CPU out; a limit would only slow a pod down while its machine is idle.";
const PULL_IF_ABSENT =
  "Images are named by digest or by an exact version; Always would stop every restart while a registry is away.";
const NO_DISK_LIMIT =
  "The root filesystems are read-only and containers' logs are rotated; a pod above a limit would be evicted, and its requests with it.";
const NO_LIVENESS =
  "Elasticsearch that is slow is recovering, and a restart adds to its work; the controller ends when its NGINX does; the DaemonSet only sleeps.";
const OWN_USER = "The image's own user, to whom its files belong.";
const ROOT_FOR_ONE_FILE =
  "Only root of the machine can set vm.max_map_count: one init container, in a namespace of its own, with no network.";
const EXACT_VERSION =
  "Somebody else's image, by an exact version: its digest was read in no source that could be named.";

export const suppressed: Suppressed[] = [
  {
    tool: "kube-score",
    check: "container-resources",
    says: "CPU limit is not set",
    objects: "*",
    reason: NO_CPU_LIMIT,
  },
  { tool: "checkov", check: "CKV_K8S_11", objects: "*", reason: NO_CPU_LIMIT },
  { tool: "kube-score", check: "container-image-pull-policy", objects: "*", reason: PULL_IF_ABSENT },
  { tool: "checkov", check: "CKV_K8S_15", objects: "*", reason: PULL_IF_ABSENT },
  { tool: "kube-score", check: "container-ephemeral-storage-request-and-limit", objects: "*", reason: NO_DISK_LIMIT },
  {
    tool: "kube-score",
    check: "container-security-context-user-group-id",
    objects: [...ELASTICSEARCH, ...SNAPSHOTS, ...CONTROLLER],
    reason: OWN_USER,
  },
  { tool: "checkov", check: "CKV_K8S_40", objects: [...ELASTICSEARCH, ...SNAPSHOTS, ...CONTROLLER], reason: OWN_USER },
  {
    tool: "kube-score",
    check: "deployment-has-host-podantiaffinity",
    objects: ["Deployment/hobnob/backend", ...CONTROLLER],
    reason: "topologySpreadConstraints spread the pods over the machines, each version by itself.",
  },
  {
    tool: "checkov",
    check: "CKV_K8S_25",
    objects: CONTROLLER,
    reason: "NET_BIND_SERVICE, for port 80: the one capability that the level restricted lets a pod add.",
  },
  {
    tool: "kube-score",
    check: "pod-probes",
    says: "Container is missing a livenessProbe",
    objects: [...ELASTICSEARCH, ...CONTROLLER],
    reason: NO_LIVENESS,
  },
  {
    tool: "checkov",
    check: "CKV_K8S_8",
    objects: [...ELASTICSEARCH, ...CONTROLLER, ...HOST_SETTINGS],
    reason: NO_LIVENESS,
  },
  {
    tool: "checkov",
    check: "CKV_K8S_9",
    objects: HOST_SETTINGS,
    reason: "Its container only sleeps, and serves nobody.",
  },
  {
    tool: "checkov",
    check: "CKV_K8S_43",
    objects: [...ELASTICSEARCH, ...SNAPSHOTS, ...CONTROLLER, ...HOST_SETTINGS, "Deployment/kube-system/metrics-server"],
    reason: EXACT_VERSION,
  },
  ...["container-security-context-privileged", "container-security-context-user-group-id"].map((check) => ({
    tool: "kube-score" as const,
    check,
    objects: HOST_SETTINGS,
    reason: ROOT_FOR_ONE_FILE,
  })),
  ...["CKV_K8S_16", "CKV_K8S_20", "CKV_K8S_28", "CKV_K8S_37", "CKV_K8S_40"].map((check) => ({
    tool: "checkov" as const,
    check,
    objects: HOST_SETTINGS,
    reason: ROOT_FOR_ONE_FILE,
  })),
];
