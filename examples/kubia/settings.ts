import { imageKeys, imageRules, readSettings as read } from "hobnob-platform/settings";
import { z } from "zod";

const REPLICAS = "a whole number of 2 to 100";
const LABELS = "labels of machines, one or more, such as { disk: ssd }";

const keys = {
  ...imageKeys,
  /** Pods of the app. */
  replicas: z.int(REPLICAS).min(2, REPLICAS).max(100, REPLICAS).default(3),
  /** Labels of the machines that are monitored. */
  monitoredNodes: z
    .record(z.string(), z.string(LABELS), LABELS)
    .refine((labels) => Object.keys(labels).length > 0, LABELS)
    .default({ disk: "ssd" }),
};

/** The stack's settings with their defaults. */
export const readSettings = () => read(keys, imageRules);
