import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { KUBERNETES_MINOR } from "../config";
import { imagePins, outdated, type Pin, packagePins, tellOutdated } from "../operations/outdated";
import { cloneDirectory } from "./paths";

/** `npm run outdated` @returns 0, whatever is newer: it tells, and decides nothing */
export async function outdatedCommand(args: string[]): Promise<number> {
  if (args.length > 0) throw new Error(`npm run outdated takes no arguments; given: ${args.join(" ")}`);
  const components = join(cloneDirectory, "components");
  const sources = readdirSync(components).filter((file) => file.endsWith(".ts"));
  const pins: Pin[] = [
    { kind: "Kubernetes", name: "cluster.version", version: KUBERNETES_MINOR },
    ...sources.flatMap((file) => imagePins(readFileSync(join(components, file), "utf8"))),
    ...packagePins(JSON.parse(readFileSync(join(cloneDirectory, "package.json"), "utf8"))),
  ];
  const { stdout: npm } = await execa("npm", ["config", "get", "registry"], { cwd: cloneDirectory });
  const { DIGITALOCEAN_API_URL: api, DIGITALOCEAN_TOKEN: token } = process.env;
  const digitalOcean = api ?? "https://api.digitalocean.com";
  console.log(tellOutdated(await outdated(pins, { npm, dockerHub: "https://hub.docker.com", digitalOcean, token })));
  return 0;
}
