import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { leaveOutUnpublished, nodeCommand } from "../elasticsearch/process";
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
    await leaveOutUnpublished(configDirectory);
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
