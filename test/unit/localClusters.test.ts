import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { violations } from "../../policy/policies";
import { type Captured, find, ofType } from "./graph";
import { captureSettings, captureStack, settingsOf, withContext } from "./stacks";

const DEPLOYMENT = "kubernetes:apps/v1:Deployment";
const SERVICE = "kubernetes:core/v1:Service";
const DIGEST = `sha256:${"0".repeat(64)}`;

const DIRECTORY = "clusters";
const root = join(__dirname, "../..");

interface Expected {
  context: string;
  /** What the API's pods run, as the nodes know it. */
  image: string;
  /** What is pushed, and whether with a login; absent where nothing is. */
  pushed?: { imageName: string; login: boolean };
  pullSecret: boolean;
  /** Of the controller's Service; absent where it has none. */
  service?: "LoadBalancer" | "NodePort";
  hostPort?: number;
  replicas: number;
}

const expected: Record<string, Expected> = {
  kind: {
    context: "kind-hobnob",
    image: `localhost:5001/hobnob/backend@${DIGEST}`,
    pushed: { imageName: "localhost:5001/hobnob/backend:latest", login: false },
    pullSecret: false,
    hostPort: 80,
    replicas: 3,
  },
  k3d: {
    context: "k3d-hobnob",
    // Pushed to this machine's port, pulled by the registry's name among the nodes.
    image: `k3d-hobnob.localhost:5050/hobnob/backend@${DIGEST}`,
    pushed: { imageName: "localhost:5050/hobnob/backend:latest", login: false },
    pullSecret: false,
    service: "LoadBalancer",
    replicas: 2,
  },
  minikube: {
    context: "minikube",
    image: "hobnob/backend:1.0.0",
    pullSecret: false,
    hostPort: 80,
    replicas: 3,
  },
  kubeadm: {
    context: "kubernetes-admin@kubernetes",
    image: `docker.io/acme/hobnob-backend@${DIGEST}`,
    pushed: { imageName: "docker.io/acme/hobnob-backend:latest", login: true },
    pullSecret: true,
    service: "NodePort",
    replicas: 2,
  },
};

const fileOf = (cluster: string) => `${DIRECTORY}/Pulumi.${cluster}.yaml`;

const captured = (cluster: string, preview = false): Promise<Captured[]> =>
  withContext(expected[cluster]?.context ?? cluster, () => captureSettings(fileOf(cluster), {}, { preview }));

/** Type and name of each, without what a choice of exposure adds or leaves out. */
const resources = (graph: Captured[]) => graph.map(({ type, name }) => `${type}::${name}`).sort();

