import * as pulumi from "@pulumi/pulumi";

export interface BalancerArgs {
  /** Its name in the account, where the cloud takes one. */
  name: string;
  /** Nodes of the balancer, where the cloud counts them. */
  sizeUnit: number;
  /** Certificate with which the balancer ends TLS, as the cloud names it; without one there is no port 443. */
  certificateName?: pulumi.Input<string>;
  /** Addresses of a balancer that passes on a client's address in a header: only these are believed about it. */
  vpcRange?: pulumi.Input<string>;
}

/** How a cloud is asked for the balancer of a Service, and what the controller behind it must know. */
export interface Balancer {
  annotations(args: BalancerArgs): Record<string, pulumi.Input<string>>;
  loadBalancerClass?: string;
  /** Whether it redirects HTTP by itself; else the controller does, on a port of its own. */
  redirects: boolean;
  /** Of the two, what the Service's status tells. */
  addressedBy: "ip" | "hostname";
  /** NGINX's settings, by which it knows the client's address and scheme. */
  nginx(args: BalancerArgs): Record<string, pulumi.Input<string>>;
  /** Labels of the controller's namespace. */
  namespaceLabels?: Record<string, string>;
  /** For so long requests still come to a pod that was told to go. */
  drainSeconds: number;
  /** Annotations that make another balancer when they change. */
  replacedBy: string[];
}

/** Where `redirects` is false. */
export const REDIRECT_PORT = 8088;

const DIGITALOCEAN = "service.beta.kubernetes.io/do-loadbalancer-";

/** https://github.com/digitalocean/digitalocean-cloud-controller-manager/blob/master/docs/controllers/services/annotations.md */
const digitalocean: Balancer = {
  annotations: ({ name, sizeUnit, certificateName }) => ({
    [`${DIGITALOCEAN}name`]: name,
    // The default, REGIONAL_NETWORK, works on packets: no TLS, no redirect, no X-Forwarded-For.
    [`${DIGITALOCEAN}type`]: "REGIONAL",
    [`${DIGITALOCEAN}size-unit`]: String(sizeUnit),
    [`${DIGITALOCEAN}protocol`]: "http",
    // Else it writes its own A records for the certificate's names.
    [`${DIGITALOCEAN}disable-lets-encrypt-dns-records`]: "true",
    ...(certificateName !== undefined && {
      [`${DIGITALOCEAN}tls-ports`]: "443",
      [`${DIGITALOCEAN}certificate-name`]: certificateName,
      [`${DIGITALOCEAN}redirect-http-to-https`]: "true",
    }),
  }),
  redirects: true,
  addressedBy: "ip",
  nginx: ({ vpcRange, certificateName }) => ({
    // Tells the applications that the scheme is https, which only the balancer's header knows.
    ...(certificateName !== undefined && { "redirect-to-https": "true" }),
    ...(vpcRange !== undefined && {
      // Of another stack's platform the range may be empty, which NGINX would not start with: then only itself is believed.
      "set-real-ip-from": pulumi.output(vpcRange).apply((range) => range || "127.0.0.1"),
      "real-ip-header": "X-Forwarded-For",
      "real-ip-recursive": "true",
    }),
  }),
  // The balancer's health check takes 3 × 3 s to notice, so a pod serves on for longer than that after it was told to go.
  drainSeconds: 20,
  replacedBy: [`${DIGITALOCEAN}type`],
};

const AWS = "service.beta.kubernetes.io/aws-load-balancer-";

/**
 * The Network Load Balancer that EKS Auto Mode makes. It works on packets, so that NGINX sees the client itself as its peer
 * and believes no header. https://docs.aws.amazon.com/eks/latest/userguide/auto-configure-nlb.html
 */
const aws: Balancer = {
  annotations: ({ certificateName }) => ({
    [`${AWS}scheme`]: "internet-facing",
    [`${AWS}nlb-target-type`]: "ip",
    // A zone without a pod of the controller still answers.
    [`${AWS}attributes`]: "load_balancing.cross_zone.enabled=true",
    // Of targets by address it is off by default.
    [`${AWS}target-group-attributes`]: "preserve_client_ip.enabled=true",
    ...(certificateName !== undefined && { [`${AWS}ssl-cert`]: certificateName, [`${AWS}ssl-ports`]: "443" }),
  }),
  loadBalancerClass: "eks.amazonaws.com/nlb",
  redirects: false,
  addressedBy: "hostname",
  nginx: ({ certificateName }) => ({
    ...(certificateName !== undefined && {
      // Tells the applications that the scheme is https: the balancer has no header to say so.
      "redirect-to-https": "true",
      "http-snippets": `server { listen ${REDIRECT_PORT}; return 301 https://$host$request_uri; }`,
    }),
  }),
  // A pod counts as ready once the balancer has found it healthy.
  namespaceLabels: { "eks.amazonaws.com/pod-readiness-gate-inject": "enabled" },
  // Health checks of 10 s, 3 of which must fail, and as long again until all its nodes know.
  drainSeconds: 60,
  replacedBy: [`${AWS}scheme`, `${AWS}nlb-target-type`],
};

export const BALANCERS = { digitalocean, aws };
export type BalancerKind = keyof typeof BALANCERS;
