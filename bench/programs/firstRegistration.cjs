// Required by a Pulumi program's process (NODE_OPTIONS): notes the milliseconds from the start of that process to the
// moment at which it asks the engine for its first resource; the stack itself, which every program has, is not counted.
const { appendFileSync } = require("node:fs");
const http2 = require("node:http2");

const file = process.env.FIRST_REGISTRATION;
const isProgram = /[\\/]@pulumi[\\/]pulumi[\\/]cmd[\\/]run[\\/]/.test(process.argv[1] ?? "");
if (file && isProgram) {
  let registrations = 0;
  const { connect } = http2;
  http2.connect = (...args) => {
    const session = connect(...args);
    const { request } = session;
    session.request = (headers, ...rest) => {
      if (headers[":path"].endsWith(".ResourceMonitor/RegisterResource") && ++registrations === 2)
        appendFileSync(file, `${performance.now()}\n`);
      return request.call(session, headers, ...rest);
    };
    return session;
  };
}
