import assert from "node:assert/strict";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import fc from "fast-check";
import { isCovered } from "../../components/routeRules";
import { ofPlatform, Routes, type RoutesArgs } from "../../components/routes";
import { Platform } from "../../platform";
import { type CaptureOptions, capture, find, ofType, unwrap } from "./graph";
import { HOSTILE, tainted } from "./hostile";
import { platformStack } from "./platformOutputs";

const INGRESS = "kubernetes:networking.k8s.io/v1:Ingress";
const SERVER = "kubernetes:k8s.nginx.org/v1:VirtualServer";
const POLICY = "kubernetes:k8s.nginx.org/v1:Policy";

const shop = { serviceName: "shop", port: 8080 };
const newer = { serviceName: "shop-canary", port: 8080 };

const routesArgs = (changes: Partial<RoutesArgs> = {}): RoutesArgs => ({
  namespace: "shop",
  className: "nginx",
  coveredHosts: [],
  hosts: ["shop.example.com"],
  paths: [shop],
  ...changes,
});

async function deploy(changes: Partial<RoutesArgs> = {}, options: CaptureOptions = {}) {
  let made: Routes | undefined;
  const graph = await capture(() => {
    made = new Routes("shop", routesArgs(changes));
  }, options);
  assert.ok(made);
  return { graph, made };
}

const ingress = async (changes: Partial<RoutesArgs> = {}) => {
  const { graph } = await deploy(changes);
  assert.deepEqual(
    graph.map(({ type }) => type),
    ["hobnob:platform:Routes", INGRESS],
  );
  return find(graph, INGRESS, "shop").inputs;
};
/** What is said to the controller. */
const annotations = async (changes: Partial<RoutesArgs>) => {
  const { "pulumi.com/skipAwait": skipped, ...others } = (await ingress(changes)).metadata.annotations;
  assert.equal(skipped, "true", "an Ingress whose host a VirtualServer still has would be waited for until it is gone");
  return others;
};

const custom = { customResources: true };
const server = async (changes: Partial<RoutesArgs>) => {
  const { graph } = await deploy({ ...custom, ...changes });
  assert.deepEqual(ofType(graph, INGRESS), []);
  return find(graph, SERVER, "shop").inputs;
};

/** What a refusal tells, by arg. */
async function refusal(changes: Partial<RoutesArgs>): Promise<Record<string, string>> {
  let message = "";
  await assert.rejects(deploy(changes), (error: Error) => {
    assert.ok(pulumi.RunError.isInstance(error), String(error.stack));
    message = error.message;
    return true;
  });
  const found = [...message.matchAll(/\n {2}(\S+)\n {4}given: {3}(.*)\n {4}allowed: (.*)\n/g)];
  return Object.fromEntries(found.map(([, arg, given, allowed]) => [arg, `${given} | ${allowed}`]));
}

const refused = async (changes: Partial<RoutesArgs>) => Object.keys(await refusal(changes));

