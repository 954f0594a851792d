const { reporters } = require("mocha");

/** Mocha's spec reporter, closed by the one line that every CI can read; failed checks count as one failure more. */
module.exports = class extends reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    runner.once("end", () => {
      const { passes, failures, pending } = this.stats;
      const failed = failures + Number(process.env.FAILED_CHECKS ?? 0);
      process.on("exit", () =>
        console.log(`\n${passes} passed, ${failed} failed${pending ? `, ${pending} skipped` : ""}`),
      );
    });
  }
};
