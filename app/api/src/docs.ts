import swagger, { type StaticDocumentSpec } from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyBaseLogger } from "fastify";
import type { Drain } from "./drain.js";
import { createListener } from "./listener.js";
import type { Settings } from "./settings.js";

export type OpenApi = StaticDocumentSpec["document"];

/** Swagger UI and the description itself, on a listener of its own. */
export async function buildDocs(document: OpenApi, settings: Settings, log: FastifyBaseLogger, drain: Drain) {
  const app = await createListener(settings, drain, log);
  app.get("/openapi.json", async () => document);
  await app.register(swagger, { mode: "static", specification: { document } });
  await app.register(swaggerUi, {
    routePrefix: "/",
    logLevel: "warn",
    // The plugin's own policy upgrades requests to https, which a stack without TLS can't answer.
    staticCSP: {
      "default-src": "'self'",
      "connect-src": `'self' ${settings.PUBLIC_URL}`,
      "img-src": "'self' data:",
      "style-src": "'self' 'unsafe-inline'",
      "frame-ancestors": "'none'",
    },
  });
  return app;
}
