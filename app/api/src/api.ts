import cors from "@fastify/cors";
import swagger from "@fastify/swagger";
import type { FastifyRequest } from "fastify";
import { type TSchema, Type } from "typebox";
import type { Drain } from "./drain.js";
import { createListener } from "./listener.js";
import { Problem } from "./problems.js";
import type { Settings } from "./settings.js";
import { ApiError, Changes, Created, NewUser, Page, Search, User, UserId, type Users } from "./users.js";

const problems = {
  400: Problem("The request does not match its schema"),
  429: Problem("Too many requests of one client; try again in a second"),
  503: Problem("Elasticsearch does not answer; try again later"),
};
const bodyProblems = { 413: Problem("The body is too large"), 415: Problem("The body is no JSON") };
const idProblems = { 404: Problem("There is no such user"), 414: Problem("The path is too long") };
const ownerProblems = {
  ...problems,
  ...bodyProblems,
  ...idProblems,
  401: Problem("No token was given"),
  403: Problem("The token is another user's"),
  409: Problem("The user was changed at the same time"),
};
const Answer = <T extends TSchema>(schema: T, description: string): T => ({ ...schema, description });
const byId = Type.Object({ id: UserId });
const owner = [{ token: [] }];

/** The users API with its probes; its OpenAPI description is made of the schemas that check the requests. */
export async function buildApi(settings: Settings, users: Users, drain: Drain) {
  const app = await createListener(settings, drain);
  // Any page may call it, first of all Swagger UI on another host: no credential is ever sent by a browser on its own.
  await app.register(cors, {
    origin: "*",
    methods: ["GET", "POST", "PATCH", "DELETE"],
    maxAge: 600,
    strictPreflight: false,
  });
  // Before the routes: it sees only those that are added after it.
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "hobnob users", version: "1.0.0" },
      servers: [{ url: settings.PUBLIC_URL }],
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
    },
  });

  const probe = { config: { probe: true, rateLimit: false }, logLevel: "warn", schema: { hide: true } } as const;
  app.get("/healthz", probe, async () => ({ status: "alive" }));
  app.get("/readyz", probe, async (_request, reply) => {
    if (drain.draining) return reply.code(503).send({ status: "stopping" });
    const unready = await users.ready().then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (unready === undefined) return { status: "ready" };
    app.log.warn({ reason: unready }, "not ready");
    return reply.code(503).send({ status: "waiting for Elasticsearch" });
  });

  app.post(
    "/users",
    {
      schema: {
        summary: "Create a user",
        body: NewUser,
        response: { 201: Answer(Created, "Created"), ...problems, ...bodyProblems, 409: Problem("The id is taken") },
      },
    },
    async (request, reply) => {
      const created = await users.create(request.body);
      return reply.code(201).header("location", `/users/${created.id}`).send(created);
    },
  );
  app.get(
    "/users/:id",
    {
      schema: {
        summary: "Read a user",
        params: byId,
        response: { 200: Answer(User, "The user"), ...problems, ...idProblems },
      },
    },
    async (request) => users.read(request.params.id),
  );
  app.get(
    "/users",
    {
      schema: {
        summary: "Search users",
        querystring: Search,
        response: { 200: Answer(Page, "A page, by id"), ...problems },
      },
    },
    async (request) => users.search(request.query),
  );
  app.patch(
    "/users/:id",
    {
      schema: {
        summary: "Change a user",
        security: owner,
        params: byId,
        body: Changes,
        response: { 200: Answer(User, "The user as it is now"), ...ownerProblems },
      },
    },
    async (request) => users.update(request.params.id, bearerToken(request), request.body),
  );
  app.delete(
    "/users/:id",
    {
      schema: {
        summary: "Delete a user",
        security: owner,
        params: byId,
        response: { 204: Type.Null({ description: "Deleted" }), ...ownerProblems },
      },
    },
    async (request, reply) => {
      await users.delete(request.params.id, bearerToken(request));
      return reply.code(204).send(null);
    },
  );
  return app;
}

function bearerToken(request: FastifyRequest): string {
  const [, token] = /^Bearer ([\w-]+)$/i.exec(request.headers.authorization ?? "") ?? [];
  if (!token) throw new ApiError(401, "This needs the header `Authorization: Bearer <token>`");
  return token;
}
