import { timingSafeEqual } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "@grpc/grpc-js";
import Fastify from "fastify";
import { z } from "zod";
import type { Config } from "./config.js";
import { Fetcher } from "./fetcher.js";
import { call, type Result, serve, workerClient } from "./grpc.js";
import { type Registered, Registry } from "./registry.js";
import { Store } from "./store.js";

const TICK_MS = 500;

interface Secrets {
  mysqlPassword: string;
  /** Who may start crawls: a bearer token. */
  token: string;
}

/** Takes crawls over HTTP, hands their pages to the workers and keeps what they report. @return how it stops */
export async function runMaster(config: Config, secrets: Secrets, host: string): Promise<() => Promise<void>> {
  const app = Fastify({ logger: true, bodyLimit: 16 * 1024 });
  const { crawl: limits } = config;
  const fetcher = new Fetcher(limits);
  const store = new Store(config.mysql, secrets.mysqlPassword, limits.attempts);
  const registry = new Registry(config.etcd.address, config.etcd.lease_seconds);
  const clients = new Map<string, Client>();
  /** A page's whole time with a worker: each redirect has its own, and then it is reported. */
  const patience = limits.timeout_seconds * (limits.max_redirects + 1) + 30;
  const stopping = new AbortController();
  let problem: string | undefined = "starting";

  const clientOf = (address: string): Client => {
    const client = clients.get(address) ?? workerClient(address);
    clients.set(address, client);
    return client;
  };
  const forget = (workers: Registered[]): void => {
    for (const [address, client] of clients) {
      if (workers.some((worker) => worker.address === address)) continue;
      client.close();
      clients.delete(address);
    }
  };
  /** One that does not take its page is asked again in the next round. */
  const hand = async (worker: Registered, places: number): Promise<void> => {
    for (const waiting of await store.queued(places)) {
      const task = await store.claim(waiting, worker.id);
      if (!task) continue;
      try {
        await call(clientOf(worker.address), "Assign", task, 2);
      } catch (error) {
        app.log.warn({ worker: worker.id, reason: (error as Error).message }, "not taken");
        return store.giveBack(task);
      }
    }
  };
  const round = async (): Promise<void> => {
    await store.prepare();
    const workers = await registry.workers();
    forget(workers);
    const lost = await store.takeBack(
      workers.map(({ id }) => id),
      patience,
    );
    if (lost > 0) app.log.warn({ pages: lost }, "taken back from workers that are lost");
    const assigned = await store.assigned();
    for (const worker of workers) {
      const free = worker.places - (assigned.get(worker.id) ?? 0);
      if (!worker.draining && free > 0) await hand(worker, free);
    }
  };
  const rounds = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const reason = await round().then(
        () => undefined,
        (error: Error) => error.message || String(error),
      );
      if (reason && reason !== problem) app.log.warn({ reason }, "waiting");
      problem = reason;
      await sleep(TICK_MS, undefined, { signal: stopping.signal }).catch(() => {});
    }
  };
  const record = async (result: Result): Promise<void> => {
    const counted = await store.record(result, (url) => fetcher.refusal(url) === undefined);
    if (!counted) app.log.info({ page: result.page, attempt: result.attempt }, "reported too late");
  };

  const wanted = z.strictObject({
    url: z.string().max(2000),
    maxDepth: z.int().min(0).max(limits.max_depth).default(limits.max_depth),
    maxPages: z.int().min(1).max(limits.max_pages).default(limits.max_pages),
  });
  const cursor = z.strictObject({ after: z.coerce.number().int().min(0).default(0) });
  app.addHook("onRequest", async (request, reply) => {
    if (
      !/^\/(crawls|workers)/.test(request.routeOptions.url ?? "") ||
      isBearer(request.headers.authorization, secrets.token)
    )
      return;
    await reply.code(401).header("www-authenticate", "Bearer").send({ message: "This needs the API's token" });
  });
  app.post("/crawls", async (request, reply) => {
    const { success, data, error } = wanted.safeParse(request.body ?? {});
    const refusal = success ? fetcher.refusal(data.url) : z.prettifyError(error);
    if (!success || refusal) return reply.code(400).send({ message: refusal });
    const url = new URL(data.url);
    url.hash = "";
    const id = await store.add(url.href, data.maxDepth, data.maxPages);
    return reply.code(202).header("location", `/crawls/${id}`).send({ id });
  });
  app.get<{ Params: { id: string } }>("/crawls/:id", async ({ params }, reply) => {
    const crawl = await store.crawl(params.id);
    return crawl ?? reply.code(404).send({ message: "There is no such crawl" });
  });
  app.get<{ Params: { id: string } }>("/crawls/:id/pages", async ({ params, query }, reply) => {
    const { success, data } = cursor.safeParse(query);
    if (!success) return reply.code(400).send({ message: "after must be the id of a page" });
    return { pages: await store.pages(params.id, data.after) };
  });
  app.get("/workers", async () => ({ workers: await registry.workers() }));
  app.get("/healthz", async () => "ok\n");
  app.get("/readyz", async (_request, reply) => {
    if (problem) reply.code(503);
    // The reason is for the log: whoever reaches the Ingress reads this.
    return problem ? "not ready\n" : "ok\n";
  });

  const server = await serve("Master", { Report: record }, `${host}:${config.master.grpc_port}`);
  await app.listen({ host, port: config.master.http_port });
  const running = rounds();

  return async () => {
    stopping.abort();
    await running;
    await Promise.all([server.close(), app.close()]);
    forget([]);
    await Promise.all([registry.close(), store.close()]);
    app.log.info("stopped");
  };
}

function isBearer(header: string | undefined, token: string): boolean {
  const given = Buffer.from(header ?? "");
  const right = Buffer.from(`Bearer ${token}`);
  return given.length === right.length && timingSafeEqual(given, right);
}
