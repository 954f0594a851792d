import assert from "node:assert/strict";
import { availability } from "../../policy/availability";
import { exceptions } from "../../policy/exceptions";
import { rules, violations } from "../../policy/policies";
import { type Resource, UNKNOWN } from "../../policy/resources";
import { captureStack, everything } from "./stacks";

// biome-ignore lint/suspicious/noExplicitAny: inputs have as many shapes as there are resource types
type Props = any;

const resource = (type: string, name: string, props: Props, more: Partial<Resource> = {}): Resource => ({
  type,
  name,
  urn: `urn:pulumi:test::hobnob::${type}::${name}`,
  props,
  ...more,
});

const labels = { app: "shop" };
const metadata = { name: "shop", namespace: "shops" };
const bounds = { requests: { cpu: "100m", memory: "64Mi" }, limits: { memory: "64Mi" } };
const container: Props = {
  name: "shop",
  image: "acme/shop:1.2.3",
  securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
  ports: [{ name: "http", containerPort: 8080 }],
  readinessProbe: { httpGet: { path: "/ready", port: "http" } },
  livenessProbe: { httpGet: { path: "/alive", port: "http" } },
  lifecycle: { preStop: { sleep: { seconds: 10 } } },
  resources: bounds,
};
const constraint = {
  topologyKey: "kubernetes.io/hostname",
  whenUnsatisfiable: "DoNotSchedule",
  labelSelector: { matchLabels: labels },
};
const pod: Props = {
  serviceAccountName: "shop",
  automountServiceAccountToken: false,
  securityContext: { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } },
  containers: [container],
  topologySpreadConstraints: [constraint],
};
const template = (spec: Props = pod) => ({ metadata: { labels }, spec });

const deployment = (spec: Props = {}, name = "shop") =>
  resource("kubernetes:apps/v1:Deployment", name, {
    metadata,
    spec: { replicas: 2, selector: { matchLabels: labels }, template: template(), ...spec },
  });
const withPod = (more: Props) => deployment({ template: template({ ...pod, ...more }) });
const withContainer = (more: Props) => withPod({ containers: [{ ...container, ...more }] });
const set = (spec: Props = {}) =>
  resource("kubernetes:apps/v1:StatefulSet", "shop", {
    metadata,
    spec: { replicas: 3, selector: { matchLabels: labels }, template: template(), ...spec },
  });
const service = (spec: Props = {}) =>
  resource("kubernetes:core/v1:Service", "shop", {
    metadata,
    spec: { selector: labels, ports: [{ port: 80, targetPort: "http" }], ...spec },
  });
const peers = resource("kubernetes:core/v1:Service", "peers", {
  metadata: { ...metadata, name: "peers" },
  spec: { clusterIP: "None", publishNotReadyAddresses: true, selector: labels, ports: [] },
});
const budget = (spec: Props = {}, name = "shop") =>
  resource("kubernetes:policy/v1:PodDisruptionBudget", name, {
    metadata,
    spec: { selector: { matchLabels: labels }, maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow", ...spec },
  });
const minimum = (minAvailable: number | string) => budget({ maxUnavailable: undefined, minAvailable });
const autoscaler = (spec: Props = {}) =>
  resource("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", "shop", {
    metadata,
    spec: { scaleTargetRef: { kind: "Deployment", name: "shop" }, minReplicas: 2, maxReplicas: 4, ...spec },
  });
const cluster = (props: Props = {}, protect = false) =>
  resource(
    "digitalocean:index/kubernetesCluster:KubernetesCluster",
    "cluster",
    { ha: true, nodePool: { nodeCount: 3 }, ...props },
    { protect },
  );
const balancer = (nodes: string) =>
  resource("kubernetes:core/v1:Service", "balancer", {
    metadata: { ...metadata, annotations: { "service.beta.kubernetes.io/do-loadbalancer-size-unit": nodes } },
    spec: { type: "LoadBalancer", selector: labels, ports: [] },
  });
const route = (host: string | undefined, name = "shop", ingressClassName = "nginx") =>
  resource("kubernetes:networking.k8s.io/v1:Ingress", name, {
    metadata,
    spec: { ingressClassName, rules: [{ host }] },
  });
const virtualServer = (host: string) =>
  resource("kubernetes:k8s.nginx.org/v1:VirtualServer", "canary", {
    metadata,
    spec: { ingressClassName: "nginx", host },
  });
const claim = (mode: string) =>
  resource("kubernetes:core/v1:PersistentVolumeClaim", "photos", {
    metadata: { ...metadata, name: "photos" },
    spec: { accessModes: [mode] },
  });
const job = (spec: Props) =>
  resource("kubernetes:batch/v1:Job", "backup", { metadata, spec: { template: { spec: {} }, ...spec } });
const cron = (spec: Props) =>
  resource("kubernetes:batch/v1:CronJob", "backup", {
    metadata,
    spec: { jobTemplate: { spec: { template: { spec: {} } } }, ...spec },
  });
const without = (key: string) => withContainer({ [key]: undefined });
const volume = { volumes: [{ name: "photos", persistentVolumeClaim: { claimName: "photos" } }] };
const apart = (kind: string) => ({
  topologySpreadConstraints: undefined,
  affinity: {
    podAntiAffinity:
      kind === "required"
        ? { requiredDuringSchedulingIgnoredDuringExecution: [constraint] }
        : { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 1, podAffinityTerm: constraint }] },
  },
});

