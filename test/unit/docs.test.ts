import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const root = join(__dirname, "..", "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const under = (folder: string, end: string) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((path) => join(folder, path))
    .filter((path) => path.endsWith(end) && !path.includes("node_modules"));

/** What a user reads; decisions tell what was so when they were taken. */
const PAGES = [
  "README.md",
  ...under("docs", ".md").filter((page) => !page.startsWith(join("docs", "decisions"))),
  "examples/README.md",
  ...readdirSync(join(root, "examples"))
    .map((name) => join("examples", name, "README.md"))
    .filter((page) => existsSync(join(root, page))),
  "templates/service/README.md",
];

interface Fence {
  line: number;
  language: string;
  /** The line above it. */
  above: string;
  lines: string[];
}

function fencesOf(text: string): Fence[] {
  const lines = text.split("\n");
  const fences: Fence[] = [];
  for (let i = 0; i < lines.length; i++) {
    const [, indent = "", language] = /^( *)```(.*)$/.exec(lines[i] ?? "") ?? [];
    if (language === undefined) continue;
    const end = lines.findIndex((line, n) => n > i && /^ *```$/.test(line));
    const within = lines.slice(i + 1, end).map((line) => line.slice(indent.length));
    fences.push({ line: i + 1, language, above: lines[i - 1] ?? "", lines: within });
    i = end;
  }
  return fences;
}

