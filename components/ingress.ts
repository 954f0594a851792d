import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { INGRESS_REQUESTS } from "../capacity";
import { checkArgs } from "../config";
import { UserError } from "../violations";
import { type ApiServerPolicy, allowApiServer, IDENTITY, identity } from "./apiServer";
import { BALANCERS, type Balancer, type BalancerArgs, type BalancerKind, REDIRECT_PORT } from "./balancer";
import { Namespace } from "./namespace";
import { createDefinitions, definitionRules } from "./nginxDefinitions";
import type { IngressClassArgs } from "./routes";

/**
 * F5 NGINX Ingress Controller, open source edition, by exact version; its digest was read in no source, so none is here.
 * https://github.com/nginx/kubernetes-ingress/releases/tag/v5.5.4
 */
const IMAGE = "docker.io/nginx/nginx-ingress:5.5.4";

/** Its fixed name in its namespace: the Service's is an argument of the controller, and what others address. */
const NAME = "nginx-ingress";

/** After the balancer sends no more, NGINX lets open requests end, at most for this long. */
const WORKER_SHUTDOWN_SECONDS = 30;

export interface IngressControllerArgs {
  /** Ingresses of this class are served; a second controller needs another one. */
  className: string;
  /** Pods of the controller. */
  replicas: number;
  /** How traffic reaches the controller; on a node's own port (HostPort) there is one pod a node. */
  expose: "LoadBalancer" | "NodePort" | "HostPort";
  /** Whether Ingresses without a host are served. */
  allowEmptyHost: boolean;
  /** Largest request body of Ingresses that set none, as NGINX writes it, such as `1m`. */
  maxBodySize: string;
  /** With another class than `nginx`, the class is appended to its name. `kind` is whose it is. @default digitalocean */
  loadBalancer: BalancerArgs & { kind?: BalancerKind };
  /**
   * Pods without `backendLabels` that requests are brought to; the controller reaches no other. Ports are the pods' own, by
   * number. @default none
   */
  backends?: { namespace: string; labels: Record<string, string>; ports: number[] }[];
  /** Whether VirtualServers and Policies are served, which canaries need. @default false */
  customResources?: boolean;
  /**
   * Whether this controller brings the kinds of `customResources`, which a cluster has but once: `existing` where another
   * one has brought them. @default create
   */
  definitions?: "create" | "existing";
  /**
   * Namespaces whose Secrets the controller may read, for TLS and users; they must be there. It reads Secrets only where it
   * serves a list of namespaces: with any, `namespaces` and these are served, and no other. Without a balancer port 443 is
   * then open too. @default none, and every namespace is served
   */
  secretNamespaces?: string[];
  /** Further namespaces that are served beside `secretNamespaces`. @default none */
  namespaces?: string[];
  /** Namespace whose pods may scrape the controller's metrics; its pods then say where. @default none are served */
  metricsFor?: string;
  /** How a policy names the API server, which the controller watches. */
  apiServer: ApiServerPolicy;
  /** Whether the pods must be on different nodes, or only should. */
  spread: "hard" | "soft";
  nodeSelector?: Record<string, string>;
  /** What the pods run on, and so must outlive them. */
  workers: pulumi.Resource[];
}

/** An ingress controller of one class, and what brings traffic to it. Several can stand side by side. */
export class IngressController extends pulumi.ComponentResource {
  readonly className: pulumi.Output<string>;
  /** IPv4 address of the balancer; absent where there is none, or it has a host name. */
  readonly address?: pulumi.Output<string>;
  /** Host name of the balancer, where its addresses may change. */
  readonly hostname?: pulumi.Output<string>;
  /** IPv6 address of the balancer; absent where there is none, undefined inside where the balancer has no such address. */
  readonly ipv6?: pulumi.Output<string | undefined>;
  /** Known without the namespace being there, so that who only names it doesn't wait for it. */
  readonly namespace: string;
  /** What `Routes` of this class may ask for. */
  readonly forRoutes: Omit<IngressClassArgs, "coveredHosts">;

