import { createHash } from "node:crypto";
import { accessSync, constants, mkdirSync, readdirSync, rmdirSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, delimiter, dirname, join } from "node:path";
import { execa } from "execa";
import { lock } from "proper-lockfile";
import { satisfies } from "semver";
import packageJson from "../package.json";
import { build, type GoModule, pin, pinnedVersion, requireBuildable } from "./build";
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
  /** What building it takes on 2 cores, beyond what it shares with those before it in its module. */
  seconds: number;
  /** Likewise: build cache, modules and result. */
  megabytes: number;
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
    const total = (unit: "seconds" | "megabytes") => missing().reduce((sum, name) => sum + origins[name][unit], 0);
    const builds = grouped(missing(), (name) => origins[name].module.directory);
    const modules = builds.map(([name]) => origins[name as Name].module);
    await requireBuildable(modules, missing(), total("megabytes"), refusals);
    const progress = new Progress(report, "building", (total("seconds") * 2) / availableParallelism());
    await untilInterrupted(async (signal) => {
      for (const names of builds)
        Object.assign(found, await progress.of(names, () => fromSource(origins, names, signal)));
    }).finally(() => progress.end());
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

async function untilInterrupted(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const abort = new AbortController();
  const interrupt = () => abort.abort();
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, interrupt);
  try {
    await work(abort.signal);
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

/** Measured one after the other in this order, with empty caches. */
const WORK: Record<ToolName, Pick<Origin, "seconds" | "megabytes">> = {
  "pulumi-language-nodejs": { seconds: 33, megabytes: 510 },
  "kube-apiserver": { seconds: 177, megabytes: 2300 },
  "kube-controller-manager": { seconds: 52, megabytes: 640 },
  "kube-scheduler": { seconds: 6, megabytes: 90 },
  etcd: { seconds: 9, megabytes: 100 },
  kwok: { seconds: 14, megabytes: 170 },
  kwokctl: { seconds: 12, megabytes: 230 },
  pulumi: { seconds: 132, megabytes: 2000 },
  registry: { seconds: 13, megabytes: 130 },
  kubectl: { seconds: 16, megabytes: 240 },
};

/** All versions come from package.json and the go.mod files, where the bots that renew them look. */
export function catalogue(): Record<ToolName, Origin> {
  const directory = (name: string) => join(cloneDirectory, "local", "tools", name);
  const embedded = directory("embedded");
  const languageHost = directory("pulumi-language-nodejs");
  const versions = {
    pulumi: pinnedVersion(embedded, "github.com/pulumi/pulumi/pkg/v3"),
    // The last one that is a Go module of its own; it runs newer SDKs.
    languageHost: pinnedVersion(languageHost, "github.com/pulumi/pulumi/sdk/v3"),
    kubernetes: pinnedVersion(embedded, "k8s.io/kubernetes"),
    etcd: pinnedVersion(embedded, "go.etcd.io/etcd/server/v3"),
    kwok: pinnedVersion(embedded, "sigs.k8s.io/kwok"),
    registry: pinnedVersion(embedded, "github.com/distribution/distribution/v3"),
  };
  const [major = "", minor = ""] = versions.kubernetes.split(".");
  const pulumiVersion = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version";
  const kubernetesVersion = "k8s.io/component-base/version";

  const modules = {
    // One module, as a package that two of the tools have in the same version is compiled once.
    embedded: {
      directory: embedded,
      stamp: {
        [pulumiVersion]: `v${versions.pulumi}`,
        [`${kubernetesVersion}.gitVersion`]: `v${versions.kubernetes}`,
        [`${kubernetesVersion}.gitMajor`]: major,
        [`${kubernetesVersion}.gitMinor`]: minor,
        [`${kubernetesVersion}.gitTreeState`]: "clean",
        "github.com/distribution/distribution/v3/version.version": `v${versions.registry}`,
      },
    },
    // Another version of a module that the engine has too; the rest of what it requires is held to the engine's versions.
    languageHost: { directory: languageHost, stamp: { [pulumiVersion]: `v${versions.languageHost}` } },
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
  const kubernetes = (name: ToolName): Origin => {
    const url = `https://dl.k8s.io/release/v${versions.kubernetes}/bin/${os}/${arch}/${name}`;
    const released = os === "linux" || name === "kubectl";
    return {
      range: `~${major}.${minor}.0`,
      versionArguments: ["--version"],
      release: released ? { version: versions.kubernetes, download: { url, checksums: `${url}.sha256` } } : undefined,
      module: modules.embedded,
      package: `k8s.io/kubernetes/cmd/${name}`,
      version: versions.kubernetes,
      ...WORK[name],
    };
  };

  /** kwok publishes no list of checksums; GitHub's API gives those that it computed at the upload. */
  const kwok = (name: ToolName): Origin => ({
    range: `~${versions.kwok}`,
    versionArguments: ["--version"],
    release: {
      version: versions.kwok,
      download: {
        url: `${gitHub}/kubernetes-sigs/kwok/releases/download/v${versions.kwok}/${name}-${os}-${arch}`,
        checksums: `https://api.github.com/repos/kubernetes-sigs/kwok/releases/tags/v${versions.kwok}`,
      },
    },
    module: modules.embedded,
    package: `sigs.k8s.io/kwok/cmd/${name}`,
    version: versions.kwok,
    ...WORK[name],
  });

  const etcdRelease = `${gitHub}/etcd-io/etcd/releases/download/v${versions.etcd}`;
  const etcdArchive = `etcd-v${versions.etcd}-${os}-${arch}`;
  const registryArchive = `${gitHub}/distribution/distribution/releases/download/v${versions.registry}/registry_${versions.registry}_${os}_${arch}.tar.gz`;

  return {
    pulumi: {
      range: ">=3.230.0 <4",
      versionArguments: ["version"],
      release: pulumi,
      module: modules.embedded,
      package: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
      version: versions.pulumi,
      ...WORK.pulumi,
    },
    "pulumi-language-nodejs": {
      range: "*",
      versionArguments: [],
      beside: "pulumi",
      release: pulumi,
      module: modules.languageHost,
      package: "github.com/pulumi/pulumi/sdk/v3/nodejs/cmd/pulumi-language-nodejs",
      version: versions.languageHost,
      ...WORK["pulumi-language-nodejs"],
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
      module: modules.embedded,
      package: "go.etcd.io/etcd/server/v3",
      version: versions.etcd,
      ...WORK.etcd,
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
      module: modules.embedded,
      package: "hobnob/local/tools/embedded",
      version: versions.registry,
      ...WORK.registry,
    },
  };
}
