import { basename } from "node:path";

/** What no preview depends on; whatever is not known to be such touches every stack. */
const ASIDE = [
  /\.md$/,
  /^(docs|examples|faults|bench|test|verify|scripts|local|clusters|\.github)\//,
  /^(LICENSE|biome\.json|knip\.json|renovate\.json|\.mocharc\.json|\.editorconfig|\.gitignore)$/,
];

/**
 * The stacks that a change touches, in their order.
 * @param changed paths from the root of the repository
 * @param stacks those that are deployed
 */
export function touchedStacks(changed: string[], stacks: string[]): string[] {
  const settings = /^Pulumi\.([^/]+)\.yaml$/;
  const touchesAll = changed.some((path) => !settings.test(path) && !ASIDE.some((aside) => aside.test(path)));
  const own = new Set(changed.map((path) => settings.exec(path)?.[1]));
  return stacks.filter((stack) => touchesAll || own.has(stack));
}

/**
 * The stacks of a project that are deployed by a workflow: those with settings, but for the one of this machine.
 * @param files each with what stands in it
 */
export function deployedStacks(files: Record<string, { config?: object } | null>): string[] {
  return Object.entries(files)
    .filter(([, settings]) => Object.keys(settings?.config ?? {}).length > 0)
    .map(([file]) => basename(file).slice("Pulumi.".length, -".yaml".length))
    .filter((stack) => stack !== "local")
    .sort();
}
