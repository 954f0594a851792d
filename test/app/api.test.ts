import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import * as http from "node:http";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import dockerignore from "@balena/dockerignore";
import getPort from "get-port";
import {
  type ElasticsearchProcesses,
  elasticsearchAvailable,
  startElasticsearch,
} from "../../local/elasticsearch/process";
import {
  type Answer,
  type Api,
  ask,
  buildApi,
  JSON_TYPE,
  PACKAGE,
  run,
  startApi,
  stop,
  stopAll,
  until,
} from "./process";

const REQUEST_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The first log line of its kind, once it has come through the pipe; every line must be JSON. */
async function logged(api: Api, isWanted: (line: Record<string, unknown>) => boolean) {
  let found: Answer["body"];
  await until(async () => {
    const lines = api.log().split("\n").slice(0, -1);
    found = lines.map((line) => JSON.parse(line)).find(isWanted);
    return found !== undefined;
  });
  return found;
}

/** Asserts an error's whole body, and that its id is the header's. */
function assertProblem(answer: Answer, statusCode: number, error: string, message: string) {
  const { requestId, ...body } = answer.body;
  assert.deepEqual([answer.status, body], [statusCode, { statusCode, error, message }]);
  assert.match(requestId, REQUEST_ID);
  assert.equal(answer.headers.get("x-request-id"), requestId);
}

const UNAVAILABLE = "The user store does not answer; try again in a few seconds";

