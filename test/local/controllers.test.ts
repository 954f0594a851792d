import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ApiException,
  ApiextensionsV1Api,
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  NetworkingV1Api,
  StorageV1Api,
  type V1Ingress,
  type V1PersistentVolumeClaim,
  type V1Service,
  type V1StorageClass,
} from "@kubernetes/client-node";
import { IngressController } from "../../components/ingress";
import { Routes, type RoutesArgs } from "../../components/routes";
import type {
  AccountCertificate,
  AccountForControllers,
  Balancer,
  BalancerRequest,
  ControllerSettings,
  Volume,
  VolumeRequest,
} from "../../local/account/controllers/index";
import { startControllers } from "../../local/account/controllers/index";
import { createNode, deleteNode, type NodeRequest } from "../../local/account/controllers/nodes";
import { mergePatch } from "../../local/account/controllers/watch";
import { adminKubeconfig, createCluster, deleteCluster, holdAnnotation } from "../../local/cluster";
import { type Captured, capture, ofType } from "../unit/graph";

const prefix = "service.beta.kubernetes.io/do-loadbalancer-";
const driver = "dobs.csi.digitalocean.com";
const waitSeconds = 60;

/** The account's part, in memory. */
class MemoryAccount implements AccountForControllers {
  readonly balancers = new Map<string, Balancer>();
  readonly volumes = new Map<string, Volume & { dropletId?: number }>();
  readonly records: string[] = [];
  readonly certificates: AccountCertificate[] = [
    { id: "cert-1", name: "hobnob-tls", type: "lets_encrypt", dns_names: ["api.example.com", "docs.example.com"] },
    { id: "cert-2", name: "hobnob-own", type: "custom", dns_names: ["api.example.com"] },
  ];
  private count = 0;

  async createBalancer(request: BalancerRequest): Promise<Balancer> {
    const number = ++this.count;
    const ipv6 = request.network_stack === "DUALSTACK" ? `2001:db8::${number}` : undefined;
    return this.keep({ ...request, id: `lb-${number}`, ip: `203.0.113.${number}`, ipv6, status: "new" });
  }
  async activateBalancer(id: string): Promise<Balancer> {
    return this.keep({ ...this.balancer(id), status: "active" });
  }
  async updateBalancer(id: string, request: BalancerRequest): Promise<Balancer> {
    return this.keep({ ...this.balancer(id), ...request });
  }
  async balancerById(id: string) {
    return this.balancers.get(id);
  }
  async balancerByName(name: string) {
    return [...this.balancers.values()].find((balancer) => balancer.name === name);
  }
  async deleteBalancer(id: string) {
    this.balancers.delete(id);
  }
  async certificateById(id: string) {
    return this.certificates.find((certificate) => certificate.id === id);
  }
  async certificateByName(name: string) {
    return this.certificates.find((certificate) => certificate.name === name);
  }
  async writeAddressRecords(hosts: string[], address: string) {
    this.records.push(...hosts.map((host) => `${host} A ${address}`));
  }
  async createVolume(request: VolumeRequest): Promise<Volume> {
    const there = [...this.volumes.values()].find(({ name }) => name === request.name);
    const volume = there ?? { ...request, id: `vol-${++this.count}` };
    this.volumes.set(volume.id, volume);
    return volume;
  }
  async volumeById(id: string) {
    return this.volumes.get(id);
  }
  async resizeVolume(id: string, sizeGigabytes: number) {
    const volume = { ...this.volume(id), size_gigabytes: sizeGigabytes };
    this.volumes.set(id, volume);
    return volume;
  }
  async attachVolume(id: string, dropletId: number) {
    this.volume(id).dropletId = dropletId;
  }
  async detachVolume(id: string) {
    delete this.volume(id).dropletId;
  }
  async deleteVolume(id: string) {
    if (this.volumes.get(id)?.dropletId) throw new Error("a volume that is attached to a Droplet cannot be deleted");
    this.volumes.delete(id);
  }

  private keep(balancer: Balancer): Balancer {
    this.balancers.set(balancer.id, balancer);
    return balancer;
  }
  private balancer(id: string): Balancer {
    return this.balancers.get(id) ?? assert.fail(`no balancer ${id}`);
  }
  private volume(id: string) {
    return this.volumes.get(id) ?? assert.fail(`no volume ${id}`);
  }
}

