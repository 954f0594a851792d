import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { nodeCommand } from "../elasticsearch/process";
import { stateDirectory } from "../paths";
import type { Image } from "./images";

const HOME = "/usr/share/elasticsearch";
const MEBIBYTE = 2 ** 20;
/** Three nodes and a developer share this machine. */
const MOST_HEAP = 256;

/** Elasticsearch's image: the same server from Maven, on the pod's own settings, variables and volumes. */
export const elasticsearch: Image = {
  pattern: "(^|/)elasticsearch/elasticsearch[:@]",

  async files() {
    const config = join(stateDirectory(), "kubelet", "images", "elasticsearch", "config");
    await mkdir(config, { recursive: true });
    await writeFile(join(config, "jvm.options"), "");
    return { [`${HOME}/config`]: config };
  },

  async entrypoint({ directory, address, hostsFile, env, memoryLimit, map }) {
    const configDirectory = join(directory, "config");
    await rm(configDirectory, { recursive: true, force: true });
    await cp(map(`${HOME}/config`), configDirectory, { recursive: true });
    const file = join(configDirectory, "elasticsearch.yml");
    // The modules of these settings are not published.
    const lines = (await readFile(file, "utf8")).split("\n").filter((line) => !line.startsWith("xpack."));
    await writeFile(file, lines.join("\n"));
    const half = Math.floor((memoryLimit ?? Number.POSITIVE_INFINITY) / 2 / MEBIBYTE);
    const [java, ...args] = await nodeCommand({
      configDirectory,
      hostsFile,
      heapMebibytes: Math.min(half, MOST_HEAP),
      flags: ["-Dsun.net.inetaddr.ttl=1", "-Dsun.net.inetaddr.negative.ttl=1", `-Djava.io.tmpdir=${map("/tmp")}`],
      settings: {
        "network.bind_host": address,
        "path.logs": map(`${HOME}/logs`),
        // A node without a master else answers after 30 s only.
        "discovery.initial_state_timeout": "3s",
      },
    });
    return { file: java, args, env, cwd: directory, endsWithInput: true };
  },
};
