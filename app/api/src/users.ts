import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { Client, errors } from "@elastic/elasticsearch";
import { type Static, Type } from "typebox";

export const UserId = Type.String({
  pattern: "^[a-z0-9][a-z0-9_-]{1,31}$",
  description: "Chosen by the user, unique; it can't be changed",
  examples: ["ada"],
});
/** Half of a surrogate pair is no character: no UTF-8 can hold it, and so no store. Means the same with and without the flag `u`. */
const WELL_FORMED = "^(?:[^\\uD800-\\uDFFF]|[\\uD800-\\uDBFF][\\uDC00-\\uDFFF])*$";
const Name = Type.String({ minLength: 1, maxLength: 100, pattern: WELL_FORMED, examples: ["Ada Lovelace"] });
const About = Type.String({ maxLength: 1000, pattern: WELL_FORMED, examples: ["Wrote the first program"] });
const Timestamp = Type.String({ format: "date-time" });
const closed = { additionalProperties: false };

export const NewUser = Type.Object({ id: UserId, name: Name, about: Type.Optional(About) }, closed);
export const Changes = Type.Partial(Type.Object({ name: Name, about: About }), { ...closed, minProperties: 1 });
export const User = Type.Object({
  id: UserId,
  name: Name,
  about: Type.Optional(About),
  createdAt: Timestamp,
  updatedAt: Timestamp,
});
export const Created = Type.Object({
  id: UserId,
  token: Type.String({ description: "Shown only here: keep it to change or delete the user" }),
});
export const Search = Type.Object(
  {
    query: Type.Optional(
      Type.String({ maxLength: 200, description: "Words, or their beginnings; without it all users" }),
    ),
    limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
    after: Type.Optional(Type.String({ maxLength: 32, description: "`next` of the page before" })),
  },
  closed,
);
export const Page = Type.Object({
  users: Type.Array(User),
  next: Type.Optional(Type.String({ description: "Absent on the last page" })),
});

type User = Static<typeof User>;

/** An error that is the client's to know, with its HTTP status. */
export class ApiError extends Error {
  constructor(
    readonly statusCode: number,
    message: string,
  ) {
    super(message);
  }
}

// Writes go through an alias that must exist, so that a lost index is never made anew with a guessed mapping.
const ALIAS = "users";
const INDEX = "users-1";
const DEFINITION = {
  index: INDEX,
  aliases: { [ALIAS]: { is_write_index: true } },
  // One Elasticsearch node alone is green too; with more, every user is on two of them.
  settings: { number_of_shards: 1, auto_expand_replicas: "0-1" },
  mappings: {
    dynamic: "strict" as const,
    properties: {
      id: { type: "keyword" as const },
      name: { type: "text" as const },
      about: { type: "text" as const },
      tokenHash: { type: "keyword" as const, index: false, doc_values: false },
      createdAt: { type: "date" as const },
      updatedAt: { type: "date" as const },
    },
  },
};

// Elasticsearch 8 refuses what a client of version 9 sends by itself; 8 and 9 both take this.
const MEDIA_TYPE = "application/vnd.elasticsearch+json; compatible-with=8";

/** Where Elasticsearch is, and what the client and it know each other by. */
export type UsersOptions = Pick<ConstructorParameters<typeof Client>[0], "node" | "auth" | "tls">;

/** The users in Elasticsearch; of their tokens only the SHA-256. */
export class Users {
  readonly #client: Client;

  constructor(elasticsearch: UsersOptions) {
    const headers = { accept: MEDIA_TYPE, "content-type": MEDIA_TYPE };
    this.#client = new Client({ ...elasticsearch, headers, requestTimeout: 5_000, maxRetries: 2 });
  }

