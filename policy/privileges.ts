import type { Finding, Rule } from "./policies";
import {
  type Container,
  containers,
  known,
  namespaceOf,
  ofType,
  type Resource,
  type Workload,
  workloads,
} from "./resources";

const NAMESPACE = "kubernetes:core/v1:Namespace";
const NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy";
const IMAGE = "docker:index/image:Image";
const LEVEL = "pod-security.kubernetes.io/enforce";

const all = (workload: Workload): Container[] => [...(workload.pod.initContainers ?? []), ...containers(workload)];

/** One finding for each of the workloads' containers in which something was found. */
const ofContainers =
  (find: (container: Container, workload: Workload) => string | undefined, set: string) =>
  (resources: Resource[]): Finding[] =>
    workloads(resources).flatMap((workload) =>
      all(workload).flatMap((container) => {
        const found = find(container, workload);
        return found ? [{ resource: workload.resource, found: `container ${container.name} ${found}`, set }] : [];
      }),
    );

/** The level `restricted` of https://kubernetes.io/docs/concepts/security/pod-security-standards/, as far as one container breaks it. */
function beyondRestricted({ securityContext: own = {}, ports = [] }: Container, { pod }: Workload): string | undefined {
  const context = { ...pod.securityContext, ...own };
  const { drop = [], add = [] } = own.capabilities ?? {};
  const profile = context.seccompProfile?.type;
  const broken = [
    [own.privileged === true, "privileged"],
    [own.allowPrivilegeEscalation !== false, "able to escalate privileges"],
    [!drop.includes("ALL"), "with capabilities kept"],
    [add.some((name: string) => name !== "NET_BIND_SERVICE"), `with ${add.join(", ")} added`],
    [context.runAsNonRoot !== true || context.runAsUser === 0, "as root"],
    [profile !== "RuntimeDefault" && profile !== "Localhost", "without a seccomp profile"],
    [ports.some(({ hostPort }: Container) => hostPort !== undefined), "on a port of its machine"],
    [pod.hostNetwork || pod.hostPID || pod.hostIPC, "in its machine's namespaces"],
    [(pod.volumes ?? []).some(({ hostPath }: Container) => hostPath !== undefined), "beside a path of its machine"],
  ] as const;
  const found = broken.filter(([is]) => is).map(([, what]) => what);
  return found.length > 0 ? found.join(", ") : undefined;
}

const writableRoot = ({ securityContext }: Container) =>
  securityContext?.readOnlyRootFilesystem === true ? undefined : "with a writable root filesystem";

/** A tag can be moved, but a release's is not; `latest`, and what has a part of a version, are moved on purpose. */
function looseImage({ image }: Container): string | undefined {
  if (!known(image)) return undefined;
  const exact = /@sha256:[0-9a-f]{64}$|:v?\d+\.\d+\.\d+([-+.][\w.+-]+)?$/.test(image ?? "");
  return exact ? undefined : `of ${image ?? "no image"}`;
}

/** What a stack pushes itself can be pushed again under the same tag. */
function ownImagesByTag(resources: Resource[]): Finding[] {
  const names = ofType(resources, IMAGE).map(({ props }) => String(props.imageName).replace(/:[^/:]*$/, ""));
  const isOwn = (image: unknown) => names.some((name) => image === name || String(image).startsWith(`${name}:`));
  return ofContainers(
    ({ image }) => (isOwn(image) ? `of ${image}` : undefined),
    "image to the repoDigest of the pushed one",
  )(resources);
}

function mountedTokens(resources: Resource[]): Finding[] {
  return workloads(resources)
    .filter(({ pod }) => pod.automountServiceAccountToken !== false)
    .map(({ resource }) => ({
      resource,
      found: "a token of the API server in every container",
      set: "automountServiceAccountToken to false; who needs one mounts a projected volume",
    }));
}

function sharedAccounts(resources: Resource[]): Finding[] {
  return workloads(resources)
    .filter(({ pod }) => (pod.serviceAccountName ?? "default") === "default")
    .map(({ resource }) => ({
      resource,
      found: "the namespace's default service account",
      set: "serviceAccountName to an account of its own",
    }));
}

function levels(resources: Resource[]): Finding[] {
  return ofType(resources, NAMESPACE)
    .map((resource) => ({ resource, level: resource.props.metadata?.labels?.[LEVEL] }))
    .filter(({ level }) => level !== "restricted")
    .map(({ resource, level }) => ({
      resource,
      found: `${LEVEL}: ${level ?? "not set"}`,
      set: `the label ${LEVEL} to restricted`,
    }));
}

function openNamespaces(resources: Resource[]): Finding[] {
  const denies = ({ podSelector, policyTypes = [], ingress, egress }: Container) =>
    Object.keys(podSelector ?? {}).length === 0 &&
    ["Ingress", "Egress"].every((type) => policyTypes.includes(type)) &&
    [ingress, egress].every((rules) => (rules ?? []).length === 0);
  const denied = ofType(resources, NETWORK_POLICY)
    .filter(({ props }) => denies(props.spec ?? {}))
    .map((policy) => namespaceOf(policy, resources));
  return ofType(resources, NAMESPACE)
    .filter(({ urn, props }) => !denied.includes(props.metadata?.name ?? urn))
    .map((resource) => ({
      resource,
      found: "no NetworkPolicy that denies by default",
      set: "up a NetworkPolicy with an empty podSelector, both policyTypes and no rule",
    }));
}

const ROLES = ["ClusterRole", "Role"].map((kind) => `kubernetes:rbac.authorization.k8s.io/v1:${kind}`);

function wideRoles(resources: Resource[]): Finding[] {
  return resources
    .filter(({ type }) => ROLES.includes(type))
    .flatMap((resource) => {
      const found = (resource.props.rules ?? []).flatMap(
        ({ apiGroups = [], resources: of = [], verbs = [] }: Container) => [
          ...([apiGroups, of, verbs].some((list) => list.includes("*")) ? ["a wildcard"] : []),
          ...(of.includes("secrets") && resource.type.endsWith(":ClusterRole") ? ["every Secret of the cluster"] : []),
        ],
      );
      return found.length > 0
        ? [
            {
              resource,
              found: [...new Set(found)].join(" and "),
              set: "apiGroups, resources and verbs to those that are used",
            },
          ]
        : [];
    });
}

export const privileges: Rule[] = [
  {
    name: "restricted",
    description: "A container does what Pod Security's level restricted allows.",
    check: ofContainers(beyondRestricted, "its securityContext to what the Pod Security level restricted asks for"),
  },
  {
    name: "read-only-root",
    description: "A container writes to its volumes alone.",
    check: ofContainers(
      writableRoot,
      "securityContext.readOnlyRootFilesystem to true, and mount an emptyDir where it writes",
    ),
  },
  {
    name: "exact-image",
    description: "What runs is named by digest or by an exact version.",
    check: ofContainers(looseImage, "image to one by digest, or by a version of three numbers"),
  },
  { name: "own-image", description: "An image of the stack's own is used by its digest.", check: ownImagesByTag },
  {
    name: "no-token",
    description: "Only a container that asks the API server has a token for it.",
    check: mountedTokens,
  },
  { name: "own-account", description: "A workload has a service account of its own.", check: sharedAccounts },
  { name: "namespace-level", description: "A namespace runs restricted pods only.", check: levels },
  {
    name: "default-deny",
    description: "A namespace denies every connection that no policy allows.",
    check: openNamespaces,
  },
  { name: "narrow-roles", description: "A role names what it allows.", check: wideRoles },
];