describe("sample API", function () {
  this.timeout(180_000);

  before(buildApi);
  after(stopAll);

  describe("its image", () => {
    it("must be made of its sources alone: no other file may cause a new one", () => {
      const ignore = dockerignore().add(readFileSync(join(PACKAGE, ".dockerignore"), "utf8"));
      const files = ["package.json", "package-lock.json", ".npmrc", "tsconfig.json", "src/main.ts"];
      const others = [
        "README.md",
        "test/api.test.ts",
        "node_modules/fastify/package.json",
        "dist/main.js",
        ".env",
        "a.log",
      ];
      assert.deepEqual(ignore.filter([...files, ...others]), files);
    });

    it("must be of pinned parts, run as no root, and hand SIGTERM to the process itself", () => {
      const lines = readFileSync(join(PACKAGE, "Dockerfile"), "utf8").split("\n");
      const bases = lines.filter((line) => line.startsWith("FROM "));
      assert.deepEqual(
        bases.map((line) => line.split(" ")[1]),
        ["node:24.18.0-alpine3.24", "node:24.18.0-alpine3.24"],
      );
      const last = lines.slice(lines.lastIndexOf(bases[1] as string));
      assert.ok(last.includes("USER 10001"));
      assert.ok(last.includes('CMD ["node", "dist/main.js"]'));
    });
  });

  describe("its settings", () => {
    it("must all be checked before it listens, and every wrong one be named, without a stack", async () => {
      const child = run({
        ELASTICSEARCH_HOSTNAME: "elasticsearch",
        PORT: "http",
        LOG_LEVEL: "loud",
        DRAIN_SECONDS: "-1",
      });
      const [code] = await once(child, "close");
      assert.equal(code, 1);
      assert.equal(
        child.output(),
        [
          "Wrong settings in the environment:",
          '  ELASTICSEARCH_HOSTNAME is "elasticsearch", but must match pattern "^https?://[\\w.-]+$"',
          '  PORT is "http", but must be integer',
          '  LOG_LEVEL is "loud", but must be equal to one of the allowed values: fatal, error, warn, info, debug, trace, silent',
          '  DRAIN_SECONDS is "-1", but must be >= 0',
          "",
        ].join("\n"),
      );
    });

    it("must not give one port to two listeners", async () => {
      const child = run({ PORT: "8100" });
      const [code] = await once(child, "close");
      assert.deepEqual(
        [code, child.output()],
        [1, "Wrong settings in the environment:\n  PORT and DOCS_PORT are the same\n"],
      );
    });

    it("must end the process with the reason where a port is in use", async () => {
      const taken = createServer().listen(0, "127.0.0.1");
      await once(taken, "listening");
      const { port } = taken.address() as AddressInfo;
      const child = run({ PORT: String(port), LOG_LEVEL: "silent" });
      const [code] = await once(child, "close");
      taken.close();
      assert.deepEqual([code, child.output()], [1, `listen EADDRINUSE: address already in use 127.0.0.1:${port}\n`]);
    });
  });

  describe("without Elasticsearch", () => {
    let api: Api;
    before(async () => {
      api = await startApi(await getPort(), { PUBLIC_URL: "https://api.example.com" });
    });

    it("must stay alive, not be ready, and answer 503 without a word of its inside", async () => {
      assert.deepEqual((await ask(`${api.url}/healthz`)).body, { status: "alive" });
      const ready = await ask(`${api.url}/readyz`);
      assert.deepEqual([ready.status, ready.body], [503, { status: "waiting for Elasticsearch" }]);
      const requests = [
        ask(`${api.url}/users/ada`),
        ask(`${api.url}/users?query=ada`),
        ask(`${api.url}/users`, { json: { id: "ada", name: "Ada" } }),
      ];
      for (const answer of await Promise.all(requests)) {
        assertProblem(answer, 503, "Service Unavailable", UNAVAILABLE);
        assert.equal(answer.headers.get("retry-after"), "5");
      }
      assert.equal(api.process.exitCode, null);
    });

    it("must log each line as JSON, and say that it waits and why", async () => {
      const waiting = await logged(api, ({ msg }) => msg === "waiting for Elasticsearch");
      assert.match(waiting.reason, /ECONNREFUSED/);
    });

    it("must log one line of a request, with all that was asked and answered, and none of a probe", async () => {
      const answer = await ask(`${api.url}/users?limit=0`);
      const id = answer.headers.get("x-request-id");
      await ask(`${api.url}/healthz`);
      const { req, res, responseTime } = await logged(api, ({ reqId }) => reqId === id);
      assert.deepEqual([req.method, req.url, res.statusCode], ["GET", "/users?limit=0", 400]);
      assert.ok(responseTime > 0);
      const last = await ask(`${api.url}/nothing`);
      await logged(api, ({ reqId }) => reqId === last.headers.get("x-request-id"));
      assert.equal(api.log().split(id as string).length, 2);
      assert.equal(api.log().includes("/healthz"), false);
    });

    it("must describe itself, on a port of its own, by the schemas that check its requests", async () => {
      const { body } = await ask(`${api.docsUrl}/openapi.json`);
      assert.deepEqual(body.servers, [{ url: "https://api.example.com" }]);
      const operations = Object.entries(body.paths).flatMap(([path, methods]) =>
        Object.keys(methods as object).map((method) => `${method} ${path}`),
      );
      assert.deepEqual(operations.sort(), [
        "delete /users/{id}",
        "get /users",
        "get /users/{id}",
        "patch /users/{id}",
        "post /users",
      ]);
      const create = body.paths["/users"].post;
      const { schema } = create.requestBody.content["application/json"];
      assert.deepEqual([schema.required, schema.properties.id.pattern], [["id", "name"], "^[a-z0-9][a-z0-9_-]{1,31}$"]);
      assert.deepEqual(Object.keys(create.responses), ["201", "400", "409", "413", "415", "429", "503"]);
      assert.deepEqual(body.paths["/users/{id}"].delete.security, [{ token: [] }]);
      assert.equal(JSON.stringify(body).includes("tokenHash"), false);
      assert.equal((await ask(`${api.url}/openapi.json`)).status, 404);
    });

    it("must serve Swagger UI with its own scripts only, which may call the API on its other host", async () => {
      const page = await ask(`${api.docsUrl}/`);
      assert.equal(page.status, 200);
      assert.match(page.body, /swagger-ui-bundle\.js/);
      assert.equal(
        page.headers.get("content-security-policy"),
        "default-src 'self'; connect-src 'self' https://api.example.com; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none';",
      );
      const script = await ask(`${api.docsUrl}/static/swagger-ui-bundle.js`);
      assert.deepEqual(
        [script.status, script.headers.get("content-type")],
        [200, "application/javascript; charset=utf-8"],
      );
      const preflight = await ask(`${api.url}/users/ada`, {
        method: "OPTIONS",
        headers: { origin: "https://docs.example.com", "access-control-request-method": "PATCH" },
      });
      const allowed = ["access-control-allow-origin", "access-control-allow-methods"].map((h) =>
        preflight.headers.get(h),
      );
      assert.deepEqual([preflight.status, ...allowed], [204, "*", "GET, POST, PATCH, DELETE"]);
    });

    it("must refuse what does not fit its schemas before it asks Elasticsearch", async () => {
      const post = (json: unknown) => ask(`${api.url}/users`, { json });
      const bad = (answer: Answer, message: string) => assertProblem(answer, 400, "Bad Request", message);
      bad(await post({ id: "ada" }), "body must have required property 'name'");
      bad(await post({ id: "Ada", name: "Ada" }), 'body/id must match pattern "^[a-z0-9][a-z0-9_-]{1,31}$"');
      bad(await post({ id: "ada", name: "Ada", tokenHash: "x" }), "body must NOT have additional properties");
      bad(await ask(`${api.url}/users?limit=101`), "querystring/limit must be <= 100");
      bad(await ask(`${api.url}/users?limit=0`), "querystring/limit must be >= 1");
      bad(
        await ask(`${api.url}/users/ada`, { method: "PATCH", json: {} }),
        "body must NOT have fewer than 1 properties",
      );
      const large = await post({ id: "ada", name: "Ada", about: "x".repeat(20_000) });
      assertProblem(large, 413, "Payload Too Large", "Request body is too large");
      assertProblem(await ask(`${api.url}/nothing`), 404, "Not Found", "There is nothing here");
    });

    it("must ask for a token before it asks Elasticsearch", async () => {
      for (const authorization of [undefined, "Basic YTpi", "Bearer ", "Bearer a b"]) {
        const headers = authorization === undefined ? undefined : { authorization };
        const answer = await ask(`${api.url}/users/ada`, { method: "DELETE", headers });
        assertProblem(answer, 401, "Unauthorized", "This needs the header `Authorization: Bearer <token>`");
        assert.equal(answer.headers.get("www-authenticate"), "Bearer");
      }
    });

    describe("a client who asks too much", () => {
      const LIMIT = 5;
      /** Answers to so many requests within one second, by way of the proxy that adds whom it saw. */
      const flood = async (url: string, forwarded: (index: number) => string, count = LIMIT + 3) => {
        for (;;) {
          const begin = performance.now();
          const headers = (index: number) => ({ "x-forwarded-for": forwarded(index) });
          const asked = Array.from({ length: count }, (_, index) => ask(url, { headers: headers(index) }));
          const answers = await Promise.all(asked);
          const refused = answers.filter(({ status }) => status === 429);
          if (performance.now() - begin < 900) return { served: count - refused.length, answers, refused };
          await sleep(1_100);
        }
      };
      const start = (proxies: number) =>
        startApi(1, { RATE_LIMIT: String(LIMIT), TRUSTED_PROXIES: String(proxies), LOG_LEVEL: "error" });
      /** Refused by its schema, so that no Elasticsearch is asked. */
      const QUERY = "/users?limit=0";

      it("must be told 429 and when to come back, on every route and beside them, and nobody else", async () => {
        const own = await start(1);
        for (const [url, client] of [
          [own.url + QUERY, "192.0.2.1"],
          [own.url + QUERY, "192.0.2.2"],
          [`${own.url}/nothing`, "192.0.2.3"],
          [`${own.docsUrl}/openapi.json`, "192.0.2.1"],
        ] as const) {
          const { served, refused } = await flood(url, () => client);
          assert.equal(served, LIMIT, `${client} of ${url}`);
          const message = "At most 5 requests in a second are served; try again in a second";
          assertProblem(refused[0] as Answer, 429, "Too Many Requests", message);
          assert.equal(refused[0]?.headers.get("retry-after"), "1");
        }
        await until(async () => (await flood(own.url + QUERY, () => "192.0.2.1", 1)).served === 1);
        await stop(own.process);
      });

      it("must not pass for many by what he writes into X-Forwarded-For, with or without a proxy in front", async () => {
        const [behind, bare] = await Promise.all([start(1), start(0)]);
        assert.equal((await flood(behind.url + QUERY, (index) => `198.51.100.${index}, 192.0.2.1`)).served, LIMIT);
        assert.equal((await flood(bare.url + QUERY, (index) => `192.0.2.${index}`)).served, LIMIT);
        await Promise.all([behind, bare].map((own) => stop(own.process)));
      });

      it("must never keep the kubelet from its probes", async () => {
        const own = await start(1);
        await flood(own.url + QUERY, () => "192.0.2.1");
        const { answers } = await flood(`${own.url}/healthz`, () => "192.0.2.1", 4 * LIMIT);
        assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
        assert.equal((await flood(`${own.url}/readyz`, () => "192.0.2.1")).served, LIMIT + 3);
        await stop(own.process);
      });
    });

    it("must end at once on Ctrl-C", async () => {
      const own = await startApi(await getPort());
      own.process.kill("SIGINT");
      assert.deepEqual(await once(own.process, "exit"), [0, null]);
    });
  });

  describe("with Elasticsearch", () => {
    let elasticsearch: ElasticsearchProcesses | undefined;
    let elasticsearchUrl: string;
    let elasticsearchPort: number;
    let api: Api;

    before(async function () {
      this.timeout(600_000);
      const reason = await elasticsearchAvailable();
      if (reason) {
        // Mocha shows a skipped test, but not why.
        console.log(`    skipped: ${reason}`);
        this.skip();
      }
      elasticsearch = await startElasticsearch();
      elasticsearchUrl = elasticsearch.urls[0] as string;
      elasticsearchPort = Number(new URL(elasticsearchUrl).port);
      api = await startApi(elasticsearchPort);
      await until(async () => (await ask(`${api.url}/readyz`)).status === 200);
    });
    after(() => elasticsearch?.stop());

    async function create(id: string, name = "Ada Lovelace"): Promise<string> {
      const { status, body } = await ask(`${api.url}/users`, { json: { id, name } });
      assert.equal(status, 201, JSON.stringify(body));
      return body.token;
    }
    const withToken = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
    const searchable = () => ask(`${elasticsearchUrl}/users/_refresh`, { method: "POST" });

    it("must create a user who can then be read, and tell the token only there", async () => {
      const { status, body, headers } = await ask(`${api.url}/users`, {
        json: { id: "grace", name: "Grace Hopper", about: "Wrote the first compiler" },
      });
      assert.equal(status, 201);
      assert.deepEqual(Object.keys(body), ["id", "token"]);
      assert.equal(headers.get("location"), "/users/grace");
      assert.match(body.token, /^[\w-]{43}$/);
      const read = await ask(`${api.url}/users/grace`);
      const { createdAt, updatedAt, ...rest } = read.body;
      assert.deepEqual(
        [read.status, rest],
        [200, { id: "grace", name: "Grace Hopper", about: "Wrote the first compiler" }],
      );
      assert.equal(createdAt, updatedAt);
      assert.equal(new Date(createdAt).toISOString(), createdAt);
    });

    it("must store of a token only its SHA-256, and log neither", async () => {
      const token = await create("hash");
      const hash = createHash("sha256").update(token).digest("hex");
      const { body } = await ask(`${elasticsearchUrl}/users/_doc/hash`);
      assert.equal(body._source.tokenHash, hash);
      assert.equal(JSON.stringify(body).includes(token), false);
      const deleted = await ask(`${api.url}/users/hash`, { method: "DELETE", ...withToken(token) });
      assert.equal(deleted.status, 204);
      await logged(
        api,
        (line) => line.reqId === deleted.headers.get("x-request-id") && line.msg === "request completed",
      );
      for (const secret of [token, hash]) assert.equal(api.log().includes(secret), false);
    });

    it("must give one id to one of many who ask at the same time", async () => {
      const json = { id: "wanted", name: "Wanted" };
      const answers = await Promise.all(Array.from({ length: 20 }, () => ask(`${api.url}/users`, { json })));
      const created = answers.filter(({ status }) => status === 201);
      assert.equal(created.length, 1);
      for (const answer of answers.filter((other) => other !== created[0])) {
        assertProblem(answer, 409, "Conflict", "The id wanted is taken");
      }
      const { status } = await ask(`${api.url}/users/wanted`, {
        method: "DELETE",
        ...withToken(created[0]?.body.token),
      });
      assert.equal(status, 204);
    });

    it("must change a user for the token's owner alone, and only what was sent", async () => {
      const token = await create("mary", "Mary");
      const other = await create("other", "Other");
      const patch = (json: object, init = {}) => ask(`${api.url}/users/mary`, { method: "PATCH", json, ...init });
      const headers = (bearer: string) => ({ headers: { authorization: `Bearer ${bearer}` } });
      assert.equal((await patch({ name: "X" })).status, 401);
      assertProblem(
        await patch({ name: "X" }, headers(other)),
        403,
        "Forbidden",
        "The token is not that of the user mary",
      );
      const { status, body } = await patch({ about: "Mathematician" }, headers(token));
      assert.equal(status, 200);
      const { createdAt, updatedAt, ...rest } = body;
      assert.deepEqual(rest, { id: "mary", name: "Mary", about: "Mathematician" });
      assert.ok(updatedAt > createdAt);
      assert.deepEqual((await ask(`${api.url}/users/mary`)).body, body);
    });

    it("must delete a user for the token's owner alone, after which the id is free and the old token worthless", async () => {
      const token = await create("alan");
      const remove = (bearer: string) => ask(`${api.url}/users/alan`, { method: "DELETE", ...withToken(bearer) });
      assertProblem(await remove("wrong"), 403, "Forbidden", "The token is not that of the user alan");
      assert.equal((await remove(token)).status, 204);
      assertProblem(await remove(token), 404, "Not Found", "There is no user alan");
      assertProblem(await ask(`${api.url}/users/alan`), 404, "Not Found", "There is no user alan");
      await create("alan");
      assertProblem(await remove(token), 403, "Forbidden", "The token is not that of the user alan");
    });

    it("must find users by words and their beginnings, a bounded page at a time, each once", async () => {
      const ids = Array.from({ length: 23 }, (_, index) => `member-${String(index).padStart(2, "0")}`);
      await Promise.all(ids.map((id) => create(id, "Kurt Gödel")));
      await create("emmy", "Emmy Noether");
      await searchable();
      const sizes: number[] = [];
      const found: string[] = [];
      let after: string | undefined;
      do {
        const { body } = await ask(`${api.url}/users?query=kurt%20göd&limit=10${after ? `&after=${after}` : ""}`);
        sizes.push(body.users.length);
        found.push(...body.users.map((user: { id: string }) => user.id));
        after = body.next;
      } while (after);
      assert.deepEqual(sizes, [10, 10, 3]);
      assert.deepEqual(found, ids);
      const [emmy] = (await ask(`${api.url}/users?query=noeth`)).body.users;
      assert.deepEqual(Object.keys(emmy), ["id", "name", "createdAt", "updatedAt"]);
      assert.deepEqual((await ask(`${api.url}/users?query=nobody`)).body, { users: [] });
      assert.equal((await ask(`${api.url}/users`)).body.users.length, 20);
    });

    it("must page to the last of more users than Elasticsearch's window of 10 000 holds", async () => {
      const ids = Array.from({ length: 10_050 }, (_, index) => `window-${String(index).padStart(5, "0")}`);
      const now = new Date().toISOString();
      const lines = ids.flatMap((id) => [
        { index: { _id: id } },
        { id, name: "Window", tokenHash: "", createdAt: now, updatedAt: now },
      ]);
      const body = `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`;
      const bulk = await ask(`${elasticsearchUrl}/users/_bulk?refresh=true`, { method: "POST", body });
      assert.equal(bulk.body.errors, false);
      const found: string[] = [];
      let after: string | undefined;
      do {
        const page = await ask(`${api.url}/users?query=window&limit=100${after ? `&after=${after}` : ""}`);
        assert.equal(page.status, 200);
        found.push(...page.body.users.map((user: { id: string }) => user.id));
        after = page.body.next;
      } while (after);
      assert.deepEqual(found, ids);
      for (const limit of [101, 10_000, 10_001])
        assert.equal((await ask(`${api.url}/users?limit=${limit}`)).status, 400);
    });

    it("must keep users in one strictly mapped shard that has a copy wherever there is a second node", async () => {
      const { body } = await ask(`${elasticsearchUrl}/users`);
      assert.deepEqual(Object.keys(body), ["users-1"]);
      const { settings, mappings } = body["users-1"];
      assert.deepEqual([settings.index.number_of_shards, settings.index.auto_expand_replicas], ["1", "0-1"]);
      assert.equal(mappings.dynamic, "strict");
      assert.deepEqual(mappings.properties.tokenHash, { type: "keyword", index: false, doc_values: false });
    });

    it("must not tell a client what went wrong inside, but let its id find it in the logs", async () => {
      await ask(`${elasticsearchUrl}/users/_doc/broken`, { method: "PUT", json: { id: "broken", name: "No token" } });
      const answer = await ask(`${api.url}/users/broken`, { method: "DELETE", ...withToken("any") });
      const message = "Something went wrong here; the request id finds it in the logs";
      assertProblem(answer, 500, "Internal Server Error", message);
      const line = await logged(api, ({ reqId, msg }) => reqId === answer.body.requestId && msg === "request failed");
      assert.equal(line.level, 50);
      assert.match(line.stack, /TypeError/);
      await ask(`${elasticsearchUrl}/users/_doc/broken`, { method: "DELETE" });
    });

    it("must not pass on what Elasticsearch refuses it", async () => {
      const block = (write: boolean) =>
        ask(`${elasticsearchUrl}/users-1/_settings`, { method: "PUT", json: { "index.blocks.write": write } });
      await block(true);
      const answer = await ask(`${api.url}/users`, { json: { id: "blocked", name: "Blocked" } });
      await block(false);
      const message = "Something went wrong here; the request id finds it in the logs";
      assertProblem(answer, 500, "Internal Server Error", message);
    });

    it("must not make a lost index anew with a guessed mapping", async () => {
      await ask(`${elasticsearchUrl}/users-1`, { method: "DELETE" });
      assertProblem(await ask(`${api.url}/users/ada`), 503, "Service Unavailable", UNAVAILABLE);
      assertProblem(
        await ask(`${api.url}/users`, { json: { id: "ada", name: "Ada" } }),
        503,
        "Service Unavailable",
        UNAVAILABLE,
      );
      await until(async () => (await ask(`${api.url}/readyz`)).status === 200);
      assert.equal((await ask(`${elasticsearchUrl}/users`)).body["users-1"].mappings.dynamic, "strict");
      assertProblem(await ask(`${api.url}/users/ada`), 404, "Not Found", "There is no user ada");
    });

    it("must become ready in every replica by itself when Elasticsearch comes up", async () => {
      await ask(`${elasticsearchUrl}/users-1`, { method: "DELETE" });
      const port = await getPort();
      const replicas = await Promise.all([startApi(port), startApi(port), startApi(port)]);
      for (const { url } of replicas) assert.equal((await ask(`${url}/readyz`)).status, 503);
      const relay = await forward(port, elasticsearchPort);
      // By itself: nobody asks /readyz, which would make the index too.
      await until(async () => replicas.every(({ log }) => log().includes('"msg":"ready"')));
      for (const { url } of replicas) assert.equal((await ask(`${url}/readyz`)).status, 200);
      await Promise.all(replicas.map(({ process }) => stop(process)));
      relay.close();
    });

    it("must answer a request that is under way at SIGTERM, and ask its client to reconnect elsewhere", async () => {
      const own = await startApi(elasticsearchPort);
      const body = JSON.stringify({ id: "late", name: "Late" });
      const request = http.request(`${own.url}/users`, {
        method: "POST",
        headers: { ...JSON_TYPE, "content-length": body.length, expect: "100-continue" },
        agent: new http.Agent({ keepAlive: true }),
      });
      const arrived = once(request, "continue");
      request.write(body.slice(0, 10));
      await arrived;
      own.process.kill("SIGTERM");
      await until(async () => (await ask(`${own.url}/readyz`)).body.status === "stopping");
      assert.equal((await ask(`${own.url}/healthz`)).status, 200);
      const answered = once(request, "response");
      request.end(body.slice(10));
      const [response] = (await answered) as [http.IncomingMessage];
      response.resume();
      assert.deepEqual([response.statusCode, response.headers.connection], [201, "close"]);
      assert.deepEqual(await once(own.process, "exit"), [0, null]);
    });

    it("must lose no request at SIGTERM under load", async () => {
      const replicas = await Promise.all([startApi(elasticsearchPort), startApi(elasticsearchPort)]);
      const load = new Load(replicas);
      await until(async () => load.answered(0) > 100 && load.answered(1) > 100);
      const before = load.answered(0);
      replicas[0]?.process.kill("SIGTERM");
      assert.deepEqual(await once((replicas[0] as Api).process, "exit"), [0, null]);
      const after = load.answered(1);
      await until(async () => load.answered(1) > after + 100);
      await load.stop();
      assert.deepEqual(load.lost, []);
      assert.ok(load.answered(0) > before, "the stopping replica served what still came");
    });
  });
});

