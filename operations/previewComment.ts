import { type Change, changesOf, type EngineEvent, inputsOf } from "./events";

/** The most that GitHub takes for one comment. Source: its API answers 422, "body is too long (maximum is 65536 characters)". */
export const COMMENT_LIMIT = 65_536;

export interface CommentArgs {
  stack: string;
  /** In the order in which the engine told them. */
  events: EngineEvent[];
  /** How the engine ended. */
  exitCode: number;
  /** What it said besides its events, for a preview that failed before the first one. @default nothing */
  stderr?: string;
  /** Line on what the change costs, as Markdown. @default none */
  cost?: string;
  /** Who made it and where it was made, as Markdown. @default none */
  footer?: string;
}

/** By which a later run finds the comment again. */
export const markerOf = (stack: string): string => `<!-- hobnob preview ${stack.replaceAll(/[^\w./-]/g, "")} -->`;

/** What is lost or stands still with one, by type. */
const GRAVE: [type: RegExp, loss: string][] = [
  [/:KubernetesCluster$|^aws:eks\/.*:Cluster$/, "the cluster, with all that runs in it"],
  [/:KubernetesNodePool$|^aws:eks\/.*:NodeGroup$/, "machines of the cluster: their pods have to move"],
  [/:Vpc$/, "the network, and the cluster in it"],
  [/:Domain$/, "the DNS zone, with every record in it"],
  [/^kubernetes:core\/v1:Namespace$/, "all in the namespace, claims of disks included"],
  [/^kubernetes:apps\/v1:StatefulSet$/, "all its pods stop at once; its claims stay, with their disks"],
  [/^kubernetes:core\/v1:PersistentVolume(Claim)?$|:Volume$/, "a disk, with the data on it"],
  [/:SpacesBucket$|^aws:s3\/.*:Bucket(V2)?$/, "a bucket, with the data in it"],
  [/^(random|tls):/, "a password or key: whoever has the old one is locked out"],
];

const lossOf = ({ type, kind, old }: Change): string | undefined => {
  if (kind !== "replace" && kind !== "delete") return undefined;
  const service = (old?.inputs?.spec ?? {}) as { type?: string };
  if (type === "kubernetes:core/v1:Service" && service.type === "LoadBalancer")
    return "the balancer, and with it the public address";
  return GRAVE.find(([pattern]) => pattern.test(type))?.[1];
};

const ORDER: Change["kind"][] = ["replace", "delete", "update", "create"];
const SIGN = { replace: "-", delete: "-", update: "!", create: "+" } as const;
const DONE = { replace: "replaced", delete: "deleted", update: "updated", create: "created" } as const;

/** The comment of a pull request on what it would do to one stack; never longer than GitHub takes. */
export function renderComment(args: CommentArgs): string {
  const { stack, events, exitCode, cost, footer } = args;
  const changes = changesOf(events).sort((a, b) => rank(a) - rank(b));
  const sections = [
    markerOf(stack),
    title(stack, changes, exitCode),
    exitCode === 0 ? undefined : failure(events, args.stderr),
    graveChanges(changes),
    table(changes, events),
    cost && `**Cost:** ${cost}`,
    policies(events),
    warnings(events),
  ].filter((section) => section !== undefined);
  const end = footer ? `\n\n<sub>${footer}</sub>\n` : "\n";
  const head = within(sections.join("\n\n"), COMMENT_LIMIT - end.length);
  return head + fullDiff(changes, COMMENT_LIMIT - head.length - end.length, stack) + end;
}

/** What must be seen comes first, also where the rest is cut. */
const rank = (change: Change) => ORDER.indexOf(change.kind) - (lossOf(change) ? 10 : 0);

function title(stack: string, changes: Change[], exitCode: number): string {
  const counts = ORDER.map((kind) => [countOf(changes, kind), DONE[kind]] as const).filter(([count]) => count > 0);
  const what = counts.map(([count, done]) => `${count} ${done}`).join(", ") || "no changes";
  return `## ${exitCode === 0 ? "" : "❌ "}Preview of ${code(stack)}: ${exitCode === 0 ? what : "failed"}`;
}

const countOf = (changes: Change[], kind: Change["kind"]) => changes.filter((one) => one.kind === kind).length;

function failure(events: EngineEvent[], stderr = ""): string {
  const said = diagnostics(events, "error");
  const text = said.length > 0 ? said.join("\n\n") : stderr.trim() || "The engine ended without a word.";
  return `> [!CAUTION]\n> This change cannot be deployed as it is.\n\n${fence(shorten(text, 20_000))}`;
}

function graveChanges(changes: Change[]): string | undefined {
  const grave = changes.flatMap((change) => {
    const loss = lossOf(change);
    return loss === undefined ? [] : [{ change, loss }];
  });
  if (grave.length === 0) return undefined;
  const lines = grave.map(({ change, loss }) => {
    const because = change.properties.filter(({ replaces }) => replaces).map(propertyInline);
    const why = because.length > 0 ? `<br>because of ${because.slice(0, 3).join(", ")}` : "";
    return `> - **${change.kind}** ${code(shortType(change.type))} ${code(change.name)}: ${loss}${why}`;
  });
  const more = lines.length > 25 ? [`> - … and ${lines.length - 25} more, first in the full diff`] : [];
  return [
    "> [!CAUTION]",
    "> **Data, addresses or the cluster would be replaced or deleted:**",
    ">",
    ...lines.slice(0, 25),
    ...more,
  ].join("\n");
}

const propertyInline = (property: Change["properties"][number]) =>
  `${code(property.path)}: ${[property.old, property.new].map((value) => code(shorten(value ?? "nothing", 80))).join(" → ")}`;

