import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { backendLabels, fromController } from "./ingress";
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
import { spreadOverMachines } from "./podSpec";

type Probe = k8s.types.input.core.v1.Probe;

interface ServicePort {
  /** At most 15 of a-z, 0-9 and "-". */
  name: string;
  /** The Service's, 1 to 65535. */
  port: number;
  /** What the process listens on. @default `port` */
  targetPort?: number;
  /** Of every machine, 30000 to 32767; with serviceType NodePort. @default chosen by the cluster */
  nodePort?: number;
  /** @default TCP */
  protocol?: "TCP" | "UDP";
  /** What is spoken, such as `http` or `kubernetes.io/h2c`. @default unsaid */
  appProtocol?: string;
  /** Kept from the controller of `ingressClass`. @default false */
  internal?: boolean;
}

/** A contradiction, or a value that cannot be, is an error that names all of them, what was given and what is allowed. */
export interface ServiceArgs extends PodArgs {
  /** Without any there is no Service, and nobody reaches the pods. */
  ports: ServicePort[];
  /** Headless has no address of its own: its name is that of each pod. @default ClusterIP */
  serviceType?: "ClusterIP" | "NodePort" | "Headless";
  /** Class of the ingress controller that may reach the ports; only the name is used, nothing waits for it. @default none */
  ingressClass?: pulumi.Input<string>;
  /** Who else may reach the pods. @default nobody */
  from?: k8s.types.input.networking.v1.NetworkPolicyIngressRule[];
  /** Pods; not beside `autoscaling`. From 2 on a drain takes one at a time. @default 2 */
  replicas?: number;
  /** Pods by their CPU, in percent of `cpu`; needs a metrics server. */
  autoscaling?: { minReplicas: number; maxReplicas: number; cpuPercent: number };
  /** While it fails, the process starts: the others wait for it. @default none */
  startup?: Probe;
  /** Whether requests can be served now: pods of which it fails get none, and a rollout waits for it. @default as soon as it runs */
  readiness?: Probe;
  /** Whether the process itself is well, whatever it depends on: it is restarted where not. @default only if it ends */
  liveness?: Probe;
  /** Seconds that a pod serves on after its end was asked for, while clients learn of it. @default 10, and 0 without ports */
  preStopSeconds?: number;
  /** Seconds from then until it is killed: the longest request and the process's own end. @default 30 */
  stopSeconds?: number;
  /** Recreate stops all old pods before it starts one: for what can't be there twice. @default Rolling: one more, never one less */
  strategy?: "Rolling" | "Recreate";
  /**
   * Pods of another image beside the others; without it they go again, and to promote it is to make it `image`. `shared`:
   * the Service sends each pod alike. `routed`: only the Service `<name>-canary` leads there, as Routes say. Not with
   * Recreate. @default replicas 2, shared
   */
  canary?: { image: pulumi.Input<string>; replicas?: number; requests?: "shared" | "routed" };
  /** Whether pods must be on two machines or more, as evenly as can be, or only should. @default soft */
  spread?: pulumi.Input<"hard" | "soft">;
  /** Time for pods to become ready, after which `up` fails and the old ones serve on, such as `20m`. @default 10m */
  readyTimeout?: string;
}

/** For a component that is a Service too. */
interface Kind {
  /** Its type token. */
  type: string;
  /** Whether its pods are told from a canary's; a Deployment's selector can't be changed, so neither can this. */
  tracked: boolean;
}

const TRACK = "hobnob/track";

/** A long-running process in as many pods as wanted, and how it is reached. */
export class Service extends pulumi.ComponentResource {
  /** By which other's policies name the pods, the canary's included. */
  readonly labels: Record<string, string>;
  /** To bind roles to. */
  readonly serviceAccountName: pulumi.Output<string>;
  /** Where the canary alone answers. */
  readonly canaryServiceName?: pulumi.Output<string>;
  /** One output: who compares two of its users finds the same. */
  readonly #serviceName?: pulumi.Output<string>;