/** Clients behind a balancer: it sends a request to any replica that was ready when it last looked. */
class Load {
  readonly lost: string[] = [];
  private readonly counts: number[];
  private readonly ready: boolean[];
  private readonly work: Promise<void>[];
  private readonly agent = new http.Agent({ keepAlive: true });
  private running = true;

  constructor(private readonly replicas: Api[]) {
    this.counts = replicas.map(() => 0);
    this.ready = replicas.map(() => false);
    const clients = Array.from({ length: 8 }, (_, client) => this.client(client));
    this.work = [this.watch(), ...clients];
  }

  answered(replica: number): number {
    return this.counts[replica] as number;
  }

  async stop(): Promise<void> {
    this.running = false;
    await Promise.all(this.work);
    this.agent.destroy();
  }

  private async watch(): Promise<void> {
    while (this.running) {
      for (const [index, { url }] of this.replicas.entries()) {
        this.ready[index] = await ask(`${url}/readyz`).then(
          ({ status }) => status === 200,
          () => false,
        );
      }
      await sleep(100);
    }
  }

  private async client(client: number): Promise<void> {
    for (let turn = 0; this.running; turn++) {
      const able = this.ready.flatMap((ready, index) => (ready ? [index] : []));
      const index = able[(client + turn) % able.length];
      if (index === undefined) await sleep(20);
      else await this.request(index, turn % 4 === 0 ? `load-${client}-${turn}` : undefined);
    }
  }

  private async request(index: number, newUser?: string): Promise<void> {
    const url = `${this.replicas[index]?.url}/users${newUser ? "" : "?limit=1"}`;
    try {
      const request = http.request(url, { agent: this.agent, method: newUser ? "POST" : "GET", headers: JSON_TYPE });
      request.end(newUser && JSON.stringify({ id: newUser, name: "Load" }));
      const [response] = (await once(request, "response")) as [http.IncomingMessage];
      for await (const _ of response);
      if (response.statusCode !== (newUser ? 201 : 200)) this.lost.push(`${url}: ${response.statusCode}`);
      this.counts[index] = this.answered(index) + 1;
    } catch (error) {
      this.lost.push(`${url}: ${(error as Error).message}`);
    }
  }
}

/** Makes a server of one port answer on another. */
async function forward(port: number, target: number): Promise<Server> {
  const server = createServer((socket) => {
    const upstream = connect(target, "127.0.0.1");
    socket.pipe(upstream).pipe(socket);
    for (const end of [socket, upstream]) end.on("error", () => [socket, upstream].map((other) => other.destroy()));
  }).listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}
