import { createHash } from "node:crypto";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { stringify } from "yaml";
import { cloneDirectory, stateDirectory } from "./paths";

/**
 * The engine has the language host start a policy pack, which the one that can be built from a Go module refuses to do
 * (pulumi sdk/v3.60.0, nodejs/cmd/pulumi-language-nodejs/main.go, RunPlugin). The engine starts a pack of an unknown
 * runtime by an executable of that name: such a pack, with a link to the given one, is what it gets.
 */
export const policyPackStarter = {
  name: "policy-hobnob",
  path: join(cloneDirectory, "local", "plugins", "policy-pack"),
};

const FLAG = "--policy-pack";

/** The engine's arguments with each policy pack where the engine, which runs elsewhere, finds it and can start it. */
export function withPolicyPacks(args: string[], languageHostStartsThem: boolean): string[] {
  return args
    .flatMap((arg) => (/^--policy-pack(-config)?=/.test(arg) ? arg.split(/=(.*)/).slice(0, 2) : [arg]))
    .map((arg, index, all) => {
      const option = all[index - 1];
      if (option !== FLAG && option !== `${FLAG}-config`) return arg;
      const path = resolve(process.env.INIT_CWD ?? process.cwd(), arg);
      return option !== FLAG || languageHostStartsThem ? path : startable(path);
    });
}

function startable(folder: string): string {
  const stand = join(stateDirectory(), "policy-packs", createHash("sha256").update(folder).digest("hex").slice(0, 8));
  mkdirSync(stand, { recursive: true });
  writeFileSync(join(stand, "PulumiPolicy.yaml"), stringify({ runtime: "hobnob" }));
  rmSync(join(stand, "pack"), { force: true });
  symlinkSync(folder, join(stand, "pack"));
  return stand;
}
