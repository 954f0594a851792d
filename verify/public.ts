import { Resolver, lookup as systemLookup } from "node:dns";
import type { LookupFunction } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { checkServerIdentity, connect, type PeerCertificate } from "node:tls";
import { promisify } from "node:util";
import type { PlatformOutputs } from "../platform";
import { type Check, Miss, miss, off, pass, type Run } from "./checks";
import { Client, reasonOf } from "./client";

/** How the world is reached: what a test replaces. */
export interface World {
  /** How host names become addresses. @default the system's resolver */
  lookup?: LookupFunction;
  /** The certificate authorities that are trusted. @default the system's */
  ca?: string;
  /** @default 53 */
  dnsPort?: number;
  /** Where plain HTTP is answered that redirects to HTTPS. @default 80 */
  httpPort?: number;
}

type Outputs = Pick<PlatformOutputs, "apiUrl" | "docsUrl" | "ingressAddress" | "nameServers" | "coveredHosts">;
/** The annotations of the Ingress that serves a host: what is configured for it. */
type Annotations = (host: string) => Promise<Record<string, string> | undefined>;

export const DNS_ZONE = "dns: the zone's name servers answer";
export const DNS_SYSTEM = "dns: this machine's resolver answers";
export const CERTIFICATE = "tls: valid certificate";
export const API = "public: API";
export const DOCS = "public: documentation";
export const REDIRECT = "public: HTTP leads to HTTPS";
export const HSTS = "public: HSTS as configured";
export const RATE_LIMIT = "public: rate limit";
export const PUBLIC_CHECKS = [DNS_ZONE, DNS_SYSTEM, CERTIFICATE, API, DOCS, REDIRECT, HSTS, RATE_LIMIT];

/** DigitalOcean renews Let's Encrypt's certificates, of 90 days, by itself: one this old was not renewed. */
const LEAST_DAYS = 14;

export function publicChecks(outputs: Outputs, annotations: Annotations, world: World = {}): Check[] {
  const { apiUrl, docsUrl } = outputs;
  const hosts = [apiUrl, docsUrl].map((url) => new URL(url).hostname);
  const reachable = [DNS_SYSTEM, CERTIFICATE];
  return [
    { name: DNS_ZONE, run: (run) => zoneAnswers(outputs, hosts, world, run) },
    { name: DNS_SYSTEM, run: () => resolverAnswers(outputs, hosts, world) },
    { name: CERTIFICATE, needs: [DNS_SYSTEM], run: () => certificate(outputs, world) },
    { name: API, needs: reachable, run: (run) => apiAnswers(apiUrl, world, run) },
    { name: DOCS, needs: reachable, run: (run) => docsAnswer(outputs, world, run) },
    { name: REDIRECT, needs: [DNS_SYSTEM], run: (run) => redirects(outputs, world, run) },
    { name: HSTS, needs: reachable, run: (run) => hsts(outputs, annotations, world, run) },
  ];
}

/** To be made last: it uses up what this machine may ask. */
export function rateLimitCheck({ apiUrl }: Outputs, annotations: Annotations, world: World = {}): Check {
  return { name: RATE_LIMIT, needs: [API], run: (run) => rateLimit(apiUrl, annotations, world, run) };
}

export const publicClient = (url: string, { lookup, ca }: World): Client => new Client({ origin: url, lookup, ca });

/** With a client of this check's own. */
async function withClient<T>(url: string, world: World, use: (client: Client) => Promise<T>): Promise<T> {
  const client = publicClient(url, world);
  return use(client).finally(client.close);
}

const isTls = (url: string) => url.startsWith("https:");

// ── DNS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

const addressOf = (host: string, { lookup = systemLookup as LookupFunction }: World): Promise<string> =>
  new Promise((resolve, reject) =>
    lookup(host, { family: 4 }, (error, address) => (error ? reject(error) : resolve(address as string))),
  );

async function zoneAnswers({ nameServers, ingressAddress }: Outputs, hosts: string[], world: World, { signal }: Run) {
  if (ingressAddress === "") return off("the stack has no balancer, and so no records");
  if (nameServers.length === 0) return off("the stack has no zone");
  const faults = await Promise.all(
    nameServers.map(async (server) => {
      const resolver = new Resolver({ timeout: 2_000, tries: 2 });
      signal.addEventListener("abort", () => resolver.cancel());
      try {
        resolver.setServers([`${await addressOf(server, world)}:${world.dnsPort ?? 53}`]);
      } catch (error) {
        return [`${server} has no address (${reasonOf(error)})`];
      }
      const resolve4 = promisify(resolver.resolve4.bind(resolver)) as (host: string) => Promise<string[]>;
      const asked = hosts.map((host) => wrongAddress(host, ingressAddress, resolve4));
      return (await Promise.all(asked)).flatMap((fault) => (fault ? [`${server}: ${fault}`] : []));
    }),
  );
  if (faults.flat().length > 0) return miss(faults.flat().join("; "));
  return pass(`${nameServers.length} answer ${ingressAddress} for ${hosts.join(" and ")}`);
}

