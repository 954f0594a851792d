import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { V1Container, V1HTTPGetAction, V1Probe } from "@kubernetes/client-node";

export type ProbeKind = "Startup" | "Readiness" | "Liveness";

/** What a probe, or a hook, is done to. */
export interface Target {
  spec: V1Container;
  /** Where its process listens. */
  address: string;
  /** @return what was said and the exit code; none where it took too long. */
  exec(command: string[], seconds: number): Promise<{ code?: number; output: string }>;
}

/**
 * Asks in the probe's own periods and tells each verdict that reached its threshold, until the signal.
 *
 * @param failed takes each single failure.
 */
export async function watchProbe(
  probe: V1Probe,
  target: Target,
  signal: AbortSignal,
  verdict: (ok: boolean) => void,
  failed: (message: string) => void,
): Promise<void> {
  const { initialDelaySeconds = 0, periodSeconds = 10, timeoutSeconds = 1 } = probe;
  const { successThreshold = 1, failureThreshold = 3 } = probe;
  let last: boolean | undefined;
  let times = 0;
  try {
    await sleep(initialDelaySeconds * 1000, undefined, { signal });
    while (!signal.aborted) {
      const next = Date.now() + periodSeconds * 1000;
      const problem = await ask(probe, target, timeoutSeconds).catch((error: Error) => error.message || String(error));
      if (signal.aborted) return;
      const ok = problem === undefined;
      times = ok === last ? times + 1 : 1;
      last = ok;
      if (!ok) failed(problem);
      if (times >= (ok ? successThreshold : failureThreshold)) verdict(ok);
      await sleep(Math.max(0, next - Date.now()), undefined, { signal });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** One question. @return what is wrong, if anything is. */
async function ask(probe: V1Probe, target: Target, seconds: number): Promise<string | undefined> {
  if (probe.exec) {
    const { code, output } = await target.exec(probe.exec.command ?? [], seconds);
    if (code === undefined) return `command timed out after ${seconds}s`;
    return code === 0 ? undefined : output.trim() || `exit code ${code}`;
  }
  if (probe.httpGet) return get(probe.httpGet, target, seconds);
  if (probe.tcpSocket) return reach(portOf(probe.tcpSocket.port, target), target, seconds);
  return "real pods here have no probes of this kind";
}

/** Also what an `httpGet` hook does. */
export function get(action: V1HTTPGetAction, target: Target, seconds: number): Promise<string | undefined> {
  const request = action.scheme === "HTTPS" ? httpsRequest : httpRequest;
  const headers = Object.fromEntries((action.httpHeaders ?? []).map(({ name, value }) => [name, value]));
  return new Promise((resolve) => {
    const sent = request(
      {
        host: target.address,
        port: portOf(action.port, target),
        path: action.path ?? "/",
        headers: { "user-agent": "kube-probe/1", connection: "close", ...headers },
        agent: false,
        rejectUnauthorized: false,
        signal: AbortSignal.timeout(seconds * 1000),
      },
      (response) => {
        response.resume();
        const { statusCode = 0 } = response;
        resolve(statusCode >= 200 && statusCode < 400 ? undefined : `HTTP probe failed with statuscode: ${statusCode}`);
      },
    );
    sent.on("error", (error) => resolve(error.message)).end();
  });
}

function reach(port: number, { address }: Target, seconds: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: seconds * 1000 });
    const end = (problem?: string) => {
      socket.destroy();
      resolve(problem);
    };
    socket.once("connect", () => end());
    socket.once("timeout", () => end("i/o timeout"));
    socket.once("error", (error) => end(error.message));
  });
}

function portOf(port: number | string, { spec }: Target): number {
  const named = spec.ports?.find(({ name }) => name === port)?.containerPort;
  return named ?? Number(port);
}
