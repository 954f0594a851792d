import assert from "node:assert/strict";
import { API_PODS, API_USER } from "../../verify/api";
import type { Result } from "../../verify/checks";
import { ALL_NODES, DOCUMENT, NODES_ANSWER, ONE_CLUSTER, SHARDS } from "../../verify/elasticsearch";
import {
  API,
  CERTIFICATE,
  DNS_SYSTEM,
  DNS_ZONE,
  DOCS,
  HSTS,
  PUBLIC_CHECKS,
  RATE_LIMIT,
  REDIRECT,
} from "../../verify/public";
import { passed, summary, table } from "../../verify/report";
import { FakePlatform, newAuthority } from "./platform";

const CLEAN_UP = "clean-up";
type Node = FakePlatform["elasticsearch"]["nodes"][number];

/** The acceptance of a platform in which one thing is not as it should be. */
async function verifying(
  change: (platform: FakePlatform) => void | Promise<void>,
  check: (platform: FakePlatform) => unknown = assertClean,
) {
  const platform = new FakePlatform();
  await change(platform);
  await platform.start();
  try {
    const results = await platform.verify();
    check(platform);
    return results;
  } finally {
    await platform.stop();
  }
}

function assertClean({ users, indices }: FakePlatform) {
  assert.deepEqual([[...users.keys()], [...indices.keys()]], [[], []], "something was left behind");
}

const of = (results: Result[], status: Result["status"]) =>
  results.filter((result) => result.status === status).map(({ name }) => name);
const last = ({ elasticsearch }: FakePlatform) => elasticsearch.nodes[2] as Node;

