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

/** All violations at once. Pulumi's Node host prints the message of a RunError alone, without a stack trace. */
export class ConfigurationError extends pulumi.RunError {
  constructor(readonly violations: Violation[]) {
    const count = violations.length === 1 ? "1 violation" : `${violations.length} violations`;
    super(`The configuration of the stack ${pulumi.getStack()} has ${count}:\n${violations.map(describe).join("")}`);
    this.name = "ConfigurationError";
  }
}

const describe = ({ key, given, allowed, command }: Violation) =>
  `\n  ${key}\n    given:   ${given}\n    allowed: ${allowed}\n    command: ${command}\n`;

/** Where a key is: its section, then what is below. */
export type Path = readonly PropertyKey[];

/** How `pulumi config set --path` writes a key below the project's namespace: `hobnob:dns.records[0].name`. */
export function keyName(path: Path): string {
  const [section, ...rest] = path;
  const segment = (part: PropertyKey) => {
    if (typeof part === "number") return `[${part}]`;
    return /^\w+$/.test(String(part)) ? `.${String(part)}` : `["${String(part)}"]`;
  };
  return `${PROJECT}:${String(section)}${rest.map(segment).join("")}`;
}

const quote = (word: string) => (/^[\w.:/@%+=,-]+$/.test(word) ? word : `'${word}'`);

export function setCommand(path: Path, value: string | number | boolean): string {
  const option = path.length > 1 ? "--path " : "";
  return `pulumi config set ${option}'${keyName(path)}' ${quote(String(value))} --stack ${pulumi.getStack()}`;
}

export type SecretKey = "registryPassword" | "registryPullPassword" | "snapshotsAccessKey" | "snapshotsSecretKey";
export const SECRET_ALLOWED = "a secret, set with --secret (the command asks for its value)";

/** Never shows the value. */
export function secretViolation(name: SecretKey, given: string): Violation {
  const command = `pulumi config set --secret ${keyName([name])} --stack ${pulumi.getStack()}`;
  return { key: keyName([name]), given, allowed: SECRET_ALLOWED, command };
}

export function removeCommand(path: Path): string {
  const option = path.length > 1 ? "--path " : "";
  return `pulumi config rm ${option}'${keyName(path)}' --stack ${pulumi.getStack()}`;
}

/** A value as a violation prints it. */
export const show = (value: unknown): string => (value === undefined ? "nothing" : JSON.stringify(value));
