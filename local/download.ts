import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, open, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ReadableStream } from "node:stream/web";
import { x as extract } from "tar";
import { EnvHttpProxyAgent, fetch, type RequestInit, type Response } from "undici";

/** A vendor's release file. */
export interface Download {
  url: string;
  /** Where the vendor publishes the file's SHA-256: a `sha256sum` list, the bare sum, or a release of GitHub's API. */
  checksums: string;
  /** For a tar.gz: the path inside of it of each wanted file. Left out, the download is the file itself. */
  members?: Record<string, string>;
}

export interface Limits {
  /** Milliseconds to connect, TLS included. @default 5000 */
  connect?: number;
  /** Milliseconds without a byte. @default 10000 */
  silence?: number;
  /** Milliseconds in all; by then a build from source would be as quick. @default 300000 */
  total?: number;
}

/** Hosts that failed in this run. */
const unreachable = new Set<string>();

/**
 * Puts the wanted files into `directory`, each complete and checked or not at all.
 * @throws Error with the reason: no connection, a status, a stall, a wrong or missing checksum, a missing member.
 */
export async function download(source: Download, names: string[], directory: string, limits: Limits = {}) {
  const { connect = 5000, silence = 10_000, total = 300_000 } = limits;
  const timeouts = { connect: { timeout: connect }, headersTimeout: silence, bodyTimeout: silence };
  const dispatcher = new EnvHttpProxyAgent(timeouts);
  const options = { dispatcher, signal: AbortSignal.timeout(total) };
  await mkdir(directory, { recursive: true });
  const temporary = await mkdtemp(join(directory, ".download-"));
  try {
    const expected = publishedChecksum(await get(source.checksums, options, text), basename(source.url));
    const fetched = join(temporary, "fetched");
    const actual = await get(source.url, options, (response) => save(response, fetched));
    if (actual !== expected) throw new Error(`${source.url}: its SHA-256 is ${actual}, the published one ${expected}`);
    for (const name of names) {
      const file = source.members ? await unpack(fetched, source.members[name] ?? name, temporary) : fetched;
      await publish(file, join(directory, name));
    }
  } finally {
    await dispatcher.destroy();
    await rm(temporary, { recursive: true, force: true });
  }
}

/** The SHA-256 that a vendor's list gives for `file`. */
export function publishedChecksum(list: string, file: string): string {
  if (list.trimStart().startsWith("{")) {
    const { assets = [] } = JSON.parse(list) as { assets?: { name: string; digest?: string }[] };
    const digest = assets.find(({ name }) => name === file)?.digest;
    if (digest?.startsWith("sha256:")) return digest.slice("sha256:".length);
  }
  for (const line of list.split("\n")) {
    const [sum = "", name = file] = line.trim().split(/\s+\*?/);
    if (/^[0-9a-f]{64}$/.test(sum) && basename(name) === file) return sum;
  }
  throw new Error(`no SHA-256 is published for ${file}`);
}

/** Makes a finished file visible under its name in one step, executable. */
export async function publish(file: string, target: string): Promise<void> {
  const handle = await open(file, "r+");
  await handle.chmod(0o755);
  await handle.sync();
  await handle.close();
  await rename(file, target);
}

/** A host that fails once, to connect or to go on, is left alone from then on: the wait is paid once. */
async function get<T>(url: string, options: RequestInit, read: (response: Response) => Promise<T>): Promise<T> {
  const { host } = new URL(url);
  if (unreachable.has(host)) throw new Error(`${url}: ${host} failed before`);
  let response: Response;
  try {
    response = await fetch(url, options);
    if (response.ok) return await read(response);
  } catch (error) {
    unreachable.add(host);
    const { message, cause } = error as Error;
    throw new Error(`${url}: ${cause instanceof Error ? cause.message : message}`);
  }
  throw new Error(`${url}: ${response.status} ${response.statusText}`);
}

const text = (response: Response) => response.text();

/** Writes the body to a file; resolves with its SHA-256. */
async function save(response: Response, file: string): Promise<string> {
  const hash = createHash("sha256");
  const body = Readable.fromWeb(response.body ?? new ReadableStream());
  body.on("data", (chunk: Buffer) => hash.update(chunk));
  await pipeline(body, createWriteStream(file));
  return hash.digest("hex");
}

async function unpack(archive: string, member: string, directory: string): Promise<string> {
  let found = false;
  const filter = (path: string, entry: unknown) => {
    const wanted = path.replace(/^\.\//, "") === member && (entry as { type: string }).type === "File";
    found ||= wanted;
    return wanted;
  };
  await extract({ file: archive, cwd: directory, filter });
  if (!found) throw new Error(`${basename(archive)} holds no ${member}`);
  return join(directory, member);
}
