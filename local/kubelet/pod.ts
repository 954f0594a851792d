import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type CoreV1Api,
  PatchStrategy,
  setHeaderOptions,
  type V1Container,
  type V1Pod,
  type V1PodCondition,
} from "@kubernetes/client-node";
import { statusOf } from "../account/controllers/watch";
import { Container, type Surroundings } from "./container";
import { environment, memoryLimit } from "./environment";
import { type Command, imageOf } from "./images";
import { loopback, namesDirectory } from "./names";
import { Volumes } from "./volumes";

const strategicPatch = setHeaderOptions("Content-Type", PatchStrategy.StrategicMergePatch);
/** As often as the kubelet brings ConfigMaps and Secrets in volumes up to date. */
const VOLUME_SECONDS = 60;

/** The last step of a pod's end: only the kubelet's word lets another one have its name. */
export async function removeFromCluster(core: CoreV1Api, { metadata }: V1Pod): Promise<void> {
  const { name = "", namespace = "", uid } = metadata ?? {};
  const body = { gracePeriodSeconds: 0, preconditions: { uid } };
  for (let gone = false; !gone; ) {
    try {
      await core.deleteNamespacedPod({ name, namespace, body });
      gone = true;
    } catch (error) {
      gone = [404, 409].includes(statusOf(error) ?? 0);
      if (!gone) await sleep(1000, undefined, { ref: false });
    }
  }
}

/** What a pod needs of the kubelet. */
export interface Host {
  core: CoreV1Api;
  /** Address of the pod's node. */
  nodeAddress(pod: V1Pod): string;
  event(pod: V1Pod, type: "Normal" | "Warning", reason: string, message: string): void;
}

/** One pod as processes of this machine, from its first volume to its removal from the API server. */
export class RealPod implements Surroundings {
  /** Resolves when none of its processes is left and its end is told. */
  readonly ended: Promise<void>;
  private readonly initContainers: Container[];
  private readonly containers: Container[];
  private readonly volumes: Volumes;
  private readonly conditions = new Map<string, V1PodCondition>();
  private readonly started = new Date();
  private readonly stopping = new AbortController();
  private initialized = false;
  private dirty = false;
  private writing: Promise<void> | undefined;

  /**
   * @param object with its address, of 10.0.0.0/8.
   * @param directory the pod's own: what earlier processes of the same pod left is in it.
   * @param resumed whether it ran under a kubelet before.
   */
  constructor(
    private readonly host: Host,
    private object: V1Pod,
    readonly directory: string,
    resumed: boolean,
  ) {
    const { spec, status } = object;
    const before = (kind: "initContainerStatuses" | "containerStatuses", name: string) =>
      resumed ? status?.[kind]?.find((known) => known.name === name) : undefined;
    this.initContainers = (spec?.initContainers ?? []).map(
      (each) => new Container(each, this, before("initContainerStatuses", each.name)),
    );
    this.containers = (spec?.containers ?? []).map(
      (each) => new Container(each, this, before("containerStatuses", each.name)),
    );
    for (const { type, ...rest } of status?.conditions ?? []) this.conditions.set(type, { type, ...rest });
    this.volumes = new Volumes(host.core, object, directory);
    this.ended = this.live();
  }

  get uid(): string {
    return this.object.metadata?.uid ?? "";
  }

  get name(): string {
    return this.object.metadata?.name ?? "";
  }

  get namespace(): string {
    return this.object.metadata?.namespace ?? "";
  }

  get address(): string {
    return loopback(this.object.status?.podIP ?? "");
  }

  get grace(): number {
    return this.object.spec?.terminationGracePeriodSeconds ?? 30;
  }

  get restartPolicy(): string {
    return this.object.spec?.restartPolicy ?? "Always";
  }

  /** A newer version of it from the API server. */
  update(object: V1Pod): void {
    // A status older than ours must not take the address away.
    this.object = { ...object, status: { ...object.status, podIP: this.object.status?.podIP } };
    if (this.dirty) this.changed();
    if (object.metadata?.deletionTimestamp) void this.terminate(object.metadata.deletionTimestamp);
  }

  /**
   * Ends its processes; the pod stays in the API server.
   *
   * @param seconds until they are killed; 0 kills at once.
   */
  async stop(seconds: number): Promise<void> {
    this.stopping.abort();
    const deadline = seconds && Date.now() + seconds * 1000;
    await Promise.all(this.all().map((each) => each.stop(deadline, { hook: false })));
    await this.ended;
  }

  /** Its processes, now that it is gone from the API server; and what it had on disk, but for its claims' volumes. */
  async remove(): Promise<void> {
    await this.stop(0);
    await rm(this.directory, { recursive: true, force: true });
  }

  async command(container: V1Container, directory: string): Promise<Command> {
    const { image: reference = "", command, args = [], workingDir } = container;
    const image = imageOf(reference);
    if (!image) throw new Error(`nothing stands for the image ${reference}`);
    const map = this.volumes.mapping(container, await image.files(reference));
    for (const each of this.all()) if (each.spec === container) each.mapped = map;
    const names = namesDirectory(this.namespace);
    const temporary = map("/tmp");
    const env = {
      ...(temporary !== "/tmp" && { TMPDIR: temporary }),
      CURL_HOME: names,
      ...(await environment(this.host.core, this.object, container, map)),
    };
    const mapped = args.map(map);
    if (command?.[0]) {
      const [file, ...rest] = command.map(map) as [string, ...string[]];
      return { file, args: [...rest, ...mapped], env, cwd: workingDir ? map(workingDir) : directory };
    }
    return image.entrypoint({
      reference,
      directory,
      address: this.address,
      hostsFile: join(names, "hosts"),
      env,
      args: mapped,
      memoryLimit: memoryLimit(container),
      map,
    });
  }

