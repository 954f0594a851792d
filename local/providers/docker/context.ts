import { createHash } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from "node:fs";
import { basename, dirname, join, posix } from "node:path";
import dockerignore from "@balena/dockerignore";
import { pack } from "tar-stream";

interface Entry {
  /** Relative to the context, with `/`. */
  name: string;
  path: string;
  stats: Stats;
}

/** BuildKit's order: `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` of the context. */
function ignorePatterns(context: string, dockerfile: string): string {
  const files = [join(dirname(dockerfile), `${basename(dockerfile)}.dockerignore`), join(context, ".dockerignore")];
  const file = files.find((path) => existsSync(path));
  return file ? readFileSync(file, "utf8") : "";
}

/** Files and links of a build context, without what is ignored, in a fixed order. */
function entries(context: string, dockerfile: string): Entry[] {
  const ignored = dockerignore().add(ignorePatterns(context, dockerfile));
  const walk = (directory: string): Entry[] =>
    readdirSync(join(context, directory))
      .sort((left, right) => Buffer.compare(Buffer.from(left), Buffer.from(right)))
      .flatMap((child) => {
        const name = posix.join(directory, child);
        const path = join(context, name);
        const stats = lstatSync(path);
        if (stats.isDirectory()) return walk(name); // a pattern such as !dir/file may bring back what is inside
        return ignored.ignores(name) || !(stats.isFile() || stats.isSymbolicLink()) ? [] : [{ name, path, stats }];
      });
  return walk("");
}

/** As Go prints a file's mode: `-rw-r--r--`, `Lrwxrwxrwx`. */
function modeText(stats: Stats): string {
  const bits = [...(stats.mode & 0o777).toString(2).padStart(9, "0")];
  return (
    (stats.isSymbolicLink() ? "L" : "-") + bits.map((bit, index) => (bit === "1" ? "rwx"[index % 3] : "-")).join("")
  );
}

const sha256 = (data: Buffer | string) => createHash("sha256").update(data).digest();
const contentOf = ({ path, stats }: Entry) => (stats.isSymbolicLink() ? readlinkSync(path) : readFileSync(path));

/** Changes with any name, mode or content that the image could see. Source: pulumi-docker, provider/provider.go hashContext. */
export function contextDigest(context: string, dockerfile: string): string {
  const hash = createHash("sha256");
  const add = (name: string, mode: string, content: Buffer) =>
    hash.update(name).update(mode).update(content).update("\0");
  add("Dockerfile", "----------", sha256(readFileSync(dockerfile)));
  for (const entry of entries(context, dockerfile)) add(entry.name, modeText(entry.stats), sha256(contentOf(entry)));
  return hash.digest("hex");
}

/** The context as one uncompressed layer under /app: the same content gives the same bytes on every machine. */
export async function packLayer(context: string, dockerfile: string): Promise<Buffer> {
  const tar = pack();
  const fixed = { mtime: new Date(0), uid: 0, gid: 0 };
  for (const { name, path, stats } of entries(context, dockerfile)) {
    const header = { ...fixed, name: `app/${name}`, mode: stats.mode & 0o777 };
    if (stats.isSymbolicLink()) tar.entry({ ...header, type: "symlink", linkname: readlinkSync(path) });
    else tar.entry(header, readFileSync(path));
  }
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
