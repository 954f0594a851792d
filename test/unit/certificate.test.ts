import assert from "node:assert/strict";
import * as pulumi from "@pulumi/pulumi";
import { Certificate } from "../../components/certificate";
import { Zone } from "../../components/dns";
import { type CaptureOptions, capture, find, unwrap, waitsFor } from "./graph";

const CERTIFICATE = "digitalocean:index/certificate:Certificate";
const DOMAIN = "digitalocean:index/domain:Domain";

async function certificate(hosts: string[], options: CaptureOptions = {}) {
  let certificateName: pulumi.Output<string> = pulumi.output("");
  const graph = await capture(() => {
    const { domain } = new Zone("zone", { domain: "example.com", zone: "create", deleteZone: false, protect: false });
    certificateName = new Certificate("certificate", { domain, hosts }).certificateName;
  }, options);
  return { graph, made: find(graph, CERTIFICATE, "certificate"), certificateName };
}

describe("certificate", () => {
  it("must be DigitalOcean's own to prove and renew, for exactly the hosts", async () => {
    const { made } = await certificate(["docs.example.com", "api.example.com"]);
    assert.deepEqual(made.inputs, {
      name: "hobnob-b4c63482",
      type: "lets_encrypt",
      domains: ["api.example.com", "docs.example.com"],
    });
  });

  it("must have another name for another list, so that the balancer moves before the old one goes", async () => {
    const one = await certificate(["api.example.com", "docs.example.com"]);
    const more = await certificate(["api.example.com", "docs.example.com", "shop.example.com"]);
    assert.notEqual(one.made.inputs.name, more.made.inputs.name);
    assert.equal(one.made.name, more.made.name);
    assert.notEqual(more.made.deleteBeforeReplace, true);
  });

  it("must not change with the order of the list", async () => {
    const one = await certificate(["api.example.com", "docs.example.com"]);
    const other = await certificate(["docs.example.com", "api.example.com"]);
    assert.deepEqual(one.made.inputs, other.made.inputs);
  });

  it("must tell the name that the balancer refers to", async () => {
    const { made, certificateName } = await certificate(["api.example.com"]);
    assert.equal((await unwrap(certificateName)).value, made.inputs.name);
  });

  it("must be there before the one that it replaces goes", async () => {
    assert.equal(
      find(
        await capture(() => new Certificate("tls", { domain: "example.com", hosts: ["api.example.com"] })),
        "digitalocean:index/certificate:Certificate",
      ).deleteBeforeReplace,
      false,
    );
  });

  it("must wait for the zone in which it is proved", async () => {
    const { graph, made } = await certificate(["api.example.com"]);
    assert.ok(waitsFor(graph, made, find(graph, DOMAIN)));
  });
});
