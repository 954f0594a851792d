import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { Api } from "../../components/api";
import { Elasticsearch, type ElasticsearchArgs } from "../../components/elasticsearch";
import { type Captured, capture, find, ofType, unwrap } from "./graph";

const SECRET = "kubernetes:core/v1:Secret";
const STATEFUL_SET = "kubernetes:apps/v1:StatefulSet";
const PASSWORD = "random:index/randomPassword:RandomPassword";
const CERTIFICATE = "tls:index/locallySignedCert:LocallySignedCert";
const AUTHORITY = "tls:index/selfSignedCert:SelfSignedCert";
const CLIENTS = ["backend", "probe", "verify", "snapshots", "operator"];

/** Elasticsearch and the API on it, as index.ts wires them. */
const graphOf = (changes: Partial<ElasticsearchArgs> = {}, outputs?: (component: Elasticsearch) => Promise<void>) =>
  capture(async () => {
    const component = new Elasticsearch("elasticsearch", {
      ...{ namespace: "hobnob", storageClassName: "standard", replicas: 3, memory: "1Gi", cpu: "1", diskSize: "1Gi" },
      ...{ mmap: false, spread: "hard" as const, clients: [], apiServer: "cilium" as const, workers: [] },
      security: true,
      ...changes,
    });
    new Api("backend", {
      ...{
        namespace: "hobnob",
        image: `acme/backend@sha256:${"0".repeat(64)}`,
        publicUrl: "http://api.test",
        replicas: 3,
      },
      ...{
        memory: "64Mi",
        cpu: "10m",
        requestsPerSecond: 100,
        logLevel: "info",
        spread: "hard",
        ingressClass: "nginx",
        workers: [],
      },
      elasticsearchHost: component.host,
      elasticsearchPort: component.port,
      elasticsearchSecretName: component.security?.backendSecretName,
    });
    await outputs?.(component);
  });

const secretOf = (graph: Captured[], part: string) => find(graph, SECRET, `elasticsearch-security-${part}`);
const dataOf = (graph: Captured[], part: string): Record<string, string> =>
  Object.fromEntries(
    Object.entries<string>(secretOf(graph, part).inputs.data).map(([key, value]) => [
      key,
      Buffer.from(value, "base64").toString(),
    ]),
  );
// biome-ignore lint/suspicious/noExplicitAny: a pod has as many shapes as Kubernetes has kinds
const podOf = (graph: Captured[]): any => find(graph, STATEFUL_SET).inputs.spec.template.spec;
const byUrn = (graph: Captured[]) => new Map(graph.map((resource) => [resource.urn, resource.inputs]));
/** Names of what a change of the arguments makes, changes and removes. */
function changesBetween(before: Captured[], after: Captured[]) {
  const [old, now] = [byUrn(before), byUrn(after)];
  const name = (urn: string) => urn.split("::").slice(-1)[0];
  const differs = (urn: string) => JSON.stringify(old.get(urn)) !== JSON.stringify(now.get(urn));
  return {
    made: [...now.keys()].filter((urn) => !old.has(urn)).map(name),
    changed: [...now.keys()]
      .filter((urn) => old.has(urn) && differs(urn))
      .map(name)
      .sort(),
    removed: [...old.keys()].filter((urn) => !now.has(urn)).map(name),
  };
}

