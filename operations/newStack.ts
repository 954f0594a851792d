import * as pulumi from "@pulumi/pulumi";
import { type Document, isMap, parseDocument } from "yaml";
import { type Config, leaves, readConfig } from "../config";
import { Account, asViolation, freeRange, preflight, type Vpc } from "../preflight";
import { ConfigurationError, keyName, type Path, PROJECT, type Violation } from "../violations";

/** What is asked, by its flag, and the key that it becomes. */
const KEYS = {
  domain: ["domain"],
  region: ["cluster", "region"],
  size: ["cluster", "systemPool", "size"],
  nodes: ["cluster", "systemPool", "count"],
  kubernetes: ["cluster", "version"],
  "vpc-cidr": ["cluster", "vpcCidr"],
  zone: ["dns", "zone"],
  server: ["registry", "server"],
  repository: ["registry", "repository"],
  username: ["registry", "username"],
} as const satisfies Record<string, Path>;

export type Flag = keyof typeof KEYS;
export type Answers = Partial<Record<Flag, string | number>>;

export const flags = Object.keys(KEYS) as Flag[];

/** A stack that is about to be written. */
export interface NewStack {
  /** As the engine names it, an organization before it where there is one. */
  stack: string;
  answers: Answers;
  /** The text of its settings as they are; empty where there are none. Keys that nobody asks about stay. */
  existing: string;
  /** Of the registry; not needed where the settings have one. */
  password?: string;
}

/** What the account offers to a new cluster. */
export interface Offer {
  regions: { slug: string; name?: string }[];
  sizes: Size[];
  vpcs: Vpc[];
}

interface Size {
  slug: string;
  vcpus: number;
  /** MiB */
  memory: number;
  price_monthly: number;
  regions: string[];
  available: boolean;
}

type Settings = Record<string, unknown>;

/** What a key's answer may be, in the words of its violation. */
export const allowedFor = (flag: Flag): string => leafOf(flag)?.allowed ?? "";

const leafOf = (flag: Flag) =>
  leaves().find(({ path, variant = "digitalocean" }) => variant === "digitalocean" && same(path, KEYS[flag]));
const same = (one: Path, other: Path) => keyName(one) === keyName(other);

/** What the settings say already. */
export function answerIn(existing: string, flag: Flag): string | undefined {
  const value = parseDocument(existing).getIn(placeOf(KEYS[flag]));
  return value === undefined || value === null ? undefined : String(value);
}

export const hasSecret = (existing: string, name: string): boolean =>
  parseDocument(existing).hasIn([...placeOf([name]), "secure"]);

const placeOf = ([section, ...below]: Path) => ["config", `${PROJECT}:${String(section)}`, ...below.map(String)];

/** To be called before any other question about a stack: defaults are made of its name, which violations tell. */
export async function begin(stack: string): Promise<void> {
  const mocks = { newResource: () => ({ id: "", state: {} }), call: () => ({}) };
  await pulumi.runtime.setMocks(mocks, PROJECT, nameOf(stack), true, "organization");
}

/** Without its organization, as its file has it. */
export const nameOf = (stack: string): string => stack.split("/").at(-1) ?? "";

/** The configuration, or everything that is wrong with it by itself, in the program's own words. */
export function read(draft: NewStack, env: NodeJS.ProcessEnv): { violations: Violation[]; config?: Config } {
  const settings = settingsOf(render(draft));
  const secrets = Object.keys(settings).filter((key) => isSecure(settings[key]));
  const plain = Object.entries(settings).map(([key, value]) => [key, isSecure(value) ? "a secret" : asText(value)]);
  const password = draft.password === undefined ? {} : { [PASSWORD]: draft.password };
  pulumi.runtime.setAllConfig({ ...Object.fromEntries(plain), ...password }, [...secrets, PASSWORD]);
  try {
    return { config: readConfig(env), violations: [] };
  } catch (error) {
    return { violations: violationsOf(error) };
  }
}

/** The same with the account's answers. */
export async function check(draft: NewStack, env: NodeJS.ProcessEnv): Promise<ReturnType<typeof read>> {
  const { config, violations } = read(draft, env);
  if (!config) return { violations };
  const found = await preflight(config, { env }).then(() => [], violationsOf);
  return found.length > 0 ? { violations: found } : { violations: [], config };
}

