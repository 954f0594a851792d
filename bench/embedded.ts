import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse } from "yaml";
import { adminKubeconfig } from "../local/cluster";
import { startAccount, startKubelet, stopDaemons } from "../local/daemons";
import { account, type Engine, engine, type Project, prepareProject, pulumi, stackResources } from "../local/engine";
import { backendRepository } from "../local/kubelet/programs";
import { cloneDirectory } from "../local/paths";
import { chooseRealPods } from "../local/start";
import { obtainTools } from "../local/tools";

/** Of every benchmark's stacks. */
export const STACK = "bench";

/** An update, as `npm run stack -- <stack> up` has it. */
export const UP = ["up", "--yes", "--skip-preview", "--non-interactive"];

/** An image that nobody pulls: kwok's pods run nothing, and real ones what the clone holds. @param digit makes the digest */
export const imageOf = (digit: number): string =>
  `docker.io/${backendRepository}@sha256:${digit.toString(16).padStart(64, "0")}`;

export interface Wanted {
  /** Nodes of 8 CPUs and 32 GB; with 0 there is the account alone, and no cluster. @default 3 */
  nodes?: number;
  /** Real processes behind the pods of Elasticsearch and the API. @default false */
  real?: boolean;
}

/** An engine, a simulated account without latencies and a cluster that is there, on a state directory of their own. */
export class Embedded {
  private constructor(
    readonly engine: Engine,
    private readonly kubectl: string,
    readonly nodes: number,
    private readonly directory: string,
    /** The state directory that the process had before. */
    private readonly before: string | undefined,
  ) {}

  static async start({ nodes = 3, real = false }: Wanted = {}): Promise<Embedded> {
    const tools = await obtainTools(["pulumi", "pulumi-language-nodejs", "kubectl"]);
    const before = process.env.HOBNOB_LOCAL_STATE;
    const directory = mkdtempSync(join(tmpdir(), "hobnob-bench-"));
    process.env.HOBNOB_LOCAL_STATE = directory;
    if (real) await chooseRealPods(true);
    const { port } = await startAccount(process.env);
    const embedded = new Embedded(engine(tools, port), tools.kubectl.path, nodes, directory, before);
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => embedded.end(signal));
    try {
      await embedded.begin();
      if (real) await startKubelet();
    } catch (error) {
      await embedded.stop();
      throw error;
    }
    return embedded;
  }

  private async begin(): Promise<void> {
    const none = { cluster: 0, clusterDeletion: 0, node: 0, certificate: 0, balancer: 0, volume: 0, attachment: 0 };
    await account(this.engine, "/local/settings", { withCluster: this.nodes > 0, latency: none });
    if (this.nodes === 0) return;
    const { options } = await account(this.engine, "/v2/kubernetes/options");
    const pool = { name: "nodes", size: "s-8vcpu-32gb-amd", count: this.nodes };
    const request = { name: "bench", region: "fra1", version: options.versions[0].slug, node_pools: [pool] };
    const { kubernetes_cluster: made } = await account(this.engine, "/v2/kubernetes/clusters", request);
    for (let state = "provisioning"; state !== "running"; await sleep(200)) {
      const { status } = (await account(this.engine, `/v2/kubernetes/clusters/${made.id}`)).kubernetes_cluster;
      if (status.state === "error") throw new Error(status.message);
      state = status.state;
    }
    const PATH = [dirname(this.kubectl), this.engine.environment.PATH].join(delimiter);
    Object.assign(this.engine.environment, { KUBECONFIG: adminKubeconfig(), PATH });
  }

  /** The platform's settings on this cluster: no account, no registry and no zone are asked. */
  get settings(): Record<string, unknown> {
    return {
      "hobnob:domain": "bench.test",
      "hobnob:cluster": {
        provider: "existing",
        context: parse(readFileSync(adminKubeconfig(), "utf8"))["current-context"],
        nodes: this.nodes,
        storageProvisioner: "dobs.csi.digitalocean.com",
      },
      "hobnob:dns": { zone: "none" },
      "hobnob:registry": { private: false },
      "hobnob:api": { image: imageOf(1) },
    };
  }

  /** A program under bench/programs, or the clone's own where none is named; it runs on settings of its own. */
  project(program?: string): Project {
    const source = program ? join(cloneDirectory, "bench", "programs", program) : cloneDirectory;
    return { name: "hobnob", source, directory: join(this.directory, "projects", program ?? "hobnob") };
  }

  /** Whether the project's stack has made anything. */
  knows = (project: Project): boolean => stackResources(STACK, project).length > 0;

  /** Gives the project's stack these settings; makes it where it is not there. */
  prepare(project: Project, settings: Record<string, unknown>): Promise<void> {
    return prepareProject(this.engine, STACK, settings, {}, project);
  }

  /** For whatever asks the cluster or the account: kubectl is on its PATH. */
  get environment(): NodeJS.ProcessEnv {
    return this.engine.environment;
  }

  /** For `timed`: where and how every command of the engine runs. */
  options({ directory }: Project) {
    return {
      cwd: directory,
      env: { ...this.engine.environment, TSX_TSCONFIG_PATH: join(cloneDirectory, "tsconfig.json") },
    };
  }

  /** An engine command on the project's stack, untimed. @returns what it printed */
  async pulumi(project: Project, ...args: string[]): Promise<string> {
    const { stdout } = await pulumi(this.engine, [...args, "--stack", STACK], this.options(project), project);
    return String(stdout);
  }

  /** Ends all its processes, and removes what they kept. */
  async stop(): Promise<void> {
    await stopDaemons();
    // What was cut off may still write.
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 20 });
    if (this.before === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = this.before;
  }

  private async end(signal: NodeJS.Signals): Promise<never> {
    await this.stop();
    process.exit(signal === "SIGINT" ? 130 : 143);
  }
}
