import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import bcrypt from "bcryptjs";
import { execa } from "execa";
import { pack } from "tar-stream";
import { adminKubeconfig, deleteCluster } from "../../local/cluster";
import { registryPassword, registryUser, startAccount, startRegistry, stopDaemons } from "../../local/daemons";
import { type Engine, engine, prepareProject, pulumi } from "../../local/engine";
import { parseReference, pushLayer } from "../../local/providers/docker/registry";
import { obtainTools, type ToolName } from "../../local/tools";
import { type RotatedStack, rotations } from "../../operations/rotate";
import { Guard, writeSecret } from "../elasticsearch/guard";
import { recordFigures } from "../figures";
import { filesOf, type Needle, type Place, scan } from "./scan";

const TOOLS: ToolName[] = [
  ...(["pulumi", "pulumi-language-nodejs", "etcd", "kube-apiserver", "kube-controller-manager"] as const),
  ...(["kube-scheduler", "kubectl", "kwok", "kwokctl", "registry"] as const),
];

// biome-ignore lint/suspicious/noExplicitAny: objects have as many shapes as kinds
type Bag = any;

/** Fields whose secret value is a password, a key or a token; the other fields of a Secret are names and certificates. */
const FIELDS =
  /^(password|result|bcryptHash|privateKeyPem\w*|caPrivateKeyPem|token|clientKey|tls\.key|\w+\.curl|users|\.dockerconfigjson)$/;
const SIGNATURE = "4dabf18193072939515e22adb298388d";

/** The passwords, keys and tokens among what the engine keeps as secret. */
function secretsOf(value: Bag, path: string[] = [], isSecret = false): Needle[] {
  if (typeof value === "string") {
    const isWanted = isSecret && path.some((part) => FIELDS.test(part)) && value.length >= 8;
    return isWanted ? [{ name: path.join("."), value }] : [];
  }
  if (typeof value !== "object" || value === null) return [];
  if (SIGNATURE in value) return secretsOf(JSON.parse(value.plaintext ?? "null"), path, true);
  return Object.entries(value).flatMap(([key, member]) => secretsOf(member, [...path, key], isSecret));
}