  constructor(
    name: string,
    args: ServiceArgs,
    opts?: pulumi.ComponentResourceOptions,
    { type, tracked }: Kind = { type: "hobnob:platform:Service", tracked: true },
  ) {
    const all = { ...args, name: args.name ?? name };
    reject(name, all, tracked);
    super(type, name, {}, opts);
    const { ports, autoscaling, canary, ingressClass } = all;
    this.labels = podLabels(all.name);
    const around: Surroundings = { name, labels: this.labels, child: { parent: this } };
    const stable: Track = {
      name,
      fixed: all.name,
      labels: tracked ? { ...this.labels, [TRACK]: "stable" } : this.labels,
    };
    const trial: Track = {
      name: `${name}-canary`,
      fixed: `${all.name}-canary`,
      labels: { ...this.labels, [TRACK]: "canary" },
    };

    if (ports.length > 0) {
      const selector = canary?.requests === "routed" ? stable.labels : this.labels;
      this.#serviceName = createService({ ...stable, labels: selector }, all, around).metadata.name;
      if (canary)
        this.canaryServiceName = createService(trial, { ...all, serviceType: "ClusterIP" }, around).metadata.name;
    }
    createPolicy(all, around, [...fromIngress(ingressClass, ports), ...(all.from ?? [])]);

    const { account, podOf } = createPod(all, around);
    this.serviceAccountName = account;
    const pod = (track: Track, image: pulumi.Input<string>) =>
      podOf(image, containerOf(all), {
        topologySpreadConstraints: spreadOverMachines(track.labels, all.spread ?? "soft"),
        ...stopOf(all),
      });

    const replicas = autoscaling ? undefined : (all.replicas ?? 2);
    const deployment = createDeployment(stable, all, replicas, pod(stable, all.image), around);
    if ((autoscaling?.minReplicas ?? replicas ?? 1) > 1) createBudget(stable, all, around);
    if (autoscaling) createAutoscaler(deployment, all, autoscaling, around);
    if (canary) {
      const count = canary.replicas ?? 2;
      createDeployment(trial, all, count, pod(trial, canary.image), around);
      if (count > 1) createBudget(trial, all, around);
    }
    this.registerOutputs();
  }

