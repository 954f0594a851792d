import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parse } from "yaml";
import { secretKeys } from "../../config";
import { type Captured, type CaptureOptions, capture } from "./graph";

/** What the preflight asks of an account that has nothing yet. */
const account: Record<string, object> = {
  "/v2/kubernetes/options": {
    options: {
      versions: [{ slug: "1.36.3-do.0" }],
      regions: [{ slug: "fra1" }],
      sizes: [{ slug: "s-2vcpu-4gb" }, { slug: "s-4vcpu-8gb" }],
    },
  },
  "/v2/kubernetes/clusters": { kubernetes_clusters: [] },
  "/v2/sizes": {
    sizes: [
      { slug: "s-2vcpu-4gb", price_monthly: 24 },
      { slug: "s-4vcpu-8gb", price_monthly: 48 },
    ],
  },
  "/v2/vpcs": { vpcs: [{ name: "default-fra1", region: "fra1", ip_range: "10.114.0.0/20", default: true }] },
};

const secrets = Object.fromEntries(secretKeys.map((name) => [`hobnob:${name}`, "a secret of the test"]));

const settings = (stack: string): Record<string, object> => settingsOf(`Pulumi.${stack}.yaml`);

/** @param file relative to the project */
export const settingsOf = (file: string): Record<string, object> =>
  parse(readFileSync(join(__dirname, "../..", file), "utf8")).config;

/**
 * The graph of a stack as its own settings have it.
 * @param more keys with their namespace that take the place of the stack's
 */
export const captureStack = (
  stack: "dev" | "prod" | "local",
  more: Record<string, unknown> = {},
  options: StackOptions = {},
): Promise<Captured[]> => captureSettings(`Pulumi.${stack}.yaml`, more, options);

type StackOptions = Pick<CaptureOptions, "preview" | "mocks" | "stuck">;

/**
 * The graph of the stack `<name>` as its file `Pulumi.<name>.yaml` has it, in whatever folder.
 * @param more keys with their namespace that take the place of the file's
 */
export async function captureSettings(
  file: string,
  more: Record<string, unknown> = {},
  options: StackOptions = {},
): Promise<Captured[]> {
  const stack = basename(file).split(".")[1];
  const all = Object.entries({ ...settingsOf(file), ...secrets, ...more });
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  const environment = { ...process.env };
  const server = createServer((request, response) => {
    const answer = account[new URL(request.url ?? "", "http://account").pathname];
    response.writeHead(answer ? 200 : 404, { "content-type": "application/json" }).end(JSON.stringify(answer ?? {}));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  process.env.DIGITALOCEAN_TOKEN = "test";
  process.env.DIGITALOCEAN_API_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    return await capture(() => (require("../../index") as () => Promise<unknown>)(), {
      ...options,
      stack,
      config: Object.fromEntries(all.map(([key, value]) => [key, text(value)])),
      secretKeys: Object.keys(secrets),
    });
  } finally {
    process.env = environment;
    server.close();
  }
}

/** Runs with a kubeconfig that has this context. */
export function withContext<T>(name: string, run: () => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "hobnob-"));
  const file = join(directory, "config");
  const user = { name, user: { token: "t" } };
  const context = { name, context: { cluster: name, user: name } };
  const cluster = { name, cluster: { server: "https://there.test" } };
  writeFileSync(file, JSON.stringify({ contexts: [context], clusters: [cluster], users: [user] }));
  const before = process.env.KUBECONFIG;
  process.env.KUBECONFIG = file;
  return run().finally(() => {
    if (before === undefined) delete process.env.KUBECONFIG;
    else process.env.KUBECONFIG = before;
    rmSync(directory, { recursive: true });
  });
}

/** What `prod` leaves out: an API that scales by itself, and so a metrics server, and snapshots. */
export const everything = {
  "hobnob:api": { autoscaling: { minReplicas: 3, maxReplicas: 6 } },
  "hobnob:elasticsearch": {
    ...settings("prod")["hobnob:elasticsearch"],
    snapshots: { bucket: "acme-hobnob-snapshots", region: "ams3" },
  },
};
