import { randomBytes } from "node:crypto";
import { type Check, Miss, miss, pass, type Run } from "./checks";
import type { Client } from "./client";

export const API_PODS = "api: each pod is ready";
export const API_USER = "api: writes, reads and deletes a user";

export interface Replicas {
  /** As many as are configured. */
  replicas: number;
  pods: Client[];
}

export function apiPodsCheck(find: () => Promise<Replicas>): Check {
  return {
    name: API_PODS,
    async run({ signal }) {
      const { replicas, pods } = await find();
      const faults = await Promise.all(
        pods.map((pod) =>
          pod.expect(200, "GET", "/readyz", { signal }).then(
            () => undefined,
            (error: Error) => error.message,
          ),
        ),
      );
      const wrong = faults.filter((fault) => fault !== undefined);
      if (pods.length !== replicas) wrong.unshift(`${pods.length} pods instead of the ${replicas} configured`);
      return wrong.length > 0 ? miss(wrong.join("; ")) : pass(pods.map(({ name }) => name).join(", "));
    },
  };
}

/** @param find gives who stands for the API: its public host, or one of its pods */
export function apiUserCheck(find: () => Promise<Client>, needs: string[]): Check {
  return { name: API_USER, needs, run: async (run) => writeReadDelete(await find(), run) };
}

async function writeReadDelete(api: Client, { cleanUp, signal }: Run) {
  const user = { id: `verify-${randomBytes(6).toString("hex")}`, name: "Acceptance" };
  const path = `/users/${user.id}`;
  let token: string | undefined;
  const remove = () => api.ask("DELETE", path, { headers: { authorization: `Bearer ${token}` } });
  cleanUp(`user ${user.id}`, async () => {
    if (token === undefined) return;
    const { status } = await remove();
    if (status !== 204 && status !== 404) throw new Miss(`${api.name} answers its deletion with ${status}`);
  });
  // Whoever gives up here does not get the token, without which nobody can delete the user.
  const created = await api.expect(201, "POST", "/users", { body: user });
  token = created.json?.token;
  if (!token) return miss(`${api.name} creates a user without a token`);
  const { json } = await api.expect(200, "GET", path, { signal });
  if (json?.name !== user.name) return miss(`${api.name} reads another user than was written`);
  const deleted = await remove();
  if (deleted.status !== 204) return miss(`${api.name} answers DELETE ${path} with ${deleted.status} instead of 204`);
  token = undefined;
  await api.expect(404, "GET", path, { signal });
  return pass(`through ${api.name}`);
}
