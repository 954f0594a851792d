import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { execa } from "execa";
import { previewComment, type RunEngine, withServedImage } from "../operations/ciPreview";
import { pulumi } from "./engine";
import { runningEngine } from "./operate";
import { cloneDirectory } from "./paths";
import { withOfflinePreview } from "./preview";

const usage = `npm run ci:preview -- <stack>             of a stack of your backend and account; local: of the embedded platform
npm run ci:preview -- <stack> --offline   against a simulated account, as if nothing were there yet
--out <file> writes the comment into a file instead.`;

/** Prints what a pull request is told of a stack. @returns how the engine ended */
export async function ciPreview(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { offline: { type: "boolean" }, out: { type: "string" } },
  });
  const [stack, ...more] = positionals;
  if (!stack || more.length > 0) throw new Error(usage);
  const tell = async (run: RunEngine) => {
    const { comment, exitCode } = await previewComment(stack, run);
    if (values.out) writeFileSync(values.out, comment);
    else process.stdout.write(comment);
    return exitCode;
  };
  if (values.offline)
    return withOfflinePreview(stack, console.error, (preview) =>
      tell((engineArgs, env) => preview(engineArgs, { env, stdin: "ignore" })),
    );
  if (stack !== "local") return ofUser(stack, tell);
  const runner = await runningEngine();
  const options = { reject: false, stdin: "ignore" } as const;
  return tell((engineArgs, env) => pulumi(runner, ["preview", "--stack", stack, ...engineArgs], { ...options, env }));
}

/** By the `pulumi` on the PATH, with whatever backend and account its user has set. */
async function ofUser(stack: string, tell: (run: RunEngine) => Promise<number>): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "hobnob-ci-"));
  const options = { cwd: cloneDirectory, stdin: "ignore", reject: false } as const;
  try {
    const state = await execa("pulumi", ["stack", "export", "--stack", stack], options);
    const settings = join(cloneDirectory, `Pulumi.${stack.split("/").at(-1)}.yaml`);
    // Where the state cannot be read, the preview says why.
    const served = state.exitCode === 0 ? withServedImage(state.stdout, settings, folder) : [];
    return await tell((args, env) =>
      execa("pulumi", ["preview", "--stack", stack, ...args, ...served], { ...options, env }),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
