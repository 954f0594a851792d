import "reflect-metadata";
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  type webcrypto,
} from "node:crypto";
import * as x509 from "@peculiar/x509";
import { version } from "@pulumi/tls/package.json";
import {
  type CheckRequest,
  type CheckResult,
  type CreateRequest,
  type DiffRequest,
  type DiffResult,
  diffProperties,
  type Properties,
  type Provider,
  type ReadRequest,
  secret,
  serve,
  UNKNOWN,
  type UpdateRequest,
} from "./server";

/** Source: terraform-provider-tls, internal/provider/common_cert.go. */
const KEY_USES: Record<string, keyof typeof x509.KeyUsageFlags> = {
  digital_signature: "digitalSignature",
  content_commitment: "nonRepudiation",
  key_encipherment: "keyEncipherment",
  data_encipherment: "dataEncipherment",
  key_agreement: "keyAgreement",
  cert_signing: "keyCertSign",
  crl_signing: "cRLSign",
};
const EXTENDED_USES: Record<string, x509.ExtendedKeyUsage> = {
  server_auth: x509.ExtendedKeyUsage.serverAuth,
  client_auth: x509.ExtendedKeyUsage.clientAuth,
};
const SUBJECT: Record<string, string> = {
  commonName: "CN",
  organization: "O",
  organizationalUnit: "OU",
  country: "C",
  locality: "L",
  province: "ST",
};
/** The provider's default, P224, is one that Node's Web Crypto has not. */
const CURVES = { P256: "prime256v1", P384: "secp384r1", P521: "secp521r1" } as const;
type Curve = keyof typeof CURVES;

const HOUR = 3_600_000;
/** Property → whether it must be given. */
type Schema = Record<string, boolean>;
const CERTIFICATE: Schema = {
  allowedUses: true,
  validityPeriodHours: true,
  earlyRenewalHours: false,
  isCaCertificate: false,
  setSubjectKeyId: false,
};
const SCHEMAS: Record<string, Schema> = {
  PrivateKey: { algorithm: true, ecdsaCurve: false },
  CertRequest: { privateKeyPem: true, subject: false, dnsNames: false, ipAddresses: false },
  SelfSignedCert: { ...CERTIFICATE, privateKeyPem: true, subject: false, dnsNames: false, ipAddresses: false },
  LocallySignedCert: { ...CERTIFICATE, caCertPem: true, caPrivateKeyPem: true, certRequestPem: true },
};
const SECRET_OUTPUTS = ["privateKeyPem", "privateKeyPemPkcs8", "privateKeyOpenssh", "caPrivateKeyPem"];

const kindOf = (type: string): string => /^tls:index\/\w+:(\w+)$/.exec(type)?.[1] ?? "";

const marked = (outputs: Properties): Properties =>
  Object.fromEntries(
    Object.entries(outputs).map(([name, value]) => [name, SECRET_OUTPUTS.includes(name) ? secret(value) : value]),
  );

function failuresOf(kind: string, inputs: Properties): CheckResult["failures"] {
  const schema = SCHEMAS[kind] as Schema;
  const failure = (property: string, reason: string) => ({ property, reason });
  const failures = Object.keys(inputs)
    .filter((property) => !(property in schema))
    .map((property) => failure(property, `${property} is not known to the simulated provider`));
  for (const [property, required] of Object.entries(schema)) {
    if (required && inputs[property] === undefined)
      failures.push(failure(property, `Missing required argument ${property}`));
  }
  if (kind === "PrivateKey" && (inputs.algorithm !== "ECDSA" || !(String(inputs.ecdsaCurve) in CURVES))) {
    const reason = `the simulated provider makes ECDSA keys on ${Object.keys(CURVES).join(", ")} only`;
    failures.push(failure("algorithm", reason));
  }
  for (const hours of ["validityPeriodHours", "earlyRenewalHours"]) {
    if (Number(inputs[hours] ?? 0) < 0) failures.push(failure(hours, `${hours} must be at least 0`));
  }
  for (const use of (inputs.allowedUses ?? []) as string[]) {
    if (use in KEY_USES || use in EXTENDED_USES || use === UNKNOWN) continue;
    const allowed = [...Object.keys(KEY_USES), ...Object.keys(EXTENDED_USES)].join(", ");
    failures.push(failure("allowedUses", `"${use}" is not one of ${allowed}`));
  }
  return failures;
}

