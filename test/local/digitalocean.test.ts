import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { ResourceProviderClient } from "@pulumi/pulumi/proto/provider_grpc_pb";
import * as proto from "@pulumi/pulumi/proto/provider_pb";
import { Struct } from "google-protobuf/google/protobuf/struct_pb";
import { type Account, startAccount } from "../../local/account/account";
import { accountForControllers } from "../../local/account/attachments";
import { bundlePlugins } from "../../local/bundles";

// biome-ignore lint/suspicious/noExplicitAny: what the provider answers is asserted field by field
type Bag = Record<string, any>;

const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const SECRET = "1b47061264138c4ac30d75fd1eb44270";
const SIGNATURE = "4dabf18193072939515e22adb298388d";
const types = {
  vpc: "digitalocean:index/vpc:Vpc",
  cluster: "digitalocean:index/kubernetesCluster:KubernetesCluster",
  pool: "digitalocean:index/kubernetesNodePool:KubernetesNodePool",
  domain: "digitalocean:index/domain:Domain",
  record: "digitalocean:index/dnsRecord:DnsRecord",
  certificate: "digitalocean:index/certificate:Certificate",
};
type Kind = keyof typeof types;

/** The plugin's executable, spoken to as the engine does. */
describe("the simulated digitalocean plugin", function () {
  this.timeout(20_000);
  let account: Account;
  let plugin: ChildProcess;
  let client: ResourceProviderClient;

  before(async () => {
    const executable = join(bundlePlugins(["digitalocean"]).digitalocean, "pulumi-resource-digitalocean");
    plugin = spawn(executable, ["127.0.0.1:1"], { stdio: ["ignore", "pipe", "inherit"] });
    const [port] = await once(plugin.stdout as NodeJS.ReadableStream, "data");
    client = new ResourceProviderClient(`127.0.0.1:${Number(String(port))}`, grpc.credentials.createInsecure());
  });
  after(async () => {
    client.close();
    plugin.kill();
    await once(plugin, "exit");
  });
  beforeEach(async () => {
    account = await startAccount({});
    const { latency } = account.store.settings;
    for (const key of Object.keys(latency) as (keyof typeof latency)[]) latency[key] = 0;
    await configure({ apiEndpoint: account.url, token: "local-test" });
  });
  afterEach(() => account.close());

  // The engine's calls

  const struct = (bag: Bag) => Struct.fromJavaScript(JSON.parse(JSON.stringify(bag)));
  const urn = (kind: Kind) => `urn:pulumi:test::test::${types[kind]}::${kind}`;
  function call<Response>(
    start: (done: (error: grpc.ServiceError | null, response: Response) => void) => unknown,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      start((error, response) => (error ? reject(new Error(error.details)) : resolve(response)));
    });
  }
  const configure = (args: Bag) =>
    call<proto.ConfigureResponse>((done) =>
      client.configure(new proto.ConfigureRequest().setArgs(struct(args)).setAcceptsecrets(true), done),
    );
  async function check(kind: Kind, inputs: Bag, olds?: Bag) {
    const request = new proto.CheckRequest().setUrn(urn(kind)).setNews(struct(inputs));
    if (olds) request.setOlds(struct(olds));
    request.setRandomseed(Buffer.from("seed"));
    const response = await call<proto.CheckResponse>((done) => client.check(request, done));
    return {
      inputs: response.getInputs()?.toJavaScript() as Bag,
      failures: response.getFailuresList().map((failure) => failure.getReason()),
    };
  }
  async function create(kind: Kind, inputs: Bag, preview = false) {
    const checked = await check(kind, inputs);
    assert.deepEqual(checked.failures, []);
    const request = new proto.CreateRequest().setUrn(urn(kind)).setProperties(struct(checked.inputs));
    request.setPreview(preview);
    const response = await call<proto.CreateResponse>((done) => client.create(request, done));
    const state = response.getProperties()?.toJavaScript() as Bag;
    return { id: response.getId(), state, inputs: checked.inputs };
  }
  type Made = Awaited<ReturnType<typeof create>>;
  async function diff(kind: Kind, made: Made, changes: Bag, ignoreChanges: string[] = []) {
    const { __defaults, ...old } = made.inputs;
    const given = Object.fromEntries(Object.entries(old).filter(([key]) => !__defaults.includes(key)));
    const { inputs } = await check(kind, { ...given, ...changes }, made.inputs);
    const request = new proto.DiffRequest().setId(made.id).setUrn(urn(kind)).setOlds(struct(made.state));
    request.setOldInputs(struct(made.inputs)).setNews(struct(inputs)).setIgnorechangesList(ignoreChanges);
    const response = await call<proto.DiffResponse>((done) => client.diff(request, done));
    const names = ["add", "add-replace", "delete", "delete-replace", "update", "update-replace"];
    const differences: Record<string, string | undefined> = {};
    response.getDetaileddiffMap().forEach((entry, path) => {
      differences[path] = names[entry.getKind()];
    });
    return { inputs, differences, deleteBeforeReplace: response.getDeletebeforereplace() };
  }
  async function update(kind: Kind, made: Made, changes: Bag, preview = false): Promise<Made> {
    const { inputs } = await diff(kind, made, changes);
    const request = new proto.UpdateRequest().setId(made.id).setUrn(urn(kind)).setOlds(struct(made.state));
    request.setOldInputs(struct(made.inputs)).setNews(struct(inputs)).setPreview(preview);
    const response = await call<proto.UpdateResponse>((done) => client.update(request, done));
    return { id: made.id, state: response.getProperties()?.toJavaScript() as Bag, inputs };
  }
  async function read(kind: Kind, id: string, made?: Made): Promise<Made | undefined> {
    const request = new proto.ReadRequest().setId(id).setUrn(urn(kind));
    request.setProperties(struct(made?.state ?? {})).setInputs(struct(made?.inputs ?? {}));
    const response = await call<proto.ReadResponse>((done) => client.read(request, done));
    if (response.getId() === "") return undefined;
    const state = response.getProperties()?.toJavaScript() as Bag;
    return { id: response.getId(), state, inputs: response.getInputs()?.toJavaScript() as Bag };
  }
  function remove(kind: Kind, made: Made, timeout = 0) {
    const request = new proto.DeleteRequest().setId(made.id).setUrn(urn(kind)).setTimeout(timeout);
    request.setProperties(struct(made.state)).setOldInputs(struct(made.inputs));
    return call((done) => client.delete(request, done));
  }

  const pool = { name: "system", size: "s-2vcpu-4gb", nodeCount: 3 };
  const cluster = { name: "hobnob", region: "fra1", version: "1.35.7-do.0", ha: false, nodePool: pool };
  const kubeConfig = (made: Made): Bag => {
    assert.equal(made.state.kubeConfigs[SIGNATURE], SECRET, "credentials must be secret");
    return made.state.kubeConfigs.value[0];
  };
  /** Asserts a refusal whole; request ids stand as `(…)`. */
  async function rejects(work: Promise<unknown>, message: string) {
    await assert.rejects(work, (error: Error) => {
      assert.equal(error.message.replace(/\(request ".*?"\)/, "(…)"), message.replace("$URL", account.url));
      return true;
    });
  }

  it("must not work on any account but a simulated one", async () => {
    await rejects(
      configure({ apiEndpoint: "https://api.digitalocean.com", token: "x" }),
      "the simulated digitalocean provider works on the simulated account only, not on https://api.digitalocean.com: install the official plugin (pulumi plugin install resource digitalocean)",
    );
    await configure({ apiEndpoint: account.url, token: "wrong" });
    await rejects(
      create("vpc", { region: "fra1" }),
      "Error creating VPC: POST $URL/v2/vpcs: 401 Unable to authenticate you",
    );
    const { url, close } = await startAccount({});
    await close();
    await configure({ apiEndpoint: url, token: "local" });
    await rejects(
      create("vpc", { region: "fra1" }),
      `Error creating VPC: POST ${url}/v2/vpcs: the account can't be reached (ECONNREFUSED)`,
    );
  });

  it("must refuse unknown configuration", async () => {
    const request = new proto.CheckRequest().setUrn("urn:pulumi:t::t::pulumi:providers:digitalocean::default");
    request.setNews(struct({ tokn: "x", apiEndpoint: "y" }));
    const response = await call<proto.CheckResponse>((done) => client.checkConfig(request, done));
    assert.deepEqual(
      response.getFailuresList().map((failure) => failure.getReason()),
      [
        "`digitalocean:tokn` is not a valid configuration key for the digitalocean provider. If the key is not intended for the provider, please choose a different namespace from `digitalocean:`.",
      ],
    );
  });

  describe("in its checks", () => {
    it("must refuse what the official plugin's schema refuses, in its words", async () => {
      const { failures } = await check("cluster", {
        name: "",
        version: 1.36,
        nodePool: { name: "a", nodecount: 3, taints: [{ key: "k", value: "v", effect: "Never" }], labels: { a: 1 } },
        maintenancePolicy: { day: "someday" },
        clusterSubnet: "10.0",
        highAvailability: true,
        status: "running",
      });
      assert.deepEqual(failures.sort(), [
        "Invalid or unknown key. Examine values at 'cluster.highAvailability'.",
        "Invalid or unknown key. Examine values at 'cluster.nodePool.nodecount'.",
        "Invalid or unknown key. Examine values at 'cluster.status'.",
        "Missing required argument. The argument \"region\" is required, but no definition was found.. Examine values at 'cluster.region'.",
        "Missing required argument. The argument \"size\" is required, but no definition was found.. Examine values at 'cluster.nodePool.size'.",
        "Unexpected type at field \"nodePool.labels.a\": \n           expected string type, got 1 of type number. Examine values at 'cluster.nodePool.labels.a'.",
        "Unexpected type at field \"version\": \n           expected string type, got 1.36 of type number. Examine values at 'cluster.version'.",
        "expected \"cluster_subnet\" to be a valid IPv4 Value, got 10.0: invalid CIDR address: 10.0. Examine values at 'cluster.clusterSubnet'.",
        'expected maintenance_policy.0.day to be one of ["any" "monday" "tuesday" "wednesday" "thursday" "friday" "saturday" "sunday"], got someday. Examine values at \'cluster.maintenancePolicy.day\'.',
        'expected node_pool.0.taint.0.effect to be one of ["NoSchedule" "PreferNoSchedule" "NoExecute"], got Never. Examine values at \'cluster.nodePool.taints[0].effect\'.',
        "name must not be empty, got . Examine values at 'cluster.name'.",
      ]);
      const certificate = await check("certificate", { type: "lets_encrypt", domains: ["a.b"], privateKey: "x" });
      assert.deepEqual(certificate.failures, [
        "Conflicting configuration arguments. \"domains\": conflicts with private_key. Examine values at 'certificate.domains'.",
      ]);
      const record = await check("record", { domain: "a.b", type: "PTR", name: "x", value: "y", ttl: 0 });
      assert.deepEqual(record.failures, [
        'expected type to be one of ["A" "AAAA" "CAA" "CNAME" "MX" "NS" "TXT" "SRV" "SOA"], got PTR. Examine values at \'record.type\'.',
        "expected ttl to be at least (1), got 0. Examine values at 'record.ttl'.",
      ]);
    });

    it("must take what is not known yet", async () => {
      const { failures } = await check("cluster", { ...cluster, region: UNKNOWN, vpcUuid: UNKNOWN });
      assert.deepEqual(failures, []);
    });

    it("must name what has no name, and keep that name", async () => {
      const { inputs } = await check("vpc", { region: "fra1" });
      assert.match(inputs.name, /^vpc-[0-9a-f]{7}$/);
      assert.deepEqual(inputs.__defaults, ["name"]);
      assert.equal((await check("vpc", { region: "fra1" }, { ...inputs, name: "vpc-old" })).inputs.name, "vpc-old");
      const named = await check("vpc", { region: "fra1" }, { name: "mine", __defaults: [] });
      assert.notEqual(named.inputs.name, "mine", "a name that the user has given and taken back is not kept");
    });

    it("must refuse in a preview what only a record's type makes wrong", async () => {
      const mx = { domain: "a.b", type: "MX", name: "@", value: "mail.a.b." };
      await rejects(create("record", mx, true), "`priority` is required for when type is `MX`");
      const caa = { domain: "a.b", type: "CAA", name: "@", value: "letsencrypt.org." };
      await rejects(create("record", { ...caa, flags: 0 }, true), "`tag` is required for when type is `CAA`");
      assert.equal((await create("record", { ...caa, flags: 0, tag: "issue" }, true)).state.fqdn, UNKNOWN);
    });
  });

  describe("a cluster", () => {
    it("must show in a preview what is known, and no more", async () => {
      const { id, state } = await create("cluster", { ...cluster, vpcUuid: UNKNOWN }, true);
      assert.equal(id, "");
      assert.equal(state.name, "hobnob");
      assert.deepEqual([state.surgeUpgrade, state.ha], [true, false]);
      for (const output of ["endpoint", "kubeConfigs", "clusterUrn", "vpcUuid", "maintenancePolicy", "status"]) {
        assert.equal(state[output], UNKNOWN, output);
      }
      assert.deepEqual(
        [state.nodePool.size, state.nodePool.id, state.nodePool.nodes],
        ["s-2vcpu-4gb", UNKNOWN, UNKNOWN],
      );
      assert.equal(account.store.data.clusters.length, 0);
    });

    it("must be running, with its nodes, when it is created", async () => {
      account.store.settings.latency.cluster = 0.3;
      const made = await create("cluster", { ...cluster, tags: ["mine"] });
      const { state } = made;
      assert.deepEqual(
        [state.status, state.version, state.clusterUrn],
        ["running", "1.35.7-do.0", `do:kubernetes:${made.id}`],
      );
      assert.deepEqual(state.tags, ["mine"]);
      assert.deepEqual(state.maintenancePolicy, { day: "any", startTime: "06:00", duration: "4h0m0s" });
      assert.equal(state.nodePool.actualNodeCount, 3);
      assert.deepEqual(
        state.nodePool.nodes.map((node: Bag) => node.status),
        ["running", "running", "running"],
      );
      assert.deepEqual(state.nodePool.tags, []);
      const { host, token, rawConfig, expiresAt } = kubeConfig(made);
      assert.equal(host, state.endpoint);
      assert.ok(rawConfig.includes(`token: ${token}`));
      assert.equal(Math.round((Date.parse(expiresAt) - Date.now()) / 86_400_000), 7);
    });

    it("must not differ from itself", async () => {
      const full = {
        ...cluster,
        autoUpgrade: true,
        maintenancePolicy: { day: "sunday", startTime: "04:00" },
        controlPlaneFirewall: { enabled: true, allowedAddresses: ["192.0.2.0/24"] },
        tags: ["b", "a"],
        nodePool: { ...pool, labels: { a: "b" }, taints: [{ key: "k", value: "v", effect: "NoSchedule" }] },
      };
      const made = await create("cluster", full);
      assert.deepEqual((await diff("cluster", made, {})).differences, {});
      assert.deepEqual((await diff("cluster", made, { tags: ["a", "b"] })).differences, {});
      const refreshed = await read("cluster", made.id, made);
      assert.deepEqual(refreshed?.inputs, made.inputs);
      assert.deepEqual(refreshed?.state, made.state);
    });

    it("must be replaced by what it can't change, and only by that", async () => {
      const made = await create("cluster", cluster);
      const differences = async (changes: Bag) => (await diff("cluster", made, changes)).differences;
      assert.deepEqual(await differences({ region: "nyc1" }), { region: "update-replace" });
      assert.deepEqual(await differences({ vpcUuid: UNKNOWN }), { vpcUuid: "update-replace" });
      assert.deepEqual(await differences({ clusterSubnet: "10.1.0.0/16" }), { clusterSubnet: "update-replace" });
      assert.deepEqual(await differences({ serviceSubnet: "10.2.0.0/16" }), { serviceSubnet: "update-replace" });
      assert.deepEqual(await differences({ nodePool: { ...pool, size: "s-4vcpu-8gb" } }), {
        "nodePool.size": "update-replace",
      });
      assert.deepEqual(await differences({ version: "1.34.10-do.0" }), { version: "update-replace" });
      assert.deepEqual(await differences({ version: "1.36.3-do.0" }), { version: "update" });
      assert.deepEqual(await differences({ name: "other" }), { name: "update" });
      assert.deepEqual(await differences({ nodePool: { ...pool, nodeCount: 4, labels: { a: "b" } } }), {
        "nodePool.nodeCount": "update",
        "nodePool.labels.a": "add",
      });
      assert.equal((await diff("cluster", made, { region: "nyc1" })).deleteBeforeReplace, true);
      assert.equal((await diff("cluster", made, { version: "1.36.3-do.0" })).deleteBeforeReplace, false);
    });

    it("must not show a difference that the program ignores", async () => {
      const made = await create("cluster", cluster);
      const changes = { version: "1.34.10-do.0", nodePool: { ...pool, nodeCount: 4 } };
      const { differences } = await diff("cluster", made, changes, ["version"]);
      assert.deepEqual(differences, { "nodePool.nodeCount": "update" });
      assert.deepEqual((await diff("cluster", made, changes, ["version", "nodePool"])).differences, {});
    });

    it("must be changed in place: pool, firewall, version", async () => {
      const made = await create("cluster", cluster);
      const changed = await update("cluster", made, {
        version: "1.36.2-do.1",
        autoUpgrade: true,
        controlPlaneFirewall: { enabled: true, allowedAddresses: ["192.0.2.1"] },
        nodePool: { ...pool, nodeCount: 5, labels: { role: "system" } },
      });
      const [kept] = account.store.data.clusters;
      assert.equal(kept?.id, made.id);
      assert.deepEqual([kept?.version, kept?.auto_upgrade], ["1.36.2-do.1", true]);
      assert.deepEqual(kept?.control_plane_firewall, { enabled: true, allowed_addresses: ["192.0.2.1"] });
      assert.equal(kept?.node_pools[0]?.nodes.length, 5);
      assert.deepEqual(kept?.node_pools[0]?.labels, { role: "system" });
      assert.equal(kubeConfig(changed).token, kubeConfig(made).token, "an update must not mint a token");
      assert.deepEqual((await diff("cluster", changed, {})).differences, {});
    });

    it("must pass the account's refusals on, with what was being done", async () => {
      const post = "POST $URL/v2/kubernetes/clusters: 422 (…) validation error:";
      const failed = "Error creating Kubernetes cluster:";
      await rejects(
        create("cluster", { ...cluster, version: "1.30.1-do.0" }),
        `${failed} ${post} invalid version slug`,
      );
      await rejects(
        create("cluster", { ...cluster, nodePool: { ...pool, size: "xl" } }),
        `${failed} ${post} worker_node_pool_specs[0].invalid droplet size`,
      );
      const made = await create("cluster", { ...cluster, ha: true });
      await rejects(create("cluster", cluster), `${failed} ${post} a cluster with this name already exists`);
      await rejects(
        update("cluster", made, { ha: false }),
        `Unable to update cluster: PUT $URL/v2/kubernetes/clusters/${made.id}: 422 (…) validation error: high availability cannot be disabled`,
      );
    });

    it("must read its credentials again only when they have expired", async () => {
      const made = await create("cluster", { ...cluster, kubeconfigExpireSeconds: 3600 });
      const first = kubeConfig(made).token;
      assert.equal(kubeConfig((await read("cluster", made.id, made)) as Made).token, first);
      account.store.data.clockAhead += 3601;
      const later = (await read("cluster", made.id, made)) as Made;
      assert.notEqual(kubeConfig(later).token, first);
      assert.deepEqual(later.inputs, made.inputs);
    });

    it("must show what others have changed", async () => {
      const made = await create("cluster", cluster);
      const [kept] = account.store.data.clusters;
      Object.assign(kept as object, { version: "1.35.8-do.0" });
      const refreshed = (await read("cluster", made.id, made)) as Made;
      assert.equal(refreshed.inputs.version, "1.35.8-do.0");
      assert.deepEqual((await diff("cluster", refreshed, { version: "1.35.7-do.0" })).differences, {
        version: "update-replace",
      });
      await remove("cluster", made);
      assert.equal(await read("cluster", made.id, made), undefined);
      await remove("cluster", made);
    });

    it("must be importable by its id, whose only pool then is the built-in one", async () => {
      const made = await create("cluster", { ...cluster, nodePool: { ...pool, labels: { a: "b" } } });
      const system = account.store.data.clusters[0]?.node_pools[0];
      if (system) system.tags = [];
      const imported = (await read("cluster", made.id)) as Made;
      assert.deepEqual(system?.tags, ["terraform:default-node-pool"]);
      assert.deepEqual(
        [imported.inputs.name, imported.inputs.version, imported.inputs.nodePool.labels],
        ["hobnob", "1.35.7-do.0", { a: "b" }],
      );
      for (const output of ["endpoint", "kubeConfigs", "status"]) assert.ok(!(output in imported.inputs), output);
      assert.equal(await read("cluster", "none"), undefined);
    });

    it("must take its balancers along only where that is in its state", async () => {
      const controllers = accountForControllers(account.store);
      for (const all of [false, true]) {
        const made = await create("cluster", { ...cluster, destroyAllAssociatedResources: all });
        await controllers.createVolume({ name: "v", size_gigabytes: 1, region: "fra1", tags: [`k8s:${made.id}`] });
        await remove("cluster", made);
        assert.equal(account.store.data.volumes.length, all ? 0 : 1);
        account.store.data.volumes.length = 0;
      }
    });
  });

  describe("a node pool", () => {
    const workers = { name: "workers", size: "s-4vcpu-8gb", autoScale: true, minNodes: 2, maxNodes: 4 };
    let clusterId: string;
    beforeEach(async () => {
      clusterId = (await create("cluster", cluster)).id;
    });

    it("must leave the number of nodes to the autoscaler", async () => {
      const made = await create("pool", { ...workers, clusterId });
      assert.deepEqual([made.state.actualNodeCount, "nodeCount" in made.inputs], [2, false]);
      assert.deepEqual((await diff("pool", made, {})).differences, {});
      const found = account.store.data.clusters[0]?.node_pools[1];
      found?.nodes.push({ ...(found.nodes[0] as NonNullable<(typeof found.nodes)[0]>), id: "third" });
      const refreshed = (await read("pool", made.id, made)) as Made;
      assert.equal(refreshed.state.actualNodeCount, 3);
      assert.deepEqual((await diff("pool", refreshed, {})).differences, {});
      assert.deepEqual((await diff("pool", refreshed, { nodeCount: 3 })).differences, {});
      assert.deepEqual((await diff("pool", refreshed, { nodeCount: 2 })).differences, { nodeCount: "update" });
      await update("pool", refreshed, { maxNodes: 5 });
      assert.equal(found?.nodes.length, 3);
    });

    it("must be replaced by another size or cluster, and changed in place else", async () => {
      const made = await create("pool", { ...workers, clusterId, labels: { a: "b" } });
      const differences = async (changes: Bag) => (await diff("pool", made, changes)).differences;
      assert.deepEqual(await differences({ size: "s-2vcpu-4gb" }), { size: "update-replace" });
      assert.deepEqual(await differences({ clusterId: UNKNOWN }), { clusterId: "update-replace" });
      assert.deepEqual(await differences({ labels: { c: "d" }, minNodes: 1 }), {
        "labels.a": "delete",
        "labels.c": "add",
        minNodes: "update",
      });
      await update("pool", made, { labels: { c: "d" }, taints: [{ key: "k", value: "v", effect: "NoExecute" }] });
      const found = account.store.data.clusters[0]?.node_pools[1];
      assert.deepEqual(found?.labels, { c: "d" });
      assert.deepEqual(found?.taints, [{ key: "k", value: "v", effect: "NoExecute" }]);
    });

    it("must be importable by its id alone, unless it is the built-in one", async () => {
      const made = await create("pool", { ...workers, clusterId });
      const imported = (await read("pool", made.id)) as Made;
      assert.deepEqual([imported.inputs.clusterId, imported.inputs.size], [clusterId, "s-4vcpu-8gb"]);
      const builtIn = account.store.data.clusters[0]?.node_pools[0]?.id ?? "";
      await rejects(
        read("pool", builtIn),
        `Node pool ${builtIn} has the default node pool tag set; import the owning digitalocean_kubernetes_cluster resource instead (cluster ID=${clusterId})`,
      );
      await remove("pool", made);
      assert.equal(account.store.data.clusters[0]?.node_pools.length, 1);
      assert.equal(await read("pool", made.id, made), undefined);
    });
  });

  describe("a VPC", () => {
    it("must wait with its deletion until its members are gone", async () => {
      account.store.settings.latency.clusterDeletion = 0.5;
      const vpc = await create("vpc", { name: "v", region: "fra1", ipRange: "10.10.0.0/20" });
      const made = await create("cluster", { ...cluster, vpcUuid: vpc.id });
      await rejects(
        remove("vpc", vpc, 0.1),
        `Error deleting VPC: DELETE $URL/v2/vpcs/${vpc.id}: 409 (…) Can not delete VPC with members`,
      );
      await remove("cluster", made);
      await remove("vpc", vpc);
      assert.deepEqual(
        account.store.data.vpcs.filter((one) => !one.default),
        [],
      );
    });

    it("must be replaced by another range or region, and renamed in place", async () => {
      const made = await create("vpc", { name: "v", region: "fra1", ipRange: "10.10.0.0/20" });
      assert.equal(made.state.vpcUrn, `do:vpc:${made.id}`);
      const differences = async (changes: Bag) => (await diff("vpc", made, changes)).differences;
      assert.deepEqual(await differences({ ipRange: "10.20.0.0/20" }), { ipRange: "update-replace" });
      assert.deepEqual(await differences({ region: "nyc1" }), { region: "update-replace" });
      assert.deepEqual(await differences({ ipRange: undefined }), {});
      assert.deepEqual(await differences({ name: "w", description: "d" }), {
        name: "update",
        description: "update",
      });
      assert.equal((await update("vpc", made, { name: "w" })).state.name, "w");
      assert.equal(account.store.data.vpcs.find(({ id }) => id === made.id)?.name, "w");
    });
  });

  describe("a zone and its records", () => {
    it("must be what the account holds", async () => {
      const zone = await create("domain", { name: "example.com" });
      assert.deepEqual([zone.id, zone.state.ttl, zone.state.domainUrn], ["example.com", 1800, "do:domain:example.com"]);
      await rejects(
        create("domain", { name: "example.com" }),
        "Error creating Domain: POST $URL/v2/domains: 422 (…) domain 'example.com': name already exists",
      );
      assert.deepEqual((await diff("domain", zone, { name: "example.org" })).differences, { name: "update-replace" });
      assert.deepEqual((await diff("domain", zone, { ipAddress: "192.0.2.1" })).differences, {
        ipAddress: "add-replace",
      });

      const record = await create("record", { domain: "example.com", type: "A", name: "api", value: "192.0.2.1" });
      assert.deepEqual([record.state.fqdn, record.state.ttl], ["api.example.com", 1800]);
      const differences = async (changes: Bag) => (await diff("record", record, changes)).differences;
      assert.deepEqual(await differences({}), {});
      assert.deepEqual(await differences({ type: "TXT" }), { type: "update-replace" });
      assert.deepEqual(await differences({ domain: "example.org" }), { domain: "update-replace" });
      assert.deepEqual(await differences({ value: "192.0.2.2", ttl: 60 }), { value: "update", ttl: "update" });
      assert.deepEqual(await differences({ name: "api.example.com." }), {});
      const changed = await update("record", record, { value: "192.0.2.2", ttl: 60 });
      assert.deepEqual([changed.id, changed.state.value, changed.state.ttl], [record.id, "192.0.2.2", 60]);

      const alias = await create("record", {
        domain: "example.com",
        type: "CNAME",
        name: "www",
        value: "api.example.com.",
      });
      assert.deepEqual((await diff("record", alias, {})).differences, {});
      const imported = (await read("record", `example.com,${alias.id}`)) as Made;
      assert.deepEqual(
        [imported.id, imported.inputs.domain, imported.inputs.value],
        [alias.id, "example.com", "api.example.com."],
      );
      await remove("record", alias);
      assert.equal(await read("record", alias.id, alias), undefined);
      await remove("record", alias);
      await remove("domain", zone);
      assert.equal(await read("domain", zone.id, zone), undefined);
    });
  });

  describe("a certificate", () => {
    const certificate = { type: "lets_encrypt", domains: ["api.example.com"] };

    it("must be verified when it is created, with its name as its id", async () => {
      account.store.settings.latency.certificate = 0.3;
      await create("domain", { name: "example.com" });
      const made = await create("certificate", { name: "web", ...certificate });
      assert.deepEqual([made.id, made.state.state], ["web", "verified"]);
      assert.equal(made.state.uuid, account.store.data.certificates[0]?.id);
      assert.deepEqual((await diff("certificate", made, {})).differences, {});
      const imported = (await read("certificate", "web")) as Made;
      assert.deepEqual(imported.inputs.domains, ["api.example.com"]);
      await rejects(
        create("certificate", { name: "none" }),
        "`private_key` is required for when type is `custom` or empty",
      );
      await remove("certificate", made);
      assert.equal(await read("certificate", "web", made), undefined);
      await remove("certificate", made);
    });

    it("must be replaced by other domains: first deleted where it has a name, first created where it has none", async () => {
      await create("domain", { name: "example.com" });
      const domains = ["api.example.com", "docs.example.com"];
      const named = await create("certificate", { name: "web", ...certificate });
      const { differences, deleteBeforeReplace } = await diff("certificate", named, { name: "web2", domains });
      assert.deepEqual(differences, { name: "update-replace", domains: "update-replace" });
      assert.equal(deleteBeforeReplace, true);
      const unnamed = await create("certificate", certificate);
      assert.equal((await diff("certificate", unnamed, { domains })).deleteBeforeReplace, false);
    });
  });

  it("must answer look-ups", async () => {
    const look = async (name: string, args: Bag) => {
      const token = `digitalocean:index/${name}:${name}`;
      const request = new proto.InvokeRequest().setTok(token).setArgs(struct(args));
      const response = await call<proto.InvokeResponse>((done) => client.invoke(request, done));
      return response.getReturn()?.toJavaScript() as Bag;
    };
    const versions = await look("getKubernetesVersions", { versionPrefix: "1.36." });
    assert.deepEqual(versions.validVersions, ["1.36.3-do.0", "1.36.2-do.1"]);
    assert.equal(versions.latestVersion, "1.36.3-do.0");
    await create("domain", { name: "example.com" });
    assert.equal((await look("getDomain", { name: "example.com" })).ttl, 1800);
    await rejects(look("getDomain", { name: "example.org" }), "domain not found: example.org");
    const made = await create("cluster", cluster);
    assert.equal((await look("getKubernetesCluster", { name: "hobnob" })).id, made.id);
    await rejects(look("getKubernetesCluster", { name: "x" }), "Unable to find cluster with name: x");
  });
});
