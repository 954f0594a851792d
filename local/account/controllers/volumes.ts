import type {
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1StorageClass,
  V1VolumeAttachment,
} from "@kubernetes/client-node";
import type { AccountForControllers, ControllerSettings, Volume } from "./index";
import { type Cluster, keyOf, mergePatch, messageOf, splitKey, unless } from "./watch";

export const driver = "dobs.csi.digitalocean.com";
const provisionerFinalizer = "external-provisioner.volume.kubernetes.io/finalizer";
const attacherFinalizer = "external-attacher/dobs-csi-digitalocean-com";
const parameterPrefix = "csi.storage.k8s.io/";
const component = `${driver}_local`;
const gibibyte = 2 ** 30;

/** DigitalOcean's CSI driver with its provisioner, resizer and attacher, and the part of the kubelet that grows a filesystem. */
export function startVolumes(
  cluster: Cluster,
  account: AccountForControllers,
  settings: () => ControllerSettings,
): void {
  const startedAt = new Map<string, number>();

  const claimQueue = cluster.queue("persistentvolumeclaim", async (key) => {
    const { namespace, name } = splitKey(key);
    const claim = claims.get(name, namespace);
    if (!claim || claim.metadata?.deletionTimestamp) return undefined;
    return claim.spec?.volumeName ? resize(claim) : provision(claim);
  });
  const volumeQueue = cluster.queue("persistentvolume", async (key) => {
    const volume = volumes.get(splitKey(key).name);
    return volume && release(volume);
  });
  const attachmentQueue = cluster.queue("volumeattachment", async (key) => {
    const attachment = attachments.get(splitKey(key).name);
    return attachment && (attachment.metadata?.deletionTimestamp ? detach(attachment) : attach(attachment));
  });

  const classes = cluster.store(
    "/apis/storage.k8s.io/v1/storageclasses",
    () => cluster.storage.listStorageClass(),
    () => {
      for (const claim of claims.list()) claimQueue.add(keyOf(claim));
    },
  );
  const claims = cluster.store(
    "/api/v1/persistentvolumeclaims",
    () => cluster.core.listPersistentVolumeClaimForAllNamespaces(),
    (claim) => claimQueue.add(keyOf(claim)),
  );
  const volumes = cluster.store(
    "/api/v1/persistentvolumes",
    () => cluster.core.listPersistentVolume(),
    (volume) => volumeQueue.add(keyOf(volume)),
  );
  const attachments = cluster.store(
    "/apis/storage.k8s.io/v1/volumeattachments",
    () => cluster.storage.listVolumeAttachment(),
    (attachment) => attachmentQueue.add(keyOf(attachment)),
  );
  const notify = (claim: V1PersistentVolumeClaim, type: "Normal" | "Warning", reason: string, message: string) =>
    cluster.event(
      { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata: claim.metadata },
      component,
      type,
      reason,
      message,
    );

  /** Kubernetes asks for the provisioner by an annotation: at once, or once the first consumer's node is chosen. */
  async function provision(claim: V1PersistentVolumeClaim): Promise<number | undefined> {
    const storageClass = classes.get(claim.spec?.storageClassName ?? "");
    const asked = claim.metadata?.annotations?.["volume.kubernetes.io/storage-provisioner"] === driver;
    if (!asked || storageClass?.provisioner !== driver) return undefined;
    const { namespace = "", name = "", uid = "" } = claim.metadata ?? {};
    const pause = secondsLeft(uid, settings().volumeSeconds);
    if (pause > 0) {
      const message = `External provisioner is provisioning volume for claim "${namespace}/${name}"`;
      await notify(claim, "Normal", "Provisioning", message);
      return pause;
    }
    try {
      const fsType = fileSystem(storageClass);
      const sizeGigabytes = checkClaim(claim, storageClass, settings().region);
      const volume = await account.createVolume({
        name: `pvc-${uid}`,
        size_gigabytes: sizeGigabytes,
        region: settings().region,
        tags: [`k8s:${settings().clusterId}`],
      });
      await unless(
        409,
        cluster.core.createPersistentVolume({ body: persistentVolume(claim, storageClass, volume, fsType) }),
      );
    } catch (error) {
      const message = `failed to provision volume with StorageClass "${storageClass.metadata?.name}": ${messageOf(error)}`;
      await notify(claim, "Warning", "ProvisioningFailed", message);
      throw new Error(message);
    }
    startedAt.delete(uid);
    await notify(claim, "Normal", "ProvisioningSucceeded", `Successfully provisioned volume pvc-${uid}`);
    return undefined;
  }

  /** The disk grows at once; the claim shows it once a running pod's node has grown the filesystem. */
  async function resize(claim: V1PersistentVolumeClaim): Promise<number | undefined> {
    const volume = volumes.get(claim.spec?.volumeName ?? "");
    const id = volume?.spec?.csi?.driver === driver ? volume.spec.csi.volumeHandle : undefined;
    const wanted = claim.spec?.resources?.requests?.storage;
    if (!id || !wanted || claim.status?.phase !== "Bound") return undefined;
    if (bytesOf(wanted) <= bytesOf(claim.status.capacity?.storage ?? wanted)) return undefined;

    if (bytesOf(volume?.spec?.capacity?.storage ?? "0") < bytesOf(wanted)) {
      try {
        await account.resizeVolume(id, checkSize(wanted));
      } catch (error) {
        await notify(claim, "Warning", "VolumeResizeFailed", `resize volume "${id}" failed: ${messageOf(error)}`);
        throw error;
      }
      const body = { spec: { capacity: { storage: wanted } } };
      await cluster.core.patchPersistentVolume({ name: volume?.metadata?.name ?? "", body }, mergePatch);
    }
    const { namespace = "", name = "" } = claim.metadata ?? {};
    if (!(await isMounted(namespace, name))) {
      const type = "FileSystemResizePending";
      const message = "Waiting for user to (re-)start a pod to finish file system resize of volume on node.";
      if (claim.status.conditions?.some((condition) => condition.type === type)) return 2;
      const conditions = [{ type, status: "True", message, lastTransitionTime: new Date() }];
      await setClaimStatus(claim, { conditions });
      await notify(claim, "Normal", "FileSystemResizeRequired", "Require file system resize of volume on node");
      return 2;
    }
    await setClaimStatus(claim, { capacity: { storage: wanted }, conditions: [] });
    await notify(claim, "Normal", "FileSystemResizeSuccessful", "MountVolume.NodeExpandVolume succeeded for volume");
    return undefined;
  }

  const setClaimStatus = (claim: V1PersistentVolumeClaim, status: object) =>
    cluster.core.patchNamespacedPersistentVolumeClaimStatus(
      { name: claim.metadata?.name ?? "", namespace: claim.metadata?.namespace ?? "", body: { status } },
      mergePatch,
    );

  async function isMounted(namespace: string, claimName: string): Promise<boolean> {
    const pods = await cluster.core.listNamespacedPod({ namespace, fieldSelector: "status.phase=Running" });
    return pods.items.some((pod) =>
      pod.spec?.volumes?.some((volume) => volume.persistentVolumeClaim?.claimName === claimName),
    );
  }

  /** A class of policy Delete gives its disk back with the claim; Retain leaves the volume, `Released`, and its disk. */
  async function release(volume: V1PersistentVolume): Promise<undefined> {
    const { name = "", finalizers = [], deletionTimestamp } = volume.metadata ?? {};
    const { csi, persistentVolumeReclaimPolicy: policy } = volume.spec ?? {};
    if (csi?.driver !== driver || policy !== "Delete") return undefined;
    const isReleased = volume.status?.phase === "Released";
    if (isReleased && !deletionTimestamp) {
      await unless(404, cluster.core.deletePersistentVolume({ name }));
      return undefined;
    }
    if (!deletionTimestamp || !finalizers.includes(provisionerFinalizer) || !isReleased) return undefined;
    try {
      await account.deleteVolume(csi.volumeHandle);
    } catch (error) {
      const reference = { apiVersion: "v1", kind: "PersistentVolume", metadata: volume.metadata };
      const message = `rpc error: code = Internal desc = ${messageOf(error)}`;
      await cluster.event(reference, component, "Warning", "VolumeFailedDelete", message);
      throw error;
    }
    const others = finalizers.filter((entry) => entry !== provisionerFinalizer);
    const body = { metadata: { finalizers: others, resourceVersion: volume.metadata?.resourceVersion } };
    await unless(404, cluster.core.patchPersistentVolume({ name, body }, mergePatch));
    return undefined;
  }

  async function attach(attachment: V1VolumeAttachment): Promise<number | undefined> {
    if (attachment.spec.attacher !== driver || attachment.status?.attached) return undefined;
    const { name = "", uid = "", finalizers = [] } = attachment.metadata ?? {};
    if (!finalizers.includes(attacherFinalizer)) {
      const body = { metadata: { finalizers: [...finalizers, attacherFinalizer] } };
      await cluster.storage.patchVolumeAttachment({ name, body }, mergePatch);
    }
    const pause = secondsLeft(uid, settings().attachSeconds);
    if (pause > 0) return pause;
    const id = diskOf(attachment);
    if (!id) throw new Error(`persistent volume ${attachment.spec.source.persistentVolumeName} is unknown`);
    try {
      await account.attachVolume(id, await dropletOf(attachment));
    } catch (error) {
      const attachError = { time: new Date(), message: messageOf(error) };
      const body = { status: { attached: false, attachError } };
      await cluster.storage.patchVolumeAttachmentStatus({ name, body }, mergePatch);
      throw error;
    }
    startedAt.delete(uid);
    const body = { status: { attached: true, attachError: null } };
    await cluster.storage.patchVolumeAttachmentStatus({ name, body }, mergePatch);
    return undefined;
  }

  async function detach(attachment: V1VolumeAttachment): Promise<undefined> {
    const { name = "", finalizers = [] } = attachment.metadata ?? {};
    if (attachment.spec.attacher !== driver || !finalizers.includes(attacherFinalizer)) return undefined;
    const id = diskOf(attachment);
    // A droplet that is gone has let go of its volumes, and a disk that is gone of its droplet.
    const droplet = await unless(404, dropletOf(attachment));
    if (id && droplet !== undefined && (await account.volumeById(id))) await account.detachVolume(id, droplet);
    const body = { metadata: { finalizers: finalizers.filter((entry) => entry !== attacherFinalizer) } };
    await unless(404, cluster.storage.patchVolumeAttachment({ name, body }, mergePatch));
    return undefined;
  }

  const diskOf = (attachment: V1VolumeAttachment): string | undefined =>
    volumes.get(attachment.spec.source.persistentVolumeName ?? "")?.spec?.csi?.volumeHandle;

  async function dropletOf(attachment: V1VolumeAttachment): Promise<number> {
    const node = await cluster.core.readNode({ name: attachment.spec.nodeName });
    return Number(node.spec?.providerID?.replace("digitalocean://", ""));
  }

  /** What is left of a wait that began when the object was first seen. */
  function secondsLeft(uid: string, seconds: number): number {
    const start = startedAt.get(uid) ?? Date.now();
    startedAt.set(uid, start);
    return seconds - (Date.now() - start) / 1000;
  }
}

