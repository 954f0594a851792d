import type { CoreV1Api, V1Container, V1EnvVar, V1Pod } from "@kubernetes/client-node";
import { parseQuantity } from "../../capacity";
import { clusterEndpoint } from "../cluster";
import { allContainers } from "./images";
import { loopback } from "./names";

/** The container's variables as the kubelet makes them; `map` is for those values that are paths. */
export async function environment(
  core: CoreV1Api,
  pod: V1Pod,
  container: V1Container,
  map: (path: string) => string,
): Promise<Record<string, string>> {
  const read = new References(core, pod);
  const server = new URL(clusterEndpoint().server);
  const found: Record<string, string> = {
    PATH: process.env.PATH ?? "",
    HOSTNAME: pod.metadata?.name ?? "",
    KUBERNETES_SERVICE_HOST: server.hostname,
    KUBERNETES_SERVICE_PORT: server.port,
  };
  for (const { prefix = "", configMapRef, secretRef } of container.envFrom ?? []) {
    const data = configMapRef
      ? await read.configMap(configMapRef.name, configMapRef.optional)
      : await read.secret(secretRef?.name, secretRef?.optional);
    for (const [key, value] of Object.entries(data)) found[prefix + key] = value;
  }
  for (const variable of container.env ?? []) {
    const value = await resolveValue(variable, pod, container, read);
    if (value !== undefined) found[variable.name] = map(expand(value, found));
  }
  return found;
}

/** `$(NAME)` as Kubernetes replaces it in commands, arguments and variables; an unknown one stays. */
export const expand = (text: string, env: Record<string, string>): string =>
  text.replace(/\$(\$|\(([^)]+)\))/g, (whole, escaped, name) => (escaped === "$" ? "$" : (env[name] ?? whole)));

/** Bytes of the container's limit of memory. */
export const memoryLimit = ({ resources }: V1Container): number | undefined =>
  parseQuantity(resources?.limits?.memory ?? "");

async function resolveValue({ value, valueFrom }: V1EnvVar, pod: V1Pod, container: V1Container, read: References) {
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef } = valueFrom ?? {};
  if (fieldRef) return fieldOf(pod, fieldRef.fieldPath);
  if (resourceFieldRef) {
    const of = allContainers(pod.spec).find(({ name }) => name === resourceFieldRef.containerName) ?? container;
    const [kind, resource = ""] = resourceFieldRef.resource.split(".");
    const quantity = of.resources?.[kind as "limits" | "requests"]?.[resource] ?? "0";
    return String(Math.ceil((parseQuantity(quantity) ?? 0) / (parseQuantity(resourceFieldRef.divisor ?? "1") || 1)));
  }
  if (configMapKeyRef) {
    const data = await read.configMap(configMapKeyRef.name, configMapKeyRef.optional);
    return required(data, configMapKeyRef.key, configMapKeyRef.optional, `ConfigMap ${configMapKeyRef.name}`);
  }
  if (secretKeyRef) {
    const data = await read.secret(secretKeyRef.name, secretKeyRef.optional);
    return required(data, secretKeyRef.key, secretKeyRef.optional, `Secret ${secretKeyRef.name}`);
  }
  return value ?? "";
}

/** A field of the downward API; addresses are those that processes can use. */
export function fieldOf(pod: V1Pod, path: string): string {
  const [, kind, key] = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path) ?? [];
  if (kind && key) return pod.metadata?.[kind as "labels" | "annotations"]?.[key] ?? "";
  if (path === "metadata.labels" || path === "metadata.annotations") {
    const all = pod.metadata?.[path === "metadata.labels" ? "labels" : "annotations"] ?? {};
    const lines = Object.keys(all)
      .sort()
      .map((each) => `${each}=${JSON.stringify(all[each])}`);
    return lines.join("\n");
  }
  if (path === "status.podIP" || path === "status.podIPs") return loopback(pod.status?.podIP ?? "");
  if (path === "status.hostIP" || path === "status.hostIPs") return pod.status?.hostIP ?? "";
  // biome-ignore lint/suspicious/noExplicitAny: a path into any of the object's parts
  const value = path.split(".").reduce((part: any, name) => part?.[name], pod);
  return value === undefined ? "" : String(value);
}

function required(data: Record<string, string>, key: string, optional: boolean | undefined, where: string) {
  if (data[key] === undefined && !optional) throw new Error(`couldn't find key ${key} in ${where}`);
  return data[key];
}

class References {
  constructor(
    private readonly core: CoreV1Api,
    private readonly pod: V1Pod,
  ) {}

  configMap(name = "", optional = false): Promise<Record<string, string>> {
    return this.read(optional, async () => (await this.core.readNamespacedConfigMap(this.named(name))).data ?? {});
  }

  secret(name = "", optional = false): Promise<Record<string, string>> {
    return this.read(optional, async () => {
      const { data = {} } = await this.core.readNamespacedSecret(this.named(name));
      return Object.fromEntries(
        Object.entries(data).map(([key, value]) => [key, Buffer.from(value, "base64").toString()]),
      );
    });
  }

  private async read(optional: boolean, read: () => Promise<Record<string, string>>) {
    try {
      return await read();
    } catch (error) {
      if (optional && (error as { code?: number }).code === 404) return {};
      throw error;
    }
  }

  private named = (name: string) => ({ name, namespace: this.pod.metadata?.namespace ?? "" });
}
