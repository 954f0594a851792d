import { parseQuantity } from "./capacity";
import type { Config } from "./config";
import type { PlatformOutputs } from "./platform";
import { Account } from "./preflight";

/** One line of the bill, a month. `maximum` is that of pools that scaled out. */
export interface CostLine {
  resource: string;
  detail: string;
  minimum: number;
  maximum: number;
}

type MonthlyCost = PlatformOutputs["monthlyCost"];

export interface Cost extends MonthlyCost {
  lines: CostLine[];
  /** Why there is no price. */
  reason?: string;
}

/** What of a configuration is paid for. */
export interface Billed extends Pick<Config, "cluster"> {
  ingress: Pick<Config["ingress"], "expose" | "sizeUnit">;
  elasticsearch: Pick<Config["elasticsearch"], "replicas" | "diskSize">;
  snapshots?: { endpoint?: string };
}

/** USD a month of a Droplet by its size. */
export type SizePrices = Record<string, number>;

/**
 * USD a month of what has no price in the API. Traffic and stored images are in none.
 * Sources: https://docs.digitalocean.com/products/kubernetes/details/pricing/ (control plane; nodes cost what Droplets do),
 * https://docs.digitalocean.com/products/networking/load-balancers/details/pricing/ (a node of a regional HTTP balancer),
 * https://docs.digitalocean.com/products/volumes/details/pricing/ (a GiB of a volume),
 * https://docs.digitalocean.com/products/spaces/details/pricing/ (the account's subscription, of 250 GiB).
 */
const PRICES = { highAvailability: 40, balancerNode: 12, volumeGiB: 0.1, spaces: 5 };

const unpriced = (reason: string): Cost => ({
  lines: [],
  reason,
  priced: false,
  currency: "USD",
  minimum: 0,
  maximum: 0,
});

/** What a stack costs a month by its settings, whoever has prices for its sizes. */
export async function monthlyCost(config: Billed, sizePrices: () => Promise<SizePrices>): Promise<Cost> {
  const { provider } = config.cluster;
  if (provider === "existing") return unpriced("its cluster is there already, and on no bill of this stack");
  if (provider !== "digitalocean") return unpriced(`prices of ${String(provider)} are not known here`);
  const prices = await sizePrices();
  const lines = [
    ...controlPlane(config.cluster),
    ...nodePools(config.cluster, prices),
    ...balancer(config),
    ...disks(config),
  ];
  const sum = (bound: "minimum" | "maximum") => cents(lines.reduce((total, line) => total + line[bound], 0));
  return { lines, priced: true, currency: "USD", minimum: sum("minimum"), maximum: sum("maximum") };
}

/** The same as a stack's output: an account that does not tell its prices must not keep it from being deployed. */
export async function monthlyCostOutput(config: Billed, env = process.env): Promise<MonthlyCost> {
  const cost = monthlyCost(config, () => accountPrices(env));
  const { priced, currency, minimum, maximum } = await cost.catch((error: Error) => unpriced(error.message));
  return { priced, currency, minimum, maximum };
}

/** The list prices of the account's sizes. */
export async function accountPrices(env: NodeJS.ProcessEnv, timeoutMs = 10_000): Promise<SizePrices> {
  const sizes = await new Account(env, timeoutMs).list<{ slug: string; price_monthly: number }>("/v2/sizes", "sizes");
  return Object.fromEntries(sizes.map(({ slug, price_monthly }) => [slug, price_monthly]));
}

/** `$334.00`, or `$334.00 to $430.00` of a stack that scales by itself. */
export const amount = ({ minimum, maximum }: Pick<CostLine, "minimum" | "maximum">): string =>
  minimum === maximum ? usd(minimum) : `${usd(minimum)} to ${usd(maximum)}`;

/**
 * A change's cost in one line: `$430.00 a month, $96.00 more than now`.
 * @param before of what is deployed; left out, nothing is said of it
 */
export function costDifference(after: MonthlyCost, before?: MonthlyCost): string {
  if (!after.priced) return "not priced";
  const now = `${amount(after)} a month`;
  if (!before?.priced) return now;
  const more = { minimum: cents(after.minimum - before.minimum), maximum: cents(after.maximum - before.maximum) };
  if (more.minimum === 0 && more.maximum === 0) return `${now}, as now`;
  if (more.minimum === more.maximum) return `${now}, ${compared(more.minimum)} than now`;
  return `${now}: at least ${compared(more.minimum)}, at most ${compared(more.maximum)} than now`;
}

const compared = (difference: number) => `${usd(Math.abs(difference))} ${difference < 0 ? "less" : "more"}`;
const usd = (price: number) => `$${price.toFixed(2)}`;
const cents = (price: number) => Math.round(price * 100) / 100;

type DigitalOcean = Extract<Config["cluster"], { provider: "digitalocean" }>;

const controlPlane = ({ ha }: DigitalOcean): CostLine[] =>
  ha ? [fixed("control plane", "highly available", PRICES.highAvailability)] : [];

function nodePools({ systemPool, workerPools }: DigitalOcean, prices: SizePrices): CostLine[] {
  return Object.entries({ system: systemPool, ...workerPools }).map(([name, pool]) => {
    const { size, count, minCount = 0, maxCount = 0 } = pool;
    const [least, most] = [count ?? minCount, count ?? maxCount];
    const price = prices[size];
    if (price === undefined) throw new Error(`The account's list of sizes has no price of ${size}.`);
    const detail = `${least === most ? least : `${least} to ${most}`} × ${size}`;
    return { resource: `node pool ${name}`, detail, minimum: cents(least * price), maximum: cents(most * price) };
  });
}

function balancer({ ingress: { expose, sizeUnit } }: Billed): CostLine[] {
  if (expose !== "LoadBalancer") return [];
  return [fixed("load balancer", `${sizeUnit} node${sizeUnit === 1 ? "" : "s"}`, sizeUnit * PRICES.balancerNode)];
}

function disks({ elasticsearch: { replicas, diskSize }, snapshots }: Billed): CostLine[] {
  // Sold by the whole GiB.
  const gibibytes = Math.ceil((parseQuantity(diskSize) ?? 0) / 2 ** 30);
  const volumes = fixed(
    "volumes of Elasticsearch",
    `${replicas} × ${gibibytes} GiB`,
    replicas * gibibytes * PRICES.volumeGiB,
  );
  if (!snapshots || snapshots.endpoint) return [volumes];
  return [volumes, fixed("Spaces, for snapshots", "the account's one subscription, of 250 GiB", PRICES.spaces)];
}

const fixed = (resource: string, detail: string, price: number): CostLine => {
  const [minimum, maximum] = [cents(price), cents(price)];
  return { resource, detail, minimum, maximum };
};
