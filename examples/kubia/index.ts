import { join } from "node:path";
import type * as pulumi from "@pulumi/pulumi";
import { Platform } from "hobnob-platform";
import { ownImage } from "hobnob-platform/components/image";
import { Namespace } from "hobnob-platform/components/namespace";
import { ambassador } from "./forms/ambassador";
import { daemonSet } from "./forms/daemonSet";
import { fortune } from "./forms/fortune";
import { replicas } from "./forms/replicas";
import { tasks } from "./forms/tasks";
import { readSettings } from "./settings";

/** One program in every form that pods are run in: each file under forms/ is one chapter, and needs none of the others. */
export = async () => {
  const settings = readSettings();
  const platform = new Platform(settings.platform);
  const onCluster = { provider: platform.provider("platform") };

  const registry = await platform.value("registry");
  const image = ownImage("program", { settings, registry, context: join(__dirname, "program") });
  const { name: namespace } = new Namespace("kubia", { name: "kubia" }, onCluster);
  const pullSecretName = image.pullSecretIn(namespace, onCluster);
  const chapter = {
    namespace,
    image: image.ref,
    pullSecretName,
    spread: platform.output("spread"),
    nodeSelector: platform.output("nodeSelector"),
  };
  const kubia = replicas(chapter, settings.replicas, onCluster);
  return {
    namespace,
    replicas: kubia.serviceName,
    daemonSet: daemonSet(chapter, settings.monitoredNodes, onCluster),
    tasks: tasks(chapter, kubia, onCluster),
    fortune: fortune(chapter, onCluster),
    // A value decides here which kind of policy there is, so it must be known before.
    ambassador: ambassador(chapter, await platform.value("apiServer"), onCluster),
  } satisfies Record<string, pulumi.Input<unknown>>;
};
