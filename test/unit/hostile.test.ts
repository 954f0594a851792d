import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import fc from "fast-check";
import { Api } from "../../components/api";
import { BlockStorage } from "../../components/blockStorage";
import { Zone } from "../../components/dns";
import { Elasticsearch } from "../../components/elasticsearch";
import { IngressController } from "../../components/ingress";
import { type Config, ConfigurationError, readConfig, schema, secretKeys } from "../../config";
import { recordFigures } from "../figures";
import { capture } from "./graph";
import { HOSTILE, INJECTIONS, keysOf, tainted } from "./hostile";
import { assertValid } from "./validObjects";

const LONG = Boolean(process.env.HOBNOB_FAULTS);
const RUNS = LONG ? 10_000 : 600;
const GRAPHS = LONG ? 400 : 60;
const COMPONENTS = LONG ? 3_000 : 200;
/** Told with each failure; given back in HOBNOB_SEED, the same cases come again. */
const SEED = Number(process.env.HOBNOB_SEED ?? Math.floor(Math.random() * 2 ** 31));

/** In every secret of every case: seen in a message, it is a leak. */
const MARKER = "5ecret0fTheTest";

type Settings = Record<string, unknown>;
type Path = (string | number)[];
interface Change {
  path: Path;
  value: unknown;
}
interface Case {
  base: Settings;
  changes: Change[];
  /** Sections as they stand in the stack's file, whatever they are. */
  raw: Record<string, string>;
  /** Keys that were set with `--secret`. */
  secrets: string[];
}

const systemPool = { size: "s-2vcpu-4gb", count: 3 };
const registry = { repository: "acme/hobnob-backend", username: "acme" };
const bases: Settings[] = [
  { domain: "example.com", cluster: { region: "fra1", systemPool }, registry, registryPassword: MARKER },
  {
    domain: "example.com",
    cluster: {
      region: "fra1",
      protect: true,
      systemPool: { size: "s-2vcpu-4gb", count: 2 },
      workerPools: { workers: { size: "s-4vcpu-8gb", minCount: 4, maxCount: 6 } },
    },
    registry,
    registryPassword: MARKER,
    ingress: { rateLimit: { requestsPerSecond: 20, burst: 40 } },
    dns: { records: [{ name: "www", type: "CNAME", value: "@" }] },
  },
  {
    domain: "example.com",
    cluster: { provider: "existing", context: "there", nodes: 3, storageProvisioner: "rancher.io/local-path" },
    ingress: { expose: "NodePort" },
    dns: { zone: "none" },
    registry,
    registryPassword: MARKER,
  },
  {
    domain: "example.com",
    cluster: { provider: "aws", region: "eu-central-1", workerPools: { workers: { maxCpu: 16, maxMemory: "64Gi" } } },
    registry: { repository: "hobnob/backend" },
  },
];

// ── what is thrown ──────────────────────────────────────────────────────────────────────────────────────────────────

const keys = keysOf(schema);
const NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty", "", "Domain", "domain ", "regoin", "password"];
const badName = fc.oneof(fc.constantFrom(...NAMES, ...INJECTIONS), fc.string({ unit: "binary", maxLength: 30 }));

const pathOf = (name: string, pool: string): Path =>
  name.split(".").map((part) => (part === "<name>" ? pool : /^\d+$/.test(part) ? Number(part) : part));

const anyKey = fc.constantFrom(...keys);
const change = (value: (key: (typeof keys)[number]) => fc.Arbitrary<unknown>): fc.Arbitrary<Change> =>
  anyKey.chain((key) =>
    fc.tuple(value(key), fc.oneof({ weight: 9, arbitrary: fc.constant("workers") }, badName)).map(([given, pool]) => ({
      path: pathOf(key.name, pool),
      value: given,
    })),
  );

const good = change((key) => key.good ?? HOSTILE);
const bad = fc.oneof(
  change(() => HOSTILE),
  change((key) => tainted(key.good ?? fc.constant(""))),
  change(() => fc.constant(undefined)),
  // A key that nobody knows, beside or below one that somebody does.
  fc
    .tuple(anyKey, badName, HOSTILE)
    .map(([key, name, value]) => ({ path: [...pathOf(key.name, "workers").slice(0, -1), name], value })),
  fc
    .tuple(anyKey, badName, HOSTILE)
    .map(([key, name, value]) => ({ path: [...pathOf(key.name, "workers"), name], value })),
);

