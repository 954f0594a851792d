import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { isAbsolute, join, relative, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { version } from "@pulumi/docker/package.json";
import { contextDigest, packLayer } from "./docker/context";
import { type Credentials, familiarName, parseReference, pushLayer } from "./docker/registry";
import {
  type CheckRequest,
  type CheckResult,
  type CreateRequest,
  type DiffRequest,
  type DiffResult,
  diffProperties,
  type Engine,
  type Properties,
  type Provider,
  type ReadRequest,
  secret,
  serve,
  UNKNOWN,
  type UpdateRequest,
} from "./server";

const IMAGE = /^docker:(index\/image|image):Image$/;
const INPUTS = "__inputs";
/** An engine that takes longer to say its version is none that can build. */
const ENGINE_MILLISECONDS = 5000;

interface Build {
  context?: string;
  dockerfile?: string;
  platform?: string;
  target?: string;
  args?: Record<string, string>;
  cacheFrom?: { images?: string[] };
  builderVersion?: "BuilderBuildKit" | "BuilderV1";
  addHosts?: string[];
  network?: string;
  contextDigest?: string;
}

interface ImageInputs {
  imageName: string;
  build?: Build;
  registry?: { server?: string; username?: string; password?: string };
  skipPush?: boolean;
  buildOnPreview?: boolean;
}

/** What a build and a push take at least, so that a run can have a real builder's proportions: `<seconds> <seconds>`. */
const [BUILD_SECONDS = 0, PUSH_SECONDS = 0] = (process.env.HOBNOB_LOCAL_IMAGE_SECONDS ?? "").split(" ").map(Number);

const hostPlatform = (): string => `linux/${{ x64: "amd64", ia32: "386" }[process.arch as string] ?? process.arch}`;

const placeOf = ({ context = ".", dockerfile }: Build = {}) => ({
  context,
  dockerfile: dockerfile ?? join(context, "Dockerfile"),
});

/** @throws where the Dockerfile is not there; the official plugin's wording, with its hint */
function requireDockerfile(context: string, dockerfile: string): void {
  if (existsSync(dockerfile)) return;
  const place = `could not open dockerfile at ${isAbsolute(dockerfile) ? "absolute" : "relative"} path ${dockerfile}`;
  const inContext = join(context, dockerfile);
  if (!isAbsolute(dockerfile) && existsSync(inContext)) {
    throw new Error(`${place}. Try setting \`dockerfile\` to "${inContext}"`);
  }
  throw new Error(`${place}: stat ${dockerfile}: no such file or directory`);
}

const isKnown = (value: unknown): value is string => typeof value === "string" && value !== UNKNOWN;

class DockerProvider implements Provider {
  readonly version = version;
  readonly #engine: Engine;
  readonly #cancelled = new AbortController();
  #daemon: Promise<boolean> | undefined;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  cancel(): void {
    this.#cancelled.abort();
  }

  async check({ inputs, type, urn }: CheckRequest): Promise<CheckResult> {
    if (!IMAGE.test(type)) {
      throw new Error(`${type} needs the official docker plugin: the simulated provider takes docker.Image only`);
    }
    const { imageName, build = {}, skipPush } = inputs as unknown as ImageInputs;
    const { builderVersion } = build;
    if (isKnown(builderVersion) && !["BuilderV1", "BuilderBuildKit"].includes(builderVersion)) {
      throw new Error("invalid Docker Builder version");
    }
    const cached = (build.cacheFrom?.images ?? []).filter(isKnown);
    if (!skipPush || cached.length > 0) [imageName, ...cached].filter(isKnown).forEach(parseReference);
    const { context, dockerfile } = placeOf(build);
    if (!isKnown(context) || !isKnown(dockerfile)) return { inputs };
    requireDockerfile(context, dockerfile);
    const platform = build.platform ?? hostPlatform();
    if (!build.platform) {
      this.#engine.log(
        "info",
        `Building your image for ${platform} architecture.\nTo ensure you are building for the correct platform, consider explicitly setting the \`platform\` field on ImageBuildOptions.`,
        urn,
      );
    }
    return { inputs: { ...inputs, build: { ...build, platform, contextDigest: contextDigest(context, dockerfile) } } };
  }

  async diff({ state, oldInputs, inputs }: DiffRequest): Promise<DiffResult> {
    const before = (state[INPUTS] ?? oldInputs) as Properties;
    const detailedDiff = diffProperties(before, inputs);
    // Credentials rotate: they build nothing new.
    for (const path of ["registry.username", "registry.password"]) delete detailedDiff[path];
    return { detailedDiff };
  }

  async create(request: CreateRequest): Promise<{ id: string; outputs: Properties }> {
    const { inputs } = request;
    return { id: String(inputs.imageName), outputs: await this.#make(request) };
  }

  async update(request: UpdateRequest): Promise<Properties> {
    return this.#make(request);
  }

  async read({ id, state, inputs }: ReadRequest) {
    return { id, outputs: state, inputs };
  }

  /** The registry keeps what was pushed. */
  async delete(): Promise<void> {}

  /** Builds and pushes; a preview without `buildOnPreview` leaves the digest unknown. */
  async #make({ inputs: properties, preview, urn }: CreateRequest): Promise<Properties> {
    const inputs = properties as unknown as ImageInputs;
    const { context, dockerfile } = placeOf(inputs.build);
    const outputs = {
      imageName: inputs.imageName,
      baseImageName: inputs.imageName,
      context,
      dockerfile: relative(context, dockerfile),
      platform: inputs.build?.platform,
      registryServer: inputs.registry?.server ?? "",
      [INPUTS]: secret(properties),
    };
    if (preview) return outputs;
    return { ...outputs, repoDigest: await this.#build(inputs, urn) };
  }

  async #build(inputs: ImageInputs, urn: string): Promise<string> {
    const credentials = this.#credentials(inputs, urn);
    if (await this.#hasDaemon()) return this.#buildWithDocker(inputs, credentials, urn);
    this.#engine.log(
      "warning",
      "No container engine answers (docker info): the build context is packed as a single layer. The image is stored and has a digest, but is not built from its Dockerfile and cannot run.",
      urn,
    );
    const { context, dockerfile } = placeOf(inputs.build);
    const [layer] = await Promise.all([packLayer(context, dockerfile), this.#pass(BUILD_SECONDS)]);
    const { platform = hostPlatform(), args = {}, target = "" } = inputs.build ?? {};
    const note = `build context packed without a container engine; ${JSON.stringify({ args, target })}`;
    const { imageName } = inputs;
    if (inputs.skipPush) return `sha256:${contextDigest(context, dockerfile)}`;
    this.#engine.status("Pushing Image to the registry", urn);
    const reference = parseReference(imageName);
    const pushed = pushLayer(reference, credentials, { layer, platform, note });
    const [digest] = await Promise.all([pushed, this.#pass(PUSH_SECONDS)]);
    return `${familiarName(reference)}@${digest}`;
  }

  #pass = (seconds: number) => sleep(seconds * 1000, undefined, { signal: this.#cancelled.signal });

  #credentials({ registry = {} }: ImageInputs, urn: string): Credentials | undefined {
    const { username, password } = registry;
    if (username && password) return { username, password };
    if (username || password) {
      const [missing, given] = username ? ["password", "username"] : ["username", "password"];
      this.#engine.log("warning", `${missing} was not set, although ${given} was; using host credentials file`, urn);
    }
    return undefined;
  }

  #hasDaemon(): Promise<boolean> {
    const signal = AbortSignal.any([this.#cancelled.signal, AbortSignal.timeout(ENGINE_MILLISECONDS)]);
    this.#daemon ??= docker(["info", "--format", "{{.ServerVersion}}"], { signal }).then(
      (serverVersion) => serverVersion !== "",
      () => false,
    );
    return this.#daemon;
  }

  /** The credentials are in a directory of their own for as long as the build runs: docker's own is left alone. */
  async #buildWithDocker(inputs: ImageInputs, credentials: Credentials | undefined, urn: string): Promise<string> {
    const { imageName, build = {} } = inputs;
    const { context, dockerfile } = placeOf(build);
    const configuration = credentials && temporaryDockerConfig(imageName, inputs.registry?.server, credentials);
    const signal = this.#cancelled.signal;
    const host = await docker(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"], { signal }).catch(
      () => "",
    );
    const env = {
      DOCKER_BUILDKIT: build.builderVersion === "BuilderV1" ? "0" : "1",
      ...(configuration && { DOCKER_CONFIG: configuration }),
      ...(configuration && host && !process.env.DOCKER_HOST && { DOCKER_HOST: host }), // the context is in the config left out
    };
    const report = (line: string) => this.#engine.status(line, urn);
    const run = (...args: string[]) => docker(args, { env, signal, report });
    try {
      const options = [
        ["--file", dockerfile],
        ["--tag", imageName],
        build.platform ? ["--platform", build.platform] : [],
        build.target ? ["--target", build.target] : [],
        build.network ? ["--network", build.network] : [],
        ...Object.entries(build.args ?? {}).map(([name, value]) => ["--build-arg", `${name}=${value}`]),
        ...(build.cacheFrom?.images ?? []).map((image) => ["--cache-from", image]),
        ...(build.addHosts ?? []).map((entry) => ["--add-host", entry]),
      ];
      await run("build", ...options.flat(), context);
      if (inputs.skipPush) return await run("image", "inspect", "--format", "{{.Id}}", imageName);
      await run("push", imageName);
      const digests = await run("image", "inspect", "--format", "{{json .RepoDigests}}", imageName);
      const own = `${familiarName(parseReference(imageName))}@`;
      const all = JSON.parse(digests) as string[];
      const digest = all.find((entry) => entry.startsWith(own)) ?? all[0];
      if (!digest) throw new Error(`docker pushed ${imageName} but names no digest for it`);
      return digest;
    } finally {
      if (configuration) rmSync(configuration, { recursive: true, force: true });
    }
  }
}

interface RunOptions {
  env?: Record<string, string>;
  signal: AbortSignal;
  /** Told each line that docker prints. */
  report?(line: string): void;
}

/** What docker prints on stdout. @throws with the last lines of all that it printed */
function docker(args: string[], { env, signal, report }: RunOptions): Promise<string> {
  const child = spawn("docker", args, { env: { ...process.env, ...env }, signal, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let all = "";
  const hear = (text: string) => {
    all += text;
    const line = text.trim().split("\n").at(-1);
    if (line) report?.(line);
  };
  child.stdout.setEncoding("utf8").on("data", (text) => {
    output += text;
    hear(text);
  });
  child.stderr.setEncoding("utf8").on("data", hear);
  return new Promise((fulfil, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) fulfil(output.trim());
      else reject(new Error(all.trim().split("\n").slice(-10).join("\n")));
    });
  });
}

/** A directory for `DOCKER_CONFIG` with one registry's credentials and the user's docker plugins (buildx). */
function temporaryDockerConfig(imageName: string, server: string | undefined, credentials: Credentials): string {
  const directory = mkdtempSync(join(tmpdir(), "hobnob-docker-"));
  const host = (server ?? parseReference(imageName).domain).replace(/^https?:\/\//, "").replace(/\/.*$/, "");
  const isHub = ["docker.io", "index.docker.io", "registry-1.docker.io"].includes(host);
  const key = isHub ? "https://index.docker.io/v1/" : host;
  const auth = Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64");
  writeFileSync(join(directory, "config.json"), JSON.stringify({ auths: { [key]: { auth } } }), { mode: 0o600 });
  const plugins = resolve(process.env.DOCKER_CONFIG ?? join(homedir(), ".docker"), "cli-plugins");
  if (existsSync(plugins)) symlinkSync(plugins, join(directory, "cli-plugins"));
  return directory;
}

serve((engine) => new DockerProvider(engine));
