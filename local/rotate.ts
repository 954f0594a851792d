import { join } from "node:path";
import { execa } from "execa";
import { type RotatedStack, rotations } from "../operations/rotate";
import { kubernetesCluster } from "../verify/cluster";
import { pulumiIn, stackOutputs } from "../verify/stack";
import { cloneDirectory } from "./paths";

const usage = () => `npm run rotate -- <stack> <what>, of which there is:
${Object.entries(rotations)
  .map(([name, { what }]) => `  ${name.padEnd(14)} ${what}`)
  .join("\n")}`;

/** Changes one of a stack's secrets by the commands that its user has, of `local` as of any other. */
export async function rotateStack([name, what, ...more]: string[]): Promise<number> {
  const rotation = rotations[what ?? ""];
  if (!name || !rotation || more.length > 0) {
    console.error(usage());
    return 1;
  }
  if (name === "local" && what !== "elasticsearch") {
    throw new Error(
      "The stack local has its registry, account and cluster from this clone: it rotates elasticsearch only",
    );
  }
  await rotation.rotate(name === "local" ? localStack() : anyStack(name));
  return 0;
}

type Run = (file: string, args: string[], asks?: boolean) => Promise<string>;

const run: Run = async (file, args, asks = false) => {
  const stdout = asks ? ["inherit" as const, "pipe" as const] : "pipe";
  const options = { cwd: cloneDirectory, stdin: asks ? "inherit" : "ignore", stdout, stderr: "inherit" } as const;
  const result = await execa(file, args, { ...options, reject: false });
  if (result.exitCode === 0) return String(result.stdout);
  throw new Error(
    `${[file, ...args].join(" ")} failed; it says why above. What has been changed is kept: repeat the command`,
  );
};

const update: Run = async (file, args) => {
  const { exitCode } = await execa(file, args, { cwd: cloneDirectory, stdio: "inherit", reject: false });
  if (exitCode === 0) return "";
  throw new Error("The update failed; it says why above. Once that is mended, the same rotation goes on where it was");
};

const COMMON = { cluster: kubernetesCluster, say: (line: string) => console.error(line) };

function anyStack(name: string): RotatedStack {
  return {
    ...COMMON,
    name,
    pulumi: (args, asks) => run("pulumi", [...args, "--stack", name], asks),
    up: async () =>
      void (await update("npm", ["run", "--silent", "stack", "--", name, "up", "--yes", "--skip-preview"])),
    outputs: () => stackOutputs(name, pulumiIn(cloneDirectory), `npm run stack -- ${name} up`),
  };
}

function localStack(): RotatedStack {
  const local = (...args: string[]) => [join(cloneDirectory, "local", "bootstrap.mjs"), "local", ...args];
  return {
    ...COMMON,
    name: "local",
    pulumi: (args) => run(process.execPath, local(...args)),
    up: async () => void (await update(process.execPath, local("up", "--yes", "--skip-preview"))),
    outputs: async () => JSON.parse(await run(process.execPath, local("stack", "output", "--json", "--show-secrets"))),
  };
}
