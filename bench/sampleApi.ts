import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import autocannon from "autocannon";
import getPort from "get-port";
import { elasticsearchAvailable, startElasticsearch } from "../local/elasticsearch/process";
import { ask, buildApi, JSON_TYPE, PROGRAM, run, stop, until } from "../test/app/process";
import { UserError } from "../violations";
import { alternate, type Bench, type Context, type Figures, ratio, type Variant, watchMemory } from "./harness";

const PROGRAMS = join(__dirname, "programs/sampleApi");
const PLAIN = join(PROGRAMS, "plain.mjs");
/** How each is started. */
const SERVERS = { "app/api": [PROGRAM], http: [PLAIN], "http without Elastic's client": [PLAIN, "pool"] };
type Server = keyof typeof SERVERS;
const each = <T>(made: (name: Server) => T) =>
  Object.fromEntries((Object.keys(SERVERS) as Server[]).map((name) => [name, made(name)])) as Record<Server, T>;

const CONNECTIONS = 32;
const WARM_UP = 2_000;
const REQUESTS = 8_000;
/** Between these two the memory must not grow. */
const [EARLY, LATE] = [20_000, 200_000];
const USERS = 1_000;

const userOf = (index: number) => ({ id: `user-${index}`, name: `Ada ${index}`, about: "Wrote the first program" });

export default {
  name: "sampleApi",
  title: "The sample API against the same routes on Node's http module",
  minutes: 8,
  run: measure,
} satisfies Bench;

async function measure(context: Context) {
  const reason = await elasticsearchAvailable();
  if (reason) throw new UserError(`This benchmark needs a real Elasticsearch process: ${reason}`);
  const [elasticsearch] = await Promise.all([startElasticsearch(), buildApi()]);
  try {
    const store = await Store.open(elasticsearch.urls[0] as string, context.scratch);
    await assertSame(store, context.scratch);
    context.say("both give the same answers, by the same calls of Elasticsearch");
    const speed = await measureLoad(store, context);
    const memory = await measureMemory(store, context);
    return {
      cases: [...speed.cases, ...memory.cases],
      goals: [...speed.goals, ...memory.goals],
      notes: [
        `The load: autocannon, ${CONNECTIONS} kept connections that each ask again as soon as they are answered; of ten requests six read a user by id, two list or search, one creates, one is /healthz. A round is ${REQUESTS} requests after ${WARM_UP} to get warm.`,
        "Load, API and Elasticsearch share the machine's processors, so that requests per second tell of all three; the processor time is the server's own.",
        "app/api runs as it is shipped: a log line of each request, a limit of requests per client, checks and answers by the schemas of its description. The server on Node's http module has none of these, and calls Elasticsearch by the same client with the same settings. How much that client takes, the third variant shows, which has only the pool of connections below it: it has no goal.",
        `Memory is taken after two full collections. Meanwhile ${(LATE - EARLY) / 10} users are created.`,
      ],
    };
  } finally {
    await elasticsearch.stop();
  }
}

async function measureLoad(store: Store, context: Context) {
  const rounds = each<Round[]>(() => []);
  const variant = (name: Server): Variant => {
    let server: Running;
    return {
      prepare: async () => {
        await store.reset();
        server = await start(name, store.url, context.scratch);
        await load(server.url, WARM_UP);
      },
      run: async () => {
        const peak = watchMemory(server.process.pid);
        const round = await load(server.url, REQUESTS, server.process.pid);
        rounds[name].push(round);
        return { seconds: round.seconds, megabytes: peak() };
      },
      restore: () => stop(server.process),
    };
  };
  const warm = variant("http");
  // Elasticsearch is slow until its own code is compiled.
  await warm.prepare?.();
  await warm.run();
  await warm.restore?.();
  rounds.http.length = 0;
  const seconds = await alternate(each(variant), context);
  const of = (unit: string, figure: (round: Round) => number) => {
    return each((name): Figures => ({ samples: rounds[name].map(figure), unit }));
  };
  const perSecond = of("requests/s", (round) => REQUESTS / round.seconds);
  for (const name of Object.keys(SERVERS) as Server[]) perSecond[name].megabytes = seconds[name].megabytes;
  const p99 = of("ms", (round) => round.p99);
  const cases = [
    { case: "load", variants: perSecond },
    { case: "99 of 100 requests within", variants: p99 },
    { case: "processor time of a request", variants: of("µs", (round) => round.processorMicroseconds) },
  ];
  const goals = [
    { goal: "4. requests per second: app/api ÷ http", value: ofServers(perSecond), atLeast: 0.8 },
    { goal: "4. p99: app/api ÷ http", value: ofServers(p99), atMost: 1.5 },
  ];
  return { cases, goals };
}

const ofServers = (figures: Record<Server, Figures>) => ratio(figures["app/api"], figures.http);

