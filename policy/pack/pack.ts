import { PolicyPack, type PolicyResource, type ReportViolation, type StackValidationArgs } from "@pulumi/policy";
import { rules, violations } from "../policies";
import { type Resource, UNKNOWN } from "../resources";

/**
 * What the program asked for, by URN. The engine shows a stack only as the providers answered, which is nothing in a
 * preview of a cluster that is not there yet; each resource's inputs come one by one before that.
 */
const inputs = new Map<string, unknown>();

/** The engine's view of a value throws where a preview cannot know it. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return Array.from(value.keys(), (index) => read(value, index));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.keys(value).map((key) => [key, read(value, key)]));
}

function read(owner: object, key: string | number): unknown {
  try {
    return plain((owner as Record<string | number, unknown>)[key]);
  } catch {
    return UNKNOWN;
  }
}

const asked = ({ type, name, urn, props, opts, propertyDependencies }: PolicyResource): Resource => ({
  type,
  name,
  urn,
  props: inputs.get(urn) ?? plain(props),
  protect: opts.protect,
  propertyDependencies: Object.fromEntries(
    Object.entries(propertyDependencies).map(([property, sources]) => [property, sources.map((source) => source.urn)]),
  ),
});

new PolicyPack("hobnob", {
  enforcementLevel: "mandatory",
  policies: [
    {
      name: "inputs",
      description: "Keeps what the program asked for, which the other policies judge.",
      validateResource: ({ urn, props }) => {
        inputs.set(urn, plain(props));
      },
    },
    ...rules.map((rule) => ({
      name: rule.name,
      description: rule.description,
      validateStack: ({ resources }: StackValidationArgs, report: ReportViolation) => {
        // The stack's own properties are its outputs, of which the secret ones are marked so.
        const judged = resources.filter(({ type }) => type !== "pulumi:pulumi:Stack").map(asked);
        for (const { message, urn } of violations(judged, { rules: [rule] })) report(message, urn);
      },
    })),
  ],
});