/** Secrets that the provisioner strips from a class's parameters before it calls a driver. */
const secretParameters = [
  "provisioner",
  "controller-publish",
  "node-stage",
  "node-publish",
  "controller-expand",
  "node-expand",
]
  .flatMap((what) => [`${what}-secret-name`, `${what}-secret-namespace`])
  .map((name) => parameterPrefix + name);

/**
 * The filesystem that a class asks for. A key with the reserved prefix is refused in external-provisioner's own words
 * (pkg/controller/controller.go). Any other key the real driver ignores, and a filesystem it can't make only fails when
 * a node mounts the disk; here both are refused at once.
 */
function fileSystem({ parameters = {} }: V1StorageClass): string {
  const fsTypeKeys = ["fstype", `${parameterPrefix}fstype`];
  for (const key of Object.keys(parameters)) {
    if (fsTypeKeys.includes(key) || secretParameters.includes(key)) continue;
    throw new Error(
      key.startsWith(parameterPrefix)
        ? `failed to strip CSI Parameters of prefixed keys: found unknown parameter key "${key}" with reserved namespace ${parameterPrefix}`
        : `rpc error: code = InvalidArgument desc = unknown parameter "${key}": ${driver} takes ${parameterPrefix}fstype only`,
    );
  }
  const values = fsTypeKeys.flatMap((key) => parameters[key] ?? []);
  if (values.length > 1) {
    throw new Error(`fstype specified in parameters with both "fstype" and "${parameterPrefix}fstype" keys`);
  }
  const fsType = values[0] || "ext4";
  if (["ext4", "ext3", "xfs"].includes(fsType)) return fsType;
  throw new Error(
    `rpc error: code = InvalidArgument desc = unsupported filesystem "${fsType}": mkfs.${fsType} not found in $PATH`,
  );
}