function makeKey({ ecdsaCurve }: Properties): { id: string; outputs: Properties } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: CURVES[ecdsaCurve as Curve] });
  const publicKeyPem = String(publicKey.export({ type: "spki", format: "pem" }));
  return {
    id: createHash("sha1").update(publicKeyPem).digest("hex"),
    outputs: {
      privateKeyPem: String(privateKey.export({ type: "sec1", format: "pem" })),
      privateKeyPemPkcs8: String(privateKey.export({ type: "pkcs8", format: "pem" })),
      publicKeyPem,
    },
  };
}

/** A key in the form that the certificate library takes. */
async function cryptoKeys(
  pem: unknown,
): Promise<webcrypto.CryptoKeyPair & { algorithm: webcrypto.EcKeyImportParams & { hash: string } }> {
  const privateKey = createPrivateKey(String(pem));
  const curve = Object.entries(CURVES).find(([, name]) => name === privateKey.asymmetricKeyDetails?.namedCurve)?.[0];
  if (!curve) throw new Error("the simulated provider signs with ECDSA keys only");
  const algorithm = { name: "ECDSA", namedCurve: curve.replace("P", "P-"), hash: "SHA-256" };
  const importKey = (format: "pkcs8" | "spki", key: KeyObject, use: webcrypto.KeyUsage) =>
    crypto.subtle.importKey(format, key.export({ type: format as "spki", format: "der" }), algorithm, true, [use]);
  return {
    algorithm,
    privateKey: await importKey("pkcs8", privateKey, "sign"),
    publicKey: await importKey("spki", createPublicKey(privateKey), "verify"),
  };
}

const nameOf = (subject: unknown): string =>
  Object.entries((subject ?? {}) as Record<string, string>)
    .map(([property, value]) => {
      const attribute = SUBJECT[property];
      if (!attribute) throw new Error(`subject.${property} is not known to the simulated provider`);
      return `${attribute}=${value}`;
    })
    .join(",");

function alternativeNames({ dnsNames = [], ipAddresses = [] }: Properties): x509.Extension[] {
  const names = [
    ...(dnsNames as string[]).map((value) => ({ type: "dns" as const, value })),
    ...(ipAddresses as string[]).map((value) => ({ type: "ip" as const, value })),
  ];
  return names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : [];
}

async function makeRequest(inputs: Properties): Promise<{ id: string; outputs: Properties }> {
  const keys = await cryptoKeys(inputs.privateKeyPem);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: nameOf(inputs.subject),
    keys,
    signingAlgorithm: keys.algorithm,
    extensions: alternativeNames(inputs),
  });
  const certRequestPem = `${request.toString("pem")}\n`;
  const id = createHash("sha1").update(certRequestPem).digest("hex");
  return { id, outputs: { certRequestPem, keyAlgorithm: "ECDSA" } };
}

interface Signing {
  subject: string;
  issuer: string;
  publicKey: x509.PublicKeyType;
  names: x509.Extension[];
  /** PEM of who signs. */
  signer: unknown;
  authority?: x509.X509Certificate;
}

async function makeCertificate(inputs: Properties, signing: Signing): Promise<{ id: string; outputs: Properties }> {
  const { subject, issuer, publicKey, names, signer, authority } = signing;
  const uses = inputs.allowedUses as string[];
  const usages = uses.reduce((flags, use) => flags | (KEY_USES[use] ? x509.KeyUsageFlags[KEY_USES[use]] : 0), 0);
  const extended = uses.flatMap((use) => EXTENDED_USES[use] ?? []);
  const keys = await cryptoKeys(signer);
  const serial = randomBytes(16);
  const notBefore = new Date();
  const notAfter = new Date(notBefore.getTime() + Number(inputs.validityPeriodHours) * HOUR);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial.toString("hex"),
    subject,
    issuer,
    notBefore,
    notAfter,
    publicKey,
    signingKey: keys.privateKey,
    signingAlgorithm: keys.algorithm,
    extensions: [
      ...(usages ? [new x509.KeyUsagesExtension(usages, true)] : []),
      ...(extended.length > 0 ? [new x509.ExtendedKeyUsageExtension(extended)] : []),
      new x509.BasicConstraintsExtension(inputs.isCaCertificate === true, undefined, true),
      ...(inputs.isCaCertificate || inputs.setSubjectKeyId
        ? [await x509.SubjectKeyIdentifierExtension.create(publicKey)]
        : []),
      ...(authority ? [await x509.AuthorityKeyIdentifierExtension.create(authority.publicKey)] : []),
      ...names,
    ],
  });
  return {
    id: BigInt(`0x${serial.toString("hex")}`).toString(),
    outputs: {
      certPem: `${certificate.toString("pem")}\n`,
      validityStartTime: notBefore.toISOString(),
      validityEndTime: notAfter.toISOString(),
      readyForRenewal: false,
    },
  };
}

