import { availability } from "./availability";
import { type Exception, exceptions } from "./exceptions";
import { privileges } from "./privileges";
import type { Resource } from "./resources";
import { secrets } from "./secrets";

/** What a rule says of one resource: what it found there, and what to set so that it finds it no more. */
export interface Finding {
  resource: Resource;
  found: string;
  set: string;
}

export interface Rule {
  /** Unique; an exception names it. */
  name: string;
  description: string;
  check: (resources: Resource[]) => Finding[];
}

export interface Violation {
  /** Name of the rule. */
  rule: string;
  /** Of the resource. */
  urn: string;
  /** Names the resource, what was found, what to set. */
  message: string;
}

/** Every rule that a stack must satisfy; a new one is one more function, in one of these lists or one of its own. */
export const rules: Rule[] = [...availability, ...privileges, ...secrets];

/** What stands against the rules in a stack, after its exceptions; one that excepts nothing any more is a violation itself. */
export function violations(
  resources: Resource[],
  { exceptions: allowed = exceptions, rules: judged = rules }: { exceptions?: Exception[]; rules?: Rule[] } = {},
): Violation[] {
  const found = judged.flatMap((rule) => rule.check(resources).map((finding) => ({ rule: rule.name, ...finding })));
  const excepts = (exception: Exception, finding: (typeof found)[number]) =>
    exception.rule === finding.rule &&
    exception.resource === address(finding.resource) &&
    exception.found === finding.found;
  const open = found
    .filter((finding) => !allowed.some((exception) => excepts(exception, finding)))
    .map(({ rule, resource, found, set }) => ({
      rule,
      urn: resource.urn,
      message: `${address(resource)}: found ${found}; set ${set}.`,
    }));
  const unused = allowed
    .filter(({ bySettings }) => !bySettings)
    .filter((exception) => judged.some(({ name }) => name === exception.rule))
    .filter((exception) => !found.some((finding) => excepts(exception, finding)))
    .flatMap(({ rule, resource, found }) =>
      resources
        .filter((one) => address(one) === resource)
        .map(({ urn }) => ({
          rule,
          urn,
          message: `${resource}: the exception for "${found}" excepts nothing; remove it from policy/exceptions.ts.`,
        })),
    );
  return [...open, ...unused];
}

/** How an exception and a message name a resource: the same in every stack. */
const address = ({ type, name }: Resource): string => `${type}::${name}`;
