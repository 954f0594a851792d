import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { Namespace } from "../../components/namespace";
import { Task, type TaskArgs } from "../../components/task";
import { violations } from "../../policy/policies";
import { type Captured, capture, edges, find, Pool, unwrap } from "./graph";

const COMPONENT = "hobnob:platform:Task";
const JOB = "kubernetes:batch/v1:Job";
const CRON = "kubernetes:batch/v1:CronJob";
const POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const ACCOUNT = "kubernetes:core/v1:ServiceAccount";
const CONFIG_MAP = "kubernetes:core/v1:ConfigMap";

const IMAGE = `registry.test/import@sha256:${"a".repeat(64)}`;
const LABELS = { "app.kubernetes.io/name": "import" };
const base: TaskArgs = { namespace: "shops", image: IMAGE, memory: "64Mi", cpu: "50m" };
const nightly = { schedule: "0 3 * * *" };

let task: Task;

const deploy = (changes: Partial<TaskArgs> = {}, preview = false): Promise<Captured[]> =>
  capture(
    () => {
      task = new Task("import", { ...base, ...changes });
    },
    { preview },
  );

const names = (graph: Captured[]) => graph.map(({ type, name }) => `${type}::${name}`);
const children = (kind: string) => [COMPONENT, POLICY, ACCOUNT, kind].map((type) => `${type}::import`);

/** Of a run, once or on a schedule. */
const RUN = {
  backoffLimit: 3,
  activeDeadlineSeconds: 3600,
  template: {
    metadata: { labels: LABELS },
    spec: {
      restartPolicy: "Never",
      serviceAccountName: "import",
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 10001,
        runAsGroup: 10001,
        seccompProfile: { type: "RuntimeDefault" },
      },
      containers: [
        {
          name: "import",
          image: IMAGE,
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ["ALL"] },
          },
          resources: { requests: { cpu: "50m", memory: "64Mi" }, limits: { memory: "64Mi" } },
        },
      ],
    },
  },
};

describe("task", () => {
  for (const preview of [true, false])
    for (const [kind, changes] of [
      [JOB, {}],
      [CRON, nightly],
    ] as const)
      it(`must be one component with a ${kind.split(":")[2]} in ${preview ? "a preview" : "an update"}`, async () => {
        const graph = await deploy(changes, preview);
        assert.deepEqual(names(graph).sort(), children(kind).sort());
        assert.deepEqual(find(graph, COMPONENT).inputs, {});
        for (const resource of graph.slice(1)) assert.equal(resource.parent, find(graph, COMPONENT).urn);
      });

  it("must run once as a Job that the engine names, so that a changed one can run before the old one goes", async () => {
    const { inputs, customTimeouts, deleteBeforeReplace } = find(await deploy(), JOB);
    assert.deepEqual(inputs.metadata, {
      namespace: "shops",
      labels: LABELS,
      annotations: { "pulumi.com/replaceUnready": "true" },
    });
    assert.deepEqual(inputs.spec, RUN);
    assert.deepEqual(customTimeouts, { create: "3900s", update: "3900s" });
    assert.equal(deleteBeforeReplace, undefined);
    assert.deepEqual([(await unwrap(task.jobName)).value, task.labels], ["import-0a1b2c3d", LABELS]);
  });

  it("must run on a schedule as a CronJob of a fixed name, one run at a time", async () => {
    const { inputs } = find(await deploy(nightly), CRON);
    assert.deepEqual(inputs.metadata, { name: "import", namespace: "shops", labels: LABELS });
    assert.deepEqual(inputs.spec, {
      schedule: "0 3 * * *",
      timeZone: "Etc/UTC",
      concurrencyPolicy: "Forbid",
      startingDeadlineSeconds: 3600,
      successfulJobsHistoryLimit: 3,
      failedJobsHistoryLimit: 3,
      jobTemplate: { metadata: { labels: LABELS }, spec: RUN },
    });
  });

  it("must keep, repeat and end runs as it is told", async () => {
    const limits = { retries: 1, deadlineSeconds: 60, ttlSeconds: 90 };
    const graph = await deploy({
      ...nightly,
      ...limits,
      timeZone: "Europe/Berlin",
      startingDeadlineSeconds: 30,
      history: { successful: 0, failed: 7 },
    });
    const { spec } = find(graph, CRON).inputs;
    assert.deepEqual([spec.timeZone, spec.startingDeadlineSeconds], ["Europe/Berlin", 30]);
    assert.deepEqual([spec.successfulJobsHistoryLimit, spec.failedJobsHistoryLimit], [0, 7]);
    const run = { ...RUN, backoffLimit: 1, activeDeadlineSeconds: 60, ttlSecondsAfterFinished: 90 };
    assert.deepEqual(spec.jobTemplate.spec, run);
    const job = find(await deploy(limits), JOB);
    assert.deepEqual(job.inputs.spec, run);
    assert.deepEqual(job.customTimeouts, { create: "360s", update: "360s" });
  });

  it("must be reached by nobody, and reach whom it is told to", async () => {
    const to = { to: [{ podSelector: { matchLabels: { app: "db" } } }], ports: [{ protocol: "TCP", port: 3306 }] };
    const { spec } = find(await deploy({ to: [to] }), POLICY).inputs;
    assert.deepEqual([spec.podSelector, spec.policyTypes], [{ matchLabels: LABELS }, ["Ingress", "Egress"]]);
    assert.equal(spec.ingress, undefined);
    assert.deepEqual([spec.egress.length, spec.egress[0]], [2, to]);
  });

  it("must read its files and environment as a Service does, so that changed files are another run", async () => {
    const graph = await deploy({ files: { "/etc/import": { "a.json": "{}" } }, env: { LEVEL: "info" } });
    const { volumes, containers } = find(graph, JOB).inputs.spec.template.spec;
    const configMap = { name: `${find(graph, CONFIG_MAP).name}-0a1b2c3d` };
    assert.deepEqual(volumes, [{ name: "etc-import", configMap }]);
    assert.deepEqual(containers[0].env, [{ name: "LEVEL", value: "info" }]);
  });

  for (const [kind, changes] of [
    [JOB, {}],
    [CRON, nightly],
  ] as const)
    it(`must as a ${kind.split(":")[2]} go before the machines that it runs on, and wait for nothing else`, async () => {
      const graph = await capture(() => new Task("import", { ...base, ...changes, workers: [new Pool("workers")] }));
      const urns = [COMPONENT, ACCOUNT, "test:index:Pool"].map((type) => find(graph, type).urn);
      assert.deepEqual(edges(find(graph, kind)).sort(), urns.sort());
    });

  it("must be judged clean by every policy", async () => {
    for (const changes of [{}, nightly]) {
      const graph = await capture(() => {
        const { name } = new Namespace("shops", { name: "shops" });
        new Task("import", { ...base, ...changes, namespace: name });
      });
      assert.deepEqual(violations(graph.map((resource) => ({ ...resource, props: resource.inputs }))), []);
    }
  });
});

