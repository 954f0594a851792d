import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";

/**
 * The outputs of a platform stack: the contract with the stacks that stand on it. It only grows; a name that is here
 * stays and keeps its type.
 */
export interface PlatformOutputs {
  /** The version of this contract that the stack was deployed with. */
  contractVersion: number;
  /** Where the API answers, for example `https://api.example.com`. */
  apiUrl: string;
  /** Where its Swagger UI answers, for example `https://docs.example.com`. */
  docsUrl: string;
  /** The IPv4 address that every host of the platform points to; on a cluster without a balancer, empty. */
  ingressAddress: string;
  /** The name servers that the domain's registrar must name; empty where the stack has no zone. */
  nameServers: string[];
  /** The hosts that the platform's certificate covers; empty while TLS is off. */
  coveredHosts: string[];
  /** DigitalOcean's id of the cluster, or the context of an existing one. */
  clusterId: string;
  clusterName: string;
  /**
   * Secret. Valid for as long as the cluster is: it holds no token but a command that gets a short-lived one, and needs
   * `node` on the PATH and DIGITALOCEAN_TOKEN in the environment of whoever uses it.
   */
  kubeconfig: string;
  /** The StorageClass for volumes that must outlive their claims. */
  storageClass: string;
  /** The IngressClass that the platform's controller serves. */
  ingressClass: string;
  /** The namespace of the application. */
  namespace: string;
  /** Inside the cluster, for the API's pods alone: `http://elasticsearch.<namespace>.svc:9200`, or `https` with its security. */
  elasticsearchUrl: string;
  /** PEM of the authority that signed Elasticsearch's certificate; empty while its security is off. */
  elasticsearchCa: string;
  /** What runs, by digest: `repository@sha256:…` by workload. */
  images: { backend: string };
  /** The Secret in `namespace` that pulls from the private registry; empty where none is needed. */
  pullSecretName: string;
}

export const contractVersion = 1;

/** A platform stack as another stack sees it: `new Platform("acme/hobnob/prod")`. */
export class Platform {
  private readonly stack: pulumi.StackReference;

  constructor(stackName: string, opts?: pulumi.CustomResourceOptions) {
    this.stack = new pulumi.StackReference(stackName, {}, opts);
  }

  /** One output, typed; secret where the platform's is. An output that the stack lacks is an error that names it. */
  output<Name extends keyof PlatformOutputs>(name: Name): pulumi.Output<PlatformOutputs[Name]> {
    return this.stack.requireOutput(name) as pulumi.Output<PlatformOutputs[Name]>;
  }

  /** A Kubernetes provider on the platform's cluster that stays valid longer than any token. */
  provider(name: string, opts?: pulumi.ResourceOptions): k8s.Provider {
    const args = { kubeconfig: this.output("kubeconfig"), clusterIdentifier: this.output("clusterId") };
    return new k8s.Provider(name, args, opts);
  }
}
