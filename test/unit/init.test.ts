import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { readConfig } from "../../config";
import { type Account, startAccount } from "../../local/account/account";
import { init } from "../../operations/init";

const PUSH = "push-token-4711";
const PHRASE = "a long passphrase";
const BUCKET = "s3://acme-state?region=fra1&endpoint=fra1.digitaloceanspaces.com";

/** All that must be given. */
const FLAGS = {
  stack: "dev",
  domain: "acme.example",
  region: "fra1",
  size: "s-2vcpu-4gb",
  repository: "acme/hobnob-backend",
  username: "acme",
  backend: "https://api.pulumi.com",
};
const flagsOf = (changes: Partial<Record<string, string | undefined>> = {}) =>
  Object.entries({ ...FLAGS, ...changes }).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, value],
  );

interface Call {
  args: string[];
  input: string;
  env: Record<string, string>;
}

describe("a first stack", () => {
  let account: Account;
  let registry: Server;
  let asked: string[];
  let directory: string;
  let env: NodeJS.ProcessEnv;

  before(async () => {
    account = await startAccount({});
    registry = createServer(answer).listen(0, "127.0.0.1");
    await once(registry, "listening");
  });
  after(() => {
    registry.close().closeAllConnections();
    return account.close();
  });

  const registryUrl = () => `http://127.0.0.1:${(registry.address() as AddressInfo).port}`;

  /** A registry as the protocol has it: whoever has the token may push to `acme/…`. */
  function answer({ url = "", headers }: IncomingMessage, response: ServerResponse): void {
    const { searchParams, pathname } = new URL(url, registryUrl());
    if (pathname === "/v2/") {
      const challenge = `Bearer realm="${registryUrl()}/token",service="registry.test"`;
      response.writeHead(401, { "www-authenticate": challenge }).end();
      return;
    }
    const scope = searchParams.get("scope") ?? "";
    asked.push(`${searchParams.get("service")} ${scope}`);
    const [, name = ""] = scope.split(":");
    const actions = name.startsWith("acme/") ? ["pull", "push"] : ["pull"];
    const other = { type: "repository", name: "acme/other", actions: ["pull", "push"] };
    const access = [other, { type: "repository", name, actions }];
    const claims = Buffer.from(JSON.stringify({ access })).toString("base64url");
    const isKnown = headers.authorization === `Basic ${Buffer.from(`acme:${PUSH}`).toString("base64")}`;
    response.writeHead(isKnown ? 200 : 401).end(JSON.stringify({ token: `e30.${claims}.x` }));
  }

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "hobnob-init-"));
    mkdirSync(join(directory, "bin"));
    engine();
    asked = [];
    env = {
      PATH: join(directory, "bin"),
      DIGITALOCEAN_API_URL: account.url,
      DIGITALOCEAN_TOKEN: "local-simulated-account",
      HOBNOB_REGISTRY_PASSWORD: PUSH,
    };
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const at = (name: string) => join(directory, name);
  const file = (stack = "dev") => at(`Pulumi.${stack}.yaml`);

  /** Stands for the engine: notes each call, and leaves in the stack's file what the real one leaves. */
  function engine(fails = "") {
    writeFileSync(
      join(directory, "bin", "pulumi"),
      `#!${process.execPath}
const fs = require("node:fs");
const args = process.argv.slice(2);
const input = args[0] === "config" ? fs.readFileSync(0, "utf8") : "";
fs.appendFileSync(${JSON.stringify(at("calls"))}, JSON.stringify({ args, input, env: process.env }) + "\\n");
const session = ${JSON.stringify(at("session"))};
if (args[0] === ${JSON.stringify(fails)}) { console.error("error: it cannot be"); process.exit(1); }
if (args[0] === "whoami") {
  if (!fs.existsSync(session)) process.exit(255);
  console.log(JSON.stringify({ user: "ann", url: fs.readFileSync(session, "utf8") }));
}
if (args[0] === "login") fs.writeFileSync(session, args[1]);
const stack = "Pulumi." + (args[0] === "stack" ? args[2] : args[5] ?? "").split("/").pop() + ".yaml";
if (args[0] === "stack" && !fs.existsSync(stack)) fs.writeFileSync(stack, "encryptionsalt: v1:salt\\n");
if (args[0] === "config") fs.appendFileSync(stack, "  " + args[3] + ":\\n    secure: v1:cipher\\n");
`,
      { mode: 0o755 },
    );
  }

  const called = (): Call[] =>
    existsSync(at("calls"))
      ? readFileSync(at("calls"), "utf8")
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line))
      : [];
  const commands = () => called().map(({ args }) => args.join(" ").replace(/ ?--(json|non-interactive)/g, ""));

  async function run(args: string[], input = "") {
    const output = new PassThrough().setEncoding("utf8");
    const stdin = new PassThrough();
    stdin.end(input);
    const code = await init(args, { env, directory, input: stdin, output, isTerminal: false, registryUrl });
    return { code, text: String(output.read() ?? "") };
  }

  /** What the program itself makes of the file. */
  async function configOf(stack: string) {
    await pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) }, "hobnob", stack);
    const { config } = parse(readFileSync(file(stack), "utf8")) as { config: Record<string, unknown> };
    const entries = Object.entries(config).map(([key, value]) => {
      const isSecret = typeof value === "object" && value !== null && "secure" in value;
      return [key, isSecret ? "secret" : typeof value === "string" ? value : JSON.stringify(value)];
    });
    pulumi.runtime.setAllConfig(Object.fromEntries(entries), ["hobnob:registryPassword"]);
    return readConfig({ DIGITALOCEAN_TOKEN: "token" });
  }

  describe("from flags", () => {
    it("must be written as the program takes it, with nothing that is a default, its cost told before", async () => {
      const { code, text } = await run([...flagsOf({ server: "docker.io" }), "--yes"]);
      assert.equal(code, 0, text);
      assert.equal(
        readFileSync(file(), "utf8"),
        `encryptionsalt: v1:salt
# Begun by \`npm run init\`. Every key: docs/configuration.md
config:
  hobnob:domain: acme.example
  hobnob:cluster:
    region: fra1
    systemPool:
      size: s-2vcpu-4gb
      count: 3
  hobnob:registry:
    repository: acme/hobnob-backend
    username: acme
  hobnob:registryPassword:
    secure: v1:cipher
`,
      );
      const { domain, cluster, image } = await configOf("dev");
      assert.equal(domain, "acme.example");
      assert.ok(cluster.provider === "digitalocean" && cluster.systemPool.count === 3);
      assert.ok("repository" in image && image.repository === "acme/hobnob-backend");
      assert.match(text, /node pool system +│ 3 × s-2vcpu-4gb │ +72\.00/);
      assert.match(text, /dev: \$87\.00 a month/);
      assert.ok(text.indexOf("$87.00") < text.indexOf("is written"));
    });

    it("must give a secret to the engine's input alone: to no argument, no output, no file, no other process", async () => {
      const { text } = await run([...flagsOf(), "--yes"]);
      const secrets = called().filter(({ input }) => input !== "");
      assert.deepEqual(
        secrets.map(({ args, input }) => [args.slice(0, 6), input]),
        [[["config", "set", "--secret", "hobnob:registryPassword", "--stack", "dev"], PUSH]],
      );
      assert.ok(called().every(({ args }) => !args.join(" ").includes(PUSH)));
      assert.ok(called().every((call) => !Object.values(call.env).includes(PUSH)));
      assert.ok(!text.includes(PUSH) && !readFileSync(file(), "utf8").includes(PUSH));
    });

    it("must be made where --backend says, in an order that leaves no secret without its stack", async () => {
      env.PULUMI_CONFIG_PASSPHRASE = PHRASE;
      const { code, text } = await run([...flagsOf({ backend: BUCKET, stack: "acme/dev" }), "--yes"]);
      assert.equal(code, 0, text);
      assert.deepEqual(commands(), [
        "whoami",
        `login ${BUCKET}`,
        "stack select acme/dev --create",
        "config set --secret hobnob:registryPassword --stack acme/dev",
      ]);
      assert.match(text, /export PULUMI_CONFIG_PASSPHRASE=… /);
      assert.ok(!text.includes(PHRASE));
    });

    it("must use the backend that is logged in to, where none is given", async () => {
      writeFileSync(at("session"), "https://app.pulumi.com/ann");
      assert.equal((await run([...flagsOf({ backend: undefined }), "--yes"])).code, 0);
      assert.ok(!commands().some((command) => command.startsWith("login")));
    });

    it("must take the password by standard input, without the line's end that a file has", async () => {
      delete env.HOBNOB_REGISTRY_PASSWORD;
      const { code, text } = await run([...flagsOf(), "--yes", "--password-stdin"], `${PUSH}\n`);
      assert.equal(code, 0, text);
      assert.equal(called().at(-1)?.input, PUSH);
    });

    it("must not begin with anything missing, and name all of it at once", async () => {
      env = { PATH: env.PATH };
      const { code, text } = await run([]);
      assert.equal(code, 1);
      const named = text.split("\n").flatMap((line) => /^ {2}(--\S+|[A-Z_]+) {2}/.exec(line)?.[1] ?? []);
      assert.deepEqual(named, [
        ...["--stack", "--domain", "--region", "--size", "--repository", "--username", "--backend", "--yes"],
        ...["DIGITALOCEAN_TOKEN", "HOBNOB_REGISTRY_PASSWORD"],
      ]);
      assert.match(text, /--domain +a domain name in lower case, e\.g\. example\.com/);
      assert.deepEqual(commands(), ["whoami"]);
    });

    it("must not begin without what encrypts the secrets where no service does", async () => {
      const { text } = await run([...flagsOf({ backend: "file://~" }), "--yes"]);
      assert.match(text, /\n {2}PULUMI_CONFIG_PASSPHRASE /);
      assert.deepEqual(commands(), ["whoami"]);
    });

    for (const [what, changes, named] of [
      ["the program", { domain: "Acme", repository: "acme/x:1" }, ["--domain", "--repository"]],
      ["the account", { region: "fra2", size: "s-2vcpu-5gb" }, ["--region", "--size"]],
      ["their sum", { nodes: "2" }, ["--size, --nodes", "--size, --nodes"]],
    ] as const) {
      it(`must be refused by ${what} in the words of a violation, by flag, before anything is made`, async () => {
        const { code, text } = await run([...flagsOf(changes), "--yes"]);
        assert.equal(code, 1);
        assert.deepEqual(
          text.match(/^ {2}--.*$/gm)?.map((line) => line.trim()),
          named,
        );
        assert.match(text, /given: .*\n {4}allowed: /);
        assert.doesNotMatch(text, /pulumi config/);
        assert.deepEqual([commands(), existsSync(file())], [["whoami"], false]);
      });
    }

    it("must take a free range and the zone that is there by itself, and say so in the file", async () => {
      const create = (path: string, body: object) =>
        fetch(`${account.url}/v2/${path}`, {
          method: "POST",
          headers: { authorization: "Bearer local-test", "content-type": "application/json" },
          body: JSON.stringify(body),
        });
      const vpc = await create("vpcs", { name: "other", region: "fra1", ip_range: "10.10.0.0/20" });
      await create("domains", { name: "taken.example" });
      const { code, text } = await run([...flagsOf({ domain: "taken.example" }), "--yes"]);
      assert.equal(code, 0, text);
      const written = readFileSync(file(), "utf8");
      assert.match(written, /# VPCs of one account may not overlap\.\n {4}vpcCidr: 10\.11\.0\.0\/20/);
      assert.match(written, /# The account has the zone already; its records stay\.\n {4}zone: lookup/);
      // What was asked for by name is not decided otherwise.
      const own = await run([...flagsOf({ stack: "other", domain: "taken.example", zone: "create" }), "--yes"]);
      assert.match(own.text, /--zone\n {4}given: {3}"create", while the account has the zone/);
      const { id } = ((await vpc.json()) as { vpc: { id: string } }).vpc;
      for (const path of [`vpcs/${id}`, "domains/taken.example"])
        await fetch(`${account.url}/v2/${path}`, { method: "DELETE", headers: { authorization: "Bearer local-test" } });
    });

    it("must not change settings that are there, unless it is told to; then what nobody asks about stays", async () => {
      const there = readFileSync(join(__dirname, "..", "..", "Pulumi.prod.yaml"), "utf8");
      writeFileSync(file("prod"), there);
      const refused = await run([...flagsOf({ stack: "prod" }), "--yes"]);
      assert.match(refused.text, /Pulumi\.prod\.yaml is there already.*--force/);
      assert.equal(readFileSync(file("prod"), "utf8"), there);
      assert.deepEqual(commands(), ["whoami"]);
      const { code, text } = await run([...flagsOf({ stack: "prod", region: "ams3" }), "--yes", "--force"]);
      assert.equal(code, 0, text);
      const changed = there.replace("example.org", "acme.example").replace("fra1", "ams3");
      assert.deepEqual(
        readFileSync(file("prod"), "utf8").split("\n").slice(0, 12),
        changed.split("\n").slice(0, 12),
        "comments stay too",
      );
      const { cluster } = await configOf("prod");
      assert.ok(cluster.provider === "digitalocean" && cluster.ha && cluster.systemPool.count === 2);
    });

    it("must not be made with a name that is a path, an address that is none, a backend that another one overrides", async () => {
      env.PULUMI_BACKEND_URL = "s3://other";
      for (const [changes, told] of [
        [{ stack: "../dev" }, /cannot be named "\.\.\/dev"/],
        [{ stack: "Dev" }, /cannot be named "Dev": lower-case letters/],
        [{ backend: "fra1.digitaloceanspaces.com" }, /--backend\n {4}given: {3}"fra1\.digitaloceanspaces\.com"/],
        [{ backend: BUCKET }, /PULUMI_BACKEND_URL\n {4}given: {3}s3:\/\/other/],
      ] as const) {
        env.PULUMI_BACKEND_URL = "backend" in changes ? "s3://other" : "";
        const { code, text } = await run([...flagsOf(changes), "--yes"]);
        assert.equal(code, 1);
        assert.match(text, told);
      }
      assert.ok(commands().every((command) => command === "whoami"));
    });

    it("must be refused where the registry does not take the password, or lets nobody push with it", async () => {
      const wrong = await run([...flagsOf(), "--yes", "--password-stdin"], "another-token");
      assert.match(
        wrong.text,
        /hobnob:registryPassword\n {4}given: {3}a secret that docker\.io does not take of "acme"/,
      );
      assert.ok(!wrong.text.includes("another-token"));
      const foreign = await run([...flagsOf({ repository: "other/backend" }), "--yes"]);
      assert.match(foreign.text, /given: {3}a secret with which docker\.io lets nobody push to other\/backend/);
      assert.deepEqual(asked, [
        "registry.test repository:acme/hobnob-backend:pull,push",
        "registry.test repository:other/backend:pull,push",
      ]);
      assert.deepEqual([commands(), existsSync(file())], [["whoami", "whoami"], false]);
    });

    it("must not fail where the registry does not answer from here, and must say that it was not asked", async () => {
      const output = new PassThrough().setEncoding("utf8");
      const nowhere = () => "http://127.0.0.1:1";
      const around = { env, directory, input: new PassThrough(), output, isTerminal: false, registryUrl: nowhere };
      assert.equal(await init([...flagsOf(), "--yes"], around), 0);
      assert.match(String(output.read()), /password is not checked: docker\.io cannot be asked \(/);
    });

    it("must name the token where the account does not take it, and the flag that does not exist", async () => {
      const { text } = await run([...flagsOf(), "--yes", "--registryPassword", PUSH]);
      assert.equal(text, "Unknown option '--registryPassword'. All flags: npm run init -- --help\n");
      env.DIGITALOCEAN_TOKEN = "dead";
      assert.match((await run([...flagsOf(), "--yes"])).text, /DIGITALOCEAN_TOKEN\n {4}given: {3}a token that .* 401/);
      env.PATH = "/nowhere";
      assert.match((await run([...flagsOf(), "--yes"])).text, /no pulumi on the PATH/);
    });

    it("must say what is left to do where the engine does not take the secret", async () => {
      engine("config");
      const { code, text } = await run([...flagsOf(), "--yes"]);
      assert.equal(code, 1);
      assert.match(
        text,
        /error: it cannot be\nTo set it: pulumi config set --secret hobnob:registryPassword --stack dev/,
      );
      assert.ok(!text.includes(PUSH));
    });
  });

  describe("by questions", () => {
    const [ENTER, DOWN, CTRL_C] = ["\r", "\x1b[B", "\x03"];

    /** Types each answer once its question stands there. */
    async function talk(args: string[], answers: [question: RegExp, ...keys: string[]][]) {
      const input = new PassThrough();
      const output = new PassThrough().setEncoding("utf8");
      let text = "";
      output.on("data", (chunk) => {
        text += chunk;
      });
      let isOver = false;
      const ended = init(args, { env, directory, input, output, isTerminal: true, registryUrl }).finally(() => {
        isOver = true;
      });
      let seen = 0;
      const deadline = Date.now() + 10_000;
      for (const [question, ...keys] of answers) {
        while (!question.test(text.slice(seen))) {
          if (isOver || Date.now() > deadline) assert.fail(`It does not ask ${question}: ${text}`);
          await sleep(5);
        }
        seen = text.length;
        for (const key of keys) {
          input.write(key);
          await sleep(2);
        }
      }
      return { code: await ended, text };
    }

    it("must ask for all that is not given, with the account's regions and prices, and say at once what is wrong", async () => {
      delete env.HOBNOB_REGISTRY_PASSWORD;
      const { code, text } = await talk(
        [],
        [
          [/Where is the state kept/, DOWN, DOWN, ENTER],
          [/Name of the stack/, "try", ENTER],
          [/Passphrase that encrypts/, PHRASE, ENTER],
          [/Domain/, "Acme", ENTER],
          [/Allowed: a domain name in lower case/, `${"\x7f".repeat(4)}acme.example`, ENTER],
          [/Region[\s\S]*fra1 {2}Frankfurt 1/, DOWN, DOWN, DOWN, ENTER],
          [/Size of each node[\s\S]*s-2vcpu-4gb +2 CPUs, 4 GiB {2}\$24\.00/, ENTER],
          [/Number of nodes/, ENTER],
          [/Registry of the images/, ENTER],
          [/Repository/, "acme/x", ENTER],
          [/User of the registry/, "acme", ENTER],
          [/Token that may push/, PUSH, ENTER],
          [/\$87\.00 a month[\s\S]*Write it/, ENTER],
        ],
      );
      assert.equal(code, 0, text);
      const { domain, cluster } = await configOf("try");
      assert.ok(cluster.provider === "digitalocean");
      assert.deepEqual(
        [domain, cluster.region, cluster.systemPool],
        ["acme.example", "fra1", { size: "s-2vcpu-4gb", count: 3 }],
      );
      const last = called().at(-1);
      assert.deepEqual([last?.input, last?.env.PULUMI_CONFIG_PASSPHRASE], [PUSH, PHRASE]);
      assert.ok(!text.includes(PUSH) && !text.includes(PHRASE));
    });

    it("must ask again for what the account refuses, and for nothing else", async () => {
      const { code, text } = await talk(flagsOf({ region: "fra2" }), [
        [/Number of nodes/, ENTER],
        [/Registry/, ENTER],
        [/--region\n {4}given: {3}"fra2"[\s\S]*Region/, ENTER],
        [/Write it/, ENTER],
      ]);
      assert.equal(code, 0, text);
      assert.doesNotMatch(text, /Domain:|Repository/);
    });

    it("must write nothing where it is cancelled or declined", async () => {
      for (const answers of [
        [[/Number of nodes/, CTRL_C]],
        [
          [/Number of nodes/, ENTER],
          [/Registry/, ENTER],
          [/Write it/, "n", ENTER],
        ],
      ] as [RegExp, ...string[]][][]) {
        const { code, text } = await talk(flagsOf(), answers);
        assert.equal(code, 1);
        assert.match(text, /Nothing was written\.\n$/);
      }
      assert.deepEqual([commands(), existsSync(file())], [["whoami", "whoami"], false]);
    });

    it("must offer what is there as answers, once its owner agrees", async () => {
      writeFileSync(file(), readFileSync(join(__dirname, "..", "..", "Pulumi.dev.yaml"), "utf8"));
      const { code, text } = await talk(
        ["--stack", "dev", "--backend", FLAGS.backend, "--domain", "acme.example"],
        [
          [/is there already\. Change it/, ENTER],
          [/Region/, ENTER],
          [/Size/, ENTER],
          [/Number/, ENTER],
          [/Registry/, ENTER],
          [/Repository/, ENTER],
          [/User/, ENTER],
          [/Write it/, ENTER],
        ],
      );
      assert.equal(code, 0, text);
      const { domain, cluster, image } = await configOf("dev");
      assert.ok(cluster.provider === "digitalocean" && cluster.region === "fra1" && domain === "acme.example");
      assert.ok("repository" in image && image.repository === "acme/hobnob-backend");
    });
  });
});
