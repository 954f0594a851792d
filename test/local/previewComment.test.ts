import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { browserMissing, openBrowser } from "../../examples/frontend/test/browser";
import { previewComment } from "../../operations/ciPreview";
import { githubPage } from "./githubPage";
import { OfflineStack } from "./offlineStack";
import { previousState } from "./previousState";

/** Where the comment and its picture go; none is made without it. */
const PICTURES = process.env.PICTURES;

describe("the comment on a change that replaces Elasticsearch's set", function () {
  this.timeout(3 * 60_000);
  let comment: string;
  let exitCode: number;

  before("preview it with the real engine", async () => {
    const stack = await OfflineStack.start();
    try {
      const state = previousState();
      const outputs = state.deployment.resources.find(({ type }) => type === "pulumi:pulumi:Stack")?.outputs ?? {};
      outputs.monthlyCost = { priced: true, currency: "USD", minimum: 87, maximum: 87 };
      await stack.import(state);
      const settings = {
        "hobnob:cluster": { region: "fra1", ha: false, systemPool: { size: "s-2vcpu-4gb", count: 4 } },
        "hobnob:storage": { className: "fast" },
        "hobnob:ingress": { replicas: 3, maxBodySize: "8m" },
      };
      ({ comment, exitCode } = await previewComment(
        "local",
        (args, env) => stack.engine(["preview", "--stack", "local", ...args], settings, env),
        {},
      ));
    } finally {
      await stack.stop();
    }
    if (PICTURES) writeFileSync(join(PICTURES, "preview-comment.md"), comment);
  });

  it("must name it, and why, before the counts, the cost, the policies and the folded rest", () => {
    assert.equal(exitCode, 0, comment);
    const order = [
      /^<!-- hobnob preview local -->/,
      /^## Preview of `local`: 4 replaced, \d+ updated, \d+ created$/m,
      /^> - \*\*replace\*\* `StatefulSet` `elasticsearch`: .*storageClassName`: `"hobnob-block-storage"` → `"fast"`$/m,
      /^\| \d+ \| \d+ \| \*\*4\*\* \| 0 \| \d+ \|$/m,
      /^\*\*Cost:\*\* \$111\.00 a month, \$24\.00 more than now$/m,
      /^\*\*Policies:\*\* all \d+ rules are kept\.$/m,
      /^<details><summary>Full diff: \d+ resources<\/summary>$/m,
      /^- replace StatefulSet elasticsearch$/m,
      /^ {4}spec\.replicas: 2 → 3$/m,
    ].map((part) => {
      assert.match(comment, part);
      return comment.search(part);
    });
    assert.deepEqual(
      order.toSorted((a, b) => a - b),
      order,
    );
  });

  it("must hold neither a secret nor a colour of the terminal", () => {
    assert.doesNotMatch(comment, /stand-in|<\{%/);
    assert.ok(!comment.includes("\u001b"));
    assert.match(comment, /kubeconfig: \[secret\]/);
  });

  it("must be seen at a glance in a browser: what is lost on the first screen, the rest folded", async function () {
    const missing = await browserMissing();
    if (missing) {
      console.log(`    left out: ${missing}`);
      this.skip();
    }
    const browser = await openBrowser();
    try {
      const page = await browser.newPage();
      await page.setViewportSize({ width: 892, height: 600 });
      await page.setContent(githubPage(comment));
      if (PICTURES) await page.screenshot({ path: join(PICTURES, "preview-comment.png"), fullPage: true });
      const box = await page.locator(".markdown-alert").boundingBox();
      assert.ok(box && box.y < 150 && box.y + box.height < 400, JSON.stringify(box));
      const diff = page.locator("code.language-diff");
      assert.equal(await diff.isVisible(), false);
      assert.equal(await page.evaluate("document.documentElement.scrollHeight <= innerHeight"), true);
      await page.getByText("Full diff").click();
      assert.equal(await diff.isVisible(), true);
      assert.equal(await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), true);
    } finally {
      await browser.close();
    }
  });
});
