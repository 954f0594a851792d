import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { CoreV1Api, V1Container, V1KeyToPath, V1Pod, V1Volume, V1VolumeProjection } from "@kubernetes/client-node";
import { stateDirectory } from "../paths";
import { fieldOf } from "./environment";

/** A pod's volumes as directories of this machine. */
export class Volumes {
  private readonly directories = new Map<string, string>();

  /** @param directory the pod's own, which ends with it. */
  constructor(
    private readonly core: CoreV1Api,
    private pod: V1Pod,
    private readonly directory: string,
  ) {}

  /** Makes all of them, or brings those from the API server up to date. Throws where an object is missing. */
  async write(pod: V1Pod = this.pod): Promise<void> {
    this.pod = pod;
    for (const volume of this.pod.spec?.volumes ?? []) this.directories.set(volume.name, await this.prepare(volume));
  }

  /** Maps the container's paths, and whatever begins with one, to this machine's. */
  mapping({ volumeMounts = [] }: V1Container, imageFiles: Record<string, string>): (path: string) => string {
    const places = [
      ...volumeMounts.map(({ name, mountPath, subPath = "" }) => ({
        from: mountPath,
        to: join(this.directories.get(name) ?? "", subPath),
      })),
      ...Object.entries(imageFiles).map(([from, to]) => ({ from, to })),
    ].sort((one, other) => other.from.length - one.from.length);
    return (path) => {
      const place = places.find(({ from }) => path === from || path.startsWith(`${from}/`));
      return place ? place.to + path.slice(place.from.length) : path;
    };
  }

  private async prepare(volume: V1Volume): Promise<string> {
    const own = join(this.directory, "volumes", volume.name);
    const { configMap, secret, projected, downwardAPI, persistentVolumeClaim } = volume;
    if (persistentVolumeClaim) return this.disk(persistentVolumeClaim.claimName);
    await mkdir(own, { recursive: true });
    if (configMap) await this.project(own, [{ configMap }], configMap.defaultMode);
    if (secret) {
      const source = { name: secret.secretName, items: secret.items, optional: secret.optional };
      await this.project(own, [{ secret: source }], secret.defaultMode);
    }
    if (downwardAPI) await this.project(own, [{ downwardAPI }], downwardAPI.defaultMode);
    if (projected) await this.project(own, projected.sources ?? [], projected.defaultMode);
    if (volume.emptyDir || configMap || secret || projected || downwardAPI) return own;
    throw new Error(`the volume ${volume.name} is of a kind that real pods don't have here`);
  }

  private async disk(claimName: string): Promise<string> {
    const namespace = this.pod.metadata?.namespace ?? "";
    const claim = await this.core.readNamespacedPersistentVolumeClaim({ name: claimName, namespace });
    if (!claim.spec?.volumeName) throw new Error(`the claim ${claimName} has no volume yet`);
    const directory = diskDirectory(claim.spec.volumeName);
    await mkdir(directory, { recursive: true });
    return directory;
  }

  private async project(directory: string, sources: V1VolumeProjection[], mode = 0o644): Promise<void> {
    for (const source of sources) {
      for (const [path, content] of await this.contents(source, directory)) {
        const file = join(directory, path);
        const known = existsSync(file) ? await readFile(file) : undefined;
        if (known?.equals(content)) continue;
        await mkdir(dirname(file), { recursive: true });
        await rm(`${file}.new`, { force: true });
        await writeFile(`${file}.new`, content, { mode });
        await chmod(`${file}.new`, mode);
        await rename(`${file}.new`, file);
      }
    }
  }

  private async contents(source: V1VolumeProjection, directory: string): Promise<[string, Buffer][]> {
    const namespace = this.pod.metadata?.namespace ?? "";
    const { configMap, secret, serviceAccountToken: token, downwardAPI } = source;
    if (configMap) {
      const found = await optional(configMap.optional, () =>
        this.core.readNamespacedConfigMap({ name: configMap.name ?? "", namespace }),
      );
      return select(configMap.items, { ...decoded(found?.data, "utf8"), ...decoded(found?.binaryData, "base64") });
    }
    if (secret) {
      const found = await optional(secret.optional, () =>
        this.core.readNamespacedSecret({ name: secret.name ?? "", namespace }),
      );
      return select(secret.items, decoded(found?.data, "base64"));
    }
    if (token) {
      const seconds = token.expirationSeconds ?? 3600;
      if (this.tokenIsFresh(join(directory, token.path), seconds)) return [];
      return [[token.path, Buffer.from(await this.requestToken(seconds, token.audience))]];
    }
    return (downwardAPI?.items ?? []).map(({ path, fieldRef }) => [
      path,
      Buffer.from(fieldOf(this.pod, fieldRef?.fieldPath ?? "")),
    ]);
  }

  private readonly tokens = new Map<string, number>();

  /** The kubelet renews a token when a fifth of its life is left. */
  private tokenIsFresh(file: string, seconds: number): boolean {
    if ((this.tokens.get(file) ?? 0) > Date.now() && existsSync(file)) return true;
    this.tokens.set(file, Date.now() + seconds * 800);
    return false;
  }

  private async requestToken(expirationSeconds: number, audience?: string): Promise<string> {
    const { name = "", namespace = "", uid = "" } = this.pod.metadata ?? {};
    const { status } = await this.core.createNamespacedServiceAccountToken({
      name: this.pod.spec?.serviceAccountName ?? "default",
      namespace,
      body: {
        spec: {
          audiences: audience ? [audience] : [],
          expirationSeconds,
          boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid },
        },
      },
    });
    return status?.token ?? "";
  }
}

/** Where the data of a PersistentVolume is; it is there for as long as the volume. */
export const diskDirectory = (persistentVolume: string): string =>
  join(stateDirectory(), "kubelet", "volumes", persistentVolume);

async function optional<T>(may: boolean | undefined, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (may && (error as { code?: number }).code === 404) return undefined;
    throw error;
  }
}

const decoded = (data: Record<string, string> | undefined, encoding: BufferEncoding) =>
  Object.fromEntries(Object.entries(data ?? {}).map(([key, value]) => [key, Buffer.from(value, encoding)]));

function select(items: V1KeyToPath[] | undefined, data: Record<string, Buffer>): [string, Buffer][] {
  if (!items) return Object.entries(data);
  return items.flatMap(({ key, path }): [string, Buffer][] => {
    const content = data[key];
    return content ? [[path, content]] : [];
  });
}
