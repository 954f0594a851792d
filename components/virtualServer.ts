import * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import type { Backend, RoutePath, RoutesArgs } from "./routes";

/** NGINX's name of the client's address. */
export const CLIENT = "$" + "{binary_remote_addr}";

const API_VERSION = "k8s.nginx.org/v1";

/**
 * A VirtualServer for each host, which serves one alone, with the Policies that they share.
 * https://docs.nginx.com/nginx-ingress-controller/configuration/virtualserver-and-virtualserverroute-resources/
 */
export function createVirtualServers(
  name: string,
  args: RoutesArgs,
  { hosts, isCovered }: { hosts: pulumi.Output<string>[]; isCovered: pulumi.Output<boolean> },
  opts: pulumi.CustomResourceOptions,
) {
  const { namespace, className } = args;
  const policies = createPolicies(name, args, opts);
  const { upstreams, routes } = routing(args);
  hosts.forEach((host, i) => {
    new k8s.apiextensions.CustomResource(
      i === 0 ? name : `${name}-${i + 1}`,
      {
        apiVersion: API_VERSION,
        kind: "VirtualServer",
        metadata: { namespace },
        spec: {
          ingressClassName: className,
          host,
          tls: isCovered.apply((covered) => tlsOf(args, covered)),
          ...(policies.length > 0 && { policies }),
          upstreams,
          routes,
        },
      },
      opts,
    );
  });
}

/** Redirected by the balancer's word on the scheme, applications are told that word too, and else that it is plain HTTP. */
function tlsOf({ tls, redirectToHttps }: RoutesArgs, isCovered: boolean) {
  const redirects = redirectToHttps ?? (tls !== undefined || isCovered);
  if (!tls && !redirects) return undefined;
  const redirect = redirects && { enable: true, basedOn: tls ? "scheme" : "x-forwarded-proto" };
  return { ...(tls && { secret: tls.secretName }), ...(redirect && { redirect }) };
}

/** https://docs.nginx.com/nginx-ingress-controller/configuration/policy-resource/ */
function createPolicies(name: string, args: RoutesArgs, opts: pulumi.CustomResourceOptions) {
  const { namespace, className: ingressClassName, rateLimit, basicAuth } = args;
  const specs = {
    ...(rateLimit && {
      "rate-limit": {
        rateLimit: {
          rate: `${rateLimit.requestsPerSecond}r/s`,
          burst: rateLimit.burst,
          noDelay: true,
          key: CLIENT,
          zoneSize: "10M",
          rejectCode: 429,
          // Divided by the ready pods behind the controller's Service; with HostPort there is none, and each has all.
          scale: true,
        },
      },
    }),
    ...(basicAuth && { "basic-auth": { basicAuth: { secret: basicAuth.secretName, realm: basicAuth.realm } } }),
  };
  return Object.entries(specs).map(([part, spec]) => {
    const { metadata } = new k8s.apiextensions.CustomResource(
      `${name}-${part}`,
      { apiVersion: API_VERSION, kind: "Policy", metadata: { namespace }, spec: { ingressClassName, ...spec } },
      opts,
    );
    return { name: metadata.name };
  });
}

function routing(args: RoutesArgs) {
  const { defaultBackend } = args;
  const hasRoot = args.paths.some(({ path = "/", pathType = "Prefix" }) => path === "/" && pathType === "Prefix");
  const paths: RoutePath[] = defaultBackend && !hasRoot ? [...args.paths, defaultBackend] : args.paths;
  const backends = paths.flatMap((path, i): [string, Backend][] => [
    ...("serviceName" in path ? [[stable(i), path] as [string, Backend]] : []),
    ...("canary" in path && path.canary ? [[canary(i), path.canary] as [string, Backend]] : []),
  ]);
  const services = [...new Set(backends.map(([, { serviceName }]) => serviceName))];
  return {
    upstreams: backends.map(([name, to]) => upstream(name, to, services.indexOf(to.serviceName), args)),
    routes: paths.map(route),
  };
}

/** Of its own for each Service: what one sets would be replaced by the next, which knows no pod by it. */
export const cookieOf = (cookie: string, i: number) => (i === 0 ? cookie : `${cookie}_${i}`);

const stable = (i: number) => `path-${i}`;
const canary = (i: number) => `canary-${i}`;

function upstream(name: string, { serviceName, port }: Backend, nth: number, args: RoutesArgs) {
  const { maxBodySize, stickySession } = args;
  const { cookie, expires } = stickySession ?? {};
  return {
    name,
    service: serviceName,
    port,
    ...(maxBodySize !== undefined && { "client-max-body-size": maxBodySize }),
    ...(stickySession && {
      sessionCookie: {
        enable: true,
        name: cookie && cookieOf(cookie, nth),
        path: "/",
        httpOnly: true,
        ...(expires !== undefined && { expires }),
      },
    }),
  };
}

function route(to: RoutePath, i: number) {
  const { path = "/", pathType = "Prefix" } = to;
  const at = pathType === "Exact" ? `=${path}` : path;
  if (to.redirect) return { path: at, action: { redirect: { url: to.redirect.url, code: to.redirect.code ?? 302 } } };
  const { rewrite, canary: newer } = to;
  const bringTo = (name: string) =>
    rewrite === undefined ? { pass: name } : { proxy: { upstream: name, rewritePath: rewrite } };
  if (!newer) return { path: at, action: bringTo(stable(i)) };
  const { weight, header, cookie } = newer;
  const conditions = [
    ...(header ? [{ header: header.name, value: header.value }] : []),
    ...(cookie ? [{ cookie: cookie.name, value: cookie.value }] : []),
  ];
  return {
    path: at,
    ...(conditions.length > 0 && {
      // Any of them, in this order; those of one match would all have to hold.
      matches: conditions.map((condition) => ({ conditions: [condition], action: bringTo(canary(i)) })),
    }),
    ...(weight === undefined
      ? { action: bringTo(stable(i)) }
      : {
          splits: [
            { weight: 100 - weight, action: bringTo(stable(i)) },
            { weight, action: bringTo(canary(i)) },
          ],
        }),
  };
}
