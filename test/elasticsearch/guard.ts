import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type ClientRequest, type IncomingMessage, request, type ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import bcrypt from "bcryptjs";
import { parse } from "yaml";

/** Writes a Secret's values as the kubelet does: all files turn from the old ones to the new ones at once, by one link. */
export function writeSecret(folder: string, data: Record<string, string>): void {
  mkdirSync(folder, { recursive: true });
  const version = mkdtempSync(join(folder, "..v"));
  for (const [name, value] of Object.entries(data)) {
    writeFileSync(join(version, name), Buffer.from(value, "base64"));
    const link = join(folder, name);
    rmSync(link, { force: true });
    symlinkSync(join("..data", name), link);
  }
  rmSync(join(folder, "..next"), { force: true });
  symlinkSync(version, join(folder, "..next"));
  renameSync(join(folder, "..next"), join(folder, "..data"));
}

interface Role {
  cluster?: string[];
  indices?: { names: string[]; privileges: string[] }[];
}

/** What privileges stand for. Source: https://www.elastic.co/docs/deploy-manage/users-roles/cluster-or-deployment-auth/elasticsearch-privileges */
const PRIVILEGES: Record<string, string[]> = {
  monitor: ["cluster:monitor/*", "indices:monitor/*"],
  manage_slm: ["cluster:admin/slm/*"],
  read: ["indices:data/read/*"],
  write: ["indices:data/write/*"],
  create_index: ["indices:admin/create", "indices:admin/auto_create"],
  delete_index: ["indices:admin/delete"],
  view_index_metadata: ["indices:admin/aliases/get", "indices:admin/get", "indices:monitor/settings/get"],
};

interface Need {
  action: string;
  /** None for an action on the cluster. */
  names?: string[];
}

/** The action that a request asks for. Source: the `ActionType` names in elastic/elasticsearch. */
function needs(method: string, path: string, body: string): Need[] {
  const [first = "", second = "", third = ""] = path.replace(/\?.*/, "").slice(1).split("/");
  const on = (action: string, ...names: string[]) => [{ action, names: [first, ...names] }];
  if (first === "_cluster" && second === "health") return [{ action: "cluster:monitor/health" }];
  if (first === "_cluster" && second === "state") return [{ action: "cluster:monitor/state" }];
  if (first === "_nodes") return [{ action: "cluster:monitor/nodes/info" }];
  if (first === "_snapshot") return [{ action: "cluster:admin/repository/get" }];
  if (first === "_alias") return [{ action: "indices:admin/aliases/get", names: [second] }];
  if (second === "_settings")
    return [
      {
        action: method === "GET" ? "indices:monitor/settings/get" : "indices:admin/settings/update",
        names: [first.replace("_all", "*")],
      },
    ];
  if (first.startsWith("_")) return [{ action: `unknown ${method} ${path}` }];
  if (second === "") {
    if (method === "DELETE") return on("indices:admin/delete");
    if (method === "GET" || method === "HEAD") return on("indices:admin/get");
    // An index that is made with aliases needs the right to make these, on itself and on them.
    const aliases = Object.keys((body && JSON.parse(body).aliases) || {});
    return [...on("indices:admin/create"), ...(aliases.length > 0 ? on("indices:admin/aliases", ...aliases) : [])];
  }
  if (second === "_search") return on("indices:data/read/search");
  if (second === "_update") return on("indices:data/write/update");
  if (second === "_create" || (second === "_doc" && (method === "PUT" || method === "POST")))
    return on("indices:data/write/index");
  if (second === "_doc" && method === "DELETE") return on("indices:data/write/delete");
  if (second === "_doc") return on("indices:data/read/get");
  return on(`unknown ${method} ${second} ${third}`);
}

const matches = (pattern: string, text: string) =>
  new RegExp(`^${pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*")}$`).test(text);
const grants = (privileges: string[] = [], action: string) =>
  privileges.flatMap((name) => PRIVILEGES[name] ?? [name]).some((pattern) => matches(pattern, action));

/** Whether a role may do it, on every index that it is about. */
function allows(role: Role, { action, names }: Need): boolean {
  if (!names) return grants(role.cluster, action);
  return names.every((name) =>
    (role.indices ?? []).some(
      (entry) => entry.names.some((pattern) => matches(pattern, name)) && grants(entry.privileges, action),
    ),
  );
}

const FILES = ["users", "users_roles", "roles.yml", "tls.crt", "tls.key", "ca.crt"] as const;
type Files = Record<(typeof FILES)[number], string>;

/**
 * Stands in for the security of an Elasticsearch node, whose module no registry has: TLS and basic authentication in front of a
 * real process without, by the very files of the nodes' Secret, which it reads again when they change. It refuses what the
 * documentation says is refused, in Elasticsearch's own words.
 */
