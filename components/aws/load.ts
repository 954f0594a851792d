import * as pulumi from "@pulumi/pulumi";

/** The version that the tests check against. */
export const SDK = "@pulumi/aws@7.48.0";

/**
 * What is AWS's, with its SDK: 84 MB, which no other stack installs or loads.
 * @throws RunError where the SDK is not installed
 */
export function loadAws(): typeof import("./index") {
  try {
    return require("./index");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "MODULE_NOT_FOUND" || !message.includes("'@pulumi/aws")) throw error;
    throw new pulumi.RunError(
      `hobnob:cluster.provider is aws, whose package is not installed\n  command: npm install ${SDK}`,
    );
  }
}
