import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cloneDirectory, stateDirectory } from "./paths";

/** Where a command of this state directory has its plugins: each is a process that has it in its command line. */
export const bundlesDirectory = (): string => join(stateDirectory(), "plugins");

/**
 * Makes one file of each simulated plugin, anew where a source is newer. Loaded module by module, one takes a second longer
 * to start than an official plugin does, and the engine registers nothing meanwhile.
 * @returns the folder of each plugin, by its name
 */
export function bundlePlugins<Name extends string>(names: readonly Name[]): Record<Name, string> {
  const sources = join(cloneDirectory, "local", "providers");
  const files = readdirSync(sources, { recursive: true }).map((file) => join(sources, String(file)));
  const newest = Math.max(...[join(cloneDirectory, "package-lock.json"), ...files].map(modified));
  const stale = names.filter((name) => modified(bundleOf(name)) < newest);
  if (stale.length > 0) {
    const entries = stale.map((name) => `${name}/${name}=${join(sources, name)}.ts`);
    const options = ["--bundle", "--platform=node", "--target=node20", "--log-level=error"];
    const esbuild = join(cloneDirectory, "node_modules", ".bin", "esbuild");
    execFileSync(esbuild, [...entries, ...options, `--outdir=${bundlesDirectory()}`]);
  }
  return Object.fromEntries(names.map((name) => [name, withLauncher(name)])) as Record<Name, string>;
}

const bundleOf = (name: string) => join(bundlesDirectory(), name, `${name}.js`);

/** 0 where there is no such file. */
const modified = (file: string): number => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

function withLauncher(name: string): string {
  const directory = join(bundlesDirectory(), name);
  mkdirSync(directory, { recursive: true });
  const launcher = `#!/bin/sh\nexec node '${bundleOf(name)}' "$@"\n`;
  writeFileSync(join(directory, `pulumi-resource-${name}`), launcher, { mode: 0o755 });
  return directory;
}
