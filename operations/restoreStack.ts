import { BatchV1Api, KubeConfig } from "@kubernetes/client-node";
import type { PlatformOutputs } from "../platform";
import { connect, type Elasticsearch } from "./elasticsearch";
import { planRestore, type RestoreOptions, restore, snapshots } from "./restore";

interface Wishes extends Omit<RestoreOptions, "repository" | "snapshot"> {
  /** @default the snapshots are listed */
  snapshot?: string;
}

/**
 * Restores from a snapshot of the stack, or lists them.
 * @param confirm asked before anything is changed
 */
export async function restoreStack(
  outputs: PlatformOutputs,
  { snapshot, ...wishes }: Wishes,
  { say, confirm }: { say: (line: string) => void; confirm: (question: string) => Promise<boolean> },
): Promise<number> {
  const { elasticsearch, close } = await connect(outputs);
  try {
    const repository = await register(elasticsearch, outputs);
    if (!snapshot) {
      for (const { id, status, start, indices } of await snapshots(elasticsearch, repository))
        say(`${id}  ${status}  begun ${start}  ${indices} indices`);
      return 0;
    }
    const options = { ...wishes, repository, snapshot };
    const targets = await planRestore(elasticsearch, options);
    for (const [index, target] of targets)
      say(
        wishes.replace
          ? `${index} is closed, and replaced by what the snapshot has`
          : `${index} is restored as ${target}`,
      );
    if (!(await confirm(`Restore ${targets.size} indices from ${snapshot}?`))) return 1;
    for (const [target, documents] of await restore(elasticsearch, options, targets))
      say(`${target}: complete, ${documents} documents`);
    return 0;
  } finally {
    await close();
  }
}

/** As the scheduled job does: a cluster that has just been formed knows no store yet. */
async function register(elasticsearch: Elasticsearch, { kubeconfig, namespace }: PlatformOutputs): Promise<string> {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  const name = "elasticsearch-snapshots";
  const { items } = await config
    .makeApiClient(BatchV1Api)
    .listNamespacedCronJob({ namespace, fieldSelector: `metadata.name=${name}` });
  const env = items[0]?.spec?.jobTemplate.spec?.template.spec?.containers[0]?.env;
  const value = (variable: string) => env?.find((one) => one.name === variable)?.value;
  const [repository, settings] = [value("REPOSITORY"), value("REPOSITORY_SETTINGS")];
  if (!repository || !settings)
    throw new Error("The stack takes no snapshots; set hobnob:elasticsearch.snapshots first: see docs/operations.md");
  await elasticsearch.ask("PUT", `/_snapshot/${repository}`, JSON.parse(settings));
  return repository;
}
