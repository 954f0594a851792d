import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cloneDirectory } from "../../local/paths";

/** Lends a copy of the clone, as it is with its uncommitted files, whose program was edited. */
export async function withEditedClone(edit: (program: string) => string, use: (clone: string) => Promise<void>) {
  const copy = mkdtempSync(join(tmpdir(), "hobnob-clone-"));
  try {
    const list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    const files = execFileSync("git", list, { cwd: cloneDirectory, encoding: "utf8" }).trim().split("\n");
    for (const file of files) {
      if (existsSync(join(cloneDirectory, file))) cpSync(join(cloneDirectory, file), join(copy, file));
    }
    symlinkSync(join(cloneDirectory, "node_modules"), join(copy, "node_modules"));
    const program = readFileSync(join(copy, "index.ts"), "utf8");
    const edited = edit(program);
    if (edited === program) throw new Error("The edit changed nothing in index.ts.");
    writeFileSync(join(copy, "index.ts"), edited);
    await use(copy);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
