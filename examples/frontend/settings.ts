import * as pulumi from "@pulumi/pulumi";

interface Settings {
  /** Full name of the platform stack, such as `acme/hobnob/prod`. */
  platform: string;
  /** What to build and push, or what is there. */
  image: { repository: string; username?: string; password?: pulumi.Output<string> } | { image: string };
  /** Pods of the page's server, 2 or more. @default 2 */
  replicas: number;
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
  const replicas = read(() => config.getNumber("replicas", { min: 2, max: 100 }));
  const image = read(() => config.get("image", { pattern: /^\S+@sha256:[0-9a-f]{64}$/ }));
  const repository = image === undefined ? read(() => config.require("repository")) : undefined;
  if (problems.length > 0) throw new pulumi.RunError(problems.join("\n"));
  const [username, password] = [config.get("registryUsername"), config.getSecret("registryPassword")];
  return {
    platform: platform as string,
    image: image === undefined ? { repository: repository as string, username, password } : { image },
    replicas: replicas ?? 2,
  };
}
