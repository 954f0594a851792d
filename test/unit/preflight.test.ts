import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import * as pulumi from "@pulumi/pulumi";
import { type Answer, decode, encode } from "dns-packet";
import type { Config } from "../../config";
import { planVersion, preflight } from "../../preflight";
import type { fromState } from "../../previousRun";
import { ConfigurationError, type Violation } from "../../violations";
import { withCli } from "../aws/account";

const ON_OFFER = ["1.36.3-do.0", "1.36.10-do.1", "1.36.10-do.0", "1.35.7-do.0"];

const OPTIONS = {
  versions: ON_OFFER.map((slug) => ({ slug })),
  regions: ["ams3", "fra1", "nyc3"].map((slug) => ({ slug })),
  sizes: ["s-1vcpu-2gb", "s-2vcpu-4gb", "s-4vcpu-8gb", "s-4vcpu-8gb-amd", "c-2", "c-4"].map((slug) => ({ slug })),
};

type Reply = { status: number; body?: unknown; silent?: boolean };

/** An account that answers with `replies` by path, and remembers what it was asked. */
let account: Server;
let replies: Record<string, Reply>;
let asked: string[];
let env: NodeJS.ProcessEnv;
/** The stack's own, as the engine tells it. */
let state: Parameters<typeof fromState>[0] = {};

const url = () => `http://127.0.0.1:${(account.address() as AddressInfo).port}`;

function config(changes: { cluster?: object; dns?: object; tls?: object; elasticsearch?: object } = {}): Config {
  return {
    domain: "example.com",
    cluster: {
      provider: "digitalocean",
      name: "hobnob-dev",
      region: "fra1",
      version: "1.36",
      vpcCidr: "10.10.0.0/20",
      systemPool: { size: "s-2vcpu-4gb", count: 3 },
      workerPools: {},
      ...changes.cluster,
    },
    elasticsearch: { replicas: 3, memory: "1Gi", cpu: "250m", ...changes.elasticsearch },
    api: { replicas: 3, memory: "192Mi", cpu: "100m" },
    ingress: { replicas: 2 },
    dns: { zone: "create", ...changes.dns },
    tls: { enabled: false, ...changes.tls },
  } as unknown as Config;
}

const existing = { provider: "existing", context: "kind" };

const vpc = (name: string, ip_range: string, region = "fra1") => ({ name, ip_range, region, default: false });
const ofRegion = (region: string, ip_range: string) => ({
  ...vpc(`default-${region}`, ip_range, region),
  default: true,
});
const VPCS = [ofRegion("ams3", "10.110.0.0/20"), ofRegion("fra1", "10.114.0.0/20")];

async function violations(checked: Config, timeoutMs?: number): Promise<Violation[]> {
  try {
    await preflight(checked, { env, timeoutMs });
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigurationError, String(error));
    return error.violations;
  }
}

