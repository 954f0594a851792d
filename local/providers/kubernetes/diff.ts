import { type DiffKind, hasUnknown, propertyPath, UNKNOWN } from "../server";
import type { KubeObject } from "./client";

type Value = unknown;
type Dictionary = Record<string, Value>;
type Path = (string | number)[];

const isDictionary = (value: Value): value is Dictionary =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const SUFFIXES: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

function quantity(value: Value): number | undefined {
  const match = /^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)$/.exec(String(value));
  const factor = SUFFIXES[match?.[2] ?? ""];
  return match && factor !== undefined ? Number(match[1]) * factor : undefined;
}

const QUANTITY_FIELDS = new Set([
  "limits",
  "requests",
  "capacity",
  "hard",
  "sizeLimit",
  "divisor",
  "averageValue",
  "podFixed",
]);

/** The API server rewrites quantities: `1000m` comes back as `1`. */
function sameQuantity(path: Path, left: Value, right: Value): boolean {
  if (!path.some((part) => QUANTITY_FIELDS.has(String(part)))) return false;
  const amount = quantity(left);
  return amount !== undefined && amount === quantity(right);
}

/** What the API server leaves out when it stores an object. */
const isEmpty = (value: Value): boolean =>
  value === "" ||
  value === 0 ||
  value === false ||
  (Array.isArray(value) && value.length === 0) ||
  (isDictionary(value) && Object.values(value).every(isEmpty));

/** The live object in the shape of the inputs that made it, and in their spelling where that means the same. */
export function pruneLive(live: Value, inputs: Value, path: Path = []): Value {
  if (isDictionary(live) && isDictionary(inputs)) {
    const pruned: Dictionary = {};
    for (const [key, input] of Object.entries(inputs)) {
      if (live[key] !== undefined && live[key] !== null) pruned[key] = pruneLive(live[key], input, [...path, key]);
      else if (isEmpty(input)) pruned[key] = input;
    }
    return pruned;
  }
  if (Array.isArray(live) && Array.isArray(inputs)) {
    return inputs.slice(0, live.length).map((input, index) => pruneLive(live[index], input, [...path, index]));
  }
  return sameQuantity(path, live, inputs) ? inputs : live;
}

const decode = (text: string) => Buffer.from(text, "base64").toString();

/** A Secret's `stringData` is write-only: the live object has it under `data`. */
export function withStringData(live: KubeObject, inputs: Dictionary): KubeObject {
  if (live.kind !== "Secret" || live.apiVersion !== "v1" || !isDictionary(inputs.stringData)) return live;
  const data = (live.data ?? {}) as Record<string, string>;
  const entries = Object.keys(inputs.stringData)
    .filter((key) => data[key] !== undefined)
    .map((key) => [key, decode(data[key] ?? "")]);
  return { ...live, stringData: Object.fromEntries(entries) };
}

const SELECTOR = ["spec.selector"];
const ROLE_REF = ["roleRef"];
const POD_FIELDS =
  "affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks hostAliases hostIPC hostNetwork hostPID hostname imagePullSecrets nodeName nodeSelector overhead preemptionPolicy priority priorityClassName readinessGates restartPolicy runtimeClassName schedulerName securityContext serviceAccount serviceAccountName shareProcessNamespace subdomain terminationGracePeriodSeconds volumes";
const CONTAINER_FIELDS =
  "args command env image imagePullPolicy lifecycle livenessProbe ports readinessProbe resources securityContext stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts workingDir";
const VOLUME_SOURCES =
  "awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker gcePersistentDisk glusterfs hostPath iscsi local nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume";
const under = (prefix: string, fields: string) => fields.split(" ").map((field) => `${prefix}.${field}`);

/** Changes that replace the object instead of updating it. Source: pulumi-kubernetes, provider/pkg/provider/diff.go. */
const REPLACES: Record<string, string[]> = {
  "apps/v1/StatefulSet": under(
    "spec",
    "podManagementPolicy revisionHistoryLimit selector serviceName volumeClaimTemplates",
  ),
  "apps/v1/Deployment": SELECTOR,
  "apps/v1/DaemonSet": SELECTOR,
  "batch/v1/Job": under("spec", "completions parallelism selector template"),
  "v1/Service": ["spec.clusterIP"],
  "v1/PersistentVolumeClaim": under("spec", "accessModes selector storageClassName volumeName"),
  "v1/PersistentVolume": under("spec", VOLUME_SOURCES),
  "v1/Pod": [
    ...under("spec", POD_FIELDS),
    ...under("spec.containers.*", CONTAINER_FIELDS),
    ...under("spec.initContainers.*", CONTAINER_FIELDS),
  ],
  "v1/ResourceQuota": ["spec.scopes"],
  "v1/Secret": ["type", "stringData", "data"],
  "v1/ConfigMap": ["binaryData", "data"],
  "rbac.authorization.k8s.io/v1/ClusterRoleBinding": ROLE_REF,
  "rbac.authorization.k8s.io/v1/RoleBinding": ROLE_REF,
  "storage.k8s.io/v1/StorageClass": ["parameters", "provisioner"],
};

