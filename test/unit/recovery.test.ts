import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Runner, recover } from "../../operations/recovery";
import type { Deployment, PendingOperation, StateResource } from "../../operations/state";
import { OWNER_LABEL, ownerOf } from "../../owner";

const owner = ownerOf("organization", "hobnob", "dev");
const others = ownerOf("organization", "hobnob", "prod");

// biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as paths
type Answers = Record<string, any>;

const urn = (type: string, name: string) => `urn:pulumi:dev::hobnob::${type}::${name}`;
const root = { urn: urn("pulumi:pulumi:Stack", "hobnob-dev"), type: "pulumi:pulumi:Stack", custom: false };
const resource = (type: string, name: string, inputs: object, id?: string): StateResource => ({
  urn: urn(type, name),
  type,
  custom: true,
  inputs: inputs as Record<string, unknown>,
  ...(id !== undefined && { id, outputs: inputs as Record<string, unknown> }),
});

const kubeProvider = urn("pulumi:providers:kubernetes", "cluster");
const onCluster = { provider: `${kubeProvider}::p` };
const object = (
  kind: string,
  module: string,
  name: string,
  id?: string,
  labels: object = { [OWNER_LABEL]: owner.label },
) => {
  const apiVersion = module.replace("core/", "");
  const metadata = { name, namespace: "hobnob", labels };
  return { ...resource(`kubernetes:${module}:${kind}`, name, { apiVersion, kind, metadata }, id), ...onCluster };
};

const vpc = (id?: string) =>
  resource("digitalocean:index/vpc:Vpc", "cluster", { name: "hobnob-dev", description: owner.description }, id);
const cluster = (id?: string) =>
  resource(
    "digitalocean:index/kubernetesCluster:KubernetesCluster",
    "cluster",
    { name: "hobnob-dev", tags: ["hobnob-dev", owner.tag] },
    id,
  );
const pool = resource("digitalocean:index/kubernetesNodePool:KubernetesNodePool", "cluster-workers", {
  clusterId: "c1",
  name: "workers",
  tags: [owner.tag],
});
const zone = resource("digitalocean:index/domain:Domain", "zone", { name: "example.com" });
const record = resource("digitalocean:index/dnsRecord:DnsRecord", "records-api-a", {
  domain: "example.com",
  name: "api",
  type: "A",
  value: "203.0.113.10",
});
const certificate = resource("digitalocean:index/certificate:Certificate", "certificate", {
  name: "hobnob-0a1b2c3d",
  type: "lets_encrypt",
  domains: ["api.example.com", "docs.example.com"],
});
const deployment = object("Deployment", "apps/v1", "backend");

const soa = { id: 1, type: "SOA", name: "@", data: "1800" };
const mail = { id: 7, type: "MX", name: "@", data: "mail.example.net" };
const address = { id: 8, type: "A", name: "api", data: "203.0.113.10" };
const live = (labels: object, more: object = {}) => ({
  metadata: { name: "backend", namespace: "hobnob", labels, ...more },
});
const deploymentPath = "/apis/apps/v1/namespaces/hobnob/deployments/backend";

/** An empty account and an empty cluster that serves Deployments, Secrets and ConfigMaps. */
const nothing: Answers = {
  "/v2/vpcs": { vpcs: [] },
  "/v2/kubernetes/clusters": { kubernetes_clusters: [] },
  "/v2/kubernetes/clusters/c1": {},
  "/v2/kubernetes/clusters/c1/node_pools": { node_pools: [] },
  "/v2/domains": { domains: [] },
  "/v2/certificates": { certificates: [] },
  "/api/v1": { resources: [{ name: "secrets", kind: "Secret", namespaced: true, verbs: ["list", "delete"] }] },
  "/apis": { groups: [{ name: "apps", versions: [], preferredVersion: { groupVersion: "apps/v1", version: "v1" } }] },
  "/apis/apps/v1": {
    resources: [{ name: "deployments", kind: "Deployment", namespaced: true, verbs: ["list", "delete"] }],
  },
  "/api/v1/secrets": { items: [] },
  "/apis/apps/v1/deployments": { items: [] },
};

