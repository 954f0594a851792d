import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import { EngineService } from "@pulumi/pulumi/proto/engine_grpc_pb";
import type { LogRequest } from "@pulumi/pulumi/proto/engine_pb";
import { ResourceProviderClient } from "@pulumi/pulumi/proto/provider_grpc_pb";
import * as proto from "@pulumi/pulumi/proto/provider_pb";
import { Status } from "@pulumi/pulumi/proto/status_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { Struct } from "google-protobuf/google/protobuf/struct_pb";
import { bundlePlugins } from "../../local/bundles";

// biome-ignore lint/suspicious/noExplicitAny: what a plugin answers is asserted field by field
export type Bag = Record<string, any>;

export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";
export const secret = (value: unknown) => ({
  "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
  value,
});

export interface Made {
  id: string;
  state: Bag;
  inputs: Bag;
}

/** What a plugin answers instead of a result; with `reasons` and `state` where it made the object nevertheless. */
export class PluginError extends Error {
  readonly id: string | undefined;
  readonly reasons: string[] | undefined;
  readonly state: Bag | undefined;

  constructor(error: grpc.ServiceError) {
    super(error.details);
    const [details] = error.metadata.get("grpc-status-details-bin");
    if (!details) return;
    const [detail] = Status.deserializeBinary(details as Uint8Array).getDetailsList();
    const failure = proto.ErrorResourceInitFailed.deserializeBinary(detail?.getValue_asU8() as Uint8Array);
    this.id = failure.getId();
    this.reasons = failure.getReasonsList();
    this.state = failure.getProperties()?.toJavaScript();
  }
}

const KINDS = ["add", "add-replace", "delete", "delete-replace", "update", "update-replace"];
const SEVERITIES = ["debug", "info", "warning", "error"];
const struct = (bag: Bag) => Struct.fromJavaScript(JSON.parse(JSON.stringify(bag)));
const bag = (value: Struct | undefined) => (value?.toJavaScript() ?? {}) as Bag;

/** A plugin's executable, spoken to as the engine does. */
export class Plugin {
  /** What it logged through the engine, without what is shown for a moment only. */
  logs: { severity: string; message: string }[] = [];

  private constructor(
    private readonly engine: grpc.Server,
    private readonly child: ChildProcess,
    private readonly client: ResourceProviderClient,
  ) {}

