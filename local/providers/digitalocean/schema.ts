/**
 * What the bridge from Terraform's provider does for every resource: checks, defaults and names, differences between
 * inputs and state, what a preview shows, and the inputs that follow from a refresh. Sources: pulumi-terraform-bridge
 * (pkg/tfbridge: check_failures.go, schema.go, provider.go) and the validators of Terraform's plugin SDK.
 */
import { isDeepStrictEqual } from "node:util";
import {
  type CheckRequest,
  type CheckResult,
  type DiffKind,
  type DiffRequest,
  type DiffResult,
  type Properties,
  propertyPath,
  randomHex,
  UNKNOWN,
} from "../server";

type Validate = (value: never, terraformName: string) => string | undefined;

export interface Field {
  type: "string" | "number" | "boolean" | "list" | "map" | "object";
  /** Of an object, or of each element of a list. */
  fields?: Fields;
  required?: boolean;
  /** A change replaces the resource. */
  forceNew?: boolean;
  /** The provider fills it in where it is not given. */
  computed?: boolean;
  /** Never an input. */
  output?: boolean;
  default?: unknown;
  /** A name is made up where none is given. */
  autoName?: boolean;
  conflictsWith?: string[];
  validate?: Validate;
  /** Terraform's name, where it is not the snake case of ours. */
  terraform?: string;
}
export type Fields = Record<string, Field>;

const terraformName = (name: string, { terraform }: Field = { type: "string" }) =>
  terraform ?? name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

// Validators, with the SDK's wording.

export const notEmpty: Validate = (value: string, name) =>
  value === "" ? `${name} must not be empty, got ` : undefined;

export const oneOf =
  (...allowed: string[]): Validate =>
  (value: string, name) =>
    allowed.includes(value)
      ? undefined
      : `expected ${name} to be one of [${allowed.map((item) => `"${item}"`).join(" ")}], got ${value}`;

export const between =
  (lowest: number, highest: number): Validate =>
  (value: number, name) =>
    value >= lowest && value <= highest
      ? undefined
      : `expected ${name} to be in the range (${lowest} - ${highest}), got ${value}`;

export const atLeast =
  (lowest: number): Validate =>
  (value: number, name) =>
    value >= lowest ? undefined : `expected ${name} to be at least (${lowest}), got ${value}`;

export const atMostLetters =
  (highest: number): Validate =>
  (value: string, name) =>
    value.length <= highest
      ? undefined
      : `expected length of ${name} to be in the range (0 - ${highest}), got ${value}`;

export const cidr: Validate = (value: string, name) =>
  /^[\da-fA-F.:]+\/\d{1,3}$/.test(value)
    ? undefined
    : `expected "${name}" to be a valid IPv4 Value, got ${value}: invalid CIDR address: ${value}`;

/** Names the inputs that the provider filled in, as the bridge does in every resource's inputs. */
const DEFAULTS = "__defaults";
const filledIn = (inputs: Properties | undefined) => (inputs?.[DEFAULTS] ?? []) as string[];

/** Checks the inputs against the schema and fills in names and defaults. */
export function check(fields: Fields, request: CheckRequest): CheckResult {
  const failures: { reason: string }[] = [];
  const { [DEFAULTS]: _, ...given } = request.inputs;
  const inputs: Properties = { ...given };
  const defaults: string[] = [];
  for (const [name, field] of Object.entries(fields)) {
    if (inputs[name] !== undefined || field.output) continue;
    const value = field.autoName ? autoName(request, name) : field.default;
    if (value === undefined) continue;
    inputs[name] = value;
    defaults.push(name);
  }
  checkObject(fields, inputs, [], "", (reason, path) =>
    failures.push({ reason: `${reason}. Examine values at '${request.name}.${propertyPath(path)}'.` }),
  );
  return { inputs: { ...inputs, [DEFAULTS]: defaults }, failures };
}

