import * as pulumi from "@pulumi/pulumi";

/** The namespace of the configuration. */
export const PROJECT = "hobnob";

export interface Violation {
  /** The configuration key, such as `hobnob:cluster.region`, or an environment variable. */
  key: string;
  /** What was found, as it is printed; never a secret's value. */
  given: string;
  /** What would be accepted. */
  allowed: string;
  /** The command that helps. */
  command: string;
}

/**
 * What a user did wrong: the engine prints its message alone. Also where an output is known only later, in an `apply`.
 * Its stack, which nobody is shown, is empty: Pulumi colours it, and Node.js 20 takes half a minute for one with frames of
 * a package `@scope/file`, as Pulumi's own source maps make them.
 */
export class UserError extends pulumi.RunError {
  constructor(message: string) {
    super(message);
    this.stack = message;
  }
}

/** More than these nobody reads; they are of one kind then. */
const MOST_TOLD = 50;

/** All violations at once. */
export class ConfigurationError extends UserError {
  constructor(readonly violations: Violation[]) {
    const count = violations.length === 1 ? "1 violation" : `${violations.length} violations`;
    const more = violations.length > MOST_TOLD ? `\n  … and ${violations.length - MOST_TOLD} more\n` : "";
    const told = violations.slice(0, MOST_TOLD).map(describe).join("");
    super(`The configuration of the stack ${pulumi.getStack()} has ${count}:\n${told}${more}`);
    this.name = "ConfigurationError";
  }
}

/** A violation as it is told, of a key or of a component's arg; for an arg no command helps. */
export const describe = ({ key, given, allowed, command }: Omit<Violation, "command"> & { command?: string }) =>
  `\n  ${key}\n    given:   ${given}\n    allowed: ${allowed}\n${command === undefined ? "" : `    command: ${command}\n`}`;

/** A stack's full name: organization, project and stack. */
export const FULL_NAME = /^[^/\s]+\/[^/\s]+\/[^/\s]+$/;

/** Where a key is: its section, then what is below. */
export type Path = readonly PropertyKey[];

/** How `pulumi config set --path` writes a key below the project's namespace: `hobnob:dns.records[0].name`. */
export function keyName(path: Path, project = PROJECT): string {
  const [section, ...rest] = path;
  const segment = (part: PropertyKey) => {
    if (typeof part === "number") return `[${part}]`;
    return /^\w{1,64}$/.test(String(part)) ? `.${String(part)}` : `[${printable(JSON.stringify(String(part)), 80)}]`;
  };
  return `${project}:${printable(String(section), 80)}${rest.map(segment).join("")}`;
}

const quote = (word: string) => (/^[\w.:/@%+=,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** Whether a command line can hold it as it stands. */
const isTypable = (text: string) => /^[ -~]{1,80}$/.test(text);

const inStack = () => `--stack ${quote(pulumi.getStack())}`;

/** A key that cannot be typed is changed where it stands. */
export const editCommand = () => `"$EDITOR" Pulumi.${pulumi.getStack()}.yaml`;

const inCommand = (path: Path, project = PROJECT) =>
  `${path.length > 1 ? "--path " : ""}'${keyName(path, project).replaceAll("'", "'\\''")}'`;

export function setCommand(path: Path, value: string | number | boolean, project = PROJECT): string {
  if (!path.every((part) => isTypable(String(part)))) return editCommand();
  const word = isTypable(String(value)) ? String(value) : "<value>";
  return `pulumi config set ${inCommand(path, project)} ${quote(word)} ${inStack()}`;
}

export type SecretKey = "registryPassword" | "registryPullPassword" | "snapshotsAccessKey" | "snapshotsSecretKey";
export const SECRET_ALLOWED = "a secret, set with --secret (the command asks for its value)";

/** Whether a key such as `hobnob:registryPassword` was set with --secret. */
export const isSetAsSecret = (key: string): boolean =>
  // Pulumi's declarations leave it out, though its own `Config` is built on it.
  (pulumi.runtime as unknown as { isConfigSecret(key: string): boolean }).isConfigSecret(key);

/** Never shows the value. */
export function secretViolation(name: string, given: string, project = PROJECT): Violation {
  const key = keyName([name], project);
  return { key, given, allowed: SECRET_ALLOWED, command: `pulumi config set --secret ${key} ${inStack()}` };
}

export function removeCommand(path: Path, project = PROJECT): string {
  if (!path.every((part) => isTypable(String(part)))) return editCommand();
  return `pulumi config rm ${inCommand(path, project)} ${inStack()}`;
}

/** A value as a violation prints it: short, and in letters that can neither move a terminal nor pass for others. */
export function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number") return String(value);
  try {
    return printable(JSON.stringify(value), 200);
  } catch {
    return "a value that is nested too deep";
  }
}

function printable(text: string, most: number): string {
  const ascii = text.slice(0, most).replaceAll(/[^ -~]/g, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
  return text.length > most ? `${ascii}… (${text.length} characters)` : ascii;
}
