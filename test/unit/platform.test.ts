import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import {
  contract,
  contractVersion,
  type OutputName,
  outputMeta,
  Platform,
  type PlatformOutputs,
  releases,
} from "../../platform";
import { contractRecord, lost, type OutputRecord, outputReference, recordFile } from "../../scripts/outputReference";
import { capture, find, unwrap } from "./graph";
import { platformOutputs, platformStack } from "./platformOutputs";

const root = join(__dirname, "..", "..");
const names = Object.keys(contract.shape) as OutputName[];

type Same<A, B> = [A, B] extends [B, A] ? true : false;
/** The types that were promised; one that is gone or another does not compile. Never edit a line of a released version. */
const promised: {
  1: Same<
    Pick<
      PlatformOutputs,
      | "contractVersion"
      | "apiUrl"
      | "docsUrl"
      | "ingressAddress"
      | "nameServers"
      | "coveredHosts"
      | "clusterId"
      | "clusterName"
      | "kubeconfig"
      | "storageClass"
      | "ingressClass"
      | "namespace"
      | "elasticsearchUrl"
      | "elasticsearchCa"
      | "pullSecretName"
    >,
    Record<
      | "apiUrl"
      | "docsUrl"
      | "ingressAddress"
      | "clusterId"
      | "clusterName"
      | "kubeconfig"
      | "storageClass"
      | "ingressClass"
      | "namespace"
      | "elasticsearchUrl"
      | "elasticsearchCa"
      | "pullSecretName",
      string
    > &
      Record<"nameServers" | "coveredHosts", string[]> & { contractVersion: number }
  >;
  images: PlatformOutputs["images"] extends { backend: string } ? true : false;
  2: Same<
    Pick<
      PlatformOutputs,
      | "domain"
      | "zone"
      | "ingressNamespace"
      | "ingressIpv6"
      | "ingressProxyRange"
      | "ingressCustomResources"
      | "ingressExpose"
      | "spread"
      | "nodeSelector"
      | "apiServer"
    >,
    Record<"domain" | "zone" | "ingressNamespace" | "ingressIpv6" | "ingressProxyRange", string> & {
      ingressCustomResources: boolean;
      ingressExpose: "LoadBalancer" | "NodePort" | "HostPort";
      spread: "hard" | "soft";
      nodeSelector: Record<string, string>;
      apiServer: "cilium" | "ports";
    }
  >;
  registry: PlatformOutputs["registry"] extends {
    server: string;
    clusterServer: string;
    private: boolean;
    anonymous: boolean;
  }
    ? true
    : false;
  monthlyCost: PlatformOutputs["monthlyCost"] extends {
    priced: boolean;
    currency: string;
    minimum: number;
    maximum: number;
  }
    ? true
    : false;
  secretNamespaces: Same<PlatformOutputs["ingressSecretNamespaces"], string[]>;
} = { 1: true, images: true, 2: true, registry: true, monthlyCost: true, secretNamespaces: true };

describe("the contract", () => {
  const recorded = (version: number): OutputRecord => JSON.parse(readFileSync(recordFile(version), "utf8"));

  for (const version of Object.keys(releases).map(Number)) {
    it(`must keep every output of version ${version}, its type, its secrecy, and since when it is there`, () => {
      assert.deepEqual(
        lost(recorded(version), contractRecord()),
        [],
        "an output of a released version only ever stays",
      );
      assert.ok(Object.values(promised).every(Boolean));
    });
  }

  it("must tell what is gone, another type, no secret any more, or only sometimes there", () => {
    const now = recorded(contractVersion);
    const { domain: _, ...properties } = now.properties ?? {};
    const required = (now.required ?? []).filter((name) => name !== "zone");
    const changed = {
      ...now,
      required,
      properties: { ...properties, spread: { type: "boolean", since: 2 }, kubeconfig: { type: "string", since: 1 } },
    };
    assert.deepEqual(lost(now, changed), [
      "kubeconfig: secret was true, is undefined",
      "domain is gone",
      'spread: type was "string", is "boolean"',
      'spread: enum was ["hard","soft"], is undefined',
      "zone may be missing",
    ]);
  });

  it("must be recorded as it is, and have a page that says what it says", () => {
    assert.deepEqual(recorded(contractVersion), contractRecord(), "run: npm run docs");
    assert.equal(readFileSync(join(root, "docs", "outputs.md"), "utf8"), outputReference(), "run: npm run docs");
  });

  it("must have come with a release of the package that is not to come", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    assert.equal(releases[contractVersion], version);
    for (const name of names) assert.ok(outputMeta(name).since in releases, name);
  });
});