const SECTIONS = Object.keys(schema.shape);
const rawSection = fc.constantFrom(
  "{",
  "nul",
  "NaN",
  '{"a":1e999}',
  '{"__proto__":{"polluted":true}}',
  '{"replicas":1e999}',
  '{"nodes":1e999,"provider":"existing"}',
  "[".repeat(100_000) + "]".repeat(100_000),
  `${'{"a":'.repeat(5_000)}1${"}".repeat(5_000)}`,
  JSON.stringify(Object.fromEntries(Array.from({ length: 3_000 }, (_, i) => [`key${i}`, i]))),
  "\u0000",
  "<xml/>",
);

const secretsOf = fc.oneof(
  { weight: 6, arbitrary: fc.constant([...secretKeys] as string[]) },
  fc.subarray([...secretKeys, ...SECTIONS] as string[]),
);

const caseOf = (changes: fc.Arbitrary<Change[]>, raw: fc.Arbitrary<Record<string, string>>): fc.Arbitrary<Case> =>
  fc.record({ base: fc.constantFrom(...bases), changes, raw, secrets: secretsOf });

const hostileCase = caseOf(
  fc.array(fc.oneof({ weight: 3, arbitrary: bad }, good), { minLength: 1, maxLength: 4 }),
  fc.oneof(
    { weight: 8, arbitrary: fc.constant({}) },
    fc.dictionary(fc.oneof(fc.constantFrom(...SECTIONS), badName), rawSection, { minKeys: 1, maxKeys: 2 }),
  ),
);

/** Mostly what passes: these are built to the end. */
const graphCase = caseOf(
  fc.array(
    fc.oneof(
      { weight: 5, arbitrary: good },
      change((key) => tainted(key.good ?? fc.constant(""))),
    ),
    {
      minLength: 1,
      maxLength: 3,
    },
  ),
  fc.constant({}),
);

function settingsOf({ base, changes }: Case): Settings {
  const settings = structuredClone(base);
  for (const { path, value } of changes) put(settings, path, value);
  return settings;
}

/** As JSON has it: `__proto__` is a key like any other. */
function put(target: Settings, [part, ...rest]: Path, value: unknown): void {
  const own = (object: object, key: PropertyKey, member: unknown) =>
    Object.defineProperty(object, key, { value: member, writable: true, enumerable: true, configurable: true });
  if (part === undefined) return;
  if (rest.length === 0) return void own(target, part, value);
  const below = Object.hasOwn(target, part) ? target[part] : undefined;
  const isContainer = typeof below === "object" && below !== null;
  if (!isContainer) own(target, part, typeof rest[0] === "number" ? [] : {});
  put(target[part] as Settings, rest, value);
}

/** What the engine hands over, and which of it is secret. */
function engineConfig(thrown: Case): { config: Record<string, string>; secretKeys: string[] } {
  const config: Record<string, string> = {};
  for (const [section, value] of Object.entries(settingsOf(thrown))) {
    if (value !== undefined) config[`hobnob:${section}`] = typeof value === "string" ? value : JSON.stringify(value);
  }
  for (const [section, text] of Object.entries(thrown.raw)) config[`hobnob:${section}`] = text;
  return { config, secretKeys: thrown.secrets.map((name) => `hobnob:${name}`) };
}

// ── what must come back ─────────────────────────────────────────────────────────────────────────────────────────────

/** Words of a command as a shell would part them; throws where it would do more than run one command. */
function assertOneCommand(command: string): void {
  let rest = command.replaceAll(/'[^']*'|\\'|"\$EDITOR"/g, "q");
  // The only two commands of ours that are joined, and placeholders.
  rest = rest.replaceAll(/; dig \+short NS|<value>|<token>|<file>|<range>/g, "");
  assert.match(rest, /^[\w.:/@%+=,~ -]+$/, `a command that does more than it says: ${command.slice(0, 300)}`);
}

function assertClear(error: unknown): void {
  assert.ok(error instanceof ConfigurationError, `no violation but ${(error as Error)?.stack ?? error}`);
  assert.ok(error.violations.length > 0);
  assert.ok(error.message.length < 100_000, `a message of ${error.message.length} characters`);
  assert.ok(!error.message.includes(MARKER), "a secret is told");
  for (const { key, given, allowed, command } of error.violations) {
    for (const text of [key, given, allowed, command]) {
      assert.ok(text.length > 0 && text.length < 2_000, `${text.length} characters: ${text.slice(0, 200)}`);
      assert.match(text, /^[ -~…×–]*$/, "characters that a terminal or a reader takes for something else");
    }
    assert.match(key, /^(hobnob:|DIGITALOCEAN_|KUBECONFIG)/);
    assertOneCommand(command);
  }
}

