import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { parseQuantity } from "../capacity";
import { describe, show, UserError } from "../violations";
import { TO_DNS } from "./namespace";
import { hardened } from "./podSpec";

type PodSpec = k8s.types.input.core.v1.PodSpec;
type Container = k8s.types.input.core.v1.Container;
type EnvVarSource = k8s.types.input.core.v1.EnvVarSource;
type Volume = k8s.types.input.core.v1.Volume;
type Input = pulumi.Input<string>;

/** What a Service and a Task have in common. All that cannot be is refused at once, before any resource. */
export interface PodArgs {
  /** Fixed name, which others address, and the pods' label `app.kubernetes.io/name`: a-z, 0-9 and "-", 50 at most. @default the component's */
  name?: string;
  namespace: Input;
  /** By digest, `repository@sha256:…`; of others also by an exact version. */
  image: Input;
  /** In place of the image's entrypoint, and of the arguments to it. @default the image's own */
  command?: Input[];
  args?: Input[];
  /** A value, or its source: `{ configMapKeyRef: { name, key } }`, `{ secretKeyRef: … }`, `{ fieldRef: { fieldPath: "status.podIP" } }`. */
  env?: Record<string, Input | EnvVarSource>;
  /** Values that only a Secret may hold: one is made of them. */
  secretEnv?: Record<string, Input>;
  /** Contents by directory and file name, `{ "/app/config": { "a.toml": "…" } }`. Changed ones start new pods; old pods keep theirs. */
  files?: Record<string, Record<string, Input>>;
  /** Likewise, of which only Secrets may know. */
  secretFiles?: Record<string, Record<string, Input>>;
  /** Further volumes by directory, `{ "/tmp": { emptyDir: {} } }`: the root filesystem is read only. */
  volumes?: Record<string, Partial<Volume>>;
  /** Memory of each pod, requested and limited, such as `128Mi`. */
  memory: string;
  /** CPU that each pod requests, such as `100m`; not limited. */
  cpu: string;
  /** Secret in the namespace that pulls from a private repository. @default none */
  pullSecretName?: Input;
  /** Numbers of the processes' user and group, never 0. @default 10001 */
  user?: number;
  /** Further labels of the pods, such as those by which another's policy lets them in. */
  labels?: Record<string, Input>;
  /** Whom the pods reach, beside DNS. @default nobody */
  to?: k8s.types.input.networking.v1.NetworkPolicyEgressRule[];
  /** Machines that take the pods: those with these labels, and those with these taints too. @default all without taints */
  nodeSelector?: PodSpec["nodeSelector"];
  tolerations?: PodSpec["tolerations"];
  /** What must outlive the pods on destroy, such as their machines. */
  workers?: pulumi.Resource[];
}

/** The label by which a workload's pods are selected. */
export const podLabels = (name: string) => ({ "app.kubernetes.io/name": name });

export interface Surroundings {
  /** The component's name, which its children's begin with. */
  name: string;
  labels: Record<string, string>;
  child: pulumi.CustomResourceOptions;
}

/** The pod that `args` describe, with the ConfigMaps and Secrets that it reads and an account without a token. */
export function createPod(args: PodArgs & { name: string }, { name, labels, child }: Surroundings) {
  const { namespace, user = 10001, pullSecretName } = args;
  const metadata = { name: args.name, namespace, labels };
  // Its own, so that rights given to another pod are never its too.
  const account = new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, child);
  const mounts = [...createFiles(args, { name, labels, child }), ...volumesOf(args)];
  const env = [...environment(args), ...createSecretEnv(args, { name, labels, child })];

  const podOf = (image: Input, container: Partial<Container>, pod: Partial<PodSpec>): PodSpec =>
    hardened({
      serviceAccountName: account.metadata.name,
      imagePullSecrets: pullSecretName === undefined ? undefined : [{ name: pullSecretName }],
      nodeSelector: args.nodeSelector,
      tolerations: args.tolerations,
      securityContext: { runAsUser: user, runAsGroup: user, ...(mounts.length > 0 && { fsGroup: user }) },
      ...pod,
      containers: [
        {
          name: args.name,
          image,
          command: args.command,
          args: args.args,
          ...(env.length > 0 && { env }),
          resources: { requests: { cpu: args.cpu, memory: args.memory }, limits: { memory: args.memory } },
          ...(mounts.length > 0 && { volumeMounts: mounts.map(mountOf) }),
          ...container,
        },
      ],
      ...(mounts.length > 0 && { volumes: mounts.map(({ volume }) => volume) }),
    });
  return { account: account.metadata.name, podOf };
}

