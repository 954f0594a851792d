import * as pulumi from "@pulumi/pulumi";

/** Who may pass: users by name and password, or those whom an identity provider knows. */
type Guard =
  | { users: pulumi.Output<string>; oidc?: undefined }
  | { users?: undefined; oidc: { issuerUrl: string; clientId: string; clientSecret: pulumi.Output<string> } };

interface Settings {
  /** Full name of the platform stack, such as `acme/hobnob/prod`. */
  platform: string;
  /** Where the dashboard is for the world, and who may pass there. @default by port-forward alone */
  open?: { host: string; guard: Guard };
  /** Whether there is an account with every right, besides the one that only reads. @default false */
  admin: boolean;
}

const GUARDS =
  "one of: dashboard:users (name and password), or dashboard:oidcIssuerUrl, dashboard:oidcClientId and dashboard:oidcClientSecret";

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
  const admin = read(() => config.getBoolean("admin"));
  const host = read(() =>
    config.get("host", { pattern: /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$/ }),
  );
  const issuerUrl = read(() => config.get("oidcIssuerUrl", { pattern: /^https:\/\/\S+$/ }));
  const clientId = config.get("oidcClientId");
  const [users, clientSecret] = [secret(config, "users", problems), secret(config, "oidcClientSecret", problems)];

  const given = [issuerUrl, clientId, clientSecret].filter((part) => part !== undefined).length;
  if (given > 0 && given < 3) problems.push(`Of OIDC a part is missing; allowed: ${GUARDS}`);
  if (users && given > 0) problems.push(`Users and OIDC are given; allowed: ${GUARDS}`);
  if (!host && (users || given > 0))
    problems.push(
      "Who may pass is given, but no host at which: by port-forward it is the cluster that asks who it is\n" +
        "\tplease set one using the command `pulumi config set dashboard:host <host>`, or remove the others",
    );
  if (host && !users && given === 0)
    problems.push(
      `The host ${host} would show the cluster's dashboard to the world; allowed: no host, or with it ${GUARDS}\n` +
        "\tplease remove it using the command `pulumi config rm dashboard:host`: port-forward needs none",
    );
  if (problems.length > 0) throw new pulumi.RunError(problems.join("\n"));

  const guard = users ? { users } : clientSecret && { oidc: { issuerUrl, clientId, clientSecret } };
  return {
    platform: platform as string,
    admin: admin ?? false,
    ...(host && { open: { host, guard: guard as Guard } }),
  };
}

/** Never shown, and never taken from where anyone reads it. */
function secret(config: pulumi.Config, key: string, problems: string[]): pulumi.Output<string> | undefined {
  // Pulumi's declarations leave it out, though its own `Config` is built on it.
  const { isConfigSecret } = pulumi.runtime as unknown as { isConfigSecret(key: string): boolean };
  const value = config.getSecret(key);
  if (value && !isConfigSecret(`${config.name}:${key}`))
    problems.push(
      `'${config.name}:${key}' is in plain text\n` +
        `\tplease set it anew using the command \`pulumi config set --secret ${config.name}:${key}\``,
    );
  return value;
}
