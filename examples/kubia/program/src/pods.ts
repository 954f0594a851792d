import { get } from "node:http";
import { portOf } from "./ambassador";
import { serve, within } from "./server";

interface PodList {
  items: { metadata: { name: string }; status: { phase: string } }[];
}

/** Lists the namespace's pods, by plain HTTP to the neighbour. */
export function pods(env: NodeJS.ProcessEnv): void {
  const path = `/api/v1/namespaces/${env.NAMESPACE}/pods`;
  serve(env, {
    "/": async () => {
      const { items } = (await ask(within(env), portOf(env), path)) as PodList;
      return items.map(({ metadata, status }) => ({ name: metadata.name, phase: status.phase }));
    },
    "/healthz": () => "",
  });
}

const ask = (host: string, port: number, path: string): Promise<unknown> =>
  new Promise((resolve, reject) => {
    get({ host, port, path }, async (response) => {
      try {
        const text = Buffer.concat(await response.toArray()).toString();
        if (response.statusCode !== 200) throw new Error(`The ambassador answered ${response.statusCode}: ${text}`);
        resolve(JSON.parse(text));
      } catch (error) {
        reject(error);
      }
    }).on("error", reject);
  });
