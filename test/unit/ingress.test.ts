import assert from "node:assert/strict";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { fromController, IngressController, type IngressControllerArgs } from "../../components/ingress";
import { Routes } from "../../components/routes";
import { Platform } from "../../platform";
import { type Captured, type CaptureOptions, capture, find, ofType, unwrap, waitsFor } from "./graph";
import { platformStack } from "./platformOutputs";

const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const SERVICE = "kubernetes:core/v1:Service";
const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const NAMESPACE = "kubernetes:core/v1:Namespace";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const INGRESS_CLASS = "kubernetes:networking.k8s.io/v1:IngressClass";
const BALANCER = "service.beta.kubernetes.io/do-loadbalancer-";
const LABELS = { "app.kubernetes.io/name": "nginx-ingress", "app.kubernetes.io/instance": "nginx" };

type Changes = Partial<Omit<IngressControllerArgs, "loadBalancer">> & {
  loadBalancer?: Partial<IngressControllerArgs["loadBalancer"]>;
};

const controllerArgs = ({ loadBalancer, ...changes }: Changes = {}): IngressControllerArgs => ({
  className: "nginx",
  replicas: 2,
  expose: "LoadBalancer",
  allowEmptyHost: false,
  maxBodySize: "1m",
  backends: [{ namespace: "hobnob", labels: { app: "shop" }, ports: [8080] }],
  apiServer: "cilium",
  spread: "hard",
  workers: [],
  ...changes,
  loadBalancer: { name: "hobnob-dev", sizeUnit: 1, vpcRange: "10.10.0.0/20", ...loadBalancer },
});

async function controller(changes: Changes = {}, options: CaptureOptions = {}) {
  let made: IngressController | undefined;
  const graph = await capture(() => {
    made = new IngressController("ingress", controllerArgs(changes));
  }, options);
  assert.ok(made);
  return { graph, made };
}

const inputs = async (type: string, changes: Changes = {}) => find((await controller(changes)).graph, type).inputs;
const podSpec = async (changes: Changes = {}) => (await inputs(DEPLOYMENT, changes)).spec.template.spec;
const container = async (changes: Changes = {}) => (await podSpec(changes)).containers[0];
const annotations = async (changes: Changes = {}): Promise<Record<string, string>> =>
  (await inputs(SERVICE, changes)).metadata.annotations;