  /** Makes the index where it is missing; throws unless Elasticsearch can serve it. */
  async ready(): Promise<void> {
    const once = { requestTimeout: 2_000, maxRetries: 0 };
    // Where another replica is faster, this fails and the next call finds the index.
    if (!(await this.#client.indices.existsAlias({ name: ALIAS }, once))) await this.#client.indices.create(DEFINITION);
    const wait = { wait_for_status: "yellow" as const, timeout: "1s", master_timeout: "1s" };
    const health = await this.#client.cluster.health({ index: ALIAS, ...wait }, { ...once, ignore: [408] });
    if (health.timed_out) throw new Error(`the index ${ALIAS} is ${health.status}`);
  }

  async create(user: Static<typeof NewUser>): Promise<Static<typeof Created>> {
    const token = randomBytes(32).toString("base64url");
    const tokenHash = hash(token).toString("hex");
    const now = new Date().toISOString();
    const document = { ...user, tokenHash, createdAt: now, updatedAt: now };
    try {
      await this.#client.create({ index: ALIAS, id: user.id, document, require_alias: true });
    } catch (error) {
      if (!hasStatus(error, 409)) throw error;
      // The client repeats a write whose answer was lost: the user that is in the way may be this one.
      if ((await this.#get(user.id)).source.tokenHash !== tokenHash)
        throw new ApiError(409, `The id ${user.id} is taken`);
    }
    return { id: user.id, token };
  }

  async read(id: string): Promise<User> {
    return (await this.#get(id)).source;
  }

  /** By id, a page at a time; a new or changed user is found after at most a second. */
  async search({ query, limit, after }: Static<typeof Search>): Promise<Static<typeof Page>> {
    const words = { query: query ?? "", type: "bool_prefix" as const, operator: "and" as const };
    const { hits } = await this.#client.search<User>({
      index: ALIAS,
      query: query ? { multi_match: { ...words, fields: ["id", "name", "about"] } } : { match_all: {} },
      sort: [{ id: "asc" }],
      // One more than asked for tells whether there is a next page.
      size: limit + 1,
      ...(after !== undefined && { search_after: [after] }),
      track_total_hits: false,
      _source_excludes: ["tokenHash"],
    });
    const users = hits.hits.map((hit) => hit._source as User);
    const page = users.slice(0, limit);
    return { users: page, ...(users.length > limit && { next: page.at(-1)?.id }) };
  }

  async update(id: string, token: string, changes: Static<typeof Changes>): Promise<User> {
    const version = await this.#authorize(id, token);
    const doc = { ...changes, updatedAt: new Date().toISOString() };
    const updated = await this.#client
      .update<User>({ index: ALIAS, id, ...version, doc, _source: true })
      .catch(rejectConflict);
    return updated.get?._source as User;
  }

  async delete(id: string, token: string): Promise<void> {
    const version = await this.#authorize(id, token);
    await this.#client.delete({ index: ALIAS, id, ...version }).catch(rejectConflict);
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  async #get(id: string) {
    const found = await this.#client.get<User & { tokenHash: string }>({ index: ALIAS, id }).catch((error) => {
      if (hasStatus(error, 404) && errorType(error) === undefined) throw new ApiError(404, `There is no user ${id}`);
      throw error;
    });
    const { _source, _seq_no, _primary_term } = found;
    if (!_source) throw new Error(`the user ${id} has no source`);
    return { source: _source, version: { if_seq_no: _seq_no, if_primary_term: _primary_term } };
  }

  /** The version that the token was checked against: a user who was replaced meanwhile is not changed by the old token. */
  async #authorize(id: string, token: string) {
    const { source, version } = await this.#get(id);
    if (!timingSafeEqual(hash(token), Buffer.from(source.tokenHash, "hex"))) {
      throw new ApiError(403, `The token is not that of the user ${id}`);
    }
    return version;
  }
}

/** Whether Elasticsearch can't serve now: a later try may succeed. */
export function isUnavailable(error: unknown): boolean {
  if (!(error instanceof errors.ResponseError)) return error instanceof errors.ElasticsearchClientError;
  // 401: a node that does not know this user yet, as it happens while passwords change.
  const { statusCode = 0 } = error;
  return (
    statusCode >= 500 || statusCode === 429 || statusCode === 401 || errorType(error) === "index_not_found_exception"
  );
}

const hash = (token: string) => createHash("sha256").update(token).digest();
const hasStatus = (error: unknown, status: number) =>
  error instanceof errors.ResponseError && error.statusCode === status;
const errorType = (error: unknown): string | undefined =>
  error instanceof errors.ResponseError ? error.body?.error?.type : undefined;

function rejectConflict(error: unknown): never {
  if (hasStatus(error, 409)) throw new ApiError(409, "The user was changed at the same time: read it and try again");
  throw error;
}
