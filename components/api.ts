import type * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { checkArgs } from "../config";
import { ELASTICSEARCH_LABELS } from "./elasticsearch";
import { podLabels } from "./pod";
import { Service } from "./service";

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

const NAME = "backend";
export const API_LABELS = podLabels(NAME);
const API_PORT = 8080;
const DOCS_PORT = 8100;
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

/** The backend API: replicas on different machines that lose no request when one of them stops. */
export class Api extends Service {
  readonly apiPort = API_PORT;
  readonly docsPort = DOCS_PORT;

  constructor(name: string, args: ApiArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["api"], args);
    const { elasticsearchSecretName: secretName, autoscaling } = args;
    super(
      name,
      {
        name: NAME,
        namespace: args.namespace,
        image: args.image,
        pullSecretName: args.pullSecretName,
        memory: args.memory,
        cpu: args.cpu,
        spread: args.spread,
        nodeSelector: args.nodeSelector,
        workers: args.workers,
        ports: [
          { name: "http", port: API_PORT, appProtocol: "http" },
          { name: "docs", port: DOCS_PORT, appProtocol: "http" },
        ],
        // Users can be changed by whoever reaches the pods, and the pods hold the way to Elasticsearch.
        ingressClass: args.ingressClass,
        to: [toElasticsearch(args.elasticsearchPort)],
        ...(autoscaling ? { autoscaling } : { replicas: args.replicas }),
        env: environment(args),
        ...(secretName && {
          volumes: { [CREDENTIALS]: { name: "elasticsearch", secret: { secretName, defaultMode: 0o440 } } },
        }),
        user: USER,
        startup: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 1, failureThreshold: 60 },
        // Not ready without Elasticsearch: so a new version that can't reach it never replaces one that can.
        readiness: {
          httpGet: { path: "/readyz", port: "http" },
          periodSeconds: 5,
          // Longer than the API waits for Elasticsearch.
          timeoutSeconds: 8,
          failureThreshold: 3,
        },
        // The process alone: a restart would not bring Elasticsearch back.
        liveness: {
          httpGet: { path: "/healthz", port: "http" },
          periodSeconds: 10,
          timeoutSeconds: 5,
          failureThreshold: 3,
        },
        preStopSeconds: PRE_STOP_SECONDS,
        stopSeconds: DRAIN_SECONDS + 10 + 5,
        // Ready only after Elasticsearch, which is given 15 minutes to form.
        readyTimeout: "20m",
      },
      opts,
      // As it was before there were Services and canaries: its selector can't be changed.
      { type: "hobnob:platform:Api", tracked: false },
    );
  }
}

function environment(args: ApiArgs): Record<string, pulumi.Input<string>> {
  return {
    ELASTICSEARCH_HOSTNAME: pulumi.interpolate`${args.elasticsearchSecretName ? "https" : "http"}://${args.elasticsearchHost}`,
    ELASTICSEARCH_PORT: pulumi.interpolate`${args.elasticsearchPort}`,
    ...(args.elasticsearchSecretName && { ELASTICSEARCH_CREDENTIALS: CREDENTIALS }),
    PORT: String(API_PORT),
    DOCS_PORT: String(DOCS_PORT),
    PUBLIC_URL: args.publicUrl,
    RATE_LIMIT: String(args.requestsPerSecond),
    // NGINX, which alone may reach the pods, adds whom it takes for the client.
    TRUSTED_PROXIES: "1",
    LOG_LEVEL: args.logLevel,
    DRAIN_SECONDS: String(DRAIN_SECONDS),
  };
}

function toElasticsearch(port: pulumi.Input<number>): k8s.types.input.networking.v1.NetworkPolicyEgressRule {
  return { to: [{ podSelector: { matchLabels: ELASTICSEARCH_LABELS } }], ports: [{ protocol: "TCP", port }] };
}
