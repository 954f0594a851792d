import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { limitViolations } from "../../capacity";
import { loadAws, SDK } from "../../components/aws/load";
import { type Config, schema } from "../../config";
import { rules } from "../../configRules";
import { askAws, zoneViolations } from "../../preflightAws";
import { fromState, lossViolations } from "../../previousRun";
import { ConfigurationError } from "../../violations";
import { type Answers, mocks, withCli } from "../aws/account";
import { captureSettings, settingsOf } from "./stacks";

const FILE = "clusters/Pulumi.aws.yaml";

const settings = () => {
  const plain = settingsOf(FILE);
  return Object.fromEntries(Object.entries(plain).map(([key, value]) => [key.replace("hobnob:", ""), value]));
};

type Changes = Record<string, object | string>;

/** The stack of clusters/Pulumi.aws.yaml, with keys of its sections changed. */
function changed(changes: Changes = {}): Config {
  const own = settings() as Record<string, object>;
  const merged = Object.entries(changes).map(([section, value]) => [
    section,
    typeof value === "object" ? { ...own[section], ...value } : value,
  ]);
  return schema.parse({ ...own, ...Object.fromEntries(merged) }) as unknown as Config;
}

const broken = (changes: Changes = {}) =>
  rules(changed(changes) as never, {}).flatMap(({ violations }) =>
    violations.map(({ key, given }) => `${key}: ${given}`),
  );

