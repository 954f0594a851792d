import fc from "fast-check";
import { z } from "zod";

/** Keys whose schema only says what is refused: what their good values look like. A key is written as in `leaves()`. */
const GOOD: Record<string, fc.Arbitrary<string>> = {
  "cluster.region": fc.constantFrom("fra1", "eu-central-1"),
  "cluster.version": fc.constant("1.36"),
  "cluster.systemPool.size": fc.constantFrom("s-2vcpu-4gb", "s-4vcpu-8gb"),
  "cluster.workerPools.<name>.size": fc.constantFrom("s-2vcpu-4gb", "s-4vcpu-8gb"),
  "elasticsearch.snapshots.bucket": fc.constantFrom("acme-hobnob-snapshots", "a.b-c.d"),
  "elasticsearch.snapshots.endpoint": fc.constantFrom("https://s3.example.com", "http://127.0.0.1:9000"),
  "elasticsearch.snapshots.schedule": fc.constantFrom("0 2 * * *", "*/15 0-6 1,15 1-12/2 0", "59 23 31 12 7"),
  "registry.server": fc.constantFrom("docker.io", "127.0.0.1:5000", "registry.example.com:443"),
  "registry.clusterServer": fc.constantFrom("registry", "k3d-hobnob.localhost:5050"),
  domain: fc.constantFrom("example.com", "a.b.c.example", "xn--bcher-kva.example", `${"a".repeat(63)}.example`),
  "cluster.vpcCidr": fc.constantFrom("10.10.0.0/20", "10.30.0.0/16", "172.16.0.0/16", "192.168.1.0/28"),
  "cluster.allowedAddresses.0": fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom("203.0.113.0/24", "2001:db8::/32")),
  "cluster.context": fc.constantFrom("there"),
  "cluster.workerPools.<name>.labels.<name>": fc.constantFrom("search", "", "a.b_c-d"),
  "cluster.workerPools.<name>.taints.0.value": fc.constantFrom("search", "", "a.b_c-d"),
  "dns.records.0.value": fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom("@", "mail.example.com.", "v=spf1 -all")),
  "tls.hosts.0": fc.constantFrom("shop.example.com", "*.example.com", "example.com"),
  "tls.resolver": fc.constantFrom("127.0.0.1:1", "127.0.0.1"),
};

export interface Key {
  /** As in `leaves()`: `cluster.workerPools.<name>.size`. */
  name: string;
  schema: z.ZodType;
  /** Values that the schema takes; absent where nothing here makes any. */
  good?: fc.Arbitrary<unknown>;
}

type Shape = Record<string, z.ZodType>;

function inner(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    return inner(schema.unwrap() as z.ZodType);
  }
  return schema instanceof z.ZodPipe ? inner(schema.out as z.ZodType) : schema;
}

/** Every key of a schema with values for it, so that a new key is thrown at the program without being named here. */
export function keysOf(schema: z.ZodType, name = ""): Key[] {
  const bare = inner(schema);
  const below = (part: string, child: z.ZodType) => keysOf(child, name === "" ? part : `${name}.${part}`);
  const own = name === "" ? [] : [{ name, schema: bare, good: goodFor(name, bare) }];
  if (bare instanceof z.ZodDiscriminatedUnion) {
    const options = bare.options as z.ZodObject[];
    return [
      ...own,
      ...options.flatMap((option) => Object.entries(option.shape as Shape).flatMap(([k, s]) => below(k, s))),
    ];
  }
  if (bare instanceof z.ZodObject)
    return [...own, ...Object.entries(bare.shape as Shape).flatMap(([k, s]) => below(k, s))];
  if (bare instanceof z.ZodArray) return [...own, ...below("0", bare.element as z.ZodType)];
  if (bare instanceof z.ZodRecord) return [...own, ...below("<name>", bare.valueType as z.ZodType)];
  return own;
}

function goodFor(name: string, schema: z.ZodType): fc.Arbitrary<unknown> | undefined {
  const made = candidates(name, schema);
  return made?.filter((value) => schema.safeParse(value).success);
}

function candidates(name: string, schema: z.ZodType): fc.Arbitrary<unknown> | undefined {
  if (schema instanceof z.ZodEnum) return fc.constantFrom(...schema.options);
  if (schema instanceof z.ZodLiteral) return fc.constantFrom(...schema.values);
  if (schema instanceof z.ZodBoolean) return fc.boolean();
  if (schema instanceof z.ZodNumber) return integers(schema);
  if (schema instanceof z.ZodString) return GOOD[name] ?? texts(schema);
  return containers(name, schema);
}

function integers(schema: z.ZodNumber): fc.Arbitrary<number> {
  const [min, max] = [schema.minValue ?? 0, schema.maxValue ?? 2 ** 31];
  return fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min, max: Math.min(max, min + 10) }) },
    fc.integer({ min, max }),
  );
}

