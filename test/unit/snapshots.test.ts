import assert from "node:assert/strict";
import { parse } from "yaml";
import { Elasticsearch } from "../../components/elasticsearch";
import { Snapshots, type SnapshotsArgs } from "../../components/snapshots";
import { type Captured, capture, find, waitsFor } from "./graph";

const graphOf = (changes: Partial<SnapshotsArgs> = {}) =>
  capture(() => {
    const { store } = new Snapshots("snapshots", {
      namespace: "hobnob",
      bucket: "acme-snapshots",
      region: "ams3",
      schedule: "0 2 * * *",
      keep: 14,
      accessKey: "access",
      secretKey: "hidden",
      ...changes,
    });
    new Elasticsearch("elasticsearch", {
      namespace: "hobnob",
      storageClassName: "hobnob-block-storage",
      replicas: 3,
      memory: "1Gi",
      cpu: "250m",
      diskSize: "10Gi",
      mmap: false,
      spread: "hard",
      clients: [],
      apiServer: "cilium",
      snapshots: store,
      workers: [],
    });
  });

const settings = (graph: Captured[]) =>
  parse(find(graph, "kubernetes:core/v1:ConfigMap", "elasticsearch-files").inputs.data["elasticsearch.yml"]);
const job = (graph: Captured[]) => find(graph, "kubernetes:batch/v1:CronJob").inputs.spec;

describe("snapshots", () => {
  let graph: Captured[];
  before(async () => {
    graph = await graphOf();
  });

  it("must go to Spaces in the bucket's region, or in path style to another service", async () => {
    assert.equal(settings(graph)["s3.client.default.endpoint"], "https://ams3.digitaloceanspaces.com");
    assert.equal(settings(graph)["s3.client.default.region"], "ams3");
    assert.equal(settings(graph)["s3.client.default.path_style_access"], false);
    const elsewhere = settings(await graphOf({ endpoint: "https://s3.test" }));
    assert.equal(elsewhere["s3.client.default.endpoint"], "https://s3.test");
    assert.equal(elsewhere["s3.client.default.path_style_access"], true);
  });

  it("must keep the key pair in a Secret that only the node's init container mounts", () => {
    const secret = find(graph, "kubernetes:core/v1:Secret");
    assert.deepEqual(secret.inputs.stringData, { "access-key": "access", "secret-key": "hidden" });
    assert.ok(waitsFor(graph, find(graph, "kubernetes:apps/v1:StatefulSet"), secret));
    const { initContainers, containers } = find(graph, "kubernetes:apps/v1:StatefulSet").inputs.spec.template.spec;
    const mounts = ({ volumeMounts }: { volumeMounts: { name: string }[] }) => volumeMounts.map(({ name }) => name);
    assert.ok(mounts(initContainers[0]).includes("snapshot-keys"));
    assert.ok(!mounts(containers[0]).includes("snapshot-keys"));
    const others = graph.filter(({ type }) => type !== "kubernetes:core/v1:Secret");
    assert.ok(!JSON.stringify(others.map(({ inputs }) => inputs)).includes("hidden"));
  });

  it("must run alone, in time, and show a failure", () => {
    const { schedule, timeZone, concurrencyPolicy, failedJobsHistoryLimit, jobTemplate } = job(graph);
    assert.deepEqual(
      { schedule, timeZone, concurrencyPolicy },
      { schedule: "0 2 * * *", timeZone: "Etc/UTC", concurrencyPolicy: "Forbid" },
    );
    assert.ok(failedJobsHistoryLimit > 0);
    assert.deepEqual([jobTemplate.spec.backoffLimit, jobTemplate.spec.activeDeadlineSeconds], [2, 21_600]);
    assert.equal(jobTemplate.spec.template.spec.restartPolicy, "Never");
  });

  it("must write to a path of the stack's own", () => {
    const env = job(graph).jobTemplate.spec.template.spec.containers[0].env;
    const value = (name: string) => env.find((one: { name: string }) => one.name === name).value;
    assert.deepEqual(JSON.parse(value("REPOSITORY_SETTINGS")), {
      type: "s3",
      settings: { bucket: "acme-snapshots", base_path: "test" },
    });
    assert.equal(value("KEEP"), "14");
  });

  it("must reach Elasticsearch and DNS alone, and be reached by nobody", () => {
    const { ingress, egress } = find(graph, "kubernetes:networking.k8s.io/v1:NetworkPolicy", "snapshots").inputs.spec;
    assert.equal(ingress, undefined);
    assert.equal(egress.length, 2);
    assert.deepEqual(egress[0].ports, [{ protocol: "TCP", port: 9200 }]);
  });
});
