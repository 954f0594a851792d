import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { type PlainConfig, schema } from "../config";
import { accountPrices, type Cost, monthlyCost, type SizePrices } from "../cost";
import { costTable } from "../operations/cost";
import { PROJECT } from "../violations";
import { startAccount } from "./account/account";
import { cloneDirectory } from "./paths";

/** `npm run cost -- <stack> [--json]`: the bill of a stack's settings, deployed or not. */
export async function costCommand(args: string[]): Promise<number> {
  const json = args.includes("--json");
  const [stack, ...unknown] = args.filter((arg) => arg !== "--json");
  if (!stack || unknown.length > 0 || stack.startsWith("-"))
    throw new Error(
      `Given: ${args.join(" ") || "nothing"}; a stack is needed. For example: npm run cost -- prod --json`,
    );
  const cost = await costOf(stack);
  if (json) console.log(JSON.stringify({ stack, ...cost }, null, 2));
  else console.log(costTable(stack, cost));
  if (!json && cost.priced && isSimulated(stack))
    console.log("Sizes at the simulated account's list prices; with DIGITALOCEAN_TOKEN set, at your account's.");
  return 0;
}

/** @throws one line, where there are no such settings or the account does not answer */
async function costOf(stack: string): Promise<Cost> {
  const config = await settingsOf(stack);
  const billed = { ...config, snapshots: config.elasticsearch.snapshots };
  return monthlyCost(billed, () => (isSimulated(stack) ? simulatedPrices() : accountPrices(process.env)));
}

const isSimulated = (stack: string) => stack === "local" || !process.env.DIGITALOCEAN_TOKEN;

async function simulatedPrices(): Promise<SizePrices> {
  const account = await startAccount({});
  const env = { DIGITALOCEAN_API_URL: account.url, DIGITALOCEAN_TOKEN: "local-simulated-account" };
  return accountPrices(env).finally(() => account.close());
}

async function settingsOf(stack: string): Promise<PlainConfig> {
  const file = join(cloneDirectory, `Pulumi.${stack}.yaml`);
  if (!existsSync(file)) throw new Error(`There is no Pulumi.${stack}.yaml; for example: npm run cost -- prod`);
  // A default is made of the stack's name.
  await pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) }, PROJECT, stack);
  const { config = {} } = parse(readFileSync(file, "utf8")) as { config?: Record<string, unknown> };
  const own = Object.entries(config).flatMap(([key, value]) => {
    const isSecret = typeof value === "object" && value !== null && "secure" in value;
    return key.startsWith(`${PROJECT}:`) ? [[key.slice(PROJECT.length + 1), isSecret ? "a secret" : value]] : [];
  });
  const { success, data } = schema.safeParse(Object.fromEntries(own));
  if (!success)
    throw new Error(`Pulumi.${stack}.yaml is not valid; what is wrong with it: npm run preview -- ${stack}`);
  return data;
}