async function selfSign(inputs: Properties) {
  const subject = nameOf(inputs.subject);
  if (inputs.isCaCertificate && subject === "") {
    throw new Error("Must contain at least one Distinguished Name when creating Certificate Authority (CA)");
  }
  const { publicKey } = await cryptoKeys(inputs.privateKeyPem);
  const signing = {
    subject,
    issuer: subject,
    publicKey,
    names: alternativeNames(inputs),
    signer: inputs.privateKeyPem,
  };
  const made = await makeCertificate(inputs, signing);
  return { ...made, outputs: { ...made.outputs, keyAlgorithm: "ECDSA" } };
}

async function sign(inputs: Properties) {
  const request = new x509.Pkcs10CertificateRequest(String(inputs.certRequestPem));
  const authority = new x509.X509Certificate(String(inputs.caCertPem));
  const made = await makeCertificate(inputs, {
    subject: request.subject,
    issuer: authority.subject,
    publicKey: request.publicKey,
    names: request.extensions.filter(({ type }) => type === "2.5.29.17"),
    signer: inputs.caPrivateKeyPem,
    authority,
  });
  return { ...made, outputs: { ...made.outputs, caKeyAlgorithm: "ECDSA" } };
}

const make: Record<string, (inputs: Properties) => Promise<{ id: string; outputs: Properties }>> = {
  PrivateKey: async (inputs) => makeKey(inputs),
  CertRequest: makeRequest,
  SelfSignedCert: selfSign,
  LocallySignedCert: sign,
};

const COMPUTED: Record<string, string[]> = {
  PrivateKey: ["privateKeyPem", "privateKeyPemPkcs8", "publicKeyPem"],
  CertRequest: ["certRequestPem", "keyAlgorithm"],
  SelfSignedCert: ["certPem", "validityStartTime", "validityEndTime", "keyAlgorithm"],
  LocallySignedCert: ["certPem", "validityStartTime", "validityEndTime", "caKeyAlgorithm"],
};

/** Source: terraform-provider-tls, common_cert.go, `modifyPlanIfCertificateReadyForRenewal`. */
const isReadyForRenewal = (state: Properties, inputs: Properties): boolean =>
  state.validityEndTime !== undefined &&
  Date.parse(String(state.validityEndTime)) - Number(inputs.earlyRenewalHours ?? 0) * HOUR <= Date.now();

class TlsProvider implements Provider {
  readonly version = version;

  async check({ type, inputs }: CheckRequest): Promise<CheckResult> {
    const kind = kindOf(type);
    if (!(kind in SCHEMAS)) {
      const taken = Object.keys(SCHEMAS).join(", ");
      throw new Error(`${type} needs the official tls plugin: the simulated provider takes ${taken} only`);
    }
    return { inputs, failures: failuresOf(kind, inputs) };
  }

  /** Nothing but the time of the renewal can change in place; a certificate whose time has come is made anew. */
  async diff({ state, oldInputs, inputs }: DiffRequest): Promise<DiffResult> {
    const changes = Object.entries(diffProperties(oldInputs, inputs)).map(
      ([path, kind]) => [path, path === "earlyRenewalHours" ? kind : (`${kind}-replace` as "update-replace")] as const,
    );
    const detailedDiff: DiffResult["detailedDiff"] = Object.fromEntries(changes);
    if (isReadyForRenewal(state, inputs)) detailedDiff.readyForRenewal = "update-replace";
    return { detailedDiff };
  }

  async create({ type, inputs, preview }: CreateRequest): Promise<{ id: string; outputs: Properties }> {
    const kind = kindOf(type);
    const unknown = () => Object.fromEntries((COMPUTED[kind] ?? []).map((name) => [name, UNKNOWN]));
    const made = preview ? { id: "", outputs: unknown() } : await make[kind]?.(inputs);
    return { id: made?.id ?? "", outputs: marked({ ...inputs, ...made?.outputs }) };
  }

  async update({ state, inputs }: UpdateRequest): Promise<Properties> {
    return marked({ ...state, ...inputs });
  }

  async read({ id, state, inputs }: ReadRequest) {
    if (Object.keys(state).length === 0) throw new Error("The simulated tls provider imports nothing");
    const renewal = isReadyForRenewal(state, state) ? { readyForRenewal: true } : {};
    return { id, inputs, outputs: marked({ ...state, ...renewal }) };
  }

  async delete(): Promise<void> {}
}

serve(() => new TlsProvider());
