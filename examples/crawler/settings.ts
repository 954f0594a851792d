import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";

const host = z.string().regex(/^(\*\.)?[\w.-]+(:\d+)?$/, "must be a host, *.host or host:port");
const cidr = z.cidrv4("must be a range of IPv4 such as 10.0.0.0/8");
const size = z.string().regex(/^[1-9]\d*(Mi|Gi|Ti)$/, "must be a size such as 10Gi");
const optional = <T extends z.ZodType>(schema: T) => schema.optional();

const schema = z.object({
  /** Full name of the platform stack, such as `acme/hobnob/prod`. */
  platform: z.string(),
  /** A ready image, `repository@sha256:…`, in place of `repository`. */
  image: optional(z.string().regex(/^\S+@sha256:[0-9a-f]{64}$/, "must be an image by digest, repository@sha256:…")),
  /** Where the image is pushed to, without the registry's host, such as `acme/crawler`. */
  repository: optional(z.string()),
  registryUsername: optional(z.string()),
  /** What may be fetched: `example.com` (80 and 443), `*.example.com`, `example.com:8000`. Nothing else ever is. */
  allowedHosts: z.array(host).min(1),
  /** Ranges that are no part of the Internet and may be fetched from all the same. */
  allowedNetworks: z.array(cidr).default([]),
  workers: z.int().min(1).max(100).default(3),
  /** Host of the Ingress. Without it, every host that nobody else has: that needs `ingress.allowEmptyHost` of the platform. */
  host: optional(z.string().regex(/^[a-z0-9.-]+$/, "must be a host name")),
  /** A port of every machine that leads to the master. @default none */
  nodePort: optional(z.int().min(30000).max(32767)),
  /** Who may use it. */
  nodePortFrom: z.array(cidr).default([]),
  mysqlDisk: size.default("10Gi"),
  etcdDisk: size.default("1Gi"),
  /** Whether the claims of the disks are guarded against deletion. */
  protect: z.boolean().default(false),
});

export type Settings = z.infer<typeof schema> & { registryPassword?: pulumi.Output<string> };

/** The stack's settings with their defaults. @throws RunError that lists all that is wrong, and the command that helps */
export function readSettings(): Settings {
  const config = new pulumi.Config();
  const given = Object.keys(schema.shape).flatMap((name) => {
    const text = config.get(name);
    return text === undefined ? [] : [[name, parsed(text)] as const];
  });
  const values = Object.fromEntries(given);
  const { data, error } = schema.safeParse(values);
  const problems = (error?.issues ?? []).map(({ path, message }) => {
    const [name = "", ...rest] = path;
    const where = [name, ...rest].join(".");
    const what = name in values ? `is ${JSON.stringify(values[String(name)])}` : "is missing";
    return `crawler:${where} ${what}: ${message}`;
  });
  const has = (name: string) => name in values;
  if (has("image") === has("repository"))
    problems.push(
      "crawler:repository, where the image is pushed to, or crawler:image, a ready one: exactly one is needed",
    );
  if (has("registryUsername") !== (config.getSecret("registryPassword") !== undefined))
    problems.push("crawler:registryUsername and crawler:registryPassword (--secret) need each other");
  if (has("nodePort") && !data?.nodePortFrom.length)
    problems.push("crawler:nodePort needs crawler:nodePortFrom: the ranges of those who may use it");
  if (!data || problems.length > 0)
    throw new pulumi.RunError(`${problems.join("\n")}\n  command: pulumi config set [--path] crawler:<key> <value>`);
  return { ...data, registryPassword: config.getSecret("registryPassword") };
}

/** Lists, numbers and truth come as JSON; a text as it is. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
