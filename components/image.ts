import * as docker from "@pulumi/docker";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { PlatformOutputs } from "../platform";
import type { ImageSettings } from "../settings";
import { ConfigurationError, keyName, secretViolation, setCommand } from "../violations";

interface RegistryArgs {
  /** Host of the registry, such as `docker.io`. */
  server: pulumi.Input<string>;
  username: pulumi.Input<string>;
  password: pulumi.Input<string>;
}

/** An image to build and push. Without user and password, to a registry that asks for neither. */
export interface BuiltImageArgs extends Pick<RegistryArgs, "server">, Partial<Omit<RegistryArgs, "server">> {
  /** Host of the registry as the nodes know it. @default `server` */
  clusterServer?: pulumi.Input<string>;
  /** Without host and tag, such as `acme/hobnob-backend`. */
  repository: string;
  /** Directory of the build context; its `.dockerignore` keeps out what must not cause a rebuild. */
  context: string;
  /** @default `Dockerfile` in the context */
  dockerfile?: string;
}

/** An image that is there. */
export interface ReadyImageArgs {
  /** `repository@sha256:…`; by version only what the nodes hold already, since loading leaves no digest. */
  image: string;
}

/** What the nodes run, whatever the machine that builds. */
const PLATFORM = "linux/amd64";
const TAG = "latest";

/** An image by its digest, built and pushed or given ready: its users can't tell. */
export class Image extends pulumi.ComponentResource {
  /** `repository@sha256:…`, as the nodes pull it. */
  readonly ref: pulumi.Output<string>;

  constructor(name: string, args: BuiltImageArgs | ReadyImageArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:Image", name, {}, opts);
    this.ref = "image" in args ? pulumi.output(args.image) : this.build(name, args);
    this.registerOutputs();
  }

  private build(name: string, args: BuiltImageArgs): pulumi.Output<string> {
    const { server, clusterServer = server, repository, username, password, context, dockerfile } = args;
    // Docker Hub too needs its host: without one the push goes to docker.io/library and is refused.
    const imageName = pulumi.interpolate`${server}/${repository}:${TAG}`;
    const image = new docker.Image(
      name,
      {
        imageName,
        build: {
          context,
          dockerfile: dockerfile ?? `${context}/Dockerfile`,
          platform: PLATFORM,
          builderVersion: "BuilderBuildKit",
          // The pushed image carries its cache, for builders that have none, such as a CI runner's.
          args: { BUILDKIT_INLINE_CACHE: "1" },
          cacheFrom: { images: [imageName] },
        },
        registry: { server, ...(password !== undefined && { username, password: pulumi.secret(password) }) },
      },
      { parent: this },
    );
    // The engine names the digest by any repository it knows the image from, and leaves out Docker Hub's host.
    return pulumi.interpolate`${clusterServer}/${repository}@${image.repoDigest.apply((digest) => digest.split("@")[1])}`;
  }
}

export interface PullSecretArgs extends RegistryArgs {
  namespace: pulumi.Input<string>;
}

/** Lets the pods of a namespace pull from a private repository. */
export class PullSecret extends pulumi.ComponentResource {
  readonly secretName: pulumi.Output<string>;

  constructor(name: string, args: PullSecretArgs, opts?: pulumi.ComponentResourceOptions) {
    super("hobnob:platform:PullSecret", name, {}, opts);
    const { username, password } = args;
    const auth = pulumi.interpolate`${username}:${password}`.apply((pair) => Buffer.from(pair).toString("base64"));
    const secret = new k8s.core.v1.Secret(
      name,
      {
        metadata: { namespace: args.namespace },
        type: "kubernetes.io/dockerconfigjson",
        // It changes in place: pods read it with each pull, and need no restart for another password.
        data: {
          ".dockerconfigjson": pulumi.secret(
            pulumi
              .output(args.server)
              .apply((server) =>
                pulumi.jsonStringify({ auths: { [credentialKey(server)]: { username, password, auth } } }),
              )
              .apply((json) => Buffer.from(json).toString("base64")),
          ),
        },
      },
      { parent: this },
    );
    this.secretName = secret.metadata.name;
    this.registerOutputs();
  }
}

/** The image of a stack on a platform, by `imageKeys` of its settings. */
interface OwnImageArgs {
  settings: ImageSettings;
  /** The platform's `registry`. */
  registry: PlatformOutputs["registry"];
  /** Of the build. */
  context: string;
}

interface OwnImage {
  /** `repository@sha256:…`, as the nodes pull it. */
  ref: pulumi.Output<string>;
  /** The Secret by which pods of a namespace pull it; undefined where none is needed. */
  pullSecretIn(
    namespace: pulumi.Input<string>,
    onCluster: pulumi.ComponentResourceOptions,
  ): pulumi.Output<string> | undefined;
}

/**
 * Builds and pushes what a stack's settings ask for, or takes the image that they name. To be called before there is any
 * resource of the stack.
 * @throws ConfigurationError where the registry asks for a user and they name none
 */
export function ownImage(name: string, { settings, registry, context }: OwnImageArgs): OwnImage {
  const { image, repository = "", registryUsername: username, registryPassword: password } = settings;
  const { server, clusterServer } = registry;
  if (image !== undefined) return { ref: new Image(name, { image }).ref, pullSecretIn: () => undefined };
  const login = username !== undefined && password !== undefined && { username, password };
  if (!login && !registry.anonymous) throw loginMissing(server);
  return {
    ref: new Image(name, { server, clusterServer, repository, context, ...login }).ref,
    pullSecretIn: (namespace, onCluster) =>
      login && registry.private
        ? new PullSecret("registry", { ...login, namespace, server: clusterServer }, onCluster).secretName
        : undefined,
  };
}

function loginMissing(server: string) {
  const project = pulumi.getProject();
  const user = ["registryUsername"];
  const command = setCommand(user, "<user>", project);
  return new ConfigurationError([
    { key: keyName(user, project), given: "nothing", allowed: `a user who may push to ${server}`, command },
    secretViolation("registryPassword", "nothing", project),
  ]);
}

/** Docker Hub's credentials are still looked up under the address of its first API. */
function credentialKey(server: string): string {
  return server === "docker.io" ? "https://index.docker.io/v1/" : server;
}