  constructor(name: string, args: IngressControllerArgs, opts?: pulumi.ComponentResourceOptions) {
    checkArgs(["ingress"], { ...args, sizeUnit: args.loadBalancer.sizeUnit });
    super("hobnob:platform:IngressController", name, {}, opts);
    rejectSharedHostPort(args);
    const { className, expose, workers, customResources = false, secretNamespaces = [] } = args;
    const parent = { parent: this };
    const labels = { "app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": className };

    this.namespace = ofClass(NAME, className);
    const namespace = new Namespace(
      name,
      {
        name: this.namespace,
        labels: expose === "LoadBalancer" ? balancerOf(args).namespaceLabels : undefined,
        level: expose === "HostPort" ? "privileged" : undefined,
      },
      parent,
    );
    const metadata = { namespace: namespace.name };

    const ingressClass = new k8s.networking.v1.IngressClass(
      name,
      { metadata: { name: className }, spec: { controller: "nginx.org/ingress-controller" } },
      parent,
    );
    const configMap = new k8s.core.v1.ConfigMap(name, { metadata, data: nginxConfiguration(args) }, parent);
    const definitions = customResources && args.definitions !== "existing" ? createDefinitions(name, parent) : [];
    const account = createAccount(name, metadata, args, parent);

    new k8s.apps.v1.Deployment(
      name,
      {
        metadata: { ...metadata, name: NAME, labels },
        spec: {
          replicas: args.replicas,
          selector: { matchLabels: labels },
          // A new pod can't have the port of a node before the old one has left it.
          strategy: { rollingUpdate: expose === "HostPort" ? ONE_LESS : ONE_MORE },
          template: {
            metadata: { labels, ...(args.metricsFor !== undefined && { annotations: SCRAPED }) },
            spec: podSpec(args, labels, {
              className: ingressClass.metadata.name,
              configMapName: configMap.metadata.name,
              serviceAccountName: account.name,
            }),
          },
        },
      },
      // The controller is never ready when it may not read what it needs: no value of these is in the pod to say so.
      { ...parent, dependsOn: [...account.bindings, ...definitions, ...workers] },
    );

    // Else a drain could take all pods at once; one that isn't ready serves nobody and never holds a drain up.
    new k8s.policy.v1.PodDisruptionBudget(
      name,
      {
        metadata,
        spec: { maxUnavailable: 1, selector: { matchLabels: labels }, unhealthyPodEvictionPolicy: "AlwaysAllow" },
      },
      parent,
    );

    // Behind a balancer plain HTTP only: on 443 NGINX would end TLS with no certificate, past it.
    new k8s.networking.v1.NetworkPolicy(
      name,
      {
        metadata,
        spec: {
          podSelector: { matchLabels: labels },
          policyTypes: ["Ingress", "Egress"],
          ingress: [{ ports: portNames(args).map((port) => ({ protocol: "TCP", port })) }, ...scraping(args)],
          egress: [toLabelled(className), ...(args.backends ?? []).map(toBackend)],
        },
      },
      parent,
    );
    allowApiServer(`${name}-api-server`, { ...metadata, labels, policy: args.apiServer }, parent);

    if (expose !== "HostPort") {
      const service = createService(name, args, metadata, labels, parent);
      if (expose === "LoadBalancer") {
        const points = service.status.apply((status) => status?.loadBalancer?.ingress ?? []);
        if (balancerOf(args).addressedBy === "hostname") {
          this.hostname = points.apply(
            (all) => all.find(({ hostname }) => hostname)?.hostname ?? noAddress("host name"),
          );
        } else {
          this.address = points.apply(
            (all) => all.find(({ ip }) => ip?.includes("."))?.ip ?? noAddress("IPv4 address"),
          );
          this.ipv6 = points.apply((all) => all.find(({ ip }) => ip?.includes(":"))?.ip);
        }
      }
    }

    this.className = ingressClass.metadata.name;
    this.forRoutes = { className: this.className, expose, customResources, secretNamespaces };
    this.registerOutputs();
  }
}

