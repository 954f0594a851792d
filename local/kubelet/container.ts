import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { V1Container, V1ContainerState, V1ContainerStatus, V1Probe } from "@kubernetes/client-node";
import { expand } from "./environment";
import type { Command } from "./images";
import { get, type ProbeKind, type Target, watchProbe } from "./probes";
import { execute, Process } from "./process";

/** The pod around a container. */
export interface Surroundings {
  /** Where its processes listen. */
  address: string;
  /** Seconds that a container has to end. */
  grace: number;
  restartPolicy: string;
  /** The pod's own directory. */
  directory: string;
  /** What the container's process is, by the pod's spec; throws where that can't be made now. */
  command(container: V1Container, directory: string): Promise<Command>;
  changed(): void;
  event(type: "Normal" | "Warning", reason: string, message: string): void;
}

/** Kubernetes' own: at once, then after 10 s, doubled to 5 min, and at once again after 10 min without a crash. */
const FIRST_PAUSE = 10;
const LONGEST_PAUSE = 300;
const CALM_MS = 600_000;

/** One container of a pod: a process that is started, probed, restarted and ended as the kubelet does. */
export class Container implements Target {
  restartCount = 0;
  private state: V1ContainerState = { waiting: { reason: "ContainerCreating" } };
  private lastState: V1ContainerState = {};
  private ready = false;
  private started = false;
  private process: Process | undefined;
  private commandOfRun: Command | undefined;
  private stopping = new AbortController();
  private probes = new AbortController();
  private pause = 0;

  constructor(
    readonly spec: V1Container,
    private readonly pod: Surroundings,
    before?: V1ContainerStatus,
  ) {
    if (!before) return;
    // After the kubelet's own restart: whatever ran has ended unseen.
    const ran = before.state?.running !== undefined || before.state?.terminated !== undefined;
    this.restartCount = before.restartCount + (ran ? 1 : 0);
    const { startedAt } = before.state?.running ?? {};
    this.lastState = startedAt
      ? { terminated: { exitCode: 255, reason: "Unknown", startedAt, finishedAt: new Date() } }
      : { terminated: before.state?.terminated };
  }

  get address(): string {
    return this.pod.address;
  }

  get directory(): string {
    return join(this.pod.directory, this.spec.name);
  }

  get isReady(): boolean {
    return this.ready;
  }

  get exitCode(): number | undefined {
    return this.state.terminated?.exitCode;
  }

  status(): V1ContainerStatus {
    const { name, image = "" } = this.spec;
    return {
      name,
      image,
      imageID: image,
      ready: this.ready,
      started: this.started,
      restartCount: this.restartCount,
      state: this.state,
      lastState: this.lastState,
      ...(this.process && { containerID: `process://${this.process.pid}` }),
    };
  }

  /** Runs it, again where the pod's policy says so. @return its last exit code, once it will not run again. */
  async run(isDone = (code: number) => !this.restarts(code)): Promise<number> {
    for (;;) {
      const began = Date.now();
      const code = await this.runOnce();
      if (this.stopping.signal.aborted || isDone(code)) return code;
      if (Date.now() - began > CALM_MS) this.pause = 0;
      await this.backOff();
      if (this.stopping.signal.aborted) return code;
      this.restartCount++;
    }
  }

  /**
   * Ends it for good: its preStop hook, SIGTERM, and SIGKILL at the deadline.
   *
   * @param deadline time in milliseconds.
   */
  async stop(deadline: number, { hook = true } = {}): Promise<void> {
    this.stopping.abort();
    await this.end(deadline, hook);
  }

  async exec(command: string[], seconds: number): Promise<{ code?: number; output: string }> {
    const [file, ...args] = command.map((word) => this.mapped(word));
    if (!this.commandOfRun || !file) return { code: 126, output: "the container does not run" };
    return execute({ ...this.commandOfRun, file, args }, seconds);
  }

  /** Set by the pod, which knows the volumes. */
  mapped: (path: string) => string = (path) => path;

  private restarts(code: number): boolean {
    return this.pod.restartPolicy === "Always" || (this.pod.restartPolicy === "OnFailure" && code !== 0);
  }

  private async runOnce(): Promise<number> {
    mkdirSync(this.directory, { recursive: true });
    const command = await this.awaitCommand();
    if (!command) return 137;
    this.commandOfRun = command;
    const running = new Process(command, this.directory, this.restartCount);
    this.process = running;
    const startedAt = new Date();
    this.state = { running: { startedAt } };
    this.startProbes();
    this.pod.changed();
    this.pod.event("Normal", "Started", `Started container ${this.spec.name}`);
    const exitCode = await running.exited;
    this.probes.abort();
    this.ready = false;
    this.started = false;
    this.process = undefined;
    const reason = exitCode === 0 ? "Completed" : "Error";
    this.state = { terminated: { exitCode, reason, startedAt, finishedAt: new Date() } };
    this.pod.changed();
    return exitCode;
  }

