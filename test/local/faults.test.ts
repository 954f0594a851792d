import assert from "node:assert/strict";
import { injectFaults, type Options } from "../../faults/faults";

/** The short form of `npm run faults`, which injects a hundred and more. */
describe("a run that is cut off", function () {
  this.timeout(20 * 60_000);

  const mustConverge = async (options: Pick<Options, "seed" | "count" | "program">) => {
    const faults = await injectFaults({ ...options, changes: 2, report: () => {}, say: () => {} });
    const failed = faults.filter(({ converged }) => !converged);
    assert.deepEqual(
      failed.map(({ number, problems }) => [number, problems]),
      [],
    );
    assert.ok(faults.filter(({ withinGap }) => withinGap).length * 2 >= faults.length, "too few hit the gap");
  };

  it("must be brought to its end by the next one, with nothing duplicated, orphaned or replaced", () =>
    mustConverge({ seed: "short", count: 2 }));

  it("must lose nothing in the account", () => mustConverge({ seed: "short", count: 4, program: "account" }));
});
