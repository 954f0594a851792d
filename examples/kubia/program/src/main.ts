import { ambassador } from "./ambassador";
import { batch } from "./batch";
import { fortune } from "./fortune";
import { monitor } from "./monitor";
import { pods } from "./pods";
import { replica } from "./replica";

const jobs: Record<string, (env: NodeJS.ProcessEnv) => void | Promise<void>> = {
  ambassador,
  batch,
  fortune,
  monitor,
  pods,
  replica,
};

const [name = ""] = process.argv.slice(2);
const job = jobs[name];
if (job) job(process.env);
else {
  console.error(`Given: ${name || "no job"}; allowed: ${Object.keys(jobs).join(", ")}`);
  process.exitCode = 2;
}
