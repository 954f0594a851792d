import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { hardened } from "hobnob-platform/components/podSpec";

type Container = k8s.types.input.core.v1.Container;

interface StoreArgs {
  namespace: pulumi.Input<string>;
  /** By an exact version. */
  image: string;
  /** Number of the user that the image's process runs as. */
  user: number;
  port: { name: string; port: number };
  env: Container["env"];
  args?: string[];
  /** Where the disk is mounted. */
  dataPath: string;
  /** Directories besides, in which it writes what it can lose. */
  scratch: string[];
  diskSize: string;
  storageClassName: pulumi.Input<string>;
  startup: Container["startupProbe"];
  readiness: Container["readinessProbe"];
  /** @default it is restarted only if it ends */
  liveness?: Container["livenessProbe"];
  memory: string;
  cpu: string;
  /** Seconds to write everything down in. */
  stopSeconds: number;
  /** Labels of the pods that may reach it; nobody else does, and it reaches nobody. */
  clients: Record<string, string>[];
  nodeSelector: pulumi.Input<Record<string, string>>;
  protect: boolean;
}

/**
 * One pod with one disk: what it holds outlives the pod and the machine, but while the pod moves nobody is served. It has
 * no PodDisruptionBudget: one that keeps a single pod would stop every drain for good.
 */
export class Store extends pulumi.ComponentResource {
  /** By which its clients reach it. */
  readonly host: pulumi.Output<string>;
  readonly labels: Record<string, string>;

  constructor(name: string, args: StoreArgs, opts?: pulumi.ComponentResourceOptions) {
    super("crawler:index:Store", name, {}, opts);
    const { namespace, port } = args;
    const child = { parent: this };
    this.labels = { "app.kubernetes.io/name": name };
    const metadata = { name, namespace, labels: this.labels };
    const selector = { matchLabels: this.labels };

    const service = new k8s.core.v1.Service(
      name,
      {
        // Readiness is the set's to tell: the provider would wait 10 s more for the Service.
        metadata: { ...metadata, annotations: { "pulumi.com/skipAwait": "true" } },
        spec: { selector: this.labels, ports: [{ ...port, targetPort: port.name }] },
      },
      child,
    );
    this.host = service.metadata.name;

    new k8s.networking.v1.NetworkPolicy(
      name,
      {
        metadata,
        spec: {
          podSelector: selector,
          policyTypes: ["Ingress", "Egress"],
          ingress: [
            {
              from: args.clients.map((matchLabels) => ({ podSelector: { matchLabels } })),
              ports: [{ protocol: "TCP", port: port.name }],
            },
          ],
        },
      },
      child,
    );

    // Its own, not of a template: that could not grow.
    const claim = new k8s.core.v1.PersistentVolumeClaim(
      name,
      {
        // It is bound when the first pod is placed.
        metadata: { ...metadata, annotations: { "pulumi.com/skipAwait": "true" } },
        spec: {
          accessModes: ["ReadWriteOnce"],
          storageClassName: args.storageClassName,
          resources: { requests: { storage: args.diskSize } },
        },
      },
      { parent: this, protect: args.protect },
    );

    const account = new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, child);
    new k8s.apps.v1.StatefulSet(
      name,
      {
        metadata,
        spec: {
          replicas: 1,
          serviceName: service.metadata.name,
          revisionHistoryLimit: 3,
          selector,
          template: {
            metadata: { labels: this.labels },
            spec: podSpec(name, args, account.metadata.name, claim.metadata.name),
          },
        },
      },
      child,
    );
    this.registerOutputs();
  }
}

function podSpec(
  name: string,
  args: StoreArgs,
  serviceAccountName: pulumi.Input<string>,
  claimName: pulumi.Input<string>,
): k8s.types.input.core.v1.PodSpec {
  const { user, memory } = args;
  const scratch = args.scratch.map((mountPath, i) => ({ name: `scratch-${i}`, mountPath }));
  return hardened({
    serviceAccountName,
    nodeSelector: args.nodeSelector,
    terminationGracePeriodSeconds: args.stopSeconds,
    securityContext: {
      runAsUser: user,
      runAsGroup: user,
      fsGroup: user,
      // Else every start would visit every file.
      fsGroupChangePolicy: "OnRootMismatch",
    },
    containers: [
      {
        name,
        image: args.image,
        args: args.args,
        env: args.env,
        ports: [{ name: args.port.name, containerPort: args.port.port }],
        startupProbe: args.startup,
        readinessProbe: args.readiness,
        livenessProbe: args.liveness,
        resources: { requests: { cpu: args.cpu, memory }, limits: { memory } },
        volumeMounts: [
          // Not the disk's root, in which its file system has a directory of its own.
          { name: "data", mountPath: args.dataPath, subPath: "data" },
          ...scratch,
        ],
      },
    ],
    volumes: [
      { name: "data", persistentVolumeClaim: { claimName } },
      ...scratch.map(({ name }) => ({ name, emptyDir: {} })),
    ],
  });
}
