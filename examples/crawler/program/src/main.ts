import { parseArgs } from "node:util";
import closeWithGrace from "close-with-grace";
import { readConfig } from "./config.js";
import { runMaster } from "./master.js";
import { runWorker } from "./worker.js";

const USAGE = "usage: worker --podip=ADDRESS | master";

try {
  const { stop, seconds } = await start();
  // Kubernetes' terminationGracePeriodSeconds must be longer than its preStop and this.
  closeWithGrace({ delay: seconds * 1000 }, async ({ err }) => {
    if (err) console.error(err);
    await stop();
  });
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}

/** @return how it stops, and how long that takes at most: a worker's pages with all their redirects */
async function start(): Promise<{ stop: () => Promise<void>; seconds: number }> {
  const { CONFIG_FILE = "/app/config/config.toml", HOST = "0.0.0.0" } = process.env;
  const { positionals, values } = parseArgs({ options: { podip: { type: "string" } }, allowPositionals: true });
  const [program, ...more] = positionals;
  if (more.length > 0) throw new Error(USAGE);
  if (program === "worker") {
    if (!values.podip) throw new Error(`the address by which the master finds this worker is missing; ${USAGE}`);
    return { stop: await runWorker(readConfig(CONFIG_FILE), values.podip, HOST), seconds: 70 };
  }
  if (program !== "master" || values.podip !== undefined) throw new Error(USAGE);
  const { MYSQL_PASSWORD: mysqlPassword, API_TOKEN: token } = process.env;
  if (!mysqlPassword || !token) throw new Error("MYSQL_PASSWORD or API_TOKEN is missing in the environment");
  return { stop: await runMaster(readConfig(CONFIG_FILE), { mysqlPassword, token }, HOST), seconds: 20 };
}
