// The engine's runner would compile TypeScript by itself, types and all: this loads it as the program is loaded.
require("tsx/cjs");
require("./pack.ts");
