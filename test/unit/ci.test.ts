import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { previewComment } from "../../operations/ciPreview";
import type { EngineEvent } from "../../operations/events";
import { type Repository, repositoryOf, upsertComment, upsertIssue } from "../../operations/github";
import { deployedStacks, touchedStacks } from "../../operations/touched";

describe("the stacks that a change touches", () => {
  const stacks = ["dev", "prod"];
  const touched = (...files: string[]) => touchedStacks(files, stacks);

  it("must be the one whose settings alone have changed", () => {
    assert.deepEqual(touched("Pulumi.prod.yaml"), ["prod"]);
    assert.deepEqual(touched("Pulumi.prod.yaml", "README.md"), ["prod"]);
    assert.deepEqual(touched("Pulumi.dev.yaml", "Pulumi.prod.yaml"), stacks);
  });

  it("must be all where the program, the image, a policy, a package or the project has changed", () => {
    for (const file of [
      "index.ts",
      "components/api.ts",
      "app/api/src/main.ts",
      "policy/policies.ts",
      "package-lock.json",
      "Pulumi.yaml",
    ])
      assert.deepEqual(touched(file), stacks, file);
  });

  it("must be all where it is not known what a file is for", () => assert.deepEqual(touched("new/thing.bin"), stacks));

  it("must be none where only texts, tests, examples or the local platform have changed", () => {
    assert.deepEqual(
      touched("README.md", "docs/ci.md", "test/unit/ci.test.ts", "local/cli.ts", "examples/kubia/index.ts"),
      [],
    );
    assert.deepEqual(touched("Pulumi.local.yaml"), []);
    assert.deepEqual(touched("examples/kubia/Pulumi.dev.yaml"), [], "another project's");
  });

  it("must be chosen among those that are deployed: with settings, and not of this machine", () => {
    const settings = { config: { "hobnob:domain": "example.com" } };
    const files = {
      "Pulumi.prod.yaml": settings,
      "Pulumi.local.yaml": settings,
      "Pulumi.dev.yaml": settings,
      "Pulumi.empty.yaml": {},
      "Pulumi.none.yaml": null,
    };
    assert.deepEqual(deployedStacks(files), stacks);
  });
});

describe("what is written at GitHub", () => {
  let server: Server;
  let at: Repository;
  let calls: string[];
  let items: object[];
  let status = 200;

  before(async () => {
    server = createServer((request, response) => {
      let body = "";
      request.on("data", (part) => {
        body += part;
      });
      request.on("end", () => {
        assert.equal(request.headers.authorization, "Bearer token");
        calls.push(`${request.method} ${request.url} ${body}`.trim());
        const page = Number(new URL(request.url ?? "", "http://x").searchParams.get("page"));
        const answer = request.method === "GET" ? items.slice((page - 1) * 100, page * 100) : {};
        response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(answer));
      });
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    at = { api: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, name: "acme/hobnob", token: "token" };
  });
  beforeEach(() => {
    [calls, items, status] = [[], [], 200];
  });
  after(() => server.close());
  const changes = () => calls.filter((call) => !call.startsWith("GET"));

  it("must be one comment for a stack, updated in place, wherever it stands among others", async () => {
    await upsertComment(at, 7, "<!-- prod -->", "<!-- prod --> first");
    assert.deepEqual(changes(), ['POST /repos/acme/hobnob/issues/7/comments {"body":"<!-- prod --> first"}']);
    calls = [];
    items = Array.from({ length: 150 }, (_, id) => ({
      id,
      body: id === 140 ? "<!-- prod --> old" : "quotes <!-- prod -->",
    }));
    await upsertComment(at, 7, "<!-- prod -->", "new");
    assert.deepEqual(changes(), ['PATCH /repos/acme/hobnob/issues/comments/140 {"body":"new"}']);
  });

  it("must be one issue on drift: opened, updated, and closed where there is none any more", async () => {
    const issue = { title: "Drift of prod", body: "<!-- drift --> x" };
    await upsertIssue(at, "<!-- drift -->", undefined);
    await upsertIssue(at, "<!-- drift -->", issue);
    items = [
      { number: 3, body: "<!-- drift --> in a pull request", pull_request: {} },
      { number: 4, body: "<!-- drift --> y" },
    ];
    await upsertIssue(at, "<!-- drift -->", issue);
    await upsertIssue(at, "<!-- drift -->", undefined);
    assert.deepEqual(
      changes().map((call) => call.replace(/ \{.*/, "")),
      ["POST /repos/acme/hobnob/issues", "PATCH /repos/acme/hobnob/issues/4", "PATCH /repos/acme/hobnob/issues/4"],
    );
    assert.match(changes().at(-1) ?? "", /"state":"closed"/);
  });

  it("must fail with GitHub's own words, and without a token before it is asked", async () => {
    status = 403;
    await assert.rejects(upsertComment(at, 7, "m", "b"), /GitHub answered 403 to GET issues\/7\/comments/);
    assert.throws(() => repositoryOf({ GITHUB_REPOSITORY: "a/b" }), {
      message: "Missing in the environment: GITHUB_TOKEN",
    });
  });
});

describe("the preview of a pull request", () => {
  const stack = (before: object, after: object): EngineEvent => {
    const type = "pulumi:pulumi:Stack";
    const state = (outputs: object) => ({ type, urn: "", outputs: outputs as Record<string, unknown> });
    return { resOutputsEvent: { metadata: { op: "same", urn: "", type, old: state(before), new: state(after) } } };
  };
  const cost = (price: number) => ({ monthlyCost: { priced: true, minimum: price, maximum: price } });
  /** Stands for the engine: writes its log, and ends. */
  const commentOn = async (events: EngineEvent[], env = {}) => {
    const said: string[][] = [];
    const { comment } = await previewComment(
      "prod",
      async (args) => {
        said.push(args);
        writeFileSync(args[args.indexOf("--event-log") + 1] ?? "", events.map((one) => JSON.stringify(one)).join("\n"));
        return { exitCode: 0 };
      },
      env,
    );
    return { comment, args: said.flat() };
  };

  it("must tell what the stack will cost and how much more that is, by the stack's own outputs", async () => {
    const { comment } = await commentOn([stack({}, {}), stack(cost(96), cost(108))]);
    assert.match(comment, /^\*\*Cost:\*\* \$108\.00 a month, \$12\.00 more than now$/m);
    assert.match((await commentOn([stack({}, cost(108))])).comment, /^\*\*Cost:\*\* \$108\.00 a month$/m);
    assert.doesNotMatch((await commentOn([stack({}, {})])).comment, /Cost/);
  });

  it("must be judged by the policies, and say where it was made", async () => {
    const at = { GITHUB_SERVER_URL: "https://github.com", GITHUB_REPOSITORY: "a/b", GITHUB_RUN_ID: "7" };
    const { comment, args } = await commentOn([], at);
    assert.match(args.join(" "), /--policy-pack \S+policy\/pack/);
    assert.match(comment, /<sub>Made by \[this run\]\(https:\/\/github\.com\/a\/b\/actions\/runs\/7\)/);
  });
});
