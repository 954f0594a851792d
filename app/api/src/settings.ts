import { readFileSync } from "node:fs";
import { join } from "node:path";
import { envSchema } from "env-schema";
import { type Static, Type } from "typebox";
import type { UsersOptions } from "./users.js";

const port = (fallback: number) => Type.Integer({ minimum: 1, maximum: 65535, default: fallback });

const schema = Type.Object({
  /** Scheme and host of Elasticsearch, without the port. */
  ELASTICSEARCH_HOSTNAME: Type.String({ pattern: "^https?://[\\w.-]+$", default: "http://elasticsearch" }),
  ELASTICSEARCH_PORT: port(9200),
  /** Folder with `username`, `password` and `ca.crt`, the PEM of the authorities to trust. Without it: no password, system's trust. */
  ELASTICSEARCH_CREDENTIALS: Type.Optional(Type.String({ pattern: "^/" })),
  /** Address to listen on. */
  HOST: Type.String({ minLength: 1, default: "0.0.0.0" }),
  PORT: port(8080),
  DOCS_PORT: port(8100),
  /** Where clients find the API: Swagger UI sends its requests there. */
  PUBLIC_URL: Type.String({ pattern: "^https?://[\\w.-]+(:\\d+)?$", default: "http://localhost:8080" }),
  /** Requests that one client's address may make of each listener in a second; the rest is answered 429. */
  RATE_LIMIT: Type.Integer({ minimum: 1, default: 100 }),
  /** How many proxies stand in front, each of which adds to X-Forwarded-For whom it saw. */
  TRUSTED_PROXIES: Type.Integer({ minimum: 0, maximum: 10, default: 0 }),
  LOG_LEVEL: Type.Enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"], { default: "info" }),
  /** Longest time after SIGTERM for which requests are still taken. */
  DRAIN_SECONDS: Type.Integer({ minimum: 0, maximum: 600, default: 20 }),
});

export type Settings = Static<typeof schema>;

/** The settings with their defaults. Throws one error that lists every wrong one. */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  const settings = { ...env };
  const problems: string[] = [];
  try {
    Object.assign(settings, envSchema<Settings>({ schema, data: settings, env: false }));
  } catch (error) {
    const { errors } = error as { errors?: { instancePath: string; message: string; params: object }[] };
    if (!errors) throw error;
    problems.push(
      ...errors.map(({ instancePath, message, params }) => explain(instancePath.slice(1), message, params)),
    );
  }
  if (problems.length === 0 && settings.PORT === settings.DOCS_PORT) problems.push("PORT and DOCS_PORT are the same");
  // A password is never sent to whom nobody has proved to be Elasticsearch, nor for all to read.
  if (
    problems.length === 0 &&
    settings.ELASTICSEARCH_CREDENTIALS &&
    !settings.ELASTICSEARCH_HOSTNAME?.startsWith("https:")
  )
    problems.push("ELASTICSEARCH_CREDENTIALS is given, but ELASTICSEARCH_HOSTNAME does not start with https:");
  if (problems.length > 0) throw new Error(`Wrong settings in the environment:\n  ${problems.join("\n  ")}`);
  return settings as unknown as Settings;

  function explain(name: string, message: string, params: object) {
    const allowed = "allowedValues" in params ? `: ${(params.allowedValues as string[]).join(", ")}` : "";
    return `${name} is ${JSON.stringify(env[name])}, but ${message}${allowed}`;
  }
}

/** Where Elasticsearch is, and what the client and it know each other by. Throws an error that names the file that can't be read. */
export function elasticsearchOptions(settings: Settings): UsersOptions {
  const { ELASTICSEARCH_HOSTNAME, ELASTICSEARCH_PORT, ELASTICSEARCH_CREDENTIALS: folder } = settings;
  const node = `${ELASTICSEARCH_HOSTNAME}:${ELASTICSEARCH_PORT}`;
  if (folder === undefined) return { node };
  const read = (file: string) => readFileSync(join(folder, file), "utf8");
  return { node, auth: { username: read("username"), password: read("password") }, tls: { ca: read("ca.crt") } };
}
