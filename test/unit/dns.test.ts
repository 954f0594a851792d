import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { Records, type RecordsArgs, Zone } from "../../components/dns";
import { platformRecords, type ZoneArgs } from "../../components/zone";
import { Platform } from "../../platform";
import { ConfigurationError } from "../../violations";
import { type CaptureOptions, capture, edges, find, ofType, unwrap } from "./graph";
import { platformStack } from "./platformOutputs";

const DOMAIN = "digitalocean:index/domain:Domain";
const RECORD = "digitalocean:index/dnsRecord:DnsRecord";
const BALANCER = "test:index:Balancer";

class Balancer extends pulumi.CustomResource {
  constructor(name: string) {
    super(BALANCER, name);
  }
}

async function zone(args: Partial<ZoneArgs>, options: CaptureOptions = {}) {
  let made: Zone | undefined;
  const graph = await capture(() => {
    made = new Zone("zone", { domain: "example.com", zone: "create", deleteZone: false, protect: false, ...args });
  }, options);
  assert.ok(made);
  return { graph, made };
}

describe("zone", () => {
  it("must be kept when the stack goes, unless its owner allowed its deletion", async () => {
    const kept = find((await zone({})).graph, DOMAIN, "zone");
    assert.deepEqual(kept.inputs, { name: "example.com" });
    assert.equal(kept.retainOnDelete, true);
    const deleted = find((await zone({ deleteZone: true })).graph, DOMAIN, "zone");
    assert.equal(deleted.retainOnDelete, false);
  });

  it("must be protected when told to, and only then", async () => {
    assert.equal(find((await zone({ protect: true })).graph, DOMAIN).protect, true);
    assert.equal(find((await zone({})).graph, DOMAIN).protect, false);
  });

  it("must never be made or owned when it is looked up", async () => {
    const calls = { "digitalocean:index/getDomain:getDomain": ({ name }: Record<string, unknown>) => ({ name }) };
    const { graph, made } = await zone({ zone: "lookup", protect: true }, { mocks: { calls } });
    assert.deepEqual(
      graph.map(({ type }) => type),
      ["hobnob:platform:Zone"],
    );
    assert.equal((await unwrap(made.domain)).value, "example.com");
  });

  it("must name the servers that the registrar is to name", async () => {
    const { made } = await zone({});
    assert.deepEqual(made.nameServers, ["ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com"]);
  });
});

/** A zone and a balancer beside the records, so that their edges show. */
async function records(args: Partial<RecordsArgs>, options: CaptureOptions = {}, ipv6?: string) {
  const graph = await capture(() => {
    const { domain } = new Zone("zone", { domain: "example.com", zone: "create", deleteZone: false, protect: false });
    const balancer = new Balancer("balancer");
    const address = balancer.urn.apply(() => "203.0.113.10");
    const six = ipv6 === undefined ? {} : { ipv6: balancer.urn.apply(() => ipv6 || undefined) };
    new Records("records", { domain, ttl: 300, address, hosts: ["api", "docs"], records: [], ...six, ...args });
  }, options);
  return { graph, made: ofType(graph, RECORD).sort((a, b) => (a.name < b.name ? -1 : 1)) };
}

