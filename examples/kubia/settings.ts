import * as pulumi from "@pulumi/pulumi";

interface Settings {
  /** Full name of the platform stack, such as `acme/hobnob/prod`. */
  platform: string;
  /** Repository that the program's image is pushed to, without the registry's host. */
  repository: string;
  username?: string;
  password?: pulumi.Output<string>;
  /** Pods of the app, 2 or more. @default 3 */
  replicas: number;
  /** Labels of the machines that are monitored. @default those with `disk: ssd` */
  monitoredNodes: Record<string, string>;
}

/** The stack's settings with their defaults. @throws RunError that lists all that is wrong */
export function readSettings(): Settings {
  const config = new pulumi.Config();
  const problems: string[] = [];
  /** Pulumi's own errors name the key, what was given, and the command that helps. */
  const read = <T>(get: () => T): T | undefined => {
    try {
      return get();
    } catch (error) {
      problems.push((error as Error).message);
    }
  };
  const platform = read(() => config.require("platform"));
  const repository = read(() => config.require("repository"));
  const replicas = read(() => config.getNumber("replicas", { min: 2, max: 100 }));
  const username = config.get("registryUsername");
  const password = config.getSecret("registryPassword");
  if ((username === undefined) !== (password === undefined)) {
    const missing = username === undefined ? "kubia:registryUsername" : "--secret kubia:registryPassword";
    problems.push(
      `A registry that asks for one of user and password asks for both\n  command: pulumi config set ${missing} <value>`,
    );
  }
  const nodes = read(() => config.getObject<Record<string, string>>("monitoredNodes")) ?? { disk: "ssd" };
  if (!isLabels(nodes))
    problems.push(
      `kubia:monitoredNodes was given as ${JSON.stringify(nodes)}; allowed: labels of machines, one or more\n` +
        "  command: pulumi config set --path 'kubia:monitoredNodes.disk' ssd",
    );
  if (problems.length > 0) throw new pulumi.RunError(problems.join("\n"));
  return {
    platform: platform as string,
    repository: repository as string,
    username,
    password,
    replicas: replicas ?? 3,
    monitoredNodes: nodes,
  };
}

const isLabels = (value: unknown) =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  Object.keys(value).length > 0 &&
  Object.values(value).every((each) => typeof each === "string");
