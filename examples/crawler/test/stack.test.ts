import assert from "node:assert/strict";
import { violations } from "hobnob-platform/policy";
import { parse } from "smol-toml";
import type { OutputName } from "../../../platform";
import { type Captured, type CaptureOptions, capture, find, ofType, waitsFor } from "../../../test/unit/graph";
import { platformOutputs, platformStack } from "../../../test/unit/platformOutputs";
import { assertValid } from "../../../test/unit/validObjects";
import { exceptions } from "./exceptions";

const settings = {
  "crawler:platform": "acme/hobnob/prod",
  "crawler:repository": "acme/crawler",
  "crawler:registryUsername": "acme",
  "crawler:registryPassword": "a password",
  "crawler:allowedHosts": '["example.com", "*.example.org:8000"]',
};

interface Changes {
  config?: Record<string, string | undefined>;
  platform?: { [Name in OutputName]?: unknown };
}

/** The stack on a platform that is at DigitalOcean, but for these settings and outputs. */
function graphOf({ config, platform }: Changes = {}, options: CaptureOptions = {}): Promise<Captured[]> {
  const given = Object.entries({ ...settings, ...config }).filter((entry) => entry[1] !== undefined);
  return capture(() => (require("../index") as () => Promise<unknown>)(), {
    project: "crawler",
    config: Object.fromEntries(given) as Record<string, string>,
    secretKeys: ["crawler:registryPassword"],
    mocks: { resource: platformStack(platform) },
    ...options,
  });
}

const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const STATEFUL_SET = "kubernetes:apps/v1:StatefulSet";
const SERVICE = "kubernetes:core/v1:Service";
const CLAIM = "kubernetes:core/v1:PersistentVolumeClaim";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";

const podOf = (graph: Captured[], type: string, name: string) => find(graph, type, name).inputs.spec.template.spec;
const select = (name: string) => ({ podSelector: { matchLabels: { "app.kubernetes.io/name": name } } });
const tcp = (...ports: (string | number)[]) => ports.map((port) => ({ protocol: "TCP", port }));
/** Without what every pod may: ask the cluster's DNS. */
const rulesOf = (graph: Captured[], name: string) => {
  const { ingress, egress = [] } = find(graph, POLICY, name).inputs.spec;
  const isDns = ({ ports = [] }: { ports?: { port: number }[] }) => ports.some(({ port }) => port === 53);
  return { ingress, egress: egress.filter((rule: object) => !isDns(rule)) };
};

