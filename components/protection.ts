import * as pulumi from "@pulumi/pulumi";

export interface ProtectionArgs {
  /** Whether the stack may not be destroyed. */
  protect: boolean;
  /** Whether destroying the stack deletes its zone; told to the next run, which must know what this one allowed. */
  deleteZone: boolean;
  /** The API's image, and those of earlier runs: here they stand only after a run in which everything became ready. */
  images: { backend: pulumi.Input<string> };
  formerImages: pulumi.Input<string[]>;
  /** All that must outlast a refused destroy. */
  everything: pulumi.Resource[];
}

/**
 * Refuses `pulumi destroy` as a whole. What is protected by itself is refused only when its turn comes, and by then all that
 * depends on it is deleted; this depends on everything, so its turn is the first.
 */
export class Protection extends pulumi.ComponentResource {
  constructor(name: string, { protect, deleteZone, images, formerImages, everything }: ProtectionArgs) {
    super("hobnob:platform:Protection", name, {}, { protect, dependsOn: everything });
    this.registerOutputs({ protect, deleteZone, images, formerImages });
  }
}
