import { execFileSync, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CoordinationV1Api, KubeConfig } from "@kubernetes/client-node";
import { type Document, parseAllDocuments } from "yaml";
import { adminKubeconfig } from "../../local/cluster";

/** A status as a kubelet sends it when the readiness probe succeeds for the first time. */
const becomesReady = `
{{ $now := Now }}
conditions:
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: Ready}
- {lastTransitionTime: {{ $now | Quote }}, status: "True", type: ContainersReady}
containerStatuses:
{{ range .spec.containers }}
- image: {{ .image | Quote }}
  name: {{ .name | Quote }}
  ready: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
`;

const stillUnready = (template: string) =>
  template
    .replace(/status: "True"(\s+type: (?:Ready|ContainersReady)\n)/g, 'status: "False"$1')
    .replace("ready: true", "ready: false");

/** Lets the embedded cluster's simulated pods run at once, but be ready only so many seconds later, as real ones are. */
export async function delayReadiness(seconds: number): Promise<void> {
  const file = join(dirname(adminKubeconfig()), "kwok.yaml");
  const documents = parseAllDocuments(readFileSync(file, "utf8"));
  const running = documents.find((document) => document.getIn(["metadata", "name"]) === "pod-ready");
  if (!running) throw new Error("kwok has no stage pod-ready.");
  const ready = running.clone() as Document;
  for (const path of [
    ["spec", "next", "statusTemplate"],
    ["spec", "steps", 0, "patch", "template"],
  ]) {
    running.setIn(path, stillUnready(String(running.getIn(path))));
    ready.setIn(path, becomesReady);
  }
  ready.setIn(["metadata", "name"], "pod-ready-later");
  ready.setIn(["spec", "delay"], { durationMilliseconds: seconds * 1000 });
  const ofPhase = (stage: Document, phase: string) =>
    stage.setIn(["spec", "selector", "matchExpressions", 1, "jq", "values"], [phase]);
  ofPhase(ready, "Running");
  writeFileSync(file, [...documents, ready].map(String).join(""));
  await restartKwok();
}

/** kwok reads its stages once, when it starts. */
async function restartKwok(): Promise<void> {
  const program = join(dirname(adminKubeconfig()), "bin", "kwok-controller");
  const running = () =>
    execFileSync("ps", ["-A", "-ww", "-o", "pid=,args="], { encoding: "utf8", maxBuffer: 2 ** 26 })
      .split("\n")
      .find((line) => line.includes(` ${program} `));
  const [pid, , ...args] = running()?.trim().split(/\s+/) ?? [];
  process.kill(Number(pid), "SIGTERM");
  while (running()) await sleep(100);
  // It would take up each node only when its own earlier lease has run out.
  const config = new KubeConfig();
  config.loadFromFile(adminKubeconfig());
  await config.makeApiClient(CoordinationV1Api).deleteCollectionNamespacedLease({ namespace: "kube-node-lease" });
  spawn(program, args, { detached: true, stdio: "ignore" }).unref();
}

/** Lets simulated pods of an image stay Pending for ever, as those of one that can't be pulled do. */
export async function neverReady(image: string): Promise<void> {
  const file = join(dirname(adminKubeconfig()), "kwok.yaml");
  const documents = parseAllDocuments(readFileSync(file, "utf8"));
  const stage = documents.find((document) => document.getIn(["metadata", "name"]) === "pod-ready");
  if (!stage) throw new Error("kwok has no stage pod-ready.");
  const others = { key: ".spec.containers[0].image", operator: "NotIn", values: [image] };
  stage.addIn(["spec", "selector", "matchExpressions"], stage.createNode(others));
  writeFileSync(file, documents.map(String).join(""));
  await restartKwok();
}