describe("a task's args", () => {
  const cases: [what: string, changes: object, arg: string, given: string, allowed: string][] = [
    [
      "a time zone without a schedule",
      { timeZone: "Etc/UTC" },
      "timeZone",
      "without a schedule",
      "schedule, or none of it",
    ],
    [
      "a history without a schedule",
      { history: { failed: 1 } },
      "history",
      "without a schedule",
      "schedule, or none of it",
    ],
    [
      "a time zone that there is none of",
      { ...nightly, timeZone: "Mars/Olympus" },
      "timeZone",
      '"Mars/Olympus"',
      "an IANA time zone, e.g. Europe/Berlin",
    ],
    ["a schedule that is none", { schedule: "daily" }, "schedule", '"daily"', "five cron fields, e.g. 0 3 * * *"],
    [
      "no second try: a machine may be lost in the middle",
      { retries: 0 },
      "retries",
      "0",
      "a whole number from 1 to 100",
    ],
    [
      "a chance to start that is too short to be seen",
      { ...nightly, startingDeadlineSeconds: 5 },
      "startingDeadlineSeconds",
      "5",
      "a whole number from 10 to 86400",
    ],
    ["what a pod can't have either", { user: 0 }, "user", "0", "a whole number from 1 to 2147483647"],
    ["an arg that there is none of", { replicas: 2 }, "args", "replicas", "no such arg"],
  ];
  for (const [what, changes, arg, given, allowed] of cases)
    it(`must be refused with ${what}`, async () => {
      const message = `The Task "import" has an arg that cannot be:\n\n  ${arg}\n    given:   ${given}\n    allowed: ${allowed}\n`;
      await assert.rejects(
        () => deploy(changes),
        (error: Error) => error instanceof pulumi.RunError && error.message === message,
      );
    });

  it("must be refused all at once", async () => {
    await assert.rejects(() => deploy({ retries: 0, timeZone: "Etc/UTC" }), /has 2 args that cannot be/);
  });

  for (const schedule of ["*/5 * * * *", "0 3 * * 1-5", "30 2 1,15 * *", "0 0 * JAN MON"])
    it(`must take the schedule ${schedule}`, async () => assert.equal((await deploy({ schedule })).length, 4));
});
