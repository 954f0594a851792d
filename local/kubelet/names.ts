import { createHash } from "node:crypto";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import type { V1EndpointSlice } from "@kubernetes/client-node";
import { clusterEndpoint } from "../cluster";
import { stateDirectory } from "../paths";

/*
 * Addresses and names of real pods. The API server knows a pod by an address of 10.0.0.0/8, since EndpointSlices refuse
 * loopback ones; its process listens on the same address in 127.0.0.0/8, and nothing is ever sent to the former.
 */

/** Where the process of the pod with this address listens. */
export const loopback = (podAddress: string): string => podAddress.replace(/^10\./, "127.");

/** This clone's own 254 addresses, so that two clones' pods can run side by side: `10.a.b`. */
export function podNetwork(): string {
  const [first = 0, second = 0] = createHash("sha256").update(stateDirectory()).digest();
  return `10.${64 + (first % 128)}.${second}`;
}

/** Rejects where only 127.0.0.1 can be listened on, as on macOS. */
export async function requireLoopbackNetwork(): Promise<void> {
  const address = loopback(`${podNetwork()}.1`);
  const server = createServer();
  const failed = await new Promise<Error | undefined>((resolve) => {
    server.once("error", resolve);
    server.listen(0, address, () => resolve(undefined));
  });
  server.close();
  if (!failed) return;
  throw new Error(
    `Real pods each listen on an address of 127.0.0.0/8, and this machine refuses ${address} (${failed.message}).\n` +
      "Linux has all of them, macOS only 127.0.0.1: leave --real out there.",
  );
}

/** Directory with `hosts` and `.curlrc` for the pods of a namespace. */
export const namesDirectory = (namespace: string): string => join(stateDirectory(), "kubelet", "names", namespace);

/** Writes what the pods of a namespace know by name: each Service's ready endpoints, as the cluster's DNS gives them. */
export function writeNames(namespace: string, slices: readonly V1EndpointSlice[]): void {
  const hosts = ["127.0.0.1 localhost"];
  const curl = [`connect-to = "kubernetes.default.svc:443:${new URL(clusterEndpoint().server).host}"`];
  for (const [service, records] of byService(slices)) {
    const [name, of] = service.split("/");
    const suffixes = [`.${of}`, `.${of}.svc`, `.${of}.svc.cluster.local`, ...(of === namespace ? [""] : [])];
    for (const suffix of suffixes) {
      const addresses = new Map<string, string[]>();
      for (const { hostname, address } of records) {
        for (const known of [`${name}${suffix}`, ...(hostname ? [`${hostname}.${name}${suffix}`] : [])])
          addresses.set(known, [...(addresses.get(known) ?? []), address]);
      }
      for (const [known, all] of addresses) {
        hosts.push(...all.map((address) => `${address} ${known}`));
        const ports = new Set(records.flatMap((record) => record.ports));
        for (const port of ports) curl.push(`resolve = "${known}:${port}:${all.join(",")}"`);
      }
    }
  }
  mkdirSync(namesDirectory(namespace), { recursive: true });
  write(join(namesDirectory(namespace), "hosts"), hosts);
  write(join(namesDirectory(namespace), ".curlrc"), curl);
}

/** What one endpoint of a Service is reached by. */
interface Endpoint {
  address: string;
  hostname?: string;
  ports: number[];
}

/** The ready endpoints of each Service, by `name/namespace`. */
function byService(slices: readonly V1EndpointSlice[]): Map<string, Endpoint[]> {
  const found = new Map<string, Endpoint[]>();
  for (const { metadata, endpoints, ports = [] } of slices) {
    const service = `${metadata?.labels?.["kubernetes.io/service-name"]}/${metadata?.namespace}`;
    const ready = (endpoints ?? []).filter(({ conditions }) => conditions?.ready !== false);
    const records = ready.flatMap(({ addresses, hostname }) =>
      addresses.map((address) => ({
        address: loopback(address),
        hostname,
        ports: ports.flatMap(({ port }) => port ?? []),
      })),
    );
    found.set(service, [...(found.get(service) ?? []), ...records]);
  }
  return found;
}

/** In one step: a process may read it at any moment. */
function write(file: string, lines: string[]): void {
  writeFileSync(`${file}.new`, `${lines.join("\n")}\n`);
  renameSync(`${file}.new`, file);
}