describe("records", () => {
  it("must lead each host to the balancer's IPv4 address alone, unless it has another one", async () => {
    const { made } = await records({});
    assert.deepEqual(
      made.map(({ name, inputs }) => [name, inputs]),
      [
        ["records-api-a", { domain: "example.com", name: "api", type: "A", value: "203.0.113.10", ttl: 300 }],
        ["records-docs-a", { domain: "example.com", name: "docs", type: "A", value: "203.0.113.10", ttl: 300 }],
      ],
    );
  });

  it("must add an AAAA record for each host with an IPv6 address", async () => {
    const { made } = await records({}, {}, "2001:db8::10");
    assert.equal(made.length, 4);
    const aaaa = made.filter(({ inputs }) => inputs.type === "AAAA");
    assert.deepEqual(
      aaaa.map(({ name, inputs }) => [name, inputs.name, inputs.value]),
      [
        ["records-api-aaaa", "api", "2001:db8::10"],
        ["records-docs-aaaa", "docs", "2001:db8::10"],
      ],
    );
  });

  it("must refuse AAAA records of a balancer that has no IPv6 address", async () => {
    await assert.rejects(records({}, { stack: "dev" }, ""), (error: Error) => {
      assert.ok(error instanceof ConfigurationError);
      assert.deepEqual(error.violations, [
        {
          key: "hobnob:dns.ipv6",
          given: "true, while the balancer has no IPv6 address",
          allowed: "false, or a balancer with an IPv6 address",
          command: "pulumi config set --path 'hobnob:dns.ipv6' false --stack dev",
        },
      ]);
      return true;
    });
  });

  it("must take further records as they are, each with the common TTL or its own", async () => {
    const { made } = await records({
      hosts: [],
      records: [
        { name: "@", type: "MX", value: "mail.example.com.", priority: 10 },
        { name: "www", type: "CNAME", value: "@", ttl: 60 },
        { name: "@", type: "TXT", value: "one" },
        { name: "@", type: "TXT", value: "two" },
      ],
    });
    const common = { domain: "example.com", ttl: 300 };
    assert.deepEqual(
      made.map(({ name, inputs }) => [name, inputs]),
      [
        ["records-@-mx", { ...common, name: "@", type: "MX", value: "mail.example.com.", priority: 10 }],
        ["records-@-txt", { ...common, name: "@", type: "TXT", value: "one" }],
        ["records-@-txt-2", { ...common, name: "@", type: "TXT", value: "two" }],
        ["records-www-cname", { ...common, name: "www", type: "CNAME", value: "@", ttl: 60 }],
      ],
    );
  });

  it("must wait for the zone and the balancer's address, and for nothing else", async () => {
    const { graph, made } = await records({ hosts: ["api"] });
    const [a] = made;
    assert.ok(a);
    const zone = find(graph, DOMAIN);
    assert.deepEqual(a.propertyDependencies, { domain: [zone.urn], value: [find(graph, BALANCER).urn] });
    assert.deepEqual(
      new Set(edges(a)),
      new Set([zone.urn, find(graph, BALANCER).urn, find(graph, "hobnob:platform:Records").urn]),
    );
  });

  it("must not keep further records waiting for the balancer", async () => {
    const further: RecordsArgs["records"] = [{ name: "@", type: "TXT", value: "one" }];
    const { made } = await records({ records: further }, { stuck: BALANCER });
    assert.deepEqual(
      made.map(({ name }) => name),
      ["records-@-txt"],
    );
  });

  it("must be the same set in a preview as in an update", async () => {
    const preview = await records({}, { preview: true }, "2001:db8::10");
    const update = await records({}, {}, "2001:db8::10");
    assert.deepEqual(
      preview.made.map(({ urn }) => urn),
      update.made.map(({ urn }) => urn),
    );
  });
});

describe("another stack's records", () => {
  const made = async (changes: Parameters<typeof platformStack>[0], preview = false) => {
    const program = async () => {
      await platformRecords("records", new Platform("acme/hobnob/prod"), { hosts: ["www", "@"] });
    };
    return (await capture(program, { preview, mocks: { resource: platformStack(changes) } })).filter(
      ({ custom }) => custom,
    );
  };

  it("must lead to the platform's balancer by each address that it has, in a preview too", async () => {
    for (const preview of [true, false]) {
      const records = (await made({}, preview)).sort((a, b) => a.name.localeCompare(b.name));
      const of = (name: string) => [
        { domain: "example.com", name, type: "A", value: "203.0.113.10", ttl: 300 },
        { domain: "example.com", name, type: "AAAA", value: "2001:db8::10", ttl: 300 },
      ];
      assert.deepEqual(
        records.map(({ inputs }) => inputs),
        [...of("@"), ...of("www")],
      );
    }
    const records = (await made({ ingressIpv6: "" })).map(({ inputs }) => `${inputs.name} ${inputs.type}`);
    assert.deepEqual(records.sort(), ["@ A", "www A"]);
  });

  it("must be none without a zone or a balancer", async () => {
    for (const changes of [{ zone: "" }, { ingressAddress: "" }]) assert.deepEqual(await made(changes), []);
  });

  it("must never be at DigitalOcean where the balancer has a name: such a zone is AWS's", async () => {
    const aws = { ingressAddress: "", ingressHostname: "a.elb.eu-central-1.amazonaws.com" };
    await assert.rejects(made(aws), /npm install @pulumi\/aws@/);
  });
});
