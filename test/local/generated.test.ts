import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { createServer, request } from "node:https";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import bcrypt from "bcryptjs";
import { type Bag, type Made, Plugin, secret, UNKNOWN } from "./plugin";

const PASSWORD = "random:index/randomPassword:RandomPassword";
const KEY = "tls:index/privateKey:PrivateKey";
const REQUEST = "tls:index/certRequest:CertRequest";
const AUTHORITY = "tls:index/selfSignedCert:SelfSignedCert";
const CERTIFICATE = "tls:index/locallySignedCert:LocallySignedCert";

const SECRET = "1b47061264138c4ac30d75fd1eb44270";
const isSecret = (value: unknown): boolean => Object.values((value ?? {}) as object).includes(SECRET);
const reveal = (value: unknown): string => String(isSecret(value) ? (value as Bag).value : value);

describe("the simulated random plugin", function () {
  this.timeout(30_000);
  let plugin: Plugin;

  before(async () => {
    plugin = await Plugin.start("random");
    await plugin.configure({});
  });
  after(() => plugin.stop());

  it("must make passwords of the classes and length that were asked for, with their bcrypt hash, both secret", async () => {
    const seen = new Set<string>();
    for (let round = 0; round < 3; round++) {
      const { id, state } = await plugin.create(PASSWORD, { length: 32, special: false });
      assert.equal(id, "none");
      assert.ok(isSecret(state.result) && isSecret(state.bcryptHash));
      const result = reveal(state.result);
      assert.match(result, /^[A-Za-z0-9]{32}$/);
      assert.match(reveal(state.bcryptHash), /^\$2[aby]\$10\$/);
      assert.ok(await bcrypt.compare(result, reveal(state.bcryptHash)));
      seen.add(result);
    }
    assert.equal(seen.size, 3);
    const { state } = await plugin.create(PASSWORD, {
      length: 8,
      lower: false,
      upper: false,
      numeric: false,
      overrideSpecial: "-",
    });
    assert.equal(reveal(state.result), "--------");
    const { state: mixed } = await plugin.create(PASSWORD, {
      length: 4,
      minUpper: 1,
      minLower: 1,
      minNumeric: 1,
      minSpecial: 1,
    });
    for (const one of [/[A-Z]/, /[a-z]/, /\d/, /[^\w]/]) assert.match(reveal(mixed.result), one);
  });

  it("must make another password whenever an input changes, and none when nothing does", async () => {
    const inputs = { length: 16, keepers: { generation: "1" } };
    const made = await plugin.create(PASSWORD, inputs);
    assert.deepEqual((await plugin.diff(PASSWORD, made, inputs)).changes, {});
    assert.deepEqual((await plugin.diff(PASSWORD, made, { ...inputs, keepers: { generation: "2" } })).changes, {
      "keepers.generation": "update-replace",
    });
    assert.deepEqual((await plugin.diff(PASSWORD, made, { ...inputs, length: 17 })).changes, {
      length: "update-replace",
    });
  });

  it("must know no password in a preview, and keep it secret in a refresh", async () => {
    const preview = await plugin.create(PASSWORD, { length: 16 }, { preview: true });
    assert.equal(reveal(preview.state.result), UNKNOWN);
    const made = await plugin.create(PASSWORD, { length: 16 });
    const refreshed = await plugin.read(PASSWORD, made.id, made);
    assert.deepEqual(refreshed?.state, made.state);
  });

  it("must refuse what the real schema refuses", async () => {
    const refuses = (inputs: Bag, reason: RegExp) => assert.rejects(plugin.create(PASSWORD, inputs), reason);
    await refuses({ length: 0 }, /must be >= 1/);
    await refuses({ length: 3, minUpper: 4 }, /must be >= 1 and >= 4/);
    await refuses({ length: 3, lower: false, upper: false, numeric: false, special: false }, /must be true/);
    await refuses({ length: 3, lenght: 4 }, /lenght is not known/);
    await assert.rejects(plugin.create("random:index/randomPet:RandomPet", {}), /needs the official random plugin/);
  });
});

