import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { SNAPSHOT_POD } from "../capacity";
import { ELASTICSEARCH_IMAGE, ELASTICSEARCH_LABELS, type SnapshotStore } from "./elasticsearch";
import { TO_DNS } from "./namespace";
import { hardened } from "./podSpec";

export interface SnapshotsArgs {
  namespace: pulumi.Input<string>;
  /** Bucket, which must exist and which nobody else writes to. */
  bucket: string;
  /** Region of the bucket. */
  region: string;
  /** URL of the S3-compatible service, spoken to in path style. @default that of DigitalOcean Spaces in the region */
  endpoint?: string;
  /** When one is taken, as five cron fields, UTC. */
  schedule: string;
  /** Successful snapshots that are kept; older ones are removed after each success. */
  keep: number;
  accessKey: pulumi.Input<string>;
  secretKey: pulumi.Input<string>;
  /** Whether Elasticsearch wants TLS and a user, as its own `security` says. @default false */
  security?: boolean;
  nodeSelector?: Record<string, string>;
}

export const SNAPSHOTS_LABELS = { "app.kubernetes.io/name": "elasticsearch-snapshots" };
/** What both the scheduled job and a restore call the bucket. */
const REPOSITORY = "snapshots";
const NAME = "elasticsearch-snapshots";
const SCRIPTS = "/usr/local/share/elasticsearch-snapshots";
const LOGIN = "/var/run/secrets/login";
/** Made by ElasticsearchSecurity, with username, password and ca.crt. */
const LOGIN_SECRET = "elasticsearch-snapshots";

/** Snapshots of everything in Elasticsearch to an S3-compatible store, on a schedule. */
export class Snapshots extends pulumi.ComponentResource {
  /** What Elasticsearch's nodes need to reach the bucket. */
  readonly store: SnapshotStore;

  constructor(name: string, args: SnapshotsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:Snapshots", name, {}, opts);
    const { namespace } = args;
    const child = { parent: this };
    const metadata = { name: NAME, namespace, labels: SNAPSHOTS_LABELS };

    // Named by its content: with another key pair the nodes restart one by one.
    const secret = new k8s.core.v1.Secret(
      `${name}-credentials`,
      {
        metadata: { namespace, labels: SNAPSHOTS_LABELS },
        immutable: true,
        stringData: { "access-key": args.accessKey, "secret-key": args.secretKey },
      },
      child,
    );
    this.store = {
      endpoint: args.endpoint ?? `https://${args.region}.digitaloceanspaces.com`,
      region: args.region,
      pathStyle: args.endpoint !== undefined,
      secretName: secret.metadata.name,
    };

    const files = new k8s.core.v1.ConfigMap(
      `${name}-files`,
      {
        metadata: { namespace, labels: SNAPSHOTS_LABELS },
        immutable: true,
        data: { "snapshot.sh": readFileSync(join(__dirname, "elasticsearch", "snapshot.sh"), "utf8") },
      },
      child,
    );

    new k8s.networking.v1.NetworkPolicy(
      name,
      {
        metadata,
        spec: {
          podSelector: { matchLabels: SNAPSHOTS_LABELS },
          policyTypes: ["Ingress", "Egress"],
          egress: [
            {
              to: [{ podSelector: { matchLabels: ELASTICSEARCH_LABELS } }],
              ports: [{ protocol: "TCP", port: 9200 }],
            },
            TO_DNS,
          ],
        },
      },
      child,
    );

    const account = new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, child);
    new k8s.batch.v1.CronJob(
      name,
      {
        metadata,
        spec: {
          schedule: args.schedule,
          timeZone: "Etc/UTC",
          concurrencyPolicy: "Forbid",
          // Missed while the control plane was away: still taken an hour later.
          startingDeadlineSeconds: 3600,
          successfulJobsHistoryLimit: 3,
          failedJobsHistoryLimit: 3,
          jobTemplate: {
            metadata: { labels: SNAPSHOTS_LABELS },
            spec: {
              backoffLimit: 2,
              // The next one is due by then at the latest, and would be held back.
              activeDeadlineSeconds: 6 * 3600,
              template: {
                metadata: { labels: SNAPSHOTS_LABELS },
                spec: this.podSpec(args, account, files.metadata.name),
              },
            },
          },
        },
      },
      child,
    );
    this.registerOutputs();
  }

  private podSpec(
    args: SnapshotsArgs,
    account: k8s.core.v1.ServiceAccount,
    files: pulumi.Output<string>,
  ): k8s.types.input.core.v1.PodSpec {
    // Each cluster in a bucket needs a path of its own.
    const settings = { bucket: args.bucket, base_path: pulumi.getStack() };
    return hardened({
      restartPolicy: "Never",
      serviceAccountName: account.metadata.name,
      nodeSelector: args.nodeSelector,
      securityContext: {
        runAsUser: 1000,
        runAsGroup: 1000,
        fsGroup: 1000,
      },
      containers: [
        {
          name: "snapshot",
          // Elasticsearch's own image, which its machines have.
          image: ELASTICSEARCH_IMAGE,
          command: ["/bin/bash", `${SCRIPTS}/snapshot.sh`],
          env: [
            { name: "ELASTICSEARCH_URL", value: `${args.security ? "https" : "http"}://elasticsearch:9200` },
            ...(args.security ? [{ name: "LOGIN", value: LOGIN }] : []),
            { name: "REPOSITORY", value: REPOSITORY },
            { name: "REPOSITORY_SETTINGS", value: JSON.stringify({ type: "s3", settings }) },
            { name: "KEEP", value: String(args.keep) },
            { name: "POLL_SECONDS", value: "10" },
          ],
          volumeMounts: [
            { name: "files", mountPath: SCRIPTS, readOnly: true },
            ...(args.security ? [{ name: "login", mountPath: LOGIN, readOnly: true }] : []),
          ],
          resources: { requests: SNAPSHOT_POD, limits: { memory: SNAPSHOT_POD.memory } },
        },
      ],
      volumes: [
        { name: "files", configMap: { name: files } },
        ...(args.security ? [{ name: "login", secret: { secretName: LOGIN_SECRET, defaultMode: 0o440 } }] : []),
      ],
    });
  }
}
