import { randomInt } from "node:crypto";
import { version } from "@pulumi/random/package.json";
import bcrypt from "bcryptjs";
import {
  type CheckRequest,
  type CheckResult,
  type CreateRequest,
  type DiffRequest,
  type DiffResult,
  diffProperties,
  type Properties,
  type Provider,
  type ReadRequest,
  secret,
  serve,
  UNKNOWN,
} from "./server";

const PASSWORD = /^random:(index\/randomPassword|index):RandomPassword$/;

// Source of defaults, rules and wording: terraform-provider-random, internal/provider/resource_password.go and string.go.
const CLASSES = {
  lower: { least: "minLower", characters: "abcdefghijklmnopqrstuvwxyz" },
  upper: { least: "minUpper", characters: "ABCDEFGHIJKLMNOPQRSTUVWXYZ" },
  numeric: { least: "minNumeric", characters: "0123456789" },
  special: { least: "minSpecial", characters: "!@#$%&*()-_=+[]{}<>:?" },
} as const;
type Class = keyof typeof CLASSES;
const classes = Object.keys(CLASSES) as Class[];

/** The cost of Go's bcrypt.DefaultCost. */
const BCRYPT_COST = 10;
const KNOWN = new Set([
  ...classes,
  ...classes.map((name) => CLASSES[name].least),
  "length",
  "keepers",
  "overrideSpecial",
]);

const isUsed = (inputs: Properties, name: Class): boolean => inputs[name] !== false;
const least = (inputs: Properties, name: Class): number => Number(inputs[CLASSES[name].least] ?? 0);

function failuresOf(inputs: Properties): CheckResult["failures"] {
  const failures = Object.keys(inputs)
    .filter((property) => !KNOWN.has(property))
    .map((property) => ({ property, reason: `${property} is not known to the simulated provider` }));
  const { length } = inputs;
  if (length === UNKNOWN) return failures;
  const sum = classes.reduce((total, name) => total + least(inputs, name), 0);
  if (!Number.isInteger(length) || Number(length) < Math.max(1, sum)) {
    failures.push({
      property: "length",
      reason: `The password's length must be >= 1 and >= ${sum} (min_upper + min_lower + min_numeric + min_special), got: ${length}`,
    });
  }
  if (!classes.some((name) => isUsed(inputs, name))) {
    failures.push({
      property: "lower",
      reason: "At least one attribute out of lower, upper, numeric, special must be true",
    });
  }
  return failures;
}

const pick = (characters: string): string => characters.charAt(randomInt(characters.length));

function generate(inputs: Properties): string {
  const charactersOf = (name: Class): string =>
    name === "special" && inputs.overrideSpecial ? String(inputs.overrideSpecial) : CLASSES[name].characters;
  const all = classes
    .filter((name) => isUsed(inputs, name))
    .map(charactersOf)
    .join("");
  const result = classes.flatMap((name) => Array.from({ length: least(inputs, name) }, () => pick(charactersOf(name))));
  while (result.length < Number(inputs.length)) result.splice(randomInt(result.length + 1), 0, pick(all));
  return result.join("");
}

const withDefaults = (inputs: Properties): Properties => ({
  ...Object.fromEntries(
    classes.flatMap((name) => [
      [name, true],
      [CLASSES[name].least, 0],
    ]),
  ),
  number: inputs.numeric ?? true,
  ...inputs,
});

class RandomProvider implements Provider {
  readonly version = version;

  async check({ type, inputs }: CheckRequest): Promise<CheckResult> {
    if (!PASSWORD.test(type)) {
      throw new Error(
        `${type} needs the official random plugin: the simulated provider takes random.RandomPassword only`,
      );
    }
    return { inputs, failures: failuresOf(inputs) };
  }

  /** A password is made once: whatever changes makes another one. */
  async diff({ oldInputs, inputs }: DiffRequest): Promise<DiffResult> {
    const changes = Object.entries(diffProperties(oldInputs, inputs));
    return {
      detailedDiff: Object.fromEntries(changes.map(([path, kind]) => [path, `${kind}-replace` as "update-replace"])),
    };
  }

  async create({ inputs, preview }: CreateRequest): Promise<{ id: string; outputs: Properties }> {
    const result = preview ? UNKNOWN : generate(inputs);
    const bcryptHash = preview ? UNKNOWN : await bcrypt.hash(result, BCRYPT_COST);
    return { id: "none", outputs: { ...withDefaults(inputs), result: secret(result), bcryptHash: secret(bcryptHash) } };
  }

  async read({ id, state, inputs }: ReadRequest) {
    if (state.result === undefined) throw new Error("The simulated random provider imports no password");
    const { result, bcryptHash, ...rest } = state;
    return { id, inputs, outputs: { ...rest, result: secret(result), bcryptHash: secret(bcryptHash) } };
  }

  async delete(): Promise<void> {}
}

serve(() => new RandomProvider());
