import assert from "node:assert/strict";
import { CoreV1Api } from "@kubernetes/client-node";
import { createConnection } from "mysql2/promise";
import { type LiveCheck, podsOf } from "../../../local/live";

const live: LiveCheck = async ({ outputs, platform, kubeconfig, isReal, endpoints }) => {
  const { namespace, serviceName, databaseService, url } = outputs as Record<
    "namespace" | "serviceName" | "databaseService" | "url",
    string
  >;
  assert.equal(new URL(url).host, `wp.${platform.domain}`);
  const core = kubeconfig.makeApiClient(CoreV1Api);
  const claims = await core.listNamespacedPersistentVolumeClaim({ namespace });
  const bound = claims.items.filter(({ status }) => status?.phase === "Bound").map(({ metadata }) => metadata?.name);
  assert.deepEqual(bound.sort(), ["mariadb", "uploads"]);
  const machines = (await podsOf(kubeconfig, namespace, serviceName)).map(({ spec }) => spec?.nodeName);
  assert.equal(machines.length, 2);
  assert.equal(new Set(machines).size, 1, "a block volume is one machine's, and the pods are on others");
  const what = "2 pods on the machine that has their uploads' volume; WordPress itself has no stand-in";
  if (!(await isReal(namespace, databaseService))) return what;

  const [address = ""] = await endpoints(namespace, databaseService);
  const [host, port] = address.split(":");
  const { items } = await core.listNamespacedSecret({ namespace });
  const encoded = items.find(({ data }) => data?.rootPassword)?.data?.password ?? "";
  const password = Buffer.from(encoded, "base64").toString();
  const user = { host, port: Number(port), user: "wordpress", database: "wordpress" };
  const connection = await createConnection({ ...user, password });
  // What WordPress does with its own tables when it is set up.
  await connection.query("CREATE TABLE live_check (id INT PRIMARY KEY) ENGINE=InnoDB");
  await connection.query("DROP TABLE live_check");
  await connection.end();
  await assert.rejects(createConnection({ ...user, password: "another" }), /Access denied/);
  return `MariaDB lets WordPress' user in by its password alone; ${what}`;
};

export default live;
