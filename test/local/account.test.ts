import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import getPort from "get-port";
import { type Account, startAccount } from "../../local/account/account";
import { accountForControllers, clusterTag } from "../../local/account/attachments";
import type { BalancerRequest } from "../../local/account/controllers/index";
import type { Runtime } from "../../local/account/kubernetes";

// biome-ignore lint/suspicious/noExplicitAny: answers are asserted field by field
type Json = Record<string, any>;

describe("the simulated DigitalOcean account", () => {
  let account: Account;

  beforeEach(async () => {
    account = await startAccount({});
    await post("/local/settings", { latency: { cluster: 0, clusterDeletion: 0, node: 0, certificate: 0 } });
  });
  afterEach(() => account.close());

  async function call(method: string, path: string, body?: Json, headers: Record<string, string> = {}) {
    const response = await fetch(account.url + path, {
      method,
      headers: { authorization: "Bearer local-test", "content-type": "application/json", ...headers },
      body: body && JSON.stringify(body),
    });
    const answer = await response.text();
    const isJson = response.headers.get("content-type")?.includes("json");
    return { status: response.status, body: (isJson ? JSON.parse(answer) : answer) as Json, headers: response.headers };
  }
  const get = (path: string) => call("GET", path);
  const post = (path: string, body: Json) => call("POST", path, body);
  const put = (path: string, body: Json) => call("PUT", path, body);
  const remove = (path: string) => call("DELETE", path);

  /** Asserts a refusal's status, id and whole message. */
  async function refused(answer: ReturnType<typeof call>, status: number, message: string) {
    const { status: got, body } = await answer;
    const ids: Record<number, string> = {
      401: "Unauthorized",
      403: "forbidden",
      404: "not_found",
      409: "conflict",
      412: "precondition_failed",
      422: "unprocessable_entity",
    };
    assert.deepEqual({ status: got, id: body.id, message: body.message }, { status, id: ids[status], message });
  }
  const missing = "The resource you were accessing could not be found.";

  const pool = { name: "system", size: "s-2vcpu-4gb", count: 3 };
  const spec = { name: "hobnob", region: "fra1", version: "1.36", ha: false, node_pools: [pool] };
  async function until<T>(read: () => Promise<T>, good: (value: T) => boolean): Promise<T> {
    for (let attempt = 0; attempt < 200; attempt++) {
      const value = await read();
      if (good(value)) return value;
      await sleep(10);
    }
    throw new Error("did not happen within 2 s");
  }
  const readCluster = async (id: string) =>
    (await get(`/v2/kubernetes/clusters/${id}`)).body.kubernetes_cluster as Json;
  async function runningCluster(changes: Json = {}): Promise<Json> {
    const { status, body } = await post("/v2/kubernetes/clusters", { ...spec, ...changes });
    assert.equal(status, 201, JSON.stringify(body));
    return until(
      () => readCluster(body.kubernetes_cluster.id),
      (cluster) => cluster.status.state === "running",
    );
  }
  const restart = async (file: string) => {
    await account.close();
    account = await startAccount({ file });
  };

  describe("as an HTTP service", () => {
    it("must not answer without a token made for it", async () => {
      for (const authorization of ["", "Bearer dop_v1_0123", "Basic local"]) {
        const answer = await call("GET", "/v2/account", undefined, { authorization });
        assert.equal(answer.status, 401);
        assert.deepEqual(answer.body, { id: "Unauthorized", message: "Unable to authenticate you" });
      }
      assert.equal((await get("/v2/account")).status, 200);
    });

    it("must answer unknown paths and ids with DigitalOcean's 404", async () => {
      for (const path of [
        "/v2/nothing",
        "/v2/vpcs/x",
        "/v2/kubernetes/clusters/x",
        "/v2/domains/a.b",
        "/v2/certificates/x",
      ]) {
        await refused(get(path), 404, missing);
      }
    });

    it("must take an empty JSON body, as godo sends with every DELETE", async () => {
      await refused(call("DELETE", "/v2/vpcs/x", undefined, { "content-length": "0" }), 404, missing);
    });

    it("must page lists, at 20 and at most 200 a page", async () => {
      await post("/v2/domains", { name: "example.com" });
      for (let host = 0; host < 21; host++) {
        await post("/v2/domains/example.com/records", { type: "A", name: `h${host}`, data: "192.0.2.1" });
      }
      const first = await get("/v2/domains/example.com/records");
      assert.equal(first.body.domain_records.length, 20);
      assert.equal(first.body.meta.total, 25); // with SOA and three NS
      assert.equal(first.body.links.pages.next, `${account.url}/v2/domains/example.com/records?page=2`);
      const second = await get("/v2/domains/example.com/records?page=2");
      assert.equal(second.body.domain_records.length, 5);
      assert.equal(second.body.links.pages.next, undefined);
      const all = await get("/v2/domains/example.com/records?per_page=200");
      assert.equal(all.body.domain_records.length, 25);
      assert.deepEqual(all.body.links, {});
    });

    it("must keep its state over a restart, in a file that only its owner reads", async () => {
      const directory = mkdtempSync(join(tmpdir(), "account-"));
      const file = join(directory, "state.json");
      await restart(file);
      await post("/local/settings", { latency: { cluster: 0, node: 0, certificate: 0.05 } });
      await post("/v2/domains", { name: "example.com" });
      await post("/v2/certificates", { name: "c", type: "lets_encrypt", dns_names: ["api.example.com"] });
      const cluster = await runningCluster();
      await restart(file);
      assert.equal((await readCluster(cluster.id)).status.state, "running");
      assert.equal((await get("/v2/domains")).body.domains[0].name, "example.com");
      // What the stopped account had promised still comes true.
      await until(
        async () => (await get("/v2/certificates")).body.certificates[0].state,
        (state) => state === "verified",
      );
      const { token } = (await get(`/v2/kubernetes/clusters/${cluster.id}/credentials`)).body;
      assert.ok(!readFileSync(file, "utf8").includes(token), "the token itself must not be on disk");
      rmSync(directory, { recursive: true });
    });
  });

  describe("VPCs", () => {
    const vpc = { name: "hobnob", region: "fra1", ip_range: "10.10.0.0/20" };

    it("must not be deleted while a cluster or balancer stands in them", async () => {
      await post("/local/settings", { latency: { clusterDeletion: 0.2 } });
      const { id } = (await post("/v2/vpcs", vpc)).body.vpc;
      const cluster = await runningCluster({ vpc_uuid: id });
      await refused(remove(`/v2/vpcs/${id}`), 409, "Can not delete VPC with members");
      await remove(`/v2/kubernetes/clusters/${cluster.id}`);
      await refused(get(`/v2/kubernetes/clusters/${cluster.id}`), 404, missing);
      await refused(remove(`/v2/vpcs/${id}`), 409, "Can not delete VPC with members");
      await until(
        () => remove(`/v2/vpcs/${id}`),
        ({ status }) => status === 204,
      );
      await refused(get(`/v2/vpcs/${id}`), 404, missing);
    });

    it("must refuse what DigitalOcean refuses", async () => {
      const { id } = (await post("/v2/vpcs", vpc)).body.vpc;
      const refuse = (changes: Json, message: string) =>
        refused(post("/v2/vpcs", { name: "other", region: "fra1", ...changes }), 422, message);
      await refuse({ name: "hobnob" }, "name is already in use");
      await refuse({ name: "a b" }, "name may only contain alphanumeric characters, dashes, and periods");
      await refuse({ name: "" }, "name is a required field");
      await refuse({ region: "mars1" }, "Region is not valid");
      await refuse({ ip_range: "10.10.8.0/24" }, "This range/size overlaps with another VPC network in your account.");
      await refuse({ ip_range: "10.0.0.0/8" }, "ip_range size must be between /16 and /28");
      await refuse({ ip_range: "8.8.8.0/24" }, "ip_range must be in the private address space of RFC 1918");
      await refuse({ ip_range: "10.10/20" }, "invalid CIDR address: 10.10/20");
      assert.deepEqual(
        (await get("/v2/vpcs")).body.vpcs.filter((one: Json) => !one.default).map((one: Json) => one.name),
        ["hobnob"],
      );
      const renamed = await put(`/v2/vpcs/${id}`, { name: "renamed", description: "of hobnob" });
      assert.equal(renamed.body.vpc.name, "renamed");
      assert.equal(renamed.body.vpc.ip_range, "10.10.0.0/20");
    });

    const defaults = async (): Promise<Json[]> => (await get("/v2/vpcs")).body.vpcs.filter((one: Json) => one.default);

    it("must not become a region's default one, as each region has one from the start", async () => {
      assert.equal((await post("/v2/vpcs", vpc)).body.vpc.default, false);
      const { regions } = (await get("/v2/regions")).body;
      assert.deepEqual(
        (await defaults()).map(({ name, region }) => [name, region]),
        regions.map(({ slug }: Json) => [`default-${slug}`, slug]),
      );
    });

    it("must keep a region's default VPC, and use it where a cluster names none", async () => {
      const cluster = await runningCluster();
      const own = (await defaults()).find(({ region }) => region === "fra1");
      assert.equal(cluster.vpc_uuid, own?.id);
      await refused(remove(`/v2/vpcs/${own?.id}`), 403, "Can not delete default VPCs");
    });

    it("must be the same default ones after a restart", async () => {
      const directory = mkdtempSync(join(tmpdir(), "account-"));
      await restart(join(directory, "state.json"));
      const before = await defaults();
      await restart(join(directory, "state.json"));
      assert.deepEqual(await defaults(), before);
      rmSync(directory, { recursive: true });
    });
  });

  describe("clusters", () => {
    it("must be provisioning first and give credentials only when they run", async () => {
      await post("/local/settings", { latency: { cluster: 0.1 } });
      const { body } = await post("/v2/kubernetes/clusters", spec);
      const { id, status, version, tags } = body.kubernetes_cluster;
      assert.equal(status.state, "provisioning");
      assert.equal(version, "1.36.3-do.0");
      assert.deepEqual(tags, ["k8s", `k8s:${id}`]);
      await refused(get(`/v2/kubernetes/clusters/${id}/credentials`), 412, "the cluster is not ready yet");
      const running = await until(
        () => readCluster(id),
        (cluster) => cluster.status.state === "running",
      );
      assert.equal(running.endpoint, `https://${id}.k8s.ondigitalocean.com`);
      assert.deepEqual(
        running.node_pools[0].nodes.map((node: Json) => node.status.state),
        ["running", "running", "running"],
      );
    });

    it("must refuse what DigitalOcean refuses", async () => {
      await runningCluster();
      const refuse = (changes: Json, message: string) =>
        refused(post("/v2/kubernetes/clusters", { ...spec, name: "other", ...changes }), 422, message);
      await refuse({ name: "hobnob" }, "validation error: a cluster with this name already exists");
      await refuse({ region: "mars1" }, "validation error: invalid region slug");
      await refuse({ version: "1.12.1-do.0" }, "validation error: invalid version slug");
      await refuse({ version: "1.36.0-do.0" }, "validation error: invalid version slug");
      await refuse({ node_pools: [] }, "validation error: a cluster must have at least one node pool");
      await refuse({ vpc_uuid: "x" }, "validation error: VPC not found");
      await refuse(
        { node_pools: [pool, { ...pool, name: "b", size: "xl" }] },
        "validation error: worker_node_pool_specs[1].invalid droplet size",
      );
      await refuse(
        { node_pools: [pool, pool] },
        "validation error: worker_node_pool_specs[1].pool names must be unique within a cluster",
      );
      await refuse(
        { control_plane_firewall: { enabled: true, allowed_addresses: ["1.2.3"] } },
        'validation error: control_plane_firewall: invalid address "1.2.3"',
      );
      await refuse(
        { maintenance_policy: { day: "someday", start_time: "04:00" } },
        'validation error: maintenance_policy.day "someday" is invalid',
      );
      const { id } = (await post("/v2/vpcs", { name: "far", region: "nyc1" })).body.vpc;
      await refuse({ vpc_uuid: id }, "validation error: the VPC is in another region than the cluster");
      assert.equal((await get("/v2/kubernetes/clusters")).body.meta.total, 1);
    });

    it("must have high availability by default from 1.36 on, and never lose it", async () => {
      const old = await runningCluster({ version: "1.35", ha: undefined });
      assert.equal(old.ha, false);
      const { id, name, ha } = await runningCluster({ name: "new", ha: undefined });
      assert.equal(ha, true);
      const path = `/v2/kubernetes/clusters/${id}`;
      await refused(put(path, { name, ha: false }), 422, "validation error: high availability cannot be disabled");
      assert.equal((await put(path, { name, auto_upgrade: true })).body.kubernetes_cluster.ha, true);
    });

    it("must only be upgraded to a newer version on offer, one minor at a time", async () => {
      const { id } = await runningCluster({ version: "1.34" });
      const upgrade = (version: string) => post(`/v2/kubernetes/clusters/${id}/upgrade`, { version });
      const offers = (await get(`/v2/kubernetes/clusters/${id}/upgrades`)).body.available_upgrade_versions;
      assert.deepEqual(
        offers.map((offer: Json) => offer.slug),
        ["1.35.7-do.0"],
      );
      for (const version of ["1.34.10-do.0", "1.36.3-do.0", "1.33.1-do.0"]) {
        await refused(upgrade(version), 422, "validation error: invalid version slug");
      }
      assert.equal((await upgrade("1.35.7-do.0")).status, 202);
      assert.equal((await readCluster(id)).version, "1.35.7-do.0");
      await until(
        () => readCluster(id),
        (cluster) => cluster.status.state === "running",
      );
    });

    it("must keep a version that is withdrawn, while new clusters can't have it", async () => {
      const { id } = await runningCluster();
      await post("/local/settings", { kubernetesVersions: ["1.37.0-do.0"] });
      assert.equal((await readCluster(id)).version, "1.36.3-do.0");
      const versions = (await get("/v2/kubernetes/options")).body.options.versions;
      assert.deepEqual(
        versions.map((version: Json) => version.slug),
        ["1.37.0-do.0"],
      );
      await refused(
        post("/v2/kubernetes/clusters", { ...spec, name: "other" }),
        422,
        "validation error: invalid version slug",
      );
    });

    it("must leave balancers and volumes behind, unless their deletion is asked for", async () => {
      const controllers = accountForControllers(account.store);
      const attach = async (id: string) => {
        await controllers.createBalancer(balancer({ name: id, tags: [clusterTag(id)] }));
        const volume = { name: `pvc-${id}`, size_gigabytes: 10, region: "fra1", tags: [clusterTag(id)] };
        await controllers.createVolume(volume);
      };
      const first = await runningCluster();
      await attach(first.id);
      await remove(`/v2/kubernetes/clusters/${first.id}`);
      assert.equal((await get("/v2/load_balancers")).body.meta.total, 1);
      assert.equal((await get("/v2/volumes")).body.meta.total, 1);
      const second = await runningCluster({ name: "second" });
      await attach(second.id);
      const path = `/v2/kubernetes/clusters/${second.id}/destroy_with_associated_resources`;
      const { load_balancers, volumes } = (await get(path)).body;
      assert.deepEqual([load_balancers[0].name, volumes[0].name], [second.id, `pvc-${second.id}`]);
      assert.equal((await remove(`${path}/dangerous`)).status, 202);
      assert.deepEqual(
        (await get("/v2/load_balancers")).body.load_balancers.map((b: Json) => b.name),
        [first.id],
      );
      assert.deepEqual(
        (await get("/v2/volumes")).body.volumes.map((v: Json) => v.name),
        [`pvc-${first.id}`],
      );
    });
  });

  describe("node pools", () => {
    it("must start an autoscaled pool at its minimum and stay within its bounds", async () => {
      const { id } = await runningCluster();
      const path = `/v2/kubernetes/clusters/${id}/node_pools`;
      const scaled = { name: "workers", size: "s-4vcpu-8gb", auto_scale: true, min_nodes: 2, max_nodes: 4 };
      const { node_pool } = (await post(path, scaled)).body;
      assert.equal(node_pool.count, 2);
      const counts = [];
      for (const wanted of [9, 3, 1]) {
        const { body } = await put(`${path}/${node_pool.id}`, { name: "workers", count: wanted });
        counts.push(body.node_pool.count);
      }
      assert.deepEqual(counts, [4, 3, 2]);
    });

    it("must refuse what DigitalOcean refuses", async () => {
      const { id, node_pools } = await runningCluster();
      const path = `/v2/kubernetes/clusters/${id}/node_pools`;
      const base = { name: "workers", size: "s-4vcpu-8gb", count: 1 };
      const refuse = (changes: Json, message: string) =>
        refused(post(path, { ...base, ...changes }), 422, `validation error: worker_node_pool_spec.${message}`);
      await refuse({ name: "system" }, "pool names must be unique within a cluster");
      await refuse({ size: "xl" }, "invalid droplet size");
      await refuse({ count: 0 }, "count must be greater than or equal to 1");
      await refuse({ auto_scale: true, max_nodes: 3 }, "min nodes must be greater than or equal to 1");
      await refuse(
        { auto_scale: true, min_nodes: 3, max_nodes: 2 },
        "max nodes must be greater than or equal to min nodes",
      );
      await refuse(
        { taints: [{ key: "a", value: "b", effect: "Never" }] },
        'taint effect "Never" must be one of NoSchedule, PreferNoSchedule, NoExecute',
      );
      await refused(
        remove(`${path}/${node_pools[0].id}`),
        422,
        "validation error: a cluster must have at least one node pool",
      );
      const added = (await post(path, base)).body.node_pool;
      assert.equal((await remove(`${path}/${added.id}`)).status, 202);
      await refused(get(`${path}/${added.id}`), 404, missing);
    });

    it("must keep the oldest nodes when a pool shrinks", async () => {
      const { id, node_pools } = await runningCluster();
      const [system] = node_pools;
      const path = `/v2/kubernetes/clusters/${id}/node_pools/${system.id}`;
      const { node_pool } = (await put(path, { name: "system", count: 2 })).body;
      assert.deepEqual(
        node_pool.nodes.map((node: Json) => node.name),
        system.nodes.slice(0, 2).map((node: Json) => node.name),
      );
    });
  });

  describe("credentials", () => {
    const review = async (token: string) =>
      (await post("/local/token-review", { kind: "TokenReview", spec: { token } })).body.status;

    it("must be a different token on each read, each good for a week by the account's clock", async () => {
      const { id } = await runningCluster();
      const read = async () => (await get(`/v2/kubernetes/clusters/${id}/credentials`)).body;
      const [first, second] = [await read(), await read()];
      assert.notEqual(first.token, second.token);
      const admin = { authenticated: true, user: { username: "doks-admin", groups: ["system:masters"] } };
      assert.deepEqual(await review(first.token), admin);
      assert.deepEqual(await review(second.token), admin);
      assert.deepEqual(await review(""), { authenticated: false });
      assert.deepEqual(await review("made up"), { authenticated: false });
      await post("/local/clock", { advanceSeconds: 7 * 86_400 - 60 });
      assert.deepEqual(await review(first.token), admin);
      await post("/local/clock", { advanceSeconds: 120 });
      assert.deepEqual(await review(first.token), { authenticated: false });
      assert.deepEqual(await review((await read()).token), admin);
    });

    it("must end when asked to end earlier, and with the cluster", async () => {
      const { id } = await runningCluster();
      const { body } = await get(`/v2/kubernetes/clusters/${id}/credentials?expiry_seconds=60`);
      const lasting = (await get(`/v2/kubernetes/clusters/${id}/credentials?expiry_seconds=0`)).body.token;
      await post("/local/clock", { advanceSeconds: 61 });
      assert.deepEqual(await review(body.token), { authenticated: false });
      assert.equal((await review(lasting)).authenticated, true);
      await remove(`/v2/kubernetes/clusters/${id}`);
      await until(
        () => review(lasting),
        ({ authenticated }) => !authenticated,
      );
    });

    it("must also come as a kubeconfig with a token of its own", async () => {
      const { id } = await runningCluster();
      const answer = await get(`/v2/kubernetes/clusters/${id}/kubeconfig`);
      const [, token = ""] = /token: (\w+)/.exec(String(answer.body)) ?? [];
      assert.equal((await review(token)).authenticated, true);
      assert.match(String(answer.body), /current-context: do-fra1-hobnob/);
    });

    it("must tell its own time in every answer, so that a client can compare", async () => {
      await post("/local/clock", { advanceSeconds: 86_400 });
      const ahead = Date.parse((await get("/v2/account")).headers.get("date") ?? "") - Date.now();
      assert.ok(Math.abs(ahead - 86_400_000) < 5000, `${ahead} ms ahead`);
    });
  });

  describe("zones and records", () => {
    beforeEach(() => post("/v2/domains", { name: "example.com" }));
    const records = "/v2/domains/example.com/records";

    it("must not be made twice, and take their records with them", async () => {
      await refused(post("/v2/domains", { name: "Example.com" }), 422, "domain 'example.com': name already exists");
      await refused(post("/v2/domains", { name: "no domain" }), 422, "domain 'no domain': name is invalid");
      await post(records, { type: "A", name: "api", data: "192.0.2.1" });
      assert.equal((await remove("/v2/domains/example.com")).status, 204);
      await refused(get(records), 404, missing);
      await post("/v2/domains", { name: "example.com" });
      const types = (await get(records)).body.domain_records.map((record: Json) => record.type);
      assert.deepEqual(types, ["SOA", "NS", "NS", "NS"]);
    });

    it("must refuse records that DigitalOcean refuses", async () => {
      const refuse = (record: Json, message: string) => refused(post(records, { name: "x", ...record }), 422, message);
      await refuse({ type: "PTR", data: "a." }, "Type is not included in the list");
      await refuse({ type: "A" }, "Data can't be blank");
      await refuse({ type: "A", data: "2001:db8::1" }, "IP address did not match IPv4 format (e.g. 127.0.0.1).");
      await refuse(
        { type: "AAAA", data: "192.0.2.1" },
        "IP address did not match IPv6 format (e.g. 2001:db8::ff00:42:8329).",
      );
      await refuse({ type: "A", data: "192.0.2.1", ttl: 5 }, "TTL must be greater than or equal to 30");
      await refuse({ type: "CNAME", data: "api.example.com" }, "Data needs to end with a dot (.)");
      await refuse({ type: "MX", data: "mail.example.com." }, "Priority can't be blank");
      await refuse({ type: "SRV", data: "sip.example.com.", priority: 1 }, "Port and weight can't be blank");
      await refuse({ type: "CAA", data: "letsencrypt.org." }, "Flags and tag can't be blank");
      await refuse({ type: "MX", data: "mail.example.com.", priority: 65536 }, "priority must be between 0 and 65535");
      await refuse(
        { type: "CNAME", name: "@", data: "other.example.com." },
        "CNAME records cannot share a name with other records",
      );
      assert.equal((await get(records)).body.meta.total, 4);
    });

    it("must take every type that DigitalOcean takes, and give host names back without their final dot", async () => {
      const make = async (record: Json) => (await post(records, record)).body.domain_record.data;
      assert.equal(await make({ type: "A", name: "api", data: "192.0.2.1" }), "192.0.2.1");
      assert.equal(await make({ type: "AAAA", name: "api", data: "2001:db8::1" }), "2001:db8::1");
      assert.equal(await make({ type: "TXT", name: "@", data: "v=spf1 -all" }), "v=spf1 -all");
      assert.equal(await make({ type: "CNAME", name: "www", data: "api.example.com." }), "api.example.com");
      assert.equal(await make({ type: "MX", name: "@", data: "mail.example.com.", priority: 10 }), "mail.example.com");
      assert.equal(await make({ type: "NS", name: "sub", data: "ns.example.net." }), "ns.example.net");
      assert.equal(
        await make({ type: "SRV", name: "_sip._tcp", data: "sip.example.com.", priority: 0, weight: 0, port: 5060 }),
        "sip.example.com",
      );
      assert.equal(
        await make({ type: "CAA", name: "@", data: "letsencrypt.org.", flags: 0, tag: "issue" }),
        "letsencrypt.org",
      );
      const found = await get(`${records}?type=A&name=api.example.com`);
      assert.deepEqual(
        found.body.domain_records.map((record: Json) => record.data),
        ["192.0.2.1"],
      );
    });

    it("must change and delete a record in place", async () => {
      const { id } = (await post(records, { type: "CNAME", name: "www", data: "a.example.com." })).body.domain_record;
      const changed = (await put(`${records}/${id}`, { type: "CNAME", name: "www", ttl: 300 })).body.domain_record;
      assert.deepEqual([changed.id, changed.data, changed.ttl], [id, "a.example.com", 300]);
      await refused(put(`${records}/${id}`, { data: "b.example.com" }), 422, "Data needs to end with a dot (.)");
      assert.equal((await remove(`${records}/${id}`)).status, 204);
      await refused(get(`${records}/${id}`), 404, missing);
    });
  });

  describe("certificates", () => {
    const certificate = { name: "web", type: "lets_encrypt", dns_names: ["api.example.com", "docs.example.com"] };
    beforeEach(() => post("/v2/domains", { name: "example.com" }));

    it("must be pending first, and be verified only for zones of the account", async () => {
      await post("/local/settings", { latency: { certificate: 0.05 } });
      const { status, body } = await post("/v2/certificates", certificate);
      assert.deepEqual([status, body.certificate.state], [202, "pending"]);
      await until(
        async () => (await get(`/v2/certificates/${body.certificate.id}`)).body.certificate.state,
        (state) => state === "verified",
      );
      await refused(
        post("/v2/certificates", { ...certificate, name: "b", dns_names: ["api.example.com", "api.example.org"] }),
        422,
        "one or more of the domain names are not managed by DigitalOcean DNS: api.example.org",
      );
      await refused(
        post("/v2/certificates", { ...certificate, dns_names: ["example.com"] }),
        422,
        "certificate name 'web' is already in use",
      );
      const found = await get("/v2/certificates?name=web");
      assert.equal(found.body.meta.total, 1);
    });

    it("must not be deleted while a balancer uses them", async () => {
      const { id } = (await post("/v2/certificates", certificate)).body.certificate;
      await until(
        async () => (await get(`/v2/certificates/${id}`)).body.certificate.state,
        (state) => state === "verified",
      );
      const controllers = accountForControllers(account.store);
      const https = { entry_protocol: "https", entry_port: 443, target_protocol: "http", target_port: 80 };
      await assert.rejects(
        controllers.createBalancer(balancer({ forwarding_rules: [{ ...https, certificate_id: "x" }] })),
        { message: 'certificate "x" not found' },
      );
      const made = await controllers.createBalancer(balancer({ forwarding_rules: [{ ...https, certificate_id: id }] }));
      const inUse = "Make sure the certificate is not in use before deleting it";
      await refused(remove(`/v2/certificates/${id}`), 403, inUse);
      await remove(`/v2/load_balancers/${made.id}`);
      assert.equal((await remove(`/v2/certificates/${id}`)).status, 204);
    });
  });

  describe("balancers and volumes", () => {
    it("must give a new balancer another address than the one before it", async () => {
      const controllers = accountForControllers(account.store);
      const first = await controllers.createBalancer(balancer({}));
      await controllers.deleteBalancer(first.id);
      const second = await controllers.createBalancer(balancer({}));
      assert.notEqual(first.ip, second.ip);
      assert.deepEqual([first.status, first.ipv6], ["new", undefined]);
      assert.equal((await controllers.activateBalancer(second.id)).status, "active");
      assert.equal((await get(`/v2/load_balancers/${second.id}`)).body.load_balancer.region.slug, "fra1");
    });

    it("must not delete an attached volume, attach it twice, or shrink it", async () => {
      const controllers = accountForControllers(account.store);
      const request = { name: "pvc-1", size_gigabytes: 10, region: "fra1", tags: [] };
      const { id } = await controllers.createVolume(request);
      assert.equal((await controllers.createVolume(request)).id, id);
      await controllers.attachVolume(id, 1);
      await controllers.attachVolume(id, 1);
      await assert.rejects(controllers.attachVolume(id, 2), {
        message: "This volume is already attached to another Droplet",
      });
      const attached = "This volume is attached to a Droplet; detach it before deleting it";
      await refused(remove(`/v2/volumes/${id}`), 409, attached);
      await assert.rejects(controllers.resizeVolume(id, 5), {
        message: "new size must be larger than the current size",
      });
      assert.equal((await controllers.resizeVolume(id, 20)).size_gigabytes, 20);
      await controllers.detachVolume(id, 1);
      assert.equal((await remove(`/v2/volumes/${id}`)).status, 204);
      await controllers.deleteVolume(id);
    });
  });

  describe("with a control plane behind its cluster", () => {
    const directory = mkdtempSync(join(tmpdir(), "account-"));
    const file = join(directory, "state.json");
    after(() => rmSync(directory, { recursive: true }));
    const calls: string[] = [];
    const endpoint = { server: "https://127.0.0.1:6443", caData: "Y2E=" };
    const runtime: Runtime = {
      isAlive: () => true,
      create: async ({ name }) => {
        calls.push(`create ${name}`);
        return endpoint;
      },
      resume: async ({ name }) => {
        calls.push(`resume ${name}`);
        return { ...endpoint, server: "https://127.0.0.1:6444" };
      },
      delete: async ({ name }) => void calls.push(`delete ${name}`),
      addNode: async (_cluster, { name }) => void calls.push(`add to ${name}`),
      updateNode: async (_cluster, { labels }, _node, removed) => {
        calls.push(`label ${Object.keys(labels)} not ${removed}`);
      },
      removeNode: async (_cluster, { name }) => void calls.push(`remove ${name}`),
      stop: async () => void calls.push("stop"),
    };
    const begin = async (changes: Partial<Runtime> = {}) => {
      await account.close();
      calls.length = 0;
      account = await startAccount({ file, runtime: () => ({ ...runtime, ...changes }) });
      const latency = { cluster: 0, clusterDeletion: 0, node: 0, certificate: 0 };
      await post("/local/settings", { latency });
    };
    const called = (wanted: string[]) =>
      until(
        async () => [...calls],
        (made) => made.length >= wanted.length,
      ).then((made) => assert.deepEqual(made, wanted));
    beforeEach(() => rmSync(file, { force: true }));

    it("must give that control plane's address, and refuse a second cluster", async () => {
      await begin();
      const cluster = await runningCluster();
      assert.deepEqual([cluster.endpoint, cluster.ipv4], ["https://127.0.0.1:6443", "127.0.0.1"]);
      await called(["create hobnob", "add to system", "add to system", "add to system"]);
      await refused(
        post("/v2/kubernetes/clusters", { ...spec, name: "other" }),
        422,
        "this simulated account runs one cluster at a time: delete the other one first",
      );
      await post("/local/settings", { withCluster: false });
      await runningCluster({ name: "planned" });
      assert.equal(calls.length, 4, "a cluster of a preview has nothing behind it");
      await remove(`/v2/kubernetes/clusters/${cluster.id}`);
      await until(
        async () => calls.at(-1),
        (last) => last === "delete hobnob",
      );
    });

    it("must give nodes their pool's labels, and take away as many as the pool loses", async () => {
      await begin();
      const { id, node_pools } = await runningCluster({
        node_pools: [{ ...pool, count: 2, labels: { a: "1", b: "1" } }],
      });
      calls.length = 0;
      const path = `/v2/kubernetes/clusters/${id}/node_pools/${node_pools[0].id}`;
      await put(path, { name: "system", labels: { a: "2" } });
      await called(["label a not b", "label a not b"]);
      await put(path, { name: "system", count: 1 });
      await called(["label a not b", "label a not b", `remove ${node_pools[0].nodes[1].name}`]);
    });

    it("must say why a cluster could not be made", async () => {
      await begin({ create: () => Promise.reject(new Error("no disk space")) });
      const { id } = (await post("/v2/kubernetes/clusters", spec)).body.kubernetes_cluster;
      const { status } = await until(
        () => readCluster(id),
        (cluster) => cluster.status.state !== "provisioning",
      );
      assert.deepEqual(status, { state: "error", message: "no disk space" });
    });

    it("must finish after a restart what it had begun, and not be ready before", async () => {
      let cutOff = () => {};
      const create = () =>
        new Promise<never>((_, reject) => {
          cutOff = () => reject(new Error("ended half-way"));
        });
      const stop = async () => {
        cutOff();
        await sleep(10);
      };
      await begin({ create, stop });
      await post("/v2/kubernetes/clusters", spec);
      await begin();
      await called(["create hobnob", "add to system", "add to system", "add to system"]);
      await until(
        async () => (await get("/v2/kubernetes/clusters")).body.kubernetes_clusters[0].status.state,
        (state) => state === "running",
      );
      await account.close();
      assert.equal(calls.at(-1), "stop");

      let resumed = () => {};
      const resuming = new Promise<void>((resolve) => {
        resumed = resolve;
      });
      const port = await getPort();
      const starting = startAccount({
        port,
        file,
        runtime: () => ({ ...runtime, resume: (cluster) => resuming.then(() => runtime.resume(cluster)) }),
      });
      const health = async () => (await fetch(`http://127.0.0.1:${port}/local/health`)).status;
      await until(
        () => health().catch(() => 0),
        (status) => status === 503,
      );
      resumed();
      account = await starting;
      assert.equal(await health(), 200);
      const [cluster] = (await get("/v2/kubernetes/clusters")).body.kubernetes_clusters;
      assert.equal(cluster.endpoint, "https://127.0.0.1:6444");
    });

    it("must fail to start, and leave nothing running, where its cluster does not start", async () => {
      await begin();
      await runningCluster();
      await account.close();
      calls.length = 0;
      const resume = () => Promise.reject(new Error("no etcd"));
      await assert.rejects(startAccount({ file, runtime: () => ({ ...runtime, resume }) }), { message: "no etcd" });
      assert.deepEqual(calls, ["stop"]);
      account = await startAccount({});
    });
  });

  describe("its own settings", () => {
    it("must be refused whole where one is unknown or wrong", async () => {
      const before = (await get("/local/settings")).body;
      assert.equal((await post("/local/settings", { latncy: {} })).status, 422);
      assert.equal((await post("/local/settings", { kubernetesVersions: ["1.36"] })).status, 422);
      assert.equal((await post("/local/clock", { advanceSeconds: -1 })).status, 422);
      assert.deepEqual((await get("/local/settings")).body, before);
    });
  });
});

const balancer = (changes: Partial<BalancerRequest>): BalancerRequest => ({
  name: "web",
  type: "REGIONAL",
  network: "EXTERNAL",
  network_stack: "IPV4",
  size_unit: 1,
  region: "fra1",
  tags: [],
  forwarding_rules: [],
  health_check: {},
  sticky_sessions: {},
  redirect_http_to_https: true,
  disable_lets_encrypt_dns_records: true,
  enable_proxy_protocol: false,
  enable_backend_keepalive: false,
  ...changes,
});