describe("in-cluster controllers", function () {
  this.timeout(waitSeconds * 2000);
  const oldState = process.env.HOBNOB_LOCAL_STATE;
  const state = mkdtempSync(join(tmpdir(), "hobnob-controllers-"));
  const account = new MemoryAccount();
  const settings: ControllerSettings = {
    clusterId: "cluster-1",
    region: "fra1",
    balancerSeconds: 0,
    volumeSeconds: 0,
    attachSeconds: 0,
  };
  let controllers: ReturnType<typeof startControllers>;
  let core: CoreV1Api;
  let storage: StorageV1Api;
  let networking: NetworkingV1Api;
  let definitions: ApiextensionsV1Api;
  let custom: CustomObjectsApi;

  // What is refused is read from the events.
  const start = () =>
    startControllers(
      adminKubeconfig(),
      account,
      () => settings,
      () => {},
    );

  before(async function () {
    this.timeout(180_000);
    process.env.HOBNOB_LOCAL_STATE = state;
    await createCluster({ accountPort: 1 });
    const config = new KubeConfig();
    config.loadFromFile(adminKubeconfig());
    core = config.makeApiClient(CoreV1Api);
    storage = config.makeApiClient(StorageV1Api);
    networking = config.makeApiClient(NetworkingV1Api);
    definitions = config.makeApiClient(ApiextensionsV1Api);
    custom = config.makeApiClient(CustomObjectsApi);
    controllers = start();
    await Promise.all([1, 2].map((number) => createNode(adminKubeconfig(), droplet(number))));
  });

  after(async function () {
    this.timeout(60_000);
    await controllers?.stop();
    await deleteCluster();
    rmSync(state, { recursive: true });
    if (oldState === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = oldState;
  });

  describe("nodes", () => {
    it("must offer what a droplet offers on DOKS, with its labels and no zone", async () => {
      const node = await core.readNode({ name: "workers-aaaa1" });
      assert.deepEqual(node.status?.allocatable, {
        cpu: "1900m",
        "ephemeral-storage": "50Gi",
        memory: "2560Mi",
        pods: "110",
      });
      assert.equal(node.spec?.providerID, "digitalocean://101");
      assert.deepEqual(node.metadata?.labels, {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/instance-type": "s-2vcpu-4gb",
        "beta.kubernetes.io/os": "linux",
        "doks.digitalocean.com/managed": "true",
        "doks.digitalocean.com/node-id": "node-1",
        "doks.digitalocean.com/node-pool": "workers",
        "doks.digitalocean.com/node-pool-id": "pool-1",
        "doks.digitalocean.com/version": "1.36.3-do.0",
        "failure-domain.beta.kubernetes.io/region": "fra1",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": "workers-aaaa1",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "s-2vcpu-4gb",
        region: "fra1",
        tier: "data",
        "topology.kubernetes.io/region": "fra1",
      });
      const ready = await eventually(async () => isReady((await core.readNode({ name: "workers-aaaa1" })).status));
      assert.equal(ready, true);
    });

    it("must drain a node before it goes, and take what is left on it along", async () => {
      await createNode(adminKubeconfig(), droplet(3));
      const pod = podOf("draining", { nodeName: "workers-aaaa3" });
      await core.createNamespacedPod({ namespace: "default", body: pod });
      await deleteNode(adminKubeconfig(), "workers-aaaa3");
      await assert.rejects(() => core.readNode({ name: "workers-aaaa3" }), isStatus(404));
      await assert.rejects(() => core.readNamespacedPod({ namespace: "default", name: "draining" }), isStatus(404));
      await deleteNode(adminKubeconfig(), "workers-aaaa3");
    });

    it("must leave a held pod to the test that plays its kubelet", async () => {
      const annotations = { [holdAnnotation]: "true" };
      const held = podOf("held", {}, { annotations });
      await core.createNamespacedPod({ namespace: "default", body: held });
      await core.createNamespacedPod({ namespace: "default", body: podOf("free", {}) });
      const phase = async (name: string) =>
        (await core.readNamespacedPod({ namespace: "default", name })).status?.phase;
      await eventually(async () => (await phase("free")) === "Running");
      assert.equal(await phase("held"), "Pending");
    });
  });

  describe("balancers", () => {
    it("must record the balancer that the annotations ask for, and give the Service its addresses", async () => {
      const service = await createService("whole", {
        name: "whole",
        type: "REGIONAL",
        protocol: "http",
        "tls-ports": "443",
        "certificate-name": "hobnob-tls",
        "disable-lets-encrypt-dns-records": "true",
        "redirect-http-to-https": "true",
        "size-unit": "2",
        "http-idle-timeout-seconds": "90",
        "healthcheck-check-interval-seconds": "5",
        "sticky-sessions-type": "cookies",
        "sticky-sessions-cookie-name": "node",
        "sticky-sessions-cookie-ttl": "300",
        "deny-rules": "ip:198.51.100.7,cidr:198.51.100.0/28",
      });
      const ingress = await addressesOf("whole");
      const balancer = balancerNamed("whole");
      assert.deepEqual(ingress, [balancer.ip, balancer.ipv6]);
      const [http = 0, https = 0] = (await service()).spec?.ports?.map(({ nodePort = 0 }) => nodePort) ?? [];
      const { id, ip, ipv6, ...rest } = balancer;
      assert.deepEqual(rest, {
        name: "whole",
        type: "REGIONAL",
        network: "EXTERNAL",
        network_stack: "DUALSTACK",
        size_unit: 2,
        region: "fra1",
        tags: ["k8s:cluster-1"],
        forwarding_rules: [
          { entry_protocol: "http", entry_port: 80, target_protocol: "http", target_port: http },
          {
            entry_protocol: "https",
            entry_port: 443,
            target_protocol: "http",
            target_port: https,
            certificate_id: "cert-1",
          },
        ],
        health_check: {
          protocol: "http",
          port: 10256,
          path: "/healthz",
          check_interval_seconds: 5,
          response_timeout_seconds: 5,
          unhealthy_threshold: 3,
          healthy_threshold: 5,
        },
        sticky_sessions: { type: "cookies", cookie_name: "node", cookie_ttl_seconds: 300 },
        redirect_http_to_https: true,
        disable_lets_encrypt_dns_records: true,
        enable_proxy_protocol: false,
        enable_backend_keepalive: false,
        http_idle_timeout_seconds: 90,
        firewall: { allow: [], deny: ["ip:198.51.100.7", "cidr:198.51.100.0/28"] },
        status: "active",
      });
      assert.equal((await service()).metadata?.annotations?.["kubernetes.digitalocean.com/load-balancer-id"], id);
      assert.deepEqual((await service()).metadata?.finalizers, ["service.kubernetes.io/load-balancer-cleanup"]);
      assert.deepEqual(account.records, []);
    });

    it("must take REGIONAL_NETWORK as the type where none is asked for, with one IPv4 address", async () => {
      const service = await createService("network", {});
      const ingress = await addressesOf("network");
      const balancer = [...account.balancers.values()].find(({ ip }) => ip === ingress[0]);
      assert.equal(ingress.length, 1);
      assert.deepEqual(balancer?.forwarding_rules, [
        { entry_protocol: "tcp", entry_port: 80, target_protocol: "tcp", target_port: 80 },
        { entry_protocol: "tcp", entry_port: 443, target_protocol: "tcp", target_port: 443 },
      ]);
      assert.equal((await service()).metadata?.annotations?.[`${prefix}type`], "REGIONAL_NETWORK");
      assert.equal(balancer?.name, `a${(await service()).metadata?.uid?.replaceAll("-", "")}`.slice(0, 32));
    });

    it("must keep the type that a balancer was created with, whatever its annotation says later", async () => {
      const service = await createService("typed", { name: "typed", type: "REGIONAL" });
      await addressesOf("typed");
      await annotate("typed", { [`${prefix}type`]: "REGIONAL_NETWORK" });
      const type = async () => (await service()).metadata?.annotations?.[`${prefix}type`];
      await eventually(async () => (await type()) === "REGIONAL");
      assert.equal(balancerNamed("typed").type, "REGIONAL");
    });

    it("must update the balancer in place, and write its certificate's A records unless told not to", async () => {
      await createService("changing", { name: "changing", type: "REGIONAL", protocol: "http" });
      const [address] = await addressesOf("changing");
      const { id } = balancerNamed("changing");
      await annotate("changing", { [`${prefix}certificate-name`]: "hobnob-tls", [`${prefix}size-unit`]: "3" });
      await eventually(async () => balancerNamed("changing").size_unit === 3);
      assert.equal(balancerNamed("changing").id, id);
      assert.equal(balancerNamed("changing").forwarding_rules[1]?.certificate_id, "cert-1");
      await eventually(async () => account.records.length > 0);
      assert.deepEqual(account.records, [`api.example.com A ${address}`, `docs.example.com A ${address}`]);
      assert.deepEqual(await addressesOf("changing"), [address, balancerNamed("changing").ipv6]);
    });

    it("must give no address before the balancer's time, and create it once", async () => {
      settings.balancerSeconds = 1;
      try {
        const service = await createService("slow", { name: "slow" });
        await eventually(async () => balancersNamed("slow")[0]);
        assert.equal(balancerNamed("slow").status, "new");
        assert.equal((await service()).status?.loadBalancer?.ingress, undefined);
        assert.equal((await addressesOf("slow")).length, 1);
        assert.equal(balancersNamed("slow").length, 1);
      } finally {
        settings.balancerSeconds = 0;
      }
    });

    it("must delete the balancer before the Service goes, and when it is no LoadBalancer any more", async () => {
      await createService("leaving", { name: "leaving" });
      await createService("turning", { name: "turning" });
      await Promise.all([addressesOf("leaving"), addressesOf("turning")]);
      await core.deleteNamespacedService({ namespace: "default", name: "leaving" });
      const turning = { namespace: "default", name: "turning" };
      await core.patchNamespacedService({ ...turning, body: { spec: { type: "ClusterIP" } } }, mergePatch);
      await eventually(async () => balancersNamed("leaving").length + balancersNamed("turning").length === 0);
      await eventually(async () => !(await core.readNamespacedService(turning)).metadata?.finalizers?.length);
      await eventually(() => isGone(core.readNamespacedService({ namespace: "default", name: "leaving" })));
    });

    it("must take up after a stop what was left, added and deleted meanwhile, and create no second balancer", async () => {
      await createService("stays", { name: "stays" });
      await createService("goes", { name: "goes" });
      const [before] = await Promise.all([addressesOf("stays"), addressesOf("goes")]);
      await controllers.stop();
      await core.deleteNamespacedService({ namespace: "default", name: "goes" });
      await createService("comes", { name: "comes" });
      controllers = start();
      assert.equal((await addressesOf("comes")).length, 1);
      await eventually(async () => balancersNamed("goes").length === 0);
      assert.deepEqual(await addressesOf("stays"), before);
      assert.equal(balancersNamed("stays").length, 1);
    });

    it("must leave a Service of another controller's class alone", async () => {
      const body = serviceOf("foreign", {});
      await core.createNamespacedService({
        namespace: "default",
        body: { ...body, spec: { ...body.spec, loadBalancerClass: "example.com/other" } },
      });
      await createService("own", { name: "own" });
      await addressesOf("own");
      const foreign = await core.readNamespacedService({ namespace: "default", name: "foreign" });
      assert.equal(foreign.metadata?.finalizers, undefined);
    });

    const regional = { type: "REGIONAL" };
    const tls = { ...regional, "tls-ports": "443" };
    const cookies = { ...regional, "sticky-sessions-type": "cookies" };
    const http3 = { ...regional, "http3-port": "443" };
    const bool = (what: string, key: string) =>
      `failed to get ${what} configuration setting: cannot convert value "yes" for annotation "${prefix}${key}" to bool: strconv.ParseBool: parsing "yes": invalid syntax`;
    const range = (value: string, key: string, least: number, most: number) =>
      `invalid value "${value}" specified in annotation "${prefix}${key}": want ${least} to ${most}`;
    const layer7 = (key: string) =>
      `annotation "${prefix}${key}" needs a load balancer of type REGIONAL, got: REGIONAL_NETWORK (the default), which ends no TLS or HTTP`;
    const refused: Array<[Record<string, string>, string, Partial<V1Service["spec"]>?]> = [
      [{ protocl: "http" }, `unknown annotation "${prefix}protocl"`],
      [{ type: "GLOBAL" }, "only LB types supported are (REGIONAL, REGIONAL_NETWORK)"],
      [{ network: "PRIVATE" }, "only LB networks supported are (EXTERNAL, INTERNAL)"],
      [{ ...regional, protocol: "ftp" }, `invalid protocol "ftp" specified in annotation "${prefix}protocol"`],
      [{ ...regional, "http-ports": "80,x" }, `invalid port "x" specified in annotation "${prefix}http-ports"`],
      [{ ...regional, "tls-ports": "0" }, `invalid port "0" specified in annotation "${prefix}tls-ports"`],
      [{ ...regional, "http2-ports": "-1" }, `invalid port "-1" specified in annotation "${prefix}http2-ports"`],
      [{ ...tls, "http2-ports": "443" }, `ports from annotations "${prefix}*-ports" cannot be shared but found: 443`],
      [tls, "failed to build TLS part(s) of forwarding rule: must set certificate id or enable tls pass through"],
      [
        { ...tls, "certificate-name": "hobnob-tls", "tls-passthrough": "true" },
        "failed to build TLS part(s) of forwarding rule: either certificate id should be set or tls pass through enabled, not both",
      ],
      [{ ...tls, "tls-passthrough": "yes" }, bool("TLS passthrough", "tls-passthrough")],
      [{ ...tls, "certificate-name": "gone" }, 'certificate with name: "gone" not found'],
      [{ ...tls, "certificate-id": "gone" }, 'certificate with ID: "gone" not found'],
      [http3, "failed to construct http3 forwarding rule: certificate ID is required for HTTP3"],
      [{ ...regional, "http3-port": "443,444" }, range("443,444", "http3-port", 1, 65535)],
      [{ ...regional, "size-slug": "lb-huge" }, "invalid LB size slug provided: lb-huge"],
      [{ "size-unit": "0" }, range("0", "size-unit", 1, 200)],
      [{ "size-unit": "201" }, range("201", "size-unit", 1, 200)],
      [{ "size-unit": "big" }, range("big", "size-unit", 1, 200)],
      [{ "size-unit": "2", "size-slug": "lb-small" }, "only one of LB size slug and size unit can be provided"],
      [{ ...regional, "sticky-sessions-type": "ip" }, "only LB sticky session types supported are (cookies, none)"],
      [cookies, "sticky session cookie name not specified, but required"],
      [{ ...cookies, "sticky-sessions-cookie-name": "node" }, "sticky session cookie ttl not specified, but required"],
      [
        { ...cookies, "sticky-sessions-cookie-name": "node", "sticky-sessions-cookie-ttl": "1h" },
        range("1h", "sticky-sessions-cookie-ttl", 1, 34650),
      ],
      [{ ...regional, "redirect-http-to-https": "yes" }, bool("HTTP-to-HTTPS", "redirect-http-to-https")],
      [
        { ...regional, "disable-lets-encrypt-dns-records": "yes" },
        bool("disable lets encrypt dns records", "disable-lets-encrypt-dns-records"),
      ],
      [{ ...regional, "enable-proxy-protocol": "yes" }, bool("proxy protocol", "enable-proxy-protocol")],
      [{ ...regional, "enable-backend-keepalive": "yes" }, bool("backend keepalive", "enable-backend-keepalive")],
      [{ ...regional, "http-idle-timeout-seconds": "5" }, range("5", "http-idle-timeout-seconds", 30, 600)],
      [
        { "deny-rules": "198.51.100.7" },
        `invalid rule "198.51.100.7" specified in annotation "${prefix}deny-rules": want ip:{address} or cidr:{range}`,
      ],
      [
        { "allow-rules": "host:a.example.com" },
        `invalid rule "host:a.example.com" specified in annotation "${prefix}allow-rules": want ip:{address} or cidr:{range}`,
      ],
      [
        { "healthcheck-protocol": "udp" },
        `invalid protocol "udp" specified in annotation "${prefix}healthcheck-protocol"`,
      ],
      [
        { "healthcheck-port": "80,443" },
        `annotation ${prefix}healthcheck-port only supports a single port, but found multiple: [80 443]`,
      ],
      [{ "healthcheck-port": "81" }, "specified health check port 81 does not exist on service default/NAME"],
      [{ "healthcheck-check-interval-seconds": "2" }, range("2", "healthcheck-check-interval-seconds", 3, 300)],
      [{ "healthcheck-response-timeout-seconds": "301" }, range("301", "healthcheck-response-timeout-seconds", 3, 300)],
      [{ "healthcheck-unhealthy-threshold": "1" }, range("1", "healthcheck-unhealthy-threshold", 2, 10)],
      [{ "healthcheck-healthy-threshold": "11" }, range("11", "healthcheck-healthy-threshold", 2, 10)],
      [{ protocol: "http" }, layer7("protocol")],
      [{ "tls-ports": "443", "certificate-name": "hobnob-tls" }, layer7("tls-ports")],
      [{ "enable-proxy-protocol": "true" }, layer7("enable-proxy-protocol")],
      [
        {},
        "a load balancer of type REGIONAL_NETWORK needs a port equal to its targetPort, got: port 443, targetPort 80",
        { ports: [{ port: 443, targetPort: 80 }] },
      ],
    ];

    it(`must refuse each broken annotation in its own words, with no balancer and no address (${refused.length})`, async () => {
      const before = account.balancers.size;
      await Promise.all(
        refused.map(([annotations, , spec], index) => createService(`refused-${index}`, annotations, spec)),
      );
      const events = await eventually(async () => {
        const fieldSelector = "involvedObject.kind=Service,reason=SyncLoadBalancerFailed";
        const { items } = await core.listNamespacedEvent({ namespace: "default", fieldSelector });
        return items.length >= refused.length ? items : undefined;
      });
      const failed =
        "Error syncing load balancer: failed to ensure load balancer: failed to build load-balancer request: ";
      for (const [index, [, message]] of refused.entries()) {
        const name = `refused-${index}`;
        const said = events.filter(({ involvedObject }) => involvedObject.name === name).map((event) => event.message);
        assert.deepEqual(said, [failed + message.replace("NAME", name)]);
        const { status } = await core.readNamespacedService({ namespace: "default", name });
        assert.equal(status?.loadBalancer?.ingress, undefined);
      }
      assert.equal(account.balancers.size, before);
      const names = refused.map((_, index) => `refused-${index}`);
      await Promise.all(names.map((name) => core.deleteNamespacedService({ namespace: "default", name })));
    });

    it("must take up a refused Service once it is corrected", async () => {
      await createService("corrected", { name: "corrected", "size-unit": "0" });
      await eventOf("Service", "corrected", "SyncLoadBalancerFailed");
      await annotate("corrected", { [`${prefix}size-unit`]: "1" });
      assert.equal((await addressesOf("corrected")).length, 1);
    });
  });

  describe("volumes", () => {
    it("must find DOKS's own classes in a new cluster, so that one of the same name collides", async () => {
      const { items } = await storage.listStorageClass();
      assert.deepEqual(
        items.map(({ metadata }) => metadata?.name),
        ["do-block-storage", "do-block-storage-retain", "do-block-storage-xfs", "do-block-storage-xfs-retain"],
      );
      await assert.rejects(() => createClass("do-block-storage", {}), isStatus(409));
    });

    it("must provision a claim at once, or by its first consumer, from the class's own fields", async () => {
      await createClass("now", { parameters: { "csi.storage.k8s.io/fstype": "xfs" }, mountOptions: ["noatime"] });
      await createClass("later", { volumeBindingMode: "WaitForFirstConsumer", reclaimPolicy: "Retain" });
      await createClaim("now", "now", "3Gi");
      await createClaim("later", "later", "2Gi");
      const now = await volumeOf("now");
      assert.equal((await claim("later")).status?.phase, "Pending");
      await core.createNamespacedPod({ namespace: "default", body: podOf("consumer", {}, {}, "later") });
      const later = await volumeOf("later");

      const disk = account.volumes.get(now.spec?.csi?.volumeHandle ?? "");
      assert.deepEqual(disk, {
        id: disk?.id,
        name: `pvc-${(await claim("now")).metadata?.uid}`,
        size_gigabytes: 3,
        region: "fra1",
        tags: ["k8s:cluster-1"],
      });
      assert.equal(now.spec?.csi?.fsType, "xfs");
      assert.equal(later.spec?.csi?.fsType, "ext4");
      assert.equal(now.spec?.capacity?.storage, "3Gi");
      assert.deepEqual(now.spec?.mountOptions, ["noatime"]);
      assert.equal(now.spec?.persistentVolumeReclaimPolicy, "Delete");
      assert.equal(later.spec?.persistentVolumeReclaimPolicy, "Retain");
      const [term] = now.spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [];
      assert.deepEqual({ ...term?.matchExpressions?.[0] }, { key: "region", operator: "In", values: ["fra1"] });
    });

    it("must attach a pod's volume to its node's droplet, and detach it when the pod is gone", async () => {
      const id = (await volumeOf("later")).spec?.csi?.volumeHandle ?? "";
      const pod = { namespace: "default", name: "consumer" };
      await eventually(async () => (await core.readNamespacedPod(pod)).spec?.nodeName);
      const { spec } = await core.readNamespacedPod(pod);
      await eventually(async () => account.volumes.get(id)?.dropletId);
      assert.equal(account.volumes.get(id)?.dropletId, spec?.nodeName === "workers-aaaa1" ? 101 : 102);
      const [attachment] = (await storage.listVolumeAttachment()).items;
      assert.equal(attachment?.spec.attacher, driver);
      await eventually(async () => (await storage.listVolumeAttachment()).items[0]?.status?.attached);
    });

    it("must grow a disk, and show it on the claim once a running pod has it mounted", async () => {
      const grow = (name: string, storage: string) =>
        core.patchNamespacedPersistentVolumeClaim(
          { namespace: "default", name, body: { spec: { resources: { requests: { storage } } } } },
          mergePatch,
        );
      await grow("later", "5Gi");
      await grow("now", "6Gi");
      await eventually(async () => (await claim("later")).status?.capacity?.storage === "5Gi");
      assert.equal((await volumeOf("later")).spec?.capacity?.storage, "5Gi");
      const sizes = [...account.volumes.values()].map(({ size_gigabytes }) => size_gigabytes).sort();
      assert.deepEqual(sizes, [5, 6]);
      const pending = async () => (await claim("now")).status?.conditions?.map(({ type }) => type);
      await eventually(async () => String(await pending()) === "FileSystemResizePending");
      assert.equal((await claim("now")).status?.capacity?.storage, "3Gi");
      await assert.rejects(() => grow("later", "1Gi"), isStatus(422));
    });

    it("must not grow a claim of a class that does not allow it", async () => {
      await createClass("fixed", { allowVolumeExpansion: false });
      await createClaim("fixed", "fixed", "1Gi");
      await volumeOf("fixed");
      const body = { spec: { resources: { requests: { storage: "2Gi" } } } };
      await assert.rejects(
        () => core.patchNamespacedPersistentVolumeClaim({ namespace: "default", name: "fixed", body }, mergePatch),
        isStatus(403),
      );
    });

    it("must give a disk back with its claim under Delete, and keep both under Retain", async () => {
      const [deleted, retained] = [await volumeOf("now"), await volumeOf("later")];
      await core.deleteNamespacedPod({ namespace: "default", name: "consumer" });
      for (const name of ["now", "later"]) {
        await core.deleteNamespacedPersistentVolumeClaim({ namespace: "default", name });
      }
      await eventually(async () => !account.volumes.has(deleted.spec?.csi?.volumeHandle ?? ""));
      await eventually(() => isGone(core.readPersistentVolume({ name: deleted.metadata?.name ?? "" })));
      const name = retained.metadata?.name ?? "";
      await eventually(async () => (await core.readPersistentVolume({ name })).status?.phase === "Released");
      const disk = account.volumes.get(retained.spec?.csi?.volumeHandle ?? "");
      assert.equal(disk?.size_gigabytes, 5);
      await eventually(async () => disk?.dropletId === undefined);
    });

    it("must let a namespace go, with the balancers and disks that were in it", async () => {
      const namespace = "going";
      await core.createNamespace({ body: { metadata: { name: namespace } } });
      await core.createNamespacedService({ namespace, body: serviceOf("going", { name: "going" }) });
      const body = claimOf("going", "do-block-storage", "1Gi");
      await core.createNamespacedPersistentVolumeClaim({ namespace, body });
      await eventually(async () => balancersNamed("going")[0]?.status === "active");
      await eventually(async () => {
        const { status } = await core.readNamespacedPersistentVolumeClaim({ namespace, name: "going" });
        return status?.phase === "Bound";
      });
      const { spec } = await core.readNamespacedPersistentVolumeClaim({ namespace, name: "going" });
      const { spec: volume } = await core.readPersistentVolume({ name: spec?.volumeName ?? "" });
      await core.deleteNamespace({ name: namespace });
      await eventually(() => isGone(core.readNamespace({ name: namespace })));
      await eventually(async () => !account.volumes.has(volume?.csi?.volumeHandle ?? ""));
      assert.deepEqual(balancersNamed("going"), []);
    });

    const rpc = (code: string, text: string) => `rpc error: code = ${code} desc = ${text}`;
    const capabilities = "volume capabilities cannot be satisified";
    const size = (text: string) => rpc("OutOfRange", `invalid capacity range: required (${text})`);
    const topology = (key: string, value: string) => ({
      allowedTopologies: [{ matchLabelExpressions: [{ key, values: [value] }] }],
    });
    const refused: Array<[string, Partial<V1StorageClass>, string, string?, string?]> = [
      [
        "reserved",
        { parameters: { "csi.storage.k8s.io/fstyp": "ext4" } },
        'failed to strip CSI Parameters of prefixed keys: found unknown parameter key "csi.storage.k8s.io/fstyp" with reserved namespace csi.storage.k8s.io/',
      ],
      [
        "unknown",
        { parameters: { tags: "a" } },
        rpc("InvalidArgument", `unknown parameter "tags": ${driver} takes csi.storage.k8s.io/fstype only`),
      ],
      [
        "filesystem",
        { parameters: { "csi.storage.k8s.io/fstype": "ext5" } },
        rpc("InvalidArgument", 'unsupported filesystem "ext5": mkfs.ext5 not found in $PATH'),
      ],
      [
        "both",
        { parameters: { "csi.storage.k8s.io/fstype": "ext4", fstype: "ext4" } },
        'fstype specified in parameters with both "fstype" and "csi.storage.k8s.io/fstype" keys',
      ],
      [
        "region",
        topology("region", "nyc1"),
        rpc("ResourceExhausted", 'volume can be only created in region: "fra1", got: "nyc1"'),
      ],
      [
        "zone",
        topology("topology.kubernetes.io/zone", "a"),
        'no topology key found on CSINode for "topology.kubernetes.io/zone"',
      ],
      ["small", {}, `${size("512Mi")} can not be less than minimum supported volume size (1Gi)`, "512Mi"],
      ["large", {}, `${size("17Ti")} can not exceed maximum supported volume size (16Ti)`, "17Ti"],
      [
        "shared",
        {},
        rpc("InvalidArgument", `${capabilities}: unsupported access mode MULTI_NODE_MULTI_WRITER`),
        "1Gi",
        "ReadWriteMany",
      ],
    ];

    it(`must refuse each broken field of a class or claim in its own words, with no disk (${refused.length})`, async () => {
      const before = account.volumes.size;
      await Promise.all(
        refused.map(async ([name, fields, message, request = "1Gi", accessMode = "ReadWriteOnce"]) => {
          await createClass(`refused-${name}`, fields);
          await createClaim(`refused-${name}`, `refused-${name}`, request, accessMode);
          const event = await eventOf("PersistentVolumeClaim", `refused-${name}`, "ProvisioningFailed");
          assert.equal(event.message, `failed to provision volume with StorageClass "refused-${name}": ${message}`);
          assert.equal((await claim(`refused-${name}`)).status?.phase, "Pending");
        }),
      );
      assert.equal(account.volumes.size, before);
    });

    it("must have the API server refuse an unknown policy or binding mode", async () => {
      await assert.rejects(() => createClass("policy", { reclaimPolicy: "Keep" }), isStatus(422));
      await assert.rejects(() => createClass("mode", { volumeBindingMode: "Lazy" }), isStatus(422));
    });

    it("must leave a class of another provisioner alone", async () => {
      await createClass("other", { provisioner: "example.com/disk" });
      await createClaim("other", "other", "1Gi");
      await createClaim("own", "do-block-storage", "1Gi");
      await volumeOf("own");
      assert.equal((await claim("other")).spec?.volumeName, undefined);
    });

    it("must have the scheduler keep a node within its droplet's volume limit", async () => {
      await createNode(adminKubeconfig(), {
        ...droplet(4),
        volumeLimit: 1,
        pool: { id: "pool-2", name: "tight", labels: { pool: "tight" }, taints: [] },
      });
      for (const name of ["first", "second"]) {
        await createClaim(name, "do-block-storage", "1Gi");
        await volumeOf(name);
        const pod = podOf(`limited-${name}`, { nodeSelector: { pool: "tight" } }, {}, name);
        await core.createNamespacedPod({ namespace: "default", body: pod });
        if (name === "first") {
          const first = { namespace: "default", name: "limited-first" };
          await eventually(async () => (await core.readNamespacedPod(first)).spec?.nodeName);
        }
      }
      const event = await eventOf("Pod", "limited-second", "FailedScheduling");
      assert.match(event.message ?? "", /1 node\(s\) exceed max volume count/);
    });
  });

  describe("ingresses", () => {
    const args = ["-ingress-class=nginx", "-report-ingress-status", "-external-service=nginx-ingress"];

    before(async () => {
      await networking.createIngressClass({
        body: { metadata: { name: "nginx" }, spec: { controller: "nginx.org/ingress-controller" } },
      });
      await createService("nginx-ingress", { name: "nginx-ingress", type: "REGIONAL", protocol: "http" });
      await addressesOf("nginx-ingress");
    });

    it("must give an Ingress no address before a ready controller serves its class and reports", async () => {
      await createIngress("api", "api.example.com");
      const mute = podOf("mute", {}, {}, undefined, args.slice(0, 1));
      await core.createNamespacedPod({ namespace: "default", body: mute });
      await eventOf("Ingress", "api", "AddedOrUpdated");
      assert.equal((await ingress("api")).status?.loadBalancer?.ingress, undefined);
      await core.deleteNamespacedPod({ namespace: "default", name: "mute" });

      const unready = podOf("unready", {}, { annotations: { [holdAnnotation]: "true" } }, undefined, args);
      await core.createNamespacedPod({ namespace: "default", body: unready });
      await sleep(500);
      assert.equal((await ingress("api")).status?.loadBalancer?.ingress, undefined);
      await core.createNamespacedPod({ namespace: "default", body: podOf("nic", {}, {}, undefined, args) });
      const balancer = balancerNamed("nginx-ingress");
      assert.deepEqual(await ingressAddresses("api"), [balancer.ip, balancer.ipv6]);
    });

    it("must serve a host for the oldest Ingress only, and the next when that one goes", async () => {
      await sleep(1000); // creation is timed to the second
      await createIngress("thief", "api.example.com");
      const event = await eventOf("Ingress", "thief", "Rejected");
      assert.equal(event.message, "All hosts are taken by other resources");
      assert.equal(event.type, "Warning");
      assert.equal((await ingress("thief")).status?.loadBalancer?.ingress, undefined);
      await networking.deleteNamespacedIngress({ namespace: "default", name: "api" });
      assert.equal((await ingressAddresses("thief")).length, 2);
    });

    it("must reject an Ingress without a host unless the controller allows it", async () => {
      await createIngress("hostless", undefined);
      const event = await eventOf("Ingress", "hostless", "Rejected");
      assert.equal(event.message, "default/hostless was rejected: with error: spec.rules[0].host: Required value");
      await core.deleteNamespacedPod({ namespace: "default", name: "nic" });
      const allowing = podOf("allowing", {}, {}, undefined, [...args, "-allow-empty-ingress-host"]);
      await core.createNamespacedPod({ namespace: "default", body: allowing });
      assert.equal((await ingressAddresses("hostless")).length, 2);
    });

    it("must leave an Ingress of another class alone", async () => {
      await networking.createIngressClass({
        body: { metadata: { name: "other" }, spec: { controller: "example.com/other" } },
      });
      await createIngress("foreign", "foreign.example.com", "other");
      await createIngress("own", "own.example.com");
      await ingressAddresses("own");
      assert.equal((await ingress("foreign")).status?.loadBalancer?.ingress, undefined);
    });
  });

  describe("virtual servers", () => {
    const controllerArgs = ["-ingress-class=nginx", "-report-ingress-status", "-external-service=nginx-ingress"];
    const kinds = { group: "k8s.nginx.org", version: "v1", namespace: "default" };
    const shop = { serviceName: "shop", port: 80 };
    const newer = { serviceName: "shop-canary", port: 80 };

    /** The API server's own client has no type for what was captured. */
    // biome-ignore lint/suspicious/noExplicitAny: see above
    const body = ({ name, inputs }: Captured): any => ({ ...inputs, metadata: { name, ...inputs.metadata } });

    const createServer = (name: string, host: string) =>
      custom.createNamespacedCustomObject({
        ...kinds,
        plural: "virtualservers",
        body: {
          apiVersion: "k8s.nginx.org/v1",
          kind: "VirtualServer",
          metadata: { name },
          spec: { ingressClassName: "nginx", host },
        },
      });
    const statusOf = async (name: string) =>
      (await custom.getNamespacedCustomObject({ ...kinds, plural: "virtualservers", name })).status;

    /** Serves the class from now on, alone. */
    const serve = async (name: string, ...more: string[]) => {
      const { items } = await core.listNamespacedPod({ namespace: "default", labelSelector: "serves=nginx" });
      const before = [...items.map((pod) => pod.metadata?.name ?? ""), "allowing"];
      for (const pod of before)
        await core.deleteNamespacedPod({ namespace: "default", name: pod }).catch((error) => {
          if (!isStatus(404)(error)) throw error;
        });
      const metadata = { labels: { serves: "nginx" } };
      await core.createNamespacedPod({
        namespace: "default",
        body: podOf(name, {}, metadata, undefined, [...controllerArgs, ...more]),
      });
    };

    before(async () => {
      const graph = await capture(
        () =>
          new IngressController("ingress", {
            className: "captured",
            replicas: 1,
            expose: "NodePort",
            allowEmptyHost: false,
            maxBodySize: "1m",
            customResources: true,
            apiServer: "ports",
            spread: "soft",
            loadBalancer: { name: "captured", sizeUnit: 1 },
            workers: [],
          }),
      );
      const made = ofType(graph, "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition");
      for (const definition of made)
        await definitions.createCustomResourceDefinition({ body: body(definition), fieldValidation: "Strict" });
      for (const { inputs } of made)
        await eventually(async () => {
          const { status } = await definitions.readCustomResourceDefinition({ name: inputs.metadata.name });
          return status?.conditions?.some(({ type, status: is }) => type === "Established" && is === "True");
        });
    });

    it("must be taken in as routes yield them, Ingresses and Policies too, without a field that is not known", async () => {
      const common = { namespace: "default", className: "nobody", coveredHosts: [], secretNamespaces: ["default"] };
      const more: Partial<RoutesArgs> = {
        rateLimit: { requestsPerSecond: 1, burst: 2 },
        maxBodySize: "8m",
        stickySession: { cookie: "pod", expires: "1h" },
        basicAuth: { secretName: "users", realm: "Shop" },
        defaultBackend: { ...shop, serviceName: "front" },
        tls: { secretName: "certificate" },
        expose: "NodePort",
      };
      const canary = {
        ...newer,
        weight: 10,
        header: { name: "X-Canary", value: "yes" },
        cookie: { name: "c", value: "1" },
      };
      const graph = await capture(() => {
        const paths = [
          { ...shop, path: "/a/", rewrite: "/" },
          { serviceName: "b", port: 80, path: "/b", pathType: "Exact" as const },
        ];
        new Routes("plain", { ...common, hosts: ["plain.example.com"], paths: [shop] });
        new Routes("full", { ...common, ...more, hosts: ["full.example.com", "*.full.example.com"], paths });
        new Routes("any", { ...common, paths: [shop] });
        const redirect = { url: "https://example.com", code: 301 };
        const split = [
          { ...shop, path: "/a/", rewrite: "/", canary },
          { path: "/old", redirect },
        ];
        new Routes("split", { ...common, ...more, customResources: true, hosts: ["split.example.com"], paths: split });
      });
      const strict = { namespace: "default", fieldValidation: "Strict" };
      for (const ingress of ofType(graph, "kubernetes:networking.k8s.io/v1:Ingress"))
        await networking.createNamespacedIngress({ ...strict, body: body(ingress) });
      const others = graph.filter(({ type }) => type.startsWith("kubernetes:k8s.nginx.org"));
      for (const other of others) {
        const plural = other.type.endsWith("Policy") ? "policies" : "virtualservers";
        await custom.createNamespacedCustomObject({ ...kinds, plural, body: body(other), ...strict });
      }
      assert.deepEqual([graph.length, others.length], [4 + 3 + 3, 3]);
      const { spec } = await custom.getNamespacedCustomObject({ ...kinds, plural: "virtualservers", name: "split" });
      assert.deepEqual(spec, others.find(({ type }) => type.endsWith("VirtualServer"))?.inputs.spec);
    });

    it("must have the balancer's address, and share hosts with Ingresses by age", async () => {
      await serve("serving");
      await createServer("shop", "shop.example.com");
      const balancer = balancerNamed("nginx-ingress");
      const status = await eventually(() => statusOf("shop"));
      assert.equal(status.state, "Valid");
      const addresses = [balancer.ip, balancer.ipv6].map((ip) => ({ ip, ports: "[80,443]" }));
      assert.deepEqual(status.externalEndpoints, addresses);
      await sleep(1000); // creation is timed to the second
      await createIngress("late", "shop.example.com");
      assert.equal((await eventOf("Ingress", "late", "Rejected")).message, "All hosts are taken by other resources");
      await createServer("own-late", "own.example.com");
      const late = await eventually(() => statusOf("own-late"));
      assert.deepEqual(
        [late.state, late.reason, late.message],
        ["Warning", "Rejected", "Host is taken by another resource"],
      );
    });

    it("must be nothing to a controller without custom resources, whose Ingresses have their hosts", async () => {
      await serve("plain", "-enable-custom-resources=false");
      assert.equal((await ingressAddresses("late")).length, 2);
      await createServer("ignored", "ignored.example.com");
      await sleep(500);
      assert.equal(await statusOf("ignored"), undefined);
    });

    it("must be served in the namespaces that the controller serves, and so must Ingresses", async () => {
      await serve("elsewhere", "-watch-namespace=shop,blog");
      await createIngress("unserved", "unserved.example.com");
      await createServer("unserved", "unserved-too.example.com");
      await sleep(500);
      assert.equal((await ingress("unserved")).status?.loadBalancer?.ingress, undefined);
      assert.equal(await statusOf("unserved"), undefined);
      await serve("here", "-watch-namespace=$(POD_NAMESPACE),shop");
      assert.equal((await ingressAddresses("unserved")).length, 2);
      assert.equal((await eventually(() => statusOf("unserved"))).state, "Valid");
    });
  });

  async function createService(
    name: string,
    annotations: Record<string, string>,
    spec: Partial<V1Service["spec"]> = {},
  ) {
    const body = serviceOf(name, annotations);
    await core.createNamespacedService({ namespace: "default", body: { ...body, spec: { ...body.spec, ...spec } } });
    return () => core.readNamespacedService({ namespace: "default", name });
  }

  const annotate = (name: string, annotations: Record<string, string>) =>
    core.patchNamespacedService({ namespace: "default", name, body: { metadata: { annotations } } }, mergePatch);

  const addressesOf = (name: string) =>
    eventually(async () => {
      const { status } = await core.readNamespacedService({ namespace: "default", name });
      return status?.loadBalancer?.ingress?.map(({ ip }) => ip);
    });

  const balancersNamed = (name: string): Balancer[] =>
    [...account.balancers.values()].filter((balancer) => balancer.name === name);

  const balancerNamed = (name: string): Balancer => balancersNamed(name)[0] ?? assert.fail(`no balancer ${name}`);

  const createClass = (name: string, fields: Partial<V1StorageClass>) =>
    storage.createStorageClass({
      body: { metadata: { name }, provisioner: driver, allowVolumeExpansion: true, ...fields },
    });

  const createClaim = (name: string, storageClassName: string, request: string, accessMode?: string) =>
    core.createNamespacedPersistentVolumeClaim({
      namespace: "default",
      body: claimOf(name, storageClassName, request, accessMode),
    });

  const claim = (name: string): Promise<V1PersistentVolumeClaim> =>
    core.readNamespacedPersistentVolumeClaim({ namespace: "default", name });

  const volumeOf = async (name: string) => {
    await eventually(async () => (await claim(name)).status?.phase === "Bound");
    return core.readPersistentVolume({ name: (await claim(name)).spec?.volumeName ?? "" });
  };

  const createIngress = (name: string, host: string | undefined, className = "nginx") => {
    const backend = { service: { name: "nginx-ingress", port: { number: 80 } } };
    const paths = [{ path: "/", pathType: "Prefix", backend }];
    const spec = { ingressClassName: className, rules: [{ host, http: { paths } }] };
    return networking.createNamespacedIngress({ namespace: "default", body: { metadata: { name }, spec } });
  };

  const ingress = (name: string): Promise<V1Ingress> =>
    networking.readNamespacedIngress({ namespace: "default", name });

  const ingressAddresses = (name: string) =>
    eventually(async () => {
      const ips = (await ingress(name)).status?.loadBalancer?.ingress?.map(({ ip }) => ip);
      return ips?.length ? ips : undefined;
    });

  const eventOf = (kind: string, name: string, reason: string) =>
    eventually(async () => {
      const fieldSelector = `involvedObject.kind=${kind},involvedObject.name=${name},reason=${reason}`;
      return (await core.listNamespacedEvent({ namespace: "default", fieldSelector })).items[0];
    });
});

/** What the question answers once it answers anything true; a wait without end would outlive a test that fails. */
async function eventually<T>(question: () => Promise<T>): Promise<NonNullable<T>> {
  const deadline = Date.now() + waitSeconds * 1000;
  for (let answer = await question(); ; answer = await question()) {
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`not within ${waitSeconds} s: ${question}`);
    await sleep(100);
  }
}