/**
 * Labels of the pods to which a class's controller may bring requests, in whatever namespace. They are for a pod's template
 * alone: a selector can't be changed later.
 */
export const backendLabels = (className: pulumi.Input<string>) => ({ "hobnob/ingress-class": className });

/** A class's controller, for the policy of the pods that it may reach; it need not be there. */
export function fromController(className: pulumi.Input<string>): k8s.types.input.networking.v1.NetworkPolicyPeer {
  const namespace = pulumi.output(className).apply((given) => ofClass(NAME, given));
  return {
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
    podSelector: { matchLabels: { "app.kubernetes.io/name": NAME } },
  };
}

/** Which port a pod lets in is its own policy's to say. */
const toLabelled = (className: string): k8s.types.input.networking.v1.NetworkPolicyEgressRule => ({
  to: [{ namespaceSelector: {}, podSelector: { matchLabels: backendLabels(className) } }],
  ports: [{ protocol: "TCP" }],
});

function toBackend({ namespace, labels, ports }: NonNullable<IngressControllerArgs["backends"]>[number]) {
  const namespaceSelector = { matchLabels: { "kubernetes.io/metadata.name": namespace } };
  return {
    to: [{ namespaceSelector, podSelector: { matchLabels: labels } }],
    ports: ports.map((port) => ({ protocol: "TCP", port })),
  };
}

/** NGINX ends TLS itself only where it can read a certificate, and no balancer does. */
function portNames(args: IngressControllerArgs): (keyof typeof PORTS)[] {
  const { expose, secretNamespaces = [] } = args;
  if (redirects(args)) return ["http", "redirect"];
  return secretNamespaces.length > 0 && expose !== "LoadBalancer" ? ["http", "https"] : ["http"];
}

const PORTS = { http: 80, https: 443, redirect: REDIRECT_PORT };

/** A balancer that can't redirect plain HTTP brings it to a port of the controller that only does that. */
const redirects = (args: IngressControllerArgs): boolean =>
  args.expose === "LoadBalancer" && args.loadBalancer.certificateName !== undefined && !balancerOf(args).redirects;

/** What two controllers must not share: a balancer of the same name would be taken over by the second. */
const ofClass = (name: string, className: string) => (className === "nginx" ? name : `${name}-${className}`);

function rejectSharedHostPort({ expose, spread, replicas }: IngressControllerArgs) {
  if (expose !== "HostPort" || spread === "hard" || replicas === 1) return;
  throw new pulumi.RunError(
    `hobnob:ingress.replicas: ${replicas}, but pods cannot share the port 80 of a cluster's only node; ` +
      "allowed: 1; pulumi config set --path hobnob:ingress.replicas 1",
  );
}

/** A preview of a new balancer can't know its address; an update has waited for it. */
function noAddress(what: string): string {
  if (pulumi.runtime.isDryRun()) return pulumi.unknown as unknown as string;
  throw new UserError(`The balancer has no ${what}; see: kubectl describe service --all-namespaces`);
}

/** https://docs.nginx.com/nginx-ingress-controller/configuration/global-configuration/configmap-resource/ */
function nginxConfiguration(args: IngressControllerArgs) {
  const { maxBodySize, loadBalancer, expose } = args;
  return {
    "client-max-body-size": maxBodySize,
    "server-tokens": "false",
    "worker-shutdown-timeout": `${WORKER_SHUTDOWN_SECONDS}s`,
    // Elsewhere nobody stands before NGINX whose word on the client could be believed.
    ...(expose === "LoadBalancer" && balancerOf(args).nginx(loadBalancer)),
  };
}