/** What a configuration has by default, a stack that makes the component by itself must give: it is told of the arg. */
function isRefusedByArgs(error: unknown): boolean {
  const told =
    /^The Service "[\w-]+" has (an arg|\d+ args) that cannot be:\n(\n {2}\S.*\n {4}given: {3}.+\n {4}allowed: .+\n)+$/;
  return error instanceof pulumi.RunError && /^[\n -~…]*$/.test(error.message) && told.test(error.message);
}

// ── components by themselves, as another stack may make them ────────────────────────────────────────────────────────

// biome-ignore lint/suspicious/noExplicitAny: args that break their types have none
type Args = any;
const placed = { namespace: "hobnob", apiServer: "cilium", spread: "hard", workers: [] };
const balancer = { name: "hobnob-dev", sizeUnit: 1, vpcRange: "10.10.0.0/20" };
const es = { elasticsearchHost: "elasticsearch.hobnob.svc", elasticsearchPort: 9200 };
const made = { ...placed, backends: [{ namespace: "hobnob", labels: { app: "shop" }, ports: [8080] }] };

/** What a component takes from a section of the configuration, the rest of its args, and how it is made. */
const components: { section: string; args: Args; make: (args: Args) => unknown }[] = [
  {
    section: "elasticsearch",
    args: {
      ...placed,
      storageClassName: "standard",
      clients: [{ app: "shop" }],
      replicas: 3,
      memory: "1Gi",
      cpu: "1",
      diskSize: "10Gi",
      mmap: true,
    },
    make: (args) => new Elasticsearch("elasticsearch", args),
  },
  {
    section: "api",
    args: {
      ...placed,
      ...es,
      image: `a@sha256:${"0".repeat(64)}`,
      publicUrl: "http://api.example.com",
      replicas: 3,
      memory: "192Mi",
      cpu: "100m",
      logLevel: "info",
      ingressClass: "nginx",
    },
    make: (args) => new Api("api", args),
  },
  {
    section: "ingress",
    args: {
      ...made,
      className: "nginx",
      replicas: 2,
      expose: "LoadBalancer",
      allowEmptyHost: false,
      maxBodySize: "1m",
      loadBalancer: balancer,
    },
    make: (args) => new IngressController("ingress", args),
  },
  {
    section: "domain",
    args: "example.com",
    make: (domain) => new Zone("zone", { domain, zone: "create", deleteZone: false, protect: false }),
  },
  {
    section: "storage",
    args: { className: "standard", fsType: "ext4", provisioner: "dobs.csi.digitalocean.com" },
    make: (args) => new BlockStorage("storage", args),
  },
];

/** A key of the section with something hostile in the place of what the component was given there. */
const componentCase = fc.constantFrom(...components).chain((component) => {
  // The args as a whole are the compiler's to judge.
  const whole = typeof component.args === "object" ? "" : component.section;
  const ofSection = keys.filter(
    ({ name }) =>
      (name === whole || name.startsWith(`${component.section}.`)) &&
      // The component takes another shape of it, which the program makes.
      !name.startsWith("elasticsearch.snapshots"),
  );
  return fc.constantFrom(...ofSection).chain((key) =>
    fc.record({
      component: fc.constant(component),
      path: fc.constant(pathOf(key.name, "workers").slice(1)),
      value: fc.oneof(HOSTILE, tainted(key.good ?? fc.constant("")), key.good ?? HOSTILE),
    }),
  );
});

const figures = { cases: 0, refused: 0, accepted: 0, "half-made": 0 };