async function resolverAnswers({ ingressAddress }: Outputs, hosts: string[], world: World) {
  if (ingressAddress === "") return off("the stack has no balancer, and so no records");
  const asked = hosts.map((host) => wrongAddress(host, ingressAddress, async () => [await addressOf(host, world)]));
  const faults = (await Promise.all(asked)).filter((fault) => fault !== undefined);
  return faults.length > 0 ? miss(faults.join("; ")) : pass(`${ingressAddress} for ${hosts.join(" and ")}`);
}

async function wrongAddress(host: string, wanted: string, resolve: (host: string) => Promise<string[]>) {
  try {
    const addresses = await resolve(host);
    return addresses.join() === wanted ? undefined : `${host} is ${addresses.join(", ")} instead of ${wanted}`;
  } catch (error) {
    return `${host} has no address (${(error as NodeJS.ErrnoException).code})`;
  }
}

// ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function certificate({ apiUrl, docsUrl, coveredHosts }: Outputs, world: World) {
  if (!isTls(apiUrl)) return off("TLS is off");
  const shown = await Promise.all([apiUrl, docsUrl].map((url) => certificateOf(new URL(url), world)));
  const faults: string[] = [];
  for (const { host, certificate, fault } of shown) {
    if (fault) faults.push(`${host}: ${fault}`);
    const notCovered = [...new Set([host, ...coveredHosts])].filter((name) => checkServerIdentity(name, certificate));
    if (notCovered.length > 0) faults.push(`${host}: the certificate does not cover ${notCovered.join(", ")}`);
    const days = daysLeft(certificate);
    if (days >= 0 && days < LEAST_DAYS) faults.push(`${host}: ${days} days left, so it was not renewed`);
  }
  if (faults.length > 0) return miss(faults.join("; "));
  const days = Math.min(...shown.map(({ certificate }) => daysLeft(certificate)));
  return pass(`${days} days left, covers ${coveredHosts.join(", ")}`);
}

const daysLeft = ({ valid_to }: PeerCertificate) => Math.floor((Date.parse(valid_to) - Date.now()) / 86_400_000);

/** The certificate that is shown for the host, and why it is not trusted; whether it covers the host is another matter. */
function certificateOf({ hostname: host, port }: URL, { ca, lookup }: World) {
  return new Promise<{ host: string; certificate: PeerCertificate; fault?: string }>((resolve, reject) => {
    const socket = connect({
      host,
      port: Number(port || 443),
      servername: host,
      lookup,
      ca,
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      timeout: 10_000,
    });
    socket.once("secureConnect", () => {
      const fault = socket.authorized ? undefined : `not trusted (${String(socket.authorizationError)})`;
      resolve({ host, certificate: socket.getPeerCertificate(), fault });
      socket.destroy();
    });
    socket.once("timeout", () => socket.destroy(new Error("no answer within 10 s")));
    socket.once("error", (error) => reject(new Miss(`${host} shows no certificate: ${reasonOf(error)}`)));
  });
}

async function redirects({ apiUrl, docsUrl }: Outputs, { lookup, httpPort = 80 }: World, { signal }: Run) {
  if (!isTls(apiUrl)) return off("TLS is off");
  const faults = await Promise.all(
    [apiUrl, docsUrl].map(async (url) => {
      const { hostname } = new URL(url);
      return withClient(`http://${hostname}:${httpPort}`, { lookup }, async (client) => {
        const { status, headers } = await client.ask("GET", "/users?limit=1", { signal });
        const target = String(headers.location ?? "nowhere");
        const leads = [301, 302, 307, 308].includes(status) && isSameOver(target, hostname);
        return leads ? undefined : `${client.name} answers ${status} and leads to ${target}`;
      });
    }),
  );
  const wrong = faults.filter((fault) => fault !== undefined);
  return wrong.length > 0 ? miss(wrong.join("; ")) : pass("both hosts, path and query kept");
}

