import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

export interface Probed {
  /** Seconds from the start of the program's process to its first resource. */
  firstRegistration: number;
  /** The most that the program's process held. */
  megabytes: number;
}

/** Looks into the program's process of one engine command. @param run runs it with this environment besides its own */
export async function probed(
  scratch: string,
  run: (env: Record<string, string>) => PromiseLike<unknown>,
): Promise<Probed> {
  const file = join(scratch, "probe.json");
  rmSync(file, { force: true });
  await run({ NODE_OPTIONS: `--require ${join(__dirname, "programs", "probe.cjs")}`, PROBE: file });
  const { firstRegistration, maxRSS } = JSON.parse(readFileSync(file, "utf8"));
  return { firstRegistration: firstRegistration / 1000, megabytes: Math.round(maxRSS / 1024) };
}