describe("a platform stack, seen from another", () => {
  const STACK = "acme/hobnob/prod";
  type Seen = Awaited<ReturnType<typeof unwrap>>;

  /** What a stack on this platform reads of it. */
  const read = async (name: OutputName, changes: Parameters<typeof platformStack>[0] = {}): Promise<Seen> => {
    let output: pulumi.Output<unknown> | undefined;
    await capture(
      () => {
        output = new Platform(STACK).output(name);
      },
      { project: "shop", stack: "live", mocks: { resource: platformStack(changes) } },
    );
    assert.ok(output);
    return unwrap(output);
  };
  const refusal = async (name: OutputName, changes: Parameters<typeof platformStack>[0]): Promise<string> => {
    const error = await read(name, changes).then(
      () => assert.fail(`${name} was taken`),
      (reason) => reason,
    );
    assert.ok(pulumi.RunError.isInstance(error), `has a stack trace: ${error}`);
    return error.message;
  };

  for (const name of names) {
    it(`must give ${name} as it is, ${outputMeta(name).secret ? "secret" : "not secret"}`, async () => {
      const { value, secret, known } = await read(name);
      assert.deepEqual(value, platformOutputs[name]);
      assert.deepEqual({ secret, known }, { secret: outputMeta(name).secret === true, known: true });
    });

    it(`must refuse a platform without ${name}, and say what has it`, async () => {
      const { since } = outputMeta(name);
      const message = await refusal(name, { [name]: undefined });
      const allowed = `what contract version ${since} has, which came with hobnob-platform ${releases[since]}`;
      for (const part of [
        STACK,
        "stack live",
        name,
        allowed,
        `npm run stack -- prod up, in hobnob-platform ${releases[since]}`,
      ])
        assert.ok(message.includes(part), `${part} is not in: ${message}`);
    });

    it(`must refuse another shape of ${name}`, async () => {
      assert.match(
        await refusal(name, { [name]: Number.NaN }),
        new RegExp(`${name}\n    given: .*\n    allowed: .*expected`),
      );
    });
  }

  it("must give a plain value too, for what decides which resources there are, or refuse as it refuses an output", async () => {
    const value = async (changes: Parameters<typeof platformStack>[0], preview = false) => {
      let found: unknown;
      const program = async () => {
        found = await new Platform(STACK).value("apiServer");
      };
      await capture(program, { preview, mocks: { resource: platformStack(changes) } });
      return found;
    };
    assert.deepEqual([await value({}), await value({ apiServer: "ports" }, true)], ["cilium", "ports"]);
    await assert.rejects(value({ apiServer: undefined }), (error: Error) =>
      /apiServer\n {4}given: {3}nothing/.test(error.message),
    );
    await assert.rejects(value({ apiServer: "none" }), (error) => pulumi.RunError.isInstance(error));
  });

  it("must say of an older platform which version it has", async () => {
    assert.equal(
      await refusal("domain", { contractVersion: 1, domain: undefined }),
      `The stack live stands on an output that the platform stack acme/hobnob/prod does not have:

  domain
    given:   nothing; the stack has contract version 1
    allowed: what contract version 2 has, which came with hobnob-platform 0.2.0
    command: npm run stack -- prod up, in hobnob-platform 0.2.0 or newer
`,
    );
  });

  it("must say of a stack without any output that it was never deployed", async () => {
    const nothing = Object.fromEntries(names.map((name) => [name, undefined]));
    assert.match(
      await refusal("apiUrl", nothing),
      /given: {3}nothing, nor a contract version: the stack was never deployed/,
    );
  });

  it("must stand on a newer platform, which only has more", async () => {
    const newer = { contractVersion: 99, registry: { ...platformOutputs.registry, region: "fra1" }, more: true };
    assert.deepEqual((await read("registry", newer)).value, platformOutputs.registry);
    assert.equal((await read("contractVersion", newer)).value, 99);
  });

  it("must keep secret what the contract calls so, whatever the platform calls it, and never print it", async () => {
    assert.doesNotMatch(await refusal("kubeconfig", { kubeconfig: 4711 }), /4711/);
    let output: pulumi.Output<string> | undefined;
    const outputs = { ...platformOutputs };
    await capture(
      () => {
        output = new Platform(STACK).output("kubeconfig");
      },
      { mocks: { resource: ({ name }) => ({ id: name, state: { name, outputs, secretOutputNames: [] } }) } },
    );
    assert.equal(output && (await unwrap(output)).secret, true);
  });

  it("must be named in full", () => {
    for (const name of ["prod", "hobnob/prod", "", "a/b/c/d", "acme/hobnob/"]) {
      assert.throws(
        () => new Platform(name),
        (error) =>
          pulumi.RunError.isInstance(error) &&
          /acme\/hobnob\/prod\n {2}command: pulumi stack ls --all/.test(error.message),
      );
    }
  });

  it("must speak to the cluster as the platform does: with the settings of its provider, and no token", async () => {
    const graph = await capture(
      () => {
        new Platform(STACK).provider("platform");
      },
      { mocks: { resource: platformStack() } },
    );
    const { inputs, secrets } = find(graph, "pulumi:providers:kubernetes", "platform");
    assert.deepEqual(inputs, {
      kubeconfig: platformOutputs.kubeconfig,
      clusterIdentifier: platformOutputs.clusterId,
      enablePatchForce: "true",
      enableSecretMutable: "true",
    });
    assert.deepEqual(secrets, ["kubeconfig"]);
  });
});
