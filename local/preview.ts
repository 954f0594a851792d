import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Options } from "execa";
import { parse } from "yaml";
import { secretKeys } from "../config";
import { startAccount, stopDaemons } from "./daemons";
import { account, type Engine, engine, isEncrypted, prepareProject, pulumi } from "./engine";
import { cloneDirectory } from "./paths";
import { obtainTools } from "./tools";

/** Previews a stack, for whoever reads it. */
export const previewOffline = ([stack = "", ...args]: string[]): Promise<number> =>
  withOfflinePreview(stack, console.log, async (preview) => {
    const policies = ["--policy-pack", join(cloneDirectory, "policy", "pack")];
    return (await preview([...policies, ...args], { stdio: "inherit" })).exitCode ?? 1;
  });

type Preview = (args: string[], options?: Options) => ReturnType<typeof pulumi>;

/**
 * Previews of a stack from its real settings against a simulated account, on a throw-away copy of settings and state.
 * Nothing of the stack's own backend or account is asked; secrets cannot be read, so stand-ins take their place.
 */
export async function withOfflinePreview<T>(
  stack: string,
  say: (line: string) => void,
  use: (preview: Preview, engine: Engine) => Promise<T>,
): Promise<T> {
  const settings = join(cloneDirectory, `Pulumi.${stack}.yaml`);
  if (!stack || !existsSync(settings)) {
    const named = stack ? `There is no Pulumi.${stack}.yaml` : "No stack was named";
    throw new Error(`${named}; for example: npm run preview -- dev`);
  }
  const tools = await obtainTools(["pulumi", "pulumi-language-nodejs"]);
  const temporary = mkdtempSync(join(tmpdir(), "hobnob-preview-"));
  process.env.HOBNOB_LOCAL_STATE = temporary;
  try {
    say(`The DigitalOcean account of this preview is simulated; nothing of the stack ${stack} is touched.`);
    const { port } = await startAccount(process.env);
    const runner = engine(tools, port);
    await account(runner, "/local/settings", { withCluster: false });
    const standIns = secretStandIns(settings);
    say(`Stand-ins for secrets, which cannot be read here: ${Object.keys(standIns).join(", ") || "none"}\n`);
    await prepareProject(runner, stack, {}, standIns);
    const preview: Preview = (args, options) =>
      pulumi(runner, ["preview", "--stack", stack, ...args], { reject: false, ...options });
    return await use(preview, runner);
  } finally {
    await stopDaemons();
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Every secret of the program and every encrypted value of the file, with a value that is none. */
function secretStandIns(settings: string): Record<string, string> {
  const { config = {} } = parse(readFileSync(settings, "utf8")) as { config?: Record<string, unknown> };
  const encrypted = Object.keys(config).filter((key) => isEncrypted(config[key]));
  const names = new Set([...secretKeys.map((key) => `hobnob:${key}`), ...encrypted]);
  return Object.fromEntries([...names].map((key) => [key, "stand-in"]));
}
