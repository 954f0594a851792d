import assert from "node:assert/strict";
import { violations } from "hobnob-platform/policy";
import type { OutputName } from "../../../platform";
import { type Captured, type CaptureOptions, capture, find, ofType } from "../../../test/unit/graph";
import { platformOutputs, platformStack } from "../../../test/unit/platformOutputs";

const HOST = "dashboard.example.com";
const USERS = "ada:$2y$05$abcdefghijklmnopqrstuv";
const SECRETS = ["dashboard:users", "dashboard:oidcClientSecret"];
const withUsers = { "dashboard:host": HOST, "dashboard:users": USERS };
const withOidc = {
  "dashboard:host": HOST,
  "dashboard:oidcIssuerUrl": "https://login.example.com",
  "dashboard:oidcClientId": "dashboard",
  "dashboard:oidcClientSecret": "client secret",
};
/** A platform whose certificate covers the host, and whose controller reads the Secret with the users. */
const ready = { coveredHosts: ["api.example.com", HOST], ingressSecretNamespaces: ["dashboard"] };

interface Setup {
  config?: Record<string, string>;
  platform?: { [Name in OutputName]?: unknown };
}

function graphOf({ config = {}, platform = {} }: Setup = {}, options: CaptureOptions = {}): Promise<Captured[]> {
  return capture(() => (require("../index") as () => Promise<unknown>)(), {
    project: "dashboard",
    config: { "dashboard:platform": "acme/hobnob/prod", ...config },
    secretKeys: SECRETS,
    mocks: { resource: platformStack(platform) },
    ...options,
  });
}

async function outputs({ config = {}, platform = {} }: Setup = {}): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  await capture(
    async () => {
      const all = await (require("../index") as () => Promise<Record<string, unknown>>)();
      for (const [name, value] of Object.entries(all)) {
        const output = value as { apply?: (use: (value: unknown) => void) => void };
        if (output.apply)
          output.apply((known) => {
            found[name] = known;
          });
        else found[name] = value;
      }
    },
    {
      project: "dashboard",
      config: { "dashboard:platform": "acme/hobnob/prod", ...config },
      secretKeys: SECRETS,
      mocks: { resource: platformStack(platform) },
    },
  );
  return found;
}

const refusal = (setup: Setup, options: CaptureOptions = {}) =>
  graphOf(setup, options).then(
    () => assert.fail("it was taken"),
    (error: Error) => error.message,
  );

const NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const BINDING = "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding";
const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";

