import { writeFileSync } from "node:fs";
import { type GraphResource, mermaid, type Picture, picture, svg } from "../operations/graph";
import { pulumiIn } from "../verify/stack";
import { localPulumi } from "./operate";
import { cloneDirectory } from "./paths";
import { withOfflinePreview } from "./preview";

const FLAGS = ["--preview", "--json"];

/** `npm run graph -- <stack> [--preview] [--json]`: the picture of what a stack has, or would have by its settings. */
export async function graphCommand(args: string[]): Promise<number> {
  const [preview, json] = FLAGS.map((flag) => args.includes(flag));
  const [stack, ...unknown] = args.filter((arg) => !FLAGS.includes(arg));
  if (!stack || unknown.length > 0 || stack.startsWith("-"))
    throw new Error(
      `Given: ${args.join(" ") || "nothing"}; a stack is needed. For example: npm run graph -- prod --preview`,
    );
  const shown = picture(await (preview ? previewed(stack) : deployed(stack)));
  if (json) {
    console.log(JSON.stringify(plain(shown), null, 2));
    return 0;
  }
  const files = { [`graph-${stack}.mmd`]: `${mermaid(shown)}\n`, [`graph-${stack}.svg`]: await svg(shown) };
  for (const [file, text] of Object.entries(files)) writeFileSync(file, text);
  const resources = shown.groups.reduce((sum, group) => sum + group.resources.length, 0);
  console.log(`${resources} resources in ${shown.groups.length} groups: ${Object.keys(files).join(", ")}`);
  console.log(`Critical path: ${shown.criticalPath.map(nameOf).join(" → ")}`);
  return 0;
}

async function deployed(stack: string): Promise<GraphResource[]> {
  const pulumi = stack === "local" ? await localPulumi() : pulumiIn(cloneDirectory);
  const { exitCode, stdout, stderr } = await pulumi(["stack", "export", "--stack", stack]);
  if (exitCode !== 0) throw new Error(`The state of the stack ${stack} cannot be read: ${firstLine(stderr)}`);
  const resources: GraphResource[] = JSON.parse(String(stdout)).deployment?.resources ?? [];
  if (resources.length === 0)
    throw new Error(`The stack ${stack} is not deployed; as it would be: npm run graph -- ${stack} --preview`);
  return resources;
}

/** All resources of a first preview are made, and so in a step each. */
const previewed = (stack: string): Promise<GraphResource[]> =>
  withOfflinePreview(stack, console.error, async (preview) => {
    const { exitCode, stdout, stderr } = await preview(["--json"]);
    if (exitCode !== 0)
      throw new Error(
        `The preview of the stack ${stack} fails; why: npm run preview -- ${stack}\n${firstLine(stderr)}`,
      );
    const { steps } = JSON.parse(String(stdout)) as { steps: { newState?: GraphResource }[] };
    return steps.flatMap(({ newState }) => newState ?? []);
  });

const urns = (resources: GraphResource[]) => resources.map(({ urn }) => urn);
const plain = ({ groups, edges, criticalPath }: Picture) => ({
  groups: groups.map(({ id, label, resources }) => ({ id, label, resources: urns(resources) })),
  edges,
  criticalPath: urns(criticalPath),
});
const nameOf = ({ urn, type }: GraphResource) => `${type.split(":").at(-1)} ${urn.split("::").at(-1)}`;
const firstLine = (text: unknown) =>
  String(text)
    .trim()
    .replace(/^error: /, "")
    .split("\n")[0];
