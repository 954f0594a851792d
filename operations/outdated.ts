import { clean, compare, diff, major, valid } from "semver";
import { anybody } from "./registryLogin";

/** What the project pins. */
export interface Pin {
  kind: "Kubernetes" | "image" | "provider" | "package";
  name: string;
  version: string;
}

interface Newer extends Pin {
  newest: string;
  risk: string;
}

/** One that could not be asked says why. */
export interface Outdated {
  newer: Newer[];
  unasked: { source: string; why: string; pins: string[] }[];
}

/** Where versions are told. */
export interface Sources {
  /** Address of npm's registry. */
  npm: string;
  /** Address of an image's registry, by its server's name. */
  registry(server: string): string;
  /** @default `https://api.digitalocean.com` */
  digitalOcean: string;
  /** Without one DigitalOcean is not asked. */
  token?: string;
}

/** @returns the newest release among `versions`, none older than `current`; no pre-release, and of an image no other variant */
export function newest(current: string, versions: string[]): string | undefined {
  const release = /^v?\d+\.\d+(\.\d+)?$/;
  const full = (version: string) => clean(/^v?\d+\.\d+$/.test(version) ? `${version}.0` : version) ?? "";
  const later = versions
    .filter((version) => release.test(version) && version.startsWith("v") === current.startsWith("v"))
    .filter((version) => valid(full(version)) && compare(full(version), full(current)) > 0)
    .sort((a, b) => compare(full(b), full(a)));
  return later[0];
}

/** What may go wrong, and what to read before. */
export function riskOf({ kind, name, version }: Pin, to: string): string {
  const [from, target] = [version, to].map((one) => clean(/^v?\d+\.\d+$/.test(one) ? `${one}.0` : one) ?? "0.0.0");
  const step = diff(from ?? "", target ?? "") ?? "patch";
  if (kind === "Kubernetes")
    return "high: one minor at a time, no way back; removed APIs: kubernetes.io/docs/reference/using-api/deprecation-guide";
  if (kind === "image" && name.endsWith("/elasticsearch"))
    return major(from ?? "") === major(target ?? "")
      ? "middle: nodes restart one by one, no way back on their disks; take a snapshot first"
      : "high: from the last minor of the major only, no way back; docs/operations.md, Elasticsearch: upgrade";
  if (kind === "provider")
    return step === "major"
      ? "high: resources may be replaced; read the preview of each stack"
      : "middle: defaults may change; read the preview of each stack";
  if (step === "major") return "high: read its release notes";
  return /^0\./.test(from ?? "") && step === "minor"
    ? "high: below 1.0 a minor may break"
    : step === "minor"
      ? "low"
      : "none known";
}

const PROVIDER = /^@pulumi\/(?!pulumi$|policy$)/;

/** The packages of a package.json; Pulumi's providers are told apart, since they decide what becomes of resources. */
export const packagePins = (manifest: Record<"dependencies" | "devDependencies", Record<string, string>>): Pin[] =>
  Object.entries({ ...manifest.dependencies, ...manifest.devDependencies }).map(([name, version]) => ({
    kind: PROVIDER.test(name) ? "provider" : "package",
    name,
    version,
  }));

/** The images that constants name. @param source TypeScript */
export const imagePins = (source: string): Pin[] =>
  [
    ...source.matchAll(/"([a-z0-9.-]+\.[a-z]{2,}\/[a-z0-9._/-]+):(v?\d+\.\d+\.\d+[\w.-]*)(@sha256:[0-9a-f]{64})?"/g),
  ].map(([, name = "", version = ""]) => ({ kind: "image", name, version }));

/** Asks each source for what it knows of the pins; one that fails is told, and keeps none of the others. */
export async function outdated(pins: Pin[], sources: Sources): Promise<Outdated> {
  const found: Outdated = { newer: [], unasked: [] };
  const asked = pins.map(async (pin) => {
    const source = sourceOf(pin, sources);
    try {
      const to = newest(pin.version, await source.versions());
      if (to) found.newer.push({ ...pin, newest: to, risk: riskOf(pin, to) });
    } catch (error) {
      const why = error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : "";
      found.unasked.push({ source: source.name, why, pins: [pin.name] });
    }
  });
  await Promise.all(asked);
  const order = pins.map(({ name }) => name);
  found.newer.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  return { ...found, unasked: bySource(found.unasked) };
}