describe("ingress controller", () => {
  it("must be exactly these resources, in a preview too", async () => {
    const names = async (preview: boolean) => (await controller({}, { preview })).graph.map((r) => r.type).sort();
    assert.deepEqual(await names(false), [
      "hobnob:platform:IngressController",
      "hobnob:platform:Namespace",
      DEPLOYMENT,
      "kubernetes:cilium.io/v2:CiliumNetworkPolicy",
      CONFIG_MAP,
      NAMESPACE,
      SERVICE,
      "kubernetes:core/v1:ServiceAccount",
      INGRESS_CLASS,
      POLICY,
      POLICY,
      "kubernetes:policy/v1:PodDisruptionBudget",
      "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole",
      "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
      "kubernetes:rbac.authorization.k8s.io/v1:Role",
      "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
    ]);
    assert.deepEqual(await names(true), await names(false));
  });

  it("must be an exact version of the maintained controller", async () => {
    const { containers, initContainers } = await podSpec();
    const images = [...containers, ...initContainers].map(({ image }: { image: string }) => image);
    assert.deepEqual(images, ["docker.io/nginx/nginx-ingress:5.5.4", "docker.io/nginx/nginx-ingress:5.5.4"]);
  });

  it("must serve its own class, give Ingresses an address, and report to nobody", async () => {
    assert.deepEqual((await container()).args, [
      "-nginx-configmaps=$(POD_NAMESPACE)/ingress-0a1b2c3d",
      "-ingress-class=nginx",
      "-enable-custom-resources=false",
      "-enable-telemetry-reporting=false",
      "-watch-secret-namespace=$(POD_NAMESPACE)",
      "-leader-election-lock-name=nginx-ingress-leader-election",
      "-allow-empty-ingress-host=false",
      "-log-format=json",
      "-external-service=nginx-ingress",
      "-report-ingress-status",
    ]);
    const { spec } = await inputs(INGRESS_CLASS);
    assert.deepEqual(spec, { controller: "nginx.org/ingress-controller" });
  });

  it("must serve Ingresses without a host only when asked to", async () => {
    const { args } = await container({ allowEmptyHost: true });
    assert.deepEqual(
      args.filter((argument: string) => argument.includes("host")),
      ["-allow-empty-ingress-host=true"],
    );
  });

  it("must take the client's address from X-Forwarded-For of the VPC alone", async () => {
    const { metadata, data } = await inputs(CONFIG_MAP);
    assert.deepEqual(data, {
      "client-max-body-size": "1m",
      "server-tokens": "false",
      "worker-shutdown-timeout": "30s",
      "set-real-ip-from": "10.10.0.0/20",
      "real-ip-header": "X-Forwarded-For",
      "real-ip-recursive": "true",
    });
    assert.deepEqual(metadata, { namespace: "nginx-ingress" });
  });

  it("must believe nobody about a client's address where no balancer stands before it, or none that is known", async () => {
    for (const expose of ["NodePort", "HostPort"] as const) {
      const { data } = await inputs(CONFIG_MAP, { expose });
      assert.deepEqual([data["set-real-ip-from"], data["real-ip-header"]], [undefined, undefined], expose);
    }
    const { data } = await inputs(CONFIG_MAP, { loadBalancer: { name: "hobnob-dev", sizeUnit: 1, vpcRange: "" } });
    assert.equal(data["set-real-ip-from"], "127.0.0.1");
  });

  it("must tell applications that the client speaks HTTPS where the balancer ends it", async () => {
    const { data } = await inputs(CONFIG_MAP, {
      loadBalancer: { name: "hobnob-dev", sizeUnit: 1, certificateName: "hobnob" },
    });
    assert.equal(data["redirect-to-https"], "true");
  });

  it("must believe no X-Forwarded-For where no balancer's addresses are known", async () => {
    const { data } = await inputs(CONFIG_MAP, { loadBalancer: { vpcRange: undefined } });
    assert.deepEqual(Object.keys(data), ["client-max-body-size", "server-tokens", "worker-shutdown-timeout"]);
  });

  it("must have no more rights than it uses, and read no Secret", async () => {
    const { graph } = await controller();
    const read = ["get", "list", "watch"];
    const [networking, leases] = ["networking.k8s.io", "coordination.k8s.io"];
    assert.deepEqual(find(graph, "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole").inputs.rules, [
      { apiGroups: [""], resources: ["services", "pods"], verbs: read },
      { apiGroups: [""], resources: ["events"], verbs: ["create", "patch"] },
      { apiGroups: ["discovery.k8s.io"], resources: ["endpointslices"], verbs: read },
      { apiGroups: [networking], resources: ["ingresses"], verbs: read },
      { apiGroups: [networking], resources: ["ingresses/status"], verbs: ["update"] },
      { apiGroups: [networking], resources: ["ingressclasses"], verbs: ["get", "list"] },
    ]);
    assert.deepEqual(find(graph, "kubernetes:rbac.authorization.k8s.io/v1:Role").inputs.rules, [
      { apiGroups: [""], resources: ["configmaps"], verbs: read },
      { apiGroups: [""], resources: ["namespaces"], verbs: ["get"] },
      { apiGroups: [""], resources: ["pods"], verbs: ["update"] },
      {
        apiGroups: [leases],
        resources: ["leases"],
        resourceNames: ["nginx-ingress-leader-election"],
        verbs: ["get", "update"],
      },
      { apiGroups: [leases], resources: ["leases"], verbs: ["create"] },
    ]);
    const subjects = [{ kind: "ServiceAccount", name: "ingress-0a1b2c3d", namespace: "nginx-ingress" }];
    for (const kind of ["ClusterRole", "Role"]) {
      const binding = find(graph, `kubernetes:rbac.authorization.k8s.io/v1:${kind}Binding`).inputs;
      assert.deepEqual(binding.subjects, subjects);
      assert.deepEqual(binding.roleRef, { apiGroup: "rbac.authorization.k8s.io", kind, name: "ingress-0a1b2c3d" });
    }
  });

  it("must start only when its class and its rights are there, since it exits without them", async () => {
    const { graph } = await controller();
    const deployment = find(graph, DEPLOYMENT);
    for (const type of [INGRESS_CLASS, CONFIG_MAP, "ClusterRoleBinding", "RoleBinding", "ServiceAccount"]) {
      const needed = graph.find((r) => r.type.endsWith(type));
      assert.equal(waitsFor(graph, deployment, needed as Captured), true, type);
    }
  });

  it("must not wait for its balancer, nor the balancer for it", async () => {
    const { graph } = await controller();
    const [deployment, service] = [find(graph, DEPLOYMENT), find(graph, SERVICE)];
    assert.deepEqual([waitsFor(graph, deployment, service), waitsFor(graph, service, deployment)], [false, false]);
    const withoutService = (await controller({}, { stuck: SERVICE })).graph;
    const withoutDeployment = (await controller({}, { stuck: DEPLOYMENT })).graph;
    assert.deepEqual([withoutService.length, withoutDeployment.length], [16, 16]);
  });

  it("must be gone before the nodes it runs on", async () => {
    const graph = await capture(() => {
      const node = new k8s.core.v1.Node("pool");
      new IngressController("ingress", controllerArgs({ workers: [node] }));
    });
    const node = find(graph, "kubernetes:core/v1:Node");
    const waiting = graph.filter((r) => waitsFor(graph, r, node)).map((r) => r.type);
    assert.deepEqual(waiting, [DEPLOYMENT]);
  });

  it("must survive the loss of a node, on different nodes while there are any", async () => {
    const { spec } = await inputs(DEPLOYMENT);
    assert.deepEqual([spec.replicas, spec.strategy], [2, { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }]);
    assert.deepEqual(spec.template.spec.topologySpreadConstraints, [
      {
        topologyKey: "kubernetes.io/hostname",
        maxSkew: 1,
        whenUnsatisfiable: "DoNotSchedule",
        labelSelector: { matchLabels: LABELS },
        matchLabelKeys: ["pod-template-hash"],
        nodeTaintsPolicy: "Honor",
      },
    ]);
    const budget = (await inputs("kubernetes:policy/v1:PodDisruptionBudget")).spec;
    const unhealthyPodEvictionPolicy = "AlwaysAllow";
    assert.deepEqual(budget, { maxUnavailable: 1, selector: { matchLabels: LABELS }, unhealthyPodEvictionPolicy });
  });

  it("must not demand different nodes of a cluster that has one", async () => {
    const [constraint] = (await podSpec({ spread: "soft" })).topologySpreadConstraints;
    assert.equal(constraint.whenUnsatisfiable, "ScheduleAnyway");
  });

  it("must run where the workloads are meant to", async () => {
    const nodeSelector = { "hobnob/workloads": "true" };
    assert.deepEqual((await podSpec({ nodeSelector })).nodeSelector, nodeSelector);
    assert.equal((await podSpec()).nodeSelector, undefined);
  });

  it("must serve on until the balancer has seen it leave, and then let open requests end", async () => {
    const spec = await podSpec();
    assert.deepEqual(spec.containers[0].lifecycle, { preStop: { sleep: { seconds: 20 } } });
    assert.equal(spec.terminationGracePeriodSeconds, 60);
    assert.deepEqual(spec.containers[0].readinessProbe, {
      httpGet: { path: "/nginx-ready", port: "readiness" },
      periodSeconds: 1,
    });
    assert.deepEqual(spec.containers[0].ports, [
      { name: "http", containerPort: 80 },
      { name: "readiness", containerPort: 8081 },
    ]);
  });

  it("must be confined as the namespace's security standard demands", async () => {
    const { metadata } = await inputs(NAMESPACE);
    assert.equal(metadata.name, "nginx-ingress");
    assert.equal(metadata.labels["pod-security.kubernetes.io/enforce"], "restricted");
    const spec = await podSpec();
    assert.deepEqual(spec.securityContext, {
      runAsNonRoot: true,
      runAsUser: 101,
      runAsGroup: 101,
      seccompProfile: { type: "RuntimeDefault" },
    });
    const confined = { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true };
    assert.deepEqual(spec.containers[0].securityContext, {
      ...confined,
      capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] },
    });
    assert.deepEqual(spec.initContainers[0].securityContext, { ...confined, capabilities: { drop: ["ALL"] } });
    assert.deepEqual([spec.enableServiceLinks, spec.automountServiceAccountToken], [false, false]);
  });

  it("must be able to write what it writes on a read-only root", async () => {
    const { volumes, containers, initContainers } = await podSpec();
    const mounts = [
      { name: "nginx-etc", mountPath: "/etc/nginx" },
      { name: "nginx-cache", mountPath: "/var/cache/nginx" },
      { name: "nginx-lib", mountPath: "/var/lib/nginx" },
      { name: "nginx-state", mountPath: "/var/lib/nginx/state" },
      { name: "nginx-log", mountPath: "/var/log/nginx" },
    ];
    const identity = { name: "identity", mountPath: "/var/run/secrets/kubernetes.io/serviceaccount", readOnly: true };
    assert.deepEqual(containers[0].volumeMounts, [...mounts, identity]);
    assert.deepEqual(
      volumes.filter(({ name }: { name: string }) => name !== "identity"),
      mounts.map(({ name }) => ({ name, emptyDir: {} })),
    );
    assert.deepEqual(initContainers[0].command, ["cp", "-dR", "/etc/nginx/.", "/mnt/etc"]);
    assert.deepEqual(initContainers[0].volumeMounts, [{ name: "nginx-etc", mountPath: "/mnt/etc" }]);
  });

  it("must ask for what its place on the nodes was reckoned with", async () => {
    const resources = { requests: { cpu: "100m", memory: "128Mi" }, limits: { memory: "512Mi" } };
    const { containers, initContainers } = await podSpec();
    assert.deepEqual([containers[0].resources, initContainers[0].resources], [resources, resources]);
  });

  it("must be reached by plain HTTP alone, and reach its backends alone", async () => {
    const labels = { app: "shop" };
    const namespaceSelector = { matchLabels: { "kubernetes.io/metadata.name": "hobnob" } };
    assert.deepEqual(find((await controller()).graph, POLICY, "ingress").inputs.spec, {
      podSelector: { matchLabels: LABELS },
      policyTypes: ["Ingress", "Egress"],
      ingress: [{ ports: [{ protocol: "TCP", port: "http" }] }],
      egress: [
        {
          to: [{ namespaceSelector: {}, podSelector: { matchLabels: { "hobnob/ingress-class": "nginx" } } }],
          ports: [{ protocol: "TCP" }],
        },
        {
          to: [{ namespaceSelector, podSelector: { matchLabels: labels } }],
          ports: [{ protocol: "TCP", port: 8080 }],
        },
      ],
    });
  });
});

