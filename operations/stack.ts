/** `npm run stack -- <stack> <pulumi command> [flags]`: the command, after what an earlier run left has been resolved. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { parse } from "yaml";
import { runCommand } from "./command";
import { releaseDeadLock } from "./lock";
import { engineSettings, type Runner, recover } from "./recovery";
import { adviceAfterFailure, releaseIn } from "./release";

const project = join(__dirname, "..");
const usage = `npm run stack -- <stack> up|destroy|refresh|preview [pulumi's own flags]
For example: npm run stack -- dev up`;

async function main([stack, command, ...flags]: string[]): Promise<number> {
  if (!stack || !command || command.startsWith("-")) {
    console.error(usage);
    return 1;
  }
  const environment = { ...process.env, ...engineSettings(process.env) };
  const run = { cwd: project, env: environment };
  const runner: Runner = {
    stack,
    environment,
    async pulumi([first = "", ...rest], input) {
      const options = { ...run, stderr: ["pipe", "inherit"], ...(input !== undefined && { input }) } as const;
      const { stdout } = await execa("pulumi", [first, ...rest, "--stack", stack], options);
      return stdout;
    },
    say: (line) => console.error(line),
  };
  const { name } = parse(readFileSync(join(project, "Pulumi.yaml"), "utf8"));
  const { stdout } = await execa("pulumi", ["whoami", "--json"], run);
  const wasKilled = await releaseDeadLock(runner, (JSON.parse(stdout) as { url: string }).url, name);
  const more = await recover(runner, command, wasKilled);
  const all = [command, "--stack", stack, ...more, ...flags];
  const { exitCode = 1 } = await execa("pulumi", all, { ...run, stdio: "inherit", reject: false });
  if (exitCode !== 0 && /^up(date)?$/.test(command)) {
    const advice = await runner
      .pulumi(["stack", "export"])
      .then((state) => adviceAfterFailure(releaseIn(state), stack));
    if (advice) console.error(`\n${advice}`);
  }
  return exitCode;
}

runCommand(main);
