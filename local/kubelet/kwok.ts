import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Document } from "yaml";
import { stateDirectory } from "../paths";
import { realPodQuery } from "./images";

/** kwok's kinds through which it passes kubectl's requests on to a pod's process. */
export const kwokKinds = { PortForward: "portforwards", Logs: "logs" } as const;

const marker = () => join(stateDirectory(), "kubelet", "real");

/** Whether this clone's platform has real processes behind its pods. */
export const runsRealPods = (): boolean => existsSync(marker());

/** Takes effect when the cluster and the kubelet start the next time. */
export function setRealPods(real: boolean): void {
  mkdirSync(dirname(marker()), { recursive: true });
  if (real) writeFileSync(marker(), "");
  else rmSync(marker(), { force: true });
}

/** Lets a pod that claims a disk be ready so many seconds after it has a node: kwok itself waits for no attachment. */
export function delayDiskPods(documents: Document[], seconds: number): void {
  const ready = documents.find((document) => document.getIn(["metadata", "name"]) === "pod-ready");
  if (!ready) throw new Error("kwok has no stage pod-ready.");
  const later = ready.clone() as Document;
  const key = ".spec.volumes[]?.persistentVolumeClaim.claimName";
  const only = (stage: Document, operator: string) =>
    stage.addIn(["spec", "selector", "matchExpressions"], stage.createNode({ key, operator }));
  only(ready, "DoesNotExist");
  only(later, "Exists");
  later.setIn(["metadata", "name"], "disk-pod-ready");
  later.setIn(["spec", "delay"], { durationMilliseconds: Math.round(seconds * 1000) });
  documents.push(later);
}

/** Takes the real pods out of kwok's hands, or gives them back, in kwok's configuration. */
export function configureKwok(documents: Document[], real: boolean): void {
  for (const stage of documents) {
    if (stage.getIn(["spec", "resourceRef", "kind"]) !== "Pod") continue;
    const path = ["spec", "selector", "matchExpressions"];
    const { spec } = stage.toJS() as { spec: { selector: { matchExpressions: { key?: string }[] } } };
    const others = spec.selector.matchExpressions.filter(({ key }) => !key?.startsWith("select("));
    const ours = real ? [{ key: realPodQuery, operator: "DoesNotExist" }] : [];
    stage.setIn(path, stage.createNode([...others, ...ours]));
  }
  const [cluster] = documents;
  const { components = [] } = (cluster?.toJS() ?? {}) as { components?: { name: string; args: string[] }[] };
  const index = components.findIndex(({ name }) => name === "kwok-controller");
  const flag = "--enable-crds=";
  const others = (components[index]?.args ?? []).filter((arg) => !arg.startsWith(flag));
  const ours = real ? [flag + Object.keys(kwokKinds).join(",")] : [];
  cluster?.setIn(["components", index, "args"], cluster.createNode([...others, ...ours]));
}
