import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import type { Runner } from "./recovery";

/**
 * A killed engine leaves its lock behind, which would refuse every later run. That of an engine that lives, or that ran on
 * another host, stays. Killed in mid-write, it also leaves attributes that nobody can read.
 * @param backend address of the state's backend: only a folder (`file://…`) can be looked into
 * @returns whether a lock was released
 */
export async function releaseDeadLock(runner: Runner, backend: string, project: string): Promise<boolean> {
  if (!backend.startsWith("file://")) return false;
  const address = backend.startsWith("file:///") ? fileURLToPath(backend) : backend.slice("file://".length);
  const folder = join(address.replace(/^~/, process.env.HOME ?? "~"), ".pulumi");
  const stack = runner.stack.split("/").at(-1) ?? "";
  const locks = join(folder, "locks", "organization", project, stack);
  // Beside each lock the backend keeps a file of attributes.
  const files = existsSync(locks) ? readdirSync(locks).filter((file) => file.endsWith(".json")) : [];
  const owners = files.map((file) => JSON.parse(readFileSync(join(locks, file), "utf8")) as LockOwner);
  if (owners.length === 0 || !owners.every(isDead)) return false;
  removeTornAttributes(folder, project, stack);
  await runner.pulumi(["cancel", "--yes"]);
  return true;
}

/** The backend writes them in place, and refuses the file beside them where they are empty; it needs none. Seen with 3.230.0. */
function removeTornAttributes(folder: string, project: string, stack: string): void {
  for (const path of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const [name = "", owner] = path.split(sep).reverse();
    const isStacks = path.split(sep).includes(project) && (owner === stack || name.startsWith(`${stack}.json`));
    if (isStacks && name.endsWith(".attrs") && statSync(join(folder, path)).size === 0) rmSync(join(folder, path));
  }
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
