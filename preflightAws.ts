import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { AwsClusterConfig, Config } from "./config";
import { keyName, setCommand, show, type Violation } from "./violations";

/** What AWS says of the cluster and the zone that the configuration means. */
export interface AwsAccount {
  /** Minor versions on offer for a new cluster. */
  offered: string[];
  /** Minor version of the cluster, where it exists. */
  own?: string;
  upgrading: boolean;
  zoneExists: boolean;
}

/**
 * Asks by the AWS CLI, which access to the cluster needs anyway: it finds credentials wherever its user keeps them.
 * @returns the violations where it can't be asked
 */
export async function askAws(config: Config, cluster: AwsClusterConfig, env: NodeJS.ProcessEnv, timeoutMs: number) {
  const ask = (...args: string[]) => run([...args, "--region", cluster.region, "--output", "json"], env, timeoutMs);
  const [versions, described, zones] = await Promise.all([
    ask("eks", "describe-cluster-versions"),
    ask("eks", "describe-cluster", "--name", cluster.name),
    ask("route53", "list-hosted-zones-by-name", "--dns-name", config.domain, "--max-items", "1"),
  ]);
  const failed = [versions, zones, ...(isMissing(described) ? [] : [described])].find(
    ({ error }) => error !== undefined,
  );
  if (failed) return [refused(failed)];
  const { clusterVersions = [] } = versions.answer as { clusterVersions?: { clusterVersion: string }[] };
  const own = (described.answer as { cluster?: { version: string; status: string } } | undefined)?.cluster;
  const { HostedZones = [] } = zones.answer as { HostedZones?: { Name: string; Config?: { PrivateZone?: boolean } }[] };
  const account: AwsAccount = {
    offered: clusterVersions.map(({ clusterVersion }) => clusterVersion),
    own: own?.version,
    upgrading: own?.status === "UPDATING",
    zoneExists: HostedZones.some((zone) => zone.Name === `${config.domain}.` && !zone.Config?.PrivateZone),
  };
  return account;
}

interface Answer {
  answer?: unknown;
  error?: { code?: string | number; stderr?: string };
}

async function run(args: string[], env: NodeJS.ProcessEnv, timeout: number): Promise<Answer> {
  try {
    const { stdout } = await promisify(execFile)("aws", args, { env, timeout, maxBuffer: 2 ** 24 });
    return { answer: JSON.parse(stdout) };
  } catch (error) {
    return { error: error as NonNullable<Answer["error"]> };
  }
}

const isMissing = ({ error }: Answer) => /ResourceNotFoundException/.test(error?.stderr ?? "");

function refused({ error }: Answer): Violation {
  if (error?.code === "ENOENT")
    return {
      key: "PATH",
      given: "no aws on it",
      allowed: "the AWS CLI 2, which gets access to the account and the cluster",
      command: "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
    };
  const why = (error?.stderr ?? "").trim().split("\n").at(-1) || "no answer";
  return {
    key: "AWS_PROFILE",
    given: `credentials with which AWS answers: ${show(why).slice(1, -1)}`,
    allowed: "credentials of the account, by a profile, a single sign-on, a key or a role",
    command: "aws sts get-caller-identity",
  };
}

/** Zones outlive their stack unless `dns.deleteZone` says otherwise. */
export function zoneViolations(config: Config, { own, zoneExists }: AwsAccount): Violation[] {
  const path = ["dns", "zone"];
  const { zone } = config.dns;
  if (zone === "lookup" && !zoneExists)
    return [violation(path, "lookup", `create, as the account has no zone ${config.domain}`, "create")];
  if (zone === "create" && zoneExists && own === undefined)
    return [violation(path, "create", "lookup, as the account has a zone of that name already", "lookup")];
  return [];
}

const violation = (path: string[], given: string, allowed: string, value: string): Violation => ({
  key: keyName(path),
  given: show(given),
  allowed,
  command: setCommand(path, value),
});
