import { existsSync } from "node:fs";
import { verify } from "../verify/main";
import { pulumiIn } from "../verify/stack";
import { isRunning } from "./cluster";
import { runningDaemon } from "./daemons";
import { engine, projectDirectory, pulumi } from "./engine";
import { runsRealPods } from "./kubelet/kwok";
import { cloneDirectory } from "./paths";
import { obtainTools } from "./tools";

/** The acceptance of a live stack: of `local` as far as it is here, of any other with its user's own pulumi. */
export async function verifyStack(args: string[]): Promise<number> {
  const json = args.includes("--json");
  const [stack, ...unknown] = args.filter((arg) => arg !== "--json");
  if (!stack || unknown.length > 0 || stack.startsWith("-")) {
    const wrong = stack?.startsWith("-") ? stack : unknown.join(" ");
    throw new Error(`${wrong ? `Unknown: ${wrong}` : "No stack was named"}; for example: npm run verify -- dev --json`);
  }
  if (stack === "local") return verifyLocal(json);
  const commands = {
    deploy: `pulumi up --stack ${stack}`,
    access: `pulumi stack output kubeconfig --show-secrets --stack ${stack} >kubeconfig && kubectl --kubeconfig kubeconfig get nodes`,
  };
  return verify(stack, { pulumi: pulumiIn(cloneDirectory), commands, json });
}

async function verifyLocal(json: boolean): Promise<number> {
  const account = runningDaemon("account");
  if (!account || !isRunning() || !existsSync(projectDirectory()))
    throw new Error("The stack local does not run; start it: npm start -- --real");
  if (!runsRealPods())
    throw new Error(
      "The pods of the stack local are simulated and run nothing; run real processes: npm start -- --real",
    );
  const runner = engine(await obtainTools(["pulumi", "pulumi-language-nodejs"]), account.port);
  // The kubeconfig's command asks the simulated account for a token.
  Object.assign(process.env, runner.environment);
  return verify("local", {
    pulumi: (args) => pulumi(runner, args, { reject: false, stdin: "ignore" }),
    commands: { deploy: "npm start -- --real", access: "npm start -- --real" },
    json,
    nothingPublic: "simulated: balancer, DNS and TLS of the stack local",
  });
}
