import { type ExecaError, execa } from "execa";
import type { Violation } from "../violations";

/** Where the engine keeps states, and how it is told a new stack and its secrets. */
export class Backend {
  /** @param env what the engine gets; @param directory of the project */
  constructor(
    readonly env: NodeJS.ProcessEnv,
    readonly directory: string,
  ) {}

  /** Who is logged in where; nothing where nobody is. @throws where there is no engine */
  async whoami(): Promise<{ user: string; url: string } | undefined> {
    const { stdout, failed, code } = await execa("pulumi", ["whoami", "--json", "--non-interactive"], {
      ...this.#run(),
      reject: false,
    });
    if (code === "ENOENT") throw new Error("There is no pulumi on the PATH: https://www.pulumi.com/docs/install/");
    return failed ? undefined : (JSON.parse(stdout) as { user: string; url: string });
  }

  /** @param asks whether the engine may ask for a token */
  async login(url: string, asks: boolean): Promise<void> {
    if (asks)
      await execa("pulumi", ["login", url], { ...this.#run(), stdin: "inherit", stdout: "inherit", stderr: "inherit" });
    else await this.#pulumi(["login", url, "--non-interactive"]);
  }

  /** One that is there already is taken as it is. */
  async createStack(stack: string): Promise<void> {
    await this.#pulumi(["stack", "select", stack, "--create", "--non-interactive"]);
  }

  /** By the engine's standard input: who lists processes sees their arguments. */
  async setSecret(key: string, value: string, stack: string): Promise<void> {
    await this.#pulumi(["config", "set", "--secret", key, "--stack", stack, "--non-interactive"], value);
  }

  /** @throws what the engine said, in its words */
  async #pulumi(args: string[], input?: string): Promise<void> {
    const options = { ...this.#run(), ...(input !== undefined && { input, stdin: "pipe" as const }) };
    await execa("pulumi", args, options).catch((error: ExecaError) => {
      throw new Error(`${error.shortMessage}\n${error.stderr ?? ""}`.trim());
    });
  }

  #run() {
    return { cwd: this.directory, env: this.env, extendEnv: false, stdin: "ignore" } as const;
  }
}

/** Of a service that keeps the secrets' key too; elsewhere a passphrase makes it. */
export const isService = (url: string): boolean => /^https?:/.test(url);

export const EXAMPLES = {
  "https://api.pulumi.com": "Pulumi Cloud; asks for its access token, or takes PULUMI_ACCESS_TOKEN",
  "s3://<bucket>?region=<region>&endpoint=<region>.digitaloceanspaces.com":
    "a bucket, such as a Space; takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
  "file://~": "this machine alone",
};

/** Source: https://www.pulumi.com/docs/iac/concepts/state-and-backends/ */
export function backendViolations(url: string, env: NodeJS.ProcessEnv): Violation[] {
  if (!/^(https?|s3|gs|azblob|postgres):\/\/[^/<>]|^file:\/\/[^<>]*$/.test(url))
    return [{ key: "--backend", given: JSON.stringify(url), allowed: Object.keys(EXAMPLES).join(", "), command: "" }];
  const other = env.PULUMI_BACKEND_URL;
  if (!other || other === url) return [];
  const allowed = "the same as --backend, or not set: the engine would take it instead";
  return [{ key: "PULUMI_BACKEND_URL", given: other, allowed, command: "unset PULUMI_BACKEND_URL" }];
}
