import assert from "node:assert/strict";
import { OfflineStack, type State } from "./offlineStack";
import { previousState } from "./previousState";

const GUARD = "hobnob:platform:Protection";
/** The account's side of the platform, and what refuses a destroy: no cluster needs to run for these. */
const OF_ACCOUNT =
  /^(pulumi:pulumi:Stack|pulumi:providers:digitalocean|hobnob:platform:(Zone|DigitalOceanCluster)|digitalocean:index\/(vpc|domain|kubernetesCluster):.*)$/;

const cluster = { region: "fra1", ha: false, systemPool: { size: "s-2vcpu-4gb", count: 3 } };
const dns = { deleteZone: false };

/** The real engine on the simulated account, from states as runs of the program leave them. */
describe("data", function () {
  this.timeout(3 * 60_000);
  let stack: OfflineStack;
  let ids: { vpc: string; cluster: string };

  /** The state that an `up` with this `cluster.protect` leaves, made from the previous one's. */
  function state(protect: boolean, types = /./): State {
    const { deployment, ...rest } = previousState();
    const ofCluster = (name: string) =>
      String(deployment.resources.find(({ urn }) => urn.endsWith(name))?.id ?? "no such resource");
    const named = JSON.stringify(deployment.resources)
      .replaceAll(ofCluster(":KubernetesCluster::cluster"), ids.cluster)
      .replaceAll(ofCluster(":Vpc::cluster"), ids.vpc);
    const resources = (JSON.parse(named) as State["deployment"]["resources"])
      .filter(({ type }) => types.test(String(type)))
      .map(({ dependencies: _, ...resource }) => {
        const guarded = /^digitalocean:index\/(vpc|domain|kubernetesCluster)/.test(String(resource.type));
        return guarded
          ? { ...resource, protect, retainOnDelete: String(resource.type).includes("/domain:") }
          : resource;
      });
    const [root] = resources;
    const guard = {
      urn: `urn:pulumi:local::hobnob::${GUARD}::cluster.protect`,
      type: GUARD,
      custom: false,
      protect,
      parent: root?.urn,
      dependencies: resources.filter(({ custom }) => custom).map(({ urn }) => urn),
      outputs: { protect, deleteZone: false },
    };
    return { ...rest, deployment: { ...deployment, resources: [...resources, guard] } };
  }

  const left = async () => ({
    clusters: (await stack.ask("/v2/kubernetes/clusters")).kubernetes_clusters.map(({ id }: { id: string }) => id),
    vpcs: (await stack.ask("/v2/vpcs")).vpcs
      .filter((vpc: { default: boolean }) => !vpc.default)
      .map(({ id }: { id: string }) => id),
    zones: (await stack.ask("/v2/domains")).domains.map(({ name }: { name: string }) => name),
  });

  before(async () => {
    stack = await OfflineStack.start();
    const name = "hobnob-local";
    const { vpc } = await stack.ask("/v2/vpcs", { name, region: "fra1", ip_range: "10.10.0.0/20" });
    const node_pools = [{ name: `${name}-system`, size: "s-2vcpu-4gb", count: 3 }];
    const fields = { name, region: "fra1", version: "1.36.3-do.0", ha: false, vpc_uuid: vpc.id, node_pools };
    const { kubernetes_cluster: made } = await stack.ask("/v2/kubernetes/clusters", fields);
    await stack.ask("/v2/domains", { name: "hobnob.test" });
    ids = { vpc: vpc.id, cluster: made.id };
  });

  after(async () => stack?.stop());

  it("must not be planned away by a changed key: all are named, with what would be kept, before any resource", async () => {
    await stack.import(state(true));
    const { code, steps, text } = await stack.plan({
      "hobnob:domain": "elsewhere.test",
      "hobnob:cluster": {
        ...cluster,
        name: "hobnob-other",
        region: "ams3",
        vpcCidr: "10.11.0.0/20",
        systemPool: { size: "s-4vcpu-8gb", count: 3 },
        protect: false,
      },
      "hobnob:storage": { className: "other" },
      "hobnob:dns": dns,
    });
    assert.notEqual(code, 0);
    const keys = [...text.matchAll(/^ {2}(hobnob:\S+)$/gm)].map(([, key]) => key);
    assert.deepEqual(keys, [
      "hobnob:cluster.name",
      "hobnob:cluster.region",
      "hobnob:cluster.vpcCidr",
      "hobnob:cluster.systemPool.size",
      "hobnob:domain",
      "hobnob:storage.className",
    ]);
    const touched = steps.filter(({ op, urn }) => op !== "same" && !urn.includes("pulumi:pulumi:Stack"));
    assert.deepEqual(touched, [], text);
    assert.doesNotMatch(text, /^\s+at .+:\d+:\d+\)?$/m);
  });

  it("must not be destroyed while the stack is protected: nothing at all is touched, even without a preview", async () => {
    await stack.import(state(true, OF_ACCOUNT));
    const before = await left();
    for (const args of [
      ["destroy", "--yes", "--skip-preview"],
      ["destroy", "--yes"],
    ]) {
      const { code, text } = await stack.run(args);
      assert.notEqual(code, 0);
      assert.match(text, /::hobnob:platform:Protection::cluster\.protect" cannot be deleted\s+because it is protected/);
      assert.doesNotMatch(text, /digitalocean:index\S+ \S+ delet/);
      assert.deepEqual(await left(), before);
    }
  });

  it("must let the cluster go, and keep the zone, once `cluster.protect` was set to false", async () => {
    await stack.import(state(false, OF_ACCOUNT));
    const { code, text } = await stack.run(["destroy", "--yes", "--skip-preview"]);
    assert.equal(code, 0, text);
    assert.deepEqual(await left(), { clusters: [], vpcs: [], zones: ["hobnob.test"] });
  });

  it("must be taken up again by the next life of the stack, which is told how", async () => {
    const settings = { "hobnob:cluster": cluster, "hobnob:dns": dns };
    const refused = await stack.plan(settings);
    assert.match(refused.text, /pulumi config set --path 'hobnob:dns\.zone' lookup --stack local/);
    const { code, steps, text } = await stack.plan({ ...settings, "hobnob:dns": { ...dns, zone: "lookup" } });
    assert.equal(code, 0, text);
    const types = steps.map(({ op, urn }) => `${op} ${urn.split("::")[2]?.split("$").at(-1)}`);
    assert.ok(types.includes("create digitalocean:index/kubernetesCluster:KubernetesCluster"));
    assert.ok(!types.some((type) => type.endsWith(":Domain")));
  });
});
