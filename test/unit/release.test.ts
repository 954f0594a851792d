import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withServedImage } from "../../operations/ciPreview";
import { adviceAfterFailure, releaseIn, rollbackTarget } from "../../operations/release";
import { formerImages } from "../../previousRun";

const image = (letter: string) => `docker.io/acme/hobnob-backend@sha256:${letter.repeat(64)}`;
const [A, B, C] = [image("a"), image("b"), image("c")];

const urn = (type: string, name: string) => `urn:pulumi:prod::hobnob::${type}::${name}`;

/** An exported state: what runs ended well with, and what the Deployment is asked for now. */
function state({
  good,
  former = [],
  wanted = good,
  built = false,
}: Partial<Record<"good" | "wanted", string>> & { former?: string[]; built?: boolean }) {
  const images = good && { images: { backend: good }, formerImages: former };
  const spec = { template: { spec: { containers: [{ image: wanted }] } } };
  const resources = [
    {
      urn: urn("hobnob:platform:Protection", "cluster.protect"),
      type: "hobnob:platform:Protection",
      outputs: { protect: true, ...images },
    },
    { urn: urn("hobnob:platform:Service$kubernetes:apps/v1:Deployment", "other"), inputs: {} },
    { urn: urn("hobnob:platform:Api$kubernetes:apps/v1:Deployment", "backend"), inputs: wanted ? { spec } : {} },
    ...(built ? [{ urn: urn("hobnob:platform:Image$docker:index/image:Image", "backend") }] : []),
  ];
  return JSON.stringify({ deployment: { resources } });
}
const target = (of: Parameters<typeof state>[0]) => rollbackTarget(releaseIn(state(of)), "prod");

describe("the way back to an image", () => {
  it("must lead to what serves still, after a rollout that failed, however many have failed in a row", () => {
    assert.equal(target({ good: B, former: [A], wanted: C }), B);
    assert.equal(target({ good: A, wanted: image("d") }), A);
  });

  it("must lead to the one before, after a rollout that ended well", () => {
    assert.equal(target({ good: C, former: [B, A] }), B);
  });

  it("must end with what helps where no earlier image is known", () => {
    const helps = /npm run promote -- prod <repository@sha256:…>/;
    assert.throws(() => target({ good: A }), helps);
    assert.throws(() => target({}), helps);
    assert.throws(() => rollbackTarget(releaseIn("{}"), "prod"), helps);
  });

  it("must be named after an update that failed at the rollout, and only then", () => {
    const advice = (of: Parameters<typeof state>[0]) => adviceAfterFailure(releaseIn(state(of)), "prod");
    assert.equal(
      advice({ good: A, wanted: B }),
      `The rollout of ${B} did not end well; the pods of ${A} serve on.\nBack to it: npm run rollback -- prod`,
    );
    assert.equal(advice({ good: A }), undefined);
    assert.equal(advice({ wanted: B }), undefined, "the first update of all");
  });

  it("must be noted for the next run: each image once, the newest first, no more than five", () => {
    assert.deepEqual(formerImages({}, A), []);
    assert.deepEqual(formerImages({ images: [A] }, A), [], "the same image again");
    assert.deepEqual(formerImages({ images: [B, A] }, C), [B, A]);
    assert.deepEqual(formerImages({ images: [B, A] }, A), [B], "after a rollback");
    assert.equal(formerImages({ images: [..."123456789"].map(image) }, A).length, 5);
  });
});

describe("the preview of a stack that is promoted to", () => {
  const folder = mkdtempSync(join(tmpdir(), "hobnob-release-"));
  const file = join(folder, "Pulumi.prod.yaml");
  const settings = (text: string) => {
    writeFileSync(file, text);
    const copies = mkdtempSync(join(folder, "copies-"));
    return {
      copy: join(copies, "Pulumi.prod.yaml"),
      args: (exported: string) => withServedImage(exported, file, copies),
    };
  };
  after(() => rmSync(folder, { recursive: true }));

  it("must be with the image that it serves, and leave its settings as they are", () => {
    const text = "config:\n  hobnob:domain: example.org\n";
    const { args, copy } = settings(text);
    assert.deepEqual(args(state({ good: A, wanted: B })), [
      "--config-file",
      copy,
      "--config-path",
      "--config",
      `hobnob:api.image=${A}`,
    ]);
    assert.deepEqual([readFileSync(file, "utf8"), readFileSync(copy, "utf8")], [text, text]);
  });

  it("must be as its settings say where they name an image, where it builds its own, and where it is new", () => {
    assert.deepEqual(settings(`config:\n  hobnob:api: { image: "${B}" }\n`).args(state({ good: A })), []);
    assert.deepEqual(settings("{}").args(state({ good: A, built: true })), []);
    assert.deepEqual(settings("").args(state({})), []);
  });
});
