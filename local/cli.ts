import { rmSync } from "node:fs";
import { execa } from "execa";
import { adviceAfterFailure, releaseOf } from "../operations/release";
import { ciPreview } from "./ciPreview";
import { adminKubeconfig, deleteCluster, isRunning, stopCluster } from "./cluster";
import { costCommand } from "./cost";
import { stopDaemons } from "./daemons";
import { driftCommand } from "./drift";
import { account, type Engine, stackResources } from "./engine";
import { runExamples } from "./examples";
import { graphCommand } from "./graph";
import { promoteTo, restoreFor, rollbackStack, scaleDownStack } from "./operate";
import { outdatedCommand } from "./outdated";
import { cloneDirectory, stateDirectory } from "./paths";
import { previewOffline } from "./preview";
import { rotateStack } from "./rotate";
import { chooseRealPods, describe, exitCode, run, startPlatform } from "./start";
import { statusCommand } from "./status";
import { runTests } from "./testing";
import { obtainTools } from "./tools";
import { verifyStack } from "./verify";

const help = `npm start                       bring the whole platform up on this machine, or up to date
npm start -- --real             the same with real processes behind its Elasticsearch and API pods (Linux, Java, Maven)
npm run local -- <arguments>    any pulumi command on it: preview, refresh, stack output, destroy …
npm run kubectl -- <arguments>  kubectl on its cluster
npm run examples [-- <name> …]  the stacks under examples/ on it: up, checked, and down again (--keep: not down)
npm run init                    the settings of a first stack, asked for or from flags (--help), checked and written
npm run preview -- dev|prod     preview that stack offline, against a simulated account
npm run cost -- <stack>         what it costs a month, by its settings
npm run graph -- <stack>        its resources as a picture (--preview: as it would be)
npm run status -- <stack>       how it is, on one screen (--preview: and what an update would change)
npm run ci:preview -- <stack>   what a pull request is told of a stack: any, or local (--offline: no account)
npm run verify -- <stack>       check a deployed stack: any, or local
npm run rotate -- <stack> elasticsearch|registry|registry-pull|cluster    change its passwords
npm run scale-down -- <stack> <n>  take the last Elasticsearch nodes out: any stack, or local
npm run drift -- <stack>        what has changed behind its back: any stack, or local
npm run outdated                newer Kubernetes versions, images, providers and packages, with the risk of each
npm run rollback -- <stack>     back to the API's last good image: any stack, or local
npm run promote -- <stack> <image>  update it to an image by digest, such as another stack's
npm run restore -- <stack>      list its Elasticsearch snapshots; with one's name, restore it
npm stop                        stop every process, keep the state
npm run reset                   back to nothing
npm test                        checks, unit tests, tests on the embedded platform
npm run bench [-- <name> …]     the benchmarks, side by side with what would be used instead
npm run check                   types, lint, format, dead code
`;

/** Set by a Ctrl-C, which the engine gets too: it ends in an orderly way first, then everything else is stopped. */
let interrupted = false;

const commands: Record<string, (args: string[]) => Promise<number>> = {
  start,
  local,
  kubectl,
  stop,
  reset,
  preview: previewOffline,
  cost: costCommand,
  graph: graphCommand,
  status: statusCommand,
  "ci:preview": ciPreview,
  verify: verifyStack,
  rotate: rotateStack,
  "scale-down": (args) => scaleDownStack(args, local),
  drift: driftCommand,
  outdated: outdatedCommand,
  rollback: (args) => rollbackStack(args, local),
  promote: (args) => promoteTo(args, local),
  restore: (args) => restoreFor(args, local),
  examples: (args) => runExamples(args, { isInterrupted: () => interrupted, reset }),
  bench: async (args) => (await import("../bench/main")).runBenches(args),
  test: runTests,
  help: async () => {
    console.log(help);
    return 0;
  },
};

async function start(args: string[]): Promise<number> {
  const unknown = args.filter((arg) => arg !== "--real");
  if (unknown.length > 0) {
    console.error(`npm start does not know ${unknown.join(" ")}. Allowed: npm start -- --real`);
    return 1;
  }
  await chooseRealPods(args.includes("--real"));
  const { platform, flags } = await startPlatform("up");
  const code = await run(platform, ["up", "--yes", "--skip-preview", "--suppress-outputs", ...flags]);
  if (interrupted) {
    await stop();
    return 130;
  }
  if (code !== 0) {
    console.error("\nThe update did not finish. What it made is kept: npm start goes on from there.");
    const advice = adviceAfterFailure(releaseOf(stackResources("local")), "local");
    if (advice) console.error(advice);
    return code;
  }
  await run(platform, ["stack", "output"]);
  console.log(`
The platform is up. What to try next:
  npm run kubectl -- get pods --all-namespaces --output wide
  npm run local -- preview --expect-no-changes
  npm run local -- stack output kubeconfig --show-secrets
  npm stop`);
  return 0;
}

/** Any engine command on the local stack. `config` edits the clone's own Pulumi.local.yaml, as it does for any stack. */
async function local(args: string[]): Promise<number> {
  if (args.length === 0) {
    console.error("Which pulumi command? For example: npm run local -- preview");
    return 1;
  }
  const [command = "", ...rest] = args;
  const { platform, flags } = await startPlatform(command);
  // The settings are the clone's own file: the copy is written anew before each run.
  const here = command === "config" ? { cwd: cloneDirectory } : {};
  const code = await run(platform, here.cwd ? [...args, "--stack", "local"] : [command, ...flags, ...rest], here);
  if (command === "destroy" && code === 0) await nameWhatIsLeft(platform);
  if (interrupted) await stop();
  return code;
}

async function kubectl(args: string[]): Promise<number> {
  if (!isRunning()) {
    console.error("The embedded cluster does not run. Start it with: npm start");
    return 1;
  }
  const { kubectl } = await obtainTools(["kubectl"], (report) => {
    if (Math.round(report.elapsedSeconds) % 15 === 0) console.error(describe(report));
  });
  return exitCode(execa(kubectl.path, args, { env: { KUBECONFIG: adminKubeconfig() }, stdio: "inherit" }));
}

async function stop(): Promise<number> {
  await stopDaemons();
  if (isRunning()) await stopCluster();
  console.log("Stopped. The state is kept; npm start goes on from it, npm run reset forgets it.");
  return 0;
}

async function reset(): Promise<number> {
  await stopDaemons();
  await deleteCluster();
  rmSync(stateDirectory(), { recursive: true, force: true });
  console.log("The embedded platform is gone.");
  return 0;
}

/** What a destroy leaves on purpose: the owner decides about it, so it is named. */
async function nameWhatIsLeft(platform: Engine): Promise<void> {
  const { volumes } = await account<{ volumes: { name: string; size_gigabytes: number }[] }>(platform, "/v2/volumes");
  const { domains } = await account<{ domains: { name: string }[] }>(platform, "/v2/domains");
  for (const { name, size_gigabytes } of volumes)
    console.log(`Kept: volume ${name} (${size_gigabytes} GiB), its data is yours`);
  for (const { name } of domains) console.log(`Kept: zone ${name}; its deletion needs hobnob:dns.deleteZone`);
}

async function main(): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      interrupted = true;
    });
  }
  const [command = "help", ...args] = process.argv.slice(2);
  try {
    process.exitCode = await (commands[command] ?? commands.help)?.(args);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    if (process.env.HOBNOB_DEBUG) console.error(error);
    if (interrupted) await stopDaemons();
    process.exitCode = interrupted ? 130 : 1;
  }
}

void main();