describe("local clusters", () => {
  for (const [cluster, { context, image, pushed, pullSecret, service, hostPort, replicas }] of Object.entries(expected))
    describe(cluster, () => {
      let graph: Captured[];
      before(async () => {
        graph = await captured(cluster);
      });

      it("must make nothing in a cloud: no cluster, zone, record nor certificate", () => {
        const clouds = graph.filter(({ type }) => !/^(kubernetes|hobnob|docker|random|pulumi):/.test(type));
        assert.deepEqual(clouds, []);
        assert.deepEqual(ofType(graph, "hobnob:platform:Zone"), []);
      });

      it("must have the same objects as dev, but for its exposure and its image", async () => {
        const dev = resources(await captureStack("dev")).filter(
          (one) => !/digitalocean:|:(DigitalOceanCluster|Zone|Records)::|CiliumNetworkPolicy/.test(one),
        );
        const own = resources(graph);
        const wanted = dev.filter(
          (one) =>
            !(one === `${SERVICE}::ingress` && service === undefined) &&
            !(one.startsWith("docker:") && pushed === undefined) &&
            !(/::registry$/.test(one) && !pullSecret),
        );
        const policies = ["elasticsearch-api-server", "ingress-api-server"].map(
          (name) => `kubernetes:networking.k8s.io/v1:NetworkPolicy::${name}`,
        );
        assert.deepEqual(own, [...wanted, "hobnob:platform:ExistingCluster::cluster", ...policies].sort());
      });

      it("must reach that cluster alone, by its own context", () => {
        const { inputs, secrets } = find(graph, "pulumi:providers:kubernetes");
        assert.deepEqual([inputs.clusterIdentifier, secrets], [context, ["kubeconfig"]]);
        assert.equal(JSON.parse(inputs.kubeconfig)["current-context"], context);
        const others = graph.filter(
          ({ type, provider }) =>
            type.startsWith("kubernetes:") && provider !== find(graph, "pulumi:providers:kubernetes").urn,
        );
        assert.deepEqual(others, []);
      });

      it("must run the image by the name that its nodes know", () => {
        const [container] = find(graph, DEPLOYMENT, "backend").inputs.spec.template.spec.containers;
        assert.equal(container.image, image);
        assert.equal(container.imagePullPolicy, undefined);
      });

      it(pushed ? "must push it to where this machine reaches the registry" : "must push nothing", () => {
        const images = ofType(graph, "docker:index/image:Image").map(({ inputs: { imageName, registry } }) => ({
          imageName,
          login: registry.username !== undefined || registry.password !== undefined,
        }));
        assert.deepEqual(images, pushed ? [pushed] : []);
      });

      it(`must ${pullSecret ? "" : "not "}have its nodes pull with a secret`, () => {
        const { imagePullSecrets } = find(graph, DEPLOYMENT, "backend").inputs.spec.template.spec;
        assert.equal(imagePullSecrets !== undefined, pullSecret);
      });

      it(`must let requests in by ${service ?? "port 80 of its nodes"}, and by nothing else`, () => {
        const { inputs } = find(graph, DEPLOYMENT, "ingress");
        const [{ ports }] = inputs.spec.template.spec.containers;
        assert.equal(ports[0].hostPort, hostPort);
        assert.equal(inputs.spec.replicas, replicas);
        const exposed = ofType(graph, SERVICE).filter(({ inputs: { spec } }) => spec.type && spec.type !== "ClusterIP");
        assert.deepEqual(
          exposed.map((one) => [
            one.name,
            one.inputs.spec.type,
            one.inputs.spec.ports.map((p: { port: number }) => p.port),
          ]),
          service ? [["ingress", service, [80]]] : [],
        );
      });

      it("must keep Elasticsearch's disks by a class of its own on the cluster's provisioner", () => {
        const storage = find(graph, "kubernetes:storage.k8s.io/v1:StorageClass").inputs;
        const { provisioner, reclaimPolicy, volumeBindingMode, parameters } = storage;
        assert.deepEqual(
          [storage.metadata.name, provisioner, reclaimPolicy, volumeBindingMode, parameters],
          ["hobnob-block-storage", "rancher.io/local-path", "Retain", "WaitForFirstConsumer", undefined],
        );
      });

      it("must have its pods on different nodes, and as many nodes as that needs", () => {
        const { nodes } = settingsOf(fileOf(cluster))["hobnob:cluster"] as { nodes: number };
        const elasticsearch = find(graph, "kubernetes:apps/v1:StatefulSet").inputs.spec;
        const terms = elasticsearch.template.spec.affinity.podAntiAffinity;
        assert.equal(terms.requiredDuringSchedulingIgnoredDuringExecution.length, 1);
        assert.ok(elasticsearch.replicas <= nodes && replicas <= nodes);
      });

      it("must not set anything on the machine that its nodes share", () => {
        assert.deepEqual(ofType(graph, "kubernetes:apps/v1:DaemonSet"), []);
      });

      for (const preview of [true, false])
        it(`must satisfy every policy, ${preview ? "first preview" : "update"}`, async () => {
          const all = await captured(cluster, preview);
          const found = violations(all.map(({ inputs, ...one }) => ({ ...one, props: inputs })));
          assert.deepEqual(found, []);
        });
    });

  it("must each stand in the documentation's table, with its file and what that says", () => {
    const page = readFileSync(join(root, "docs/local-clusters.md"), "utf8");
    const rows = page.split("\n").filter((line) => line.startsWith("|"));
    const column = (row: string, cluster: string) => {
      const header = rows[0]?.split("|").map((cell) => cell.trim()) ?? [];
      return rows
        .find((line) => line.startsWith(`| ${row} |`))
        ?.split("|")
        [header.indexOf(cluster)]?.trim();
    };
    for (const cluster of Object.keys(expected)) {
      const settings = settingsOf(fileOf(cluster)) as Record<string, Record<string, unknown>>;
      const value = (section: string, key: string) => settings[`hobnob:${section}`]?.[key];
      const told: [row: string, value: unknown][] = [
        ["settings", fileOf(cluster)],
        ["context", value("cluster", "context")],
        ["nodes that take pods", value("cluster", "nodes")],
        ["`cluster.storageProvisioner`", value("cluster", "storageProvisioner")],
        ["`ingress.expose`", value("ingress", "expose")],
        ["`ingress.replicas`", value("ingress", "replicas")],
        ["`dns.zone`", value("dns", "zone")],
        ["pushed to", value("registry", "server") ?? (value("registry", "repository") ? "docker.io" : "nowhere")],
      ];
      for (const [row, told_] of told)
        assert.ok(column(row, cluster)?.includes(String(told_)), `${cluster}, row ${row}: ${column(row, cluster)}`);
    }
  });

  it("must each be tested that has a file", () => {
    const files = readdirSync(join(root, DIRECTORY)).map((file) => file.split(".")[1]);
    assert.deepEqual(files.filter((name) => name !== "aws").sort(), Object.keys(expected).sort());
  });
});
