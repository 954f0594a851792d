import { Embedded, imageOf, STACK, UP, type Wanted } from "./embedded";
import { alternate, type Bench, type Context, ratio, timed } from "./harness";

const DEPLOYMENT = ["--namespace", "hobnob", "deployment/backend"];

const bench: Bench = {
  name: "oneChange",
  title: "One change: another image of the API, to a finished rollout",
  minutes: 8,
  async run(context) {
    const real = await rollouts({ real: true }, context);
    const simulated = await rollouts({}, context);
    return {
      cases: [
        { case: "a new digest, its pods real processes", variants: real },
        { case: "a new digest, its pods simulated", variants: simulated },
      ],
      goals: [
        { goal: "c. one change: hobnob ÷ kubectl set image", value: ratio(real.hobnob, real.kubectl), atMost: 1.2 },
        {
          goal: "c. the same where a pod runs nothing, and is ready at once",
          value: ratio(simulated.hobnob, simulated.kubectl),
        },
      ],
      notes: [
        "kubectl: `kubectl set image`, then `kubectl rollout status`, as the program waits for the same rollout.",
        "Real processes: the pods of `npm start -- --real`, whose kubelet runs the image's own program with its probes against Elasticsearch's own processes. A digest that is new to it is built, as a node would pull it.",
      ],
    };
  },
};
export default bench;

async function rollouts(wanted: Wanted, context: Context) {
  const embedded = await Embedded.start(wanted);
  const project = embedded.project();
  const env = embedded.environment;
  let image = 1;
  const configure = () => embedded.prepare(project, { ...embedded.settings, "hobnob:api": { image: imageOf(image) } });
  const setAndWait = (digit: number) =>
    `kubectl set image ${DEPLOYMENT.join(" ")} '*=${imageOf(digit)}' && kubectl rollout status ${DEPLOYMENT.join(" ")}`;
  const up = () => timed("pulumi", [...UP, "--stack", STACK], embedded.options(project));
  try {
    await configure();
    await up();
    return await alternate(
      {
        hobnob: {
          async prepare() {
            image++;
            await configure();
          },
          run: up,
        },
        kubectl: {
          run: () => timed("sh", ["-ec", setAndWait(++image)], { env }),
          // The stack's state follows, so that the next update changes the image alone.
          async restore() {
            await configure();
            await up();
          },
        },
      },
      context,
    );
  } finally {
    await embedded.stop();
  }
}
