import { setTimeout as sleep } from "node:timers/promises";
import { ApiException, ApiextensionsV1Api, KubeConfig, type V1CustomResourceDefinition } from "@kubernetes/client-node";

const NAME = "ciliumnetworkpolicies.cilium.io";

/** Only what makes the kind known: no network is simulated, and so no policy acts. */
const definition: V1CustomResourceDefinition = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: NAME },
  spec: {
    group: "cilium.io",
    scope: "Namespaced",
    names: { kind: "CiliumNetworkPolicy", plural: "ciliumnetworkpolicies", singular: "ciliumnetworkpolicy" },
    versions: [
      {
        name: "v2",
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: "object",
            properties: { spec: { type: "object", x_kubernetes_preserve_unknown_fields: true } },
          },
        },
      },
    ],
  },
};

/** DigitalOcean's clusters come with Cilium's policies; resolves once they can be made. */
export async function installCiliumPolicies(kubeconfig: string): Promise<void> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const api = config.makeApiClient(ApiextensionsV1Api);
  await api.createCustomResourceDefinition({ body: definition }).catch((error) => {
    if (!(error instanceof ApiException && error.code === 409)) throw error;
  });
  for (let tries = 0; tries < 100; tries++) {
    const { status } = await api.readCustomResourceDefinition({ name: NAME });
    if (status?.conditions?.some((condition) => condition.type === "Established" && condition.status === "True"))
      return;
    await sleep(100);
  }
  throw new Error(`The embedded cluster does not establish ${NAME}.`);
}
