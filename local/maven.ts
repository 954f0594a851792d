import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

/** Why a server can't be had on this machine: the reason to give when a test is skipped. */
export class Unavailable extends Error {}

/**
 * Puts what a pom.xml depends on into a directory, by one of the dependency plugin's goals. What fails leaves nothing behind.
 * @param draft removed when it fails; `directory` is in it
 */
export async function maven(
  goal: "copy-dependencies" | "unpack-dependencies",
  { pom, directory, draft, flags = [] }: { pom: string; directory: string; draft: string; flags?: string[] },
): Promise<void> {
  const args = [
    "--batch-mode",
    "--quiet",
    "--file",
    pom,
    ...flags,
    `dependency:${goal}`,
    `-DoutputDirectory=${directory}`,
    // Else beside the pom, where it would say of every later directory that all is there.
    `-DmarkersDirectory=${join(draft, "markers")}`,
  ];
  await promisify(execFile)("mvn", args).catch(async (error) => {
    await rm(draft, { recursive: true, force: true });
    if (error.code === "ENOENT") throw new Unavailable("Maven is missing: put mvn on PATH");
    const reason = /\[ERROR\] (.+)/.exec(error.stdout)?.[1] ?? error.message;
    throw new Unavailable(`Maven did not get what ${pom} names: ${reason}`);
  });
}

/** The reason why not, where a server can't be had here. */
export const reasonOf = (having: Promise<unknown>): Promise<string | undefined> =>
  having.then(
    () => undefined,
    (error) => {
      if (error instanceof Unavailable) return error.message;
      throw error;
    },
  );
