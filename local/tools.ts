import { createHash } from "node:crypto";
import { accessSync, constants, mkdirSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, delimiter, dirname, join } from "node:path";
import { execa } from "execa";
import pLimit from "p-limit";
import { lock } from "proper-lockfile";
import { satisfies } from "semver";
import packageJson from "../package.json";
import { build, fetchModules, type GoModule, pin, pinnedVersion, requireBuildable } from "./build";
import { type Download, download } from "./download";
import { cacheDirectory, cloneDirectory } from "./paths";

export type ToolName =
  | "pulumi"
  | "pulumi-language-nodejs"
  | "kube-apiserver"
  | "kube-controller-manager"
  | "kube-scheduler"
  | "kubectl"
  | "etcd"
  | "kwok"
  | "kwokctl"
  | "registry";

export interface Tool {
  path: string;
  source: "path" | "cache" | "download" | "build";
  version: string;
}

/** Told at each change and once a second. */
export interface Report {
  /** The tools in hand, separated by commas. */
  tool: string;
  phase: "downloading" | "building";
  /** Since this phase began. */
  elapsedSeconds: number;
  /** For all that this phase has to do. */
  estimatedSeconds: number;
}

/** Where a tool can come from. */
export interface Origin {
  /** Versions that are taken from the PATH. */
  range: string;
  versionArguments: string[];
  /** On the PATH it counts only beside this other tool, whose version it has. */
  beside?: string;
  release?: { version: string; download: Download };
  module: GoModule;
  /** The Go package that it is built from. */
  package: string;
  /** The version that is built. */
  version: string;
}

/**
 * Finds or makes tools: a fitting version on the PATH, else the cache, else the vendor's release, else a build from source.
 * `HOBNOB_NO_DOWNLOAD=1` leaves the release out.
 * @throws ToolError where only a build is left and it is impossible or fails.
 */
export async function obtainTools<Name extends ToolName>(
  names: readonly Name[],
  report?: (report: Report) => void,
): Promise<Record<Name, Tool>> {
  return obtain(catalogue(), names, report);
}

/** {@link obtainTools} from any catalogue. */
export async function obtain<Name extends string>(
  origins: Record<Name, Origin>,
  names: readonly Name[],
  report: (report: Report) => void = () => {},
): Promise<Record<Name, Tool>> {
  const found: Partial<Record<Name, Tool>> = {};
  const missing = () => names.filter((name) => !found[name]);

  const look = async (name: Name) => (await onPath(origins, name)) ?? cached(origins[name], name);
  await Promise.all(
    names.map(async (name) => {
      const tool = await look(name);
      if (tool) found[name] = tool;
    }),
  );

  const refusals: string[] = [];
  if (missing().length > 0 && process.env.HOBNOB_NO_DOWNLOAD !== "1") {
    const progress = new Progress(report, "downloading", 60);
    const archives = grouped(missing(), (name) => origins[name].release?.download.url);
    await Promise.all(
      archives.map(async (names) => {
        try {
          Object.assign(found, await progress.of(names, () => fromRelease(origins, names)));
        } catch (error) {
          refusals.push(`${names.join(", ")}: ${(error as Error).message}`);
        }
      }),
    ).finally(() => progress.end());
  }

  if (missing().length > 0) {
    const moduleOf = ([name]: Name[]) => origins[name as Name].module;
    const builds = grouped(missing(), (name) => origins[name].module.directory);
    // The longest first, so that both cores are busy to the end; before it the shortest, for what all of them compile.
    builds.sort((a, b) => moduleOf(b).seconds - moduleOf(a).seconds);
    builds.unshift(...builds.splice(-1));
    const modules = builds.map(moduleOf);
    await requireBuildable(modules, missing(), refusals);
    const seconds = modules.reduce((sum, module) => sum + module.seconds, 0);
    const progress = new Progress(report, "building", (seconds * 2) / availableParallelism());
    const [first, ...others] = builds.map((names) => ({
      fetch: (signal: AbortSignal) => fetchModules(moduleOf(names), packagesOf(origins, names), signal),
      build: (signal: AbortSignal) => progress.of(names, () => fromSource(origins, names, signal)),
    }));
    await inPairs(first as (typeof others)[number], others)
      .then((tools) => Object.assign(found, ...tools))
      .finally(() => progress.end());
  }
  return found as Record<Name, Tool>;
}

