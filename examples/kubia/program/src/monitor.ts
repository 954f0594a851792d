import { statfsSync } from "node:fs";
import { every, log, seconds } from "./server";

/** Tells what is free on the machine's disk. */
export function monitor(env: NodeJS.ProcessEnv): void {
  every(seconds(env), () => {
    const { bavail, blocks, bsize } = statfsSync("/");
    log({ node: env.NODE_NAME, freeMebibytes: Math.floor((bavail * bsize) / 2 ** 20), freeShare: bavail / blocks });
  });
}
