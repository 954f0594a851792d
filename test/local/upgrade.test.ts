import assert from "node:assert/strict";
import { OfflineStack, type Plan } from "./offlineStack";
import { previousState } from "./previousState";

/** What carries no data and nobody addresses by its identity: a new one in its place is seen by nobody. */
const INTERCHANGEABLE = [
  "kubernetes:core/v1:ConfigMap",
  "kubernetes:core/v1:Secret",
  "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
  "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding",
];

const LOSES = /^(delete|replace|create-replacement|delete-replaced|discard-replaced|remove-pending-replace)$/;

const typeOf = (urn: string) => urn.split("::")[2]?.split("$").at(-1) ?? "";

/** Its type and name, with the types of its parents. */
const briefly = (urn: string) => urn.split("::").slice(2).join("::");

const lost = ({ steps }: Plan) =>
  steps.filter(({ op, urn }) => LOSES.test(op) && !INTERCHANGEABLE.includes(typeOf(urn)));

const ADVICE = `
A stack that this repository made before would lose these. Whoever renamed, moved or re-parented one gives it the option
\`aliases\` with its old name or parent; what is added to a field that cannot change is left out, or set for new stacks only
(\`ignoreChanges\`). If the loss is wanted, say why in docs/decisions and list it here.`;

/** test/local/previousState.json is the state of the stack \`local\` as the commit dbdc5f2 made it. */
describe("an upgrade from this repository's previous state", function () {
  this.timeout(3 * 60_000);
  let stack: OfflineStack;
  let plan: Plan;

  before(async () => {
    stack = await OfflineStack.start();
    await stack.import(previousState());
    plan = await stack.plan();
  });

  after(async () => stack?.stop());

  it("must be planned without an error", () => {
    assert.equal(plan.code, 0, plan.text);
  });

  it("must not delete or replace what holds data, carries traffic or is addressed", () => {
    const losses = lost(plan).map(({ op, urn, detailedDiff }) => {
      const because = Object.keys(detailedDiff ?? {}).join(", ");
      return `${op} ${briefly(urn)}${because && ` (${because})`}`;
    });
    assert.deepEqual(losses, [], ADVICE);
  });

  it("must find again the cluster, its VPC, the zone, the namespaces, the volumes' set and class, and the balancer", () => {
    for (const type of [
      "digitalocean:index/kubernetesCluster:KubernetesCluster",
      "digitalocean:index/vpc:Vpc",
      "digitalocean:index/domain:Domain",
      "kubernetes:core/v1:Namespace",
      "kubernetes:apps/v1:StatefulSet",
      "kubernetes:storage.k8s.io/v1:StorageClass",
      "kubernetes:core/v1:Service",
    ]) {
      const known = previousState().deployment.resources.filter((resource) => resource.type === type).length;
      const kept = plan.steps.filter(({ op, urn }) => /^(same|update)$/.test(op) && typeOf(urn) === type).length;
      assert.ok(known > 0 && kept >= known, `${kept} of ${known} ${type} are kept`);
    }
  });
});
