import { keyName, type Violation } from "../violations";

interface Token {
  token?: string;
  access_token?: string;
}

interface Login {
  /** As `registry.server`, such as `docker.io`. */
  server: string;
  repository: string;
  username: string;
  password: string;
}

/** Of the registry's protocol. What answers to `docker.io` is Docker Hub's; a registry on this machine speaks plain HTTP. */
export const registryUrl = (server: string): string =>
  `${/^(localhost|127\.)/.test(server) ? "http" : "https"}://${server === "docker.io" ? "registry-1.docker.io" : server}`;

/**
 * Whether a registry would take a push, as far as it tells: nothing is pushed.
 * Source: https://distribution.github.io/distribution/spec/auth/token/
 * @param url of the registry
 * @throws one line, where it cannot be asked
 */
export async function loginViolations(login: Login, url: string, timeoutMs = 10_000): Promise<Violation[]> {
  const ask = async (address: string | URL, headers: Record<string, string> = {}) =>
    fetch(address, { headers, signal: AbortSignal.timeout(timeoutMs) }).catch((error) => {
      throw new Error(
        `${login.server} cannot be asked (${error.cause?.code ?? error.cause?.message ?? error.message})`,
      );
    });
  const basic = { Authorization: `Basic ${Buffer.from(`${login.username}:${login.password}`).toString("base64")}` };
  const challenge = (await ask(`${url}/v2/`)).headers.get("www-authenticate");
  // One that asks nobody.
  if (!challenge) return [];
  if (/^basic/i.test(challenge)) return judge(login, await ask(`${url}/v2/`, basic));
  return judge(login, await ask(tokenAddress(challenge, `repository:${login.repository}:pull,push`), basic));
}

/** What the registry wants of whoever has no login. @param refused its answer 401 @throws where it lets nobody in without */
export async function anybody(refused: Response, repository: string): Promise<{ authorization: string }> {
  const challenge = refused.headers.get("www-authenticate") ?? "";
  if (!/^bearer/i.test(challenge)) throw new Error("lets nobody in without a login");
  const response = await fetch(tokenAddress(challenge, `repository:${repository}:pull`), {
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) throw new Error(`answered ${response.status} to who has no login`);
  const { token, access_token } = (await response.json()) as Token;
  return { authorization: `Bearer ${token ?? access_token}` };
}

function tokenAddress(challenge: string, scope: string): URL {
  const { realm = "", service = "" } = Object.fromEntries(
    [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = "", value = ""]) => [name, value]),
  );
  const address = new URL(realm);
  address.search = String(new URLSearchParams({ service, scope }));
  return address;
}

async function judge(login: Login, response: Response): Promise<Violation[]> {
  const { server, repository, username } = login;
  const refused = (given: string, allowed: string): Violation[] => [
    { key: keyName(["registryPassword"]), given, allowed, command: "" },
  ];
  if (response.status === 401 || response.status === 403) {
    const given = `a secret that ${server} does not take of ${JSON.stringify(username)} (${response.status})`;
    return refused(given, "the password or a token of that user, not expired");
  }
  if (!response.ok) throw new Error(`${server} cannot be asked (${response.status})`);
  const answer = (await response.json().catch(() => ({}))) as Token;
  return mayPush(answer, repository)
    ? []
    : refused(`a secret with which ${server} lets nobody push to ${repository}`, `one that may push to ${repository}`);
}

/** A registry's token names what it allows; of one that cannot be read nothing is known. */
function mayPush({ token, access_token }: Token, repository: string): boolean {
  const [, payload = ""] = (token ?? access_token ?? "").split(".");
  try {
    const { access } = JSON.parse(Buffer.from(payload, "base64url").toString()) as {
      access?: { name: string; actions: string[] }[];
    };
    return !access || access.some(({ name, actions }) => name === repository && /push|\*/.test(actions.join()));
  } catch {
    return true;
  }
}
