import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { Command } from "./images";

/** One run of a container's command: a process group of its own, its output in the format of container runtimes. */
export class Process {
  readonly exited: Promise<number>;
  private readonly child: ChildProcess;

  /** @param directory gets `<run>.log`, and `current.log` and `previous.log` which point to the last two. */
  constructor({ file, args, env, cwd, endsWithInput }: Command, directory: string, run: number) {
    const log = createWriteStream(join(directory, `${run}.log`), { flags: "a" });
    point(join(directory, "previous.log"), `${run - 1}.log`);
    point(join(directory, "current.log"), `${run}.log`);
    // A pipe where none is asked for would make bash read its start-up files.
    const stdin = endsWithInput ? "pipe" : "ignore";
    this.child = spawn(file, args, { cwd, env, detached: true, stdio: [stdin, "pipe", "pipe"] });
    this.child.stdin?.on("error", () => {});
    writeLines(this.child.stdout, "stdout", log);
    writeLines(this.child.stderr, "stderr", log);
    if (this.pid) writeFileSync(pidFile(directory), `${this.pid} ${startOf(this.pid)}`);
    this.exited = new Promise((resolve) => {
      this.child.once("error", (error) => {
        log.write(line("stderr", error.message));
        resolve(128);
      });
      this.child.once("close", (code, signal) => {
        this.signalGroup("SIGKILL");
        rmSync(pidFile(directory), { force: true });
        log.end(() => resolve(code ?? 128 + constants.signals[signal ?? "SIGKILL"]));
      });
      // What it left running would hold its output open.
      this.child.once("exit", () => this.signalGroup("SIGKILL"));
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }

  signalGroup(name: NodeJS.Signals): void {
    if (this.pid) signalProcess(-this.pid, name);
  }
}

/** Runs a command beside a container's process. @return no code where it took too long. */
export async function execute(command: Command, seconds: number): Promise<{ code?: number; output: string }> {
  const { file, args, env, cwd } = command;
  const child = spawn(file, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk) => {
      output = (output + chunk).slice(0, 10_000);
    });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    if (child.pid) signalProcess(-child.pid, "SIGKILL");
  }, seconds * 1000);
  try {
    const [code] = await once(child, "close");
    return late ? { output } : { code: code ?? 137, output };
  } catch (error) {
    return { code: 126, output: (error as Error).message };
  } finally {
    clearTimeout(timer);
  }
}

/** Ends what a kubelet that was killed has left of a pod. */
export function endSurvivors(podDirectory: string): void {
  for (const container of readdirSync(podDirectory)) endSurvivor(join(podDirectory, container));
}

function endSurvivor(directory: string): void {
  if (!existsSync(pidFile(directory))) return;
  const [, pid, start] = /^(\d+) (.*)$/.exec(readFileSync(pidFile(directory), "utf8")) ?? [];
  if (start && startOf(Number(pid)) === start) signalProcess(-Number(pid), "SIGKILL");
  rmSync(pidFile(directory), { force: true });
}

const pidFile = (directory: string) => join(directory, "pid");

/** A process id is given again, but not with the same time. */
function startOf(pid: number): string {
  try {
    return execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
  } catch {
    return "";
  }
}

function signalProcess(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

const line = (stream: string, text: string) => `${new Date().toISOString()} ${stream} F ${text}\n`;

function writeLines(from: Readable | null, stream: string, log: NodeJS.WritableStream): void {
  if (!from) return;
  createInterface({ input: from }).on("line", (text) => log.write(line(stream, text)));
}

function point(link: string, file: string): void {
  rmSync(link, { force: true });
  symlinkSync(file, link);
}