/**
 * The rights that version 5.5 uses without telemetry and NGINX Plus. No Secret is among them but those of the namespaces that
 * were named: TLS ends at the balancer. https://github.com/nginx/kubernetes-ingress/blob/v5.5.4/deployments/rbac/rbac.yaml
 */
function createAccount(
  name: string,
  metadata: Metadata,
  { customResources, secretNamespaces = [] }: IngressControllerArgs,
  opts: pulumi.CustomResourceOptions,
) {
  const serviceAccount = new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, opts);
  const clusterRole = new k8s.rbac.v1.ClusterRole(
    name,
    {
      rules: [
        { apiGroups: [""], resources: ["services", "pods"], verbs: READ },
        { apiGroups: [""], resources: ["events"], verbs: ["create", "patch"] },
        { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: READ },
        { apiGroups: ["networking.k8s.io"], resources: ["ingresses"], verbs: READ },
        { apiGroups: ["networking.k8s.io"], resources: ["ingresses/status"], verbs: ["update"] },
        { apiGroups: ["networking.k8s.io"], resources: ["ingressclasses"], verbs: ["get", "list"] },
        ...(customResources ? definitionRules : []),
      ],
    },
    opts,
  );
  const role = new k8s.rbac.v1.Role(
    name,
    {
      metadata,
      rules: [
        { apiGroups: [""], resources: ["configmaps"], verbs: READ },
        { apiGroups: [""], resources: ["namespaces"], verbs: ["get"] },
        // It writes its version onto its own pod.
        { apiGroups: [""], resources: ["pods"], verbs: ["update"] },
        { apiGroups: [LEASES], resources: ["leases"], resourceNames: [LEADER_LOCK], verbs: ["get", "update"] },
        { apiGroups: [LEASES], resources: ["leases"], verbs: ["create"] },
      ],
    },
    opts,
  );
  const { name: account, namespace } = serviceAccount.metadata;
  const subjects = [{ kind: "ServiceAccount", name: account, namespace }];
  const bindings = [
    new k8s.rbac.v1.ClusterRoleBinding(
      name,
      { roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: clusterRole.metadata.name }, subjects },
      opts,
    ),
    new k8s.rbac.v1.RoleBinding(
      name,
      { metadata, roleRef: { apiGroup: RBAC, kind: "Role", name: role.metadata.name }, subjects },
      opts,
    ),
  ];
  return { name: account, bindings: [...bindings, ...secretNamespaces.map(readSecrets)] };

  function readSecrets(secretNamespace: string) {
    const part = `${name}-secrets-${secretNamespace}`;
    const where = { metadata: { namespace: secretNamespace } };
    const rules = [
      { apiGroups: [""], resources: ["secrets"], verbs: READ },
      { apiGroups: [""], resources: ["namespaces"], verbs: ["get"] },
    ];
    const reader = new k8s.rbac.v1.Role(part, { ...where, rules }, opts);
    const roleRef = { apiGroup: RBAC, kind: "Role", name: reader.metadata.name };
    return new k8s.rbac.v1.RoleBinding(part, { ...where, roleRef, subjects }, opts);
  }
}

/** https://docs.nginx.com/nginx-ingress-controller/logging-and-monitoring/prometheus/ */
const METRICS_PORT = 9113;
const SCRAPED = { "prometheus.io/scrape": "true", "prometheus.io/port": String(METRICS_PORT) };

function scraping({ metricsFor }: IngressControllerArgs): k8s.types.input.networking.v1.NetworkPolicyIngressRule[] {
  if (metricsFor === undefined) return [];
  const namespaceSelector = { matchLabels: { "kubernetes.io/metadata.name": metricsFor } };
  return [{ from: [{ namespaceSelector }], ports: [{ protocol: "TCP", port: "metrics" }] }];
}

interface PodUses {
  className: pulumi.Output<string>;
  configMapName: pulumi.Output<string>;
  serviceAccountName: pulumi.Output<string>;
}

