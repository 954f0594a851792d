import type { Informer, KubeObject, Listener } from "./client";

/** Each change of an Endpoints object starts it anew. Source: pulumi-kubernetes, provider/pkg/await/service.go and ingress.go. */
export const SETTLE_SECONDS = 10;
/** An Ingress whose namespace shows no Endpoints at all is taken as settled after this. Source: await/ingress.go. */
const NO_ENDPOINTS_GRACE_SECONDS = 60;

export interface Clock {
  /** Calls back once; the result takes it back. */
  after(seconds: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  after(seconds, callback) {
    const timer = setTimeout(callback, Math.min(seconds * 1000, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  },
};

/** Where objects are seen: the client, or a test. */
interface Cluster {
  informer(
    apiVersion: string,
    kind: string,
    namespace: string,
  ): Promise<Pick<Informer, "listen"> & { objects: ReadonlyMap<string, KubeObject> }>;
  readonly signal: AbortSignal;
}

/** What an object's readiness is judged by. */
interface Scene {
  live: KubeObject;
  all(kind: string): KubeObject[];
  /** No Endpoints of concern have changed for a while. */
  settled: boolean;
}

interface Progress {
  done: boolean;
  /** It will never become ready: don't wait for the timeout. */
  failed?: boolean;
  status?: string;
  errors: string[];
}

interface Awaiter {
  /** Other kinds that are watched, `apiVersion/kind`. */
  related: string[];
  /** @default 600 */
  timeout?: number;
  /** Which Endpoints start the settling anew. */
  settlesOn?: (endpoints: KubeObject, object: KubeObject) => boolean;
  check(scene: Scene): Progress;
}

/** The object exists, but did not become ready; `live` is its last known state. */
export class AwaitError extends Error {
  constructor(
    message: string,
    readonly reasons: string[],
    readonly live: KubeObject,
  ) {
    super(message);
  }
}

// biome-ignore lint/suspicious/noExplicitAny: live objects are as deep and as loose as the API
type Loose = any;
interface Condition {
  type: string;
  status: string;
  reason?: string;
  message?: string;
}

const conditions = (object: KubeObject): Condition[] => (object.status as Loose)?.conditions ?? [];
const condition = (object: KubeObject, type: string) => conditions(object).find((entry) => entry.type === type);
const spec = (object: KubeObject): Loose => object.spec ?? {};
const status = (object: KubeObject): Loose => object.status ?? {};
const ownedBy = (object: KubeObject, owner: KubeObject): boolean =>
  object.metadata.ownerReferences?.some(({ uid }) => uid === owner.metadata.uid) ?? false;
const observed = (object: KubeObject): boolean => status(object).observedGeneration === object.metadata.generation;

// Pods: what keeps one from being ready, in the official checker's wording (pkg/await/checker/pod)

const podName = ({ metadata }: KubeObject) =>
  metadata.namespace && metadata.namespace !== "default" ? `${metadata.namespace}/${metadata.name}` : metadata.name;

function containerErrors({ name, ready, state, lastState }: Loose): string[] {
  if (ready) return [];
  const { waiting, terminated } = state ?? {};
  const last = lastState?.terminated;
  const trim = (message = "") =>
    message
      .replace(/^rpc error: code = Unknown desc = Error response from daemon: /, "")
      .replace(/: manifest unknown$/, "");
  return [
    waiting && waiting.reason !== "ContainerCreating" && `[${waiting.reason}] ${trim(waiting.message)}`,
    terminated?.reason &&
      (terminated.message
        ? `[${terminated.reason}] ${trim(terminated.message)}`
        : `container "${name}" completed with exit code ${terminated.exitCode}`),
    last && `container "${name}" terminated at ${last.finishedAt} (${last.reason}: exit code ${last.exitCode})`,
    last?.message,
  ].filter(Boolean);
}

/** Empty where the pod is ready, or on its way without trouble. */
function podErrors(pod: KubeObject): string[] {
  if (status(pod).phase === "Succeeded") return [];
  const scheduled = condition(pod, "PodScheduled");
  if (scheduled?.status === "False") return scheduled.message ? [`[Pod ${podName(pod)}]: ${scheduled.message}`] : [];
  for (const type of ["Initialized", "Ready"]) {
    const entry = condition(pod, type);
    if (!entry || entry.status === "True") continue;
    const containers = [...(status(pod).initContainerStatuses ?? []), ...(status(pod).containerStatuses ?? [])];
    const errors = containers.flatMap(containerErrors);
    const message = entry.reason && entry.message ? entry.message : "";
    return errors.length > 0 || message
      ? [`[Pod ${podName(pod)}]: ${[message, ...errors].filter(Boolean).join("\n")}`]
      : [];
  }
  return [];
}

const podReady = (pod: KubeObject): boolean =>
  status(pod).phase === "Succeeded" ||
  ["PodScheduled", "Initialized", "Ready"].every((type) => condition(pod, type)?.status === "True");

// Kinds

const REVISION = "deployment.kubernetes.io/revision";

const deployment: Awaiter = {
  related: ["apps/v1/ReplicaSet", "v1/Pod", "v1/PersistentVolumeClaim"],
  check({ live, all }) {
    const revision = live.metadata.annotations?.[REVISION];
    const replicaSet = all("ReplicaSet").find(
      (entry) => ownedBy(entry, live) && entry.metadata.annotations?.[REVISION] === revision,
    );
    const [available, progressing] = [condition(live, "Available"), condition(live, "Progressing")];
    const isAvailable = observed(live) && available?.status === "True";
    const isRolledOut =
      revision === "1" || (progressing?.status === "True" && progressing.reason === "NewReplicaSetAvailable");
    const wanted = replicaSet ? (spec(replicaSet).replicas ?? 1) : 0;
    const ready = replicaSet ? (status(replicaSet).readyReplicas ?? 0) : 0;
    const isReady = replicaSet !== undefined && ready >= wanted;
    const claims = new Set(
      (spec(live).template?.spec?.volumes ?? []).map((v: Loose) => v.persistentVolumeClaim?.claimName),
    );
    const unbound = all("PersistentVolumeClaim").filter(
      (claim) => claims.has(claim.metadata.name) && status(claim).phase !== "Bound",
    );
    const errors = [
      ...[progressing, available]
        .filter((entry) => entry && entry.status !== "True" && entry.reason && entry.message)
        .map((entry) => `[${entry?.reason}] ${entry?.message}`),
      ...(unbound.length > 0
        ? [`Failed to bind PersistentVolumeClaim(s): "${unbound.map(({ metadata }) => metadata.name).join(",")}"`]
        : []),
      ...(!isAvailable
        ? ["Minimum number of live Pods was not attained"]
        : !isRolledOut || (revision === "1" && !isReady)
          ? ["Minimum number of Pods to consider the application live was not attained"]
          : !isReady
            ? ["Attempted to roll forward to new ReplicaSet, but minimum number of Pods did not become live"]
            : []),
      ...all("Pod")
        .filter((pod) => replicaSet && ownedBy(pod, replicaSet))
        .flatMap(podErrors),
    ];
    const done = isAvailable && isRolledOut && isReady && unbound.length === 0;
    return { done, errors, status: `Waiting for app ReplicaSet to be available (${ready}/${wanted} Pods available)` };
  },
};

const statefulSet: Awaiter = {
  related: ["v1/Pod"],
  check({ live, all }) {
    const replicas = spec(live).replicas ?? 1;
    const { currentRevision = "", updateRevision = "", ...counts } = status(live);
    const { readyReplicas = 0, updatedReplicas = 0, currentReplicas = 0 } = counts;
    const onDelete = (live.metadata.generation ?? 0) > 1 && spec(live).updateStrategy?.type === "OnDelete";
    const isCurrent = observed(live) && (onDelete || (currentRevision !== "" && currentRevision === updateRevision));
    const isReady =
      replicas === (counts.replicas ?? 0) && replicas === readyReplicas && (onDelete || replicas === currentReplicas);
    const ready = isCurrent ? readyReplicas : Math.min(readyReplicas, updatedReplicas);
    const errors = [
      ...(isReady ? [] : [`${ready} out of ${replicas} replicas succeeded readiness checks`]),
      ...(isCurrent
        ? []
        : [
            `StatefulSet controller failed to advance from revision "${currentRevision}" to revision "${updateRevision}"`,
          ]),
      ...all("Pod")
        .filter((pod) => ownedBy(pod, live))
        .flatMap(podErrors),
    ];
    const first = (live.metadata.generation ?? 0) <= 1;
    const stage = first
      ? "[1/2] Waiting for StatefulSet to create Pods"
      : "[1/3] Waiting for StatefulSet update to roll out";
    return { done: isReady && isCurrent, errors, status: `${stage} (${ready}/${replicas} Pods ready)` };
  },
};

const daemonSet: Awaiter = {
  related: ["v1/Pod"],
  check({ live, all }) {
    const {
      desiredNumberScheduled: desired = -1,
      updatedNumberScheduled = 0,
      numberAvailable = 0,
      numberReady = 0,
    } = status(live);
    const updated = spec(live).updateStrategy?.type === "OnDelete" || updatedNumberScheduled >= desired;
    const done = observed(live) && desired >= 0 && updated && numberAvailable >= desired && numberReady >= desired;
    const errors = [
      `Available: ${numberAvailable}/${Math.max(desired, 0)}`,
      ...all("Pod")
        .filter((pod) => ownedBy(pod, live))
        .flatMap(podErrors),
    ];
    return { done, errors, status: `Available: ${numberAvailable}/${Math.max(desired, 0)}` };
  },
};

const job: Awaiter = {
  related: ["v1/Pod"],
  check({ live, all }) {
    const failed = conditions(live).find(({ type, status }) => type === "Failed" && status === "True");
    const errors = [
      ...(failed ? [`[${failed.reason}] ${failed.message}`] : []),
      ...all("Pod")
        .filter((pod) => ownedBy(pod, live))
        .flatMap(podErrors),
    ];
    const done = status(live).startTime !== undefined && condition(live, "Complete")?.status === "True";
    return { done, failed: failed !== undefined, errors, status: `Waiting for Job "${live.metadata.name}" to succeed` };
  },
};

const pod: Awaiter = {
  related: [],
  check: ({ live }) => ({
    done: podReady(live),
    errors: podErrors(live),
    status: `Waiting for Pod "${podName(live)}" to be ready`,
  }),
};

const persistentVolumeClaim: Awaiter = {
  related: ["storage.k8s.io/v1/StorageClass"],
  timeout: 300,
  check({ live, all }) {
    const name = spec(live).storageClassName;
    const storageClass = all("StorageClass").find(({ metadata }) =>
      name === undefined
        ? metadata.annotations?.["storageclass.kubernetes.io/is-default-class"] === "true"
        : metadata.name === name,
    );
    const waits = storageClass?.volumeBindingMode === "WaitForFirstConsumer";
    const { phase } = status(live);
    const done = phase === "Bound" || (waits && phase === "Pending");
    return { done, errors: [`PersistentVolumeClaim is not bound; status.phase currently at: ${phase}`] };
  },
};

const persistentVolume: Awaiter = {
  related: [],
  timeout: 300,
  check: ({ live }) => ({
    done: ["Available", "Bound"].includes(status(live).phase),
    errors: [`PersistentVolume is not available; status.phase currently at: ${status(live).phase}`],
  }),
};

const addresses = (endpoints: KubeObject | undefined, field: "addresses" | "notReadyAddresses"): unknown[] =>
  ((endpoints?.subsets ?? []) as Loose[]).flatMap((subset) => subset[field] ?? []);

const service: Awaiter = {
  related: ["v1/Endpoints"],
  settlesOn: (endpoints, object) => endpoints.metadata.name === object.metadata.name,
  check({ live, all, settled }) {
    const { type = "ClusterIP", clusterIP, selector } = spec(live);
    const selects = selector !== undefined && Object.keys(selector).length > 0;
    const targetsPods = type !== "ExternalName" && clusterIP !== "None" && selects;
    const endpoints = all("Endpoints").find(({ metadata }) => metadata.name === live.metadata.name);
    const isTargeting =
      addresses(endpoints, "addresses").length > 0 && addresses(endpoints, "notReadyAddresses").length === 0;
    const hasAddress = type !== "LoadBalancer" || (status(live).loadBalancer?.ingress ?? []).length > 0;
    const isReady = !targetsPods || isTargeting;
    return {
      done: hasAddress && isReady && (!targetsPods || settled),
      status: isReady
        ? "[2/3] Attempting to allocate IP address to Service"
        : "[1/3] Finding Pods to direct traffic to",
      errors: [
        ...(isReady
          ? []
          : [
              "Service does not target any Pods. Selected Pods may not be ready, or field '.spec.selector' may not match labels on any Pods",
            ]),
        ...(hasAddress ? [] : ["Service was not allocated an IP address; does your cloud provider support this?"]),
      ],
    };
  },
};

const ingress: Awaiter = {
  related: ["v1/Endpoints", "v1/Service"],
  settlesOn: () => true,
  check({ live, all, settled }) {
    const known = new Set(all("Endpoints").map(({ metadata }) => metadata.name));
    const external = all("Service").filter((entry) => spec(entry).type === "ExternalName");
    for (const { metadata } of external) known.add(metadata.name);
    const paths = ((spec(live).rules ?? []) as Loose[]).flatMap((rule) => rule.http?.paths ?? []);
    const isServed =
      settled || paths.every(({ backend }) => !backend?.service?.name || known.has(backend.service.name));
    const hasAddress = (status(live).loadBalancer?.ingress ?? []).length > 0;
    return {
      done: isServed && hasAddress,
      status: isServed
        ? "[2/3] Waiting for update of .status.loadBalancer with hostname/IP"
        : "[1/3] Finding a matching service for each Ingress path",
      errors: [
        ...(isServed ? [] : ["Ingress has at least one rule with an unavailable target endpoint."]),
        ...(hasAddress
          ? []
          : [
              "Ingress .status.loadBalancer field was not updated with a hostname/IP address. \n    for more information about this error, see https://pulumi.io/xdv72s",
            ]),
      ],
    };
  },
};

const AWAITERS: Record<string, Awaiter> = {
  "apps/v1/Deployment": deployment,
  "apps/v1/StatefulSet": statefulSet,
  "apps/v1/DaemonSet": daemonSet,
  "batch/v1/Job": job,
  "v1/Pod": pod,
  "v1/PersistentVolumeClaim": persistentVolumeClaim,
  "v1/PersistentVolume": persistentVolume,
  "v1/Service": service,
  "networking.k8s.io/v1/Ingress": ingress,
};

/** Kinds whose deletion `pulumi.com/skipAwait` does not wait for. Source: metadata/overrides.go. */
const SKIPS_DELETION = new Set(
  "v1/Namespace v1/Pod v1/ReplicationController apps/v1/DaemonSet apps/v1/Deployment apps/v1/StatefulSet batch/v1/Job".split(
    " ",
  ),
);

const WAIT_FOR = "pulumi.com/waitFor";

/**
 * What an object waits for in place of its kind's own readiness. Source: metadata/overrides.go, jsonpath/jsonpath.go.
 * @throws where it says more than the path of one field
 */
export function waitedField({ metadata }: KubeObject): string | undefined {
  const wanted = metadata.annotations?.[WAIT_FOR];
  const [, path] = /^jsonpath=\{((?:\.\w+(?:\[\d+\])?)+)\}$/.exec(wanted ?? "") ?? [];
  if (wanted && path === undefined)
    throw new Error(
      `${WAIT_FOR}: ${wanted} needs the official kubernetes plugin: the simulated provider waits for a field only, such as jsonpath={.status.phase}`,
    );
  return path;
}

const fieldAwaiter = (path: string): Awaiter => ({
  related: [],
  check({ live }) {
    const found = path.match(/\w+/g)?.reduce<Loose>((value, part) => value?.[part], live);
    return { done: found != null, status: `Waiting for {${path}}`, errors: [`{${path}} selected nothing`] };
  },
});

const gvk = ({ apiVersion, kind }: KubeObject) => `${apiVersion}/${kind}`;

const isSkipped = (inputs: KubeObject): boolean => inputs.metadata.annotations?.["pulumi.com/skipAwait"] === "true";

/** Seconds: `customTimeouts`, else the annotation `pulumi.com/timeoutSeconds`, else the kind's own. */
function timeoutSeconds(custom: number, inputs: KubeObject, ownDefault: number): number {
  const annotated = Number.parseInt(inputs.metadata.annotations?.["pulumi.com/timeoutSeconds"] ?? "", 10);
  return custom || annotated || ownDefault;
}

export interface AwaitOptions {
  cluster: Cluster;
  clock: Clock;
  /** What the program asked for: its annotations decide. */
  inputs: KubeObject;
  /** Seconds of `customTimeouts`; 0 for none. */
  timeout: number;
  report(status: string): void;
}

/** `apiVersion/kind` → [apiVersion, kind] */
function splitKind(related: string): [string, string] {
  const cut = related.lastIndexOf("/");
  return [related.slice(0, cut), related.slice(cut + 1)];
}

/** The object's own kind and the related ones, watched. @throws {AwaitError} where the API server does not let us */
async function observe(object: KubeObject, related: string[], { cluster }: AwaitOptions, listener: Listener) {
  const namespace = object.metadata.namespace ?? "";
  const informers = new Map<string, ReadonlyMap<string, KubeObject>>();
  const watching = [gvk(object), ...related].map(async (entry) => {
    const [apiVersion, kind] = splitKind(entry);
    const informer = await cluster.informer(apiVersion, kind, namespace);
    informers.set(kind, informer.objects);
    return informer.listen(listener);
  });
  const ends = await Promise.all(watching).catch((error: Error) => {
    throw new AwaitError(`cannot watch '${object.metadata.name}': ${error.message}`, [], object);
  });
  return {
    all: (kind: string) => [...(informers.get(kind)?.values() ?? [])],
    own: () => informers.get(object.kind)?.get(object.metadata.name),
    end: () => {
      for (const end of ends) end();
    },
  };
}

/** Looks again whenever something has changed, until the time is up or the run is cancelled. */
class Wait {
  readonly #clock: Clock;
  readonly #ends: (() => void)[] = [];
  #over = "";
  #wake = () => {};

  /** @param late the message when the time is up */
  constructor({ cluster, clock }: AwaitOptions, name: string, seconds: number, late: string) {
    this.#clock = clock;
    const finish = (reason: string) => {
      this.#over = reason;
    };
    const cancel = () => {
      finish(`Resource operation was cancelled for "${name}"`);
      this.look();
    };
    if (cluster.signal.aborted) cancel();
    cluster.signal.addEventListener("abort", cancel);
    this.#ends.push(() => cluster.signal.removeEventListener("abort", cancel));
    this.after(seconds, () => finish(late));
  }

  after(seconds: number, callback: () => void): void {
    const look = () => {
      callback();
      this.look();
    };
    this.#ends.push(this.#clock.after(seconds, look));
  }

  look(): void {
    this.#wake();
  }

  /** What `check` finds; else it throws what `fail` makes of the reason. */
  async until<T>(check: () => T | undefined, fail: (reason: string) => Error): Promise<T> {
    for (;;) {
      const change = new Promise<void>((fulfil) => {
        this.#wake = fulfil;
      });
      const found = check();
      if (found !== undefined) return found;
      if (this.#over) throw fail(this.#over);
      await change;
    }
  }

  end(): void {
    for (const end of this.#ends) end();
  }
}

/**
 * Waits as the official provider does until an object that was created or updated is ready.
 * @returns its last state
 * @throws {AwaitError} when it fails, the time is up or the run is cancelled
 */
export async function awaitReady(object: KubeObject, options: AwaitOptions): Promise<KubeObject> {
  const field = waitedField(options.inputs);
  const awaiter = field ? fieldAwaiter(field) : AWAITERS[gvk(object)];
  if (!awaiter || isSkipped(options.inputs)) return object;
  const { name } = object.metadata;
  const limit = timeoutSeconds(options.timeout, options.inputs, awaiter.timeout ?? 600);
  const wait = new Wait(options, name, limit, `'${name}' timed out waiting to be Ready`);
  let settled = false;
  const settleLater = (endpoints: KubeObject) => {
    if (!awaiter.settlesOn?.(endpoints, object)) return;
    settled = false;
    wait.after(SETTLE_SECONDS, () => {
      settled = true;
    });
  };
  let end = () => {};
  try {
    const view = await observe(object, awaiter.related, options, (_, changed) => {
      if (changed.kind === "Endpoints") settleLater(changed);
      wait.look();
    });
    end = view.end;
    const known = awaiter.settlesOn ? view.all("Endpoints") : [];
    known.forEach(settleLater);
    if (object.kind === "Ingress" && known.length === 0) {
      wait.after(NO_ENDPOINTS_GRACE_SECONDS, () => {
        settled ||= view.all("Endpoints").length === 0;
      });
    }
    let live = object;
    let errors: string[] = [];
    const check = () => {
      const seen = view.own();
      if (!seen || !isCurrent(seen, object)) return undefined;
      live = seen;
      const progress = awaiter.check({ live, all: view.all, settled });
      errors = progress.errors;
      if (progress.failed)
        throw new AwaitError(`Resource '${name}' was created but failed to initialize`, errors, live);
      options.report(progress.done ? "" : (progress.status ?? ""));
      return progress.done ? live : undefined;
    };
    return await wait.until(check, (reason) => new AwaitError(reason, errors, live));
  } finally {
    wait.end();
    end();
  }
}

/** Whether a watch has caught up with what a write answered. */
const isCurrent = (seen: KubeObject, written: KubeObject): boolean =>
  seen.metadata.uid === written.metadata.uid &&
  Number(seen.metadata.resourceVersion) >= Number(written.metadata.resourceVersion);

/** Judges a live object once, for a refresh. @throws {AwaitError} where it is not ready */
export async function checkReady(live: KubeObject, options: AwaitOptions): Promise<void> {
  const awaiter = AWAITERS[gvk(live)];
  if (!awaiter || awaiter.timeout !== undefined || isSkipped(options.inputs)) return; // claims and volumes: on creation only
  const view = await observe(live, awaiter.related, options, () => {});
  try {
    const { done, errors } = awaiter.check({ live, all: view.all, settled: true });
    if (!done)
      throw new AwaitError(`Resource '${live.metadata.name}' was created but failed to initialize`, errors, live);
  } finally {
    view.end();
  }
}

const DELETION_SECONDS: Record<string, number> = {
  "apps/v1/Deployment": 600,
  "apps/v1/StatefulSet": 600,
  "apps/v1/DaemonSet": 600,
};

/**
 * Waits until a deleted object is gone, or another one has taken its name.
 * @param object as the API server answered the deletion
 */
export async function awaitGone(object: KubeObject, options: AwaitOptions): Promise<void> {
  if (isSkipped(options.inputs) && SKIPS_DELETION.has(gvk(object))) return;
  const { name, uid } = object.metadata;
  const limit = timeoutSeconds(options.timeout, options.inputs, DELETION_SECONDS[gvk(object)] ?? 300);
  const wait = new Wait(options, name, limit, `Timed out waiting for deletion of ${gvk(object)} "${name}"`);
  let end = () => {};
  try {
    const view = await observe(object, [], options, () => wait.look());
    end = view.end;
    const isGone = () => (view.own()?.metadata.uid === uid ? undefined : true);
    await wait.until(isGone, (reason) => new AwaitError(reason, blockers(view.own()), object));
  } finally {
    wait.end();
    end();
  }
}

const blockers = (object: KubeObject | undefined): string[] => {
  const finalizers = (object?.metadata.finalizers ?? []) as string[];
  return finalizers.length > 0 ? [`it still has the finalizers ${finalizers.join(", ")}`] : [];
};
