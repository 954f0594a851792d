import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { stringify } from "yaml";

export interface AlertsArgs {
  /** As an object of Prometheus' operator, whose kinds the cluster must have, or as a plain file of rules in a ConfigMap. */
  kind: "PrometheusRule" | "ConfigMap";
  /** Namespace of the Prometheus, which must be there. */
  namespace: pulumi.Input<string>;
  /** Labels by which that Prometheus finds its rules. @default {} */
  labels?: Record<string, string>;
  watched: Watched;
}

export interface Watched {
  /** Of Elasticsearch and the API. */
  application: string;
  /** Of the ingress controller. */
  ingress: string;
  /** Those that the certificate covers; none while TLS is off. */
  hosts: string[];
}

/** The platform's own alert rules, for whatever Prometheus the team runs. */
export class Alerts extends pulumi.ComponentResource {
  constructor(name: string, args: AlertsArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:Alerts", name, {}, opts);
    const { kind, namespace, labels, watched } = args;
    const metadata = { name: "hobnob-alerts", namespace, labels };
    const groups = [{ name: "hobnob", rules: alertRules(watched) }];
    if (kind === "PrometheusRule")
      new k8s.apiextensions.CustomResource(
        name,
        { apiVersion: "monitoring.coreos.com/v1", kind, metadata, spec: { groups } },
        { parent: this },
      );
    else
      new k8s.core.v1.ConfigMap(
        name,
        { metadata, data: { "hobnob.rules.yml": stringify({ groups }) } },
        { parent: this },
      );
    this.registerOutputs();
  }
}

/**
 * Metrics: kubelet_* of the kubelets, kube_* of kube-state-metrics, elasticsearch_* of prometheus-community's
 * elasticsearch_exporter, probe_* of its blackbox_exporter, none of which is the platform's.
 */
export function alertRules({ application, ingress, hosts }: Watched) {
  const both = `namespace=~"${application}|${ingress}"`;
  const claims = `namespace="${application}",persistentvolumeclaim=~"data-elasticsearch-.+"`;
  const instances = `instance=~"(https://)?(${hosts.map((host) => host.replaceAll(".", "\\\\.")).join("|")})(:443)?(/.*)?"`;
  const rules = [
    alert("HobnobDiskFilling", "critical", "10m", {
      expr: `kubelet_volume_stats_available_bytes{${claims}} / kubelet_volume_stats_capacity_bytes{${claims}} < 0.15`,
      summary: "{{ $labels.persistentvolumeclaim }} has {{ $value | humanizePercentage }} left",
      description: "At 5 % Elasticsearch refuses to write. Raise hobnob:elasticsearch.diskSize and update.",
    }),
    alert("HobnobHeapHigh", "warning", "15m", {
      expr: 'elasticsearch_jvm_memory_used_bytes{area="heap"} / elasticsearch_jvm_memory_max_bytes{area="heap"} > 0.9',
      summary: "{{ $labels.name }} has {{ $value | humanizePercentage }} of its heap in use",
      description: "It soon answers slowly, then with 429. Raise hobnob:elasticsearch.memory and update.",
    }),
    alert("HobnobDeploymentUnavailable", "critical", "10m", {
      expr: `kube_deployment_status_replicas_unavailable{${both}} > 0`,
      summary: "{{ $labels.namespace }}/{{ $labels.deployment }} lacks {{ $value }} pods",
      description: "Its pods' events tell why: kubectl describe pods.",
    }),
    alert("HobnobStatefulSetUnavailable", "critical", "15m", {
      expr: `kube_statefulset_replicas{${both}} - kube_statefulset_status_replicas_ready{${both}} > 0`,
      summary: "{{ $labels.namespace }}/{{ $labels.statefulset }} lacks {{ $value }} pods",
      description: "Its pods' events tell why: kubectl describe pods.",
    }),
    // Rules without metrics never fire, which looks like health.
    alert("HobnobNotWatched", "warning", "1h", {
      expr: [
        `absent(kubelet_volume_stats_available_bytes{${claims}})`,
        'absent(elasticsearch_jvm_memory_used_bytes{area="heap"})',
        `absent(kube_deployment_status_replicas_unavailable{${both}})`,
        `absent(kube_statefulset_replicas{${both}})`,
        ...(hosts.length > 0 ? [`absent(probe_ssl_earliest_cert_expiry{${instances}})`] : []),
      ].join(" or "),
      summary: "Metrics that the platform's alerts go by are missing",
      description: "Kubelets, kube-state-metrics, elasticsearch_exporter and blackbox_exporter must be scraped.",
    }),
  ];
  if (hosts.length === 0) return rules;
  return [
    ...rules,
    alert("HobnobCertificateExpiring", "critical", "1h", {
      expr: `probe_ssl_earliest_cert_expiry{${instances}} - time() < 14 * 86400`,
      summary: "The certificate of {{ $labels.instance }} ends in {{ $value | humanizeDuration }}",
      description: "It was not renewed; npm run verify tells whether the zone is still delegated to DigitalOcean.",
    }),
  ];
}

interface AlertTexts {
  expr: string;
  summary: string;
  description: string;
}

const alert = (name: string, severity: string, time: string, { expr, ...annotations }: AlertTexts) => ({
  alert: name,
  expr,
  for: time,
  labels: { severity },
  annotations,
});