  changed(): void {
    this.dirty = true;
    this.writing ??= this.write();
  }

  event(type: "Normal" | "Warning", reason: string, message: string): void {
    this.host.event(this.object, type, reason, message);
  }

  private all = () => [...this.initContainers, ...this.containers];

  private async live(): Promise<void> {
    await Promise.resolve();
    // Its Secrets are in it.
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    this.changed();
    if (await this.mount()) {
      const renewal = setInterval(() => void this.volumes.write(this.object).catch(() => {}), VOLUME_SECONDS * 1000);
      if (await this.initialize()) await Promise.all(this.containers.map((each) => each.run()));
      clearInterval(renewal);
    }
    this.changed();
    await this.writing;
  }

  private async mount(): Promise<boolean> {
    while (!this.stopping.signal.aborted) {
      try {
        await this.volumes.write(this.object);
        return true;
      } catch (error) {
        this.event("Warning", "FailedMount", (error as Error).message);
        await sleep(1000, undefined, { signal: this.stopping.signal }).catch(() => {});
      }
    }
    return false;
  }

  /** The init containers in turn. @return whether the others may start. */
  private async initialize(): Promise<boolean> {
    for (const container of this.initContainers) {
      const done = (code: number) => code === 0 || this.restartPolicy === "Never";
      const code = await container.run(done);
      if (this.stopping.signal.aborted || code !== 0) return false;
    }
    this.initialized = true;
    this.changed();
    return !this.stopping.signal.aborted;
  }

  private terminating: Promise<void> | undefined;

  private terminate(deletionTime: Date): Promise<void> {
    this.terminating ??= this.endAndDelete(new Date(deletionTime).getTime());
    return this.terminating;
  }

  private async endAndDelete(deadline: number): Promise<void> {
    this.stopping.abort();
    this.event("Normal", "Killing", `Stopping container ${this.containers.map(({ spec }) => spec.name).join(", ")}`);
    await Promise.all(this.all().map((each) => each.stop(deadline)));
    await this.ended;
    await removeFromCluster(this.host.core, this.object);
  }

  /** The last status wins: what changes while one is written is written next. */
  private async write(): Promise<void> {
    const { name, namespace } = this;
    for (let failures = 0; this.dirty && failures < 5; ) {
      this.dirty = false;
      // With its uid: a pod that has come in its place has another.
      const body = { metadata: { uid: this.uid }, status: this.status() };
      try {
        await this.host.core.patchNamespacedPodStatus({ name, namespace, body }, strategicPatch);
        failures = 0;
      } catch (error) {
        if ([404, 409].includes(statusOf(error) ?? 0)) break;
        this.dirty = true;
        failures++;
        await sleep(500);
      }
    }
    // In one step with the loop's last look: a change in between would wait for the next one.
    this.writing = undefined;
  }

  private status() {
    const { podIP } = this.object.status ?? {};
    const hostIP = this.host.nodeAddress(this.object);
    const waiting = this.containers.filter((each) => !each.isReady).map(({ spec }) => spec.name);
    const phase = this.phase();
    const isOver = phase === "Succeeded";
    const unready = { reason: "ContainersNotReady", message: `containers with unready status: [${waiting.join(" ")}]` };
    const ready = waiting.length === 0 ? undefined : isOver ? { reason: "PodCompleted" } : unready;
    this.setCondition("Initialized", this.initialized ? undefined : { reason: "ContainersNotInitialized" });
    this.setCondition("ContainersReady", ready);
    this.setCondition("Ready", ready);
    return {
      phase,
      podIP,
      // A plain list would be merged with the addresses that were there before.
      podIPs: [{ $patch: "replace" }, { ip: podIP }],
      hostIP,
      hostIPs: [{ $patch: "replace" }, { ip: hostIP }],
      startTime: this.object.status?.startTime ?? this.started,
      conditions: ["Initialized", "ContainersReady", "Ready"].map((type) => this.conditions.get(type)),
      initContainerStatuses: this.initContainers.map((each) => each.status()),
      containerStatuses: this.containers.map((each) => each.status()),
    };
  }

  private phase(): string {
    if (!this.initialized) {
      const failed = this.restartPolicy === "Never" && this.initContainers.some(({ exitCode }) => exitCode);
      return failed ? "Failed" : "Pending";
    }
    const codes = this.containers.map(({ exitCode }) => exitCode);
    if (this.restartPolicy === "Always" || codes.some((code) => code === undefined)) return "Running";
    if (codes.every((code) => code === 0)) return "Succeeded";
    return this.restartPolicy === "Never" ? "Failed" : "Running";
  }

  /** @param problem why it is False. @default it is True */
  private setCondition(type: string, problem?: { reason: string; message?: string }): void {
    const status = problem ? "False" : "True";
    const known = this.conditions.get(type);
    const lastTransitionTime = known?.status === status ? known.lastTransitionTime : new Date();
    const { reason = null, message = null } = problem ?? {};
    this.conditions.set(type, { type, status, lastTransitionTime, reason, message } as V1PodCondition);
  }
}
