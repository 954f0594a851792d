import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { Platform } from "../platform";
import type { IngressControllerArgs } from "./ingress";
import { hiddenRewrites, inputsOf, needsVirtualServer, plainArgs, refuse, violationsOf } from "./routeRules";
import { CLIENT, cookieOf, createVirtualServers } from "./virtualServer";

/** A port of a Service in the routes' namespace. */
export interface Backend {
  serviceName: pulumi.Input<string>;
  port: pulumi.Input<number>;
}

/** A request is one of the canary's by its header, else by its cookie, else by chance. At least one of the three is needed. */
export interface Canary extends Backend {
  /** Percent of the requests, 1 to 99. One client's requests are spread over both: with `cookie` they needn't be. */
  weight?: number;
  /** A header with exactly this value. */
  header?: { name: string; value: string };
  /** A cookie with exactly this value; its name is of letters, digits and `_`. */
  cookie?: { name: string; value: string };
}

interface At {
  /** Begins with `/`. @default / */
  path?: string;
  /**
   * As NGINX takes it: the longest prefix decides, and `/tea` is also the prefix of `/teapot`; `/tea/` is not.
   * @default Prefix
   */
  pathType?: "Prefix" | "Exact";
}

/** Where the requests for a path go. */
export type RoutePath = At &
  (
    | (Backend & {
        /**
         * Takes the path's place at the front of what the Service gets: `/tea/` rewritten to `/` makes `/x` of `/tea/x`.
         * Of a Prefix, both end with `/`, or neither does. Beside a canary the pathType is Prefix.
         */
        rewrite?: string;
        /** Needs the class's custom resources. */
        canary?: Canary;
        redirect?: undefined;
      })
    | {
        /**
         * The client is sent to `url`, in which `${scheme}`, `${host}` and `${request_uri}` stand for its request's. Needs
         * the class's custom resources. `code` is 301, 302, 307 or 308; @default 302
         */
        redirect: { url: string; code?: number };
      }
  );

/** What a class's controller can do. `ofPlatform(platform)` and a controller's `routes` are such. */
export interface IngressClassArgs {
  /** Requests are served by this class's controller. */
  className: pulumi.Input<string>;
  /**
   * What the certificate at the class's balancer covers, wildcards as a certificate has them: `*.example.com` covers one
   * label. Empty where there is no such certificate: then any host is served, over plain HTTP or own `tls`.
   */
  coveredHosts: pulumi.Input<string[]>;
  /** With a balancer NGINX ends no TLS; with HostPort each pod has a rate limit of its own. @default LoadBalancer */
  expose?: pulumi.Input<IngressControllerArgs["expose"]>;
  /** Whether the controller serves VirtualServers. @default false */
  customResources?: pulumi.Input<boolean>;
  /** Namespaces whose Secrets the controller may read. @default none */
  secretNamespaces?: pulumi.Input<string[]>;
}

export interface RoutesArgs extends IngressClassArgs {
  /** Of the Services, and of the Secrets. */
  namespace: pulumi.Input<string>;
  /**
   * Names, or `*.` and a name. Each belongs to one `Routes` of the cluster: the controller rejects a second one.
   * @default the requests for hosts that nobody else has, if the class serves Ingresses without a host
   */
  hosts?: pulumi.Input<string>[];
  paths: RoutePath[];
  /** What no path takes. @default 404 */
  defaultBackend?: Backend;
  /**
   * Own TLS, ended by NGINX, by a Secret of type `kubernetes.io/tls`: for a class without a balancer, whose controller may
   * read it. @default the balancer's
   */
  tls?: { secretName: pulumi.Input<string> };
  /** Sends plain HTTP to HTTPS. @default true with `tls`; else the balancer's, which does so if it has a certificate */
  redirectToHttps?: boolean;
  /**
   * Requests that one client may make of the controller, with HostPort of each of its pods: each second, and at once above
   * that. The rest is answered 429.
   */
  rateLimit?: { requestsPerSecond: number; burst: number };
  /**
   * Whether the Services are asked for WebSockets: one that is silent for a minute is cut off. A VirtualServer always passes
   * them. @default false
   */
  webSockets?: boolean;
  /** Largest request body, as NGINX writes it, such as `8m`. @default the controller's */
  maxBodySize?: string;
  /**
   * A client's requests go to one pod as long as there is one of that name: by a cookie of this name (letters, digits, `_`),
   * of further Services by `<cookie>_1` and so on, kept for `expires`, as NGINX writes it, such as `1h`. @default as long as the browser is open
   */
  stickySession?: { cookie: string; expires?: string };
  /**
   * Users by a Secret of type `nginx.org/htpasswd`, with the file as its key `htpasswd`, which the controller may read.
   * @default everyone
   */
  basicAuth?: { secretName: pulumi.Input<string>; realm?: string };
}