/** A fault, the one check that must see it, and how it tells it; what could not be checked for it comes after. */
const faults: [
  title: string,
  check: string,
  detail: RegExp,
  (platform: FakePlatform) => void | Promise<void>,
  string[]?,
][] = [
  [
    "a pod of Elasticsearch too few",
    NODES_ANSWER,
    /^2 pods instead of the 3 configured$/,
    ({ elasticsearch }) => void elasticsearch.nodes.pop(),
    [ONE_CLUSTER, ALL_NODES, DOCUMENT, SHARDS],
  ],
  [
    "a pod of Elasticsearch that does not answer",
    NODES_ANSWER,
    /^elasticsearch-2 does not answer GET \/_cluster\/state\/master_node: other side closed$/,
    (platform) => {
      last(platform).silent = true;
    },
    [ONE_CLUSTER, ALL_NODES, DOCUMENT, SHARDS],
  ],
  ...(
    [
      ["that refuses the password", /^elasticsearch-0 answers GET \S+ with 401 instead of 200/, { password: "wrong" }],
      ["whose Secret is gone", /^there is no Secret elasticsearch-verify with username/, { secret: false }],
      ["of an unknown authority", /: unable to verify the first certificate;/, newAuthority],
      [
        "with a certificate of another host",
        /Hostname\/IP does not match certificate's altnames/,
        { hosts: ["localhost"] },
      ],
    ] as const
  ).map(
    ([title, detail, fault]) =>
      [
        `Elasticsearch ${title}`,
        NODES_ANSWER,
        detail,
        async ({ security }: FakePlatform) => {
          security.enabled = true;
          if (typeof fault === "function") security.shown = await fault("another");
          else if ("hosts" in fault) security.shown = { hosts: [...fault.hosts] };
          else Object.assign(security, fault);
        },
        [ONE_CLUSTER, ALL_NODES, DOCUMENT, SHARDS],
      ] as (typeof faults)[number],
  ),
  [
    "a node of another cluster",
    ONE_CLUSTER,
    /elasticsearch-1: uuid-of-one-cluster; elasticsearch-2: another$/,
    (platform) => {
      last(platform).uuid = "another";
    },
  ],
  [
    "nodes of no cluster, which all say the same",
    ONE_CLUSTER,
    /^elasticsearch-0: _na_; elasticsearch-1: _na_/,
    ({ elasticsearch }) => {
      for (const node of elasticsearch.nodes) node.uuid = "_na_";
    },
  ],
  [
    "a node that sees not all",
    ALL_NODES,
    /elasticsearch-2: elasticsearch-0, elasticsearch-2; master elasticsearch-0$/,
    (platform) => {
      last(platform).sees = ["elasticsearch-0", "elasticsearch-2"];
    },
  ],
  [
    "nodes that all see one more than there are pods",
    ALL_NODES,
    /^elasticsearch-0: elasticsearch-0, elasticsearch-1, elasticsearch-2, stranger;/,
    ({ elasticsearch }) => {
      for (const node of elasticsearch.nodes) node.sees = [...elasticsearch.nodes.map(({ name }) => name), "stranger"];
    },
  ],
  [
    "a node that knows no master",
    ALL_NODES,
    /elasticsearch-2: .* master none$/,
    (platform) => {
      last(platform).master = "";
    },
  ],
  [
    "a node that does not read what another wrote",
    DOCUMENT,
    /^a document written through elasticsearch-0: elasticsearch-2 reads none \(404\)$/,
    (platform) => {
      last(platform).reads = false;
    },
  ],
  [
    "a shard without its copy",
    SHARDS,
    /^elasticsearch-0: yellow, 3 shards, 1 unassigned;/,
    ({ elasticsearch }) => {
      for (const node of elasticsearch.nodes)
        node.health = { status: "yellow", active_shards: 3, unassigned_shards: 1 };
    },
  ],
  [
    "an API pod that is not ready",
    API_PODS,
    /^backend-1 answers GET \/readyz with 503 instead of 200$/,
    ({ api }) => {
      api.ready[1] = false;
    },
  ],
  ["an API pod too few", API_PODS, /^2 pods instead of the 3 configured$/, ({ api }) => void api.replicas++],
  [
    "a zone with an old address",
    DNS_ZONE,
    /^ns1\.dns\.test: docs\.hobnob\.test is 127\.0\.0\.9 instead of 127\.0\.0\.1; ns2/,
    ({ dns }) => {
      dns.records["docs.hobnob.test"] = "127.0.0.9";
    },
  ],
  [
    "a zone without a host",
    DNS_ZONE,
    /^ns1\.dns\.test: api\.hobnob\.test has no address \(ENOTFOUND\)/,
    ({ dns }) => void delete dns.records["api.hobnob.test"],
  ],
  [
    "name servers that do not have the zone",
    DNS_ZONE,
    /^ns1\.dns\.test: api\.hobnob\.test has no address \(EREFUSED\)/,
    ({ dns }) => {
      dns.refuses = true;
    },
  ],
  [
    "a resolver that finds another address",
    DNS_SYSTEM,
    /^api\.hobnob\.test is 127\.0\.0\.9 instead of 127\.0\.0\.1$/,
    ({ dns }) => {
      dns.system["api.hobnob.test"] = "127.0.0.9";
    },
    [CERTIFICATE, API, DOCS, REDIRECT, HSTS, API_USER, RATE_LIMIT],
  ],
  ...(
    [
      [
        "of an unknown authority",
        /^api\.hobnob\.test: not trusted \(UNABLE_TO_VERIFY_LEAF_SIGNATURE\)/,
        () => newAuthority("another"),
      ],
      ["that has run out", /^api\.hobnob\.test: not trusted \(CERT_HAS_EXPIRED\)/, () => ({ to: -3 })],
      ["that is not valid yet", /^api\.hobnob\.test: not trusted \(CERT_NOT_YET_VALID\)/, () => ({ from: 2 })],
      ["that was not renewed", /^api\.hobnob\.test: 13 days left, so it was not renewed/, () => ({ to: 13 })],
      [
        "for one host only",
        /^api\.hobnob\.test: the certificate does not cover docs\.hobnob\.test; docs/,
        () => ({ hosts: ["api.hobnob.test"] }),
      ],
    ] as [string, RegExp, () => object | Promise<object>][]
  ).map(
    ([title, detail, shown]) =>
      [
        `a certificate ${title}`,
        CERTIFICATE,
        detail,
        async ({ tls }: FakePlatform) => {
          tls.shown = await shown();
        },
        [API, DOCS, HSTS, API_USER, RATE_LIMIT],
      ] as (typeof faults)[number],
  ),
  [
    "an API that is not there",
    API,
    /^https:\/\/api\.hobnob\.test:\d+ answers GET \/users with 502 instead of 200$/,
    ({ api }) => {
      api.publicly = 502;
    },
    [API_USER, RATE_LIMIT],
  ],
  [
    "documentation that is none",
    DOCS,
    /is no Swagger UI$/,
    ({ docs }) => {
      docs.page = "It works!";
    },
  ],
  [
    "documentation of another API",
    DOCS,
    /sends its requests to http:\/\/localhost:8080 instead of https:\/\/api\.hobnob\.test/,
    ({ docs }) => {
      docs.server = "http://localhost:8080";
    },
  ],
  [
    "plain HTTP that is served",
    REDIRECT,
    /^http:\/\/api\.hobnob\.test:\d+ answers 200 and leads to/,
    ({ http }) => {
      http.status = 200;
    },
  ],
  [
    "a redirect that loses the path",
    REDIRECT,
    /answers 307 and leads to https:\/\/api\.hobnob\.test\/;/,
    ({ http }) => {
      http.location = (host) => `https://${host}/`;
    },
  ],
  [
    "a redirect that stays with HTTP",
    REDIRECT,
    /answers 307 and leads to http:\/\//,
    ({ http }) => {
      http.location = (host, path) => `http://${host}${path}`;
    },
  ],
  [
    "HSTS that nobody configured",
    HSTS,
    /^api\.hobnob\.test sends "max-age=2592000", which is not configured/,
    ({ hsts }) => {
      hsts.sent = true;
    },
  ],
  [
    "HSTS that is configured and not sent",
    HSTS,
    /^api\.hobnob\.test does not send the configured header/,
    ({ hsts }) => {
      hsts.annotated = true;
    },
  ],
  [
    "an API that refuses a user",
    API_USER,
    /answers POST \/users with 500 instead of 201$/,
    ({ api }) => {
      api.user.status = 500;
    },
  ],
  [
    "an API that reads something else",
    API_USER,
    /reads another user than was written$/,
    ({ api }) => {
      api.user.read = "Somebody else";
    },
  ],
  [
    "a rate limit that lets all through",
    RATE_LIMIT,
    /^no 429 in \d+ requests in \S+ s, at 50 a second and 20 at once$/,
    ({ limit }) => {
      limit.annotated = true;
      limit.answers = 200;
    },
  ],
  [
    "a rate limit that never lets through again",
    RATE_LIMIT,
    /still answers 429 after 4 s with one request each$/,
    ({ limit }) => {
      limit.annotated = true;
      limit.recovers = false;
    },
  ],
  [
    "an index that cannot be deleted",
    CLEAN_UP,
    /^left behind: index hobnob-verify-[0-9a-f]{8} \(elasticsearch-0 answers its deletion with 403\)$/,
    ({ elasticsearch }) => {
      for (const node of elasticsearch.nodes) node.deletable = false;
    },
  ],
  [
    "a rate limit that answers as if all were broken",
    RATE_LIMIT,
    /answers too many requests with 503$/,
    ({ limit }) => {
      limit.annotated = true;
      limit.answers = 503;
    },
  ],
];

