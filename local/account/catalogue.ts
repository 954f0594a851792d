/** What the account offers. Sources: DigitalOcean's lists of regions and sizes; the versions are a setting. */

export interface Region {
  slug: string;
  name: string;
}

export interface Size {
  slug: string;
  vcpus: number;
  /** MiB */
  memory: number;
  /** GiB */
  disk: number;
  /** USD */
  priceMonthly: number;
}

export const regions: readonly Region[] = [
  { slug: "ams3", name: "Amsterdam 3" },
  { slug: "atl1", name: "Atlanta 1" },
  { slug: "blr1", name: "Bangalore 1" },
  { slug: "fra1", name: "Frankfurt 1" },
  { slug: "lon1", name: "London 1" },
  { slug: "nyc1", name: "New York 1" },
  { slug: "nyc2", name: "New York 2" },
  { slug: "nyc3", name: "New York 3" },
  { slug: "sfo2", name: "San Francisco 2" },
  { slug: "sfo3", name: "San Francisco 3" },
  { slug: "sgp1", name: "Singapore 1" },
  { slug: "syd1", name: "Sydney 1" },
  { slug: "tor1", name: "Toronto 1" },
];

const size = (slug: string, vcpus: number, gigabytes: number, disk: number, priceMonthly: number): Size => ({
  slug,
  vcpus,
  memory: gigabytes * 1024,
  disk,
  priceMonthly,
});

export const sizes: readonly Size[] = [
  size("s-1vcpu-2gb", 1, 2, 50, 12),
  size("s-2vcpu-2gb", 2, 2, 60, 18),
  size("s-2vcpu-4gb", 2, 4, 80, 24),
  size("s-2vcpu-8gb-amd", 2, 8, 100, 42),
  size("s-2vcpu-8gb-intel", 2, 8, 100, 48),
  size("s-4vcpu-8gb", 4, 8, 160, 48),
  size("s-4vcpu-8gb-amd", 4, 8, 160, 56),
  size("s-4vcpu-8gb-intel", 4, 8, 160, 56),
  size("s-4vcpu-16gb-amd", 4, 16, 200, 84),
  size("s-4vcpu-16gb-intel", 4, 16, 200, 96),
  size("s-8vcpu-16gb", 8, 16, 320, 96),
  size("s-8vcpu-32gb-amd", 8, 32, 400, 168),
  size("c-2", 2, 4, 25, 42),
  size("c-4", 4, 8, 50, 84),
  size("c-8", 8, 16, 100, 168),
  size("g-2vcpu-8gb", 2, 8, 25, 63),
  size("g-4vcpu-16gb", 4, 16, 50, 126),
  size("g-8vcpu-32gb", 8, 32, 100, 252),
  size("m-2vcpu-16gb", 2, 16, 50, 84),
  size("m-4vcpu-32gb", 4, 32, 100, 168),
  size("so-2vcpu-16gb", 2, 16, 300, 131),
];

/** On offer in September 2026, and one older patch. Source: research/field.md (a listing of doctl). */
export const defaultVersions = ["1.36.3-do.0", "1.36.2-do.1", "1.35.7-do.0", "1.34.10-do.0"];

export interface Version {
  slug: string;
  major: number;
  minor: number;
  patch: number;
  release: number;
}

/** `undefined` where the text is no slug such as `1.36.3-do.0`. */
export function parseVersion(slug: string): Version | undefined {
  const [, major, minor, patch, release] = /^(\d+)\.(\d+)\.(\d+)-do\.(\d+)$/.exec(slug) ?? [];
  if (release === undefined) return undefined;
  return { slug, major: Number(major), minor: Number(minor), patch: Number(patch), release: Number(release) };
}

export const compareVersions = (a: Version, b: Version): number =>
  a.major - b.major || a.minor - b.minor || a.patch - b.patch || a.release - b.release;

/** Newest first. */
export const sortVersions = (slugs: readonly string[]): Version[] =>
  slugs.flatMap((slug) => parseVersion(slug) ?? []).sort((a, b) => compareVersions(b, a));
