import { join } from "node:path";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { Platform } from "hobnob-platform";
import { ownImage } from "hobnob-platform/components/image";
import { Namespace } from "hobnob-platform/components/namespace";
import { ofPlatform, Routes } from "hobnob-platform/components/routes";
import { Service } from "hobnob-platform/components/service";
import { platformRecords } from "hobnob-platform/components/zone";
import { stringify } from "smol-toml";
import { readSettings, type Settings } from "./settings";
import { Store } from "./store";

// Listed at https://github.com/etcd-io/etcd/releases/tag/v3.6.16.
const ETCD = "gcr.io/etcd-development/etcd:v3.6.16";
// Long-term support; listed at https://github.com/docker-library/official-images/blob/master/library/mysql.
const MYSQL = "docker.io/library/mysql:9.7.2";

const GRPC = { master: 9091, worker: 9090 };
const HTTP = { master: 8081, worker: 8080 };
const label = (name: string) => ({ "app.kubernetes.io/name": name });
const DATABASE = "crawler";
const CONFIG = "/app/config";
const CONFIG_FILE = `${CONFIG}/config.toml`;

export = async () => {
  const settings = readSettings();
  const platform = new Platform(settings.platform);
  const [registry, domain, coveredHosts] = await Promise.all([
    platform.value("registry"),
    platform.value("domain"),
    platform.value("coveredHosts"),
  ]);
  const { host } = settings;
  if (host === undefined && coveredHosts.length > 0) throw noCertificate(settings.platform, coveredHosts);
  const onCluster = { provider: platform.provider("platform") };
  const [spread, nodeSelector] = [platform.output("spread"), platform.output("nodeSelector")];

  const image = ownImage("crawler", { settings, registry, context: join(__dirname, "program") });
  const { name: namespace } = new Namespace("crawler", { name: "crawler" }, onCluster);
  const pullSecretName = image.pullSecretIn(namespace, onCluster);
  const rootPassword = new random.RandomPassword("mysql-root", { length: 32, special: false });
  const userPassword = new random.RandomPassword("mysql-crawler", { length: 32, special: false });
  const token = new random.RandomPassword("api-token", { length: 48, special: false });
  const accounts = new k8s.core.v1.Secret(
    "mysql",
    {
      metadata: { namespace, labels: label("mysql") },
      stringData: { root: rootPassword.result, crawler: userPassword.result },
    },
    onCluster,
  );

  const disk = {
    namespace,
    storageClassName: platform.output("storageClass"),
    nodeSelector,
    protect: settings.protect,
  };
  const tcp = (port: string) => ({ tcpSocket: { port } });
  const mysql = new Store(
    "mysql",
    {
      ...disk,
      image: MYSQL,
      // https://github.com/docker-library/mysql/blob/master/template/Dockerfile.oracle
      user: 999,
      port: { name: "mysql", port: 3306 },
      env: [
        { name: "MYSQL_DATABASE", value: DATABASE },
        { name: "MYSQL_USER", value: DATABASE },
        { name: "MYSQL_PASSWORD", valueFrom: { secretKeyRef: { name: accounts.metadata.name, key: "crawler" } } },
        { name: "MYSQL_ROOT_PASSWORD", valueFrom: { secretKeyRef: { name: accounts.metadata.name, key: "root" } } },
      ],
      // Half of what it would need otherwise.
      args: ["--performance-schema=OFF"],
      dataPath: "/var/lib/mysql",
      scratch: ["/var/run/mysqld", "/tmp"],
      diskSize: settings.mysqlDisk,
      // Its port is closed while a new disk is set up; a large one may take long to be made whole after a crash.
      startup: { ...tcp("mysql"), periodSeconds: 5, failureThreshold: 180 },
      readiness: { ...tcp("mysql"), periodSeconds: 5 },
      memory: "512Mi",
      cpu: "100m",
      stopSeconds: 120,
      clients: [label("master")],
    },
    onCluster,
  );
  const health = (path: string, port: string) => ({ httpGet: { path, port }, periodSeconds: 5, timeoutSeconds: 3 });
  const etcd = new Store(
    "etcd",
    {
      ...disk,
      image: ETCD,
      user: 10001,
      port: { name: "client", port: 2379 },
      env: Object.entries({
        ETCD_NAME: "etcd-0",
        // A directory that etcd makes, and nobody else can read.
        ETCD_DATA_DIR: "/var/lib/etcd/member",
        ETCD_LISTEN_CLIENT_URLS: "http://0.0.0.0:2379",
        ETCD_ADVERTISE_CLIENT_URLS: "http://etcd:2379",
        // Of one member, and so for nobody.
        ETCD_LISTEN_PEER_URLS: "http://127.0.0.1:2380",
        ETCD_AUTO_COMPACTION_RETENTION: "1h",
      }).map(([name, value]) => ({ name, value })),
      dataPath: "/var/lib/etcd",
      scratch: [],
      diskSize: settings.etcdDisk,
      startup: { ...health("/readyz", "client"), failureThreshold: 60 },
      readiness: health("/readyz", "client"),
      liveness: { ...health("/livez", "client"), periodSeconds: 20, failureThreshold: 6 },
      memory: "128Mi",
      cpu: "50m",
      stopSeconds: 30,
      clients: [label("master"), label("worker")],
    },
    onCluster,
  );

  // A name, not the Service's output: the workers find the master whenever it comes.
  const masterAddress = `master-grpc:${GRPC.master}`;
  const toml = pulumi.all([mysql.host, etcd.host]).apply(([mysqlHost, etcdHost]) =>
    stringify({
      crawl: { allowed_hosts: settings.allowedHosts, allowed_networks: settings.allowedNetworks },
      etcd: { address: `${etcdHost}:2379` },
      mysql: { host: mysqlHost, database: DATABASE, user: DATABASE },
      master: { address: masterAddress, http_port: HTTP.master, grpc_port: GRPC.master },
      worker: { http_port: HTTP.worker, grpc_port: GRPC.worker },
    }),
  );
  const files = { [CONFIG]: { "config.toml": toml } };
  const pods = { namespace, image: image.ref, pullSecretName, spread, nodeSelector, files };
  const probes = {
    startup: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 1, failureThreshold: 60 },
    readiness: { httpGet: { path: "/readyz", port: "http" }, periodSeconds: 5, timeoutSeconds: 3 },
    liveness: { httpGet: { path: "/healthz", port: "http" }, periodSeconds: 10, timeoutSeconds: 5 },
  };
  const to = (name: string, port: number) => ({
    to: [{ podSelector: { matchLabels: label(name) } }],
    ports: [{ protocol: "TCP", port }],
  });
  const from = (name: string, port: number) => ({
    from: [{ podSelector: { matchLabels: label(name) } }],
    ports: [{ protocol: "TCP", port }],
  });

  const worker = new Service(
    "worker",
    {
      ...pods,
      ...probes,
      replicas: settings.workers,
      args: ["worker", "--podip=$(MY_POD_IP)"],
      env: { CONFIG_FILE, MY_POD_IP: { fieldRef: { fieldPath: "status.podIP" } } },
      // The master speaks to each pod by itself.
      serviceType: "Headless",
      ports: [
        { name: "http", port: HTTP.worker },
        { name: "grpc", port: GRPC.worker, appProtocol: "kubernetes.io/h2c" },
      ],
      from: [from("master", GRPC.worker)],
      to: [to("etcd", 2379), to("master", GRPC.master), web(settings)],
      // Nobody sends it new pages once it says that it stops; those that it has take up to a minute.
      preStopSeconds: 0,
      stopSeconds: 75,
      memory: "128Mi",
      cpu: "50m",
    },
    onCluster,
  );

  const master = new Service(
    "master",
    {
      ...pods,
      ...probes,
      replicas: 1,
      args: ["master"],
      env: { CONFIG_FILE },
      secretEnv: { MYSQL_PASSWORD: userPassword.result, API_TOKEN: token.result },
      serviceType: settings.nodePort === undefined ? "ClusterIP" : "NodePort",
      ports: [{ name: "http", port: 80, targetPort: HTTP.master, nodePort: settings.nodePort, appProtocol: "http" }],
      ingressClass: platform.output("ingressClass"),
      from: [
        from("worker", GRPC.master),
        ...(settings.nodePort === undefined
          ? []
          : [
              {
                from: settings.nodePortFrom.map((cidr) => ({ ipBlock: { cidr } })),
                ports: [{ protocol: "TCP", port: HTTP.master }],
              },
            ]),
      ],
      to: [to("etcd", 2379), to("mysql", 3306), to("worker", GRPC.worker)],
      memory: "128Mi",
      cpu: "50m",
    },
    onCluster,
  );
  // By itself: on the other Service the machines' ports would lead here too.
  new k8s.core.v1.Service(
    "master-grpc",
    {
      metadata: {
        name: "master-grpc",
        namespace,
        labels: master.labels,
        annotations: { "pulumi.com/skipAwait": "true" },
      },
      spec: {
        selector: master.labels,
        ports: [{ name: "grpc", port: GRPC.master, targetPort: GRPC.master, appProtocol: "kubernetes.io/h2c" }],
      },
    },
    onCluster,
  );

  const routes = new Routes(
    "crawler",
    {
      ...ofPlatform(platform),
      namespace,
      hosts: host === undefined ? undefined : [host],
      paths: [{ path: "/", serviceName: master.serviceName, port: 80 }],
      maxBodySize: "16k",
    },
    onCluster,
  );

  const below = host?.endsWith(`.${domain}`) && host.slice(0, -domain.length - 1);
  if (below) await platformRecords("records", platform, { hosts: [below] });

  return {
    /** Where the master answers, also by any other name of that address where no host is set. */
    url: host === undefined ? addressOf(platform, namespace, master.serviceName) : routes.urls[0],
    /** Who starts crawls needs it. */
    apiToken: pulumi.secret(token.result),
    namespace,
    service: master.serviceName,
    workers: worker.serviceName,
  };
};