const secured = (more: Props) => withContainer({ securityContext: { ...container.securityContext, ...more } });
const { seccompProfile } = pod.securityContext;
const privileged = { ...container, securityContext: { ...container.securityContext, privileged: true } };
const image = resource("docker:index/image:Image", "shop", { imageName: "acme/shop:v1" });
const namespace = (level?: string) =>
  resource("kubernetes:core/v1:Namespace", "shops", {
    metadata: { name: "shops", labels: { "pod-security.kubernetes.io/enforce": level } },
  });
const denial = (spec: Props = {}, more: Props = {}, propertyDependencies?: Record<string, string[]>) =>
  resource(
    "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    "deny",
    { metadata: { ...metadata, ...more }, spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"], ...spec } },
    { propertyDependencies },
  );
const role = (kind: string, rule: Props) =>
  resource(`kubernetes:rbac.authorization.k8s.io/v1:${kind}`, "shop", {
    metadata,
    rules: [{ apiGroups: [""], resources: ["pods"], verbs: ["get"], ...rule }],
  });

const KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA\n-----END EC PRIVATE KEY-----\n";
const LONG = "aBcDeFgH".repeat(5);
const base64 = (text: string) => Buffer.from(text).toString("base64");
const settings = (data: Props) => resource("kubernetes:core/v1:ConfigMap", "shop", { metadata, data });

const good = [cluster(), deployment(), service(), budget()];

interface Case {
  rule: string;
  /** What a stack without violation has in its place. */
  passes: Resource[][];
  /** What was found in each of these. */
  fails: [found: string, stack: Resource[]][];
}

const cases: Case[] = [
  {
    rule: "replicas",
    passes: [
      [deployment(), service()],
      [deployment({ replicas: 1 })],
      [deployment({ replicas: undefined }), autoscaler(), service()],
      [deployment({ replicas: UNKNOWN }), service()],
      [set(), peers],
      [set({ replicas: 2 }), service()],
    ],
    fails: [
      ["1 replica", [deployment({ replicas: 1 }), service()]],
      ["1 replica", [deployment({ replicas: undefined }), service()]],
      ["1 replica", [deployment({ replicas: undefined }), autoscaler({ minReplicas: undefined }), service()]],
      [
        "1 replica",
        [
          deployment({
            replicas: 1,
            template: template({ containers: [{ ...container, ports: [{ hostPort: 80 }] }] }),
          }),
        ],
      ],
      ["2 replicas of a clustered set", [set({ replicas: 2 }), peers]],
      ["4 replicas of a clustered set", [set({ replicas: 4 }), peers]],
    ],
  },
  {
    rule: "spread",
    passes: [
      [cluster(), deployment(), service()],
      [cluster(), withPod(apart("required")), service()],
      [withPod(apart("preferred")), service()],
    ],
    fails: [
      [
        "pods that may all be on one machine",
        [cluster(), withPod({ topologySpreadConstraints: undefined }), service()],
      ],
      [
        "pods that may all be on one machine",
        [
          withPod({ topologySpreadConstraints: [{ ...constraint, topologyKey: "topology.kubernetes.io/zone" }] }),
          service(),
        ],
      ],
      [
        "pods that may all be on one machine",
        [
          withPod({ topologySpreadConstraints: [{ ...constraint, labelSelector: { matchLabels: { app: "other" } } }] }),
          service(),
        ],
      ],
      ["pods that only should be on different machines", [cluster(), withPod(apart("preferred")), service()]],
      [
        "pods that only should be on different machines",
        [
          cluster(),
          withPod({ topologySpreadConstraints: [{ ...constraint, whenUnsatisfiable: "ScheduleAnyway" }] }),
          service(),
        ],
      ],
    ],
  },
  {
    rule: "disruption-budget",
    passes: [[deployment(), service(), budget()], [deployment()]],
    fails: [
      ["no PodDisruptionBudget", [deployment(), service()]],
      [
        "no PodDisruptionBudget",
        [
          deployment(),
          service(),
          resource(budget().type, "shop", { ...budget().props, metadata: { namespace: "elsewhere" } }),
        ],
      ],
      [
        "2 PodDisruptionBudgets (shop, second)",
        [deployment(), service(), budget(), budget({ selector: {} }, "second")],
      ],
    ],
  },
  {
    rule: "budget-selects-one",
    passes: [[deployment(), budget()]],
    fails: [
      ["a selector that matches no workload", [deployment(), budget({ selector: { matchLabels: { app: "typo" } } })]],
      [
        "a selector that matches shop and other",
        [
          deployment(),
          deployment({}, "other"),
          budget({ selector: { matchExpressions: [{ key: "app", operator: "Exists" }] } }),
        ],
      ],
    ],
  },
  {
    rule: "budget-allows-one",
    passes: [
      [deployment(), budget()],
      [deployment(), minimum(1)],
      [deployment(), minimum("50%")],
      [deployment(), budget({ maxUnavailable: "1%" })],
      [set(), peers, budget()],
    ],
    fails: [
      ["maxUnavailable 0, by which 0 of shop's 2 pods may go at once", [deployment(), budget({ maxUnavailable: 0 })]],
      ["maxUnavailable 2, by which 2 of shop's 2 pods may go at once", [deployment(), budget({ maxUnavailable: 2 })]],
      [
        "maxUnavailable 51%, by which 2 of shop's 2 pods may go at once",
        [deployment(), budget({ maxUnavailable: "51%" })],
      ],
      ["minAvailable 2, by which 0 of shop's 2 pods may go at once", [deployment(), minimum(2)]],
      ["minAvailable 51%, by which 0 of shop's 2 pods may go at once", [deployment(), minimum("51%")]],
      ["minAvailable 0, by which 2 of shop's 2 pods may go at once", [deployment(), minimum(0)]],
      ["maxUnavailable 2, by which 2 of shop's 3 pods may go at once", [set(), peers, budget({ maxUnavailable: 2 })]],
    ],
  },
  {
    rule: "unhealthy-pods-yield",
    passes: [
      [deployment(), budget()],
      [set(), budget({ unhealthyPodEvictionPolicy: undefined })],
    ],
    fails: [
      [
        "unhealthyPodEvictionPolicy unset, which is IfHealthyBudget",
        [deployment(), budget({ unhealthyPodEvictionPolicy: undefined })],
      ],
    ],
  },
  {
    rule: "readiness-probe",
    passes: [
      [deployment(), service()],
      [without("readinessProbe")],
      [withPod({ containers: [container, { name: "helper" }] }), service()],
    ],
    fails: [["container shop without readinessProbe", [without("readinessProbe"), service()]]],
  },
  {
    rule: "liveness-probe",
    passes: [[deployment(), service()]],
    fails: [["container shop without livenessProbe", [without("livenessProbe"), service()]]],
  },
  {
    rule: "liveness-is-not-readiness",
    passes: [[deployment(), service()]],
    fails: [
      [
        "container shop whose livenessProbe asks what its readinessProbe asks",
        [withContainer({ livenessProbe: container.readinessProbe }), service()],
      ],
    ],
  },
  {
    rule: "graceful-stop",
    passes: [
      [deployment(), service()],
      [without("lifecycle")],
      [withContainer({ lifecycle: { preStop: { exec: { command: ["sh", "-c", "sleep 29"] } } } }), service()],
      [withContainer({ lifecycle: { preStop: { httpGet: { path: "/stop", port: "http" } } } }), service()],
    ],
    fails: [
      ["container shop without preStop", [without("lifecycle"), service()]],
      [
        "container shop that sleeps 10 s of the 10 s after which it is killed",
        [withPod({ terminationGracePeriodSeconds: 10 }), service()],
      ],
      [
        "container shop that sleeps 30 s of the 30 s after which it is killed",
        [withContainer({ lifecycle: { preStop: { exec: { command: ["sleep", "30"] } } } }), service()],
      ],
    ],
  },
  {
    rule: "rollout",
    passes: [
      [deployment(), service()],
      [deployment({ strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } } }), service()],
      [deployment({ strategy: { rollingUpdate: { maxUnavailable: "99%" } } }), service()],
      [set(), peers],
    ],
    fails: [
      ["strategy Recreate", [deployment({ strategy: { type: "Recreate" } }), service()]],
      ["updateStrategy OnDelete", [set({ updateStrategy: { type: "OnDelete" } }), service()]],
      [
        "an update that takes 2 of 2 pods at once",
        [deployment({ strategy: { rollingUpdate: { maxUnavailable: "100%" } } }), service()],
      ],
      [
        "an update that takes 2 of 3 pods at once",
        [set({ updateStrategy: { rollingUpdate: { maxUnavailable: "34%" } } }), peers],
      ],
    ],
  },
  {
    rule: "container-resources",
    passes: [[deployment()], [withContainer({ resources: UNKNOWN })]],
    fails: [
      ["container shop without limits.memory", [withContainer({ resources: { requests: bounds.requests } })]],
      [
        "container migrate without requests.cpu, requests.memory, limits.memory",
        [withPod({ initContainers: [{ name: "migrate" }] })],
      ],
    ],
  },
  {
    rule: "service-selects",
    passes: [
      [deployment(), service()],
      [service({ selector: undefined })],
      [deployment(), service({ ports: [{ port: 80, targetPort: 8080 }] })],
    ],
    fails: [
      [
        'selector {"app":"typo"}, which no workload\'s pods have',
        [deployment(), service({ selector: { app: "typo" } })],
      ],
      [
        "targetPort https, which no container names",
        [deployment(), service({ ports: [{ port: 443, targetPort: "https" }] })],
      ],
    ],
  },
  {
    rule: "selectors-apart",
    passes: [
      [
        deployment(),
        resource(deployment().type, "other", { ...deployment().props, metadata: { namespace: "elsewhere" } }),
      ],
    ],
    fails: [
      [
        "a selector that matches the pods of job too",
        [deployment(), resource("kubernetes:core/v1:Pod", "job", { metadata: { ...metadata, labels }, spec: {} })],
      ],
    ],
  },
  {
    rule: "host-once",
    passes: [
      [route("a.test"), route("b.test", "other")],
      [route("a.test"), route("a.test", "other", "internal")],
      [route(UNKNOWN), route(UNKNOWN, "other")],
      [route(undefined), route(undefined, "other")],
    ],
    fails: [
      ["the host a.test, which shop has", [route("a.test"), route("a.test", "other")]],
      ["the host a.test, which shop has", [route("a.test"), virtualServer("a.test")]],
    ],
  },
  {
    rule: "single-writer",
    passes: [
      [withPod(volume), claim("ReadWriteMany")],
      [set({ template: template({ ...pod, ...volume }) }), claim("ReadWriteOnce")],
    ],
    fails: [["the ReadWriteOnce claim photos in a Deployment", [withPod(volume), claim("ReadWriteOnce")]]],
  },
  {
    rule: "autoscaler-owns-replicas",
    passes: [[deployment({ replicas: undefined }), autoscaler()]],
    fails: [["2 replicas and an autoscaler", [deployment(), autoscaler()]]],
  },
  {
    rule: "autoscaler-target",
    passes: [
      [deployment(), autoscaler()],
      [
        deployment(),
        {
          ...autoscaler({ scaleTargetRef: { kind: "Deployment", name: UNKNOWN } }),
          propertyDependencies: { spec: [deployment().urn] },
        },
      ],
    ],
    fails: [
      [
        "the target Deployment shpo, which is none of the stack's",
        [deployment(), autoscaler({ scaleTargetRef: { kind: "Deployment", name: "shpo" } })],
      ],
    ],
  },
  {
    rule: "replaceable",
    passes: [[withPod({ nodeSelector: { pool: "workers" } })]],
    fails: [
      ["a bare Pod", [resource("kubernetes:core/v1:Pod", "shop", { metadata, spec: pod })]],
      ["pods pinned to one machine by nodeName", [withPod({ nodeName: "node-1" })]],
      [
        "pods pinned to one machine by nodeSelector kubernetes.io/hostname",
        [withPod({ nodeSelector: { "kubernetes.io/hostname": "node-1" } })],
      ],
    ],
  },
  {
    rule: "jobs",
    passes: [[job({})], [cron({ concurrencyPolicy: "Forbid" })]],
    fails: [
      ["backoffLimit 0", [job({ backoffLimit: 0 })]],
      ["concurrencyPolicy Allow", [cron({})]],
    ],
  },
  {
    rule: "enough-machines",
    passes: [
      [cluster()],
      [
        cluster({ nodePool: { nodeCount: 1 } }),
        resource("digitalocean:index/kubernetesNodePool:KubernetesNodePool", "more", { autoScale: true, minNodes: 1 }),
      ],
      [],
    ],
    fails: [["1 machine", [cluster({ nodePool: { nodeCount: 1 } })]]],
  },
  {
    rule: "control-plane",
    passes: [[cluster({ ha: true }, true)], [cluster({ ha: false })]],
    fails: [["a protected cluster with ha false", [cluster({ ha: false }, true)]]],
  },
  {
    rule: "balancer-nodes",
    passes: [
      [cluster(), balancer("2")],
      [cluster({ ha: false }), balancer("1")],
    ],
    fails: [["a balancer of 1 node", [cluster(), balancer("1")]]],
  },
  {
    rule: "restricted",
    passes: [[deployment()], [secured({ capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] } })]],
    fails: [
      ["container shop privileged", [secured({ privileged: true })]],
      ["container shop able to escalate privileges", [secured({ allowPrivilegeEscalation: undefined })]],
      ["container shop with capabilities kept", [secured({ capabilities: { drop: ["NET_RAW"] } })]],
      ["container shop with SYS_ADMIN added", [secured({ capabilities: { drop: ["ALL"], add: ["SYS_ADMIN"] } })]],
      ["container shop as root", [secured({ runAsUser: 0 }), withPod({ securityContext: { seccompProfile } })]],
      ["container shop without a seccomp profile", [withPod({ securityContext: { runAsNonRoot: true } })]],
      ["container shop on a port of its machine", [withContainer({ ports: [{ containerPort: 80, hostPort: 80 }] })]],
      ["container shop in its machine's namespaces", [withPod({ hostNetwork: true }), withPod({ hostPID: true })]],
      ["container shop beside a path of its machine", [withPod({ volumes: [{ hostPath: { path: "/" } }] })]],
      ["container early privileged", [withPod({ initContainers: [{ ...privileged, name: "early" }] })]],
    ],
  },
  {
    rule: "read-only-root",
    passes: [[deployment()]],
    fails: [["container shop with a writable root filesystem", [secured({ readOnlyRootFilesystem: undefined })]]],
  },
  {
    rule: "exact-image",
    passes: ["acme/shop:v1.2.3-alpine", `acme/shop@sha256:${"a".repeat(64)}`, UNKNOWN].map((image) => [
      withContainer({ image }),
    ]),
    fails: [
      ["container shop of acme/shop", [withContainer({ image: "acme/shop" })]],
      ["container shop of acme/shop:latest", [withContainer({ image: "acme/shop:latest" })]],
      ["container shop of acme/shop:1.2", [withContainer({ image: "acme/shop:1.2" })]],
      ["container shop of no image", [withContainer({ image: undefined })]],
    ],
  },
  {
    rule: "own-image",
    passes: [[image, withContainer({ image: `acme/shop@sha256:${"a".repeat(64)}` })], [deployment()]],
    fails: [["container shop of acme/shop:1.2.3", [image, deployment()]]],
  },
  {
    rule: "no-token",
    passes: [[deployment()]],
    fails: [
      [
        "a token of the API server in every container",
        [withPod({ automountServiceAccountToken: undefined }), withPod({ automountServiceAccountToken: true })],
      ],
    ],
  },
  {
    rule: "own-account",
    passes: [[deployment()], [withPod({ serviceAccountName: UNKNOWN })]],
    fails: [
      [
        "the namespace's default service account",
        [withPod({ serviceAccountName: undefined }), withPod({ serviceAccountName: "default" })],
      ],
    ],
  },
  {
    rule: "namespace-level",
    passes: [[namespace("restricted")]],
    fails: [
      ["pod-security.kubernetes.io/enforce: baseline", [namespace("baseline")]],
      ["pod-security.kubernetes.io/enforce: not set", [namespace()]],
    ],
  },
  {
    rule: "default-deny",
    passes: [
      [namespace(), denial()],
      [namespace(), denial({}, { namespace: UNKNOWN }, { metadata: [namespace().urn] })],
    ],
    fails: [
      ["no NetworkPolicy that denies by default", [namespace()]],
      ["no NetworkPolicy that denies by default", [namespace(), denial({ policyTypes: ["Ingress"] })]],
      ["no NetworkPolicy that denies by default", [namespace(), denial({ ingress: [{}] })]],
      ["no NetworkPolicy that denies by default", [namespace(), denial({ podSelector: { matchLabels: labels } })]],
      ["no NetworkPolicy that denies by default", [namespace(), denial({}, { namespace: "another" })]],
    ],
  },
  {
    rule: "narrow-roles",
    passes: [[role("ClusterRole", { resources: ["pods"] })], [role("Role", { resources: ["secrets"] })]],
    fails: [
      ["a wildcard", [role("Role", { verbs: ["*"] }), role("ClusterRole", { resources: ["*"] })]],
      ["every Secret of the cluster", [role("ClusterRole", { resources: ["secrets"] })]],
    ],
  },
  {
    rule: "no-plain-secret",
    passes: [
      [withContainer({ env: [{ name: "TOKEN", valueFrom: { secretKeyRef: { name: "shop", key: "token" } } }] })],
      [withContainer({ env: [{ name: "CREDENTIALS", value: "/var/run/secrets/shop" }] })],
      [resource("kubernetes:core/v1:Secret", "shop", { metadata, data: { password: base64(KEY) } })],
      [resource("random:index/randomPassword:RandomPassword", "shop", { length: 32 })],
      [resource("tls:index/certRequest:CertRequest", "shop", { privateKeyPem: KEY })],
      [resource("docker:index/image:Image", "shop", { registry: { username: "acme", password: `dckr_pat_${LONG}` } })],
      [settings({ "shop.yml": `url: http://shop.test:80/a@b\n${"certificate ".repeat(9)}` })],
    ],
    fails: [
      [
        "a value for TOKEN at spec.template.spec.containers[0].env[0]",
        [withContainer({ env: [{ name: "TOKEN", value: "s3cret" }] })],
      ],
      ["a value for password at data.password", [settings({ password: "s3cret" })]],
      ["a private key at data.file", [settings({ file: `a\n${KEY}` })]],
      ["a private key at data.file", [settings({ file: base64(KEY) })]],
      ["an API token at data.file", [settings({ file: `dop_v1_${"0a".repeat(32)}` })]],
      ["a password in an address at data.file", [settings({ file: "https://acme:s3cret@shop.test" })]],
      [
        "a login at metadata.annotations.note",
        [resource("kubernetes:core/v1:ConfigMap", "shop", { metadata: { annotations: { note: `Basic ${LONG}` } } })],
      ],
      [
        "a value for NPM_TOKEN at build.args.NPM_TOKEN",
        [resource("docker:index/image:Image", "shop", { build: { args: { NPM_TOKEN: "s3cret" } } })],
      ],
    ],
  },
];

