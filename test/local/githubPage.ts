import { readFileSync } from "node:fs";
import { marked } from "marked";

const css = readFileSync(require.resolve("github-markdown-css/github-markdown-light.css"), "utf8");

/** What a comment looks like at GitHub, as far as its published style tells; the colours of `diff` are its highlighter's. */
export function githubPage(markdown: string): string {
  const html = String(marked.parse(markdown, { gfm: true, async: false }))
    .replaceAll(
      /<blockquote>\s*<p>\[!(\w+)\]\s*([\s\S]*?)<\/blockquote>/g,
      (_, kind: string, rest: string) =>
        `<div class="markdown-alert markdown-alert-${kind.toLowerCase()}"><p class="markdown-alert-title">${kind[0]}${kind.slice(1).toLowerCase()}</p><p>${rest}</div>`,
    )
    .replaceAll(
      /(<code class="language-diff">)([\s\S]*?)(<\/code>)/g,
      (_, open: string, text: string, close: string) => open + text.split("\n").map(coloured).join("\n") + close,
    );
  return `<!doctype html><meta charset="utf-8"><style>${css}
body { margin: 0; padding: 16px; background: #fff; }
article { box-sizing: border-box; max-width: 860px; border: 1px solid #d1d9e0; border-radius: 6px; padding: 16px; }
.i { color: #116329; background: #dafbe1 } .d { color: #82071e; background: #ffebe9 } .c { color: #953800; background: #ffd8b5 }
</style><article class="markdown-body">${html}</article>`;
}

function coloured(line: string): string {
  const kind = { "+": "i", "-": "d", "!": "c" }[line[0] ?? ""];
  return kind ? `<span class="${kind}">${line}</span>` : line;
}