describe("recovery", () => {
  let server: Server;
  let url: string;
  /** By path; a function is asked each time. */
  let answers: Answers;
  let deleted: string[];

  before(async () => {
    server = createServer((request, response) => {
      const path = new URL(request.url ?? "", "http://test").pathname;
      if (request.method === "DELETE") deleted.push(path);
      const known = answers[path];
      const answer = request.method === "DELETE" ? {} : typeof known === "function" ? known() : known;
      response.setHeader("content-type", "application/json");
      const status = (answer as { code?: number } | undefined)?.code ?? (answer ? 200 : 404);
      response.writeHead(status).end(JSON.stringify(answer ?? { id: "not_found", code: 404 }));
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => server.close());
  beforeEach(() => {
    deleted = [];
  });

  const kubeconfig = () =>
    JSON.stringify({
      clusters: [{ name: "c", cluster: { server: url, "insecure-skip-tls-verify": true } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "c" } }],
      users: [{ name: "c", user: { token: "t" } }],
      "current-context": "c",
    });

  interface Case {
    pending?: PendingOperation[];
    resources?: StateResource[];
    world?: Answers;
    last?: string;
    planned?: StateResource[];
    op?: string;
    wasKilled?: boolean;
  }

  /** Recovers a stack in such a state; what became of the state, what was said and which commands were run. */
  async function recovering({ pending = [], resources = [], world = {}, last = "succeeded", ...more }: Case) {
    answers = { ...nothing, ...world };
    const provider = {
      ...resource("pulumi:providers:kubernetes", "cluster", {
        kubeconfig: { "4dabf18193072939515e22adb298388d": "1b47", plaintext: JSON.stringify(kubeconfig()) },
      }),
      id: "p",
    };
    let state: { deployment: Deployment } = {
      deployment: { resources: [root, provider, ...resources], pending_operations: pending },
    };
    const commands: string[] = [];
    const said: string[] = [];
    const runner: Runner = {
      stack: "dev",
      environment: { DIGITALOCEAN_TOKEN: "test", DIGITALOCEAN_API_URL: url },
      say: (line) => said.push(line),
      async pulumi(args, input) {
        commands.push(args.join(" "));
        if (args[1] === "import") state = JSON.parse(input ?? "");
        if (args[1] === "history") return JSON.stringify([{ kind: "update", result: last }]);
        if (args[0] === "preview") {
          return JSON.stringify({
            steps: (more.planned ?? []).map((newState) => ({ op: more.op ?? "create", newState })),
          });
        }
        return JSON.stringify(state);
      },
    };
    const flags = await recover(runner, "up", more.wasKilled);
    const { resources: left = [], pending_operations: stillPending } = state.deployment;
    const entered = left.filter((one) => one !== root && one.urn !== provider.urn && one.urn !== root.urn);
    return { entered, stillPending, commands, flags, said: said.join("\n") };
  }

  const creating = (one: StateResource): PendingOperation => ({ type: "creating", resource: one });

  const records = (...found: object[]) => ({
    "/v2/domains/example.com": {},
    "/v2/domains": { domains: [{ name: "example.com" }] },
    "/v2/domains/example.com/records": { domain_records: found },
  });
  const kubernetesCluster = (tags: string[], state = "running") => ({
    "/v2/kubernetes/clusters": {
      kubernetes_clusters: [{ id: "c1", name: "hobnob-dev", tags, status: { state }, node_pools: [] }],
    },
  });
  const certificates = (...names: string[]) => ({
    "/v2/certificates": { certificates: [{ id: "x", name: "hobnob-0a1b2c3d", dns_names: names }] },
  });

  /** For each type: what was being made, the world in which it is ours and its id, and that in which it is another's. */
  const types: { wanted: StateResource; ours: Answers; id: string; foreign: Answers; named: RegExp }[] = [
    {
      wanted: vpc(),
      ours: { "/v2/vpcs": { vpcs: [{ id: "v1", name: "hobnob-dev", description: owner.description }] } },
      id: "v1",
      foreign: { "/v2/vpcs": { vpcs: [{ id: "v1", name: "hobnob-dev", description: "" }] } },
      named: /the VPC hobnob-dev \(v1\).*\n.*doctl vpcs delete v1/,
    },
    {
      wanted: cluster(),
      ours: kubernetesCluster(["k8s", owner.tag]),
      id: "c1",
      foreign: kubernetesCluster(["k8s", others.tag]),
      named: /the cluster hobnob-dev \(c1\)/,
    },
    {
      wanted: pool,
      ours: {
        "/v2/kubernetes/clusters/c1/node_pools": { node_pools: [{ id: "n1", name: "workers", tags: [owner.tag] }] },
      },
      id: "n1",
      foreign: { "/v2/kubernetes/clusters/c1/node_pools": { node_pools: [{ id: "n1", name: "workers", tags: [] }] } },
      named: /the node pool workers \(n1\)/,
    },
    {
      wanted: zone,
      ours: records(soa),
      id: "example.com",
      foreign: records(soa, mail),
      named: /the zone example\.com, which holds records of others \(such as MX @\)/,
    },
    {
      wanted: certificate,
      ours: certificates("docs.example.com", "api.example.com"),
      id: "hobnob-0a1b2c3d",
      foreign: certificates("www.example.com"),
      named: /the certificate hobnob-0a1b2c3d, which covers www\.example\.com/,
    },
    {
      wanted: deployment,
      ours: { [deploymentPath]: live({ [OWNER_LABEL]: owner.label }) },
      id: "hobnob/backend",
      foreign: { [deploymentPath]: live({ [OWNER_LABEL]: others.label }) },
      named: /Deployment hobnob\/backend.*\n.*kubectl label Deployment backend --namespace hobnob hobnob\/owner=/,
    },
  ];

  for (const { wanted, ours, id, foreign, named } of types) {
    const kind = wanted.type.split(":").at(-1);

    it(`must take up a ${kind} of ours that was made while its run was cut off`, async () => {
      const { entered, stillPending } = await recovering({ pending: [creating(wanted)], world: ours });
      assert.deepEqual(
        entered.map((one) => [one.urn, one.id]),
        [[wanted.urn, id]],
      );
      assert.deepEqual(entered[0]?.inputs, wanted.inputs, "what the program asked for is kept");
      assert.deepEqual(stillPending, []);
    });

    it(`must never take up a ${kind} of another's, and name it`, async () => {
      const { entered, stillPending, said } = await recovering({ pending: [creating(wanted)], world: foreign });
      assert.deepEqual(entered, []);
      assert.deepEqual(stillPending, []);
      assert.match(said, named);
    });

    it(`must forget a ${kind} that was never made`, async () => {
      const { entered, stillPending, said } = await recovering({ pending: [creating(wanted)] });
      assert.deepEqual(entered, []);
      assert.deepEqual(stillPending, []);
      assert.doesNotMatch(said, /Not taken up/);
    });
  }

  it("must take up a record by name, type and value alone, and no record that the state has", async () => {
    const known = { ...record, urn: `${record.urn}-old`, id: "9", outputs: record.inputs };
    const twin = { ...address, id: 9 };
    const alike = [
      { ...address, id: 5, data: "203.0.113.11" },
      { ...address, id: 6, type: "TXT" },
      { ...address, name: "www", id: 10 },
    ];
    const found = await recovering({
      pending: [creating(record)],
      resources: [known],
      world: records(...alike, twin, address),
    });
    assert.equal(found.entered.find((one) => one.urn === record.urn)?.id, "8");
    const none = await recovering({ pending: [creating(record)], resources: [known], world: records(...alike, twin) });
    assert.equal(
      none.entered.find((one) => one.urn === record.urn),
      undefined,
    );
  });

  it("must take up a zone whose only record was being made with it", async () => {
    const { entered } = await recovering({ pending: [creating(zone), creating(record)], world: records(soa, address) });
    assert.deepEqual(entered.map(({ id }) => id).sort(), ["8", "example.com"]);
  });

  it("must wait for a cluster that is still being made", async () => {
    let asked = 0;
    const world = {
      "/v2/kubernetes/clusters": () =>
        kubernetesCluster([owner.tag], asked++ < 1 ? "provisioning" : "running")["/v2/kubernetes/clusters"],
    };
    const { entered, said } = await recovering({ pending: [creating(cluster())], world });
    assert.equal(entered[0]?.id, "c1");
    assert.match(said, /is still being made/);
  });

  it("must wait for an API server that has only just started", async () => {
    let asked = 0;
    const world = {
      [deploymentPath]: () =>
        asked++ < 1 ? { kind: "Status", reason: "TooManyRequests", code: 429 } : live({ [OWNER_LABEL]: owner.label }),
    };
    const { entered } = await recovering({ pending: [creating(deployment)], world });
    assert.equal(entered.length, 1);
    assert.ok(asked > 1);
  });

  it("must wait for an object that is being deleted, and not take it up", async () => {
    let asked = 0;
    const leaving = live({ [OWNER_LABEL]: owner.label }, { deletionTimestamp: "2026-01-01T00:00:00Z" });
    const world = { [deploymentPath]: () => (asked++ < 1 ? leaving : undefined) };
    assert.deepEqual((await recovering({ pending: [creating(deployment)], world })).entered, []);
  });

  it("must change nothing while the cluster cannot be asked", async () => {
    const { stillPending } = await recovering({ pending: [creating(deployment)] });
    assert.deepEqual(stillPending, []);
    const closed = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => closed.once("listening", resolve));
    const { port } = closed.address() as AddressInfo;
    closed.close();
    const [open] = [url];
    url = `http://127.0.0.1:${port}`;
    try {
      const world = {};
      await assert.rejects(
        recovering({ pending: [creating(deployment)], world }),
        /cannot be asked[\s\S]*Nothing was changed/,
      );
    } finally {
      url = open;
    }
  });

  it("must drop what was deleted and keep what was not", async () => {
    const gone = object("Deployment", "apps/v1", "gone", "hobnob/gone");
    const there = { ...deployment, id: "hobnob/backend" };
    const goneVpc = vpc("v9");
    const { entered } = await recovering({
      resources: [goneVpc, gone, there],
      pending: [gone, there, goneVpc].map((one) => ({ type: "deleting" as const, resource: one })),
      world: { [deploymentPath]: live({}) },
    });
    assert.deepEqual(
      entered.map(({ id }) => id),
      ["hobnob/backend"],
    );
  });

  it("must read again what was being updated", async () => {
    const there = { ...deployment, id: "hobnob/backend" };
    const { entered, flags, stillPending } = await recovering({
      resources: [there],
      pending: [{ type: "updating", resource: there }],
      world: { [deploymentPath]: live({}) },
    });
    assert.equal(entered.length, 1);
    assert.deepEqual(stillPending, []);
    assert.deepEqual(flags, ["--refresh"]);
  });

  it("must mark what a creation replaces for deletion, behind all that it refers to", async () => {
    const old = object("Secret", "core/v1", "registry", "hobnob/registry-1");
    const fresh = object("Secret", "core/v1", "registry");
    const namespace = resource("kubernetes:core/v1:Namespace", "hobnob", {}, "hobnob");
    const pending = [creating({ ...fresh, dependencies: [namespace.urn] })];
    const { entered } = await recovering({
      resources: [old, namespace],
      pending,
      world: { "/api/v1/namespaces/hobnob/secrets/registry": live({ [OWNER_LABEL]: owner.label }) },
    });
    assert.deepEqual(
      entered.map(({ id, delete: doomed = false }) => [id, doomed]),
      [
        ["hobnob", false],
        ["hobnob/registry", false],
        ["hobnob/registry-1", true],
      ],
    );
  });

  it("must take up what the engine took for a failure, as planned by the next run", async () => {
    const { entered, said } = await recovering({
      resources: [{ ...cluster("c1") }],
      last: "failed",
      planned: [vpc(), pool],
      world: {
        ...kubernetesCluster([owner.tag]),
        "/v2/vpcs": { vpcs: [{ id: "v1", name: "hobnob-dev", description: owner.description }] },
      },
    });
    assert.deepEqual(entered.map(({ id }) => id).sort(), ["c1", "v1"]);
    assert.match(said, /1 creations had been done although they failed for the engine: cluster\./);
  });

  it("must take up a replacement that the engine took for a failure, and delete what it replaces", async () => {
    const old = { ...certificate, id: "hobnob-old", inputs: { ...certificate.inputs, name: "hobnob-old" } };
    const { entered } = await recovering({
      resources: [old],
      last: "failed",
      planned: [certificate],
      op: "replace",
      world: certificates("docs.example.com", "api.example.com"),
    });
    assert.deepEqual(
      entered.map(({ id, delete: doomed = false }) => [id, doomed]),
      [
        ["hobnob-0a1b2c3d", false],
        ["hobnob-old", true],
      ],
    );
  });

  it("must not take what a replacement of the same name is to replace for the replacement", async () => {
    const there = { ...deployment, id: "hobnob/backend" };
    const world = { [deploymentPath]: live({ [OWNER_LABEL]: owner.label }) };
    const planned = await recovering({
      resources: [there],
      last: "failed",
      planned: [deployment],
      op: "replace",
      world,
    });
    assert.deepEqual(planned.entered, [there]);
    const deletedBefore = { ...there, pendingReplacement: true };
    const { entered } = await recovering({ resources: [deletedBefore], pending: [creating(deployment)], world });
    assert.deepEqual(
      entered.map(({ id, delete: doomed = false, pendingReplacement = false }) => [id, doomed, pendingReplacement]),
      [["hobnob/backend", false, false]],
    );
  });

  it("must remove what a lost creation made under a name that no run will find again, and nothing else", async () => {
    const managedFields = [{ manager: "pulumi-kubernetes-1234", operation: "Update" }];
    const labels = { [OWNER_LABEL]: owner.label };
    const named = (name: string, more: object = {}) => ({
      metadata: {
        name,
        namespace: "hobnob",
        labels,
        managedFields,
        annotations: { "pulumi.com/autonamed": "true" },
        ...more,
      },
    });
    const { said } = await recovering({
      resources: [object("Secret", "core/v1", "registry", "hobnob/registry-1")],
      last: "failed",
      world: {
        "/api/v1/secrets": {
          items: [
            named("registry-1"),
            named("registry-2"),
            named("owned", { ownerReferences: [{}] }),
            named("copied", { managedFields: [{ manager: "kube-controller-manager" }] }),
          ],
        },
      },
    });
    assert.deepEqual(deleted, ["/api/v1/namespaces/hobnob/secrets/registry-2"]);
    assert.match(said, /Removed Secret hobnob\/registry-2/);
  });

  it("must ask nothing but the backend after a run that ended well", async () => {
    const { commands, said } = await recovering({ resources: [vpc("v1")] });
    assert.deepEqual(commands.sort(), ["stack export", "stack history --json --page-size 20"]);
    assert.equal(said, "");
  });
});

describe("the owner's marks", () => {
  it("must fit what they are written into, whatever a stack is called", () => {
    for (const stack of ["dev", "a.b", "x".repeat(100), "_y_", "Stack-1"]) {
      const { label, tag } = ownerOf("acme", "hobnob", stack);
      assert.match(label, /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/);
      assert.match(tag, /^[A-Za-z0-9:_-]{1,255}$/);
    }
  });

  it("must differ wherever organization, project or stack do", () => {
    const all = [
      ["a", "b", "c"],
      ["a", "b", "c.d"],
      ["a", "b", "c-d"],
      ["a.b", "b", "c"],
      ["a", "b.b", "c"],
      ["a", "b", `${"x".repeat(80)}1`],
      ["a", "b", `${"x".repeat(80)}2`],
    ].map(([organization = "", project = "", stack = ""]) => ownerOf(organization, project, stack));
    for (const mark of ["label", "tag", "description"] as const) {
      assert.equal(new Set(all.map((one) => one[mark].toLowerCase())).size, all.length, mark);
    }
  });
});