describe("policies", () => {
  it("must have a passing and a failing case for each rule", () => {
    assert.deepEqual(
      cases.map(({ rule }) => rule),
      rules.map(({ name }) => name),
    );
    for (const { passes, fails } of cases) assert.ok(passes.length > 0 && fails.length > 0);
    assert.deepEqual(violations(good), []);
  });

  for (const { rule, passes, fails } of cases) {
    const check = rules.find(({ name }) => name === rule)?.check;
    it(`must find what breaks "${rule}", and only that`, () => {
      assert.ok(check);
      for (const stack of passes)
        assert.deepEqual(
          check(stack).map(({ found }) => found),
          [],
        );
      for (const [found, stack] of fails) assert.deepEqual([...new Set(check(stack).map((one) => one.found))], [found]);
    });
  }

  it("must name the resource, what was found and what to set", () => {
    assert.deepEqual(violations([cluster(), deployment({ replicas: 1 }), service(), budget()]), [
      {
        rule: "replicas",
        urn: deployment().urn,
        message: "kubernetes:apps/v1:Deployment::shop: found 1 replica; set spec.replicas to 2 or more.",
      },
    ]);
  });

  it("must know an object's namespace in a first preview by where it came from", () => {
    const namespace = (name: string) => resource("kubernetes:core/v1:Namespace", name, { metadata: { name } });
    const within = (one: Resource, name: string): Resource => ({
      ...one,
      props: { ...one.props, metadata: { ...metadata, namespace: UNKNOWN } },
      propertyDependencies: { metadata: [namespace(name).urn] },
    });
    const stack = (name: string) => [
      namespace("shops"),
      namespace("others"),
      within(deployment(), "shops"),
      within(service(), "shops"),
      within(budget(), name),
    ];
    const options = { rules: availability };
    assert.deepEqual(violations(stack("shops"), options), []);
    assert.deepEqual(
      violations(stack("others"), options).map(({ rule }) => rule),
      ["disruption-budget", "budget-selects-one"],
    );
  });

  it("must except exactly what an exception names, and refuse one that excepts nothing any more", () => {
    const address = "kubernetes:apps/v1:Deployment::shop";
    const exception = {
      rule: "liveness-probe",
      resource: address,
      found: "container shop without livenessProbe",
      reason: "a test",
    };
    const stack = (one: Resource) => [cluster(), one, service(), budget()];
    assert.deepEqual(violations(stack(without("livenessProbe")), { exceptions: [exception] }), []);
    for (const other of [{ rule: "readiness-probe" }, { resource: `${address}2` }, { found: "container shop" }])
      assert.equal(
        violations(stack(without("livenessProbe")), { exceptions: [{ ...exception, ...other }] })[0]?.message.includes(
          "found container shop without",
        ),
        true,
      );
    assert.deepEqual(
      violations(stack(deployment()), { exceptions: [exception] }).map(({ message }) => message),
      [
        `${address}: the exception for "container shop without livenessProbe" excepts nothing; remove it from policy/exceptions.ts.`,
      ],
    );
    assert.deepEqual(violations([], { exceptions: [exception] }), []);
  });
});

