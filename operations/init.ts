/** `npm run init [-- flags]`: the settings of a first stack, asked for or given, checked against the account, written. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { text as readAll } from "node:stream/consumers";
import { parseArgs } from "node:util";
import * as clack from "@clack/prompts";
import type { Config } from "../config";
import { type Cost, monthlyCost } from "../cost";
import { ConfigurationError, keyName, type Violation } from "../violations";
import { Backend, backendViolations, EXAMPLES, isService } from "./backend";
import { costTable } from "./cost";
import {
  allowedFor,
  answerIn,
  askedAbout,
  begin,
  check,
  type Flag,
  flags,
  hasSecret,
  type NewStack,
  nameOf,
  type Offer,
  PASSWORD,
  read,
  readOffer,
  render,
  settle,
  tell,
} from "./newStack";
import { loginViolations, registryUrl } from "./registryLogin";

/** What a run has around it. */
export interface Surroundings {
  env: NodeJS.ProcessEnv;
  /** Of the project. */
  directory: string;
  input: Readable;
  output: Writable;
  /** Whether somebody sits there who can be asked. */
  isTerminal: boolean;
  /** Where a registry answers. */
  registryUrl(server: string): string;
}

const PASSWORD_VARIABLE = "HOBNOB_REGISTRY_PASSWORD";
const PASSPHRASE_VARIABLE = "PULUMI_CONFIG_PASSPHRASE";
const MUST: Flag[] = ["domain", "region", "size", "repository", "username"];
const DEFAULTS = { nodes: 3 };

const EXAMPLE = `${PASSWORD_VARIABLE}=… npm run init -- --stack dev --domain example.com --region fra1 --size s-2vcpu-4gb \\
  --repository acme/hobnob-backend --username acme --backend https://api.pulumi.com --yes`;

const usage = () => `npm run init [-- flags]: asks for what is not given

  --stack        name of the stack, e.g. dev
${flags.map((flag) => `  --${flag.padEnd(13)}${allowedFor(flag)}`).join("\n")}
  --backend      where the state is kept: ${Object.keys(EXAMPLES).join(", ")}
  --force        change a Pulumi.<stack>.yaml that is there; what is not asked for stays
  --password-stdin   the registry's password comes by standard input
  --yes          ask nothing, and do it

Secrets are no flags: DIGITALOCEAN_TOKEN, ${PASSWORD_VARIABLE} and, without Pulumi Cloud, ${PASSPHRASE_VARIABLE} are read from the
environment. For example:
${EXAMPLE}`;

/** What the user did wrong, or decided against: told in a few lines, without a stack. */
class Refusal extends Error {}

/** @returns the exit code */
export async function init(args: string[], around: Surroundings): Promise<number> {
  try {
    const given = parse(args);
    if (given.help) around.output.write(`${usage()}\n`);
    else await new Init(given, around).run();
    return 0;
  } catch (error) {
    const isViolation = error instanceof ConfigurationError;
    around.output.write(`${isViolation ? inTheWay(error.violations) : (error as Error).message}\n`);
    if (!isViolation && !(error instanceof Refusal) && around.env.HOBNOB_DEBUG) throw error;
    return 1;
  }
}

type Given = Partial<Record<Flag | "stack" | "backend", string>> &
  Partial<Record<"yes" | "force" | "password-stdin" | "help", boolean>>;

function parse(args: string[]): Given {
  const texts = ["stack", "backend", ...flags].map((name) => [name, { type: "string" as const }]);
  const switches = ["yes", "force", "password-stdin", "help"].map((name) => [name, { type: "boolean" as const }]);
  try {
    return parseArgs({ args, options: Object.fromEntries([...texts, ...switches]) }).values as Given;
  } catch (error) {
    // Node's own first sentence names the flag.
    throw new Refusal(`${(error as Error).message.split(". ")[0]}. All flags: npm run init -- --help`);
  }
}

