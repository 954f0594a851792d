import assert from "node:assert/strict";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { Image, PullSecret } from "../../components/image";
import { type CaptureOptions, capture, find, ofType, unwrap } from "./graph";

const DOCKER_IMAGE = "docker:index/image:Image";
const SECRET = "kubernetes:core/v1:Secret";
const DIGEST = `sha256:${"0".repeat(64)}`;

const registry = { server: "docker.io", username: "acme", password: pulumi.secret("push-token") };
const built = { ...registry, repository: "acme/hobnob-backend", context: "app/api" };

async function image(args: ConstructorParameters<typeof Image>[1], options: CaptureOptions = {}) {
  let made: Image | undefined;
  const graph = await capture(() => {
    made = new Image("backend", args);
  }, options);
  assert.ok(made);
  return { graph, ref: await unwrap(made.ref) };
}

describe("image", () => {
  it("must be built for the nodes' platform, from a context, with a cache in the registry", async () => {
    const { graph } = await image(built);
    assert.equal(graph.length, 2);
    const { inputs, secrets } = find(graph, DOCKER_IMAGE, "backend");
    assert.deepEqual(inputs, {
      imageName: "docker.io/acme/hobnob-backend:latest",
      build: {
        context: "app/api",
        dockerfile: "app/api/Dockerfile",
        platform: "linux/amd64",
        builderVersion: "BuilderBuildKit",
        args: { BUILDKIT_INLINE_CACHE: "1" },
        cacheFrom: { images: ["docker.io/acme/hobnob-backend:latest"] },
      },
      registry: { server: "docker.io", username: "acme", password: "push-token" },
      buildOnPreview: false,
      skipPush: false,
    });
    assert.deepEqual(secrets, ["registry.password"]);
  });

  it("must not leave a push password readable that was given as plain text", async () => {
    const { graph } = await image({ ...built, password: "push-token" });
    assert.deepEqual(find(graph, DOCKER_IMAGE).secrets, ["registry.password"]);
  });

  it("must take another Dockerfile of the context when told to", async () => {
    const { graph } = await image({ ...built, dockerfile: "app/api/Dockerfile.debug" });
    assert.equal(find(graph, DOCKER_IMAGE).inputs.build.dockerfile, "app/api/Dockerfile.debug");
  });

  it("must be used by its digest, never by its tag", async () => {
    const { ref } = await image(built);
    assert.deepEqual(ref, { value: `docker.io/acme/hobnob-backend@${DIGEST}`, secret: false, known: true });
  });

  it("must be named by the registry it was pushed to, even if the engine also knows it from elsewhere", async () => {
    const resource = () => ({ state: { repoDigest: `other.test/copy@${DIGEST}` } });
    const { ref } = await image({ ...built, server: "127.0.0.1:5001" }, { mocks: { resource } });
    assert.equal(ref.value, `127.0.0.1:5001/acme/hobnob-backend@${DIGEST}`);
  });

  it("must not be known before it is built", async () => {
    const { graph, ref } = await image(built, { preview: true });
    assert.deepEqual([graph.length, ref.known], [2, false]);
  });

  it("must not be built when it is given ready", async () => {
    const { graph, ref } = await image({ image: `docker.io/acme/hobnob-backend@${DIGEST}` });
    assert.deepEqual([graph.length, ofType(graph, DOCKER_IMAGE)], [1, []]);
    assert.deepEqual(ref, { value: `docker.io/acme/hobnob-backend@${DIGEST}`, secret: false, known: true });
  });
});

describe("pull secret", () => {
  async function secret(server: string) {
    const args = { server, username: "acme", password: pulumi.secret("pull-token"), namespace: "hobnob" };
    const graph = await capture(() => new PullSecret("pull", args));
    assert.equal(graph.length, 2);
    return find(graph, SECRET, "pull");
  }

  const auth = Buffer.from("acme:pull-token").toString("base64");
  const credentials = { username: "acme", password: "pull-token", auth };

  for (const [server, key] of [
    ["docker.io", "https://index.docker.io/v1/"],
    ["127.0.0.1:5001", "127.0.0.1:5001"],
  ] as const)
    it(`must be found by a kubelet that pulls from ${server}`, async () => {
      const { inputs, secrets } = await secret(server);
      assert.deepEqual(inputs, {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { namespace: "hobnob" },
        type: "kubernetes.io/dockerconfigjson",
        data: {
          ".dockerconfigjson": Buffer.from(JSON.stringify({ auths: { [key]: credentials } })).toString("base64"),
        },
      });
      assert.deepEqual(secrets, ["data"]);
    });

  it("must change in place with its password, so that no pod restarts for it", async () => {
    const { inputs } = await secret("docker.io");
    assert.equal("name" in inputs.metadata, false);
    assert.equal(inputs.immutable, undefined);
  });

  it("must wait for its namespace alone", async () => {
    const graph = await capture(() => {
      const namespace = new k8s.core.v1.Namespace("hobnob");
      new PullSecret("pull", { ...registry, namespace: namespace.metadata.name });
    });
    assert.deepEqual(find(graph, SECRET).dependencies, [find(graph, "kubernetes:core/v1:Namespace").urn]);
  });
});
