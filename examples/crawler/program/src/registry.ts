import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "@grpc/grpc-js";
import { call, callOnStream, keyClient, leaseClient } from "./grpc.js";

/** A worker as the others know it. */
export interface Registered {
  /** Another one with each start. */
  id: string;
  /** `host:port` of its gRPC. */
  address: string;
  /** Pages at a time. */
  places: number;
  /** It finishes what it has and takes no more. */
  draining: boolean;
}

const PREFIX = "/crawler/workers/";
/** The first key that no longer begins with the prefix. */
const END = "/crawler/workers0";

/** Who is there, in etcd: a worker's entry ends with its lease, which it has to renew. */
export class Registry {
  private readonly keys: Client;
  private readonly leases: Client;
  private lease: string | undefined;
  private entry: Registered | undefined;
  private readonly ended = new AbortController();
  private renewal: Promise<void> | undefined;

  /** @param seconds after which a worker that is silent is lost. */
  constructor(
    address: string,
    private readonly seconds: number,
  ) {
    this.keys = keyClient(address);
    this.leases = leaseClient(address);
  }

  /** Rejects where etcd does not answer. */
  async workers(): Promise<Registered[]> {
    const request = { key: Buffer.from(PREFIX), rangeEnd: Buffer.from(END) };
    const { kvs } = await call<{ kvs: { value: Buffer }[] }>(this.keys, "Range", request);
    return kvs.map(({ value }) => JSON.parse(value.toString()));
  }

  get isRegistered(): boolean {
    return this.lease !== undefined;
  }

  /** From now on, for as long as this process lives; again where etcd was away for longer than the lease. */
  register(entry: Registered, report: (problem: string) => void): void {
    this.entry = entry;
    this.renewal = this.renew(report);
  }

  /** Tells the others at once. */
  async drain(): Promise<void> {
    if (!this.entry) return;
    this.entry = { ...this.entry, draining: true };
    if (this.lease) await this.put(this.lease);
  }

  async close(): Promise<void> {
    this.ended.abort();
    await this.renewal;
    const { lease } = this;
    if (lease) await call(this.leases, "LeaseRevoke", { ID: lease }, 2).catch(() => {});
    this.keys.close();
    this.leases.close();
  }

  private async renew(report: (problem: string) => void): Promise<void> {
    while (!this.ended.signal.aborted) {
      try {
        await (this.lease ? this.keepAlive(this.lease) : this.begin());
        await sleep((this.seconds * 1000) / 3, undefined, { signal: this.ended.signal });
      } catch (error) {
        if (this.ended.signal.aborted) return;
        this.lease = undefined;
        report((error as Error).message);
        await sleep(500);
      }
    }
  }

  private async begin(): Promise<void> {
    const { ID } = await call<{ ID: string }>(this.leases, "LeaseGrant", { TTL: this.seconds });
    await this.put(ID);
    this.lease = ID;
  }

  private async keepAlive(lease: string): Promise<void> {
    const { TTL } = await callOnStream<{ TTL: string }>(this.leases, "LeaseKeepAlive", { ID: lease });
    if (Number(TTL) <= 0) throw new Error("the lease has run out");
  }

  private async put(lease: string): Promise<void> {
    const key = Buffer.from(PREFIX + this.entry?.id);
    await call(this.keys, "Put", { key, value: Buffer.from(JSON.stringify(this.entry)), lease });
  }
}
