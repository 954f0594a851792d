import * as fc from "fast-check";

/** As far as the API's own description uses it. */
export interface Schema {
  type?: string;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
}

export interface Operation {
  method: string;
  /** With its parameters in braces, such as `/users/{id}`. */
  path: string;
  query: Record<string, Schema>;
  params: Record<string, Schema>;
  body?: Schema;
  /** What the body of each documented status is; `null` where it has none. */
  responses: Record<string, Schema | null>;
}

interface Described {
  parameters?: { name: string; in: "path" | "query"; schema: Schema }[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { content?: Record<string, { schema: Schema }> }>;
}

export function operationsOf(document: { paths: Record<string, Record<string, Described>> }): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { parameters = [], requestBody, responses }]) => {
      const at = (place: "path" | "query") =>
        Object.fromEntries(parameters.filter((one) => one.in === place).map(({ name, schema }) => [name, schema]));
      const contents = Object.entries(responses).map(([status, { content }]) => [
        status,
        content?.["application/json"]?.schema ?? null,
      ]);
      return {
        method: method.toUpperCase(),
        path,
        query: at("query"),
        params: at("path"),
        body: requestBody?.content["application/json"]?.schema,
        responses: Object.fromEntries(contents),
      };
    }),
  );
}

/** A request as it goes over the wire. */
export interface Case {
  method: string;
  /** With query; `{known}` stands for the id of a user that there is. */
  path: string;
  headers: Record<string, string>;
  body?: string | Buffer;
  /** Which of the users that there are: their token goes along, too. */
  known?: number;
}

/** Requests to the operations, from valid ones to such as no client would send. */
export function cases(operations: Operation[]): fc.Arbitrary<Case> {
  return fc.constantFrom(...operations).chain((operation) =>
    fc.record({
      method: often(
        fc.constant(operation.method),
        fc.constantFrom("PUT", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "GET"),
      ),
      path: fc.tuple(pathOf(operation), queryOf(operation)).map((parts) => parts.join("")),
      headers: headersOf(operation),
      body: operation.body ? often(bodyOf(operation.body), fc.constant(undefined)) : rarely(bodyOf({ type: "object" })),
      known: fc.nat(1000),
    }),
  );
}

// ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────

const often = <T, U>(usual: fc.Arbitrary<T>, rare: fc.Arbitrary<U>) =>
  fc.oneof({ arbitrary: usual, weight: 9 }, { arbitrary: rare, weight: 1 });
const rarely = <T>(rare: fc.Arbitrary<T>) => often(fc.constant(undefined), rare);

function valid(schema: Schema): fc.Arbitrary<unknown> {
  const { type, pattern, minLength = 0, maxLength = 50, properties = {}, required = [] } = schema;
  if (type === "integer") return fc.integer({ min: schema.minimum, max: schema.maximum });
  if (type === "object") {
    const keys = Object.fromEntries(Object.entries(properties).map(([key, value]) => [key, valid(value)]));
    return fc.record(keys, { requiredKeys: required });
  }
  if (pattern?.includes("a-z"))
    return fc.stringMatching(new RegExp(pattern)).filter(({ length }) => length >= minLength && length <= maxLength);
  return fc.string({ unit: "binary", minLength, maxLength });
}

const INJECTIONS = [
  "../_search",
  "..%2f..%2f_cluster%2fhealth",
  "%2e%2e/%2e%2e/_cat/indices",
  "users-1/_doc/1",
  "_all",
  "*",
  "-users-1,*",
  "<users-{now/d}>",
  "%",
  "%ff%fe",
  "%00",
  "%0d%0aset-cookie:%20a=b",
  "$\u007bjndi:ldap://127.0.0.1/a}",
  "{{7*7}}",
  "' OR 1=1 --",
  '{"match_all":{}}',
  "name:* OR tokenHash:*",
  "a AND (b OR NOT c",
  "/.*/",
  "\\u0000",
  "<script>alert(1)</script>",
  "__proto__",
  "constructor",
  "toString",
];

const strange = fc.oneof(
  fc.constantFrom(...INJECTIONS),
  fc.string({ unit: "binary", maxLength: 300 }),
  // Halves of surrogate pairs, which no UTF-8 can hold.
  fc.constantFrom("\ud800", "Ada \udfff", "\udc00\ud800", "\u0000", "\ufeff", "\u202e", "a\u0301".repeat(60)),
  fc.integer({ min: 100, max: 40_000 }).map((length) => "x".repeat(length)),
);

const nested = fc.integer({ min: 2, max: 3_000 }).chain((depth) =>
  fc.boolean().map((list) => ({
    toJSON: () =>
      JSON.parse(list ? "[".repeat(depth) + "]".repeat(depth) : `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`),
  })),
);

const hostile: fc.Arbitrary<unknown> = fc.oneof(
  strange,
  nested,
  fc.jsonValue({ depthSize: "small", stringUnit: "binary" }),
  fc.constantFrom(null, true, -1, 0, 1e308, 2 ** 53, 1.5, [], {}, "", " "),
);

// ── the parts of a request ──────────────────────────────────────────────────────────────────────────────────────────

