/** The simulated DigitalOcean account: `main.ts --port N [--state directory]`. Ends on SIGTERM, its cluster with it. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { stateDirectory } from "../paths";
import { startAccount } from "./account";
import { EmbeddedCluster } from "./embedded";

const { values } = parseArgs({ options: { port: { type: "string" }, state: { type: "string" } } });
const port = Number(values.port);
if (!Number.isInteger(port) || port < 1) {
  console.error("usage: main.ts --port N [--state directory]");
  process.exit(2);
}

// A failed call of a watch loop must not end the account: its cluster would be left without an owner.
process.on("unhandledRejection", (error) => console.error(error));

async function main(): Promise<void> {
  const file = join(values.state ?? join(stateDirectory(), "account"), "state.json");
  // Until it has started, a signal ends it only once its cluster is in a state that can be stopped.
  const signalled = new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => resolve());
  });
  const account = await startAccount({ port, file, runtime: (store) => new EmbeddedCluster(store, port) });
  await signalled;
  await account.close();
  process.exit(0);
}

main().catch((error: Error) => {
  console.error(error.message);
  process.exit(1);
});