/** Who may reach the pods, and whom they may reach. */
export function createPolicy(
  { namespace, to = [], name: fixed }: PodArgs,
  { name, labels, child }: Surroundings,
  ingress?: k8s.types.input.networking.v1.NetworkPolicyIngressRule[],
): void {
  const spec = { podSelector: { matchLabels: labels }, policyTypes: ["Ingress", "Egress"], ingress };
  const metadata = { name: fixed, namespace, labels };
  new k8s.networking.v1.NetworkPolicy(name, { metadata, spec: { ...spec, egress: [...to, TO_DNS] } }, child);
}

interface Mount {
  path: string;
  volume: Volume;
}

/** `/app/config` as a part of names. */
const slug = (path: string) =>
  path
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");

/** What a process cannot write anyway. */
const READ_ONLY = ["configMap", "secret", "downwardAPI", "projected"] as const;

const mountOf = ({ path, volume }: Mount) => ({
  name: volume.name,
  mountPath: path,
  ...(READ_ONLY.some((source) => volume[source]) && { readOnly: true }),
});

const volumesOf = ({ volumes = {} }: PodArgs): Mount[] =>
  Object.entries(volumes).map(([path, volume]) => ({ path, volume: { name: slug(path), ...volume } }));

/** Named by the engine: changed contents are new objects, and the old ones stay until no pod needs them. */
function createFiles({ namespace, files = {}, secretFiles = {} }: PodArgs, { name, labels, child }: Surroundings) {
  const metadata = { namespace, labels };
  const plain = Object.entries(files).map(([path, data]): Mount => {
    const made = new k8s.core.v1.ConfigMap(`${name}-${slug(path)}`, { metadata, immutable: true, data }, child);
    return { path, volume: { name: slug(path), configMap: { name: made.metadata.name } } };
  });
  const secret = Object.entries(secretFiles).map(([path, stringData]): Mount => {
    const made = new k8s.core.v1.Secret(`${name}-${slug(path)}`, { metadata, immutable: true, stringData }, child);
    return { path, volume: { name: slug(path), secret: { secretName: made.metadata.name, defaultMode: 0o440 } } };
  });
  return [...plain, ...secret];
}

const isValue = (value: Input | EnvVarSource): value is Input =>
  typeof value === "string" || pulumi.Output.isInstance(value) || value instanceof Promise;

const environment = ({ env = {} }: PodArgs): k8s.types.input.core.v1.EnvVar[] =>
  Object.entries(env).map(([name, value]) => (isValue(value) ? { name, value } : { name, valueFrom: value }));

function createSecretEnv({ namespace, secretEnv = {} }: PodArgs, { name, labels, child }: Surroundings) {
  const names = Object.keys(secretEnv);
  if (names.length === 0) return [];
  const metadata = { namespace, labels };
  const secret = new k8s.core.v1.Secret(`${name}-env`, { metadata, immutable: true, stringData: secretEnv }, child);
  return names.map((key) => ({ name: key, valueFrom: { secretKeyRef: { name: secret.metadata.name, key } } }));
}

// ── what cannot be ──────────────────────────────────────────────────────────────────────────────────────────────────

export interface Refusal {
  /** Such as `ports[0].name`. */
  arg: string;
  given: string;
  allowed: string;
}

/** @throws RunError that names every arg that cannot be; Pulumi prints its message alone */
export function refuse(kind: string, name: string, refusals: Refusal[]): void {
  if (refusals.length === 0) return;
  const told = refusals.map(({ arg, given, allowed }) => describe({ key: arg, given, allowed }));
  const count = refusals.length === 1 ? "an arg that cannot be" : `${refusals.length} args that cannot be`;
  throw new UserError(`The ${kind} "${name}" has ${count}:\n${told.join("")}`);
}

/** A value that must be known now. @param allowed what a refusal names */
export const rule = (allowed: string, holds: (value: never) => boolean) =>
  z.custom((value) => holds(value as never), { error: allowed });

export const whole = (min: number, max: number) =>
  rule(`a whole number from ${min} to ${max}`, (value) => Number.isInteger(value) && value >= min && value <= max);

