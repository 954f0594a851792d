import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import getPort from "get-port";
import { maven, reasonOf, Unavailable } from "../maven";
import { cacheDirectory } from "../paths";

interface ServerOptions {
  dataDirectory: string;
  address: string;
  port: number;
  /** Further ones, such as `--max-connections=20`. */
  flags?: string[];
  /** What an empty disk gets: its administrator's password, and a database with a user of its own. */
  first: { rootPassword: string; database?: string; user?: string; password?: string };
}

/** Whether there is a MariaDB server for this machine at Maven Central. */
export const serverIsPublished = process.platform === "linux" && process.arch === "x64";

/** The reason to skip what needs a MariaDB process; none where it can be started. Gets the server the first time. */
export const mariadbAvailable = (): Promise<string | undefined> => reasonOf(prepare());

/** The command that runs a server on its data; an empty directory is set up first. */
export async function serverCommand(options: ServerOptions): Promise<[file: string, ...args: string[]]> {
  const home = await prepare();
  await setUp(home, options);
  const { dataDirectory, address, port, flags = [] } = options;
  const name = createHash("sha256").update(dataDirectory).digest("hex").slice(0, 12);
  return [
    join(home, "bin", "mariadbd"),
    ...common(home, dataDirectory),
    ...flags,
    `--bind-address=${address}`,
    `--port=${port}`,
    // A socket's path is limited to 107 characters.
    `--socket=${join(tmpdir(), `mariadb-${name}.sock`)}`,
    `--pid-file=${join(dataDirectory, "server.pid")}`,
  ];
}

/** Starts one real server on 127.0.0.1 with an empty database, and waits until it answers. */
export async function startMariadb(first: ServerOptions["first"]): Promise<{ port: number; stop(): Promise<void> }> {
  const dataDirectory = await mkdtemp(join(tmpdir(), "mariadb-"));
  const port = await getPort();
  const [file, ...args] = await serverCommand({ dataDirectory, address: "127.0.0.1", port, first });
  const child = spawn(file, args, { stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  const answers = new Promise<void>((resolve, reject) => {
    child.stderr.on("data", (chunk) => {
      log += chunk;
      if (log.includes("ready for connections")) resolve();
    });
    child.once("exit", () => reject(new Error(`MariaDB ended:\n${log}`)));
  });
  const exited = once(child, "exit");
  const stop = async () => {
    child.kill();
    await Promise.race([exited, sleep(20_000, undefined, { ref: false }).then(() => child.kill("SIGKILL"))]);
    await rm(dataDirectory, { recursive: true, force: true });
  };
  await answers.catch(async (error) => {
    await stop();
    throw error;
  });
  return { port, stop };
}

const common = (home: string, dataDirectory: string): string[] => [
  "--no-defaults",
  `--user=${userInfo().username}`,
  `--basedir=${home}`,
  `--lc-messages-dir=${join(home, "share")}`,
  `--datadir=${dataDirectory}`,
  "--innodb-buffer-pool-size=32M",
  "--innodb-log-file-size=8M",
  "--skip-name-resolve",
];

/** As mariadb-install-db and the image's entrypoint do; what was cut off is begun anew. */
async function setUp(home: string, { dataDirectory, first }: ServerOptions): Promise<void> {
  const done = join(dataDirectory, ".set-up");
  if (existsSync(done)) return;
  await rm(dataDirectory, { recursive: true, force: true });
  await mkdir(dataDirectory, { recursive: true });
  const tables = ["system_tables", "performance_tables", "system_tables_data"];
  const scripts = await Promise.all(tables.map((name) => readFile(join(home, "share", `mariadb_${name}.sql`), "utf8")));
  const child = spawn(join(home, "bin", "mariadbd"), [...common(home, dataDirectory), "--bootstrap"], {
    stdio: ["pipe", "ignore", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (chunk) => (log += chunk));
  child.stdin.on("error", () => {});
  child.stdin.end(
    `CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n${scripts.join("\n")}\n${accounts(first)}\n`,
  );
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`MariaDB's tables could not be made:\n${log.slice(-2000)}`);
  await writeFile(done, "");
}

function accounts({ rootPassword, database, user, password = "" }: ServerOptions["first"]): string {
  const everywhere = `GRANT ALL ON *.* TO root@'%' IDENTIFIED BY ${text(rootPassword)} WITH GRANT OPTION;`;
  return [
    "FLUSH PRIVILEGES;",
    `ALTER USER root@localhost IDENTIFIED BY ${text(rootPassword)};`,
    everywhere,
    ...(database ? [`CREATE DATABASE IF NOT EXISTS \`${database}\`;`] : []),
    ...(database && user
      ? [`GRANT ALL ON \`${database}\`.* TO ${text(user)}@'%' IDENTIFIED BY ${text(password)};`]
      : []),
  ].join("\n");
}

const text = (value: string) => `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;

let prepared: Promise<string> | undefined;

/** The server's files, made once per user and pin. */
function prepare(): Promise<string> {
  prepared ??= prepareOnce();
  return prepared;
}

async function prepareOnce(): Promise<string> {
  if (!serverIsPublished)
    throw new Unavailable(
      `MariaDB's server is published for Linux on x64, and this is ${process.platform} on ${process.arch}`,
    );
  const pom = join(__dirname, "pom.xml");
  const pin = createHash("sha256")
    .update(await readFile(pom))
    .digest("hex")
    .slice(0, 16);
  const home = join(cacheDirectory(), "mariadb", pin);
  if (existsSync(home)) return home;
  await mkdir(dirname(home), { recursive: true });
  const draft = await mkdtemp(`${home}.`);
  const flags = ["-Dmdep.unpack.includes=**/bin/mariadbd,**/share/*.sql,**/share/english/**,**/share/charsets/**"];
  await maven("unpack-dependencies", { pom, directory: join(draft, "jar"), draft, flags });
  const files = await readdir(join(draft, "jar"), { recursive: true });
  const server = files.find((file) => file.endsWith(join("bin", "mariadbd")));
  if (!server) throw new Unavailable(`Maven put no mariadbd into ${draft}`);
  await chmod(join(draft, "jar", server), 0o755);
  await rename(join(draft, "jar", dirname(dirname(server))), home).catch((error) => {
    if (!existsSync(home)) throw error;
  });
  await rm(draft, { recursive: true, force: true });
  return home;
}
