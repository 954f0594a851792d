import type { Finding, Rule } from "./policies";
import { type Resource, UNKNOWN } from "./resources";

/** Where a secret belongs: the engine encrypts these, and nobody but who may know it reads them. */
const HOLDERS = /^(kubernetes:core\/v1:Secret|random:.*|tls:.*|pulumi:providers:.*)$/;
const HELD: Record<string, string[]> = { "docker:index/image:Image": ["registry.password"] };

/** What is a secret by its form, with the word that a finding names it by. */
const FORMS: [string, RegExp][] = [
  ["a private key", /-----BEGIN [A-Z ]*PRIVATE KEY-----/],
  ["an API token", /\b(do[opr]_v1_[0-9a-f]{64}|dckr_[a-z]+_[\w-]{20,}|gh[pousr]_\w{30,}|AKIA[0-9A-Z]{16})\b/],
  ["a signed token", /\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}/],
  ["a password in an address", /\w:\/\/[^\s/:@]+:[^\s/@]+@/],
  ["a login", /\b(Basic [A-Za-z0-9+/]{12,}={0,2}|Bearer [\w.~+/-]{16,})/],
];
/** What is one by the name it has; a path to one is none. */
const NAMES = /(password|passwd|secret|token|credentials?|private_?key|api_?key)$/i;
const isNamedSecret = (name: string, value: string) => NAMES.test(name) && value !== "" && !/^[/$]/.test(value);

/** The text itself, and what it says in base64. */
function readings(text: string): string[] {
  const isBase64 = text.length >= 16 && /^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(text);
  return isBase64 ? [text, Buffer.from(text, "base64").toString("latin1")] : [text];
}

function* texts(value: unknown, path: string): Generator<{ path: string; text: string }> {
  if (typeof value === "string" && value !== UNKNOWN) yield { path, text: value };
  if (typeof value !== "object" || value === null) return;
  const isList = Array.isArray(value);
  for (const [key, member] of Object.entries(value)) {
    const below = path === "" ? key : `${path}.${key}`;
    yield* texts(member, isList ? `${path}[${key}]` : below);
  }
}

/** Values with a name of their own: a container's environment, and a ConfigMap's data. */
function* named(value: unknown, path: string): Generator<{ path: string; name: string; text: string }> {
  if (typeof value !== "object" || value === null) return;
  const { name, value: own } = value as { name?: unknown; value?: unknown };
  if (typeof name === "string" && typeof own === "string" && own !== UNKNOWN) yield { path, name, text: own };
  for (const [key, member] of Object.entries(value)) {
    const below = Array.isArray(value) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`;
    if (/(^|\.)(data|args)$/.test(path) && typeof member === "string") yield { path: below, name: key, text: member };
    yield* named(member, below);
  }
}

function plainSecrets(resources: Resource[]): Finding[] {
  return resources
    .filter(({ type }) => !HOLDERS.test(type))
    .flatMap((resource) => {
      const isHeld = ({ path }: { path: string }) => (HELD[resource.type] ?? []).includes(path);
      const byForm = [...texts(resource.props, "")]
        .filter((each) => !isHeld(each))
        .flatMap(({ path, text }) => {
          const form = FORMS.find(([, pattern]) => readings(text).some((reading) => pattern.test(reading)));
          return form ? [{ path, what: form[0] }] : [];
        });
      const byName = [...named(resource.props, "")]
        .filter(({ name, text }) => isNamedSecret(name, text))
        .map(({ path, name }) => ({ path, what: `a value for ${name}` }));
      return [...byForm, ...byName].map(({ path, what }) => ({
        resource,
        found: `${what} at ${path}`,
        set: "it in a Secret, and a reference to that here",
      }));
    });
}

/** What keeps secrets where they belong. */
export const secrets: Rule[] = [
  {
    name: "no-plain-secret",
    description: "A password, key or token stands in no resource's inputs but a Secret's.",
    check: plainSecrets,
  },
];