function podSpec(args: IngressControllerArgs, labels: Labels, uses: PodUses): k8s.types.input.core.v1.PodSpec {
  return {
    serviceAccountName: uses.serviceAccountName,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    nodeSelector: args.nodeSelector,
    topologySpreadConstraints: [
      {
        topologyKey: "kubernetes.io/hostname",
        maxSkew: 1,
        whenUnsatisfiable: args.spread === "hard" ? "DoNotSchedule" : "ScheduleAnyway",
        labelSelector: { matchLabels: labels },
        // Each revision by itself, or a rollout would be stuck between the old one's pods.
        matchLabelKeys: ["pod-template-hash"],
        // A drained node does not count, or its pod would have nowhere to go.
        nodeTaintsPolicy: "Honor",
      },
    ],
    terminationGracePeriodSeconds: balancerOf(args).drainSeconds + WORKER_SHUTDOWN_SECONDS + 10,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 101,
      runAsGroup: 101,
      seccompProfile: { type: "RuntimeDefault" },
    },
    volumes: [...WRITABLE.map(([volume]) => ({ name: volume, emptyDir: {} })), identity("identity")],
    initContainers: [COPY_CONFIGURATION],
    containers: [
      {
        name: NAME,
        image: IMAGE,
        args: controllerArguments(args, uses),
        env: [
          { name: "POD_NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } },
          { name: "POD_NAME", valueFrom: { fieldRef: { fieldPath: "metadata.name" } } },
        ],
        ports: [
          ...portNames(args).map((port) => ({
            name: port,
            containerPort: PORTS[port],
            ...(args.expose === "HostPort" && { hostPort: PORTS[port] }),
          })),
          { name: "readiness", containerPort: 8081 },
          ...(args.metricsFor === undefined ? [] : [{ name: "metrics", containerPort: METRICS_PORT }]),
        ],
        readinessProbe: { httpGet: { path: "/nginx-ready", port: "readiness" }, periodSeconds: 1 },
        lifecycle: { preStop: { sleep: { seconds: balancerOf(args).drainSeconds } } },
        resources: RESOURCES,
        securityContext: { ...CONFINED, capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] } },
        volumeMounts: [
          ...WRITABLE.map(([volume, mountPath]) => ({ name: volume, mountPath })),
          { name: "identity", mountPath: IDENTITY, readOnly: true },
        ],
      },
    ],
  };
}

/** https://docs.nginx.com/nginx-ingress-controller/configuration/global-configuration/command-line-arguments/ */
function controllerArguments(args: IngressControllerArgs, uses: PodUses) {
  const { expose, allowEmptyHost, customResources = false, secretNamespaces = [], namespaces = [] } = args;
  const served = ["$(POD_NAMESPACE)", ...new Set([...namespaces, ...secretNamespaces])];
  return [
    pulumi.interpolate`-nginx-configmaps=$(POD_NAMESPACE)/${uses.configMapName}`,
    pulumi.interpolate`-ingress-class=${uses.className}`,
    `-enable-custom-resources=${customResources}`,
    "-enable-telemetry-reporting=false",
    // Secrets are read in namespaces that are in both lists. Where all are served there is none such, and no Secret is read.
    ...(secretNamespaces.length > 0
      ? [`-watch-namespace=${served.join(",")}`, `-watch-secret-namespace=${secretNamespaces.join(",")}`]
      : ["-watch-secret-namespace=$(POD_NAMESPACE)"]),
    `-leader-election-lock-name=${LEADER_LOCK}`,
    `-allow-empty-ingress-host=${allowEmptyHost}`,
    "-log-format=json",
    ...(args.metricsFor === undefined
      ? []
      : ["-enable-prometheus-metrics", `-prometheus-metrics-listen-port=${METRICS_PORT}`]),
    // By name and not by output: the Service waits for its balancer, which waits for these pods. It gives Ingresses their
    // address, and the number of pods that a rate limit is divided by.
    ...(expose === "HostPort" ? [] : [`-external-service=${NAME}`]),
    ...(expose === "LoadBalancer" ? ["-report-ingress-status"] : []),
  ];
}

