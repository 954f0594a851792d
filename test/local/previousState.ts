import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { StateResource } from "../../local/engine";

/** The deployment of an exported state, as far as a later program is compared with it. */
interface Deployment {
  manifest: { version: string; [field: string]: unknown };
  resources: Kept[];
}

type Kept = StateResource & { outputs?: Record<string, unknown>; [field: string]: unknown };

const FILE = join(__dirname, "previousState.json");
const SECRET = "4dabf18193072939515e22adb298388d";
/** Nothing listens there: the preview goes by the state alone. */
const NOWHERE = "https://127.0.0.1:1";
const STAND_IN = "stand-in";

/** The state in the form in which `pulumi stack import` takes it. */
export function previousState(): { version: 3; deployment: Deployment } {
  const deployment = JSON.parse(readFileSync(FILE, "utf8")) as Deployment;
  const resources = deployment.resources.map((resource) =>
    resource.type.startsWith("kubernetes:") || resource.type.startsWith("docker:")
      ? { ...resource, outputs: { ...resource.outputs, __inputs: resource.inputs } }
      : resource,
  );
  return { version: 3, deployment: { ...deployment, resources } };
}

/** What a comparison needs, without secrets, addresses of the machine, and what the API server notes for itself. */
function reduced(exported: string): Deployment {
  const { deployment } = JSON.parse(exported.replaceAll(/https:\/\/127\.0\.0\.1:\d+/g, NOWHERE)) as {
    deployment: Deployment;
  };
  const { version, time, magic } = deployment.manifest;
  return { manifest: { version, time, magic }, resources: deployment.resources.map(reducedResource) };
}

function reducedResource(resource: Kept): Kept {
  const { created: _1, modified: _2, sourcePosition: _3, stackTrace: _4, propertyDependencies: _5, ...kept } = resource;
  const { __inputs: _6, ...outputs } = kept.outputs ?? {};
  const metadata = outputs.metadata as Record<string, unknown> | undefined;
  delete metadata?.managedFields;
  return withoutSecrets({ ...kept, ...(kept.outputs && { outputs }) }) as Kept;
}

/** A secret's shape stays, since the engine compares it. */
function withoutSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== "object" || value === null) return value;
  const { plaintext } = value as { plaintext?: string };
  if (SECRET in value) return { ...value, plaintext: JSON.stringify(standIn(JSON.parse(String(plaintext)))) };
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, withoutSecrets(member)]));
}

function standIn(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(standIn);
  if (typeof value !== "object" || value === null) return typeof value === "string" ? STAND_IN : value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, standIn(member)]));
}

// npm run local -- stack export --show-secrets | node --import tsx test/local/previousState.ts >test/local/previousState.json
if (require.main === module) {
  console.log(JSON.stringify(reduced(readFileSync(0, "utf8")), null, 2));
}
