import assert from "node:assert/strict";
import type * as pulumi from "@pulumi/pulumi";
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

type Outputs = Record<string, pulumi.Output<unknown>>;

/** The stack on a platform that is at DigitalOcean without TLS, but for these settings and outputs. */
function graphOf(
  { config, platform }: Changes = {},
  options: CaptureOptions = {},
  use: (program: Promise<Outputs>) => unknown = (program) => program,
): Promise<Captured[]> {
  const given = Object.entries({ ...settings, ...config }).filter((entry) => entry[1] !== undefined);
  return capture(() => use((require("../index") as () => Promise<Outputs>)()), {
    project: "crawler",
    config: Object.fromEntries(given) as Record<string, string>,
    secretKeys: ["crawler:registryPassword"],
    mocks: { resource: platformStack({ coveredHosts: [], ...platform }) },
    ...options,
  });
}

async function urlOf(changes: Changes): Promise<unknown> {
  let url: unknown;
  await graphOf(changes, {}, async (program) =>
    (await program).url?.apply((known) => {
      url = known;
    }),
  );
  return url;
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
    const nodePort = { "crawler:nodePort": "30081", "crawler:nodePortFrom": '["192.0.2.0/24"]' };
    for (const config of [{}, nodePort, { "crawler:host": "crawler.example.com" }])
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

  it("must say where the master answers: over HTTPS where the platform has it, and how where nothing leads to it", async () => {
    const config = { "crawler:host": "docs.example.com" };
    const covered = ["docs.example.com"];
    assert.equal(await urlOf({ config, platform: { coveredHosts: covered } }), "https://docs.example.com");
    assert.equal(await urlOf({ config }), "http://docs.example.com");
    assert.equal(await urlOf({}), "http://203.0.113.10");
    const ingressHostname = "a.elb.eu-central-1.amazonaws.com";
    assert.equal(await urlOf({ platform: { ingressAddress: "", ingressHostname } }), `http://${ingressHostname}`);
    for (const ingressExpose of ["NodePort", "HostPort"])
      assert.equal(
        await urlOf({ platform: { ingressAddress: "", ingressExpose } }),
        "http://localhost:8081, after: kubectl --namespace crawler port-forward service/master 8081:80",
      );
  });

  it("must not be served without a host where no certificate is for it, and make nothing then", async () => {
    const { coveredHosts } = platformOutputs;
    const graph = await graphOf({ platform: { coveredHosts } }, {}, (program) =>
      assert.rejects(
        program,
        /acme\/hobnob\/prod has TLS.*\n\n {2}crawler:host\n {4}given: {3}nothing\n {4}allowed: .*api\.example\.com.*hobnob:tls\.hosts\n {4}command: pulumi config set crawler:host <host>/,
      ),
    );
    assert.deepEqual(graph, []);
  });

  it("must have a record for a host that is below the platform's domain, and for no other", async () => {
    const records = async (host?: string) =>
      ofType(await graphOf({ config: { "crawler:host": host } }), "digitalocean:index/dnsRecord:DnsRecord").map(
        ({ inputs }) => `${inputs.domain} ${inputs.type} ${inputs.name} ${inputs.value}`,
      );
    const expected = ["example.com A crawler 203.0.113.10", "example.com AAAA crawler 2001:db8::10"];
    assert.deepEqual((await records("crawler.example.com")).sort(), expected);
    for (const none of [undefined, "crawler.example.org", "evilexample.com"]) assert.deepEqual(await records(none), []);
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
    const always: OutputName[] = [
      ...used,
      "domain",
      "coveredHosts",
      "ingressClass",
      "ingressAddress",
      "ingressHostname",
    ];
    const withHost: OutputName[] = ["zone", "ingressIpv6"];
    for (const name of [...always, ...withHost]) {
      const config = withHost.includes(name) ? { "crawler:host": "crawler.example.com" } : {};
      await assert.rejects(graphOf({ config, platform: { [name]: undefined } }), new RegExp(`\\b${name}\\b`), name);
    }
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
