import { obtainTools } from "../tools";
import type { Image } from "./images";

/** etcd's image: the embedded cluster's own binary, set by its ETCD_ variables. */
export const etcd: Image = {
  pattern: "(^|/)etcd[:@]",

  files: async () => ({}),

  async entrypoint({ directory, address, env, args }) {
    const { etcd } = await obtainTools(["etcd"]);
    // In a pod every address, and that of the loopback interface too, is the pod's own.
    const own = Object.entries(env).map(([name, value]) => [
      name,
      name.startsWith("ETCD_") ? value.replaceAll(/\b(0\.0\.0\.0|127\.0\.0\.1)\b/g, address) : value,
    ]);
    return { file: etcd.path, args, env: Object.fromEntries(own), cwd: directory };
  },
};
