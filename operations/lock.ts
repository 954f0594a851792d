import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Runner } from "./recovery";

/**
 * A killed engine leaves its lock behind, which would refuse every later run. That of an engine that lives, or that ran on
 * another host, stays.
 * @param backend address of the state's backend: only a folder (`file://…`) can be looked into
 * @returns whether a lock was released
 */
export async function releaseDeadLock(runner: Runner, backend: string, project: string): Promise<boolean> {
  if (!backend.startsWith("file://")) return false;
  const folder = backend.startsWith("file:///") ? fileURLToPath(backend) : backend.slice("file://".length);
  const stack = runner.stack.split("/").at(-1) ?? "";
  const locks = join(folder.replace(/^~/, process.env.HOME ?? "~"), ".pulumi", "locks", "organization", project, stack);
  // Beside each lock the backend keeps a file of attributes.
  const files = existsSync(locks) ? readdirSync(locks).filter((file) => file.endsWith(".json")) : [];
  const owners = files.map((file) => JSON.parse(readFileSync(join(locks, file), "utf8")) as LockOwner);
  if (owners.length === 0 || !owners.every(isDead)) return false;
  await runner.pulumi(["cancel", "--yes"]);
  return true;
}

interface LockOwner {
  pid: number;
  hostname: string;
}

/** A process id that another program has since been given is no engine's. */
function isDead({ pid, hostname: host }: LockOwner): boolean {
  if (host !== hostname()) return false;
  try {
    const line = execFileSync("ps", ["-ww", "-o", "stat=,command=", "-p", String(pid)], { encoding: "utf8" }).trim();
    return line.startsWith("Z") || !line.includes("pulumi");
  } catch {
    return true;
  }
}
