import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import type { Config } from "../../config";
import { fromState, lossViolations, type PreviousRun, versionLoss } from "../../previousRun";
import { config as cluster } from "./clusterConfig";

const made: PreviousRun = {
  begun: true,
  cluster: { name: "hobnob-dev", region: "fra1", size: "s-2vcpu-4gb", vpcCidr: "10.10.0.0/20" },
  zone: "example.com",
  className: "hobnob-block-storage",
  diskSize: "10Gi",
  elasticsearchImage: "elasticsearch:9.5.3",
  protect: false,
  deleteZone: false,
};

const existing = { provider: "existing", context: "kind-one" };

/** The configuration with which `made` was made, and changes to it. */
const config = (
  changes: { domain?: string; cluster?: object; dns?: object; storage?: object; elasticsearch?: object } = {},
) =>
  ({
    domain: "example.com",
    storage: { className: "hobnob-block-storage" },
    elasticsearch: { diskSize: "10Gi" },
    ...changes,
    cluster: { ...cluster, ...changes.cluster },
    dns: { zone: "create", deleteZone: false, ...changes.dns },
  }) as unknown as Config;

const refused = (changes: Parameters<typeof config>[0], previous: Partial<PreviousRun> = {}) =>
  lossViolations(config(changes), { ...made, ...previous }).map(({ key, command }) => [key, command]);

const set = (path: string, value: string) => [
  `hobnob:${path}`,
  `pulumi config set ${path.includes(".") ? "--path " : ""}'hobnob:${path}' ${value} --stack dev`,
];

