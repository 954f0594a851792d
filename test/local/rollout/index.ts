import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { Namespace } from "hobnob-platform/components/namespace";
import { Service } from "hobnob-platform/components/service";

const config = new pulumi.Config();
const provider = new k8s.Provider("cluster", { kubeconfig: config.require("kubeconfig") });
const { name: namespace } = new Namespace("shops", { name: "shops" }, { provider });
const canary = config.get("canary");

new Service(
  "shop",
  {
    namespace,
    image: config.require("image"),
    canary: canary === undefined ? undefined : { image: canary, replicas: 1 },
    args: ["replica"],
    env: { POD_NAME: { fieldRef: { fieldPath: "metadata.name" } }, DOWNWARD: "/etc/shop" },
    files: { "/etc/shop": { prices: config.require("prices") } },
    ports: [{ name: "http", port: 8080 }],
    readiness: { httpGet: { path: "/readyz", port: "http" }, periodSeconds: 1 },
    liveness: { httpGet: { path: "/healthz", port: "http" } },
    preStopSeconds: 2,
    stopSeconds: 5,
    readyTimeout: config.get("timeout"),
    memory: "64Mi",
    cpu: "10m",
  },
  { provider },
);
