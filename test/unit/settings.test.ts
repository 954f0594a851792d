import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { readSettings, secret } from "../../settings";
import { capture } from "./graph";

const keys = {
  size: z.int("a whole number").default(1),
  name: z.string("a name").optional(),
  hosts: z.array(z.string("a host"), "a list of hosts").default([]),
  token: secret().optional(),
};

const read = async (config: Record<string, string>, secretKeys: string[] = []) => {
  let settings: ReturnType<typeof readSettings<typeof keys>> | undefined;
  const given = { "shop:platform": "acme/hobnob/prod", ...config };
  const all = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ""));
  await capture(
    () => {
      settings = readSettings(keys, ({ size, token }) =>
        size === 7 && token ? [{ key: "token" as const, allowed: "none with size 7", command: "remove" as const }] : [],
      );
    },
    { project: "shop", config: all, secretKeys },
  );
  assert.ok(settings);
  return settings;
};

const refusal = (...given: Parameters<typeof read>) =>
  read(...given).then(
    () => assert.fail("nothing was refused"),
    ({ message }: Error) => message,
  );

describe("settings of a stack on a platform", () => {
  it("must take a text as it stands, even one that is a number or true, and all else as JSON", async () => {
    for (const name of ["12", "true", "[]", "null"])
      assert.deepEqual(await read({ "shop:name": name, "shop:size": "3", "shop:hosts": '["a"]' }), {
        platform: "acme/hobnob/prod",
        name,
        size: 3,
        hosts: ["a"],
      });
  });

  it("must have the defaults, and only what is set besides", async () => {
    assert.deepEqual(await read({}), { platform: "acme/hobnob/prod", size: 1, hosts: [] });
  });

  it("must give a secret as an output that stays one, and refuse it in plain text without showing it", async () => {
    const { token } = await read({ "shop:token": "hush" }, ["shop:token"]);
    assert.ok(pulumi.Output.isInstance(token));
    assert.equal(await pulumi.isSecret(token), true);
    const message = await refusal({ "shop:token": "hush" });
    assert.match(
      message,
      /shop:token\n {4}given: {3}a value in plain text\n.*\n {4}command: pulumi config set --secret shop:token/,
    );
    assert.doesNotMatch(message, /hush/);
  });

  it("must name every wrong key with what was given, what is allowed and the command, all at once", async () => {
    const wrong = { "shop:platform": "prod", "shop:size": "big", "shop:hosts": '["a", 1]', "shop:siez": "1" };
    assert.equal(
      await refusal(wrong),
      `The configuration of the stack test has 4 violations:

  shop:platform
    given:   "prod"
    allowed: the full name of a platform stack: <organization>/<project>/<stack>, such as acme/hobnob/prod
    command: pulumi config set 'shop:platform' '<value>' --stack test

  shop:size
    given:   "big"
    allowed: a whole number
    command: pulumi config set 'shop:size' '<value>' --stack test

  shop:hosts[1]
    given:   ["a",1]
    allowed: a host
    command: pulumi config set --path 'shop:hosts[1]' '<value>' --stack test

  shop:siez
    given:   a value
    allowed: no such key; known are platform, size, name, hosts, token
    command: pulumi config rm 'shop:siez' --stack test
`,
    );
  });

  it("must ask for the platform where none is named", async () => {
    assert.match(await refusal({ "shop:platform": "" }), /1 violation:\n\n {2}shop:platform\n {4}given: {3}nothing\n/);
  });

  it("must judge keys together by what is right alone, and tell nothing of a key twice", async () => {
    const together = await refusal({ "shop:size": "7", "shop:token": "hush" }, ["shop:token"]);
    assert.match(together, /1 violation:\n\n {2}shop:token\n {4}given: {3}a secret\n {4}allowed: none with size 7\n/);
    assert.match(together, /pulumi config rm 'shop:token'/);
    assert.match(await refusal({ "shop:size": "7", "shop:token": "hush" }), /1 violation:\n\n.*\n.*plain text/);
  });

  it("must show no part of what was set as a secret, whatever key it was set as", async () => {
    const message = await refusal({ "shop:hosts": '["hush", 1]' }, ["shop:hosts"]);
    assert.match(message, /given: {3}a secret/);
    assert.doesNotMatch(message, /hush/);
  });
});
