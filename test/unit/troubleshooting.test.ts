import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

const root = join(__dirname, "..", "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const filesIn = (folder: string, end: RegExp, recursive = true) =>
  readdirSync(join(root, folder), { recursive, encoding: "utf8" })
    .filter((path) => end.test(path) && !path.includes("node_modules"))
    .map((path) => join(folder, path));

/** What runs when a user uses it. The examples' own errors are of their own settings, the simulated cloud's are the real one's. */
const OURS = [
  ...filesIn(".", /\.ts$/, false),
  ...["components", "operations", "verify", "policy"].flatMap((folder) => filesIn(folder, /\.ts$/)),
  ...filesIn("local", /\.ts$/, false),
];
/** Where the words of DigitalOcean, the registry and Kubernetes are played, and what pods and kubectl run. */
const OTHERS = [
  ...filesIn("local/account", /\.ts$/),
  ...filesIn("local/providers", /\.ts$/),
  ...filesIn("app/api/src", /\.ts$/),
];
const SCRIPTS = [...filesIn("components", /\.(sh|mjs)$/), "local/bootstrap.mjs"];

/** Whose `allowed` is judged with the whole stack; what one key allows is in docs/configuration.md, what an arg allows in its JSDoc. */
const JUDGES = /^(configRules|preflight|preflightAws|previousRun|capacity|kubeconfig|components\/(dns|image))\.ts$/;

/** Errors of ours that the page leaves out. */
const LEFT_OUT: Record<string, string[]> = {
  "only a change of this program itself meets it, in its tests": [
    "a new cluster needs a version plan: run the preflight first",
    "the image … has no registry, and the cluster has none",
    "no generation of …'s password is given",
    "No generation stands in …",
    "… must be a plain object, so that its owner can be added",
    "A … has no way to be looked up: add one to operations/objects.ts",
    "…/go.mod does not require …",
    "… is no balancer of AWS; allowed: <name>.elb.<region>.amazonaws.com",
  ],
  "stands inside another text, as its reason": [
    "no SHA-256 is published for …",
    "…: … failed before",
    "DIGITALOCEAN_TOKEN is not set",
  ],
  "the line below it is the whole answer": ["The build was interrupted. The next one goes on from there."],
};

interface Text {
  at: string;
  text: string;
  /** An error's message, or what a violation allows. */
  isError: boolean;
}

/** Every text of a file, with `…` for each hole of a template; parts that are joined by `+` are one. */
function textsOf(file: string): Text[] {
  const source = ts.createSourceFile(file, read(file), ts.ScriptTarget.Latest, true);
  const found: Text[] = [];
  const visit = (node: ts.Node, isError: boolean): void => {
    const text = textOf(node);
    if (text === undefined) {
      ts.forEachChild(node, (child) =>
        visit(child, (isError && isThrough(node, child)) || isMessage(node, child, JUDGES.test(file))),
      );
      return;
    }
    const line = source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
    found.push({ at: `${file}:${line}`, text: text.replaceAll(/\s+/g, " "), isError });
    for (const hole of holesOf(node)) visit(hole, false);
  };
  visit(source, false);
  return found;
}

function isMessage(node: ts.Node, child: ts.Node, judges: boolean): boolean {
  if (ts.isNewExpression(node)) return /(Error|Miss)$/.test(node.expression.getText()) && child === node.arguments?.[0];
  if (!judges) return false;
  if (ts.isPropertyAssignment(node) || ts.isVariableDeclaration(node))
    return node.name.getText() === "allowed" && child === node.initializer;
  // The calls that make a violation of their texts.
  const at = ts.isCallExpression(node)
    ? { keep: 3, versionViolation: 1, refuse: 0 }[node.expression.getText()]
    : undefined;
  return at !== undefined && ts.isCallExpression(node) && child === node.arguments[at];
}

/** Through `a ? "…" : "…"` and brackets, but into no call. */
const isThrough = (node: ts.Node, child: ts.Node) =>
  ts.isParenthesizedExpression(node) || (ts.isConditionalExpression(node) && child !== node.condition);

function textOf(node: ts.Node): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isTemplateExpression(node))
    return node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join("");
  if (!ts.isBinaryExpression(node) || node.operatorToken.kind !== ts.SyntaxKind.PlusToken) return undefined;
  const [left, right] = [textOf(node.left), textOf(node.right)];
  return left === undefined && right === undefined ? undefined : `${left ?? "…"}${right ?? "…"}`;
}

function holesOf(node: ts.Node): ts.Node[] {
  if (ts.isTemplateExpression(node)) return node.templateSpans.map(({ expression }) => expression);
  if (!ts.isBinaryExpression(node)) return [];
  return [node.left, node.right].flatMap((side) => (textOf(side) === undefined ? [side] : holesOf(side)));
}

/** Whether `text` has what is quoted of it, whose `…` stand for anything. */
function has(text: string, quoted: string): boolean {
  let from = 0;
  for (const part of quoted.split("…").map((one) => one.trim())) {
    const at = text.indexOf(part, from);
    if (at < 0) return false;
    from = at + part.length;
  }
  return true;
}

/** What a text says by itself, without its holes. */
const words = (text: string) => text.replaceAll(/[^A-Za-z]/g, "");

/** The first column of each table, which quotes in code. */
const quoted = read("docs/troubleshooting.md")
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .flatMap((line) => [...(line.split(" | ")[0] ?? "").matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text));

describe("the errors in docs/troubleshooting.md", function () {
  this.timeout(60_000);
  let ours: Text[];
  let errors: Text[];
  before(() => {
    ours = OURS.flatMap(textsOf);
    errors = ours.filter(({ text, isError }) => isError && words(text).length >= 10);
  });

  it("must each be a text of the source", () => {
    const texts = [...ours, ...OTHERS.flatMap(textsOf)].map(({ text }) => text);
    const all = [...texts, ...SCRIPTS.map(read)];
    assert.deepEqual(
      quoted.filter((one) => words(one).length < 7 || !all.some((text) => has(text, one))),
      [],
    );
  });

  it("must be all that a user can meet, but for those that are left out for a reason", () => {
    const leftOut = Object.values(LEFT_OUT).flat();
    const missing = errors.filter(({ text }) => ![...quoted, ...leftOut].some((one) => has(text, one)));
    assert.deepEqual(
      missing.map(({ at, text }) => `${at}: ${text}`),
      [],
    );
  });

  it("must not be left out and told, or left out and gone", () => {
    const leftOut = Object.values(LEFT_OUT).flat();
    const idle = leftOut.filter(
      (one) => !errors.some(({ text }) => text === one && !quoted.some((told) => has(text, told))),
    );
    assert.deepEqual(idle, []);
  });
});
