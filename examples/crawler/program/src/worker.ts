import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import Fastify from "fastify";
import type { Config } from "./config.js";
import { Fetcher } from "./fetcher.js";
import { call, masterClient, Refused, type Result, serve, type Task } from "./grpc.js";
import { Registry } from "./registry.js";

/** Fetches what it is handed and reports it. @return how it stops: after the pages that it has */
export async function runWorker(config: Config, podIp: string, host: string): Promise<() => Promise<void>> {
  const app = Fastify({ logger: true });
  const fetcher = new Fetcher(config.crawl);
  const registry = new Registry(config.etcd.address, config.etcd.lease_seconds);
  const master = masterClient(config.master.address);
  const running = new Set<Promise<void>>();
  const id = randomUUID();
  const places = config.worker.concurrency;
  let draining = false;
  let fetched = 0;

  const work = async ({ page, url, attempt }: Task): Promise<void> => {
    const nothing = { status: 0, contentType: "", bytes: 0, title: "", links: [], error: "" };
    const found = await fetcher.fetch(url).catch((error: Error) => ({ error: error.message || "it failed" }));
    fetched++;
    await report({ page, attempt, ...nothing, ...found });
  };
  /** The master may be away for a moment; for longer, it will hand the page to another. */
  const report = async (result: Result): Promise<void> => {
    for (let tries = 1; ; tries++) {
      const error = await call(master, "Report", result).then(
        () => undefined,
        (reason: Error) => reason,
      );
      if (!error) return;
      app.log.warn({ page: result.page, reason: error.message }, "not reported");
      if (tries === 5) return;
      await sleep(tries * 500);
    }
  };
  const assign = async (task: Task): Promise<void> => {
    if (draining) throw new Refused(grpc.status.UNAVAILABLE, "it stops");
    if (running.size >= places) throw new Refused(grpc.status.RESOURCE_EXHAUSTED, "all places are taken");
    const page = work(task).finally(() => running.delete(page));
    running.add(page);
  };

  app.get("/healthz", async () => "ok\n");
  app.get("/readyz", async (_request, reply) => {
    if (draining || !registry.isRegistered) reply.code(503);
    return draining ? "stops\n" : registry.isRegistered ? "ok\n" : "not registered\n";
  });
  app.get("/status", async () => ({ id, running: running.size, places, fetched }));

  const server = await serve("Worker", { Assign: assign }, `${host}:${config.worker.grpc_port}`);
  await app.listen({ host, port: config.worker.http_port });
  registry.register({ id, address: `${podIp}:${server.port}`, places, draining }, (reason) =>
    app.log.warn({ reason }, "not registered"),
  );

  return async () => {
    draining = true;
    await registry.drain().catch(() => {});
    while (running.size > 0) await Promise.all(running);
    await registry.close();
    await Promise.all([server.close(), app.close()]);
    master.close();
    app.log.info("stopped");
  };
}
