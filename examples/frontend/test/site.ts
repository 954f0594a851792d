import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import getPort from "get-port";

export const PACKAGE = join(__dirname, "../site");

/** As its image is built. */
export const buildSite = () => promisify(execFile)("npm", ["run", "--silent", "build"], { cwd: PACKAGE });

/** Starts the program with these settings, and nothing else of this environment. */
export function run(env: Record<string, string>) {
  const child = spawn(process.execPath, [join(PACKAGE, "dist/main.js")], {
    env: { PATH: process.env.PATH, HOST: "127.0.0.1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
  return { process: child as ChildProcess, output: () => output };
}

/** Starts it on a free port, and waits until it answers. */
export async function startSite(env: Record<string, string>) {
  const port = await getPort();
  const site = run({ PORT: String(port), DRAIN_SECONDS: "1", ...env });
  const url = `http://127.0.0.1:${port}`;
  for (const end = Date.now() + 30_000; ; await sleep(20)) {
    assert.equal(site.process.exitCode, null, site.output());
    // As it answers itself: no request of a test leaves this machine.
    const answer = await fetch(`${url}/readyz`, { redirect: "manual" }).catch(() => undefined);
    if (answer?.status === 200) return { url, ...site };
    if (answer || Date.now() > end) {
      await stopSite(site);
      throw new Error(`/readyz answers ${answer?.status}: ${site.output()}`);
    }
  }
}

export async function stopSite({ process }: { process: ChildProcess }): Promise<void> {
  if (process.exitCode !== null || process.signalCode !== null) return;
  process.kill("SIGKILL");
  await once(process, "exit");
}
