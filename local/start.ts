import { ExecaError } from "execa";
import { Listr, ListrLogger, ProcessOutput } from "listr2";
import { followRealPods } from "./cluster";
import {
  registryPassword,
  registryUser,
  runningDaemon,
  startAccount,
  startKubelet,
  startRegistry,
  stopKubelet,
} from "./daemons";
import { type Engine, engine, prepareProject, pulumi, recoverRun } from "./engine";
import { giveBackPods, requireRealPods } from "./kubelet/choice";
import { runsRealPods, setRealPods } from "./kubelet/kwok";
import { backendRepository } from "./kubelet/programs";
import { obtainTools, type Report, type Tool, type ToolName } from "./tools";

/** kubectl is not among them: only `npm run kubectl` uses it. */
const platformTools = [
  "pulumi",
  "pulumi-language-nodejs",
  "etcd",
  "kube-apiserver",
  "kube-controller-manager",
  "kube-scheduler",
  "kwok",
  "kwokctl",
  "registry",
] as const satisfies ToolName[];

/** How steps are shown: as lines that move on a terminal, else as a log. */
export const progress = {
  fallbackRenderer: "simple",
  // What the engine prints may be read by a program: progress then goes to the other stream.
  fallbackRendererCondition: () => !process.stdout.isTTY,
  fallbackRendererOptions: {
    logger: new ListrLogger({ processOutput: new ProcessOutput(process.stderr, process.stderr) }),
  },
  registerSignalListeners: false,
} as const;

/** Who runs the pods is the start's to say; other commands leave it as it is. */
export async function chooseRealPods(real: boolean): Promise<void> {
  if (real) await requireRealPods();
  else await stopKubelet();
  setRealPods(real);
}

/**
 * Tools, registry, account (and with it the cluster, if there is one) and the stack's settings; quick when all is there.
 * @param overrides settings that take the place of Pulumi.local.yaml's
 * @returns with the flags that the command needs after a run that did not end well
 */
export async function startPlatform(
  command: string,
  overrides: Record<string, unknown> = {},
): Promise<{ platform: Engine; flags: string[] }> {
  const steps = new Listr<{ tools: Record<(typeof platformTools)[number], Tool>; engine: Engine; flags: string[] }>(
    [
      {
        title: "Tools",
        task: async (context, task) => {
          // A terminal shows one line that moves; a log gets one now and then.
          const every = process.stdout.isTTY ? 1 : 15;
          context.tools = await obtainTools(platformTools, (report) => {
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
          await prepareProject(context.engine, "local", { "hobnob:registry": registry, ...overrides }, secrets);
          context.flags = await recoverRun(context.engine, "local", command, (line) => console.error(line));
          task.title = `Providers: ${Object.entries(context.engine.sources)
            .map(([name, source]) => `${name} (${source})`)
            .join(", ")}`;
        },
      },
    ],
    progress,
  );
  const { engine: platform, flags } = await steps.run();
  return { platform, flags };
}

export const describe = ({ tool, phase, elapsedSeconds, estimatedSeconds }: Report) =>
  `${tool}: ${phase}, ${Math.round(elapsedSeconds)} s of about ${Math.round(estimatedSeconds)} s`;

/** An engine command whose output is the terminal's. @returns its exit code */
export const run = (platform: Engine, args: string[], options: { cwd?: string } = {}) =>
  exitCode(pulumi(platform, args, { ...options, stdio: "inherit" }));

export async function exitCode(running: PromiseLike<unknown>): Promise<number> {
  try {
    await running;
    return 0;
  } catch (error) {
    if (error instanceof ExecaError) return error.exitCode ?? 1;
    throw error;
  }
}