/** The resource's name and seven random digits, kept from one run to the next. */
function autoName({ oldInputs, name, randomSeed, autonaming }: CheckRequest, field: string): unknown {
  if (filledIn(oldInputs).includes(field)) return oldInputs?.[field];
  if (autonaming?.mode === "disable") return undefined;
  return autonaming?.proposedName || `${name}-${randomHex(randomSeed, 7)}`;
}

type Path = (string | number)[];
type Fail = (reason: string, path: Path) => void;

function checkObject(fields: Fields, values: Properties, path: Path, prefix: string, fail: Fail): void {
  for (const [name, field] of Object.entries(fields)) {
    const terraform = prefix + terraformName(name, field);
    const value = values[name];
    const own = [...path, name];
    if (value === undefined) {
      if (field.required) {
        const argument = terraformName(name, field);
        fail(`Missing required argument. The argument "${argument}" is required, but no definition was found.`, own);
      }
      continue;
    }
    const other = field.conflictsWith?.find((candidate) => values[candidate] !== undefined);
    if (other) {
      fail(`Conflicting configuration arguments. "${terraform}": conflicts with ${terraformName(other)}`, own);
    }
    checkValue(field, value, own, terraform, fail);
  }
  for (const name of Object.keys(values)) {
    const field = fields[name];
    if (!field || (field.output && path.length === 0)) fail("Invalid or unknown key", [...path, name]);
  }
}

function checkValue(field: Field, value: unknown, path: Path, terraform: string, fail: Fail): void {
  if (value === UNKNOWN) return;
  const type = typeOf(value);
  const expected = { list: "array", map: "object" }[field.type as string] ?? field.type;
  if (type !== expected) {
    const shown = typeof value === "object" ? JSON.stringify(value) : value;
    fail(
      `Unexpected type at field "${propertyPath(path)}": \n           expected ${expected} type, got ${shown} of type ${type}`,
      path,
    );
    return;
  }
  const reason = field.validate?.(value as never, terraform);
  if (reason) fail(reason, path);
  if (field.type === "object") checkObject(field.fields ?? {}, value as Properties, path, `${terraform}.0.`, fail);
  if (field.type === "list") {
    (value as unknown[]).forEach((item, index) => {
      const own = [...path, index];
      const nested = `${terraform}.${index}`;
      if (!field.fields || typeOf(item) !== "object") {
        checkValue({ type: field.fields ? "object" : "string" }, item, own, nested, fail);
      } else {
        checkObject(field.fields, item as Properties, own, `${nested}.`, fail);
      }
    });
  }
  if (field.type === "map") {
    for (const [key, item] of Object.entries(value as Properties)) {
      checkValue({ type: "string" }, item, [...path, key], terraform, fail);
    }
  }
}

const typeOf = (value: unknown) => (Array.isArray(value) ? "array" : typeof value);

