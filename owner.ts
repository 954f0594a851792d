import { createHash } from "node:crypto";
import type * as pulumi from "@pulumi/pulumi";

/** How the objects of one stack are told from all others, in each form that an API has room for. */
export interface Owner {
  /** Value of {@link OWNER_LABEL} on a Kubernetes object: at most 63 of `[A-Za-z0-9._-]`. */
  label: string;
  /** Tag on a DigitalOcean cluster and its node pools: `[A-Za-z0-9:_-]`. */
  tag: string;
  /** Description of a VPC, which takes no tag. */
  description: string;
}

export const OWNER_LABEL = "hobnob/owner";
export const OWNER_TAG = "hobnob-owner:";
export const OWNER_DESCRIPTION = "Made by Pulumi; owner: ";

/** Stack names that differ only in what a label or a tag cannot hold are told apart by a hash. */
export function ownerOf(organization: string, project: string, stack: string): Owner {
  const full = `${organization}/${project}/${stack}`;
  const hash = createHash("sha256").update(full).digest("hex").slice(0, 8);
  const joined = (separator: string, length: number) => {
    const plain = full.replace(/[^A-Za-z0-9/_-]/g, "-").replaceAll("/", separator);
    const exact = /^[A-Za-z0-9][A-Za-z0-9/-]*[A-Za-z0-9]$/.test(full) && plain.length <= length;
    return exact ? plain : `${plain.slice(0, length - 10).replace(/^[^A-Za-z0-9]+/, "")}-x${hash}`;
  };
  return {
    label: joined(".", 63),
    tag: `${OWNER_TAG}${joined(":", 200)}`,
    description: `${OWNER_DESCRIPTION}${full}`,
  };
}

type Fields = Record<string, unknown>;

/**
 * Marks what a component and its children make, in metadata alone: nothing is rolled or replaced by it. Components do not
 * know of it, as they do not know their stack.
 */
export function ownedBy({ label, tag, description }: Owner): pulumi.ResourceTransformation {
  return ({ type, props, opts }) => {
    // A patch is of an object that another made.
    if (/^kubernetes:[^:]+\/v[^:]+:/.test(type) && !type.endsWith("Patch"))
      return { props: { ...props, metadata: withLabel(props.metadata, label) }, opts };
    switch (type) {
      case "digitalocean:index/vpc:Vpc":
        return { props: { ...props, description }, opts };
      case "digitalocean:index/kubernetesCluster:KubernetesCluster":
        return { props: { ...withTag(props, tag), nodePool: withTag(props.nodePool, tag) }, opts };
      case "digitalocean:index/kubernetesNodePool:KubernetesNodePool":
        return { props: withTag(props, tag), opts };
      // The one place from which all that it makes is tagged; the SDK hands a provider's settings over as JSON.
      case "pulumi:providers:aws":
        return { props: { ...props, defaultTags: JSON.stringify({ tags: { [OWNER_LABEL]: label } }) }, opts };
      default:
        return undefined;
    }
  };
}

// Only what is plain can be added to without hiding what a preview knows of it: the components write it so.
const plain = (value: unknown, what: string): Fields => {
  if (value instanceof Promise || (value as { __pulumiOutput?: boolean } | undefined)?.__pulumiOutput)
    throw new Error(`${what} must be a plain object, so that its owner can be added`);
  return (value ?? {}) as Fields;
};

function withLabel(metadata: unknown, label: string): Fields {
  const fields = plain(metadata, "metadata");
  return { ...fields, labels: { ...plain(fields.labels, "metadata.labels"), [OWNER_LABEL]: label } };
}

const withTag = (fields: Fields, tag: string): Fields => ({
  ...fields,
  tags: [...((fields.tags as string[]) ?? []), tag],
});