function texts(schema: z.ZodString): fc.Arbitrary<string> | undefined {
  const { allowed } = schema.meta() as { allowed: string };
  const quantities = /^a Kubernetes quantity from (\S+) to (\S+), e\.g\. (\S+)$/.exec(allowed);
  if (quantities) return fc.constantFrom(...quantities.slice(1));
  if (/^a secret/.test(allowed)) return fc.string({ minLength: 1, maxLength: 40 });
  const patterns = (schema._zod.def.checks ?? []).flatMap((check) => {
    const { pattern } = check._zod.def as { pattern?: RegExp };
    return pattern ? [pattern] : [];
  });
  const [first] = patterns;
  return first && fc.stringMatching(first);
}

function containers(name: string, schema: z.ZodType): fc.Arbitrary<unknown> | undefined {
  if (schema instanceof z.ZodArray) {
    return fc.array(goodOf(`${name}.0`, schema.element as z.ZodType), { maxLength: 3 });
  }
  if (schema instanceof z.ZodRecord) {
    const keys = candidates(`${name}.<name>`, inner(schema.keyType as z.ZodType)) as fc.Arbitrary<string> | undefined;
    const value = goodOf(`${name}.<name>`, schema.valueType as z.ZodType);
    return fc.dictionary(keys ?? fc.constantFrom("a", "example.com/b"), value, { maxKeys: 3 });
  }
  if (schema instanceof z.ZodDiscriminatedUnion) {
    return fc.oneof(...(schema.options as z.ZodType[]).map((option) => goodOf(name, option)));
  }
  if (!(schema instanceof z.ZodObject)) return undefined;
  const entries = Object.entries(schema.shape as Shape);
  const model = Object.fromEntries(entries.map(([part, s]) => [part, goodOf(`${name}.${part}`, s)]));
  const requiredKeys = entries.filter(([, s]) => !s.safeParse(undefined).success).map(([part]) => part);
  return fc.record(model, { requiredKeys: requiredKeys as never[] });
}

const goodOf = (name: string, schema: z.ZodType): fc.Arbitrary<unknown> =>
  candidates(name, inner(schema)) ?? fc.constant("no generator");

/** What hides in a text to mean something to a shell, YAML, NGINX, HTTP, a template, a path, a terminal or a reader. */
export const INJECTIONS = [
  "; rm -rf /",
  "$(reboot)",
  "`id`",
  "' || true #",
  '"; exit 1; "',
  "\nkind: Pod",
  "\r\nSet-Cookie: a=b",
  "1m;} server { listen 81; location / { return 200; } }",
  "off; include /etc/nginx/secrets/*",
  "{{ .Values.secret }}",
  "$" + "{jndi:ldap://x/y}",
  "#{7*7}",
  "../../../etc/passwd",
  "..\\..\\windows",
  "%00%0d%0a",
  "\u0000",
  "\u001b[2J\u001b]0;owned\u0007",
  "\u202egnp.exe",
  "\u200b",
  "\ufeff",
  "\u2028",
  "ex\u0430mple.com",
  "ｅxample.com",
  "\ud800",
  "💥".repeat(3),
  " ",
  "*/5 * * * *",
  "!!js/function 'x'",
  "&a [*a]",
  "<<: *x",
  "__proto__",
  "constructor",
  "-".repeat(64),
  "a".repeat(300),
  "a".repeat(100_000),
];

const NUMBERS = [
  "NaN",
  "Infinity",
  "-Infinity",
  "1e999",
  "-1",
  "0",
  "01",
  "0x10",
  "1_000",
  "1.5",
  "1e3",
  "9007199254740993",
  "9".repeat(400),
];

const deep = (depth: number) => {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = i % 2 ? [value] : { a: value };
  return value;
};

/** Values that no key takes as they are, or only one of them. */
export const HOSTILE: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...INJECTIONS) },
  { weight: 2, arbitrary: fc.constantFrom(...NUMBERS) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(null, true, false, 0, -1, 1.5, 1e300, -0, Number.MAX_SAFE_INTEGER, 2 ** 31, ""),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom([], {}, [[]], [null], { a: 1 }, deep(60), deep(3000), Array(5000).fill("a")),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...["__proto__", "constructor", "toString"].map((k) => JSON.parse(`{"${k}":{"polluted":true}}`)),
    ),
  },
  { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 50 }) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
);

/** A good text with something in it, before it or after it. */
export const tainted = (good: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc
    .tuple(good, fc.constantFrom(...INJECTIONS), fc.constantFrom("before", "after", "within"))
    .map(([value, injected, where]) => {
      if (typeof value !== "string") return injected;
      const half = Math.floor(value.length / 2);
      return {
        before: injected + value,
        after: value + injected,
        within: value.slice(0, half) + injected + value.slice(half),
      }[where];
    });
