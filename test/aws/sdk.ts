import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import Module, { createRequire } from "node:module";
import { join, sep } from "node:path";
import { execa } from "execa";
import { ToolError } from "../../local/build";
import { cacheDirectory, cloneDirectory } from "../../local/paths";

/**
 * The `node_modules` of an installation of AWS's SDK, made once and kept in the tools' cache: 84 MB that only these tests need.
 * @throws ToolError where it can't be had
 */
export async function obtainSdk(): Promise<string> {
  const source = join(__dirname, "sdk");
  const files = ["package.json", "package-lock.json"].map((file) => join(source, file));
  const pin = createHash("sha256")
    .update(files.map((file) => readFileSync(file)).join(""))
    .digest("hex")
    .slice(0, 16);
  const directory = join(cacheDirectory(), "tools", `aws-sdk-${pin}`);
  const complete = join(directory, "complete");
  if (!existsSync(complete)) {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true });
    cpSync(source, directory, { recursive: true });
    const options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    const result = await execa("npm", options, { cwd: directory, all: true, reject: false });
    if (result.failed) throw new ToolError(`AWS's SDK can't be installed: ${result.all?.trim().split("\n").at(-1)}`);
    writeFileSync(complete, "");
  }
  // As Node.js names what it loads, also where the cache is reached through a link.
  return realpathSync(join(directory, "node_modules"));
}

type Resolve = (request: string, parent: { filename?: string } | undefined, ...rest: unknown[]) => string;

/** Lets `@pulumi/aws` be found there, and itself find the clone's `@pulumi/pulumi`. @returns what ends it */
export function useSdk(modules: string): () => void {
  const loader = Module as unknown as { _resolveFilename: Resolve };
  const usual = loader._resolveFilename;
  const fromClone = createRequire(join(cloneDirectory, "index.ts"));
  loader._resolveFilename = function (this: unknown, request, parent, ...rest) {
    if (/^@pulumi\/aws($|\/)/.test(request)) return usual.call(this, join(modules, request), parent, ...rest);
    const inside = parent?.filename?.startsWith(modules + sep);
    if (inside && /^@pulumi\/pulumi($|\/)/.test(request)) return fromClone.resolve(request);
    return usual.call(this, request, parent, ...rest);
  };
  return () => {
    loader._resolveFilename = usual;
    // What has found it would go on having it.
    const found = [join(cloneDirectory, "components", "aws", sep), modules + sep];
    for (const file of Object.keys(require.cache))
      if (found.some((directory) => file.startsWith(directory))) delete require.cache[file];
  };
}
