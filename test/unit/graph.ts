import { setImmediate } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";

/** What the program asked the engine to register: one resource with everything that orders, guards or names it. */
export interface Captured {
  type: string;
  name: string;
  /** As the engine builds it, with every ancestor's type. */
  urn: string;
  custom: boolean;
  /** Exact inputs, secrets unwrapped; a value unknown in a preview is `UNKNOWN`. */
  // biome-ignore lint/suspicious/noExplicitAny: inputs have as many shapes as there are resource types
  inputs: any;
  /** Paths of the inputs that were secret, such as `stringData` or `registry.password`. */
  secrets: string[];
  parent?: string;
  dependencies: string[];
  propertyDependencies: Record<string, string[]>;
  /** URN of the explicit provider. */
  provider?: string;
  protect?: boolean;
  retainOnDelete?: boolean;
  deleteBeforeReplace?: boolean;
  ignoreChanges: string[];
  replaceOnChanges: string[];
  additionalSecretOutputs: string[];
  deletedWith?: string;
  /** URNs, or the name or the parent's URN that was another. */
  aliases: string[];
  customTimeouts: { create?: string; update?: string; delete?: string };
}

type MockedResource = { id?: string; state?: object } | undefined;
type ResourceMock = (args: pulumi.runtime.MockResourceArgs) => MockedResource | Promise<MockedResource>;

export interface CaptureOptions {
  /** Stack configuration with its namespace, objects as JSON: `{"hobnob:domain": "example.com"}`. */
  config?: Record<string, string>;
  /** Keys of `config` that are secret. */
  secretKeys?: string[];
  stack?: string;
  /** Whose namespace `new pulumi.Config()` reads. @default hobnob */
  project?: string;
  /** Run as `pulumi preview` does: no ids, and what a provider computes is unknown. */
  preview?: boolean;
  /** Overrides: outputs by resource (undefined: the defaults below), results by function token (an unknown token throws). */
  mocks?: { resource?: ResourceMock; calls?: Record<string, (inputs: Record<string, unknown>) => object> };
  /** `type` or `type::name` whose creation never ends: what is captured then did not wait for it, whatever the edges say. */
  stuck?: string;
}

export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
const SECRET = "4dabf18193072939515e22adb298388d";

/** Runs a program against mocks and returns its resources in the order in which they reached the engine. */
export async function capture(program: () => unknown, options: CaptureOptions = {}): Promise<Captured[]> {
  const captured: Captured[] = [];
  const failures: unknown[] = [];
  pulumi.runtime.setAllConfig(options.config ?? {}, options.secretKeys);
  await startMocks(options, captured);
  const restore = divertUnhandledRejections(failures);
  try {
    await program();
    await quiet(captured);
    // After a failure, or with a resource that never ends, the RPC queue never drains.
    if (failures.length === 0 && options.stuck === undefined) await pulumi.runtime.disconnect();
    // What the outputs of components still have to say must not reach the next program's monitor.
    await quiet(captured);
  } finally {
    restore();
    // A fresh monitor also drops the promises of a stuck resource, which would else fail the process at its exit.
    await pulumi.runtime.setMocks({ newResource: () => ({ id: "", state: {} }), call: () => ({}) });
  }
  if (failures.length > 0) throw failures[0];
  return captured;
}

/** The one resource of this type and name; the name may be left out where there is one of the type. */
export function find(graph: Captured[], type: string, name?: string): Captured {
  const found = graph.filter((r) => r.type === type && (name === undefined || r.name === name));
  const [resource] = found;
  if (resource && found.length === 1) return resource;
  const known = graph.map((r) => `${r.type}::${r.name}`).join("\n  ");
  throw new Error(`${found.length} resources are ${type}::${name ?? "*"}; there are:\n  ${known}`);
}

export const ofType = (graph: Captured[], type: string): Captured[] => graph.filter((r) => r.type === type);

/** Whether the engine starts `a` only when `b` is done: over dependencies, parents and providers, at any distance. */
export function waitsFor(graph: Captured[], a: Captured, b: Captured): boolean {
  const byUrn = new Map(graph.map((r) => [r.urn, r]));
  const seen = new Set<string>();
  const visit = (urn: string): boolean => {
    if (urn === b.urn) return true;
    if (seen.has(urn)) return false;
    seen.add(urn);
    return edges(byUrn.get(urn)).some(visit);
  };
  return edges(a).some(visit);
}

/** Direct edges: what must exist before this resource is created, and is deleted after it. */
export function edges(resource: Captured | undefined): string[] {
  if (!resource) return [];
  const { dependencies, propertyDependencies, parent, provider } = resource;
  const all = [...dependencies, ...Object.values(propertyDependencies).flat(), parent, provider];
  return [...new Set(all.filter((urn) => urn !== undefined))];
}

