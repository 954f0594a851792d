import { join } from "node:path";
import { type Engine, type Project, prepareProject } from "../local/engine";
import { cloneDirectory } from "../local/paths";
import type { Context } from "./harness";

/**
 * The program that imports the SDKs that the platform imports, configures the same providers, and does nothing else: what
 * any program would cost.
 * @param kubeconfig of a cluster, which makes its provider ask it; without one the engine has nothing to configure
 */
export async function prepareImports(engine: Engine, stack: string, { scratch }: Context, kubeconfig?: string) {
  const source = join(__dirname, "programs", "imports");
  const project: Project = { name: "imports", source, directory: join(scratch, "imports") };
  await prepareProject(
    engine,
    stack,
    {},
    kubeconfig === undefined ? {} : { "imports:kubeconfig": kubeconfig },
    project,
  );
  return { project, env: { TSX_TSCONFIG_PATH: join(cloneDirectory, "tsconfig.json") } };
}
