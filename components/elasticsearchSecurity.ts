import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import * as tls from "@pulumi/tls";
import { stringify } from "yaml";

export interface ElasticsearchSecurityArgs {
  namespace: pulumi.Input<string>;
  /** On every Secret. */
  labels: Record<string, string>;
  /** The Service by which nodes and clients are found; the certificate is for its names, and for `localhost`. */
  serviceName: string;
  /** Generations of the passwords: the first is given to the clients, a second is accepted besides it. */
  passwordGenerations: number[];
}

/** The least that each client needs; app/api and verify/ say what for. `superuser` is Elasticsearch's own. */
const ROLES = {
  // The API's own index, and the alias that is made with it: `manage` would let it delete the index.
  backend: {
    cluster: ["cluster:monitor/health"],
    indices: [
      {
        names: ["users", "users-*"],
        privileges: ["create_index", "indices:admin/aliases", "view_index_metadata", "read", "write"],
      },
    ],
  },
  // Also how long a restarting node's copies wait for it: no other setting is written with this.
  probe: {
    cluster: ["monitor"],
    indices: [{ names: ["*"], privileges: ["view_index_metadata", "indices:admin/settings/update"] }],
  },
  verify: {
    cluster: ["monitor"],
    indices: [
      {
        names: ["hobnob-verify-*"],
        privileges: ["create_index", "delete_index", "view_index_metadata", "read", "write"],
      },
    ],
  },
  // Repositories, snapshots and their schedule, but no document.
  // Source: https://www.elastic.co/docs/deploy-manage/tools/snapshot-and-restore/create-snapshots (security)
  snapshots: {
    cluster: ["monitor", "manage_slm", "cluster:admin/repository/*", "cluster:admin/snapshot/*"],
    indices: [{ names: [".slm-history-*"], privileges: ["read"] }],
  },
};
const CLIENTS = { ...ROLES, operator: "superuser" };
type Client = keyof typeof CLIENTS;
const clients = Object.keys(CLIENTS) as Client[];
const roleOf = (client: Client): string => (client === "operator" ? CLIENTS.operator : client);

const YEAR = 365 * 24;
/** Any `pulumi up` in the second half of its life renews a certificate: nobody has to think of it on a certain day. */
const AUTHORITY = { validityPeriodHours: 10 * YEAR, earlyRenewalHours: 5 * YEAR };
const CERTIFICATE = { validityPeriodHours: 2 * YEAR, earlyRenewalHours: YEAR };
const KEY = { algorithm: "ECDSA", ecdsaCurve: "P256" };

type Data = Record<string, pulumi.Input<string>>;

/**
 * What the nodes and their clients know each other by: an authority with the nodes' certificate, and a user for each client.
 * The nodes get it all as files that they read again when they change, so that neither a renewed certificate nor another
 * password restarts one. Why so: docs/decisions/elasticsearch-security.md
 */
export class ElasticsearchSecurity extends pulumi.ComponentResource {
  /** Secret with the nodes' files; it changes in place. */
  readonly nodesSecretName: pulumi.Output<string>;
  /** Secret with the backend's `username`, `password` and `ca.crt`: another one for each change, so that the pods roll to it. */
  readonly backendSecretName: pulumi.Output<string>;
  /** Certificate of the authority, PEM. */
  readonly ca: pulumi.Output<string>;

