import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { parse } from "yaml";

const clone = join(__dirname, "..", "..");

/** What a program does, as the engine starts it. */
async function program(source: string, env: NodeJS.ProcessEnv = {}) {
  const folder = mkdtempSync(join(clone, "test", "unit", "loader-"));
  try {
    const file = join(folder, "index.ts");
    writeFileSync(file, source);
    const { nodeargs } = parse(readFileSync(join(clone, "Pulumi.yaml"), "utf8")).runtime.options;
    return await execa(process.execPath, [...String(nodeargs).split(" "), file], { cwd: clone, env, reject: false });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("the loader", () => {
  it("must load what only serialized functions need when one is serialized, and not before", async () => {
    const { stdout, stderr } = await program(`
      import * as pulumi from "@pulumi/pulumi";
      const loaded = (name: string) => Object.keys(require.cache).some((file) => file.includes(\`/node_modules/\${name}/\`));
      console.log(loaded("typescript"), loaded("@npmcli/arborist"));
      const one = 1;
      pulumi.runtime.serializeFunction(() => one + 1).then(({ text }) => console.log(loaded("typescript"), /one ?\\+ ?1/.test(text)));
    `);
    assert.equal(`${stdout}${stderr}`, "false false\ntrue true");
  });

  it("must name the line of the program, not of what it was made into, where it fails", async () => {
    const { stderr } = await program(`
      require("@pulumi/pulumi/cmd/run/instrumentation");
      interface Erased { message: string }
      const fail = ({ message }: Erased) => { throw new Error(message); };
      fail({ message: "here" });
    `);
    assert.match(stderr, /Error: here\n\s+at fail \(.*index\.ts:4:45\)\n\s+at .*index\.ts:5:7/);
  });

  it("must find the clone's own package by the name that other stacks know it by", async () => {
    const { stdout, stderr } = await program(`
      import { Platform } from "hobnob-platform";
      import { Service } from "hobnob-platform/components/service";
      console.log(typeof Platform, typeof Service);
    `);
    assert.equal(`${stdout}${stderr}`, "function function");
  });

  it("must tell where a promise was made that never ended, whom the SDK would tell it", async () => {
    const source = `
      import * as pulumi from "@pulumi/pulumi";
      const never = { newResource: () => new Promise<never>(() => {}), call: () => ({}) };
      pulumi.runtime.setMocks(never).then(() => new pulumi.CustomResource("test:index:Never", "never", {}));
    `;
    const { stderr } = await program(source, { PULUMI_DEBUG_PROMISE_LEAKS: "1" });
    assert.match(stderr, /STACK_TRACE:\nError\n\s+at .*debuggablePromise/);
    assert.match((await program(source)).stderr, /promises were still active/);
  });

  it("must tell the engine what is only for debugging when the engine would show it", async () => {
    const source = `
      import { Server, ServerCredentials } from "@grpc/grpc-js";
      import * as pulumi from "@pulumi/pulumi";
      import { EngineService } from "@pulumi/pulumi/proto/engine_grpc_pb";
      import { Empty } from "google-protobuf/google/protobuf/empty_pb";
      const server = new Server();
      const log = ({ request }: any, answer: any) => { console.log(request.getMessage()); answer(null, new Empty()); };
      server.addService(EngineService as any, { log });
      server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), async (_, port) => {
        const address = \`127.0.0.1:\${port}\`;
        pulumi.runtime.resetOptions("project", "stack", 1, address, address, false, "organization");
        await pulumi.log.debug("for debugging");
        await pulumi.log.info("for all");
        process.exit();
      });
    `;
    assert.equal((await program(source)).stdout, "for all");
    assert.equal((await program(source, { PULUMI_OPTION_DEBUG: "true" })).stdout, "for debugging\nfor all");
  });
});