const text = z.custom<Input>((value) => isValue(value as Input), { error: "a text, or an output of one" });
const quantity = (example: string) =>
  rule(`a Kubernetes quantity, e.g. ${example}`, (value) => (parseQuantity(String(value)) ?? 0) > 0);
const directory = z
  .string()
  .regex(/^(?!.*\/\.\.?(\/|$))(\/[\w.@-]+)+$/, "an absolute path of a directory, e.g. /app/config");
const variable = z.string().regex(/^[A-Za-z_]\w*$/, "a name of letters, digits and _, e.g. LOG_LEVEL");
const fileName = z.string().regex(/^(?!\.\.?$)[-.\w]{1,253}$/, "a file name of letters, digits, -, _ and .");
const contents = z.record(directory, z.record(fileName, text));
const some = z.unknown().optional();

const NAME = rule('at most 50 of a-z, 0-9 and "-", the first a letter', (value) =>
  /^[a-z]([-a-z0-9]{0,48}[a-z0-9])?$/.test(value),
);

export const podShape = {
  name: NAME,
  namespace: text,
  image: text,
  command: z.array(text).optional(),
  args: z.array(text).optional(),
  env: z.record(variable, z.unknown()).optional(),
  secretEnv: z.record(variable, text).optional(),
  files: contents.optional(),
  secretFiles: contents.optional(),
  volumes: z.record(directory, z.unknown()).optional(),
  memory: quantity("128Mi"),
  cpu: quantity("100m"),
  pullSecretName: text.optional(),
  user: whole(1, 2 ** 31 - 1).optional(),
  labels: z.record(z.string(), text).optional(),
  to: some,
  nodeSelector: some,
  tolerations: some,
  workers: some,
};

/** What is wrong with each arg by itself. */
export function refusals(schema: z.ZodType, args: object): Refusal[] {
  const { error } = schema.safeParse(args);
  return (error?.issues ?? []).map((issue) => {
    const { path, message } = issue;
    // Of a key that cannot be, zod tells the reasons below it.
    const allowed = issue.code === "invalid_key" ? (issue.issues[0]?.message ?? message) : message;
    const unknown = issue.code === "unrecognized_keys" ? issue.keys : undefined;
    const given = unknown?.join(", ") ?? showPart(args, path, issue.code === "invalid_key");
    return { arg: nameOf(path) || "args", given, allowed: unknown ? "no such arg" : allowed };
  });
}

/** What is there, or its name; of a secret only its kind. */
function showPart(args: object, path: PropertyKey[], isKey: boolean): string {
  if (isKey) return show(path.at(-1));
  const value = path.reduce<unknown>((outer, key) => (outer as Record<PropertyKey, unknown> | undefined)?.[key], args);
  return /^secret/.test(String(path[0])) ? `a ${typeof value}` : show(value);
}

const nameOf = (path: PropertyKey[]) =>
  path
    .map((part) =>
      typeof part === "number" ? `[${part}]` : /^\w+$/.test(String(part)) ? `.${String(part)}` : `["${String(part)}"]`,
    )
    .join("")
    .replace(/^\./, "");

/** What contradicts each other in a pod's args. */
export function podContradictions({
  env = {},
  secretEnv = {},
  files = {},
  secretFiles = {},
  volumes = {},
}: PodArgs): Refusal[] {
  const both = Object.keys(env).filter((name) => name in secretEnv);
  const paths = [files, secretFiles, volumes].flatMap(Object.keys);
  const shared = paths.filter((path, i) => paths.findIndex((other) => slug(other) === slug(path)) < i);
  const empty = Object.entries({ files, secretFiles }).flatMap(([arg, byPath]) =>
    Object.entries(byPath)
      .filter(([, contents]) => Object.keys(contents).length === 0)
      .map(([path]) => ({ arg: `${arg}["${path}"]`, given: "no file", allowed: "one file or more" })),
  );
  return [
    ...both.map((name) => ({
      arg: `secretEnv.${name}`,
      given: "a second value, beside env",
      allowed: "one of the two",
    })),
    ...shared.map((path) => ({
      arg: "files, secretFiles, volumes",
      given: `${path}, for a second time or in nearly the same letters`,
      allowed: "a directory once, in letters and digits that no other has",
    })),
    ...empty,
  ];
}