const ITS_ADDRESS = { "pulumi.com/waitFor": "jsonpath={.status.loadBalancer.ingress[0]}" };

describe("load balancer", () => {
  it("must work on HTTP, by its own name, with no port for TLS while there is no certificate", async () => {
    const { graph } = await controller();
    assert.deepEqual(find(graph, SERVICE, "ingress").inputs, {
      apiVersion: "v1",
      kind: "Service",
      metadata: {
        name: "nginx-ingress",
        namespace: "nginx-ingress",
        labels: LABELS,
        annotations: {
          [`${BALANCER}name`]: "hobnob-dev",
          [`${BALANCER}type`]: "REGIONAL",
          [`${BALANCER}size-unit`]: "1",
          [`${BALANCER}protocol`]: "http",
          [`${BALANCER}disable-lets-encrypt-dns-records`]: "true",
          ...ITS_ADDRESS,
        },
      },
      spec: {
        type: "LoadBalancer",
        selector: LABELS,
        externalTrafficPolicy: "Local",
        ports: [{ name: "http", port: 80, targetPort: "http" }],
      },
    });
  });

  it("must end TLS with the certificate's name, pass plain HTTP on, and redirect the rest", async () => {
    const loadBalancer = { certificateName: "hobnob-1a2b3c", sizeUnit: 3 };
    assert.deepEqual(await annotations({ loadBalancer }), {
      [`${BALANCER}name`]: "hobnob-dev",
      [`${BALANCER}type`]: "REGIONAL",
      [`${BALANCER}size-unit`]: "3",
      [`${BALANCER}protocol`]: "http",
      [`${BALANCER}disable-lets-encrypt-dns-records`]: "true",
      [`${BALANCER}tls-ports`]: "443",
      [`${BALANCER}certificate-name`]: "hobnob-1a2b3c",
      [`${BALANCER}redirect-http-to-https`]: "true",
      ...ITS_ADDRESS,
    });
    assert.deepEqual((await inputs(SERVICE, { loadBalancer })).spec.ports, [
      { name: "http", port: 80, targetPort: "http" },
      { name: "https", port: 443, targetPort: "http" },
    ]);
  });

  it("must be replaced, the old one first, when its type changes", async () => {
    const { replaceOnChanges, deleteBeforeReplace } = find((await controller()).graph, SERVICE);
    assert.deepEqual(replaceOnChanges, [`metadata.annotations["${BALANCER}type"]`]);
    assert.equal(deleteBeforeReplace, true);
  });

  it("must be waited for until it has its address, which is needed, and not the provider's fixed 10 s for its pods", async () => {
    const { "pulumi.com/skipAwait": skipped, "pulumi.com/waitFor": field } = await annotations();
    assert.equal(skipped, undefined);
    assert.equal(field, "jsonpath={.status.loadBalancer.ingress[0]}");
  });

  it("must give its IPv4 and IPv6 address apart, in whatever order they come", async () => {
    const addresses = async (...ips: string[]) => {
      const status = { loadBalancer: { ingress: ips.map((ip) => ({ ip })) } };
      const resource = ({ type, inputs }: { type: string; inputs: object }) =>
        type === SERVICE ? { state: { ...inputs, status } } : undefined;
      const { made } = await controller({}, { mocks: { resource } });
      assert.ok(made.address && made.ipv6);
      return [(await unwrap(made.address)).value, (await unwrap(made.ipv6)).value];
    };
    assert.deepEqual(await addresses("203.0.113.10", "2001:db8::10"), ["203.0.113.10", "2001:db8::10"]);
    assert.deepEqual(await addresses("2001:db8::10", "203.0.113.10"), ["203.0.113.10", "2001:db8::10"]);
    assert.deepEqual(await addresses("203.0.113.10"), ["203.0.113.10", undefined]);
  });

  for (const [what, status] of [
    ["does not know the status", undefined],
    ["shows an empty status", { loadBalancer: {} }],
  ] as const)
    it(`must have an unknown address in a preview that ${what}, and none after an update`, async () => {
      const resource = ({ type, inputs }: { type: string; inputs: object }) =>
        type === SERVICE ? { state: { ...inputs, ...(status && { status }) } } : undefined;
      const { made } = await controller({}, { preview: true, mocks: { resource } });
      assert.ok(made.address);
      assert.equal((await unwrap(made.address)).known, false);
      await assert.rejects(controller({}, { mocks: { resource } }), {
        message: "The balancer has no IPv4 address; see: kubectl describe service --all-namespaces",
      });
    });
});

