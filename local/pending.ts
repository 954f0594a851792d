import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { adminKubeconfig, isRunning } from "./cluster";
import { commandLine } from "./daemons";
import { account, type Checkpoint, checkpoint, type Engine, pulumi, type StateResource } from "./engine";
import { stateDirectory } from "./paths";

/**
 * A creation that was cut off may have made its object all the same: the state does not know it, and the next creation
 * would end in "already exists". Each is looked up by what names it; what is found enters the state and is read again. The
 * account and the cluster are this stack's alone, so what has the name is its own.
 */
export async function resolvePending(engine: Engine, stack: string, kubectl: string): Promise<void> {
  const pending = checkpoint(stack).pending_operations ?? [];
  if (pending.length === 0) return;
  const found: StateResource[] = [];
  for (const { type, resource } of pending) {
    const id = type === "creating" ? await idOf(engine, resource, kubectl) : undefined;
    if (id) found.push({ ...resource, id });
  }
  console.error(
    `An earlier run was cut off in ${pending.length} operations; ${found.length} had made an object, which is taken up.`,
  );
  // `refresh --import-pending-creates` forgets what it is given on a file backend (seen with 3.230.0).
  const { stdout } = await pulumi(engine, ["stack", "export", "--stack", stack]);
  const state = JSON.parse(String(stdout)) as { deployment: Checkpoint };
  state.deployment.resources?.push(...found);
  state.deployment.pending_operations = [];
  await pulumi(engine, ["stack", "import", "--stack", stack], { input: JSON.stringify(state) });
  const targets = found.flatMap(({ urn }) => ["--target", urn]);
  if (found.length > 0) await pulumi(engine, ["refresh", "--stack", stack, "--yes", "--skip-preview", ...targets]);
}

/** A killed engine leaves its lock behind, which would refuse every later run; the lock of one that lives stays. */
export async function releaseDeadLock(engine: Engine, stack: string): Promise<void> {
  const locks = join(stateDirectory(), "pulumi", ".pulumi", "locks", "organization", "hobnob", stack);
  // Beside each lock the backend keeps a file of attributes.
  const files = existsSync(locks) ? readdirSync(locks).filter((file) => file.endsWith(".json")) : [];
  const owners = files.map((file) => JSON.parse(readFileSync(join(locks, file), "utf8")) as { pid: number });
  if (owners.length > 0 && owners.every(({ pid }) => commandLine(pid) === "")) {
    await pulumi(engine, ["cancel", "--yes", "--stack", stack]);
  }
}

const idOf = (engine: Engine, resource: StateResource, kubectl: string): Promise<string | undefined> =>
  resource.type.startsWith("kubernetes:") ? kubernetesId(resource, kubectl) : accountId(engine, resource);

async function kubernetesId({ inputs = {} }: StateResource, kubectl: string): Promise<string | undefined> {
  if (!isRunning()) return undefined;
  const { apiVersion, kind, metadata } = inputs as Record<"apiVersion" | "kind", string> & {
    metadata: { name: string; namespace?: string };
  };
  const [version, group = ""] = apiVersion.split("/").reverse();
  const { name, namespace } = metadata;
  const args = ["get", `${kind}.${version}.${group}`, name, ...(namespace ? ["--namespace", namespace] : [])];
  const { exitCode } = await execa(kubectl, args, { env: { KUBECONFIG: adminKubeconfig() }, reject: false });
  if (exitCode !== 0) return undefined;
  return namespace ? `${namespace}/${name}` : name;
}

interface Named {
  id: string;
  name: string;
}

async function accountId(engine: Engine, { type, inputs = {} }: StateResource): Promise<string | undefined> {
  const byName = (objects: Named[]) => objects.find(({ name }) => name === inputs.name)?.id;
  switch (type.split(":").at(-1)) {
    case "Vpc":
      return byName((await account<{ vpcs: Named[] }>(engine, "vpcs")).vpcs);
    case "KubernetesCluster":
      return runningCluster(engine, String(inputs.name));
    case "KubernetesNodePool": {
      const pools = `kubernetes/clusters/${inputs.clusterId}/node_pools`;
      return byName((await account<{ node_pools: Named[] }>(engine, pools)).node_pools);
    }
    case "Domain":
      return (await account<{ domains: Named[] }>(engine, "domains")).domains.find(({ name }) => name === inputs.name)
        ?.name;
    case "Certificate":
      return (
        byName((await account<{ certificates: Named[] }>(engine, "certificates")).certificates) && `${inputs.name}`
      );
    case "DnsRecord": {
      type Record = Named & { type: string; data: string };
      const path = `domains/${inputs.domain}/records?per_page=200`;
      const { domain_records: records } = await account<{ domain_records: Record[] }>(engine, path);
      const record = records.find(
        ({ name, type, data }) => name === inputs.name && type === inputs.type && data === inputs.value,
      );
      return record && `${inputs.domain},${record.id}`;
    }
    default:
      return undefined;
  }
}

/** A cluster goes on being made without the engine: what needs it can only go on when it runs. */
async function runningCluster(engine: Engine, name: string): Promise<string | undefined> {
  type Cluster = Named & { status: { state: string } };
  for (let waited = 0; waited < 300; waited++) {
    const { kubernetes_clusters: clusters } = await account<{ kubernetes_clusters: Cluster[] }>(
      engine,
      "kubernetes/clusters",
    );
    const cluster = clusters.find((one) => one.name === name);
    if (cluster?.status.state !== "provisioning") return cluster?.id;
    await sleep(1000);
  }
  return undefined;
}
