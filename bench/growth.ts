import { Embedded, STACK, UP } from "./embedded";
import { alternate, type Bench, type Case, type Figures, median, timed } from "./harness";
import { probed } from "./probe";

const COUNTS = [1, 10, 100, 300];
/** What is brought up: each service is two pods and six objects. */
const UP_COUNTS = [10, 50];

/** Where the state is, by what the engine takes from its environment. */
const BACKENDS = {
  "a folder": {},
  "a folder, compressed": { PULUMI_DIY_BACKEND_GZIP: "true" },
};

const WITHOUT_CHECKPOINTS = { PULUMI_SKIP_CHECKPOINTS: "true" };

const bench: Bench = {
  name: "growth",
  title: "Growth: services on one platform",
  minutes: 12,
  async run(context) {
    const embedded = await Embedded.start({ nodes: 4 });
    try {
      const platform = embedded.project();
      await embedded.prepare(platform, embedded.settings);
      await embedded.pulumi(platform, ...UP);
      const services = { ...embedded.project("services"), name: "services" };
      const configure = (count: number) =>
        embedded.prepare(services, { "services:platform": `organization/hobnob/${STACK}`, "services:count": count });
      const { cwd, env } = embedded.options(services);

      const previewOf = (count: number) => ({
        prepare: () => configure(count),
        async run() {
          let seconds = 0;
          const args = ["preview", "--stack", STACK, "--non-interactive"];
          const { megabytes } = await probed(context.scratch, async (probe) => {
            ({ seconds } = await timed("pulumi", args, { cwd, env: { ...env, ...probe } }));
          });
          return { seconds, megabytes };
        },
      });
      const previews = await alternate(Object.fromEntries(COUNTS.map((count) => [count, previewOf(count)])), context);
      const cases: Case[] = COUNTS.map((count) => ({
        case: `preview of ${count}`,
        variants: { program: previews[count] as Figures },
      }));

      for (const count of UP_COUNTS) {
        await configure(count);
        const upBy = (settings: Record<string, string>) => ({
          run: () => timed("pulumi", [...UP, "--stack", STACK], { cwd, env: { ...env, ...settings } }),
          async restore() {
            const args = ["destroy", "--yes", "--skip-preview", "--non-interactive", "--stack", STACK];
            await timed("pulumi", args, { cwd, env: { ...env, ...WITHOUT_CHECKPOINTS } });
          },
        });
        const backends = Object.entries(BACKENDS).flatMap(([name, settings]) => [
          [name, upBy(settings)] as const,
          [`${name}, without checkpoints`, upBy({ ...settings, ...WITHOUT_CHECKPOINTS })] as const,
        ]);
        const variants = await alternate(Object.fromEntries(backends), { ...context, repetitions: 1 });
        cases.push({ case: `up of ${count}`, variants });
      }

      const seconds = COUNTS.map((count) => median((previews[count] as Figures).samples));
      const megabytes = COUNTS.map((count) => (previews[count] as Figures).megabytes ?? Number.NaN);
      return {
        cases,
        goals: [
          { goal: "d. growth: preview time per service, 300 ÷ 100", value: growth(seconds), atMost: 1.25 },
          { goal: "d. growth: the program's memory per service, 300 ÷ 100", value: growth(megabytes), atMost: 1.25 },
          { goal: "d. growth: the program's memory at 300, in MB", value: megabytes.at(-1) ?? Number.NaN, atMost: 400 },
        ],
        notes: [
          "Memory of a preview is that of the program's process at its most, that of an up of all processes.",
          "Per service: what each of the services from 101 to 300 adds, by what each from 11 to 100 adds.",
          "Without checkpoints (`PULUMI_SKIP_CHECKPOINTS`) the state is written once, at the end: what a killed run made would be lost. It is off here and everywhere.",
        ],
      };
    } finally {
      await embedded.stop();
    }
  },
};

/** What each of the last services costs, by what each of those before costs. */
export function growth([, ten = 0, hundred = 0, most = 0]: number[]): number {
  return (most - hundred) / 200 / ((hundred - ten) / 90);
}

export default bench;
