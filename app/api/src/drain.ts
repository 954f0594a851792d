import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance } from "fastify";

/** How long without a request is taken for the end of traffic. */
const QUIET_MS = 2_000;

/** Lets traffic move to other replicas before the listeners close: one that closes at once breaks connections in use. */
export class Drain {
  draining = false;
  #lastRequest = 0;

  watch(app: FastifyInstance): void {
    app.addHook("onRequest", (request, _reply, done) => {
      if (!request.routeOptions.config.probe) this.#lastRequest = Date.now();
      done();
    });
    // Clients with a kept connection find another replica with their next request.
    app.addHook("onSend", (_request, reply, _payload, done) => {
      if (this.draining) reply.header("connection", "close");
      done();
    });
  }

  /** Resolves when the traffic has ended, at the latest after `seconds`. */
  async run(seconds: number): Promise<void> {
    this.draining = true;
    this.#lastRequest = Date.now();
    const deadline = Date.now() + seconds * 1_000;
    while (Date.now() < Math.min(deadline, this.#lastRequest + QUIET_MS)) await sleep(50);
  }
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** A health check, which is no traffic. */
    probe?: boolean;
  }
}
