import { createHash, randomUUID } from "node:crypto";
import mysql from "mysql2/promise";
import type { Config } from "./config.js";
import type { Result, Task } from "./grpc.js";

const TABLES = [
  `CREATE TABLE IF NOT EXISTS crawls (
    id CHAR(36) PRIMARY KEY,
    url VARCHAR(2000) NOT NULL,
    max_depth INT NOT NULL,
    max_pages INT NOT NULL,
    created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
  )`,
  `CREATE TABLE IF NOT EXISTS pages (
    id INT AUTO_INCREMENT PRIMARY KEY,
    crawl CHAR(36) NOT NULL,
    url VARCHAR(2000) NOT NULL,
    url_hash CHAR(64) NOT NULL,
    depth INT NOT NULL,
    state ENUM('queued', 'assigned', 'done', 'failed') NOT NULL DEFAULT 'queued',
    attempt INT NOT NULL DEFAULT 0,
    worker CHAR(36),
    since TIMESTAMP(3) NULL,
    status INT,
    content_type VARCHAR(255),
    bytes INT,
    title VARCHAR(500),
    error VARCHAR(500),
    UNIQUE (crawl, url_hash),
    KEY (state),
    FOREIGN KEY (crawl) REFERENCES crawls (id) ON DELETE CASCADE
  )`,
];

export interface Crawl {
  id: string;
  url: string;
  /** Number of pages by state. */
  pages: Record<"queued" | "assigned" | "done" | "failed", number>;
}

/** Every crawl and page, in MySQL: the master itself remembers nothing. */
export class Store {
  private readonly pool: mysql.Pool;
  private prepared = false;

  constructor(
    settings: Config["mysql"],
    password: string,
    private readonly attempts: number,
  ) {
    this.pool = mysql.createPool({
      ...settings,
      password,
      connectionLimit: 5,
      charset: "utf8mb4",
      connectTimeout: 5000,
    });
  }

  /** Makes the tables that are not there. Rejects where MySQL does not answer. */
  async prepare(): Promise<void> {
    if (this.prepared) await this.pool.query("SELECT 1");
    else for (const table of TABLES) await this.pool.query(table);
    this.prepared = true;
  }

  async add(url: string, maxDepth: number, maxPages: number): Promise<string> {
    const id = randomUUID();
    await this.transaction(async (connection) => {
      const values = [id, url, maxDepth, maxPages];
      await connection.query("INSERT INTO crawls (id, url, max_depth, max_pages) VALUES (?)", [values]);
      await connection.query("INSERT INTO pages (crawl, url, url_hash, depth) VALUES (?)", [[id, url, hash(url), 0]]);
    });
    return id;
  }

  async crawl(id: string): Promise<Crawl | undefined> {
    const [[found]] = await this.pool.query<mysql.RowDataPacket[]>("SELECT id, url FROM crawls WHERE id = ?", [id]);
    if (!found) return undefined;
    const counted = "SELECT state, COUNT(*) AS number FROM pages WHERE crawl = ? GROUP BY state";
    const [rows] = await this.pool.query<mysql.RowDataPacket[]>(counted, [id]);
    const none = { queued: 0, assigned: 0, done: 0, failed: 0 };
    return {
      id,
      url: found.url,
      pages: { ...none, ...Object.fromEntries(rows.map(({ state, number }) => [state, Number(number)])) },
    };
  }

  /** In the order in which they were found. @param after id of the last one that is known */
  async pages(crawl: string, after = 0, limit = 100): Promise<object[]> {
    const [rows] = await this.pool.query<mysql.RowDataPacket[]>(
      `SELECT id, url, depth, state, attempt, worker, status, content_type, bytes, title, error FROM pages
       WHERE crawl = ? AND id > ? ORDER BY id LIMIT ?`,
      [crawl, after, limit],
    );
    return rows;
  }

  /** How many pages each worker has. */
  async assigned(): Promise<Map<string, number>> {
    const [rows] = await this.pool.query<mysql.RowDataPacket[]>(
      "SELECT worker, COUNT(*) AS number FROM pages WHERE state = 'assigned' GROUP BY worker",
    );
    return new Map(rows.map(({ worker, number }) => [worker, Number(number)]));
  }

