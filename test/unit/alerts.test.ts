import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parser } from "@prometheus-io/lezer-promql";
import { parse } from "yaml";
import { Alerts, alertRules } from "../../components/alerts";
import { type Captured, capture, find, ofType } from "./graph";
import { captureStack } from "./stacks";

const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";
const RULE = "kubernetes:monitoring.coreos.com/v1:PrometheusRule";
const watched = { application: "hobnob", ingress: "nginx-ingress", hosts: ["api.example.com", "docs.example.com"] };
const labels = { release: "prometheus" };

const made = (kind: "PrometheusRule" | "ConfigMap") =>
  capture(() => void new Alerts("alerts", { kind, namespace: "monitoring", labels, watched }));

const monitored = (monitoring: object, more: object = {}) =>
  captureStack("prod", { "hobnob:monitoring": { namespace: "watch", ...monitoring }, ...more });

describe("the platform's alert rules", () => {
  const groups = [{ name: "hobnob", rules: alertRules(watched) }];

  it("must be the same as an object of the operator and as a plain file", async () => {
    const rule = find(await made("PrometheusRule"), RULE).inputs;
    assert.deepEqual(rule.spec, { groups });
    const map = find(await made("ConfigMap"), CONFIG_MAP).inputs;
    assert.deepEqual(parse(map.data["hobnob.rules.yml"]), { groups });
    for (const { metadata } of [rule, map])
      assert.deepEqual(metadata, { name: "hobnob-alerts", namespace: "monitoring", labels });
  });

  it("must watch disk, heap, pods and certificate, and tell where one of them is not watched", () => {
    const names = (hosts: string[]) => alertRules({ ...watched, hosts }).map(({ alert }) => alert);
    const always = [
      "HobnobDiskFilling",
      "HobnobHeapHigh",
      "HobnobDeploymentUnavailable",
      "HobnobStatefulSetUnavailable",
      "HobnobNotWatched",
    ];
    assert.deepEqual(names([]), always);
    assert.deepEqual(names(watched.hosts), [...always, "HobnobCertificateExpiring"]);
    const metrics = (text: string) => new Set(text.match(/(kubelet|kube|elasticsearch|probe)_\w+/g));
    const { expr } = alertRules(watched).find(({ alert }) => alert === "HobnobNotWatched") ?? assert.fail();
    for (const source of ["kubelet_", "kube_", "elasticsearch_", "probe_"])
      assert.ok(
        [...metrics(expr)].some((metric) => metric.startsWith(source)),
        source,
      );
  });

  it("must be PromQL", () => {
    const errors = (expr: string) => {
      let found = 0;
      parser.parse(expr).iterate({ enter: ({ type }) => void (type.isError && found++) });
      return found;
    };
    assert.ok(errors("sum(") > 0);
    for (const { alert, expr } of alertRules(watched)) assert.equal(errors(expr), 0, `${alert}: ${expr}`);
  });

  it("must be taken, and fire as they say, by Prometheus' own promtool", function () {
    if (spawnSync("promtool", ["--version"]).error) {
      console.log("      no promtool on the PATH: not asked");
      return this.skip();
    }
    const directory = mkdtempSync(join(tmpdir(), "hobnob-rules-"));
    const file = (name: string, content: object) => {
      writeFileSync(join(directory, name), JSON.stringify(content));
      return join(directory, name);
    };
    const series = (series: string, values: string) => ({ series, values });
    const disk = 'namespace="hobnob",persistentvolumeclaim="data-elasticsearch-0"';
    const platform = ([free, heap, lacking, ready, expiry]: string[]) => [
      series(`kubelet_volume_stats_available_bytes{${disk}}`, `${free}x100`),
      series(`kubelet_volume_stats_capacity_bytes{${disk}}`, "100x100"),
      series('elasticsearch_jvm_memory_used_bytes{area="heap"}', `${heap}x100`),
      series('elasticsearch_jvm_memory_max_bytes{area="heap"}', "100x100"),
      series('kube_deployment_status_replicas_unavailable{namespace="nginx-ingress",deployment="d"}', `${lacking}x100`),
      series('kube_statefulset_replicas{namespace="hobnob",statefulset="s"}', "3x100"),
      series('kube_statefulset_status_replicas_ready{namespace="hobnob",statefulset="s"}', `${ready}x100`),
      series('probe_ssl_earliest_cert_expiry{instance="https://api.example.com/"}', `${expiry}x100`),
    ];
    // Percent free, percent of the heap, pods that lack, pods that are ready, seconds after the start of the test's clock.
    const bad = platform(["10", "95", "1", "2", "1000000"]);
    const good = platform(["50", "60", "0", "3", "7000000"]);
    try {
      const rules = file("rules.yml", { groups });
      execFileSync("promtool", ["check", "rules", rules]);
      const fires = (alert: string, expected: boolean) => ({
        expr: `count(ALERTS{alertname="${alert}",alertstate="firing"}) > bool 0 or vector(0)`,
        eval_time: "61m",
        exp_samples: [{ labels: "{}", value: expected ? 1 : 0 }],
      });
      const names = alertRules(watched).map(({ alert }) => alert);
      const blind = "HobnobNotWatched";
      const judged = (input_series: object[], expected: (name: string) => boolean) => ({
        interval: "1m",
        input_series,
        promql_expr_test: names.map((name) => fires(name, expected(name))),
      });
      const test = {
        rule_files: [rules],
        evaluation_interval: "1m",
        tests: [judged(bad, (name) => name !== blind), judged(good, () => false), judged([], (name) => name === blind)],
      };
      const { status, stdout, stderr } = spawnSync("promtool", ["test", "rules", file("test.yml", test)]);
      assert.equal(status, 0, `${stdout}${stderr}`);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe("what a Prometheus gets of the platform", () => {
  const deployment = (graph: Captured[]) =>
    graph.find((r) => r.type.endsWith(":Deployment") && r.name === "ingress")?.inputs.spec.template ?? assert.fail();
  const policy = (graph: Captured[]) =>
    graph.find((r) => r.type.endsWith(":NetworkPolicy") && r.name === "ingress")?.inputs.spec ?? assert.fail();

  it("must be nothing by default, nor by the namespace alone", async () => {
    const [plain, named] = [await captureStack("prod"), await monitored({})];
    assert.deepEqual(named, plain);
    assert.deepEqual(ofType(plain, "hobnob:platform:Alerts"), []);
    assert.equal(deployment(plain).metadata.annotations, undefined);
    assert.ok(!deployment(plain).spec.containers[0].args.join().includes("prometheus"));
    assert.equal(policy(plain).ingress.length, 1);
  });

  it("must be rules in its own namespace, for the hosts that have a certificate", async () => {
    const graph = await monitored({ alerts: "ConfigMap", labels }, { "hobnob:tls": { enabled: false } });
    const map = graph.find(({ inputs }) => inputs.metadata?.name === "hobnob-alerts")?.inputs ?? assert.fail();
    assert.equal(map.metadata.namespace, "watch");
    const { rules } = parse(map.data["hobnob.rules.yml"]).groups[0];
    assert.deepEqual(rules, alertRules({ ...watched, hosts: [] }));
  });

  it("must be the controller's metrics, to that namespace alone", async () => {
    const graph = await monitored({ scrape: true });
    const { metadata, spec } = deployment(graph);
    assert.deepEqual(metadata.annotations, { "prometheus.io/scrape": "true", "prometheus.io/port": "9113" });
    const [container] = spec.containers;
    assert.ok(container.args.includes("-enable-prometheus-metrics"));
    assert.ok(container.args.includes("-prometheus-metrics-listen-port=9113"));
    assert.deepEqual(container.ports.at(-1), { name: "metrics", containerPort: 9113 });
    assert.deepEqual(policy(graph).ingress.slice(1), [
      {
        from: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "watch" } } }],
        ports: [{ protocol: "TCP", port: "metrics" }],
      },
    ]);
    assert.deepEqual(ofType(graph, "hobnob:platform:Alerts"), []);
  });
});
