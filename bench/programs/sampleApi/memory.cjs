/** Loaded before a program: tells the parent, whenever it asks, what the process holds after its garbage is gone. */
process.on("message", () => {
  global.gc();
  global.gc();
  process.send(process.memoryUsage());
});
process.channel.unref();
