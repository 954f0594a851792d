import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** The clone that this code stands in. */
export const cloneDirectory = resolve(__dirname, "..");

/** What one clone's embedded platform keeps: engine state, account, registry, cluster, logs. `HOBNOB_LOCAL_STATE` moves it. */
export const stateDirectory = (): string => process.env.HOBNOB_LOCAL_STATE ?? join(cloneDirectory, ".local");

/** Built and downloaded tools, shared by all clones of one user. */
export const cacheDirectory = (): string => join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "hobnob");