function violationsOf(error: unknown): Violation[] {
  if (error instanceof ConfigurationError) return error.violations;
  throw error;
}

export const PASSWORD = keyName(["registryPassword"]);

const settingsOf = (text: string) => (parseDocument(text).toJS() as { config?: Settings } | null)?.config ?? {};
const isSecure = (value: unknown) => typeof value === "object" && value !== null && "secure" in value;
const asText = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));

/** @throws a `ConfigurationError`, where the account does not answer */
export async function readOffer(env: NodeJS.ProcessEnv, timeoutMs = 10_000): Promise<Offer> {
  const account = new Account(env, timeoutMs);
  const [{ options }, sizes, vpcs] = await Promise.all([
    account.get<{ options: { regions: Offer["regions"]; sizes: { slug: string }[] } }>("/v2/kubernetes/options"),
    account.list<Size>("/v2/sizes", "sizes"),
    account.list<Vpc>("/v2/vpcs", "vpcs"),
  ]).catch(asViolation);
  const forKubernetes = new Set(options.sizes.map(({ slug }) => slug));
  const offered = sizes.filter(({ slug, available }) => available && forKubernetes.has(slug));
  return { regions: options.regions, sizes: offered.sort((a, b) => a.price_monthly - b.price_monthly), vpcs };
}

/** What nobody needs to be asked, as only one answer would pass: a zone that is there, a range that is free. */
export function settle({ answers, existing }: NewStack, violations: Violation[], { vpcs }: Offer): Answers {
  const isOpen = (flag: Flag) =>
    answers[flag] === undefined &&
    answerIn(existing, flag) === undefined &&
    violations.some(({ key }) => key === keyName(KEYS[flag]));
  const range = freeRange(vpcs);
  return {
    ...(isOpen("zone") && { zone: "lookup" }),
    ...(isOpen("vpc-cidr") && range !== undefined && { "vpc-cidr": range }),
  };
}

const REASONS: Partial<Record<Flag, string>> = {
  zone: "The account has the zone already; its records stay.",
  "vpc-cidr": "VPCs of one account may not overlap.",
};

/** The settings' text: what differs from the defaults, and all that stood there before. */
export function render({ answers, existing }: NewStack): string {
  const document = parseDocument(existing);
  const isFirst = !document.has("config");
  for (const flag of flags) {
    const value = answers[flag];
    if (value === undefined || isImplied(document, flag, value)) continue;
    const place = placeOf(KEYS[flag]);
    const isNew = !document.hasIn(place);
    document.setIn(place, value);
    const reason = REASONS[flag];
    if (isNew && reason) commentOn(document, place, reason);
  }
  if (isFirst) commentOn(document, ["config"], "Begun by `npm run init`. Every key: docs/configuration.md");
  return document.toString({ lineWidth: 0 });
}

/** A default is not written, unless it changes what stands there. */
const isImplied = (document: Document, flag: Flag, value: string | number) =>
  !document.hasIn(placeOf(KEYS[flag])) && leafOf(flag)?.default === JSON.stringify(value);

function commentOn(document: Document, place: string[], reason: string): void {
  const map = document.getIn(place.slice(0, -1));
  const pair = isMap(map) ? map.items.find(({ key }) => String(key) === place.at(-1)) : undefined;
  if (!pair) return;
  const key = document.createNode(place.at(-1));
  key.commentBefore = ` ${reason}`;
  pair.key = key;
}

/** Which questions a violation is about; none, where it is about something else. */
export function askedAbout(key: string): (Flag | "password")[] {
  if (key === PASSWORD) return ["password"];
  // Whether all has room on them is a matter of both.
  if (["hobnob:cluster.systemPool", "hobnob:elasticsearch.replicas"].includes(key)) return ["size", "nodes"];
  return flags.filter((flag) => keyName(KEYS[flag]) === key);
}

/** A violation as whoever gave flags reads it. */
export function tell({ key, given, allowed, command }: Violation): string {
  const asked = askedAbout(key).filter((about) => about !== "password");
  const what = asked.map((flag) => `--${flag}`).join(", ");
  // The stack's settings are not there yet, so that no command could change them.
  const help = /^$|^pulumi config|^"\$EDITOR"/.test(command) ? "" : `\n    command: ${command}`;
  return `  ${what || key}\n    given:   ${asked.length > 1 ? `${key} ` : ""}${given}\n    allowed: ${allowed}${help}`;
}
