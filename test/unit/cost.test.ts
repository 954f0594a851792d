import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { accountPrices, type Billed, costDifference, monthlyCost, monthlyCostOutput } from "../../cost";
import { costTable } from "../../operations/cost";
import { config as cluster } from "./clusterConfig";

const prices = async () => ({ "s-2vcpu-4gb": 24, "s-4vcpu-8gb": 48 });
const none = async (): Promise<never> => assert.fail("nobody may be asked for a price");
const workers = { size: "s-4vcpu-8gb", minCount: 4, maxCount: 6, labels: {}, taints: [] };
const systemPool = { size: "s-2vcpu-4gb", count: 2 };
const prod = { ha: true, systemPool, workerPools: { workers } };

const stack = (changes: object, more: Partial<Billed> = {}): Billed => ({
  cluster: { ...cluster, ...changes } as Billed["cluster"],
  elasticsearch: { replicas: 3, diskSize: "100Gi" },
  ingress: { expose: "LoadBalancer", sizeUnit: 2 },
  ...more,
});
const resources = async (billed: Billed) => (await monthlyCost(billed, prices)).lines.map(({ resource }) => resource);

describe("the monthly cost", () => {
  it("must count every line that a bill has, at the least and at the most that scaling allows", async () => {
    assert.deepEqual(await monthlyCost(stack(prod, { snapshots: {} }), prices), {
      lines: [
        { resource: "control plane", detail: "highly available", minimum: 40, maximum: 40 },
        { resource: "node pool system", detail: "2 × s-2vcpu-4gb", minimum: 48, maximum: 48 },
        { resource: "node pool workers", detail: "4 to 6 × s-4vcpu-8gb", minimum: 192, maximum: 288 },
        { resource: "load balancer", detail: "2 nodes", minimum: 24, maximum: 24 },
        { resource: "volumes of Elasticsearch", detail: "3 × 100 GiB", minimum: 30, maximum: 30 },
        {
          resource: "Spaces, for snapshots",
          detail: "the account's one subscription, of 250 GiB",
          minimum: 5,
          maximum: 5,
        },
      ],
      priced: true,
      currency: "USD",
      minimum: 339,
      maximum: 435,
    });
  });

  it("must not bill what a stack does not have: control plane, balancer, another service's bucket", async () => {
    const ingress = { expose: "NodePort" as const, sizeUnit: 1 };
    assert.deepEqual(await resources(stack({}, { ingress, snapshots: { endpoint: "https://s3.example.com" } })), [
      "node pool system",
      "volumes of Elasticsearch",
    ]);
  });

  it("must round a disk up to the GiB that DigitalOcean sells, and a sum to the cent", async () => {
    const { lines } = await monthlyCost(stack({}, { elasticsearch: { replicas: 3, diskSize: "1500Mi" } }), prices);
    const { detail, minimum } = lines.at(-1) ?? assert.fail();
    assert.deepEqual([detail, minimum], ["3 × 2 GiB", 0.6]);
  });

  it("must bill nothing on a cluster that is somebody else's, nor ask anybody for prices", async () => {
    const cost = await monthlyCost(stack({ provider: "existing" }), none);
    assert.deepEqual([cost.priced, cost.minimum, cost.maximum, cost.lines], [false, 0, 0, []]);
    assert.equal(
      costTable("kind", cost),
      "kind: not priced here: its cluster is there already, and on no bill of this stack",
    );
  });

  it("must not pass a cloud without prices off as free", async () => {
    const cost = await monthlyCost(stack({ provider: "aws" }), none);
    assert.deepEqual([cost.priced, cost.reason], [false, "prices of aws are not known here"]);
  });

  it("must not take a size without a price for a free one", async () => {
    const billed = stack({ systemPool: { size: "gd-2vcpu-8gb", count: 2 } });
    await assert.rejects(monthlyCost(billed, prices), { message: /has no price of gd-2vcpu-8gb/ });
  });

  it("must be the account's own list price, and not keep a stack from being deployed where that does not answer", async () => {
    const server = createServer((request, response) => {
      const known = request.url === "/v2/sizes?per_page=200&page=1";
      const sizes = [{ slug: "s-2vcpu-4gb", price_monthly: 23.5 }];
      response.writeHead(known ? 200 : 404).end(JSON.stringify({ sizes }));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const env = { DIGITALOCEAN_API_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
    try {
      assert.deepEqual(await accountPrices(env), { "s-2vcpu-4gb": 23.5 });
      const output = { priced: true, currency: "USD", minimum: 124.5, maximum: 124.5 };
      assert.deepEqual(await monthlyCostOutput(stack({}), env), output);
    } finally {
      server.close();
      server.closeAllConnections();
    }
    const unknown = { priced: false, currency: "USD", minimum: 0, maximum: 0 };
    assert.deepEqual(await monthlyCostOutput(stack({}), env), unknown);
  });

  it("must tell what a change adds or saves, at each end", async () => {
    const cost = (minimum: number, maximum = minimum) => ({ priced: true, currency: "USD", minimum, maximum });
    assert.equal(costDifference(cost(334, 430)), "$334.00 to $430.00 a month");
    assert.equal(costDifference(cost(334), cost(334)), "$334.00 a month, as now");
    assert.equal(costDifference(cost(334.1), cost(334)), "$334.10 a month, $0.10 more than now");
    assert.equal(costDifference(cost(300), cost(334)), "$300.00 a month, $34.00 less than now");
    assert.equal(
      costDifference(cost(290, 430), cost(334, 334)),
      "$290.00 to $430.00 a month: at least $44.00 less, at most $96.00 more than now",
    );
    assert.equal(costDifference({ ...cost(0), priced: false }, cost(334)), "not priced");
  });

  it("must end in a table with the sum, which leaves out what does not scale", async () => {
    const lines = costTable("prod", await monthlyCost(stack(prod), prices)).split("\n");
    const total = lines.find((line) => line.includes("total"))?.match(/[\d.]+/g);
    assert.deepEqual(total, ["334.00", "430.00"]);
    assert.equal(lines.at(-1), "prod: $334.00 to $430.00 a month, without traffic and stored images");
    assert.ok(!/40\.00.*40\.00/.test(lines.find((line) => line.includes("control plane")) ?? ""));
  });
});
