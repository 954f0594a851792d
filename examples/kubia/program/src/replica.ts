import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { serve } from "./server";

/** Says who answers, and what it knows of itself. */
export function replica(env: NodeJS.ProcessEnv): void {
  serve(env, {
    "/": () => `You've hit ${env.POD_NAME}\n`,
    "/self": () => ({ env: variables(env), files: files(env.DOWNWARD ?? "") }),
    "/readyz": () => "",
    "/healthz": () => "",
  });
}

const variables = ({
  POD_NAME,
  POD_IP,
  NODE_NAME,
  CPU_REQUEST_MILLICORES,
  MEMORY_LIMIT_KIBIBYTES,
}: NodeJS.ProcessEnv) => ({
  POD_NAME,
  POD_IP,
  NODE_NAME,
  CPU_REQUEST_MILLICORES,
  MEMORY_LIMIT_KIBIBYTES,
});

/** Read each time: the kubelet changes them while the pod runs. What begins with two dots is its own. */
const files = (directory: string) =>
  Object.fromEntries(
    readdirSync(directory)
      .filter((name) => !name.startsWith(".."))
      .map((name) => [name, readFileSync(join(directory, name), "utf8")]),
  );