async function onPath<Name extends string>(origins: Record<Name, Origin>, name: Name): Promise<Tool | undefined> {
  const { beside, range, versionArguments } = origins[name];
  if (beside) {
    const other = beside in origins ? await onPath(origins, beside as Name) : undefined;
    const path = other && join(dirname(other.path), name);
    return path && runnable(path) ? { ...other, path } : undefined;
  }
  const directories = (process.env.PATH ?? "").split(delimiter).filter((directory) => directory !== "");
  const path = directories.map((directory) => join(directory, name)).find(runnable);
  if (!path) return undefined;
  const env = { PULUMI_SKIP_UPDATE_CHECK: "true" };
  const { all } = await execa(path, versionArguments, { all: true, env, reject: false, timeout: 10_000 });
  const version = all?.match(/\d+\.\d+\.\d+[-+.\w]*/)?.[0];
  return version && satisfies(version, range, { includePrerelease: true })
    ? { path, source: "path", version }
    : undefined;
}

function cached({ release, module, version }: Origin, name: string): Tool | undefined {
  const places = [{ directory: buildDirectory(module), version }];
  if (release) places.unshift({ directory: releaseDirectory(release.download), version: release.version });
  const place = places.find(({ directory }) => runnable(join(directory, name)));
  return place && { path: join(place.directory, name), source: "cache", version: place.version };
}

async function fromRelease<Name extends string>(origins: Record<Name, Origin>, names: Name[]) {
  const { download: source } = origins[names[0] as Name].release as NonNullable<Origin["release"]>;
  return once(origins, names, "download", releaseDirectory(source), (missing, directory) =>
    download(source, missing, directory),
  );
}

async function fromSource<Name extends string>(origins: Record<Name, Origin>, names: Name[], signal: AbortSignal) {
  const { module } = origins[names[0] as Name];
  return once(origins, names, "build", buildDirectory(module), (missing, directory) => {
    const packages = Object.fromEntries(missing.map((name) => [name, origins[name].package]));
    return build(module, packages, directory, signal);
  });
}

const packagesOf = <Name extends string>(origins: Record<Name, Origin>, names: Name[]) =>
  names.map((name) => origins[name].package);

/** Makes what is missing in a directory of the cache, while other processes that want the same wait and then find it there. */
async function once<Name extends string>(
  origins: Record<Name, Origin>,
  names: Name[],
  source: Tool["source"],
  directory: string,
  make: (missing: Name[], directory: string) => Promise<void>,
): Promise<Record<string, Tool>> {
  mkdirSync(dirname(directory), { recursive: true });
  // A lost lock is no harm: files appear complete or not at all, the work is just done twice.
  const retries = { forever: true, factor: 1, minTimeout: 500, maxTimeout: 500 };
  const release = await lock(directory, { realpath: false, retries, stale: 120_000, onCompromised: () => {} });
  try {
    mkdirSync(directory, { recursive: true });
    const missing = names.filter((name) => !runnable(join(directory, name)));
    if (missing.length > 0) await make(missing, directory);
    return Object.fromEntries(
      names.map((name) => [
        name,
        { ...(cached(origins[name], name) as Tool), source: missing.includes(name) ? source : ("cache" as const) },
      ]),
    );
  } finally {
    if (readdirSync(directory).length === 0) rmdirSync(directory);
    await release().catch(() => {});
  }
}

interface Job<T> {
  fetch(signal: AbortSignal): Promise<unknown>;
  build(signal: AbortSignal): Promise<T>;
}

/**
 * The first build alone, while the modules of the others are fetched: what all share is compiled once. Then two at a
 * time: while one links, on a single core, the other compiles. The first failure ends all.
 */
async function inPairs<T>(first: Job<T>, others: Job<T>[]): Promise<T[]> {
  const abort = new AbortController();
  const interrupt = () => abort.abort();
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, interrupt);
  const limit = pLimit(2);
  const { signal } = abort;
  const fetching = others.map(({ fetch }) => fetch(signal));
  const alone = first.build(signal);
  const running = [alone, ...others.map(({ build }) => limit(async () => alone.then(() => build(signal))))];
  try {
    return await Promise.all(running);
  } catch (error) {
    abort.abort();
    await Promise.allSettled([...running, ...fetching]);
    throw error;
  } finally {
    for (const signal of signals) process.off(signal, interrupt);
  }
}

