import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { checkArgs } from "../config";

export interface BlockStorageArgs {
  /** Fixed name, since claims address it. Not `do-block-storage`: DOKS has one of that name, and a create would fail. */
  className: string;
  /** The cluster's provisioner of volumes. */
  provisioner: string;
  /** Filesystem of new volumes; only the clouds' provisioners take it. */
  fsType: "ext4" | "xfs";
  /** Whether claims that name no class get this one. @default false */
  isDefault?: boolean;
}

/**
 * What the clouds' drivers are told beside the filesystem; others refuse or ignore parameters.
 * https://docs.aws.amazon.com/eks/latest/userguide/create-storage-class.html
 */
const PARAMETERS: Record<string, Record<string, string>> = {
  "dobs.csi.digitalocean.com": {},
  "ebs.csi.eks.amazonaws.com": { type: "gp3", encrypted: "true" },
};

/** A storage class whose volumes outlive their claims, can grow, and are made where their pod is scheduled. */
export class BlockStorage extends pulumi.ComponentResource {
  readonly storageClassName: pulumi.Output<string>;

  constructor(name: string, args: BlockStorageArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["storage"], args);
    super("hobnob:platform:BlockStorage", name, {}, opts);
    const parameters = PARAMETERS[args.provisioner];
    const storageClass = new k8s.storage.v1.StorageClass(
      name,
      {
        metadata: {
          name: args.className,
          annotations: { "storageclass.kubernetes.io/is-default-class": String(args.isDefault ?? false) },
        },
        provisioner: args.provisioner,
        reclaimPolicy: "Retain",
        allowVolumeExpansion: true,
        volumeBindingMode: "WaitForFirstConsumer",
        ...(parameters && { parameters: { ...parameters, "csi.storage.k8s.io/fstype": args.fsType } }),
      },
      { parent: this },
    );
    this.storageClassName = storageClass.metadata.name;
    this.registerOutputs();
  }
}
