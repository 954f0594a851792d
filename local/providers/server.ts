import { createHash } from "node:crypto";
import * as grpc from "@grpc/grpc-js";
import { EngineClient } from "@pulumi/pulumi/proto/engine_grpc_pb";
import { LogRequest, LogSeverity } from "@pulumi/pulumi/proto/engine_pb";
import { PluginInfo } from "@pulumi/pulumi/proto/plugin_pb";
import { type IResourceProviderServer, ResourceProviderService } from "@pulumi/pulumi/proto/provider_grpc_pb";
import * as proto from "@pulumi/pulumi/proto/provider_pb";
import { Status } from "@pulumi/pulumi/proto/status_pb";
import { Any } from "google-protobuf/google/protobuf/any_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { Struct } from "google-protobuf/google/protobuf/struct_pb";

/** Plain values; an unknown one (preview) is {@link UNKNOWN}. What a provider returns may hold {@link secret} values and `undefined`. */
export type Properties = Record<string, unknown>;

/** Stands for every value that is not known during a preview. Source: SDK, runtime/rpc `unknownValue`. */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

const SIGNATURE = "4dabf18193072939515e22adb298388d";
const SECRET = "1b47061264138c4ac30d75fd1eb44270";
const MESSAGE_LIMIT = 400 * 1024 * 1024; // as the official plugins: an image's context or a large state exceed gRPC's 4 MiB

export class Secret {
  constructor(readonly value: unknown) {}
}

/** Marks an output as secret. Outputs whose input is secret are marked by the server itself. */
export const secret = (value: unknown): Secret => (value instanceof Secret ? value : new Secret(value));

interface ResourceRequest {
  urn: string;
  /** Type token, e.g. `kubernetes:core/v1:Service`. */
  type: string;
  /** The resource's name in the program. */
  name: string;
}

export interface CheckRequest extends ResourceRequest {
  /** Inputs of the last run; `undefined` on the first. */
  oldInputs: Properties | undefined;
  inputs: Properties;
  /** As `inputs`, with {@link Secret} values. */
  markedInputs: Properties;
  randomSeed: Uint8Array;
  autonaming: { proposedName: string; mode: "propose" | "enforce" | "disable" } | undefined;
}

export interface CheckResult {
  inputs: Properties;
  failures?: { property?: string; reason: string }[];
}

export interface DiffRequest extends ResourceRequest {
  id: string;
  /** The last known outputs. */
  state: Properties;
  oldInputs: Properties;
  inputs: Properties;
  ignoreChanges: string[];
}

export type DiffKind = "add" | "add-replace" | "delete" | "delete-replace" | "update" | "update-replace";

export interface DiffResult {
  /** @default whether `detailedDiff`, `diffs` or `replaces` name a property */
  changes?: boolean;
  /** Property path → kind; a `…-replace` kind is a replace by itself. `inputDiff` compares inputs instead of the old state. */
  detailedDiff?: Record<string, DiffKind | { kind: DiffKind; inputDiff: boolean }>;
  diffs?: string[];
  replaces?: string[];
  deleteBeforeReplace?: boolean;
}

export interface CreateRequest extends ResourceRequest {
  inputs: Properties;
  markedInputs: Properties;
  preview: boolean;
  /** Seconds, from `customTimeouts`; 0 where none is set. */
  timeout: number;
}

export interface UpdateRequest extends CreateRequest {
  id: string;
  state: Properties;
  oldInputs: Properties;
  ignoreChanges: string[];
}

export interface ReadRequest extends ResourceRequest {
  id: string;
  /** Empty where the resource is being imported or looked up. */
  state: Properties;
  inputs: Properties;
  markedInputs: Properties;
}

export interface DeleteRequest extends ResourceRequest {
  id: string;
  state: Properties;
  oldInputs: Properties;
  timeout: number;
}

interface InvokeRequest {
  token: string;
  args: Properties;
  preview: boolean;
}

export interface ConfigureRequest {
  /** The provider's config; the Node SDK sends what is no string as JSON text. */
  args: Properties;
}

