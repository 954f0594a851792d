import { randomUUID } from "node:crypto";
import Fastify, { type FastifyInstance, type FastifyRequest } from "fastify";
import type { Store } from "./state";

export type Server = FastifyInstance;
export type Body = Record<string, unknown>;

/** A refusal in DigitalOcean's form: `{"id", "message", "request_id"}`. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly id: string,
    message: string,
  ) {
    super(message);
  }
}

export const notFound = () => new ApiError(404, "not_found", "The resource you were accessing could not be found.");
export const unprocessable = (message: string) => new ApiError(422, "unprocessable_entity", message);
export const conflict = (message: string) => new ApiError(409, "conflict", message);
export const forbidden = (message: string) => new ApiError(403, "forbidden", message);

/** The item with that id, or DigitalOcean's 404. */
export function find<Item extends { id: unknown }>(items: readonly Item[], id: string): Item {
  const item = items.find((candidate) => String(candidate.id) === id);
  if (!item) throw notFound();
  return item;
}

/** A page of a list, with `links` and `meta` as the API gives them: 20 a page, at most 200. */
export function page(request: FastifyRequest, key: string, items: readonly unknown[]): Body {
  const query = request.query as Record<string, string | undefined>;
  const size = Math.min(Math.max(Number(query.per_page ?? 20) || 20, 1), 200);
  const last = Math.max(Math.ceil(items.length / size), 1);
  const current = Math.max(Number(query.page ?? 1) || 1, 1);
  const link = (number: number) => {
    const url = new URL(request.url, `http://${request.headers.host}`);
    url.searchParams.set("page", String(number));
    return url.href;
  };
  const pages = {
    ...(current > 1 && { first: link(1), prev: link(current - 1) }),
    ...(current < last && { next: link(current + 1), last: link(last) }),
  };
  return {
    [key]: items.slice((current - 1) * size, current * size),
    links: Object.keys(pages).length > 0 ? { pages } : {},
    meta: { total: items.length },
  };
}

// What a request body holds, or the refusal that names the field.

export function text(body: Body, field: string): string {
  const value = body[field];
  if (typeof value !== "string" || value === "") throw unprocessable(`${field} is a required field`);
  return value;
}

export const strings = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : [];

export function count(body: Body, field: string, fallback: number): number {
  const value = body[field] ?? fallback;
  if (typeof value !== "number" || !Number.isInteger(value)) throw unprocessable(`${field} must be an integer`);
  return value;
}

/** The HTTP side that all routes share: authentication under `/v2`, errors in DigitalOcean's form, the account's clock. */
export function createServer(store: Store): Server {
  const server = Fastify({ forceCloseConnections: true });

  // godo declares JSON on requests that have no body.
  server.removeContentTypeParser("application/json");
  server.addContentTypeParser("application/json", { parseAs: "string" }, (_request, body, done) => {
    try {
      done(null, body === "" ? {} : JSON.parse(String(body)));
    } catch {
      done(new ApiError(400, "bad_request", "Unable to parse the request body as JSON."));
    }
  });

  server.addHook("onRequest", async (request, reply) => {
    reply.header("date", store.now().toUTCString());
    if (!request.url.startsWith("/v2/")) return;
    // Only a token made for this account opens it: a real one must never be sent here unnoticed.
    if (!/^Bearer local/.test(request.headers.authorization ?? "")) {
      throw new ApiError(401, "Unauthorized", "Unable to authenticate you");
    }
  });

  server.setNotFoundHandler(() => {
    throw notFound();
  });
  server.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    if (error instanceof ApiError && error.status === 401) {
      return reply.status(401).send({ id: error.id, message: error.message });
    }
    const known = error instanceof ApiError;
    const status = known ? error.status : (error.statusCode ?? 500);
    if (status >= 500) console.error(error);
    const id = known ? error.id : status < 500 ? "bad_request" : "server_error";
    return reply.status(status).send({ id, message: error.message, request_id: randomUUID() });
  });
  return server;
}