/** The value of an output, whether it is secret, and whether it is known (a preview's may not be). */
export async function unwrap<T>(output: pulumi.Output<T>): Promise<{ value: T; secret: boolean; known: boolean }> {
  const details = output as unknown as { promise(): Promise<T>; isKnown: Promise<boolean>; isSecret: Promise<boolean> };
  const [value, known, secret] = await Promise.all([details.promise(), details.isKnown, details.isSecret]);
  return { value, known, secret };
}

/** The state of a stack that was never brought up. */
const emptyState: Record<string, (inputs: Record<string, unknown>) => object> = {
  "pulumi:pulumi:readStackResourceOutputs": () => ({ outputs: {} }),
};

async function startMocks(options: CaptureOptions, captured: Captured[]) {
  await pulumi.runtime.setMocks(
    {
      newResource: (args) => respond(args, options),
      call: ({ token, inputs }) => {
        const answer = { ...emptyState, ...options.mocks?.calls }[token];
        const details = `Mock call not implemented: ${token}`;
        // The SDK shows only the `details` of a gRPC error.
        if (!answer) throw Object.assign(new Error(details), { details });
        return answer(inputs);
      },
    },
    options.project ?? "hobnob",
    options.stack ?? "test",
    options.preview ?? false,
    "organization",
  );
  // biome-ignore lint/suspicious/noExplicitAny: the mock monitor's methods have no public type
  const monitor = pulumi.runtime.getMonitor() as any;
  monitor.newUrn = engineUrn;
  const register = monitor.registerResource.bind(monitor);
  monitor.registerResource = (
    request: RegisterRequest,
    callback: (error: Error | null, response?: unknown) => void,
  ) => {
    const resource = describe(request);
    // The mock monitor would accept it; the engine does not.
    if (captured.some((other) => other.urn === resource.urn))
      return callback(new Error(`Duplicate resource URN '${resource.urn}'; try giving it a unique name`));
    captured.push(resource);
    if (options.stuck === resource.type || options.stuck === `${resource.type}::${resource.name}`) return;
    return register(request, callback);
  };
}

async function respond(args: pulumi.runtime.MockResourceArgs, { preview, mocks }: CaptureOptions) {
  const own = await mocks?.resource?.(args);
  const id = args.custom ? `${args.name}-id` : "";
  if (own) return { id: own.id ?? (preview ? undefined : id), state: (own.state ?? {}) as Record<string, unknown> };
  if (!preview) return { id, state: { ...args.inputs, ...computed(args) } };
  // While a first preview does not know the cluster, its provider is not configured and knows no output at all.
  return { id: undefined, state: args.type.startsWith("kubernetes:") ? {} : args.inputs };
}

/** What the real providers add to the inputs, as far as the program reads it. */
function computed({ type, name, inputs }: pulumi.runtime.MockResourceArgs): object {
  if (type.startsWith("kubernetes:")) {
    const metadata = { name: `${name}-0a1b2c3d`, namespace: "default", ...inputs.metadata };
    const ingress = inputs.spec?.loadBalancerClass?.startsWith("eks.")
      ? [{ hostname: "k8s-nginx.elb.eu-central-1.amazonaws.com" }]
      : [{ ip: "203.0.113.10" }, { ip: "2001:db8::10" }];
    const balanced = inputs.spec?.type === "LoadBalancer" || type.endsWith(":Ingress");
    return { metadata, ...(balanced && { status: { loadBalancer: { ingress } } }) };
  }
  switch (type) {
    case "digitalocean:index/kubernetesCluster:KubernetesCluster": {
      const kubeConfig = {
        clusterCaCertificate: "Y2E=",
        host: "https://cluster.test",
        token: "short-lived",
        rawConfig: "",
      };
      return { endpoint: "https://cluster.test", kubeConfigs: [kubeConfig], clusterUrn: `do:kubernetes:${name}` };
    }
    case "digitalocean:index/vpc:Vpc":
      return { vpcUrn: `do:vpc:${name}`, default: false };
    case "digitalocean:index/domain:Domain":
      return { domainUrn: `do:domain:${inputs.name}`, ttl: 1800 };
    case "digitalocean:index/dnsRecord:DnsRecord":
      return { fqdn: `${inputs.name}.${inputs.domain}` };
    case "digitalocean:index/certificate:Certificate":
      return { uuid: `${name}-uuid`, state: "verified" };
    case "docker:index/image:Image":
      return { repoDigest: `${String(inputs.imageName).replace(/:[^/]*$/, "")}@sha256:${"0".repeat(64)}` };
    case "random:index/randomPassword:RandomPassword":
      return { result: `${name}-result`, bcryptHash: `$2a$10$${name}-hash` };
    case "tls:index/privateKey:PrivateKey":
      return { privateKeyPem: `${name}-key`, privateKeyPemPkcs8: `${name}-key-pkcs8` };
    case "tls:index/certRequest:CertRequest":
      return { certRequestPem: `${name}-request` };
    case "tls:index/selfSignedCert:SelfSignedCert":
    case "tls:index/locallySignedCert:LocallySignedCert":
      return { certPem: `${name}-certificate` };
    default:
      return {};
  }
}

