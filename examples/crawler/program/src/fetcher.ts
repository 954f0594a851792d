import dns from "node:dns";
import http from "node:http";
import https from "node:https";
import { BlockList, isIP, type LookupFunction } from "node:net";
import type { Config } from "./config.js";

export interface Page {
  status: number;
  contentType: string;
  bytes: number;
  title: string;
  /** Whole addresses without their fragment, each once; of any host. Of many or long ones, the first. */
  links: string[];
}

/** What is looked at in one page. */
const MAX_LINKS = 5000;
/** Of all together: with the rest of a report well below the 4 MiB that gRPC takes as one message. */
const MAX_LINK_BYTES = 1024 * 1024;

/** Neither goes past the beginning of the next tag: a page of tags that are left open is gone through once all the same. */
const TITLE = /<title[^<>]{0,2000}>([^<]{0,2000})/i;
const LINK = /<a(?=\s)[^<>]{0,2000}?\shref\s{0,20}=\s{0,20}["']([^"'<>]{1,2000})["']/gi;

/** What is not of the public Internet. Source: https://www.iana.org/assignments/iana-ipv4-special-registry */
const SPECIAL = [
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"],
  ...["192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"],
  ...["224.0.0.0/4", "240.0.0.0/4"],
];
/** Of IPv6 only global unicast is, and of that not what leads back into IPv4 or is for documents. */
const GLOBAL_6 = listOf(["2000::/3"]);
const SPECIAL_6 = listOf(["2001::/32", "2001:db8::/32", "2002::/16"]);
const SPECIAL_4 = listOf(SPECIAL);

/** Fetches pages of those hosts alone that the settings allow, and never from inside the network that it runs in. */
export class Fetcher {
  private readonly allowedNetworks: BlockList;

  constructor(private readonly settings: Config["crawl"]) {
    this.allowedNetworks = listOf(settings.allowed_networks);
  }

  /** Why an address must not be fetched; undefined where it may. */
  refusal(url: string): string | undefined {
    if (!URL.canParse(url)) return `${url} is no URL`;
    const { protocol, hostname, port, username, password } = new URL(url);
    if (protocol !== "http:" && protocol !== "https:") return `${protocol} is neither http: nor https:`;
    if (username || password) return "it holds a user's name or password";
    const number = port || (protocol === "https:" ? "443" : "80");
    const allowed = this.settings.allowed_hosts.some((pattern) => {
      const [, host = "", only] = /^(.*?)(?::(\d+))?$/.exec(pattern) ?? [];
      const matches = host.startsWith("*.") ? hostname.endsWith(host.slice(1)) : hostname === host;
      return matches && (only === undefined ? number === "80" || number === "443" : number === only);
    });
    if (!allowed) return `${hostname}${port && `:${port}`} is not one of the allowed hosts`;
    const literal = hostname.replace(/^\[(.*)\]$/, "$1");
    return isIP(literal) && !this.mayConnect(literal) ? `${hostname} is not a public address` : undefined;
  }

  /** Rejects with the reason where there is no page to be had. */
  async fetch(url: string, left = this.settings.max_redirects): Promise<Page> {
    const refusal = this.refusal(url);
    if (refusal) throw new Error(refusal);
    const response = await this.request(url);
    const { statusCode: status = 0, headers } = response;
    if (status >= 300 && status < 400 && headers.location) {
      response.destroy();
      if (left === 0) throw new Error("too many redirects");
      return this.fetch(new URL(headers.location, url).href, left - 1);
    }
    const contentType = headers["content-type"] ?? "";
    const body = await this.read(response);
    const html = /^text\/html\b/i.test(contentType) ? body.toString() : "";
    return { status, contentType: contentType.slice(0, 255), bytes: body.length, ...parse(html, url) };
  }

  private request(url: string): Promise<http.IncomingMessage> {
    return new Promise((resolve, reject) => {
      const { get } = url.startsWith("https:") ? https : http;
      const signal = AbortSignal.timeout(this.settings.timeout_seconds * 1000);
      const headers = { "user-agent": "hobnob-crawler", accept: "text/html,*/*;q=0.5", "accept-encoding": "identity" };
      get(url, { agent: false, lookup: this.lookup, signal, headers }, resolve).on("error", reject);
    });
  }

  private async read(response: http.IncomingMessage): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of response) {
      size += chunk.length;
      if (size > this.settings.max_bytes) throw new Error(`it is larger than ${this.settings.max_bytes} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  /** The address that was judged is the one that is connected to: another answer of DNS a moment later changes nothing. */
  private readonly lookup: LookupFunction = (hostname, options, callback) => {
    dns.lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error) return callback(error, "");
      const allowed = found.filter(({ address }) => this.mayConnect(address));
      const [first] = allowed;
      if (!first) return callback(new Error(`${hostname} has no public address`), "");
      return options.all ? callback(null, allowed) : callback(null, first.address, first.family);
    });
  };

  private mayConnect(address: string): boolean {
    if (isIP(address) === 6) return GLOBAL_6.check(address, "ipv6") && !SPECIAL_6.check(address, "ipv6");
    return this.allowedNetworks.check(address) || !SPECIAL_4.check(address);
  }
}

function listOf(ranges: string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [net = "", prefix] = range.split("/");
    list.addSubnet(net, Number(prefix), isIP(net) === 6 ? "ipv6" : "ipv4");
  }
  return list;
}

function parse(html: string, base: string): Pick<Page, "title" | "links"> {
  const title = TITLE.exec(html)?.[1]?.trim().slice(0, 500) ?? "";
  const links = new Set<string>();
  let [seen, bytes] = [0, 0];
  for (const [, href = ""] of html.matchAll(LINK)) {
    if (++seen > MAX_LINKS) break;
    if (!URL.canParse(href, base)) continue;
    const url = new URL(href, base);
    url.hash = "";
    if (!/^https?:$/.test(url.protocol) || url.href.length > 2000 || links.has(url.href)) continue;
    bytes += url.href.length;
    if (bytes > MAX_LINK_BYTES) break;
    links.add(url.href);
  }
  return { title, links: [...links] };
}
