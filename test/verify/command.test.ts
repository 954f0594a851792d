import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { execa } from "execa";
import getPort from "get-port";
import { cloneDirectory } from "../../local/paths";
import { obtainTools } from "../../local/tools";
import { verifyStack } from "../../local/verify";
import { kubernetesCluster } from "../../verify/cluster";

/** `npm run verify` where there is nothing to be checked: one line, and the command that helps. */
describe("npm run verify", function () {
  this.timeout(120_000);
  const temporary = mkdtempSync(join(tmpdir(), "hobnob-verify-"));
  const environment: NodeJS.ProcessEnv = {
    HOBNOB_LOCAL_STATE: join(temporary, "local"),
    PULUMI_HOME: temporary,
    PULUMI_BACKEND_URL: `file://${temporary}`,
    PULUMI_CONFIG_PASSPHRASE: "test",
    PULUMI_SKIP_UPDATE_CHECK: "true",
  };
  const own = { ...process.env };
  /** The engine writes the salt of each into a file of the project. */
  const stacks: string[] = [];

  before(async () => {
    const { pulumi } = await obtainTools(["pulumi"]);
    environment.PATH = [dirname(pulumi.path), process.env.PATH].join(delimiter);
    Object.assign(process.env, environment);
  });
  after(() => {
    for (const key of Object.keys(environment)) {
      if (own[key] === undefined) delete process.env[key];
      else process.env[key] = own[key];
    }
    rmSync(temporary, { recursive: true, force: true });
    for (const stack of stacks) rmSync(join(cloneDirectory, `Pulumi.${stack}.yaml`), { force: true });
  });

  const refusal = async (...args: string[]): Promise<string> =>
    verifyStack(args).then(
      (code) => assert.fail(`ended with ${code}`),
      (error: Error) => error.message,
    );
  const pulumi = (args: string[], input = "") => execa("pulumi", args, { cwd: cloneDirectory, input });

  const kubeconfig = (port: number, user: object) =>
    JSON.stringify({
      clusters: [{ name: "c", cluster: { server: `https://127.0.0.1:${port}` } }],
      contexts: [{ name: "c", context: { cluster: "c", user: "u" } }],
      users: [{ name: "u", user }],
      "current-context": "c",
    });

  const init = (stack: string) => {
    stacks.push(stack);
    return pulumi(["stack", "init", stack]);
  };

  /** A deployed stack, as the engine keeps it. */
  async function deploy(stack: string, outputs: Record<string, unknown>): Promise<void> {
    await init(stack);
    const urn = `urn:pulumi:${stack}::hobnob::pulumi:pulumi:Stack::hobnob-${stack}`;
    const resources = [{ urn, custom: false, type: "pulumi:pulumi:Stack", outputs }];
    const deployment = { manifest: { time: new Date(0).toISOString(), magic: "", version: "" }, resources };
    await pulumi(["stack", "import", "--stack", stack], JSON.stringify({ version: 3, deployment }));
  }

  it("must ask for a stack's name, and take no other word, in one line", async () => {
    const example = "for example: npm run verify -- dev --json";
    assert.equal(await refusal("--yaml"), `Unknown: --yaml; ${example}`);
    assert.equal(await refusal("dev", "prod"), `Unknown: prod; ${example}`);
    const command = [join(cloneDirectory, "local", "bootstrap.mjs"), "verify"];
    const { exitCode, all } = await execa(process.execPath, command, { reject: false, stdin: "ignore", all: true });
    assert.deepEqual([exitCode, all], [1, `No stack was named; ${example}`]);
  });

  it("must say how the local stack is started that does not run", async () => {
    assert.equal(await refusal("local"), "The stack local does not run; start it: npm start -- --real");
  });

  it("must say where pulumi is had that is missing", async () => {
    process.env.PATH = join(temporary, "empty");
    const said = await refusal("dev").finally(() => Object.assign(process.env, environment));
    assert.equal(said, "There is no pulumi on the PATH; install it: https://www.pulumi.com/docs/install/");
  });

  it("must tell an unknown stack from one that is not deployed, and that from another program's", async () => {
    assert.equal(await refusal("nobody"), "There is no stack nobody; list what there is: pulumi stack ls");
    await init("empty");
    assert.equal(await refusal("empty"), "The stack empty is not deployed; deploy it: pulumi up --stack empty");
    await deploy("other", { apiUrl: "http://api.example.com" });
    assert.equal(
      await refusal("other"),
      "The stack other lacks the outputs docsUrl, ingressAddress, kubeconfig, namespace, elasticsearchUrl; deploy it from this program: pulumi up --stack other",
    );
  });

  it("must say why a cluster cannot be reached", async () => {
    const port = await getPort();
    const outputs = {
      apiUrl: "http://api.example.com",
      docsUrl: "http://docs.example.com",
      ingressAddress: "",
      namespace: "hobnob",
      clusterName: "hobnob-gone",
      elasticsearchUrl: "http://elasticsearch.hobnob.svc:9200",
    };
    const help =
      "; try: pulumi stack output kubeconfig --show-secrets --stack gone >kubeconfig && kubectl --kubeconfig kubeconfig get nodes";
    await deploy("gone", { ...outputs, kubeconfig: kubeconfig(port, { token: "t" }) });
    assert.equal(
      await refusal("gone"),
      `The cluster hobnob-gone of the stack gone cannot be reached (ECONNREFUSED 127.0.0.1:${port})${help}`,
    );
    const command = [
      "--input-type=module",
      "-e",
      'console.error("No access: DIGITALOCEAN_TOKEN is not set"); process.exit(1)',
    ];
    const exec = {
      apiVersion: "client.authentication.k8s.io/v1",
      command: "node",
      args: command,
      interactiveMode: "Never",
    };
    await deploy("shut", { ...outputs, kubeconfig: kubeconfig(port, { exec }) });
    assert.equal(
      await refusal("shut"),
      `The cluster hobnob-gone of the stack shut cannot be reached (No access: DIGITALOCEAN_TOKEN is not set)${help.replace("gone", "shut")}`,
    );
  });

  it("must not wait for ever where a firewall swallows what is asked", async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => void sockets.push(socket)).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as AddressInfo;
    const cluster = kubernetesCluster(kubeconfig(port, { token: "t" }), "hobnob", 0.3);
    await assert.rejects(cluster.workload("StatefulSet", "elasticsearch"), /^Error: no answer within 0\.3 s$/);
    for (const socket of sockets) socket.destroy();
    silent.close();
  });
});
