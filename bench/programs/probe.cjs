// Required by a Pulumi program's process (NODE_OPTIONS): writes to $PROBE, as JSON, after how many milliseconds of its life
// it asks the engine for its first resource (the stack itself, which every program has, is not counted), and the most
// memory that it held, in kilobytes.
const { writeFileSync } = require("node:fs");
const http2 = require("node:http2");

const file = process.env.PROBE;
if (file && /[\\/]@pulumi[\\/]pulumi[\\/]cmd[\\/]run[\\/]/.test(process.argv[1] ?? "")) {
  let registrations = 0;
  let firstRegistration;
  const { connect } = http2;
  http2.connect = (...args) => {
    const session = connect(...args);
    const { request } = session;
    session.request = (headers, ...rest) => {
      if (headers[":path"].endsWith(".ResourceMonitor/RegisterResource") && ++registrations === 2)
        firstRegistration = performance.now();
      return request.call(session, headers, ...rest);
    };
    return session;
  };
  process.on("exit", () => {
    const { maxRSS } = process.resourceUsage();
    writeFileSync(file, JSON.stringify({ firstRegistration, maxRSS }));
  });
}
