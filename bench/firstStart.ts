import { accessSync, constants, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { basename, delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { execa } from "execa";
import { cloneDirectory } from "../local/paths";
import { catalogue } from "../local/tools";
import type { Bench, Context, Figures, Measured } from "./harness";

/** The end of each phase, by the first line of `npm start` that tells of it. */
const PHASES: [phase: string, end: RegExp][] = [
  ["npm's packages", /^Installed packages/],
  ["our own start", /❯ Tools/],
  ["tools", /✔ Tools/],
  ["registry and account", /✔ Registry and simulated account/],
  ["stack settings", /✔ Providers/],
  ["cluster", /KubernetesCluster \S+ created/],
  ["what runs on it", /The platform is up/],
];

/** Only what a bare machine would not have: what the tools themselves and images' engines are called. */
const TAKEN_AWAY = new Set([...Object.keys(catalogue()), "docker", "podman", "java", "mvn"]);

async function run({ scratch, say }: Context): Promise<Measured> {
  const clone = join(scratch, "clone");
  await execa("git", ["clone", "--quiet", cloneDirectory, clone]);
  const env = bareEnvironment(scratch);
  const npm = (...args: string[]) => execa("npm", args, { cwd: clone, env, extendEnv: false, all: true });
  const start = async (name: string) => {
    const variants = await phases(npm("start"), (line) => say(`${name}: ${line}`));
    return { case: name, variants };
  };
  try {
    const first = await start("first npm start");
    const second = await start("second, all is up");
    await npm("stop");
    const third = await start("after npm stop");
    const total = (start: typeof first) => start.variants.total?.samples[0] ?? Number.NaN;
    return {
      cases: [first, second, third],
      goals: [
        { goal: "3. first npm start, seconds", value: total(first), atMost: 420 },
        { goal: "3. second npm start, seconds", value: total(second), atMost: 30 },
        { goal: "3. npm start after npm stop, seconds", value: total(third), atMost: 30 },
      ],
      notes: [
        "Once, whatever `--repetitions` says: a fresh clone of HEAD, an empty home, empty caches of Go and npm, no tools and no container engine on the PATH.",
        "`HOBNOB_NO_DOWNLOAD=1`: only the registries of npm and Go are asked. Where the vendors' releases can be downloaded the first start takes what the download takes.",
      ],
    };
  } finally {
    await npm("run", "reset").catch(() => {});
    // Go's modules are read-only: its own command removes them.
    await execa("go", ["clean", "-modcache"], { env, extendEnv: false, cwd: scratch, reject: false });
  }
}

function bareEnvironment(scratch: string): NodeJS.ProcessEnv {
  const directory = (name: string) => {
    mkdirSync(join(scratch, name));
    return join(scratch, name);
  };
  const programs = directory("bin");
  const seen = new Set(TAKEN_AWAY);
  for (const program of (process.env.PATH ?? "").split(delimiter).flatMap(executables)) {
    if (seen.has(basename(program))) continue;
    seen.add(basename(program));
    symlinkSync(program, join(programs, basename(program)));
  }
  const { LANG, NODE_EXTRA_CA_CERTS, SSL_CERT_FILE, HTTPS_PROXY, GOPROXY } = process.env;
  return {
    ...{ LANG, NODE_EXTRA_CA_CERTS, SSL_CERT_FILE, HTTPS_PROXY, GOPROXY },
    PATH: programs,
    HOME: directory("home"),
    XDG_CACHE_HOME: directory("cache"),
    TMPDIR: directory("tmp"),
    HOBNOB_NO_DOWNLOAD: "1",
  };
}

function executables(directory: string): string[] {
  try {
    const paths = readdirSync(directory).map((name) => join(directory, name));
    return paths.filter((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
  } catch {
    return [];
  }
}

/** Each phase's seconds, and the total; a phase that a start has no line for is left out. */
async function phases(
  running: ReturnType<typeof execa>,
  say: (line: string) => void,
): Promise<Record<string, Figures>> {
  const began = performance.now();
  const found: Record<string, Figures> = {};
  let last = began;
  const lines = createInterface({ input: running.all as NodeJS.ReadableStream });
  lines.on("line", (line) => {
    const phase = PHASES.find(([name, end]) => !found[name] && end.test(line))?.[0];
    if (!phase) return;
    const now = performance.now();
    found[phase] = { samples: [(now - last) / 1000] };
    say(`${phase}: ${((now - last) / 1000).toFixed(1)} s`);
    last = now;
  });
  await running;
  return { ...found, total: { samples: [(performance.now() - began) / 1000] } };
}

export default {
  name: "firstStart",
  title: "g. First and second npm start, by phase",
  minutes: 8,
  run,
} satisfies Bench;
