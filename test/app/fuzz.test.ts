import assert from "node:assert/strict";
import { once } from "node:events";
import * as http from "node:http";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import * as fc from "fast-check";
import { z } from "zod";
import {
  type ElasticsearchProcesses,
  elasticsearchAvailable,
  startElasticsearch,
} from "../../local/elasticsearch/process";
import { recordFigures } from "../figures";
import { type Case, cases, type Operation, operationsOf, type Schema, strangePaths } from "./generator";
import { type Api, ask, buildApi, startApi, stopAll, until } from "./process";

const RUNS = process.env.HOBNOB_FAULTS ? 100 * Number(process.env.HOBNOB_FAULTS) : 400;

/** What tells of the inside: stack traces, files, modules, and what Elasticsearch, the framework or the engine says. */
const INSIDE = new RegExp(
  [
    /\bat .+:\d+:\d+/,
    /\/(home|root|tmp|usr|app|work|var)\/|node_modules/,
    /\b(FST|ERR|HPE)_[A-Z_]+|\bE(CONN|PIPE|NOENT|ADDR|TIME)[A-Z]*\b/,
    /[Ff]astify|[Aa]jv|[Ll]ucene|[Ee]lastic|_exception|users-1|tokenHash|\bshards?\b|\bmapping\b/,
    /\b\w+Error\b|Unexpected (token|end)|in JSON at/,
  ]
    .map(({ source }) => source)
    .join("|"),
);
const INSIDE_HEADERS = ["server", "x-powered-by", "x-elastic-product", "warning"];

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

