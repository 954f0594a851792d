import { setImmediate as turnOfTheLoop } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import { Alerts } from "./components/alerts";
import { API_BACKEND, API_LABELS, Api } from "./components/api";
import { BlockStorage } from "./components/blockStorage";
import { createCluster, withRegistry } from "./components/cluster";
import { Elasticsearch } from "./components/elasticsearch";
import { Image, PullSecret } from "./components/image";
import { IngressController } from "./components/ingress";
import { MetricsServer } from "./components/metricsServer";
import { Namespace } from "./components/namespace";
import { Protection } from "./components/protection";
import { Routes } from "./components/routes";
import { SNAPSHOTS_LABELS, Snapshots } from "./components/snapshots";
import { createZone } from "./components/zone";
import { readConfig } from "./config";
import { monthlyCostOutput } from "./cost";
import { refuseCutOff } from "./cutOff";
import { ownedBy, ownerOf } from "./owner";
import { contractVersion, type PlatformOutputs } from "./platform";
import { preflight } from "./preflight";
import { formerImages, readPreviousRun } from "./previousRun";

type Outputs = { [Name in keyof PlatformOutputs]: pulumi.Input<PlatformOutputs[Name]> };

/** Of the application. */
const NAMESPACE = "hobnob";

/** The graph, from the cluster to the last record: what a line uses is what it waits for, and nothing else. */
export = async (): Promise<Outputs> => {
  const config = readConfig();
  const previousRun = readPreviousRun();
  const notCutOff = refuseCutOff(previousRun);
  const monthlyCost = monthlyCostOutput(config);
  // A preview touches nothing, so that there it is refused in the end, unless something else has been before.
  notCutOff.catch(() => {});
  const [versionPlan] = await Promise.all([
    preflight(config, { previousRun }),
    pulumi.runtime.isDryRun() ? undefined : notCutOff,
  ]);
  const hosts = { api: `api.${config.domain}`, docs: `docs.${config.domain}` };
  const scheme = config.tls.enabled ? "https" : "http";
  const urls = { api: `${scheme}://${hosts.api}`, docs: `${scheme}://${hosts.docs}` };

  // What a cut-off run leaves is told from what others made by its owner alone.
  const owner = ownerOf(pulumi.getOrganization(), pulumi.getProject(), pulumi.getStack());
  const owned = { transformations: [ownedBy(owner)] };

  const cluster = createCluster("cluster", config.cluster, versionPlan, owned);
  // What it is made of is asked for while the rest of the graph is being made.
  await new Promise((resolve) => cluster.urn.apply(resolve));
  await turnOfTheLoop();
  const { spread, nodeSelector, workers, protect } = cluster;
  const placement = { spread, nodeSelector, workers };
  const onCluster = { provider: cluster.provider, ...owned };
  // Builds while the cluster is being made.
  const source = withRegistry(config.image, cluster);
  const image = new Image("backend", source);

  const application = new Namespace("hobnob", { name: NAMESPACE, quota: config.quota, protect }, onCluster);
  const { name: namespace } = application;

  const { className, fsType } = config.storage;
  const storage = new BlockStorage(
    "block-storage",
    { className, fsType, provisioner: cluster.storageProvisioner },
    onCluster,
  );
  const snapshots =
    config.snapshots &&
    new Snapshots(
      "snapshots",
      { ...config.snapshots, security: config.elasticsearch.security, namespace, nodeSelector },
      onCluster,
    );
  const elasticsearch = new Elasticsearch(
    "elasticsearch",
    {
      ...config.elasticsearch,
      ...placement,
      namespace,
      namespaceName: NAMESPACE,
      storageClassName: storage.storageClassName,
      clients: snapshots ? [API_LABELS, SNAPSHOTS_LABELS] : [API_LABELS],
      snapshots: snapshots?.store,
      apiServer: cluster.apiServer,
      protect,
    },
    onCluster,
  );

  const { domain, dns, tls } = config;
  const zone =
    dns.zone === "none"
      ? undefined
      : createZone("zone", config.cluster, { domain, zone: dns.zone, deleteZone: dns.deleteZone, protect }, owned);
  const coveredHosts = tls.enabled ? [...new Set([hosts.api, hosts.docs, ...tls.hosts])] : [];
  const certificate = zone && tls.enabled ? zone.certificate("certificate", coveredHosts) : undefined;

  const { monitoring } = config;
  const { sizeUnit, rateLimit, ...controller } = config.ingress;
  const ingress = new IngressController(
    "ingress",
    {
      ...controller,
      ...placement,
      namespaces: [NAMESPACE, ...controller.namespaces],
      // Those of a stack that was made before they had the label, until they are replaced.
      backends: [{ namespace: NAMESPACE, ...API_BACKEND }],
      metricsFor: monitoring?.scrape ? monitoring.namespace : undefined,
      apiServer: cluster.apiServer,
      loadBalancer: {
        kind: cluster.balancer,
        name: cluster.displayName,
        sizeUnit,
        certificateName: certificate?.certificateName,
        vpcRange: cluster.vpcRange,
      },
    },
    onCluster,
  );
  const { ttl, records: further, deleteZone } = dns;
  const { address, hostname } = ingress;
  const target = { address, hostname, ipv6: dns.ipv6 ? ingress.ipv6 : undefined };
  const records =
    (address ?? hostname) && zone?.records("records", { ttl, records: further, hosts: ["api", "docs"], target });

  const pullSecret = config.pull && new PullSecret("registry", { ...config.pull, namespace }, onCluster);
  const api = new Api(
    "backend",
    {
      ...config.api,
      ...placement,
      namespace,
      image: image.ref,
      pullSecretName: pullSecret?.secretName,
      elasticsearchHost: elasticsearch.host,
      elasticsearchPort: elasticsearch.port,
      elasticsearchSecretName: elasticsearch.security?.backendSecretName,
      publicUrl: urls.api,
      ingressClass: controller.className,
    },
    onCluster,
  );
  const metrics =
    config.api.autoscaling && cluster.lacksMetrics
      ? new MetricsServer("metrics-server", placement, onCluster)
      : undefined;

  const { expose } = controller;
  const shared = { ...ingress.forRoutes, coveredHosts, namespace, rateLimit };
  const { serviceName, apiPort, docsPort } = api;
  const routes = [
    new Routes("api", { ...shared, hosts: [hosts.api], paths: [{ serviceName, port: apiPort }] }, onCluster),
    new Routes("docs", { ...shared, hosts: [hosts.docs], paths: [{ serviceName, port: docsPort }] }, onCluster),
  ];

  const watched = { application: NAMESPACE, ingress: ingress.namespace, hosts: coveredHosts };
  const alerts =
    monitoring && monitoring.alerts !== "none"
      ? new Alerts("alerts", { ...monitoring, kind: monitoring.alerts, watched }, onCluster)
      : undefined;

  const onApplication = [application, storage, elasticsearch, ingress, pullSecret, api, metrics, alerts, ...routes];
  new Protection("cluster.protect", {
    protect,
    deleteZone,
    images: { backend: image.ref },
    formerImages: image.ref.apply(async (ref) => formerImages(await previousRun, ref)),
    everything: [image, zone, certificate, records, ...onApplication].filter((made) => made !== undefined),
  });

  await notCutOff;
  return {
    contractVersion,
    apiUrl: urls.api,
    docsUrl: urls.docs,
    ingressAddress: address ?? "",
    ingressHostname: hostname ?? "",
    nameServers: zone?.nameServers ?? [],
    coveredHosts,
    clusterId: cluster.id,
    clusterName: cluster.name,
    kubeconfig: cluster.kubeconfig,
    storageClass: storage.storageClassName,
    ingressClass: ingress.className,
    namespace,
    elasticsearchUrl: pulumi.interpolate`${elasticsearch.scheme}://${elasticsearch.host}:${elasticsearch.port}`,
    elasticsearchCa: elasticsearch.security?.ca ?? "",
    images: pulumi.output({ backend: image.ref }),
    pullSecretName: pullSecret?.secretName ?? "",
    domain,
    zone: zone?.domain ?? "",
    ingressNamespace: ingress.namespace,
    ingressIpv6: ingress.ipv6?.apply((ipv6) => ipv6 ?? "") ?? "",
    ingressCustomResources: controller.customResources,
    ingressSecretNamespaces: controller.secretNamespaces,
    ingressExpose: expose,
    ingressProxyRange: cluster.vpcRange ?? "",
    registry:
      cluster.createRegistry && "server" in source
        ? pulumi.output({ ...config.registry, server: source.server, clusterServer: source.server, private: false })
        : config.registry,
    spread,
    nodeSelector: nodeSelector ?? {},
    monthlyCost,
    apiServer: cluster.apiServer,
  };
};