describe("ingress controller without a balancer", () => {
  it("must listen on a port of each node, and not be waited for", async () => {
    const { graph, made } = await controller({ expose: "NodePort" });
    const { metadata, spec } = find(graph, SERVICE).inputs;
    assert.deepEqual(metadata.annotations, { "pulumi.com/skipAwait": "true" });
    assert.deepEqual(spec, {
      type: "NodePort",
      selector: LABELS,
      ports: [{ name: "http", port: 80, targetPort: "http" }],
    });
    assert.deepEqual([made.address, made.ipv6], [undefined, undefined]);
  });

  it("must take the nodes' own port 80, one pod a node, and no Service", async () => {
    const { graph, made } = await controller({ expose: "HostPort" });
    assert.deepEqual([ofType(graph, SERVICE), made.address], [[], undefined]);
    const { spec } = find(graph, DEPLOYMENT).inputs;
    assert.deepEqual(spec.strategy, { rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } });
    assert.deepEqual(spec.template.spec.containers[0].ports[0], { name: "http", containerPort: 80, hostPort: 80 });
    const { labels } = find(graph, NAMESPACE).inputs.metadata;
    assert.equal(labels["pod-security.kubernetes.io/enforce"], "privileged");
  });

  for (const [expose, expected] of [
    ["NodePort", ["-external-service=nginx-ingress"]],
    ["HostPort", []],
  ] as const)
    it(`must not report an address it does not have, nor count its pods by a Service it does not have (${expose})`, async () => {
      const { args } = await container({ expose });
      assert.deepEqual(
        args.filter((argument: string) => /report-ingress|external/.test(argument)),
        expected,
      );
    });

  it("must refuse more pods than the only node has ports 80", async () => {
    await assert.rejects(controller({ expose: "HostPort", spread: "soft", replicas: 2 }), {
      message:
        "hobnob:ingress.replicas: 2, but pods cannot share the port 80 of a cluster's only node; " +
        "allowed: 1; pulumi config set --path hobnob:ingress.replicas 1",
    });
    await controller({ expose: "HostPort", spread: "soft", replicas: 1 });
    await controller({ expose: "HostPort", spread: "hard", replicas: 2 });
  });
});

