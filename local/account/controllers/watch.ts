import { createHash } from "node:crypto";
import {
  ApiException,
  ApiextensionsV1Api,
  CoreV1Api,
  CustomObjectsApi,
  type KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  makeInformer,
  NetworkingV1Api,
  PatchStrategy,
  StorageV1Api,
  setHeaderOptions,
} from "@kubernetes/client-node";

/** Given to a patch call's last argument: the body is a JSON merge patch. */
export const mergePatch = setHeaderOptions("Content-Type", PatchStrategy.MergePatch);

/** A local copy of one kind's objects, kept current by a watch. */
export interface Store<T> {
  get(name: string, namespace?: string): T | undefined;
  list(namespace?: string): ReadonlyArray<T>;
}

/** Work by key, one at a time: a key asked for twice runs once, a failed one runs again with growing pauses. */
export interface Queue {
  /** @param seconds pause before it runs. @default 0 */
  add(key: string, seconds?: number): void;
}

const longestPauseSeconds = 30;

/** The API server as a controller needs it: typed clients, stores, queues and events, all ended by `stop`. */
export class Cluster {
  readonly core: CoreV1Api;
  readonly storage: StorageV1Api;
  readonly networking: NetworkingV1Api;
  readonly definitions: ApiextensionsV1Api;
  readonly customObjects: CustomObjectsApi;
  private readonly ends: Array<() => void | Promise<void>> = [];
  private readonly eventCounts = new Map<string, number>();
  private stopped = false;

  /** @param report takes what a controller could not do, once for each reason. */
  constructor(
    private readonly config: KubeConfig,
    private readonly report: (line: string) => void,
  ) {
    this.core = config.makeApiClient(CoreV1Api);
    this.storage = config.makeApiClient(StorageV1Api);
    this.networking = config.makeApiClient(NetworkingV1Api);
    this.definitions = config.makeApiClient(ApiextensionsV1Api);
    this.customObjects = config.makeApiClient(CustomObjectsApi);
  }

  /** @param changed called for each object at the start, and then for each that is added, changed or deleted. */
  store<T extends KubernetesObject>(
    path: string,
    list: () => Promise<KubernetesListObject<T>>,
    changed: (object: T) => void,
  ): Store<T> {
    const informer = makeInformer(this.config, path, list);
    informer.on("change", (object) => {
      if (!this.stopped) changed(object);
    });
    informer.on("error", () => this.later(1, () => void informer.start()));
    this.ends.push(() => informer.stop());
    void informer.start();
    return informer;
  }

  /** @param reconcile brings one object to its wanted state. It returns the seconds after which to look again, if at all. */
  queue(name: string, reconcile: (key: string) => Promise<number | undefined>): Queue {
    const due = new Map<string, number>();
    const failures = new Map<string, { count: number; message: string }>();
    let working: Promise<void> | undefined;

    const add = (key: string, seconds = 0) => {
      const at = Date.now() + seconds * 1000;
      due.set(key, Math.min(at, due.get(key) ?? at));
      schedule();
    };
    // Again after each round: a timer may fire a moment before the key is due.
    const schedule = () => {
      if (due.size === 0) return;
      const seconds = (Math.min(...due.values()) - Date.now()) / 1000;
      this.later(Math.max(0, seconds), () => {
        working ??= work().finally(() => {
          working = undefined;
          schedule();
        });
      });
    };
    const work = async () => {
      for (let key = next(due); key !== undefined && !this.stopped; key = next(due)) {
        due.delete(key);
        try {
          const again = await reconcile(key);
          failures.delete(key);
          if (again !== undefined) add(key, again);
        } catch (error) {
          if (this.stopped) break;
          const message = messageOf(error);
          const { count, message: said } = failures.get(key) ?? { count: 0, message: "" };
          failures.set(key, { count: count + 1, message });
          add(key, Math.min((isTransient(error) ? 0.2 : 1) * 2 ** count, longestPauseSeconds));
          if (message !== said && !isTransient(error)) this.report(`${name} ${key}: ${message}`);
        }
      }
    };
    this.ends.push(() => working);
    return { add };
  }

  /** Tells the object's owner what happened, as `kubectl describe` shows it; the same again only raises its count. */
  async event(
    object: KubernetesObject,
    component: string,
    type: "Normal" | "Warning",
    reason: string,
    message: string,
  ) {
    const { name = "", namespace = "default", uid } = object.metadata ?? {};
    const hash = createHash("sha256").update(`${uid} ${reason} ${message}`).digest("hex").slice(0, 16);
    const eventName = `${name}.${hash}`;
    const now = new Date();
    const count = (this.eventCounts.get(eventName) ?? 0) + 1;
    this.eventCounts.set(eventName, count);
    const { apiVersion, kind } = object;
    const body = {
      metadata: { name: eventName, namespace },
      involvedObject: { apiVersion, kind, name, namespace: object.metadata?.namespace, uid },
      type,
      reason,
      message,
      source: { component },
      count,
      firstTimestamp: now,
      lastTimestamp: now,
    };
    try {
      if (count === 1 && (await unless(409, this.core.createNamespacedEvent({ namespace, body })))) return;
      const again = { count, lastTimestamp: now };
      await this.core.patchNamespacedEvent({ name: eventName, namespace, body: again }, mergePatch);
    } catch (error) {
      // A namespace that is going takes no events, but its balancers and disks must go all the same.
      if (statusOf(error) === undefined) throw error;
    }
  }

  /** Ends the watches, and returns when what is being worked at is done. */
  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.ends.map((end) => end()));
  }

  private later(seconds: number, act: () => void): void {
    if (this.stopped) return;
    const timer = setTimeout(() => {
      if (!this.stopped) act();
    }, seconds * 1000);
    timer.unref();
  }
}

export const keyOf = (object: KubernetesObject): string =>
  `${object.metadata?.namespace ?? ""}/${object.metadata?.name ?? ""}`;

export const splitKey = (key: string): { namespace: string; name: string } => {
  const slash = key.indexOf("/");
  return { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
};

/** HTTP status of an API server's refusal; undefined for any other error. */
export const statusOf = (error: unknown): number | undefined =>
  error instanceof ApiException ? error.code : undefined;

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** For a call whose wanted state may be there already. */
export async function unless<T>(status: number, call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (statusOf(error) === status) return undefined;
    throw error;
  }
}

function next(due: Map<string, number>): string | undefined {
  const now = Date.now();
  for (const [key, at] of due) if (at <= now) return key;
  return undefined;
}

/** A write on an older copy: the watch brings the newer one, and the next try holds it. */
const isTransient = (error: unknown): boolean => [404, 409].includes(statusOf(error) ?? 0);
