import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { backendLabels, fromController } from "hobnob-platform/components/ingress";
import { TO_DNS } from "hobnob-platform/components/namespace";
import { hardened, spreadOverMachines } from "hobnob-platform/components/podSpec";
import { Task } from "hobnob-platform/components/task";

/** Listed at https://github.com/docker-library/docs/blob/master/wordpress/README.md. */
const IMAGE = "docker.io/library/wordpress:7.1.1-php8.3-apache";
/** `www-data` of Debian, as which Apache serves: what is uploaded belongs to it. */
const USER = 33;
const PORT = 80;
export const SITE_LABELS = { "app.kubernetes.io/name": "wordpress" };
/** Both replicas must read the cookies that either has written. https://developer.wordpress.org/apis/wp-config-php/#authentication-keys-and-salts */
const SALTS = ["AUTH", "SECURE_AUTH", "LOGGED_IN", "NONCE"].flatMap((name) => [`${name}_KEY`, `${name}_SALT`]);

/** Code is the image's: what one pod changed in its own would be lost with it, and unknown to the other. */
const CONFIG = [
  "define('WP_HOME', getenv('SITE_URL'));",
  "define('WP_SITEURL', getenv('SITE_URL'));",
  "define('FORCE_SSL_ADMIN', str_starts_with(getenv('SITE_URL'), 'https:'));",
  "define('DISALLOW_FILE_MODS', true);",
  "define('AUTOMATIC_UPDATER_DISABLED', true);",
  "define('WP_HTTP_BLOCK_EXTERNAL', true);",
  // A visit would have its pod ask the site's public address, which no pod reaches; a Task does it instead.
  "define('DISABLE_WP_CRON', true);",
].join(" ");

interface SiteArgs {
  namespace: pulumi.Input<string>;
  /** Where it answers, such as `https://wp.example.com`. */
  url: pulumi.Input<string>;
  replicas: number;
  database: {
    host: pulumi.Input<string>;
    name: string;
    secretName: pulumi.Input<string>;
    labels: Record<string, string>;
  };
  /** What all pods write uploads to. */
  uploadsClaim: pulumi.Input<string>;
  /** Whether the claim is one machine's, so that all pods must be there. */
  oneMachine: boolean;
  ingressClass: pulumi.Input<string>;
  nodePort?: number;
  nodePortFrom: string[];
  spread: pulumi.Input<"hard" | "soft">;
  nodeSelector: pulumi.Input<Record<string, string>>;
}

/** WordPress on Apache: pods that have nothing of their own but a copy of the image's code. */
export class Site extends pulumi.ComponentResource {
  readonly serviceName: pulumi.Output<string>;
  readonly port = PORT;

