export interface User {
  id: string;
  name: string;
  about?: string;
  createdAt: string;
}

export interface Page {
  users: User[];
  /** Where the next page begins; absent on the last one. */
  next?: string;
}

/** What went wrong, in words for the one who looks at the page. */
export class ApiProblem extends Error {
  /** @param status of the answer; 0 where there was none */
  constructor(
    message: string,
    readonly status = 0,
  ) {
    super(message);
  }
}

const TIMEOUT_MS = 10_000;
const UNREACHABLE = "hobnob can’t be reached right now. Check your connection, or try again in a moment.";
const BUSY = "hobnob is busy right now. Try again in a few seconds.";

let apiUrl: Promise<string> | undefined;

/** The image knows no stage: its server tells where the API is. */
function findApi(): Promise<string> {
  const found = fetch("/config.json")
    .then((answer) => answer.json())
    .then((config: { apiUrl: string }) => config.apiUrl);
  // The next try asks again.
  found.catch(() => {
    apiUrl = undefined;
  });
  return found;
}

async function ask<T>(path: string, init: RequestInit = {}): Promise<T> {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout;
  let answer: Response;
  try {
    apiUrl ??= findApi();
    answer = await fetch(`${await apiUrl}${path}`, { ...init, signal });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiProblem(UNREACHABLE);
  }
  if (answer.ok) return answer.json();
  if (answer.status === 429 || answer.status >= 500) throw new ApiProblem(BUSY, answer.status);
  const { message } = await answer.json().catch(() => ({ message: "That did not work." }));
  throw new ApiProblem(message, answer.status);
}

/** @param signal that is aborted when nobody waits for the answer any more */
export function search(query: string, after: string | undefined, signal: AbortSignal): Promise<Page> {
  const parameters = new URLSearchParams({ limit: "20" });
  if (query) parameters.set("query", query);
  if (after) parameters.set("after", after);
  return ask(`/users?${parameters}`, { signal });
}

export function signUp(user: Pick<User, "id" | "name" | "about">): Promise<{ id: string; token: string }> {
  return ask("/users", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(user),
  });
}
