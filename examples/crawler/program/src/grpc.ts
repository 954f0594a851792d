import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const folder = join(dirname(fileURLToPath(import.meta.url)), "..");

const load = (file: string) =>
  // biome-ignore lint/suspicious/noExplicitAny: what a proto file holds has no type before it is read
  grpc.loadPackageDefinition(loadSync(join(folder, file), { longs: String, defaults: true })) as any;

const { crawler } = load("crawler.proto");
const { etcdserverpb } = load("etcd.proto");

export interface Task {
  page: number;
  url: string;
  attempt: number;
}

export interface Result {
  page: number;
  attempt: number;
  status: number;
  error: string;
  contentType: string;
  bytes: number;
  title: string;
  links: string[];
}

/** Address `host:port` and path of a service's client, which connects when it is first used and again when it must. */
const clientOf = (service: grpc.ServiceClientConstructor, address: string): grpc.Client =>
  new service(address, grpc.credentials.createInsecure(), { "grpc.initial_reconnect_backoff_ms": 200 });

export const workerClient = (address: string) => clientOf(crawler.Worker, address);
export const masterClient = (address: string) => clientOf(crawler.Master, address);
export const keyClient = (address: string) => clientOf(etcdserverpb.KV, address);
export const leaseClient = (address: string) => clientOf(etcdserverpb.Lease, address);

/** One call with its answer; rejects with the status' code after at most `seconds`. */
export function call<Answer>(client: grpc.Client, method: string, request: object, seconds = 5): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + seconds * 1000 };
    // biome-ignore lint/suspicious/noExplicitAny: methods are the proto file's
    (client as any)[method](request, options, (error: grpc.ServiceError | null, answer: Answer) =>
      error ? reject(error) : resolve(answer),
    );
  });
}

/** One message and its answer over a method that streams both ways. */
export function callOnStream<Answer>(client: grpc.Client, method: string, request: object, seconds = 5) {
  return new Promise<Answer>((resolve, reject) => {
    // biome-ignore lint/suspicious/noExplicitAny: methods are the proto file's
    const stream = (client as any)[method]({ deadline: Date.now() + seconds * 1000 });
    stream.on("data", (answer: Answer) => {
      resolve(answer);
      stream.end();
    });
    stream.on("error", reject);
    stream.on("end", () => reject(new Error(`${method} ended without an answer`)));
    stream.write(request);
  });
}

/** Refuses a call: with this code instead of UNKNOWN. */
export class Refused extends Error {
  constructor(
    readonly code: grpc.status,
    readonly details: string,
  ) {
    super(details);
  }
}

/** Serves one service on an address. @return its port, and how to stop it after the calls under way */
export async function serve(
  service: "Worker" | "Master",
  // biome-ignore lint/suspicious/noExplicitAny: requests are the proto file's
  methods: Record<string, (request: any) => Promise<unknown>>,
  address: string,
): Promise<{ port: number; close(): Promise<void> }> {
  const server = new grpc.Server();
  const handlers = Object.entries(methods).map(([name, method]) => [
    name,
    (request: grpc.ServerUnaryCall<unknown, unknown>, answer: grpc.sendUnaryData<unknown>) =>
      method(request.request).then(
        (value) => answer(null, value ?? {}),
        (error) => answer(error),
      ),
  ]);
  server.addService(crawler[service].service, Object.fromEntries(handlers));
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return { port, close: () => new Promise((resolve) => server.tryShutdown(() => resolve())) };
}
