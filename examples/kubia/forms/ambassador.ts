import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import { type ApiServerPolicy, allowApiServer, IDENTITY, identity } from "hobnob-platform/components/apiServer";
import { hardened, spreadOverMachines } from "hobnob-platform/components/podSpec";
import { type Chapter, pullWith, resources } from "./chapter";

const PRE_STOP_SECONDS = 10;

/**
 * A program that speaks plain HTTP with its neighbour in the pod, and the neighbour with the API server: TLS, its authority
 * and the token, which only the ambassador holds, are none of the program's business. All that it may is to read the pods of
 * its namespace.
 */
export function ambassador(chapter: Chapter, policy: ApiServerPolicy, opts: pulumi.CustomResourceOptions) {
  const labels = { "app.kubernetes.io/name": "pod-list" };
  const { namespace } = chapter;
  const metadata = { name: "pod-list", namespace, labels };
  const selector = { matchLabels: labels };

  const account = new k8s.core.v1.ServiceAccount("pod-list", { metadata, automountServiceAccountToken: false }, opts);
  const role = new k8s.rbac.v1.Role(
    "pod-list",
    { metadata, rules: [{ apiGroups: [""], resources: ["pods"], verbs: ["list"] }] },
    opts,
  );
  const binding = new k8s.rbac.v1.RoleBinding(
    "pod-list",
    {
      metadata,
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: role.metadata.name },
      subjects: [{ kind: "ServiceAccount", name: account.metadata.name, namespace }],
    },
    opts,
  );

  new k8s.apps.v1.Deployment(
    "pod-list",
    {
      metadata,
      spec: {
        replicas: 2,
        selector,
        strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
        template: {
          metadata: { labels },
          spec: hardened({
            serviceAccountName: account.metadata.name,
            imagePullSecrets: pullWith(chapter),
            nodeSelector: chapter.nodeSelector,
            topologySpreadConstraints: spreadOverMachines(labels, chapter.spread),
            containers: [
              {
                name: "pod-list",
                image: chapter.image,
                args: ["pods"],
                env: [{ name: "NAMESPACE", valueFrom: { fieldRef: { fieldPath: "metadata.namespace" } } }],
                ports: [{ name: "http", containerPort: 8080 }],
                // Ready once the API server answers through the ambassador.
                readinessProbe: { httpGet: { path: "/", port: "http" }, periodSeconds: 5, timeoutSeconds: 5 },
                livenessProbe: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 10 },
                lifecycle: { preStop: { sleep: { seconds: PRE_STOP_SECONDS } } },
                resources: resources("64Mi"),
              },
              {
                name: "ambassador",
                image: chapter.image,
                // It listens where only its own pod reaches it, so it has no port to name.
                args: ["ambassador"],
                env: [{ name: "IDENTITY", value: IDENTITY }],
                lifecycle: { preStop: { sleep: { seconds: PRE_STOP_SECONDS } } },
                resources: resources("64Mi"),
                volumeMounts: [{ name: "identity", mountPath: IDENTITY, readOnly: true }],
              },
            ],
            volumes: [identity("identity")],
          }),
        },
      },
    },
    // Without its rights it is never ready: no value of the binding is in the pod to say so.
    { ...opts, dependsOn: [binding] },
  );
  new k8s.policy.v1.PodDisruptionBudget(
    "pod-list",
    { metadata, spec: { selector, maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" } },
    opts,
  );
  allowApiServer("pod-list-api-server", { namespace, labels, policy }, opts);
  const service = new k8s.core.v1.Service(
    "pod-list",
    {
      metadata: { ...metadata, annotations: { "pulumi.com/skipAwait": "true" } },
      spec: { selector: labels, ports: [{ name: "http", port: 80, targetPort: "http" }] },
    },
    opts,
  );
  return service.metadata.name;
}