describe("ingress controller with custom resources", () => {
  const DEFINITION = "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition";
  const rules = async (changes: Changes) =>
    find((await controller(changes)).graph, "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole").inputs.rules;

  it("must bring the kinds that the controller lists before it is ready, and start after them", async () => {
    const { graph } = await controller({ customResources: true });
    const deployment = find(graph, DEPLOYMENT);
    assert.ok(deployment.inputs.spec.template.spec.containers[0].args.includes("-enable-custom-resources=true"));
    const definitions = ofType(graph, DEFINITION);
    for (const definition of definitions) assert.equal(waitsFor(graph, deployment, definition), true, definition.name);
    const brief = definitions.map(({ inputs: { metadata, spec } }) => {
      const { kind, plural, singular, listKind, shortNames } = spec.names;
      assert.deepEqual(
        [metadata.name, listKind, singular],
        [`${plural}.${spec.group}`, `${kind}List`, kind.toLowerCase()],
      );
      return [
        spec.group,
        spec.scope,
        kind,
        plural,
        shortNames.join(),
        spec.versions.map((v: { name: string }) => v.name).join(),
      ];
    });
    const group = "k8s.nginx.org";
    assert.deepEqual(brief, [
      [group, "Namespaced", "Policy", "policies", "pol", "v1"],
      [group, "Namespaced", "TransportServer", "transportservers", "ts", "v1"],
      [group, "Namespaced", "VirtualServer", "virtualservers", "vs", "v1"],
      [group, "Namespaced", "VirtualServerRoute", "virtualserverroutes", "vsr", "v1"],
    ]);
    const anything = { type: "object", x_kubernetes_preserve_unknown_fields: true };
    for (const { inputs } of definitions) {
      const [{ served, storage, subresources, schema }] = inputs.spec.versions;
      assert.deepEqual(
        { served, storage, subresources },
        { served: true, storage: true, subresources: { status: {} } },
      );
      assert.deepEqual(schema, {
        openAPIV3Schema: { type: "object", properties: { spec: anything, status: anything } },
      });
    }
  });

  it("must read these kinds and write their status, and no more than without them else", async () => {
    const kinds = ["virtualservers", "virtualserverroutes", "policies", "transportservers"];
    assert.deepEqual(await rules({ customResources: true }), [
      ...(await rules({})),
      { apiGroups: ["k8s.nginx.org"], resources: kinds, verbs: ["get", "list", "watch"] },
      { apiGroups: ["k8s.nginx.org"], resources: kinds.map((kind) => `${kind}/status`), verbs: ["update"] },
    ]);
  });

  it("must not bring the kinds a second time to a cluster that has them", async () => {
    const graph = await capture(() => {
      new IngressController("ingress", controllerArgs({ customResources: true }));
      const more = { className: "internal", customResources: true, definitions: "existing" } as const;
      new IngressController("internal", controllerArgs(more));
    });
    assert.equal(ofType(graph, DEFINITION).length, 4);
    const serve = ofType(graph, DEPLOYMENT).map((r) =>
      r.inputs.spec.template.spec.containers[0].args.includes("-enable-custom-resources=true"),
    );
    assert.deepEqual(serve, [true, true]);
  });

  it("must tell routes what they may ask for", async () => {
    const { made } = await controller({ expose: "NodePort", customResources: true, secretNamespaces: ["shop"] });
    const { className, ...rest } = made.forRoutes;
    assert.deepEqual(rest, { expose: "NodePort", customResources: true, secretNamespaces: ["shop"] });
    assert.equal((await unwrap(pulumi.output(className))).value, "nginx");
  });
});

