import { randomUUID } from "node:crypto";
import { BlockList, isIPv4 } from "node:net";
import { type Body, conflict, find, forbidden, page, type Server, text, unprocessable } from "./api";
import { regions } from "./catalogue";
import type { Store, Vpc } from "./state";

export function vpcRoutes(server: Server, store: Store): void {
  const { data } = store;
  type One = { Params: { id: string }; Body: Body };
  // As in an account with a past: the first VPC of a region becomes its default one, which none of ours may.
  for (const { slug } of regions) defaultVpc(store, slug);

  server.get("/v2/vpcs", (request) => page(request, "vpcs", data.vpcs.map(vpcView)));

  server.post<One>("/v2/vpcs", (request, reply) => {
    const vpc = createVpc(store, request.body);
    store.save();
    reply.status(201);
    return { vpc: vpcView(vpc) };
  });

  server.get<One>("/v2/vpcs/:id", ({ params }) => ({ vpc: vpcView(find(data.vpcs, params.id)) }));

  const update = ({ params, body }: { params: { id: string }; body: Body }) => {
    const vpc = find(data.vpcs, params.id);
    const name = body.name === undefined ? vpc.name : vpcName(store, text(body, "name"), vpc.id);
    Object.assign(vpc, { name, description: String(body.description ?? vpc.description) });
    store.save();
    return { vpc: vpcView(vpc) };
  };
  server.put<One>("/v2/vpcs/:id", update);
  server.patch<One>("/v2/vpcs/:id", update);

  server.get<One>("/v2/vpcs/:id/members", (request) =>
    page(request, "members", members(store, find(data.vpcs, request.params.id).id)),
  );

  server.delete<One>("/v2/vpcs/:id", ({ params }, reply) => {
    const vpc = find(data.vpcs, params.id);
    if (vpc.default) throw forbidden("Can not delete default VPCs");
    // Wording: terraform-provider-digitalocean#1368.
    if (members(store, vpc.id).length > 0) throw conflict("Can not delete VPC with members");
    data.vpcs.splice(data.vpcs.indexOf(vpc), 1);
    store.save();
    return reply.status(204).send();
  });
}

const vpcView = (vpc: Vpc) => ({ urn: `do:vpc:${vpc.id}`, ...vpc });

/** What stands in a VPC; a cluster that is being deleted still counts. */
const members = ({ data }: Store, id: string) => [
  ...data.clusters
    .filter((cluster) => cluster.vpc_uuid === id)
    .map(({ id: cluster, name, created_at }) => ({ urn: `do:kubernetes:${cluster}`, name, created_at })),
  ...data.loadBalancers
    .filter((balancer) => balancer.vpc_uuid === id)
    .map(({ id: balancer, name, created_at }) => ({ urn: `do:loadbalancer:${balancer}`, name, created_at })),
];

function createVpc(store: Store, body: Body): Vpc {
  const name = vpcName(store, text(body, "name"));
  const region = text(body, "region");
  if (!regions.some(({ slug }) => slug === region)) throw unprocessable("Region is not valid");
  const range = body.ip_range === undefined || body.ip_range === "" ? freeRange(store) : text(body, "ip_range");
  return addVpc(store, {
    name,
    region,
    description: String(body.description ?? ""),
    ip_range: checkRange(store, range),
  });
}

function addVpc(store: Store, vpc: Pick<Vpc, "name" | "region" | "description" | "ip_range"> & Partial<Vpc>): Vpc {
  const added = { id: randomUUID(), default: false, created_at: store.timestamp(), ...vpc };
  store.data.vpcs.push(added);
  return added;
}

/** The region's default VPC, which can't be deleted (godo#337). */
export function defaultVpc(store: Store, region: string): Vpc {
  const existing = store.data.vpcs.find((vpc) => vpc.default && vpc.region === region);
  if (existing) return existing;
  const range = freeRange(store);
  return addVpc(store, { name: `default-${region}`, region, description: "", ip_range: range, default: true });
}

function vpcName({ data }: Store, name: string, ownId?: string): string {
  if (!/^[A-Za-z0-9.-]+$/.test(name)) {
    throw unprocessable("name may only contain alphanumeric characters, dashes, and periods");
  }
  if (data.vpcs.some((vpc) => vpc.name === name && vpc.id !== ownId)) throw unprocessable("name is already in use");
  return name;
}

/** Limits: DigitalOcean's documentation of VPCs: a private range between /16 and /28 that overlaps no other. */
function checkRange(store: Store, range: string): string {
  const [address = "", prefix = ""] = range.split("/");
  const bits = Number(prefix);
  if (!isIPv4(address) || !/^\d+$/.test(prefix)) throw unprocessable(`invalid CIDR address: ${range}`);
  if (bits < 16 || bits > 28) throw unprocessable("ip_range size must be between /16 and /28");
  if (!isPrivate(address)) throw unprocessable("ip_range must be in the private address space of RFC 1918");
  if (store.data.vpcs.some((vpc) => overlap(vpc.ip_range, range))) {
    throw unprocessable("This range/size overlaps with another VPC network in your account.");
  }
  return range;
}

function isPrivate(address: string): boolean {
  const list = new BlockList();
  list.addSubnet("10.0.0.0", 8);
  list.addSubnet("172.16.0.0", 12);
  list.addSubnet("192.168.0.0", 16);
  return list.check(address);
}

/** Two CIDR ranges overlap where the wider one holds the other's first address. */
function overlap(a: string, b: string): boolean {
  const parse = (range: string) => range.split("/") as [string, string];
  const [wide, narrow] = Number(parse(a)[1]) <= Number(parse(b)[1]) ? [parse(a), parse(b)] : [parse(b), parse(a)];
  const list = new BlockList();
  list.addSubnet(wide[0], Number(wide[1]));
  return list.check(narrow[0]);
}

function freeRange({ data }: Store): string {
  const candidates = Array.from(
    { length: 256 * 16 },
    (_, index) => `10.${100 + (index >> 4)}.${(index & 15) * 16}.0/20`,
  );
  const free = candidates.find((candidate) => !data.vpcs.some((vpc) => overlap(vpc.ip_range, candidate)));
  if (!free) throw unprocessable("no free range is left for another VPC");
  return free;
}
