import { randomUUID } from "node:crypto";
import rateLimit from "@fastify/rate-limit";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from "fastify";
import type { Drain } from "./drain.js";
import { fail, refuse } from "./problems.js";
import type { Settings } from "./settings.js";
import { ApiError } from "./users.js";

const BODY_BYTES = 16 * 1024;
/** Clients that are counted at once; of more, those are forgotten that have not asked for longest. */
const COUNTED_CLIENTS = 20_000;

/** One line of each request that says it all, at its end: to write two is a tenth of a request's time. */
class OneLine extends LogController {
  override incomingRequest(): void {}

  override requestCompleted(error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const line = { req: request, res: reply, responseTime: reply.elapsedTime };
    if (error) request.log.error({ ...line, err: error }, "request errored");
    else request.log.info(line, "request completed");
  }
}

/**
 * A listener without routes: every request has an id, every refusal is told in the same few words, and nobody asks more
 * than his share.
 * @param log of another listener, to share it. @default a new one
 */
export async function createListener(settings: Settings, drain: Drain, log?: FastifyBaseLogger) {
  const app = Fastify({
    ...(log ? { loggerInstance: log } : { logger: { level: settings.LOG_LEVEL } }),
    genReqId: () => randomUUID(),
    logController: new OneLine(),
    bodyLimit: BODY_BYTES,
    requestTimeout: 30_000,
    // Longer than a proxy in front keeps its idle connections: the side that sends must be the one that closes.
    keepAliveTimeout: 75_000,
    // A request that arrives while the listener closes is served like any other.
    return503OnClosing: false,
    // The client is whom the last of our own proxies saw; what is further left in X-Forwarded-For anyone can write.
    trustProxy: (_address, hop) => hop < settings.TRUSTED_PROXIES,
    ajv: { customOptions: { removeAdditional: false } },
    frameworkErrors: (error, request, reply) => void fail(error, request, reply),
    clientErrorHandler: refuse,
  }).withTypeProvider<TypeBoxTypeProvider>();

  drain.watch(app);
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("x-request-id", request.id);
    done();
  });
  app.setErrorHandler<FastifyError | ApiError>((error, request, reply) => fail(error, request, reply));
  // Before the routes: it sees only those that are added after it.
  await app.register(rateLimit, {
    max: settings.RATE_LIMIT,
    timeWindow: 1_000,
    cache: COUNTED_CLIENTS,
    errorResponseBuilder: () =>
      new ApiError(429, `At most ${settings.RATE_LIMIT} requests in a second are served; try again in a second`),
  });
  app.setNotFoundHandler({ preValidation: app.rateLimit() }, (request, reply) =>
    fail(new ApiError(404, "There is nothing here"), request, reply),
  );
  return app;
}