describe("acceptance of a stack", function () {
  this.timeout(30_000);

  it("must pass a platform that is as it should be, limit and HSTS included, and leave nothing in it", async () => {
    const results = await verifying(({ limit, hsts }) => {
      limit.annotated = hsts.annotated = hsts.sent = true;
    }, assertClean);
    assert.deepEqual(
      of(results, "pass"),
      results.map(({ name }) => name),
      JSON.stringify(results, null, 2),
    );
    assert.equal(results.length, 16);
    assert.equal(passed(results), true);
    assert.ok(results.every(({ seconds }) => seconds >= 0 && seconds < 10));
  });

  it("must ask Elasticsearch with security as its own user, over a connection that it trusts", async () => {
    const results = await verifying(({ security }) => {
      security.enabled = true;
    });
    assert.deepEqual(of(results, "miss"), [], JSON.stringify(results, null, 2));
    assert.ok(of(results, "pass").includes(DOCUMENT));
  });

  it("must ask for nothing that is not configured", async () => {
    const results = await verifying(({ tls }) => {
      tls.enabled = false;
    });
    assert.deepEqual(of(results, "off"), [CERTIFICATE, REDIRECT, RATE_LIMIT]);
    assert.deepEqual(of(results, "miss"), [], JSON.stringify(results, null, 2));
  });

  for (const [title, check, detail, change, unchecked = []] of faults) {
    it(`must miss ${title}, and that alone`, async () => {
      const results = await verifying(change, (platform) => check !== CLEAN_UP && assertClean(platform));
      assert.deepEqual(of(results, "miss"), [check], JSON.stringify(results, null, 2));
      assert.match(results.find(({ name }) => name === check)?.detail ?? "", detail);
      assert.deepEqual(of(results, "unchecked"), unchecked);
      assert.equal(passed(results), false);
    });
  }

  it("must tell of a user whom it could not delete, twice", async () => {
    const results = await verifying(
      ({ api }) => {
        api.user.deletable = false;
      },
      ({ users }) => assert.equal(users.size, 1),
    );
    assert.deepEqual(of(results, "miss"), [API_USER, CLEAN_UP]);
    assert.match(
      results.at(-1)?.detail ?? "",
      /^left behind: user verify-[0-9a-f]{12} \(https:\S+ answers its deletion/,
    );
  });

  for (const [thing, method, path] of [
    ["index", "PUT", /^\/hobnob-verify-\w+\?/],
    ["document", "PUT", /_doc/],
    ["user", "POST", /^\/users$/],
  ] as const) {
    it(`must take away the ${thing} that was being made as Ctrl-C came, and check nothing more`, async () => {
      const platform = new FakePlatform();
      const interrupt = new AbortController();
      const after: string[] = [];
      platform.onRequest = (...request) => {
        if (interrupt.signal.aborted) after.push(request[0]);
        if (request[0] === method && path.test(request[1])) interrupt.abort();
      };
      await platform.start();
      try {
        const results = await platform.verify({ signal: interrupt.signal });
        assert.equal(interrupt.signal.aborted, true);
        assertClean(platform);
        assert.equal(results.at(-1)?.name, CLEAN_UP);
        assert.equal(
          results.some(({ name }) => name === (thing === "user" ? API_USER : DOCUMENT)),
          false,
        );
        assert.ok(after.length <= 4, `made after the interruption: ${after.join(", ")}`);
      } finally {
        await platform.stop();
      }
    });
  }

  it("must not count as passed what is simulated, and ask a pod of the API instead of its public host", async () => {
    const platform = new FakePlatform();
    await platform.start();
    const results = await platform.verify({ nothingPublic: "simulated" });
    await platform.stop();
    assert.deepEqual(of(results, "elsewhere"), PUBLIC_CHECKS);
    assert.deepEqual(of(results, "pass"), [
      NODES_ANSWER,
      ONE_CLUSTER,
      ALL_NODES,
      DOCUMENT,
      SHARDS,
      API_PODS,
      API_USER,
      CLEAN_UP,
    ]);
    assert.equal(results.find(({ name }) => name === API_USER)?.detail, "through backend-0");
    assert.match(summary(results), /^8 passed, 0 missed, 8 not here; \d+ s$/);
    assert.match(table(results), /│ public: rate limit +│ not here +│ +0\.0 │ simulated +│/);
  });
});
