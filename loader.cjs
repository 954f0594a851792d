// Required by Node before the program (`nodeargs` of Pulumi.yaml): it takes the types out of TypeScript, and leaves each
// line where it is. Why, and what it gains: docs/decisions/program-start.md.
const { createHash } = require("node:crypto");
const { mkdirSync, readFileSync, renameSync, writeFileSync } = require("node:fs");
const Module = require("node:module");
const { join } = require("node:path");
const { setFlagsFromString } = require("node:v8");
const { version } = require("sucrase/package.json");

const kept = join(__dirname, "node_modules", ".cache", "hobnob", `sucrase-${version}`);

Module._extensions[".ts"] = (module, file) => module._compile(javaScriptOf(file), file);

function javaScriptOf(file) {
  const source = readFileSync(file, "utf8");
  const made = join(kept, `${createHash("sha256").update(source).digest("hex")}.js`);
  try {
    return readFileSync(made, "utf8");
  } catch {
    const { transform } = require("sucrase");
    const { code } = transform(source, {
      transforms: ["typescript", "imports"],
      disableESTransforms: true,
      filePath: file,
    });
    keep(made, code);
    return code;
  }
}

/** Of two programs that start at once each writes its own. */
function keep(file, code) {
  const own = `${file}.${process.pid}`;
  try {
    mkdirSync(kept, { recursive: true });
    writeFileSync(own, code);
    renameSync(own, file);
  } catch {
    // Where nothing can be written, the next run makes it again.
  }
}

// As tsx and the editor know them: by these the examples stand on the clone's own package.
const paths = Object.entries(require("./tsconfig.json").compilerOptions.paths).map(([pattern, [target]]) => {
  const [before, after] = pattern.split("*");
  return { before, isExact: after === undefined, target };
});
const resolve = Module._resolveFilename;
Module._resolveFilename = (request, ...rest) => resolve(request.startsWith(".") ? request : named(request), ...rest);

function named(request) {
  const path = paths.find(({ before, isExact }) => (isExact ? request === before : request.startsWith(before)));
  return path ? join(__dirname, path.target.replace("*", request.slice(path.before.length))) : request;
}

// Almost all that a program makes is garbage soon; left to itself, V8 lets it grow to several times of what is kept.
setFlagsFromString("--heap-growing-percent=30");

const load = Module._load;
const isSdk = (file) => /[\\/]node_modules[\\/]@pulumi[\\/]pulumi[\\/]/.test(file ?? "");
// Serialized functions (dynamic providers, lambdas) and programs that run the engine need them.
const seldom = ["typescript", "@npmcli/arborist", "./automation"];

Module._load = (request, parent, isMain) => {
  const get = () => load(request, parent, isMain);
  if (!isSdk(parent?.filename)) return get();
  if (seldom.includes(request)) return whenUsed(get);
  if (request === "./debuggable" && !process.env.PULUMI_DEBUG_PROMISE_LEAKS) return withoutStacks(get());
  if (request.endsWith("/log") && !process.env.PULUMI_OPTION_DEBUG) return withoutDebug(get());
  // It maps each position in a stack by files that it reads; here there is nothing to map.
  return request === "source-map-support/register" ? {} : get();
};

const whenUsed = (get) => new Proxy({}, { get: (_, key) => key === "__esModule" || get()[key] });

/** Each is a call of the engine, three to a resource, of which it shows none without `--debug`. */
const withoutDebug = (log) => Object.assign(log, { debug: async () => {} });

/** The SDK notes on each promise where it was made, for whom `PULUMI_DEBUG_PROMISE_LEAKS` tells of those that never end. */
const withoutStacks = (debuggable) => ({
  ...debuggable,
  debuggablePromise(...args) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    try {
      return debuggable.debuggablePromise(...args);
    } finally {
      Error.stackTraceLimit = limit;
    }
  },
});
