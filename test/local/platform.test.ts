import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { cloneDirectory } from "../../local/paths";
import { withEditedClone } from "./clone";

/** The platform as its user has it: every step is a command of the clone, on a state directory of the test's own. */
describe("the whole platform on the embedded default", function () {
  this.timeout(15 * 60_000);
  const state = mkdtempSync(join(tmpdir(), "hobnob-test-"));
  const run = async (args: string[], options: { clone?: string; environment?: NodeJS.ProcessEnv } = {}) => {
    const clone = options.clone ?? cloneDirectory;
    const env = { HOBNOB_LOCAL_STATE: state, ...options.environment };
    const result = await execa(process.execPath, [join(clone, "local", "bootstrap.mjs"), ...args], {
      cwd: clone,
      env,
      all: true,
      reject: false,
      stdin: "ignore",
    });
    return { code: result.exitCode, stdout: result.stdout, all: result.all };
  };
  const succeed = async (...args: string[]) => {
    const result = await run(args);
    assert.equal(result.code, 0, `${args.join(" ")} failed:\n${result.all}`);
    return result.stdout;
  };
  const unchanged = () => succeed("local", "preview", "--expect-no-changes");
  // biome-ignore lint/suspicious/noExplicitAny: objects have as many shapes as kinds
  type KubernetesObject = any;
  const objects = async (...args: string[]): Promise<KubernetesObject[]> =>
    JSON.parse(await succeed("kubectl", "get", ...args, "--output", "json")).items;
  const outputs = async () => JSON.parse(await succeed("local", "stack", "output", "--json"));
  // biome-ignore lint/suspicious/noExplicitAny: the account's answers have as many shapes as paths
  const account = async (path: string, body?: object): Promise<any> => {
    const { port } = JSON.parse(readFileSync(join(state, "run.json"), "utf8")).account;
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      headers: { Authorization: "Bearer local-test", "Content-Type": "application/json" },
      ...(body && { method: "POST", body: JSON.stringify(body) }),
    });
    assert.ok(response.ok, `${path}: ${response.status} ${await response.clone().text()}`);
    return response.json();
  };
  const ready = (pods: KubernetesObject[]) =>
    pods.filter((pod) =>
      pod.status.conditions.some(({ type, status }: KubernetesObject) => type === "Ready" && status === "True"),
    );

  const processes = () =>
    execFileSync("ps", ["-ww", "-eo", "pid=,args="], { encoding: "utf8" })
      .split("\n")
      .filter((line) => line.includes(state));

  /** Starts the platform and ends it at a line of the engine's: `group` is the terminal's process group. */
  async function cutOff(line: string, end: (group: number) => void): Promise<number | null> {
    const terminal = spawn(process.execPath, [join(cloneDirectory, "local", "bootstrap.mjs"), "start"], {
      cwd: cloneDirectory,
      // A group of its own, as a shell gives each command: Ctrl-C reaches all of it.
      detached: true,
      env: { ...process.env, HOBNOB_LOCAL_STATE: state },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const { pid } = terminal;
    assert.ok(pid);
    const exit = once(terminal, "exit");
    let seen = "";
    await new Promise<void>((resolve, reject) => {
      terminal.stdout.on("data", (chunk) => {
        seen += chunk;
        if (seen.includes(line)) resolve();
      });
      terminal.on("exit", () => reject(new Error(`never seen: ${line}\n${seen}`)));
    });
    // By then the request is under way, and what it makes is not yet in the state.
    await sleep(1000);
    end(pid);
    return (await exit)[0];
  }

  const killEverything = () => {
    for (const line of processes()) process.kill(Number.parseInt(line.trim(), 10), "SIGKILL");
  };

  before("npm start, killed while the cluster is made, cut off by Ctrl-C later, and at last left alone", async () => {
    await cutOff("KubernetesCluster cluster creating", (group) => {
      process.kill(-group, "SIGKILL");
      killEverything();
    });
    const code = await cutOff("StatefulSet elasticsearch creating", (group) => process.kill(-group, "SIGINT"));
    assert.equal(code, 130);
    assert.deepEqual(processes(), [], "Ctrl-C left processes");
    await succeed("start");
  });

  after("npm run reset", async () => {
    await run(["reset"]);
    rmSync(state, { recursive: true, force: true });
  });

  it("must have nothing left to do right after it came up", unchanged);

  it("must be well at a glance, and say of what is simulated that it cannot be known", async () => {
    const { well, lines } = JSON.parse(await succeed("status", "local", "--preview", "--json"));
    assert.ok(well);
    const shown = Object.fromEntries(
      lines.map(({ name, status, detail }: Record<string, string>) => [name, `${status}: ${detail}`]),
    );
    assert.equal(shown.nodes, "pass: 3 of 3 ready");
    assert.equal(shown.workloads, "pass: backend 3, nginx-ingress 2, elasticsearch 3");
    assert.match(shown.balancer, /^pass: \d+\./);
    assert.match(shown["last update"], /^pass: update succeeded/);
    assert.equal(shown["pending operations"], "pass: none");
    assert.equal(shown["pending changes"], "pass: none");
    assert.match(shown["elasticsearch: shards complete"], /^elsewhere: simulated pods/);
    const { minimum, maximum } = JSON.parse(await succeed("cost", "local", "--json"));
    assert.deepEqual((await outputs()).monthlyCost, { priced: true, currency: "USD", minimum, maximum });
    assert.equal(shown.cost, `pass: $${minimum.toFixed(2)} a month`);
  });

  it("must be drawn from its state as it would be from a preview: the same boxes and waits", async () => {
    const drawn = async (...args: string[]) => {
      const { groups, edges } = JSON.parse(await succeed("graph", "local", "--json", ...args));
      return { groups, edges };
    };
    assert.deepEqual(await drawn(), await drawn("--preview"));
  });

  it("must not depend on a token's life: eight days later nothing changes", async () => {
    await account("/local/clock", { advanceSeconds: 8 * 24 * 3600 });
    await unchanged();
  });

  it("must run three Elasticsearch pods, each Ready, on a node and a disk of its own", async () => {
    const pods = ready(await objects("pods", "-n", "hobnob", "-l", "app.kubernetes.io/name=elasticsearch"));
    assert.deepEqual(
      pods.map((pod: KubernetesObject) => pod.metadata.name).sort(),
      [0, 1, 2].map((i) => `elasticsearch-${i}`),
    );
    assert.equal(new Set(pods.map((pod: KubernetesObject) => pod.spec.nodeName)).size, 3);
    const claims = await objects("persistentvolumeclaims", "-n", "hobnob");
    assert.equal(claims.length, 3);
    const { storageClass } = await outputs();
    for (const claim of claims) {
      assert.equal(claim.status.phase, "Bound");
      assert.equal(claim.spec.storageClassName, storageClass);
    }
  });

  it("must run three API pods and two ingress pods", async () => {
    const running = async (namespace: string, app: string) =>
      ready(await objects("pods", "-n", namespace, "-l", `app.kubernetes.io/name=${app}`)).length;
    assert.equal(await running("hobnob", "backend"), 3);
    assert.equal(await running("nginx-ingress", "nginx-ingress"), 2);
  });

  it("must point both hosts at the balancer's address", async () => {
    const { load_balancers: balancers } = await account("/v2/load_balancers");
    assert.equal(balancers.length, 1);
    assert.equal((await outputs()).ingressAddress, balancers[0].ip);
    const { domains } = await account("/v2/domains");
    const { domain_records: records } = await account(`/v2/domains/${domains[0].name}/records?per_page=200`);
    const addresses = records.filter(({ type }: { type: string }) => type === "A");
    assert.deepEqual(addresses.map(({ name, data }: { name: string; data: string }) => [name, data]).sort(), [
      ["api", balancers[0].ip],
      ["docs", balancers[0].ip],
    ]);
  });

  it("must run the digest that the registry holds", deployedDigestIsInTheRegistry);

  async function deployedDigestIsInTheRegistry() {
    const { image } = (await objects("deployments", "-n", "hobnob"))[0].spec.template.spec.containers[0];
    assert.match(image, /^127\.0\.0\.1:\d+\/hobnob\/backend@sha256:[0-9a-f]{64}$/);
    const [, server, repository, digest] = image.match(/^([^/]+)\/(.+)@(.+)$/);
    const password = readFileSync(join(state, "registry", "password"), "utf8");
    const response = await fetch(`http://${server}/v2/${repository}/manifests/${digest}`, {
      headers: {
        Authorization: `Basic ${Buffer.from(`hobnob:${password}`).toString("base64")}`,
        Accept: "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
      },
    });
    assert.equal(response.status, 200);
  }

  it("must not change because the list of Kubernetes versions did", async () => {
    const { kubernetesVersions: offered } = await account("/local/settings");
    const running = (await account("/v2/kubernetes/clusters")).kubernetes_clusters[0].version as string;
    const minor = running.split(".").slice(0, 2).join(".");
    const lists = {
      "a new patch appears": [`${minor}.99-do.0`, ...offered],
      "the running patch is withdrawn": [`${minor}.99-do.0`, ...offered.filter((v: string) => v !== running)],
      "the running minor is retired": offered.filter((v: string) => !v.startsWith(`${minor}.`)),
    };
    for (const [title, versions] of Object.entries(lists)) {
      await account("/local/settings", { kubernetesVersions: versions });
      const { code, all } = await run(["local", "preview", "--expect-no-changes"]);
      assert.equal(code, 0, `${title}:\n${all}`);
    }
    await account("/local/settings", { kubernetesVersions: offered });
  });

  it("must see drift in a preview with refresh and mend it in an update", async () => {
    await succeed("kubectl", "scale", "deployment/backend", "-n", "hobnob", "--replicas", "1");
    const drift = await run(["drift", "local"]);
    assert.equal(drift.code, 1, drift.all);
    assert.match(
      drift.stdout ?? "",
      /1 object of the stack local changed behind its back:\n\n {4}Deployment backend was changed\n {6}spec\.replicas is 1; the stack made it 3\n/,
    );
    const preview = await run(["local", "preview", "--refresh", "--expect-no-changes"]);
    assert.notEqual(preview.code, 0, "the drift was not seen");
    await succeed("local", "up", "--yes", "--skip-preview", "--refresh");
    const [deployment] = await objects("deployments", "-n", "hobnob");
    assert.equal(deployment.spec.replicas, 3);
  });

  it("must run the edited TypeScript in a plain preview", async () => {
    const edit = (program: string) =>
      program.replace("Promise<", "Promise<{ edited: string } & ").replace("return {", 'return {\n    edited: "yes",');
    await withEditedClone(edit, async (clone) => {
      const { code, stdout, all } = await run(["preview", "dev"], { clone });
      assert.equal(code, 0, all);
      assert.match(
        stdout ?? "",
        /^The DigitalOcean account of this preview is simulated; nothing of the stack dev is touched\.\n/,
      );
      assert.match(stdout ?? "", /Stand-ins for secrets, which cannot be read here: hobnob:registryPassword/);
      assert.match(all ?? "", /edited\s*: "yes"/);
    });
  });

  it("must preview prod offline from its real settings", async () => {
    const { code, all } = await run(["preview", "prod"]);
    assert.equal(code, 0, all);
    assert.match(all ?? "", /digitalocean:index:KubernetesNodePool \S+ create/);
    assert.match(all ?? "", /Resources:\n\s+\+ \d+ to create\n/);
    assert.match(all ?? "", /Policies:\n\s+✅ hobnob@v/);
  });

  it("must refuse a wrong key with one message and no stack trace, before any resource", async () => {
    const file = join(cloneDirectory, "Pulumi.wrong.yaml");
    writeFileSync(file, readFileSync(join(cloneDirectory, "Pulumi.dev.yaml"), "utf8").replace("fra1", "frankfurt"));
    try {
      const { code, all = "" } = await run(["preview", "wrong"]);
      assert.notEqual(code, 0);
      assert.match(all, /hobnob:cluster\.region\n\s+given: +"frankfurt"\n\s+allowed: /);
      assert.doesNotMatch(all, /^\s+at .+:\d+:\d+\)?$/m);
      assert.doesNotMatch(all, /digitalocean:index/);
    } finally {
      rmSync(file, { force: true });
    }
  });

  it("must keep everything through stop and start, the image too", async () => {
    await succeed("stop");
    await succeed("start");
    await unchanged();
    await deployedDigestIsInTheRegistry();
  });

  it("must come up elsewhere when its ports were taken meanwhile", async () => {
    const { account: daemon, registry } = JSON.parse(readFileSync(join(state, "run.json"), "utf8"));
    const { kubernetes_clusters: clusters } = await account("/v2/kubernetes/clusters");
    await succeed("stop");
    const ports = [daemon.port, registry.port, Number(new URL(clusters[0].endpoint).port)];
    const servers = await Promise.all(
      ports.map(async (port) => {
        const server = createServer((socket) => socket.destroy()).listen(port, "127.0.0.1");
        await once(server, "listening");
        return server;
      }),
    );
    try {
      await succeed("start");
      await unchanged();
      await deployedDigestIsInTheRegistry();
    } finally {
      for (const server of servers) server.close();
    }
  });

  it("must survive the machine's restart", async () => {
    killEverything();
    await succeed("start");
    await unchanged();
  });

  it("must leave, after one destroy, only retained volumes and the zone, and name them", async () => {
    const said = await succeed("local", "destroy", "--yes", "--skip-preview");
    assert.deepEqual((await account("/v2/kubernetes/clusters")).kubernetes_clusters, []);
    assert.deepEqual((await account("/v2/load_balancers")).load_balancers, []);
    assert.deepEqual(
      (await account("/v2/vpcs")).vpcs.filter(({ default: own }: { default: boolean }) => !own),
      [],
    );
    const { volumes } = await account("/v2/volumes");
    assert.equal(volumes.length, 3);
    for (const { name } of volumes) assert.ok(said.includes(name), `${name} was not named`);
    const { domains } = await account("/v2/domains");
    for (const { name } of domains) assert.ok(said.includes(name), `${name} was not named`);
  });
});
