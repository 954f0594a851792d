import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type GraphResource, longestPath, mermaid, picture, svg } from "../../operations/graph";
import { graphPictures } from "../../scripts/graphPicture";
import { captureStack } from "./stacks";

const urn = (type: string, name: string) => `urn:pulumi:dev::hobnob::${type}::${name}`;
const STACK = "pulumi:pulumi:Stack";
const stack = { urn: urn(STACK, "hobnob-dev"), type: STACK };
const resource = (type: string, name: string, more: Partial<GraphResource> = {}): GraphResource => ({
  urn: urn(type, name),
  type,
  parent: stack.urn,
  ...more,
});

const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const SECRET = "kubernetes:core/v1:Secret";
const component = (name: string) => resource(`hobnob:platform:${name}`, name.toLowerCase());
const [shop, store, api] = [component("Shop"), component("Store"), component("Api")];
const set = resource("kubernetes:apps/v1:StatefulSet", "set", { parent: store.urn });
const password = resource("aaa:index/password:Password", "password", { parent: store.urn });
const login = resource(SECRET, "login", { parent: store.urn, dependencies: [set.urn] });
const backend = resource(DEPLOYMENT, "backend", {
  parent: api.urn,
  propertyDependencies: { spec: [login.urn] },
});
const front = resource(DEPLOYMENT, "front", { parent: shop.urn, dependencies: [backend.urn, login.urn] });
const chain = [stack, shop, front, api, backend, store, password, login, set];

describe("the picture of a stack", () => {
  it("must be a box a component, with what takes longest named in it", () => {
    assert.equal(
      mermaid(picture(chain)),
      [
        "flowchart LR",
        '  g0["Store<br/>StatefulSet, Password<br/>and 1 more"]',
        '  g1["Api<br/>Deployment"]',
        '  g2["Shop<br/>Deployment"]',
        "  g0 ==> g1",
        "  g1 ==> g2",
        "  classDef critical stroke-width:3px,stroke:#b3261e",
        "  class g0,g1,g2 critical",
      ].join("\n"),
    );
  });

  it("must leave out a wait that a longer way implies, and no other", () => {
    const pairs = ({ edges }: ReturnType<typeof picture>) => edges.map(({ from, to }) => `${from} ${to}`);
    assert.deepEqual(pairs(picture(chain)), ["g0 g1", "g1 g2"]);
    const direct = { ...front, dependencies: [login.urn] };
    assert.deepEqual(pairs(picture(chain.map((each) => (each === front ? direct : each)))), ["g0 g1", "g0 g2"]);
  });

  it("must keep what two components wait for of each other", () => {
    const back = { ...set, dependencies: [front.urn] };
    const early = { ...front, dependencies: [] };
    const both = chain.map((each) => (each === set ? back : each === front ? early : each));
    assert.deepEqual(
      picture(both).edges.map(({ from, to }) => `${from} ${to}`),
      ["g2 g0", "g0 g1"],
    );
  });

  it("must take the chain that lasts longest for the critical path, not that of most resources", () => {
    const secrets = ["a", "b", "c", "d", "e", "f"].map((name, i, all) =>
      resource(SECRET, name, { dependencies: i === 0 ? [] : [urn(SECRET, all[i - 1] as string)] }),
    );
    const { criticalPath } = picture([...chain, ...secrets]);
    assert.deepEqual(
      criticalPath.map(({ urn }) => urn),
      [set, login, backend, front].map(({ urn }) => urn),
    );
  });

  it("must count what is in no component by its type, and leave out what the engine makes by itself", () => {
    const provider = { urn: urn("pulumi:providers:random", "default"), type: "pulumi:providers:random" };
    const secrets = ["a", "b"].map((name) => resource(SECRET, name));
    const only = resource(DEPLOYMENT, "only", { provider: `${provider.urn}::0a1b2c` });
    const { groups, edges, criticalPath } = picture([stack, provider, ...secrets, only]);
    assert.deepEqual([edges, criticalPath], [[], [only]]);
    assert.deepEqual(
      groups.map(({ label }) => label),
      ["Deployment only", "2 × Secret"],
    );
  });

  it("must see a provider's wait, in a state as in a program", () => {
    const provider = resource("pulumi:providers:kubernetes", "cluster", { parent: shop.urn });
    for (const id of ["", "::0a1b2c"]) {
      const user = resource(SECRET, "user", { parent: api.urn, provider: provider.urn + id });
      const { edges } = picture([stack, shop, provider, api, user]);
      assert.deepEqual(
        edges.map(({ from, to }) => `${from} ${to}`),
        ["g1 g0"],
        id,
      );
    }
  });

  it("must be the same in whatever order the resources come, as text and drawn", async () => {
    const both = [resource(DEPLOYMENT, "only"), resource("a:b:C", "other")];
    const user = resource(SECRET, "user", { dependencies: both.map(({ urn }) => urn) });
    const turned = { ...user, dependencies: [...(user.dependencies ?? [])].reverse() };
    const [one, other] = [picture([...chain, ...both, user]), picture([turned, ...both, ...chain].reverse())];
    assert.equal(mermaid(one), mermaid(other));
    assert.equal(await svg(one), await svg(other));
  });

  it("must find the chain that takes longest by whatever time each resource is said to take", () => {
    const taking = new Map([
      [set, 5],
      [login, 0],
      [backend, 3],
      [password, 7],
    ]);
    const { total, resources } = longestPath(chain, (one) => taking.get(one) ?? 0);
    assert.equal(total, 8);
    assert.deepEqual(resources.slice(0, 3), [set, login, backend]);
    taking.set(password, 9);
    assert.deepEqual(
      longestPath(chain, (one) => taking.get(one) ?? 0),
      { total: 9, resources: [password] },
    );
  });

  it("must draw every box and wait, and the critical path in red", async () => {
    const drawn = await svg(picture(chain));
    for (const word of ["Shop", "Store", "StatefulSet, Password", "Api"]) assert.ok(drawn.includes(`>${word}<`), word);
    assert.equal(drawn.match(/class="edge"/g)?.length, 2);
    assert.equal(drawn.match(/<path [^>]*stroke="#b3261e"/g)?.length, 5, "three boxes and two lines");
  });

  it("must be of 20 boxes at most for prod, or nobody reads it", async () => {
    const { groups, criticalPath } = picture(await captureStack("prod"));
    assert.ok(groups.length <= 20, `${groups.length} boxes`);
    assert.ok(criticalPath.some(({ type }) => type.endsWith(":KubernetesCluster")));
    assert.ok(criticalPath.some(({ type }) => type.endsWith(":StatefulSet")));
  });

  it("must stand in the README, and in docs/, as the program makes it", async () => {
    for (const { file, text } of await graphPictures())
      assert.equal(readFileSync(file, "utf8"), text, "run: npm run docs");
  });
});
