import { execFile } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import { unless } from "../account/controllers/watch";
import { adminKubeconfig, isRunning } from "../cluster";
import { elasticsearchAvailable } from "../elasticsearch/process";
import { cloneDirectory } from "../paths";
import { isReal } from "./images";
import { podsDirectory } from "./kubelet";
import { requireLoopbackNetwork } from "./names";

/** Rejects with all that this machine lacks for real processes behind pods. */
export async function requireRealPods(): Promise<void> {
  const missing: unknown[] = [await elasticsearchAvailable()];
  missing.push(await requireLoopbackNetwork().catch((error: Error) => error.message));
  for (const tool of ["bash", "curl"])
    missing.push(
      await promisify(execFile)(tool, ["--version"]).then(noReason, () => `${tool} is missing: put it on PATH`),
    );
  if (!existsSync(join(cloneDirectory, "app", "api", "node_modules")))
    missing.push("the sample API's packages are missing: npm ci --prefix app/api");
  const reasons = missing.filter(Boolean);
  if (reasons.length === 0) return;
  throw new Error(
    `--real needs what is not here:\n${reasons.map((reason) => `  ${reason}\n`).join("")}` +
      "Without --real the same platform comes up, and its pods run nothing: npm start",
  );
}

const noReason = () => undefined;

/** After the kubelet has stopped: its pods make room for ones that are kwok's, on the same claims. */
export async function giveBackPods(): Promise<void> {
  if (!existsSync(podsDirectory()) || !isRunning()) return;
  const config = new KubeConfig();
  config.loadFromFile(adminKubeconfig());
  const core = config.makeApiClient(CoreV1Api);
  const { items } = await core.listPodForAllNamespaces();
  for (const { metadata } of items.filter(isReal)) {
    const pod = { name: metadata?.name ?? "", namespace: metadata?.namespace ?? "", gracePeriodSeconds: 0 };
    await unless(404, core.deleteNamespacedPod(pod));
  }
  rmSync(podsDirectory(), { recursive: true, force: true });
}
