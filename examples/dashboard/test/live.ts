import assert from "node:assert/strict";
import { AuthorizationV1Api, CoreV1Api, KubeConfig, NetworkingV1Api } from "@kubernetes/client-node";
import type { LiveCheck } from "../../../local/live";

/** That nothing leads in from outside, and what a token of the account `viewer` may do on the real API server. */
const check: LiveCheck = async ({ outputs, kubeconfig }) => {
  const { namespace, token } = outputs as { namespace: string; token: string };
  const { items } = await kubeconfig.makeApiClient(NetworkingV1Api).listNamespacedIngress({ namespace });
  assert.deepEqual(items, []);

  const name = token.split(" ").at(-1) as string;
  const body = { spec: { audiences: [], expirationSeconds: 600 } };
  const core = kubeconfig.makeApiClient(CoreV1Api);
  const { status } = await core.createNamespacedServiceAccountToken({ name, namespace, body });
  const viewer = new KubeConfig();
  viewer.loadFromClusterAndUser(kubeconfig.getCurrentCluster() as never, { name, token: status?.token });
  const rights = viewer.makeApiClient(AuthorizationV1Api);
  const may = async (verb: string, resource: string) => {
    const spec = { resourceAttributes: { verb, resource } };
    const { status } = await rights.createSelfSubjectAccessReview({ body: { spec } });
    return status?.allowed;
  };
  for (const resource of ["pods", "nodes", "persistentvolumes", "configmaps"])
    assert.equal(await may("list", resource), true, `list ${resource}`);
  for (const verb of ["get", "list", "watch"]) assert.equal(await may(verb, "secrets"), false, `${verb} secrets`);
  for (const verb of ["create", "update", "patch", "delete"])
    assert.equal(await may(verb, "pods"), false, `${verb} pods`);
  return `no way in from outside; a token of ${name} reads pods and nodes, no Secret, and changes nothing`;
};

export default check;
