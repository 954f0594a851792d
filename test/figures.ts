import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** One figure of the report that `npm run faults` writes: what was counted, and how much of it. */
export type Figures = Record<string, string | number>;

/** Keeps a part's figures for the report; without HOBNOB_REPORT, the folder they go to, nothing is written. */
export function recordFigures(part: string, figures: Figures): void {
  const folder = process.env.HOBNOB_REPORT;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${part}.json`), JSON.stringify(figures, null, 2));
}
