import { readFileSync } from "node:fs";
import { parse } from "smol-toml";
import { z } from "zod";

const port = (fallback: number) => z.int().min(0).max(65535).default(fallback);
const seconds = (fallback: number) => z.number().positive().max(3600).default(fallback);
const address = z.string().regex(/^[\w.-]+:\d+$/, "must be host:port");

const schema = z.strictObject({
  /** Whom pages may be fetched from: nobody else, also by a link or a redirect. */
  crawl: z.strictObject({
    /** `example.com` (ports 80 and 443), `*.example.com` (what is below it), `example.com:8000` (that port alone). */
    allowed_hosts: z.array(z.string().regex(/^(\*\.)?[\w.-]+(:\d+)?$/, "must be host, *.host or host:port")),
    /** CIDRs that pages may come from although they are not of the public Internet. */
    allowed_networks: z.array(z.string().regex(/^[\d.]+\/\d+$/, "must be a CIDR of IPv4")).default([]),
    max_depth: z.int().min(0).max(100).default(3),
    max_pages: z.int().min(1).max(1_000_000).default(1000),
    max_bytes: z
      .int()
      .min(1)
      .default(2 ** 20),
    max_redirects: z.int().min(0).max(20).default(5),
    timeout_seconds: seconds(10),
    /** How often a page is handed out before it is given up. */
    attempts: z.int().min(1).default(3),
  }),
  etcd: z.strictObject({ address, lease_seconds: z.int().min(2).max(3600).default(10) }),
  /** The password is MYSQL_PASSWORD's. */
  mysql: z.strictObject({
    host: z.string().min(1),
    port: port(3306),
    database: z.string().min(1),
    user: z.string().min(1),
  }),
  master: z
    .strictObject({ address: address.default("master:9091"), http_port: port(8081), grpc_port: port(9091) })
    .prefault({}),
  worker: z
    .strictObject({ http_port: port(8080), grpc_port: port(9090), concurrency: z.int().min(1).max(1000).default(4) })
    .prefault({}),
});

export type Config = z.infer<typeof schema>;

/** The settings of both programs. Throws one error that names the file and every wrong key. */
export function readConfig(file: string): Config {
  let settings: unknown;
  try {
    settings = parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new Error(`${file} can't be read: ${(error as Error).message}`);
  }
  const { success, data, error } = schema.safeParse(settings);
  if (success) return data;
  const problems = error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  throw new Error(`${file} has wrong settings:\n  ${problems.join("\n  ")}`);
}
