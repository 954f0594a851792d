import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync, readFileSync } from "node:fs";
import { chmod, cp, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { arch, platform } from "node:os";
import { delimiter, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { createBrotliDecompress } from "node:zlib";
import { type Browser, chromium } from "playwright-core";
import { extract } from "tar";
import { cacheDirectory } from "../../../local/paths";

interface Chromium {
  executablePath: string;
  env?: Record<string, string>;
}

const run = promisify(execFile);

/** The first that knows `light-dark()` in colours. */
const OLDEST = 123;

/** Why no browser can be had here: the reason to give when a test is skipped. */
class Unavailable extends Error {}

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/**
 * The machine's own Chromium, else one from an npm package; with a profile of its own that ends with it.
 * @param hosts addresses by name, such as `127.0.0.1:8080`; no other name is known, so that nothing leaves this machine
 */
export async function openBrowser(hosts: Record<string, string> = {}): Promise<Browser> {
  const { executablePath, env } = (await ofTheMachine()) ?? (await ofThePackage());
  const known = Object.entries(hosts).map(([name, address]) => `MAP ${name} ${address}`);
  const rules = [...known, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"].join(", ");
  return chromium.launch({
    executablePath,
    env: { ...(process.env as Record<string, string>), ...env },
    args: [...FLAGS, `--host-resolver-rules=${rules}`],
    timeout: 60_000,
  });
}

/** The reason to skip tests that need a browser; none where there is one. Gets it the first time. */
export async function browserMissing(): Promise<string | undefined> {
  try {
    if (!(await ofTheMachine())) await ofThePackage();
  } catch (error) {
    if (error instanceof Unavailable) return error.message;
    throw error;
  }
}

/** The first that starts and is new enough: some systems have a script of that name that says what to install. */
async function ofTheMachine(): Promise<Chromium | undefined> {
  const folders = (process.env.PATH ?? "").split(delimiter);
  const names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
  for (const executablePath of names
    .flatMap((name) => folders.map((folder) => join(folder, name)))
    .filter(existsSync)) {
    const { stdout } = await run(executablePath, ["--version"]).catch(() => ({ stdout: "" }));
    if (Number(/(\d+)\.\d+\.\d+/.exec(stdout)?.[1]) >= OLDEST) return { executablePath };
  }
}

/** Unpacked once into the cache of the tools: the browser, the libraries it was built with, and letters to show. */
async function ofThePackage(): Promise<Chromium> {
  if (platform() !== "linux" || arch() !== "x64")
    throw new Unavailable(`no Chromium on the PATH, and the package has none for ${platform()} ${arch()}`);
  const source = join(__dirname, "chromium");
  const pin = createHash("sha256")
    .update(readFileSync(join(source, "package-lock.json")))
    .digest("hex")
    .slice(0, 16);
  const home = join(cacheDirectory(), "tools", `chromium-${pin}`);
  if (!existsSync(home)) await unpack(source, home);
  return {
    executablePath: join(home, "chromium"),
    env: { LD_LIBRARY_PATH: join(home, "lib"), FONTCONFIG_FILE: join(home, "fonts.conf") },
  };
}

async function unpack(source: string, home: string): Promise<void> {
  const draft = `${home}.${process.pid}`;
  try {
    await cp(source, draft, { recursive: true });
    await run("npm", ["ci", "--ignore-scripts", "--loglevel=error"], { cwd: draft }).catch((error) => {
      throw new Unavailable(`Chromium's package can't be installed: ${error.stderr.trim().split("\n").at(-1)}`);
    });
    const packed = join(draft, "node_modules", "@sparticuz", "chromium", "bin");
    const inflate = (file: string, to: string) =>
      pipeline(createReadStream(join(packed, file)), createBrotliDecompress(), createWriteStream(join(draft, to)));
    await inflate("chromium.br", "chromium");
    await chmod(join(draft, "chromium"), 0o755);
    for (const archive of ["al2023.tar", "fonts.tar"]) {
      await inflate(`${archive}.br`, archive);
      await extract({ file: join(draft, archive), cwd: draft });
    }
    const folders = [join(home, "fonts"), "/usr/share/fonts"].map((folder) => `<dir>${folder}</dir>`).join("");
    await writeFile(join(draft, "fonts.conf"), `<fontconfig>${folders}<cachedir>${home}/cache</cachedir></fontconfig>`);
    await rm(join(draft, "node_modules"), { recursive: true });
    await mkdir(join(home, ".."), { recursive: true });
    await rename(draft, home);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
