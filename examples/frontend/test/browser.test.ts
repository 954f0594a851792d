import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import {
  type ElasticsearchProcesses,
  elasticsearchAvailable,
  startElasticsearch,
} from "../../../local/elasticsearch/process";
import { type Api, ask, buildApi, run as runApi, startApi, stop, stopAll, until } from "../../../test/app/process";
import { browserMissing, openBrowser } from "./browser";
import { buildSite, startSite, stopSite } from "./site";

const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
/** Where pictures of the page go; none are made without it. */
const PICTURES = process.env.PICTURES;

const PHONE = { width: 375, height: 812 };
const DESKTOP = { width: 1280, height: 860 };

describe("front end in a real browser, on the sample API", function () {
  this.timeout(180_000);
  let elasticsearch: ElasticsearchProcesses | undefined;
  let api: Api;
  let site: Awaited<ReturnType<typeof startSite>> | undefined;
  let browser: Browser | undefined;
  let page: Page;
  /** What the browser itself found wrong, in order. */
  let complaints: string[];
  const asked = new Set<string>();

  before("start Elasticsearch, the API, the front end's server and a browser", async function () {
    const missing = (await browserMissing()) ?? (await elasticsearchAvailable());
    if (missing) {
      console.log(`    left out: ${missing}`);
      this.skip();
    }
    [elasticsearch] = await Promise.all([startElasticsearch(), buildApi(), buildSite()]);
    api = await startApi(Number(new URL(elasticsearch.urls[0] as string).port));
    await until(async () => (await ask(`${api.url}/readyz`)).status === 200);
    site = await startSite({ API_URL: api.url });
    browser = await openBrowser();
  });

  after(async () => {
    await browser?.close();
    await stopAll();
    if (site) await stopSite(site);
    await elasticsearch?.stop();
  });

  async function open(path = "/"): Promise<void> {
    complaints = [];
    page = await (browser as Browser).newPage();
    page.setDefaultTimeout(15_000);
    page.on("console", (message) => /error|warning/.test(message.type()) && complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => asked.add(new URL(request.url()).origin));
    await page.setViewportSize(DESKTOP);
    await page.goto(`${site?.url}${path}`);
    await page.locator('#list[aria-busy="false"]').waitFor({ state: "attached" });
  }
  afterEach(() => page?.close());

  const focused = () => page.evaluate("document.activeElement.id");
  const people = () => page.locator("#list li strong").allTextContents();
  const shows = (text: string) => page.getByText(text, { exact: true }).waitFor();

  async function signUp(id: string, name: string, about = ""): Promise<void> {
    await page.getByLabel("User name", { exact: true }).fill(id);
    await page.getByLabel("Name", { exact: true }).fill(name);
    await page.getByLabel("About you").fill(about);
    await page.getByRole("button", { name: "Sign up" }).click();
  }

  async function picture(name: string): Promise<void> {
    if (PICTURES) await page.screenshot({ path: join(PICTURES, `${name}.png`), animations: "disabled" });
  }

  /** Everybody must be able to use it: WCAG 2.2 AA as far as a program can judge, in every colour scheme and width. */
  async function assertAccessible(state: string): Promise<void> {
    for (const [width, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP })) {
      for (const colorScheme of ["light", "dark"] as const) {
        await page.setViewportSize(viewport);
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await page.evaluate(AXE);
        const { violations, passes } = (await page.evaluate("axe.run()")) as {
          violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
          passes: unknown[];
        };
        const found = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.failureSummary}`));
        assert.deepEqual(found, [], `${state}, ${width}, ${colorScheme}`);
        assert.ok(passes.length > 15, `${passes.length} rules passed`);
        await picture(`${state}-${width}-${colorScheme}`);
      }
    }
    await page.setViewportSize(DESKTOP);
    await page.emulateMedia({ colorScheme: "light" });
  }

  it("must lead through signing up by the keyboard alone, and show the token and the newcomer", async () => {
    await open();
    await shows("Nobody is here yet. Be the first!");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "id");
    await page.keyboard.type("ada");
    await page.keyboard.press("Tab");
    await page.keyboard.type("Ada Lovelace");
    await page.keyboard.press("Tab");
    await page.keyboard.type("Wrote the first program");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await shows("Welcome, Ada Lovelace!");
    assert.equal(await focused(), "welcome");
    const token = await page.locator("#token").textContent();
    assert.match(token ?? "", /^[\w-]{43}$/);
    await shows("1 person");
    assert.deepEqual(await people(), ["Ada Lovelace"]);
    const renamed = await ask(`${api.url}/users/ada`, {
      method: "PATCH",
      headers: { authorization: `Bearer ${token}` },
      json: { about: "Wrote the first program, for a machine that was never built" },
    });
    assert.equal(renamed.status, 200);
    assert.deepEqual(complaints, []);
    await assertAccessible("welcome");
  });

  it("must refuse what the API would refuse, beside the field, before it is sent", async () => {
    await open();
    await page.getByRole("button", { name: "Sign up" }).click();
    await shows("Tell us your name.");
    assert.equal(await focused(), "id");
    assert.equal(await page.getByLabel("User name", { exact: true }).getAttribute("aria-invalid"), "true");
    await signUp("Not OK", "   ");
    const rule = "Choose 2 to 32 lower-case letters, digits, “-” or “_”, beginning with a letter or digit.";
    await shows(rule);
    await shows("Tell us your name.");
    await assertAccessible("refused");
    await page.getByLabel("User name", { exact: true }).fill("grace");
    assert.equal(await page.getByText(rule).count(), 0);
    assert.deepEqual(complaints, []);
  });

  it("must tell beside the field what only the API can know", async () => {
    await open();
    await signUp("ada", "Another Ada");
    await shows("“ada” is taken. Choose another one.");
    assert.equal(await focused(), "id");
    assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), "Another Ada");
    // The browser tells of every answer that is an error.
    assert.equal(complaints.length, 1);
    assert.match(complaints[0] ?? "", /409/);
  });

  it("must allow exactly what the API's own description allows", async () => {
    await open();
    const { body } = await ask(`${api.docsUrl}/openapi.json`);
    const { properties, required } = body.paths["/users"].post.requestBody.content["application/json"].schema;
    const inputs = (await page.evaluate(`[...document.querySelectorAll("#join input, #join textarea")].map(
      ({ name, required, maxLength, pattern }) => ({ name, required, maxLength, pattern }))`)) as {
      name: string;
      required: boolean;
      maxLength: number;
      pattern?: string;
    }[];
    const bare = (pattern?: string) => pattern?.replace(/^\^|\$$|\\(?=-)/g, "");
    assert.deepEqual(
      inputs.map(({ name, required, pattern }) => ({ name, required, pattern: name === "id" ? bare(pattern) : "" })),
      ["id", "name", "about"].map((name) => ({
        name,
        required: required.includes(name),
        pattern: name === "id" ? bare(properties.id.pattern) : "",
      })),
    );
    assert.deepEqual(
      inputs.map(({ maxLength }) => maxLength),
      [32, properties.name.maxLength, properties.about.maxLength],
    );
    const [query] = body.paths["/users"].get.parameters.filter(({ name }: { name: string }) => name === "query");
    assert.equal(await page.getByRole("searchbox").getAttribute("maxlength"), String(query.schema.maxLength));
  });

  it("must list a page at a time, find by the beginnings of words, and keep the search in the address", async () => {
    const names = Array.from({ length: 25 }, (_, index) => `user-${String(index).padStart(2, "0")}`);
    for (const id of names) await ask(`${api.url}/users`, { json: { id, name: `Person ${id.slice(5)}` } });
    const grace = { id: "grace", name: "Grace Hopper", about: "Found the first bug,\nand kept it" };
    await ask(`${api.url}/users`, { json: grace });
    const all = async () => (await ask(`${api.url}/users?limit=100`)).body.users.length as number;
    await until(async () => (await all()) > names.length);

    await open();
    await shows("More than 20 people");
    await picture("many-desktop");
    await page.getByRole("button", { name: "Show more" }).click();
    await shows(`${await all()} people`);
    assert.equal(await page.getByRole("button", { name: "Show more" }).count(), 0);
    // Whoever reads on with the keyboard goes on where the new ones begin.
    assert.equal(await page.locator("#list li:focus strong").textContent(), (await people())[20]);

    await page.getByRole("searchbox").fill("hop");
    await shows("1 person found");
    assert.deepEqual(await people(), ["Grace Hopper"]);
    assert.equal(new URL(page.url()).search, "?query=hop");
    await open("/?query=hop");
    assert.deepEqual(await people(), ["Grace Hopper"]);
    await page.getByRole("searchbox").fill("nobody of this name");
    await shows("Nobody matches “nobody of this name”.");
    assert.deepEqual(complaints, []);
  });

  it("must show what people write as text, whatever it is, and stay in the smallest width", async () => {
    const name = "<img src=x onerror=alert(1)>";
    await ask(`${api.url}/users`, { json: { id: "mallory", name, about: "x".repeat(300) } });
    await until(async () => (await ask(`${api.url}/users?query=mallory`)).body.users.length === 1);
    await open("/?query=mallory");
    assert.deepEqual(await people(), [name]);
    assert.equal(await page.locator("#list img").count(), 0);
    await page.setViewportSize({ width: 320, height: 600 });
    assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 320);
    assert.deepEqual(complaints, []);
  });

  it("must say that the API can't be reached, lose nothing that was typed, and go on when it can", async () => {
    await open();
    await stop(api.process);
    await signUp("linus", "Linus Torvalds", "Writes in C");
    const message = "hobnob can’t be reached right now. Check your connection, or try again in a moment.";
    await shows(message);
    assert.equal(await page.getByLabel("About you").inputValue(), "Writes in C");
    await page.getByRole("searchbox").fill("ada");
    await page.getByRole("button", { name: "Try again" }).waitFor();
    await assertAccessible("unreachable");
    assert.ok(
      complaints.every((complaint) => /ERR_CONNECTION_REFUSED/.test(complaint)),
      complaints.join("\n"),
    );

    const [port, docsPort] = [api.url, api.docsUrl].map((url) => new URL(url).port);
    const elasticsearchPort = new URL(elasticsearch?.urls[0] as string).port;
    runApi({
      ELASTICSEARCH_HOSTNAME: "http://127.0.0.1",
      ELASTICSEARCH_PORT: elasticsearchPort,
      PORT: port as string,
      DOCS_PORT: docsPort as string,
    });
    await until(async () => (await ask(`${api.url}/readyz`)).status === 200);
    await page.getByRole("button", { name: "Try again" }).click();
    await shows("1 person found");
    await page.getByRole("button", { name: "Sign up" }).click();
    await shows("Welcome, Linus Torvalds!");
    assert.equal(await page.getByText(message).count(), 0);
  });

  it("must ask nobody but its own server and the API", () => {
    assert.deepEqual([...asked].sort(), [site?.url, api.url].sort());
  });
});
