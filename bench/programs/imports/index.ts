import * as digitalocean from "@pulumi/digitalocean";
import * as docker from "@pulumi/docker";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import * as tls from "@pulumi/tls";

/** Secret, as the platform's is. */
const kubeconfig = new pulumi.Config().getSecret("kubeconfig");

new k8s.Provider("cluster", { kubeconfig, enablePatchForce: true, enableSecretMutable: true });
new digitalocean.Provider("digitalocean");
new docker.Provider("docker");
new random.Provider("random");
new tls.Provider("tls");
