import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import { execa } from "execa";
import { parse, stringify } from "yaml";
import { adminKubeconfig } from "../../local/cluster";
import { requireRealPods } from "../../local/kubelet/choice";
import { podUrl } from "../../local/kubelet/client";
import { cloneDirectory } from "../../local/paths";
import { Writer } from "../elasticsearch/writer";
import { recordFigures } from "../figures";
import { withEditedClone } from "./clone";

const namespace = "hobnob";
const labelSelector = "app.kubernetes.io/name=elasticsearch";
const INDEX = "orders";

/** The same orders as an operator gives them: plain updates of a whole platform, with real nodes behind its pods. Only for the report. */
describe("Elasticsearch's orders on the whole platform, while documents are written", function () {
  this.timeout(30 * 60_000);

  it("must lose no document, keep two of three nodes ready, and ask for the command to go down", async function () {
    if (!process.env.HOBNOB_REPORT) this.skip();
    const state = mkdtempSync(join(tmpdir(), "hobnob-orders-"));
    const before = process.env.HOBNOB_LOCAL_STATE;
    process.env.HOBNOB_LOCAL_STATE = state;
    const missing = await requireRealPods().then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (missing) {
      console.log(`    skipped: ${missing}`);
      this.skip();
    }
    try {
      // Settings are edited in it, and not in the clone itself.
      await withEditedClone((program) => `${program}\n`, orders);
    } finally {
      rmSync(state, { recursive: true, force: true });
      if (before === undefined) delete process.env.HOBNOB_LOCAL_STATE;
      else process.env.HOBNOB_LOCAL_STATE = before;
    }
  });
});

async function orders(clone: string): Promise<void> {
  symlinkSync(join(cloneDirectory, "app", "api", "node_modules"), join(clone, "app", "api", "node_modules"));
  const attempt = async (...args: string[]) => {
    const command = [join(clone, "local", "bootstrap.mjs"), ...args];
    const { exitCode, all } = await execa(process.execPath, command, {
      cwd: clone,
      all: true,
      reject: false,
      stdin: "ignore",
    });
    return { code: exitCode, all: String(all) };
  };
  const succeed = async (...args: string[]) => {
    const began = Date.now();
    const { code, all } = await attempt(...args);
    assert.equal(code, 0, `${args.join(" ")} failed:\n${all}`);
    console.log(`    ${args.join(" ")}: ${Math.round((Date.now() - began) / 1000)} s`);
    return all;
  };
  const configure = (elasticsearch: object, nodes = 3) => {
    const file = join(clone, "Pulumi.local.yaml");
    const settings = parse(readFileSync(file, "utf8"));
    settings.config["hobnob:elasticsearch"] = elasticsearch;
    settings.config["hobnob:cluster"].systemPool.count = nodes;
    writeFileSync(file, stringify(settings));
  };
  const up = () => succeed("local", "up", "--yes", "--skip-preview", "--suppress-outputs");
  let watching = true;
  let watched: Promise<void> | undefined;
  try {
    await succeed("start", "--real");
    const config = new KubeConfig();
    config.loadFromFile(adminKubeconfig());
    const core = config.makeApiClient(CoreV1Api);
    const pods = async () => (await core.listNamespacedPod({ namespace, labelSelector })).items;
    const isReady = ({ status, metadata }: Awaited<ReturnType<typeof pods>>[number]) =>
      !metadata?.deletionTimestamp &&
      (status?.conditions?.some((one) => one.type === "Ready" && one.status === "True") ?? false);
    let urls = (await pods()).map((pod) => podUrl(pod, 9200));
    let leastReady = 3;
    watched = (async () => {
      while (watching) {
        const ready = (await pods()).filter(isReady);
        leastReady = Math.min(leastReady, ready.length);
        if (ready.length > 0) urls = ready.map((pod) => podUrl(pod, 9200));
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
    })();
    const ask = async (path: string) => (await fetch(urls[0] + path)).json() as Promise<Record<string, string>>;
    const { cluster_uuid: cluster } = await ask("/");
    const writer = new Writer(() => urls, INDEX).start();

    configure({ memory: "1200Mi" });
    await up();
    assert.equal(leastReady, 2, "nodes that were ready while they restarted one by one");
    configure({ memory: "1200Mi", diskSize: "20Gi" });
    await up();
    configure({ memory: "1200Mi", diskSize: "20Gi", replicas: 5 }, 5);
    await up();
    assert.equal((await ask("/_cluster/health")).number_of_nodes, 5);
    configure({ memory: "1200Mi", diskSize: "20Gi", replicas: 3 }, 5);
    const refused = await attempt("local", "up", "--yes", "--skip-preview");
    assert.notEqual(refused.code, 0);
    assert.match(refused.all, /would go from 5 to 3.* This moves them first: npm run scale-down -- local 3/);
    console.log(await succeed("scale-down", "local", "3"));
    await succeed("local", "preview", "--expect-no-changes");

    const tally = await writer.stop();
    assert.equal((await ask("/_cluster/health")).number_of_nodes, 3);
    assert.equal((await ask("/")).cluster_uuid, cluster);
    const claims = (await core.listNamespacedPersistentVolumeClaim({ namespace })).items;
    assert.deepEqual(
      claims.map(({ spec }) => spec?.resources?.requests?.storage),
      Array.from({ length: 5 }, () => "20Gi"),
    );
    console.log(`    ${JSON.stringify({ ...tally, leastReady })}`);
    recordFigures("elasticsearch-platform", {
      "documents written": tally.written,
      "documents acknowledged": tally.acknowledged,
      "documents lost": tally.lost,
      "longest pause between two acknowledgements, ms": tally.longestPause,
      "least nodes ready, of three": leastReady,
    });
    assert.equal(tally.lost, 0);
  } finally {
    watching = false;
    await watched?.catch(() => {});
    await attempt("reset");
  }
}
