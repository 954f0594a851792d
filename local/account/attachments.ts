/** What the in-cluster controllers make in the account, and its owner may look at and delete: balancers and volumes. */
import { randomUUID } from "node:crypto";
import { conflict, find, notFound, page, type Server, unprocessable } from "./api";
import { regions } from "./catalogue";
import type { AccountForControllers, BalancerRequest, VolumeRequest } from "./controllers/index";
import { writeAddressRecords } from "./dns";
import type { BlockVolume, LoadBalancer, Store } from "./state";

export function balancerRoutes(server: Server, store: Store): void {
  const { data } = store;
  type One = { Params: { id: string } };

  server.get("/v2/load_balancers", (request) => page(request, "load_balancers", data.loadBalancers.map(balancerView)));
  server.get<One>("/v2/load_balancers/:id", ({ params }) => ({
    load_balancer: balancerView(find(data.loadBalancers, params.id)),
  }));
  server.delete<One>("/v2/load_balancers/:id", ({ params }, reply) => {
    remove(store, data.loadBalancers, find(data.loadBalancers, params.id));
    return reply.status(204).send();
  });
}

const balancerView = ({ region, ...balancer }: LoadBalancer) => ({
  ...balancer,
  region: regions.find(({ slug }) => slug === region),
  algorithm: "round_robin",
  size: "",
  droplet_ids: [],
});

export function volumeRoutes(server: Server, store: Store): void {
  const { data } = store;
  type One = { Params: { id: string } };

  server.get("/v2/volumes", (request) => {
    const { name, region } = request.query as { name?: string; region?: string };
    const matching = data.volumes.filter(
      (volume) => (!name || volume.name === name) && (!region || volume.region === region),
    );
    return page(request, "volumes", matching.map(volumeView));
  });
  server.get<One>("/v2/volumes/:id", ({ params }) => ({ volume: volumeView(find(data.volumes, params.id)) }));
  server.delete<One>("/v2/volumes/:id", ({ params }, reply) => {
    deleteVolume(store, find(data.volumes, params.id));
    return reply.status(204).send();
  });
}

const volumeView = ({ region, ...volume }: BlockVolume) => ({
  description: "",
  filesystem_label: "",
  filesystem_type: "",
  ...volume,
  region: regions.find(({ slug }) => slug === region),
});

function deleteVolume(store: Store, volume: BlockVolume): void {
  if (volume.droplet_ids.length > 0)
    throw conflict("This volume is attached to a Droplet; detach it before deleting it");
  remove(store, store.data.volumes, volume);
}

function remove<Item>(store: Store, items: Item[], item: Item): void {
  items.splice(items.indexOf(item), 1);
  store.save();
}

/** The tag that the in-cluster controllers give to everything that belongs to a cluster. */
export const clusterTag = (id: string) => `k8s:${id}`;