describe("AWS by configuration", () => {
  it("must need neither a token of DigitalOcean, nor a user or password of a registry", () => {
    assert.deepEqual(broken(), []);
  });

  it("must need a login again for a registry of another", () => {
    assert.deepEqual(broken({ cluster: { imageRegistry: false } }), [
      "hobnob:registry.username: nothing",
      "hobnob:registryPassword: nothing",
    ]);
  });

  for (const [title, wrong] of Object.entries({
    "DigitalOcean's region": { region: "fra1" },
    "a region of another partition": { region: "cn-north-1" },
    "a single zone": { zones: ["a"] },
    "a zone twice": { zones: ["a", "a"] },
    "five zones": { zones: ["a", "b", "c", "d", "e"] },
    "a public range": { vpcCidr: "203.0.113.0/20" },
    "a range in which the Services are": { vpcCidr: "172.20.0.0/16" },
    "a range that is too small for pods": { vpcCidr: "10.0.0.0/21" },
    "IPv6, which the control plane doesn't have": { allowedAddresses: ["2001:db8::/32"] },
    "a group as administrator": { admins: ["arn:aws:iam::111122223333:group/all"] },
    "a pool without a limit": { workerPools: { workers: {} } },
    "a Droplet size": { workerPools: { workers: { maxCpu: 16, instanceTypes: ["s-4vcpu-8gb"] } } },
    "DigitalOcean's keys": { systemPool: { size: "s-2vcpu-4gb", count: 3 } },
  }))
    it(`must refuse ${title}`, () => {
      assert.throws(() => changed({ cluster: wrong }), /invalid|unrecognized|too_small|too_big|custom/);
    });

  it("must refuse what contradicts its protection, its network and its lock", () => {
    assert.deepEqual(broken({ dns: { deleteZone: true } }), ["hobnob:dns.deleteZone: true"]);
    assert.deepEqual(broken({ dns: { ipv6: true } }), ["hobnob:dns.ipv6: true"]);
    assert.match(broken({ cluster: { allowedAddresses: ["203.0.113.7"] } }).join(), /IncludeThisMachine: false/);
    assert.match(broken({ ingress: { expose: "NodePort" }, tls: { enabled: true } }).join(), /tls\.enabled: true/);
  });

  it("must refuse an image that no node holds", () => {
    assert.match(broken({ api: { image: "hobnob/backend:1.0.0" }, registry: { private: false } }).join(), /api\.image/);
  });

  describe("limits of pools", () => {
    const workers = (pool: object) => limitViolations(changed({ cluster: { workerPools: { workers: pool } } }));

    it("must have room for the pods and for one node more while another is drained", () => {
      assert.deepEqual(workers({ maxCpu: 5, maxMemory: "18Gi" }), []);
      const [cpu, memory] = workers({ maxCpu: 4, maxMemory: "16Gi" });
      // Elasticsearch 4 × 1 CPU and 4 GiB, one of them a drained one's successor, API 3 × 100m, ingress 2 × 100m.
      assert.equal(cpu?.key, "hobnob:cluster.workerPools.workers.maxCpu");
      assert.match(cpu?.allowed ?? "", /^room for 17\.0Gi and 4\.5 CPUs/);
      assert.match(cpu?.command ?? "", /maxCpu' 5 /);
      assert.match(memory?.command ?? "", /maxMemory' 17Gi /);
    });

    it("must count over the pools that take the pods, and not those with taints", () => {
      const small = { maxCpu: 3, maxMemory: "9Gi" };
      const taints = [{ key: "dedicated", value: "x", effect: "NoSchedule" }];
      const both = (more: object) =>
        limitViolations(changed({ cluster: { workerPools: { a: small, b: { ...small, ...more } } } })).length;
      assert.deepEqual([both({}), both({ taints })], [0, 2]);
    });

    it("must not be missing to all pools, and are unknown where there is none", () => {
      const taints = [{ key: "dedicated", value: "x", effect: "NoSchedule" }];
      assert.equal(workers({ maxCpu: 64, taints })[0]?.given, "pools with taints only");
      assert.deepEqual(limitViolations(changed({ cluster: { workerPools: {} } })), []);
    });
  });

  describe("preflight", () => {
    const ask = (answers: Answers, changes: Changes = {}) =>
      withCli(answers, (env) => {
        const config = changed(changes);
        assert.ok(config.cluster.provider === "aws");
        return askAws(config, config.cluster, env, 10_000);
      });
    const stack = (answers: Answers, more: Record<string, unknown> = {}) =>
      withCli(answers, () => captureSettings(FILE, more, { mocks }));

    it("must read what is offered, what is there and which zones there are", async () => {
      const cluster = { cluster: { version: "1.35", status: "UPDATING" } };
      const zones = { HostedZones: [{ Name: "example.org.", Config: { PrivateZone: false } }] };
      assert.deepEqual(await ask({}), {
        offered: ["1.36", "1.35"],
        own: undefined,
        upgrading: false,
        zoneExists: false,
      });
      assert.deepEqual(await ask({ cluster, zones }), {
        offered: ["1.36", "1.35"],
        own: "1.35",
        upgrading: true,
        zoneExists: true,
      });
    });

    it("must not take a private zone, or the next one of the list, for the domain's", async () => {
      const isThere = async (zone: object) => {
        const answer = await ask({ zones: { HostedZones: [zone] } });
        return "zoneExists" in answer && answer.zoneExists;
      };
      assert.equal(await isThere({ Name: "example.org.", Config: { PrivateZone: true } }), false);
      assert.equal(await isThere({ Name: "example.orgx.", Config: {} }), false);
    });

    it("must name the CLI where it is missing, and AWS's words where it refuses", async () => {
      const nowhere = await askAws(changed(), changed().cluster as never, { PATH: "/nowhere" }, 10_000);
      assert.ok(Array.isArray(nowhere));
      assert.deepEqual([nowhere[0]?.key, nowhere[0]?.given], ["PATH", "no aws on it"]);
      const expired = await ask({ versions: "\nThe SSO session has expired.\n" });
      assert.ok(Array.isArray(expired));
      assert.match(expired[0]?.given ?? "", /SSO session has expired/);
    });

    it("must refuse a version that is not on offer, before any resource", async () => {
      const cluster = { ...(settings().cluster as object), version: "1.20" };
      await assert.rejects(stack({}, { "hobnob:cluster": cluster }), (error) => {
        assert.ok(error instanceof ConfigurationError);
        assert.match(error.message, /hobnob:cluster\.version\n.*given: +"1\.20"\n.*on offer: 1\.36, 1\.35/);
        return true;
      });
    });

    it("must refuse to create a zone that is there, and to look up one that is not", () => {
      const account = { offered: [], upgrading: false };
      const of = (zone: string, zoneExists: boolean, own?: string) =>
        zoneViolations(changed({ dns: { zone } }), { ...account, zoneExists, own }).map(({ allowed }) => allowed);
      assert.match(of("create", true)[0] ?? "", /^lookup/);
      assert.match(of("lookup", false)[0] ?? "", /^create/);
      // Of a stack that is there, the zone is its own.
      assert.deepEqual([of("create", true, "1.36"), of("create", false), of("lookup", true)], [[], [], []]);
    });
  });

  describe("earlier run", () => {
    const made = { aws: { name: "hobnob-test", region: "eu-central-1", vpcCidr: "10.30.0.0/16" } };
    const refused = (cluster: object) => {
      const config = changed({ cluster: { name: "hobnob-test", ...cluster } });
      return lossViolations(config, made).map(({ key }) => key);
    };

    it("must keep its cluster, which another name, region or range would replace", () => {
      assert.deepEqual(refused({}), []);
      assert.deepEqual(refused({ name: "other", region: "eu-west-1", vpcCidr: "10.40.0.0/16" }), [
        "hobnob:cluster.name",
        "hobnob:cluster.region",
        "hobnob:cluster.vpcCidr",
      ]);
    });

    it("must not be replaced by a cluster of another cloud, in either direction", () => {
      const existing = { provider: "existing", context: "there", storageProvisioner: "local" };
      const other = schema.parse({ ...settings(), cluster: existing }) as unknown as Config;
      assert.deepEqual(
        lossViolations(other, made).map(({ key, allowed }) => [key, allowed.split(",")[0]]),
        [["hobnob:cluster.provider", "aws"]],
      );
      const digitalocean = { cluster: { name: "a", region: "fra1", size: "s-2vcpu-4gb" } };
      assert.deepEqual(
        lossViolations(changed(), digitalocean).map(({ allowed }) => allowed.split(",")[0]),
        ["digitalocean"],
      );
    });

    it("must be read from the state, by the types of the resources", () => {
      const of = (type: string, outputs: object) => ({ [`urn:pulumi:aws::hobnob::${type}::name`]: { outputs } });
      const state = {
        ...of("hobnob:platform:AwsCluster$aws:eks/cluster:Cluster", { name: "hobnob-test", region: "eu-central-1" }),
        ...of("hobnob:platform:AwsCluster$aws:ec2/vpc:Vpc", { cidrBlock: "10.30.0.0/16" }),
        ...of("hobnob:platform:Route53Zone$aws:route53/zone:Zone", { name: "example.org" }),
      };
      const { aws, zone } = fromState(state);
      assert.deepEqual([aws, zone], [made.aws, "example.org"]);
    });
  });

  describe("SDK", () => {
    it("must be asked for by a command where it is missing, with no stack trace", () => {
      assert.throws(loadAws, {
        name: "Error",
        __pulumiRunError: true,
        message:
          "hobnob:cluster.provider is aws, whose package is not installed\n  command: npm install @pulumi/aws@7.48.0",
      });
    });

    it("must be of one version: asked for, tested with, and allowed beside the platform", () => {
      const read = (file: string) => JSON.parse(readFileSync(join(__dirname, "../..", file), "utf8"));
      const version = SDK.split("@").at(-1);
      assert.equal(read("test/aws/sdk/package.json").dependencies["@pulumi/aws"], version);
      const { peerDependencies, peerDependenciesMeta } = read("package.json");
      assert.equal(peerDependencies["@pulumi/aws"], `^${version}`);
      assert.deepEqual(peerDependenciesMeta["@pulumi/aws"], { optional: true });
    });
  });
});
