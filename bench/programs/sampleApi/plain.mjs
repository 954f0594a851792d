/**
 * What app/api is measured against: its routes that the benchmark asks, on Node's http module alone, with the same answers,
 * the same refusals and the same calls of Elasticsearch. It has no log, no limit of requests and no description. `pool` as
 * its argument leaves out Elastic's client too.
 */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { createServer, STATUS_CODES } from "node:http";
import { createRequire } from "node:module";
import { Pool } from "undici";

const { ELASTICSEARCH_HOSTNAME, ELASTICSEARCH_PORT, HOST, PORT } = process.env;
const MEDIA_TYPE = "application/vnd.elasticsearch+json; compatible-with=8";
const HEADERS = { accept: MEDIA_TYPE, "content-type": MEDIA_TYPE };
const ID = /^[a-z0-9][a-z0-9_-]{1,31}$/;
const BODY_BYTES = 16 * 1024;

const node = `${ELASTICSEARCH_HOSTNAME}:${ELASTICSEARCH_PORT}`;

/** By Elastic's client, set as app/api sets it. */
function throughClient() {
  const { Client } = createRequire(new URL("../../../app/api/package.json", import.meta.url))("@elastic/elasticsearch");
  const client = new Client({ node, headers: HEADERS, requestTimeout: 5_000, maxRetries: 2 });
  return async (method, path, body) => {
    const options = { meta: true, ignore: [404, 409] };
    const { statusCode, body: answer } = await client.transport.request({ method, path, body }, options);
    return { status: statusCode, body: answer };
  };
}

/** By the pool of connections alone that is below Elastic's client, with its settings. */
function throughPool() {
  const pool = new Pool(node, {
    keepAliveTimeout: 600_000,
    keepAliveMaxTimeout: 600_000,
    keepAliveTimeoutThreshold: 1_000,
    pipelining: 1,
    maxHeaderSize: 16_384,
    connections: 256,
    headersTimeout: 5_000,
    bodyTimeout: 5_000,
  });
  return async (method, path, body) => {
    const answer = await pool.request({ method, path, headers: HEADERS, body: body && JSON.stringify(body) });
    return { status: answer.statusCode, body: await answer.body.json() };
  };
}

const call = process.argv[2] === "pool" ? throughPool() : throughClient();

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const refuse = (status, message) => {
  throw new Refusal(status, message);
};

async function read(id) {
  if (!ID.test(id)) refuse(400, `params/id must match pattern "${ID.source}"`);
  return { status: 200, body: shown(await stored(id)) };
}

async function stored(id) {
  const { status, body } = await call("GET", `/users/_doc/${id}`);
  if (status === 404) refuse(404, `There is no user ${id}`);
  if (status !== 200) refuse(503, "The user store does not answer; try again in a few seconds");
  return body._source;
}

const shown = ({ id, name, about, createdAt, updatedAt }) => ({ id, name, about, createdAt, updatedAt });

async function search(query) {
  const limit = Number(query.get("limit") ?? 20);
  if (!Number.isInteger(limit)) refuse(400, "querystring/limit must be integer");
  if (limit < 1) refuse(400, "querystring/limit must be >= 1");
  if (limit > 100) refuse(400, "querystring/limit must be <= 100");
  const [words, after] = [query.get("query"), query.get("after")];
  const fields = ["id", "name", "about"];
  const { status, body } = await call("POST", "/users/_search?_source_excludes=tokenHash", {
    query: words ? { multi_match: { query: words, type: "bool_prefix", operator: "and", fields } } : { match_all: {} },
    size: limit + 1,
    ...(after !== null && { search_after: [after] }),
    sort: [{ id: "asc" }],
    track_total_hits: false,
  });
  if (status !== 200) refuse(503, "The user store does not answer; try again in a few seconds");
  const found = body.hits.hits.map(({ _source }) => shown(_source));
  const users = found.slice(0, limit);
  return { status: 200, body: { users, ...(found.length > limit && { next: users.at(-1)?.id }) } };
}

async function create(request) {
  const user = await bodyOf(request);
  for (const name of ["id", "name"])
    if (user[name] === undefined) refuse(400, `body must have required property '${name}'`);
  if (Object.keys(user).some((name) => !["id", "name", "about"].includes(name)))
    refuse(400, "body must NOT have additional properties");
  if (typeof user.id !== "string") refuse(400, "body/id must be string");
  if (!ID.test(user.id)) refuse(400, `body/id must match pattern "${ID.source}"`);
  checkText("name", user.name, 1, 100);
  if (user.about !== undefined) checkText("about", user.about, 0, 1000);
  const token = randomBytes(32).toString("base64url");
  const tokenHash = createHash("sha256").update(token).digest().toString("hex");
  const now = new Date().toISOString();
  const document = { ...user, tokenHash, createdAt: now, updatedAt: now };
  const { status } = await call("PUT", `/users/_create/${user.id}?require_alias=true`, document);
  if (status === 409 && (await stored(user.id)).tokenHash !== tokenHash) refuse(409, `The id ${user.id} is taken`);
  if (status !== 201 && status !== 409) refuse(503, "The user store does not answer; try again in a few seconds");
  return { status: 201, body: { id: user.id, token }, headers: { location: `/users/${user.id}` } };
}

function checkText(name, text, least, most) {
  if (typeof text !== "string") refuse(400, `body/${name} must be string`);
  if (text.length < least) refuse(400, `body/${name} must NOT have fewer than ${least} characters`);
  if (text.length > most) refuse(400, `body/${name} must NOT have more than ${most} characters`);
  if (!text.isWellFormed()) refuse(400, `body/${name} is no text`);
}

async function bodyOf(request) {
  if (request.headers["content-type"] !== "application/json")
    refuse(415, "The body must be of the type application/json");
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_BYTES) refuse(413, "Request body is too large");
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    return refuse(400, "The body is not valid JSON");
  }
}

function route(request) {
  const [path, query] = request.url.split("?");
  if (request.method === "POST" && path === "/users") return create(request);
  if (request.method !== "GET") return refuse(404, "There is nothing here");
  if (path === "/healthz") return { status: 200, body: { status: "alive" } };
  if (path === "/users") return search(new URLSearchParams(query));
  if (path.startsWith("/users/")) return read(decodeURIComponent(path.slice("/users/".length)));
  return refuse(404, "There is nothing here");
}

const server = createServer(async (request, response) => {
  const requestId = randomUUID();
  let answer;
  try {
    answer = await route(request);
  } catch (error) {
    const status = error.status ?? 500;
    const message = error.status ? error.message : "Something went wrong here; the request id finds it in the logs";
    answer = { status, body: { statusCode: status, error: STATUS_CODES[status], message, requestId } };
  }
  const text = JSON.stringify(answer.body);
  response.writeHead(answer.status, {
    "x-request-id": requestId,
    "access-control-allow-origin": "*",
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    ...answer.headers,
  });
  response.end(text);
});
server.keepAliveTimeout = 75_000;
server.requestTimeout = 30_000;
server.listen(Number(PORT), HOST);
