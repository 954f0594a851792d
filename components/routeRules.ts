import * as pulumi from "@pulumi/pulumi";
import { isDnsName } from "../config";
import { describe, show, UserError } from "../violations";
import type { Backend, Canary, RoutePath, RoutesArgs } from "./routes";

interface ArgViolation {
  /** Such as `paths[0].rewrite`. */
  arg: string;
  given: unknown;
  allowed: string;
}

/** What may be an output, as far as it is known. */
interface KnownArgs {
  hosts: (string | undefined)[];
  namespace?: string;
  coveredHosts?: string[];
  expose?: string;
  customResources?: boolean;
  secretNamespaces?: string[];
}

export type JudgedArgs = Omit<RoutesArgs, keyof KnownArgs> & KnownArgs;

/** @throws RunError with all of them, where there are any */
export function refuse(name: string, violations: ArgViolation[]): void {
  if (violations.length === 0) return;
  const count = violations.length === 1 ? "1 violation" : `${violations.length} violations`;
  const list = violations.map(({ arg, given, allowed }) => describe({ key: arg, given: show(given), allowed }));
  throw new UserError(`The args of the routes ${show(name)} have ${count}:\n${list.join("")}`);
}

/** What may be an output, with its defaults. */
export const inputsOf = (args: RoutesArgs) => ({
  hosts: args.hosts ?? [],
  // Else no rule asks for it, and a preview shows the hosts before the namespace is there.
  namespace: args.tls || args.basicAuth ? args.namespace : undefined,
  coveredHosts: args.coveredHosts,
  expose: args.expose ?? "LoadBalancer",
  customResources: args.customResources ?? false,
  secretNamespaces: args.secretNamespaces ?? [],
  services: [...args.paths, args.defaultBackend].map((to) => (to && "serviceName" in to ? to.serviceName : undefined)),
});

/** The args without the outputs among them. */
export function plainArgs(args: RoutesArgs): JudgedArgs {
  const { hosts, namespace, coveredHosts, expose, customResources, secretNamespaces } = inputsOf(args);
  return {
    ...args,
    hosts: hosts.map(plain),
    namespace: plain(namespace),
    coveredHosts: plain(coveredHosts),
    expose: plain(expose),
    customResources: plain(customResources),
    secretNamespaces: plain(secretNamespaces),
  };
}

const plain = <T>(value: pulumi.Input<T> | undefined): T | undefined =>
  pulumi.Output.isInstance(value) || value instanceof Promise ? undefined : (value as T | undefined);

/** What only a VirtualServer has, by the args that ask for it. */
export function needsVirtualServer({ paths, defaultBackend }: Pick<RoutesArgs, "paths" | "defaultBackend">): string[] {
  const rewrites = new Map<unknown, string | undefined>(defaultBackend && [[defaultBackend.serviceName, undefined]]);
  return paths.flatMap((path, i) => {
    if (path.redirect) return [`paths[${i}].redirect`];
    if (path.canary) return [`paths[${i}].canary`];
    const { serviceName, rewrite } = path;
    const other = rewrites.has(serviceName) && rewrites.get(serviceName) !== rewrite;
    rewrites.set(serviceName, rewrite);
    // An Ingress has one rewrite for all paths of a Service.
    return other ? [`paths[${i}].rewrite`] : [];
  });
}

/** Two names that turn out to be one Service's: an Ingress, which this was planned as, would rewrite both alike. */
export function hiddenRewrites(args: JudgedArgs, services: (string | undefined)[]): ArgViolation[] {
  const named = args.paths.map((path, i) => (path.redirect ? path : { ...path, serviceName: services[i] ?? "" }));
  const last = services.at(-1);
  const defaultBackend = args.defaultBackend && { ...args.defaultBackend, serviceName: last ?? "" };
  return needsVirtualServer({ paths: named, defaultBackend }).map((arg) => ({
    arg,
    given: `beside another path of the same Service`,
    allowed: "the very same serviceName for both, so that it is known in time that a VirtualServer is needed",
  }));
}

export function violationsOf(args: JudgedArgs): ArgViolation[] {
  const { paths, defaultBackend } = args;
  const found = [
    ...matching("namespace", args.namespace, LABEL, "the name of a namespace"),
    ...matching("className", args.className, SUBDOMAIN, "the name of an ingress class"),
    ...matching("expose", args.expose, /^(LoadBalancer|NodePort|HostPort)$/, "LoadBalancer, NodePort, HostPort"),
    ...hostViolations(args),
    ...expect("paths", paths, paths.length > 0, 'at least one, such as { path: "/", serviceName, port }'),
    ...paths.flatMap((path, i) => pathViolations(path, `paths[${i}]`, paths.slice(0, i))),
    ...(defaultBackend ? backendViolations(defaultBackend, "defaultBackend") : []),
    ...limitViolations(args),
    ...isFlag("webSockets", args.webSockets),
    ...secretViolations(args),
    ...redirectViolations(args),
  ];
  const needs = needsVirtualServer(args);
  if (needs.length === 0) return found;
  const why = `as only a VirtualServer has ${needs.join(", ")}`;
  return [
    ...found,
    ...expect("hosts", args.hosts, args.hosts.length > 0, `at least one host, ${why}`),
    ...expect(
      "customResources",
      args.customResources,
      args.customResources !== false,
      `true, ${why}: pulumi config set --path hobnob:ingress.customResources true, in the platform's project`,
    ),
  ];
}

