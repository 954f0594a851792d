/** The kubelet of the embedded cluster's real pods: `main.ts --port N --state directory`. Ends on SIGTERM, its processes before it. */
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { KubeConfig } from "@kubernetes/client-node";
import { adminKubeconfig, clusterEndpoint, clusterExists } from "../cluster";
import { Kubelet } from "./kubelet";

/** Of those 60 that a daemon has to stop. */
const STOP_SECONDS = 25;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { port: { type: "string" }, state: { type: "string" } } });
  let stopping = false;
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => (stopping = true));
  const server = createServer((_request, response) => response.end("ok\n"));
  server.listen(Number(values.port), "127.0.0.1");

  let kubelet: Kubelet | undefined;
  let followed: string | undefined;
  while (!stopping) {
    const endpoint = clusterServer();
    if (endpoint !== followed) {
      await kubelet?.stop(endpoint ? STOP_SECONDS : 1);
      kubelet = endpoint ? start() : undefined;
      followed = endpoint;
    }
    await sleep(200);
  }
  await kubelet?.stop(STOP_SECONDS);
  process.exit(0);
}

function clusterServer(): string | undefined {
  try {
    return clusterExists() ? clusterEndpoint().server : undefined;
  } catch {
    // It is being deleted.
    return undefined;
  }
}

function start(): Kubelet {
  const config = new KubeConfig();
  config.loadFromFile(adminKubeconfig());
  return new Kubelet(config, (line) => console.log(`${new Date().toISOString()} ${line}`));
}

// A failed call must not end it: the processes would be left without anyone who restarts them.
process.on("unhandledRejection", (error) => console.error(error));
void main();