class Progress {
  private readonly active = new Set<string>();
  private readonly began = Date.now();
  private readonly timer = setInterval(() => this.tell(), 1000);

  constructor(
    private readonly report: (report: Report) => void,
    private readonly phase: Report["phase"],
    private readonly estimatedSeconds: number,
  ) {}

  async of<T>(names: string[], work: () => Promise<T>): Promise<T> {
    for (const name of names) this.active.add(name);
    this.tell();
    try {
      return await work();
    } finally {
      for (const name of names) this.active.delete(name);
    }
  }

  end(): void {
    clearInterval(this.timer);
  }

  private tell(): void {
    const { phase, estimatedSeconds } = this;
    const elapsedSeconds = Math.round((Date.now() - this.began) / 1000);
    this.report({ tool: [...this.active].join(", "), phase, elapsedSeconds, estimatedSeconds });
  }
}

/** Names with the same key together; those without a key are left out. */
function grouped<Name extends string>(names: Name[], key: (name: Name) => string | undefined): Name[][] {
  const groups = new Map<string, Name[]>();
  for (const name of names) {
    const value = key(name);
    if (value !== undefined) groups.set(value, [...(groups.get(value) ?? []), name]);
  }
  return [...groups.values()];
}

const buildDirectory = (module: GoModule) =>
  join(cacheDirectory(), "tools", `${basename(module.directory)}-${pin(module)}`);

const releaseDirectory = ({ url }: Download) =>
  join(cacheDirectory(), "tools", `${basename(url)}-${createHash("sha256").update(url).digest("hex").slice(0, 16)}`);

