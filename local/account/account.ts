import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { createServer, page, type Server, unprocessable } from "./api";
import { balancerRoutes, volumeRoutes } from "./attachments";
import { regions, sizes } from "./catalogue";
import { certificateRoutes, domainRoutes } from "./dns";
import { kubernetesRoutes, type Runtime, reviewToken } from "./kubernetes";
import { vpcRoutes } from "./network";
import { Store } from "./state";

export interface Account {
  url: string;
  store: Store;
  close(): Promise<void>;
}

interface AccountOptions {
  /** @default a free one */
  port?: number;
  /** Where the state is kept. @default nowhere */
  file?: string;
  /** What stands behind its clusters. @default nothing: they exist in the account only */
  runtime?: (store: Store) => Runtime;
}

/** Serves the account on 127.0.0.1 and brings its cluster up again; while it does, or where it has died, `/local/health` answers 503. */
export async function startAccount({ port = 0, file, runtime: makeRuntime }: AccountOptions): Promise<Account> {
  const store = new Store(file);
  const runtime = makeRuntime?.(store);
  const ended = new AbortController();
  const later = (seconds: number, action: () => void) =>
    void sleep(seconds * 1000, undefined, { signal: ended.signal }).then(action, () => {});

  let ready = false;
  const server = createServer(store);
  localRoutes(server, store, () => ready && (runtime?.isAlive() ?? true));
  catalogueRoutes(server);
  vpcRoutes(server, store);
  domainRoutes(server, store);
  certificateRoutes(server, store, later);
  balancerRoutes(server, store);
  volumeRoutes(server, store);
  const clusters = kubernetesRoutes(server, store, runtime, ended.signal);

  // The API server asks this account about every token, so the account must answer before its cluster starts.
  await server.listen({ host: "127.0.0.1", port });
  const close = async () => {
    ended.abort();
    await runtime?.stop();
    store.save();
    await server.close();
  };
  try {
    await clusters.resume();
  } catch (error) {
    await close();
    throw error;
  }
  ready = true;
  return { url: `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`, store, close };
}

function catalogueRoutes(server: Server): void {
  server.get("/v2/account", () => ({
    account: {
      uuid: "00000000-0000-4000-8000-000000000000",
      email: "simulated@localhost",
      email_verified: true,
      droplet_limit: 100,
      floating_ip_limit: 3,
      status: "active",
      status_message: "",
    },
  }));
  server.get("/v2/regions", (request) => {
    const features = ["kubernetes", "volumes", "load_balancers"];
    const slugs = sizes.map(({ slug }) => slug);
    return page(
      request,
      "regions",
      regions.map((region) => ({ ...region, features, available: true, sizes: slugs })),
    );
  });
  server.get("/v2/sizes", (request) => {
    const slugs = regions.map(({ slug }) => slug);
    const view = ({ priceMonthly, ...size }: (typeof sizes)[number]) => ({
      ...size,
      transfer: 4,
      price_monthly: priceMonthly,
      price_hourly: Math.round((priceMonthly / 672) * 100_000) / 100_000,
      regions: slugs,
      available: true,
      description: size.slug,
    });
    return page(request, "sizes", sizes.map(view));
  });
}

const clockSchema = z.strictObject({ advanceSeconds: z.number().min(0) });

/** What no real account has: its clock, its settings, its health, and the API server's question about a token. */
function localRoutes(server: Server, store: Store, ready: () => boolean): void {
  server.get("/local/health", (_request, reply) => {
    reply.status(ready() ? 200 : 503);
    return { status: ready() ? "ok" : "starting" };
  });

  server.get("/local/clock", () => ({ now: store.now().toISOString() }));
  server.post("/local/clock", ({ body }) => {
    store.data.clockAhead += refusing(() => clockSchema.parse(body)).advanceSeconds;
    store.save();
    return { now: store.now().toISOString() };
  });

  server.get("/local/settings", () => store.settings);
  server.post("/local/settings", ({ body }) => {
    refusing(() => store.changeSettings(body as Parameters<Store["changeSettings"]>[0]));
    return store.settings;
  });

  server.post<{ Body: { spec?: { token?: string } } }>("/local/token-review", ({ body }) => {
    const user = reviewToken(store, body.spec?.token ?? "");
    const status = user ? { authenticated: true, user } : { authenticated: false };
    return { apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", status };
  });
}

function refusing<Result>(work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    throw error instanceof z.ZodError ? unprocessable(z.prettifyError(error)) : error;
  }
}
