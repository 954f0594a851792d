import type * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { clusterProvider } from "./components/clusterProvider";
import { describe, FULL_NAME, show, UserError } from "./violations";

/** The release of hobnob-platform that brought each version of the contract. */
export const releases = { 1: "0.1.0", 2: "0.2.0" } as const;
type Version = keyof typeof releases;

/** The version that this program deploys. A new output raises it, unless no release has it yet. */
export const contractVersion: Version = 2;

/** What an output tells besides its shape. */
export interface OutputMeta {
  description: string;
  /** Version of the contract that brought it. */
  since: Version;
  /** @default false */
  secret?: boolean;
}

const output = <T extends z.ZodType>(since: Version, schema: T, description: string, more: { secret?: boolean } = {}) =>
  schema.meta({ description, since, ...more } satisfies OutputMeta);

/**
 * The outputs of a platform stack: the contract with the stacks that stand on it. It only grows; a name that is here stays,
 * keeps its type, and a secret stays one. docs/outputs.md and test/contract/ are made of it (`npm run docs`).
 */
export const contract = z.object({
  contractVersion: output(1, z.int(), "The version of this contract that the stack was deployed with."),
  apiUrl: output(1, z.string(), "Where the API answers, for example `https://api.example.com`."),
  docsUrl: output(1, z.string(), "Where its Swagger UI answers, for example `https://docs.example.com`."),
  ingressAddress: output(
    1,
    z.string(),
    "The IPv4 address that every host of the platform points to; on a cluster without a balancer, or with one that has a host name, empty.",
  ),
  nameServers: output(
    1,
    z.array(z.string()),
    "The name servers that the domain's registrar must name; empty where the stack has no zone.",
  ),
  coveredHosts: output(
    1,
    z.array(z.string()),
    "The hosts that the platform's certificate covers; empty while TLS is off. `tls.hosts` of the platform's configuration adds some.",
  ),
  clusterId: output(1, z.string(), "The cloud's id of the cluster, or the context of an existing one."),
  clusterName: output(1, z.string(), "Its name, or again the context."),
  kubeconfig: output(
    1,
    z.string(),
    "Valid for as long as the cluster is: for a managed cluster it holds no token but a command that gets a short-lived one, and needs `node` on the PATH and DIGITALOCEAN_TOKEN in the environment of whoever uses it, or for AWS its CLI and credentials. `platform.provider(name)` uses it.",
    { secret: true },
  ),
  storageClass: output(1, z.string(), "The StorageClass for volumes that must outlive their claims."),
  ingressClass: output(1, z.string(), "The IngressClass that the platform's controller serves."),
  namespace: output(1, z.string(), "The namespace of the platform's own application."),
  elasticsearchUrl: output(
    1,
    z.string(),
    "Inside the cluster: `http://elasticsearch.<namespace>.svc:9200`, or `https` with its security. It is reached by the API's pods, and by pods with the label `hobnob/elasticsearch-client: \"true\"` of the namespaces that `elasticsearch.clientNamespaces` of the platform's configuration names; their own policies let them out with `toElasticsearch` of `hobnob-platform/components/elasticsearch`.",
  ),
  elasticsearchCa: output(
    1,
    z.string(),
    "PEM of the authority that signed Elasticsearch's certificate; empty while its security is off.",
  ),
  images: output(1, z.object({ backend: z.string() }), "What runs, by digest: `repository@sha256:…` by workload."),
  pullSecretName: output(
    1,
    z.string(),
    "The Secret in `namespace` that pulls from the private registry; empty where none is needed.",
  ),
  domain: output(2, z.string(), "The platform's domain; other stacks' hosts are below it."),
  zone: output(2, z.string(), "The DNS zone that takes other stacks' records; empty where the stack manages none."),
  ingressNamespace: output(2, z.string(), "The namespace of the platform's ingress controller."),
  ingressHostname: output(
    2,
    z.string(),
    "The host name that every host of the platform points to, where the balancer's addresses may change (AWS); else empty.",
  ),
  ingressIpv6: output(2, z.string(), "The balancer's IPv6 address; empty where it has none."),
  ingressCustomResources: output(
    2,
    z.boolean(),
    "Whether the controller serves VirtualServer and Policy, which a canary needs.",
  ),
  ingressSecretNamespaces: output(
    2,
    z.array(z.string()),
    "The namespaces whose Secrets the controller may read, for users and own TLS; where there are any, no other is served.",
  ),
  ingressExpose: output(
    2,
    z.enum(["LoadBalancer", "NodePort", "HostPort"]),
    "How traffic reaches the controller: an Ingress gets an address, and a rate limit is divided by its pods, not with each.",
  ),
  ingressProxyRange: output(
    2,
    z.string(),
    "The addresses of the cloud's balancers, which alone are believed about a client's address; empty where there are none.",
  ),
  registry: output(
    2,
    z.object({ server: z.string(), clusterServer: z.string(), private: z.boolean(), anonymous: z.boolean() }),
    "The image registry: its host for who pushes, its host for the cluster, whether the cluster needs a Secret to pull (each namespace one of its own), and whether anyone may push.",
  ),
  spread: output(
    2,
    z.enum(["hard", "soft"]),
    "Whether replicas must be on different nodes (`hard`), or only should where there are enough (`soft`).",
  ),
  nodeSelector: output(
    2,
    z.record(z.string(), z.string()),
    "Labels of the nodes that are meant for workloads; empty where every node is.",
  ),
  monthlyCost: output(
    2,
    z.object({ priced: z.boolean(), currency: z.string(), minimum: z.number(), maximum: z.number() }),
    "What the stack costs a month by its settings, scaled in and scaled out, without traffic; `priced` is false, and the figures 0, where the cluster is another's or prices were not to be had.",
  ),
  apiServer: output(
    2,
    z.enum(["cilium", "ports"]),
    "How the network's policies can name the API server: as an entity of Cilium, or by its ports alone.",
  ),
});