describe("what an earlier run made", () => {
  before(() =>
    pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) }, "hobnob", "dev"),
  );

  it("must be nothing in a new stack, which may be anything", () => {
    assert.deepEqual(Object.values(fromState({})).filter(Boolean), []);
    assert.deepEqual(lossViolations(config({ cluster: { ...existing } }), fromState({})), []);
  });

  it("must keep its disks' size, or get more", () => {
    assert.deepEqual(refused({ elasticsearch: { diskSize: "9Gi" } }), [set("elasticsearch.diskSize", "10Gi")]);
    assert.deepEqual(refused({ elasticsearch: { diskSize: "10240Mi" } }), []);
    assert.deepEqual(refused({ elasticsearch: { diskSize: "20Gi" } }), []);
  });

  for (const [made, wanted, allowed] of [
    ["9.5.3", "9.5.2", "9.5.3, which its disks have, or newer"],
    ["9.5.3", "8.19.21", "9.5.3, which its disks have, or newer"],
    ["8.18.0", "9.5.3", "the last 8.x first, as its disks have 8.18.0"],
    ["7.17.0", "9.5.3", "the last 7.x first, as its disks have 7.17.0"],
    ["8.19.21", "9.5.3", undefined],
    ["9.5.3", "9.6.0", undefined],
    ["9.5.3", "10.0.0", undefined],
  ] as const) {
    it(`must ${allowed ? "not be" : "be"} upgraded from Elasticsearch ${made} to ${wanted}`, () => {
      const [violation] = versionLoss({ elasticsearchImage: `elasticsearch:${made}` }, `elasticsearch:${wanted}`);
      assert.equal(violation?.allowed, allowed);
    });
  }

  it("must be read from the state, by the types of the resources", () => {
    const of = (type: string, outputs: object) => ({ [`urn:pulumi:dev::hobnob::${type}::name`]: { outputs } });
    const volumeClaimTemplates = [{ spec: { storageClassName: "hobnob-block-storage" } }];
    const state = {
      ...of("hobnob:platform:DigitalOceanCluster$digitalocean:index/kubernetesCluster:KubernetesCluster", {
        name: "hobnob-dev",
        region: "fra1",
        nodePool: { size: "s-2vcpu-4gb" },
      }),
      ...of("hobnob:platform:DigitalOceanCluster$digitalocean:index/vpc:Vpc", { ipRange: "10.10.0.0/20" }),
      ...of("hobnob:platform:Zone$digitalocean:index/domain:Domain", { name: "example.com" }),
      ...of("hobnob:platform:Elasticsearch$kubernetes:apps/v1:StatefulSet", {
        spec: { volumeClaimTemplates, template: { spec: { containers: [{ image: "elasticsearch:9.5.3" }] } } },
      }),
      ...of("hobnob:platform:Elasticsearch$kubernetes:core/v1:PersistentVolumeClaimPatch", {
        spec: { resources: { requests: { storage: "10Gi" } } },
      }),
      ...of("hobnob:platform:Protection", { protect: false, deleteZone: false }),
    };
    assert.deepEqual(fromState(state), { ...made, aws: undefined, context: undefined });
    const provider = of("hobnob:platform:ExistingCluster$pulumi:providers:kubernetes", {
      clusterIdentifier: "kind-one",
    });
    assert.equal(fromState(provider).context, "kind-one");
  });

  it("must not be in the way of an unchanged configuration", () => {
    for (const protect of [true, false]) assert.deepEqual(refused({ cluster: { protect } }, { protect }), []);
  });

  for (const [key, change, value] of [
    ["name", { name: "hobnob-other" }, "hobnob-dev"],
    ["region", { region: "ams3" }, "fra1"],
    ["vpcCidr", { vpcCidr: "10.11.0.0/20" }, "10.10.0.0/20"],
    ["systemPool.size", { systemPool: { size: "s-4vcpu-8gb", count: 3 } }, "s-2vcpu-4gb"],
    ["provider", existing, "digitalocean"],
  ] as const) {
    it(`must not be replaced by a cluster of another ${key}, guarded or not`, () => {
      for (const protect of [true, false]) {
        assert.deepEqual(refused({ cluster: { ...change } }, { protect }), [set(`cluster.${key}`, value)]);
      }
    });
  }

  it("must say what would be accepted, and what gives the old up", () => {
    const [violation] = lossViolations(config({ cluster: { region: "ams3" } }), made);
    assert.equal(
      violation?.allowed,
      "fra1, with which the stack's cluster was made; another one after `pulumi destroy`, or in another stack",
    );
    assert.equal(violation?.given, '"ams3"');
  });

  it("must not be replaced by what another context has", () => {
    const there = { cluster: undefined, context: "kind-two" };
    assert.deepEqual(refused({ cluster: existing }, there), [set("cluster.context", "kind-two")]);
    assert.deepEqual(refused({}, there), [set("cluster.provider", "existing")]);
    assert.deepEqual(refused({ cluster: existing }, { ...there, context: "kind-one" }), []);
  });

  it("must not lose its zone while it is guarded, not even where the guard is switched off in the same run", () => {
    const ways: [Partial<PreviousRun>, object][] = [
      [{ protect: true }, { protect: false }],
      [{ protect: false }, { protect: true }],
      [{ protect: undefined }, { protect: true }],
    ];
    for (const [previous, change] of ways) {
      assert.deepEqual(refused({ domain: "example.net", cluster: change }, previous), [set("domain", "example.com")]);
      for (const zone of ["lookup", "none"]) {
        assert.deepEqual(refused({ dns: { zone }, cluster: change }, previous), [set("dns.zone", "create")]);
      }
    }
  });

  it("must not lose a zone that only `pulumi destroy` was allowed to delete", () => {
    const [violation] = lossViolations(config({ domain: "example.net" }), { ...made, deleteZone: true });
    assert.equal(
      violation?.allowed,
      "example.com, whose zone this stack made; another one after a `pulumi up` that only sets dns.deleteZone to false",
    );
    assert.equal(refused({ domain: "example.net", dns: { deleteZone: true } }, { deleteZone: undefined }).length, 1);
  });

  it("must leave its zone to the account where nothing guards it: the engine retains it", () => {
    assert.deepEqual(refused({ domain: "example.net" }), []);
    assert.deepEqual(refused({ dns: { zone: "none" } }), []);
  });

  it("must not have its disks' set replaced for another storage class while it is guarded", () => {
    const storage = { className: "other" };
    assert.deepEqual(refused({ storage, cluster: { protect: true } }), [
      set("storage.className", "hobnob-block-storage"),
    ]);
    assert.deepEqual(refused({ storage }), []);
  });
});
