import assert from "node:assert/strict";
import type { LiveCheck } from "../../../local/live";
import { browserMissing, openBrowser } from "./browser";

/** The page by HTTP from each of its pods; and where there is a browser and a real API, a user who signs up. */
const check: LiveCheck = async ({ outputs, platform, endpoints, isReal }) => {
  const { namespace, serviceName, url } = outputs as { namespace: string; serviceName: string; url: string };
  if (!(await isReal(namespace, serviceName))) return "pods run nothing";
  const pods = await endpoints(namespace, serviceName, "http");
  assert.ok(pods.length >= 2, `${pods.length} pods`);
  for (const pod of pods) {
    const page = await fetch(`http://${pod}/`);
    assert.match(await page.text(), /<h1>hobnob<\/h1>/);
    const config = await fetch(`http://${pod}/config.json`);
    assert.deepEqual(await config.json(), { apiUrl: platform.apiUrl });
  }
  const served = `page from ${pods.length} pods`;
  const missing = await browserMissing();
  if (missing) return `${served}; no browser: ${missing}`;
  if (!(await isReal(platform.namespace, "backend"))) return `${served}; the API's pods run nothing`;

  const [api] = await endpoints(platform.namespace, "backend", "http");
  // In place of DNS and the controller, which are not there: everything else is as in the world.
  const browser = await openBrowser({ [host(platform.apiUrl)]: api as string, [host(url)]: pods[0] as string });
  try {
    const page = await browser.newPage();
    await page.goto(url);
    const id = `live-${Date.now()}`;
    await page.getByLabel("User name", { exact: true }).fill(id);
    await page.getByLabel("Name", { exact: true }).fill("Ada Lovelace");
    await page.getByRole("button", { name: "Sign up" }).click();
    await page.getByText("Welcome, Ada Lovelace!").waitFor();
    await page.getByRole("searchbox").fill(id);
    await page.getByText(`@${id}`).waitFor();
    return `${served}; a user signed up at ${url} in a browser, and was found`;
  } finally {
    await browser.close();
  }
};

const host = (url: string) => new URL(url).hostname;

export default check;