describe("preflight", () => {
  before(async () => {
    const mocks = { newResource: () => ({ id: "", state: {} }), call: () => ({ outputs: state }) };
    await pulumi.runtime.setMocks(mocks, "hobnob", "dev", false, "organization");
    account = createServer((request, response) => {
      const path = request.url ?? "";
      asked.push(`${request.method} ${path} ${request.headers.authorization}`);
      const { status, body, silent } = replies[path.split("?page")[0] ?? ""] ?? { status: 404 };
      if (silent) return;
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body ?? {}));
    });
    await new Promise<void>((listening) => account.listen(0, "127.0.0.1", listening));
  });
  after(() => account.close().closeAllConnections());

  beforeEach(() => {
    asked = [];
    replies = {
      "/v2/kubernetes/options": { status: 200, body: { options: OPTIONS } },
      "/v2/kubernetes/clusters?per_page=200&page=1": { status: 200, body: { kubernetes_clusters: [] } },
    };
    setVpcs(VPCS);
    env = { DIGITALOCEAN_TOKEN: "test-token", DIGITALOCEAN_API_URL: url() };
  });

  const setVpcs = (vpcs: object[]) => {
    replies["/v2/vpcs?per_page=200&page=1"] = { status: 200, body: { vpcs } };
  };
  const setClusters = (...kubernetes_clusters: object[]) => {
    replies["/v2/kubernetes/clusters?per_page=200&page=1"] = { status: 200, body: { kubernetes_clusters } };
  };

  it("must read with the token what it asks for, and nothing that mints a credential", async () => {
    assert.deepEqual(await preflight(config(), { env }), { version: "1.36.10-do.1", upgrade: false });
    assert.deepEqual(asked.sort(), [
      "GET /v2/domains/example.com Bearer test-token",
      "GET /v2/kubernetes/clusters?per_page=200&page=1 Bearer test-token",
      "GET /v2/kubernetes/options Bearer test-token",
      "GET /v2/vpcs?per_page=200&page=1 Bearer test-token",
    ]);
  });

  it("must find its cluster on any page of the list", async () => {
    const first = "/v2/kubernetes/clusters?per_page=200&page=1";
    const links = { pages: { next: `${url()}/v2/kubernetes/clusters?page=2` } };
    const cluster = (name: string, version: string) => ({ kubernetes_clusters: [{ name, version }] });
    replies[first] = { status: 200, body: { ...cluster("other", "1.35.7-do.0"), links } };
    replies["/v2/kubernetes/clusters?per_page=200&page=2"] = {
      status: 200,
      body: cluster("hobnob-dev", "1.36.3-do.0"),
    };
    assert.deepEqual(await preflight(config(), { env }), { version: "1.36.3-do.0", upgrade: false });
  });

  it("must refuse what would lose what an earlier run made, with all else", async () => {
    const urn = "urn:pulumi:dev::hobnob::hobnob:platform:Zone$digitalocean:index/domain:Domain::zone";
    state = { [urn]: { outputs: { name: "example.org" } } };
    try {
      const found = await violations(config({ cluster: { protect: true, region: "mars1" } }));
      assert.deepEqual(found.map(({ key }) => key).sort(), ["hobnob:cluster.region", "hobnob:domain"]);
    } finally {
      state = {};
    }
  });

  it("must ask nothing where nothing is DigitalOcean's", async () => {
    assert.equal(await preflight(config({ cluster: existing, dns: { zone: "none" } }), { env }), undefined);
    assert.deepEqual(asked, []);
  });

  it("must refuse a region, sizes and a version that the account does not offer, all at once", async () => {
    const cluster = {
      region: "fra2",
      version: "1.30",
      systemPool: { size: "s-2vcpu-5gb", count: 3 },
      workerPools: { workers: { size: "s-4vcpu-8gb-intel", count: 3, taints: [] } },
    };
    assert.deepEqual(await violations(config({ cluster })), [
      {
        key: "hobnob:cluster.region",
        given: '"fra2"',
        allowed: "ams3, fra1, nyc3",
        command: "pulumi config set --path 'hobnob:cluster.region' fra1 --stack dev",
      },
      {
        key: "hobnob:cluster.version",
        given: '"1.30"',
        allowed: "on offer: 1.36, 1.35",
        command: "pulumi config set --path 'hobnob:cluster.version' 1.36 --stack dev",
      },
      {
        key: "hobnob:cluster.systemPool.size",
        given: '"s-2vcpu-5gb"',
        allowed:
          "a size that the account offers for Kubernetes, such as s-2vcpu-4gb, s-1vcpu-2gb, s-4vcpu-8gb, s-4vcpu-8gb-amd",
        command: "pulumi config set --path 'hobnob:cluster.systemPool.size' s-2vcpu-4gb --stack dev",
      },
      {
        key: "hobnob:cluster.workerPools.workers.size",
        given: '"s-4vcpu-8gb-intel"',
        allowed:
          "a size that the account offers for Kubernetes, such as s-4vcpu-8gb-amd, s-4vcpu-8gb, s-1vcpu-2gb, s-2vcpu-4gb",
        command: "pulumi config set --path 'hobnob:cluster.workerPools.workers.size' s-4vcpu-8gb-amd --stack dev",
      },
    ]);
  });

  it("must refuse to switch off a highly available control plane, which the account would refuse half-way", async () => {
    const kubernetes_clusters = [{ name: "hobnob-dev", version: "1.36.3-do.0", ha: true }];
    replies["/v2/kubernetes/clusters?per_page=200&page=1"] = { status: 200, body: { kubernetes_clusters } };
    assert.deepEqual(await violations(config({ cluster: { ha: false } })), [
      {
        key: "hobnob:cluster.ha",
        given: "false",
        allowed: "true, as the cluster's highly available control plane cannot be switched off",
        command: "pulumi config set --path 'hobnob:cluster.ha' true --stack dev",
      },
    ]);
    assert.deepEqual(await violations(config({ cluster: { ha: true } })), []);
  });

  it("must not plan an upgrade while one is under way, in which the cluster still tells its old version", async () => {
    const cluster = { name: "hobnob-dev", version: "1.35.7-do.0" };
    setClusters({ ...cluster, status: { state: "upgrading" } });
    assert.deepEqual(await preflight(config(), { env }), { version: "1.35.7-do.0", upgrade: false });
    setClusters({ ...cluster, status: { state: "running" } });
    assert.deepEqual(await preflight(config(), { env }), { version: "1.36.10-do.1", upgrade: true });
  });

  it("must refuse a range that overlaps with another VPC of the account, in any region, and propose a free one", async () => {
    setVpcs([...VPCS, vpc("hobnob-prod", "10.10.8.0/24", "ams3"), vpc("other", "10.11.0.0/16")]);
    assert.deepEqual(await violations(config()), [
      {
        key: "hobnob:cluster.vpcCidr",
        given: '"10.10.0.0/20", which overlaps with 10.10.8.0/24 of the VPC hobnob-prod',
        allowed: "a range that no other VPC of the account has",
        command: "pulumi config set --path 'hobnob:cluster.vpcCidr' 10.12.0.0/20 --stack dev",
      },
    ]);
    setVpcs([...VPCS, vpc("hobnob-dev", "10.10.0.0/20"), vpc("other", "10.10.16.0/20")]);
    assert.deepEqual(await violations(config()), []);
  });

  it("must refuse a region whose default VPC the cluster's own would become, and stay for ever", async () => {
    setVpcs([...VPCS.slice(0, 1), vpc("other", "10.20.0.0/20")]);
    assert.deepEqual(await violations(config()), [
      {
        key: "hobnob:cluster.region",
        given: '"fra1", where the account has no default VPC',
        allowed: "a region with a default VPC: else the cluster's becomes the default one, which can never be deleted",
        command: "doctl vpcs create --name default-fra1 --region fra1",
      },
    ]);
  });

  it("must refuse to create a zone that an earlier life of the stack left, and not one that it has", async () => {
    replies["/v2/domains/example.com"] = { status: 200 };
    assert.deepEqual(await violations(config()), [
      {
        key: "hobnob:dns.zone",
        given: '"create", while the account has the zone example.com already',
        allowed: "lookup, for a zone that is there",
        command: "pulumi config set --path 'hobnob:dns.zone' lookup --stack dev",
      },
    ]);
    assert.deepEqual(await violations(config({ dns: { zone: "lookup" } })), []);
    state = { "urn:pulumi:dev::hobnob::pulumi:pulumi:Stack::hobnob-dev": {} };
    assert.equal((await violations(config())).length, 1, "an earlier run was refused");
    // The zone is made beside all else: a run can end with nothing but it.
    state = { "urn:pulumi:dev::hobnob::hobnob:platform:Zone::zone": {} };
    assert.deepEqual(await violations(config()), []);
    state = {};
  });

  it("must judge the room on sizes that only the account knows", async () => {
    const sizes = [
      { slug: "c-2", vcpus: 2, memory: 4096 },
      { slug: "c-4", vcpus: 4, memory: 8192 },
    ];
    replies["/v2/sizes?per_page=200&page=1"] = { status: 200, body: { sizes } };
    const systemPool = { size: "c-2", count: 3 };
    assert.deepEqual(await violations(config({ cluster: { systemPool } })), []);
    const [violation, ...more] = await violations(
      config({ cluster: { systemPool }, elasticsearch: { memory: "4Gi" } }),
    );
    assert.equal(violation?.key, "hobnob:cluster.systemPool");
    assert.equal(violation?.given, "3 × c-2, with one node drained room for 3.8Gi and 2.8 CPUs");
    assert.deepEqual(more, []);
  });

  it("must refuse to look up a zone that the account does not have", async () => {
    const lookup = config({ cluster: existing, dns: { zone: "lookup" } });
    assert.deepEqual(await violations(lookup), [
      {
        key: "hobnob:dns.zone",
        given: '"lookup"',
        allowed: "create, as the account has no zone example.com",
        command: "pulumi config set --path 'hobnob:dns.zone' create --stack dev",
      },
    ]);
    replies["/v2/domains/example.com"] = { status: 200 };
    assert.deepEqual(await violations(lookup), []);
  });

  for (const [status, allowed] of [
    [401, "a token of the account that has not expired"],
    [403, "a token whose scopes allow this call"],
  ] as const) {
    it(`must name the token's variable where the account answers ${status}`, async () => {
      replies["/v2/kubernetes/options"] = {
        status,
        body: { id: "Unauthorized", message: "Unable to authenticate you" },
      };
      assert.deepEqual(await violations(config()), [
        {
          key: "DIGITALOCEAN_TOKEN",
          given: `a token that GET /v2/kubernetes/options of ${url()} answers with ${status}`,
          allowed,
          command: "export DIGITALOCEAN_TOKEN=<token>",
        },
      ]);
    });
  }

  it("must say what an account that fails answers", async () => {
    replies["/v2/kubernetes/options"] = { status: 503 };
    assert.deepEqual(await violations(config()), [
      {
        key: "DIGITALOCEAN_API_URL",
        given: `${url()}, which answers GET /v2/kubernetes/options with 503`,
        allowed: "the address of DigitalOcean's API; one that is overloaded may answer a minute later",
        command: `curl --include ${url()}/v2/kubernetes/options`,
      },
    ]);
  });

  it("must name the address of an account that cannot be reached", async () => {
    const free = createServer();
    await new Promise<void>((listening) => free.listen(0, "127.0.0.1", listening));
    const { port } = free.address() as AddressInfo;
    await new Promise((closed) => free.close(closed));
    env.DIGITALOCEAN_API_URL = `http://127.0.0.1:${port}`;
    assert.deepEqual(await violations(config()), [
      {
        key: "DIGITALOCEAN_API_URL",
        given: `http://127.0.0.1:${port}, which cannot be reached (ECONNREFUSED)`,
        allowed: "the address of DigitalOcean's API; without it https://api.digitalocean.com",
        command: "unset DIGITALOCEAN_API_URL",
      },
    ]);
  });

  it("must give up on an account that does not answer", async () => {
    replies["/v2/kubernetes/options"] = { status: 200, silent: true };
    const [violation] = await violations(config(), 100);
    assert.equal(violation?.given, `${url()}, which cannot be reached (The operation was aborted due to timeout)`);
  });
});