describe("routes by an Ingress", () => {
  it("must bring one host's requests to one Service, with no limit unless asked for", async () => {
    assert.deepEqual(await ingress(), {
      apiVersion: "networking.k8s.io/v1",
      kind: "Ingress",
      metadata: { namespace: "shop", annotations: { "pulumi.com/skipAwait": "true" } },
      spec: {
        ingressClassName: "nginx",
        rules: [
          {
            host: "shop.example.com",
            http: {
              paths: [
                { path: "/", pathType: "Prefix", backend: { service: { name: "shop", port: { number: 8080 } } } },
              ],
            },
          },
        ],
      },
    });
  });

  it("must bring several hosts' paths to their Services by one Ingress, and what is left to the default one", async () => {
    const { spec } = await ingress({
      hosts: ["shop.example.com", "*.shop.example.com"],
      paths: [
        { ...shop, path: "/cart/" },
        { serviceName: "health", port: 80, path: "/health", pathType: "Exact" },
      ],
      defaultBackend: { serviceName: "front", port: 80 },
    });
    const backend = (name: string, number: number) => ({ service: { name, port: { number } } });
    const paths = [
      { path: "/cart/", pathType: "Prefix", backend: backend("shop", 8080) },
      { path: "/health", pathType: "Exact", backend: backend("health", 80) },
    ];
    assert.deepEqual(spec.rules, [
      { host: "shop.example.com", http: { paths } },
      { host: "*.shop.example.com", http: { paths } },
    ]);
    assert.deepEqual(spec.defaultBackend, backend("front", 80));
  });

  it("must serve the requests for nobody's host where none is given", async () => {
    const { rules } = (await ingress({ hosts: undefined })).spec;
    assert.deepEqual([rules.length, Object.keys(rules[0])], [1, ["http"]]);
  });

  it("must limit requests by the client's address, over all pods of the controller, with 429", async () => {
    assert.deepEqual(await annotations({ rateLimit: { requestsPerSecond: 20, burst: 40 } }), {
      "nginx.org/limit-req-rate": "20r/s",
      "nginx.org/limit-req-burst": "40",
      "nginx.org/limit-req-no-delay": "true",
      "nginx.org/limit-req-key": ["$", "{binary_remote_addr}"].join(""),
      "nginx.org/limit-req-zone-size": "10m",
      "nginx.org/limit-req-reject-code": "429",
      "nginx.org/limit-req-scale": "true",
    });
  });

  it("must limit the body's size where asked for", async () => {
    assert.deepEqual(await annotations({ maxBodySize: "8m" }), { "nginx.org/client-max-body-size": "8m" });
  });

  it("must rewrite by Service, each once", async () => {
    const paths = [
      { ...shop, path: "/a/", rewrite: "/" },
      { ...shop, path: "/b/", rewrite: "/" },
      { serviceName: "tea", port: 80, path: "/tea", rewrite: "/beverage" },
    ];
    assert.deepEqual(await annotations({ paths }), {
      "nginx.org/rewrites": "serviceName=shop rewrite=/;serviceName=tea rewrite=/beverage",
    });
  });

  it("must keep a client at one pod of each Service by a cookie", async () => {
    const paths = [shop, { ...shop, path: "/b" }, { serviceName: pulumi.output("tea"), port: 80, path: "/tea" }];
    const stickySession = { cookie: "pod", expires: "1h" };
    const defaultBackend = { serviceName: "front", port: 80 };
    assert.deepEqual(await annotations({ paths, stickySession, defaultBackend }), {
      // What one Service's pods set would be replaced by the next, which knows none of them.
      "nginx.org/sticky-cookie-services": ["shop pod", "tea pod_1", "front pod_2"]
        .map((each) => `serviceName=${each} expires=1h httponly path=/`)
        .join(";"),
    });
  });

  it("must pass WebSockets to each Service once, where asked for", async () => {
    const paths = [shop, { ...shop, path: "/b" }, { serviceName: pulumi.output("tea"), port: 80, path: "/tea" }];
    const defaultBackend = { serviceName: "front", port: 80 };
    assert.deepEqual(await annotations({ paths, defaultBackend, webSockets: true }), {
      "nginx.org/websocket-services": "shop,tea,front",
    });
    assert.deepEqual(await annotations({ paths, webSockets: false }), {});
    assert.deepEqual(await refused({ webSockets: "yes" as never }), ["webSockets"]);
  });

  it("must ask for a user where the controller may read who they are", async () => {
    const basicAuth = { secretName: "users", realm: "The shop" };
    assert.deepEqual(await annotations({ basicAuth, secretNamespaces: ["shop"] }), {
      "nginx.org/basic-auth-secret": "users",
      "nginx.org/basic-auth-realm": "The shop",
    });
  });

  it("must end TLS by a Secret where no balancer does, and send plain HTTP there unless told not to", async () => {
    const own = { expose: "NodePort", tls: { secretName: "certificate" }, secretNamespaces: ["shop"] } as const;
    const given = { ...own, secretNamespaces: [...own.secretNamespaces] };
    const { metadata, spec } = await ingress(given);
    assert.deepEqual(spec.tls, [{ hosts: ["shop.example.com"], secretName: "certificate" }]);
    assert.equal(metadata.annotations["nginx.org/ssl-redirect"], "true");
    const kept = await annotations({ ...given, redirectToHttps: false });
    assert.equal(kept["nginx.org/ssl-redirect"], "false");
  });

  it("must redirect by what the balancer says of the request, where it ends TLS", async () => {
    const changes = { redirectToHttps: true, coveredHosts: ["shop.example.com"] };
    assert.deepEqual(await annotations(changes), { "nginx.org/redirect-to-https": "true" });
  });

  it("must divide a limit by the controller's pods only where a Service counts them", async () => {
    const scaled = async (expose: RoutesArgs["expose"]) => {
      const given = await annotations({ expose, rateLimit: { requestsPerSecond: 20, burst: 40 } });
      assert.equal(given["nginx.org/limit-req-rate"], "20r/s");
      return given["nginx.org/limit-req-scale"];
    };
    assert.equal(await scaled("LoadBalancer"), "true");
    assert.equal(await scaled("NodePort"), "true");
    assert.equal(await scaled("HostPort"), undefined);
    assert.equal(await scaled(pulumi.output("HostPort" as const)), "false");
    assert.equal(await scaled(pulumi.output("LoadBalancer" as const)), "true");
  });

  it("must show its hosts in a preview before the namespace is there", async () => {
    const hosts = async (changes: Partial<RoutesArgs> = {}) => {
      const graph = await capture(
        () => {
          const { metadata } = new k8s.core.v1.Namespace("shop");
          new Routes("shop", { ...routesArgs(changes), namespace: metadata.name });
        },
        { preview: true },
      );
      return find(graph, INGRESS).inputs.spec.rules.map(({ host }: { host: string }) => host);
    };
    assert.deepEqual(await hosts(), ["shop.example.com"]);
    const asks = { basicAuth: { secretName: "users" }, secretNamespaces: ["shop"] };
    assert.notDeepEqual(await hosts(asks), ["shop.example.com"], "whether it is refused is not known yet");
  });

  it("must be the Ingress that the component Route made before", async () => {
    const { graph } = await deploy();
    assert.deepEqual(find(graph, "hobnob:platform:Routes").aliases.length, 1);
  });
});