describe("ingress controller that reads Secrets", () => {
  const changes = { expose: "NodePort", secretNamespaces: ["shop", "blog"], namespaces: ["hobnob", "shop"] } as const;
  const some = { ...changes, secretNamespaces: [...changes.secretNamespaces], namespaces: [...changes.namespaces] };

  it("must read them in the namespaces that were named, by a right in each, before it starts", async () => {
    const { graph } = await controller(some);
    for (const namespace of ["shop", "blog"]) {
      const name = `ingress-secrets-${namespace}`;
      const role = find(graph, "kubernetes:rbac.authorization.k8s.io/v1:Role", name);
      assert.deepEqual(role.inputs.metadata, { namespace });
      assert.deepEqual(role.inputs.rules, [
        { apiGroups: [""], resources: ["secrets"], verbs: ["get", "list", "watch"] },
        { apiGroups: [""], resources: ["namespaces"], verbs: ["get"] },
      ]);
      const binding = find(graph, "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding", name);
      assert.deepEqual(binding.inputs.subjects, [
        { kind: "ServiceAccount", name: "ingress-0a1b2c3d", namespace: "nginx-ingress" },
      ]);
      assert.deepEqual([binding.inputs.metadata, binding.inputs.roleRef.kind], [{ namespace }, "Role"]);
      assert.equal(waitsFor(graph, find(graph, DEPLOYMENT), binding), true);
    }
    const clusterRole = find(graph, "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole").inputs;
    assert.equal(JSON.stringify(clusterRole.rules).includes("secrets"), false);
  });

  it("must serve these, its own and the further namespaces by name, as it reads Secrets nowhere else", async () => {
    const { args } = await container(some);
    assert.deepEqual(
      args.filter((argument: string) => argument.startsWith("-watch")),
      ["-watch-namespace=$(POD_NAMESPACE),hobnob,shop,blog", "-watch-secret-namespace=shop,blog"],
    );
  });

  it("must serve every namespace while it reads no Secret, whatever others are named", async () => {
    const { args } = await container({ namespaces: ["hobnob"] });
    assert.deepEqual(
      args.filter((argument: string) => argument.startsWith("-watch")),
      ["-watch-secret-namespace=$(POD_NAMESPACE)"],
    );
  });

  for (const [expose, open] of [
    ["LoadBalancer", ["http"]],
    ["NodePort", ["http", "https"]],
    ["HostPort", ["http", "https"]],
  ] as const)
    it(`must end TLS itself only where no balancer does (${expose})`, async () => {
      const { graph } = await controller({ ...some, expose });
      const policy = find(graph, POLICY, "ingress").inputs.spec.ingress;
      assert.deepEqual(policy, [{ ports: open.map((port) => ({ protocol: "TCP", port })) }]);
      const [{ ports }] = find(graph, DEPLOYMENT).inputs.spec.template.spec.containers;
      const own = { http: 80, https: 443 };
      const listed = open.map((name) => ({
        name,
        containerPort: own[name],
        ...(expose === "HostPort" && { hostPort: own[name] }),
      }));
      assert.deepEqual(ports, [...listed, { name: "readiness", containerPort: 8081 }]);
      if (expose === "NodePort")
        assert.deepEqual(
          find(graph, SERVICE).inputs.spec.ports,
          open.map((name) => ({ name, port: own[name], targetPort: name })),
        );
    });
});

