// A Kubernetes exec credential for the DOKS cluster whose id is the argument: a token that lives for an hour.
const [cluster] = process.argv.slice(-1);
const { DIGITALOCEAN_TOKEN: token, DIGITALOCEAN_API_URL: api = "https://api.digitalocean.com" } = process.env;

const fail = (message) => {
  console.error(`No access to cluster ${cluster}: ${message}`);
  process.exit(1);
};
if (!token) fail("DIGITALOCEAN_TOKEN is not set; set it to an API token of the cluster's account");

const url = new URL(`/v2/kubernetes/clusters/${cluster}/credentials?expiry_seconds=3600`, api);
const headers = { authorization: `Bearer ${token}` };
const response = await fetch(url, { headers, signal: AbortSignal.timeout(30_000) }).catch((error) =>
  fail(`${url.origin} can't be reached (${error.cause?.code ?? error.cause?.message ?? error.message})`),
);
if (response.status === 401) fail(`${url.origin} refuses DIGITALOCEAN_TOKEN (401); it may have expired`);
if (response.status === 403)
  fail(`${url.origin} forbids it to DIGITALOCEAN_TOKEN (403); the token needs the scope kubernetes:access_cluster`);
if (response.status === 404) fail("DIGITALOCEAN_TOKEN's account has no such cluster (404)");
if (!response.ok) fail(`${url.origin} answers ${response.status} ${(await response.text()).slice(0, 200)}`);

const credentials = await response.json();
const status = { token: credentials.token, expirationTimestamp: credentials.expires_at };
console.log(JSON.stringify({ apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status }));
