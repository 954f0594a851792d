import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { AppsV1Api, KubeConfig, PatchStrategy, setHeaderOptions } from "@kubernetes/client-node";
import { execa } from "execa";
import { parse, stringify } from "yaml";
import { bundlePlugins } from "../../local/bundles";
import { adminKubeconfig, deleteCluster } from "../../local/cluster";
import { registryPassword, registryUser, startAccount, startRegistry, stopDaemons } from "../../local/daemons";
import { type Engine, engine, languageHostDirectory } from "../../local/engine";
import { cloneDirectory } from "../../local/paths";
import { withPolicyPacks } from "../../local/policyPacks";
import { obtainTools } from "../../local/tools";
import { type Host, runWorkflow } from "./workflow";

const STACKS = ["dev", "prod"] as const;
type Stack = (typeof STACKS)[number];
const REPOSITORY = "acme/hobnob";
const TOKEN = "token-of-the-run";
/** Where the outputs of commands go, for the README; they go nowhere without it. */
const { PRINTED } = process.env;

/**
 * A team's repository, from a branch to prod, by the commands of .github/workflows as they stand there. GitHub, the two
 * accounts and their clusters are simulated; the engine, its backend, git and the registry are real.
 */
describe("a change on its way from a branch to prod", function () {
  this.timeout(9 * 60_000);
  const root = mkdtempSync(join(tmpdir(), "hobnob-walk-"));
  const workspace = join(root, "workspace");
  const own = { ...process.env };
  const engines = {} as Record<Stack, Engine>;
  let github: GitHub;
  let path: string;
  let password: string;

  /** What in local/ goes by the state directory is done for one stack's account at a time. */
  const at = async <T>(stack: Stack, use: () => Promise<T>): Promise<T> => {
    process.env.HOBNOB_LOCAL_STATE = join(root, stack);
    return use();
  };
  const git = (...args: string[]) => execFileSync("git", args, { cwd: workspace, encoding: "utf8" }).trim();
  const commit = (message: string) => {
    git("add", "--all");
    git("commit", "--quiet", "--message", message);
    return git("rev-parse", "HEAD");
  };
  type Settings = { config: Record<string, Record<string, unknown>> };
  const configure = (stack: Stack, change: (config: Settings["config"]) => void) => {
    const file = join(workspace, `Pulumi.${stack}.yaml`);
    const settings = parse(readFileSync(file, "utf8")) as Settings;
    change(settings.config);
    writeFileSync(file, stringify(settings));
  };

  before("an account and a cluster for dev, others for prod, one registry, and a repository", async () => {
    const tools = await at("dev", () => obtainTools(["pulumi", "pulumi-language-nodejs", "registry"]));
    const { port } = await at("dev", () => startRegistry(tools.registry.path));
    for (const stack of STACKS)
      await at(stack, async () => {
        engines[stack] = engine(tools, (await startAccount(process.env)).port);
      });
    password = await at("dev", async () => registryPassword());
    makeRepository(workspace);
    path = await at("dev", async () => pathWithEngine(root, workspace, engines.dev));
    for (const stack of STACKS) {
      const settings = {
        server: `127.0.0.1:${port}`,
        repository: "acme/backend",
        username: registryUser,
        private: true,
      };
      configure(stack, (config) => Object.assign(config, { "hobnob:registry": settings }));
      const run = { cwd: workspace, env: variables(stack) };
      await execa("pulumi", ["stack", "init", stack], run);
      const secret = ["config", "set", "--secret", "hobnob:registryPassword", "--stack", stack];
      await execa("pulumi", secret, { ...run, input: password });
    }
    github = await GitHub.start();
    commit("The team's settings");
  });

  after(async () => {
    github?.server.close();
    for (const stack of STACKS)
      await at(stack, async () => {
        await stopDaemons();
        await deleteCluster();
      });
    if (own.HOBNOB_LOCAL_STATE === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = own.HOBNOB_LOCAL_STATE;
    rmSync(root, { recursive: true, force: true });
  });

  /** The environment of a terminal, or of a runner, from which the stack's account is reached. */
  const variables = (stack: Stack): NodeJS.ProcessEnv => ({
    ...engines[stack].environment,
    PATH: path,
    HOBNOB_LOCAL_STATE: join(root, "runner"),
    NODE_OPTIONS: `--require ${join(root, "here.cjs")}`,
  });
  const SECRETS = ["PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "DIGITALOCEAN_TOKEN"];

  const host = (ref: string, event: object, more: Partial<Host> = {}): Host => ({
    workspace,
    checkout: async () => {
      git("reset", "--quiet", "--hard");
      git("clean", "--quiet", "-fd");
      git("checkout", "--quiet", "--detach", ref);
    },
    github: { repository: REPOSITORY, actor: "somebody", token: TOKEN, event },
    secrets: (environment = "") => {
      const stack = STACKS.find((one) => environment === one || environment === `${one}-preview`);
      if (!stack) return {};
      return Object.fromEntries(SECRETS.map((name) => [name, String(engines[stack].environment[name])]));
    },
    variables: (environment = "dev") => {
      const all = variables(environment.startsWith("prod") ? "prod" : "dev");
      const hidden = Object.fromEntries(SECRETS.map((name) => [name, undefined]));
      return { ...all, ...hidden, CI: "true", GITHUB_API_URL: github.url, GITHUB_REPOSITORY: REPOSITORY };
    },
    // This very test is among them.
    runs: (job) => job !== "test",
    // Its pods are kwok's, and the zone is known to nobody: what is asked of them is missed, all else is judged.
    excuses: (command, output) => /\bverify --/.test(command) && wasJudged(output),
    ...more,
  });
  const mergedTo = (ref: string) => host(ref, {});
  const pullRequest = (head: string, from = REPOSITORY, author = "User") =>
    host(head, {
      pull_request: {
        number: 7,
        base: { sha: git("rev-parse", "main") },
        user: { type: author },
        head: { repo: { full_name: from } },
      },
    });

  const apps = () => {
    const config = new KubeConfig();
    config.loadFromFile(adminKubeconfig());
    return config.makeApiClient(AppsV1Api);
  };
  const deployed = (stack: Stack) =>
    at(stack, async () => {
      const { spec, status } = await apps().readNamespacedDeployment({ namespace: "hobnob", name: "backend" });
      assert.equal(status?.updatedReplicas, spec?.replicas, `${stack}'s rollout has not ended`);
      return String(spec?.template.spec?.containers[0]?.image);
    });
  /** In the team's terminal. */
  const typed = async (stack: Stack, ...args: string[]) => {
    const options = { cwd: workspace, all: true, reject: false, stdin: "ignore" } as const;
    const env = { ...variables(stack), HOBNOB_REGISTRY_PASSWORD: password };
    const { exitCode: code, all } = await execa("npm", ["run", "--silent", ...args], { ...options, env });
    note(`npm run ${args.join(" ")}`, all);
    return { code, all };
  };
  const succeed = async (file: string, on: Host) => {
    const run = await runWorkflow(file, on);
    const last = run.commands.at(-1);
    assert.equal(run.result, "success", `${file}: ${last?.run}\n${last?.output}`);
    for (const { run: line, output } of run.commands) note(line, output);
    return run.commands;
  };
  const named = (commands: { run: string; environment?: string }[]) =>
    commands.flatMap(({ run, environment }) => {
      const [, command] = /npm run --silent (.*)/.exec(run) ?? [];
      return command ? [`${environment ?? "none"}: ${command.replaceAll('"', "")}`] : [];
    });
  const said = (commands: { run: string; output: string }[], command: string) =>
    commands.find(({ run }) => run.includes(command))?.output ?? "";
  const checked = (stack: Stack, update: string) => [
    `${stack}: ${update} --yes --non-interactive --policy-pack policy/pack`,
    `${stack}: verify -- $STACK`,
    `${stack}: ci -- image $STACK`,
  ];

  let first: string;
  let branch: string;

  it("must begin with both stacks made from main: dev built and verified, prod with the very image of dev", async () => {
    const commands = await succeed("deploy.yml", mergedTo("main"));
    assert.deepEqual(named(commands), [
      ...checked("dev", "stack -- $STACK up"),
      ...checked("prod", "promote -- $STACK $IMAGE"),
    ]);
    first = await deployed("dev");
    assert.match(first, /^127\.0\.0\.1:\d+\/acme\/backend@sha256:[0-9a-f]{64}$/);
    assert.equal(await deployed("prod"), first);
  });

  it("must be told in one comment for each stack that it touches: what is done, what it costs, whether policies are kept", async () => {
    git("checkout", "--quiet", "-b", "change", "main");
    const api = join(workspace, "app", "api", "src", "api.ts");
    writeFileSync(api, readFileSync(api, "utf8").replace('version: "1.0.0"', 'version: "1.1.0"'));
    configure("dev", (config) => Object.assign(config["hobnob:cluster"]?.systemPool ?? {}, { count: 4 }));
    branch = commit("Tell the new version, on one machine more");
    const commands = await succeed("pull-request.yml", pullRequest(branch));
    assert.equal(said(commands, "ci -- stacks").trim(), '["dev","prod"]');
    assert.equal(github.comments.length, 2, "one for each stack");
    const [dev = "", prod = ""] = github.comments.map(({ body }) => body);
    assert.match(dev, /^## Preview of `dev`: \d+ updated$/m);
    assert.match(dev, /^\*\*Cost:\*\* \$[\d.]+ a month, \$24\.00 more than now$/m);
    assert.match(dev, /^\*\*Policies:\*\* all \d+ rules are kept\.$/m);
    assert.match(dev, /^! update Image backend$/m);
    assert.match(dev, /^ {4}nodePool\.nodeCount: 3 → 4$/m);
    // It builds nothing, and is promoted to later.
    assert.match(prod, /^## Preview of `prod`: no changes$/m);
    assert.equal(await deployed("dev"), first, "a preview changes nothing");
  });

  it("must be told in the same comment after the next push, which creates something too", async () => {
    git("checkout", "--quiet", "change");
    configure("dev", (config) =>
      Object.assign(config, { "hobnob:dns": { records: [{ type: "TXT", name: "@", value: "hello" }] } }),
    );
    branch = commit("Say hello by DNS");
    await succeed("pull-request.yml", pullRequest(branch));
    assert.deepEqual(github.changes, ["POST", "POST", "PATCH", "PATCH"]);
    const [dev = "", ...others] = github.comments.map(({ body }) => body);
    assert.equal(others.length, 1);
    assert.match(dev, /^## Preview of `dev`: \d+ updated, 1 created$/m);
    assert.match(dev, /^\+ create DnsRecord /m);
    note("npm run ci:preview -- dev", dev);
  });

  it("must be stopped where it cannot be deployed, with the reason in the comment", async () => {
    git("checkout", "--quiet", "-b", "wrong", "change");
    configure("dev", (config) => Object.assign(config["hobnob:cluster"] ?? {}, { region: "frankfurt" }));
    const { result } = await runWorkflow("pull-request.yml", pullRequest(commit("Move to Frankfurt")));
    assert.equal(result, "failure");
    const [dev = ""] = github.comments.map(({ body }) => body);
    assert.match(dev, /^## ❌ Preview of `dev`: failed$/m);
    assert.match(dev, /hobnob:cluster\.region\n +given: +"frankfurt"\n +allowed: /);
  });

  it("must be previewed for a fork without a secret, a comment, or a word to its accounts", async () => {
    const before = github.changes.length;
    const commands = await succeed("pull-request.yml", pullRequest(branch, "stranger/hobnob"));
    assert.deepEqual(named(commands), [
      "none: ci -- stacks $BASE",
      ...STACKS.map(() => "none: ci:preview -- $STACK --offline --out $GITHUB_STEP_SUMMARY"),
    ]);
    assert.match(said(commands, "--offline"), /^## Preview of `dev`: \d+ created$/m);
    assert.equal(github.changes.length, before);
  });

  it("must update dev once it is merged, verify it, and give prod the very digest that serves in dev", async () => {
    git("checkout", "--quiet", "main");
    git("merge", "--quiet", "--no-ff", "--no-edit", "change");
    const commands = await succeed("deploy.yml", mergedTo("main"));
    assert.deepEqual(named(commands), [
      ...checked("dev", "stack -- $STACK up"),
      ...checked("prod", "promote -- $STACK $IMAGE"),
    ]);
    const now = await deployed("dev");
    assert.notEqual(now, first);
    assert.equal(await deployed("prod"), now);
    assert.ok(said(commands, "ci -- image").includes(now));
    assert.match(said(commands, "verify --"), /public: API/);
  });

  it("must take the other way to prod as well: a tag", async () => {
    const commands = await succeed("promote.yml", mergedTo("main"));
    assert.deepEqual(named(commands), ["dev-preview: ci -- image dev", ...checked("prod", "promote -- $STACK $IMAGE")]);
    assert.equal(await deployed("prod"), await deployed("dev"));
  });

  it("must be taken back by one command: prod to its former image, dev as it is", async () => {
    const now = await deployed("dev");
    const { code, all } = await typed("prod", "rollback", "--", "prod", "--yes", "--non-interactive");
    assert.equal(code, 0, all);
    assert.ok(all.includes(`The stack prod goes back from ${now} to ${first}`), all);
    assert.equal(await deployed("prod"), first);
    assert.equal(await deployed("dev"), now);
  });

  it("must be known when it is changed behind the stack's back: in words, in one issue that is closed again", async () => {
    await at("dev", async () => {
      const scale = { namespace: "hobnob", name: "backend", body: { spec: { replicas: 1 } } };
      await apps().patchNamespacedDeploymentScale(scale, setHeaderOptions("Content-Type", PatchStrategy.MergePatch));
    });
    const { code, all } = await typed("dev", "drift", "--", "dev");
    assert.equal(code, 1, all);
    assert.match(all, /^ {4}Deployment backend was changed\n {6}spec\.replicas is 1; the stack made it 3$/m);
    const drifted = await runWorkflow("drift.yml", mergedTo("main"));
    assert.equal(drifted.result, "failure", "seen in the list of runs too");
    const shown = () => github.issues.map(({ title, state }) => `${title}: ${state}`);
    assert.deepEqual(shown(), ["Drift of dev: open"]);
    assert.match(github.issues[0]?.body ?? "", /spec\.replicas is 1/);
    const mended = await typed(
      "dev",
      "stack",
      "--",
      "dev",
      "up",
      "--refresh",
      "--yes",
      "--non-interactive",
      "--skip-preview",
    );
    assert.equal(mended.code, 0, mended.all);
    await succeed("drift.yml", mergedTo("main"));
    assert.deepEqual(shown(), ["Drift of dev: closed"]);
  });

  it("must be followed by another stack from flags alone, its secret written, its settings taken by a preview", async () => {
    const { config } = parse(readFileSync(join(workspace, "Pulumi.dev.yaml"), "utf8")) as Settings;
    const { server, username } = config["hobnob:registry"] as Record<string, string>;
    const image = ["--server", String(server), "--repository", "acme/backend", "--username", String(username)];
    const place = [
      "--domain",
      "example.net",
      "--region",
      "fra1",
      "--size",
      "s-2vcpu-4gb",
      "--vpc-cidr",
      "10.30.0.0/20",
    ];
    const backend = String(engines.dev.environment.PULUMI_BACKEND_URL);
    const given = ["--stack", "staging", ...place, ...image, "--backend", backend, "--yes"];
    const { code, all } = await typed("dev", "init", "--", ...given);
    assert.equal(code, 0, all);
    const { config: made } = parse(readFileSync(join(workspace, "Pulumi.staging.yaml"), "utf8")) as Settings;
    assert.deepEqual(Object.keys(made["hobnob:registryPassword"] ?? {}), ["secure"]);
    for (const command of [
      ["cost", "--", "staging"],
      ["graph", "--", "staging", "--preview"],
    ]) {
      const { code, all } = await typed("dev", ...command);
      assert.equal(code, 0, all);
    }
  });
});

function note(command: string, output: string): void {
  const [, script] = /npm run (?:--silent )?([\w:-]+)/.exec(command) ?? [];
  if (!PRINTED || !script || /^(verify|stack|ci)$/.test(script) || /--out/.test(command)) return;
  writeFileSync(join(PRINTED, `${script.replace(":", "-")}.txt`), `$ ${command}\n${output}\n`);
}

/** Whether `npm run verify` has come to a verdict, in which what only processes behind the pods could answer is missed. */
const wasJudged = (output: string) => /^(dev|prod): \d+ passed, \d+ missed/m.test(output);

/** The clone as it is, uncommitted files too, as a repository of its own. */
function makeRepository(workspace: string): void {
  const list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
  const files = execFileSync("git", list, { cwd: cloneDirectory, encoding: "utf8" }).split("\0").filter(Boolean);
  for (const file of files)
    cpSync(join(cloneDirectory, file), join(workspace, file), { force: true, errorOnExist: false });
  symlinkSync(join(cloneDirectory, "node_modules"), join(workspace, "node_modules"));
  const git = (...args: string[]) => execFileSync("git", args, { cwd: workspace });
  git("init", "--quiet", "--initial-branch", "main");
  git("config", "user.name", "team");
  git("config", "user.email", "team@example.com");
  git("config", "commit.gpgsign", "false");
  appendFileSync(join(workspace, ".git", "info", "exclude"), "node_modules\n");
}

/** The engine and its plugins as commands, as whoever has installed them has; and names are asked of nobody. */
function pathWithEngine(
  root: string,
  workspace: string,
  { environment, languageHost, sources, startsPolicyPacks }: Engine,
) {
  const bin = join(root, "bin");
  mkdirSync(bin);
  const pack = join(workspace, "policy", "pack");
  const [, stand = pack] = withPolicyPacks(["--policy-pack", pack], startsPolicyPacks);
  const real = execFileSync("which", ["pulumi"], { env: environment, encoding: "utf8" }).trim();
  writeFileSync(
    join(bin, "pulumi"),
    `#!/bin/bash
for arg; do
  [[ $arg == policy/pack || $arg == */policy/pack ]] && arg='${stand}'
  args+=("$arg")
done
exec '${real}' "\${args[@]}"
`,
  );
  chmodSync(join(bin, "pulumi"), 0o755);
  writeFileSync(
    join(root, "here.cjs"),
    `const dns = require("node:dns");
const { lookup } = dns;
dns.lookup = (host, ...rest) => {
  if (host === "localhost" || require("node:net").isIP(host)) return lookup(host, ...rest);
  process.nextTick(rest.at(-1), Object.assign(new Error("getaddrinfo ENOTFOUND " + host), { code: "ENOTFOUND" }));
};
`,
  );
  const { runtime } = parse(readFileSync(join(workspace, "Pulumi.yaml"), "utf8"));
  const project = { name: "hobnob", source: workspace, directory: root };
  const host = languageHostDirectory(languageHost, project, runtime.options);
  const simulated = (Object.keys(sources) as (keyof typeof sources)[]).filter((name) => sources[name] === "simulated");
  const policyPack = join(cloneDirectory, "local", "plugins", "policy-pack");
  const folders = [bin, host, ...Object.values(bundlePlugins(simulated)), policyPack, environment.PATH];
  return folders.join(delimiter);
}

interface Item {
  id: number;
  number: number;
  state: string;
  title?: string;
  body: string;
}

/** As much of GitHub's API as is asked of comments and issues. */
class GitHub {
  readonly comments: Item[] = [];
  readonly issues: Item[] = [];
  /** What changed something there. */
  readonly changes: string[] = [];

  private constructor(readonly server: Server) {}

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  static async start(): Promise<GitHub> {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const github = new GitHub(server);
    server.on("request", async (request, response) => {
      const text = (await request.toArray()).join("");
      const answer = github.#answer(request.headers.authorization, `${request.method} ${request.url}`, text);
      response.writeHead(answer ? 200 : 404, { "content-type": "application/json" }).end(JSON.stringify(answer ?? {}));
    });
    return github;
  }

  #answer(authorization: string | undefined, request: string, text: string): unknown {
    if (authorization !== `Bearer ${TOKEN}`) return undefined;
    const [, method = "", path = ""] = /^(\w+) \/repos\/acme\/hobnob\/issues(.*)$/.exec(request) ?? [];
    const list = /^\/(7\/)?comments\b/.test(path) ? this.comments : this.issues;
    if (method === "GET") return list.filter(({ state }) => state === "open");
    this.changes.push(method);
    const [, number] = /^\/(?:comments\/)?(\d+)$/.exec(path) ?? [];
    const known = list.find(({ id }) => id === Number(number));
    const id = list.length + 1;
    if (method === "PATCH" && known) return Object.assign(known, JSON.parse(text));
    if (method === "POST") list.push({ id, number: id, state: "open", ...JSON.parse(text) });
    return method === "POST" ? {} : undefined;
  }
}