  constructor(
    name: string,
    args: ElasticsearchSecurityArgs,
    { provider, ...opts }: pulumi.ComponentResourceOptions = {},
  ) {
    // Only the Secrets need the cluster.
    super("hobnob:platform:ElasticsearchSecurity", name, {}, opts);
    const { passwordGenerations } = args;
    const certificate = this.createCertificate(name, args);
    this.ca = certificate.ca;

    const users = passwordGenerations.flatMap((generation) =>
      clients.map((client) => {
        const password = new random.RandomPassword(
          `${name}-${client}-${generation}`,
          { length: 32, special: false },
          { parent: this },
        );
        return { client, generation, username: `${client}-${generation}`, password };
      }),
    );
    const given = (wanted: Client, generation = passwordGenerations[0]) => {
      const user = users.find(({ client, generation: other }) => client === wanted && other === generation);
      if (!user) throw new Error(`no generation of ${wanted}'s password is given`);
      return { username: user.username, password: user.password.result };
    };

    const secret = (fixedName: string | undefined, part: string, data: Data, immutable?: boolean) =>
      new k8s.core.v1.Secret(
        `${name}-${part}`,
        {
          metadata: { name: fixedName, namespace: args.namespace, labels: args.labels },
          immutable,
          data: pulumi.output(data).apply(encode),
        },
        { parent: this, provider },
      ).metadata.name;

    this.nodesSecretName = secret(undefined, "nodes", {
      "ca.crt": certificate.ca,
      "tls.crt": certificate.certificate,
      "tls.key": certificate.key,
      "roles.yml": stringify(ROLES),
      users: lines(users.map(({ username, password }) => pulumi.interpolate`${username}:${password.bcryptHash}`)),
      users_roles: lines(
        clients.map((client) => {
          const names = users.filter((user) => user.client === client).map(({ username }) => username);
          return `${roleOf(client)}:${names.join(",")}`;
        }),
      ),
      // For curl, so that no password is in an argument.
      "probe.curl": curlUser(given("probe")),
    });
    const login = (client: Client): Data => {
      // The acceptance's user is the newest, and so tells whether a node knows the users that are to be given next.
      const generation = client === "verify" ? Math.max(...passwordGenerations) : undefined;
      return { ...given(client, generation), "ca.crt": certificate.ca };
    };
    this.backendSecretName = secret(undefined, "backend", login("backend"), true);
    for (const client of ["verify", "snapshots", "operator"] as const)
      secret(`${args.serviceName}-${client}`, client, login(client));
    this.registerOutputs();
  }

  private createCertificate(name: string, { serviceName, namespace }: ElasticsearchSecurityArgs) {
    const child = { parent: this };
    // The key outlives its certificates: what an authority signed before its renewal holds after it, and the other way.
    const authorityKey = new tls.PrivateKey(`${name}-ca`, KEY, child);
    const authority = new tls.SelfSignedCert(
      `${name}-ca`,
      {
        ...AUTHORITY,
        privateKeyPem: authorityKey.privateKeyPem,
        subject: { organization: "hobnob", commonName: `${serviceName} authority` },
        isCaCertificate: true,
        allowedUses: ["cert_signing", "crl_signing", "digital_signature"],
      },
      child,
    );
    const key = new tls.PrivateKey(name, KEY, child);
    const service = pulumi.interpolate`${serviceName}.${namespace}`;
    const request = new tls.CertRequest(
      name,
      {
        privateKeyPem: key.privateKeyPem,
        subject: { organization: "hobnob", commonName: serviceName },
        dnsNames: [
          serviceName,
          service,
          pulumi.interpolate`${service}.svc`,
          pulumi.interpolate`*.${service}.svc`,
          // Through a port that is forwarded, and for what runs in the pod.
          "localhost",
        ],
        ipAddresses: ["127.0.0.1"],
      },
      child,
    );
    const certificate = new tls.LocallySignedCert(
      name,
      {
        ...CERTIFICATE,
        certRequestPem: request.certRequestPem,
        caCertPem: authority.certPem,
        caPrivateKeyPem: authorityKey.privateKeyPem,
        // Each node is its peers' client too.
        allowedUses: ["digital_signature", "server_auth", "client_auth"],
      },
      child,
    );
    return { ca: authority.certPem, certificate: certificate.certPem, key: key.privateKeyPemPkcs8 };
  }
}

/** Elasticsearch's settings for the nodes' files in `folder`, which is one of its configuration's. */
export function securitySettings(folder: string): Record<string, unknown> {
  const files = { key: `${folder}/tls.key`, certificate: `${folder}/tls.crt` };
  const ssl = (layer: string, settings: Record<string, unknown>) =>
    Object.fromEntries(Object.entries(settings).map(([name, value]) => [`xpack.security.${layer}.ssl.${name}`, value]));
  return {
    "xpack.security.enabled": true,
    "xpack.security.authc.realms.file.file1.order": 0,
    // `elastic` and its like: their password would be one more, in an index that is not there while no master is.
    "xpack.security.authc.reserved_realm.enabled": false,
    ...ssl("transport", {
      enabled: true,
      ...files,
      certificate_authorities: [`${folder}/ca.crt`],
      // Nodes know each other by address, which no certificate that is made before can hold.
      verification_mode: "certificate",
    }),
    ...ssl("http", { enabled: true, ...files }),
  };
}

const encode = (data: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")]));

const lines = (all: pulumi.Input<string>[]): pulumi.Output<string> =>
  pulumi.all(all).apply((each) => `${each.join("\n")}\n`);

const curlUser = ({ username, password }: { username: string; password: pulumi.Output<string> }) =>
  pulumi.interpolate`user = "${username}:${password}"\n`;
