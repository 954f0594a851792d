import { createHash, randomUUID } from "node:crypto";
import { isIPv4, isIPv6 } from "node:net";
import { type Body, find, forbidden, notFound, page, type Server, strings, text, unprocessable } from "./api";
import type { Certificate, Domain, DomainRecord, Store } from "./state";

/** The name servers of every zone. Source: DigitalOcean's documentation of DNS. */
const nameServers = ["ns1.digitalocean.com", "ns2.digitalocean.com", "ns3.digitalocean.com"];

const recordTypes = ["A", "AAAA", "CAA", "CNAME", "MX", "NS", "SOA", "SRV", "TXT"];
/** Their data is a host name, which the API wants with its final dot and gives back without it. */
const hostTypes = ["CAA", "CNAME", "MX", "NS", "SRV"];
const defaultTtl = 1800;

export function domainRoutes(server: Server, store: Store): void {
  const { data } = store;
  type Zone = { Params: { name: string }; Body: Body };
  type Entry = { Params: { name: string; id: string }; Body: Body };

  server.get("/v2/domains", (request) => page(request, "domains", data.domains.map(domainView)));

  server.post<Zone>("/v2/domains", ({ body }, reply) => {
    const domain = createDomain(store, text(body, "name").toLowerCase());
    if (body.ip_address) addRecord(store, domain, { type: "A", name: "@", data: text(body, "ip_address") });
    data.domains.push(domain);
    store.save();
    reply.status(201);
    return { domain: domainView(domain) };
  });

  server.get<Zone>("/v2/domains/:name", ({ params }) => ({ domain: domainView(zone(store, params.name)) }));

  server.delete<Zone>("/v2/domains/:name", ({ params }, reply) => {
    data.domains.splice(data.domains.indexOf(zone(store, params.name)), 1);
    store.save();
    return reply.status(204).send();
  });

  server.get<Zone>("/v2/domains/:name/records", (request) => {
    const { name, type } = request.query as { name?: string; type?: string };
    const { name: apex, records } = zone(store, request.params.name);
    const host = (record: DomainRecord) => (record.name === "@" ? apex : `${record.name}.${apex}`);
    const matching = records.filter(
      (record) => (!type || record.type === type) && (!name || host(record) === name || record.name === name),
    );
    return page(request, "domain_records", matching);
  });

  server.post<Zone>("/v2/domains/:name/records", ({ params, body }, reply) => {
    const record = addRecord(store, zone(store, params.name), body);
    store.save();
    reply.status(201);
    return { domain_record: record };
  });

  server.get<Entry>("/v2/domains/:name/records/:id", ({ params }) => ({
    domain_record: find(zone(store, params.name).records, params.id),
  }));

  const update = ({ params, body }: { params: { name: string; id: string }; body: Body }) => {
    const { records } = zone(store, params.name);
    const record = find(records, params.id);
    // The API wants the final dot again although it gave the name without it.
    const dot = hostTypes.includes(record.type) && body.data === undefined ? "." : "";
    Object.assign(record, checkRecord(records, { ...record, data: `${record.data}${dot}`, ...body }, record));
    store.save();
    return { domain_record: record };
  };
  server.put<Entry>("/v2/domains/:name/records/:id", update);
  server.patch<Entry>("/v2/domains/:name/records/:id", update);

  server.delete<Entry>("/v2/domains/:name/records/:id", ({ params }, reply) => {
    const { records } = zone(store, params.name);
    records.splice(records.indexOf(find(records, params.id)), 1);
    store.save();
    return reply.status(204).send();
  });
}

function zone({ data }: Store, name: string): Domain {
  const domain = data.domains.find((candidate) => candidate.name === name.toLowerCase());
  if (!domain) throw notFound();
  return domain;
}

