import { imageKeys, imageRules, readSettings as read } from "hobnob-platform/settings";
import { z } from "zod";

const REPLICAS = "a whole number of 2 to 100";

const keys = {
  ...imageKeys,
  /** Pods of the page's server. */
  replicas: z.int(REPLICAS).min(2, REPLICAS).max(100, REPLICAS).default(2),
};

/** The stack's settings with their defaults. */
export const readSettings = () => read(keys, imageRules);