  static async start(name: string, options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<Plugin> {
    const engine = new grpc.Server();
    const logs: Plugin["logs"] = [];
    engine.addService(EngineService as grpc.ServiceDefinition, {
      log: (call: { request: LogRequest }, callback: grpc.sendUnaryData<Empty>) => {
        const { request } = call;
        const entry = { severity: SEVERITIES[request.getSeverity()] ?? "", message: request.getMessage() };
        if (!request.getEphemeral()) logs.push(entry);
        callback(null, new Empty());
      },
    });
    const port = await new Promise<number>((resolve, reject) => {
      engine.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    const executable = join(bundlePlugins([name])[name] ?? "", `pulumi-resource-${name}`);
    const child = spawn(executable, [`127.0.0.1:${port}`], { stdio: ["ignore", "pipe", "inherit"], ...options });
    const [line] = await once(child.stdout as NodeJS.ReadableStream, "data");
    const client = new ResourceProviderClient(`127.0.0.1:${Number(String(line))}`, grpc.credentials.createInsecure());
    const plugin = new Plugin(engine, child, client);
    plugin.logs = logs;
    return plugin;
  }

  async stop(): Promise<void> {
    this.client.close();
    this.child.kill();
    await once(this.child, "exit");
    this.engine.forceShutdown();
  }

  private call<Response>(
    start: (done: (error: grpc.ServiceError | null, response: Response) => void) => unknown,
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      start((error, response) => (error ? reject(new PluginError(error)) : resolve(response)));
    });
  }

  async version(): Promise<string> {
    return (
      await this.call<{ getVersion(): string }>((done) => this.client.getPluginInfo(new Empty(), done))
    ).getVersion();
  }

  async configure(args: Bag): Promise<void> {
    this.logs.length = 0;
    const request = new proto.ConfigureRequest().setArgs(struct(args)).setAcceptsecrets(true);
    await this.call<proto.ConfigureResponse>((done) => this.client.configure(request, done));
  }

  async diffConfig(olds: Bag, news: Bag): Promise<string[]> {
    const request = new proto.DiffRequest().setOlds(struct(olds)).setNews(struct(news));
    return (await this.call<proto.DiffResponse>((done) => this.client.diffConfig(request, done))).getReplacesList();
  }

  async check(type: string, inputs: Bag, olds?: Bag): Promise<Bag> {
    const request = new proto.CheckRequest().setUrn(urn(type)).setNews(struct(inputs));
    request.setRandomseed(Buffer.from("seed"));
    if (olds) request.setOlds(struct(olds));
    const response = await this.call<proto.CheckResponse>((done) => this.client.check(request, done));
    // As the engine does, which goes no further.
    const reasons = response.getFailuresList().map((failure) => failure.getReason());
    if (reasons.length > 0) throw new Error(reasons.join("\n"));
    return bag(response.getInputs());
  }

  async create(type: string, inputs: Bag, options: { preview?: boolean; timeout?: number } = {}): Promise<Made> {
    const checked = await this.check(type, inputs);
    const request = new proto.CreateRequest().setUrn(urn(type)).setProperties(struct(checked));
    request.setPreview(options.preview ?? false).setTimeout(options.timeout ?? 0);
    const response = await this.call<proto.CreateResponse>((done) => this.client.create(request, done));
    return { id: response.getId(), state: bag(response.getProperties()), inputs: checked };
  }

  /** Path → kind of change for the new inputs. */
  async diff(type: string, made: Made, inputs: Bag, ignoreChanges: string[] = []) {
    const checked = await this.check(type, inputs, made.inputs);
    const request = new proto.DiffRequest().setUrn(urn(type)).setId(made.id).setOlds(struct(made.state));
    request.setOldInputs(struct(made.inputs)).setNews(struct(checked)).setIgnorechangesList(ignoreChanges);
    const response = await this.call<proto.DiffResponse>((done) => this.client.diff(request, done));
    const changes: Record<string, string | undefined> = {};
    response.getDetaileddiffMap().forEach((entry, path) => {
      changes[path] = KINDS[entry.getKind()];
    });
    return { changes, deleteBeforeReplace: response.getDeletebeforereplace() };
  }

  async update(
    type: string,
    made: Made,
    inputs: Bag,
    options: { preview?: boolean; timeout?: number; ignoreChanges?: string[] } = {},
  ): Promise<Made> {
    const checked = await this.check(type, inputs, made.inputs);
    const request = new proto.UpdateRequest().setUrn(urn(type)).setId(made.id).setOlds(struct(made.state));
    request.setOldInputs(struct(made.inputs)).setNews(struct(checked));
    request.setPreview(options.preview ?? false).setTimeout(options.timeout ?? 0);
    request.setIgnorechangesList(options.ignoreChanges ?? []);
    const response = await this.call<proto.UpdateResponse>((done) => this.client.update(request, done));
    return { id: made.id, state: bag(response.getProperties()), inputs: checked };
  }

  /** As a refresh; without `made` as an import by id. Nothing where the object is gone. */
  async read(type: string, id: string, made?: Made): Promise<Made | undefined> {
    const request = new proto.ReadRequest().setUrn(urn(type)).setId(id);
    if (made) request.setProperties(struct(made.state)).setInputs(struct(made.inputs));
    const response = await this.call<proto.ReadResponse>((done) => this.client.read(request, done));
    if (response.getId() === "") return undefined;
    return { id: response.getId(), state: bag(response.getProperties()), inputs: bag(response.getInputs()) };
  }

  async delete(type: string, made: Made, timeout = 0): Promise<void> {
    const request = new proto.DeleteRequest().setUrn(urn(type)).setId(made.id).setProperties(struct(made.state));
    request.setOldInputs(struct(made.inputs)).setTimeout(timeout);
    await this.call((done) => this.client.delete(request, done));
  }
}

const urn = (type: string) => `urn:pulumi:test::test::${type}::thing`;
