import assert from "node:assert/strict";
import { isWell, type StatusOptions, screen, status } from "../../operations/status";
import type { Overview } from "../../verify/cluster";
import { FakePlatform } from "./platform";

const node = (name: string, more: object = {}) => ({ name, ready: true, cordoned: false, ...more });

describe("npm run status", () => {
  const platform = new FakePlatform();
  const asked = new Set<string>();
  let overview: Overview;
  let answers: Record<string, object>;

  before(() => platform.start());
  after(() => platform.stop());
  beforeEach(() => {
    platform.onRequest = (method) => asked.add(method);
    overview = {
      nodes: async () => [node("a"), node("b")],
      workloads: async () => [
        { name: "hobnob/backend", ready: 3, wanted: 3 },
        { name: "hobnob/elasticsearch", ready: 3, wanted: 3 },
      ],
      balancers: async () => [{ name: "nginx-ingress", addresses: ["127.0.0.1"] }],
    };
    const last = { kind: "update", result: "succeeded", endTime: "2026-11-21T20:00:00.000Z" };
    answers = {
      history: [{ ...last, resourceChanges: { same: 60, update: 2 } }],
      export: { deployment: { pending_operations: [] } },
      preview: { changeSummary: { same: 61, update: 1 } },
    };
  });

  async function lines(more: Partial<StatusOptions> = {}) {
    const { cluster, ...target } = platform.target();
    const commands: string[] = [];
    const results = await status({
      stack: "dev",
      ...target,
      cluster: { ...cluster, ...overview },
      pulumi: async ([first = "", second = ""]) => {
        const command = first === "stack" ? second : first;
        commands.push(command);
        const answer = answers[command];
        if (answer instanceof Error) return { exitCode: 255, stdout: "", stderr: `error: ${answer.message}\nmore` };
        return { exitCode: 0, stdout: JSON.stringify(answer), stderr: "" };
      },
      ...more,
    });
    const shown = Object.fromEntries(results.map(({ name, status, detail }) => [name, `${status}: ${detail}`]));
    return { results, shown, commands };
  }

  it("must tell of a platform that is well in one line each, and only read", async () => {
    const { results, shown, commands } = await lines();
    assert.deepEqual(shown, {
      nodes: "pass: 2 of 2 ready",
      workloads: "pass: backend 3, elasticsearch 3",
      balancer: "pass: 127.0.0.1",
      "elasticsearch: each pod answers": "pass: elasticsearch-0, elasticsearch-1, elasticsearch-2",
      "elasticsearch: shards complete": "pass: green, 4 shards, 0 unassigned",
      "dns: the zone's name servers answer": "pass: 2 answer 127.0.0.1 for api.hobnob.test and docs.hobnob.test",
      "dns: this machine's resolver answers": "pass: 127.0.0.1 for api.hobnob.test and docs.hobnob.test",
      "tls: valid certificate": "pass: 60 days left, covers api.hobnob.test, docs.hobnob.test",
      "last update": "pass: update succeeded, 2026-11-21T20:00:00.000Z, 2 update",
      "pending operations": "pass: none",
      "pending changes": "elsewhere: not looked for; npm run status -- dev --preview",
      cost: "pass: $334.00 to $430.00 a month",
    });
    assert.ok(isWell(results));
    assert.deepEqual([...asked], ["GET"]);
    assert.deepEqual(commands, ["history", "export"]);
  });

  const faults: [name: string, line: string, detail: RegExp, break_: () => void][] = [
    [
      "a node that is not ready",
      "nodes",
      /1 of 2 ready; b is not ready/,
      () => {
        overview.nodes = async () => [node("a"), node("b", { ready: false })];
      },
    ],
    [
      "a cluster without nodes",
      "nodes",
      /0 of 0/,
      () => {
        overview.nodes = async () => [];
      },
    ],
    [
      "a workload that lacks pods",
      "workloads",
      /hobnob\/backend has 2 of 3 pods ready/,
      () => {
        overview.workloads = async () => [{ name: "hobnob/backend", ready: 2, wanted: 3 }];
      },
    ],
    [
      "a rollout that does not end, though old pods serve",
      "workloads",
      /hobnob\/backend is not rolled out: 1 of 3 pods are new/,
      () => {
        overview.workloads = async () => [{ name: "hobnob/backend", ready: 3, wanted: 3, updated: 1 }];
      },
    ],
    [
      "workloads that are gone",
      "workloads",
      /there are none/,
      () => {
        overview.workloads = async () => [];
      },
    ],
    [
      "a balancer without its address",
      "balancer",
      /its address is none instead of 127\.0\.0\.1/,
      () => {
        overview.balancers = async () => [{ name: "nginx-ingress", addresses: [] }];
      },
    ],
    [
      "a balancer of another address",
      "balancer",
      /is 192\.0\.2\.1 instead of 127\.0\.0\.1/,
      () => {
        overview.balancers = async () => [{ name: "nginx-ingress", addresses: ["192.0.2.1"] }];
      },
    ],
    [
      "an update that failed",
      "last update",
      /update failed/,
      () => {
        answers.history = [{ kind: "update", result: "failed" }];
      },
    ],
    [
      "a run that was cut off",
      "pending operations",
      /cut off while creating backend; go on: npm run stack -- dev up/,
      () => {
        const resource = { urn: "urn:pulumi:dev::hobnob::kubernetes:apps/v1:Deployment::backend" };
        answers.export = { deployment: { pending_operations: [{ type: "creating", resource }] } };
      },
    ],
    [
      "a preview that fails",
      "pending changes",
      /why: pulumi preview --stack dev/,
      () => {
        answers.preview = new Error("violations");
      },
    ],
  ];
  for (const [name, line, detail, break_] of faults) {
    it(`must not be well with ${name}`, async () => {
      break_();
      const { results, shown } = await lines({ preview: true });
      assert.match(shown[line] ?? "", /^miss: /);
      assert.match(shown[line] ?? "", detail);
      assert.ok(!isWell(results));
    });
  }

  it("must count the changes of an update only where asked to, which is no fault", async () => {
    const { results, shown, commands } = await lines({ preview: true });
    assert.equal(shown["pending changes"], "pass: 1 update");
    assert.ok(isWell(results));
    assert.ok(commands.includes("preview"));
  });

  it("must say what it cannot know without the cluster, and still tell the rest", async () => {
    overview.nodes = async () => {
      throw Object.assign(new Error("request failed"), { code: 401 });
    };
    const { results, shown } = await lines();
    assert.equal(shown.nodes, "miss: the cluster cannot be reached (it answers 401)");
    for (const name of ["workloads", "balancer", "elasticsearch: each pod answers"])
      assert.equal(shown[name], "unchecked: needs: nodes");
    assert.match(shown["tls: valid certificate"] ?? "", /^pass: 60 days left/);
    assert.match(shown.cost ?? "", /^pass: /);
    assert.match(screen("dev", results), /\ndev: NOT WELL in 1, 5 not known$/);
  });

  it("must not take for a fault what is not there to be asked, and say why", async () => {
    const { cluster: _, outputs } = platform.target();
    const { results, shown } = await lines({
      nothingInPods: "simulated pods",
      nothingPublic: "simulated DNS",
      outputs: { ...outputs, monthlyCost: undefined, ingressNamespace: undefined },
    });
    assert.ok(isWell(results));
    assert.equal(shown["elasticsearch: shards complete"], "elsewhere: simulated pods");
    assert.equal(shown["tls: valid certificate"], "elsewhere: simulated DNS");
    assert.equal(shown.cost, "elsewhere: the deployed program does not tell it; npm run cost -- dev");
    assert.match(shown.balancer ?? "", /^elsewhere: the deployed program/);
    for (const line of screen("dev", results)
      .split("\n")
      .filter((text) => text.includes("│ ? ")))
      assert.match(line, /\? +│ \w/);
  });

  it("must tell why the backend does not, in one line", async () => {
    answers.history = new Error("no access");
    answers.export = new Error("no access");
    const { shown } = await lines();
    assert.equal(shown["last update"], "elsewhere: the history cannot be read: no access");
    assert.equal(shown["pending operations"], "elsewhere: the state cannot be read: no access");
  });

  it("must fit on one screen, with the verdict in its last line", async () => {
    const text = screen("dev", (await lines()).results);
    assert.ok(text.split("\n").length <= 24, text);
    assert.equal(text.split("\n").at(-1), "dev: well, 1 not known");
  });
});
