import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { growth } from "../../bench/growth";
import { alternate, figures, median, ratio, summary, timed } from "../../bench/harness";
import { benches } from "../../bench/main";
import { withTables } from "../../bench/readme";
import { regressions } from "../../bench/results";

const of = (...samples: number[]) => figures(samples.map((seconds) => ({ seconds })));
const context = { scratch: "", say: () => {} };

describe("a benchmark", () => {
  it("must turn the order of its variants in each round, and prepare and restore outside of the time", async () => {
    const order: string[] = [];
    const variant = (name: string) => ({
      prepare: async () => void order.push(`+${name}`),
      run: async () => {
        order.push(name);
        return { seconds: order.length };
      },
      restore: async () => void order.push(`-${name}`),
    });
    const measured = await alternate({ one: variant("1"), other: variant("2") }, { ...context, repetitions: 2 });
    assert.deepEqual(order.join(" "), "+1 1 -1 +2 2 -2 +2 2 -2 +1 1 -1");
    assert.deepEqual(measured, { one: { samples: [2, 11] }, other: { samples: [5, 8] } });
  });

  it("must compare round by round, so that a slow hour of the machine changes no ratio", () => {
    assert.equal(ratio(of(1, 10, 2), of(2, 20, 4)), 0.5);
    assert.equal(median([4, 1, 3, 2]), 2.5);
    assert.equal(summary(of(1.234, 1, 9)), "1.23 (1–9) s");
  });

  it("must call growth constant where each service costs the same, whatever the first ones cost", () => {
    assert.equal(growth([50, 1, 10, 30]), 1);
    assert.equal(growth([50, 1, 10, 50]), 2);
  });

  it("must take the memory of a command with all its children, and fail as the command does", async () => {
    const child = "const a = Buffer.alloc(150e6, 1); setTimeout(() => a.at(0), 500)";
    const parent = `require("node:child_process").execFileSync(process.execPath, ["-e", ${JSON.stringify(child)}])`;
    const { seconds, megabytes = Number.NaN } = await timed(process.execPath, ["-e", parent]);
    assert.ok(seconds > 0.5 && seconds < 60, `${seconds} s`);
    if (process.platform === "linux") assert.ok(megabytes > 190 && megabytes < 600, `${megabytes} MB`);
    await assert.rejects(timed(process.execPath, ["-e", "process.exit(3)"]), /exit code 3/);
  });
});

describe("a regression", () => {
  const now = (value: number, limit: object) => ({ cases: [], goals: [{ goal: "a", value, ...limit }] });
  const told = (is: number, was: number, limit: object) => regressions(now(is, limit), now(was, limit)).length;

  it("must be told where a ratio got worse than noise explains, in the direction of its limit", () => {
    assert.equal(told(2, 1, { atMost: 1.3 }), 1);
    assert.equal(told(1, 2, { atMost: 1.3 }), 0);
    assert.equal(told(1, 2, { atLeast: 1.4 }), 1);
    assert.equal(told(2, 1, { atLeast: 1.4 }), 0);
  });

  it("must not be one within the noise, nor where the goal is met by a margin", () => {
    assert.equal(told(1.3, 1, { atMost: 1 }), 0);
    assert.equal(told(0.75, 0.5, { atMost: 1 }), 0);
    assert.equal(told(1, 0.5, { atMost: 1 }), 1);
  });
});

describe("bench/README.md", () => {
  const file = join(__dirname, "..", "..", "bench", "README.md");

  it("must hold what bench/results does: write it by npm run bench -- --keep", () => {
    const text = readFileSync(file, "utf8");
    assert.equal(text, withTables(text, benches));
  });
});
