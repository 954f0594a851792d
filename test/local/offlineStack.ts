import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parse } from "yaml";
import { startAccount, stopDaemons } from "../../local/daemons";
import { account, type Engine, engine, prepareProject, pulumi } from "../../local/engine";
import { obtainTools } from "../../local/tools";

interface Step {
  op: string;
  urn: string;
  detailedDiff?: Record<string, { kind: string }> | null;
}

export interface Plan {
  code: number;
  /** What the engine would do with each resource that it would touch. */
  steps: Step[];
  /** Everything that was printed, for a person. */
  text: string;
}

/** The state's resource as `pulumi stack import` takes it; a test changes it before. */
export type State = { version: 3; deployment: { resources: Record<string, unknown>[] } };

/** The stack `local` with the real engine and the simulated account, but no cluster: what it plans goes by a state alone. */
export class OfflineStack {
  private constructor(
    private readonly directory: string,
    private readonly runner: Engine,
    /** The state directory that the process had before. */
    private readonly before: string | undefined,
  ) {}

  static async start(): Promise<OfflineStack> {
    const tools = await obtainTools(["pulumi", "pulumi-language-nodejs"]);
    const before = process.env.HOBNOB_LOCAL_STATE;
    const directory = mkdtempSync(join(tmpdir(), "hobnob-offline-"));
    process.env.HOBNOB_LOCAL_STATE = directory;
    const { port } = await startAccount(process.env);
    const stack = new OfflineStack(directory, engine(tools, port), before);
    await stack.ask("/local/settings", { withCluster: false });
    return stack;
  }

  async stop(): Promise<void> {
    await stopDaemons();
    rmSync(this.directory, { recursive: true, force: true });
    if (this.before === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = this.before;
  }

  /** A request to the simulated account. */
  ask = (path: string, body?: object) => account(this.runner, path, body);

  /** The stack's state from here on. */
  async import(state: State): Promise<void> {
    await this.#settings({});
    const { encryptionsalt: salt } = parse(readFileSync(join(this.directory, "project", "Pulumi.local.yaml"), "utf8"));
    const deployment = { ...state.deployment, secrets_providers: { type: "passphrase", state: { salt } } };
    const input = JSON.stringify({ ...state, deployment });
    await pulumi(this.runner, ["stack", "import", "--stack", "local"], { input });
  }

  /** What an `up` with these settings over those of Pulumi.local.yaml would do. */
  async plan(settings: Record<string, unknown> = {}): Promise<Plan> {
    await this.#settings(settings);
    const args = ["preview", "--stack", "local", "--json", "--show-sames"];
    const { exitCode, stdout, stderr } = await pulumi(this.runner, args, { reject: false });
    const digest = stdout ? JSON.parse(String(stdout)) : {};
    const said = (digest.diagnostics ?? []) as { message: string }[];
    const text = [...said.map(({ message }) => message), stderr].join("\n");
    return { code: exitCode ?? 1, steps: digest.steps ?? [], text };
  }

  /** A command of the engine with these settings. */
  async run(args: string[], settings: Record<string, unknown> = {}): Promise<{ code: number; text: string }> {
    await this.#settings(settings);
    const { exitCode, all } = await pulumi(this.runner, [...args, "--stack", "local"], { reject: false, all: true });
    return { code: exitCode ?? 1, text: String(all) };
  }

  /** The engine with whatever arguments and environment, and with these settings. */
  async engine(args: string[], settings: Record<string, unknown>, environment: Record<string, string>) {
    await this.#settings(settings);
    return pulumi(this.runner, args, { reject: false, env: environment });
  }

  async #settings(settings: Record<string, unknown>): Promise<void> {
    const registry = { server: "127.0.0.1:20000", repository: "hobnob/backend", username: "hobnob", private: true };
    const overrides = { "hobnob:registry": registry, ...settings };
    await prepareProject(this.runner, "local", overrides, { "hobnob:registryPassword": "stand-in" });
  }
}