export function accountForControllers(store: Store): AccountForControllers {
  const { data } = store;
  const byId = <Item extends { id: string }>(items: Item[], id: string) => items.find((item) => item.id === id);
  const changed = <Item>(item: Item): Item => {
    store.save();
    return item;
  };
  return {
    async createBalancer(request) {
      checkBalancer(store, request);
      // A second balancer of one name would make the name useless for every lookup.
      if (data.loadBalancers.some(({ name }) => name === request.name)) {
        throw unprocessable(`load balancer name '${request.name}' is already in use`);
      }
      const cluster = data.clusters.find(({ id }) => request.tags.includes(clusterTag(id)));
      const host = freeHost(store);
      const balancer: LoadBalancer = {
        ...request,
        id: randomUUID(),
        // Documentation ranges (RFC 5737, RFC 3849): the address answers nowhere by accident.
        ip: `203.0.113.${host}`,
        ...(request.network_stack === "DUALSTACK" && { ipv6: `2001:db8::${host.toString(16)}` }),
        status: "new",
        vpc_uuid: cluster?.vpc_uuid ?? "",
        created_at: store.timestamp(),
      };
      data.loadBalancers.push(balancer);
      return changed(balancer);
    },
    async activateBalancer(id) {
      return changed(Object.assign(find(data.loadBalancers, id), { status: "active" as const }));
    },
    async updateBalancer(id, request) {
      checkBalancer(store, request);
      const { type, ip, ipv6, vpc_uuid, created_at, status } = find(data.loadBalancers, id);
      const updated = { ...request, id, type, ip, ...(ipv6 && { ipv6 }), vpc_uuid, created_at, status };
      data.loadBalancers = data.loadBalancers.map((balancer) => (balancer.id === id ? updated : balancer));
      return changed(updated);
    },
    balancerById: async (id) => byId(data.loadBalancers, id),
    balancerByName: async (name) => data.loadBalancers.find((balancer) => balancer.name === name),
    async deleteBalancer(id) {
      const balancer = byId(data.loadBalancers, id);
      if (balancer) remove(store, data.loadBalancers, balancer);
    },
    certificateById: async (id) => byId(data.certificates, id),
    certificateByName: async (name) => data.certificates.find((certificate) => certificate.name === name),
    writeAddressRecords: async (hosts, address) => writeAddressRecords(store, hosts, address),
    async createVolume(request) {
      const existing = data.volumes.find(({ name, region }) => name === request.name && region === request.region);
      if (existing) return existing;
      checkVolumeSize(request.size_gigabytes);
      const volume = newVolume(store, request);
      data.volumes.push(volume);
      return changed(volume);
    },
    volumeById: async (id) => byId(data.volumes, id),
    async resizeVolume(id, sizeGigabytes) {
      const volume = find(data.volumes, id);
      checkVolumeSize(sizeGigabytes);
      if (sizeGigabytes < volume.size_gigabytes) throw unprocessable("new size must be larger than the current size");
      return changed(Object.assign(volume, { size_gigabytes: sizeGigabytes }));
    },
    async attachVolume(id, dropletId) {
      const volume = find(data.volumes, id);
      if (volume.droplet_ids.includes(dropletId)) return;
      if (volume.droplet_ids.length > 0) throw conflict("This volume is already attached to another Droplet");
      volume.droplet_ids.push(dropletId);
      store.save();
    },
    async detachVolume(id, dropletId) {
      const volume = byId(data.volumes, id);
      if (!volume) throw notFound();
      volume.droplet_ids = volume.droplet_ids.filter((droplet) => droplet !== dropletId);
      store.save();
    },
    async deleteVolume(id) {
      const volume = byId(data.volumes, id);
      if (volume) deleteVolume(store, volume);
    },
  };
}

/** A host number of the balancers' range: a new balancer never gets the address of the one before it. */
function freeHost(store: Store): number {
  const host = (store.nextId() % 254) + 1;
  return store.data.loadBalancers.some(({ ip }) => ip.endsWith(`.${host}`)) ? freeHost(store) : host;
}

function checkBalancer({ data }: Store, request: BalancerRequest): void {
  for (const { certificate_id: id } of request.forwarding_rules) {
    const certificate = data.certificates.find((candidate) => candidate.id === id);
    if (id && !certificate) throw unprocessable(`certificate "${id}" not found`);
    if (certificate && certificate.state !== "verified") throw unprocessable(`certificate "${id}" is not verified`);
  }
}

/** Limits: DigitalOcean's documentation of volumes: 1 GiB to 16 TiB. */
function checkVolumeSize(gigabytes: number): void {
  if (gigabytes < 1 || gigabytes > 16_384) throw unprocessable("size_gigabytes must be between 1 and 16384");
}

const newVolume = (store: Store, request: VolumeRequest): BlockVolume => ({
  ...request,
  id: randomUUID(),
  droplet_ids: [],
  created_at: store.timestamp(),
});
