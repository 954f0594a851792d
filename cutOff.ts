import { execFile } from "node:child_process";
import { promisify } from "node:util";
import * as pulumi from "@pulumi/pulumi";
import { RECOVERED } from "./operations/recovery";
import type { PreviousRun } from "./previousRun";

interface Operation {
  type: string;
  resource: { urn: string; type: string };
}

/**
 * Refuses to go on from a run that was cut off while objects were being made: the engine would make them once more, some
 * of them (records) without anyone noticing. The state cannot be mended under a running engine.
 * @param previousRun one that began nothing leaves nothing, and costs no question
 * @throws RunError with the command that mends it
 */
export async function refuseCutOff(previousRun: Promise<PreviousRun>, env = process.env): Promise<void> {
  if (env[RECOVERED] || !(await previousRun).begun) return;
  const stack = `${pulumi.getOrganization()}/${pulumi.getProject()}/${pulumi.getStack()}`;
  const options = { env, maxBuffer: 2 ** 29 };
  // A backend that answers the engine answers this as well; without the command on the PATH there is no answer.
  const exported = await promisify(execFile)("pulumi", ["stack", "export", "--stack", stack], options).catch(
    () => null,
  );
  const pending = exported ? JSON.parse(exported.stdout).deployment.pending_operations : [];
  const creations = ((pending ?? []) as Operation[]).filter(
    ({ type, resource }) => type === "creating" && /^(kubernetes|digitalocean):/.test(resource.type),
  );
  if (creations.length === 0) return;
  const names = creations.map(({ resource }) => resource.urn.split("::").at(-1));
  throw new pulumi.RunError(
    `An earlier run of the stack ${pulumi.getStack()} was cut off while it made ${names.join(", ")}, which may be there by now.\n\n  command: npm run stack -- ${pulumi.getStack()} up\n`,
  );
}
