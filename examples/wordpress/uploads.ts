import * as digitalocean from "@pulumi/digitalocean";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { Settings } from "./settings";

interface UploadsArgs extends Pick<Settings, "share" | "newShare" | "uploadsDisk" | "protect"> {
  namespace: pulumi.Input<string>;
  /** Of block volumes. */
  storageClassName: pulumi.Input<string>;
}

/** What all pods write uploads to: an NFS export for many machines, or without one a block volume, which one machine has. */
export class Uploads extends pulumi.ComponentResource {
  readonly claimName: pulumi.Output<string>;

  constructor(name: string, args: UploadsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("wordpress:index:Uploads", name, {}, opts);
    const { namespace, protect, uploadsDisk: storage } = args;
    const guarded = { parent: this, protect };
    const server = args.newShare ? this.createShare(name, args.newShare, protect) : args.share;
    const volume =
      server &&
      new k8s.core.v1.PersistentVolume(
        name,
        {
          spec: {
            capacity: { storage },
            accessModes: ["ReadWriteMany"],
            persistentVolumeReclaimPolicy: "Retain",
            storageClassName: "",
            nfs: server,
          },
        },
        guarded,
      );
    const claim = new k8s.core.v1.PersistentVolumeClaim(
      name,
      {
        // A block volume is bound when the first pod is placed.
        metadata: { name, namespace, annotations: { "pulumi.com/skipAwait": "true" } },
        spec: {
          ...(volume
            ? { accessModes: ["ReadWriteMany"], storageClassName: "", volumeName: volume.metadata.name }
            : { accessModes: ["ReadWriteOnce"], storageClassName: args.storageClassName }),
          resources: { requests: { storage } },
        },
      },
      guarded,
    );
    this.claimName = claim.metadata.name;
    this.registerOutputs();
  }

  /** Kept when the stack, or another setting, is without it: the uploads are in it. https://docs.digitalocean.com/products/nfs/ */
  private createShare(name: string, { region, vpcId, gibibytes }: NonNullable<Settings["newShare"]>, protect: boolean) {
    const share = new digitalocean.Nfs(
      name,
      {
        name: `wordpress-${pulumi.getStack()}`.toLowerCase(),
        region,
        vpcId,
        size: gibibytes,
        performanceTier: "standard",
      },
      { parent: this, protect, retainOnDelete: true },
    );
    return { server: share.host, path: share.mountPath };
  }
}