export class Guard {
  /** Who was refused what, and why. */
  readonly refused: string[] = [];
  /** Every user who got through. */
  readonly users = new Set<string>();
  private readonly verified = new Map<string, string>();
  private files: Files;
  private seen = "";
  private readonly sockets = new Set<Duplex>();
  private readonly watcher: NodeJS.Timeout;
  private server: Server;

  private constructor(
    private readonly folder: string,
    private readonly upstream: () => number,
  ) {
    this.files = this.read();
    this.server = createServer({ key: this.files["tls.key"], cert: this.files["tls.crt"] }, (incoming, response) =>
      this.serve(incoming, response),
    ).on("connection", (socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket)).on("error", () => {});
    });
    // Elasticsearch looks every 5 s: resource.reload.interval.high.
    this.watcher = setInterval(() => this.reload(), 100);
  }

  /**
   * @param folder the Secret's files
   * @param upstream port of the process behind
   */
  static async start(folder: string, upstream: () => number, address = { host: "127.0.0.1", port: 0 }): Promise<Guard> {
    const guard = new Guard(folder, upstream);
    await new Promise<void>((resolve) => guard.server.listen(address.port, address.host, resolve));
    return guard;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  stop(): void {
    clearInterval(this.watcher);
    this.server.close();
    for (const socket of this.sockets) socket.destroy();
  }

  private read(): Files {
    this.seen = FILES.map((file) => statSync(join(this.folder, file)).ino).join();
    return Object.fromEntries(FILES.map((file) => [file, readFileSync(join(this.folder, file), "utf8")])) as Files;
  }

  private reload(): void {
    if (FILES.map((file) => statSync(join(this.folder, file)).ino).join() === this.seen) return;
    this.files = this.read();
    this.verified.clear();
    this.server.setSecureContext({ key: this.files["tls.key"], cert: this.files["tls.crt"] });
  }

  private serve(incoming: IncomingMessage, response: ServerResponse): void {
    let body = "";
    incoming.on("data", (chunk) => {
      body += chunk;
    });
    incoming.on("end", () => this.decide(incoming, response, body));
  }

  private async decide(incoming: IncomingMessage, response: ServerResponse, body: string): Promise<void> {
    const { method = "", url = "", headers } = incoming;
    const user = await this.authenticate(headers.authorization);
    const refuse = (status: number, reason: string, extra = {}) => {
      this.refused.push(`${status} ${user ?? "nobody"} ${method} ${url}`);
      const error = { type: "security_exception", reason };
      const answer = JSON.stringify({ error: { root_cause: [error], ...error }, status });
      response.writeHead(status, {
        "content-type": "application/json",
        "x-elastic-product": "Elasticsearch",
        ...extra,
      });
      response.end(answer);
    };
    if (user === undefined) {
      const challenge = { "www-authenticate": ['Basic realm="security", charset="UTF-8"', "ApiKey"] };
      const missing = `missing authentication credentials for REST request [${url}]`;
      return refuse(401, headers.authorization ? "unable to authenticate user" : missing, challenge);
    }
    this.users.add(user);
    if (url === "/_security/_authenticate") {
      response.writeHead(200, { "content-type": "application/json" });
      return void response.end(JSON.stringify({ username: user, authentication_realm: { type: "file" } }));
    }
    const missing = needs(method, url, body).find((need) => !this.roles(user).some((role) => allows(role, need)));
    if (missing) return refuse(403, `action [${missing.action}] is unauthorized for user [${user}]`);
    const { authorization: _, host: __, ...rest } = headers;
    const upstream: ClientRequest = request(
      { host: "127.0.0.1", port: this.upstream(), method, path: url, headers: rest },
      (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      },
    ).on("error", () => response.destroy());
    upstream.end(body);
  }

  /** The user of the file realm, whose passwords are bcrypt; none where the password is wrong. */
  private async authenticate(header = ""): Promise<string | undefined> {
    const [, encoded = ""] = /^Basic (\S+)$/.exec(header) ?? [];
    const [name = "", ...rest] = Buffer.from(encoded, "base64").toString().split(":");
    const hash = new Map(lines(this.files.users).map((line) => line.split(":") as [string, string])).get(name);
    if (!hash) return undefined;
    if (this.verified.get(header) === hash) return name;
    if (!(await bcrypt.compare(rest.join(":"), hash))) return undefined;
    this.verified.set(header, hash);
    return name;
  }

  private roles(user: string): Role[] {
    const roles: Record<string, Role> = parse(this.files["roles.yml"]);
    const everything: Role = { cluster: ["*"], indices: [{ names: ["*"], privileges: ["*"] }] };
    return lines(this.files.users_roles)
      .map((line) => line.split(":") as [string, string])
      .filter(([, users]) => users.split(",").includes(user))
      .map(([role]) => (role === "superuser" ? everything : (roles[role] ?? {})));
  }
}

const lines = (text: string) => text.split("\n").filter((line) => line !== "");
