import { type Broken, readSettings as read, secret } from "hobnob-platform/settings";
import { z } from "zod";

const HOST = "a host name, such as dashboard.example.com";
const ISSUER = "a URL that begins with https://";

const keys = {
  /** Where the dashboard is for the world, with a guard. @default by port-forward alone */
  host: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$/, HOST)
    .optional(),
  /** Who may pass there, as `htpasswd -nB` writes them. */
  users: secret().optional(),
  /** Or whom an identity provider knows. */
  oidcIssuerUrl: z
    .string()
    .regex(/^https:\/\/\S+$/, ISSUER)
    .optional(),
  oidcClientId: z.string().optional(),
  oidcClientSecret: secret().optional(),
  /** Whether there is an account with every right, besides the one that only reads. */
  admin: z.boolean("true or false").default(false),
};

const GUARD = "users, or oidcIssuerUrl, oidcClientId and oidcClientSecret";
const OIDC = ["oidcIssuerUrl", "oidcClientId", "oidcClientSecret"] as const;

/** The stack's settings with their defaults, the guard as one. */
export function readSettings() {
  const { host, users, oidcIssuerUrl, oidcClientId, oidcClientSecret, ...settings } = read(keys, broken);
  const isOidc = oidcIssuerUrl !== undefined && oidcClientId !== undefined && oidcClientSecret !== undefined;
  const oidc = isOidc
    ? { issuerUrl: oidcIssuerUrl, clientId: oidcClientId, clientSecret: oidcClientSecret }
    : undefined;
  const guard = users ? { users } : oidc && { oidc };
  return { ...settings, ...(host !== undefined && guard && { open: { host, guard } }) };
}

type Right = { [Key in keyof typeof keys]?: unknown };

function broken(right: Right): Broken<keyof typeof keys>[] {
  const missing = OIDC.filter((key) => right[key] === undefined);
  const hasOidc = missing.length < OIDC.length;
  const both = "not with an identity provider's: one of the two guards";
  if (right.host === undefined)
    return [...OIDC, "users" as const].flatMap((key) =>
      right[key] === undefined
        ? []
        : [{ key, allowed: "with host alone: by port-forward the cluster asks who it is", command: "remove" as const }],
    );
  return [
    ...(hasOidc ? missing.map((key) => ({ key, allowed: "all of an identity provider's three" })) : []),
    ...(hasOidc && right.users !== undefined
      ? [{ key: "users" as const, allowed: both, command: "remove" as const }]
      : []),
    ...(!hasOidc && right.users === undefined
      ? [{ key: "host" as const, allowed: `none, or with it who may pass: ${GUARD}`, command: "remove" as const }]
      : []),
  ];
}