  constructor(name: string, args: SiteArgs, opts?: pulumi.ComponentResourceOptions) {
    super("wordpress:index:Site", name, {}, opts);
    const { namespace, nodePort, nodePortFrom } = args;
    const child = { parent: this };
    const metadata = { name: "wordpress", namespace, labels: SITE_LABELS };
    const selector = { matchLabels: SITE_LABELS };

    const service = new k8s.core.v1.Service(
      name,
      {
        // Readiness is the Deployment's to tell: the provider would wait 10 s more for the Service.
        metadata: { ...metadata, annotations: { "pulumi.com/skipAwait": "true" } },
        spec: {
          ...(nodePort !== undefined && { type: "NodePort" }),
          selector: SITE_LABELS,
          ports: [{ name: "http", port: PORT, targetPort: "http", nodePort, appProtocol: "http" }],
        },
      },
      child,
    );
    this.serviceName = service.metadata.name;

    const cron = new Task(
      `${name}-cron`,
      {
        namespace,
        image: IMAGE,
        command: ["curl", "--silent", "--show-error", "--fail", "--max-time", "240"],
        args: [pulumi.interpolate`http://${service.metadata.name}/wp-cron.php`],
        schedule: "*/5 * * * *",
        // The next run does what a missed or failed one did not.
        startingDeadlineSeconds: 60,
        deadlineSeconds: 270,
        retries: 1,
        history: { successful: 1, failed: 1 },
        memory: "64Mi",
        cpu: "10m",
        nodeSelector: args.nodeSelector,
        to: [{ to: [{ podSelector: selector }], ports: [{ protocol: "TCP", port: PORT }] }],
      },
      child,
    );

    const http = [{ protocol: "TCP", port: "http" }];
    const { labels } = args.database;
    new k8s.networking.v1.NetworkPolicy(
      name,
      {
        metadata,
        spec: {
          podSelector: selector,
          policyTypes: ["Ingress", "Egress"],
          ingress: [
            { from: [fromController(args.ingressClass)], ports: http },
            { from: [{ podSelector: { matchLabels: cron.labels } }], ports: http },
            ...(nodePort === undefined
              ? []
              : [{ from: nodePortFrom.map((cidr) => ({ ipBlock: { cidr } })), ports: http }]),
          ],
          // An NFS share is the machine's to reach, not the pod's.
          egress: [
            { to: [{ podSelector: { matchLabels: labels } }], ports: [{ protocol: "TCP", port: 3306 }] },
            TO_DNS,
          ],
        },
      },
      child,
    );

    // Pods of one machine leave it together: a budget would wait for a second pod that may only start where the first is.
    if (!args.oneMachine)
      new k8s.policy.v1.PodDisruptionBudget(
        name,
        // A pod that isn't ready serves nobody: it must not keep a machine from being drained.
        { metadata, spec: { selector, maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" } },
        child,
      );

    const account = new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, child);
    const salts = new k8s.core.v1.Secret(
      name,
      {
        metadata: { namespace, labels: SITE_LABELS },
        immutable: true,
        stringData: Object.fromEntries(SALTS.map((salt) => [salt, saltOf(name, salt, child)])),
      },
      child,
    );
    new k8s.apps.v1.Deployment(
      name,
      {
        metadata,
        spec: {
          replicas: args.replicas,
          revisionHistoryLimit: 3,
          strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
          selector,
          template: {
            metadata: { labels: { ...SITE_LABELS, ...backendLabels(args.ingressClass) } },
            spec: podSpec(args, account.metadata.name, salts.metadata.name),
          },
        },
      },
      // A new disk of the database is set up first.
      { ...child, customTimeouts: { create: "20m", update: "20m" } },
    );
    this.registerOutputs();
  }
}

const saltOf = (name: string, salt: string, opts: pulumi.CustomResourceOptions) =>
  new random.RandomPassword(`${name}-${salt.toLowerCase().replaceAll("_", "-")}`, { length: 64, special: false }, opts)
    .result;

function podSpec(
  args: SiteArgs,
  serviceAccountName: pulumi.Input<string>,
  saltsName: pulumi.Input<string>,
): k8s.types.input.core.v1.PodSpec {
  const { host, name: database, secretName } = args.database;
  const env: k8s.types.input.core.v1.EnvVar[] = [
    { name: "WORDPRESS_DB_HOST", value: host },
    { name: "WORDPRESS_DB_NAME", value: database },
    { name: "WORDPRESS_DB_USER", value: database },
    { name: "WORDPRESS_DB_PASSWORD", valueFrom: { secretKeyRef: { name: secretName, key: "password" } } },
    ...SALTS.map((key) => ({ name: `WORDPRESS_${key}`, valueFrom: { secretKeyRef: { name: saltsName, key } } })),
    { name: "SITE_URL", value: args.url },
    { name: "WORDPRESS_CONFIG_EXTRA", value: CONFIG },
  ];
  // As the balancer says of a request over HTTPS: else WordPress would send the probe there.
  const proto = pulumi.output(args.url).apply((url) => new URL(url).protocol.slice(0, -1));
  const login = { path: "/wp-login.php", port: "http", httpHeaders: [{ name: "X-Forwarded-Proto", value: proto }] };
  // A file that Apache gives by itself: neither an empty database nor one that is away, nor the set-up, ends the process.
  const file = { path: "/license.txt", port: "http" };
  const code = { name: "code", mountPath: "/var/www/html" };
  const scratch = ["/var/run/apache2", "/var/lock/apache2", "/tmp"].map((mountPath, i) => ({
    name: `scratch-${i}`,
    mountPath,
  }));
  return hardened({
    serviceAccountName,
    nodeSelector: args.nodeSelector,
    ...placement(args),
    terminationGracePeriodSeconds: 45,
    securityContext: {
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      fsGroupChangePolicy: "OnRootMismatch",
      // Apache's port, without being root. https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/
      sysctls: [{ name: "net.ipv4.ip_unprivileged_port_start", value: String(PORT) }],
    },
    initContainers: [
      {
        // The image's entrypoint copies the code where it isn't, and then Apache tells its version. By itself: beside the
        // uploads' mount it would find a wp-content that is root's.
        name: "copy-code",
        image: IMAGE,
        args: ["apache2", "-v"],
        resources: { requests: { cpu: "100m", memory: "64Mi" }, limits: { memory: "256Mi" } },
        volumeMounts: [code],
      },
    ],
    containers: [
      {
        name: "wordpress",
        image: IMAGE,
        env,
        ports: [{ name: "http", containerPort: PORT }],
        startupProbe: { httpGet: file, periodSeconds: 2, failureThreshold: 60 },
        readinessProbe: { httpGet: login, periodSeconds: 10, timeoutSeconds: 5 },
        livenessProbe: { httpGet: file, periodSeconds: 15, timeoutSeconds: 5, failureThreshold: 4 },
        lifecycle: { preStop: { sleep: { seconds: 10 } } },
        resources: {
          requests: { cpu: "100m", memory: "192Mi", "ephemeral-storage": "256Mi" },
          limits: { memory: "512Mi" },
        },
        volumeMounts: [
          code,
          {
            name: "uploads",
            mountPath: "/var/www/html/wp-content/uploads",
            // In the root of a disk its file system has a directory of its own.
            ...(args.oneMachine && { subPath: "uploads" }),
          },
          ...scratch,
        ],
      },
    ],
    volumes: [
      { name: "code", emptyDir: {} },
      { name: "uploads", persistentVolumeClaim: { claimName: args.uploadsClaim } },
      ...scratch.map(({ name }) => ({ name, emptyDir: {} })),
    ],
  });
}

/** On different machines; or all on the one that has the volume, where the second pod would else never start. */
function placement({ oneMachine, spread }: SiteArgs): Partial<k8s.types.input.core.v1.PodSpec> {
  const machine = { topologyKey: "kubernetes.io/hostname", labelSelector: { matchLabels: SITE_LABELS } };
  if (oneMachine) return { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [machine] } } };
  return { topologySpreadConstraints: spreadOverMachines(SITE_LABELS, spread) };
}