describe("routes by a VirtualServer", () => {
  it("must ask for nothing where WebSockets are wanted, which it always passes", async () => {
    const changes = { paths: [{ ...shop, canary: { ...newer, weight: 10 } }] };
    assert.deepEqual(await server({ ...changes, webSockets: true }), await server(changes));
  });

  const path = (canary: object, more = {}) => ({ paths: [{ ...shop, canary: { ...newer, ...canary }, ...more }] });
  const pass = (name: string) => ({ pass: name });

  it("must take a share of the requests to the canary", async () => {
    assert.deepEqual(await server(path({ weight: 10 })), {
      apiVersion: "k8s.nginx.org/v1",
      kind: "VirtualServer",
      metadata: { namespace: "shop" },
      spec: {
        ingressClassName: "nginx",
        host: "shop.example.com",
        upstreams: [
          { name: "path-0", service: "shop", port: 8080 },
          { name: "canary-0", service: "shop-canary", port: 8080 },
        ],
        routes: [
          {
            path: "/",
            splits: [
              { weight: 90, action: pass("path-0") },
              { weight: 10, action: pass("canary-0") },
            ],
          },
        ],
      },
    });
  });

  it("must take to the canary who sends a header or a cookie, either of them, and the rest by chance", async () => {
    const header = { name: "X-Canary", value: "always" };
    const cookie = { name: "canary", value: "yes" };
    const one = (await server(path({ header }))).spec.routes;
    const match = (condition: object) => ({ conditions: [condition], action: pass("canary-0") });
    assert.deepEqual(one, [
      { path: "/", matches: [match({ header: "X-Canary", value: "always" })], action: pass("path-0") },
    ]);
    const [all] = (await server(path({ header, cookie, weight: 5 }))).spec.routes;
    assert.deepEqual(all.matches, [
      match({ header: "X-Canary", value: "always" }),
      match({ cookie: "canary", value: "yes" }),
    ]);
    assert.deepEqual([all.action, all.splits.map((s: { weight: number }) => s.weight)], [undefined, [95, 5]]);
  });

  it("must rewrite by path, of one Service differently too, and so for its canary", async () => {
    const paths = [
      { ...shop, path: "/a/", rewrite: "/x/" },
      { ...shop, path: "/b", pathType: "Exact" as const },
      { ...shop, path: "/c", rewrite: "/y", canary: { ...newer, weight: 1 } },
    ];
    const { routes } = (await server({ paths })).spec;
    const proxy = (upstream: string, rewritePath: string) => ({ proxy: { upstream, rewritePath } });
    assert.deepEqual(routes, [
      { path: "/a/", action: proxy("path-0", "/x/") },
      { path: "=/b", action: pass("path-1") },
      {
        path: "/c",
        splits: [
          { weight: 99, action: proxy("path-2", "/y") },
          { weight: 1, action: proxy("canary-2", "/y") },
        ],
      },
    ]);
  });

  it("must redirect a path to another place", async () => {
    const url = ["https://www.example.com$", "{request_uri}"].join("");
    const { routes, upstreams } = (await server({ paths: [{ redirect: { url, code: 301 } }] })).spec;
    assert.deepEqual([routes, upstreams], [[{ path: "/", action: { redirect: { url, code: 301 } } }], []]);
  });

  it("must be one for each host, with the same Policies for limits and users", async () => {
    const changes = {
      ...path({ weight: 10 }),
      hosts: ["shop.example.com", "store.example.com"],
      rateLimit: { requestsPerSecond: 20, burst: 40 },
      basicAuth: { secretName: "users" },
      secretNamespaces: ["shop"],
    };
    const { graph } = await deploy({ ...custom, ...changes });
    const key = ["$", "{binary_remote_addr}"].join("");
    assert.deepEqual(
      ofType(graph, POLICY).map(({ name, inputs }) => [name, inputs.metadata, inputs.spec]),
      [
        ["shop-basic-auth", { namespace: "shop" }, { ingressClassName: "nginx", basicAuth: { secret: "users" } }],
        [
          "shop-rate-limit",
          { namespace: "shop" },
          {
            ingressClassName: "nginx",
            rateLimit: {
              rate: "20r/s",
              burst: 40,
              noDelay: true,
              key,
              zoneSize: "10M",
              rejectCode: 429,
              scale: true,
            },
          },
        ],
      ],
    );
    const policies = [{ name: "shop-rate-limit-0a1b2c3d" }, { name: "shop-basic-auth-0a1b2c3d" }];
    assert.deepEqual(
      ofType(graph, SERVER).map(({ name, inputs }) => [name, inputs.spec.host, inputs.spec.policies]),
      [
        ["shop", "shop.example.com", policies],
        ["shop-2", "store.example.com", policies],
      ],
    );
  });

  it("must give each upstream the body's size and the cookie, and the default backend what no path takes", async () => {
    const { upstreams, routes } = (
      await server({
        ...path({ weight: 10 }, { path: "/cart" }),
        maxBodySize: "8m",
        stickySession: { cookie: "pod", expires: "1h" },
        defaultBackend: { serviceName: "front", port: 80 },
      })
    ).spec;
    const more = (name: string) => ({
      "client-max-body-size": "8m",
      sessionCookie: { enable: true, name, path: "/", httpOnly: true, expires: "1h" },
    });
    assert.deepEqual(upstreams, [
      { name: "path-0", service: "shop", port: 8080, ...more("pod") },
      { name: "canary-0", service: "shop-canary", port: 8080, ...more("pod_1") },
      { name: "path-1", service: "front", port: 80, ...more("pod_2") },
    ]);
    assert.deepEqual(routes[1], { path: "/", action: pass("path-1") });
  });

  it("must end TLS by a Secret, or redirect by what the balancer says", async () => {
    const tls = { secretName: "certificate" };
    const own = { expose: "HostPort" as const, tls, secretNamespaces: ["shop"] };
    assert.deepEqual((await server({ ...path({ weight: 1 }), ...own })).spec.tls, {
      secret: "certificate",
      redirect: { enable: true, basedOn: "scheme" },
    });
    const kept = await server({ ...path({ weight: 1 }), ...own, redirectToHttps: false });
    assert.deepEqual(kept.spec.tls, { secret: "certificate" });
    // Also where nothing is said of it: only so do applications learn that the client speaks HTTPS.
    for (const redirectToHttps of [true, undefined]) {
      const changes = { ...path({ weight: 1 }), redirectToHttps, coveredHosts: ["shop.example.com"] };
      assert.deepEqual((await server(changes)).spec.tls, { redirect: { enable: true, basedOn: "x-forwarded-proto" } });
    }
    assert.equal((await server({ ...path({ weight: 1 }), coveredHosts: [] })).spec.tls, undefined);
  });

  it("must not rewrite two paths of one Service alike, if only by the default backend or by two outputs of one name", async () => {
    const name = () => pulumi.output("shop");
    const rewritten = { serviceName: "shop", port: 8080, path: "/a/", rewrite: "/" };
    const { spec } = await server({ paths: [rewritten], defaultBackend: { serviceName: "shop", port: 8080 } });
    assert.deepEqual(spec.routes.length, 2);
    const paths = [
      { ...rewritten, serviceName: name() },
      { ...rewritten, serviceName: name(), path: "/b/", rewrite: "/two/" },
    ];
    assert.match((await refusal({ ...custom, paths }))["paths[1].rewrite"] ?? "", /the very same serviceName for both/);
  });

  it("must be refused where the class serves none, naming what needs it and what helps", async () => {
    const url = "https://example.com";
    const paths = [
      { ...shop, path: "/a/", rewrite: "/", canary: { ...newer, weight: 1 } },
      { path: "/b/", redirect: { url } },
      { ...shop, path: "/c/", rewrite: "/" },
      { ...shop, path: "/d" },
    ];
    assert.deepEqual(await refusal({ paths }), {
      customResources:
        "false | true, as only a VirtualServer has paths[0].canary, paths[1].redirect, paths[3].rewrite: " +
        "pulumi config set --path hobnob:ingress.customResources true, in the platform's project",
    });
    assert.deepEqual(await refused({ ...path({ weight: 1 }), customResources: pulumi.output(false) }), [
      "customResources",
    ]);
    assert.deepEqual(await refused({ ...path({ weight: 1 }), ...custom, hosts: [] }), ["hosts"]);
  });
});