describe("second ingress controller", () => {
  it("must share no name with the first but those of its class", async () => {
    const graph = await capture(() => {
      new IngressController("ingress", controllerArgs());
      new IngressController("internal", controllerArgs({ className: "internal" }));
    });
    const balancers = ofType(graph, SERVICE).map((r) => r.inputs.metadata.annotations[`${BALANCER}name`]);
    assert.deepEqual(balancers, ["hobnob-dev", "hobnob-dev-internal"]);
    const named = graph
      .filter((r) => r.inputs.metadata?.name !== undefined)
      .map((r) => `${r.type.split(":").at(-1)} ${r.inputs.metadata.namespace ?? ""}/${r.inputs.metadata.name}`);
    assert.deepEqual(named.sort(), [
      "Deployment nginx-ingress-internal/nginx-ingress",
      "Deployment nginx-ingress/nginx-ingress",
      "IngressClass /internal",
      "IngressClass /nginx",
      "Namespace /nginx-ingress",
      "Namespace /nginx-ingress-internal",
      "NetworkPolicy nginx-ingress-internal/default-deny",
      "NetworkPolicy nginx-ingress/default-deny",
      "Service nginx-ingress-internal/nginx-ingress",
      "Service nginx-ingress/nginx-ingress",
    ]);
    const selectors = ofType(graph, DEPLOYMENT).map((r) => r.inputs.spec.selector.matchLabels);
    assert.deepEqual(selectors, [LABELS, { ...LABELS, "app.kubernetes.io/instance": "internal" }]);
  });

  it("must reach the pods of its own class alone, and be reached by the policies that name it", async () => {
    const { graph, made } = await controller({ className: "internal", backends: undefined });
    const [rule, ...others] = find(graph, POLICY, "ingress").inputs.spec.egress;
    assert.deepEqual(rule.to[0].podSelector.matchLabels, { "hobnob/ingress-class": "internal" });
    assert.deepEqual(others, []);
    const { namespaceSelector, podSelector } = (await unwrap(pulumi.output(fromController("internal")))).value;
    assert.deepEqual(namespaceSelector?.matchLabels, { "kubernetes.io/metadata.name": made.namespace });
    const { labels } = find(graph, DEPLOYMENT).inputs.spec.template.metadata;
    assert.deepEqual({ ...labels, ...podSelector?.matchLabels }, labels);
  });

  it("must be made by another stack too, of what the platform's contract tells, beside the first", async () => {
    const of = (changes: object = {}) =>
      capture(
        () => {
          const platform = new Platform("acme/hobnob/prod");
          const provider = platform.provider("platform");
          const loadBalancer = { name: "shop", sizeUnit: 1, vpcRange: platform.output("ingressProxyRange") };
          const args = controllerArgs({ className: "shop", customResources: true, definitions: "existing" });
          const { forRoutes } = new IngressController("shop", { ...args, loadBalancer }, { provider });
          const paths = [{ serviceName: "shop", port: 80, canary: { serviceName: "newer", port: 80, weight: 10 } }];
          const routes = { ...forRoutes, coveredHosts: [], namespace: "shop", hosts: ["shop.example.com"], paths };
          new Routes("shop", routes, { provider });
        },
        { mocks: { resource: platformStack(changes) } },
      );
    const graph = await of();
    assert.equal(find(graph, CONFIG_MAP).inputs.data["set-real-ip-from"], "10.10.0.0/20");
    assert.equal(find(graph, "kubernetes:k8s.nginx.org/v1:VirtualServer").inputs.spec.ingressClassName, "shop");
    const provider = find(graph, "pulumi:providers:kubernetes").urn;
    const others = graph.filter((r) => r.type.startsWith("kubernetes:") && r.provider !== provider);
    assert.deepEqual(others, []);
    await assert.rejects(of({ ingressProxyRange: undefined }), /ingressProxyRange/);
    await assert.rejects(of({ kubeconfig: undefined }), /kubeconfig/);
  });

  it("must be known by its class and namespace", async () => {
    const { made } = await controller({ className: "internal" });
    const { value: className } = await unwrap(made.className);
    assert.deepEqual([className, made.namespace], ["internal", "nginx-ingress-internal"]);
  });
});

