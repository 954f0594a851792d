import { setTimeout as sleep } from "node:timers/promises";
import { log, seconds } from "./server";

const QUESTIONS = 20;

/** Asks the replicas, each time on another connection, tells how often each has answered, and ends. Fails where nobody does. */
export async function batch(env: NodeJS.ProcessEnv): Promise<void> {
  const until = Date.now() + seconds(env) * 1000;
  const answers: Record<string, number> = {};
  for (let asked = 0; asked < QUESTIONS; ) {
    try {
      const response = await fetch(env.URL ?? "", {
        headers: { connection: "close" },
        signal: AbortSignal.timeout(5000),
      });
      const text = (await response.text()).trim();
      if (response.status !== 200) throw new Error(`status ${response.status}`);
      answers[text] = (answers[text] ?? 0) + 1;
      asked++;
    } catch (error) {
      if (Date.now() > until) throw error;
      await sleep(500);
    }
  }
  log({ asked: QUESTIONS, answers });
}