/** The class of a platform stack, for `Routes` of another stack: `{ ...ofPlatform(platform), namespace, paths }`. */
export const ofPlatform = (platform: Platform): IngressClassArgs => ({
  className: platform.output("ingressClass"),
  coveredHosts: platform.output("coveredHosts"),
  expose: platform.output("ingressExpose"),
  customResources: platform.output("ingressCustomResources"),
  secretNamespaces: platform.output("ingressSecretNamespaces"),
});

type Known = { [Name in keyof ReturnType<typeof inputsOf>]: pulumi.Unwrap<ReturnType<typeof inputsOf>[Name]> };

/**
 * Brings the requests for hosts and paths to Services: by an Ingress, or by a VirtualServer for each host where only that
 * has what is asked for. What is wrong is refused all at once: an output as soon as its value is known.
 */
export class Routes extends pulumi.ComponentResource {
  /** Where each host answers, `https` where the balancer or `tls` does. */
  readonly urls: pulumi.Output<string[]>;

  constructor(name: string, args: RoutesArgs, opts?: pulumi.ComponentResourceOptions) {
    refuse(name, violationsOf(plainArgs(args)));
    // Before other paths, hosts and options there was the component Route.
    const aliases = [...(opts?.aliases ?? []), { type: "hobnob:platform:Route" }];
    super("hobnob:platform:Routes", name, {}, { ...opts, aliases });
    const hosts = args.hosts ?? [];
    const isIngress = needsVirtualServer(args).length === 0;
    const known: pulumi.Output<Known> = pulumi.output(inputsOf(args));
    const checked = known.apply((values) => {
      const { services, ...others } = values;
      const asKnown = { ...args, ...others };
      refuse(name, [...violationsOf(asKnown), ...(isIngress ? hiddenRewrites(asKnown, services) : [])]);
      return values;
    });
    const checkedHosts = hosts.map((_, i) => checked.apply((values) => values.hosts[i] ?? ""));
    this.urls = checked.apply((values) => {
      const scheme = args.tls || values.coveredHosts.length > 0 ? "https" : "http";
      return values.hosts.map((host) => `${scheme}://${host}`);
    });

    const child = { parent: this };
    if (isIngress) createIngress(name, args, checkedHosts, child);
    else {
      const isCovered = checked.apply(({ coveredHosts }) => coveredHosts.length > 0);
      createVirtualServers(name, args, { hosts: checkedHosts, isCovered }, child);
    }
    this.registerOutputs();
  }
}

function createIngress(
  name: string,
  args: RoutesArgs,
  hosts: pulumi.Output<string>[],
  opts: pulumi.CustomResourceOptions,
) {
  const { namespace, className, defaultBackend, tls } = args;
  const http = { paths: args.paths.map(ingressPath) };
  new k8s.networking.v1.Ingress(
    name,
    {
      metadata: { namespace, annotations: annotations(args) },
      spec: {
        ingressClassName: className,
        ...(defaultBackend && { defaultBackend: ingressBackend(defaultBackend) }),
        ...(tls && { tls: [{ hosts, secretName: tls.secretName }] }),
        rules: hosts.length > 0 ? hosts.map((host) => ({ host, http })) : [{ http }],
      },
    },
    opts,
  );
}