describe("version of the cluster", () => {
  const plan = (minor: string, own?: string) => planVersion(minor, ON_OFFER, own);
  const refusal = (given: string, allowed: string, instead: string) => ({
    key: "hobnob:cluster.version",
    given: `"${given}"`,
    allowed,
    command: `pulumi config set --path 'hobnob:cluster.version' ${instead} --stack dev`,
  });

  it("must be the newest patch of its minor for a new cluster, counted and not spelled", () => {
    assert.deepEqual(plan("1.36"), { version: "1.36.10-do.1", upgrade: false });
    assert.deepEqual(plan("1.35"), { version: "1.35.7-do.0", upgrade: false });
  });

  it("must stay while the configured minor is the cluster's own, whatever becomes of the list", () => {
    assert.deepEqual(plan("1.36", "1.36.3-do.0"), { version: "1.36.3-do.0", upgrade: false });
    // Withdrawn.
    assert.deepEqual(plan("1.36", "1.36.2-do.0"), { version: "1.36.2-do.0", upgrade: false });
    // Retired.
    assert.deepEqual(plan("1.33", "1.33.9-do.0"), { version: "1.33.9-do.0", upgrade: false });
    assert.deepEqual(planVersion("1.36", [], "1.36.3-do.0"), { version: "1.36.3-do.0", upgrade: false });
  });

  it("must never go back, which would replace the cluster", () => {
    assert.deepEqual(plan("1.35", "1.36.3-do.0"), { version: "1.36.3-do.0", upgrade: false });
    assert.deepEqual(plan("1.9", "1.36.3-do.0"), { version: "1.36.3-do.0", upgrade: false });
  });

  it("must rise with the configured minor", () => {
    assert.deepEqual(plan("1.36", "1.35.1-do.0"), { version: "1.36.10-do.1", upgrade: true });
  });

  it("must not skip a minor", () => {
    const allowed = "at most 1.35, as an upgrade moves one minor at a time";
    assert.deepEqual(plan("1.36", "1.34.1-do.0"), refusal("1.36", allowed, "1.35"));
  });

  it("must be on offer where it is asked for", () => {
    assert.deepEqual(plan("1.37"), refusal("1.37", "on offer: 1.36, 1.35", "1.36"));
    assert.deepEqual(plan("1.37", "1.36.3-do.0"), refusal("1.37", "on offer: 1.36, 1.35", "1.36"));
  });
});

