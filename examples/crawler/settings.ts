import {
  type Broken,
  cidr,
  imageKeys,
  imageRules,
  nodePortKeys,
  nodePortRules,
  readSettings as read,
  size,
} from "hobnob-platform/settings";
import { z } from "zod";

const WORKERS = "a whole number of 1 to 100";
const HOSTS = "a host, *.host or host:port; one or more";

const keys = {
  ...imageKeys,
  /** What may be fetched: `example.com` (80 and 443), `*.example.com`, `example.com:8000`. Nothing else ever is. */
  allowedHosts: z.array(z.string(HOSTS).regex(/^(\*\.)?[\w.-]+(:\d+)?$/, HOSTS), HOSTS).min(1, HOSTS),
  /** Ranges that are no part of the Internet and may be fetched from all the same. */
  allowedNetworks: z.array(cidr).default([]),
  workers: z.int(WORKERS).min(1, WORKERS).max(100, WORKERS).default(3),
  /** Host of the Ingress. Without it, every host that nobody else has: of a platform with `ingress.allowEmptyHost`, without TLS. */
  host: z
    .string()
    .regex(/^[a-z0-9.-]+$/, "a host name")
    .optional(),
  /** What they lead to is the master. */
  ...nodePortKeys,
  mysqlDisk: size.default("10Gi"),
  etcdDisk: size.default("1Gi"),
  /** Whether the claims of the disks are guarded against deletion. */
  protect: z.boolean("true or false").default(false),
};

export type Settings = ReturnType<typeof readSettings>;

/** The stack's settings with their defaults. */
export const readSettings = () =>
  read(keys, (right): Broken<keyof typeof keys>[] => [...imageRules(right), ...nodePortRules(right)]);
