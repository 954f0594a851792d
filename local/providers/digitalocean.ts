/** The simulated `digitalocean` plugin: the official one's resources and answers, over the simulated account. */
import { Client } from "./digitalocean/client";
import { functions, type Resource, resources } from "./digitalocean/resources";
import { check, diff, inputsOf, planned } from "./digitalocean/schema";
import { hasUnknown, type Properties, type Provider, serve } from "./server";

const configuration = [
  "apiEndpoint",
  "httpRetryMax",
  "httpRetryWaitMax",
  "httpRetryWaitMin",
  "requestsPerSecond",
  "spacesAccessId",
  "spacesEndpoint",
  "spacesSecretKey",
  "token",
];

function resource(type: string): Resource {
  const found = resources[type];
  if (!found)
    throw new Error(`the simulated digitalocean provider has no ${type}: it plays only what the program uses`);
  return found;
}

const withoutDefaults = ({ __defaults: _, ...inputs }: Properties) => inputs;

function provider(): Provider {
  const cancelled = new AbortController();
  let client: Client | undefined;
  const context = () => {
    if (!client) throw new Error("the provider is not configured");
    return { client, signal: cancelled.signal };
  };
  const refuse = (definition: Resource, inputs: Properties) => {
    const reason = definition.refuse?.(inputs);
    if (reason) throw new Error(reason);
  };

  return {
    version: (require("@pulumi/digitalocean/package.json") as { version: string }).version,

    async checkConfig({ inputs }) {
      const unknown = Object.keys(inputs).filter(
        (key) => ![...configuration, "version", "pluginDownloadURL"].includes(key),
      );
      return {
        inputs,
        failures: unknown.map((key) => ({
          reason: `\`digitalocean:${key}\` is not a valid configuration key for the digitalocean provider. If the key is not intended for the provider, please choose a different namespace from \`digitalocean:\`.`,
        })),
      };
    },

    async configure({ args }) {
      const endpoint = String(args.apiEndpoint ?? process.env.DIGITALOCEAN_API_URL ?? "https://api.digitalocean.com");
      // A simulation must never work on what costs money.
      if (!["127.0.0.1", "localhost"].includes(new URL(endpoint).hostname)) {
        throw new Error(
          `the simulated digitalocean provider works on the simulated account only, not on ${endpoint}: install the official plugin (pulumi plugin install resource digitalocean)`,
        );
      }
      client = new Client(endpoint, String(args.token ?? process.env.DIGITALOCEAN_TOKEN ?? ""));
    },

    check: async (request) => check(resource(request.type).fields, request),

    async diff(request) {
      const definition = resource(request.type);
      const inputs = withoutDefaults(request.inputs);
      refuse(definition, inputs);
      return diff(definition.fields, request, (differences) =>
        definition.adjustDiff?.(differences, inputs, request.state),
      );
    },

    async create({ type, inputs: given, preview }) {
      const definition = resource(type);
      const inputs = withoutDefaults(given);
      refuse(definition, inputs);
      if (preview) return { id: "", outputs: planned(definition.fields, inputs) };
      return definition.create(context(), inputs);
    },

    async read({ type, id, state, inputs }) {
      const definition = resource(type);
      const found = await definition.read(context(), id, state);
      return found && { ...found, inputs: inputsOf(definition.fields, inputs, found.outputs) };
    },

    async update({ type, id, inputs: given, state, preview }) {
      const definition = resource(type);
      const inputs = withoutDefaults(given);
      if (preview || hasUnknown(inputs)) return planned(definition.fields, inputs, state);
      if (!definition.update) throw new Error(`${type} can't be updated in place`);
      return definition.update(context(), id, inputs, state);
    },

    async delete({ type, id, state, timeout }) {
      await resource(type).delete(context(), id, state, timeout);
    },

    async invoke({ token, args }) {
      const look = functions[token];
      if (!look)
        throw new Error(`the simulated digitalocean provider has no ${token}: it plays only what the program uses`);
      return look(context().client, args);
    },

    cancel: () => cancelled.abort(),
  };
}

serve(provider);