/** @param adjust what the resource itself has to say about the differences: suppresses them or makes them replacements. */
export function diff(
  fields: Fields,
  request: DiffRequest,
  adjust: (differences: Record<string, DiffKind>) => void = () => {},
): DiffResult {
  const { inputs, state, ignoreChanges } = request;
  const detailedDiff = differencesOf(fields, inputs, state, []);
  adjust(detailedDiff);
  for (const path of Object.keys(detailedDiff)) {
    const ignored = ignoreChanges.some((ignore) => path === ignore || /^[.[]/.test(path.slice(ignore.length)));
    if (ignored && ignoreChanges.some((ignore) => path.startsWith(ignore))) delete detailedDiff[path];
  }
  const topLevel = (paths: string[]) => [...new Set(paths.map((path) => path.replace(/[.[].*/, "")))];
  const replaced = Object.keys(detailedDiff).filter((path) => detailedDiff[path]?.endsWith("-replace"));
  return {
    detailedDiff,
    diffs: topLevel(Object.keys(detailedDiff)),
    replaces: topLevel(replaced),
    deleteBeforeReplace: replaced.length > 0 && isNamedByUser(fields, inputs),
  };
}

/**
 * Two resources of one name can't be at the same time, so the bridge deletes first wherever the name was given, even
 * where it changes. Source: nameRequiresDeleteBeforeReplace.
 */
const isNamedByUser = (fields: Fields, inputs: Properties) =>
  Object.entries(fields).some(([name, { autoName: automatic }]) => automatic && !filledIn(inputs).includes(name));

function differencesOf(fields: Fields, inputs: Properties, state: Properties, path: Path): Record<string, DiffKind> {
  const found = Object.entries(fields)
    .filter(([, field]) => !field.output)
    .map(([name, field]) => differences(field, inputs[name], state[name], [...path, name]));
  return Object.assign({}, ...found);
}

/** Terraform takes an empty value for an absent one. */
const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === "" ||
  value === 0 ||
  value === false ||
  (typeof value === "object" && Object.values(value).every(isEmpty));

function differences(field: Field, input: unknown, state: unknown, path: Path): Record<string, DiffKind> {
  const difference = (kind: "add" | "delete" | "update"): Record<string, DiffKind> => ({
    [propertyPath(path)]: field.forceNew ? `${kind}-replace` : kind,
  });
  if (input === UNKNOWN) return difference("update");
  if (input === undefined) return field.computed || isEmpty(state) ? {} : difference("delete");
  if (isEmpty(input) && isEmpty(state)) return {};
  if (state === undefined) return difference("add");
  if (field.type === "object") return differencesOf(field.fields ?? {}, input as Properties, state as Properties, path);
  if (field.type === "map") {
    const [news, olds] = [input as Properties, state as Properties];
    const keys = [...new Set([...Object.keys(news), ...Object.keys(olds)])];
    const leaf: Field = { type: "string", forceNew: field.forceNew };
    return Object.assign({}, ...keys.map((key) => differences(leaf, news[key], olds[key], [...path, key])));
  }
  if (field.type === "list") return isDeepStrictEqual(sorted(input), sorted(state)) ? {} : difference("update");
  return input === state ? {} : difference("update");
}

/** Terraform's sets have no order. */
const sorted = (list: unknown) => (list as unknown[]).map((item) => JSON.stringify(canonical(item))).sort();
const canonical = (item: unknown) =>
  typeof item === "object" && item ? Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)) : item;

/** What a preview knows of the outputs: the inputs, the old state, and for the rest that it will be known later. */
export function planned(fields: Fields, inputs: Properties, state: Properties = {}): Properties {
  const entries = Object.entries(fields).map(([name, field]) => {
    const [input, old] = [inputs[name], state[name]];
    if (field.type === "object" && field.fields && (input !== undefined || old !== undefined) && input !== UNKNOWN) {
      return [name, planned(field.fields, (input ?? {}) as Properties, old as Properties | undefined)];
    }
    const known = input ?? (field.output || field.computed ? old : undefined);
    return [name, known ?? (field.output || field.computed ? UNKNOWN : undefined)];
  });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}

/** The inputs as they would have to be to give this state; of an import (no inputs yet), all that are set. */
export function inputsOf(fields: Fields, inputs: Properties, state: Properties): Properties {
  const imported = Object.keys(inputs).length === 0;
  const refreshed = pickInputs(fields, imported ? undefined : inputs, state);
  return { ...refreshed, [DEFAULTS]: filledIn(inputs) };
}

function pickInputs(fields: Fields, inputs: Properties | undefined, state: Properties): Properties {
  const entries = Object.entries(fields).flatMap(([name, field]) => {
    const value = state[name];
    const wanted = inputs ? inputs[name] !== undefined && value !== undefined : !field.output && !isEmpty(value);
    if (!wanted) return [];
    if (field.type !== "object") return [[name, value]];
    return [[name, pickInputs(field.fields ?? {}, inputs?.[name] as Properties | undefined, value as Properties)]];
  });
  return Object.fromEntries(entries);
}
