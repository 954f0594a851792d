// Loaded into Node.js processes of pods (--import): names are those of the hosts file alone, as in the cluster's DNS.
import dns from "node:dns";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";

const { lookup } = dns;

function addressesOf(name) {
  const lines = readFileSync(process.env.HOSTS_FILE, "utf8").split("\n");
  const found = lines.map((line) => line.split(" ")).filter(([, known]) => known === name);
  return found.map(([address]) => ({ address, family: 4 })).sort(() => Math.random() - 0.5);
}

dns.lookup = (name, ...rest) => {
  const callback = rest.pop();
  if (isIP(name)) return lookup(name, ...rest, callback);
  const all = addressesOf(name);
  if (all.length === 0) {
    const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: "ENOTFOUND", hostname: name });
    return process.nextTick(callback, error);
  }
  if (rest[0]?.all) return process.nextTick(callback, null, all);
  return process.nextTick(callback, null, all[0].address, 4);
};
dns.promises.lookup = (name, options) =>
  new Promise((resolve, reject) =>
    dns.lookup(name, { ...options }, (error, address, family) => {
      if (error) reject(error);
      else resolve(options?.all ? address : { address, family });
    }),
  );

// Whoever holds the other end is the kubelet: without it nobody would end this process.
process.stdin.on("close", () => process.exit(1)).on("error", () => {});
process.stdin.resume();
process.stdin.unref?.();
