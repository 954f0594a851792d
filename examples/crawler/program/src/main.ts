import { parseArgs } from "node:util";
import closeWithGrace from "close-with-grace";
import { readConfig } from "./config.js";
import { runMaster } from "./master.js";
import { runWorker } from "./worker.js";

const USAGE = "usage: worker --podip=ADDRESS | master";

try {
  const stop = await start();
  // Kubernetes' terminationGracePeriodSeconds must be longer than its preStop and this.
  closeWithGrace({ delay: 45_000 }, async ({ err }) => {
    if (err) console.error(err);
    await stop();
  });
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}

function start(): Promise<() => Promise<void>> {
  const { CONFIG_FILE = "/app/config/config.toml", HOST = "0.0.0.0" } = process.env;
  const { positionals, values } = parseArgs({ options: { podip: { type: "string" } }, allowPositionals: true });
  const [program, ...more] = positionals;
  if (more.length > 0) throw new Error(USAGE);
  if (program === "worker") {
    if (!values.podip) throw new Error(`the address by which the master finds this worker is missing; ${USAGE}`);
    return runWorker(readConfig(CONFIG_FILE), values.podip, HOST);
  }
  if (program !== "master" || values.podip !== undefined) throw new Error(USAGE);
  const { MYSQL_PASSWORD: mysqlPassword, API_TOKEN: token } = process.env;
  if (!mysqlPassword || !token) throw new Error("MYSQL_PASSWORD or API_TOKEN is missing in the environment");
  return runMaster(readConfig(CONFIG_FILE), { mysqlPassword, token }, HOST);
}
