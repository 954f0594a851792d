import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";

const MIB = 1024 * 1024;

describe("crawler's pages as others write them", () => {
  let server: Server;
  let site: string;
  let html = "";

  before(async () => {
    server = createServer((_, response) => response.setHeader("content-type", "text/html").end(html));
    await once(server.listen(0, "127.0.0.1"), "listening");
    site = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });

  after(() => server.close());

  async function fetched(page: string, path = "/") {
    const { Fetcher } = await import("../program/src/fetcher");
    const limits = {
      max_redirects: 0,
      max_bytes: 2 * MIB,
      max_depth: 0,
      max_pages: 1,
      attempts: 1,
      timeout_seconds: 10,
    };
    const allowed = { allowed_hosts: [new URL(site).host], allowed_networks: ["127.0.0.0/8"] };
    html = page;
    return new Fetcher({ ...limits, ...allowed }).fetch(site + path);
  }

  it("must read a title and links however their tags are written", async () => {
    const { title, links } = await fetched(`<TITLE lang="en"> Home\n</TITLE>
      <a href="/one#part">1</a> <A\n class="x" HREF = '/two?a=1'>2</A> <a href="/one">again</a>
      <a data-href="/none" href="mailto:ada@example.com">mail</a> <abbr href="/none"></abbr>`);
    assert.deepEqual([title, links], ["Home", [`${site}/one`, `${site}/two?a=1`]]);
  });

  const endless = ["<a ", "<title", "<a href", "<a href=", '<a href="', "<a href=' \"", " href", "<title>", "\t"];
  for (const part of endless)
    it(`must not be kept busy by a page of ${JSON.stringify(part)} alone`, async () => {
      for (const begin of ["", "<a ", "<title ", "<a href", "<a href="]) {
        const page = begin + part.repeat(MIB / part.length);
        const start = performance.now();
        await fetched(page);
        const took = performance.now() - start;
        assert.ok(took < 2000, `after ${JSON.stringify(begin)} it took ${Math.round(took)} ms`);
      }
    });

  it("must report no more links of a page than one message of gRPC holds", async () => {
    const page = (size: number) => Array.from({ length: size }, (_, i) => `<a href="${i}">`).join("");
    const { links } = await fetched(page(20_000));
    assert.deepEqual([links.length, links.at(-1)], [5000, `${site}/4999`]);
    const long = await fetched(page(20_000), `/${"x".repeat(1900)}/`);
    const bytes = long.links.join("").length;
    assert.ok(bytes > MIB / 2 && bytes <= MIB, `${bytes} bytes`);
  });
});