function isSameOver(target: string, hostname: string): boolean {
  if (!URL.canParse(target)) return false;
  const { protocol, hostname: led, pathname, search } = new URL(target);
  return protocol === "https:" && led === hostname && pathname + search === "/users?limit=1";
}

/** https://docs.nginx.com/nginx-ingress-controller/configuration/ingress-resources/advanced-configuration-with-annotations/ */
async function hsts({ apiUrl, docsUrl }: Outputs, annotations: Annotations, world: World, { signal }: Run) {
  const found = await Promise.all(
    [apiUrl, docsUrl].map(async (url) => {
      const { hostname } = new URL(url);
      const configured = (await annotations(hostname))?.["nginx.org/hsts"] === "true";
      const { headers } = await withClient(url, world, (client) => client.ask("GET", "/", { signal }));
      const header = headers["strict-transport-security"];
      const fault = configured
        ? `${hostname} does not send the configured header`
        : `${hostname} sends "${header}", which is not configured: browsers keep to it`;
      return { configured, header, fault: configured === (header !== undefined) ? undefined : fault };
    }),
  );
  const faults = found.flatMap(({ fault }) => fault ?? []);
  if (faults.length > 0) return miss(faults.join("; "));
  return found.some(({ configured }) => configured) ? pass(String(found[0]?.header)) : pass("not configured, not sent");
}

// ── what is behind ──────────────────────────────────────────────────────────────────────────────────────────────────

async function apiAnswers(apiUrl: string, world: World, { signal }: Run) {
  return withClient(apiUrl, world, async (client) => {
    const { json } = await client.expect(200, "GET", "/users?limit=1", { signal });
    return Array.isArray(json?.users) ? pass(`${apiUrl}/users`) : miss(`${apiUrl}/users answers no list of users`);
  });
}

async function docsAnswer({ apiUrl, docsUrl }: Outputs, world: World, { signal }: Run) {
  return withClient(docsUrl, world, async (client) => {
    const page = await client.expect(200, "GET", "/", { signal });
    if (!/swagger/i.test(page.text)) return miss(`${docsUrl} is no Swagger UI`);
    const { json } = await client.expect(200, "GET", "/openapi.json", { signal });
    const [server] = json?.servers ?? [];
    if (server?.url === apiUrl) return pass(`${docsUrl}, whose requests go to ${apiUrl}`);
    return miss(`${docsUrl} sends its requests to ${server?.url ?? "no server"} instead of ${apiUrl}`);
  });
}

/** Asked at once; more would measure this machine. */
const CONCURRENCY = 25;
const MAX_SECONDS = 30;
/** One request more is let through after a fraction of a second. */
const RECOVERY_SECONDS = 4;

async function rateLimit(apiUrl: string, annotations: Annotations, world: World, { signal }: Run) {
  const configured = (await annotations(new URL(apiUrl).hostname)) ?? {};
  const [, perSecond] = /^(\d+)r\/s$/.exec(configured["nginx.org/limit-req-rate"] ?? "") ?? [];
  if (!perSecond) return off("no limit is configured");
  const [rate, burst] = [Number(perSecond), Number(configured["nginx.org/limit-req-burst"] ?? 0)];
  // Not counted by a limit of the API itself, nor Elasticsearch's work.
  const status = (client: Client) => client.ask("GET", "/healthz", { signal }).then((answer) => answer.status);
  return withClient(apiUrl, world, async (client) => {
    const begin = Date.now();
    const seconds = () => (Date.now() - begin) / 1000;
    const seen = new Set<number>();
    let sent = 0;
    // Each of several controllers lets a burst of its own through.
    while (!seen.has(429) && seconds() < MAX_SECONDS && sent < 10 * (burst + rate * Math.max(1, seconds()))) {
      for (const answered of await Promise.all(Array.from({ length: CONCURRENCY }, () => status(client))))
        seen.add(answered);
      sent += CONCURRENCY;
    }
    const strange = [...seen].filter((answered) => answered !== 200 && answered !== 429);
    if (strange.length > 0) return miss(`${client.name} answers too many requests with ${strange.join(", ")}`);
    const asked = `${sent} requests in ${seconds().toFixed(1)} s, at ${rate} a second and ${burst} at once`;
    if (!seen.has(429)) return miss(`no 429 in ${asked}`);
    for (let waited = 0; waited <= RECOVERY_SECONDS; waited++) {
      if ((await status(client)) === 200) return pass(`429 after ${asked}; answers again after ${waited} s`);
      await sleep(1000, undefined, { signal });
    }
    return miss(`${client.name} still answers 429 after ${RECOVERY_SECONDS} s with one request each`);
  });
}