const expect = (arg: string, given: unknown, holds: boolean, allowed: string): ArgViolation[] =>
  holds ? [] : [{ arg, given, allowed }];

/** Of a value that is given and known. */
const matching = (arg: string, given: unknown, pattern: RegExp, allowed: string) =>
  plain(given) === undefined ? [] : expect(arg, given, typeof given === "string" && pattern.test(given), allowed);

const whole = (arg: string, given: unknown, min: number, max: number) =>
  plain(given) === undefined
    ? []
    : expect(
        arg,
        given,
        Number.isInteger(given) && (given as number) >= min && (given as number) <= max,
        `a whole number from ${min} to ${max}`,
      );

const isFlag = (arg: string, given: unknown) =>
  expect(arg, given, given === undefined || typeof given === "boolean", "true or false");

const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const SERVICE = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** RFC 1738's without a query, and without what the API server refuses in a path. */
const PATH = /^(?!.*(\/\/|\/\.{1,2}(\/|$)|%2[fF]))\/[\w.~!*'():@&=+,/%-]{0,1000}$/;
const TOKEN = /^[A-Za-z0-9-]{1,100}$/;
const COOKIE = /^\w{1,100}$/;
/** The controller takes more, and understands some of it: an exclamation mark at the front means any other value. */
const VALUE = /^[\w.:/@=+,~%-]{1,500}$/;
const REALM = /^[\w .,:'@()/-]{1,200}$/;
const URL_WITH_VARIABLES = /^(https?|\$\{scheme\}):\/\/([\w.~:/?#@!&'()*+,=%-]|\$\{(host|request_uri|scheme)\})+$/;

/** Whether a certificate of these names is for the host: a wildcard is for one label, and for a wildcard host itself. */
export const isCovered = (host: string, names: string[]) =>
  names.some(
    (name) =>
      name === host ||
      (name.startsWith("*.") && !host.startsWith("*.") && name.slice(2) === host.replace(/^[^.]+\./, "")),
  );

function hostViolations({ hosts, coveredHosts = [], tls }: JudgedArgs): ArgViolation[] {
  return hosts.flatMap((host, i) => {
    if (host === undefined) return [];
    const arg = `hosts[${i}]`;
    const isName = typeof host === "string" && isDnsName(host.replace(/^\*\./, ""));
    const covered = tls !== undefined || coveredHosts.length === 0 || !isName || isCovered(host, coveredHosts);
    return [
      ...expect(arg, host, isName, "a name in lower case, or *. and a name, e.g. shop.example.com"),
      ...expect(arg, host, !hosts.slice(0, i).includes(host), "each host once"),
      ...expect(
        arg,
        host,
        covered,
        `what the certificate of the platform covers: ${show(coveredHosts)}; more by hobnob:tls.hosts of the platform's configuration`,
      ),
    ];
  });
}

function pathViolations(to: RoutePath, arg: string, before: RoutePath[]): ArgViolation[] {
  const { path = "/", pathType = "Prefix" } = to;
  const twice = before.some((other) => (other.path ?? "/") === path && (other.pathType ?? "Prefix") === pathType);
  return [
    ...matching(`${arg}.path`, path, PATH, "a path that begins with / and has no // in it, e.g. /shop/"),
    ...expect(`${arg}.path`, path, !twice, "each path of one pathType once"),
    ...matching(`${arg}.pathType`, pathType, /^(Prefix|Exact)$/, "Prefix, Exact"),
    ...(to.redirect ? targetViolations(to.redirect, `${arg}.redirect`) : serviceViolations(to, arg, path, pathType)),
  ];
}

function serviceViolations(
  to: Exclude<RoutePath, { redirect: object }>,
  arg: string,
  path: string,
  pathType: string,
): ArgViolation[] {
  const { rewrite, canary } = to;
  const alike =
    typeof rewrite !== "string" ||
    typeof path !== "string" ||
    pathType === "Exact" ||
    rewrite.endsWith("/") === path.endsWith("/");
  return [
    ...backendViolations(to, arg),
    ...matching(`${arg}.rewrite`, rewrite, PATH, "a path that begins with /, e.g. /"),
    ...expect(
      `${arg}.rewrite`,
      rewrite,
      alike,
      `a path that ends with / as ${show(path)} does or does not, or requests get a slash too many or too few`,
    ),
    // There the controller rewrites by a pattern that it makes of the path as it is written.
    ...expect(
      `${arg}.rewrite`,
      rewrite,
      !canary || rewrite === undefined || (pathType === "Prefix" && typeof path === "string" && !/[()*+]/.test(path)),
      `nothing beside a canary, unless the pathType is Prefix and the path, ${show(path)}, has no ( ) * + in it`,
    ),
    ...(canary ? canaryViolations(canary, `${arg}.canary`) : []),
  ];
}

const targetViolations = ({ url, code }: { url: string; code?: number }, arg: string): ArgViolation[] => [
  ...matching(
    `${arg}.url`,
    url ?? "",
    URL_WITH_VARIABLES,
    "a URL with its scheme, e.g. https://www.example.com$" + "{request_uri}",
  ),
  ...expect(`${arg}.code`, code, code === undefined || [301, 302, 307, 308].includes(code), "301, 302, 307, 308"),
];

const backendViolations = ({ serviceName, port }: Backend, arg: string): ArgViolation[] => [
  ...expect(`${arg}.serviceName`, serviceName, serviceName !== undefined, "the name of a Service"),
  ...matching(`${arg}.serviceName`, serviceName, SERVICE, "the name of a Service: lower-case letters, digits and -"),
  ...expect(`${arg}.port`, port, port !== undefined, "a port of the Service"),
  ...whole(`${arg}.port`, port, 1, 65535),
];

function canaryViolations(canary: Canary, arg: string): ArgViolation[] {
  const { weight, header, cookie } = canary;
  const value = "letters, digits and . _ : / @ = + , ~ % -";
  return [
    ...backendViolations(canary, arg),
    ...expect(
      arg,
      canary,
      [weight, header, cookie].some((by) => by !== undefined),
      "a weight, a header or a cookie",
    ),
    ...whole(`${arg}.weight`, weight, 1, 99),
    ...(header
      ? [
          ...matching(`${arg}.header.name`, header.name ?? "", TOKEN, "the name of a header, e.g. X-Canary"),
          ...matching(`${arg}.header.value`, header.value ?? "", VALUE, value),
        ]
      : []),
    ...(cookie
      ? [
          ...matching(`${arg}.cookie.name`, cookie.name ?? "", COOKIE, "letters, digits and _"),
          ...matching(`${arg}.cookie.value`, cookie.value ?? "", VALUE, value),
        ]
      : []),
  ];
}

function limitViolations({ rateLimit, maxBodySize, stickySession }: JudgedArgs): ArgViolation[] {
  return [
    ...(rateLimit
      ? [
          ...whole("rateLimit.requestsPerSecond", rateLimit.requestsPerSecond ?? 0, 1, 1_000_000),
          ...whole("rateLimit.burst", rateLimit.burst ?? 0, 1, 1_000_000),
        ]
      : []),
    ...matching("maxBodySize", maxBodySize, /^\d{1,9}[kmg]?$/, "a size as NGINX writes it, e.g. 8m"),
    ...(stickySession
      ? [
          ...matching("stickySession.cookie", stickySession.cookie ?? "", COOKIE, "letters, digits and _"),
          ...matching(
            "stickySession.expires",
            stickySession.expires,
            /^\d{1,9}[smhd]$/,
            "a time as NGINX writes it, e.g. 1h",
          ),
        ]
      : []),
  ];
}

/** The controller reads a Secret of another namespace as one that is not there: HTTPS and every request would fail. */
function secretViolations(args: JudgedArgs): ArgViolation[] {
  const { tls, basicAuth, hosts, expose, namespace, secretNamespaces } = args;
  const readable = !namespace || !secretNamespaces || secretNamespaces.includes(namespace);
  const allowed =
    "only where the class's controller reads the namespace's Secrets: hobnob:ingress.secretNamespaces of the platform's " +
    "configuration, or a class of its own; see docs/operations.md, Routes";
  const secret = (arg: "tls" | "basicAuth", given: RoutesArgs["tls"]) =>
    given
      ? [
          ...expect(arg, given.secretName === undefined ? undefined : namespace, readable, allowed),
          ...matching(`${arg}.secretName`, given.secretName ?? "", SUBDOMAIN, "the name of a Secret"),
        ]
      : [];
  return [
    ...secret("tls", tls),
    ...secret("basicAuth", basicAuth),
    ...expect("tls", tls, !tls || expose !== "LoadBalancer", "nothing where the class has a balancer, which ends TLS"),
    ...expect("hosts", hosts, !tls || hosts.length > 0, "at least one host, as tls is given"),
    ...matching("basicAuth.realm", basicAuth?.realm, REALM, "letters, digits, spaces and . , : ' @ ( ) / _ -"),
  ];
}

function redirectViolations({ redirectToHttps, tls, coveredHosts }: JudgedArgs): ArgViolation[] {
  const nobody = redirectToHttps === true && !tls && coveredHosts?.length === 0;
  return [
    ...isFlag("redirectToHttps", redirectToHttps),
    ...expect("redirectToHttps", redirectToHttps, !nobody, "false, as neither a certificate nor tls ends HTTPS"),
  ];
}
