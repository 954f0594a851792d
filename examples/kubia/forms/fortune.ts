import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import * as tls from "@pulumi/tls";
import { hardened, spreadOverMachines } from "hobnob-platform/components/podSpec";
import { type Chapter, pullWith, resources } from "./chapter";

/** https://hub.docker.com/r/nginxinc/nginx-unprivileged: NGINX as user 101. Its digest was read in no source, so none is here. */
const NGINX = "docker.io/nginxinc/nginx-unprivileged:1.29.4-alpine";
const NGINX_USER = 101;
const PRE_STOP_SECONDS = 10;
const YEAR = 365 * 24;

/**
 * Two containers of one pod and what they share: one writes a page into an `emptyDir`, NGINX serves it from there. The page's
 * interval is a variable from a ConfigMap, NGINX's configuration its files, its certificate a Secret's.
 */
export function fortune(chapter: Chapter, opts: pulumi.CustomResourceOptions) {
  const labels = { "app.kubernetes.io/name": "fortune" };
  const { namespace } = chapter;
  const metadata = { name: "fortune", namespace, labels };
  const selector = { matchLabels: labels };

  // No names for either: changed contents are other objects, to which the pods roll.
  const config = new k8s.core.v1.ConfigMap(
    "fortune",
    {
      metadata: { namespace, labels },
      immutable: true,
      data: { SECONDS: "5", "nginx.conf": readFileSync(join(__dirname, "nginx.conf"), "utf8") },
    },
    opts,
  );
  const { key, certificate } = selfSigned("fortune.kubia.svc");
  const secret = new k8s.core.v1.Secret(
    "fortune",
    {
      metadata: { namespace, labels },
      type: "kubernetes.io/tls",
      immutable: true,
      stringData: { "tls.crt": certificate, "tls.key": key },
    },
    opts,
  );

  const account = new k8s.core.v1.ServiceAccount("fortune", { metadata, automountServiceAccountToken: false }, opts);
  new k8s.apps.v1.Deployment(
    "fortune",
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
            // NGINX reads the key by its group.
            securityContext: { fsGroup: NGINX_USER },
            containers: [
              {
                name: "html-generator",
                image: chapter.image,
                args: ["fortune"],
                env: [
                  { name: "SECONDS", valueFrom: { configMapKeyRef: { name: config.metadata.name, key: "SECONDS" } } },
                  { name: "HTML", value: "/var/htdocs" },
                ],
                resources: resources("48Mi"),
                volumeMounts: [{ name: "html", mountPath: "/var/htdocs" }],
              },
              {
                name: "web-server",
                image: NGINX,
                // Without the image's scripts, which would write into /etc.
                command: ["nginx", "-c", "/etc/fortune/nginx.conf", "-g", "daemon off;"],
                ports: [
                  { name: "http", containerPort: 8080 },
                  { name: "https", containerPort: 8443 },
                ],
                // Ready from the first page on.
                readinessProbe: { httpGet: { path: "/", port: "http" }, periodSeconds: 2 },
                livenessProbe: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 10 },
                lifecycle: { preStop: { sleep: { seconds: PRE_STOP_SECONDS } } },
                securityContext: { runAsUser: NGINX_USER, runAsGroup: NGINX_USER },
                resources: resources("32Mi"),
                volumeMounts: [
                  { name: "html", mountPath: "/usr/share/nginx/html", readOnly: true },
                  { name: "config", mountPath: "/etc/fortune", readOnly: true },
                  { name: "certificate", mountPath: "/etc/fortune-tls", readOnly: true },
                  { name: "tmp", mountPath: "/tmp" },
                ],
              },
            ],
            volumes: [
              { name: "html", emptyDir: { sizeLimit: "1Mi" } },
              { name: "tmp", emptyDir: { sizeLimit: "16Mi" } },
              {
                name: "config",
                configMap: { name: config.metadata.name, items: [{ key: "nginx.conf", path: "nginx.conf" }] },
              },
              { name: "certificate", secret: { secretName: secret.metadata.name, defaultMode: 0o440 } },
            ],
          }),
        },
      },
    },
    opts,
  );
  new k8s.policy.v1.PodDisruptionBudget(
    "fortune",
    { metadata, spec: { selector, maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" } },
    opts,
  );
  const service = new k8s.core.v1.Service(
    "fortune",
    {
      // The Deployment says when it is ready: the provider would wait 10 s more for the Service.
      metadata: { ...metadata, annotations: { "pulumi.com/skipAwait": "true" } },
      spec: {
        selector: labels,
        ports: [
          { name: "http", port: 80, targetPort: "http" },
          { name: "https", port: 443, targetPort: "https" },
        ],
      },
    },
    opts,
  );
  return { service: service.metadata.name, certificate };
}

/** Any `up` in the last half year of its two renews it, and the pods roll to it. */
function selfSigned(host: string) {
  const key = new tls.PrivateKey("fortune", { algorithm: "ECDSA", ecdsaCurve: "P256" });
  const certificate = new tls.SelfSignedCert("fortune", {
    privateKeyPem: key.privateKeyPem,
    subject: { commonName: host },
    dnsNames: [host],
    validityPeriodHours: 2 * YEAR,
    earlyRenewalHours: YEAR / 2,
    allowedUses: ["digital_signature", "server_auth"],
  });
  return { key: key.privateKeyPem, certificate: certificate.certPem };
}
