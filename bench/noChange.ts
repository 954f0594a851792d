import { writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { stringify } from "yaml";
import { adminKubeconfig } from "../local/cluster";
import { registryPassword, registryUser, startRegistry } from "../local/daemons";
import { account, type Project, prepareProject, pulumi } from "../local/engine";
import { cloneDirectory } from "../local/paths";
import { obtainTools } from "../local/tools";
import { RECOVERED } from "../operations/recovery";
import type { StateResource } from "../operations/state";
import { Embedded, UP } from "./embedded";
import { alternate, type Bench, type Context, ratio, timed, type Variant } from "./harness";
import { prepareImports } from "./imports";
import { manifestsOf } from "./objects";

/** With the settings of Pulumi.prod.yaml. */
const STACK = "prod";

const bench: Bench = {
  name: "noChange",
  title: "Nothing to do: preview and up of an unchanged prod",
  minutes: 6,
  async run(context) {
    const embedded = await Embedded.start({ nodes: 0 });
    try {
      const prod = await deploy(embedded, context);
      const runs = (project: Project, args: string[], settings = {}): Variant => ({
        run() {
          const { cwd, env } = embedded.options(project);
          const command = [...args, "--stack", STACK, "--non-interactive"];
          return timed("pulumi", command, { cwd, env: { ...env, ...settings } });
        },
      });
      const variants = (...args: string[]) => ({
        hobnob: runs(prod.hobnob, args),
        imports: runs(prod.imports, args),
        "hobnob by plain pulumi": runs(prod.hobnob, args, { [RECOVERED]: "" }),
        "an empty program": runs(prod.empty, args),
      });
      const preview = await alternate({ ...variants("preview"), "kubectl diff": prod.diff }, context);
      const up = await alternate(variants("up", "--yes", "--skip-preview"), context);
      return {
        cases: [
          { case: "preview", variants: preview },
          { case: "up", variants: up },
        ],
        goals: Object.entries({ preview, up }).flatMap(
          ([command, { hobnob, imports, "hobnob by plain pulumi": plain }]) => [
            { goal: `b. no change, ${command}: hobnob ÷ imports`, value: ratio(hobnob, imports), atMost: 1.3 },
            {
              goal: `b. no change, ${command}: hobnob by plain \`pulumi\` ÷ imports`,
              value: ratio(plain, imports),
              atMost: 1.3,
            },
          ],
        ),
        notes: [
          `prod with its own settings: ${prod.resources} resources, Elasticsearch with security; its image is packed again to see whether it changed.`,
          "imports: a program that imports the same SDKs, configures the same providers, the Kubernetes one with the same kubeconfig, and does nothing else.",
          "Plain `pulumi` is told by nobody whether an earlier run was cut off, so that the program asks the state once more.",
          "kubectl diff: of its Kubernetes objects alone.",
        ],
      };
    } finally {
      await embedded.stop();
    }
  },
};

/** Brings prod up, and makes the other programs' stacks. */
async function deploy(embedded: Embedded, context: Context) {
  const { engine } = embedded;
  const tools = await obtainTools(["registry", "kubectl"]);
  const registry = await startRegistry(tools.registry.path);
  const server = `127.0.0.1:${registry.port}`;
  await account(engine, "/local/settings", { withCluster: true });
  const hobnob: Project = { name: "hobnob", source: cloneDirectory, directory: join(context.scratch, "hobnob") };
  const settings = {
    "hobnob:registry": { server, repository: "hobnob/backend", username: registryUser, private: true },
  };
  await prepareProject(engine, STACK, settings, { "hobnob:registryPassword": registryPassword() }, hobnob);
  const run = (project: Project, ...args: string[]) =>
    pulumi(engine, [...args, "--stack", STACK], embedded.options(project), project);
  await run(hobnob, ...UP);

  const kubeconfig = String((await run(hobnob, "stack", "output", "kubeconfig", "--show-secrets")).stdout);
  const { project: imports } = await prepareImports(engine, STACK, context, kubeconfig);
  const empty = {
    name: "empty",
    source: join(__dirname, "programs", "empty"),
    directory: join(context.scratch, "empty"),
  };
  await prepareProject(engine, STACK, {}, {}, empty);
  for (const project of [imports, empty]) await run(project, ...UP);

  const exported = JSON.parse(String((await run(hobnob, "stack", "export", "--show-secrets")).stdout));
  const resources: StateResource[] = exported.deployment.resources;
  const file = join(context.scratch, "objects.yaml");
  writeFileSync(
    file,
    manifestsOf(resources)
      .map((object) => stringify(object))
      .join("---\n"),
  );
  const PATH = [dirname(tools.kubectl.path), engine.environment.PATH].join(delimiter);
  const env = { ...engine.environment, PATH, KUBECONFIG: adminKubeconfig() };
  // It ends with 1 where something differs: of what kubectl itself did not apply, its own annotation.
  const diff = `kubectl diff --server-side --force-conflicts -f ${file} || test $? = 1`;
  return {
    hobnob,
    imports,
    empty,
    diff: { run: () => timed("sh", ["-c", diff], { env, stdout: "ignore" }) },
    resources: resources.length,
  };
}

export default bench;
