import type { Deployment, StateResource } from "./state";

/** Which images of the API a stack has had; each by digest. */
export interface Release {
  /** With which an update last ended well. */
  good?: string;
  /** Those before it, the newest first. */
  former: string[];
  /** What the Deployment was last asked to run. */
  wanted?: string;
  /** Whether it was given ready, as by a promotion, and not built by the stack itself. */
  isGiven: boolean;
}

/** @param resources of the exported state */
export function releaseOf(resources: StateResource[] = []): Release {
  const isType = (type: string) => (one: StateResource) => one.urn.split("::")[2]?.endsWith(type) && !one.delete;
  const kept = resources.find(isType("hobnob:platform:Protection"))?.outputs ?? {};
  const { images = {}, formerImages = [] } = kept as { images?: { backend?: string }; formerImages?: string[] };
  const deployment = resources.find(isType("hobnob:platform:Api$kubernetes:apps/v1:Deployment"));
  const spec = deployment?.inputs?.spec as { template?: { spec?: { containers?: { image?: string }[] } } } | undefined;
  return {
    good: images.backend,
    former: formerImages,
    wanted: spec?.template?.spec?.containers?.[0]?.image,
    isGiven: !resources.some(isType("hobnob:platform:Image$docker:index/image:Image")),
  };
}

/** @param exported what `pulumi stack export` prints */
export const releaseIn = (exported: string): Release =>
  releaseOf((JSON.parse(exported) as { deployment?: Deployment }).deployment?.resources);

/**
 * The image to go back to: after a rollout that failed, what serves still; else the one before.
 * @throws one line where none is known
 */
export function rollbackTarget({ good, former, wanted }: Release, stack: string): string {
  if (good !== undefined && wanted !== undefined && wanted !== good) return good;
  const [before] = former;
  if (before !== undefined) return before;
  throw new Error(
    `No earlier image of the stack ${stack} is known${good ? ` than ${good}` : ""}. With its digest: npm run promote -- ${stack} <repository@sha256:…>`,
  );
}

/** What helps after an update that failed; nothing where it did not fail at the API's rollout. */
export function adviceAfterFailure({ good, wanted }: Release, stack: string): string | undefined {
  if (good === undefined || wanted === undefined || wanted === good) return undefined;
  return `The rollout of ${wanted} did not end well; the pods of ${good} serve on.
Back to it: npm run rollback -- ${stack}`;
}
