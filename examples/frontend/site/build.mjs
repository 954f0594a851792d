// The page as it is served: assets named by their content, and each file compressed once instead of at each request.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import { build } from "esbuild";

const source = join(import.meta.dirname, "page");
const folder = join(import.meta.dirname, "dist", "page");

const { metafile } = await build({
  entryPoints: [join(source, "main.ts"), join(source, "style.css")],
  absWorkingDir: source,
  outdir: join(folder, "assets"),
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  metafile: true,
});

let html = await readFile(join(source, "index.html"), "utf8");
for (const [file, { entryPoint }] of Object.entries(metafile.outputs))
  html = html.replace(`"/${entryPoint}"`, `"/assets/${basename(file)}"`);
await writeFile(join(folder, "index.html"), html);
await writeFile(join(folder, "favicon.svg"), await readFile(join(source, "favicon.svg")));

const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } };
for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || /\.(br|gz)$/.test(entry.name)) continue;
  const file = join(entry.parentPath, entry.name);
  const content = await readFile(file);
  await writeFile(`${file}.br`, await promisify(brotliCompress)(content, quality));
  await writeFile(`${file}.gz`, await promisify(gzip)(content, { level: 9 }));
}
