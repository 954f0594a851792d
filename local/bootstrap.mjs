// Plain Node without dependencies: installs what the lock file pins, then hands over to the TypeScript of local/.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const clone = join(dirname(fileURLToPath(import.meta.url)), "..");
const [command = "help", ...rest] = process.argv.slice(2);

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  fail(`Node ${process.versions.node} is too old: this needs Node 20.19 or newer (https://nodejs.org).`);
}

// A Ctrl-C reaches the whole process group; the child decides how to end, and this waits for it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});

fetchModules();
await install(clone, "packages", 30);
if (["test", "examples"].includes(command))
  for (const program of programs()) await install(program, `packages of ${relative(clone, program)}`, 10);
else if (rest.includes("--real")) await install(join(clone, "app", "api"), "the sample API's packages", 10);
process.exitCode = await run(process.execPath, ["--import", "tsx", join(clone, "local", "cli.ts"), command, ...rest]);

/** What the pods of the platform and of the examples run: each has packages of its own. */
function programs() {
  const examples = join(clone, "examples");
  const folders = readdirSync(examples, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const inside = folders.flatMap(({ name }) =>
    readdirSync(join(examples, name)).map((part) => join(examples, name, part)),
  );
  return [join(clone, "app", "api"), ...inside.filter((path) => existsSync(join(path, "package-lock.json")))];
}

/** Where the tools will have to be built, their modules are fetched beside npm's packages. */
function fetchModules() {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  if (command !== "start" || process.env.HOBNOB_NO_DOWNLOAD !== "1" || existsSync(join(cache, "hobnob", "tools")))
    return;
  const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "", GOTOOLCHAIN: "local", GOWORK: "off" };
  const modules = join(clone, "local", "tools");
  for (const module of readdirSync(modules)) {
    const cwd = join(modules, module);
    // What fails here, the build tells.
    spawn("go", ["list", "-mod=readonly", "-deps", "tool", "./..."], { cwd, env, stdio: "ignore" })
      .on("error", () => {})
      .unref();
  }
}

async function install(directory, what, seconds) {
  const lock = join(directory, "package-lock.json");
  if (!existsSync(lock)) return;
  const marker = join(directory, "node_modules", ".hobnob-lock");
  const wanted = createHash("sha256").update(readFileSync(lock)).digest("hex");
  if (existsSync(marker) && readFileSync(marker, "utf8") === wanted) return;
  console.error(`Installing ${what} (about ${seconds} s) …`);
  const started = Date.now();
  const code = await run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], directory);
  if (code !== 0) fail(`npm ci failed in ${directory} (exit ${code}); its message is above.`);
  mkdirSync(dirname(marker), { recursive: true });
  writeFileSync(marker, wanted);
  console.error(`Installed ${what} in ${Math.round((Date.now() - started) / 1000)} s.`);
}

function run(file, args, cwd = process.cwd()) {
  return new Promise((resolve) => {
    const child = spawn(file, args, { cwd, stdio: ["inherit", file === "npm" ? "ignore" : "inherit", "inherit"] });
    child.on("error", (error) => fail(`${file} could not be started: ${error.message}`));
    child.on("exit", (code, signal) => resolve(code ?? (signal ? 130 : 1)));
  });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
