import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mermaid, picture, svg } from "../operations/graph";
import { captureStack } from "../test/unit/stacks";

const [README, SVG] = ["README.md", "docs/graph.svg"].map((file) => join(__dirname, "..", file)) as [string, string];
const BLOCK = /(<!-- graph: npm run docs -->\n)[\s\S]*?(<!-- \/graph -->)/;

/** The picture of `prod` by its settings, as the README has it between its marks and as docs/graph.svg. */
export async function graphPictures(): Promise<{ file: string; text: string }[]> {
  const shown = picture(await captureStack("prod"));
  const block = ["```mermaid", mermaid(shown), "```", ""].join("\n");
  const readme = readFileSync(README, "utf8");
  if (!BLOCK.test(readme)) throw new Error("README.md has lost the marks between which the graph stands.");
  return [
    { file: README, text: readme.replace(BLOCK, (_, start, end) => start + block + end) },
    { file: SVG, text: await svg(shown) },
  ];
}

if (require.main === module)
  graphPictures().then((files) => {
    for (const { file, text } of files) writeFileSync(file, text);
  });
