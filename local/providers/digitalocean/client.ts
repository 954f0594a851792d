import { faultPoint } from "../faultPoint";

/** A refusal as godo words it: `POST https://…/v2/vpcs: 422 (request "…") message`. */
export class CallError extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
  ) {
    super(message);
  }
}

// biome-ignore lint/suspicious/noExplicitAny: the API's answers; what is read of them is checked by the tests
export type Answer = any;

/** DigitalOcean's API over HTTP. */
export class Client {
  /** The account's clock, as of its last answer: a simulated one can be moved. */
  now = new Date();

  constructor(
    private readonly endpoint: string,
    private readonly token: string,
  ) {}

  get = (path: string) => this.call("GET", path);
  post = (path: string, body: object) => this.call("POST", path, body);
  put = (path: string, body: object) => this.call("PUT", path, body);
  delete = (path: string) => this.call("DELETE", path);

  /** `undefined` where there is nothing (404). */
  async find(path: string): Promise<Answer | undefined> {
    try {
      return await this.get(path);
    } catch (error) {
      if (error instanceof CallError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Every page of a list. */
  async list(path: string, key: string): Promise<Answer[]> {
    const items: Answer[] = [];
    for (let page = 1; ; page++) {
      const answer = await this.get(`${path}${path.includes("?") ? "&" : "?"}per_page=200&page=${page}`);
      items.push(...answer[key]);
      if (!answer.links?.pages?.next) return items;
    }
  }

  private async call(method: string, path: string, body?: object): Promise<Answer> {
    const url = this.endpoint.replace(/\/$/, "") + path;
    const headers = { authorization: `Bearer ${this.token}`, "content-type": "application/json" };
    const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) }).catch((error: Error) => {
      const cause = (error.cause as { code?: string } | undefined)?.code ?? error.message;
      throw new Error(`${method} ${url}: the account can't be reached (${cause})`);
    });
    this.now = new Date(response.headers.get("date") ?? Date.now());
    const answer = await response.text();
    if (response.ok && method !== "GET")
      await faultPoint(`${method} ${path} ${(body as { name?: string })?.name ?? ""}`);
    if (response.ok) return answer === "" ? undefined : JSON.parse(answer);
    const { message = answer, request_id: request } = parse(answer);
    const reference = request ? ` (request "${request}")` : "";
    throw new CallError(response.status, message, `${method} ${url}: ${response.status}${reference} ${message}`);
  }
}

function parse(answer: string): { message?: string; request_id?: string } {
  try {
    return JSON.parse(answer);
  } catch {
    return {};
  }
}
