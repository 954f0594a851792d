import { serverCommand } from "../mariadb/process";
import type { Image } from "./images";

const DATA = "/var/lib/mysql";

/** The images of MySQL and MariaDB: a MariaDB server from Maven, set up from the variables that both images know. */
export const mariadb: Image = {
  pattern: "(^|/)(mysql|mariadb)[:@]",

  files: async () => ({}),

  async entrypoint({ directory, address, env, args, map }) {
    const setting = (name: string) => env[`MARIADB_${name}`] ?? env[`MYSQL_${name}`];
    const [file, ...flags] = await serverCommand({
      dataDirectory: map(DATA),
      address,
      port: 3306,
      flags: args,
      first: {
        rootPassword: setting("ROOT_PASSWORD") ?? "",
        database: setting("DATABASE"),
        user: setting("USER"),
        password: setting("PASSWORD"),
      },
    });
    return { file, args: flags, env, cwd: directory };
  },
};