function table(changes: Change[], events: EngineEvent[]): string {
  const same = events.find(({ summaryEvent }) => summaryEvent)?.summaryEvent?.resourceChanges?.same ?? 0;
  const cells = (["create", "update", "replace", "delete"] as const).map((kind) => {
    const count = countOf(changes, kind);
    return count > 0 && /replace|delete/.test(kind) ? `**${count}**` : count;
  });
  return [
    "| create | update | replace | delete | unchanged |",
    "| ---: | ---: | ---: | ---: | ---: |",
    `| ${[...cells, same].join(" | ")} |`,
  ].join("\n");
}

function policies(events: EngineEvent[]): string | undefined {
  const found = events.flatMap(({ policyEvent }) => policyEvent ?? []);
  const passed = events.flatMap(({ policyAnalyzeStackSummaryEvent: summary }) => summary?.passed ?? []).length;
  if (found.length === 0) return passed > 0 ? `**Policies:** all ${passed} rules are kept.` : undefined;
  const rows = found.map(({ enforcementLevel, policyName, message }) => {
    const said = shorten(message.split("\n").at(-1) ?? "", 500);
    return `| ${enforcementLevel === "mandatory" ? "❌" : "⚠️"} ${enforcementLevel} | ${cell(policyName)} | ${cell(said)} |`;
  });
  const more = rows.length > 40 ? `\n\n… and ${rows.length - 40} more.` : "";
  const head = `**Policies:** ${found.length} found.\n\n| level | rule | finding |\n| --- | --- | --- |`;
  return `${head}\n${rows.slice(0, 40).join("\n")}${more}`;
}

function warnings(events: EngineEvent[]): string | undefined {
  const said = diagnostics(events, "warning");
  if (said.length === 0) return undefined;
  return details(`${said.length} ${said.length === 1 ? "warning" : "warnings"}`, fence(shorten(said.join("\n"), 5000)));
}

const diagnostics = (events: EngineEvent[], severity: string): string[] => [
  ...new Set(
    events
      .flatMap(({ diagnosticEvent }) => (diagnosticEvent?.severity === severity ? [diagnosticEvent.message] : []))
      // biome-ignore lint/suspicious/noControlCharactersInRegex: what colours a terminal
      .map((message) => message.replaceAll(/\u001b\[[\d;]*m|<\{%[^%]*%\}>/g, "").trim())
      .filter((message) => message !== ""),
  ),
];

/** Every change with its properties, the gravest first; where they do not all fit, the last ones are counted. */
function fullDiff(changes: Change[], room: number, stack: string): string {
  if (changes.length === 0) return "";
  const open = (text: string) => `\n\n${details(`Full diff: ${changes.length} resources`, fence(text, "diff"))}`;
  const whole = changes.map(block);
  // Without all that a new resource is made with, more resources fit.
  const briefer = changes.map((change, index) => (change.kind === "create" ? heading(change) : (whole[index] ?? "")));
  for (const blocks of [whole, briefer]) {
    const all = open(blocks.join("\n\n"));
    if (all.length <= room) return all;
  }
  let kept = 0;
  const cut = (count: number) =>
    open(
      [
        ...briefer.slice(0, count),
        `… and ${briefer.length - count} more; all of them: npm run stack -- ${stack} preview --diff`,
      ].join("\n\n"),
    );
  while (kept < briefer.length && cut(kept + 1).length <= room) kept++;
  return cut(kept).length <= room ? cut(kept) : "";
}

const heading = ({ kind, type, name }: Change) => `${SIGN[kind]} ${kind} ${shortType(type)} ${oneLine(name)}`;

function block(change: Change): string {
  const properties = change.kind === "create" ? inputsOf(change) : change.properties;
  const lines = properties.map(({ path, old, new: wanted, replaces }) => {
    const value = change.kind === "create" ? wanted : `${old ?? "(nothing)"} → ${wanted ?? "(nothing)"}`;
    return `    ${path}: ${value}${replaces ? "   # replaces it" : ""}`;
  });
  return [heading(change), ...lines.map(oneLine)].join("\n");
}

/** `kubernetes:apps/v1:StatefulSet` → `StatefulSet` */
const shortType = (type: string) =>
  type.startsWith("pulumi:providers:") ? `provider ${type.split(":")[2]}` : (type.split(":").at(-1) ?? type);

const details = (summary: string, text: string) => `<details><summary>${summary}</summary>\n\n${text}\n\n</details>`;

// Nothing foreign stands outside of code: in it neither Markdown nor HTML nor a mention means anything.

const oneLine = (text: string) => text.replaceAll(/\s*[\r\n]+\s*/g, " ");

/** A code span that `text` cannot end. */
function code(text: string): string {
  const plain = oneLine(text) || " ";
  const ticks = "`".repeat(longestRun(plain) + 1);
  return ticks.length === 1 ? `\`${plain}\`` : `${ticks} ${plain} ${ticks}`;
}

/** In a table a bar would end the cell, in a code span too. */
const cell = (text: string) => code(text).replaceAll("|", "\\|");

function fence(text: string, language = "text"): string {
  const ticks = "`".repeat(Math.max(3, longestRun(text) + 1));
  return `${ticks}${language}\n${text}\n${ticks}`;
}

const longestRun = (text: string) => Math.max(0, ...(text.match(/`+/g) ?? []).map(({ length }) => length));

const shorten = (text: string, most: number) =>
  text.length <= most ? text : `${text.slice(0, most)}… (${text.length - most} characters more)`;

/** A last resort: a code block that the cut left open is closed. */
function within(text: string, room: number): string {
  if (text.length <= room) return text;
  const kept = text.slice(0, room - 40);
  const open = [...kept.matchAll(/^(`{3,})/gm)].length % 2 === 1;
  return `${kept}\n${open ? "```\n" : ""}… (cut)`;
}