describe("Elasticsearch's security", () => {
  let graph: Captured[];

  before(async () => {
    graph = await graphOf();
  });

  it("must make nothing while it is off", async () => {
    const off = await graphOf({ security: false });
    assert.deepEqual([...ofType(off, SECRET), ...ofType(off, PASSWORD), ...ofType(off, CERTIFICATE)], []);
    for (const type of [STATEFUL_SET, "kubernetes:apps/v1:Deployment"])
      assert.doesNotMatch(JSON.stringify(find(off, type).inputs), /SECURITY|ELASTICSEARCH_CREDENTIALS|security-/);
    await graphOf({ security: false }, async ({ scheme, security }) => {
      assert.deepEqual([scheme, security], ["http", undefined]);
    });
  });

  it("must give the nodes TLS in both layers, and no user but those of the files", () => {
    const files = { key: "security/tls.key", certificate: "security/tls.crt" };
    const settings = parse(find(graph, "kubernetes:core/v1:ConfigMap").inputs.data["elasticsearch.yml"]);
    const security = Object.entries(settings).filter(([key]) => key.startsWith("xpack."));
    assert.deepEqual(Object.fromEntries(security), {
      "xpack.security.enabled": true,
      "xpack.security.authc.realms.file.file1.order": 0,
      "xpack.security.authc.reserved_realm.enabled": false,
      "xpack.security.transport.ssl.enabled": true,
      "xpack.security.transport.ssl.key": files.key,
      "xpack.security.transport.ssl.certificate": files.certificate,
      "xpack.security.transport.ssl.certificate_authorities": ["security/ca.crt"],
      "xpack.security.transport.ssl.verification_mode": "certificate",
      "xpack.security.http.ssl.enabled": true,
      "xpack.security.http.ssl.key": files.key,
      "xpack.security.http.ssl.certificate": files.certificate,
    });
  });

  it("must mount the nodes' files below the configuration, whole, so that they change while a node runs", () => {
    const { volumes, containers, initContainers } = podOf(graph);
    assert.deepEqual(
      volumes.find(({ name }: { name: string }) => name === "security"),
      { name: "security", secret: { secretName: "elasticsearch-security-nodes-0a1b2c3d", defaultMode: 0o440 } },
    );
    const mounts = containers[0].volumeMounts.filter(({ name }: { name: string }) => name === "security");
    assert.deepEqual(mounts, [
      { name: "security", mountPath: "/usr/share/elasticsearch/config/security", readOnly: true },
    ]);
    // The init container makes links and needs none of the secrets.
    for (const { volumeMounts } of initContainers)
      assert.ok(volumeMounts.every(({ name }: { name: string }) => name !== "security"));
    const env = (one: { env: { name: string; value: string }[] }) => one.env.find(({ name }) => name === "SECURITY");
    assert.equal(env(containers[0])?.value, "/usr/share/elasticsearch/config/security");
    assert.equal(env(initContainers.at(-1))?.value, "security");
  });

  it("must give each client a user with a password of its own, and the least that it needs", () => {
    const { users, users_roles, "roles.yml": roles } = dataOf(graph, "nodes");
    assert.deepEqual(
      ofType(graph, PASSWORD).map(({ name, inputs }) => [name, inputs]),
      CLIENTS.map((client) => [`elasticsearch-security-${client}-1`, { length: 32, special: false }]),
    );
    assert.equal(
      users,
      CLIENTS.map((client) => `${client}-1:$2a$10$elasticsearch-security-${client}-1-hash\n`).join(""),
    );
    assert.equal(
      users_roles,
      "backend:backend-1\nprobe:probe-1\nverify:verify-1\nsnapshots:snapshots-1\nsuperuser:operator-1\n",
    );
    const indexPrivileges = ["create_index", "view_index_metadata", "read", "write"];
    const { backend, probe, verify, snapshots, ...others } = parse(roles ?? "");
    assert.deepEqual(others, {});
    assert.deepEqual(backend, {
      cluster: ["cluster:monitor/health"],
      indices: [
        {
          names: ["users", "users-*"],
          privileges: ["create_index", "indices:admin/aliases", "view_index_metadata", "read", "write"],
        },
      ],
    });
    assert.deepEqual(probe, {
      cluster: ["monitor"],
      indices: [{ names: ["*"], privileges: ["view_index_metadata", "indices:admin/settings/update"] }],
    });
    assert.deepEqual(verify.cluster, ["monitor"]);
    assert.deepEqual(verify.indices, [
      { names: ["hobnob-verify-*"], privileges: ["create_index", "delete_index", ...indexPrivileges.slice(1)] },
    ]);
    // A repository can be written to, but no document read: that is the operator's.
    assert.deepEqual(snapshots.indices, [{ names: [".slm-history-*"], privileges: ["read"] }]);
    for (const role of [backend, probe, verify, snapshots]) {
      assert.doesNotMatch(JSON.stringify(role), /"(all|manage|manage_security)"/);
    }
  });

  it("must give clients what they know the nodes by, in Secrets that are secret as a whole", () => {
    for (const client of ["backend", "verify", "snapshots", "operator"]) {
      assert.deepEqual(dataOf(graph, client), {
        username: `${client}-1`,
        password: `elasticsearch-security-${client}-1-result`,
        "ca.crt": "elasticsearch-security-ca-certificate",
      });
    }
    for (const secret of ofType(graph, SECRET)) {
      assert.deepEqual(secret.secrets, ["data"], secret.name);
      assert.equal(secret.inputs.metadata.namespace, "hobnob");
    }
    assert.equal(ofType(graph, SECRET).length, 5);
    const plain = graph.filter(({ type }) => type !== SECRET).map(({ inputs, secrets }) => ({ inputs, secrets }));
    for (const { inputs, secrets } of plain) {
      const open = Object.entries(inputs).filter(([key]) => !secrets.includes(key));
      assert.doesNotMatch(JSON.stringify(open), /elasticsearch-security[^"]*-(result|hash|key)/);
    }
  });

  it("must roll the API to another Secret, and change the others in place under the names that people know", () => {
    const names = Object.fromEntries(
      ofType(graph, SECRET).map(({ name, inputs }) => [
        name.replace("elasticsearch-security-", ""),
        [inputs.metadata.name, inputs.immutable],
      ]),
    );
    assert.deepEqual(names, {
      nodes: [undefined, undefined],
      backend: [undefined, true],
      verify: ["elasticsearch-verify", undefined],
      snapshots: ["elasticsearch-snapshots", undefined],
      operator: ["elasticsearch-operator", undefined],
    });
    const { spec } = find(graph, "kubernetes:apps/v1:Deployment").inputs.spec.template;
    const secretName = "elasticsearch-security-backend-0a1b2c3d";
    assert.deepEqual(spec.volumes, [{ name: "elasticsearch", secret: { secretName, defaultMode: 0o440 } }]);
    assert.equal(spec.securityContext.fsGroup, 10001);
    const [{ volumeMounts, env }] = spec.containers;
    const mountPath = "/var/run/secrets/elasticsearch";
    assert.deepEqual(volumeMounts, [{ name: "elasticsearch", mountPath, readOnly: true }]);
    const values = Object.fromEntries(env.map(({ name, value }: { name: string; value: string }) => [name, value]));
    assert.equal(values.ELASTICSEARCH_CREDENTIALS, mountPath);
    assert.equal(values.ELASTICSEARCH_HOSTNAME, "https://elasticsearch.hobnob.svc");
  });

  it("must name in its certificate what nodes and clients are found by, with years in which any update renews it", () => {
    assert.deepEqual(find(graph, "tls:index/certRequest:CertRequest").inputs, {
      privateKeyPem: "elasticsearch-security-key",
      subject: { organization: "hobnob", commonName: "elasticsearch" },
      dnsNames: [
        ...["elasticsearch", "elasticsearch.hobnob", "elasticsearch.hobnob.svc", "*.elasticsearch.hobnob.svc"],
        "localhost",
      ],
      ipAddresses: ["127.0.0.1"],
    });
    const { validityPeriodHours, earlyRenewalHours, allowedUses, caPrivateKeyPem } = find(graph, CERTIFICATE).inputs;
    assert.deepEqual(allowedUses, ["digital_signature", "server_auth", "client_auth"]);
    assert.equal(caPrivateKeyPem, "elasticsearch-security-ca-key");
    assert.equal(validityPeriodHours, 2 * 8760);
    assert.equal(earlyRenewalHours, 8760);
    const authority = find(graph, AUTHORITY).inputs;
    assert.equal(authority.isCaCertificate, true);
    // One that renews its authority renews the nodes' certificate with it, before either ends.
    assert.ok(authority.earlyRenewalHours > validityPeriodHours);
    assert.notDeepEqual(authority.subject, find(graph, "tls:index/certRequest:CertRequest").inputs.subject);
  });

  it("must give its address and authority to other stacks, in plain", async () => {
    await graphOf({}, async ({ scheme, security }) => {
      assert.equal(scheme, "https");
      assert.ok(security);
      const ca = await unwrap(security.ca);
      assert.deepEqual(ca, { value: "elasticsearch-security-ca-certificate", secret: false, known: true });
    });
  });

  it("must not replace the StatefulSet, or change more of it than the pods, when it is switched on", async () => {
    const [off, on] = [await graphOf({ security: false }), graph].map((each) => find(each, STATEFUL_SET));
    const { template: offTemplate, ...offRest } = off?.inputs.spec ?? {};
    const { template: onTemplate, ...onRest } = on?.inputs.spec ?? {};
    assert.deepEqual(onRest, offRest);
    assert.deepEqual(onTemplate.metadata, offTemplate.metadata);
    assert.deepEqual(onTemplate.spec.containers[0].resources, offTemplate.spec.containers[0].resources);
    assert.equal(on?.urn, off?.urn);
  });

  describe("when passwords are rotated", () => {
    const generation = (number: number) => CLIENTS.map((client) => `elasticsearch-security-${client}-${number}`);
    const part = (...names: string[]) => names.map((name) => `elasticsearch-security-${name}`);
    let added: Captured[];
    let given: Captured[];
    let removed: Captured[];

    before(async () => {
      added = await graphOf({ passwordGenerations: [1, 2] });
      given = await graphOf({ passwordGenerations: [2, 1] });
      removed = await graphOf({ passwordGenerations: [2] });
    });

    it("must first make the nodes accept the new ones, and give them to nobody but who looks whether they do", () => {
      assert.deepEqual(changesBetween(graph, added), {
        made: generation(2),
        changed: part("nodes", "verify"),
        removed: [],
      });
      assert.equal(dataOf(added, "verify").username, "verify-2");
      const { users = "", users_roles = "" } = dataOf(added, "nodes");
      for (const client of CLIENTS)
        for (const number of [1, 2]) assert.match(users, new RegExp(`^${client}-${number}:\\$2a\\$10\\$`, "m"));
      assert.match(users_roles, /^backend:backend-1,backend-2$/m);
      assert.match(users_roles, /^superuser:operator-1,operator-2$/m);
    });

    it("must then give them to the clients, while the nodes still accept the old ones", () => {
      assert.deepEqual(changesBetween(added, given), {
        made: [],
        changed: part("backend", "nodes", "operator", "snapshots"),
        removed: [],
      });
      assert.equal(dataOf(given, "backend").username, "backend-2");
      assert.match(String(dataOf(given, "nodes").users), /^backend-1:/m);
    });

    it("must then remove the old ones, and roll nothing for that", () => {
      assert.deepEqual(changesBetween(given, removed), {
        made: [],
        changed: part("nodes"),
        removed: generation(1),
      });
      assert.doesNotMatch(JSON.stringify(dataOf(removed, "nodes")), /-1/);
    });

    it("must never restart a node, and let its probe use only what the node has accepted before", () => {
      for (const each of [added, given, removed])
        assert.deepEqual(find(each, STATEFUL_SET).inputs, find(graph, STATEFUL_SET).inputs);
      const probes = [graph, added, given, removed].map((each) => dataOf(each, "nodes")["probe.curl"]);
      const curl = (number: number) => `user = "probe-${number}:elasticsearch-security-probe-${number}-result"\n`;
      assert.deepEqual(probes, [curl(1), curl(1), curl(2), curl(2)]);
    });
  });

  it("must be the same resources in a preview as in an update", async () => {
    const args = { namespace: pulumi.output("hobnob") };
    const names = (each: Captured[]) => each.map(({ urn }) => urn).sort();
    const preview = await capture(
      () =>
        new Elasticsearch("elasticsearch", {
          ...{ storageClassName: "standard", replicas: 3, memory: "1Gi", cpu: "1", diskSize: "1Gi", mmap: false },
          ...{ spread: "hard", clients: [], apiServer: "cilium", workers: [], security: true, ...args },
        }),
      { preview: true },
    );
    assert.deepEqual(names(preview), names(graph.filter(({ urn }) => !urn.includes("Api"))));
  });
});
