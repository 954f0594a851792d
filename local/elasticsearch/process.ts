import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import getPort from "get-port";
import { maven, reasonOf, Unavailable } from "../maven";
import { cacheDirectory } from "../paths";

const run = promisify(execFile);

interface Jdk {
  home: string;
  major: number;
}

interface Distribution {
  home: string;
  jdk: Jdk;
}

export interface NodeOptions {
  /** Directory with `elasticsearch.yml`. */
  configDirectory: string;
  logFile: string;
  /** Environment that `${NAME}` in `elasticsearch.yml` is read from. */
  env?: NodeJS.ProcessEnv;
  /** @default the newest that this machine's JDK runs */
  version?: string;
  /** Settings of the test machine, over those of the file. */
  settings?: Record<string, string>;
  /** An `/etc/hosts` of its own for this node: every name that is not in it is unknown. */
  hostsFile?: string;
}

export interface ElasticsearchNode {
  process: ChildProcess;
  log(): string;
  /** Ends the process: `SIGTERM` leaves the cluster in order, `SIGKILL` is a crash. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

export interface ElasticsearchProcesses {
  /** One per node, `http://127.0.0.1:PORT`. */
  urls: string[];
  stop(): Promise<void>;
}

/** The reason to skip tests that need an Elasticsearch process; none where it can be started. Gets its jars the first time. */
export const elasticsearchAvailable = (version?: string): Promise<string | undefined> =>
  reasonOf(prepareDistribution(version));

