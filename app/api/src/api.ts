import { STATUS_CODES } from "node:http";
import { errors } from "@elastic/elasticsearch";
import cors from "@fastify/cors";
import swagger from "@fastify/swagger";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, { type FastifyError, type FastifyReply, type FastifyRequest } from "fastify";
import { type TSchema, Type } from "typebox";
import { type Drain, SERVER } from "./drain.js";
import type { Settings } from "./settings.js";
import { ApiError, Changes, Created, isUnavailable, NewUser, Page, Search, User, UserId, type Users } from "./users.js";

const ErrorBody = Type.Object({
  statusCode: Type.Integer(),
  error: Type.String(),
  message: Type.String(),
  requestId: Type.String({ description: "Also in the logs and in the header x-request-id" }),
});
const Problem = (description: string) => ({ ...ErrorBody, description });
const problems = {
  400: Problem("The request does not match its schema"),
  503: Problem("Elasticsearch does not answer; try again later"),
};
const ownerProblems = {
  ...problems,
  401: Problem("No token was given"),
  403: Problem("The token is another user's"),
  404: Problem("There is no such user"),
  409: Problem("The user was changed at the same time"),
};
const Answer = <T extends TSchema>(schema: T, description: string): T => ({ ...schema, description });
const byId = Type.Object({ id: UserId });
const owner = [{ token: [] }];

/** The users API with its probes; its OpenAPI description is made of the schemas that check the requests. */
export async function buildApi(settings: Settings, users: Users, drain: Drain) {
  const app = Fastify({
    logger: { level: settings.LOG_LEVEL },
    ...SERVER,
    bodyLimit: 16 * 1024,
    ajv: { customOptions: { removeAdditional: false } },
  }).withTypeProvider<TypeBoxTypeProvider>();

  drain.watch(app);
  app.addHook("onRequest", async (request, reply) => void reply.header("x-request-id", request.id));
  app.setErrorHandler<FastifyError | ApiError>((error, request, reply) => fail(error, request, reply));
  app.setNotFoundHandler((request, reply) => fail(new ApiError(404, "There is nothing here"), request, reply));
  // Any page may call it, first of all Swagger UI on another host: no credential is ever sent by a browser on its own.
  await app.register(cors, { origin: "*", methods: ["GET", "POST", "PATCH", "DELETE"], maxAge: 600 });
  // Before the routes: it sees only those that are added after it.
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: { title: "hobnob users", version: "1.0.0" },
      servers: [{ url: settings.PUBLIC_URL }],
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
    },
  });

  const probe = { config: { probe: true }, logLevel: "warn", schema: { hide: true } } as const;
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
        response: { 201: Answer(Created, "Created"), ...problems, 409: Problem("The id is taken") },
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
        response: { 200: Answer(User, "The user"), ...problems, 404: ownerProblems[404] },
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

/** Tells the client what it can use; what went wrong inside goes to the log alone. */
function fail(error: FastifyError | ApiError, request: FastifyRequest, reply: FastifyReply) {
  const answer = (statusCode: number, message: string) =>
    reply.code(statusCode).send({ statusCode, error: STATUS_CODES[statusCode], message, requestId: request.id });
  if (isUnavailable(error)) {
    request.log.warn({ reason: error.message }, "Elasticsearch is not available");
    reply.header("retry-after", "5");
    return answer(503, "The user store does not answer; try again in a few seconds");
  }
  // Elasticsearch's own status is between it and us.
  const statusCode = error instanceof errors.ElasticsearchClientError ? 500 : (error.statusCode ?? 500);
  if (statusCode < 500) {
    if (statusCode === 401) reply.header("www-authenticate", "Bearer");
    return answer(statusCode, error.message);
  }
  request.log.error({ reason: error.message, stack: error.stack }, "request failed");
  return answer(500, "Something went wrong here; the request id finds it in the logs");
}
