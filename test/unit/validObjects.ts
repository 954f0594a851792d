import assert from "node:assert/strict";
import { parse } from "yaml";
import { parseQuantity } from "../../capacity";
import type { Captured } from "./graph";

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$/;
/** Objects whose names are parts of a path, and may hold more. */
const PATH_NAME = /^(?!\.{1,2}$)[^/%\p{C}]{1,253}$/u;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const QUALIFIED = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const HOST = SUBDOMAIN;
const TAG = /^[a-zA-Z0-9:_-]{1,255}$/;
/** No control, no bidirectional or invisible character, and no half of a pair. */
const PLAIN = /^[\P{C}\n\t]*$/u;

const NGINX: Record<string, RegExp> = {
  "client-max-body-size": /^\d{1,9}[kmg]?$/,
  "server-tokens": /^false$/,
  "worker-shutdown-timeout": /^\d+s$/,
  "set-real-ip-from": /^[\d.]+\/\d+$/,
  "real-ip-header": /^X-Forwarded-For$/,
  "real-ip-recursive": /^true$/,
  "redirect-to-https": /^true$/,
};
const NGINX_ANNOTATION = /^(\d{1,9}(r\/s)?|[\w.{}$]+|true|false)$/;

// biome-ignore lint/suspicious/noExplicitAny: objects have as many shapes as kinds
type Bag = Record<string, any>;

/** What the API server and DigitalOcean would refuse, or take for something that nobody meant. */
export function assertValid(graph: Captured[]): void {
  for (const resource of graph) {
    const { type, inputs, urn, name } = resource;
    const check = (holds: boolean, what: string, value: unknown) =>
      assert.ok(holds, `${urn}: ${what} is ${JSON.stringify(value)?.slice(0, 300)}`);
    check(/^[\x21-\x7e]+$/.test(name), "its name", name);
    everyText(inputs, (text, path) => check(PLAIN.test(text), `text at ${path}`, text));
    if (type.startsWith("kubernetes:")) kubernetesObject(resource, check);
    if (type.startsWith("digitalocean:")) accountObject(type, inputs, check);
  }
}

type Check = (holds: boolean, what: string, value: unknown) => void;

function kubernetesObject({ type, inputs }: Captured, check: Check): void {
  const { metadata = {} } = inputs;
  const nameOf = /rbac\.authorization/.test(type) ? PATH_NAME : /:(Service|Namespace)$/.test(type) ? LABEL : SUBDOMAIN;
  if (metadata.name !== undefined) check(nameOf.test(metadata.name), "metadata.name", metadata.name);
  if (metadata.namespace !== undefined) check(LABEL.test(metadata.namespace), "metadata.namespace", metadata.namespace);
  everyObject(inputs, (object, path) => {
    for (const field of ["labels", "matchLabels", "nodeSelector", "selector"])
      labels(object[field], `${path}.${field}`, check);
    for (const field of ["requests", "limits", "hard", "defaultRequest"])
      quantities(object[field], `${path}.${field}`, check);
    for (const field of ["replicas", "minReplicas", "maxReplicas", "averageUtilization"]) {
      const value = object[field];
      if (value !== undefined)
        check(Number.isInteger(value) && value >= 0 && value < 2 ** 31, `${path}.${field}`, value);
    }
    for (const { name, value } of Array.isArray(object.env) ? object.env : []) {
      check(/^[A-Z_]+$/.test(name), `${path}.env`, name);
      check(value === undefined || !/[\n\r]/.test(value), `${path}.env.${name}`, value);
    }
    if (typeof object.image === "string")
      check(/^[a-z0-9][\w.:/@-]*$/.test(object.image), `${path}.image`, object.image);
  });
  for (const [key, value] of Object.entries(metadata.annotations ?? {})) {
    check(QUALIFIED.test(key), "an annotation", key);
    check(
      typeof value === "string" && !/[\n\r;{}]/.test(value.replace(/^(\$|jsonpath=)\{[\w.[\]]+\}$/, "")),
      `the annotation ${key}`,
      value,
    );
    if (key.startsWith("nginx.org/")) check(NGINX_ANNOTATION.test(String(value)), `the annotation ${key}`, value);
  }
  if (type.endsWith(":Ingress")) {
    for (const { host } of inputs.spec.rules) check(HOST.test(host), "a host", host);
  }
  if (type.endsWith(":ConfigMap")) configMap(inputs.data ?? {}, check);
  if (type.endsWith(":StorageClass")) check(QUALIFIED.test(inputs.provisioner), "its provisioner", inputs.provisioner);
}