/** The driver's own checks, csi-digitalocean, driver/controller.go. */
function checkClaim(claim: V1PersistentVolumeClaim, storageClass: V1StorageClass, region: string): number {
  if (claim.spec?.dataSource) throw new Error("a volume from a snapshot or another claim is not simulated");
  const modes: Record<string, string> = {
    ReadOnlyMany: "MULTI_NODE_READER_ONLY",
    ReadWriteMany: "MULTI_NODE_MULTI_WRITER",
  };
  const violations = (claim.spec?.accessModes ?? []).flatMap((mode) => modes[mode] ?? []);
  if (violations.length > 0) {
    const list = violations.map((mode) => `unsupported access mode ${mode}`).join("; ");
    throw new Error(`rpc error: code = InvalidArgument desc = volume capabilities cannot be satisified: ${list}`);
  }
  for (const { key, values } of storageClass.allowedTopologies?.flatMap((term) => term.matchLabelExpressions ?? []) ??
    []) {
    if (key !== "region") throw new Error(`no topology key found on CSINode for "${key}"`);
    const other = values.find((value) => value !== region);
    if (other === undefined) continue;
    throw new Error(
      `rpc error: code = ResourceExhausted desc = volume can be only created in region: "${region}", got: "${other}"`,
    );
  }
  return checkSize(claim.spec?.resources?.requests?.storage ?? "16Gi");
}