describe("the stacks of this repository", () => {
  type Stack = Parameters<typeof captureStack>[0];
  async function graph(stack: Stack, preview: boolean, more: Record<string, unknown> = {}): Promise<Resource[]> {
    const captured = await captureStack(stack, more, { preview });
    return captured.map(({ inputs, ...one }) => ({ ...one, props: inputs }));
  }

  const exposed = (expose: string, more = {}) => ({
    "hobnob:ingress": { expose, ...more },
    "hobnob:dns": { zone: "none" },
  });
  const hostPorts = exposed("HostPort");
  const stacks: [title: string, stack: Stack, more?: Record<string, unknown>][] = [
    ["dev", "dev"],
    ["local", "local"],
    ["prod", "prod"],
    ["prod with everything", "prod", everything],
    ["dev on a port of each node", "dev", exposed("NodePort")],
    ["dev on the nodes' own ports", "dev", hostPorts],
    [
      "dev with all that routes may need",
      "dev",
      exposed("NodePort", { customResources: true, secretNamespaces: ["shop"] }),
    ],
  ];

  for (const [title, stack, more] of stacks)
    for (const preview of [true, false])
      it(`must satisfy every policy: ${title}, ${preview ? "first preview" : "update"}`, async () => {
        assert.deepEqual(violations(await graph(stack, preview, more)), []);
      });

  it("must need every exception that is written down", async () => {
    for (const [all, needed] of [
      [await graph("prod", false, everything), exceptions.filter(({ bySettings }) => !bySettings)],
      [await graph("dev", false, hostPorts), exceptions.filter(({ bySettings }) => bySettings)],
    ] as const)
      for (const exception of needed) {
        const others = exceptions.filter((one) => one !== exception);
        assert.deepEqual(
          violations(all, { exceptions: others }).map(({ rule }) => rule),
          [exception.rule],
          exception.resource,
        );
      }
  });
});
