import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { checkArgs } from "../config";
import { ELASTICSEARCH_LABELS } from "./elasticsearch";
import { backendLabels, fromController } from "./ingress";
import { TO_DNS } from "./namespace";

export interface ApiArgs {
  namespace: pulumi.Input<string>;
  /** `repository@sha256:…` of app/api. */
  image: pulumi.Input<string>;
  /** Secret in the namespace that pulls from a private repository. @default none */
  pullSecretName?: pulumi.Input<string>;
  /** Name of Elasticsearch in the cluster's DNS. Only the name is used: the API retries, it does not wait. */
  elasticsearchHost: pulumi.Input<string>;
  /** Secret in the namespace with `username`, `password` and `ca.crt`, for Elasticsearch over TLS. @default none: over plain HTTP */
  elasticsearchSecretName?: pulumi.Input<string>;
  elasticsearchPort: pulumi.Input<number>;
  /** Where clients outside reach the API, such as `https://api.example.com`; Swagger UI sends its requests there. */
  publicUrl: pulumi.Input<string>;
  /** Pods, unless `autoscaling` is given. */
  replicas: number;
  /** Memory of each pod, requested and limited, as a Kubernetes quantity. */
  memory: string;
  /** CPU requested by each pod, as a Kubernetes quantity; not limited. */
  cpu: string;
  /** Lets the number of pods follow their CPU, in percent of `cpu`; needs a metrics server. @default `replicas` pods */
  autoscaling?: { minReplicas: number; maxReplicas: number; cpuPercent: number };
  /** Requests that one client's address may make of each pod in a second; the rest is answered 429. */
  requestsPerSecond: number;
  logLevel: string;
  /** Whether pods must be on different machines as evenly as can be, or only should. */
  spread: "hard" | "soft";
  /** Machines that the pods are limited to. @default all */
  nodeSelector?: Record<string, string>;
  /** Class of the ingress controller, which alone may reach the pods. The name alone is used: nothing waits for the class. */
  ingressClass: pulumi.Input<string>;
  /** Machines that must outlive the pods on destroy. */
  workers: pulumi.Resource[];
}

export const API_LABELS = { "app.kubernetes.io/name": "backend" };
const API_PORT = 8080;
const DOCS_PORT = 8100;
const NAME = "backend";
/** What the ingress controller reaches. */
export const API_BACKEND = { labels: API_LABELS, ports: [API_PORT, DOCS_PORT] };
/** User of the image, in app/api/Dockerfile. */
const USER = 10001;

/** After it no balancer sends new requests here. */
const PRE_STOP_SECONDS = 10;
/** What app/api waits at most for the end of its traffic, and 10 s more for the requests under way. */
const DRAIN_SECONDS = 20;
/** Where the pods find the files of `elasticsearchSecretName`. */
const CREDENTIALS = "/var/run/secrets/elasticsearch";
const GRACE_SECONDS = PRE_STOP_SECONDS + DRAIN_SECONDS + 10 + 5;

/** The backend API: replicas on different machines that lose no request when one of them stops. */
export class Api extends pulumi.ComponentResource {
  readonly serviceName: pulumi.Output<string>;
  readonly apiPort = API_PORT;
  readonly docsPort = DOCS_PORT;
  readonly labels = API_LABELS;

  constructor(name: string, args: ApiArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["api"], args);
    super("hobnob:platform:Api", name, {}, opts);
    const { autoscaling } = args;
    const child = { parent: this };
    const metadata = { name: NAME, namespace: args.namespace, labels: API_LABELS };
    const selector = { matchLabels: API_LABELS };

    const service = new k8s.core.v1.Service(
      name,
      {
        // Readiness is the Deployment's to tell: the provider would wait 10 s more for the Service.
        metadata: { ...metadata, annotations: { "pulumi.com/skipAwait": "true" } },
        spec: {
          selector: API_LABELS,
          ports: [
            { name: "http", port: API_PORT, targetPort: "http", appProtocol: "http" },
            { name: "docs", port: DOCS_PORT, targetPort: "docs", appProtocol: "http" },
          ],
        },
      },
      child,
    );

    // Users can be changed by whoever reaches the pods, and the pods hold the way to Elasticsearch.
    new k8s.networking.v1.NetworkPolicy(
      name,
      {
        metadata,
        spec: {
          podSelector: selector,
          policyTypes: ["Ingress", "Egress"],
          ingress: [{ from: [fromController(args.ingressClass)], ports: [tcp("http"), tcp("docs")] }],
          egress: [toElasticsearch(args.elasticsearchPort), TO_DNS],
        },
      },
      child,
    );

    new k8s.policy.v1.PodDisruptionBudget(
      name,
      // A pod that isn't ready serves nobody: it must not keep a machine from being drained.
      { metadata, spec: { selector, maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" } },
      child,
    );

    // Its own, so that rights given to another pod are never its too; it mounts no token.
    const account = new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, child);

    const deployment = new k8s.apps.v1.Deployment(
      name,
      {
        metadata,
        spec: {
          // The autoscaler's to set, where there is one.
          ...(!autoscaling && { replicas: args.replicas }),
          revisionHistoryLimit: 3,
          strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
          selector,
          template: {
            metadata: { labels: { ...API_LABELS, ...backendLabels(args.ingressClass) } },
            spec: podSpec(args, account.metadata.name),
          },
        },
      },
      {
        parent: this,
        // On destroy the machines must wait for the pods: no value carries that.
        dependsOn: args.workers,
        // Ready only after Elasticsearch, which is given 15 minutes to form; the default is 10.
        customTimeouts: { create: "20m", update: "20m" },
      },
    );

    if (autoscaling) {
      const { minReplicas, maxReplicas, cpuPercent } = autoscaling;
      new k8s.autoscaling.v2.HorizontalPodAutoscaler(
        name,
        {
          metadata,
          spec: {
            scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: deployment.metadata.name },
            minReplicas,
            maxReplicas,
            metrics: [
              {
                type: "Resource",
                resource: { name: "cpu", target: { type: "Utilization", averageUtilization: cpuPercent } },
              },
            ],
          },
        },
        child,
      );
    }