describe("dashboard's stack", () => {
  it("must never be public by default: no host, no way in for the controller, no port of a machine, no record", async () => {
    const graph = await graphOf({ platform: ready });
    for (const kind of [":Ingress", ":VirtualServer", "DnsRecord", "LoadBalancer"])
      assert.deepEqual(
        graph.filter(({ type, inputs }) => `${type} ${inputs.kind}`.includes(kind)),
        [],
        kind,
      );
    const { spec } = find(graph, "kubernetes:core/v1:Service").inputs;
    assert.equal(spec.type, undefined);
    assert.deepEqual(find(graph, NETWORK_POLICY, "dashboard").inputs.spec.ingress ?? [], []);
    const { template } = find(graph, DEPLOYMENT).inputs.spec;
    assert.deepEqual(template.metadata.labels["hobnob/ingress-class"], undefined);
    assert.ok(template.spec.containers[0].ports.every((port: object) => !("hostPort" in port)));
  });

  it("must refuse a host without a guard, and say which there are", async () => {
    const message = await refusal({ config: { "dashboard:host": HOST }, platform: ready });
    assert.match(message, /dashboard:host\n {4}given: {3}"dashboard\.example\.com"/);
    assert.match(
      message,
      /allowed: none, or with it who may pass: users, or oidcIssuerUrl, oidcClientId and oidcClient/,
    );
    assert.match(message, /pulumi config rm 'dashboard:host'/);
  });

  it("must refuse a host over plain HTTP, and one that the certificate does not cover", async () => {
    const config = withUsers;
    assert.match(await refusal({ config, platform: { ...ready, coveredHosts: [] } }), /unencrypted.*has no TLS/);
    const message = await refusal({ config, platform: { ...ready, coveredHosts: ["api.example.com"] } });
    assert.match(message, /dashboard\.example\.com/);
    assert.match(message, /certificate/);
  });

  it("must refuse half a guard, two of them, and one without a host", async () => {
    const { "dashboard:oidcClientSecret": _, ...half } = withOidc;
    assert.match(
      await refusal({ config: half, platform: ready }),
      /dashboard:oidcClientSecret\n {4}given: {3}nothing\n {4}allowed: all of an identity provider's three/,
    );
    assert.match(
      await refusal({ config: { ...withOidc, ...withUsers }, platform: ready }),
      /dashboard:users\n {4}given: {3}a secret\n {4}allowed: not with an identity provider's/,
    );
    assert.match(
      await refusal({ config: { "dashboard:users": USERS }, platform: ready }),
      /dashboard:users\n {4}given: {3}a secret\n {4}allowed: with host alone/,
    );
  });

  it("must refuse passwords in plain text, and users whom NGINX would not know, and print neither", async () => {
    const plain = await refusal({ config: withUsers, platform: ready }, { secretKeys: [] });
    assert.match(plain, /1 violation:\n\n {2}dashboard:users\n {4}given: {3}a value in plain text/);
    assert.match(plain, /pulumi config set --secret dashboard:users/);
    const odd = await refusal({ config: { ...withUsers, "dashboard:users": "ada:secret" }, platform: ready });
    assert.match(odd, /dashboard:users is not what `htpasswd` writes/);
    for (const message of [plain, odd]) assert.ok(!message.includes("secret\n") && !message.includes("$2y$"), message);
  });

  it("must let users pass by name and password, known from a Secret", async () => {
    const graph = await graphOf({ config: withUsers, platform: ready });
    const { type, stringData } = find(graph, "kubernetes:core/v1:Secret").inputs;
    assert.deepEqual([type, stringData], ["nginx.org/htpasswd", { htpasswd: USERS }]);
    const { metadata, spec } = find(graph, INGRESS).inputs;
    assert.match(metadata.annotations["nginx.org/basic-auth-secret"], /^users/);
    assert.deepEqual(
      spec.rules.map(({ host }: { host: string }) => host),
      [HOST],
    );
    const records = ofType(graph, "digitalocean:index/dnsRecord:DnsRecord").map(({ inputs }) => inputs.name);
    assert.deepEqual([...new Set(records)], ["dashboard"]);
    assert.equal(find(graph, DEPLOYMENT).inputs.spec.template.metadata.labels["hobnob/ingress-class"], "nginx");
  });

  it("must let the identity provider say who passes, with its secret in a Secret", async () => {
    const graph = await graphOf({ config: withOidc, platform: ready });
    const { env } = find(graph, DEPLOYMENT).inputs.spec.template.spec.containers[0];
    const plain = env.filter(({ value }: { value?: string }) => value !== undefined);
    assert.deepEqual(plain, [
      { name: "HEADLAMP_CONFIG_OIDC_IDP_ISSUER_URL", value: "https://login.example.com" },
      { name: "HEADLAMP_CONFIG_OIDC_CLIENT_ID", value: "dashboard" },
      { name: "HEADLAMP_CONFIG_OIDC_CALLBACK_URL", value: `https://${HOST}/oidc-callback` },
    ]);
    const holders = graph.filter(({ inputs }) => JSON.stringify(inputs).includes("client secret"));
    assert.deepEqual(
      holders.map(({ type }) => type),
      ["kubernetes:core/v1:Secret"],
    );
    const { annotations } = find(graph, INGRESS).inputs.metadata;
    assert.ok("nginx.org/sticky-cookie-services" in annotations);
    assert.ok(!("nginx.org/basic-auth-secret" in annotations));
  });

  it("must pass the WebSockets by which Headlamp shows logs, terminals and changes, whatever the guard", async () => {
    for (const config of [withUsers, withOidc]) {
      const { annotations } = find(await graphOf({ config, platform: ready }), INGRESS).inputs.metadata;
      assert.equal(annotations["nginx.org/websocket-services"], "headlamp");
    }
  });

  it("must give who looks the right to read, and to no Secret; every right only where that was asked for", async () => {
    const graph = await graphOf();
    const bound = (all: Captured[]) =>
      ofType(all, BINDING)
        .map(({ inputs }) => `${inputs.subjects[0].name}: ${inputs.roleRef.name.replace(/-[0-9a-f]{8}$/, "")}`)
        .sort();
    assert.deepEqual(bound(graph), ["viewer: view", "viewer: viewer-machines"]);
    const { rules } = find(graph, "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole").inputs;
    for (const { resources, verbs } of rules) {
      assert.ok(!resources.includes("secrets"));
      assert.ok(verbs.every((verb: string) => ["get", "list", "watch"].includes(verb)));
    }
    const admin = await graphOf({ config: { "dashboard:admin": "true" } });
    assert.deepEqual(bound(admin), ["admin: cluster-admin", ...bound(graph)]);
  });

  it("must give the pods an identity without any right, so that nobody looks with theirs", async () => {
    const graph = await graphOf({ config: { "dashboard:admin": "true" } });
    const { serviceAccountName } = find(graph, DEPLOYMENT).inputs.spec.template.spec;
    const subjects = ofType(graph, BINDING).flatMap(({ inputs }) => inputs.subjects);
    assert.ok(subjects.every(({ name }: { name: string }) => name !== serviceAccountName));
    const { args } = find(graph, DEPLOYMENT).inputs.spec.template.spec.containers[0];
    assert.ok(!args.some((arg: string) => arg.includes("unsafe")));
  });

  it("must let the pods reach the API server and DNS, in the way that the cluster's network has, and the world for OIDC alone", async () => {
    const egress = (graph: Captured[]) =>
      ofType(graph, NETWORK_POLICY).flatMap(({ inputs }) => inputs.spec.egress ?? []);
    const ports = (graph: Captured[]) =>
      egress(graph).flatMap((rule) => rule.ports.map(({ port }: { port: number }) => port));
    const cilium = await graphOf();
    assert.deepEqual(ports(cilium), [53, 53]);
    const own = find(cilium, "kubernetes:cilium.io/v2:CiliumNetworkPolicy").inputs.spec;
    assert.deepEqual(own.egress, [{ toEntities: ["kube-apiserver"] }]);
    assert.deepEqual(own.endpointSelector.matchLabels, { "app.kubernetes.io/name": "headlamp" });
    assert.deepEqual(
      ports(await graphOf({ platform: { apiServer: "ports" } })).sort(),
      [16443, 443, 53, 53, 6443, 8443],
    );
    assert.ok(ports(await graphOf({ config: withOidc, platform: ready })).includes(443));
  });

  it("must run the image as its own user, by its exact version, with nothing to write to but a small /tmp", async () => {
    const { spec } = find(await graphOf(), DEPLOYMENT).inputs.spec.template;
    const [container] = spec.containers;
    assert.match(container.image, /^ghcr\.io\/headlamp-k8s\/headlamp:v\d+\.\d+\.\d+$/);
    assert.equal(spec.securityContext.runAsUser, 100);
    assert.equal(container.securityContext.readOnlyRootFilesystem, true);
    const writable = spec.volumes.filter(({ emptyDir }: { emptyDir?: object }) => emptyDir);
    assert.deepEqual(
      writable.map(({ emptyDir }: { emptyDir: object }) => emptyDir),
      [{ sizeLimit: "64Mi" }],
    );
  });

  it("must break no policy, in preview as in update, closed, open and with an administrator", async () => {
    const setups = [
      {},
      { config: withUsers, platform: ready },
      { config: withOidc, platform: ready },
      { config: { "dashboard:admin": "true" }, platform: { apiServer: "ports" } },
    ];
    for (const setup of setups)
      for (const preview of [true, false]) {
        const graph = await graphOf(setup, { preview });
        assert.deepEqual(violations(graph.map(({ inputs, ...rest }) => ({ ...rest, props: inputs }))), []);
      }
  });

  it("must say how to reach it and how to sign in", async () => {
    assert.deepEqual(await outputs(), {
      url: "http://localhost:8000, after the command of portForward",
      portForward: "kubectl --namespace dashboard port-forward service/headlamp 8000:80",
      token: "kubectl --namespace dashboard create token viewer",
      namespace: "dashboard",
      serviceName: "headlamp",
    });
    const open = await outputs({ config: { ...withUsers, "dashboard:admin": "true" }, platform: ready });
    assert.deepEqual(
      [open.url, open.adminToken],
      [`https://${HOST}`, "kubectl --namespace dashboard create token admin"],
    );
  });

  const used: OutputName[] = [
    "apiServer",
    "clusterId",
    "coveredHosts",
    "domain",
    "kubeconfig",
    "nodeSelector",
    "spread",
  ];
  const usedOpen: OutputName[] = [
    ...(["ingressAddress", "ingressClass", "ingressCustomResources", "ingressExpose"] as const),
    ...(["ingressHostname", "ingressIpv6", "ingressSecretNamespaces", "zone"] as const),
  ];
  for (const name of [...used, ...usedOpen])
    it(`must say so where the platform's contract lacks ${name}`, async () => {
      const config = usedOpen.includes(name) ? withUsers : {};
      const message = await refusal({ config, platform: { ...ready, [name]: undefined } });
      assert.match(message, new RegExp(`\\n {2}${name}\\n`));
    });

  it("must use of the contract what these tests take away, and no more", async () => {
    const without = (names: OutputName[]) =>
      Object.fromEntries(
        Object.keys(platformOutputs)
          .filter((name) => !names.some((one) => one === name))
          .map((name) => [name, undefined]),
      );
    await graphOf({ platform: without(used) });
    await graphOf({ config: withUsers, platform: { ...without([...used, ...usedOpen]), ...ready } });
  });
});