/** A stack of its own on the embedded cloud, with Elasticsearch's security on: its secrets, and the ways to change them. */
describe("secrets", function () {
  this.timeout(9 * 60_000);
  const state = mkdtempSync(join(tmpdir(), "hobnob-secrets-"));
  const outerState = process.env.HOBNOB_LOCAL_STATE;
  const transcript = join(state, "logs", "engine.log");
  const blobs = join(state, "registry", "data", "docker", "registry", "v2", "blobs");
  let runner: Engine;
  let kubectlPath: string;
  let registryServer: string;
  let needles: Needle[];

  /** What the engine prints is kept, as a build server keeps it. */
  async function engineCommand(...args: string[]): Promise<string> {
    const result = await pulumi(runner, [...args, "--stack", "local"], { reject: false, all: true });
    appendFileSync(transcript, `$ pulumi ${args.join(" ")}\n${result.all}\n`);
    assert.equal(result.exitCode, 0, `${args.join(" ")}:\n${result.all}`);
    return String(result.stdout);
  }
  /** What is shown to who may see secrets is kept nowhere. */
  const revealed = async (...args: string[]): Promise<string> =>
    String((await pulumi(runner, [...args, "--stack", "local"])).stdout);
  const kubectl = async (...args: string[]): Promise<string> =>
    (await execa(kubectlPath, args, { env: { KUBECONFIG: adminKubeconfig() }, maxBuffer: 1e9 })).stdout;
  const objects = async (...args: string[]): Promise<Bag[]> =>
    JSON.parse(await kubectl("get", ...args, "--output", "json")).items;

  async function settings(elasticsearch: object) {
    const registry = { server: registryServer, repository: "hobnob/backend", username: registryUser, private: true };
    await prepareProject(
      runner,
      "local",
      { "hobnob:registry": registry, "hobnob:elasticsearch": { security: true, ...elasticsearch } },
      { "hobnob:registryPassword": registryPassword() },
    );
  }

  /** Runs an update; what it did, by resource. The engine's event log shows secrets to who asks for it: it is not kept. */
  async function up(): Promise<Record<string, string>> {
    const events = join(state, "events.json");
    try {
      await engineCommand("up", "--yes", "--skip-preview", "--diff", "--event-log", events);
      const lines = readFileSync(events, "utf8").trim().split("\n");
      const steps = lines.map((line) => JSON.parse(line).resourcePreEvent?.metadata).filter(Boolean);
      const nameOf = (urn: string) => urn.split("::").slice(2).join("::").split("$").at(-1);
      return Object.fromEntries(steps.filter(({ op }) => op !== "same").map(({ op, urn }) => [nameOf(urn), op]));
    } finally {
      rmSync(events, { force: true });
    }
  }

  before("a stack with Elasticsearch's security", async () => {
    process.env.HOBNOB_LOCAL_STATE = state;
    const tools = await obtainTools(TOOLS);
    kubectlPath = tools.kubectl.path;
    const [registry, account] = await Promise.all([startRegistry(tools.registry.path), startAccount(process.env)]);
    registryServer = `127.0.0.1:${registry.port}`;
    runner = engine(tools, account.port);
    // Only then does the engine know --event-log.
    runner.environment.PULUMI_DEBUG_COMMANDS = "true";
    await settings({});
    await engineCommand("up", "--yes", "--skip-preview", "--diff");
    await engineCommand("stack", "output");
    await engineCommand("stack", "output", "--json");
    needles = secretsOf(JSON.parse(await revealed("stack", "export", "--show-secrets")).deployment.resources).flatMap(
      ({ name, value }) => {
        const decoded = Buffer.from(value, "base64").toString();
        const isBase64 = Buffer.from(decoded).toString("base64") === value;
        return [
          { name, value },
          ...(isBase64
            ? decoded
                .trim()
                .split("\n")
                .map((line) => ({ name, value: line }))
            : []),
        ];
      },
    );
    needles.push({ name: "the registry's password", value: registryPassword() });
    needles.push({ name: "the state's passphrase", value: String(runner.environment.PULUMI_CONFIG_PASSPHRASE) });
    needles.push({ name: "the account's token", value: String(runner.environment.DIGITALOCEAN_TOKEN) });
  });

  after(async () => {
    await stopDaemons();
    await deleteCluster();
    rmSync(state, { recursive: true, force: true });
    if (outerState === undefined) delete process.env.HOBNOB_LOCAL_STATE;
    else process.env.HOBNOB_LOCAL_STATE = outerState;
  });

  /** The cluster's objects of every kind but Secret, whole, with the fields' managers and every annotation. */
  async function clusterObjects(): Promise<Place[]> {
    const kinds = (await kubectl("api-resources", "--verbs=list", "--output=name")).split("\n");
    const wanted = kinds.filter((kind) => kind !== "secrets").join();
    const list = await kubectl("get", wanted, "--all-namespaces", "--show-managed-fields", "--output", "json");
    return (JSON.parse(list).items as Bag[]).map((item) => ({
      name: `object ${item.kind} ${item.metadata.namespace ?? ""}/${item.metadata.name}`,
      content: Buffer.from(JSON.stringify(item)),
    }));
  }

  const images = (): Place[] => filesOf(blobs, "image");
  /** The checkpoint with its backups and histories, and the settings beside it. */
  const kept = (): Place[] => [
    ...filesOf(join(state, "pulumi", ".pulumi"), "state"),
    { name: "settings", content: readFileSync(join(state, "project", "Pulumi.local.yaml")) },
  ];
  const logs = (): Place[] => filesOf(join(state, "logs"), "log");
  const outputs = async (): Promise<Place[]> => [
    { name: "output as text", content: Buffer.from(await engineCommand("stack", "output")) },
    { name: "output as JSON", content: Buffer.from(await engineCommand("stack", "output", "--json")) },
    { name: "state as exported", content: Buffer.from(await engineCommand("stack", "export")) },
  ];
  const everywhere = async () => [...kept(), ...logs(), ...(await outputs()), ...(await clusterObjects()), ...images()];

  it("must be known to the scan: passwords, their hashes, keys, tokens and logins", () => {
    const names = new Set(needles.map(({ name }) => name.split(".").at(-1)));
    for (const name of ["result", "bcryptHash", "privateKeyPem", "privateKeyPemPkcs8", "token", "users", "key"])
      assert.ok(names.has(name), `${name} is not among ${[...names].join(", ")}`);
    assert.ok(needles.length > 40, String(needles.length));
  });

  it("must be seen wherever one is planted, in each of its forms", async () => {
    const password = `planted-${randomBytes(18).toString("base64url")}`;
    const planted = { name: "the planted one", value: password };
    const base64 = Buffer.from(password).toString("base64");
    const login = Buffer.from(
      JSON.stringify({ auths: { a: { auth: Buffer.from(`u:${password}`).toString("base64") } } }),
    );
    const key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    const files = {
      [join(state, "logs", "planted.log")]: `at 12:00 the password was ${password}\n`,
      [join(state, "logs", "planted-address.log")]: `GET http://user:${encodeURIComponent(password)}@host/\n`,
      [join(state, "pulumi", ".pulumi", "planted.json")]: JSON.stringify({ inputs: { env: `-p${password}` } }),
      [join(state, "pulumi", ".pulumi", "planted-key.json")]: JSON.stringify({ inputs: { key } }),
    };
    const configMap = {
      ...{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "planted", namespace: "hobnob" } },
      data: { plain: password, base64: `x${base64}`, login: login.toString("base64") },
    };
    const pod = {
      ...{ apiVersion: "v1", kind: "PodTemplate", metadata: { name: "planted", namespace: "hobnob" } },
      template: { spec: { containers: [{ name: "a", image: "a", env: [{ name: "PASSWORD", value: password }] }] } },
    };
    const layer = pack();
    layer.entry({ name: "app/.npmrc" }, `//registry/:_authToken=${password}\n`);
    layer.finalize();
    const tar = await buffer(layer);
    const reference = parseReference(`${registryServer}/hobnob/planted:latest`);
    const credentials = { username: registryUser, password: registryPassword() };
    try {
      for (const [file, text] of Object.entries(files)) writeFileSync(file, text);
      for (const object of [configMap, pod])
        await execa(kubectlPath, ["apply", "--filename", "-"], {
          input: JSON.stringify(object),
          env: { KUBECONFIG: adminKubeconfig() },
        });
      await engineCommand("config", "set", "--plaintext", "planted:password", password);
      await pushLayer(reference, credentials, { layer: tar, platform: "linux/amd64", note: `ARG TOKEN=${password}` });
      const found = scan(await everywhere(), [planted]);
      const seen = (pattern: RegExp, form: string) =>
        assert.ok(
          found.some(({ place, form: seenForm }) => pattern.test(place) && seenForm === form),
          `${pattern} as ${form} is not among ${JSON.stringify(found)}`,
        );
      const expected: [RegExp, string][] = [
        [/^log planted\.log/, "plain"],
        [/^log planted-address/, "in an address"],
        [/^log engine\.log/, "plain"],
        [/^state planted\.json/, "plain"],
        [/^state planted-key\.json/, "plain"],
        [/^settings/, "plain"],
        [/^object ConfigMap hobnob\/planted/, "plain"],
        [/^object ConfigMap hobnob\/planted/, "base64"],
        [/^object ConfigMap hobnob\/planted/, "base64 twice"],
        [/^object ConfigMap hobnob\/planted/, "escaped"],
        [/^object PodTemplate hobnob\/planted/, "plain"],
        [/^image/, "plain"],
      ];
      for (const [pattern, form] of expected) seen(pattern, form);
      const inImages = new Set(found.filter(({ place }) => place.startsWith("image")).map(({ place }) => place));
      assert.equal(inImages.size, 2, "the layer and the image's history");
      recordFigures("secrets-planted", { planted: expected.length, found: expected.length });
    } finally {
      for (const file of Object.keys(files)) rmSync(file, { force: true });
      await kubectl("delete", "configmap/planted", "podtemplate/planted", "--namespace", "hobnob");
      for (const { name } of images().filter((place) => scan([place], [planted]).length > 0))
        rmSync(join(blobs, name.slice("image ".length)));
      await pulumi(runner, ["config", "rm", "planted:password", "--stack", "local"]);
      const text = readFileSync(transcript, "utf8");
      writeFileSync(transcript, text.replaceAll(password, "(planted)"));
    }
  });

  it("must stand in no state, output, log, image or object but a Secret", async () => {
    const places = await everywhere();
    const kindsOfPlace = new Set(places.map(({ name }) => name.split(" ")[0]));
    assert.deepEqual([...kindsOfPlace].sort(), ["image", "log", "object", "output", "settings", "state"]);
    const found = scan(places, needles);
    const bytes = places.reduce((sum, { content }) => sum + content.length, 0);
    recordFigures("secrets", {
      secrets: needles.length,
      places: places.length,
      bytes,
      "objects of the API server": places.filter(({ name }) => name.startsWith("object")).length,
      found: found.length,
    });
    assert.deepEqual(found, []);
    assert.ok(places.length > 200 && bytes > 1_000_000, `${places.length} places, ${bytes} bytes`);
  });

  describe("when they are rotated", () => {
    /** What each update did. */
    let updates: Record<string, string>[];
    let said: string[];
    let answer: string | undefined;
    const guards: Guard[] = [];
    let kubelets: NodeJS.Timeout;

    const secretData = async (name: string): Promise<Record<string, string>> =>
      JSON.parse(await kubectl("get", "secret", name, "--namespace", "hobnob", "--output", "json")).data;
    const decoded = async (name: string) =>
      Object.fromEntries(
        Object.entries(await secretData(name)).map(([key, value]) => [key, Buffer.from(value, "base64").toString()]),
      );
    const pods = async () =>
      Object.fromEntries(
        (await objects("pods", "--all-namespaces"))
          .filter(({ metadata }) => !metadata.deletionTimestamp)
          .map(({ metadata }) => [metadata.uid, String(metadata.labels?.["app.kubernetes.io/name"])]),
      );
    const volumeOf = async (kind: string, volume: string): Promise<string> => {
      const [workload] = await objects(kind, "--namespace", "hobnob");
      return workload.spec.template.spec.volumes.find(({ name }: Bag) => name === volume).secret.secretName;
    };

    const stack: RotatedStack = {
      name: "local",
      pulumi: async (args, asks) => {
        const options = asks ? { input: answer } : {};
        return String((await pulumi(runner, [...args, "--stack", "local"], options)).stdout);
      },
      up: async () => void updates.push(await up()),
      outputs: async () => JSON.parse(await revealed("stack", "output", "--json", "--show-secrets")),
      // What pods run is played: each node has its Secret when its kubelet brings it.
      cluster: () => ({
        workload: async () => ({
          replicas: 3,
          pods: guards.map((_, i) => ({ name: `elasticsearch-${i}`, ready: true, ports: { http: 9200 } })),
        }),
        secret: decoded,
        ingress: async () => undefined,
        forward: async (pod) => ({ port: guards[Number(pod.at(-1))]?.port ?? 0, reason: () => undefined }),
        close: () => {},
      }),
      say: (line) => said.push(line),
    };

    before(async () => {
      const name = await volumeOf("statefulsets", "security");
      const folders = [0, 1, 2].map((i) => join(state, "nodes", String(i)));
      let brought = await secretData(name);
      for (const folder of folders) writeSecret(folder, brought);
      for (const folder of folders) guards.push(await Guard.start(folder, () => 1));
      kubelets = setInterval(async () => {
        const data = await secretData(name).catch(() => brought);
        if (isDeepStrictEqual(data, brought)) return;
        brought = data;
        for (const [i, folder] of folders.entries()) setTimeout(() => writeSecret(folder, data), i * 1500);
      }, 1000);
    });
    after(async () => {
      clearInterval(kubelets);
      for (const guard of guards) guard.stop();
      await sleep(3500);
    });
    beforeEach(() => {
      updates = [];
      said = [];
    });

    it("must give the registry's new token to whoever pulls and pushes, and roll nothing", async () => {
      const running = await pods();
      const old = registryPassword();
      answer = randomBytes(18).toString("base64url");
      writeFileSync(join(state, "registry", "htpasswd"), `${registryUser}:${bcrypt.hashSync(answer, 6)}\n`);
      await rotations.registry?.rotate(stack);
      assert.deepEqual(updates, [{ "kubernetes:core/v1:Secret::registry": "update" }]);
      assert.deepEqual(await pods(), running);
      const [deployment] = await objects("deployments", "--namespace", "hobnob");
      const { name } = deployment.spec.template.spec.imagePullSecrets[0];
      const { auths } = JSON.parse((await decoded(name))[".dockerconfigjson"] ?? "");
      const login = (password: string) => `Basic ${Buffer.from(`${registryUser}:${password}`).toString("base64")}`;
      assert.equal(auths[registryServer].password, answer);
      const ask = async (authorization: string) =>
        (await fetch(`http://${registryServer}/v2/`, { headers: { authorization } })).status;
      assert.equal(await ask(login(answer)), 200);
      assert.equal(await ask(login(old)), 401);
      needles.push({ name: "the registry's new password", value: answer });
    });

    const PASSWORDS = ["backend", "probe", "verify", "snapshots", "operator"];
    const passwords = (generation: number, op: string) =>
      Object.fromEntries(
        PASSWORDS.map((client) => [
          `random:index/randomPassword:RandomPassword::elasticsearch-security-${client}-${generation}`,
          op,
        ]),
      );
    const inPlace = (...parts: string[]) =>
      Object.fromEntries(parts.map((part) => [`kubernetes:core/v1:Secret::elasticsearch-security-${part}`, "update"]));

    it("must give Elasticsearch's new passwords to each client once every node accepts them, and roll the API alone", async () => {
      const running = await pods();
      const before = await decoded(await volumeOf("deployments", "elasticsearch"));
      await rotations.elasticsearch?.rotate(stack);
      assert.equal(updates.length, 3);
      const [learn, give, forget] = updates;
      assert.deepEqual(learn, { ...passwords(2, "create"), ...inPlace("nodes", "verify") });
      assert.deepEqual(
        { ...give, "kubernetes:core/v1:Secret::elasticsearch-security-backend": "replaced" },
        {
          ...inPlace("nodes", "operator", "snapshots"),
          "kubernetes:core/v1:Secret::elasticsearch-security-backend": "replaced",
          "kubernetes:apps/v1:Deployment::backend": "update",
        },
      );
      assert.deepEqual(forget, { ...passwords(1, "delete"), ...inPlace("nodes") });
      const now = await pods();
      const rolled = (from: Record<string, string>, to: Record<string, string>) =>
        Object.entries(from)
          .filter(([uid]) => !(uid in to))
          .map(([, app]) => app);
      assert.deepEqual(rolled(running, now), ["backend", "backend", "backend"]);
      const after = await decoded(await volumeOf("deployments", "elasticsearch"));
      assert.deepEqual([before.username, after.username], ["backend-1", "backend-2"]);
      assert.notEqual(before.password, after.password);
      for (const wait of [0, 1, 2])
        assert.ok(said.some((line) => line.startsWith(`Waits until elasticsearch-${wait} accepts generation 2`)));
      const exported = await revealed("stack", "export", "--show-secrets");
      assert.ok(!exported.includes(before.password ?? "?"), "the old password is still in the state");
      needles.push({ name: "the API's password", value: after.password ?? "" });
    });

    it("must take another token of the account, which nothing else knows", async () => {
      const running = await pods();
      runner.environment.DIGITALOCEAN_TOKEN = `local-${randomBytes(16).toString("hex")}`;
      await rotations.cluster?.rotate(stack);
      assert.deepEqual(updates, [{}]);
      assert.deepEqual(await pods(), running);
      needles.push({ name: "the account's new token", value: runner.environment.DIGITALOCEAN_TOKEN });
    });

    it("must leave no secret behind, old or new, where none belongs", async () => {
      assert.deepEqual(scan(await everywhere(), needles), []);
    });
  });
});
