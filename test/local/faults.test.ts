import assert from "node:assert/strict";
import { injectFaults } from "../../faults/faults";

/** The short form of `npm run faults`, which injects a hundred and more: its seed makes both kinds of gap. */
describe("a run that is cut off", function () {
  this.timeout(20 * 60_000);

  it("must be brought to its end by the next one, with nothing duplicated, orphaned or replaced", async () => {
    const faults = await injectFaults({ seed: "short", count: 4, changes: 2, report: () => {}, say: () => {} });
    const failed = faults.filter(({ converged }) => !converged);
    assert.deepEqual(
      failed.map(({ number, problems }) => [number, problems]),
      [],
    );
    assert.ok(faults.filter(({ withinGap }) => withinGap).length >= 2, "too few hit the gap");
  });
});