  /** Takes pages back that nobody works on any more, for others; or for good after the last attempt. @return how many */
  async takeBack(workers: string[], seconds: number): Promise<number> {
    const [{ affectedRows }] = await this.pool.query<mysql.ResultSetHeader>(
      `UPDATE pages SET error = IF(attempt >= ?, 'no worker has finished it', NULL),
         state = IF(attempt >= ?, 'failed', 'queued'), worker = NULL
       WHERE state = 'assigned' AND (worker NOT IN (?) OR since < NOW(3) - INTERVAL ? SECOND)`,
      [this.attempts, this.attempts, ["", ...workers], seconds],
    );
    return affectedRows;
  }

  async queued(limit: number): Promise<Task[]> {
    const waiting = "SELECT id AS page, url, attempt FROM pages WHERE state = 'queued' ORDER BY id LIMIT ?";
    const [rows] = await this.pool.query<mysql.RowDataPacket[]>(waiting, [limit]);
    return rows as Task[];
  }

  /** The task as that worker's, where nobody else was quicker. */
  async claim({ page, url, attempt }: Task, worker: string): Promise<Task | undefined> {
    const [{ affectedRows }] = await this.pool.query<mysql.ResultSetHeader>(
      "UPDATE pages SET state = 'assigned', worker = ?, attempt = ?, since = NOW(3) WHERE id = ? AND state = 'queued'",
      [worker, attempt + 1, page],
    );
    return affectedRows === 1 ? { page, url, attempt: attempt + 1 } : undefined;
  }

  /** For a worker that did not take it: as if it had never been handed out. */
  async giveBack({ page, attempt }: Task): Promise<void> {
    await this.pool.query(
      "UPDATE pages SET state = 'queued', worker = NULL, attempt = ? WHERE id = ? AND state = 'assigned' AND attempt = ?",
      [attempt - 1, page, attempt],
    );
  }

  /** @return whether it was the attempt that counts */
  async record(result: Result, mayFollow: (url: string) => boolean): Promise<boolean> {
    const { page, attempt, status, error, contentType, bytes, title, links } = result;
    return this.transaction(async (connection) => {
      const [{ affectedRows }] = await connection.query<mysql.ResultSetHeader>(
        `UPDATE pages SET state = ?, status = ?, error = ?, content_type = ?, bytes = ?, title = ?
         WHERE id = ? AND attempt = ? AND state = 'assigned'`,
        [error ? "failed" : "done", status, error.slice(0, 500), contentType, bytes, title, page, attempt],
      );
      if (affectedRows === 1) await follow(connection, page, links.filter(mayFollow));
      return affectedRows === 1;
    });
  }

  close = (): Promise<void> => this.pool.end();

  private async transaction<T>(work: (connection: mysql.PoolConnection) => Promise<T>): Promise<T> {
    const connection = await this.pool.getConnection();
    try {
      await connection.beginTransaction();
      const done = await work(connection);
      await connection.commit();
      return done;
    } catch (error) {
      await connection.rollback().catch(() => {});
      throw error;
    } finally {
      connection.release();
    }
  }
}

/** Adds the links of a page as far as its crawl goes; the crawl is locked, so that two pages don't pass its limit. */
async function follow(connection: mysql.PoolConnection, page: number, links: string[]): Promise<void> {
  const [[of]] = await connection.query<mysql.RowDataPacket[]>(
    `SELECT crawls.id AS crawl, max_depth, max_pages, depth FROM pages JOIN crawls ON crawls.id = crawl
     WHERE pages.id = ? FOR UPDATE`,
    [page],
  );
  if (!of || of.depth >= of.max_depth || links.length === 0) return;
  const known = "SELECT url_hash FROM pages WHERE crawl = ?";
  const [rows] = await connection.query<mysql.RowDataPacket[]>(known, [of.crawl]);
  const hashes = new Set(rows.map(({ url_hash }) => url_hash));
  const fresh = links.map((url) => [of.crawl, url, hash(url), of.depth + 1]).filter(([, , sum]) => !hashes.has(sum));
  const values = fresh.slice(0, Math.max(0, of.max_pages - hashes.size));
  if (values.length > 0) await connection.query("INSERT INTO pages (crawl, url, url_hash, depth) VALUES ?", [values]);
}

const hash = (url: string): string => createHash("sha256").update(url).digest("hex");
