import assert from "node:assert/strict";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import {
  fromController,
  IngressController,
  type IngressControllerArgs,
  Route,
  type RouteArgs,
} from "../../components/ingress";
import { type Captured, type CaptureOptions, capture, find, ofType, unwrap, waitsFor } from "./graph";

const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const SERVICE = "kubernetes:core/v1:Service";
const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const NAMESPACE = "kubernetes:core/v1:Namespace";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";
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

  it("must be waited for, since its address is needed", async () => {
    assert.equal("pulumi.com/skipAwait" in (await annotations()), false);
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

  it("must be known by its class and namespace", async () => {
    const { made } = await controller({ className: "internal" });
    const { value: className } = await unwrap(made.className);
    assert.deepEqual([className, made.namespace], ["internal", "nginx-ingress-internal"]);
  });
});

describe("route", () => {
  const routeArgs: RouteArgs = {
    namespace: "hobnob",
    className: "nginx",
    host: "api.example.com",
    serviceName: "backend",
    port: 8080,
  };
  const ingress = async (changes: Partial<RouteArgs> = {}) => {
    const graph = await capture(() => new Route("api", { ...routeArgs, ...changes }));
    assert.equal(graph.length, 2);
    return find(graph, INGRESS, "api").inputs;
  };

  it("must bring one host's requests to one Service, with no limit unless configured", async () => {
    assert.deepEqual(await ingress(), {
      apiVersion: "networking.k8s.io/v1",
      kind: "Ingress",
      metadata: { namespace: "hobnob", annotations: {} },
      spec: {
        ingressClassName: "nginx",
        rules: [
          {
            host: "api.example.com",
            http: {
              paths: [
                { path: "/", pathType: "Prefix", backend: { service: { name: "backend", port: { number: 8080 } } } },
              ],
            },
          },
        ],
      },
    });
  });

  it("must limit requests by the client's address, over all pods of the controller, with 429", async () => {
    const { metadata } = await ingress({ rateLimit: { requestsPerSecond: 20, burst: 40 } });
    assert.deepEqual(metadata.annotations, {
      "nginx.org/limit-req-rate": "20r/s",
      "nginx.org/limit-req-burst": "40",
      "nginx.org/limit-req-no-delay": "true",
      "nginx.org/limit-req-key": ["$", "{binary_remote_addr}"].join(""),
      "nginx.org/limit-req-zone-size": "10m",
      "nginx.org/limit-req-reject-code": "429",
      "nginx.org/limit-req-scale": "true",
    });
  });

  it("must limit the body's size where configured", async () => {
    const { metadata } = await ingress({ maxBodySize: "8m" });
    assert.deepEqual(metadata.annotations, { "nginx.org/client-max-body-size": "8m" });
  });

  for (const expose of ["NodePort", "HostPort"] as const)
    it(`must not wait for an address that no controller gives (${expose})`, async () => {
      const { metadata } = await ingress({ expose });
      assert.deepEqual(metadata.annotations, { "pulumi.com/skipAwait": "true" });
    });

  it("must divide a limit by the controller's pods only where a Service counts them", async () => {
    const scaled = async (expose: RouteArgs["expose"]) => {
      const { metadata } = await ingress({ expose, rateLimit: { requestsPerSecond: 20, burst: 40 } });
      assert.equal(metadata.annotations["nginx.org/limit-req-rate"], "20r/s");
      return metadata.annotations["nginx.org/limit-req-scale"];
    };
    assert.deepEqual(
      [await scaled("LoadBalancer"), await scaled("NodePort"), await scaled("HostPort")],
      ["true", "true", undefined],
    );
  });
});
