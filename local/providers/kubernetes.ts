import { version } from "@pulumi/kubernetes/package.json";
import {
  AwaitError,
  type AwaitOptions,
  awaitGone,
  awaitReady,
  checkReady,
  systemClock,
  waitedField,
} from "./kubernetes/await";
import {
  ApiError,
  activeCluster,
  Client,
  type Kubeconfig,
  type KubeObject,
  loadKubeconfig,
  type ManagedFields,
  NoMatchError,
} from "./kubernetes/client";
import {
  changes,
  detailedDiff,
  parsePropertyPath,
  pruneLive,
  replacingFields,
  withoutIgnored,
  withStringData,
} from "./kubernetes/diff";
import {
  type CheckRequest,
  type CheckResult,
  type ConfigureRequest,
  type CreateRequest,
  type DeleteRequest,
  type DiffRequest,
  type DiffResult,
  type Engine,
  hasUnknown,
  InitializationError,
  keepSecrets,
  type Properties,
  type Provider,
  type ReadRequest,
  randomHex,
  secret,
  serve,
  UNKNOWN,
  type UpdateRequest,
} from "./server";

const INPUTS = "__inputs";
const INITIAL_VERSION = "__initialApiVersion";
const FIELD_MANAGER = "__fieldManager";
const AUTONAMED = "pulumi.com/autonamed";
const REPLACE_UNREADY = "pulumi.com/replaceUnready";

/** Managers whose fields an update takes over: those of a plain create, of kubectl and of client-side apply. Source: await.go. */
const ADOPTED_MANAGERS = ["pulumi-kubernetes", "pulumi-resource-kubernetes", "kubectl", "before-first-apply"];

/** Asked only where the API server cannot be: the built-in kinds that have no namespace. */
const CLUSTER_SCOPED = new Set(
  "Namespace Node PersistentVolume ClusterRole ClusterRoleBinding StorageClass IngressClass PriorityClass RuntimeClass CSIDriver CSINode VolumeAttachment CustomResourceDefinition APIService MutatingWebhookConfiguration ValidatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding CertificateSigningRequest FlowSchema PriorityLevelConfiguration TokenReview".split(
    " ",
  ),
);

interface Options {
  deleteUnreachable: boolean;
  skipUpdateUnreachable: boolean;
  upsertExistingObjects: boolean;
  patchForce: boolean;
  mutable: { configMaps: boolean; secrets: boolean };
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Keys of a CustomResourceDefinition's schema have dashes in the API and underscores in the SDK. */
function renameKeys(value: unknown, from: RegExp, separator: string): unknown {
  if (Array.isArray(value)) return value.map((item) => renameKeys(item, from, separator));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [
      from.test(key) ? key.replaceAll(/[_-]/g, separator) : key,
      renameKeys(member, from, separator),
    ]),
  );
}

/** What the API server sets and no input may. */
const READ_ONLY =
  "creationTimestamp deletionGracePeriodSeconds deletionTimestamp generation managedFields resourceVersion uid";

/** The object that a program's inputs stand for. */
function toObject(inputs: Properties): KubeObject {
  const object = renameKeys(inputs, /^x_kubernetes_/, "-") as KubeObject;
  const metadata = { ...object.metadata };
  for (const field of READ_ONLY.split(" ")) delete metadata[field];
  return { ...object, metadata };
}

/** What the state keeps: the live object, the inputs that made it and who owns its fields. */
function checkpoint(live: KubeObject, inputs: Properties, initialVersion: string, fieldManager: string): Properties {
  const outputs = renameKeys(live, /^x-kubernetes-/, "_") as Properties;
  return {
    ...markSecretData(outputs),
    [INPUTS]: markSecretData(inputs),
    [INITIAL_VERSION]: initialVersion,
    [FIELD_MANAGER]: fieldManager,
  };
}

