/** For the tests of stacks that stand on a platform: a platform's outputs, and the graph that a program asks for. */
export { type Captured, type CaptureOptions, capture, find, ofType, unwrap, waitsFor } from "./test/unit/graph";
export { platformOutputs, platformStack } from "./test/unit/platformOutputs";
