import assert from "node:assert/strict";
import { type ChildProcess, execFile, type StdioOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import getPort from "get-port";

export const PACKAGE = join(__dirname, "../../app/api");
export const PROGRAM = join(PACKAGE, "dist/main.js");
export const JSON_TYPE = { "content-type": "application/json" };

export interface Api {
  url: string;
  docsUrl: string;
  process: ChildProcess;
  log(): string;
}

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: a body has as many shapes as there are answers
  body: any;
  headers: Headers;
}

const running: ChildProcess[] = [];

export function run(
  env: Record<string, string>,
  { args = [PROGRAM], stdio = ["ignore", "pipe", "pipe"] }: { args?: string[]; stdio?: StdioOptions } = {},
): ChildProcess & { output: () => string } {
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH, HOST: "127.0.0.1", ...env },
    stdio,
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (output += chunk));
  running.push(child);
  return Object.assign(child, { output: () => output });
}

/** Starts the API for the Elasticsearch on this port, and waits until its process answers. */
export async function startApi(elasticsearchPort: number, env: Record<string, string> = {}): Promise<Api> {
  const [port, docsPort] = [await getPort(), await getPort()];
  const child = run({
    ELASTICSEARCH_HOSTNAME: "http://127.0.0.1",
    ELASTICSEARCH_PORT: String(elasticsearchPort),
    PORT: String(port),
    DOCS_PORT: String(docsPort),
    // A test is one client, who asks as much as many.
    RATE_LIMIT: "1000000",
    ...env,
  });
  const [url, docsUrl] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${docsPort}`];
  await until(async () => {
    assert.equal(child.exitCode, null, child.output());
    return (await ask(`${docsUrl}/openapi.json`)).status === 200;
  });
  return { url, docsUrl, process: child, log: child.output };
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

export async function ask(url: string, init: RequestInit & { json?: unknown } = {}): Promise<Answer> {
  const { json, ...rest } = init;
  const body = json === undefined ? rest.body : JSON.stringify(json);
  const headers = { ...(body === undefined ? {} : JSON_TYPE), ...(rest.headers as Record<string, string>) };
  const response = await fetch(url, { ...rest, method: rest.method ?? (body ? "POST" : "GET"), body, headers });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("json");
  return { status: response.status, body: isJson && text ? JSON.parse(text) : text, headers: response.headers };
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (
    !(await condition().catch((error) => (error instanceof assert.AssertionError ? Promise.reject(error) : false)))
  ) {
    if (Date.now() > deadline) throw new Error(`gave up waiting for ${condition}`);
    await sleep(50);
  }
}

/** As its image is built, but for the types, which `npm run check` checks. */
export async function buildApi(): Promise<void> {
  const tsc = join(PACKAGE, "node_modules/typescript/bin/tsc");
  await promisify(execFile)(process.execPath, [tsc, "--project", PACKAGE, "--noCheck"]);
}

/** Ends every API process of this file's. */
export const stopAll = (): Promise<unknown> => Promise.all(running.splice(0).map(stop));
