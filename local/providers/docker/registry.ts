import { createHash } from "node:crypto";

export interface Credentials {
  username: string;
  password: string;
}

export interface Reference {
  /** As in the image name: `docker.io`, `127.0.0.1:5000`. */
  domain: string;
  repository: string;
  tag: string;
}

/** @throws where the name does not begin with a registry; the official plugin's wording */
export function parseReference(name: string): Reference {
  const [, domain, repository, tag = "latest"] = /^([^/]+)\/([^:@]+)(?::([\w.-]+))?$/.exec(name) ?? [];
  if (!domain || !repository || !(/[.:]/.test(domain) || domain === "localhost")) {
    throw new Error(
      `error: repository name must be canonical: "${name}". This provider requires all image names to be fully qualified.\nFor example, if you are attempting to push to Dockerhub, prefix your image name with \`docker.io\`:\n\n\`docker.io/repository/image:tag\``,
    );
  }
  return { domain, repository, tag };
}

/** As docker names it: Docker Hub's own domain is left out. */
export const familiarName = ({ domain, repository }: Reference): string =>
  domain === "docker.io" ? repository.replace(/^library\//, "") : `${domain}/${repository}`;

const digestOf = (data: Buffer): string => `sha256:${createHash("sha256").update(data).digest("hex")}`;
const LOOPBACK = /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?$/;

/** A registry of the distribution API. Its refusals are worded as docker words them. */
class Registry {
  readonly #origin: string;
  #authorization: string | undefined;

  constructor(
    readonly reference: Reference,
    readonly credentials: Credentials | undefined,
  ) {
    const host = reference.domain === "docker.io" ? "registry-1.docker.io" : reference.domain;
    this.#origin = `${LOOPBACK.test(host) ? "http" : "https"}://${host}`; // docker too allows plain HTTP on loopback alone
  }

  async #send(method: string, path: string, options: { body?: Buffer; type?: string } = {}): Promise<Response> {
    try {
      return await fetch(new URL(path, this.#origin), {
        method,
        body: options.body && new Uint8Array(options.body),
        headers: {
          ...(this.#authorization && { authorization: this.#authorization }),
          ...(options.type && { "content-type": options.type }),
        },
      });
    } catch (error) {
      const { cause } = error as { cause?: Error };
      throw new Error(`failed to push to ${this.reference.domain}: ${cause?.message || (error as Error).message}`);
    }
  }

  async request(method: string, path: string, options: { body?: Buffer; type?: string } = {}): Promise<Response> {
    const first = await this.#send(method, path, options);
    if (first.status !== 401 || this.#authorization) return this.#accept(first);
    await this.#authenticate(first.headers.get("www-authenticate") ?? "");
    return this.#accept(await this.#send(method, path, options));
  }

  async #accept(response: Response): Promise<Response> {
    if (response.ok || response.status === 404) return response;
    const body = (await response.json().catch(() => undefined)) as { errors?: { code: string; message: string }[] };
    const [error] = body?.errors ?? [];
    if (error) throw new Error(`${error.code.toLowerCase()}: ${error.message}`);
    if (response.status === 401) throw new Error("unauthorized: authentication required");
    if (response.status === 403) throw new Error("denied: requested access to the resource is denied");
    throw new Error(`the registry ${this.reference.domain} answered ${response.status} ${response.statusText}`);
  }

  async #authenticate(challenge: string): Promise<void> {
    const { credentials } = this;
    const basic =
      credentials && `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
    if (!/^bearer /i.test(challenge)) {
      if (!basic) throw new Error("no basic auth credentials");
      this.#authorization = basic;
      return;
    }
    const parameters = Object.fromEntries(
      [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]),
    );
    const realm = new URL(parameters.realm ?? "");
    realm.searchParams.set("service", parameters.service ?? "");
    realm.searchParams.set("scope", `repository:${this.reference.repository}:pull,push`);
    const response = await fetch(realm, { headers: basic ? { authorization: basic } : {} });
    if (response.status === 401) throw new Error("unauthorized: incorrect username or password");
    if (!response.ok) throw new Error("denied: requested access to the resource is denied");
    const { token, access_token } = (await response.json()) as { token?: string; access_token?: string };
    this.#authorization = `Bearer ${token ?? access_token}`;
  }

  async upload(data: Buffer): Promise<{ digest: string; size: number }> {
    const root = `/v2/${this.reference.repository}/blobs`;
    const digest = digestOf(data);
    const known = await this.request("HEAD", `${root}/${digest}`);
    if (known.status !== 200) {
      const started = await this.request("POST", `${root}/uploads/`);
      const location = new URL(started.headers.get("location") ?? "", this.#origin);
      location.searchParams.set("digest", digest);
      const type = "application/octet-stream";
      await this.request("PUT", location.toString(), { body: data, type });
    }
    return { digest, size: data.length };
  }
}

const OCI = "application/vnd.oci.image";

/**
 * Pushes one layer as an image.
 * @param note says in the image's history where it comes from
 * @returns the manifest's digest
 */
export async function pushLayer(
  reference: Reference,
  credentials: Credentials | undefined,
  { layer, platform, note }: { layer: Buffer; platform: string; note: string },
): Promise<string> {
  const registry = new Registry(reference, credentials);
  await registry.request("GET", "/v2/"); // refuses bad credentials before anything is sent
  const [os = "linux", architecture = "amd64", variant] = platform.split("/");
  const content = await registry.upload(layer);
  const config = Buffer.from(
    JSON.stringify({
      architecture,
      os,
      variant,
      config: { WorkingDir: "/app" },
      rootfs: { type: "layers", diff_ids: [content.digest] },
      history: [{ created_by: note }],
    }),
  );
  const configuration = await registry.upload(config);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${OCI}.manifest.v1+json`,
      config: { mediaType: `${OCI}.config.v1+json`, ...configuration },
      layers: [{ mediaType: `${OCI}.layer.v1.tar`, ...content }],
    }),
  );
  const path = `/v2/${reference.repository}/manifests/${reference.tag}`;
  await registry.request("PUT", path, { body: manifest, type: `${OCI}.manifest.v1+json` });
  return digestOf(manifest);
}
