import { execa } from "execa";
import type { PlatformOutputs } from "../platform";

/** Runs the engine's command line on the stack's project; a failure is no exception. */
export type Pulumi = (args: string[]) => Promise<{ exitCode?: number; stdout?: unknown; stderr?: unknown }>;

/** The `pulumi` on the PATH, with whatever backend and passphrase its user has set. */
export function pulumiIn(directory: string): Pulumi {
  return async (args) => {
    const result = await execa("pulumi", args, { cwd: directory, reject: false, stdin: "ignore" });
    if (result.code === "ENOENT")
      throw new Error("There is no pulumi on the PATH; install it: https://www.pulumi.com/docs/install/");
    return result;
  };
}

/** What every platform stack has, whatever version deployed it. */
const REQUIRED = ["apiUrl", "docsUrl", "ingressAddress", "kubeconfig", "namespace", "elasticsearchUrl"] as const;

/**
 * @param deploy the command that deploys the stack
 * @throws one line that names the next command, where the stack is unknown, not deployed or none of the platform
 */
export async function stackOutputs(stack: string, pulumi: Pulumi, deploy: string): Promise<PlatformOutputs> {
  const result = await pulumi(["stack", "output", "--json", "--show-secrets", "--stack", stack]);
  const said = String(result.stderr).trim();
  if (result.exitCode !== 0) {
    if (/no stack named/.test(said)) throw new Error(`There is no stack ${stack}; list what there is: pulumi stack ls`);
    throw new Error(`The outputs of the stack ${stack} cannot be read: ${said.replace(/^error: /, "").split("\n")[0]}`);
  }
  const outputs = JSON.parse(String(result.stdout));
  if (Object.keys(outputs).length === 0) throw new Error(`The stack ${stack} is not deployed; deploy it: ${deploy}`);
  const missing = REQUIRED.filter((name) => outputs[name] === undefined);
  if (missing.length > 0)
    throw new Error(
      `The stack ${stack} lacks the outputs ${missing.join(", ")}; deploy it from this program: ${deploy}`,
    );
  return outputs;
}
