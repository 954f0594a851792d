import assert from "node:assert/strict";
import { violations } from "hobnob-platform/policy";
import type { OutputName } from "../../../platform";
import { type Captured, type CaptureOptions, capture, find, ofType, waitsFor } from "../../../test/unit/graph";
import { platformOutputs, platformStack } from "../../../test/unit/platformOutputs";
import { assertValid } from "../../../test/unit/validObjects";
import { exceptions } from "./exceptions";

const covered = { coveredHosts: [...platformOutputs.coveredHosts, "wp.example.com"] };
const settings = {
  "wordpress:platform": "acme/hobnob/prod",
  "wordpress:share": '{"server": "10.10.0.9", "path": "/123/uploads"}',
  "wordpress:public": "true",
};

interface Changes {
  config?: Record<string, string | undefined>;
  platform?: { [Name in OutputName]?: unknown };
}

/** The stack on a platform that is at DigitalOcean and covers its host, but for these settings and outputs. */
function graphOf({ config, platform }: Changes = {}, options: CaptureOptions = {}): Promise<Captured[]> {
  const given = Object.entries({ ...settings, ...config }).filter((entry) => entry[1] !== undefined);
  const outputs = platformStack({ ...covered, ...platform });
  return capture(() => (require("../index") as () => Promise<unknown>)(), {
    project: "wordpress",
    config: Object.fromEntries(given) as Record<string, string>,
    mocks: {
      resource: (args) =>
        args.type === "digitalocean:index/nfs:Nfs"
          ? { state: { ...args.inputs, host: "10.10.0.7", mountPath: "/7/share" } }
          : outputs(args),
    },
    ...options,
  });
}

const MACHINE = { "wordpress:uploads": "machine", "wordpress:share": undefined };
const NEW_SHARE = { "wordpress:share": undefined, "wordpress:newShare": '{"region": "fra1", "vpcId": "vpc-1"}' };
const OWN_CLASS = { "wordpress:ingressClass": "blog", "wordpress:tls": "true" };
const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const STATEFUL_SET = "kubernetes:apps/v1:StatefulSet";
const SERVICE = "kubernetes:core/v1:Service";
const BUDGET = "kubernetes:policy/v1:PodDisruptionBudget";
const CLAIM = "kubernetes:core/v1:PersistentVolumeClaim";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";
const RECORD = "digitalocean:index/dnsRecord:DnsRecord";

const specOf = (graph: Captured[], type: string, name: string) => find(graph, type, name).inputs.spec;
const sitePod = (graph: Captured[]) => specOf(graph, DEPLOYMENT, "wordpress").template.spec;
// biome-ignore lint/suspicious/noExplicitAny: a variable has a value or a source
const env = (graph: Captured[]): Record<string, any> =>
  Object.fromEntries(
    sitePod(graph).containers[0].env.map(
      ({ name, value, valueFrom }: { name: string; value?: string; valueFrom?: object }) => [name, value ?? valueFrom],
    ),
  );
const http = [{ protocol: "TCP", port: "http" }];