/** What a simulated provider implements; the server does the protocol, secrets and errors. */
export interface Provider {
  /** The version of the SDK package that the program uses: the engine compares them. */
  version: string;
  checkConfig?(request: CheckRequest): Promise<CheckResult>;
  diffConfig?(request: DiffRequest): Promise<DiffResult>;
  configure?(request: ConfigureRequest): Promise<void>;
  check(request: CheckRequest): Promise<CheckResult>;
  diff(request: DiffRequest): Promise<DiffResult>;
  create(request: CreateRequest): Promise<{ id: string; outputs: Properties }>;
  /** `undefined`: the resource is gone. */
  read?(request: ReadRequest): Promise<{ id: string; outputs: Properties; inputs: Properties } | undefined>;
  /** Without it the engine is told that nothing can be updated in place. */
  update?(request: UpdateRequest): Promise<Properties>;
  delete(request: DeleteRequest): Promise<void>;
  invoke?(request: InvokeRequest): Promise<Properties>;
  /** The user pressed Ctrl-C: end what is under way soon. */
  cancel?(): void;
}

/** What a provider may ask of the engine. */
export interface Engine {
  log(severity: "debug" | "info" | "warning" | "error", message: string, urn?: string): void;
  /** As `log`, shown only while the resource is being worked on. */
  status(message: string, urn: string): void;
}

/** The resource exists but is not usable: the engine keeps its state, fails the run, and updates it on the next one. */
export class InitializationError extends Error {
  constructor(
    message: string,
    readonly id: string,
    readonly outputs: Properties,
    readonly reasons: string[] = [],
    readonly inputs?: Properties,
  ) {
    super(message);
  }
}

/** The engine's random seed makes a name that a retry of the same step gets again. */
export const randomHex = (seed: Uint8Array, length: number): string =>
  createHash("sha256")
    .update(seed.length > 0 ? seed : crypto.getRandomValues(new Uint8Array(32)))
    .digest("hex")
    .slice(0, length);

const isObject = (value: unknown): value is Properties =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Secret);

/** Whether a value holds an {@link UNKNOWN} anywhere. */
export function hasUnknown(value: unknown): boolean {
  if (value === UNKNOWN) return true;
  if (value instanceof Secret) return hasUnknown(value.value);
  return typeof value === "object" && value !== null && Object.values(value).some(hasUnknown);
}

const hasSecret = (value: unknown): boolean =>
  value instanceof Secret || (typeof value === "object" && value !== null && Object.values(value).some(hasSecret));

/** Marks each output whose input of the same path is secret; a list with one secret is secret as a whole, as in the official plugins. */
export function keepSecrets(outputs: Properties, markedInputs: Properties): Properties {
  const marked = { ...outputs };
  for (const [key, input] of Object.entries(markedInputs)) {
    const output = outputs[key];
    if (output === undefined || output === null) continue;
    if (isObject(output) && isObject(input)) marked[key] = keepSecrets(output, input);
    else if (hasSecret(input)) marked[key] = secret(output);
  }
  return marked;
}

/** Property path of the engine's syntax: `spec.ports[0].name`, `metadata.labels["app.kubernetes.io/name"]`. */
export function propertyPath(parts: (string | number)[]): string {
  return parts.reduce<string>((path, part) => {
    if (typeof part === "number") return `${path}[${part}]`;
    if (/[."[\]]/.test(part)) return `${path}["${part.replaceAll('"', '\\"')}"]`;
    return path === "" ? part : `${path}.${part}`;
  }, "");
}

/** The leaves in which two bags differ, as path → kind. */
export function diffProperties(
  olds: unknown,
  news: unknown,
  parts: (string | number)[] = [],
): Record<string, DiffKind> {
  if (olds === news) return {};
  if (isObject(olds) && isObject(news)) {
    const keys = new Set([...Object.keys(olds), ...Object.keys(news)]);
    return Object.assign({}, ...[...keys].map((key) => diffProperties(olds[key], news[key], [...parts, key])));
  }
  if (Array.isArray(olds) && Array.isArray(news)) {
    const indexes = [...Array(Math.max(olds.length, news.length)).keys()];
    return Object.assign({}, ...indexes.map((index) => diffProperties(olds[index], news[index], [...parts, index])));
  }
  const absent = (value: unknown) => value === undefined || value === null;
  if (absent(olds) && absent(news)) return {};
  return { [propertyPath(parts)]: absent(olds) ? "add" : absent(news) ? "delete" : "update" };
}

// From and to the wire

/** Nulls in objects are left out, as in the official plugins. */
function unmarshalValue(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(unmarshalValue);
  if (!isObject(value)) return value;
  if (value[SIGNATURE] === SECRET) return secret(unmarshalValue(value.value));
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== null)
      .map(([key, member]) => [key, unmarshalValue(member)]),
  );
}

