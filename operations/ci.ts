/** What a workflow needs besides the commands of a terminal; another CI may call it as well. */

import { execFileSync } from "node:child_process";
import { appendFileSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { runCommand } from "./command";
import { repositoryOf, upsertComment, upsertIssue } from "./github";
import { markerOf } from "./previewComment";
import { releaseIn } from "./release";
import { deployedStacks, touchedStacks } from "./touched";

const project = join(__dirname, "..");
const usage = `npm run ci -- stacks <base commit>                 the stacks that differ from it, as JSON
npm run ci -- image <stack>                          the API's last good image, by digest
npm run ci -- comment <stack> <pull request> <file>  makes or updates the preview's comment at GitHub
npm run ci -- drift-issue <stack> [<file>]           opens or updates the issue on drift; without a file, closes it`;

async function main([command, ...args]: string[]): Promise<number> {
  const [first, second, third] = args;
  if (command === "stacks" && first) return stacks(first);
  if (command === "image" && first) return image(first);
  if (command === "comment" && first && Number(second) > 0 && third) {
    await upsertComment(repositoryOf(process.env), Number(second), markerOf(first), readFileSync(third, "utf8"));
    return 0;
  }
  if (command === "drift-issue" && first) {
    const marker = `<!-- hobnob drift ${first} -->`;
    const issue = second && { title: `Drift of ${first}`, body: `${marker}\n\n${readFileSync(second, "utf8")}` };
    await upsertIssue(repositoryOf(process.env), marker, issue || undefined);
    return 0;
  }
  console.error(usage);
  return 1;
}

function stacks(base: string): number {
  const git = ["diff", "--name-only", "--no-renames", "-z", `${base}...HEAD`, "--"];
  const changed = execFileSync("git", git, { cwd: project, encoding: "utf8" }).split("\0").filter(Boolean);
  const files = readdirSync(project).filter((file) => /^Pulumi\..+\.yaml$/.test(file));
  const settings = Object.fromEntries(files.map((file) => [file, parse(readFileSync(join(project, file), "utf8"))]));
  const touched = JSON.stringify(touchedStacks(changed, deployedStacks(settings)));
  console.log(touched);
  if (process.env.GITHUB_OUTPUT) appendFileSync(process.env.GITHUB_OUTPUT, `stacks=${touched}\n`);
  return 0;
}

function image(stack: string): number {
  const options = { cwd: project, encoding: "utf8", maxBuffer: 2 ** 29 } as const;
  const { good } = releaseIn(execFileSync("pulumi", ["stack", "export", "--stack", stack], options));
  if (!good)
    throw new Error(
      `No update of the stack ${stack} has ended well since images are noted: npm run stack -- ${stack} up`,
    );
  console.log(good);
  if (process.env.GITHUB_OUTPUT) appendFileSync(process.env.GITHUB_OUTPUT, `image=${good}\n`);
  return 0;
}

runCommand(main);