function checkSize(quantity: string): number {
  const bytes = bytesOf(quantity);
  const refuse = (what: string) => {
    throw new Error(
      `rpc error: code = OutOfRange desc = invalid capacity range: required (${formatBytes(bytes)}) ${what}`,
    );
  };
  if (bytes < gibibyte) refuse("can not be less than minimum supported volume size (1Gi)");
  if (bytes > 16 * 1024 * gibibyte) refuse("can not exceed maximum supported volume size (16Ti)");
  return Math.floor(bytes / gibibyte);
}

function persistentVolume(
  claim: V1PersistentVolumeClaim,
  storageClass: V1StorageClass,
  volume: Volume,
  fsType: string,
): V1PersistentVolume {
  const policy = storageClass.reclaimPolicy ?? "Delete";
  const { namespace, name, uid, resourceVersion } = claim.metadata ?? {};
  return {
    metadata: {
      name: volume.name,
      annotations: { "pv.kubernetes.io/provisioned-by": driver },
      finalizers: policy === "Delete" ? [provisionerFinalizer] : [],
    },
    spec: {
      capacity: { storage: `${volume.size_gigabytes}Gi` },
      accessModes: claim.spec?.accessModes,
      volumeMode: claim.spec?.volumeMode,
      persistentVolumeReclaimPolicy: policy,
      storageClassName: storageClass.metadata?.name,
      mountOptions: storageClass.mountOptions,
      claimRef: { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, name, uid, resourceVersion },
      csi: {
        driver,
        volumeHandle: volume.id,
        fsType: claim.spec?.volumeMode === "Block" ? undefined : fsType,
        volumeAttributes: { "storage.kubernetes.io/csiProvisionerIdentity": component },
      },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: "region", operator: "In", values: [volume.region] }] }],
        },
      },
    },
  };
}

/** The classes that a DOKS cluster is born with (csi-digitalocean's driver.yaml): a class of the same name collides. */
export async function createBuiltInStorageClasses(cluster: Cluster): Promise<undefined> {
  const variants = [
    { name: "do-block-storage", reclaimPolicy: "Delete", isDefault: true },
    { name: "do-block-storage-retain", reclaimPolicy: "Retain" },
    { name: "do-block-storage-xfs", reclaimPolicy: "Delete", fsType: "xfs" },
    { name: "do-block-storage-xfs-retain", reclaimPolicy: "Retain", fsType: "xfs" },
  ];
  for (const { name, reclaimPolicy, isDefault, fsType } of variants) {
    const annotations = isDefault ? { "storageclass.kubernetes.io/is-default-class": "true" } : undefined;
    const body = {
      metadata: { name, annotations },
      provisioner: driver,
      parameters: fsType ? { fstype: fsType } : undefined,
      reclaimPolicy,
      allowVolumeExpansion: true,
      volumeBindingMode: "Immediate",
    };
    await unless(409, cluster.storage.createStorageClass({ body }));
  }
  const body = {
    metadata: { name: driver },
    spec: { attachRequired: true, podInfoOnMount: true },
  };
  await unless(409, cluster.storage.createCSIDriver({ body }));
  return undefined;
}

const units: Record<string, number> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** Bytes of a Kubernetes quantity, as the API server has let it through. */
function bytesOf(quantity: string): number {
  const [, value = "0", unit = ""] = /^([\d.]+)([A-Za-z]*)$/.exec(quantity) ?? [];
  return Number(value) * (units[unit] ?? 1);
}

function formatBytes(bytes: number): string {
  const unit = ["Ti", "Gi", "Mi", "Ki"].find((name) => bytes >= (units[name] ?? 1)) ?? "";
  return `${(bytes / (units[unit] ?? 1)).toFixed(1).replace(/\.0$/, "")}${unit}`;
}
