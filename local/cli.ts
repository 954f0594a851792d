import { rmSync } from "node:fs";
import { ExecaError, execa } from "execa";
import { Listr, ListrLogger, ProcessOutput } from "listr2";
import { adminKubeconfig, deleteCluster, followRealPods, isRunning, stopCluster } from "./cluster";
import {
  registryPassword,
  registryUser,
  runningDaemon,
  startAccount,
  startKubelet,
  startRegistry,
  stopDaemons,
  stopKubelet,
} from "./daemons";
import { account, type Engine, engine, prepareProject, pulumi, recoverRun } from "./engine";
import { giveBackPods, requireRealPods } from "./kubelet/choice";
import { runsRealPods, setRealPods } from "./kubelet/kwok";
import { backendRepository } from "./kubelet/programs";
import { restoreFor, scaleDownStack } from "./operate";
import { cloneDirectory, stateDirectory } from "./paths";
import { previewOffline } from "./preview";
import { rotateStack } from "./rotate";
import { runTests } from "./testing";
import { obtainTools, type Report, type ToolName } from "./tools";
import { verifyStack } from "./verify";

const help = `npm start                       bring the whole platform up on this machine, or up to date
npm start -- --real             the same with real processes behind its Elasticsearch and API pods (Linux, Java, Maven)
npm run local -- <arguments>    any pulumi command on it: preview, refresh, stack output, destroy …
npm run kubectl -- <arguments>  kubectl on its cluster
npm run preview -- dev|prod     preview that stack offline, against a simulated account
npm run verify -- <stack>       check a deployed stack: any, or local
npm run rotate -- <stack> elasticsearch|registry|registry-pull|cluster    change its passwords
npm run scale-down -- <stack> <n>  take the last Elasticsearch nodes out: any stack, or local
npm run restore -- <stack>      list its Elasticsearch snapshots; with one's name, restore it
npm stop                        stop every process, keep the state
npm run reset                   back to nothing
npm test                        checks, unit tests, tests on the embedded platform
npm run check                   types, lint, format, dead code
`;

const allTools: ToolName[] = [
  "pulumi",
  "pulumi-language-nodejs",
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kubectl",
  "kwok",
  "kwokctl",
  "registry",
];

/** Set by a Ctrl-C, which the engine gets too: it ends in an orderly way first, then everything else is stopped. */
let interrupted = false;

const commands: Record<string, (args: string[]) => Promise<number>> = {
  start,
  local,
  kubectl,
  stop,
  reset,
  preview: previewOffline,
  verify: verifyStack,
  rotate: rotateStack,
  "scale-down": (args) => scaleDownStack(args, local),
  restore: (args) => restoreFor(args, local),
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

/** Who runs the pods is the start's to say; other commands leave it as it is. */
async function chooseRealPods(real: boolean): Promise<void> {
  if (real) await requireRealPods();
  else await stopKubelet();
  setRealPods(real);
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
  const { kubectl } = await obtainTools(["kubectl"]);
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

/**
 * Tools, registry, account (and with it the cluster, if there is one) and the stack's settings; quick when all is there.
 * @returns with the flags that the command needs after a run that did not end well
 */
async function startPlatform(command: string): Promise<{ platform: Engine; flags: string[] }> {
  const steps = new Listr<{ tools: Awaited<ReturnType<typeof obtainTools>>; engine: Engine; flags: string[] }>(
    [
      {
        title: "Tools",
        task: async (context, task) => {
          // A terminal shows one line that moves; a log gets one now and then.
          const every = process.stdout.isTTY ? 1 : 15;
          context.tools = await obtainTools(allTools, (report) => {
            if (Math.round(report.elapsedSeconds) % every === 0) task.output = describe(report);
          });
        },
      },
      {
        title: "Registry and simulated account",
        task: async (context) => {
          const [, daemon] = await Promise.all([startRegistry(context.tools.registry.path), startAccount(process.env)]);
          context.engine = engine(context.tools, daemon.port);
          await followRealPods();
          if (runsRealPods()) await startKubelet();
          else await giveBackPods();
        },
      },
      {
        title: "Stack settings",
        task: async (context, task) => {
          const server = `127.0.0.1:${runningDaemon("registry")?.port}`;
          const registry = { server, repository: backendRepository, username: registryUser, private: true };
          const secrets = { "hobnob:registryPassword": registryPassword() };
          await prepareProject(context.engine, "local", { "hobnob:registry": registry }, secrets);
          context.flags = await recoverRun(context.engine, "local", command, (line) => console.error(line));
          task.title = `Providers: ${Object.entries(context.engine.sources)
            .map(([name, source]) => `${name} (${source})`)
            .join(", ")}`;
        },
      },
    ],
    {
      fallbackRenderer: "simple",
      // What the engine prints may be read by a program: progress then goes to the other stream.
      fallbackRendererCondition: () => !process.stdout.isTTY,
      fallbackRendererOptions: {
        logger: new ListrLogger({ processOutput: new ProcessOutput(process.stderr, process.stderr) }),
      },
      registerSignalListeners: false,
    },
  );
  const { engine: platform, flags } = await steps.run();
  return { platform, flags };
}

const describe = ({ tool, phase, elapsedSeconds, estimatedSeconds }: Report) =>
  `${tool}: ${phase}, ${Math.round(elapsedSeconds)} s of about ${Math.round(estimatedSeconds)} s`;

const run = (platform: Engine, args: string[], options: { cwd?: string } = {}) =>
  exitCode(pulumi(platform, args, { ...options, stdio: "inherit" }));

/** What a destroy leaves on purpose: the owner decides about it, so it is named. */
async function nameWhatIsLeft(platform: Engine): Promise<void> {
  const { volumes } = await account<{ volumes: { name: string; size_gigabytes: number }[] }>(platform, "volumes");
  const { domains } = await account<{ domains: { name: string }[] }>(platform, "domains");
  for (const { name, size_gigabytes } of volumes)
    console.log(`Kept: volume ${name} (${size_gigabytes} GiB), its data is yours`);
  for (const { name } of domains) console.log(`Kept: zone ${name}; its deletion needs hobnob:dns.deleteZone`);
}

async function exitCode(running: PromiseLike<unknown>): Promise<number> {
  try {
    await running;
    return 0;
  } catch (error) {
    if (error instanceof ExecaError) return error.exitCode ?? 1;
    throw error;
  }
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
