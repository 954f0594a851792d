import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";

const cidr = z.cidrv4("must be a range of IPv4 such as 10.0.0.0/8");
const size = z.string().regex(/^[1-9]\d*(Mi|Gi|Ti)$/, "must be a size such as 10Gi");

const schema = z.object({
  /** Full name of the platform stack, such as `acme/hobnob/prod`. */
  platform: z.string(),
  /** The site's host is `<hostname>.<domain of the platform>`. */
  hostname: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, "must be one label of a host name")
    .default("wp"),
  replicas: z.int().min(2).max(50).default(2),
  /** Whether the site is reached from outside: false until it is set up, since whoever comes first sets it up. */
  public: z.boolean().default(true),
  /** A port of every machine that leads to the pods. @default none */
  nodePort: z.int().min(30000).max(32767).optional(),
  /** Who may use it. */
  nodePortFrom: z.array(cidr).default([]),
  /**
   * Where uploads are: `share` is an NFS server that all machines reach, `machine` one block volume with all pods on its
   * machine.
   */
  uploads: z.enum(["share", "machine"]).default("share"),
  /** An NFS server that is there: its address and the exported path. */
  share: z.object({ server: z.string(), path: z.string().regex(/^\//, "must begin with /") }).optional(),
  /** In its place a share that DigitalOcean runs, made by this stack in the cluster's own region and VPC. */
  newShare: z.object({ region: z.string(), vpcId: z.string(), gibibytes: z.int().min(50).default(50) }).optional(),
  /** Of the block volume; with `share` what the claim asks for. */
  uploadsDisk: size.default("10Gi"),
  databaseDisk: size.default("10Gi"),
  /** An IngressClass of the stack's own, with a controller and a balancer of its own. @default the platform's */
  ingressClass: z
    .string()
    .regex(/^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$/, "must be a name of a-z, 0-9 and -")
    .optional(),
  /** Whether the balancer of that class ends TLS, by a certificate for the host. The platform's class has the platform's. */
  tls: z.boolean().default(false),
  /** Whether the disks' claims and the share are guarded against deletion. */
  protect: z.boolean().default(false),
});

export type Settings = z.infer<typeof schema>;

/** The stack's settings with their defaults. @throws RunError that lists all that is wrong, and the command that helps */
export function readSettings(): Settings {
  const config = new pulumi.Config();
  const values = Object.fromEntries(
    Object.keys(schema.shape).flatMap((name) => {
      const text = config.get(name);
      return text === undefined ? [] : [[name, parsed(text)]];
    }),
  );
  const { data, error } = schema.safeParse(values);
  const problems = (error?.issues ?? []).map(({ path, message }) => {
    const name = String(path[0]);
    const what = name in values ? `is ${JSON.stringify(values[name])}` : "is missing";
    return `wordpress:${path.join(".")} ${what}: ${message}`;
  });
  const has = (name: string) => name in values;
  if (has("nodePort") && !has("nodePortFrom"))
    problems.push("wordpress:nodePort needs wordpress:nodePortFrom: the ranges of those who may use it");
  const shares = ["share", "newShare"].filter(has).length;
  if (values.uploads === "machine" ? shares > 0 : shares !== 1)
    problems.push(
      "wordpress:uploads share needs one of wordpress:share, a server that is there, and wordpress:newShare; machine neither",
    );
  if (values.tls && !has("ingressClass"))
    problems.push("wordpress:tls is for a wordpress:ingressClass of the stack's own; the platform's class has its TLS");
  if (!data || problems.length > 0)
    throw new pulumi.RunError(`${problems.join("\n")}\n  command: pulumi config set [--path] wordpress:<key> <value>`);
  return data;
}

/** Lists, objects, numbers and truth come as JSON; a text as it is. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
