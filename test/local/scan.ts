import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

/** A value that may stand nowhere in plain: what it is, and itself. */
export interface Needle {
  name: string;
  value: string;
}

/** Something that is read by more people than may know a secret. */
export interface Place {
  name: string;
  content: Buffer;
}

export interface Finding {
  place: string;
  needle: string;
  form: string;
}

/** Base64 of a value that stands anywhere in a longer text: what of it does not depend on its neighbours, for each of three offsets. */
function base64Forms(value: string): string[] {
  return [0, 1, 2].map((offset) => {
    const padded = Buffer.concat([Buffer.alloc(offset), Buffer.from(value)])
      .toString("base64")
      .replace(/=+$/, "");
    const first = offset === 0 ? 0 : offset + 1;
    const last = (offset + Buffer.byteLength(value)) % 3 === 0 ? 0 : 1;
    return padded.slice(first, padded.length - last);
  });
}

/** As it is, as JSON or YAML writes it, in an address, in base64, and base64 of base64, as of a Secret's file with a login in it. */
function formsOf(value: string): Record<string, string[]> {
  const base64 = base64Forms(value);
  return {
    plain: [value],
    escaped: [JSON.stringify(value).slice(1, -1)],
    "in an address": [encodeURIComponent(value)],
    base64,
    "base64 twice": base64.flatMap(base64Forms),
  };
}

/** What is a secret by its form, whoever's it is. */
const MARKS: Needle[] = ["PRIVATE KEY-----", "RSA PRIVATE KEY-----", "EC PRIVATE KEY-----"].map((end) => ({
  name: `a private key (${end})`,
  value: `-----BEGIN ${end}`,
}));

/** A text of several lines is known by one of them: a line break has many forms. */
const partOf = (value: string): string => value.split("\n").sort((one, other) => other.length - one.length)[0] ?? "";

/** Every secret in every place, in whatever form it stands there; also within gzip. */
export function scan(places: Place[], needles: Needle[]): Finding[] {
  const wanted = [...needles, ...MARKS].flatMap(({ name, value }) =>
    Object.entries(formsOf(partOf(value))).flatMap(([form, texts]) =>
      texts.filter((text) => text.length >= 8).map((text) => ({ name, form, bytes: Buffer.from(text) })),
    ),
  );
  return places.flatMap(({ name: place, content }) => {
    const text = content[0] === 0x1f && content[1] === 0x8b ? gunzipSync(content) : content;
    const found = wanted.filter(({ bytes }) => text.includes(bytes));
    return found.map(({ name, form }) => ({ place, needle: name, form }));
  });
}

/** Every file of a folder. */
export function filesOf(folder: string, prefix: string): Place[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ name: `${prefix} ${path.slice(folder.length + 1)}`, content: readFileSync(path) }));
}