  /** By which the pods are reached in their namespace. */
  get serviceName(): pulumi.Output<string> {
    if (!this.#serviceName)
      throw new pulumi.RunError("A Service without ports has no name that it is reached by; allowed: ports");
    return this.#serviceName;
  }
}

/** Pods of one image. */
interface Track {
  /** Of the resources. */
  name: string;
  /** Of the objects. */
  fixed: string;
  labels: Record<string, string>;
}

type Args = ServiceArgs & { name: string };

function createService({ name, fixed, labels: selector }: Track, args: Args, { labels, child }: Surroundings) {
  const { namespace, ports, serviceType = "ClusterIP" } = args;
  // Readiness is the Deployment's to tell: the provider would wait 10 s more for the Service.
  const metadata = { name: fixed, namespace, labels, annotations: { "pulumi.com/skipAwait": "true" } };
  return new k8s.core.v1.Service(
    name,
    {
      metadata,
      spec: {
        ...(serviceType === "NodePort" && { type: "NodePort" }),
        ...(serviceType === "Headless" && { clusterIP: "None" }),
        selector,
        ports: ports.map(({ name, port, nodePort, protocol, appProtocol }) => {
          // A canary's has none of its own: a machine's port is one Service's.
          const own = serviceType === "NodePort" ? { nodePort } : {};
          return { name, port, targetPort: name, protocol, appProtocol, ...own };
        }),
      },
    },
    child,
  );
}

function fromIngress(ingressClass: ServiceArgs["ingressClass"], ports: ServicePort[]) {
  if (ingressClass === undefined) return [];
  const open = ports.filter(({ internal, protocol }) => !internal && protocol !== "UDP");
  return [{ from: [fromController(ingressClass)], ports: open.map(({ name }) => ({ protocol: "TCP", port: name })) }];
}

function createDeployment(
  { name, fixed, labels }: Track,
  args: Args,
  replicas: number | undefined,
  spec: k8s.types.input.core.v1.PodSpec,
  around: Surroundings,
) {
  const { namespace, workers, ingressClass, readyTimeout, strategy = "Rolling" } = args;
  return new k8s.apps.v1.Deployment(
    name,
    {
      metadata: { name: fixed, namespace, labels: around.labels },
      spec: {
        // The autoscaler's to set, where there is one.
        ...(replicas !== undefined && { replicas }),
        revisionHistoryLimit: 3,
        strategy:
          strategy === "Recreate"
            ? { type: "Recreate" }
            : { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
        selector: { matchLabels: labels },
        template: {
          metadata: {
            labels: { ...args.labels, ...labels, ...(ingressClass !== undefined && backendLabels(ingressClass)) },
          },
          spec,
        },
      },
    },
    {
      ...around.child,
      // On destroy the machines must wait for the pods: no value carries that.
      dependsOn: workers,
      ...(readyTimeout && { customTimeouts: { create: readyTimeout, update: readyTimeout } }),
    },
  );
}

function createBudget({ name, fixed, labels }: Track, { namespace }: Args, around: Surroundings) {
  const metadata = { name: fixed, namespace, labels: around.labels };
  // A pod that isn't ready serves nobody: it must not keep a machine from being drained.
  const spec = { selector: { matchLabels: labels }, maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" };
  new k8s.policy.v1.PodDisruptionBudget(name, { metadata, spec }, around.child);
}

function createAutoscaler(
  deployment: k8s.apps.v1.Deployment,
  { name: fixed, namespace }: Args,
  { minReplicas, maxReplicas, cpuPercent }: NonNullable<ServiceArgs["autoscaling"]>,
  { name, labels, child }: Surroundings,
) {
  const target = { type: "Utilization", averageUtilization: cpuPercent };
  new k8s.autoscaling.v2.HorizontalPodAutoscaler(
    name,
    {
      metadata: { name: fixed, namespace, labels },
      spec: {
        scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: deployment.metadata.name },
        minReplicas,
        maxReplicas,
        metrics: [{ type: "Resource", resource: { name: "cpu", target } }],
      },
    },
    child,
  );
}

const preStopOf = ({ preStopSeconds, ports }: Args) => preStopSeconds ?? (ports.length > 0 ? 10 : 0);

const stopOf = (args: Args) => ({ terminationGracePeriodSeconds: preStopOf(args) + (args.stopSeconds ?? 30) });

function containerOf(args: Args): Partial<k8s.types.input.core.v1.Container> {
  const { ports, startup, readiness, liveness } = args;
  const seconds = preStopOf(args);
  return {
    ...(ports.length > 0 && {
      ports: ports.map(({ name, port, targetPort, protocol }) => ({
        name,
        containerPort: targetPort ?? port,
        protocol,
      })),
    }),
    startupProbe: startup,
    readinessProbe: readiness,
    livenessProbe: liveness,
    ...(seconds > 0 && { lifecycle: { preStop: { sleep: { seconds } } } }),
  };
}

// ── what cannot be ──────────────────────────────────────────────────────────────────────────────────────────────────

const oneOf = (...allowed: string[]) => rule(allowed.join(", "), (value) => allowed.includes(value));
const some = z.unknown().optional();
const PODS = whole(1, 1000);
const SECONDS = whole(0, 86_400);

const schema = z.strictObject({
  ...podShape,
  ports: z.array(
    z.strictObject({
      name: rule(
        'at most 15 of a-z, 0-9 and "-", a letter among them',
        (value) => /^(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?$/.test(value) && !String(value).includes("--"),
      ),
      port: whole(1, 65535),
      targetPort: whole(1, 65535).optional(),
      nodePort: whole(30000, 32767).optional(),
      protocol: oneOf("TCP", "UDP").optional(),
      appProtocol: z.string().optional(),
      internal: z.boolean().optional(),
    }),
  ),
  serviceType: oneOf("ClusterIP", "NodePort", "Headless").optional(),
  ingressClass: some,
  from: some,
  replicas: PODS.optional(),
  autoscaling: z.strictObject({ minReplicas: PODS, maxReplicas: PODS, cpuPercent: whole(1, 1000) }).optional(),
  startup: some,
  readiness: some,
  liveness: some,
  preStopSeconds: SECONDS.optional(),
  stopSeconds: SECONDS.optional(),
  strategy: oneOf("Rolling", "Recreate").optional(),
  canary: z
    .strictObject({ image: podShape.image, replicas: PODS.optional(), requests: oneOf("shared", "routed").optional() })
    .optional(),
  spread: some,
  readyTimeout: rule("a time such as 90s or 20m", (value) => /^([1-9]\d*[smh])+$/.test(value)).optional(),
});

function reject(name: string, args: Args, tracked: boolean): void {
  const wrong = refusals(schema, args);
  // Of parts that are none there is nothing to compare.
  const contradictions = Array.isArray(args.ports)
    ? [...podContradictions(args), ...serviceContradictions(args, tracked)]
    : [];
  refuse("Service", name, [...wrong, ...contradictions]);
}

function serviceContradictions(args: Args, tracked: boolean): Refusal[] {
  const { ports, serviceType = "ClusterIP", ingressClass, replicas, autoscaling, strategy, canary } = args;
  const found: [boolean, Refusal][] = [
    [
      autoscaling !== undefined && replicas !== undefined,
      { arg: "replicas", given: `${replicas} beside autoscaling`, allowed: "one of the two" },
    ],
    [
      autoscaling !== undefined && autoscaling.minReplicas > autoscaling.maxReplicas,
      {
        arg: "autoscaling.minReplicas",
        given: `${autoscaling?.minReplicas}`,
        allowed: `at most maxReplicas, ${autoscaling?.maxReplicas}`,
      },
    ],
    [
      canary !== undefined && strategy === "Recreate",
      { arg: "canary", given: "beside strategy Recreate", allowed: "strategy Rolling: two versions run side by side" },
    ],
    [canary !== undefined && !tracked, { arg: "canary", given: "of a component without", allowed: "none" }],
    ...(["serviceType", "ingressClass", "from"] as const).map((arg): [boolean, Refusal] => [
      ports.length === 0 && args[arg] !== undefined,
      { arg, given: "without ports", allowed: "ports, or none of it" },
    ]),
    [
      ingressClass !== undefined && ports.length > 0 && fromIngress("", ports)[0]?.ports.length === 0,
      { arg: "ingressClass", given: "no TCP port that isn't internal", allowed: "one such port or more" },
    ],
  ];
  return [
    ...found.filter(([is]) => is).map(([, refusal]) => refusal),
    ...(["name", "port", "nodePort"] as const).flatMap((key) => twice(ports, key)),
    ...ports.flatMap(({ nodePort }, i) =>
      nodePort === undefined || serviceType === "NodePort"
        ? []
        : [
            {
              arg: `ports[${i}].nodePort`,
              given: `${nodePort} with serviceType ${serviceType}`,
              allowed: "serviceType NodePort",
            },
          ],
    ),
    ...(["startup", "readiness", "liveness"] as const).flatMap((probe) => unknownPort(probe, args)),
  ];
}

/** UDP and TCP have numbers of their own. */
function twice(ports: ServicePort[], key: "name" | "port" | "nodePort"): Refusal[] {
  const values = ports.map((port) =>
    key === "name" ? port.name : port[key] && `${port[key]}/${port.protocol ?? "TCP"}`,
  );
  return values.flatMap((value, i) =>
    value !== undefined && values.indexOf(value) < i
      ? [{ arg: `ports[${i}].${key}`, given: `${value} for a second time`, allowed: "one that no other port has" }]
      : [],
  );
}

function unknownPort(probe: "startup" | "readiness" | "liveness", args: Args): Refusal[] {
  // biome-ignore lint/suspicious/noExplicitAny: a probe's parts may be outputs, of which nothing is known yet
  const given: any = args[probe];
  const port = given?.httpGet?.port ?? given?.tcpSocket?.port;
  if (typeof port !== "string" || args.ports.some(({ name }) => name === port)) return [];
  const names = args.ports.map(({ name }) => name).join(", ");
  return [{ arg: probe, given: `the port ${port}`, allowed: names ? `${names}, or a number` : "a number" }];
}