    this.serviceName = service.metadata.name;
    this.registerOutputs();
  }
}

function podSpec(args: ApiArgs, serviceAccountName: pulumi.Input<string>): k8s.types.input.core.v1.PodSpec {
  const secretName = args.elasticsearchSecretName;
  const credentials = secretName && { name: "elasticsearch", secret: { secretName, defaultMode: 0o440 } };
  return {
    serviceAccountName,
    automountServiceAccountToken: false,
    // They would be named like the API's own settings: of a Service `elasticsearch`, ELASTICSEARCH_PORT is a URL.
    enableServiceLinks: false,
    imagePullSecrets: args.pullSecretName === undefined ? undefined : [{ name: args.pullSecretName }],
    nodeSelector: args.nodeSelector,
    topologySpreadConstraints: [spreadOverMachines(args.spread)],
    terminationGracePeriodSeconds: GRACE_SECONDS,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      ...(credentials && { fsGroup: USER }),
      seccompProfile: { type: "RuntimeDefault" },
    },
    containers: [
      {
        name: NAME,
        image: args.image,
        env: environment(args),
        ports: [
          { name: "http", containerPort: API_PORT },
          { name: "docs", containerPort: DOCS_PORT },
        ],
        startupProbe: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 1, failureThreshold: 60 },
        // Not ready without Elasticsearch: so a new version that can't reach it never replaces one that can.
        readinessProbe: {
          httpGet: { path: "/readyz", port: "http" },
          periodSeconds: 5,
          // Longer than the API waits for Elasticsearch.
          timeoutSeconds: 8,
          failureThreshold: 3,
        },
        // The process alone: a restart would not bring Elasticsearch back.
        livenessProbe: {
          httpGet: { path: "/healthz", port: "http" },
          periodSeconds: 10,
          timeoutSeconds: 5,
          failureThreshold: 3,
        },
        lifecycle: { preStop: { sleep: { seconds: PRE_STOP_SECONDS } } },
        securityContext: {
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ["ALL"] },
        },
        resources: { requests: { cpu: args.cpu, memory: args.memory }, limits: { memory: args.memory } },
        ...(credentials && { volumeMounts: [{ name: credentials.name, mountPath: CREDENTIALS, readOnly: true }] }),
      },
    ],
    ...(credentials && { volumes: [credentials] }),
  };
}

function environment(args: ApiArgs): k8s.types.input.core.v1.EnvVar[] {
  return [
    {
      name: "ELASTICSEARCH_HOSTNAME",
      value: pulumi.interpolate`${args.elasticsearchSecretName ? "https" : "http"}://${args.elasticsearchHost}`,
    },
    { name: "ELASTICSEARCH_PORT", value: pulumi.interpolate`${args.elasticsearchPort}` },
    ...(args.elasticsearchSecretName ? [{ name: "ELASTICSEARCH_CREDENTIALS", value: CREDENTIALS }] : []),
    { name: "PORT", value: String(API_PORT) },
    { name: "DOCS_PORT", value: String(DOCS_PORT) },
    { name: "PUBLIC_URL", value: args.publicUrl },
    { name: "RATE_LIMIT", value: String(args.requestsPerSecond) },
    // NGINX, which alone may reach the pods, adds whom it takes for the client.
    { name: "TRUSTED_PROXIES", value: "1" },
    { name: "LOG_LEVEL", value: args.logLevel },
    { name: "DRAIN_SECONDS", value: String(DRAIN_SECONDS) },
  ];
}

/** Nodes of DOKS have no zone label: the machine is the one domain of failure that is known. */
function spreadOverMachines(spread: ApiArgs["spread"]): k8s.types.input.core.v1.TopologySpreadConstraint {
  const machines = {
    maxSkew: 1,
    topologyKey: "kubernetes.io/hostname",
    labelSelector: { matchLabels: API_LABELS },
    // Each version by itself: else the pods that a rollout is about to remove decide where the new ones may go.
    matchLabelKeys: ["pod-template-hash"],
    // A drained machine, which is tainted, is no domain: else its missing pod would keep the others from doubling up.
    nodeTaintsPolicy: "Honor",
  };
  if (spread === "soft") return { ...machines, whenUnsatisfiable: "ScheduleAnyway" };
  // With one machine left, further pods wait: that, not a pile on one machine, makes the pool scale.
  return { ...machines, whenUnsatisfiable: "DoNotSchedule", minDomains: 2 };
}

const tcp = (port: pulumi.Input<string | number>) => ({ protocol: "TCP", port });

function toElasticsearch(port: pulumi.Input<number>): k8s.types.input.networking.v1.NetworkPolicyEgressRule {
  return { to: [{ podSelector: { matchLabels: ELASTICSEARCH_LABELS } }], ports: [tcp(port)] };
}