async function measureMemory(store: Store, { scratch, say }: Context) {
  await store.reset();
  const server = await start("app/api", store.url, scratch, ["--expose-gc", "--require", join(PROGRAMS, "memory.cjs")]);
  try {
    await load(server.url, EARLY);
    const early = await memoryOf(server.process);
    await load(server.url, LATE - EARLY);
    const late = await memoryOf(server.process);
    say(`memory after ${EARLY} and ${LATE} requests: ${JSON.stringify([early, late])}`);
    const figures = (bytes: number): Figures => ({ samples: [bytes / 2 ** 20], unit: "MB" });
    const variants = (kind: keyof Memory) => ({
      [`after ${EARLY} requests`]: figures(early[kind]),
      [`after ${LATE} requests`]: figures(late[kind]),
    });
    return {
      cases: [
        { case: "app/api's heap", variants: variants("heapUsed") },
        { case: "app/api's resident memory", variants: variants("rss") },
      ],
      goals: [
        {
          goal: `4. heap: after ${LATE} ÷ after ${EARLY} requests`,
          value: late.heapUsed / early.heapUsed,
          atMost: 1.1,
        },
        {
          goal: `4. resident memory: after ${LATE} ÷ after ${EARLY} requests`,
          value: late.rss / early.rss,
          atMost: 1.1,
        },
      ],
    };
  } finally {
    await stop(server.process);
  }
}

type Memory = Pick<NodeJS.MemoryUsage, "heapUsed" | "rss">;

async function memoryOf(process: ChildProcess): Promise<Memory> {
  const answered = once(process, "message");
  process.send("memory");
  return (await answered)[0];
}

interface Running {
  url: string;
  process: ChildProcess;
}

/** Its log goes through a pipe to one who only reads it, as a container's does. */
async function start(name: Server, elasticsearchUrl: string, scratch: string, flags: string[] = []): Promise<Running> {
  const [port, docsPort] = [await getPort(), await getPort()];
  const { port: elasticsearchPort } = new URL(elasticsearchUrl);
  const [pipe, errors] = [join(scratch, `log-${port}`), join(scratch, "errors")];
  execFileSync("mkfifo", [pipe]);
  // It ends with the last who writes.
  spawn("sh", ["-c", 'cat "$0" > /dev/null', pipe], { stdio: "ignore" });
  const [log, error] = [openSync(pipe, "w"), openSync(errors, "w")];
  const env = {
    ELASTICSEARCH_HOSTNAME: "http://127.0.0.1",
    ELASTICSEARCH_PORT: elasticsearchPort,
    PORT: String(port),
    DOCS_PORT: String(docsPort),
    NODE_ENV: "production",
    // All the load is one client.
    RATE_LIMIT: "1000000",
    TRUSTED_PROXIES: "1",
  };
  const ipc = flags.length > 0 ? (["ipc"] as const) : [];
  const child = run(env, { args: [...flags, ...SERVERS[name]], stdio: ["ignore", log, error, ...ipc] });
  for (const file of [log, error]) closeSync(file);
  const url = `http://127.0.0.1:${port}`;
  await until(async () => {
    assert.equal(child.exitCode, null, readFileSync(errors, "utf8"));
    return (await ask(`${url}/users/nobody`)).status === 404;
  });
  return { url, process: child };
}

interface Round {
  seconds: number;
  p99: number;
  processorMicroseconds: number;
}

let created = 0;

/** The load. @throws where a request is not answered as it should be */
async function load(url: string, amount: number, pid?: number): Promise<Round> {
  const pick = () => `user-${Math.floor(Math.random() * USERS)}`;
  const read = { setupRequest: (asked: autocannon.Request) => ({ ...asked, path: `/users/${pick()}` }) };
  const requests: autocannon.Request[] = [
    { path: "/healthz" },
    read,
    read,
    { path: "/users?limit=20" },
    read,
    {
      method: "POST",
      path: "/users",
      headers: JSON_TYPE,
      setupRequest: (asked) => ({ ...asked, body: JSON.stringify({ ...userOf(0), id: `new-${created++}` }) }),
    },
    read,
    read,
    { path: "/users?query=ada&limit=10" },
    read,
  ];
  const times: number[] = [];
  const before = processorSeconds(pid);
  const began = performance.now();
  const headers = { "x-forwarded-for": "192.0.2.1" };
  const asking = autocannon({ url, amount, connections: CONNECTIONS, requests, headers }, () => {});
  // Its own end it sees only at its next full second.
  let [seconds, processor] = [0, 0];
  asking.on("response", (_client, _status, _bytes, time) => {
    if (times.push(time) < amount) return;
    [seconds, processor] = [(performance.now() - began) / 1000, processorSeconds(pid) - before];
  });
  const [{ errors, timeouts, non2xx }] = (await once(asking, "done")) as [autocannon.Result];
  assert.deepEqual(
    { errors, timeouts, non2xx, answered: times.length },
    { errors: 0, timeouts: 0, non2xx: 0, answered: amount },
  );
  const p99 = times.sort((one, other) => one - other)[Math.floor(0.99 * amount)] as number;
  return { seconds, p99, processorMicroseconds: (processor / amount) * 1e6 };
}

