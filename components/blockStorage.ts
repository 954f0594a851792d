import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { checkArgs } from "../config";

export interface BlockStorageArgs {
  /** Fixed name, since claims address it. Not `do-block-storage`: DOKS has one of that name, and a create would fail. */
  className: string;
  /** The cluster's provisioner of volumes. */
  provisioner: string;
  /** Filesystem of new volumes; only DigitalOcean's provisioner takes it. */
  fsType: "ext4" | "xfs";
  /** Whether claims that name no class get this one. @default false */
  isDefault?: boolean;
}

const DIGITALOCEAN = "dobs.csi.digitalocean.com";

/** A storage class whose volumes outlive their claims, can grow, and are made where their pod is scheduled. */
export class BlockStorage extends pulumi.ComponentResource {
  readonly storageClassName: pulumi.Output<string>;

  constructor(name: string, args: BlockStorageArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["storage"], args);
    super("hobnob:platform:BlockStorage", name, {}, opts);
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
        // The only parameter that DigitalOcean's driver knows; others refuse or ignore it.
        ...(args.provisioner === DIGITALOCEAN && { parameters: { "csi.storage.k8s.io/fstype": args.fsType } }),
      },
      { parent: this },
    );
    this.storageClassName = storageClass.metadata.name;
    this.registerOutputs();
  }
}
