import * as pulumi from "@pulumi/pulumi";
import { contractVersion, type OutputName, outputMeta, type PlatformOutputs } from "../../platform";
import type { CaptureOptions } from "./graph";

/** What a platform stack at DigitalOcean with TLS gives, for the tests of whatever stands on one. */
export const platformOutputs: PlatformOutputs = {
  contractVersion,
  apiUrl: "https://api.example.com",
  docsUrl: "https://docs.example.com",
  ingressAddress: "203.0.113.10",
  nameServers: ["ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com"],
  coveredHosts: ["api.example.com", "docs.example.com", "www.example.com", "example.com"],
  clusterId: "11111111-2222-3333-4444-555555555555",
  clusterName: "hobnob-prod",
  kubeconfig: '{"apiVersion":"v1","kind":"Config"}',
  storageClass: "hobnob-block-storage",
  ingressClass: "nginx",
  namespace: "hobnob",
  elasticsearchUrl: "http://elasticsearch.hobnob.svc:9200",
  elasticsearchCa: "",
  images: { backend: `docker.io/acme/backend@sha256:${"0".repeat(64)}` },
  pullSecretName: "registry-0a1b2c3d",
  domain: "example.com",
  zone: "example.com",
  ingressNamespace: "nginx-ingress",
  ingressHostname: "",
  ingressIpv6: "2001:db8::10",
  ingressCustomResources: true,
  ingressSecretNamespaces: [],
  ingressExpose: "LoadBalancer",
  ingressProxyRange: "10.10.0.0/20",
  registry: { server: "docker.io", clusterServer: "docker.io", private: true, anonymous: false },
  spread: "hard",
  nodeSelector: { "hobnob/workloads": "true" },
  monthlyCost: { priced: true, currency: "USD", minimum: 334, maximum: 430 },
  apiServer: "cilium",
};

type Changes = { [Name in OutputName]?: unknown };
type ResourceMock = NonNullable<NonNullable<CaptureOptions["mocks"]>["resource"]>;

/**
 * Lets any `StackReference` of a capture answer with a platform's outputs: `capture(program, { mocks: { resource:
 * platformStack() } })`. `{ domain: undefined }` leaves one out, `{ domain: "other.test" }` changes one.
 */
export function platformStack(changes: Changes = {}): ResourceMock {
  const given = Object.entries({ ...platformOutputs, ...changes }).filter(([, value]) => value !== undefined);
  const isSecret = (name: string) => name in platformOutputs && outputMeta(name as OutputName).secret === true;
  const outputs = Object.fromEntries(
    given.map(([name, value]) => [name, isSecret(name) ? pulumi.secret(value) : value]),
  );
  const secretOutputNames = Object.keys(outputs).filter(isSecret);
  return ({ type, name }) =>
    type === "pulumi:pulumi:StackReference" ? { id: name, state: { name, outputs, secretOutputNames } } : undefined;
}