function bySource(unasked: Outdated["unasked"]): Outdated["unasked"] {
  const sources = new Map<string, Outdated["unasked"][number]>();
  for (const one of unasked) {
    const key = `${one.source}: ${one.why}`;
    sources.set(key, { ...one, pins: [...(sources.get(key)?.pins ?? []), ...one.pins] });
  }
  return [...sources.entries()].sort(([a], [b]) => a.localeCompare(b)).map(([, one]) => one);
}

interface Source {
  name: string;
  versions(): Promise<string[]>;
}

function sourceOf({ kind, name }: Pin, { npm, registry, digitalOcean, token }: Sources): Source {
  if (kind === "Kubernetes")
    return {
      name: "DigitalOcean's Kubernetes versions",
      async versions() {
        if (!token) throw new Error("DIGITALOCEAN_TOKEN is not set");
        const headers = { authorization: `Bearer ${token}` };
        const { options } = await answerOf<{ options: { versions: { kubernetes_version: string }[] } }>(
          await ask(`${digitalOcean}/v2/kubernetes/options`, headers),
        );
        return options.versions.map((one) => one.kubernetes_version.split(".").slice(0, 2).join("."));
      },
    };
  if (kind !== "image")
    return {
      name: "npm's registry",
      async versions() {
        const headers = { accept: "application/vnd.npm.install-v1+json" };
        const { "dist-tags": tags } = await answerOf<{ "dist-tags": { latest: string } }>(
          await ask(`${npm.replace(/\/$/, "")}/${name.replace("/", "%2f")}`, headers),
        );
        return [tags.latest];
      },
    };
  const [server = "", ...path] = name.split("/");
  return { name: server, versions: () => tagsOf(registry(server), path.join("/")) };
}

/**
 * All tags of a repository that anybody may pull from.
 * Source: https://distribution.github.io/distribution/spec/api/#listing-image-tags
 */
async function tagsOf(registry: string, repository: string): Promise<string[]> {
  const tags: string[] = [];
  let headers = {};
  let next: string | undefined = `/v2/${repository}/tags/list?n=1000`;
  while (next) {
    const address = new URL(next, registry);
    let response = await ask(address, headers);
    if (response.status === 401) {
      headers = await anybody(response, repository);
      response = await ask(address, headers);
    }
    const link = /<([^>]+)>; *rel="?next/.exec(response.headers.get("link") ?? "");
    tags.push(...((await answerOf<{ tags: string[] | null }>(response)).tags ?? []));
    next = link?.[1];
  }
  return tags;
}

/** Once more where nobody answered: of dozens that are asked at once, one name may not be found in time. */
async function ask(address: string | URL, headers: Record<string, string>): Promise<Response> {
  const attempt = () => fetch(address, { headers, signal: AbortSignal.timeout(15_000) });
  return attempt().catch(attempt);
}

async function answerOf<T>(response: Response): Promise<T> {
  if (!response.ok) throw new Error(`answered ${response.status}`);
  return (await response.json()) as T;
}

/** One line each, by kind, and what could not be asked. */
export function tellOutdated({ newer, unasked }: Outdated): string {
  const width = Math.max(0, ...newer.map(({ kind, name }) => kind.length + name.length + 1));
  const lines = newer.map(
    ({ kind, name, version, newest: to, risk }) =>
      `${`${kind} ${name}`.padEnd(width)}  ${version} → ${to}  risk ${risk}`,
  );
  const not = unasked.map(({ source, why, pins }) => {
    const more = pins.length > 3 ? ` and ${pins.length - 3} more` : "";
    return `Not asked: ${source}, for ${pins.slice(0, 3).join(", ")}${more}: ${why}`;
  });
  return [...(lines.length > 0 ? lines : ["Nothing newer was found."]), ...not].join("\n");
}
