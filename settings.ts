import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import {
  ConfigurationError,
  FULL_NAME,
  isSetAsSecret,
  keyName,
  removeCommand,
  secretViolation,
  setCommand,
  show,
  type Violation,
} from "./violations";

type Shape = Record<string, z.ZodType>;
type Of<S extends Shape> = z.output<z.ZodObject<S>>;

/** What keys get wrong together. */
export interface Broken<Key extends string> {
  /** The key that is to be changed. */
  key: Key;
  allowed: string;
  /** What makes the key right. @default sets it */
  command?: "set" | "remove";
}

/** A key's value that is set with --secret alone: it is never read, nor shown. */
export const secret = () => z.custom<pulumi.Output<string>>(pulumi.Output.isInstance, SECRET).meta({ secret: true });
const SECRET = "a secret";

const NAMES = "the full name of a platform stack: <organization>/<project>/<stack>, such as acme/hobnob/prod";
const always = { platform: z.string(NAMES).regex(FULL_NAME, NAMES) };
type Always = Of<typeof always>;

/**
 * The settings of a stack that stands on a platform: its project's own keys, and `platform`, which all have. A text is
 * taken as it stands; lists, objects, numbers and truth are read as JSON.
 * @param keys the messages of their checks say what is allowed
 * @param rules judge keys together; they get those that are right by themselves
 * @throws ConfigurationError that lists all that is wrong, and the command that helps
 */
export function readSettings<S extends Shape>(
  keys: S,
  rules: (right: Partial<Of<S>>) => Broken<keyof S & string>[] = () => [],
): Of<S> & Always {
  const project = pulumi.getProject();
  const shape: Shape = { ...always, ...keys };
  const given = givenIn(project);
  const read = Object.entries(shape).map(([name, schema]) => ({
    name,
    ...readKey(project, name, schema, given[name]),
  }));
  const right = Object.fromEntries(read.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]])));
  const wrongAlone = read.flatMap(({ violations = [] }) => violations);
  const isTold = (key: string) => wrongAlone.some((each) => each.key === key);
  const wrong = [
    ...wrongAlone,
    ...Object.keys(given).flatMap((name) => (name in shape ? [] : [unknown(project, name, Object.keys(shape))])),
    ...rules(right as Partial<Of<S>>)
      .map((broken) => violationOf(project, right, broken, shape))
      .filter(({ key }) => !isTold(key)),
  ];
  if (wrong.length > 0) throw new ConfigurationError(wrong);
  return right as Of<S> & Always;
}

/**
 * Refuses settings that are right by themselves, but not on the platform that the stack stands on.
 * @throws ConfigurationError as of readSettings, where there are any
 */
export function refuseSettings<S extends object>(settings: S, broken: Broken<keyof S & string>[]): void {
  const project = pulumi.getProject();
  if (broken.length > 0) throw new ConfigurationError(broken.map((each) => violationOf(project, settings, each)));
}

function violationOf(
  project: string,
  values: object,
  { key, allowed, command }: Broken<string>,
  shape: Shape = {},
): Violation {
  const value = (values as Record<string, unknown>)[key];
  return {
    key: keyName([key], project),
    given: pulumi.Output.isInstance(value) ? SECRET : show(value),
    allowed,
    command: command === "remove" ? removeCommand([key], project) : howToSet(project, [key], shape[key]),
  };
}

const givenIn = (project: string) =>
  Object.fromEntries(
    Object.entries(pulumi.runtime.allConfig()).flatMap(([key, text]) =>
      key.startsWith(`${project}:`) ? [[key.slice(project.length + 1), text]] : [],
    ),
  );

function readKey(project: string, name: string, schema: z.ZodType, text: string | undefined) {
  const hidden = isSecret(schema);
  if (hidden && text !== undefined && !isSetAsSecret(`${project}:${name}`))
    return { value: pulumi.secret(text), violations: [secretViolation(name, "a value in plain text", project)] };
  const value = text === undefined ? undefined : hidden ? pulumi.secret(text) : isText(schema) ? text : fromJson(text);
  const { success, data, error } = schema.safeParse(value);
  if (success) return { value: data };
  // A part of what only a secret may be is shown as little as the whole.
  const given = isSetAsSecret(`${project}:${name}`) ? SECRET : show(value);
  const violations = error.issues.map(({ path, message }): Violation => {
    const where = [name, ...path];
    return { key: keyName(where, project), given, allowed: message, command: howToSet(project, where, schema) };
  });
  return { violations };
}

const unknown = (project: string, name: string, known: string[]): Violation => ({
  key: keyName([name], project),
  given: "a value",
  allowed: `no such key; known are ${known.join(", ")}`,
  command: removeCommand([name], project),
});

const howToSet = (project: string, [name, ...rest]: PropertyKey[], schema: z.ZodType | undefined) =>
  schema && isSecret(schema)
    ? secretViolation(String(name), "", project).command
    : setCommand([String(name), ...rest], "<value>", project);

/** The schema below its default. */
const inner = (schema: z.ZodType): z.ZodType =>
  schema instanceof z.ZodOptional || schema instanceof z.ZodDefault ? inner(schema.unwrap() as z.ZodType) : schema;

const isSecret = (schema: z.ZodType) => inner(schema).meta()?.secret === true;
const isText = (schema: z.ZodType) => inner(schema) instanceof z.ZodString || inner(schema) instanceof z.ZodEnum;

function fromJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export const cidr = z.cidrv4("a range of IPv4 such as 10.0.0.0/8");
/** Of a disk. */
export const size = z.string().regex(/^[1-9]\d*(Mi|Gi|Ti)$/, "a size such as 10Gi");

const PORT = "a port of 30000 to 32767";

/** Keys of a port of every machine that leads to the stack's pods. */
export const nodePortKeys = {
  /** @default none */
  nodePort: z.int(PORT).min(30000, PORT).max(32767, PORT).optional(),
  /** Who may use it. */
  nodePortFrom: z.array(cidr).default([]),
};

export const nodePortRules = (right: Partial<Of<typeof nodePortKeys>>): Broken<keyof typeof nodePortKeys>[] =>
  right.nodePort !== undefined && right.nodePortFrom?.length === 0
    ? [{ key: "nodePortFrom", allowed: "with nodePort, the ranges of those who may use it" }]
    : [];

const LOGIN = "registryUsername and registryPassword together, or neither where the registry asks for none";

/** Keys of an image of the stack's own, which `Image` builds and pushes, or takes as it is. */
export const imageKeys = {
  /** A ready one; it goes before `repository`. */
  image: z
    .string()
    .regex(/^\S+@sha256:[0-9a-f]{64}$/, "an image by digest, repository@sha256:…")
    .optional(),
  /** Where it is pushed to, without the registry's host, such as `acme/site`. */
  repository: z.string().optional(),
  registryUsername: z.string().optional(),
  registryPassword: secret().optional(),
};

export type ImageSettings = Of<typeof imageKeys>;

export const imageRules = (right: Partial<ImageSettings>): Broken<keyof ImageSettings>[] => [
  ...(right.image === undefined && right.repository === undefined
    ? [{ key: "repository" as const, allowed: "where the image is pushed to; or image, a ready one" }]
    : []),
  ...(right.registryUsername !== undefined && right.registryPassword === undefined
    ? [{ key: "registryPassword" as const, allowed: LOGIN }]
    : []),
  ...(right.registryPassword !== undefined && right.registryUsername === undefined
    ? [{ key: "registryUsername" as const, allowed: LOGIN }]
    : []),
];
