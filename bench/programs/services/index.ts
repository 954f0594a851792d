import * as pulumi from "@pulumi/pulumi";
import { Platform } from "hobnob-platform";
import { addServices } from "../addServices";

const config = new pulumi.Config();
const platform = new Platform(config.require("platform"));
addServices(config.requireNumber("count"), platform.provider("platform"), {
  spread: platform.output("spread"),
  nodeSelector: platform.output("nodeSelector"),
});