describe("routes and the certificate", () => {
  it("must know hosts by names and wildcards as certificates do", () => {
    const names = ["example.com", "*.example.com", "a.b.example.com"];
    const covered = ["example.com", "shop.example.com", "*.example.com", "a.b.example.com"];
    const others = ["example.org", "b.b.example.com", "*.b.example.com", "shopexample.com", "com"];
    assert.deepEqual(
      [covered.filter((host) => !isCovered(host, names)), others.filter((host) => isCovered(host, names))],
      [[], []],
    );
  });

  it("must refuse a host that the platform's certificate does not cover, now or as soon as it is known", async () => {
    const coveredHosts = ["api.example.com", "*.shop.example.com"];
    const allowed = `what the certificate of the platform covers: ["api.example.com","*.shop.example.com"]; more by hobnob:tls.hosts of the platform's configuration`;
    const expected = { "hosts[0]": `"shop.example.com" | ${allowed}` };
    assert.deepEqual(await refusal({ coveredHosts }), expected);
    assert.deepEqual(await refusal({ coveredHosts: pulumi.output(coveredHosts) }), expected);
    assert.deepEqual(await refusal({ coveredHosts, hosts: [pulumi.output("shop.example.com")] }), expected);
    await ingress({ coveredHosts, hosts: ["a.shop.example.com"] });
  });

  it("must be at HTTPS where the certificate is, and else at HTTP", async () => {
    const urls = async (changes: Partial<RoutesArgs>) => (await unwrap((await deploy(changes)).made.urls)).value;
    assert.deepEqual(await urls({}), ["http://shop.example.com"]);
    assert.deepEqual(await urls({ coveredHosts: ["shop.example.com"] }), ["https://shop.example.com"]);
    const tls = { secretName: "certificate" };
    assert.deepEqual(await urls({ tls, expose: "NodePort", secretNamespaces: ["shop"] }), ["https://shop.example.com"]);
  });

  it("must be of the platform's class by its contract, and stand on an output of each", async () => {
    const of = (changes: object, host: string) =>
      capture(
        () => {
          const platform = new Platform("acme/hobnob/prod");
          new Routes("shop", { ...ofPlatform(platform), namespace: "shop", hosts: [host], paths: [shop] });
        },
        { mocks: { resource: platformStack(changes) } },
      );
    const { spec, metadata } = find(await of({}, "www.example.com"), INGRESS).inputs;
    assert.deepEqual(spec.rules[0].host, "www.example.com");
    assert.deepEqual([spec.ingressClassName, metadata.annotations], ["nginx", { "pulumi.com/skipAwait": "true" }]);
    await assert.rejects(of({}, "other.example.com"), /hosts\[0\]/);
    for (const name of [
      "ingressClass",
      "coveredHosts",
      "ingressExpose",
      "ingressCustomResources",
      "ingressSecretNamespaces",
    ])
      await assert.rejects(of({ [name]: undefined }, "www.example.com"), new RegExp(name));
  });
});

