import assert from "node:assert/strict";
import { BlockStorage, type BlockStorageArgs } from "../../components/blockStorage";
import { capture, find, unwrap } from "./graph";

const args: BlockStorageArgs = {
  className: "hobnob-block-storage",
  provisioner: "dobs.csi.digitalocean.com",
  fsType: "ext4",
};
const STORAGE_CLASS = "kubernetes:storage.k8s.io/v1:StorageClass";

async function storageClass(changes: Partial<BlockStorageArgs> = {}) {
  const graph = await capture(() => new BlockStorage("storage", { ...args, ...changes }));
  assert.equal(graph.length, 2);
  return find(graph, STORAGE_CLASS, "storage").inputs;
}

describe("block storage", () => {
  it("must keep its volumes, let them grow, and make them where their pod is", async () => {
    assert.deepEqual(await storageClass(), {
      apiVersion: "storage.k8s.io/v1",
      kind: "StorageClass",
      metadata: {
        name: "hobnob-block-storage",
        annotations: { "storageclass.kubernetes.io/is-default-class": "false" },
      },
      provisioner: "dobs.csi.digitalocean.com",
      reclaimPolicy: "Retain",
      allowVolumeExpansion: true,
      volumeBindingMode: "WaitForFirstConsumer",
      parameters: { "csi.storage.k8s.io/fstype": "ext4" },
    });
  });

  it("must make volumes with the configured filesystem", async () => {
    assert.deepEqual((await storageClass({ fsType: "xfs" })).parameters, { "csi.storage.k8s.io/fstype": "xfs" });
  });

  it("must not give DigitalOcean's parameter to another provisioner", async () => {
    const { provisioner, parameters } = await storageClass({ provisioner: "k8s.io/minikube-hostpath" });
    assert.deepEqual([provisioner, parameters], ["k8s.io/minikube-hostpath", undefined]);
  });

  it("must be the default class only when asked to", async () => {
    const { metadata } = await storageClass({ isDefault: true });
    assert.deepEqual(metadata.annotations, { "storageclass.kubernetes.io/is-default-class": "true" });
  });

  it("must give the class's name to those who claim from it", async () => {
    let storage: BlockStorage | undefined;
    await capture(() => {
      storage = new BlockStorage("storage", args);
    });
    assert.ok(storage);
    assert.equal((await unwrap(storage.storageClassName)).value, "hobnob-block-storage");
  });
});