export type PlatformOutputs = z.infer<typeof contract>;
export type OutputName = keyof PlatformOutputs;

export const outputMeta = (name: OutputName): OutputMeta => contract.shape[name].meta() as unknown as OutputMeta;

/** A platform stack as another stack sees it: `new Platform("acme/hobnob/prod")`. */
export class Platform {
  private readonly stack: pulumi.StackReference;

  /**
   * @param stackName with its organization and project; on a backend without organizations that is `organization`
   * @throws RunError where it is not such a name
   */
  constructor(
    private readonly stackName: string,
    opts?: pulumi.CustomResourceOptions,
  ) {
    if (!FULL_NAME.test(stackName))
      throw new pulumi.RunError(
        `The platform stack was given as ${show(stackName)}; allowed: <organization>/<project>/<stack>, e.g. acme/hobnob/prod\n` +
          "  command: pulumi stack ls --all, which lists them",
      );
    this.stack = new pulumi.StackReference(stackName, {}, opts);
  }

  /**
   * One output, typed; secret where the platform's is, and where the contract says so. A stack that lacks it, or has another
   * shape in its place, is a RunError that says what is there and what mends it. A newer contract than this one is fine.
   */
  output<Name extends OutputName>(name: Name): pulumi.Output<PlatformOutputs[Name]> {
    // One by one: of all together, the one secret would make every output secret.
    const found = pulumi.all([this.stack.getOutput(name), this.stack.getOutput("contractVersion")]);
    const checked = found.apply(([value, version]) => this.checked(name, value, version));
    // Pulumi's types cannot see that a value read from a state has no outputs left in it to unwrap.
    return (outputMeta(name).secret ? pulumi.secret(checked) : checked) as pulumi.Output<PlatformOutputs[Name]>;
  }

  /** The same as a plain value, `await platform.value("apiServer")`: for what decides which resources there are. */
  async value<Name extends Exclude<OutputName, "kubeconfig">>(name: Name): Promise<PlatformOutputs[Name]> {
    const [found, version] = await Promise.all([
      this.stack.getOutputDetails(name),
      this.stack.getOutputDetails("contractVersion"),
    ]);
    return this.checked(name, found.value, version.value);
  }

  /**
   * A Kubernetes provider on the platform's cluster, with the platform's own settings. No token is in it, so that it is
   * valid for as long as the cluster is.
   */
  provider(name: string, opts?: pulumi.ResourceOptions): k8s.Provider {
    const access = { kubeconfig: this.output("kubeconfig"), clusterIdentifier: this.output("clusterId") };
    return clusterProvider(name, access, opts);
  }

  private checked<Name extends OutputName>(name: Name, value: unknown, version: unknown): PlatformOutputs[Name] {
    const { since, secret } = outputMeta(name);
    const release = releases[since];
    if (value === undefined) {
      throw this.broken(name, {
        given: version === undefined ? NO_PLATFORM : `nothing; the stack has contract version ${show(version)}`,
        allowed: `what contract version ${since} has, which came with hobnob-platform ${release}`,
        command: `${this.up}, in hobnob-platform ${release} or newer`,
      });
    }
    const { success, data, error } = contract.shape[name].safeParse(value);
    if (success) return data as PlatformOutputs[Name];
    throw this.broken(name, {
      given: `${secret ? "a secret" : show(value)}; the stack has contract version ${show(version)}`,
      allowed: [...new Set(error.issues.map(({ path, message }) => [...path, message].join(": ")))].join("; "),
      command: `${this.up}, in hobnob-platform ${release} or newer; or name another stack than ${this.stackName}`,
    });
  }

  private get up() {
    return `npm run stack -- ${this.stackName.split("/").at(-1)} up`;
  }

  private broken(key: OutputName, told: Record<"given" | "allowed" | "command", string>) {
    return new UserError(
      `The stack ${pulumi.getStack()} stands on an output that the platform stack ${this.stackName} does not have:\n${describe({ key, ...told })}`,
    );
  }
}

const NO_PLATFORM = "nothing, nor a contract version: the stack was never deployed, or is none of hobnob-platform";
