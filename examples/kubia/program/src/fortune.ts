import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { every, log, seconds } from "./server";

const FORTUNES = [
  "A pod that is not ready is better than one that lies.",
  "You will soon drain a node, and nobody will notice.",
  "The replica you miss is the one you did not ask for.",
  "Beware of the tag that moves.",
  "Your certificate expires on a holiday.",
];

/** Writes another page again and again. */
export function fortune(env: NodeJS.ProcessEnv): void {
  const page = join(env.HTML ?? "", "index.html");
  every(seconds(env), () => {
    const text = FORTUNES[Math.floor(Math.random() * FORTUNES.length)];
    // Whole, or not at all: the other container may be reading it.
    writeFileSync(`${page}.new`, `<!doctype html><title>Fortune</title><p>${text}</p>\n`);
    renameSync(`${page}.new`, page);
    log({ fortune: text });
  });
}