describe("refused routes", () => {
  const cases: [string, Partial<RoutesArgs>, string[]][] = [
    ["a name that is none", { hosts: ["Shop.example.com"] }, ["hosts[0]"]],
    ["a wildcard that is not a whole label", { hosts: ["a*.example.com"] }, ["hosts[0]"]],
    ["a host twice", { hosts: ["a.example.com", "a.example.com"] }, ["hosts[1]"]],
    ["no path", { paths: [] }, ["paths"]],
    ["a path twice", { paths: [shop, { ...shop, path: "/", pathType: "Prefix" }] }, ["paths[1].path"]],
    ["a path that is none", { paths: [{ ...shop, path: "shop" }] }, ["paths[0].path"]],
    ["a path that would be NGINX's configuration", { paths: [{ ...shop, path: "/;{}" }] }, ["paths[0].path"]],
    ["a path that the API server refuses", { paths: [{ ...shop, path: "/a/../b" }] }, ["paths[0].path"]],
    ["a Service that is none", { paths: [{ serviceName: "Shop", port: 80 }] }, ["paths[0].serviceName"]],
    ["a port that is none", { defaultBackend: { serviceName: "a", port: 0 } }, ["defaultBackend.port"]],
    [
      "a rewrite with a slash too many or too few",
      {
        paths: [
          { ...shop, path: "/a", rewrite: "/" },
          { serviceName: "b", port: 80, path: "/b/", rewrite: "/x" },
        ],
      },
      ["paths[0].rewrite", "paths[1].rewrite"],
    ],
    [
      "a limit that is none",
      { rateLimit: { requestsPerSecond: 0, burst: 0.5 } },
      ["rateLimit.requestsPerSecond", "rateLimit.burst"],
    ],
    ["a size that is none", { maxBodySize: "8MB" }, ["maxBodySize"]],
    [
      "a cookie that is none",
      { stickySession: { cookie: "a b", expires: "1 h" } },
      ["stickySession.cookie", "stickySession.expires"],
    ],
    [
      "a rewrite that the controller can't do beside a canary",
      {
        ...custom,
        paths: [
          { ...shop, path: "/a", pathType: "Exact", rewrite: "/", canary: { ...newer, weight: 1 } },
          { ...shop, path: "/b(", rewrite: "/c", canary: { ...newer, weight: 1 } },
          { ...shop, path: "/c", pathType: "Exact", rewrite: "/" },
        ],
      },
      ["paths[0].rewrite", "paths[1].rewrite"],
    ],
    ["users that the controller can't read", { basicAuth: { secretName: "users" } }, ["basicAuth"]],
    [
      "users of another namespace",
      { basicAuth: { secretName: "users" }, secretNamespaces: pulumi.output(["blog"]) },
      ["basicAuth"],
    ],
    [
      "a realm that would be NGINX's variable",
      { basicAuth: { secretName: "users", realm: "$host" }, secretNamespaces: ["shop"] },
      ["basicAuth.realm"],
    ],
    ["own TLS past the balancer", { tls: { secretName: "a" }, secretNamespaces: ["shop"] }, ["tls"]],
    [
      "own TLS past a balancer that is known later",
      { tls: { secretName: "a" }, secretNamespaces: ["shop"], expose: pulumi.output("LoadBalancer" as const) },
      ["tls"],
    ],
    [
      "own TLS of no host",
      { tls: { secretName: "a" }, secretNamespaces: ["shop"], expose: "NodePort", hosts: [] },
      ["hosts"],
    ],
    ["HTTPS that nobody ends", { redirectToHttps: true }, ["redirectToHttps"]],
    [
      "HTTPS that nobody ends, known later",
      { redirectToHttps: true, coveredHosts: pulumi.output([]) },
      ["redirectToHttps"],
    ],
    ["a canary of nothing", { ...custom, paths: [{ ...shop, canary: newer }] }, ["paths[0].canary"]],
    [
      "shares, headers and cookies that are none",
      {
        ...custom,
        paths: [
          {
            ...shop,
            canary: {
              ...newer,
              weight: 100,
              header: { name: "X Canary", value: "!no" },
              cookie: { name: "a-b", value: '"' },
            },
          },
        ],
      },
      ["weight", "header.name", "header.value", "cookie.name", "cookie.value"].map((arg) => `paths[0].canary.${arg}`),
    ],
    [
      "a redirect to nowhere",
      { ...custom, paths: [{ redirect: { url: "/elsewhere", code: 200 } }] },
      ["paths[0].redirect.url", "paths[0].redirect.code"],
    ],
  ];
  for (const [what, changes, args] of cases)
    it(`must not have ${what}`, async () => {
      assert.deepEqual(await refused(changes), args);
    });

  it("must be told all at once, with what was given and what is allowed", async () => {
    const paths = [{ ...shop, path: "shop", port: 70000 }];
    await assert.rejects(deploy({ hosts: ["-"], paths }), {
      message: `The args of the routes "shop" have 3 violations:

  hosts[0]
    given:   "-"
    allowed: a name in lower case, or *. and a name, e.g. shop.example.com

  paths[0].path
    given:   "shop"
    allowed: a path that begins with / and has no // in it, e.g. /shop/

  paths[0].port
    given:   70000
    allowed: a whole number from 1 to 65535
`,
    });
  });

  it("must be refused in a preview too, and be the same resources", async () => {
    await assert.rejects(deploy({ hosts: ["-"] }, { preview: true }), /hosts\[0\]/);
    const names = async (preview: boolean) =>
      (await deploy({ ...custom, paths: [{ ...shop, canary: { ...newer, weight: 1 } }] }, { preview })).graph.map(
        (r) => r.urn,
      );
    assert.deepEqual(await names(true), await names(false));
  });

  /** Every arg that is a plain value, as `Routes` by an Ingress and by a VirtualServer. */
  const canary = {
    ...newer,
    weight: 10,
    header: { name: "X-Canary", value: "yes" },
    cookie: { name: "c", value: "1" },
  };
  const whole = (custom: boolean) => ({
    namespace: "shop",
    className: "nginx",
    coveredHosts: [],
    secretNamespaces: ["shop"],
    expose: "NodePort",
    customResources: custom,
    hosts: ["shop.example.com"],
    paths: [
      { ...shop, path: "/a/", pathType: "Prefix", rewrite: "/b/", ...(custom && { canary }) },
      ...(custom ? [{ path: "/old", redirect: { url: "https://example.com/", code: 301 } }] : []),
    ],
    defaultBackend: { serviceName: "front", port: 80 },
    tls: { secretName: "certificate" },
    redirectToHttps: true,
    rateLimit: { requestsPerSecond: 20, burst: 40 },
    maxBodySize: "8m",
    stickySession: { cookie: "pod", expires: "1h" },
    basicAuth: { secretName: "users", realm: "Shop" },
  });
  type Bag = Record<string, unknown>;
  const leaves = (value: unknown, path: string[] = []): string[][] =>
    typeof value === "object" && value !== null
      ? Object.entries(value).flatMap(([key, member]) => leaves(member, [...path, key]))
      : [path];
  const at = (args: unknown, path: string[]) => path.reduce<unknown>((value, key) => (value as Bag)[key], args);
  const thrown = fc.boolean().chain((custom) =>
    // The certificate's names and the namespaces are the contract's.
    fc
      .constantFrom(
        ...leaves(whole(custom)).filter(([first]) => !/^(secretNamespaces|customResources)$/.test(first ?? "")),
      )
      .chain((path) =>
        fc.record({
          custom: fc.constant(custom),
          path: fc.constant(path),
          value: fc.oneof(HOSTILE, tainted(fc.constant(at(whole(custom), path)))),
        }),
      ),
  );
  /** Of what the controller writes into NGINX's configuration, nothing that could end a directive or a text. */
  const HARMLESS = /^([^;{}"\\\p{C}]|\$\{(binary_remote_addr|host|scheme|request_uri)\}|;(?=serviceName=))*$/u;

  it("must be refused clearly, or be nothing but what was asked for, whatever is thrown at them", async () => {
    let refusals = 0;
    const judge = async ({ custom, path, value }: { custom: boolean; path: string[]; value: unknown }) => {
      const args = structuredClone(whole(custom));
      (at(args, path.slice(0, -1)) as Bag)[path.at(-1) ?? ""] = value;
      try {
        const graph = await capture(() => new Routes("shop", args as RoutesArgs));
        for (const { inputs } of graph)
          for (const leaf of leaves(inputs)) assert.match(String(at(inputs, leaf)), HARMLESS, leaf.join("."));
      } catch (error) {
        if (!pulumi.RunError.isInstance(error)) throw error;
        refusals++;
        assert.match(error.message, /^[ -~\n…]{1,3000}$/);
      }
    };
    await fc.assert(fc.asyncProperty(thrown, judge), { numRuns: 300 });
    assert.ok(refusals > 200, `${refusals} refusals`);
  });
});
