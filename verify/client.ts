import type { LookupFunction } from "node:net";
import { Agent, request } from "undici";
import { Miss } from "./checks";

export interface ClientOptions {
  /** Where requests go, as `http://host:port`. */
  origin: string;
  /** Who answers there, as a miss names it. @default the origin */
  name?: string;
  /** The certificate authorities that are trusted. @default the system's */
  ca?: string;
  /** The name that the server's certificate must have. @default the origin's host */
  servername?: string;
  /** Basic authentication. @default none */
  user?: { name: string; password: string };
  /** How host names become addresses. @default the system's way */
  lookup?: LookupFunction;
  /** Why a connection failed, where the client itself can't know. */
  explain?: () => string | undefined;
  /** Seconds for each answer. @default 10 */
  timeout?: number;
}

export interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are requests
  json: any;
}

interface Ask {
  body?: object;
  headers?: Record<string, string>;
  /** Ends the request. @default only its timeout does */
  signal?: AbortSignal;
}

/** Asks one server, which is told by its name in every miss. */
export class Client {
  readonly name: string;
  private readonly agent: Agent;

  constructor(private readonly options: ClientOptions) {
    const { ca, servername, lookup, origin } = options;
    this.name = options.name ?? origin;
    this.agent = new Agent({ connect: { ca, servername, lookup, timeout: this.timeout } });
  }

  /** Any answer. @throws Miss where there is none */
  async ask(method: "GET" | "PUT" | "POST" | "DELETE", path: string, ask: Ask = {}): Promise<Answer> {
    const { origin, user, explain } = this.options;
    const timeout = AbortSignal.timeout(this.timeout);
    try {
      const { statusCode, headers, body } = await request(origin + path, {
        method,
        dispatcher: this.agent,
        signal: ask.signal ? AbortSignal.any([ask.signal, timeout]) : timeout,
        headers: {
          ...(ask.body && { "content-type": "application/json" }),
          ...(user && { authorization: `Basic ${Buffer.from(`${user.name}:${user.password}`).toString("base64")}` }),
          ...ask.headers,
        },
        body: ask.body && JSON.stringify(ask.body),
      });
      const text = await body.text();
      return { status: statusCode, headers, text, json: parsed(text) };
    } catch (error) {
      const reason = timeout.aborted ? `no answer within ${this.timeout / 1000} s` : reasonOf(error);
      throw new Miss(`${this.name} does not answer ${method} ${bare(path)}: ${explain?.() ?? reason}`);
    }
  }

  /** An answer with this status. @throws Miss otherwise */
  async expect(status: number, ...[method, path, ask]: Parameters<Client["ask"]>): Promise<Answer> {
    const answer = await this.ask(method, path, ask);
    if (answer.status === status) return answer;
    throw new Miss(`${this.name} answers ${method} ${bare(path)} with ${answer.status} instead of ${status}`);
  }

  close = (): Promise<void> => this.agent.destroy();

  private get timeout(): number {
    return (this.options.timeout ?? 10) * 1000;
  }
}

const bare = (path: string) => path.split("?")[0];

/** The shortest that tells what is wrong: `ECONNREFUSED 127.0.0.1:443`, `certificate has expired`. */
export function reasonOf(error: unknown): string {
  const { errors, cause, code, message } = error as {
    errors?: unknown[];
    cause?: unknown;
    code?: string;
    message?: string;
  };
  const inner = errors?.[0] ?? cause;
  if (inner instanceof Error) return reasonOf(inner);
  const [line] = (message ?? "")
    .replace(/^request to \S+ failed, reason: /, "")
    .replace(/^(connect|getaddrinfo) /, "")
    .split("\n");
  return line || (code ?? "no reason given");
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
