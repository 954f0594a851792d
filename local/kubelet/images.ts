import type { V1Pod, V1PodSpec } from "@kubernetes/client-node";
import { serverIsPublished } from "../mariadb/process";
import { elasticsearch } from "./elasticsearch";
import { etcd } from "./etcd";
import { mariadb } from "./mariadb";
import { nodePrograms } from "./programs";

/** An image that this machine has a stand-in for: what runs in its containers, and its own files. */
export interface Image {
  /** Regular expression on the image's reference; read by kwok too, so of the syntax that Go and JavaScript share. */
  pattern: string;
  /** Directories that stand for the image's own paths, by path. */
  files(reference: string): Promise<Record<string, string>>;
  /** What the image starts where a container names no command. */
  entrypoint(start: Start): Promise<Command>;
}

/** What a container's process is started with. */
interface Start {
  reference: string;
  /** The container's own, kept for as long as its pod. */
  directory: string;
  /** Where the pod listens. */
  address: string;
  hostsFile: string;
  env: Record<string, string>;
  args: string[];
  /** Bytes */
  memoryLimit?: number;
  /** Where a path of the container is on this machine. */
  map(path: string): string;
}

export interface Command {
  file: string;
  args: string[];
  env: Record<string, string>;
  cwd: string;
  /** Ends by itself when its standard input does, and so with the kubelet. @default false: its input is empty */
  endsWithInput?: boolean;
}

const images: Image[] = [elasticsearch, etcd, ...(serverIsPublished ? [mariadb] : []), ...nodePrograms];

export const imageOf = (reference: string): Image | undefined =>
  images.find(({ pattern }) => new RegExp(pattern).test(reference));

/** Whether a real process stands behind the pod: all its images have a stand-in, and none may change this machine. */
export function isReal({ spec }: V1Pod): boolean {
  const containers = allContainers(spec);
  return containers.every(({ image = "", securityContext }) => imageOf(image) && !securityContext?.privileged);
}

/** The same rule for kwok's stages (jq): a value where the pod is real, none where it is kwok's. */
export const realPodQuery = `select([(.spec.initContainers // [])[], .spec.containers[]] | all((.image | test(${JSON.stringify(
  images.map(({ pattern }) => pattern).join("|"),
)})) and .securityContext.privileged != true)) | .metadata.name`;

export const allContainers = (spec?: V1PodSpec) => [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