/** What a process has taken of the processors so far, all its threads together (Linux only). */
function processorSeconds(pid: number | undefined): number {
  if (pid === undefined || process.platform !== "linux") return Number.NaN;
  const [user, system] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ").slice(11, 13) ?? [];
  return (Number(user) + Number(system)) / 100;
}

/** The Elasticsearch that both ask, with the same users each time. */
class Store {
  static async open(url: string, scratch: string): Promise<Store> {
    const api = await start("app/api", url, scratch);
    await stop(api.process);
    const { "users-1": index } = (await ask(`${url}/users-1`)).body;
    const { number_of_shards, auto_expand_replicas } = index.settings.index;
    return new Store(url, { ...index, settings: { number_of_shards, auto_expand_replicas } });
  }

  /** @param definition of the index, as app/api has made it */
  private constructor(
    readonly url: string,
    private readonly definition: object,
  ) {}

  async reset(): Promise<void> {
    await ask(`${this.url}/users-1`, { method: "DELETE" });
    await ask(`${this.url}/users-1`, { method: "PUT", json: this.definition });
    const now = new Date().toISOString();
    const lines = Array.from({ length: USERS }, (_, index) => userOf(index)).flatMap((user) => [
      { index: { _id: user.id } },
      { ...user, tokenHash: "", createdAt: now, updatedAt: now },
    ]);
    const body = `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`;
    const bulk = await ask(`${this.url}/users/_bulk?refresh=true`, { method: "POST", body });
    assert.equal(bulk.body.errors, false);
  }
}

/** Refuses to measure two that don't do the same: each must answer alike, and ask Elasticsearch alike. */
async function assertSame(store: Store, scratch: string): Promise<void> {
  const seen: Record<string, unknown> = {};
  for (const name of Object.keys(SERVERS) as Server[]) {
    await store.reset();
    const recorder = await Recorder.start(store.url);
    const server = await start(name, recorder.url, scratch);
    try {
      recorder.calls.length = 0;
      const answers = [];
      for (const [path, json] of QUESTIONS) answers.push(told(path, await ask(server.url + path, { json })));
      seen[name] = { answers, calls: recorder.calls };
    } finally {
      await stop(server.process);
      recorder.stop();
    }
  }
  for (const name of Object.keys(SERVERS)) assert.deepEqual(seen[name], seen["app/api"]);
}

const QUESTIONS: [path: string, json?: unknown][] = [
  ["/healthz"],
  ["/users/user-1"],
  ["/users/nobody"],
  ["/users/Nobody"],
  ["/users?limit=20"],
  ["/users?query=ada&limit=10"],
  ["/users?limit=2&after=user-1"],
  ["/users?limit=0"],
  ["/users?limit=101"],
  ["/users?limit=many"],
  ["/nothing"],
  ["/users", { id: "ada", name: "Ada", about: "Wrote the first program" }],
  ["/users", { id: "ada", name: "Ada" }],
  ["/users", { id: "ada" }],
  ["/users", { id: "Ada", name: "Ada" }],
  ["/users", { id: "ada", name: "Ada", tokenHash: "" }],
  ["/users", { id: "ada", name: "" }],
  ["/users", { id: "ada", name: "x".repeat(101) }],
  ["/users", { id: "ada", name: "Ada", about: "x".repeat(20_000) }],
];

/** What of an answer must be alike. */
function told(path: string, { status, body, headers }: Awaited<ReturnType<typeof ask>>) {
  const alike = ["content-type", "location", "access-control-allow-origin"].map((name) => headers.get(name));
  return [path, status, ...alike, headers.has("x-request-id"), withoutChance(body)];
}

/** Without what is another each time. */
const withoutChance = (body: unknown) =>
  JSON.parse(JSON.stringify(body, (name, value) => (CHANCE.includes(name) ? typeof value : value)));
const CHANCE = ["requestId", "token", "tokenHash", "createdAt", "updatedAt"];

/** Hands calls on to Elasticsearch, and keeps what was asked. */
class Recorder {
  static async start(target: string): Promise<Recorder> {
    const calls: unknown[] = [];
    const server = createServer(async (asked, answer) => {
      let body = "";
      for await (const chunk of asked) body += chunk;
      // Whether the index is there, each asks at its start, when it likes.
      if (asked.url?.startsWith("/users/")) calls.push(callOf(asked, body));
      // A kept connection may be one that Elasticsearch is just closing.
      const { method, headers } = asked;
      const passed = request(target + asked.url, { method, headers, agent: false }, (response) => {
        answer.writeHead(response.statusCode as number, response.headers);
        response.pipe(answer);
      });
      passed.end(body);
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    return new Recorder(`http://127.0.0.1:${port}`, calls, () => {
      server.close();
      server.closeAllConnections();
    });
  }

  private constructor(
    readonly url: string,
    readonly calls: unknown[],
    readonly stop: () => void,
  ) {}
}

function callOf({ method, url = "", headers }: IncomingMessage, body: string) {
  const { pathname, searchParams } = new URL(url, "http://elasticsearch");
  searchParams.sort();
  const { accept, "content-type": type } = headers;
  return { method, pathname, query: `${searchParams}`, accept, type, body: body && withoutChance(JSON.parse(body)) };
}
