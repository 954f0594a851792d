import * as pulumi from "@pulumi/pulumi";
import { parseQuantity } from "./capacity";
import { ELASTICSEARCH_IMAGE } from "./components/elasticsearch";
import type { Config } from "./config";
import { keyName, type Path, setCommand, show, type Violation } from "./violations";

/** What an earlier run has made of that which a later one must not lose. */
export interface PreviousRun {
  /** The cluster at DigitalOcean. */
  cluster?: { name: string; region: string; size: string; vpcCidr?: string };
  /** The cluster at AWS. */
  aws?: { name: string; region: string; vpcCidr?: string };
  /** The context of the existing cluster. */
  context?: string;
  /** Domain of the zone that the stack made. */
  zone?: string;
  /** Storage class of Elasticsearch's disks. */
  className?: string;
  /** Size of Elasticsearch's disks. */
  diskSize?: string;
  /** Elasticsearch's image. */
  elasticsearchImage?: string;
  protect?: boolean;
  deleteZone?: boolean;
  /** Whether it made anything at all: what it made first may be there although it ended before the cluster. */
  begun?: boolean;
  /** Images of the API with which a run ended well, the newest first. */
  images?: string[];
}

/** How many images can be gone back to. */
const FORMER = 5;

// biome-ignore lint/suspicious/noExplicitAny: outputs have as many shapes as there are resource types
type Outputs = Record<string, any>;

/** Reads the stack's own state, as the last run left it; that of a new stack is empty. */
export async function readPreviousRun(): Promise<PreviousRun> {
  const stackName = [pulumi.getOrganization(), pulumi.getProject(), pulumi.getStack()].join("/");
  const state = await pulumi.runtime.invoke("pulumi:pulumi:readStackResourceOutputs", { stackName });
  return fromState((await state.outputs) ?? {});
}

/** @param state outputs by URN */
export function fromState(state: Record<string, { outputs?: Outputs }>): PreviousRun {
  const outputsOf = (types: string): Outputs | undefined =>
    Object.entries(state).find(([urn]) => urn.split("::")[2]?.endsWith(types))?.[1].outputs;
  const cluster = outputsOf("digitalocean:index/kubernetesCluster:KubernetesCluster");
  const vpcCidr = outputsOf("hobnob:platform:DigitalOceanCluster$digitalocean:index/vpc:Vpc")?.ipRange;
  const eks = outputsOf("aws:eks/cluster:Cluster");
  const awsCidr = outputsOf("hobnob:platform:AwsCluster$aws:ec2/vpc:Vpc")?.cidrBlock;
  const elasticsearch = outputsOf("hobnob:platform:Elasticsearch$kubernetes:apps/v1:StatefulSet");
  const disk = outputsOf("hobnob:platform:Elasticsearch$kubernetes:core/v1:PersistentVolumeClaimPatch");
  const { protect, deleteZone, images, formerImages = [] } = outputsOf("hobnob:platform:Protection") ?? {};
  return {
    begun: Object.keys(state).some((urn) => !urn.includes("::pulumi:pulumi:Stack::")),
    cluster: cluster && { name: cluster.name, region: cluster.region, size: cluster.nodePool?.size, vpcCidr },
    aws: eks && { name: eks.name, region: eks.region, vpcCidr: awsCidr },
    context: outputsOf("hobnob:platform:ExistingCluster$pulumi:providers:kubernetes")?.clusterIdentifier,
    zone:
      outputsOf("hobnob:platform:Zone$digitalocean:index/domain:Domain")?.name ??
      outputsOf("hobnob:platform:Route53Zone$aws:route53/zone:Zone")?.name,
    className: elasticsearch?.spec?.volumeClaimTemplates?.[0]?.spec?.storageClassName,
    diskSize: disk?.spec?.resources?.requests?.storage,
    elasticsearchImage: elasticsearch?.spec?.template?.spec?.containers?.[0]?.image,
    protect,
    deleteZone,
    ...(images?.backend && { images: [images.backend, ...formerImages] }),
  };
}

/** Those before `image`, for the run after this one. */
export const formerImages = ({ images = [] }: PreviousRun, image: string): string[] =>
  images.filter((one) => one !== image).slice(0, FORMER);

/** What the configuration would have this run lose: the engine would find out half-way, or never. */
export function lossViolations(config: Config, previous: PreviousRun): Violation[] {
  return [
    ...clusterLoss(config, previous),
    ...zoneLoss(config, previous),
    ...disksLoss(config, previous),
    ...smallerDisks(config, previous),
    ...versionLoss(previous),
  ];
}

