import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp, statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { basename, dirname, join } from "node:path";
import { execa } from "execa";
import { lt } from "semver";
import { publish } from "./download";
import { cacheDirectory } from "./paths";

/** A directory whose files, go.mod and go.sum first, pin all that is built from there. */
export interface GoModule {
  directory: string;
  /** Linker variables by which the tools know their version. */
  stamp: Record<string, string>;
}

/** An error whose message tells the user what to do. */
export class ToolError extends Error {}

/** The version of a Go module that go.mod asks for, without the v. */
export function pinnedVersion(directory: string, module: string): string {
  const version = read(directory, "go.mod").match(new RegExp(`^(?:require)?\\s+${module} v(\\S+)`, "m"))?.[1];
  if (!version) throw new Error(`${directory}/go.mod does not require ${module}`);
  return version;
}

/** Changes with everything that decides the result, so that a cached tool is never a stale one. */
export function pin({ directory, stamp }: GoModule): string {
  const files = readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isFile());
  const contents = files.map(({ name }) => [name, read(directory, name)]).sort();
  const parts = [contents, flags(stamp), process.platform, process.arch];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 16);
}

/**
 * @param megabytes what the builds write
 * @param refusals why the releases could not be had
 * @throws ToolError without a Go that can build all of `modules`, or without the room for it.
 */
export async function requireBuildable(
  modules: GoModule[],
  names: string[],
  megabytes: number,
  refusals: string[] = [],
): Promise<void> {
  const required = modules.map(({ directory }) => read(directory, "go.mod").match(/^go (\S+)/m)?.[1] ?? "1.21.0");
  const newest = required.reduce((a, b) => (lt(three(a), three(b)) ? b : a));
  const needs = `Building ${names.join(", ")} needs Go ≥ ${newest}`;
  const tried = refusals.map((refusal) => `\n  not downloaded: ${refusal}`).join("");
  const advice = `Install it from https://go.dev/dl, or put the tools themselves on the PATH.${tried}`;
  const go = await execa("go", ["env", "GOVERSION", "GOCACHE", "GOMODCACHE"], {
    reject: false,
    cwd: "/",
    env: goEnvironment,
  });
  if (go.failed) throw new ToolError(`${needs}, but there is no go on the PATH. ${advice}`);
  const [found = "", ...directories] = go.stdout.split("\n");
  if (lt(three(found), three(newest))) throw new ToolError(`${needs}, but go on the PATH is ${found}. ${advice}`);
  for (const directory of [cacheDirectory(), ...directories]) await requireSpace(directory, megabytes);
}

/**
 * Builds the packages into `directory`, each under its name in the same step when all are done.
 * @throws ToolError with the compiler's last lines and where the rest is.
 */
export async function build(
  module: GoModule,
  packages: Record<string, string>,
  directory: string,
  cancelSignal: AbortSignal,
): Promise<void> {
  for (const left of readdirSync(directory)) {
    if (left.startsWith(".build-")) rmSync(join(directory, left), { recursive: true, force: true });
  }
  const temporary = await mkdtemp(join(directory, ".build-"));
  const log = join(cacheDirectory(), "logs", `${basename(directory)}.log`);
  mkdirSync(dirname(log), { recursive: true });
  try {
    const go = await execa("go", ["build", ...flags(module.stamp), "-o", `${temporary}/`, ...Object.values(packages)], {
      cwd: module.directory,
      env: { ...goEnvironment, ...garbageCollection() },
      all: true,
      stderr: ["pipe", { file: log }],
      reject: false,
      cancelSignal,
    });
    if (go.isCanceled) throw new ToolError("The build was interrupted. The next one goes on from there.");
    if (go.failed) {
      const advice = go.all?.includes("no space left on device") ? "The disk is full. Make room and start again." : "";
      const last = (go.all ?? "").split("\n").slice(-15).join("\n");
      throw new ToolError(`Building ${Object.keys(packages).join(", ")} failed:\n${last}\n${advice}All of it: ${log}`);
    }
    for (const [name, path] of Object.entries(packages))
      await publish(join(temporary, executable(path)), join(directory, name));
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** The user's proxy and caches, but nothing else of the user's Go settings. */
const goEnvironment = {
  CGO_ENABLED: "0",
  GO111MODULE: "on",
  GOARCH: { x64: "amd64" }[process.arch as "x64"] ?? process.arch,
  GOFLAGS: "",
  GOOS: process.platform,
  GOTOOLCHAIN: "local",
  GOWORK: "off",
};

/** Compiling is a fifth quicker where it need not collect its garbage: a process is over before it fills its share of the memory. */
function garbageCollection(): NodeJS.ProcessEnv {
  const gibibyte = 2 ** 30;
  if (freemem() < 4 * gibibyte) return {};
  return { GOGC: "off", GOMEMLIMIT: String(Math.round(Math.max(gibibyte, freemem() / 10))) };
}

const flags = (stamp: Record<string, string>): string[] => {
  const variables = Object.entries(stamp).map(([name, value]) => `-X ${name}=${value}`);
  // What a debugger would need is a tenth of the compiler's work, and the linker would strip it.
  const noDebugger = ["-gcflags=all=-dwarf=false", `-ldflags=-s -w ${variables.join(" ")}`.trim()];
  return ["-mod=readonly", "-buildvcs=false", "-trimpath", ...noDebugger];
};

/** As `go build` names it: the last element of the path that is no major version. */
const executable = (path: string) => basename(path.replace(/\/v\d+$/, ""));

const read = (directory: string, file: string) => {
  const path = join(directory, file);
  return existsSync(path) ? readFileSync(path, "utf8") : "";
};

/** `go1.26rc1` and `1.26` as three numbers. */
const three = (version: string) => {
  const [, major, minor, patch = "0"] = version.match(/(\d+)\.(\d+)(?:\.(\d+))?/) ?? [];
  return `${major}.${minor}.${patch}`;
};

async function requireSpace(directory: string, megabytes: number): Promise<void> {
  let existing = directory;
  while (!existsSync(existing)) existing = dirname(existing);
  const { bavail, bsize } = await statfs(existing);
  const free = Math.floor((bavail * bsize) / 1e6);
  if (free < megabytes)
    throw new ToolError(
      `Building the tools needs ${megabytes} MB in ${directory}, where ${free} MB are free. Make room, or move it (GOCACHE, GOMODCACHE, XDG_CACHE_HOME).`,
    );
}