describe("delegation", () => {
  const digitalOcean = ["ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com"];
  let server: Socket;
  let servers: string[];
  let code: "NOERROR" | "SERVFAIL" | "NXDOMAIN" | "REFUSED";

  before(async () => {
    server = createSocket("udp4");
    server.on("message", (message, { port, address }) => {
      const { id, questions } = decode(message);
      const name = questions?.[0]?.name ?? "";
      const answers: Answer[] = servers.map((data) => ({ type: "NS", name, data }));
      const rcode = { NOERROR: 0, SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 }[code];
      server.send(encode({ type: "response", id, flags: rcode, questions, answers }), port, address);
    });
    await new Promise<void>((bound) => server.bind(0, "127.0.0.1", bound));
    env = {};
  });
  after(() => server.close());
  beforeEach(() => {
    code = "NOERROR";
    servers = digitalOcean;
  });

  const check = (enabled: boolean) =>
    violations(
      config({
        cluster: existing,
        dns: { zone: "create" },
        tls: { enabled, resolver: `127.0.0.1:${server.address().port}` },
      }),
    );
  const refusal = (now: string) => [
    {
      key: "hobnob:tls.enabled",
      given: `true, while example.com ${now}`,
      allowed:
        "true once the domain's registrar names ns1.digitalocean.com, ns2.digitalocean.com, ns3.digitalocean.com as its name servers",
      command: "pulumi config set --path 'hobnob:tls.enabled' false --stack dev; dig +short NS example.com",
    },
  ];

  it("must be to DigitalOcean's name servers before TLS is switched on", async () => {
    assert.deepEqual(await check(true), []);
    servers = ["ns1.digitalocean.com", "NS3.digitalocean.com"];
    assert.deepEqual(await check(true), []);
  });

  it("must not be to others, nor to others besides", async () => {
    servers = ["b.iana-servers.net", "a.iana-servers.net"];
    assert.deepEqual(await check(true), refusal("is delegated to a.iana-servers.net, b.iana-servers.net"));
    servers = ["ns1.digitalocean.com", "ns.evil-digitalocean.com"];
    assert.deepEqual(await check(true), refusal("is delegated to ns.evil-digitalocean.com, ns1.digitalocean.com"));
  });

  it("must be to Route 53's for a cluster at AWS, which has others for each zone", async () => {
    const aws = {
      provider: "aws",
      name: "hobnob-dev",
      region: "eu-central-1",
      version: "1.36",
      workerPools: {},
    } as unknown as Config["cluster"];
    const tls = { enabled: true, resolver: `127.0.0.1:${server.address().port}` };
    const check = () =>
      withCli({}, (cli) => {
        env = cli;
        return violations(config({ cluster: aws, dns: { zone: "create" }, tls }));
      });
    servers = ["ns-1.awsdns-01.org", "NS-22.awsdns-02.co.uk"];
    assert.deepEqual(await check(), []);
    servers = ["ns-1.awsdns-01.org", "ns1.awsdns-01.evil.org"];
    assert.match((await check())[0]?.given ?? "", /is delegated to ns-1\.awsdns-01\.org, ns1\.awsdns-01\.evil\.org/);
    servers = digitalOcean;
    assert.match((await check())[0]?.allowed ?? "", /those of the output nameServers/);
  });

  it("must be there at all", async () => {
    servers = [];
    assert.deepEqual(await check(true), refusal("is delegated to no name server"));
    code = "NXDOMAIN";
    assert.deepEqual(await check(true), refusal("is delegated to no name server"));
  });

  it("must only be warned of where it cannot be looked up", async () => {
    const warnings: string[] = [];
    const { warn } = pulumi.log;
    pulumi.log.warn = async (message: string) => void warnings.push(message);
    try {
      assert.deepEqual(await check(true), []);
      assert.deepEqual(warnings, []);
      servers = [];
      for (code of ["REFUSED", "SERVFAIL"] as const) assert.deepEqual(await check(true), []);
      const warning = (reason: string) =>
        `Whether example.com is delegated to DigitalOcean cannot be looked up (${reason}); without it, no certificate is issued.`;
      assert.deepEqual(warnings, [warning("EREFUSED"), warning("ESERVFAIL")]);
    } finally {
      pulumi.log.warn = warn;
    }
  });

  it("must not be asked for while TLS is off", async () => {
    servers = [];
    assert.deepEqual(await check(false), []);
  });
});
