import { setTimeout as sleep } from "node:timers/promises";

export interface Tally {
  /** Documents that were sent, each until it was acknowledged. */
  written: number;
  acknowledged: number;
  /** Of the acknowledged ones, those that can't be read any more. */
  lost: number;
  /** Requests that failed, after each of which the document was sent to the next address. */
  retried: number;
  /** Longest time between two acknowledgements, in milliseconds. */
  longestPause: number;
}

const SECONDS_A_REQUEST = 5;
const CLIENTS = 4;
const PAGE = 5_000;

/** Clients that each write one document after the other, and know which of them they were told are safe. */
export class Writer {
  /** Value that each acknowledged document was given. */
  private readonly acknowledged = new Map<string, number>();
  private written = 0;
  private retried = 0;
  private longestPause = 0;
  private last = Date.now();
  private running = true;
  private done?: Promise<unknown>;

  /** @param urls where Elasticsearch answers at the moment, as a Service would know it */
  constructor(
    private readonly urls: () => string[],
    private readonly index: string,
  ) {}

  start(): this {
    this.last = Date.now();
    this.done = Promise.all(Array.from({ length: CLIENTS }, (_, turn) => this.run(turn)));
    return this;
  }

  get count(): number {
    return this.acknowledged.size;
  }

  /** Ids that are acknowledged by now. */
  ids(): string[] {
    return [...this.acknowledged.keys()];
  }

  /** Ends it and reads all that was acknowledged, through each of the addresses in turn. */
  async stop(): Promise<Tally> {
    this.running = false;
    await this.done;
    const [url] = this.urls();
    const found = await values(url as string, this.index);
    const lost = [...this.acknowledged].filter(([id, value]) => found.get(id) !== value).length;
    const { written, retried, longestPause } = this;
    return { written, acknowledged: this.count, lost, retried, longestPause };
  }

  private async run(turn: number): Promise<void> {
    while (this.running) {
      const [id, value] = [`document-${this.written++}`, Math.random()];
      while (!(await this.send(this.urls()[turn++ % this.urls().length], id, value))) {
        this.retried++;
        await sleep(50);
      }
      this.acknowledged.set(id, value);
      this.longestPause = Math.max(this.longestPause, Date.now() - this.last);
      this.last = Date.now();
      await sleep(5);
    }
  }

  private async send(url: string | undefined, id: string, value: number): Promise<boolean> {
    try {
      const response = await fetch(`${url}/${this.index}/_doc/${id}?timeout=${SECONDS_A_REQUEST - 1}s`, {
        method: "PUT",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ value }),
        signal: AbortSignal.timeout(SECONDS_A_REQUEST * 1_000),
      });
      await response.arrayBuffer();
      return response.ok;
    } catch {
      return false;
    }
  }
}

/** Every document of an index with its value. */
export async function values(url: string, index: string): Promise<Map<string, number>> {
  // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
  const ask = async (path: string, body?: object): Promise<any> => {
    const headers = { "content-type": "application/json" };
    const response = await fetch(url + path, { method: "POST", headers, ...(body && { body: JSON.stringify(body) }) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  };
  await ask(`/${index}/_refresh`);
  const { id } = await ask(`/${index}/_pit?keep_alive=1m`);
  const found = new Map<string, number>();
  for (let after: unknown; ; ) {
    const search = { size: PAGE, pit: { id, keep_alive: "1m" }, sort: [{ _shard_doc: "asc" }], search_after: after };
    const { hits } = await ask("/_search", search);
    for (const { _id, _source } of hits.hits) found.set(_id, _source.value);
    if (hits.hits.length < PAGE) return found;
    after = hits.hits.at(-1).sort;
  }
}
