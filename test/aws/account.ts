import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { CaptureOptions } from "../unit/graph";

export const ARN = "arn:aws:acm:eu-central-1:111122223333:certificate/0a1b";
export const HOSTNAME = "k8s-nginx.elb.eu-central-1.amazonaws.com";

/** What the providers add to the inputs, as far as the program reads it. */
const resource: NonNullable<CaptureOptions["mocks"]>["resource"] = ({ type, name, inputs }) => {
  if (!type.startsWith("aws:")) return undefined;
  const computed: Record<string, object> = {
    "aws:eks/cluster:Cluster": {
      arn: `arn:aws:eks:eu-central-1:111122223333:cluster/${inputs.name}`,
      endpoint: "https://0A1B.gr7.eu-central-1.eks.amazonaws.com",
      certificateAuthority: { data: "Y2E=" },
    },
    "aws:iam/role:Role": { arn: `arn:aws:iam::111122223333:role/${name}`, name: `${name}-0a1b2c3` },
    "aws:ecr/repository:Repository": {
      repositoryUrl: `111122223333.dkr.ecr.eu-central-1.amazonaws.com/${inputs.name}`,
    },
    "aws:route53/zone:Zone": { zoneId: "Z123", nameServers: ["ns-1.awsdns-01.org", "ns-2.awsdns-02.com"] },
    "aws:route53/record:Record": { fqdn: inputs.name },
    "aws:acm/certificate:Certificate": {
      arn: ARN,
      // In another order than they were asked for.
      domainValidationOptions: [String(inputs.domainName), ...(inputs.subjectAlternativeNames ?? [])]
        .map((domainName: string) => ({
          domainName,
          resourceRecordName: `_proof.${domainName.replace("*.", "")}.`,
          resourceRecordType: "CNAME",
          resourceRecordValue: `_value-of-${domainName.replace("*.", "")}.acm-validations.aws.`,
        }))
        .reverse(),
    },
  };
  return { state: { ...inputs, ...computed[type] } };
};

export const mocks: CaptureOptions["mocks"] = {
  resource,
  calls: {
    "aws:ecr/getAuthorizationToken:getAuthorizationToken": () => ({ userName: "AWS", password: "12 hours" }),
    "aws:lb/getHostedZoneId:getHostedZoneId": () => ({ id: "ZNLB" }),
    "aws:route53/getZone:getZone": ({ name }) => ({ name, zoneId: "Z9", nameServers: ["ns-9.awsdns-09.net"] }),
  },
};

/** What `aws` answers to a command; a text is an error. */
export type Answers = Partial<Record<"versions" | "cluster" | "zones", object | string>>;

const NOTHING = "An error occurred (ResourceNotFoundException) when calling the DescribeCluster operation: No cluster";

/** Runs with an AWS CLI that answers so; by default an account that has nothing yet. */
export async function withCli<T>(answers: Answers, run: (env: NodeJS.ProcessEnv) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "hobnob-"));
  const {
    versions = { clusterVersions: [{ clusterVersion: "1.36" }, { clusterVersion: "1.35" }] },
    cluster = NOTHING,
    zones = { HostedZones: [] },
  } = answers;
  const file = join(directory, "aws");
  const script = `#!${process.execPath}
const answers = ${JSON.stringify({ "describe-cluster-versions": versions, "describe-cluster": cluster, "list-hosted-zones-by-name": zones })};
const answer = answers[process.argv[3]];
if (typeof answer === "string") { console.error(answer); process.exit(254); }
console.log(JSON.stringify(answer));
`;
  writeFileSync(file, script);
  chmodSync(file, 0o755);
  const before = process.env.PATH;
  process.env.PATH = `${directory}${delimiter}${before}`;
  return run(process.env).finally(() => {
    process.env.PATH = before;
    rmSync(directory, { recursive: true });
  });
}
