import type { Config, Violation } from "./config.js";

/** Requested by each pod of the ingress controller. */
export const INGRESS_REQUESTS = { cpu: "100m", memory: "128Mi" };
/** Requested by metrics-server, which runs only where the API scales by itself (its project's own manifest). */
export const METRICS_SERVER_REQUESTS = { cpu: "100m", memory: "200Mi" };

const SUFFIXES: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/** A Kubernetes quantity in its base unit (bytes, cores), or undefined for what is none. */
export function parseQuantity(quantity: string): number | undefined {
  const [, digits, suffix] = /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|Pi|[numkMGTP]?)$/.exec(quantity) ?? [];
  const factor = SUFFIXES[suffix ?? "none"];
  return digits === undefined || factor === undefined ? undefined : Number(digits) * factor;
}

export function capacityViolations(_config: Config): Violation[] {
  return [];
}