  /** What it needs may come later, such as a Secret. */
  private async awaitCommand(): Promise<Command | undefined> {
    while (!this.stopping.signal.aborted) {
      try {
        const command = await this.pod.command(this.spec, this.directory);
        if (this.stopping.signal.aborted) break;
        return { ...command, args: command.args.map((arg) => expand(arg, command.env)) };
      } catch (error) {
        const { message } = error as Error;
        this.state = { waiting: { reason: "CreateContainerConfigError", message } };
        this.pod.changed();
        this.pod.event("Warning", "Failed", `Error: ${message}`);
        await this.pauseFor(2);
      }
    }
    return undefined;
  }

  private async backOff(): Promise<void> {
    const seconds = this.pause;
    this.pause = seconds === 0 ? FIRST_PAUSE : Math.min(seconds * 2, LONGEST_PAUSE);
    this.lastState = this.state;
    if (seconds === 0) return;
    const message = `back-off ${seconds}s restarting failed container=${this.spec.name}`;
    this.state = { waiting: { reason: "CrashLoopBackOff", message } };
    this.pod.changed();
    this.pod.event("Warning", "BackOff", `Back-off restarting failed container ${this.spec.name}`);
    await this.pauseFor(seconds);
  }

  private pauseFor = (seconds: number) =>
    sleep(seconds * 1000, undefined, { signal: this.stopping.signal }).catch(() => {});

  private startProbes(): void {
    this.probes = new AbortController();
    const { startupProbe, readinessProbe, livenessProbe } = this.spec;
    const rest = () => {
      this.started = true;
      if (readinessProbe) this.watch("Readiness", readinessProbe, (ok) => this.setReady(ok));
      else this.setReady(true);
      if (livenessProbe) this.watch("Liveness", livenessProbe, (ok) => ok || this.restart("liveness", livenessProbe));
    };
    if (!startupProbe) {
      rest();
      return;
    }
    const own = new AbortController();
    this.probes.signal.addEventListener("abort", () => own.abort());
    this.watch(
      "Startup",
      startupProbe,
      (ok) => {
        own.abort();
        if (ok) rest();
        else this.restart("startup", startupProbe);
      },
      own.signal,
    );
  }

  private watch(kind: ProbeKind, probe: V1Probe, verdict: (ok: boolean) => unknown, signal = this.probes.signal): void {
    const failed = (message: string) => this.pod.event("Warning", "Unhealthy", `${kind} probe failed: ${message}`);
    void watchProbe(probe, this, signal, verdict, failed);
  }

  private setReady(ready: boolean): void {
    if (this.ready === ready) return;
    this.ready = ready;
    this.pod.changed();
  }

  private restart(probe: string, { terminationGracePeriodSeconds }: V1Probe): void {
    this.probes.abort();
    const grace = terminationGracePeriodSeconds ?? this.pod.grace;
    this.pod.event("Normal", "Killing", `Container ${this.spec.name} failed ${probe} probe, will be restarted`);
    void this.end(Date.now() + grace * 1000, true);
  }

  private async end(deadline: number, hook: boolean): Promise<void> {
    const running = this.process;
    if (!running) return;
    const until = (time: number) =>
      Promise.race([running.exited, sleep(Math.max(0, time - Date.now()), undefined, { ref: false })]);
    const { preStop } = this.spec.lifecycle ?? {};
    if (hook && preStop && deadline > Date.now()) await Promise.race([this.runHook(deadline), until(deadline)]);
    running.signal("SIGTERM");
    // However long the hook took, a process has two seconds; none where it was asked to go at once.
    if (deadline > 0) await until(Math.max(deadline, Date.now() + 2000));
    running.signalGroup("SIGKILL");
    await running.exited;
  }

  private async runHook(deadline: number): Promise<void> {
    const { sleep: pause, exec, httpGet } = this.spec.lifecycle?.preStop ?? {};
    const left = Math.max(0, deadline - Date.now()) / 1000;
    if (pause) await sleep(Math.min(pause.seconds, left) * 1000);
    if (httpGet) await get(httpGet, this, left);
    if (!exec) return;
    const { code, output } = await this.exec(exec.command ?? [], left);
    if (code !== 0) this.pod.event("Warning", "FailedPreStopHook", `PreStopHook failed: ${output.trim()}`);
  }
}
