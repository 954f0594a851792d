export { AwsCluster } from "./cluster";
export { Route53Zone } from "./dns";
