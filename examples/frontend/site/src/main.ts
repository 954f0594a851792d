import { setTimeout as sleep } from "node:timers/promises";
import closeWithGrace from "close-with-grace";
import { readSettings, type Settings } from "./settings.js";
import { buildSite } from "./site.js";

try {
  await serve(readSettings(process.env));
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}

async function serve(settings: Settings): Promise<void> {
  const state = { draining: false };
  const site = await buildSite(settings, state);
  // Kubernetes' terminationGracePeriodSeconds must be longer than its preStop and this.
  closeWithGrace({ delay: (settings.DRAIN_SECONDS + 10) * 1_000, logger: site.log }, async ({ signal, err }) => {
    if (err) site.log.fatal({ reason: err.message, stack: err.stack }, "stopping after an error");
    else site.log.info({ signal }, "stopping");
    state.draining = true;
    // Clients with a kept connection find another replica with their next request.
    if (signal === "SIGTERM") await sleep(settings.DRAIN_SECONDS * 1_000);
    await site.close();
    site.log.info("stopped");
  });
  await site.listen({ host: settings.HOST, port: settings.PORT });
}
