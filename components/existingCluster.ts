import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { ConfigurationError, type ExistingClusterConfig } from "../config";
import type { Cluster } from "./cluster";

/** The keys of `hobnob:cluster` with `provider: existing`, which `config.ts` describes. */
export type ExistingClusterArgs = Omit<ExistingClusterConfig, "provider">;

/** A cluster that is there, by its context in the kubeconfig: minikube, k3d, kind, kubeadm, any. */
export class ExistingCluster extends pulumi.ComponentResource implements Cluster {
  readonly provider: k8s.Provider;
  readonly id: pulumi.Output<string>;
  readonly name: pulumi.Output<string>;
  readonly kubeconfig: pulumi.Output<string>;
  readonly workers: pulumi.Resource[] = [];
  readonly spread: "hard" | "soft";
  readonly storageProvisioner: string;

  constructor(name: string, args: ExistingClusterArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:ExistingCluster", name, {}, opts);
    this.id = pulumi.output(args.context);
    this.name = pulumi.output(args.context);
    this.kubeconfig = pulumi.secret(JSON.stringify(contextOnly(args.context)));
    this.spread = args.nodes > 1 ? "hard" : "soft";
    this.storageProvisioner = args.storageProvisioner;
    this.provider = new k8s.Provider(
      name,
      // The context is the cluster's identity: minikube and kind change their address with each start.
      { kubeconfig: this.kubeconfig, clusterIdentifier: args.context, enablePatchForce: true },
      { parent: this },
    );
    this.registerOutputs();
  }
}

type Fields = Record<string, unknown>;
interface Entry {
  name: string;
  cluster?: Fields;
  context?: { cluster?: string; user?: string };
  user?: Fields;
}
type Section = "clusters" | "contexts" | "users";

/** What `kubectl config view --minify --flatten` gives: the one context, files inlined, so that it works anywhere. */
function contextOnly(name: string): Fields {
  const contexts = entries("contexts");
  const context = contexts.find((entry) => entry.name === name);
  if (!context) throw missingContext(name, contexts);
  return {
    apiVersion: "v1",
    kind: "Config",
    "current-context": name,
    contexts: [context],
    clusters: entries("clusters").filter((entry) => entry.name === context.context?.cluster),
    users: entries("users").filter((entry) => entry.name === context.context?.user),
  };
}

function missingContext(name: string, contexts: Entry[]): ConfigurationError {
  const none = `a context of the kubeconfig, but ${files().join(", ")} has none`;
  return new ConfigurationError([
    {
      key: "hobnob:cluster.context",
      given: JSON.stringify(name),
      allowed: contexts.length > 0 ? contexts.map((entry) => entry.name).join(", ") : none,
      command: "kubectl config get-contexts",
    },
  ]);
}

/** As kubectl looks for them. */
function files(): string[] {
  const paths = (process.env.KUBECONFIG ?? "").split(delimiter).filter((path) => path !== "");
  return paths.length > 0 ? paths : [join(homedir(), ".kube", "config")];
}

/** A section of all files; the first of two entries of one name wins, as kubectl has it. */
function entries(section: Section): Entry[] {
  const all = files()
    .filter(existsSync)
    .flatMap((path) => {
      const found: Entry[] = parse(readFileSync(path, "utf8"))?.[section] ?? [];
      return found.map((entry) => inlined(entry, dirname(path)));
    });
  return [...new Map(all.reverse().map((entry) => [entry.name, entry])).values()].reverse();
}

const FILE_KEYS = ["certificate-authority", "client-certificate", "client-key"];

function inlined(entry: Entry, directory: string): Entry {
  const replaceFiles = (fields: Fields | undefined): Fields | undefined =>
    fields &&
    Object.fromEntries(
      Object.entries(fields).map(([key, value]) =>
        FILE_KEYS.includes(key) && typeof value === "string"
          ? [`${key}-data`, readFileSync(resolve(directory, value)).toString("base64")]
          : [key, value],
      ),
    );
  const { name, context } = entry;
  if (context) return { name, context };
  return entry.cluster ? { name, cluster: replaceFiles(entry.cluster) } : { name, user: replaceFiles(entry.user) };
}