const ingressPath = ({ path = "/", pathType = "Prefix", ...backend }: RoutePath) => ({
  path,
  pathType,
  backend: ingressBackend(backend as Backend),
});

const ingressBackend = ({ serviceName, port }: Backend) => ({ service: { name: serviceName, port: { number: port } } });

/** https://docs.nginx.com/nginx-ingress-controller/configuration/ingress-resources/advanced-configuration-with-annotations/ */
function annotations(args: RoutesArgs): Record<string, pulumi.Input<string>> {
  const { rateLimit, maxBodySize, expose = "LoadBalancer", basicAuth, tls, redirectToHttps, stickySession } = args;
  return {
    ...(args.webSockets && { "nginx.org/websocket-services": servicesOf(args).apply((names) => names.join(",")) }),
    ...(maxBodySize !== undefined && { "nginx.org/client-max-body-size": maxBodySize }),
    ...(rateLimit && {
      "nginx.org/limit-req-rate": `${rateLimit.requestsPerSecond}r/s`,
      "nginx.org/limit-req-burst": String(rateLimit.burst),
      "nginx.org/limit-req-no-delay": "true",
      // The client's address, which NGINX takes from X-Forwarded-For.
      "nginx.org/limit-req-key": CLIENT,
      "nginx.org/limit-req-zone-size": "10m",
      "nginx.org/limit-req-reject-code": "429",
      // Divided by the ready pods behind the controller's Service: without one each pod has the whole limit.
      ...dividedLimit(expose),
    }),
    ...(tls && { "nginx.org/ssl-redirect": String(redirectToHttps ?? true) }),
    // Of what the balancer says of the request, as it ends TLS.
    ...(!tls && redirectToHttps !== undefined && { "nginx.org/redirect-to-https": String(redirectToHttps) }),
    ...rewrites(args.paths),
    ...(stickySession && { "nginx.org/sticky-cookie-services": stickyServices(args, stickySession) }),
    ...(basicAuth && { "nginx.org/basic-auth-secret": basicAuth.secretName }),
    ...(basicAuth?.realm !== undefined && { "nginx.org/basic-auth-realm": basicAuth.realm }),
    // Its address tells nothing that the controller's own Service has not told, and of a host that still has another route it
    // comes only once that one is gone, for which Pulumi would wait the other way round.
    "pulumi.com/skipAwait": "true",
  };
}

/** Where it is not known yet how the class is exposed, the annotation says true or false. */
function dividedLimit(expose: pulumi.Input<IngressControllerArgs["expose"]>): Record<string, pulumi.Input<string>> {
  const annotation = "nginx.org/limit-req-scale";
  if (typeof expose !== "string")
    return { [annotation]: pulumi.output(expose).apply((is) => String(is !== "HostPort")) };
  return expose === "HostPort" ? {} : { [annotation]: "true" };
}

/** By Service: a second one of the same Service would take the place of the first. */
function rewrites(paths: RoutePath[]): Record<string, pulumi.Input<string>> {
  const all = paths.flatMap((path) => (!path.redirect && path.rewrite !== undefined ? [path] : []));
  if (all.length === 0) return {};
  const list = pulumi.all(
    all.map(({ serviceName, rewrite }) => pulumi.interpolate`serviceName=${serviceName} rewrite=${rewrite}`),
  );
  return { "nginx.org/rewrites": list.apply((each) => [...new Set(each)].join(";")) };
}

function stickyServices(args: RoutesArgs, { cookie, expires }: NonNullable<RoutesArgs["stickySession"]>) {
  const options = `${expires === undefined ? "" : ` expires=${expires}`} httponly path=/`;
  return servicesOf(args).apply((names) =>
    names.map((each, i) => `serviceName=${each} ${cookieOf(cookie, i)}${options}`).join(";"),
  );
}

/** Each once. */
function servicesOf({ paths, defaultBackend }: RoutesArgs): pulumi.Output<string[]> {
  const backends = [...paths, defaultBackend].flatMap((to) => (to && "serviceName" in to ? [to.serviceName] : []));
  return pulumi.all(backends).apply((names) => [...new Set(names)]);
}