/** Each command of a fence, without comments, here-documents and the body of a loop; of a session what follows `$ `. */
function commandsOf({ language, lines }: Fence): string[] {
  const joined = lines
    .join("\n")
    .replaceAll(/\\\n\s*/g, "")
    .replaceAll(/<<-?'?(\w+)'?(.*)\n[\s\S]*?\n\1$/gm, "$2");
  const typed = joined.split("\n").flatMap((line) => {
    if (language !== "console") return /^(#|do$|done$|\s|$)/.test(line) ? [] : [line];
    return line.startsWith("$ ") ? [line.slice(2)] : [];
  });
  return typed.map((line) => line.replace(/\s+#\s.*$/, "").trim());
}

/** `<!-- run by <tests>; not run (<beginnings of commands>): <reason> -->`, either half alone too. */
const MARK = /^ *<!-- (?:run by ([^;]+?))?(?:; )?(?:not run(?: \((.+?)\))?: (.+?))? -->$/;

/** What a test must hold that runs a command: the script with our own flags; of another program its name and its verb. */
function essentials(command: string): string[] {
  const [program = "", ...args] = command.split(/\s+/).filter((word) => !/^(--silent|&&?|\w+=.*)$/.test(word));
  if (program !== "npm") return [program, ...args.slice(0, 1)].filter((word) => /^[a-z]/.test(word));
  const [script = "", ...rest] = (args[0] === "run" ? args.slice(1) : args).filter((arg) => arg !== "--");
  const verb = /^(local|kubectl)$/.test(script) ? rest.slice(0, 1) : script === "stack" ? rest.slice(1, 2) : [];
  return [script, ...verb, ...(PARSERS[script] ? rest.filter((arg) => arg.startsWith("--")) : [])];
}

/** As an argument of its own, or the file of the command; of a program (`pulumi`) also as a property. */
const holds = (text: string, word: string) => {
  const escaped = word.replaceAll(/[^\w]/g, "\\$&");
  return new RegExp(`(["'\`]|npm run )${escaped}(\\.ts)?["'\`]|npm run ${escaped}\\b|\\.${escaped}\\b`).test(text);
};

/** What is wrong with how a fence says that its commands are tested. */
function faultsOf(fence: Fence): string[] {
  if (fence.language === "")
    return fence.lines.some((line) => /^(\$|npm|pulumi|kubectl) /.test(line))
      ? ["commands in a fence without a language"]
      : [];
  const commands = commandsOf(fence);
  if (!/^(sh|bash|shell|console)$/.test(fence.language) || commands.length === 0) return [];
  const [mark, tests, some, reason] = MARK.exec(fence.above) ?? [];
  if (!mark || (!tests && !reason)) return ["not marked: <!-- run by <test file> --> or <!-- not run: <reason> -->"];
  const files = (tests ?? "").split(", ").filter((file) => file !== "");
  const missing = files.filter((file) => !/\.test\.ts$/.test(file) || !existsSync(join(root, file)));
  if (missing.length > 0) return missing.map((file) => `no such test: ${file}`);
  const mentioned = [...(reason ?? "").matchAll(/[\w./-]+\.test\.ts/g)].map(String);
  const gone = mentioned.filter((file) => !existsSync(join(root, file))).map((file) => `no such test: ${file}`);
  const beginnings = some?.split(", ") ?? [];
  const idle = beginnings.filter((beginning) => !commands.some((command) => command.startsWith(beginning)));
  const run = commands.filter((command) =>
    reason && !some ? false : !beginnings.some((one) => command.startsWith(one)),
  );
  const texts = files.map(read).join("\n");
  const untested = run.flatMap((command) =>
    essentials(command)
      .filter((word) => !holds(texts, word))
      .map((word) => `${files.join(", ")} does not run: ${command} (no ${word} in it)`),
  );
  return [...gone, ...idle.map((one) => `excepts what is not there: ${one}`), ...untested];
}

const withoutFences = (text: string) => text.replaceAll(/^ *```[\s\S]*?^ *```$/gm, "");

/** As GitHub makes it of a heading. */
const anchor = (heading: string) =>
  heading
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replaceAll(/\s/g, "-");
const anchorsOf = (text: string) =>
  [...withoutFences(text).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => anchor(heading));

function brokenLinks(page: string): string[] {
  const links = [...withoutFences(read(page)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = ""]) => link);
  return links
    .filter((link) => !/^[a-z]+:/.test(link))
    .filter((link) => {
      const [path = "", heading] = link.split("#");
      const target = path === "" ? page : normalize(join(dirname(page), path));
      if (!existsSync(join(root, target))) return true;
      return heading !== undefined && !anchorsOf(read(target)).includes(heading);
    });
}

/** Where a command reads its own flags; the others hand theirs on to pulumi, kubectl or mocha. */
const PARSERS: Record<string, string> = {
  start: "local/cli.ts",
  examples: "local/examples.ts",
  cost: "local/cost.ts",
  graph: "local/graph.ts",
  status: "local/status.ts",
  verify: "local/verify.ts",
  drift: "local/drift.ts",
  "ci:preview": "local/ciPreview.ts",
  restore: "local/operate.ts",
  faults: "faults/main.ts",
};

describe("the documentation", () => {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };

  it("must be found from the README's first screen", () => {
    const screen = read("README.md").split("<!-- graph")[0] ?? "";
    assert.deepEqual(
      PAGES.filter((page) => page.startsWith("docs/") && !screen.includes(`(${page})`)),
      [],
    );
  });

  for (const page of PAGES) {
    describe(page, () => {
      const text = read(page);

      it("must say of every command which test runs it, or why none does", () =>
        assert.deepEqual(
          fencesOf(text).flatMap((fence) => faultsOf(fence).map((fault) => `${page}:${fence.line}: ${fault}`)),
          [],
        ));

      it("must name no npm script, and no flag of ours, that there is not", () => {
        const wrong = [...text.matchAll(/\bnpm (?:run (?:--silent )?([\w:-]+)|(test|start|stop))([^`\n#]*)/g)].flatMap(
          ([command, script, short, rest = ""]) => {
            const name = script ?? short ?? "";
            if (scripts[name] === undefined) return [command];
            const [, args = ""] = /^ -- (.*)$/.exec(rest.split(/&&|\)|;/)[0] ?? "") ?? [];
            const parser = PARSERS[name];
            const flags = [...args.matchAll(/(?<!\S)--([a-z][\w-]*)/g)].map(([, flag = ""]) => flag);
            const known = parser ? read(parser) : "";
            return parser
              ? flags
                  .filter((flag) => !new RegExp(`\\b"?(--)?${flag}"?(:|"|')`).test(known))
                  .map((flag) => `npm run ${name} -- --${flag}`)
              : [];
          },
        );
        assert.deepEqual(wrong, []);
      });

      it("must have no link that leads nowhere", () => assert.deepEqual(brokenLinks(page), []));
    });
  }
});
