import { isObject, type StateResource } from "../operations/state";

/** The Kubernetes objects of a state that was exported with its secrets, as their manifests have them. */
export const manifestsOf = (resources: StateResource[]): unknown[] =>
  resources
    .filter((resource) => isObject(resource) && resource.type.startsWith("kubernetes:"))
    .map(({ inputs }) => revealed(inputs));

/** A state's value without the marks of secrets. */
export function revealed(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(revealed);
  if ("plaintext" in value && Object.keys(value).length === 2) return revealed(JSON.parse(String(value.plaintext)));
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, revealed(member)]));
}