/** The fields of an object that cannot be updated in place. */
export function replacingFields(inputs: KubeObject, mutable: { configMaps: boolean; secrets: boolean }): string[] {
  const identity = ["metadata.name", "metadata.namespace"];
  const isMutable =
    { ConfigMap: mutable.configMaps, Secret: mutable.secrets }[inputs.kind] && inputs.immutable !== true;
  if (isMutable) return inputs.kind === "Secret" ? [...identity, "type"] : identity;
  return [...identity, ...(REPLACES[`${inputs.apiVersion}/${inputs.kind}`] ?? [])];
}

/** Whether a change at a path touches a field: the field is above it, or within what was set there. */
function touches(field: string, path: Path, value: Value): boolean {
  const parts = field.split(".");
  const shared = Math.min(parts.length, path.length);
  for (let index = 0; index < shared; index++) {
    if (parts[index] !== "*" && parts[index] !== path[index]) return false;
  }
  let rest = value;
  for (const part of parts.slice(shared)) {
    if (part === "*" && Array.isArray(rest)) rest = rest[0];
    else if (isDictionary(rest)) rest = rest[part];
    else return false;
    if (rest === undefined) return false;
  }
  return true;
}

export interface Change {
  kind: DiffKind;
  inputDiff: boolean;
  path: Path;
}

/** What differs between the pruned live object and the new inputs; `replacing` as of {@link replacingFields}. */
export function changes(old: Value, inputs: Value, replacing: string[], path: Path = []): Change[] {
  const change = (kind: "add" | "delete" | "update", value: Value): Change[] => {
    const replaces = replacing.some((field) => touches(field, path, value));
    return [{ kind: replaces ? `${kind}-replace` : kind, inputDiff: kind === "delete", path }];
  };
  const absent = (value: Value) => value === undefined || value === null;
  if (absent(old) && absent(inputs)) return [];
  if (absent(inputs)) return change("delete", old);
  if (absent(old)) return change("add", inputs);
  if (inputs === UNKNOWN) return change("update", inputs);
  if (isDictionary(old) && isDictionary(inputs)) {
    const keys = [...new Set([...Object.keys(old), ...Object.keys(inputs)])];
    return keys.flatMap((key) => changes(old[key], inputs[key], replacing, [...path, key]));
  }
  if (Array.isArray(old) && Array.isArray(inputs)) {
    const indexes = [...Array(Math.max(old.length, inputs.length)).keys()];
    return indexes.flatMap((index) => changes(old[index], inputs[index], replacing, [...path, index]));
  }
  const same = old === inputs || (!hasUnknown(inputs) && sameQuantity(path, old, inputs));
  return same ? [] : change("update", inputs);
}

/** The parts of a property path: `metadata.annotations["a.b/c"]` → metadata, annotations, a.b/c. */
export function parsePropertyPath(path: string): Path {
  const parts: Path = [];
  for (const [, quoted, index, name] of path.matchAll(/\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.[\]]+)/g)) {
    if (quoted !== undefined) parts.push(quoted.replaceAll('\\"', '"'));
    else if (index !== undefined) parts.push(Number(index));
    else if (name !== undefined) parts.push(name);
  }
  return parts;
}

/** Without the changes at or under paths that the program ignores. */
export function withoutIgnored(found: Change[], ignored: string[]): Change[] {
  const prefixes = ignored.map(parsePropertyPath);
  return found.filter(
    ({ path }) => !prefixes.some((prefix) => prefix.every((part, index) => part === "*" || part === path[index])),
  );
}

export const detailedDiff = (found: Change[]) =>
  Object.fromEntries(found.map(({ path, kind, inputDiff }) => [propertyPath(path), { kind, inputDiff }]));
