import { readFileSync } from "node:fs";
import { request as ask } from "node:https";
import { join } from "node:path";
import { listen, within } from "./server";

/** Where the ambassador waits for the other containers of its pod. */
export const portOf = ({ AMBASSADOR_PORT = "8001" }: NodeJS.ProcessEnv) => Number(AMBASSADOR_PORT);

/** Brings GETs of its own pod to the API server, with TLS and the pod's identity. */
export function ambassador(env: NodeJS.ProcessEnv): void {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port, IDENTITY = "" } = env;
  const ca = readFileSync(join(IDENTITY, "ca.crt"));
  listen(within(env), portOf(env), (request, response) => {
    if (request.method !== "GET") return void response.writeHead(405).end();
    // Read each time: the kubelet renews it.
    const authorization = `Bearer ${readFileSync(join(IDENTITY, "token"), "utf8").trim()}`;
    const headers = { accept: request.headers.accept ?? "application/json", authorization };
    return new Promise((resolve, reject) => {
      ask({ host, port, path: request.url, ca, headers, timeout: 10_000 }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, { "content-type": answer.headers["content-type"] });
        answer.pipe(response).on("close", resolve);
      })
        .on("timeout", function (this: { destroy(error: Error): void }) {
          this.destroy(new Error("The API server did not answer in 10 s."));
        })
        .on("error", reject)
        .end();
    });
  });
}
