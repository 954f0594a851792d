import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import { addServices } from "../addServices";

import platform = require("../../../index");

/** The platform as it is, and `bench:services` further services on its cluster, by the same provider. */
export = async () => {
  let provider: k8s.Provider | undefined;
  pulumi.runtime.registerStackTransformation(({ resource }) => {
    if (resource instanceof k8s.Provider) provider = resource;
    return undefined;
  });
  const outputs = await platform();
  addServices(new pulumi.Config("bench").requireNumber("services"), provider);
  return outputs;
};