/** NGINX's settings are known one by one; Elasticsearch's stay one flat mapping, whatever the values. */
function configMap(data: Record<string, string>, check: Check): void {
  if ("server-tokens" in data) {
    for (const [key, value] of Object.entries(data))
      check(NGINX[key]?.test(value) === true, `the setting ${key}`, value);
  }
  if (data["elasticsearch.yml"] !== undefined) {
    const settings = parse(data["elasticsearch.yml"]) as Bag;
    for (const key of Object.keys(settings)) check(/^[a-z][\w.]*$/.test(key), "a setting's name", key);
  }
}

function labels(found: unknown, path: string, check: Check): void {
  if (typeof found !== "object" || found === null || Array.isArray(found)) return;
  if ("matchLabels" in found || "matchExpressions" in found) return;
  for (const [key, value] of Object.entries(found)) {
    if (typeof value === "object") continue;
    check(QUALIFIED.test(key), `${path}'s key`, key);
    check(typeof value === "string" && LABEL_VALUE.test(value), `${path}.${key}`, value);
  }
}

function quantities(found: unknown, path: string, check: Check): void {
  // A LimitRange's `limits` are a list of what has them.
  if (typeof found !== "object" || found === null || Array.isArray(found)) return;
  for (const [key, value] of Object.entries(found)) {
    const amount = parseQuantity(String(value));
    check(amount !== undefined && amount < 2 ** 63, `${path}.${key}`, value);
  }
}

function accountObject(type: string, inputs: Bag, check: Check): void {
  for (const tag of inputs.tags ?? []) check(TAG.test(tag), "a tag", tag);
  if (/KubernetesCluster$|KubernetesNodePool$/.test(type)) check(LABEL.test(inputs.name), "its name", inputs.name);
  labels(inputs.labels, "labels", check);
  for (const { key, value } of inputs.taints ?? []) {
    check(QUALIFIED.test(key), "a taint's key", key);
    check(LABEL_VALUE.test(value), "a taint's value", value);
  }
  for (const count of [inputs.nodeCount, inputs.minNodes, inputs.maxNodes]) {
    check(count === undefined || (Number.isInteger(count) && count <= 5000), "its number of nodes", count);
  }
  if (/:Domain$/.test(type)) check(HOST.test(inputs.name) && inputs.name.includes("."), "its name", inputs.name);
  if (/:DnsRecord$/.test(type)) {
    check(
      /^(@|\*|(\*\.)?[a-z0-9_][-a-z0-9_.]*)$/.test(inputs.name) && !inputs.name.includes(".."),
      "its name",
      inputs.name,
    );
    check(!/[\n\r]/.test(inputs.value), "its value", inputs.value);
  }
}

function everyObject(value: unknown, visit: (object: Bag, path: string) => void, path = "inputs"): void {
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value)) visit(value as Bag, path);
  for (const [key, member] of Object.entries(value)) everyObject(member, visit, `${path}.${key}`);
}

function everyText(value: unknown, visit: (text: string, path: string) => void, path = "inputs"): void {
  if (typeof value === "string") visit(value, path);
  if (typeof value !== "object" || value === null) return;
  for (const [key, member] of Object.entries(value)) {
    visit(key, `${path}'s key`);
    everyText(member, visit, `${path}.${key}`);
  }
}
