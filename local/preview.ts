import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { secretKeys } from "../config";
import { startAccount, stopDaemons } from "./daemons";
import { engine, prepareProject, pulumi } from "./engine";
import { cloneDirectory } from "./paths";
import { obtainTools } from "./tools";

/**
 * Previews a stack from its real settings against a simulated account, on a throw-away copy of settings and state.
 * Nothing of the stack's own backend or account is asked; secrets cannot be read, so stand-ins take their place.
 */
export async function previewOffline([stack, ...args]: string[]): Promise<number> {
  const settings = join(cloneDirectory, `Pulumi.${stack}.yaml`);
  if (!stack || !existsSync(settings)) {
    const named = stack ? `There is no Pulumi.${stack}.yaml` : "No stack was named";
    console.error(`${named}; for example: npm run preview -- dev`);
    return 1;
  }
  const tools = await obtainTools(["pulumi", "pulumi-language-nodejs"]);
  const temporary = mkdtempSync(join(tmpdir(), "hobnob-preview-"));
  process.env.HOBNOB_LOCAL_STATE = temporary;
  try {
    console.log(`The DigitalOcean account of this preview is simulated; nothing of the stack ${stack} is touched.`);
    const account = await startAccount(process.env);
    await post(`http://127.0.0.1:${account.port}/local/settings`, { withCluster: false });
    const runner = engine(tools, account.port);
    const standIns = secretStandIns(settings);
    console.log(`Stand-ins for secrets, which cannot be read here: ${Object.keys(standIns).join(", ") || "none"}\n`);
    await prepareProject(runner, stack, {}, standIns);
    const policies = ["--policy-pack", join(cloneDirectory, "policy", "pack")];
    const command = ["preview", "--stack", stack, ...policies, ...args];
    const result = await pulumi(runner, command, { stdio: "inherit", reject: false });
    return result.exitCode ?? 1;
  } finally {
    await stopDaemons();
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Every secret of the program and every encrypted value of the file, with a value that is none. */
function secretStandIns(settings: string): Record<string, string> {
  const { config = {} } = parse(readFileSync(settings, "utf8")) as { config?: Record<string, unknown> };
  const encrypted = Object.keys(config).filter((key) => {
    const value = config[key];
    return typeof value === "object" && value !== null && "secure" in value;
  });
  const names = new Set([...secretKeys.map((key) => `hobnob:${key}`), ...encrypted]);
  return Object.fromEntries([...names].map((key) => [key, "stand-in"]));
}

async function post(url: string, body: unknown): Promise<void> {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`The simulated account answered ${response.status} to ${url}.`);
}
