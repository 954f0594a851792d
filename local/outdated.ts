import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { KUBERNETES_MINOR } from "../config";
import { imagePins, outdated, type Pin, packagePins, tellOutdated } from "../operations/outdated";
import { registryUrl } from "../operations/registryLogin";
import { cloneDirectory } from "./paths";

/** `npm run outdated` @returns 0, whatever is newer: it tells, and decides nothing */
export async function outdatedCommand(args: string[]): Promise<number> {
  if (args.length > 0) throw new Error(`npm run outdated takes no arguments; given: ${args.join(" ")}`);
  const components = join(cloneDirectory, "components");
  const sources = readdirSync(components).filter((file) => file.endsWith(".ts"));
  const pins: Pin[] = [
    { kind: "Kubernetes", name: "cluster.version", version: KUBERNETES_MINOR },
    ...sources.flatMap((file) => imagePins(readFileSync(join(components, file), "utf8"))),
    ...["", "app/api"].flatMap((program) =>
      packagePins(JSON.parse(readFileSync(join(cloneDirectory, program, "package.json"), "utf8"))),
    ),
  ];
  const { stdout: npm } = await execa("npm", ["config", "get", "registry"], { cwd: cloneDirectory });
  const { DIGITALOCEAN_API_URL: api, DIGITALOCEAN_TOKEN: token } = process.env;
  const digitalOcean = api ?? "https://api.digitalocean.com";
  console.log(tellOutdated(await outdated(unique(pins), { npm, registry: registryUrl, digitalOcean, token })));
  return 0;
}

/** What several programs use is told once. */
const unique = (pins: Pin[]): Pin[] => [...new Map(pins.map((pin) => [`${pin.name} ${pin.version}`, pin])).values()];
