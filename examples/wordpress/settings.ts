import { type Broken, readSettings as read } from "hobnob-platform/settings";
import { z } from "zod";

const REPLICAS = "a whole number of 2 to 50";
const PORT = "a port of 30000 to 32767";
const PATH = "a path that begins with /";

const cidr = z.cidrv4("a range of IPv4 such as 10.0.0.0/8");
const size = z.string().regex(/^[1-9]\d*(Mi|Gi|Ti)$/, "a size such as 10Gi");

const keys = {
  /** The site's host is `<hostname>.<domain of the platform>`. */
  hostname: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, "one label of a host name")
    .default("wp"),
  replicas: z.int(REPLICAS).min(2, REPLICAS).max(50, REPLICAS).default(2),
  /** Whether the site is reached from outside: false until it is set up, since whoever comes first sets it up. */
  public: z.boolean("true or false").default(true),
  /** A port of every machine that leads to the pods. @default none */
  nodePort: z.int(PORT).min(30000, PORT).max(32767, PORT).optional(),
  /** Who may use it. */
  nodePortFrom: z.array(cidr).default([]),
  /**
   * Where uploads are: `share` is an NFS server that all machines reach, `machine` one block volume with all pods on its
   * machine.
   */
  uploads: z.enum(["share", "machine"], "share or machine").default("share"),
  /** An NFS server that is there: its address and the exported path. */
  share: z.object({ server: z.string(), path: z.string().regex(/^\//, PATH) }).optional(),
  /** In its place a share that DigitalOcean runs, made by this stack in the cluster's own region and VPC. */
  newShare: z.object({ region: z.string(), vpcId: z.string(), gibibytes: z.int().min(50).default(50) }).optional(),
  /** Of the block volume; with `share` what the claim asks for. */
  uploadsDisk: size.default("10Gi"),
  databaseDisk: size.default("10Gi"),
  /** An IngressClass of the stack's own, with a controller and a balancer of its own. @default the platform's */
  ingressClass: z
    .string()
    .regex(/^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$/, "a name of a-z, 0-9 and -")
    .optional(),
  /** Whether the balancer of that class ends TLS, by a certificate for the host. The platform's class has the platform's. */
  tls: z.boolean("true or false").default(false),
  /** Whether the disks' claims and the share are guarded against deletion. */
  protect: z.boolean("true or false").default(false),
};

export type Settings = ReturnType<typeof readSettings>;

/** The stack's settings with their defaults. */
export const readSettings = () => read(keys, broken);

function broken(right: Partial<z.output<z.ZodObject<typeof keys>>>): Broken<keyof typeof keys>[] {
  const { nodePort, nodePortFrom, uploads, share, newShare, tls, ingressClass } = right;
  const shares = [share, newShare].filter((each) => each !== undefined).length;
  return [
    ...(nodePort !== undefined && nodePortFrom?.length === 0
      ? [{ key: "nodePortFrom" as const, allowed: "with nodePort, the ranges of those who may use it" }]
      : []),
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
