import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { CoreV1Api } from "@kubernetes/client-node";
import type { LiveCheck } from "../../../local/live";

/** A site of the embedded cluster that the stack's settings allow. */
const SITE = "http://backend.hobnob.svc:8100/";

const live: LiveCheck = async ({ outputs, kubeconfig, isReal, endpoints }) => {
  const { namespace, service, workers, apiToken } = outputs as Record<string, string>;
  const core = kubeconfig.makeApiClient(CoreV1Api);
  const claims = await core.listNamespacedPersistentVolumeClaim({ namespace: namespace as string });
  const bound = claims.items.filter(({ status }) => status?.phase === "Bound").map(({ metadata }) => metadata?.name);
  assert.deepEqual(bound.sort(), ["etcd", "mysql"]);
  for (const each of [service, workers])
    if (!(await isReal(namespace as string, each as string))) return "objects alone: its pods run nothing here";

  const ask = async (path: string, body?: object) => {
    const [master] = await endpoints(namespace as string, service as string, "http");
    const headers = { authorization: `Bearer ${apiToken}`, "content-type": "application/json" };
    const response = await fetch(`http://${master}${path}`, {
      headers,
      ...(body && { method: "POST", body: JSON.stringify(body) }),
    });
    assert.ok(response.ok, `${path} was answered ${response.status}: ${response.ok || (await response.text())}`);
    // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
    return (await response.json()) as any;
  };
  const until = async <T>(what: string, look: () => Promise<T | false | undefined>): Promise<T> => {
    for (let left = 120; ; left--) {
      const found = await look().catch((error: Error) => (left > 0 ? undefined : Promise.reject(error)));
      if (found) return found;
      assert.ok(left > 0, `never: ${what}`);
      await sleep(500);
    }
  };

  const { id } = await ask("/crawls", { url: SITE, maxDepth: 0 });
  const page = await until("the page is fetched", async () => {
    const { pages } = await ask(`/crawls/${id}/pages`);
    return pages[0]?.state !== "queued" && pages[0]?.state !== "assigned" && pages[0];
  });
  assert.equal(page.state, "done", page.error);
  const pod = { name: "mysql-0", namespace: namespace as string };
  const { metadata } = await core.readNamespacedPod(pod);
  await core.deleteNamespacedPod(pod);
  await until("another MySQL has come", async () => {
    const { metadata: now } = await core.readNamespacedPod(pod);
    return now?.uid !== metadata?.uid && (await ask(`/crawls/${id}`)).pages.done === 1;
  });
  const count = (await endpoints(namespace as string, workers as string, "grpc")).length;
  return `${count} workers, "${page.title}" fetched from ${SITE}, kept by MySQL on its disk`;
};

export default live;
