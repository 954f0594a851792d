import { parse } from "yaml";

interface Job {
  permissions?: unknown;
  concurrency?: { "cancel-in-progress"?: unknown };
  steps?: Step[];
}

interface Step {
  uses?: string;
  run?: string;
}

/** What this repository asks of a workflow or an action, besides that it can be run. @returns one line for each fault */
export function workflowFaults(text: string): string[] {
  const file = parse(text) as {
    on?: object;
    permissions?: object;
    jobs?: Record<string, Job>;
    runs?: { steps?: Step[] };
  };
  const jobs = Object.entries(file.jobs ?? {});
  const steps = [...jobs.flatMap(([, { steps = [] }]) => steps), ...(file.runs?.steps ?? [])];
  const unpinned = steps.filter(
    ({ uses }) => uses && !uses.startsWith("./") && !/@(v\d+\.\d+\.\d+|[0-9a-f]{40})$/.test(uses),
  );
  const pasted = steps.filter(({ run }) => run?.includes("${{"));
  const updates = jobs.filter(([, { steps = [] }]) =>
    steps.some(({ run = "" }) =>
      /npm run .*\b(promote|rollback|rotate|restore)\b|\bstack -- .* (up|destroy)\b/.test(run),
    ),
  );
  return [
    ...unpinned.map(({ uses }) => `${uses} must be pinned by an exact version or a commit`),
    ...pasted.map(({ run }) => `an expression in a script is whatever its value says; hand it over in env: ${run}`),
    ...updates
      .filter(([, { concurrency }]) => concurrency?.["cancel-in-progress"] !== false)
      .map(([name]) => `the job ${name} updates a stack: its concurrency needs cancel-in-progress: false`),
    ...(file.jobs && JSON.stringify(file.permissions) !== '{"contents":"read"}'
      ? ["the workflow's permissions must be contents: read; a job asks for what else it needs"]
      : []),
    ...(/pull_request_target/.test(text) ? ["pull_request_target gives a fork's code the secrets"] : []),
  ];
}
