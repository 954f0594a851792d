import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { contract, type OutputName } from "../../platform";
import { capture } from "./graph";
import { platformStack } from "./platformOutputs";

const root = join(__dirname, "..", "..");
const examples = readdirSync(join(root, "examples")).filter((name) =>
  existsSync(join(root, "examples", name, "Pulumi.yaml")),
);

/** Whatever stands under examples/, with the settings that it has on the embedded platform. */
describe("every example", () => {
  const read = (name: string, file: string) => parse(readFileSync(join(root, "examples", name, file), "utf8"));
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));

  const graph = (name: string, changes: Parameters<typeof platformStack>[0] = {}) => {
    const { name: project } = read(name, "Pulumi.yaml") as { name: string };
    const settings: Record<string, unknown> = { ...read(name, "Pulumi.local.yaml").config };
    if (`${project}:registryUsername` in settings) settings[`${project}:registryPassword`] = "a secret of the test";
    return capture(() => (require(join(root, "examples", name, "index")) as () => unknown)(), {
      project,
      config: Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, text(value)])),
      secretKeys: [`${project}:registryPassword`],
      mocks: {
        resource: platformStack({ coveredHosts: [], ...changes }),
        calls: { "digitalocean:index/getDomain:getDomain": ({ name: domain }) => ({ name: domain }) },
      },
    });
  };

  for (const name of examples) {
    it(`must stand on the platform's contract: ${name}`, async () => {
      assert.ok((await graph(name)).length > 5);
      const nothing = Object.fromEntries(
        (Object.keys(contract.shape) as OutputName[]).map((output) => [output, undefined]),
      );
      await assert.rejects(graph(name, nothing), /stands on an output that the platform stack .* does not have/);
    });
  }
});
