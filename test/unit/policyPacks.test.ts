import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { withPolicyPacks } from "../../local/policyPacks";

describe("policy packs of the local commands", () => {
  const environment = { ...process.env };
  const state = mkdtempSync(join(tmpdir(), "hobnob-test-"));

  before(() => {
    process.env.HOBNOB_LOCAL_STATE = state;
    process.env.INIT_CWD = "/somewhere";
  });

  after(() => {
    process.env = environment;
    rmSync(state, { recursive: true });
  });

  it("must be found from where the user stands, since the engine runs elsewhere", () => {
    assert.deepEqual(withPolicyPacks(["--policy-pack-config=a.json"], false), [
      "--policy-pack-config",
      "/somewhere/a.json",
    ]);
    for (const given of [["--policy-pack", "policy/pack"], ["--policy-pack=policy/pack"]])
      assert.deepEqual(withPolicyPacks(["preview", ...given, "--diff"], true), [
        "preview",
        "--policy-pack",
        resolve("/somewhere/policy/pack"),
        "--diff",
      ]);
  });

  it("must each have a folder that the engine can start, where the language host cannot", () => {
    const [, one = "", , other = ""] = withPolicyPacks(["--policy-pack", "one", "--policy-pack=/other"], false);
    assert.notEqual(one, other);
    assert.equal(readlinkSync(join(one, "pack")), resolve("/somewhere/one"));
    assert.equal(readlinkSync(join(other, "pack")), "/other");
    assert.equal(readFileSync(join(one, "PulumiPolicy.yaml"), "utf8"), "runtime: hobnob\n");
  });

  it("must leave every other argument as it is", () => {
    const args = ["up", "--yes", "--config", "a=b", "--message=policy-pack=x"];
    assert.deepEqual(withPolicyPacks(args, false), args);
  });
});
