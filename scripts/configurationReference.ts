import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { type Leaf, leaves } from "../config";
import { PROJECT } from "../violations";

const FILE = join(__dirname, "..", "docs", "configuration.md");

const INTRODUCTION = `# Configuration

Every key of a stack, from the schema in \`config.ts\` (\`npm run docs\` writes this page anew). A stack's values stand in
\`Pulumi.<stack>.yaml\`; set one with

<!-- not run: shows the form; test/unit/config.test.ts holds what the commands set -->
\`\`\`sh
pulumi config set --path '${PROJECT}:cluster.region' fra1 --stack dev
pulumi config set --secret ${PROJECT}:registryPassword --stack dev
\`\`\`

All keys are read and checked before the first resource: whatever is wrong, missing or unknown is listed at once, each
with what was given, what is allowed and the command that sets it. Lists are written \`key[0]\`.

## Environment

| variable | meaning |
| --- | --- |
| \`DIGITALOCEAN_TOKEN\` | API token of the account; needed where the cluster or the zone is DigitalOcean's. |
| \`DIGITALOCEAN_API_URL\` | Address of its API; without it \`https://api.digitalocean.com\`. |
| \`AWS_PROFILE\` and whatever else the AWS CLI reads | Credentials of the account, for a cluster at AWS. |
| \`KUBECONFIG\` | Files in which the context of an existing cluster is looked up; without it \`~/.kube/config\`. |
`;

/** The text of docs/configuration.md. */
export async function configurationReference(): Promise<string> {
  // The default of the cluster's name holds the stack's.
  await pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) }, PROJECT, "<stack>");
  const all = leaves();
  const headings = [...new Set(all.map(headingOf))];
  const sections = headings.map((heading) =>
    section(
      heading,
      all.filter((leaf) => headingOf(leaf) === heading),
    ),
  );
  return [INTRODUCTION, ...sections].join("\n");
}

const headingOf = ({ path, variant }: Leaf) => {
  const alone = path.length === 1 ? PROJECT : `${PROJECT}:${String(path[0])}`;
  return variant === undefined ? alone : `${alone}, provider ${variant}`;
};

function section(heading: string, keys: Leaf[]): string {
  const rows = keys.map(({ path, default: value, allowed, description }) =>
    row([
      `\`${nameOf(path)}\``,
      value === "required" ? "**required**" : code(value),
      allowed.replaceAll("<", "&lt;"),
      description,
    ]),
  );
  return [
    `## ${heading}`,
    "",
    row(["key", "default", "allowed", "meaning"]),
    row(Array(4).fill("---")),
    ...rows,
    "",
  ].join("\n");
}

const nameOf = (path: Leaf["path"]) =>
  (path.length === 1 ? path : path.slice(1))
    .map((part) => (typeof part === "number" ? "[]" : String(part)))
    .join(".")
    .replaceAll(".[]", "[]");
const code = (value: string) => (value === "–" ? value : `\`${value}\``);
export const row = (cells: string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;

if (require.main === module) configurationReference().then((text) => writeFileSync(FILE, text));
