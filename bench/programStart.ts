import { pulumi } from "../local/engine";
import { withOfflinePreview } from "../local/preview";
import { RECOVERED } from "../operations/recovery";
import { alternate, type Bench, ratio, type Variant } from "./harness";
import { prepareImports } from "./imports";
import { probed } from "./probe";

const bench: Bench = {
  name: "programStart",
  title: "Start: from the start of the program's process to its first resource",
  minutes: 2,
  run: (context) =>
    withOfflinePreview("prod", context.say, async (preview, engine) => {
      const startOf = (run: (env: Record<string, string>) => PromiseLike<unknown>): Variant => ({
        async run() {
          const { firstRegistration: seconds, megabytes } = await probed(context.scratch, run);
          return { seconds, megabytes };
        },
      });
      const { project, env: own } = await prepareImports(engine, "prod", context);
      const variants = await alternate(
        {
          hobnob: startOf((env) => preview([], { env })),
          "hobnob by plain pulumi": startOf((env) => preview([], { env: { ...env, [RECOVERED]: "" } })),
          "the same SDKs": startOf((env) =>
            pulumi(engine, ["preview", "--stack", "prod"], { env: { ...own, ...env } }, project),
          ),
        },
        context,
      );
      const { hobnob, "the same SDKs": imports, "hobnob by plain pulumi": plain } = variants;
      return {
        cases: [{ case: "preview of a new prod", variants }],
        goals: [
          { goal: "f. start: hobnob ÷ the same SDKs", value: ratio(hobnob, imports), atMost: 1.15 },
          { goal: "f. start: hobnob by plain `pulumi` ÷ the same SDKs", value: ratio(plain, imports), atMost: 1.15 },
        ],
        notes: [
          "The clock is the process's own: what the engine does before it starts the process is the same for all. The memory is the process's, too.",
          "Plain `pulumi` is told by nobody whether an earlier run was cut off, so that the program asks the state.",
          "The other program is loaded as Pulumi programs in TypeScript without ts-node are, by `--import tsx`; ours by `loader.cjs` (docs/decisions/program-start.md).",
        ],
      };
    }),
};

export default bench;
