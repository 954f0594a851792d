import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { createCluster } from "../../components/cluster";
import { config } from "./clusterConfig";
import { capture, find } from "./graph";

const CLUSTER = "cluster-id";

/** What kubectl and the Kubernetes provider run: the command of the very kubeconfig that the program makes. */
async function execCommand(): Promise<{ command: string; args: string[] }> {
  const plan = { version: "1.36.3-do.0", upgrade: false };
  const graph = await capture(() => createCluster("cluster", config, plan));
  return JSON.parse(find(graph, "pulumi:providers:kubernetes").inputs.kubeconfig).users[0].user.exec;
}

describe("cluster credential", () => {
  let server: Server;
  let api: string;
  let requests: IncomingMessage[];
  let answer: { status: number; body: unknown };

  before(async () => {
    server = createServer((request, response) => {
      requests.push(request);
      response.writeHead(answer.status).end(JSON.stringify(answer.body));
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.close();
  });
  beforeEach(() => {
    requests = [];
    answer = { status: 200, body: { token: "short-lived", expires_at: "2026-11-21T14:00:00Z" } };
  });

  async function run(environment: Record<string, string>) {
    const { command, args } = await execCommand();
    const env = { PATH: process.env.PATH, ...environment };
    const child = spawn(command, args, { env, cwd: "/", stdio: ["ignore", "pipe", "pipe"] });
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { stdout, stderr, code };
  }

  it("must be a token that expires, in the form that Kubernetes clients read", async () => {
    const { stdout, stderr, code } = await run({ DIGITALOCEAN_TOKEN: "local", DIGITALOCEAN_API_URL: api });
    assert.deepEqual([code, stderr], [0, ""]);
    assert.deepEqual(JSON.parse(stdout), {
      apiVersion: "client.authentication.k8s.io/v1",
      kind: "ExecCredential",
      status: { token: "short-lived", expirationTimestamp: "2026-11-21T14:00:00Z" },
    });
  });

  it("must be asked for once, as the account's owner, for an hour", async () => {
    await run({ DIGITALOCEAN_TOKEN: "local", DIGITALOCEAN_API_URL: api });
    assert.deepEqual(
      requests.map(({ method, url, headers }) => [method, url, headers.authorization]),
      [["GET", `/v2/kubernetes/clusters/${CLUSTER}/credentials?expiry_seconds=3600`, "Bearer local"]],
    );
  });

  const failure = (message: string) => ({
    stdout: "",
    stderr: `No access to cluster ${CLUSTER}: ${message}\n`,
    code: 1,
  });

  it("must name the variable that is missing, and ask nobody", async () => {
    assert.deepEqual(
      await run({ DIGITALOCEAN_API_URL: api }),
      failure("DIGITALOCEAN_TOKEN is not set; set it to an API token of the cluster's account"),
    );
    assert.equal(requests.length, 0);
  });

  it("must say that the token was refused", async () => {
    answer = { status: 401, body: { id: "Unauthorized", message: "Unable to authenticate you" } };
    assert.deepEqual(
      await run({ DIGITALOCEAN_TOKEN: "old", DIGITALOCEAN_API_URL: api }),
      failure(`${api} refuses DIGITALOCEAN_TOKEN (401); it may have expired`),
    );
  });

  it("must name the scope that the token lacks", async () => {
    answer = { status: 403, body: { id: "forbidden", message: "You are not authorized to perform this operation" } };
    assert.deepEqual(
      await run({ DIGITALOCEAN_TOKEN: "narrow", DIGITALOCEAN_API_URL: api }),
      failure(`${api} forbids it to DIGITALOCEAN_TOKEN (403); the token needs the scope kubernetes:access_cluster`),
    );
  });

  it("must say that the account does not have the cluster", async () => {
    answer = { status: 404, body: { id: "not_found" } };
    assert.deepEqual(
      await run({ DIGITALOCEAN_TOKEN: "another", DIGITALOCEAN_API_URL: api }),
      failure("DIGITALOCEAN_TOKEN's account has no such cluster (404)"),
    );
  });

  it("must pass on any other refusal", async () => {
    answer = { status: 429, body: { id: "too_many_requests" } };
    assert.deepEqual(
      await run({ DIGITALOCEAN_TOKEN: "local", DIGITALOCEAN_API_URL: api }),
      failure(`${api} answers 429 {"id":"too_many_requests"}`),
    );
  });

  it("must say that the account can't be reached", async () => {
    const closed = createServer();
    await once(closed.listen(0, "127.0.0.1"), "listening");
    const unreachable = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
    closed.close();
    await once(closed, "close");
    assert.deepEqual(
      await run({ DIGITALOCEAN_TOKEN: "local", DIGITALOCEAN_API_URL: unreachable }),
      failure(`${unreachable} can't be reached (ECONNREFUSED)`),
    );
  });

  it("must never print the account's token", async () => {
    for (const status of [200, 401, 403, 404, 500]) {
      answer = { ...answer, status };
      const { stdout, stderr } = await run({ DIGITALOCEAN_TOKEN: "the-account's", DIGITALOCEAN_API_URL: api });
      assert.equal(`${stdout}${stderr}`.includes("the-account's"), false);
    }
  });
});
