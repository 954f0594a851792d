import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { ToolError } from "../../local/build";
import { cacheDirectory } from "../../local/paths";
import { type Origin, obtain } from "../../local/tools";

/** What a public checker has against an object. */
export interface Finding {
  tool: "kube-score" | "checkov";
  check: string;
  /** What it says, where one check says several things. */
  says?: string;
  /** `kind/namespace/name`; of what has no namespace, `kind/default/name`. */
  object: string;
}

export interface Report {
  findings: Finding[];
  /** Judgements made. */
  checks: number;
}

const KUBE_SCORE: Origin = {
  range: "1.20.0",
  versionArguments: ["version"],
  module: { directory: join(__dirname, "kube-score"), stamp: {} },
  package: "github.com/zegl/kube-score/cmd/kube-score",
  version: "1.20.0",
  seconds: 72,
  megabytes: 600,
};

/**
 * https://github.com/zegl/kube-score/blob/v1.20.0/README_CHECKS.md
 * @throws ToolError where there is no Go to build it with.
 */
export async function kubeScore(file: string): Promise<Report> {
  const tools = await obtain({ "kube-score": KUBE_SCORE }, ["kube-score"]);
  const { stdout } = await execa(tools["kube-score"].path, ["score", "--output-format", "json", file], {
    reject: false,
  });
  const objects: ScoredObject[] = JSON.parse(stdout);
  const judged = objects.flatMap(({ type_meta: { kind }, object_meta: { namespace = "default", name }, checks }) =>
    checks.filter(({ skipped }) => !skipped).map((check) => ({ ...check, object: `${kind}/${namespace}/${name}` })),
  );
  const findings = judged
    .filter(({ grade }) => grade < OK)
    .flatMap(({ check, comments, object }) =>
      (comments ?? []).map(({ summary }) => ({ tool: "kube-score" as const, check: check.id, says: summary, object })),
    );
  return { findings, checks: judged.length };
}

/** Critical is 1, a warning 5; what is almost right is 7. */
const OK = 10;

interface ScoredObject {
  type_meta: { kind: string };
  object_meta: { name: string; namespace?: string };
  checks: {
    check: { id: string };
    grade: number;
    skipped: boolean;
    comments: { summary: string }[] | null;
  }[];
}

/**
 * https://www.checkov.io/5.Policy%20Index/kubernetes.html
 * @throws ToolError without Python, or where its packages can't be had.
 */
export async function checkov(file: string): Promise<Report> {
  const python = await checkovPython();
  // Without the last one it asks its maker's service for links and severities.
  const options = ["--framework", "kubernetes", "--output", "json", "--compact", "--quiet", "--skip-download"];
  const { stdout } = await execa(python, ["-m", "checkov.main", "--file", file, ...options], { reject: false });
  const { results, summary }: CheckovReport = JSON.parse(stdout);
  const findings = results.failed_checks.map(({ check_id, resource }) => {
    const [kind, ...name] = resource.split(".");
    return { tool: "checkov" as const, check: check_id, object: [kind, ...name].join("/") };
  });
  return { findings, checks: summary.passed + summary.failed };
}

interface CheckovReport {
  results: { failed_checks: { check_id: string; resource: string }[] };
  summary: { passed: number; failed: number };
}

/** The Python of an environment that has what requirements.txt names and no more; made once, and kept in the tools' cache. */
async function checkovPython(): Promise<string> {
  const requirements = join(__dirname, "checkov", "requirements.txt");
  const pin = createHash("sha256").update(readFileSync(requirements)).digest("hex").slice(0, 16);
  const directory = join(cacheDirectory(), "tools", `checkov-${pin}`);
  const python = join(directory, "bin", "python");
  const complete = join(directory, "complete");
  if (existsSync(complete)) return python;
  rmSync(directory, { recursive: true, force: true });
  const run = async (command: string, args: string[]) => {
    const result = await execa(command, args, { all: true, reject: false });
    if (result.failed) throw new ToolError(`checkov can't be installed: ${result.all?.trim().split("\n").at(-1)}`);
  };
  await run("python3", ["-m", "venv", directory]);
  await run(python, ["-m", "pip", "install", "--quiet", "--no-deps", "--no-input", "--requirement", requirements]);
  writeFileSync(complete, "");
  return python;
}
