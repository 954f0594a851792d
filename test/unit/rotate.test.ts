import assert from "node:assert/strict";
import { type RotatedStack, rotations } from "../../operations/rotate";

/** A stack that keeps its settings and notes what is done to it. */
function stackWith(elasticsearch: object | undefined, options: { accepts?: boolean; failsAt?: number } = {}) {
  const done: string[] = [];
  let generations = (elasticsearch as { passwordGenerations?: number[] } | undefined)?.passwordGenerations;
  let updates = 0;
  const stack: RotatedStack = {
    name: "prod",
    async pulumi(args, asks) {
      if (args[0] === "config" && args[1] === "--json") {
        const objectValue = elasticsearch && { ...elasticsearch, passwordGenerations: generations };
        return JSON.stringify(objectValue ? { "hobnob:elasticsearch": { objectValue } } : {});
      }
      done.push(`${args.join(" ")}${asks ? " (asks)" : ""}`);
      const set = args.filter((arg) => arg.includes("=")).map((arg) => Number(arg.split("=")[1]));
      if (args[1] === "set-all") generations = Object.assign([...(generations ?? [])], set);
      if (args[1] === "rm") generations = generations?.slice(0, 1);
      return "";
    },
    async up() {
      updates++;
      if (updates === options.failsAt) throw new Error("The update failed");
      done.push(`up with [${generations}]`);
    },
    outputs: async () => ({
      kubeconfig: "",
      namespace: "hobnob",
      elasticsearchUrl: "https://elasticsearch.hobnob.svc:9200",
    }),
    cluster: () => ({
      workload: async () => ({
        replicas: 1,
        pods: options.accepts === false ? [{ name: "elasticsearch-0", ready: true, ports: { http: 9200 } }] : [],
      }),
      secret: async () => ({ username: "verify-2", password: "p", "ca.crt": "c" }),
      ingress: async () => undefined,
      forward: async () => ({ port: 1, reason: () => "the pod is gone" }),
      close: () => done.push("closed"),
    }),
    say: () => {},
    patienceSeconds: 0,
  };
  return { stack, done };
}

const rotate = (what: string, stack: RotatedStack) => Promise.resolve(rotations[what]?.rotate(stack));

describe("a rotation", () => {
  const ups = (done: string[]) => done.filter((line) => line.startsWith("up"));

  it("must give new passwords in three updates: accepted, then given, then the old ones removed", async () => {
    for (const settings of [{ security: true }, { security: "true", passwordGenerations: [1] }]) {
      const { stack, done } = stackWith(settings);
      await rotate("elasticsearch", stack);
      assert.deepEqual(ups(done), ["up with [1,2]", "up with [2,1]", "up with [2]"]);
    }
    const { stack, done } = stackWith({ security: true, passwordGenerations: [7] });
    await rotate("elasticsearch", stack);
    assert.deepEqual(ups(done), ["up with [7,8]", "up with [8,7]", "up with [8]"]);
  });

  it("must go on where it was cut off, before and after the clients had the new passwords", async () => {
    const begun = stackWith({ security: true, passwordGenerations: [1, 2] });
    await rotate("elasticsearch", begun.stack);
    assert.deepEqual(ups(begun.done), ["up with [1,2]", "up with [2,1]", "up with [2]"]);
    const given = stackWith({ security: true, passwordGenerations: [2, 1] });
    await rotate("elasticsearch", given.stack);
    assert.deepEqual(ups(given.done), ["up with [2,1]", "up with [2]"]);
  });

  it("must stop at an update that failed, and remove no password that somebody may have", async () => {
    const { stack, done } = stackWith({ security: true }, { failsAt: 2 });
    await assert.rejects(rotate("elasticsearch", stack), /The update failed/);
    assert.deepEqual(ups(done), ["up with [1,2]"]);
    assert.ok(!done.some((line) => line.includes(" rm ")));
  });

  it("must not give passwords that a node does not accept, and say which and how to go on", async () => {
    const { stack, done } = stackWith({ security: true }, { accepts: false });
    await assert.rejects(rotate("elasticsearch", stack), {
      message:
        /^elasticsearch-0 does not accept generation 2 \(.+\); nothing uses it yet\. To go on: npm run rotate -- prod elasticsearch$/,
    });
    assert.deepEqual(ups(done), ["up with [1,2]"]);
    assert.equal(done.at(-1), "closed");
  });

  it("must refuse where there are no passwords, with the command that makes some", async () => {
    for (const settings of [undefined, { replicas: 3 }, { security: false }]) {
      const { stack, done } = stackWith(settings);
      await assert.rejects(rotate("elasticsearch", stack), {
        message:
          "Elasticsearch of the stack prod has no passwords: its security is off. To switch it on: " +
          "pulumi config set --path 'hobnob:elasticsearch.security' true --stack prod",
      });
      assert.deepEqual(done, []);
    }
  });

  it("must ask for the registry's token, which then is in no argument", async () => {
    for (const [what, key] of [
      ["registry", "registryPassword"],
      ["registry-pull", "registryPullPassword"],
    ] as const) {
      const { stack, done } = stackWith({});
      await rotate(what, stack);
      assert.deepEqual(done, [`config set --secret hobnob:${key} (asks)`, "up with [undefined]"]);
    }
  });

  it("must change nothing for another access to the cluster", async () => {
    const { stack, done } = stackWith(undefined);
    await rotate("cluster", stack);
    assert.deepEqual(done, ["up with [undefined]"]);
  });
});
