import { execa } from "execa";
import { cloneDirectory } from "./paths";

/** From the quickest to the slowest. */
const specs = [
  "test/unit/**/*.test.ts",
  "examples/*/test/**/*.test.ts",
  "templates/*/test/**/*.test.ts",
  "test/verify/**/*.test.ts",
  "test/checkers/**/*.test.ts",
  "test/aws/**/*.test.ts",
  "test/app/**/*.test.ts",
  "test/local/**/*.test.ts",
];

/** The checks, then every test; arguments go to mocha (`npm test -- --grep ingress`). */
export async function runTests(args: string[]): Promise<number> {
  const options = { cwd: cloneDirectory, preferLocal: true, stdio: "inherit", reject: false } as const;
  console.log("Checks (about 15 s), unit tests (about 3 min), tests on the embedded platform (about 25 min):");
  const checks = await execa("npm", ["run", "--silent", "check"], options);
  const failedChecks = checks.exitCode === 0 ? 0 : 1;
  const tests = await execa("mocha", [...specs, ...args], { ...options, env: { FAILED_CHECKS: String(failedChecks) } });
  return checks.exitCode || (tests.exitCode ?? 1);
}
