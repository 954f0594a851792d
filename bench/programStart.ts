import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pulumi } from "../local/engine";
import { withOfflinePreview } from "../local/preview";
import { RECOVERED } from "../operations/recovery";
import { alternate, type Bench, type Context, ratio, type Variant } from "./harness";
import { prepareImports } from "./imports";

/** Notes when the program asks for its first resource. */
const hook = join(__dirname, "programs", "firstRegistration.cjs");

const bench: Bench = {
  name: "programStart",
  title: "Start: from the start of the program's process to its first resource",
  minutes: 2,
  run: (context) =>
    withOfflinePreview("prod", context.say, async (preview, engine) => {
      const { project, env: own } = await prepareImports(engine, "prod", context);
      const variants = await alternate(
        {
          hobnob: startOf(context, (env) => preview([], { env })),
          "hobnob, plain `pulumi preview`": startOf(context, (env) =>
            preview([], { env: { ...env, [RECOVERED]: "" } }),
          ),
          "the same SDKs": startOf(context, (env) =>
            pulumi(engine, ["preview", "--stack", "prod"], { env: { ...own, ...env } }, project),
          ),
        },
        context,
      );
      const { hobnob, "the same SDKs": imports, "hobnob, plain `pulumi preview`": plain } = variants;
      return {
        cases: [{ case: "preview of a new prod", variants }],
        goals: [
          { goal: "f. start: hobnob ÷ the same SDKs", value: ratio(hobnob, imports), atMost: 1.15 },
          { goal: "f. start: hobnob by plain `pulumi` ÷ the same SDKs", value: ratio(plain, imports), atMost: 1.15 },
        ],
        notes: [
          "The clock is the process's own; what the engine does before it starts the process is the same for all.",
          "Plain `pulumi` is told by nobody whether an earlier run was cut off, so that the program asks the state.",
        ],
      };
    }),
};

function startOf({ scratch }: Context, preview: (env: Record<string, string>) => PromiseLike<unknown>): Variant {
  const file = join(scratch, "started");
  return {
    async run() {
      rmSync(file, { force: true });
      await preview({ NODE_OPTIONS: `--require ${hook}`, FIRST_REGISTRATION: file });
      return { seconds: Number(readFileSync(file, "utf8")) / 1000 };
    },
  };
}

export default bench;
