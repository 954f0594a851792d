import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

/** What a path answers with; text as it is, all else as JSON. */
export type Answer = (request: IncomingMessage) => unknown;

/** Where only what is in the pod reaches it; where pods are plain processes, HOST is the pod's own address. */
export const within = (env: NodeJS.ProcessEnv) => env.HOST ?? "127.0.0.1";

/** Answers GET until it is told to end, and then what is under way. @param paths by path; all others are not found */
export function serve(env: NodeJS.ProcessEnv, paths: Record<string, Answer>): void {
  listen(env.HOST, Number(env.PORT ?? 8080), async (request, response) => {
    const answer = Object.hasOwn(paths, request.url ?? "") ? paths[request.url ?? ""] : undefined;
    if (request.method !== "GET" || !answer) return send(response, answer ? 405 : 404, "");
    send(response, 200, await answer(request));
  });
}

/** @param host all of the pod's addresses where it is undefined */
export function listen(
  host: string | undefined,
  port: number,
  handle: (request: IncomingMessage, response: ServerResponse) => Promise<void> | void,
): void {
  const server = createServer(async (request, response) => {
    try {
      await handle(request, response);
    } catch (error) {
      send(response, 502, `${(error as Error).message}\n`);
    }
  });
  server.listen(port, host, () => log({ listening: port }));
  process.once("SIGTERM", () => server.close(() => process.exit()));
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const text = typeof body === "string" ? body : `${JSON.stringify(body)}\n`;
  response
    .writeHead(status, { "content-type": typeof body === "string" ? "text/plain" : "application/json" })
    .end(text);
}

/** Of a container without a server: the process is the container's first, which SIGTERM ends only if it is asked to. */
export function every(seconds: number, work: () => void): void {
  work();
  setInterval(work, seconds * 1000);
  process.once("SIGTERM", () => process.exit());
}

/** A whole number of seconds. @throws where there is none */
export function seconds({ SECONDS = "" }: NodeJS.ProcessEnv): number {
  if (!/^[1-9]\d{0,4}$/.test(SECONDS)) throw new Error(`SECONDS is ${SECONDS || "not set"}; allowed: 1 to 99999`);
  return Number(SECONDS);
}

export const log = (line: object) => console.log(JSON.stringify({ time: new Date().toISOString(), ...line }));
