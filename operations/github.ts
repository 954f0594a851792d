/** Where a comment or an issue goes; from the environment of a workflow. */
export interface Repository {
  /** @default `https://api.github.com` */
  api: string;
  /** `owner/name` */
  name: string;
  token: string;
}

interface Item {
  number: number;
  id: number;
  body?: string | null;
  pull_request?: object;
}

/** @throws one line that names what is missing */
export function repositoryOf(env: NodeJS.ProcessEnv): Repository {
  const { GITHUB_API_URL: api = "https://api.github.com", GITHUB_REPOSITORY: name, GITHUB_TOKEN: token } = env;
  const missing = Object.entries({ GITHUB_REPOSITORY: name, GITHUB_TOKEN: token }).filter(([, value]) => !value);
  if (!name || !token) throw new Error(`Missing in the environment: ${missing.map(([key]) => key).join(", ")}`);
  return { api, name, token };
}

/** Updates the pull request's comment that carries `marker`, or makes it. */
export async function upsertComment(at: Repository, pull: number, marker: string, body: string): Promise<void> {
  const found = await find(at, `issues/${pull}/comments?`, (one) => one.body?.startsWith(marker) ?? false);
  if (found) await ask(at, "PATCH", `issues/comments/${found.id}`, { body });
  else await ask(at, "POST", `issues/${pull}/comments`, { body });
}

/** Opens the one issue that carries `marker`, updates it, or closes it where there is nothing to say any more. */
export async function upsertIssue(
  at: Repository,
  marker: string,
  issue: { title: string; body: string } | undefined,
): Promise<void> {
  const found = await find(at, "issues?state=open&", (one) => !one.pull_request && !!one.body?.startsWith(marker));
  if (issue && found) await ask(at, "PATCH", `issues/${found.number}`, issue);
  else if (issue) await ask(at, "POST", "issues", issue);
  else if (found) await ask(at, "PATCH", `issues/${found.number}`, { state: "closed", state_reason: "completed" });
}

async function find(at: Repository, path: string, is: (one: Item) => boolean): Promise<Item | undefined> {
  for (let page = 1; ; page++) {
    const items = (await ask(at, "GET", `${path}per_page=100&page=${page}`)) as Item[];
    const found = items.find(is);
    if (found || items.length < 100) return found;
  }
}

async function ask({ api, name, token }: Repository, method: string, path: string, body?: object): Promise<unknown> {
  const response = await fetch(`${api}/repos/${name}/${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, accept: "application/vnd.github+json" },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok)
    throw new Error(`GitHub answered ${response.status} to ${method} ${path}: ${await response.text()}`);
  return response.json();
}
