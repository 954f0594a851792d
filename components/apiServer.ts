import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";

/** How a cluster's network lets policies name its API server, which is no pod. */
export type ApiServerPolicy = "cilium" | "ports";

export interface ApiServerClient {
  namespace: pulumi.Input<string>;
  /** Labels of the pods. */
  labels: Record<string, string>;
  policy: ApiServerPolicy;
  /** Whether the pods also ask the kubelet of every machine, on port 10250; only Cilium's policies can name these. */
  kubelets?: boolean;
}

// Of managed clusters, kubeadm, kind and k3s (6443), minikube (8443), microk8s (16443).
const PORTS = [443, 6443, 8443, 16443];
const EVERYWHERE = [{ ipBlock: { cidr: "0.0.0.0/0" } }, { ipBlock: { cidr: "::/0" } }];

/**
 * Lets pods reach the API server. A NetworkPolicy can't name it: its address belongs to a machine or to the cloud, and may
 * change. Cilium's own policies can, and then no address of the world is opened.
 * https://docs.cilium.io/en/stable/security/policy/language/#entities-based
 */
export function allowApiServer(name: string, client: ApiServerClient, opts: pulumi.CustomResourceOptions): void {
  const { namespace, labels, policy, kubelets } = client;
  const metadata = { namespace, labels };
  const selector = { matchLabels: labels };
  if (policy === "ports") {
    const spec = {
      podSelector: selector,
      policyTypes: ["Egress"],
      egress: [{ to: EVERYWHERE, ports: PORTS.map((port) => ({ protocol: "TCP", port })) }],
    };
    new k8s.networking.v1.NetworkPolicy(name, { metadata, spec }, opts);
    return;
  }
  const toKubelets = {
    toEntities: ["host", "remote-node"],
    toPorts: [{ ports: [{ port: "10250", protocol: "TCP" }] }],
  };
  new k8s.apiextensions.CustomResource(
    name,
    {
      apiVersion: "cilium.io/v2",
      kind: "CiliumNetworkPolicy",
      metadata,
      spec: {
        endpointSelector: selector,
        // Without a port: it would have to be the endpoint's, which is the cloud's to choose.
        egress: [{ toEntities: ["kube-apiserver"] }, ...(kubelets ? [toKubelets] : [])],
      },
    },
    opts,
  );
}

/** Where clients of the API server look for their identity. */
export const IDENTITY = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * A pod's identity at the API server as a volume, so that only the container that needs it mounts it.
 * @param expirationSeconds after which a stolen token is worthless, 600 or more; the kubelet renews it before
 */
export function identity(name: string, expirationSeconds = 3600): k8s.types.input.core.v1.Volume {
  return {
    name,
    projected: {
      sources: [
        { serviceAccountToken: { path: "token", expirationSeconds } },
        { configMap: { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] } },
      ],
    },
  };
}