const inTheWay = (violations: Violation[]) =>
  `In the way ${violations.length === 1 ? "is" : "are"}:\n\n${violations.map(tell).join("\n\n")}`;

class Init {
  readonly #backend: Backend;
  readonly #env: NodeJS.ProcessEnv;
  readonly #draft: NewStack;
  #offer?: Offer;

  constructor(
    readonly given: Given,
    readonly around: Surroundings,
  ) {
    // No child needs the one, nor keeps it.
    const { [PASSWORD_VARIABLE]: password, ...env } = around.env;
    this.#env = env;
    this.#backend = new Backend(env, around.directory);
    const answers = Object.fromEntries(
      flags.flatMap((flag) => (given[flag] ? [[flag, numbered(flag, given[flag])]] : [])),
    );
    this.#draft = { stack: given.stack ?? "", answers, existing: "", password };
  }

  get #asks() {
    return this.around.isTerminal && !this.given.yes;
  }

  async run(): Promise<void> {
    if (this.given["password-stdin"]) this.#draft.password = (await readAll(this.around.input)).replace(/\r?\n$/, "");
    const { url, isLoggedIn } = await this.#findBackend();
    this.#refuseMissing(url);
    await this.#chooseStack();
    if (this.#asks) await this.#askForPassphrase(url);
    this.#offer = await readOffer(this.#env);
    const cost = await this.#agree();
    this.#say(`\n${this.#file} will hold:\n\n${render(this.#draft)}\n${costTable(this.#name, cost)}`);
    if (this.#asks && !(await this.#confirm("Write it, and make the stack?"))) throw new Refusal(NOTHING_WRITTEN);
    if (!isLoggedIn) await this.#backend.login(url, this.#asks);
    await this.#write();
    this.#sayWhatIsNext(url);
  }

  // ── what is there ─────────────────────────────────────────────────────────────────────────────────────────────────

  get #name() {
    return nameOf(this.#draft.stack);
  }

  get #file() {
    return `Pulumi.${this.#name}.yaml`;
  }

  get #path() {
    return join(this.around.directory, this.#file);
  }

  readonly #read = () => (existsSync(this.#path) ? readFileSync(this.#path, "utf8") : "");

  /** Where the state is kept, or will be. */
  async #findBackend(): Promise<{ url: string; isLoggedIn: boolean }> {
    const wanted = this.given.backend;
    if (wanted !== undefined) {
      const violations = backendViolations(wanted, this.#env);
      if (violations.length > 0) throw new ConfigurationError(violations);
    }
    const current = await this.#backend.whoami();
    if (wanted !== undefined) return { url: wanted, isLoggedIn: false };
    if (current) return { url: current.url, isLoggedIn: true };
    return { url: this.#asks ? await this.#askForBackend() : "", isLoggedIn: false };
  }

  /** All that a run without questions needs, at once. */
  #refuseMissing(url: string): void {
    const missing = this.#missing(url);
    if (missing.length === 0) return;
    const lines = missing.map(([what, allowed]) => `  ${what.padEnd(26)}${allowed}`);
    throw new Refusal(
      `Missing, where nobody ${this.given.yes ? "shall" : "can"} be asked:\n\n${lines.join("\n")}\n\nFor example:\n${EXAMPLE}`,
    );
  }

  #missing(url: string): [string, string][] {
    const token = "an API token of the DigitalOcean account, in the environment";
    const account: [string, string][] = this.#env.DIGITALOCEAN_TOKEN ? [] : [["DIGITALOCEAN_TOKEN", token]];
    if (this.#asks) {
      if (account.length === 0) return [];
      throw new Refusal(`DIGITALOCEAN_TOKEN is missing: ${token}\n  export DIGITALOCEAN_TOKEN=<token>`);
    }
    const { stack, answers, password } = this.#draft;
    const existing = stack ? this.#read() : "";
    const need = (isThere: unknown, what: string, allowed: string): [string, string][] =>
      isThere ? [] : [[what, allowed]];
    return [
      ...need(stack, "--stack", "name of the stack, e.g. dev"),
      ...MUST.flatMap((flag) => need(answers[flag] !== undefined, `--${flag}`, allowedFor(flag))),
      ...need(url, "--backend", Object.keys(EXAMPLES).join(", ")),
      ...need(this.given.yes, "--yes", "that it shall be done"),
      ...account,
      ...need(
        password !== undefined || hasSecret(existing, "registryPassword"),
        PASSWORD_VARIABLE,
        "a token that may push to the repository, in the environment, or by --password-stdin",
      ),
      ...need(
        !url || !this.#needsPassphrase(url, existing),
        PASSPHRASE_VARIABLE,
        "what encrypts secrets without Pulumi Cloud",
      ),
    ];
  }

  #needsPassphrase(url: string, existing: string): boolean {
    const { PULUMI_CONFIG_PASSPHRASE: phrase, PULUMI_CONFIG_PASSPHRASE_FILE: file } = this.#env;
    return !isService(url) && phrase === undefined && file === undefined && !/^secretsprovider:/m.test(existing);
  }

  /** An existing file is changed only where its owner says so. */
  async #chooseStack(): Promise<void> {
    for (;;) {
      this.#draft.stack ||= await this.#ask({ message: "Name of the stack", fallback: "dev" });
      await begin(this.#draft.stack);
      const [wrong] = read(this.#draft, this.#env).violations.filter(({ key }) => key === keyName(["cluster", "name"]));
      if (!/[^\w./-]|\.\./.test(this.#draft.stack) && !wrong) break;
      const told = `A stack cannot be named ${JSON.stringify(this.#draft.stack)}: ${wrong?.allowed ?? "letters, digits, - and _"}`;
      if (!this.#asks || this.given.stack) throw new Refusal(told);
      this.#say(told);
      this.#draft.stack = "";
    }
    const existing = this.#read();
    if (/^\s*hobnob:/m.test(existing) && !this.given.force) {
      if (!this.#asks)
        throw new Refusal(`${this.#file} is there already. To change it, and keep what is not asked for: --force`);
      const question = `${this.#file} is there already. Change it? What is not asked for stays.`;
      if (!(await this.#confirm(question))) throw new Refusal(NOTHING_WRITTEN);
    }
    this.#draft.existing = existing;
    const provider = /^\s+provider: *(aws|existing)/m.exec(existing)?.[1];
    if (provider)
      throw new Refusal(`${this.#file} has cluster.provider ${provider}; here only DigitalOcean's are asked for.`);
  }

  // ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Asks, settles and checks, until the program and the account agree. */
  async #agree(): Promise<Cost> {
    for (;;) {
      if (this.#asks) await this.#askForAll();
      const { existing, answers } = this.#draft;
      const isCounted = existing !== "" && /^\s+(count|minCount):/m.test(existing);
      if (answers.nodes === undefined && !isCounted) answers.nodes = DEFAULTS.nodes;
      const first = await check(this.#draft, this.#env);
      Object.assign(answers, settle(this.#draft, first.violations, this.#offered));
      const { config, violations } = first.config ? first : await check(this.#draft, this.#env);
      if (config) violations.push(...(await this.#askRegistry(config)));
      if (config && violations.length === 0) {
        const prices = this.#offered.sizes.map(({ slug, price_monthly }) => [slug, price_monthly]);
        return monthlyCost(config, async () => Object.fromEntries(prices));
      }
      const again = violations.flatMap(({ key }) => askedAbout(key));
      if (!this.#asks || again.length === 0) throw new ConfigurationError(violations);
      this.#say(inTheWay(violations));
      // A registry does not say which of both is wrong.
      if (again.includes("password") && this.given.username === undefined) again.push("username");
      for (const what of again) what === "password" ? delete this.#draft.password : this.#forget(what);
    }
  }

  /** One that does not answer from here may do so from where the stack is deployed. */
  async #askRegistry({ image, registry }: Config): Promise<Violation[]> {
    const { password } = this.#draft;
    if (password === undefined || registry.anonymous || !("username" in image) || !image.username) return [];
    const login = { server: registry.server, repository: image.repository, username: image.username, password };
    return loginViolations(login, this.around.registryUrl(registry.server)).catch((error: Error) => {
      this.#say(`The registry's password is not checked: ${error.message}.`);
      return [];
    });
  }

  #forget(flag: Flag): void {
    delete this.#draft.answers[flag];
    // What was not asked for at first has to be from now on.
    if (![...MUST, "nodes"].includes(flag)) this.#further.add(flag);
  }

  readonly #further = new Set<Flag>();

  get #offered(): Offer {
    return this.#offer ?? { regions: [], sizes: [], vpcs: [] };
  }

  async #askForAll(): Promise<void> {
    const { answers, existing } = this.#draft;
    const order: Flag[] = ["domain", "region", "size", "nodes", "server", "repository", "username", ...this.#further];
    for (const flag of order) {
      if (answers[flag] !== undefined) continue;
      const answer = CHOICES[flag] ? await this.#choose(flag) : await this.#askFor(flag);
      answers[flag] = numbered(flag, answer);
    }
    if (this.#draft.password === undefined && !hasSecret(existing, "registryPassword"))
      this.#draft.password = await this.#askSecretly("Token that may push to the repository", (password) =>
        this.#wrong({ ...this.#draft, password }, "password"),
      );
  }

  /** What the program has against an answer, as soon as it is given. */
  #wrong(draft: NewStack, about: Flag | "password"): string | undefined {
    const [violation] = read(draft, this.#env).violations.filter(({ key }) => askedAbout(key).includes(about));
    return violation && `Allowed: ${violation.allowed}`;
  }

  async #askFor(flag: Flag): Promise<string> {
    const { existing, answers } = this.#draft;
    return this.#ask({
      message: QUESTIONS[flag] ?? `${flag}: ${allowedFor(flag)}`,
      fallback: answerIn(existing, flag) ?? FALLBACKS[flag],
      hint: allowedFor(flag),
      wrong: (value) => this.#wrong({ ...this.#draft, answers: { ...answers, [flag]: numbered(flag, value) } }, flag),
    });
  }

  async #choose(flag: Flag): Promise<string> {
    const options = CHOICES[flag]?.(this.#offered, this.#draft) ?? [];
    // As with a region that the account does not have.
    if (options.length === 0) return this.#askFor(flag);
    const initialValue = answerIn(this.#draft.existing, flag) ?? FALLBACKS[flag];
    return this.#uncancelled(
      clack.select({ message: QUESTIONS[flag] ?? flag, options, initialValue, maxItems: 12, ...this.#streams }),
    );
  }

  async #askForBackend(): Promise<string> {
    const options = Object.entries(EXAMPLES).map(([value, hint]) => ({ value, hint }));
    const message = "Where is the state kept?";
    const url = await this.#uncancelled(clack.select({ message, options, ...this.#streams }));
    if (!url.includes("<")) return url;
    const wrong = (value: string) => backendViolations(value, this.#env).map(({ allowed }) => `Allowed: ${allowed}`)[0];
    return this.#ask({ message: "URL of the bucket", hint: url, wrong });
  }

  /** The engine could ask for it only where it is not given a secret. */
  async #askForPassphrase(url: string): Promise<void> {
    if (!this.#needsPassphrase(url, this.#draft.existing)) return;
    const message = "Passphrase that encrypts the stack's secrets; keep it, every later run needs it";
    this.#env[PASSPHRASE_VARIABLE] = await this.#askSecretly(message, (value) =>
      value ? undefined : "Allowed: a passphrase",
    );
  }

  // ── doing it ──────────────────────────────────────────────────────────────────────────────────────────────────────

  async #write(): Promise<void> {
    const { stack, password } = this.#draft;
    await this.#backend.createStack(stack);
    // What encrypts the secrets has been noted there by now.
    this.#draft.existing = this.#read();
    writeFileSync(this.#path, render(this.#draft));
    if (password === undefined) return;
    await this.#backend.setSecret(PASSWORD, password, stack).catch((error: Error) => {
      const again = `pulumi config set --secret ${PASSWORD} --stack ${stack}`;
      throw new Refusal(`${this.#file} is written, but its secret is not:\n${error.message}\nTo set it: ${again}`);
    });
  }

  #sayWhatIsNext(url: string): void {
    const { stack } = this.#draft;
    const phrase = isService(url) ? "" : `\n  export ${PASSPHRASE_VARIABLE}=…        every later run needs it`;
    this.#say(`
${this.#file} is written, and the stack ${stack} is there. What to do next:${phrase}
  npm run stack -- ${stack} preview
  npm run stack -- ${stack} up`);
  }

  // ── the terminal ──────────────────────────────────────────────────────────────────────────────────────────────────

  get #streams() {
    return { input: this.around.input, output: this.around.output };
  }

  #say(text: string): void {
    this.around.output.write(`${text}\n`);
  }

  async #ask(question: {
    message: string;
    fallback?: string;
    hint?: string;
    wrong?(value: string): string | undefined;
  }): Promise<string> {
    const { message, fallback, hint, wrong } = question;
    return this.#uncancelled(
      clack.text({
        message,
        defaultValue: fallback,
        placeholder: fallback ?? hint,
        validate: (value) => wrong?.(value || (fallback ?? "")),
        ...this.#streams,
      }),
    );
  }

  #askSecretly(message: string, wrong: (value: string) => string | undefined): Promise<string> {
    return this.#uncancelled(clack.password({ message, validate: (value) => wrong(value ?? ""), ...this.#streams }));
  }

  #confirm(message: string): Promise<boolean> {
    return this.#uncancelled(clack.confirm({ message, ...this.#streams }));
  }

  async #uncancelled<T>(answer: Promise<T | typeof clack.CANCEL_SYMBOL>): Promise<T> {
    const value = await answer;
    if (clack.isCancel(value)) throw new Refusal(NOTHING_WRITTEN);
    return value as T;
  }
}

const NOTHING_WRITTEN = "Nothing was written.";

const numbered = (flag: Flag, value: string) =>
  flag === "nodes" && /^[1-9]\d{0,3}$/.test(value) ? Number(value) : value;

const QUESTIONS: Partial<Record<Flag, string>> = {
  domain: "Domain: the API will be at api.<domain>",
  region: "Region",
  size: "Size of each node (USD a month)",
  nodes: "Number of nodes",
  server: "Registry of the images",
  repository: "Repository of the API's image",
  username: "User of the registry",
  kubernetes: "Minor version of Kubernetes",
};

const FALLBACKS: Partial<Record<Flag, string>> = {
  nodes: String(DEFAULTS.nodes),
  server: "docker.io",
  size: "s-2vcpu-4gb",
};

const CHOICES: Partial<Record<Flag, (offer: Offer, draft: NewStack) => { value: string; label: string }[]>> = {
  region: ({ regions }) => regions.map(({ slug, name = "" }) => ({ value: slug, label: `${slug}  ${name}`.trimEnd() })),
  size: ({ sizes }, { answers: { region } }) =>
    sizes
      .filter(({ regions }) => regions.includes(String(region)))
      .map(({ slug, vcpus, memory, price_monthly }) => ({
        value: slug,
        label: `${slug.padEnd(20)} ${vcpus} CPUs, ${memory / 1024} GiB  $${price_monthly.toFixed(2)}`,
      })),
};

if (require.main === module) {
  const isTerminal = Boolean(process.stdin.isTTY && process.stdout.isTTY);
  const around = { env: process.env, directory: join(__dirname, ".."), input: process.stdin, output: process.stdout };
  init(process.argv.slice(2), { ...around, isTerminal, registryUrl }).then((code) => {
    process.exitCode = code;
  });
}
