// Required by Node before the program (`nodeargs` of Pulumi.yaml): TypeScript goes through tsx, and nothing else does.
// Why, and what it gains: docs/decisions/program-start.md.
const Module = require("node:module");

const [loadJs, resolve, load] = [Module._extensions[".js"], Module._resolveFilename, Module._load];
require("tsx/cjs");
const [tsxLoadJs, tsxResolve] = [Module._extensions[".js"], Module._resolveFilename];

const isPackage = (file) => /[\\/]node_modules[\\/]/.test(file ?? "");
const isSdk = (file) => /[\\/]node_modules[\\/]@pulumi[\\/]pulumi[\\/]/.test(file ?? "");

Module._extensions[".js"] = (module, file) => {
  if (!isPackage(file)) return tsxLoadJs(module, file);
  // Node would parse the map of every package's file.
  process.setSourceMapsEnabled(false);
  try {
    loadJs(module, file);
  } finally {
    process.setSourceMapsEnabled(true);
  }
};

Module._resolveFilename = (request, parent, ...rest) =>
  (isPackage(parent?.filename) ? resolve : tsxResolve)(request, parent, ...rest);

Module._load = (request, parent, isMain) => {
  const get = () => load(request, parent, isMain);
  if (!isSdk(parent?.filename)) return get();
  // Only functions that are serialized (dynamic providers, lambdas) need them.
  if (request === "typescript" || request === "@npmcli/arborist") return whenUsed(get);
  // It maps each position in a stack by files that it reads, and knows nothing of what tsx made; Node does.
  return request === "source-map-support/register" ? {} : get();
};

const whenUsed = (get) => new Proxy({}, { get: (_, key) => key === "__esModule" || get()[key] });
