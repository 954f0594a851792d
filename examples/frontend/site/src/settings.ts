import { envSchema } from "env-schema";
import { type Static, Type } from "typebox";

const ORIGIN = "^https?://[\\w.-]+(:\\d+)?$";

const schema = Type.Object({
  /** Where the browser finds the API. Read at run time, so that one image serves every stage. */
  API_URL: Type.String({ pattern: ORIGIN }),
  /** Where the page is at home, such as `https://www.example.com`. Without it, no request is redirected. */
  PUBLIC_URL: Type.Optional(Type.String({ pattern: ORIGIN })),
  /** Host whose requests are sent on to PUBLIC_URL, such as `example.com`. */
  REDIRECT_HOST: Type.Optional(Type.String({ pattern: "^[\\w.-]+$" })),
  /** Address to listen on. */
  HOST: Type.String({ minLength: 1, default: "0.0.0.0" }),
  PORT: Type.Integer({ minimum: 1, maximum: 65535, default: 8080 }),
  LOG_LEVEL: Type.Enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"], { default: "info" }),
  /** Time after SIGTERM for which requests are still taken. */
  DRAIN_SECONDS: Type.Integer({ minimum: 0, maximum: 600, default: 5 }),
});

export type Settings = Static<typeof schema>;

/** The settings with their defaults. Throws one error that lists every wrong one. */
export function readSettings(env: NodeJS.ProcessEnv): Settings {
  try {
    return envSchema<Settings>({ schema, data: { ...env }, env: false });
  } catch (error) {
    const { errors } = error as { errors?: { instancePath: string; message: string; params: object }[] };
    if (!errors) throw error;
    const problems = errors.map(({ instancePath, message, params }) => {
      if ("missingProperty" in params) return `${params.missingProperty} is missing`;
      const name = instancePath.slice(1);
      const allowed = "allowedValues" in params ? `: ${(params.allowedValues as string[]).join(", ")}` : "";
      return `${name} is ${JSON.stringify(env[name])}, but ${message}${allowed}`;
    });
    throw new Error(`Wrong settings in the environment:\n  ${problems.join("\n  ")}`);
  }
}