/** Every byte that a request line may not have, as a client would write it; halves of pairs become U+FFFD. */
const encoded = (text: string): string =>
  [...Buffer.from(text)]
    .map((byte) =>
      /[\w.~-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, "0")}`,
    )
    .join("");

/** As it is, but for what the request line can't carry at all. */
const bare = (text: string): string => text.replace(/[^\x21-\x7e]/g, "");

/** Below `/`, for a listener that has no description. */
export const strangePaths: fc.Arbitrary<string> = fc
  .oneof(strange.map(encoded), strange.map(bare), fc.constantFrom("static/../../package.json", "static/%2e%2e/main.js"))
  .map((path) => `/${path}`);

function pathOf({ path, params }: Operation): fc.Arbitrary<string> {
  const [schema] = Object.values(params);
  const id = schema
    ? fc.oneof(
        { arbitrary: fc.constant("{known}"), weight: 5 },
        { arbitrary: valid(schema).map((value) => encoded(String(value))), weight: 2 },
        { arbitrary: strange.map(encoded), weight: 2 },
        { arbitrary: strange.map(bare), weight: 1 },
      )
    : fc.constant("");
  const tail = often(fc.constant(""), fc.constantFrom("/", "//", "/..", "/../_search", ";a=b", "/_doc/1", "%2f", "#a"));
  return fc.tuple(id, tail).map(([value, end]) => path.replace(/\{\w+\}/, () => value) + end);
}

function queryOf({ query }: Operation): fc.Arbitrary<string> {
  const pairs = Object.entries(query).map(([name, schema]) =>
    fc.oneof(
      { arbitrary: fc.constant([]), weight: 3 },
      { arbitrary: valid(schema).map((value) => [`${name}=${encoded(String(value))}`]), weight: 4 },
      { arbitrary: strange.map((value) => [`${name}=${encoded(value)}`]), weight: 2 },
      { arbitrary: strange.map((value) => [`${name}=${bare(value)}`]), weight: 1 },
      {
        arbitrary: fc
          .constantFrom("1e3", "-1", "0x10", "NaN", "", "1.5", "99999999999999999999", "true")
          .map((value) => [`${name}=${value}`]),
        weight: 1,
      },
      { arbitrary: fc.constantFrom([`${name}[]=1`], [`${name}=1`, `${name}=2`], [name], [`${name}[a]=1`]), weight: 1 },
    ),
  );
  const further = rarely(fc.constantFrom("from=10000", "size=10000", "__proto__=1", "source={}", "&&&", "=", "pretty"));
  return fc.tuple(fc.tuple(...pairs), further).map(([found, more]) => {
    const all = [...found.flat(), ...(more === undefined ? [] : [more])];
    return all.length > 0 ? `?${all.join("&")}` : "";
  });
}

const JSON_TYPE = "application/json";
const TYPES = [
  "text/plain",
  "application/xml",
  "multipart/form-data; boundary=x",
  "application/x-www-form-urlencoded",
  "application/json; charset=utf-16",
  "application/json;;;",
  "application/jsonp",
  "json",
  "/",
];

function headersOf({ body }: Operation): fc.Arbitrary<Record<string, string>> {
  const type = often(fc.constant(body ? JSON_TYPE : undefined), fc.constantFrom(JSON_TYPE, undefined, ...TYPES));
  const further = rarely(
    fc.oneof(
      fc.constantFrom<Record<string, string>[]>(
        { authorization: "Bearer" },
        { authorization: "Basic YTpi" },
        { authorization: `Bearer ${"a".repeat(5_000)}` },
        { authorization: "Bearer ../../x" },
        { accept: "text/html" },
        { "accept-encoding": "gzip;q=zzz" },
        { "content-encoding": "gzip" },
        { "x-forwarded-for": "1.2.3.4, <script>" },
        { "x-http-method-override": "DELETE" },
        { "x-request-id": "../../a" },
        { origin: "null" },
        { host: "evil.example.com" },
        { range: "bytes=0-1" },
        { "if-none-match": "*" },
      ),
      fc.integer({ min: 1_000, max: 40_000 }).map((length) => ({ "x-large": "x".repeat(length) })),
    ),
  );
  return fc.tuple(type, further).map(([contentType, more]) => ({
    ...(contentType !== undefined && { "content-type": contentType }),
    ...more,
  }));
}

function bodyOf(schema: Schema): fc.Arbitrary<string | Buffer> {
  const whole = valid(schema) as fc.Arbitrary<Record<string, unknown>>;
  const keys = Object.keys(schema.properties ?? { a: {} });
  const text = whole.map((value) => JSON.stringify(value));
  const changed = fc
    .tuple(whole, fc.constantFrom(...keys), hostile)
    .map(([value, key, other]) => JSON.stringify({ ...value, [key]: other }));
  const extra = fc
    .tuple(
      whole,
      fc.oneof(fc.constantFrom("__proto__", "constructor", "tokenHash", "_id", "createdAt"), fc.string()),
      hostile,
    )
    .map(
      ([value, key, other]) => `${JSON.stringify(value).slice(0, -1)},${JSON.stringify(key)}:${JSON.stringify(other)}}`,
    );
  const less = fc
    .tuple(whole, fc.constantFrom(...keys))
    .map(([value, key]) => JSON.stringify({ ...value, [key]: undefined }));
  const broken = fc.tuple(text, fc.nat(200), fc.string({ maxLength: 3 })).map(([json, at, noise]) => {
    const place = at % (json.length + 1);
    return json.slice(0, place) + noise + json.slice(place + 1);
  });
  return fc.oneof(
    { arbitrary: text, weight: 6 },
    { arbitrary: changed, weight: 6 },
    { arbitrary: extra, weight: 2 },
    { arbitrary: less, weight: 1 },
    { arbitrary: broken, weight: 2 },
    { arbitrary: hostile.map((value) => JSON.stringify(value)), weight: 1 },
    { arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)), weight: 1 },
    {
      arbitrary: fc.constantFrom("", " ", "null", '{"id":"a1","id":"a2","name":"A"}', '{"id":"a1","name":"\\ud800"}'),
      weight: 1,
    },
  );
}
