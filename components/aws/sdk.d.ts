/**
 * The SDK of AWS is large and installed only where a stack is on AWS. Without it these files are checked against nothing;
 * with it, and this declaration left out, by test/aws/types.test.ts.
 */
declare module "@pulumi/aws/*";
