import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import bcrypt from "bcryptjs";
import getPort, { portNumbers } from "get-port";
import { stringify } from "yaml";
import { cloneDirectory, stateDirectory } from "./paths";

/** A background process of the embedded default that outlives the command that started it. */
export interface Daemon {
  pid: number;
  port: number;
}

type DaemonName = "kubelet" | "account" | "registry";
/** In the order in which they stop: the account ends the cluster, which may still use the registry's address. */
const daemonNames: readonly DaemonName[] = ["kubelet", "account", "registry"];

export const registryUser = "hobnob";

const runFile = () => join(stateDirectory(), "run.json");

/** The daemons as they were last started; the port of a stopped one is its first choice for the next start. */
function lastRun(): Partial<Record<DaemonName, Daemon>> {
  return existsSync(runFile()) ? JSON.parse(readFileSync(runFile(), "utf8")) : {};
}

/** The daemon if it runs now; a process id that another program has since been given does not count. */
export function runningDaemon(name: DaemonName): Daemon | undefined {
  const daemon = lastRun()[name];
  return daemon && commandLine(daemon.pid).includes(daemonMarker(name)) ? daemon : undefined;
}

/** Starts the registry: the real distribution registry, on disk and behind a password. */
export function startRegistry(binary: string): Promise<Daemon> {
  return startDaemon("registry", `/v2/`, (port) => spawnLogged("registry", binary, ["serve", registryConfig(port)]));
}

/** Starts the simulated account, which starts the embedded cluster if it holds one. */
export const startAccount = (environment: NodeJS.ProcessEnv): Promise<Daemon> =>
  startProgram("account", "/local/health", environment);

/** Starts the kubelet, which runs the real pods of the embedded cluster as soon as there is one. */
export const startKubelet = (): Promise<Daemon> => startProgram("kubelet", "/", process.env);

/** Ends all real pods in order. */
export async function stopKubelet(): Promise<void> {
  const daemon = runningDaemon("kubelet");
  if (daemon) await stopProcess(daemon.pid, "kubelet");
}

function startProgram(name: "account" | "kubelet", healthPath: string, environment: NodeJS.ProcessEnv) {
  const main = join(cloneDirectory, "local", name, "main.ts");
  const options = (port: number) => ["--port", String(port), "--state", daemonMarker(name)];
  return startDaemon(name, healthPath, (port) =>
    spawnLogged(name, process.execPath, ["--import", "tsx", main, ...options(port)], environment),
  );
}

/** Stops every daemon that this clone's platform runs, by its pid; the state stays. */
export async function stopDaemons(): Promise<void> {
  for (const name of daemonNames) {
    const daemon = runningDaemon(name);
    if (daemon) await stopProcess(daemon.pid, name);
  }
}

/** The registry's password: made once, kept beside its data, never in git. */
export function registryPassword(): string {
  const file = join(daemonMarker("registry"), "password");
  if (!existsSync(file)) {
    mkdirSync(daemonMarker("registry"), { recursive: true });
    writeFileSync(file, randomBytes(18).toString("base64url"), { mode: 0o600 });
  }
  return readFileSync(file, "utf8");
}

/** Each daemon has its folder in its command line, so that it can be told from any other process. */
const daemonMarker = (name: DaemonName) => join(stateDirectory(), name);

async function startDaemon(name: DaemonName, healthPath: string, start: (port: number) => ChildProcess) {
  const running = runningDaemon(name);
  if (running && (await answers(running.port, healthPath))) return running;
  if (running) await stopProcess(running.pid, name);
  const preferred = lastRun()[name]?.port;
  const port = await getPort({ host: "127.0.0.1", port: preferred ? [preferred] : ownPorts() });
  const child = start(port);
  const daemon: Daemon = { pid: child.pid ?? 0, port };
  writeFileSync(runFile(), JSON.stringify({ ...lastRun(), [name]: daemon }));
  for (let attempt = 0; attempt < 600; attempt++) {
    if (child.exitCode !== null) break;
    if (await answers(port, healthPath)) return daemon;
    await sleep(100);
  }
  throw new Error(`The ${name} did not start. Its last words:\n${tail(logFile(name))}`);
}

/** The state directory's own ten, so that clones that start at once don't choose the same. */
function ownPorts(): Iterable<number> {
  const first = 20000 + (createHash("sha256").update(stateDirectory()).digest().readUInt16BE() % 1000) * 10;
  return portNumbers(first, first + 9);
}

async function answers(port: number, path: string): Promise<boolean> {
  try {
    // The registry answers 401 to everyone without its password: it is up all the same.
    const { status } = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(2000) });
    return status === 200 || status === 401;
  } catch {
    return false;
  }
}

async function stopProcess(pid: number, name: string): Promise<void> {
  signal(pid, "SIGTERM");
  for (let waited = 0; waited < 60_000 && commandLine(pid); waited += 50) await sleep(50);
  if (commandLine(pid)) {
    console.error(`The ${name} (pid ${pid}) did not end within 60 s and was killed.`);
    signal(pid, "SIGKILL");
  }
}

function signal(pid: number, name: NodeJS.Signals) {
  try {
    process.kill(pid, name);
  } catch {
    // It ended by itself in between.
  }
}

/** The command line of a process, or "" where there is none (or only its remains). */
function commandLine(pid: number): string {
  try {
    const line = execFileSync("ps", ["-ww", "-o", "stat=,command=", "-p", String(pid)], { encoding: "utf8" }).trim();
    return line.startsWith("Z") ? "" : line;
  } catch {
    return "";
  }
}

const logFile = (name: string) => join(stateDirectory(), "logs", `${name}.log`);

function spawnLogged(name: string, file: string, args: string[], env: NodeJS.ProcessEnv = process.env): ChildProcess {
  mkdirSync(join(stateDirectory(), "logs"), { recursive: true });
  const log = openSync(logFile(name), "a");
  const child = spawn(file, args, { cwd: cloneDirectory, detached: true, env, stdio: ["ignore", log, log] });
  child.unref();
  return child;
}

const tail = (file: string) => (existsSync(file) ? readFileSync(file, "utf8").split("\n").slice(-12).join("\n") : "");

function registryConfig(port: number): string {
  const directory = daemonMarker("registry");
  const passwords = join(directory, "htpasswd");
  const password = registryPassword();
  rmSync(passwords, { force: true });
  writeFileSync(passwords, `${registryUser}:${bcrypt.hashSync(password, 6)}\n`, { mode: 0o600 });
  const file = join(directory, "config.yml");
  writeFileSync(
    file,
    stringify({
      version: 0.1,
      log: { level: "warn", accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(directory, "data") } },
      auth: { htpasswd: { realm: "hobnob", path: passwords } },
      http: { addr: `127.0.0.1:${port}` },
    }),
  );
  return file;
}