// biome-ignore lint/suspicious/noExplicitAny: the generated protocol class is not part of the SDK's public types
type RegisterRequest = any;

function describe(request: RegisterRequest): Captured {
  const secrets: string[] = [];
  const timeouts = request.getCustomtimeouts();
  const customTimeouts = {
    create: timeouts?.getCreate(),
    update: timeouts?.getUpdate(),
    delete: timeouts?.getDelete(),
  };
  const provider: string = request.getProvider();
  const propertyDependencies: Record<string, string[]> = {};
  request.getPropertydependenciesMap().forEach((value: RegisterRequest, key: string) => {
    if (value.getUrnsList().length > 0) propertyDependencies[key] = value.getUrnsList();
  });
  return {
    type: request.getType(),
    name: request.getName(),
    urn: engineUrn(request.getParent(), request.getType(), request.getName()),
    custom: request.getCustom(),
    inputs: unwrapSecrets(request.getObject()?.toJavaScript() ?? {}, "", secrets),
    secrets,
    parent: request.getParent() || undefined,
    dependencies: request.getDependenciesList(),
    propertyDependencies,
    provider: provider === "" ? undefined : provider.slice(0, provider.lastIndexOf("::")),
    protect: request.getProtect(),
    retainOnDelete: request.getRetainondelete(),
    deleteBeforeReplace: request.getDeletebeforereplacedefined() ? request.getDeletebeforereplace() : undefined,
    ignoreChanges: request.getIgnorechangesList(),
    replaceOnChanges: request.getReplaceonchangesList(),
    additionalSecretOutputs: request.getAdditionalsecretoutputsList(),
    deletedWith: request.getDeletedwith() || undefined,
    aliases: request.getAliasesList().map((alias: RegisterRequest) => aliasOf(alias)),
    customTimeouts: Object.fromEntries(Object.entries(customTimeouts).filter(([, value]) => value)),
  };
}

/** The whole name, or the part of it that was another one. */
const aliasOf = (alias: RegisterRequest): string =>
  alias.getUrn() || alias.getSpec()?.getName() || alias.getSpec()?.getParenturn();

/** The mock monitor keeps only the parent's own type, and so takes two different resources for one. */
function engineUrn(parent: string | undefined, type: string, name: string): string {
  const parentType = parent?.split("::")[2];
  const qualified = parentType && parentType !== "pulumi:pulumi:Stack" ? `${parentType}$${type}` : type;
  return `urn:pulumi:${[pulumi.getStack(), pulumi.getProject(), qualified, name].join("::")}`;
}

function unwrapSecrets(value: unknown, path: string, secrets: string[]): unknown {
  if (Array.isArray(value)) return value.map((item, index) => unwrapSecrets(item, `${path}[${index}]`, secrets));
  if (typeof value !== "object" || value === null) return value;
  if (SECRET in value) {
    secrets.push(path);
    return unwrapSecrets((value as { value?: unknown }).value, path, secrets);
  }
  const below = (key: string) => (path === "" ? key : `${path}.${key}`);
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, unwrapSecrets(item, below(key), secrets)]),
  );
}

/** Mocks answer without I/O, so one turn of the event loop runs all that can run; quiet after several is the end. */
async function quiet(captured: Captured[]) {
  for (let before = -1; before !== captured.length; ) {
    before = captured.length;
    for (let turn = 0; turn < 5; turn++) await setImmediate();
  }
}

/** An error in an output is nobody's promise: report the first one as the capture's own. */
function divertUnhandledRejections(failures: unknown[]): () => void {
  const usual = process.listeners("unhandledRejection");
  const collect = (reason: unknown) => failures.push(reason);
  process.removeAllListeners("unhandledRejection").on("unhandledRejection", collect);
  return () => {
    process.off("unhandledRejection", collect);
    for (const listener of usual) process.on("unhandledRejection", listener);
  };
}

/** A pool of machines, for what depends on some. */
export class Pool extends pulumi.CustomResource {
  constructor(name: string) {
    super("test:index:Pool", name, {});
  }
}