describe("sample API, whatever it is sent", function () {
  this.timeout(600_000);
  let elasticsearch: ElasticsearchProcesses | undefined;
  let elasticsearchUrl: string;
  let api: Api;
  let operations: Operation[];
  let problem: Schema;
  /** Tokens by the ids of the users that there are. */
  const users = new Map<string, string>();
  const created = new Set<string>();
  /** Users that a request without an answer may have deleted. */
  const uncertain = new Set<string>();
  const agent = new http.Agent({ keepAlive: true });
  /** All that was sent: an answer may say it again, and what a user wrote of itself comes in lists. */
  let said = "";
  let unavailable = 0;

  before(async function () {
    const reason = await elasticsearchAvailable();
    if (reason) {
      console.log(`    skipped: ${reason}`);
      this.skip();
    }
    [elasticsearch] = await Promise.all([startElasticsearch(), buildApi()]);
    elasticsearchUrl = elasticsearch.urls[0] as string;
    api = await startApi(Number(new URL(elasticsearchUrl).port), { LOG_LEVEL: "error" });
    await until(async () => (await ask(`${api.url}/users/nobody`)).status === 404);
    operations = operationsOf((await ask(`${api.docsUrl}/openapi.json`)).body);
    problem = operations[0]?.responses["400"] as Schema;
  });
  after(async () => {
    agent.destroy();
    await stopAll();
    await elasticsearch?.stop();
  });

  /** Nothing where the connection was closed on a request that is too large before all of it was sent. */
  async function send(one: Case, url = api.url): Promise<Answer | undefined> {
    const { method, path, headers, body, known } = one;
    const [id, token] = [...users][(known ?? 0) % Math.max(1, users.size)] ?? ["nobody", "none"];
    const request = http.request(url, {
      agent,
      method,
      path: path.replace("{known}", id),
      headers: { ...(path.includes("{known}") && { authorization: `Bearer ${token}` }), ...headers },
    });
    // Node frames no body of a DELETE by itself: it would stand there as the next request, and its 400 as this one's answer.
    if (body !== undefined) request.setHeader("content-length", Buffer.byteLength(body));
    const large = size(one) > 8_000;
    // What else it tells comes after the answer.
    request.on("error", () => {});
    const answered = once(request, "response").catch((error) => {
      // The other side may also close an idle connection at the very moment that it is used again.
      if (!large && !request.reusedSocket) throw error;
      return [];
    });
    request.end(body);
    const [response] = (await answered) as [http.IncomingMessage?];
    if (method === "DELETE" && (!response || response.statusCode === 503)) uncertain.add(id);
    if (!response) return large ? undefined : send(one, url);
    let text = "";
    for await (const chunk of response.setEncoding("utf8")) text += chunk;
    return { status: response.statusCode ?? 0, headers: response.headers, body: text };
  }

  const operationOf = (method: string, path: string) =>
    operations.find((operation) => {
      const template = new RegExp(`^${operation.path.replace(/\{\w+\}/, "[^/]+")}$`);
      return operation.method === (method === "HEAD" ? "GET" : method) && template.test(path.split(/[?#]/)[0] ?? "");
    });

  /** Throws where the answer is not one that the description promises, or tells what is inside. */
  function judge(
    { method, path }: Pick<Case, "method" | "path">,
    { status, headers, body }: Answer,
    sent: string,
    undescribed = false,
  ) {
    assert.ok(status < 500, `${status} ${body}`);
    for (const name of INSIDE_HEADERS) assert.equal(headers[name], undefined, name);
    const [told] = INSIDE.exec(`${JSON.stringify(headers)}\n${body}`) ?? [];
    assert.ok(told === undefined || sent.includes(told), `tells "${told}": ${body}`);
    if (method === "HEAD" || (method === "OPTIONS" && status === 204)) return assert.equal(body, "");
    const operation = undescribed || status === 431 ? undefined : operationOf(method, path);
    const schema = operation ? operation.responses[status] : problem;
    assert.notEqual(schema, undefined, `${method} ${operation?.path} does not describe ${status}: ${body}`);
    if (schema === null) return assert.equal(body, "");
    const parsed = closed(schema as Schema).safeParse(JSON.parse(body));
    assert.ok(parsed.success, `${status} ${body} is not as described: ${parsed.error?.message}`);
    if (status < 400) return;
    const { statusCode, requestId } = JSON.parse(body);
    assert.deepEqual([statusCode, requestId], [status, headers["x-request-id"]]);
  }

  it("must answer as it describes, never with 5xx, and tell nothing of its inside", async () => {
    const statuses: Record<string, number> = {};
    const routes = new Set<string>();
    let unanswered = 0;
    const property = fc.asyncProperty(cases(operations), async (one) => {
      let answer = await send(one);
      // The one described answer that is nobody's fault: a busy machine's Elasticsearch that takes too long. It must pass.
      for (let tries = 0; answer?.status === 503 && tries < 5; tries++) {
        unavailable++;
        await sleep(1_000);
        answer = await send(one);
      }
      if (!answer) return void unanswered++;
      const { method, path } = one;
      said += JSON.stringify(one);
      judge(one, answer, said + [...users.keys()].join());
      statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
      const operation = operationOf(method, path);
      if (operation) routes.add(`${operation.method} ${operation.path}`);
      if (answer.status === 201) {
        const { id, token } = JSON.parse(answer.body);
        users.set(id, token);
        created.add(id);
      }
      if (answer.status === 204 && method === "DELETE")
        users.delete([...users.keys()][(one.known ?? 0) % users.size] ?? "");
    });
    const tooLarge = { method: "POST", path: "/users", headers: { "content-type": "application/json" } };
    // Chance alone sends too rarely what this answer is for.
    const examples: [Case][] = [[{ ...tooLarge, body: JSON.stringify({ name: "x".repeat(20_000) }) }]];
    await fc.assert(property, { numRuns: RUNS, examples, interruptAfterTimeLimit: 480_000 });
    assert.equal(routes.size, operations.length, `never reached: ${[...routes]}`);
    for (const status of [200, 201, 204, 400, 401, 404, 413, 415])
      assert.ok(statuses[status], `never answered ${status}: ${JSON.stringify(statuses)}`);
    assert.equal((await ask(`${api.url}/readyz`)).status, 200);
    assert.equal(api.process.exitCode, null);
    recordFigures("api-fuzz", {
      requests: Object.values(statuses).reduce((sum, count) => sum + count, unanswered),
      routes: routes.size,
      "different answers": Object.keys(statuses).length,
      "answers of 5xx": Object.entries(statuses).filter(([status]) => Number(status) >= 500).length,
      "answers of 503 that a second try mended": unavailable,
      "answers that tell of the inside": 0,
    });
  });

  it("must have let nothing through to Elasticsearch but users in its own index", async () => {
    const indices = (await ask(`${elasticsearchUrl}/_all?expand_wildcards=all`)).body;
    assert.deepEqual(Object.keys(indices), ["users-1"]);
    assert.deepEqual(Object.keys(indices["users-1"].mappings.properties).sort(), [
      "about",
      "createdAt",
      "id",
      "name",
      "tokenHash",
      "updatedAt",
    ]);
    await ask(`${elasticsearchUrl}/users/_refresh`, { method: "POST" });
    const { hits } = (await ask(`${elasticsearchUrl}/users/_search?size=1000&_source=false`)).body.hits;
    const strangers = hits.filter(({ _id }: { _id: string }) => !created.has(_id));
    // Whether a write that was answered 503 has been made, nobody can know.
    assert.ok(strangers.length <= unavailable, JSON.stringify(strangers));
    const kept = new Set(hits.map(({ _id }: { _id: string }) => _id));
    const lost = [...users.keys()].filter((id) => !kept.has(id) && !uncertain.has(id));
    assert.deepEqual(lost, [], "answered 201, and gone");
  });

  it("must tell nothing of its inside on the listener of its documentation either", async () => {
    const property = fc.asyncProperty(strangePaths, async (path) => {
      const answer = await send({ method: "GET", path, headers: {} }, api.docsUrl);
      if (answer && answer.status >= 400) judge({ method: "GET", path }, answer, path, true);
    });
    await fc.assert(property, { numRuns: Math.round(RUNS / 5) });
  });

  const garbage: [string, string][] = [
    ["no HTTP at all", "\u0000\u0001\u0002 hello\r\n\r\n"],
    ["another version of HTTP", "GET /users HTTP/9.9\r\nHost: a\r\n\r\n"],
    ["no host", "GET /users HTTP/1.1\r\n\r\n"],
    ["a header that is none", "GET /users HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n"],
    ["headers without end", `GET /users HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(40_000)}\r\n\r\n`],
    ["an endless path", `GET /${"x".repeat(40_000)} HTTP/1.1\r\nHost: a\r\n\r\n`],
    [
      "two lengths at once",
      "POST /users HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    [
      "a chunk of no size",
      "POST /users HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ["raw bytes in the path", "GET /users/\u00e4\u0007 HTTP/1.1\r\nHost: a\r\n\r\n"],
    ["the form for proxies", "GET http://127.0.0.1/users?limit=0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"],
  ];
  for (const [title, bytes] of garbage) {
    it(`must refuse ${title} with its own words`, async () => {
      const { hostname, port } = new URL(api.url);
      const socket = connect(Number(port), hostname);
      let text = "";
      socket.on("data", (chunk) => (text += chunk)).on("error", () => {});
      socket.write(bytes, "latin1");
      await once(socket, "close");
      const [head = "", body = ""] = text.split("\r\n\r\n");
      assert.match(head, /^HTTP\/1\.1 4\d\d /, text);
      const told = INSIDE.exec(text);
      assert.equal(told, null, text);
      // What has no host Node itself refuses, without a word.
      if (title === "no host") return assert.equal(body, "0");
      const parsed = closed(problem).safeParse(JSON.parse(body));
      assert.ok(parsed.success, `${body}: ${parsed.error?.message}`);
    });
  }
});

const size = ({ path, headers, body }: Case): number =>
  path.length + JSON.stringify(headers).length + (body?.length ?? 0);

/** The schema as a check that also refuses what the schema does not name. */
function closed(schema: Schema) {
  const close = (part: unknown): unknown => {
    if (Array.isArray(part)) return part.map(close);
    if (typeof part !== "object" || part === null) return part;
    const entries = Object.entries(part).map(([key, value]) => [key, close(value)]);
    const isObject = "properties" in part && !("additionalProperties" in part);
    return { ...Object.fromEntries(entries), ...(isObject && { additionalProperties: false }) };
  };
  return z.fromJSONSchema(close(schema) as Parameters<typeof z.fromJSONSchema>[0]);
}
