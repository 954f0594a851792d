import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parse } from "yaml";
import { costDifference } from "../cost";
import type { PlatformOutputs } from "../platform";
import { type EngineEvent, outputsOf, parseEvents } from "./events";
import { renderComment } from "./previewComment";
import { releaseIn } from "./release";

/** Runs the engine's preview of the stack with further arguments; a failure is no exception. */
export type RunEngine = (
  args: string[],
  environment: Record<string, string>,
) => Promise<{ exitCode?: number; stderr?: unknown }>;

const policyPack = join(__dirname, "..", "policy", "pack");

/**
 * Previews a stack and tells it as a comment; also what made it fail. Nothing is resolved before, as `npm run stack` does:
 * what asks for a review must not write the state.
 */
export async function previewComment(
  stack: string,
  run: RunEngine,
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ comment: string; exitCode: number }> {
  const directory = mkdtempSync(join(tmpdir(), "hobnob-ci-"));
  try {
    const log = join(directory, "events");
    const args = ["--non-interactive", "--policy-pack", policyPack, "--event-log", log];
    // Only then does it know that flag; the Automation API does the same.
    const { exitCode = 1, stderr } = await run(args, {
      PULUMI_DEBUG_COMMANDS: "true",
      PULUMI_SKIP_UPDATE_CHECK: "true",
    });
    const events = parseEvents(existsSync(log) ? readFileSync(log, "utf8") : "");
    const comment = renderComment({
      stack,
      events,
      exitCode,
      stderr: String(stderr ?? ""),
      cost: costOf(events),
      footer: footerOf(env),
    });
    return { comment, exitCode };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function costOf(events: EngineEvent[]): string | undefined {
  type Outputs = { monthlyCost?: PlatformOutputs["monthlyCost"] };
  const { before, after } = outputsOf(events) as Record<"before" | "after", Outputs>;
  return after.monthlyCost && costDifference(after.monthlyCost, before.monthlyCost);
}

/**
 * A stack that is promoted to builds nothing: until the change is promoted as well, it is previewed with what it serves.
 * @param exported its state
 * @param file its settings, which stay as they are
 * @param folder for a copy of them
 * @returns the engine's arguments
 */
export function withServedImage(exported: string, file: string, folder: string): string[] {
  const { good, isGiven } = releaseIn(exported);
  const { config } = (parse(readFileSync(file, "utf8")) ?? {}) as { config?: { "hobnob:api"?: { image?: string } } };
  if (!good || !isGiven || config?.["hobnob:api"]?.image) return [];
  const copy = join(folder, basename(file));
  copyFileSync(file, copy);
  return ["--config-file", copy, "--config-path", "--config", `hobnob:api.image=${good}`];
}

/** At GitHub, where it was made. */
function footerOf({
  GITHUB_SERVER_URL: server,
  GITHUB_REPOSITORY: repository,
  GITHUB_RUN_ID: run,
  ...env
}: NodeJS.ProcessEnv) {
  if (!run) return undefined;
  return `Made by [this run](${server}/${repository}/actions/runs/${run}) of ${env.GITHUB_HEAD_REF ? "this branch" : "the main branch"}; updated in place.`;
}