describe("the simulated tls plugin", function () {
  this.timeout(30_000);
  let plugin: Plugin;
  let key: Made;
  let authorityKey: Made;
  let authority: Made;

  const subject = { commonName: "elasticsearch", organization: "hobnob" };
  const authoritySubject = { commonName: "authority", organization: "hobnob" };
  const pemOf = (made: Made) => secret(reveal(made.state.privateKeyPem));
  const makeAuthority = (inputs: Bag = {}) =>
    plugin.create(AUTHORITY, {
      ...{
        privateKeyPem: pemOf(authorityKey),
        subject: authoritySubject,
        isCaCertificate: true,
        validityPeriodHours: 100,
      },
      ...{ allowedUses: ["cert_signing", "crl_signing"], ...inputs },
    });
  const signing = async (inputs: Bag = {}, by: Made = authority) => {
    const request = await plugin.create(REQUEST, {
      privateKeyPem: pemOf(key),
      subject,
      dnsNames: ["elasticsearch", "*.elasticsearch.hobnob.svc"],
      ipAddresses: ["127.0.0.1"],
    });
    return {
      certRequestPem: request.state.certRequestPem,
      caPrivateKeyPem: pemOf(authorityKey),
      caCertPem: by.state.certPem,
      validityPeriodHours: 10,
      allowedUses: ["digital_signature", "server_auth", "client_auth"],
      ...inputs,
    };
  };

  before(async () => {
    plugin = await Plugin.start("tls");
    await plugin.configure({});
    [key, authorityKey] = [
      await plugin.create(KEY, { algorithm: "ECDSA", ecdsaCurve: "P256" }),
      await plugin.create(KEY, { algorithm: "ECDSA", ecdsaCurve: "P256" }),
    ];
    authority = await makeAuthority();
  });
  after(() => plugin.stop());

  it("must make keys that are secret in every form, and keep them so in certificates", async () => {
    for (const form of ["privateKeyPem", "privateKeyPemPkcs8"]) assert.ok(isSecret(key.state[form]), form);
    assert.match(reveal(key.state.privateKeyPemPkcs8), /^-----BEGIN PRIVATE KEY-----\n/);
    assert.match(reveal(key.state.privateKeyPem), /^-----BEGIN EC PRIVATE KEY-----\n/);
    assert.ok(isSecret(authority.state.privateKeyPem));
    const made = await plugin.create(CERTIFICATE, await signing());
    assert.ok(isSecret(made.state.caPrivateKeyPem));
    assert.ok(!isSecret(made.state.certPem));
  });

  it("must sign certificates that a TLS client accepts for their names alone", async () => {
    const made = await plugin.create(CERTIFICATE, await signing());
    const server = createServer(
      {
        key: reveal(key.state.privateKeyPemPkcs8),
        cert: made.state.certPem,
        ca: authority.state.certPem,
        requestCert: true,
      },
      (incoming, response) => {
        response.end(String((incoming.socket as unknown as { authorized: boolean }).authorized));
      },
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const ask = (servername: string, ca?: string) =>
      new Promise<string>((resolve, reject) => {
        const own = { key: reveal(key.state.privateKeyPemPkcs8), cert: made.state.certPem };
        request({ host: "127.0.0.1", port, servername, ca, ...own, agent: false }, (response) => {
          response.on("data", (data) => resolve(String(data)));
        })
          .on("error", reject)
          .end();
      });
    try {
      assert.equal(await ask("elasticsearch", authority.state.certPem), "true");
      assert.equal(await ask("elasticsearch-0.elasticsearch.hobnob.svc", authority.state.certPem), "true");
      await assert.rejects(ask("other", authority.state.certPem), /altnames/);
      await assert.rejects(ask("elasticsearch"), /self-signed certificate in certificate chain|unable to/);
    } finally {
      server.close();
    }
    const certificate = new X509Certificate(made.state.certPem);
    assert.ok(certificate.checkIssued(new X509Certificate(authority.state.certPem)));
    assert.equal(certificate.ca, false);
    assert.equal(new X509Certificate(authority.state.certPem).ca, true);
    assert.match(
      String(certificate.subjectAltName),
      /DNS:elasticsearch, DNS:\*\.elasticsearch\.hobnob\.svc, IP Address:127\.0\.0\.1/,
    );
    assert.equal(Date.parse(made.state.validityEndTime) - Date.parse(made.state.validityStartTime), 10 * 3_600_000);
  });

  it("must trust what was signed before an authority was renewed with its own key, and after", async () => {
    const made = await plugin.create(CERTIFICATE, await signing());
    await sleep(10);
    const renewed = await makeAuthority();
    const later = await plugin.create(CERTIFICATE, await signing({}, renewed));
    assert.notEqual(renewed.state.certPem, authority.state.certPem);
    for (const one of [made, later]) {
      for (const by of [authority, renewed]) {
        const certificate = new X509Certificate(one.state.certPem);
        const signer = new X509Certificate(by.state.certPem);
        assert.ok(certificate.checkIssued(signer) && certificate.verify(signer.publicKey));
      }
    }
  });

  it("must make a certificate anew once its time for that has come, and not before", async () => {
    const early = await signing({ earlyRenewalHours: 9 });
    const made = await plugin.create(CERTIFICATE, early);
    assert.deepEqual((await plugin.diff(CERTIFICATE, made, early)).changes, {});
    const due = await signing({ earlyRenewalHours: 10 });
    const dueMade = { ...made, inputs: due };
    assert.deepEqual(
      (await plugin.diff(CERTIFICATE, dueMade, { ...due, certRequestPem: made.inputs.certRequestPem })).changes,
      {
        certRequestPem: "update-replace",
        readyForRenewal: "update-replace",
      },
    );
    assert.equal((await plugin.read(CERTIFICATE, made.id, made))?.state.readyForRenewal, false);
  });

  it("must replace whatever changes but the time of the renewal", async () => {
    const inputs = await signing();
    const made = await plugin.create(CERTIFICATE, inputs);
    assert.deepEqual((await plugin.diff(CERTIFICATE, made, { ...inputs, earlyRenewalHours: 1 })).changes, {
      earlyRenewalHours: "add",
    });
    assert.deepEqual((await plugin.diff(CERTIFICATE, made, { ...inputs, validityPeriodHours: 11 })).changes, {
      validityPeriodHours: "update-replace",
    });
    assert.deepEqual((await plugin.diff(KEY, key, { algorithm: "ECDSA", ecdsaCurve: "P384" })).changes, {
      ecdsaCurve: "update-replace",
    });
    assert.deepEqual((await plugin.diff(KEY, key, key.inputs)).changes, {});
  });

  it("must refuse what the real schema refuses, and name what it does not simulate", async () => {
    const refuses = (type: string, inputs: Bag, reason: RegExp) => assert.rejects(plugin.create(type, inputs), reason);
    await refuses(CERTIFICATE, await signing({ allowedUses: ["everything"] }), /"everything" is not one of/);
    await refuses(CERTIFICATE, await signing({ validityPeriodHours: -1 }), /must be at least 0/);
    await refuses(CERTIFICATE, { ...(await signing()), caCertPem: undefined }, /Missing required argument caCertPem/);
    await refuses(KEY, { algorithm: "RSA" }, /ECDSA keys on P256, P384, P521 only/);
    await refuses(REQUEST, { privateKeyPem: pemOf(key), uris: ["spiffe://a"] }, /uris is not known/);
    await assert.rejects(makeAuthority({ subject: {} }), /at least one Distinguished Name/);
    await refuses("tls:index/ephemeral:Ephemeral", {}, /needs the official tls plugin/);
  });

  it("must know nothing that is computed in a preview", async () => {
    const preview = await plugin.create(KEY, { algorithm: "ECDSA", ecdsaCurve: "P256" }, { preview: true });
    assert.equal(reveal(preview.state.privateKeyPem), UNKNOWN);
    assert.ok(isSecret(preview.state.privateKeyPem));
    const request = { privateKeyPem: secret(UNKNOWN), subject, dnsNames: ["a"] };
    assert.equal((await plugin.create(REQUEST, request, { preview: true })).state.certRequestPem, UNKNOWN);
  });
});
