import Table from "cli-table3";
import { amount, type Cost } from "../cost";

/** The bill as a table, with the sum in its last line. */
export function costTable(stack: string, cost: Cost): string {
  if (!cost.priced) return `${stack}: not priced here: ${cost.reason}`;
  const lines = new Table({
    head: ["resource", "what", "USD a month", "scaled out"],
    colAligns: ["left", "left", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  const { minimum, maximum } = cost;
  const all = [...cost.lines, { resource: "total", detail: "", minimum, maximum }];
  for (const line of all)
    lines.push([
      line.resource,
      line.detail,
      line.minimum.toFixed(2),
      line.maximum === line.minimum ? "" : line.maximum.toFixed(2),
    ]);
  return `${lines.toString()}\n${stack}: ${amount(cost)} a month, without traffic and stored images`;
}