/** A Secret's values are secret whatever the program says. */
function markSecretData(object: Properties): Properties {
  if (object.kind !== "Secret") return object;
  return {
    ...object,
    ...(object.data !== undefined && { data: secret(object.data) }),
    ...(object.stringData !== undefined && { stringData: secret(object.stringData) }),
  };
}

function fromCheckpoint(state: Properties): { inputs: KubeObject; live: KubeObject } {
  const { [INPUTS]: inputs, [INITIAL_VERSION]: _version, [FIELD_MANAGER]: _manager, ...live } = state;
  return {
    inputs: toObject((inputs ?? {}) as Properties),
    live: renameKeys(live, /^x_kubernetes_/, "-") as KubeObject,
  };
}

/** `namespace/name`, or the name alone. */
const idOf = ({ metadata }: KubeObject): string =>
  metadata.namespace ? `${metadata.namespace}/${metadata.name}` : metadata.name;

function parseId(id: string): { namespace?: string; name: string } {
  const [first = "", ...rest] = id.split("/");
  return rest.length > 0 ? { namespace: first, name: rest.join("/") } : { name: first };
}

/** `kubernetes:apps/v1:Deployment` → apps/v1, Deployment; the core group has no name in the API. A patch has its object's kind. */
function kindOfType(type: string): { apiVersion: string; kind: string } {
  const [, module = "", kind = ""] = type.split(":");
  return { apiVersion: module.replace(/^core\//, ""), kind: isPatch(type) ? kind.replace(/Patch$/, "") : kind };
}

/** Some fields of an object that somebody else makes. A custom resource may have such a name too. Source: kinds.IsPatchURN. */
const isPatch = (type: string): boolean => /^kubernetes:([a-z]+|[a-z.]+\.k8s\.io)\/\w+:\w+Patch$/.test(type);

const UNSUPPORTED = /^kubernetes:(helm\.sh|yaml|kustomize|index)/;

function refuseUnsupported(type: string): void {
  if (UNSUPPORTED.test(type)) {
    throw new Error(`${type} needs the official kubernetes plugin: the simulated provider takes plain objects only`);
  }
  if (/List$/.test(type)) {
    throw new Error(
      "list resources exist for compatibility with YAML manifests and Helm charts, and cannot be created directly. Use the underlying resource type instead",
    );
  }
}

/** Fields of several owners as one: they are nested sets. */
function mergeFields(left: Properties, right: Properties): Properties {
  const merged = { ...left };
  for (const [key, value] of Object.entries(right)) {
    merged[key] = mergeFields((left[key] ?? {}) as Properties, value as Properties);
  }
  return merged;
}

/** The owners after `manager` has taken over what earlier creates and kubectl own; `undefined` where there is nothing to take. */
function adoptFields(entries: ManagedFields[], manager: string): ManagedFields[] | undefined {
  const isOwn = (entry: ManagedFields) => entry.manager === manager && entry.operation === "Apply";
  const adopted = entries.filter(
    (entry) =>
      !isOwn(entry) &&
      !entry.subresource &&
      (entry.operation === "Update" || entry.manager === "kubectl") &&
      ADOPTED_MANAGERS.some((prefix) => entry.manager.startsWith(prefix)),
  );
  const [first] = adopted;
  if (!first) return undefined;
  const own = [...entries.filter(isOwn), ...adopted];
  const fieldsV1 = own.map((entry) => entry.fieldsV1 as Properties).reduce(mergeFields, {});
  const rest = entries.filter((entry) => !own.includes(entry));
  return [...rest, { ...first, manager, operation: "Apply", fieldsV1 }];
}

const at = (value: unknown, path: (string | number)[]): unknown =>
  path.reduce<unknown>((member, part) => (member as Properties | undefined)?.[part], value);

function setAt(value: Properties, [part, ...rest]: (string | number)[], member: unknown): void {
  if (part === undefined) return;
  if (rest.length > 0) {
    value[part] ??= {};
    setAt(value[part] as Properties, rest, member);
  } else if (member === undefined) delete value[part];
  else value[part] = member;
}

/** An ignored field that someone else owns is left to them; any other keeps its live value. Source: await.go handleSSAIgnoreFields. */
function leaveIgnored(inputs: KubeObject, live: KubeObject, ignored: string[], manager: string): KubeObject {
  const result = structuredClone(inputs);
  for (const path of ignored.map(parsePropertyPath)) {
    const field = path.map((part) => `f:${part}`);
    const owners = (live.metadata.managedFields ?? []).filter((entry) => at(entry.fieldsV1, field) !== undefined);
    const isForeign = owners.length > 0 && !owners.some((entry) => entry.manager === manager);
    const liveValue = at(live, path);
    if (isForeign) setAt(result, path, undefined);
    else if (liveValue !== undefined) setAt(result, path, liveValue);
  }
  return result;
}

const isPlainNotFound = (error: unknown) => error instanceof ApiError && error.code === 404;

/** A provider that behaves as the official kubernetes plugin does with server-side apply. */
class KubernetesProvider implements Provider {
  readonly version = version;
  readonly #engine: Engine;
  readonly #cancelled = new AbortController();
  #client: Client | undefined;
  #unreachable: string | undefined;
  #namespace = "default";
  #options: Options = {
    deleteUnreachable: false,
    skipUpdateUnreachable: false,
    upsertExistingObjects: false,
    patchForce: false,
    mutable: { configMaps: false, secrets: false },
  };

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  cancel(): void {
    this.#cancelled.abort();
  }

  // The provider itself

  async diffConfig({ state, inputs }: DiffRequest): Promise<DiffResult> {
    const keys = [...new Set([...Object.keys(state), ...Object.keys(inputs)])];
    const diffs = keys.filter((key) => JSON.stringify(state[key]) !== JSON.stringify(inputs[key]));
    const { clusterIdentifier: oldIdentifier } = state;
    const { clusterIdentifier } = inputs;
    // The same identifier is the same cluster, whatever else has changed; to begin or end using one replaces nothing.
    if (clusterIdentifier && oldIdentifier === clusterIdentifier) return { diffs };
    const replaces = clusterIdentifier && oldIdentifier ? ["clusterIdentifier"] : [];
    const selecting = ["kubeconfig", "context", "cluster"].filter((key) => diffs.includes(key));
    const computed = selecting.filter((key) => inputs[key] === UNKNOWN);
    if (computed.length > 0) return { diffs, replaces: [...replaces, ...computed] };
    const [before, after] = [pointedCluster(state), pointedCluster(inputs)];
    if (before && after && before !== after) replaces.push(...selecting);
    return { diffs, replaces };
  }

  async configure({ args }: ConfigureRequest): Promise<void> {
    const flag = (name: string, variable: string) => String(args[name] ?? process.env[variable] ?? "") === "true";
    this.#options = {
      deleteUnreachable: flag("deleteUnreachable", "PULUMI_K8S_DELETE_UNREACHABLE"),
      skipUpdateUnreachable: flag("skipUpdateUnreachable", "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE"),
      upsertExistingObjects: flag("upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"),
      patchForce: flag("enablePatchForce", "PULUMI_K8S_ENABLE_PATCH_FORCE"),
      mutable: {
        configMaps: flag("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
        secrets: flag("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
      },
    };
    if (args.renderYamlToDirectory) throw new Error("renderYamlToDirectory needs the official kubernetes plugin");
    await this.#connect(args);
    if (this.#unreachable) {
      this.#engine.log("warning", `configured Kubernetes cluster is unreachable: ${this.#unreachable}`);
    }
  }

  /** An unreachable cluster fails only what needs it: a preview goes on. */
  async #connect(args: Properties): Promise<void> {
    const text = (name: string) => (typeof args[name] === "string" ? args[name] : "");
    this.#unreachable = undefined;
    this.#namespace = text("namespace") || "default";
    let config: Kubeconfig;
    try {
      config = loadKubeconfig(text("kubeconfig"));
    } catch (error) {
      this.#unreachable = `failed to parse kubeconfig data in \`kubernetes:config:kubeconfig\`- ${messageOf(error)}`;
      return;
    }
    try {
      const overrides = { context: text("context"), cluster: text("cluster"), namespace: text("namespace") };
      this.#client = new Client(config, overrides, this.#cancelled.signal);
      this.#namespace = this.#client.namespace;
    } catch (error) {
      this.#unreachable = `unable to load Kubernetes client configuration from kubeconfig file. Make sure you have: \n\n \t • set up the provider as per https://www.pulumi.com/registry/packages/kubernetes/installation-configuration/ \n\n ${messageOf(error)}`;
      return;
    }
    try {
      await this.#client.resource("v1", "Namespace");
    } catch (error) {
      this.#unreachable = `unable to load schema information from the API server: ${messageOf(error)}`;
    }
  }

  // Inputs

  async check(request: CheckRequest): Promise<CheckResult> {
    const { oldInputs, type, urn } = request;
    refuseUnsupported(type);
    if (this.#unreachable && this.#options.skipUpdateUnreachable) {
      this.#engine.log(
        "warning",
        "Cluster is unreachable but skipUpdateUnreachable flag is set to true, skipping...",
        urn,
      );
      return { inputs: oldInputs ?? request.inputs };
    }
    const inputs = toObject({ ...kindOfType(type), ...request.inputs });
    waitedField(inputs);
    if (isPatch(type) && !inputs.metadata.name) throw new Error("patch resources require the .metadata.name field");
    this.#nameObject(inputs, request);
    const namespace = inputs.metadata.namespace;
    if (!namespace && (await this.#isNamespaced(inputs))) inputs.metadata.namespace = this.#namespace;
    return { inputs: markSecretData(renameKeys(inputs, /^x-kubernetes-/, "_") as Properties) };
  }

  #nameObject(inputs: KubeObject, { oldInputs, name, randomSeed, autonaming }: CheckRequest): void {
    const { metadata } = inputs;
    if (metadata.generateName) {
      throw new Error("the `.metadata.generateName` field is not supported in Server-Side Apply mode");
    }
    if (metadata.name) return;
    const old = oldInputs?.metadata as KubeObject["metadata"] | undefined;
    if (autonaming?.mode === "disable") {
      throw new Error("autonaming is disabled, resource requires the .metadata.name field to be set");
    }
    const isOwn = old?.annotations?.[AUTONAMED] === "true";
    const proposed = autonaming?.proposedName || `${name}-${randomHex(randomSeed, 8)}`;
    metadata.name = isOwn && old ? old.name : proposed;
    metadata.annotations = { ...metadata.annotations, [AUTONAMED]: "true" };
  }

  async #isNamespaced({ apiVersion, kind }: KubeObject): Promise<boolean> {
    if (!this.#client || this.#unreachable) return !CLUSTER_SCOPED.has(kind);
    try {
      return (await this.#client.resource(apiVersion, kind)).namespaced;
    } catch (error) {
      if (error instanceof NoMatchError) return true; // a custom resource whose definition is still to come
      throw error;
    }
  }

  async diff({ state, inputs: newInputs, ignoreChanges }: DiffRequest): Promise<DiffResult> {
    const { inputs: oldInputs, live } = fromCheckpoint(state);
    const inputs = toObject(newInputs);
    const pruned = pruneLive(withStringData(live, oldInputs), oldInputs) as KubeObject;
    const scoped = await this.#isNamespaced(inputs);
    const canonical = (object: KubeObject): KubeObject => ({
      ...object,
      metadata: { ...object.metadata, namespace: scoped ? object.metadata.namespace || "default" : undefined },
    });
    const old = canonical({
      ...pruned,
      apiVersion: pruned.apiVersion ?? live.apiVersion,
      kind: pruned.kind ?? live.kind,
      metadata: { ...pruned.metadata, resourceVersion: undefined, name: live.metadata.name },
    });
    const fresh = canonical(inputs);
    const replacing = replacingFields(fresh, this.#options.mutable);
    const found = withoutIgnored(changes(old, fresh, replacing), ignoreChanges);
    if (await this.#isUnreadyJob(inputs))
      found.push({ kind: "update-replace", inputDiff: false, path: ["metadata", "annotations", REPLACE_UNREADY] });
    const isReplaced = found.some(({ kind }) => kind.endsWith("-replace"));
    const sameName =
      inputs.metadata.name === live.metadata.name && fresh.metadata.namespace === canonical(live).metadata.namespace;
    const isAutonamed = inputs.metadata.annotations?.[AUTONAMED] === "true";
    return {
      changes: found.length > 0,
      detailedDiff: detailedDiff(found),
      deleteBeforeReplace: isReplaced && sameName && !isAutonamed,
    };
  }

  /** A Job that has not ended well, and that its program wants another of then; one that cannot be asked is left. */
  async #isUnreadyJob(inputs: KubeObject): Promise<boolean> {
    if (inputs.kind !== "Job" || inputs.metadata.annotations?.[REPLACE_UNREADY] !== "true" || !this.#client)
      return false;
    const live = await this.#live(this.#client, inputs).catch(() => undefined);
    const { conditions = [] } = (live?.status ?? {}) as { conditions?: { type: string; status: string }[] };
    return live !== undefined && !conditions.some(({ type, status }) => type === "Complete" && status === "True");
  }

  // Objects

  async create(request: CreateRequest): Promise<{ id: string; outputs: Properties }> {
    const { urn, preview } = request;
    const inputs = toObject(request.inputs);
    const asInputs = { id: "", outputs: markSecretData(request.inputs) };
    if (preview && (hasUnknown(inputs) || !(await this.#isServed(inputs)))) return asInputs;
    const client = this.#reachable();
    const manager = this.#fieldManager({}, inputs);
    const finish = (live: KubeObject) =>
      checkpoint(live, keepSecrets(request.inputs, request.markedInputs), inputs.apiVersion, manager);
    let created: KubeObject;
    try {
      const upsert = this.#options.upsertExistingObjects || isPatch(request.type);
      created = await this.#createObject(client, inputs, manager, preview, upsert);
    } catch (error) {
      if (preview && error instanceof ApiError && isPreviewable(error)) return asInputs;
      if (error instanceof NoMatchError) {
        throw new Error(
          `creation of resource "${urn}" with kind ${inputs.apiVersion}/${inputs.kind} failed because the Kubernetes API server reported that the apiVersion for this resource does not exist. Verify that any required CRDs have been created: ${error.message}`,
        );
      }
      throw new Error(
        `resource "${urn}" was not successfully created by the Kubernetes API server: ${messageOf(error)}`,
      );
    }
    if (preview) {
      const { status: _, ...planned } = created;
      return { id: "", outputs: finish(planned as KubeObject) };
    }
    const id = idOf(created);
    try {
      return { id, outputs: finish(await awaitReady(created, this.#awaitOptions(request, inputs))) };
    } catch (error) {
      if (!(error instanceof AwaitError)) throw error;
      const message = `resource "${urn}" was successfully created, but the Kubernetes API server reported that it failed to fully initialize or become live: ${error.message}`;
      throw new InitializationError(message, id, finish(error.live), [message, ...error.reasons]);
    }
  }

  /** A plain create, of which what exists already is an error; `upsert` applies to what exists, or makes it. */
  async #createObject(
    client: Client,
    inputs: KubeObject,
    manager: string,
    preview: boolean,
    upsert: boolean,
  ): Promise<KubeObject> {
    const attempts = 5;
    for (let attempt = 1; ; attempt++) {
      try {
        if (upsert) return await this.#apply(client, inputs, manager, preview, undefined);
        const path = await client.path(inputs);
        return await client.request("POST", path.slice(0, path.lastIndexOf("/")), {
          query: { fieldManager: manager, fieldValidation: "Warn", ...(preview && { dryRun: "All" }) },
          body: inputs,
        });
      } catch (error) {
        // A namespace or a definition that another resource is just making
        const isRetried = !preview && (error instanceof NoMatchError || isPlainNotFound(error));
        if (!isRetried || attempt === attempts) throw error;
        await new Promise((fulfil) => setTimeout(fulfil, 2 ** (attempt - 1) * 1000));
      }
    }
  }

  /** Server-side apply. @param live the object before; nothing where it may not exist */
  async #apply(
    client: Client,
    inputs: KubeObject,
    manager: string,
    preview: boolean,
    live: KubeObject | undefined,
  ): Promise<KubeObject> {
    const annotated = inputs.metadata.annotations?.["pulumi.com/patchForce"] === "true";
    const adopts = adoptFields(live?.metadata.managedFields ?? [], manager) !== undefined;
    const force = annotated || this.#options.patchForce || (preview && (!live || adopts));
    try {
      return await client.request("PATCH", await client.path(inputs), {
        contentType: "application/apply-patch+yaml",
        query: {
          fieldManager: manager,
          force: String(force),
          fieldValidation: "Warn",
          ...(preview && { dryRun: "All" }),
        },
        body: inputs,
      });
    } catch (error) {
      if (!(error instanceof ApiError && error.reason === "Conflict")) throw error;
      throw new Error(
        `Server-Side Apply field conflict detected. See https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/managing-resources-with-server-side-apply/#handle-field-conflicts-on-existing-resources for troubleshooting help.\nThe resource managed by field manager "${manager}" had an apply conflict: ${error.message}`,
      );
    }
  }

  /** Makes the apply manager own what our plain create and kubectl own, so that an update meets no conflict with them. */
  async #adopt(client: Client, live: KubeObject, manager: string): Promise<KubeObject> {
    const managedFields = adoptFields(live.metadata.managedFields ?? [], manager);
    if (!managedFields) return live;
    return client.request("PATCH", await client.path(live), {
      contentType: "application/json-patch+json",
      body: [{ op: "replace", path: "/metadata/managedFields", value: managedFields }],
    });
  }

  async update(request: UpdateRequest): Promise<Properties> {
    const { preview, state, urn, ignoreChanges } = request;
    const inputs = toObject(request.inputs);
    if (preview && (hasUnknown(inputs) || !(await this.#isServed(inputs)))) return markSecretData(request.inputs);
    const client = this.#reachable();
    const manager = this.#fieldManager(state, inputs);
    const initialVersion = String(state[INITIAL_VERSION] ?? inputs.apiVersion);
    const finish = (live: KubeObject) =>
      checkpoint(live, keepSecrets(request.inputs, request.markedInputs), initialVersion, manager);
    try {
      const live = await this.#live(client, inputs);
      const adopted = preview || isPatch(request.type) ? live : await this.#adopt(client, live, manager);
      const desired = leaveIgnored(inputs, adopted, ignoreChanges, manager);
      const updated = await this.#apply(client, desired, manager, preview, adopted);
      if (preview) return finish(updated);
      return finish(await awaitReady(updated, this.#awaitOptions(request, inputs)));
    } catch (error) {
      if (preview && error instanceof ApiError && error.code === 403) return markSecretData(request.inputs);
      if (error instanceof NoMatchError) throw new Error(`update of resource "${urn}" failed: ${error.message}`);
      const live = error instanceof AwaitError ? error.live : await this.#live(client, inputs).catch(() => undefined);
      if (!live) throw new Error(`update of resource "${urn}" failed: ${messageOf(error)}`);
      const message = `the Kubernetes API server reported that "${idOf(live)}" failed to fully initialize or become live: ${messageOf(error)}`;
      if (preview) throw new Error(message); // it has changed nothing that the state should keep
      const reasons = error instanceof AwaitError ? error.reasons : [];
      throw new InitializationError(message, idOf(live), finish(live), [message, ...reasons]);
    }
  }

  async read(request: ReadRequest): Promise<{ id: string; outputs: Properties; inputs: Properties } | undefined> {
    const { id, urn, type, state } = request;
    refuseUnsupported(type);
    if (this.#unreachable) {
      this.#engine.log("warning", `configured Kubernetes cluster is unreachable: ${this.#unreachable}`, urn);
      if (this.#options.deleteUnreachable) return this.#forget(urn);
      if (this.#options.skipUpdateUnreachable) return { id, outputs: state, inputs: request.inputs };
      throw new Error(
        'failed to read resource state due to unreachable cluster. If the cluster was deleted, you can remove this resource from Pulumi state by rerunning the operation with the PULUMI_K8S_DELETE_UNREACHABLE environment variable set to "true"',
      );
    }
    const client = this.#reachable();
    const isImport = Object.keys(request.inputs).length === 0;
    const known = isImport ? { ...kindOfType(type), metadata: {} } : request.inputs;
    const target = toObject(known);
    const { name, namespace } = parseId(id);
    target.metadata = { ...target.metadata, name, ...(namespace && { namespace }) };
    let live: KubeObject;
    try {
      live = await this.#live(client, target);
    } catch (error) {
      if (error instanceof NoMatchError || isPlainNotFound(error)) return undefined;
      throw error;
    }
    const inputs = isImport
      ? importedInputs(live)
      : (pruneLive(withStringData(live, target), toObject(known)) as KubeObject);
    const manager = this.#fieldManager(state, inputs);
    const visible = markSecretData(renameKeys(inputs, /^x-kubernetes-/, "_") as Properties);
    const marked = keepSecrets(visible, request.markedInputs);
    const outputs = checkpoint(live, marked, String(state[INITIAL_VERSION] ?? inputs.apiVersion), manager);
    if (isImport) return { id, outputs, inputs: visible };
    try {
      await checkReady(live, this.#awaitOptions({ ...request, timeout: 0 }, inputs));
    } catch (error) {
      if (!(error instanceof AwaitError)) throw error;
      throw new InitializationError(error.message, id, outputs, [error.message, ...error.reasons], visible);
    }
    return { id, outputs, inputs: visible };
  }

  async delete(request: DeleteRequest): Promise<void> {
    const { id, urn, state } = request;
    if (this.#unreachable) {
      this.#engine.log("warning", `configured Kubernetes cluster is unreachable: ${this.#unreachable}`, urn);
      if (this.#options.deleteUnreachable) return this.#forget(urn);
      throw new Error(
        'configured Kubernetes cluster is unreachable. If the cluster was deleted, you can remove this resource from Pulumi state by rerunning the operation with the PULUMI_K8S_DELETE_UNREACHABLE environment variable set to "true"',
      );
    }
    const client = this.#reachable();
    const { inputs, live } = fromCheckpoint(state);
    if (isPatch(request.type)) return this.#relinquish(client, inputs, this.#fieldManager(state, inputs));
    const { name, namespace } = parseId(id);
    const target = { ...live, metadata: { ...live.metadata, name, ...(namespace && { namespace }) } };
    const annotation = inputs.metadata.annotations?.["pulumi.com/deletionPropagationPolicy"]?.toLowerCase() ?? "";
    const policy = { orphan: "Orphan", background: "Background" }[annotation] ?? "Foreground";
    try {
      const answer = await client.request("DELETE", await client.path(target), { body: { propagationPolicy: policy } });
      if (answer.kind === "Status") return; // gone at once
      await awaitGone(
        { ...answer, apiVersion: target.apiVersion, kind: target.kind },
        this.#awaitOptions(request, inputs),
      );
    } catch (error) {
      if (error instanceof NoMatchError || isPlainNotFound(error)) return;
      if (!(error instanceof AwaitError)) throw error;
      throw new Error([error.message, ...error.reasons].join(": "));
    }
  }

  /** A patch that is deleted owns no field any more; the object stays. Source: ssa.Relinquish. */
  async #relinquish(client: Client, { apiVersion, kind, metadata }: KubeObject, manager: string): Promise<void> {
    const { name, namespace } = metadata;
    try {
      await this.#live(client, { apiVersion, kind, metadata: { name, namespace } });
      await this.#apply(client, { apiVersion, kind, metadata: { name, namespace } }, manager, false, undefined);
    } catch (error) {
      if (!(error instanceof NoMatchError) && !isPlainNotFound(error)) throw error;
    }
  }

  // Helpers

  #reachable(): Client {
    if (this.#client && !this.#unreachable) return this.#client;
    throw new Error(`configured Kubernetes cluster is unreachable: ${this.#unreachable}`);
  }

  #forget(urn: string): undefined {
    this.#engine.log(
      "info",
      "configured Kubernetes cluster is unreachable and the `deleteUnreachable` option is enabled. Deleting the unreachable resource from Pulumi state",
      urn,
    );
  }

  async #isServed({ apiVersion, kind }: KubeObject): Promise<boolean> {
    if (!this.#client || this.#unreachable) return false;
    try {
      await this.#client.resource(apiVersion, kind);
      return true;
    } catch {
      return false;
    }
  }

  async #live(client: Client, object: KubeObject): Promise<KubeObject> {
    return client.request("GET", await client.path(object));
  }

  /** By annotation, else as in the state, else a new one. */
  #fieldManager(state: Properties, inputs: KubeObject): string {
    const annotated = inputs.metadata.annotations?.["pulumi.com/patchFieldManager"];
    const known = annotated ?? state[FIELD_MANAGER];
    return typeof known === "string" ? known : `pulumi-kubernetes-${randomHex(new Uint8Array(), 8)}`;
  }

  #awaitOptions({ urn, timeout }: { urn: string; timeout: number }, inputs: KubeObject): AwaitOptions {
    let last = "";
    const report = (status: string) => {
      if (status !== last) this.#engine.status(status, urn);
      last = status;
    };
    return { cluster: this.#reachable(), clock: systemClock, inputs, timeout, report };
  }
}

/** Errors of a dry run that say nothing about the real one. */
function isPreviewable({ code, reason, details }: ApiError): boolean {
  const noNamespace = code === 404 && details.kind === "namespaces";
  return noNamespace || code === 403 || reason === "AlreadyExists";
}

/** Inputs of an object that no program knows yet. */
function importedInputs(live: KubeObject): KubeObject {
  const { status: _, ...inputs } = toObject(live) as KubeObject & { status?: unknown };
  const annotations = { ...inputs.metadata.annotations };
  delete annotations["deployment.kubernetes.io/revision"];
  delete annotations["kubectl.kubernetes.io/last-applied-configuration"];
  inputs.metadata.annotations = Object.keys(annotations).length > 0 ? annotations : undefined;
  return inputs;
}

/** The cluster that a provider's arguments point to, comparable; nothing where the kubeconfig names none. */
function pointedCluster(args: Properties): string | undefined {
  try {
    const text = (name: string) => (typeof args[name] === "string" ? args[name] : "");
    const config = loadKubeconfig(text("kubeconfig"));
    const cluster = activeCluster(config, { context: text("context"), cluster: text("cluster") });
    return cluster && JSON.stringify(cluster);
  } catch {
    return undefined;
  }
}

serve((engine) => new KubernetesProvider(engine));
