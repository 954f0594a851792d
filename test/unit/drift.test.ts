import assert from "node:assert/strict";
import { driftOf, tellDrift } from "../../operations/drift";
import type { EngineEvent } from "../../operations/events";

const DEPLOYMENT = "kubernetes:apps/v1:Deployment";

/** What a refresh tells of one object. */
function refreshed(type: string, name: string, old: object, now?: object): EngineEvent {
  const state = (inputs: object) => ({ type, urn: "", inputs: { metadata: { name }, ...inputs } });
  const urn = `urn:pulumi:prod::hobnob::${type}::${name}`;
  const metadata = { op: now ? "update" : "delete", urn, type, old: state(old), new: now && state(now) };
  return { resOutputsEvent: { metadata } };
}
const changes = (...events: EngineEvent[]) =>
  driftOf(events).map(({ name, isGone, changes }) => ({ name, isGone, changes }));

describe("drift", () => {
  it("must be told in words: what is there, and what the stack made", () => {
    const text = tellDrift(
      "prod",
      driftOf([
        refreshed(DEPLOYMENT, "backend", { spec: { replicas: 3, a: [1] } }, { spec: { replicas: 1, a: [1] } }),
        refreshed("kubernetes:policy/v1:PodDisruptionBudget", "backend", {}),
      ]),
    );
    assert.equal(
      text,
      `2 objects of the stack prod changed behind its back:

    Deployment backend was changed
      spec.replicas is 1; the stack made it 3
    PodDisruptionBudget backend is gone

As the stack has them again: npm run stack -- prod up --refresh. To keep a change, write it into the program or the settings first.`,
    );
  });

  it("must tell what was added, what was removed, and where in a list", () => {
    assert.deepEqual(
      changes(
        refreshed(
          DEPLOYMENT,
          "x",
          { labels: { "a.b/c": "d" }, list: [{ n: 1 }, { n: 2 }], args: [1] },
          { labels: {}, list: [{ n: 1 }, { n: 3 }], args: [1, 2], more: true },
        ),
      )[0]?.changes,
      [
        'labels["a.b/c"] was removed; the stack made it "d"',
        "list[1].n is 3; the stack made it 2",
        "args is [1,2]; the stack made it [1]",
        "more was added: true",
      ],
    );
  });

  it("must not be seen where nothing differs, in components, nor in what only the API tells", () => {
    const same = { spec: { replicas: 3 } };
    const event = refreshed(DEPLOYMENT, "x", same, same);
    const { old } = event.resOutputsEvent?.metadata ?? {};
    Object.assign(old ?? {}, { outputs: { status: { readyReplicas: 3 } } });
    assert.deepEqual(changes(event, refreshed("hobnob:platform:Api", "backend", {}, { a: 1 })), []);
    assert.equal(tellDrift("prod", []), "The stack prod is as it was made: nothing has drifted.");
  });

  it("must not be seen in what an autoscaler or the maintenance window owns, and in nothing else of theirs", () => {
    const hpa = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler";
    const scaler = { spec: { scaleTargetRef: { name: "backend" } } };
    const replicas = (count: number) => ({ spec: { replicas: count } });
    assert.deepEqual(
      changes(
        refreshed(hpa, "scaler", scaler, scaler),
        refreshed(DEPLOYMENT, "backend", replicas(3), replicas(6)),
        refreshed(DEPLOYMENT, "other", replicas(3), replicas(6)),
      ).map(({ name }) => name),
      ["other"],
    );
    const cluster = "digitalocean:index/kubernetesCluster:KubernetesCluster";
    const pool = { version: "1.36.3-do.0", ha: true, nodePool: { nodeCount: 3 } };
    const [drift] = changes(
      refreshed(cluster, "c", pool, { version: "1.36.4-do.0", ha: false, nodePool: { nodeCount: 4 } }),
    );
    assert.deepEqual(drift?.changes, ["ha is false; the stack made it true"]);
  });

  it("must show no secret", () => {
    const secret = "kubernetes:core/v1:Secret";
    const text = tellDrift(
      "prod",
      driftOf([refreshed(secret, "s", { data: { a: "hush" } }, { data: { a: "hush2" } })]),
    );
    assert.match(text, /data\.a is \[secret\]; the stack made it \[secret\]/);
  });
});