describe("ingress controller behind AWS's balancer", () => {
  const AWS = "service.beta.kubernetes.io/aws-load-balancer-";
  const ARN = "arn:aws:acm:eu-central-1:111122223333:certificate/0a1b";
  const aws = (changes: Partial<IngressControllerArgs["loadBalancer"]> = {}): Changes => ({
    loadBalancer: { kind: "aws", name: "hobnob-prod", vpcRange: undefined, ...changes },
  });

  it("must ask for one that is reached from outside, in every zone, and shows the client's address", async () => {
    const { metadata, spec } = await inputs(SERVICE, aws({ certificateName: ARN }));
    assert.deepEqual(metadata.annotations, {
      [`${AWS}scheme`]: "internet-facing",
      [`${AWS}nlb-target-type`]: "ip",
      [`${AWS}attributes`]: "load_balancing.cross_zone.enabled=true",
      [`${AWS}target-group-attributes`]: "preserve_client_ip.enabled=true",
      [`${AWS}ssl-cert`]: ARN,
      [`${AWS}ssl-ports`]: "443",
      ...ITS_ADDRESS,
    });
    assert.equal(spec.loadBalancerClass, "eks.amazonaws.com/nlb");
  });

  it("must end TLS there, and redirect HTTP by the controller, as a balancer of packets can't", async () => {
    const { spec } = await inputs(SERVICE, aws({ certificateName: ARN }));
    assert.deepEqual(spec.ports, [
      { name: "http", port: 80, targetPort: "redirect" },
      { name: "https", port: 443, targetPort: "http" },
    ]);
    const { ports } = await container(aws({ certificateName: ARN }));
    assert.deepEqual(ports[1], { name: "redirect", containerPort: 8088 });
    const { data } = await inputs(CONFIG_MAP, aws({ certificateName: ARN }));
    assert.equal(data["http-snippets"], "server { listen 8088; return 301 https://$host$request_uri; }");
    assert.equal(data["redirect-to-https"], "true");
    const policies = (await controller(aws({ certificateName: ARN }))).graph.filter(({ type }) => type === POLICY);
    assert.deepEqual(policies.find(({ name }) => name === "ingress")?.inputs.spec.ingress, [
      { ports: ["http", "redirect"].map((port) => ({ protocol: "TCP", port })) },
    ]);
  });

  it("must serve plain HTTP alone without a certificate, and redirect nothing", async () => {
    const { spec } = await inputs(SERVICE, aws());
    assert.deepEqual(spec.ports, [{ name: "http", port: 80, targetPort: "http" }]);
    assert.equal((await container(aws())).ports.length, 2);
    assert.equal((await inputs(CONFIG_MAP, aws())).data["http-snippets"], undefined);
  });

  it("must believe no header about a client, whose own address it sees", async () => {
    const { data } = await inputs(CONFIG_MAP, aws({ vpcRange: "10.30.0.0/16" }));
    assert.deepEqual([data["set-real-ip-from"], data["real-ip-header"]], [undefined, undefined]);
  });

  it("must have a host name, and no address, which may change", async () => {
    const { made } = await controller(aws());
    assert.ok(made.hostname);
    assert.equal((await unwrap(made.hostname)).value, "k8s-nginx.elb.eu-central-1.amazonaws.com");
    assert.deepEqual([made.address, made.ipv6], [undefined, undefined]);
    const preview = await controller(aws(), { preview: true });
    assert.equal((await unwrap(preview.made.hostname ?? pulumi.output(""))).known, false);
  });

  it("must not count a pod as ready before the balancer does, and let each serve until it sends no more", async () => {
    const { labels } = (await inputs(NAMESPACE, aws())).metadata;
    assert.equal(labels["eks.amazonaws.com/pod-readiness-gate-inject"], "enabled");
    const pod = await podSpec(aws());
    assert.equal(pod.containers[0].lifecycle.preStop.sleep.seconds, 60);
    assert.equal(pod.terminationGracePeriodSeconds, 100);
  });

  it("must replace the balancer where AWS can't change it, and nothing of DigitalOcean's", async () => {
    const { graph } = await controller(aws());
    assert.deepEqual(find(graph, SERVICE).replaceOnChanges, [
      `metadata.annotations["${AWS}scheme"]`,
      `metadata.annotations["${AWS}nlb-target-type"]`,
    ]);
    assert.doesNotMatch(JSON.stringify(graph.map((resource) => resource.inputs)), /do-loadbalancer/);
  });
});