/** Over plain HTTP. */
function addressOf(platform: Platform, namespace: pulumi.Output<string>, service: pulumi.Output<string>) {
  const forward = pulumi.interpolate`kubectl --namespace ${namespace} port-forward service/${service} ${HTTP.master}:80`;
  return pulumi
    .all([platform.output("ingressHostname"), platform.output("ingressAddress"), forward])
    .apply(([hostname, address, command]) =>
      hostname || address ? `http://${hostname || address}` : `http://localhost:${HTTP.master}, after: ${command}`,
    );
}

const noCertificate = (stackName: string, covered: string[]) =>
  new pulumi.RunError(
    `The platform stack ${stackName} has TLS, and no certificate is for requests without a known host:\n\n  crawler:host\n` +
      "    given:   nothing\n" +
      `    allowed: a host that the platform's certificate covers: ${covered.join(", ")}; more by its hobnob:tls.hosts\n` +
      "    command: pulumi config set crawler:host <host>\n",
  );

/** The Internet on the ports of the allowed hosts, and what is allowed besides; of hosts, a policy knows nothing. */
function web(settings: Settings): k8s.types.input.networking.v1.NetworkPolicyEgressRule {
  const own = settings.allowedHosts.flatMap((host) => host.split(":")[1] ?? []).map(Number);
  const inside = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
  return {
    to: [
      { ipBlock: { cidr: "0.0.0.0/0", except: inside } },
      ...settings.allowedNetworks.map((cidr) => ({ ipBlock: { cidr } })),
    ],
    ports: [...new Set([80, 443, ...own])].map((port) => ({ protocol: "TCP", port })),
  };
}