const isStatus = (code: number) => (error: unknown) => error instanceof ApiException && error.code === code;

const isGone = (call: Promise<unknown>): Promise<boolean> =>
  call.then(
    () => false,
    (error) => isStatus(404)(error) || Promise.reject(error),
  );

const isReady = (status: { conditions?: Array<{ type: string; status: string }> } | undefined) =>
  status?.conditions?.some((condition) => condition.type === "Ready" && condition.status === "True");

const droplet = (number: number): NodeRequest => ({
  name: `workers-aaaa${number}`,
  nodeId: `node-${number}`,
  dropletId: 100 + number,
  size: "s-2vcpu-4gb",
  vcpus: 2,
  memoryMebibytes: 4096,
  region: "fra1",
  version: "1.36.3-do.0",
  pool: { id: "pool-1", name: "workers", labels: { tier: "data" }, taints: [] },
  privateAddress: `10.10.0.${number}`,
  publicAddress: `198.51.100.${number}`,
});

const serviceOf = (name: string, annotations: Record<string, string>): V1Service => ({
  metadata: {
    name,
    annotations: Object.fromEntries(Object.entries(annotations).map(([key, value]) => [prefix + key, value])),
  },
  spec: {
    type: "LoadBalancer",
    selector: { app: name },
    ports: [
      { name: "http", port: 80 },
      { name: "https", port: 443 },
    ],
  },
});

const claimOf = (name: string, storageClassName: string, request: string, accessMode = "ReadWriteOnce") => ({
  metadata: { name },
  spec: { storageClassName, accessModes: [accessMode], resources: { requests: { storage: request } } },
});

const podOf = (name: string, spec: object, metadata: object = {}, claimName?: string, args?: string[]) => ({
  metadata: { name, ...metadata },
  spec: {
    containers: [{ name: "main", image: "example.com/image", args }],
    volumes: claimName ? [{ name: "data", persistentVolumeClaim: { claimName } }] : [],
    ...spec,
  },
});
