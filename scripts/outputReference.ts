import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { contract, contractVersion, type OutputName, outputMeta, releases } from "../platform";
import { row } from "./configurationReference";

const FILE = join(__dirname, "..", "docs", "outputs.md");

const INTRODUCTION = `# Outputs

What a platform stack gives to other stacks, from the schema in \`platform.ts\` (\`npm run docs\` writes this page anew):

\`\`\`ts
import { Platform } from "hobnob-platform";

const platform = new Platform("acme/hobnob/prod");
const provider = platform.provider("platform"); // on its cluster; no token in it that could die
const domain = platform.output("domain"); // pulumi.Output<string>
\`\`\`

The contract has a version and only grows: an output stays, keeps its type, and a secret stays one, so a stack that was
written for version ${contractVersion} also stands on a platform that has a newer one. An output that the platform does not have is an error
that names it, what the platform has, and the release that brought it.
`;

/** The text of docs/outputs.md. */
export function outputReference(): string {
  const rows = (Object.keys(contract.shape) as OutputName[]).map((name) => {
    const { since, description, secret } = outputMeta(name);
    return row([
      `\`${name}\``,
      code(typeOf(recordOf(name))),
      `${since}`,
      `${secret ? "**Secret.** " : ""}${description}`,
    ]);
  });
  const versions = Object.entries(releases).map(([version, release]) => row([version, release]));
  return [
    INTRODUCTION,
    "## Versions\n",
    row(["contract", "since hobnob-platform"]),
    row(["---", "---"]),
    ...versions,
    "\n## All outputs\n",
    row(["output", "type", "since contract", "meaning"]),
    row(Array(4).fill("---")),
    ...rows,
    "",
  ].join("\n");
}

const code = (text: string) => `\`${text}\``;

/** An output's JSON schema, with `since` and `secret`. */
export interface OutputRecord {
  type?: string;
  enum?: string[];
  items?: OutputRecord;
  properties?: Record<string, OutputRecord>;
  required?: string[];
  additionalProperties?: OutputRecord;
  since?: number;
  secret?: boolean;
}

/** The contract as JSON schema: what test/contract/ keeps of each version. */
export const contractRecord = () =>
  z.toJSONSchema(contract, { io: "input" }) as { properties: Record<string, OutputRecord> };

const recordOf = (name: OutputName) => contractRecord().properties[name] ?? {};

function typeOf({ type, enum: values, items, properties, additionalProperties }: OutputRecord): string {
  if (values) return values.map((value) => `"${value}"`).join(" | ");
  if (items) return `${typeOf(items)}[]`;
  if (properties) {
    const fields = Object.entries(properties).map(([name, field]) => `${name}: ${typeOf(field)}`);
    return `{ ${fields.join("; ")} }`;
  }
  if (additionalProperties) return `Record<string, ${typeOf(additionalProperties)}>`;
  return type === "integer" ? "number" : String(type);
}

/** What the first has and the second lost or changed: nothing, as long as the contract only grows. */
export function lost(before: OutputRecord, after: OutputRecord | undefined, path = ""): string[] {
  if (!after) return [`${path} is gone`];
  const same = (["type", "enum", "items", "additionalProperties", "since", "secret"] as const)
    .filter((key) => JSON.stringify(before[key]) !== JSON.stringify(after[key]))
    .map((key) => `${path}: ${key} was ${JSON.stringify(before[key])}, is ${JSON.stringify(after[key])}`);
  const below = Object.entries(before.properties ?? {}).flatMap(([name, field]) =>
    lost(field, after.properties?.[name], path === "" ? name : `${path}.${name}`),
  );
  const optional = (before.required ?? []).filter(
    (name) => after.properties?.[name] && !after.required?.includes(name),
  );
  return [...same, ...below, ...optional.map((name) => `${path === "" ? name : `${path}.${name}`} may be missing`)];
}

export const recordFile = (version: number) => join(__dirname, "..", "test", "contract", `v${version}.json`);

/** A version that is recorded only grows, also while no release has it. */
function record(): void {
  const file = recordFile(contractVersion);
  const losses = existsSync(file) ? lost(JSON.parse(readFileSync(file, "utf8")), contractRecord()) : [];
  if (losses.length > 0) throw new Error(`The contract may only grow:\n  ${losses.join("\n  ")}`);
  writeFileSync(file, `${JSON.stringify(contractRecord(), null, 2)}\n`);
}

if (require.main === module) {
  record();
  writeFileSync(FILE, outputReference());
}