describe("crawler's stack", () => {
  it("must be a master, three workers, and two stores with a disk each", async () => {
    const graph = await graphOf();
    const counted = graph.filter(({ custom }) => custom).map(({ type, name }) => `${type.split(":").at(-1)}::${name}`);
    assert.deepEqual(counted.sort(), [
      "ConfigMap::master-app-config",
      "ConfigMap::worker-app-config",
      "Deployment::master",
      "Deployment::worker",
      "Image::crawler",
      "Ingress::crawler",
      "Namespace::crawler",
      "NetworkPolicy::crawler-default-deny",
      "NetworkPolicy::etcd",
      "NetworkPolicy::master",
      "NetworkPolicy::mysql",
      "NetworkPolicy::worker",
      "PersistentVolumeClaim::etcd",
      "PersistentVolumeClaim::mysql",
      "PodDisruptionBudget::worker",
      "RandomPassword::api-token",
      "RandomPassword::mysql-crawler",
      "RandomPassword::mysql-root",
      "Secret::master-env",
      "Secret::mysql",
      "Secret::registry",
      "Service::etcd",
      "Service::master",
      "Service::master-grpc",
      "Service::mysql",
      "Service::worker",
      "ServiceAccount::etcd",
      "ServiceAccount::master",
      "ServiceAccount::mysql",
      "ServiceAccount::worker",
      "StatefulSet::etcd",
      "StatefulSet::mysql",
      "kubernetes::platform",
    ]);
    assert.equal(find(graph, DEPLOYMENT, "worker").inputs.spec.replicas, 3);
    assert.equal(find(graph, DEPLOYMENT, "master").inputs.spec.replicas, 1);
    assertValid(graph);
  });

  it("must break no policy that has no exception with its reason, in preview as in update", async () => {
    for (const preview of [true, false]) {
      const graph = await graphOf({}, { preview });
      const resources = graph.map(({ inputs, ...rest }) => ({ ...rest, props: inputs }));
      assert.deepEqual(violations(resources, { exceptions }), []);
    }
  });

  it("must make the same resources in preview as in update, whatever is chosen", async () => {
    const names = (graph: Captured[]) => graph.map(({ urn }) => urn).sort();
    for (const config of [{}, { "crawler:nodePort": "30081", "crawler:nodePortFrom": '["192.0.2.0/24"]' }])
      assert.deepEqual(names(await graphOf({ config }, { preview: true })), names(await graphOf({ config })));
  });

  it("must start `worker --podip=` with the pod's own address, and tell both programs the same settings", async () => {
    const graph = await graphOf();
    const [worker] = podOf(graph, DEPLOYMENT, "worker").containers;
    assert.deepEqual(worker.args, ["worker", "--podip=$(MY_POD_IP)"]);
    assert.deepEqual(worker.env, [
      { name: "CONFIG_FILE", value: "/app/config/config.toml" },
      { name: "MY_POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
    ]);
    assert.deepEqual(
      worker.ports.map((port: { containerPort: number }) => port.containerPort),
      [8080, 9090],
    );
    const [master] = podOf(graph, DEPLOYMENT, "master").containers;
    assert.deepEqual(master.args, ["master"]);
    const files = ["master", "worker"].map(
      (name) => find(graph, "kubernetes:core/v1:ConfigMap", `${name}-app-config`).inputs.data["config.toml"],
    );
    assert.equal(files[0], files[1]);
    for (const { volumeMounts } of [worker, master]) assert.equal(volumeMounts[0].mountPath, "/app/config");
    assert.deepEqual(JSON.parse(JSON.stringify(parse(files[0]))), {
      crawl: { allowed_hosts: ["example.com", "*.example.org:8000"], allowed_networks: [] },
      etcd: { address: "etcd:2379" },
      mysql: { host: "mysql", database: "crawler", user: "crawler" },
      master: { address: "master-grpc:9091", http_port: 8081, grpc_port: 9091 },
      worker: { http_port: 8080, grpc_port: 9090 },
    });
  });

  it("must let each pod reach what it needs, and the Internet the workers alone", async () => {
    const graph = await graphOf();
    assert.deepEqual(rulesOf(graph, "mysql"), {
      ingress: [{ from: [select("master")], ports: tcp("mysql") }],
      egress: [],
    });
    assert.deepEqual(rulesOf(graph, "etcd"), {
      ingress: [{ from: [select("master"), select("worker")], ports: tcp("client") }],
      egress: [],
    });
    const master = rulesOf(graph, "master");
    assert.deepEqual(master.ingress.slice(1), [{ from: [select("worker")], ports: tcp(9091) }]);
    assert.deepEqual(master.ingress[0].ports, tcp("http"));
    assert.deepEqual(master.egress, [
      { to: [select("etcd")], ports: tcp(2379) },
      { to: [select("mysql")], ports: tcp(3306) },
      { to: [select("worker")], ports: tcp(9090) },
    ]);
    const except = ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
    assert.deepEqual(rulesOf(graph, "worker"), {
      ingress: [{ from: [select("master")], ports: tcp(9090) }],
      egress: [
        { to: [select("etcd")], ports: tcp(2379) },
        { to: [select("master")], ports: tcp(9091) },
        { to: [{ ipBlock: { cidr: "0.0.0.0/0", except } }], ports: tcp(80, 443, 8000) },
      ],
    });
    const config = { "crawler:allowedNetworks": '["10.1.0.0/16"]' };
    const [, , web] = rulesOf(await graphOf({ config }), "worker").egress;
    assert.deepEqual(web.to[1], { ipBlock: { cidr: "10.1.0.0/16" } });
  });

  it("must keep each store's data on a disk of the platform's class that can grow and outlives the pod", async () => {
    const graph = await graphOf({ config: { "crawler:mysqlDisk": "20Gi", "crawler:protect": "true" } });
    const sizes = Object.entries({ mysql: "20Gi", etcd: "1Gi" });
    for (const [name, storage] of sizes) {
      const claim = find(graph, CLAIM, name);
      assert.equal(claim.protect, true);
      assert.deepEqual(claim.inputs.spec, {
        accessModes: ["ReadWriteOnce"],
        storageClassName: platformOutputs.storageClass,
        resources: { requests: { storage } },
      });
      const set = find(graph, STATEFUL_SET, name);
      assert.equal(set.inputs.spec.replicas, 1);
      const { volumes, containers, securityContext, nodeSelector } = set.inputs.spec.template.spec;
      assert.deepEqual(volumes[0], { name: "data", persistentVolumeClaim: { claimName: name } });
      assert.equal(containers[0].volumeMounts[0].subPath, "data");
      assert.equal(securityContext.fsGroup, securityContext.runAsUser);
      assert.deepEqual(nodeSelector, platformOutputs.nodeSelector);
    }
  });

  it("must keep every password and the token out of all but Secrets, each random", async () => {
    const graph = await graphOf();
    for (const { type, name, inputs, secrets } of graph) {
      const text = JSON.stringify(inputs);
      const holds = /(mysql-root|mysql-crawler|api-token)-result/.test(text);
      assert.ok(!holds || (type === "kubernetes:core/v1:Secret" && secrets.length > 0), `${type}::${name}: ${text}`);
    }
    const [mysql] = podOf(graph, STATEFUL_SET, "mysql").containers;
    const named = mysql.env.filter(({ valueFrom }: { valueFrom?: object }) => valueFrom);
    assert.deepEqual(
      named.map(({ name }: { name: string }) => name),
      ["MYSQL_PASSWORD", "MYSQL_ROOT_PASSWORD"],
    );
  });

  it("must have an Ingress of the platform's class for every host that nobody has, or for the one that is set", async () => {
    const { spec } = find(await graphOf(), INGRESS).inputs;
    const backend = { service: { name: "master", port: { number: 80 } } };
    const rule = { http: { paths: [{ path: "/", pathType: "Prefix", backend }] } };
    assert.deepEqual(spec, { ingressClassName: "nginx", rules: [rule] });
    const own = await graphOf({ config: { "crawler:host": "docs.example.com" } });
    assert.deepEqual(find(own, INGRESS).inputs.spec.rules, [{ host: "docs.example.com", ...rule }]);
  });

  it("must lead a port of the machines to the master's HTTP alone, and only those who are named", async () => {
    const plain = find(await graphOf(), SERVICE, "master").inputs.spec;
    assert.equal(plain.type, undefined);
    const config = { "crawler:nodePort": "30081", "crawler:nodePortFrom": '["192.0.2.0/24"]' };
    const graph = await graphOf({ config });
    const { type, ports } = find(graph, SERVICE, "master").inputs.spec;
    assert.equal(type, "NodePort");
    assert.deepEqual(
      ports.map(({ port, targetPort, nodePort }: Record<string, unknown>) => [port, targetPort, nodePort]),
      [[80, "http", 30081]],
    );
    const [http] = podOf(graph, DEPLOYMENT, "master").containers[0].ports;
    assert.deepEqual([http.name, http.containerPort], ["http", 8081]);
    const { ingress } = rulesOf(graph, "master");
    assert.deepEqual(ingress.at(-1), { from: [{ ipBlock: { cidr: "192.0.2.0/24" } }], ports: tcp(8081) });
    for (const { name, inputs } of ofType(graph, SERVICE))
      assert.ok(name === "master" || inputs.spec.type === undefined, `${name} is ${inputs.spec.type}`);
  });

  it("must not wait with the programs for what they wait for themselves", async () => {
    const graph = await graphOf();
    for (const program of ["master", "worker"])
      for (const set of ofType(graph, STATEFUL_SET))
        assert.equal(waitsFor(graph, find(graph, DEPLOYMENT, program), set), false, `${program} waits for ${set.name}`);
  });

  it("must fail where the platform lacks an output that it uses, and name it", async () => {
    const used: OutputName[] = ["kubeconfig", "clusterId", "registry", "spread", "nodeSelector", "storageClass"];
    for (const name of [...used, "ingressClass", "ingressAddress", "ingressHostname"] as OutputName[])
      await assert.rejects(graphOf({ platform: { [name]: undefined } }), new RegExp(`\\b${name}\\b`), name);
  });

  it("must not open a machine's port to nobody in particular", async () => {
    await assert.rejects(
      graphOf({ config: { "crawler:nodePort": "30081" } }),
      /crawler:nodePortFrom\n {4}given: {3}\[\]\n {4}allowed: with nodePort, the ranges of those who may use it/,
    );
  });

  it("must say all that is wrong with its settings at once", async () => {
    const config = {
      "crawler:platform": undefined,
      "crawler:repository": undefined,
      "crawler:registryUsername": undefined,
      "crawler:allowedHosts": '["http://example.com/"]',
      "crawler:workers": "0",
      "crawler:nodePort": "80",
      "crawler:mysqlDisk": "big",
    };
    await assert.rejects(graphOf({ config }), ({ message }: Error) => {
      for (const part of [
        "7 violations",
        "crawler:platform\n    given:   nothing",
        "crawler:allowedHosts[0]",
        "a host, *.host or host:port; one or more",
        "crawler:workers\n    given:   0\n    allowed: a whole number of 1 to 100",
        "crawler:nodePort\n    given:   80",
        'crawler:mysqlDisk\n    given:   "big"\n    allowed: a size such as 10Gi\n    command: pulumi config set',
        "crawler:repository\n    given:   nothing\n    allowed: where the image is pushed to; or image, a ready one",
        "crawler:registryUsername\n    given:   nothing",
      ])
        assert.ok(message.includes(part), `${part} is not in:\n${message}`);
      return true;
    });
  });
});