describe("WordPress' stack", () => {
  it("must be two pods of WordPress, one MariaDB with its disk, and a claim for uploads", async () => {
    const graph = await graphOf();
    const counted = graph.filter(({ custom }) => custom).map(({ type, name }) => `${type.split(":").at(-1)}::${name}`);
    const salts = ["auth", "logged-in", "nonce", "secure-auth"].flatMap((name) => [`${name}-key`, `${name}-salt`]);
    assert.deepEqual(
      counted.sort(),
      [
        "ConfigMap::mariadb",
        "CronJob::wordpress-cron",
        "Deployment::wordpress",
        "DnsRecord::records-wp-a",
        "DnsRecord::records-wp-aaaa",
        "Ingress::wordpress",
        "Namespace::wordpress",
        "NetworkPolicy::mariadb",
        "NetworkPolicy::wordpress",
        "NetworkPolicy::wordpress-cron",
        "NetworkPolicy::wordpress-default-deny",
        "PersistentVolume::uploads",
        "PersistentVolumeClaim::mariadb",
        "PersistentVolumeClaim::uploads",
        "PodDisruptionBudget::wordpress",
        "RandomPassword::mariadb-root",
        "RandomPassword::mariadb-wordpress",
        ...salts.map((name) => `RandomPassword::wordpress-${name}`),
        "Secret::mariadb",
        "Secret::wordpress",
        "Service::mariadb",
        "Service::wordpress",
        "ServiceAccount::mariadb",
        "ServiceAccount::wordpress",
        "ServiceAccount::wordpress-cron",
        "StatefulSet::mariadb",
        "kubernetes::platform",
      ].sort(),
    );
    assert.equal(specOf(graph, DEPLOYMENT, "wordpress").replicas, 2);
    assertValid(graph);
  });

  for (const [what, config] of Object.entries({ "a share": {}, "one machine": MACHINE, "its own class": OWN_CLASS }))
    it(`must break no policy that has no exception, and be the same in preview as in update, with ${what}`, async () => {
      const graphs = await Promise.all([true, false].map((preview) => () => graphOf({ config }, { preview })));
      const [preview, update] = [await graphs[0]?.(), await graphs[1]?.()] as [Captured[], Captured[]];
      for (const graph of [preview, update]) {
        const resources = graph.map(({ inputs, ...rest }) => ({ ...rest, props: inputs }));
        assert.deepEqual(violations(resources, { exceptions }), []);
      }
      const names = (graph: Captured[]) => graph.map(({ urn }) => urn).sort();
      assert.deepEqual(names(preview), names(update));
    });

  it("must set MariaDB up from a ConfigMap and a Secret, and let WordPress alone reach mariadb-svc", async () => {
    const graph = await graphOf();
    assert.deepEqual(find(graph, "kubernetes:core/v1:ConfigMap", "mariadb").inputs.data, {
      MARIADB_DATABASE: "wordpress",
      MARIADB_USER: "wordpress",
    });
    const service = find(graph, SERVICE, "mariadb").inputs;
    assert.equal(service.metadata.name, "mariadb-svc");
    assert.deepEqual(service.spec.ports, [{ name: "mysql", port: 3306, targetPort: "mysql" }]);
    const [mariadb] = specOf(graph, STATEFUL_SET, "mariadb").template.spec.containers;
    assert.match(mariadb.envFrom[0].configMapRef.name, /^mariadb-/);
    assert.deepEqual(
      mariadb.env.map(({ valueFrom }: { valueFrom: { secretKeyRef: { key: string } } }) => valueFrom.secretKeyRef.key),
      ["password", "rootPassword"],
    );
    const from = [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "wordpress" } } }];
    const { ingress, egress, policyTypes } = specOf(graph, POLICY, "mariadb");
    assert.deepEqual(
      [ingress, egress, policyTypes],
      [[{ from, ports: [{ protocol: "TCP", port: "mysql" }] }], undefined, ["Ingress", "Egress"]],
    );
  });

  it("must keep every password and salt out of all but Secrets, and give all pods the same salts", async () => {
    const graph = await graphOf();
    for (const { type, name, inputs, secrets } of graph) {
      const text = JSON.stringify(inputs);
      const holds = /-result"/.test(text);
      assert.ok(!holds || (type === "kubernetes:core/v1:Secret" && secrets.length > 0), `${type}::${name}: ${text}`);
    }
    const known = Object.keys(find(graph, "kubernetes:core/v1:Secret", "wordpress").inputs.stringData);
    assert.equal(known.length, 8);
    for (const key of known) assert.equal(env(graph)[`WORDPRESS_${key}`].secretKeyRef.key, key);
    assert.equal(env(graph).WORDPRESS_DB_HOST, "mariadb-svc");
    assert.equal(env(graph).WORDPRESS_DB_PASSWORD.secretKeyRef.key, "password");
  });

  it("must run as www-data, whose port is open to it, and never ask the set-up whether the process is well", async () => {
    const { securityContext, containers } = sitePod(await graphOf());
    assert.equal(securityContext.runAsUser, 33);
    assert.equal(securityContext.runAsNonRoot, true);
    assert.deepEqual(securityContext.sysctls, [{ name: "net.ipv4.ip_unprivileged_port_start", value: "80" }]);
    const [{ startupProbe, livenessProbe, readinessProbe, volumeMounts }] = containers;
    for (const { httpGet } of [startupProbe, livenessProbe]) assert.equal(httpGet.path, "/license.txt");
    assert.equal(readinessProbe.httpGet.path, "/wp-login.php");
    assert.deepEqual(readinessProbe.httpGet.httpHeaders, [{ name: "X-Forwarded-Proto", value: "https" }]);
    assert.deepEqual(
      volumeMounts.map(({ mountPath }: { mountPath: string }) => mountPath),
      ["/var/www/html", "/var/www/html/wp-content/uploads", "/var/run/apache2", "/var/lock/apache2", "/tmp"],
    );
  });

  it("must copy the code before the uploads are mounted into it, in whose parents it could not write then", async () => {
    const { initContainers, containers, volumes } = sitePod(await graphOf());
    const [{ args, image, volumeMounts }] = initContainers;
    assert.deepEqual([args, image], [["apache2", "-v"], containers[0].image]);
    assert.deepEqual(volumeMounts, [{ name: "code", mountPath: "/var/www/html" }]);
    assert.deepEqual(volumes[0], { name: "code", emptyDir: {} });
  });

  it("must share uploads over NFS from different machines, by a server that is there or a share of its own", async () => {
    const graph = await graphOf();
    const volume = specOf(graph, "kubernetes:core/v1:PersistentVolume", "uploads");
    assert.deepEqual(volume.nfs, { server: "10.10.0.9", path: "/123/uploads" });
    assert.deepEqual([volume.accessModes, volume.persistentVolumeReclaimPolicy], [["ReadWriteMany"], "Retain"]);
    const claim = specOf(graph, CLAIM, "uploads");
    assert.deepEqual([claim.accessModes, claim.storageClassName], [["ReadWriteMany"], ""]);
    assert.match(claim.volumeName, /^uploads-/);
    const [spread] = sitePod(graph).topologySpreadConstraints;
    assert.deepEqual([spread.whenUnsatisfiable, spread.minDomains], ["DoNotSchedule", 2]);
    assert.equal(sitePod(graph).affinity, undefined);

    const newShare = '{"region": "fra1", "vpcId": "a-vpc"}';
    const own = await graphOf({
      config: { "wordpress:share": undefined, "wordpress:newShare": newShare, "wordpress:protect": "true" },
    });
    const share = find(own, "digitalocean:index/nfs:Nfs", "uploads");
    assert.deepEqual(share.inputs, {
      name: "wordpress-test",
      region: "fra1",
      vpcId: "a-vpc",
      size: 50,
      performanceTier: "standard",
    });
    assert.equal(share.protect, true);
    const made = specOf(own, "kubernetes:core/v1:PersistentVolume", "uploads");
    assert.deepEqual(made.nfs, { server: "10.10.0.7", path: "/7/share" });
  });

  it("must put all pods on the machine that has the uploads' block volume, where there is no share", async () => {
    const graph = await graphOf({ config: MACHINE });
    assert.deepEqual(ofType(graph, "kubernetes:core/v1:PersistentVolume"), []);
    const claim = specOf(graph, CLAIM, "uploads");
    assert.deepEqual(
      [claim.accessModes, claim.storageClassName, claim.volumeName],
      [["ReadWriteOnce"], platformOutputs.storageClass, undefined],
    );
    const { affinity, topologySpreadConstraints } = sitePod(graph);
    const [term] = affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution;
    assert.deepEqual(term.labelSelector.matchLabels, { "app.kubernetes.io/name": "wordpress" });
    assert.equal(topologySpreadConstraints, undefined);
    assert.deepEqual(ofType(graph, BUDGET), [], "of pods that can only move together, it would stop every drain");
    assert.equal(ofType(await graphOf(), BUDGET).length, 1);
  });

  it("must keep a share that it made when it, or the stack, is removed: the uploads are in it", async () => {
    for (const protect of [undefined, "true"]) {
      const graph = await graphOf({ config: { ...NEW_SHARE, "wordpress:protect": protect } });
      const share = find(graph, "digitalocean:index/nfs:Nfs");
      assert.deepEqual([share.retainOnDelete, share.protect], [true, protect === "true"]);
    }
  });

  it("must run WordPress' own tasks every five minutes by a pod that reaches its pods, and is let in there", async () => {
    const graph = await graphOf();
    const { schedule, concurrencyPolicy, jobTemplate } = specOf(graph, "kubernetes:batch/v1:CronJob", "wordpress-cron");
    assert.deepEqual([schedule, concurrencyPolicy], ["*/5 * * * *", "Forbid"]);
    const { metadata, spec } = jobTemplate.spec.template;
    const [{ command, args, image }] = spec.containers;
    assert.deepEqual([...command, ...args].at(-1), "http://wordpress/wp-cron.php");
    assert.equal(image, sitePod(graph).containers[0].image);
    assert.match(env(graph).WORDPRESS_CONFIG_EXTRA, /define\('DISABLE_WP_CRON', true\)/);
    const site = { podSelector: { matchLabels: { "app.kubernetes.io/name": "wordpress" } } };
    const cron = { podSelector: { matchLabels: { "app.kubernetes.io/name": "wordpress-cron" } } };
    assert.equal(metadata.labels["app.kubernetes.io/name"], "wordpress-cron");
    assert.deepEqual(specOf(graph, POLICY, "wordpress-cron").egress[0], {
      to: [site],
      ports: [{ protocol: "TCP", port: 80 }],
    });
    assert.deepEqual(specOf(graph, POLICY, "wordpress").ingress[1], { from: [cron], ports: http });
  });

  it("must answer at wp.<domain>: by its Ingress, its record, its certificate's platform and WordPress itself", async () => {
    const graph = await graphOf();
    assert.equal(env(graph).SITE_URL, "https://wp.example.com");
    const { ingressClassName, rules } = specOf(graph, INGRESS, "wordpress");
    assert.deepEqual([ingressClassName, rules[0].host], ["nginx", "wp.example.com"]);
    const record = find(graph, RECORD, "records-wp-a").inputs;
    assert.deepEqual([record.domain, record.name, record.value], ["example.com", "wp", "203.0.113.10"]);
    await assert.rejects(graphOf({ platform: { coveredHosts: ["api.example.com"] } }), /wp\.example\.com/);
    const plain = await graphOf({ platform: { coveredHosts: [], zone: "" } });
    assert.equal(env(plain).SITE_URL, "http://wp.example.com");
    assert.deepEqual(ofType(plain, RECORD), []);
  });

  it("must not be reached from outside until that is asked for: whoever comes first sets it up", async () => {
    const graph = await graphOf({ config: { "wordpress:public": undefined } });
    assert.deepEqual([...ofType(graph, INGRESS), ...ofType(graph, RECORD)], []);
  });

  it("must have a class, a controller, a balancer and a certificate of its own where a class is named", async () => {
    const graph = await graphOf({ config: OWN_CLASS, platform: { coveredHosts: [] } });
    assert.equal(find(graph, "kubernetes:networking.k8s.io/v1:IngressClass").inputs.metadata.name, "blog");
    assert.equal(specOf(graph, INGRESS, "wordpress").ingressClassName, "blog");
    assert.deepEqual(find(graph, "digitalocean:index/certificate:Certificate").inputs.domains, ["wp.example.com"]);
    assert.equal(env(graph).SITE_URL, "https://wp.example.com");
    const { labels } = specOf(graph, DEPLOYMENT, "wordpress").template.metadata;
    assert.equal(labels["hobnob/ingress-class"], "blog");
    assert.ok(waitsFor(graph, find(graph, RECORD, "records-wp-a"), find(graph, SERVICE, "blog")));
    const nodes = (made: Captured[]) =>
      find(made, SERVICE, "blog").inputs.metadata.annotations["service.beta.kubernetes.io/do-loadbalancer-size-unit"];
    assert.equal(nodes(graph), "2");
    assert.equal(nodes(await graphOf({ config: { ...OWN_CLASS, "wordpress:balancerNodes": "3" } })), "3");
  });

  it("must refuse a class of its own where DigitalOcean makes no balancer, before there is any resource", async () => {
    const elsewhere: Changes["platform"][] = [
      { ingressAddress: "", ingressHostname: "lb.example.net" },
      { ingressExpose: "NodePort" },
      { ingressExpose: "HostPort" },
    ];
    for (const platform of elsewhere) {
      const made: string[] = [];
      const outputs = platformStack({ ...covered, ...platform });
      const resource: typeof outputs = (args) => {
        if (args.type !== "pulumi:pulumi:StackReference") made.push(args.type);
        return outputs(args);
      };
      const mocks = { resource };
      await assert.rejects(graphOf({ config: OWN_CLASS, platform }, { mocks }), ({ message }: Error) => {
        for (const part of ['wordpress:ingressClass\n    given:   "blog"', "pulumi config rm 'wordpress:ingressClass'"])
          assert.ok(message.includes(part), `${part} is not in:\n${message}`);
        return true;
      });
      assert.deepEqual(made, []);
    }
    await graphOf({ platform: { ingressExpose: "NodePort" } });
    const noZone = graphOf({ config: OWN_CLASS, platform: { zone: "" } });
    await assert.rejects(noZone, /1 violation:\s+wordpress:tls\s+given: +true/);
  });

  it("must lead a port of the machines to the pods, for those who are named", async () => {
    const config = { "wordpress:nodePort": "30088", "wordpress:nodePortFrom": '["192.0.2.0/24"]' };
    const graph = await graphOf({ config });
    const { type, ports } = specOf(graph, SERVICE, "wordpress");
    assert.deepEqual([type, ports[0].port, ports[0].nodePort], ["NodePort", 80, 30088]);
    const { ingress } = specOf(graph, POLICY, "wordpress");
    assert.deepEqual(ingress[2], { from: [{ ipBlock: { cidr: "192.0.2.0/24" } }], ports: http });
    assert.equal(specOf(await graphOf(), SERVICE, "wordpress").type, undefined);
  });

  it("must fail where the platform lacks an output that it uses, and name it", async () => {
    const used: OutputName[] = ["kubeconfig", "clusterId", "domain", "zone", "storageClass", "spread", "nodeSelector"];
    const more: OutputName[] = [
      "ingressClass",
      "ingressAddress",
      "ingressIpv6",
      "ingressHostname",
      "ingressExpose",
      "coveredHosts",
      "apiServer",
    ];
    for (const name of [...used, ...more])
      await assert.rejects(graphOf({ platform: { [name]: undefined } }), new RegExp(`\\b${name}\\b`), name);
  });

  it("must say all that is wrong with its settings at once", async () => {
    const config = {
      "wordpress:platform": undefined,
      "wordpress:share": undefined,
      "wordpress:hostname": "wp.example.com",
      "wordpress:replicas": "1",
      "wordpress:nodePort": "30088",
      "wordpress:tls": "true",
    };
    await assert.rejects(graphOf({ config }), ({ message }: Error) => {
      for (const part of [
        "6 violations",
        "wordpress:platform\n    given:   nothing",
        'wordpress:hostname\n    given:   "wp.example.com"\n    allowed: one label of a host name',
        "wordpress:replicas\n    given:   1",
        "wordpress:nodePortFrom\n    given:   []",
        "wordpress:share\n    given:   nothing\n    allowed: a server that is there; or newShare",
        "wordpress:tls\n    given:   true",
        "command: pulumi config set",
      ])
        assert.ok(message.includes(part), `${part} is not in:\n${message}`);
      return true;
    });
  });
});