/** Another cluster beside the one that has its name is refused by the account, and one in its place begins empty. */
function clusterLoss({ cluster: wanted }: Config, { cluster: own, aws, context }: PreviousRun): Violation[] {
  const allowed = "with which the stack's cluster was made; another one after `pulumi destroy`, or in another stack";
  const kept = (path: Path, given: string, made: string | undefined) =>
    made === undefined || given === made ? [] : [keep(path, given, made, allowed)];
  const provider = (own && "digitalocean") ?? (aws && "aws") ?? (context !== undefined ? "existing" : undefined);
  if (provider !== undefined && provider !== wanted.provider)
    return kept(["cluster", "provider"], wanted.provider, provider);
  if (wanted.provider === "existing") return kept(["cluster", "context"], wanted.context, context);
  if (wanted.provider === "aws")
    return [
      ...kept(["cluster", "name"], wanted.name, aws?.name),
      ...kept(["cluster", "region"], wanted.region, aws?.region),
      ...kept(["cluster", "vpcCidr"], wanted.vpcCidr, aws?.vpcCidr),
    ];
  return [
    ...kept(["cluster", "name"], wanted.name, own?.name),
    ...kept(["cluster", "region"], wanted.region, own?.region),
    ...kept(["cluster", "vpcCidr"], wanted.vpcCidr, own?.vpcCidr),
    ...kept(["cluster", "systemPool", "size"], wanted.systemPool.size, own?.size),
  ];
}

/** The zone's deletion takes every record in it along, whoever made it. */
function zoneLoss(config: Config, previous: PreviousRun): Violation[] {
  const { zone } = previous;
  const { domain, dns } = config;
  if (zone === undefined || (dns.zone === "create" && domain === zone)) return [];
  const guard = guardOf(config, previous) ?? ((previous.deleteZone ?? dns.deleteZone) ? "dns.deleteZone" : undefined);
  if (guard === undefined) return [];
  const allowed = `whose zone this stack made; another one after a \`pulumi up\` that only sets ${guard} to false`;
  if (domain !== zone) return [keep(["domain"], domain, zone, allowed)];
  return [keep(["dns", "zone"], dns.zone, "create", allowed)];
}

/** Disks can't change their class: a set of another class replaces the one that has them, and stops every node. */
function disksLoss(config: Config, previous: PreviousRun): Violation[] {
  const guard = guardOf(config, previous);
  if (guard === undefined || previous.className === undefined) return [];
  const { className } = config.storage;
  if (className === previous.className) return [];
  const allowed = `the class of Elasticsearch's disks; another one after a \`pulumi up\` that only sets ${guard} to false`;
  return [keep(["storage", "className"], className, previous.className, allowed)];
}

/** The API server would refuse it too, for each claim, but only once what goes before has been changed. */
function smallerDisks({ elasticsearch }: Config, { diskSize: made }: PreviousRun): Violation[] {
  const { diskSize } = elasticsearch;
  if (made === undefined || Number(parseQuantity(diskSize)) >= Number(parseQuantity(made))) return [];
  return [keep(["elasticsearch", "diskSize"], diskSize, made, "or more, as the disks have that: no disk can shrink")];
}

/**
 * Elasticsearch does not start on disks of a newer version, nor of one that is more than a major version older.
 * https://www.elastic.co/docs/deploy-manage/upgrade/deployment-or-cluster
 */
export function versionLoss({ elasticsearchImage: made }: PreviousRun, wanted = ELASTICSEARCH_IMAGE): Violation[] {
  const [from, to] = [made, wanted].map((image) =>
    /:(\d+)\.(\d+)\.(\d+)/
      .exec(image ?? "")
      ?.slice(1)
      .map(Number),
  );
  if (!from || !to) return [];
  const [major = 0, minor = 0, patch = 0] = from;
  const [toMajor = 0, toMinor = 0, toPatch = 0] = to;
  const refuse = (allowed: string, command: string): Violation[] => [
    { key: "the Elasticsearch image in components/elasticsearch.ts", given: to.join("."), allowed, command },
  ];
  if ((toMajor - major || toMinor - minor || toPatch - patch) < 0)
    return refuse(
      `${from.join(".")}, which its disks have, or newer`,
      `npm run restore -- ${pulumi.getStack()}   # on a new cluster of the older version`,
    );
  const isLast = major !== 8 || minor >= 19;
  if (toMajor > major + 1 || (toMajor === major + 1 && !isLast))
    return refuse(
      `the last ${major}.x first, as its disks have ${from.join(".")}`,
      `pulumi up --stack ${pulumi.getStack()}   # with the last ${major}.x`,
    );
  return [];
}

/** What guards the data: switched off in this very run, it still does. */
const guardOf = ({ cluster }: Config, { protect }: PreviousRun): string | undefined =>
  protect || (cluster.provider !== "existing" && cluster.protect) ? "cluster.protect" : undefined;

const keep = (path: Path, given: string, made: string, why: string): Violation => ({
  key: keyName(path),
  given: show(given),
  allowed: `${made}, ${why}`,
  command: setCommand(path, made),
});