function createDomain(store: Store, name: string): Domain {
  if (!/^(?=.{4,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z][a-z0-9-]*[a-z0-9]$/.test(name)) {
    throw unprocessable(`domain '${name}': name is invalid`);
  }
  // Wording: droplet_kit#181.
  if (store.data.domains.some((domain) => domain.name === name)) {
    throw unprocessable(`domain '${name}': name already exists`);
  }
  const record = (type: string, data: string) => ({ ...emptyRecord, id: store.nextId(), type, data, ttl: defaultTtl });
  return { name, ttl: defaultTtl, records: [record("SOA", "1800"), ...nameServers.map((host) => record("NS", host))] };
}

const emptyRecord = { name: "@", priority: null, port: null, weight: null, flags: null, tag: null };

const domainView = ({ name, ttl, records }: Domain) => ({
  name,
  ttl,
  zone_file: [
    `$ORIGIN ${name}.`,
    `$TTL ${ttl}`,
    ...records.map((record) => `${record.name} IN ${record.ttl} ${record.type} ${record.data}`),
    "",
  ].join("\n"),
});

function addRecord(store: Store, domain: Domain, body: Body): DomainRecord {
  const record = {
    id: 0,
    ...emptyRecord,
    type: "",
    ttl: defaultTtl,
    ...checkRecord(domain.records, body),
  } as DomainRecord;
  record.id = store.nextId();
  domain.records.push(record);
  return record;
}

/** The fields as the zone keeps them, or the refusal. Wordings: doctl#919 and the API's documentation. */
function checkRecord(records: DomainRecord[], body: Body, own?: DomainRecord): Partial<DomainRecord> {
  const type = text(body, "type");
  if (!recordTypes.includes(type)) throw unprocessable(`Type is not included in the list`);
  if (typeof body.data !== "string" || body.data === "") throw unprocessable("Data can't be blank");
  const name = typeof body.name === "string" && body.name !== "" ? body.name : "@";
  const number = (field: "priority" | "port" | "weight" | "flags", highest: number): number | null => {
    const value = body[field] ?? null;
    if (value === null) return null;
    if (typeof value === "number" && value >= 0 && value <= highest) return value;
    throw unprocessable(`${field} must be between 0 and ${highest}`);
  };
  const record = {
    type,
    name,
    data: body.data,
    ttl: typeof body.ttl === "number" && body.ttl > 0 ? body.ttl : defaultTtl,
    priority: number("priority", 65535),
    port: number("port", 65535),
    weight: number("weight", 65535),
    flags: number("flags", 255),
    tag: (body.tag || null) as string | null,
  };
  if (record.ttl < 30) throw unprocessable("TTL must be greater than or equal to 30");
  if (type === "A" && !isIPv4(record.data))
    throw unprocessable("IP address did not match IPv4 format (e.g. 127.0.0.1).");
  if (type === "AAAA" && !isIPv6(record.data))
    throw unprocessable("IP address did not match IPv6 format (e.g. 2001:db8::ff00:42:8329).");
  if (["MX", "SRV"].includes(type) && record.priority === null) throw unprocessable("Priority can't be blank");
  if (type === "SRV" && (record.port === null || record.weight === null))
    throw unprocessable("Port and weight can't be blank");
  if (type === "CAA" && (record.flags === null || !record.tag)) throw unprocessable("Flags and tag can't be blank");
  if (hostTypes.includes(type) && record.tag !== "iodef" && record.data !== "@") {
    if (!record.data.endsWith(".")) throw unprocessable("Data needs to end with a dot (.)");
    record.data = record.data.slice(0, -1);
  }
  const others = records.filter((other) => other !== own && other.name === name);
  if (others.some((other) => other.type === "CNAME") || (type === "CNAME" && others.length > 0)) {
    throw unprocessable("CNAME records cannot share a name with other records");
  }
  return record;
}

/** Writes the A record of each host into its own zone, as a balancer does for its Let's Encrypt names. */
export function writeAddressRecords(store: Store, hosts: string[], address: string): void {
  for (const host of hosts) {
    const domain = owningZone(store, host);
    if (!domain) throw unprocessable(`${host} is in none of the account's zones`);
    const name = host === domain.name ? "@" : host.slice(0, -domain.name.length - 1);
    const existing = domain.records.find((record) => record.type === "A" && record.name === name);
    if (existing) existing.data = address;
    else addRecord(store, domain, { type: "A", name, data: address });
  }
  store.save();
}

function owningZone({ data }: Store, host: string): Domain | undefined {
  const bare = host.replace(/^\*\./, "");
  return data.domains.find(({ name }) => bare === name || bare.endsWith(`.${name}`));
}

/** @param later runs an action after so many seconds, unless the account ends before. */
export function certificateRoutes(server: Server, store: Store, later: (seconds: number, action: () => void) => void) {
  const { data } = store;
  type One = { Params: { id: string }; Body: Body };

  server.get("/v2/certificates", (request) => {
    const { name } = request.query as { name?: string };
    return page(
      request,
      "certificates",
      name ? data.certificates.filter((item) => item.name === name) : data.certificates,
    );
  });

  server.post<One>("/v2/certificates", ({ body }, reply) => {
    const certificate = createCertificate(store, body);
    data.certificates.push(certificate);
    store.save();
    if (certificate.state === "pending") verifyLater(certificate);
    reply.status(certificate.state === "pending" ? 202 : 201);
    return { certificate };
  });

  server.get<One>("/v2/certificates/:id", ({ params }) => ({ certificate: find(data.certificates, params.id) }));

  server.delete<One>("/v2/certificates/:id", ({ params }, reply) => {
    const certificate = find(data.certificates, params.id);
    const used = data.loadBalancers.some(({ forwarding_rules }) =>
      forwarding_rules.some((rule) => rule.certificate_id === certificate.id),
    );
    // Wording: the official provider waits 30 s for exactly this answer to end.
    if (used) throw forbidden("Make sure the certificate is not in use before deleting it");
    data.certificates.splice(data.certificates.indexOf(certificate), 1);
    store.save();
    return reply.status(204).send();
  });

  const verifyLater = (certificate: Certificate) =>
    later(store.settings.latency.certificate, () => {
      certificate.state = "verified";
      store.save();
    });
  for (const certificate of data.certificates) if (certificate.state === "pending") verifyLater(certificate);
}

function createCertificate(store: Store, body: Body): Certificate {
  const name = text(body, "name");
  const type = body.type ?? "custom";
  if (type !== "custom" && type !== "lets_encrypt") throw unprocessable(`${type} is not a valid certificate type`);
  if (store.data.certificates.some((certificate) => certificate.name === name)) {
    throw unprocessable(`certificate name '${name}' is already in use`);
  }
  const hosts = strings(body.dns_names);
  if (type === "custom") {
    text(body, "private_key");
    text(body, "leaf_certificate");
  } else if (hosts.length === 0) {
    throw unprocessable("dns_names is a required field");
  }
  const unknown = type === "custom" ? [] : hosts.filter((host) => !owningZone(store, host));
  if (unknown.length > 0) {
    throw unprocessable(`one or more of the domain names are not managed by DigitalOcean DNS: ${unknown.join(", ")}`);
  }
  const id = randomUUID();
  return {
    id,
    name,
    type,
    dns_names: hosts,
    state: type === "custom" ? "verified" : "pending",
    not_after: new Date(store.now().getTime() + 90 * 86_400_000).toISOString().replace(/\.\d+Z$/, "Z"),
    sha1_fingerprint: createHash("sha1").update(id).digest("hex"),
    created_at: store.timestamp(),
  };
}
