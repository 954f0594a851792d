import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import {
  imagePins,
  newest,
  outdated,
  type Pin,
  packagePins,
  riskOf,
  type Sources,
  tellOutdated,
} from "../../operations/outdated";

/** What the sources answered, as far as it is read. */
const RECORDED: Record<string, object> = {
  "/@pulumi%2fkubernetes": { "dist-tags": { latest: "5.0.0", next: "6.0.0-alpha.1" } },
  "/zod": { "dist-tags": { latest: "4.6.7" } },
  "/tsx": { "dist-tags": { latest: "4.24.0" } },
  "/v2/nginx/nginx-ingress/tags/list?n=1000": {
    tags: ["edge", "5.5.4", "5.6.0-alpine", "5.5.5", "4.0.1"],
  },
  "/v2/nginx/nginx-ingress/tags/list?last=5.5.5&n=1000": { tags: ["5.10.0"] },
  "/v2/elasticsearch/elasticsearch/tags/list?n=1000": { tags: ["9.5.3", "9.6.1", "10.0.0-SNAPSHOT"] },
  "/token?service=registry&scope=repository%3Aelasticsearch%2Felasticsearch%3Apull": { token: "anybody" },
  "/v2/kubernetes/options": {
    options: {
      versions: [{ kubernetes_version: "1.37.1" }, { kubernetes_version: "1.36.3" }, { kubernetes_version: "1.35.8" }],
    },
  },
};

const PINS: Pin[] = [
  { kind: "Kubernetes", name: "cluster.version", version: "1.36" },
  { kind: "image", name: "docker.io/nginx/nginx-ingress", version: "5.5.4" },
  { kind: "image", name: "docker.elastic.co/elasticsearch/elasticsearch", version: "9.5.3" },
  ...packagePins({
    dependencies: { "@pulumi/kubernetes": "4.34.2", zod: "4.6.7" },
    devDependencies: { tsx: "4.23.15" },
  }),
];

describe("what is outdated", () => {
  let server: Server;
  let sources: Sources;

  before(async () => {
    server = createServer((request, response) => {
      const { url: path = "", headers } = request;
      const answer = RECORDED[path];
      const refused = path.startsWith("/v2/elasticsearch/") && headers.authorization !== "Bearer anybody";
      if (refused) response.setHeader("www-authenticate", `Bearer realm="${sources.npm}token",service="registry"`);
      if (path.endsWith("nginx-ingress/tags/list?n=1000"))
        response.setHeader("link", '</v2/nginx/nginx-ingress/tags/list?last=5.5.5&n=1000>; rel="next"');
      response.writeHead(refused ? 401 : answer ? 200 : 404).end(JSON.stringify(answer ?? {}));
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    sources = { npm: `${url}/`, registry: () => url, digitalOcean: url, token: "token" };
  });
  after(() => server.close());

  it("must be listed with its newest release and the risk of taking it, and nothing else", async () => {
    const { newer } = await outdated(PINS, sources);
    assert.deepEqual(
      newer.map(({ name, newest, risk }) => [name, newest, risk.split(":")[0]]),
      [
        ["cluster.version", "1.37", "high"],
        ["docker.io/nginx/nginx-ingress", "5.10.0", "low"],
        ["docker.elastic.co/elasticsearch/elasticsearch", "9.6.1", "middle"],
        ["@pulumi/kubernetes", "5.0.0", "high"],
        ["tsx", "4.24.0", "low"],
      ],
    );
  });

  it("must name each source that could not be asked, and why, beside what the others told", async () => {
    const none: Sources = {
      ...sources,
      token: undefined,
      registry: (server) => (server === "docker.io" ? "http://127.0.0.1:1" : sources.registry(server)),
    };
    delete RECORDED["/token?service=registry&scope=repository%3Aelasticsearch%2Felasticsearch%3Apull"];
    const text = tellOutdated(await outdated([...PINS, { kind: "package", name: "gone", version: "1.0.0" }], none));
    assert.match(text, /^package tsx .* 4\.23\.15 → 4\.24\.0 {2}risk low$/m);
    assert.match(
      text,
      /^Not asked: DigitalOcean's Kubernetes versions, for cluster\.version: DIGITALOCEAN_TOKEN is not set$/m,
    );
    assert.match(
      text,
      /^Not asked: docker\.io, for docker\.io\/nginx\/nginx-ingress: connect ECONNREFUSED 127\.0\.0\.1:1$|^Not asked: .*: bad port$/m,
    );
    assert.match(text, /^Not asked: docker\.elastic\.co, for .*: answered 404 to who has no login$/m);
    assert.match(text, /^Not asked: npm's registry, for gone: answered 404$/m);
  });

  it("must be no older, no pre-release and no other variant, compared by number", () => {
    assert.equal(newest("1.9.0", ["1.10.0", "1.9.9", "2.0.0-rc.1", "1.8.0", "latest", "1.11.0-alpine"]), "1.10.0");
    assert.equal(newest("v0.8.1", ["v0.9.0", "0.10.0"]), "v0.9.0");
    assert.equal(newest("1.36", ["1.36", "1.35"]), undefined);
  });

  it("must be told as riskier where there is no way back or resources may be replaced", () => {
    const risk = (kind: Pin["kind"], name: string, version: string, to: string) => riskOf({ kind, name, version }, to);
    const elasticsearch = "docker.elastic.co/elasticsearch/elasticsearch";
    assert.match(risk("image", elasticsearch, "9.5.3", "9.6.0"), /^middle: .*snapshot/);
    assert.match(risk("image", elasticsearch, "9.5.3", "10.0.0"), /^high: .*no way back/);
    assert.match(risk("Kubernetes", "cluster.version", "1.36", "1.37"), /^high: one minor at a time/);
    assert.match(risk("provider", "@pulumi/digitalocean", "4.80.1", "4.81.0"), /^middle: .*preview/);
    assert.equal(risk("package", "@elastic/elasticsearch", "9.4.3", "9.5.1"), "low", "the client's disks are none");
    assert.match(risk("package", "knip", "6.44.2", "7.0.0"), /^high/);
    assert.match(risk("package", "a", "0.8.1", "0.9.0"), /^high: below 1\.0/);
    assert.equal(risk("package", "a", "1.8.1", "1.8.2"), "none known");
  });

  it("must know the pins: providers apart from packages, and the images of constants", () => {
    assert.deepEqual(
      PINS.map(({ kind }) => kind),
      ["Kubernetes", "image", "image", "provider", "package", "package"],
    );
    assert.deepEqual(
      imagePins('const IMAGE = "registry.k8s.io/metrics-server/metrics-server:v0.8.1"; const a = "b:1.2.3";'),
      [{ kind: "image", name: "registry.k8s.io/metrics-server/metrics-server", version: "v0.8.1" }],
    );
  });
});
