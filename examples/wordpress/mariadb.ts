import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { hardened } from "hobnob-platform/components/podSpec";

/** Long-term support; listed at https://github.com/docker-library/official-images/blob/master/library/mariadb. */
const IMAGE = "docker.io/library/mariadb:12.3.3";
/** User `mysql` of the image: https://github.com/MariaDB/mariadb-docker/blob/master/Dockerfile.template */
const USER = 999;
const LABELS = { "app.kubernetes.io/name": "mariadb" };
const DATA = "/var/lib/mysql";
const PORT = 3306;

interface MariadbArgs {
  namespace: pulumi.Input<string>;
  /** Of the database, and of the one user that it is for. */
  database: string;
  password: pulumi.Input<string>;
  rootPassword: pulumi.Input<string>;
  diskSize: string;
  storageClassName: pulumi.Input<string>;
  nodeSelector: pulumi.Input<Record<string, string>>;
  /** Pods that alone may reach it. */
  clients: Record<string, string>;
  protect: boolean;
}

/** One MariaDB with one disk, behind the Service `mariadb-svc`. While its pod moves to another machine nobody is served. */
export class Mariadb extends pulumi.ComponentResource {
  readonly host: pulumi.Output<string>;
  readonly labels = LABELS;
  /** With the key `password`. */
  readonly secretName: pulumi.Output<string>;

  constructor(name: string, args: MariadbArgs, opts?: pulumi.ComponentResourceOptions) {
    super("wordpress:index:Mariadb", name, {}, opts);
    const { namespace, password, rootPassword, database } = args;
    const child = { parent: this };
    const metadata = { name: "mariadb", namespace, labels: LABELS };
    const selector = { matchLabels: LABELS };

    const settings = new k8s.core.v1.ConfigMap(
      name,
      {
        metadata: { namespace, labels: LABELS },
        immutable: true,
        data: { MARIADB_DATABASE: database, MARIADB_USER: database },
      },
      child,
    );
    const secret = new k8s.core.v1.Secret(
      name,
      { metadata: { namespace, labels: LABELS }, immutable: true, stringData: { password, rootPassword } },
      child,
    );
    this.secretName = secret.metadata.name;

    const service = new k8s.core.v1.Service(
      name,
      {
        // Readiness is the set's to tell: the provider would wait 10 s more for the Service.
        metadata: { ...metadata, name: "mariadb-svc", annotations: { "pulumi.com/skipAwait": "true" } },
        spec: { selector: LABELS, ports: [{ name: "mysql", port: PORT, targetPort: "mysql" }] },
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
            { from: [{ podSelector: { matchLabels: args.clients } }], ports: [{ protocol: "TCP", port: "mysql" }] },
          ],
        },
      },
      child,
    );

    // Its own, not of a template: that could not grow.
    const claim = new k8s.core.v1.PersistentVolumeClaim(
      name,
      {
        // It is bound when the pod is placed.
        metadata: { ...metadata, annotations: { "pulumi.com/skipAwait": "true" } },
        spec: {
          accessModes: ["ReadWriteOnce"],
          storageClassName: args.storageClassName,
          resources: { requests: { storage: args.diskSize } },
        },
      },
      { ...child, protect: args.protect },
    );

    const account = new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, child);
    const secretOf = (key: string) => ({ secretKeyRef: { name: secret.metadata.name, key } });
    const tcp = { tcpSocket: { port: "mysql" }, periodSeconds: 5 };
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
            metadata: { labels: LABELS },
            spec: hardened({
              serviceAccountName: account.metadata.name,
              nodeSelector: args.nodeSelector,
              // To write everything down in.
              terminationGracePeriodSeconds: 120,
              securityContext: {
                runAsUser: USER,
                runAsGroup: USER,
                fsGroup: USER,
                // Else every start would visit every file.
                fsGroupChangePolicy: "OnRootMismatch",
              },
              containers: [
                {
                  name: "mariadb",
                  image: IMAGE,
                  envFrom: [{ configMapRef: { name: settings.metadata.name } }],
                  env: [
                    { name: "MARIADB_PASSWORD", valueFrom: secretOf("password") },
                    { name: "MARIADB_ROOT_PASSWORD", valueFrom: secretOf("rootPassword") },
                  ],
                  ports: [{ name: "mysql", containerPort: PORT }],
                  // Its port is closed while a new disk is set up; a large one may take long to be made whole after a crash.
                  startupProbe: { ...tcp, failureThreshold: 180 },
                  readinessProbe: tcp,
                  resources: { requests: { cpu: "100m", memory: "384Mi" }, limits: { memory: "384Mi" } },
                  volumeMounts: [
                    // Not the disk's root, in which its file system has a directory of its own.
                    { name: "data", mountPath: DATA, subPath: "data" },
                    { name: "run", mountPath: "/run/mysqld" },
                    { name: "tmp", mountPath: "/tmp" },
                  ],
                },
              ],
              volumes: [
                { name: "data", persistentVolumeClaim: { claimName: claim.metadata.name } },
                { name: "run", emptyDir: {} },
                { name: "tmp", emptyDir: {} },
              ],
            }),
          },
        },
      },
      child,
    );
    this.registerOutputs();
  }
}
