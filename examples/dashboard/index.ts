import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { Platform } from "hobnob-platform";
import { allowApiServer, IDENTITY, identity } from "hobnob-platform/components/apiServer";
import { Namespace } from "hobnob-platform/components/namespace";
import { ofPlatform, Routes } from "hobnob-platform/components/routes";
import { Service } from "hobnob-platform/components/service";
import { platformRecords } from "hobnob-platform/components/zone";
import { readSettings } from "./settings";

/**
 * By exact version; its digest was read in no source, so none is here.
 * https://github.com/kubernetes-sigs/headlamp/releases/tag/v0.45.0
 */
const IMAGE = "ghcr.io/headlamp-k8s/headlamp:v0.45.0";
/**
 * Its user `headlamp`, who owns its files, and the port, paths and probes of its chart.
 * https://github.com/kubernetes-sigs/headlamp/blob/main/charts/headlamp/values.yaml
 */
const USER = 100;
const PORT = 4466;
const NAME = "headlamp";
/** Seconds for which a browser stays signed in: as long as `kubectl create token` gives a token for. */
const SESSION = 3600;

const RBAC = "rbac.authorization.k8s.io";
const READ = ["get", "list", "watch"];

export = async () => {
  const { platform: stackName, open, admin } = readSettings();
  const platform = new Platform(stackName);
  const [apiServer, coveredHosts, domain] = await Promise.all([
    platform.value("apiServer"),
    platform.value("coveredHosts"),
    platform.value("domain"),
  ]);
  if (open && coveredHosts.length === 0) throw plainHttp(open.host, stackName);
  const onCluster = { provider: platform.provider("platform") };

  const { name: namespace } = new Namespace("dashboard", { name: "dashboard" }, onCluster);
  const oidc = open?.guard.oidc;
  const dashboard = new Service(
    "dashboard",
    {
      name: NAME,
      namespace,
      image: IMAGE,
      user: USER,
      args: [
        "-in-cluster",
        "-in-cluster-context-name=main",
        "-plugins-dir=/headlamp/plugins",
        `-session-ttl=${SESSION}`,
      ],
      ...(oidc && {
        env: {
          HEADLAMP_CONFIG_OIDC_IDP_ISSUER_URL: oidc.issuerUrl,
          HEADLAMP_CONFIG_OIDC_CLIENT_ID: oidc.clientId,
          // It sees plain HTTP, and would make this of that.
          HEADLAMP_CONFIG_OIDC_CALLBACK_URL: `https://${open?.host}/oidc-callback`,
        },
        secretEnv: { HEADLAMP_CONFIG_OIDC_CLIENT_SECRET: oidc.clientSecret },
        to: [TO_WORLD],
      }),
      // Its own identity has no right: it passes on the token of who looks, and takes from here where the API server is.
      volumes: { "/tmp": { emptyDir: { sizeLimit: "64Mi" } }, [IDENTITY]: identity("identity") },
      ports: [{ name: "http", port: 80, targetPort: PORT, appProtocol: "http" }],
      ...(open && { ingressClass: platform.output("ingressClass") }),
      spread: platform.output("spread"),
      nodeSelector: platform.output("nodeSelector"),
      readiness: { httpGet: { path: "/", port: "http" }, periodSeconds: 5 },
      liveness: { tcpSocket: { port: "http" }, periodSeconds: 10, timeoutSeconds: 5 },
      memory: "192Mi",
      cpu: "50m",
    },
    onCluster,
  );
  allowApiServer("dashboard-api-server", { namespace, labels: dashboard.labels, policy: apiServer }, onCluster);

  const viewer = account("viewer", namespace, onCluster);
  bind("viewer", viewer, "view", onCluster);
  const machines = new k8s.rbac.v1.ClusterRole("viewer-machines", { rules: NOT_IN_VIEW }, onCluster);
  bind("viewer-machines", viewer, machines.metadata.name, onCluster);
  if (admin) bind("admin", account("admin", namespace, onCluster), "cluster-admin", onCluster);

  if (open) {
    const { host, guard } = open;
    const users =
      guard.users &&
      new k8s.core.v1.Secret(
        "users",
        {
          metadata: { namespace },
          type: "nginx.org/htpasswd",
          stringData: { htpasswd: guard.users.apply(checkedUsers) },
        },
        onCluster,
      );
    new Routes(
      "dashboard",
      {
        ...ofPlatform(platform),
        namespace,
        hosts: [host],
        paths: [{ serviceName: dashboard.serviceName, port: 80 }],
        // Logs, terminals in containers, and what changes while one looks.
        webSockets: true,
        ...(users && { basicAuth: { secretName: users.metadata.name, realm: "dashboard" } }),
        // Who is signing in is known to the pod where it began.
        ...(oidc && { stickySession: { cookie: "dashboard" } }),
      },
      onCluster,
    );
    const below = host.endsWith(`.${domain}`) && host.slice(0, -domain.length - 1);
    if (below) await platformRecords("records", platform, { hosts: [below] });
  }

  return {
    url: open ? `https://${open.host}` : "http://localhost:8000, after the command of portForward",
    portForward: pulumi.interpolate`kubectl --namespace ${namespace} port-forward service/${dashboard.serviceName} 8000:80`,
    token: pulumi.interpolate`kubectl --namespace ${namespace} create token viewer`,
    ...(admin && { adminToken: pulumi.interpolate`kubectl --namespace ${namespace} create token admin` }),
    namespace,
    serviceName: dashboard.serviceName,
  };
};

