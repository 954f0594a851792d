import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import {
  createPod,
  createPolicy,
  type PodArgs,
  podContradictions,
  podLabels,
  podShape,
  type Refusal,
  refusals,
  refuse,
  rule,
  type Surroundings,
  whole,
} from "./pod";

/** A contradiction, or a value that cannot be, is an error that names all of them, what was given and what is allowed. */
export interface TaskArgs extends PodArgs {
  /** When it runs, as five cron fields: a CronJob, of which no run starts while another goes on. @default once: a Job, again with changed args */
  schedule?: string;
  /** Of the schedule, such as `Europe/Berlin`. @default Etc/UTC */
  timeZone?: string;
  /** Seconds after its time in which a missed run may still start, 10 or more. @default 3600 */
  startingDeadlineSeconds?: number;
  /** Ended runs that are kept, of the CronJob. @default 3 of each */
  history?: { successful?: number; failed?: number };
  /** Further pods after one that failed, 1 or more. @default 3 */
  retries?: number;
  /** Seconds after which a run is ended as failed, its retries included. @default 3600 */
  deadlineSeconds?: number;
  /**
   * Seconds after its end in which a run is removed. A Job that is removed is made, and runs, again after a `pulumi refresh`.
   * @default a Job stays until the next one has ended, a CronJob's as `history` says
   */
  ttlSeconds?: number;
}

/**
 * A process that ends: once, or on a schedule. `up` waits for the Job's end and fails with it; the next `up` runs it again.
 * A Job can't be changed, so a changed one is another, which runs before the old one is removed.
 */
export class Task extends pulumi.ComponentResource {
  /** By which other's policies name the pods. */
  readonly labels: Record<string, string>;
  /** To bind roles to. */
  readonly serviceAccountName: pulumi.Output<string>;
  /** Of the Job or CronJob. */
  readonly jobName: pulumi.Output<string>;

  constructor(name: string, args: TaskArgs, opts?: pulumi.ComponentResourceOptions) {
    const all = { ...args, name: args.name ?? name };
    refuse("Task", name, [...refusals(schema, all), ...podContradictions(all), ...contradictions(all)]);
    super("hobnob:platform:Task", name, {}, opts);
    this.labels = podLabels(all.name);
    const around: Surroundings = { name, labels: this.labels, child: { parent: this } };
    createPolicy(all, around);
    const { account, podOf } = createPod(all, around);
    this.serviceAccountName = account;

    const { schedule, namespace } = all;
    const template = {
      metadata: { labels: { ...all.labels, ...this.labels } },
      spec: podOf(all.image, {}, { restartPolicy: "Never" }),
    };
    const spec = {
      backoffLimit: all.retries ?? 3,
      activeDeadlineSeconds: all.deadlineSeconds ?? 3600,
      ttlSecondsAfterFinished: all.ttlSeconds,
      template,
    };
    const job =
      schedule === undefined
        ? createJob(spec, all, around)
        : new k8s.batch.v1.CronJob(
            name,
            {
              metadata: { name: all.name, namespace, labels: this.labels },
              spec: {
                schedule,
                timeZone: all.timeZone ?? "Etc/UTC",
                concurrencyPolicy: "Forbid",
                startingDeadlineSeconds: all.startingDeadlineSeconds ?? 3600,
                successfulJobsHistoryLimit: all.history?.successful ?? 3,
                failedJobsHistoryLimit: all.history?.failed ?? 3,
                jobTemplate: { metadata: { labels: this.labels }, spec },
              },
            },
            { parent: this, dependsOn: all.workers },
          );
    this.jobName = job.metadata.name;
    this.registerOutputs();
  }
}

/** Named by the engine: with a fixed name the old one would have to go first, and a failed one could not be told from the next. */
function createJob(
  spec: k8s.types.input.batch.v1.JobSpec,
  { namespace, workers, deadlineSeconds = 3600 }: TaskArgs,
  { name, labels, child }: Surroundings,
) {
  // Its pods may have to be pulled and placed first; the provider's 10 minutes may be less than the run's own.
  const patience = `${deadlineSeconds + 300}s`;
  return new k8s.batch.v1.Job(
    name,
    // A failed one is replaced by the next `up`, whose args may be the same.
    { metadata: { namespace, labels, annotations: { "pulumi.com/replaceUnready": "true" } }, spec },
    { ...child, dependsOn: workers, customTimeouts: { create: patience, update: patience } },
  );
}

const CRON = /^(\*|[\d*]+([-,/][\d*]+)*)( (\*|[\dA-Za-z*]+([-,/][\dA-Za-z*]+)*)){4}$/;
const isTimeZone = (zone: string) => {
  try {
    return Boolean(new Intl.DateTimeFormat("en", { timeZone: zone })) && zone.includes("/");
  } catch {
    return false;
  }
};
const SECONDS = whole(1, 30 * 86_400).optional();

const schema = z.strictObject({
  ...podShape,
  schedule: rule("five cron fields, e.g. 0 3 * * *", (value) => CRON.test(value)).optional(),
  timeZone: rule("an IANA time zone, e.g. Europe/Berlin", isTimeZone).optional(),
  // Below 10 the controller, which looks every 10 s, may miss every run.
  startingDeadlineSeconds: whole(10, 86_400).optional(),
  history: z.strictObject({ successful: whole(0, 100).optional(), failed: whole(0, 100).optional() }).optional(),
  retries: whole(1, 100).optional(),
  deadlineSeconds: SECONDS,
  ttlSeconds: SECONDS,
});

/** What only a schedule has. */
const SCHEDULED = ["timeZone", "startingDeadlineSeconds", "history"] as const;

const contradictions = (args: TaskArgs): Refusal[] =>
  SCHEDULED.filter((arg) => args.schedule === undefined && args[arg] !== undefined).map((arg) => ({
    arg,
    given: "without a schedule",
    allowed: "schedule, or none of it",
  }));