function reveal<T>(value: T): T;
function reveal(value: unknown): unknown {
  if (value instanceof Secret) return reveal(value.value);
  if (Array.isArray(value)) return value.map(reveal);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, reveal(member)]));
}

const unmarshal = (struct: Struct | undefined): Properties =>
  struct ? (unmarshalValue(struct.toJavaScript()) as Properties) : {};

function marshalValue(value: unknown): unknown {
  if (value === undefined) return null;
  if (value instanceof Secret) return { [SIGNATURE]: SECRET, value: marshalValue(reveal(value.value)) };
  if (Array.isArray(value)) return value.map(marshalValue);
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== undefined && member !== null)
      .map(([key, member]) => [key, marshalValue(member)]),
  );
}

const marshal = (properties: Properties): Struct =>
  Struct.fromJavaScript(marshalValue(properties) as Parameters<typeof Struct.fromJavaScript>[0]);

const KINDS: Record<DiffKind, proto.PropertyDiff.Kind> = {
  add: 0,
  "add-replace": 1,
  delete: 2,
  "delete-replace": 3,
  update: 4,
  "update-replace": 5,
};

function diffResponse(result: DiffResult): proto.DiffResponse {
  const detailed = Object.entries(result.detailedDiff ?? {}).map(
    ([path, entry]) => [path, typeof entry === "string" ? { kind: entry, inputDiff: false } : entry] as const,
  );
  const replaces = [
    ...(result.replaces ?? []),
    ...detailed.filter(([, { kind }]) => kind.endsWith("-replace")).map(([path]) => path),
  ];
  const diffs = result.diffs ?? detailed.map(([path]) => /^[^.[]*/.exec(path)?.[0] ?? path); // the engine prints top-level names
  const changes = result.changes ?? diffs.length + replaces.length > 0;
  const response = new proto.DiffResponse();
  response.setChanges(changes ? proto.DiffResponse.DiffChanges.DIFF_SOME : proto.DiffResponse.DiffChanges.DIFF_NONE);
  response.setReplacesList([...new Set(replaces)]);
  response.setDiffsList([...new Set(diffs)]);
  response.setDeletebeforereplace(result.deleteBeforeReplace ?? false);
  response.setHasdetaileddiff(result.detailedDiff !== undefined);
  for (const [path, { kind, inputDiff }] of detailed) {
    response.getDetaileddiffMap().set(path, new proto.PropertyDiff().setKind(KINDS[kind]).setInputdiff(inputDiff));
  }
  return response;
}

function checkResponse(result: CheckResult, markedInputs: Properties): proto.CheckResponse {
  const response = new proto.CheckResponse();
  response.setInputs(marshal(keepSecrets(result.inputs, markedInputs)));
  for (const { property, reason } of result.failures ?? []) {
    response.addFailures(new proto.CheckFailure().setProperty(property ?? "").setReason(reason));
  }
  return response;
}

/** Source of the details' form: SDK, provider/server.js and proto `ErrorResourceInitFailed`. */
function initializationFailed(error: InitializationError, markedInputs: Properties): grpc.Metadata {
  const detail = new proto.ErrorResourceInitFailed();
  detail.setId(error.id);
  detail.setProperties(marshal(keepSecrets(error.outputs, markedInputs)));
  detail.setReasonsList(error.reasons.length > 0 ? error.reasons : [error.message]);
  if (error.inputs) detail.setInputs(marshal(keepSecrets(error.inputs, markedInputs)));
  const any = new Any();
  any.pack(detail.serializeBinary(), "pulumirpc.ErrorResourceInitFailed");
  const status = new Status();
  status.setCode(grpc.status.UNKNOWN);
  status.setMessage(error.message);
  status.addDetails(any);
  const metadata = new grpc.Metadata();
  metadata.add("grpc-status-details-bin", Buffer.from(status.serializeBinary()));
  return metadata;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const unimplemented = (method: string) =>
  Object.assign(new Error(`${method} is not implemented by the simulated provider`), {
    code: grpc.status.UNIMPLEMENTED,
  });

class EngineConnection implements Engine {
  #client: EngineClient | undefined;

  connect(address: string): void {
    this.#client = new EngineClient(address, grpc.credentials.createInsecure());
  }

  #send(severity: LogSeverity, message: string, urn: string, ephemeral: boolean): void {
    const request = new LogRequest();
    request.setSeverity(severity);
    request.setMessage(message);
    request.setUrn(urn);
    request.setEphemeral(ephemeral);
    this.#client?.log(request, () => {}); // a lost message must not fail the operation
  }

  log(severity: "debug" | "info" | "warning" | "error", message: string, urn = ""): void {
    const levels = {
      debug: LogSeverity.DEBUG,
      info: LogSeverity.INFO,
      warning: LogSeverity.WARNING,
      error: LogSeverity.ERROR,
    };
    this.#send(levels[severity], message, urn, false);
  }

  status(message: string, urn: string): void {
    this.#send(LogSeverity.INFO, message, urn, true);
  }
}

// URN: urn:pulumi:stack::project::parentType$type::name
const identity = (request: { getUrn(): string }): ResourceRequest => {
  const urn = request.getUrn();
  const [, , types = "", ...name] = urn.split("::");
  return { urn, type: types.slice(types.lastIndexOf("$") + 1), name: name.join("::") };
};

const AUTONAMING = ["propose", "enforce", "disable"] as const;

function checkRequest(request: proto.CheckRequest): CheckRequest {
  const markedInputs = unmarshal(request.getNews());
  const autonaming = request.getAutonaming();
  return {
    ...identity(request),
    oldInputs: request.hasOlds() ? reveal(unmarshal(request.getOlds())) : undefined,
    inputs: reveal(markedInputs),
    markedInputs,
    randomSeed: request.getRandomseed_asU8(),
    autonaming: autonaming && {
      proposedName: autonaming.getProposedName(),
      mode: AUTONAMING[autonaming.getMode()] ?? "propose",
    },
  };
}

const diffRequest = (request: proto.DiffRequest): DiffRequest => ({
  ...identity(request),
  id: request.getId(),
  state: reveal(unmarshal(request.getOlds())),
  oldInputs: reveal(unmarshal(request.getOldInputs())),
  inputs: reveal(unmarshal(request.getNews())),
  ignoreChanges: request.getIgnorechangesList(),
});

type Handler<Request, Response> = grpc.handleUnaryCall<Request, Response>;

/** Answers with the handler's result, or with its error as a plain message. */
const unary =
  <Request, Response>(
    handle: (request: Request) => Promise<Response> | Response,
    marked: (request: Request) => Properties = () => ({}),
  ): Handler<Request, Response> =>
  async (call, callback) => {
    try {
      callback(null, await handle(call.request));
    } catch (error) {
      const details = messageOf(error);
      const code = (error as { code?: unknown })?.code;
      callback({
        code: code === grpc.status.UNIMPLEMENTED ? code : grpc.status.UNKNOWN,
        details,
        ...(error instanceof InitializationError && {
          metadata: initializationFailed(error, marked(call.request)),
        }),
      });
    }
  };

/** The provider service of the engine's protocol. Source: `IResourceProviderServer` of the SDK's proto. */
function service(provider: Provider, engine: EngineConnection): IResourceProviderServer {
  return {
    handshake: unary((request: proto.ProviderHandshakeRequest) => {
      engine.connect(request.getEngineAddress());
      const response = new proto.ProviderHandshakeResponse();
      response.setAcceptSecrets(true);
      response.setSupportsAutonamingConfiguration(true);
      return response;
    }),
    attach: unary((request: { getAddress(): string }) => {
      engine.connect(request.getAddress());
      return new Empty();
    }),
    getPluginInfo: unary(() => new PluginInfo().setVersion(provider.version)),
    getSchema: unary(() => new proto.GetSchemaResponse().setSchema("{}")),
    getMapping: unary(() => new proto.GetMappingResponse()),
    getMappings: unary(() => new proto.GetMappingsResponse()),
    cancel: unary(() => {
      provider.cancel?.();
      return new Empty();
    }),

    checkConfig: unary(async (message: proto.CheckRequest) => {
      const request = checkRequest(message);
      const result = (await provider.checkConfig?.(request)) ?? { inputs: request.inputs };
      return checkResponse(result, request.markedInputs);
    }),
    diffConfig: unary(async (message: proto.DiffRequest) => {
      const request = diffRequest(message);
      const result = (await provider.diffConfig?.(request)) ?? {
        diffs: Object.keys(diffProperties(request.state, request.inputs)),
      };
      return diffResponse(result);
    }),
    configure: unary(async (message: proto.ConfigureRequest) => {
      await provider.configure?.({ args: reveal(unmarshal(message.getArgs())) });
      const response = new proto.ConfigureResponse();
      response.setAcceptsecrets(true);
      response.setSupportspreview(true);
      response.setSupportsAutonamingConfiguration(true);
      return response;
    }),
    invoke: unary(async (message: proto.InvokeRequest) => {
      if (!provider.invoke) throw new Error(`unknown function ${message.getTok()}`);
      const args = reveal(unmarshal(message.getArgs()));
      const result = await provider.invoke({ token: message.getTok(), args, preview: message.getPreview() });
      return new proto.InvokeResponse().setReturn(marshal(result));
    }),

    check: unary(async (message: proto.CheckRequest) => {
      const request = checkRequest(message);
      return checkResponse(await provider.check(request), request.markedInputs);
    }),
    diff: unary(async (message: proto.DiffRequest) => diffResponse(await provider.diff(diffRequest(message)))),
    create: unary(
      async (message: proto.CreateRequest) => {
        const markedInputs = unmarshal(message.getProperties());
        const { id, outputs } = await provider.create({
          ...identity(message),
          inputs: reveal(markedInputs),
          markedInputs,
          preview: message.getPreview(),
          timeout: message.getTimeout(),
        });
        const response = new proto.CreateResponse();
        response.setId(message.getPreview() ? "" : id);
        response.setProperties(marshal(keepSecrets(outputs, markedInputs)));
        return response;
      },
      (message) => unmarshal(message.getProperties()),
    ),
    read: unary(
      async (message: proto.ReadRequest) => {
        const markedInputs = unmarshal(message.getInputs());
        const markedState = unmarshal(message.getProperties());
        const found = await provider.read?.({
          ...identity(message),
          id: message.getId(),
          state: reveal(markedState),
          inputs: reveal(markedInputs),
          markedInputs,
        });
        const response = new proto.ReadResponse();
        if (!found) return response;
        response.setId(found.id);
        response.setProperties(marshal(keepSecrets(keepSecrets(found.outputs, markedInputs), markedState)));
        response.setInputs(marshal(keepSecrets(found.inputs, markedInputs)));
        return response;
      },
      (message) => unmarshal(message.getInputs()),
    ),
    update: unary(
      async (message: proto.UpdateRequest) => {
        if (!provider.update) throw new Error(`${identity(message).type} cannot be updated in place`);
        const markedInputs = unmarshal(message.getNews());
        const outputs = await provider.update({
          ...identity(message),
          id: message.getId(),
          state: reveal(unmarshal(message.getOlds())),
          oldInputs: reveal(unmarshal(message.getOldInputs())),
          inputs: reveal(markedInputs),
          markedInputs,
          preview: message.getPreview(),
          timeout: message.getTimeout(),
          ignoreChanges: message.getIgnorechangesList(),
        });
        return new proto.UpdateResponse().setProperties(marshal(keepSecrets(outputs, markedInputs)));
      },
      (message) => unmarshal(message.getNews()),
    ),
    delete: unary(
      async (message: proto.DeleteRequest) => {
        await provider.delete({
          ...identity(message),
          id: message.getId(),
          state: reveal(unmarshal(message.getProperties())),
          oldInputs: reveal(unmarshal(message.getOldInputs())),
          timeout: message.getTimeout(),
        });
        return new Empty();
      },
      (message) => unmarshal(message.getOldInputs()),
    ),

    parameterize: unary(() => Promise.reject(unimplemented("Parameterize"))),
    call: unary(() => Promise.reject(unimplemented("Call"))),
    construct: unary(() => Promise.reject(unimplemented("Construct"))),
    list: (call) => {
      call.emit("error", unimplemented("List"));
    },
  };
}

/** Ends the process with the engine that started it, however that one ended. */
function endWithParent(): void {
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || process.exit(0), 2000).unref();
}

/**
 * Serves a provider on a free port of 127.0.0.1 and prints the port, as the engine expects of a plugin.
 * @param create makes the provider; what it imports lazily does not delay the start.
 */
export function serve(create: (engine: Engine) => Provider): void {
  const engine = new EngineConnection();
  const address = process.argv[2];
  if (address && !address.startsWith("-")) engine.connect(address);
  const server = new grpc.Server({
    "grpc.max_receive_message_length": MESSAGE_LIMIT,
    "grpc.max_send_message_length": MESSAGE_LIMIT,
  });
  server.addService(ResourceProviderService, service(create(engine), engine));
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    }
    process.stdout.write(`${port}\n`);
  });
  endWithParent();
}
