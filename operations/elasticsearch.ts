/** One Elasticsearch cluster, asked at one of its nodes. */
export interface Elasticsearch {
  /** @throws where the answer is an error, with Elasticsearch's own words. */
  // biome-ignore lint/suspicious/noExplicitAny: answers have as many shapes as there are calls
  ask(method: string, path: string, body?: object): Promise<any>;
}

/** @param headers of every request, such as `authorization` */
export function elasticsearchAt(url: string, headers: Record<string, string> = {}): Elasticsearch {
  return {
    async ask(method, path, body) {
      const response = await fetch(url + path, {
        method,
        headers: { "content-type": "application/json", ...headers },
        ...(body && { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      const answer = parsed(text);
      if (response.ok) return answer;
      throw new Error(`${method} ${path}: ${response.status} ${answer?.error?.reason ?? text}`);
    },
  };
}

function parsed(text: string) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
