import { execa } from "execa";
import { Embedded, imageOf, STACK, UP } from "./embedded";
import { alternate, type Bench, ratio, timed } from "./harness";

const DEPLOYMENT = ["--namespace", "hobnob", "deployment/backend"];

const bench: Bench = {
  name: "oneChange",
  title: "One change: another image of the API, to a finished rollout",
  minutes: 3,
  async run(context) {
    const embedded = await Embedded.start();
    const project = embedded.project();
    const env = embedded.environment;
    let image = 1;
    const configure = () => {
      const api = { image: imageOf(image) };
      return embedded.prepare(project, { ...embedded.settings, "hobnob:api": api });
    };
    const setAndWait = (digit: number) =>
      `kubectl set image ${DEPLOYMENT.join(" ")} '*=${imageOf(digit)}' && kubectl rollout status ${DEPLOYMENT.join(" ")}`;
    try {
      await configure();
      await embedded.pulumi(project, ...UP);
      const variants = await alternate(
        {
          hobnob: {
            async prepare() {
              image++;
              await configure();
            },
            run: () => timed("pulumi", [...UP, "--stack", STACK], embedded.options(project)),
          },
          kubectl: {
            run: () => timed("sh", ["-ec", setAndWait(image + 1)], { env }),
            async restore() {
              await execa("sh", ["-ec", setAndWait(image)], { env });
            },
          },
        },
        context,
      );
      const value = ratio(variants.hobnob, variants.kubectl);
      return {
        cases: [{ case: "a new digest", variants }],
        goals: [{ goal: "c. one change: hobnob ÷ kubectl set image", value, atMost: 1.2 }],
        notes: [
          "kubectl: `kubectl set image`, then `kubectl rollout status`, as the program waits for the same rollout.",
        ],
      };
    } finally {
      await embedded.stop();
    }
  },
};
export default bench;
