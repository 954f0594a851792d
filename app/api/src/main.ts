import { setTimeout as sleep } from "node:timers/promises";
import closeWithGrace from "close-with-grace";
import { buildApi } from "./api.js";
import { buildDocs, type OpenApi } from "./docs.js";
import { Drain } from "./drain.js";
import { elasticsearchOptions, readSettings, type Settings } from "./settings.js";
import { Users } from "./users.js";

// Nobody here collects traces, but Elastic's client puts one together for each call unless this is said.
process.env.OTEL_ELASTICSEARCH_ENABLED ??= "false";

try {
  await serve(readSettings(process.env));
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}

async function serve(settings: Settings): Promise<void> {
  const users = new Users(elasticsearchOptions(settings));
  const drain = new Drain();
  const api = await buildApi(settings, users, drain);
  await api.ready();
  const docs = await buildDocs(api.swagger() as OpenApi, settings, api.log, drain);

  // Kubernetes' terminationGracePeriodSeconds must be longer than its preStop and this.
  closeWithGrace({ delay: (settings.DRAIN_SECONDS + 10) * 1_000, logger: api.log }, async ({ signal, err }) => {
    if (err) api.log.fatal({ reason: err.message, stack: err.stack }, "stopping after an error");
    else api.log.info({ signal }, "stopping");
    if (signal === "SIGTERM") await drain.run(settings.DRAIN_SECONDS);
    await Promise.all([api.close(), docs.close()]);
    await users.close();
    api.log.info("stopped");
  });

  await api.listen({ host: settings.HOST, port: settings.PORT });
  await docs.listen({ host: settings.HOST, port: settings.DOCS_PORT });
  await untilReady();

  /** Elasticsearch may come later, or never: meanwhile the API answers 503. */
  async function untilReady(): Promise<void> {
    for (let wait = 500; !drain.draining; wait = Math.min(wait * 2, 10_000)) {
      const error: Error | undefined = await users.ready().catch((reason) => reason);
      if (!error) return api.log.info("ready");
      api.log.warn({ reason: error.message, retryInMs: wait }, "waiting for Elasticsearch");
      // Spread, so that replicas don't ask in step.
      await sleep(wait * (0.5 + Math.random() / 2));
    }
  }
}