function runnable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** All versions come from package.json and the go.mod files, where the bots that renew them look. */
export function catalogue(): Record<ToolName, Origin> {
  const directory = (name: string) => join(cloneDirectory, "local", "tools", name);
  const cluster = directory("cluster");
  const versions = {
    pulumi: pinnedVersion(directory("pulumi"), "github.com/pulumi/pulumi/pkg/v3"),
    // The last one that is a Go module of its own; it runs newer SDKs.
    languageHost: pinnedVersion(directory("pulumi-language-nodejs"), "github.com/pulumi/pulumi/sdk/v3"),
    kubernetes: pinnedVersion(cluster, "k8s.io/kubernetes"),
    etcd: pinnedVersion(cluster, "go.etcd.io/etcd/server/v3"),
    kwok: pinnedVersion(cluster, "sigs.k8s.io/kwok"),
    registry: pinnedVersion(directory("registry"), "github.com/distribution/distribution/v3"),
  };
  const [major = "", minor = ""] = versions.kubernetes.split(".");
  const pulumiVersion = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version";
  const kubernetesVersion = "k8s.io/component-base/version";

  const modules = {
    pulumi: {
      directory: directory("pulumi"),
      stamp: { [pulumiVersion]: `v${versions.pulumi}` },
      seconds: 95,
      megabytes: 2000,
    },
    languageHost: {
      directory: directory("pulumi-language-nodejs"),
      stamp: { [pulumiVersion]: `v${versions.languageHost}` },
      seconds: 20,
      megabytes: 500,
    },
    // One module for etcd, Kubernetes and kwok: what they share is most of them, and is compiled once.
    cluster: {
      directory: cluster,
      stamp: {
        [`${kubernetesVersion}.gitVersion`]: `v${versions.kubernetes}`,
        [`${kubernetesVersion}.gitMajor`]: major,
        [`${kubernetesVersion}.gitMinor`]: minor,
        [`${kubernetesVersion}.gitTreeState`]: "clean",
      },
      seconds: 300,
      megabytes: 3700,
    },
    registry: {
      directory: directory("registry"),
      stamp: { "github.com/distribution/distribution/v3/version.version": `v${versions.registry}` },
      seconds: 30,
      megabytes: 500,
    },
  };

  const os = process.platform;
  const arch = process.arch === "x64" ? "amd64" : process.arch;
  const gitHub = "https://github.com";

  const pulumi = (() => {
    const version = packageJson.devDependencies["@pulumi/pulumi"];
    const archive = `https://get.pulumi.com/releases/sdk/pulumi-v${version}-${os}-${process.arch}.tar.gz`;
    const members = { pulumi: "pulumi/pulumi", "pulumi-language-nodejs": "pulumi/pulumi-language-nodejs" };
    const checksums = `https://get.pulumi.com/releases/sdk/pulumi-${version}-checksums.txt`;
    return { version, download: { url: archive, checksums, members } };
  })();

  /** For macOS only kubectl is released. */
  const kubernetes = (name: string): Origin => {
    const url = `https://dl.k8s.io/release/v${versions.kubernetes}/bin/${os}/${arch}/${name}`;
    const released = os === "linux" || name === "kubectl";
    return {
      range: `~${major}.${minor}.0`,
      versionArguments: ["--version"],
      release: released ? { version: versions.kubernetes, download: { url, checksums: `${url}.sha256` } } : undefined,
      module: modules.cluster,
      package: `k8s.io/kubernetes/cmd/${name}`,
      version: versions.kubernetes,
    };
  };

  /** kwok publishes no list of checksums; GitHub's API gives those that it computed at the upload. */
  const kwok = (name: string): Origin => ({
    range: `~${versions.kwok}`,
    versionArguments: ["--version"],
    release: {
      version: versions.kwok,
      download: {
        url: `${gitHub}/kubernetes-sigs/kwok/releases/download/v${versions.kwok}/${name}-${os}-${arch}`,
        checksums: `https://api.github.com/repos/kubernetes-sigs/kwok/releases/tags/v${versions.kwok}`,
      },
    },
    module: modules.cluster,
    package: `sigs.k8s.io/kwok/cmd/${name}`,
    version: versions.kwok,
  });

  const etcdRelease = `${gitHub}/etcd-io/etcd/releases/download/v${versions.etcd}`;
  const etcdArchive = `etcd-v${versions.etcd}-${os}-${arch}`;
  const registryArchive = `${gitHub}/distribution/distribution/releases/download/v${versions.registry}/registry_${versions.registry}_${os}_${arch}.tar.gz`;

  return {
    pulumi: {
      range: ">=3.230.0 <4",
      versionArguments: ["version"],
      release: pulumi,
      module: modules.pulumi,
      package: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
      version: versions.pulumi,
    },
    "pulumi-language-nodejs": {
      range: "*",
      versionArguments: [],
      beside: "pulumi",
      release: pulumi,
      module: modules.languageHost,
      package: "github.com/pulumi/pulumi/sdk/v3/nodejs/cmd/pulumi-language-nodejs",
      version: versions.languageHost,
    },
    "kube-apiserver": kubernetes("kube-apiserver"),
    "kube-controller-manager": kubernetes("kube-controller-manager"),
    "kube-scheduler": kubernetes("kube-scheduler"),
    kubectl: {
      ...kubernetes("kubectl"),
      versionArguments: ["version", "--client"],
      range: `>=${major}.${Number(minor) - 1}.0 <${major}.${Number(minor) + 2}.0`,
    },
    etcd: {
      range: ">=3.6.0 <3.8.0",
      versionArguments: ["--version"],
      // For macOS it is released as zip only.
      release:
        os === "linux"
          ? {
              version: versions.etcd,
              download: {
                url: `${etcdRelease}/${etcdArchive}.tar.gz`,
                checksums: `${etcdRelease}/SHA256SUMS`,
                members: { etcd: `${etcdArchive}/etcd` },
              },
            }
          : undefined,
      module: modules.cluster,
      package: "go.etcd.io/etcd/server/v3",
      version: versions.etcd,
    },
    kwok: kwok("kwok"),
    kwokctl: kwok("kwokctl"),
    registry: {
      range: "^3.0.0",
      versionArguments: ["--version"],
      release: {
        version: versions.registry,
        download: { url: registryArchive, checksums: `${registryArchive}.sha256`, members: { registry: "registry" } },
      },
      module: modules.registry,
      package: "hobnob/local/tools/registry",
      version: versions.registry,
    },
  };
}