const balancerOf = ({
  loadBalancer: { kind = "digitalocean" },
}: Pick<IngressControllerArgs, "loadBalancer">): Balancer => BALANCERS[kind];

function createService(
  name: string,
  args: IngressControllerArgs,
  metadata: Metadata,
  labels: Labels,
  opts: pulumi.CustomResourceOptions,
) {
  const { className, expose, loadBalancer } = args;
  const balancer = balancerOf(args);
  const http = { name: "http", port: 80, targetPort: redirects(args) ? "redirect" : "http" };
  if (expose === "NodePort")
    return new k8s.core.v1.Service(
      name,
      {
        metadata: { ...metadata, name: NAME, labels, annotations: { "pulumi.com/skipAwait": "true" } },
        spec: {
          type: "NodePort",
          selector: labels,
          ports: portNames(args).map((port) => ({ name: port, port: PORTS[port], targetPort: port })),
        },
      },
      opts,
    );
  const https = { name: "https", port: 443, targetPort: "http" };
  return new k8s.core.v1.Service(
    name,
    {
      metadata: {
        ...metadata,
        name: NAME,
        labels,
        annotations: {
          ...balancer.annotations({ ...loadBalancer, name: ofClass(loadBalancer.name, className) }),
          // The pods are the Deployment's to tell: the provider would wait 10 s more for them.
          "pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress[0]}",
        },
      },
      spec: {
        type: "LoadBalancer",
        ...(balancer.loadBalancerClass !== undefined && { loadBalancerClass: balancer.loadBalancerClass }),
        selector: labels,
        // `Cluster` would show NGINX every peer as a node of the VPC, and so have it believe anyone's X-Forwarded-For.
        externalTrafficPolicy: "Local",
        ports: loadBalancer.certificateName === undefined ? [http] : [http, https],
      },
    },
    {
      ...opts,
      // The controller manager ignores a changed type. The name is fixed, here and at the balancer: the old one goes first.
      replaceOnChanges: balancer.replacedBy.map((annotation) => `metadata.annotations["${annotation}"]`),
      deleteBeforeReplace: true,
    },
  );
}

type Metadata = { namespace: pulumi.Output<string> };
type Labels = Record<string, string>;

const RBAC = "rbac.authorization.k8s.io";
const LEASES = "coordination.k8s.io";
const READ = ["get", "list", "watch"];
const LEADER_LOCK = `${NAME}-leader-election`;

const ONE_MORE = { maxSurge: 1, maxUnavailable: 0 };
const ONE_LESS = { maxSurge: 0, maxUnavailable: 1 };

const RESOURCES = { requests: { ...INGRESS_REQUESTS }, limits: { memory: "512Mi" } };
const CONFINED = { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true };

/** What the controller writes, as its own manifests have it for a read-only root filesystem. */
const WRITABLE: [volume: string, path: string][] = [
  ["nginx-etc", "/etc/nginx"],
  ["nginx-cache", "/var/cache/nginx"],
  ["nginx-lib", "/var/lib/nginx"],
  ["nginx-state", "/var/lib/nginx/state"],
  ["nginx-log", "/var/log/nginx"],
];

const COPY_CONFIGURATION: k8s.types.input.core.v1.Container = {
  name: "copy-configuration",
  image: IMAGE,
  command: ["cp", "-dR", "/etc/nginx/.", "/mnt/etc"],
  resources: RESOURCES,
  securityContext: { ...CONFINED, capabilities: { drop: ["ALL"] } },
  volumeMounts: [{ name: "nginx-etc", mountPath: "/mnt/etc" }],
};
