import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";

const GROUP = "k8s.nginx.org";

type Column = k8s.types.input.apiextensions.v1.CustomResourceColumnDefinition;
const column = (name: string, jsonPath: string, priority?: number): Column => ({
  name,
  jsonPath,
  type: name === "Age" ? "date" : "string",
  ...(priority !== undefined && { priority }),
});
const STATE = column("State", ".status.state");
const AGE = column("Age", ".metadata.creationTimestamp");
const OF_HOST = [
  STATE,
  column("Host", ".spec.host"),
  column("IP", ".status.externalEndpoints[*].ip"),
  column("ExternalHostname", ".status.externalEndpoints[*].hostname", 1),
  column("Ports", ".status.externalEndpoints[*].ports"),
  AGE,
];

/**
 * Each of these the controller lists before it is ready, as soon as its custom resources are on; the others of its group
 * have switches of their own. Names, scope and columns are those of
 * https://github.com/nginx/kubernetes-ingress/tree/v5.5.4/config/crd/bases
 */
const KINDS = [
  { kind: "VirtualServer", plural: "virtualservers", short: "vs", columns: OF_HOST },
  { kind: "VirtualServerRoute", plural: "virtualserverroutes", short: "vsr", columns: OF_HOST },
  { kind: "Policy", plural: "policies", short: "pol", columns: [STATE, AGE] },
  {
    kind: "TransportServer",
    plural: "transportservers",
    short: "ts",
    columns: [STATE, column("Reason", ".status.reason"), AGE],
  },
];

const ANYTHING = { type: "object", x_kubernetes_preserve_unknown_fields: true };

/**
 * The kinds that the controller serves besides Ingress, without a schema of their fields: the controller judges them, and
 * says so in `status`. They are the cluster's: with them go all objects of these kinds.
 */
export const createDefinitions = (name: string, opts: pulumi.CustomResourceOptions) =>
  KINDS.map(
    ({ kind, plural, short, columns }) =>
      new k8s.apiextensions.v1.CustomResourceDefinition(
        `${name}-${plural}`,
        {
          metadata: { name: `${plural}.${GROUP}` },
          spec: {
            group: GROUP,
            scope: "Namespaced",
            names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List`, shortNames: [short] },
            versions: [
              {
                name: "v1",
                served: true,
                storage: true,
                subresources: { status: {} },
                additionalPrinterColumns: columns,
                schema: { openAPIV3Schema: { type: "object", properties: { spec: ANYTHING, status: ANYTHING } } },
              },
            ],
          },
        },
        opts,
      ),
  );

/** What the controller does with them. */
export const definitionRules = [
  { apiGroups: [GROUP], resources: KINDS.map(({ plural }) => plural), verbs: ["get", "list", "watch"] },
  { apiGroups: [GROUP], resources: KINDS.map(({ plural }) => `${plural}/status`), verbs: ["update"] },
];
