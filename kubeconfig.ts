import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { ConfigurationError, keyName, setCommand, show, type Violation } from "./violations";

type Fields = Record<string, unknown>;
interface Entry {
  name: string;
  fields: Fields;
  /** Where the paths among its fields start. */
  directory: string;
}

const CONTENT = { contexts: "context", clusters: "cluster", users: "user" } as const;
type Section = keyof typeof CONTENT;

const section = z.array(z.looseObject({ name: z.string() })).nullish();
const schema = z.looseObject({ contexts: section, clusters: section, users: section }).nullable();

/** Why the context cannot be used: it is in no kubeconfig, or one of the files cannot be read. */
export function contextViolations(name: string, env: NodeJS.ProcessEnv): Violation[] {
  try {
    contextOnly(name, env);
    return [];
  } catch (error) {
    if (error instanceof ConfigurationError) return error.violations;
    throw error;
  }
}

/**
 * What `kubectl config view --minify --flatten` gives: the one context, files inlined, so that it works anywhere.
 * @throws ConfigurationError with what `contextViolations` lists
 */
export function contextOnly(name: string, env: NodeJS.ProcessEnv): Fields {
  const files = kubeconfigFiles(env);
  const contents = files
    .filter(existsSync)
    .map((file) => ({ content: readKubeconfig(file), directory: dirname(file) }));
  const entries = (section: Section): Entry[] =>
    contents.flatMap(({ content, directory }) =>
      (content?.[section] ?? []).map((entry) => ({
        name: entry.name,
        fields: (entry[CONTENT[section]] ?? {}) as Fields,
        directory,
      })),
    );
  // The first of two entries of one name wins, as kubectl has it.
  const entry = (section: Section, wanted: unknown) => entries(section).find((found) => found.name === wanted);
  const context = entry("contexts", name);
  if (!context) throw missingContext(name, files, [...new Set(entries("contexts").map((found) => found.name))]);
  const cluster = entry("clusters", context.fields.cluster);
  const user = entry("users", context.fields.user);
  return {
    apiVersion: "v1",
    kind: "Config",
    "current-context": name,
    contexts: [{ name, context: context.fields }],
    clusters: cluster ? [{ name: cluster.name, cluster: inlined(cluster) }] : [],
    users: user ? [{ name: user.name, user: inlined(user) }] : [],
  };
}

/** Where kubectl looks for them. */
function kubeconfigFiles(env: NodeJS.ProcessEnv): string[] {
  const files = (env.KUBECONFIG ?? "").split(delimiter).filter((file) => file !== "");
  return files.length > 0 ? files : [join(env.HOME ?? homedir(), ".kube", "config")];
}

const readKubeconfig = (file: string) =>
  reading(file, "a kubeconfig, as kubectl writes it", () => schema.parse(parse(readFileSync(file, "utf8"))));

const FILE_KEYS = ["certificate-authority", "client-certificate", "client-key"];

function inlined({ fields: { tokenFile, ...fields }, directory }: Entry): Fields {
  const read = (path: string) => {
    const file = resolve(directory, path);
    return reading(file, "a file that the kubeconfig's context names", () => readFileSync(file));
  };
  const found = Object.entries(fields).map(([key, value]) =>
    FILE_KEYS.includes(key) && typeof value === "string"
      ? [`${key}-data`, fields[`${key}-data`] ?? read(value).toString("base64")]
      : [key, value],
  );
  const token = typeof tokenFile === "string" ? { token: read(tokenFile).toString("utf8").trim() } : {};
  return { ...Object.fromEntries(found), ...token };
}

function reading<T>(file: string, allowed: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const reason = error instanceof z.ZodError ? "not a kubeconfig" : firstLine((error as Error).message);
    const given = `${file}, which cannot be read (${reason})`;
    throw new ConfigurationError([{ key: "KUBECONFIG", given, allowed, command: "kubectl config view --flatten" }]);
  }
}

/** A YAML error goes on with the line that it means. */
const firstLine = (message: string) => message.split("\n")[0]?.replace(/:$/, "");

function missingContext(name: string, files: string[], contexts: string[]): ConfigurationError {
  const path = ["cluster", "context"];
  const [first] = contexts;
  return new ConfigurationError([
    {
      key: keyName(path),
      given: show(name),
      allowed: first ? `one of ${contexts.join(", ")}` : `a context of a kubeconfig; ${files.join(" and ")} has none`,
      command: first ? setCommand(path, first) : "export KUBECONFIG=<file>",
    },
  ]);
}