/** Starts one cluster of real Elasticsearch processes on 127.0.0.1 and waits until it is complete and green. */
export async function startElasticsearch({ nodes = 1 }: { nodes?: 1 | 3 } = {}): Promise<ElasticsearchProcesses> {
  const directory = await mkdtemp(join(tmpdir(), "elasticsearch-"));
  const names = Array.from({ length: nodes }, (_, index) => `elasticsearch-${index}`);
  const httpPorts: number[] = [];
  const transportPorts: number[] = [];
  for (const _ of names) {
    httpPorts.push(await getPort());
    transportPorts.push(await getPort());
  }
  const running: ElasticsearchNode[] = [];
  const stop = async () => {
    await Promise.all(running.map((node) => node.stop()));
    await rm(directory, { recursive: true, force: true });
  };
  try {
    for (const [index, name] of names.entries()) {
      const configDirectory = join(directory, name);
      await mkdir(configDirectory);
      await writeFile(
        join(configDirectory, "elasticsearch.yml"),
        JSON.stringify({
          "cluster.name": "elasticsearch",
          "cluster.initial_master_nodes": names,
          "discovery.seed_hosts": transportPorts.map((port) => `127.0.0.1:${port}`),
          "node.name": name,
          "network.host": "127.0.0.1",
          "http.port": httpPorts[index],
          "transport.port": transportPorts[index],
          "path.data": join(configDirectory, "data"),
          "path.logs": join(configDirectory, "logs"),
        }),
      );
      running.push(await startNode({ configDirectory, logFile: join(configDirectory, "log") }));
    }
    const urls = httpPorts.map((port) => `http://127.0.0.1:${port}`);
    await Promise.all(urls.map((url, index) => untilGreen(url, nodes, running[index] as ElasticsearchNode)));
    return { urls, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The command that runs one node with `elasticsearch.yml` of `configDirectory`; it ends with its standard input. */
export async function nodeCommand(
  options: Pick<NodeOptions, "configDirectory" | "settings" | "hostsFile" | "version"> & {
    /** @default 256 */
    heapMebibytes?: number;
    /** Flags of the JVM, after our own. */
    flags?: string[];
  },
): Promise<[file: string, ...args: string[]]> {
  const { home, jdk } = await prepareDistribution(options.version);
  const settings = {
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    "node.processors": "2",
    ...options.settings,
  };
  const heap = options.heapMebibytes ?? 256;
  return [
    join(jdk.home, "bin", "java"),
    ...[`-Xms${heap}m`, `-Xmx${heap}m`, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
    ...(jdk.major >= 21 ? ["--enable-native-access=ALL-UNNAMED"] : []),
    ...(options.hostsFile ? [`-Djdk.net.hosts.file=${options.hostsFile}`] : []),
    ...(options.flags ?? []),
    `-Dlog4j2.configurationFile=${join(home, "log4j2.properties")}`,
    `-Des.path.home=${home}`,
    `-Des.path.conf=${options.configDirectory}`,
    ...["-cp", [join(home, "classes"), join(home, "lib", "*")].join(delimiter)],
    "Starter",
    ...Object.entries(settings).map(([key, value]) => `${key}=${value}`),
  ];
}

/** Takes those settings out of `elasticsearch.yml` whose modules are not published. */
export async function leaveOutUnpublished(configDirectory: string): Promise<void> {
  const file = join(configDirectory, "elasticsearch.yml");
  const lines = (await readFile(file, "utf8")).split("\n").filter((line) => !line.startsWith("xpack."));
  await writeFile(file, lines.join("\n"));
}

/** Starts one real Elasticsearch process and returns at once. It ends with this process, however that ends. */
export async function startNode(options: NodeOptions): Promise<ElasticsearchNode> {
  const [java, ...args] = await nodeCommand(options);
  const log = openSync(options.logFile, "a");
  const child = spawn(java, args, { env: { ...process.env, ...options.env }, stdio: ["pipe", log, log] });
  closeSync(log);
  const exited = once(child, "exit");
  return {
    process: child,
    log: () => readFileSync(options.logFile, "utf8"),
    stop: async (signal = "SIGTERM") => {
      if (child.exitCode === null && child.signalCode === null) child.kill(signal);
      const forced = setTimeout(() => child.kill("SIGKILL"), 20_000);
      await exited;
      clearTimeout(forced);
    },
  };
}

async function untilGreen(url: string, nodes: number, node: ElasticsearchNode): Promise<void> {
  const deadline = Date.now() + 240_000;
  while (Date.now() < deadline && node.process.exitCode === null) {
    const health = await fetch(`${url}/_cluster/health`, { signal: AbortSignal.timeout(5_000) }).then(
      (response) => response.json() as Promise<{ status?: string; number_of_nodes?: number }>,
      () => undefined,
    );
    if (health?.status === "green" && health.number_of_nodes === nodes) return;
    await sleep(200);
  }
  throw new Error(`Elasticsearch at ${url} did not come up:\n${node.log().split("\n").slice(-30).join("\n")}`);
}

/** The newest JDK of version 17 or newer in JAVA_HOME, on PATH or in the operating system's usual place. */
function findJdk(): Jdk | undefined {
  const onPath = (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "javac"));
  const installed = ["/usr/lib/jvm", "/Library/Java/JavaVirtualMachines"].flatMap((parent) =>
    existsSync(parent)
      ? readdirSync(parent).flatMap((name) => [join(parent, name), join(parent, name, "Contents", "Home")])
      : [],
  );
  const homes = [
    ...(process.env.JAVA_HOME ? [process.env.JAVA_HOME] : []),
    ...onPath.filter((path) => existsSync(path)).map((path) => dirname(dirname(realpathSync(path)))),
    ...installed,
  ];
  return homes
    .filter((home) => existsSync(join(home, "bin", "javac")) && existsSync(join(home, "release")))
    .map((home) => ({ home, major: javaVersion(home) }))
    .filter(({ major }) => major >= 17)
    .sort((one, other) => other.major - one.major)[0];
}

const javaVersion = (home: string): number =>
  Number(/^JAVA_VERSION="(\d+)/m.exec(readFileSync(join(home, "release"), "utf8"))?.[1] ?? 0);

const prepared = new Map<string | undefined, Promise<Distribution>>();

/** Jars and compiled starter, made once per user and pin; safe when several processes come here at the same time. */
function prepareDistribution(version?: string): Promise<Distribution> {
  const known = prepared.get(version) ?? prepareOnce(version);
  prepared.set(version, known);
  return known;
}

async function prepareOnce(version?: string): Promise<Distribution> {
  const jdk = findJdk();
  if (!jdk) throw new Unavailable("no JDK of version 17 or newer: set JAVA_HOME, or put java and javac on PATH");
  const home = join(cacheDirectory(), "elasticsearch", await fingerprint(jdk, version));
  if (!existsSync(home)) await build(home, jdk, version);
  return { home, jdk };
}

async function fingerprint(jdk: Jdk, version = ""): Promise<string> {
  const hash = createHash("sha256").update(`java${jdk.major}${version}`);
  for (const file of ["pom.xml", "Starter.java", "log4j2.properties"])
    hash.update(await readFile(join(__dirname, file)));
  return hash.digest("hex").slice(0, 16);
}

async function build(home: string, jdk: Jdk, wanted?: string): Promise<void> {
  await mkdir(dirname(home), { recursive: true });
  const draft = await mkdtemp(`${home}.`);
  const lib = join(draft, "lib");
  const module = join(draft, "modules", "transport-netty4");
  const profile = wanted ? [`-Delasticsearch.version=${wanted}`] : jdk.major < 21 ? ["-Pjava17"] : [];
  await maven("copy-dependencies", { pom: join(__dirname, "pom.xml"), directory: lib, draft, flags: profile });
  await mkdir(module, { recursive: true });
  await mkdir(join(draft, "plugins"));
  const jars = await readdir(lib);
  // A module's classes must be in its own directory.
  for (const jar of jars.filter((name) => /^(transport-netty4|netty|elasticsearch-ssl-config)-/.test(name)))
    await rename(join(lib, jar), join(module, jar));
  const version = jars.map((name) => /^transport-netty4-(.+)\.jar$/.exec(name)?.[1]).find(Boolean);
  await writeFile(join(module, "plugin-descriptor.properties"), descriptor(version as string));
  await cp(join(__dirname, "log4j2.properties"), join(draft, "log4j2.properties"));
  await run(join(jdk.home, "bin", "javac"), [
    ...["-d", join(draft, "classes"), "-cp", join(lib, "*")],
    join(__dirname, "Starter.java"),
  ]);
  await rename(draft, home).catch(async (error) => {
    await rm(draft, { recursive: true, force: true });
    if (!existsSync(home)) throw error;
  });
}

const descriptor = (version: string): string =>
  [
    "name=transport-netty4",
    "description=The HTTP and transport layers",
    `version=${version}`,
    `elasticsearch.version=${version}`,
    "java.version=17",
    "classname=org.elasticsearch.transport.netty4.Netty4Plugin",
    "",
  ].join("\n");