describe("hostile input", function () {
  this.timeout(LONG ? 60 * 60_000 : 4 * 60_000);
  const environment = { ...process.env };
  let account: Server;
  let directory: string;

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "hobnob-hostile-"));
    const contexts = [{ name: "there", context: { cluster: "there", user: "there" } }];
    const clusters = [{ name: "there", cluster: { server: "https://there.test" } }];
    const users = [{ name: "there", user: { token: "of the test" } }];
    writeFileSync(join(directory, "config"), JSON.stringify({ contexts, clusters, users }));
    const sizes = ["s-2vcpu-4gb", "s-4vcpu-8gb"].map((slug) => ({ slug }));
    const vpcs = [{ name: "default-fra1", region: "fra1", ip_range: "10.114.0.0/20", default: true }];
    const answers: Record<string, object> = {
      "/v2/kubernetes/options": {
        options: { versions: [{ slug: "1.36.3-do.0" }], regions: [{ slug: "fra1" }], sizes },
      },
      "/v2/kubernetes/clusters": { kubernetes_clusters: [] },
      "/v2/vpcs": { vpcs },
      "/v2/sizes": { sizes: [] },
    };
    account = createServer((request, response) => {
      const answer = answers[new URL(request.url ?? "", "http://account").pathname];
      response.writeHead(answer ? 200 : 404).end(JSON.stringify(answer ?? {}));
    });
    await new Promise<void>((listening) => account.listen(0, "127.0.0.1", listening));
    process.env.DIGITALOCEAN_TOKEN = "of the test";
    process.env.DIGITALOCEAN_API_URL = `http://127.0.0.1:${(account.address() as AddressInfo).port}`;
    process.env.KUBECONFIG = join(directory, "config");
    await pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) }, "hobnob", "dev");
  });

  after(() => {
    process.env = environment;
    account.close();
    rmSync(directory, { recursive: true, force: true });
    console.log(`    seed ${SEED}: ${figures.cases} cases, ${figures.refused} refused, ${figures.accepted} accepted`);
    recordFigures("input", { ...figures, seed: SEED });
  });

  it("must be thrown at every key of the schema: one without good values could never be judged", () => {
    assert.deepEqual(
      keys.filter(({ good }) => good === undefined).map(({ name }) => name),
      [],
      "add them to test/unit/hostile.ts",
    );
    for (const { name, good, schema: of } of keys) {
      for (const value of fc.sample(good as fc.Arbitrary<unknown>, { numRuns: 5, seed: SEED })) {
        assert.ok(of.safeParse(value).success, `${name}: ${JSON.stringify(value)}`);
      }
    }
  });

  it("must end in clear violations, or be a whole configuration", () => {
    const judge = (thrown: Case) => {
      const { config, secretKeys: secrets } = engineConfig(thrown);
      pulumi.runtime.setAllConfig(config, secrets);
      const started = performance.now();
      figures.cases++;
      try {
        assertWhole(readConfig(process.env));
        figures.accepted++;
      } catch (error) {
        figures.refused++;
        assertClear(error);
      }
      assert.ok(performance.now() - started < 5_000, "it hangs");
      assert.equal(({} as Settings).polluted, undefined, "the prototype of all objects is changed");
    };
    fc.assert(fc.property(hostileCase, judge), { numRuns: RUNS, seed: SEED });
  });

  it("must be refused by a component before it is registered, or make valid objects", async () => {
    const judge = async ({
      component,
      path,
      value,
    }: {
      component: (typeof components)[number];
      path: Path;
      value: unknown;
    }) => {
      const wrapped = structuredClone({ args: component.args });
      put(wrapped, ["args", ...path], value);
      let registered = 0;
      const resource = () => {
        registered++;
        return undefined;
      };
      figures.cases++;
      try {
        assertValid(await capture(() => void component.make(wrapped.args), { stack: "dev", mocks: { resource } }));
        figures.accepted++;
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
        figures.refused++;
        if (registered > 0) figures["half-made"]++;
        assert.equal(registered, 0, `half a component, and then ${(error as Error).stack}`);
        if (!isRefusedByArgs(error)) assertClear(error);
      }
    };
    await fc.assert(fc.asyncProperty(componentCase, judge), { numRuns: COMPONENTS, seed: SEED });
  });

  it("must be refused before any resource, or make a whole graph of valid objects", async () => {
    const judge = async (thrown: Case) => {
      let registered = 0;
      const resource = () => {
        registered++;
        return undefined;
      };
      const program = () => (require("../../index") as () => Promise<unknown>)();
      // Its SDK is not installed here, and its account would be asked by whatever CLI this machine has.
      if (/"provider":"aws"/.test(engineConfig(thrown).config["hobnob:cluster"] ?? "")) return;
      figures.cases++;
      try {
        assertValid(await capture(program, { ...engineConfig(thrown), stack: "dev", mocks: { resource } }));
        figures.accepted++;
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
        figures.refused++;
        if (registered > 0) figures["half-made"]++;
        assert.equal(registered, 0, `half a graph, and then ${(error as Error).stack}`);
        assertClear(error);
      }
    };
    await fc.assert(fc.asyncProperty(graphCase, judge), { numRuns: GRAPHS, seed: SEED });
  });
});

/** Nothing that a component would take for something else. */
function assertWhole(config: Config): void {
  const visit = (value: unknown, path: string): void => {
    if (pulumi.Output.isInstance(value)) return;
    assert.ok(typeof value !== "number" || Number.isSafeInteger(value), `${path} is ${value}`);
    if (typeof value === "string")
      assert.doesNotMatch(value, /[\p{C}\u2028\u2029]/u, `${path} holds invisible characters`);
    if (typeof value === "object" && value !== null) {
      assert.ok(Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype, path);
      for (const [name, member] of Object.entries(value)) {
        visit(name, `a key of ${path}`);
        visit(member, `${path}.${name}`);
      }
    }
  };
  visit(config, "config");
}