/** Who signs in with a token of it has its rights; no pod runs as it. */
function account(name: string, namespace: pulumi.Input<string>, opts: pulumi.CustomResourceOptions) {
  const metadata = { name, namespace };
  return new k8s.core.v1.ServiceAccount(name, { metadata, automountServiceAccountToken: false }, opts);
}

function bind(
  name: string,
  { metadata }: k8s.core.v1.ServiceAccount,
  role: pulumi.Input<string>,
  opts: pulumi.CustomResourceOptions,
) {
  const subjects = [{ kind: "ServiceAccount", name: metadata.name, namespace: metadata.namespace }];
  const roleRef = { apiGroup: RBAC, kind: "ClusterRole", name: role };
  new k8s.rbac.v1.ClusterRoleBinding(name, { roleRef, subjects }, opts);
}

/**
 * What belongs to no namespace, which `view` leaves out. Secrets are in neither.
 * https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles
 */
const NOT_IN_VIEW = [
  { apiGroups: [""], resources: ["nodes", "persistentvolumes"], verbs: READ },
  { apiGroups: ["storage.k8s.io"], resources: ["storageclasses"], verbs: READ },
  { apiGroups: ["networking.k8s.io"], resources: ["ingressclasses"], verbs: READ },
  { apiGroups: ["apiextensions.k8s.io"], resources: ["customresourcedefinitions"], verbs: READ },
  { apiGroups: ["metrics.k8s.io"], resources: ["nodes", "pods"], verbs: ["get", "list"] },
];

/** Of an identity provider only the name is known, which a policy can't say. */
const TO_WORLD = { to: [{ ipBlock: { cidr: "0.0.0.0/0" } }], ports: [{ protocol: "TCP", port: 443 }] };

/** Of `htpasswd -B`: what NGINX would not understand would lock everybody out. */
function checkedUsers(text: string): string {
  const lines = text.split("\n").filter((line) => line !== "");
  if (lines.length > 0 && lines.every((line) => /^[^:\s]+:\$(2[aby]|apr1|5|6)\$\S+$/.test(line))) return text;
  throw new pulumi.RunError(
    "dashboard:users is not what `htpasswd` writes; allowed: lines of a name, a colon and a hash\n" +
      "  command: htpasswd -nB <name> | pulumi config set --secret dashboard:users",
  );
}

const plainHttp = (host: string, stackName: string) =>
  new pulumi.RunError(
    `At ${host} passwords and tokens would cross the world unencrypted: the platform stack ${stackName} has no TLS; ` +
      "allowed: no host, or a platform with tls.enabled\n  command: pulumi config rm dashboard:host",
  );
