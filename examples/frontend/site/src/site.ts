import { join } from "node:path";
import staticFiles from "@fastify/static";
import Fastify, { type FastifyReply } from "fastify";
import type { Settings } from "./settings.js";

/** Assets are named by their content: what a name stands for never changes. */
const FOR_EVER = "public, max-age=31536000, immutable";
/** Kept, but asked for anew each time: the server answers 304 while nothing has changed. */
const ASK_FIRST = "no-cache";

/** The page, its assets, and what it has to know of its surroundings. */
export async function buildSite(settings: Settings, state: { draining: boolean }) {
  const headers = securityHeaders(settings.API_URL);
  const app = Fastify({
    logger: { level: settings.LOG_LEVEL },
    requestTimeout: 30_000,
    // Longer than a proxy in front keeps its idle connections: the side that sends must be the one that closes.
    keepAliveTimeout: 75_000,
    // A request that arrives while the listener closes is served like any other.
    return503OnClosing: false,
    bodyLimit: 1024,
    frameworkErrors: (_error, _request, reply) =>
      void say(reply.headers(headers) as FastifyReply, 400, "That is no address"),
  });

  app.addHook("onRequest", async (request, reply) => {
    reply.headers(headers);
    if (state.draining) reply.header("connection", "close");
    if (settings.PUBLIC_URL && request.hostname === settings.REDIRECT_HOST)
      return reply
        .header("cache-control", "public, max-age=3600")
        .redirect(`${settings.PUBLIC_URL}${request.url.startsWith("/") ? request.url : "/"}`, 308);
  });

  const probe = { logLevel: "warn" } as const;
  app.get("/healthz", probe, async () => ({ status: "alive" }));
  app.get("/readyz", probe, async (_request, reply) =>
    state.draining ? reply.code(503).send({ status: "stopping" }) : { status: "ready" },
  );

  app.get("/config.json", async (_request, reply) =>
    reply.header("cache-control", ASK_FIRST).send({ apiUrl: settings.API_URL }),
  );
  await app.register(staticFiles, {
    root: join(import.meta.dirname, "page"),
    preCompressed: true,
    cacheControl: false,
    // The paths are those of the files that are there: no request is ever a path that is looked up.
    wildcard: false,
    globIgnore: ["**/*.br", "**/*.gz"],
    setHeaders: (reply, path) => void reply.header("cache-control", path.includes("/assets/") ? FOR_EVER : ASK_FIRST),
  });
  app.setNotFoundHandler((_request, reply) => say(reply, 404, "There is nothing here"));
  return app;
}

const say = (reply: FastifyReply, status: number, words: string) =>
  reply.code(status).type("text/plain").send(`${words}\n`);

/** Nothing but the page's own files runs or is shown, and nobody but the API is asked. */
function securityHeaders(apiUrl: string) {
  return {
    "content-security-policy": [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self'",
      `connect-src 'self' ${apiUrl}`,
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
    ].join("; "),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
  };
}
