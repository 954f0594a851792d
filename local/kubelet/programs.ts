import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, readFile, rename, rm, symlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { cloneDirectory, stateDirectory } from "../paths";
import type { Image } from "./images";

/** Repository in the local registry that the sample API is pushed to. */
export const backendRepository = "hobnob/backend";

/** An image that holds a Node.js program of this clone. */
interface Program {
  /** Where it is pushed to, without the registry's host. */
  repository: string;
  /** Its folder in the clone: the Dockerfile's context, with a package.json. */
  source: string;
  /** What the image's ENTRYPOINT gives to node, in `/app`; a container's args follow it. @default dist/main.js */
  main?: string;
}

const programs: Program[] = [
  { repository: backendRepository, source: "app/api" },
  { repository: "hobnob/frontend-site", source: "examples/frontend/site" },
  { repository: "hobnob/crawler", source: "examples/crawler/program" },
  { repository: "hobnob/kubia-program", source: "examples/kubia/program" },
];

const MEBIBYTE = 2 ** 20;

/** What each program's Dockerfile makes of its folder, as the clone has it when the image is first run. */
export const nodePrograms: Image[] = programs.map(({ repository, source, main = "dist/main.js" }) => ({
  pattern: `/${repository}[:@]`,

  files: async (reference) => ({ "/app": await build(reference, join(cloneDirectory, source)) }),

  async entrypoint({ directory, address, hostsFile, env, memoryLimit, args, map }) {
    const flags = [
      ...["--import", pathToFileURL(join(__dirname, "lookup.mjs")).href],
      ...(memoryLimit ? [`--max-old-space-size=${Math.floor(memoryLimit / 2 / MEBIBYTE)}`] : []),
      `--diagnostic-dir=${directory}`,
    ];
    return {
      file: process.execPath,
      args: [...flags, join(map("/app"), main), ...args],
      // In a pod every address is the pod's own.
      env: { NODE_ENV: "production", ...env, HOST: address, HOSTS_FILE: hostsFile },
      cwd: map("/app"),
      endsWithInput: true,
    };
  },
}));

const builds = new Map<string, Promise<string>>();

function build(reference: string, source: string): Promise<string> {
  const known = builds.get(reference) ?? buildOnce(reference, source);
  builds.set(reference, known);
  known.catch(() => builds.delete(reference));
  return known;
}

/** One build an image, by the program's own script, with its own packages or, where it has none here, the clone's. */
async function buildOnce(reference: string, source: string): Promise<string> {
  const name = createHash("sha256").update(reference).digest("hex").slice(0, 12);
  const directory = join(stateDirectory(), "kubelet", "images", `${basename(source)}-${name}`);
  if (existsSync(directory)) return directory;
  const draft = `${directory}.new`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { recursive: true });
  const made = ["node_modules", "dist"].map((each) => join(source, each));
  await cp(source, draft, { recursive: true, filter: (path) => !made.includes(path) });
  const own = join(source, "node_modules");
  const packages = existsSync(own) ? own : join(cloneDirectory, "node_modules");
  await symlink(packages, join(draft, "node_modules"));
  const { scripts } = JSON.parse(await readFile(join(draft, "package.json"), "utf8"));
  // Types are for the tests and the editor to check.
  const flags = scripts?.build === "tsc" ? ["--", "--noCheck"] : [];
  await promisify(execFile)("npm", ["run", "--silent", "--if-present", "build", ...flags], { cwd: draft });
  await rename(draft, directory);
  return directory;
}
