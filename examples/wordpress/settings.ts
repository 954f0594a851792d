import { type Broken, nodePortKeys, nodePortRules, readSettings as read, size } from "hobnob-platform/settings";
import { z } from "zod";

const REPLICAS = "a whole number of 2 to 50";
const NODES = "a whole number of 1 to 200";
const PATH = "a path that begins with /";

const keys = {
  /** The site's host is `<hostname>.<domain of the platform>`. */
  hostname: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, "one label of a host name")
    .default("wp"),
  replicas: z.int(REPLICAS).min(2, REPLICAS).max(50, REPLICAS).default(2),
  /** Whether the site is reached from outside: not until it is set up, since whoever comes first sets it up. */
  public: z.boolean("true or false").default(false),
  ...nodePortKeys,
  /**
   * Where uploads are: `share` is an NFS server that all machines reach, `machine` one block volume with all pods on its
   * machine.
   */
  uploads: z.enum(["share", "machine"], "share or machine").default("share"),
  /** An NFS server that is there: its address and the exported path. */
  share: z.object({ server: z.string(), path: z.string().regex(/^\//, PATH) }).optional(),
  /** In its place a share that DigitalOcean runs, made by this stack in the cluster's own region and VPC; it is never deleted. */
  newShare: z.object({ region: z.string(), vpcId: z.string(), gibibytes: z.int().min(50).default(50) }).optional(),
  /** Of the block volume; with `share` what the claim asks for. */
  uploadsDisk: size.default("10Gi"),
  databaseDisk: size.default("10Gi"),
  /** An IngressClass of the stack's own, with a controller and a balancer of its own. @default the platform's */
  ingressClass: z
    .string()
    .regex(/^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$/, "a name of a-z, 0-9 and -")
    .optional(),
  /** Nodes of that class' balancer; a single one is a point of failure. */
  balancerNodes: z.int(NODES).min(1, NODES).max(200, NODES).default(2),
  /** Whether the balancer of that class ends TLS, by a certificate for the host. The platform's class has the platform's. */
  tls: z.boolean("true or false").default(false),
  /** Whether the disks' claims and the share are guarded against deletion. */
  protect: z.boolean("true or false").default(false),
};

export type Settings = ReturnType<typeof readSettings>;

/** The stack's settings with their defaults. */
export const readSettings = () => read(keys, broken);

function broken(right: Partial<z.output<z.ZodObject<typeof keys>>>): Broken<keyof typeof keys>[] {
  const { uploads, share, newShare, tls, ingressClass } = right;
  const shares = [share, newShare].filter((each) => each !== undefined).length;
  return [
    ...nodePortRules(right),
    ...(uploads === "machine" && shares > 0
      ? [{ key: "uploads" as const, allowed: "share, since one is given; or machine without share and newShare" }]
      : []),
    ...(uploads === "share" && shares !== 1
      ? [{ key: "share" as const, allowed: "a server that is there; or newShare: with uploads share, one of the two" }]
      : []),
    ...(tls && ingressClass === undefined
      ? [
          {
            key: "tls" as const,
            allowed: "with an ingressClass of the stack's own; the platform's has the platform's TLS",
          },
        ]
      : []),
  ];
}
