import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { cloneDirectory, stateDirectory } from "../paths";
import type { Image } from "./images";

/** Repository in the local registry that the sample API is pushed to. */
export const backendRepository = "hobnob/backend";
const SOURCES = join(cloneDirectory, "app", "api");
const MEBIBYTE = 2 ** 20;

/** The sample API's image: what its Dockerfile makes of app/api, as the clone has it when the image is first run. */
export const backend: Image = {
  pattern: `/${backendRepository}[:@]`,

  files: async (reference) => ({ "/app": await build(reference) }),

  async entrypoint({ directory, address, hostsFile, env, memoryLimit, args, map }) {
    const flags = [
      ...["--import", pathToFileURL(join(__dirname, "lookup.mjs")).href],
      ...(memoryLimit ? [`--max-old-space-size=${Math.floor(memoryLimit / 2 / MEBIBYTE)}`] : []),
      `--diagnostic-dir=${directory}`,
    ];
    return {
      file: process.execPath,
      args: [...flags, join(map("/app"), "dist", "main.js"), ...args],
      // In a pod every address is the pod's own.
      env: { NODE_ENV: "production", ...env, HOST: address, HOSTS_FILE: hostsFile },
      cwd: map("/app"),
      endsWithInput: true,
    };
  },
};

const builds = new Map<string, Promise<string>>();

function build(reference: string): Promise<string> {
  const known = builds.get(reference) ?? buildOnce(reference);
  builds.set(reference, known);
  known.catch(() => builds.delete(reference));
  return known;
}

/** One build an image, beside the packages of the clone. */
async function buildOnce(reference: string): Promise<string> {
  const name = createHash("sha256").update(reference).digest("hex").slice(0, 12);
  const directory = join(stateDirectory(), "kubelet", "images", `backend-${name}`);
  if (existsSync(directory)) return directory;
  const draft = `${directory}.new`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { recursive: true });
  await cp(join(SOURCES, "package.json"), join(draft, "package.json"));
  await symlink(join(SOURCES, "node_modules"), join(draft, "node_modules"));
  const tsc = join(SOURCES, "node_modules", "typescript", "bin", "tsc");
  await promisify(execFile)(process.execPath, [
    tsc,
    ...["--project", SOURCES, "--noCheck", "--outDir", join(draft, "dist")],
  ]);
  await rename(draft, directory);
  return directory;
}
