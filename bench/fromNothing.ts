import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { stringify } from "yaml";
import { pinnedVersion } from "../local/build";
import type { Project } from "../local/engine";
import { type Origin, obtain } from "../local/tools";
import { OWNER_LABEL } from "../owner";
import { Embedded, STACK, UP } from "./embedded";
import { alternate, type Bench, type Case, type Context, type Goal, ratio, timed, type Variant } from "./harness";
import { manifestsOf } from "./objects";

/** How many services stand beside the platform in one program. */
const SIZES = [
  { services: 0, name: "the platform's objects", atMost: 1.5 },
  { services: 13, name: "with 13 services", atMost: 1 },
  { services: 26, name: "with 26 services", atMost: 1 },
];

const helmDirectory = join(__dirname, "tools", "helm");
const helmVersion = pinnedVersion(helmDirectory, "helm.sh/helm/v4");

const HELM: Origin = {
  range: helmVersion,
  versionArguments: ["version", "--short"],
  module: { directory: helmDirectory, stamp: { "helm.sh/helm/v4/internal/version.version": `v${helmVersion}` } },
  package: "helm.sh/helm/v4/cmd/helm",
  version: helmVersion,
  seconds: 150,
  megabytes: 1500,
};

const bench: Bench = {
  name: "fromNothing",
  title: "From nothing: the platform's Kubernetes objects on a cluster that is there",
  minutes: 25,
  async run(context) {
    const { helm } = await obtain({ helm: HELM }, ["helm"]);
    const embedded = await Embedded.start();
    try {
      const cases: Case[] = [];
      const goals: Goal[] = [];
      for (const { services, name, atMost } of SIZES) {
        const size = await Size.of(services, embedded, context);
        const title = `${name} (${size.objects.length})`;
        context.say(title);
        const variants = await alternate(size.variants(helm.path), context);
        cases.push({ case: title, variants });
        goals.push({ goal: `a. ${name}: hobnob ÷ kubectl`, value: ratio(variants.hobnob, variants.kubectl), atMost });
        goals.push({ goal: `a. ${name}: hobnob ÷ Helm`, value: ratio(variants.hobnob, variants.helm), atMost: 1 });
      }
      return {
        cases,
        goals,
        notes: [
          "hobnob: `pulumi up --yes --skip-preview` with the settings of `npm run stack`. kubectl: `kubectl apply` of the same objects, then `kubectl rollout status` of all workloads and `kubectl wait` for the balancer's address. Helm 4: `helm install --wait` of one chart of the same objects, then the same wait for the balancer, which Helm does not know. All wait until every rollout is complete and the balancer has an address; the volumes of Elasticsearch are among it.",
          "The simulated nodes start a pod at once, and the simulated account has no latency: what is left is what the commands themselves take. Removing everything between two runs is not timed.",
          "The objects are counted without what the program alone makes: its components, and a patch of each of Elasticsearch's volume claims, by which these can grow later.",
        ],
      };
    } finally {
      await embedded.stop();
    }
  },
};
export default bench;

/** An object as YAML has it. */
interface Manifest {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string };
  spec?: { type?: string };
}

/** One size of the platform, and its objects as files for the other tools. */
class Size {
  private constructor(
    private readonly embedded: Embedded,
    private readonly project: Project,
    private readonly settings: Record<string, unknown>,
    private readonly directory: string,
    readonly objects: Manifest[],
  ) {}

  /** Brings it up once, untimed, to see what its objects are. */
  static async of(services: number, embedded: Embedded, { scratch }: Context): Promise<Size> {
    const project = embedded.project(services > 0 ? "platform" : undefined);
    const settings = { ...embedded.settings, ...(services > 0 && { "bench:services": services }) };
    await embedded.prepare(project, settings);
    await embedded.pulumi(project, ...UP);
    const exported = JSON.parse(await embedded.pulumi(project, "stack", "export", "--show-secrets"));
    const objects = manifestsOf(exported.deployment.resources) as Manifest[];
    const directory = join(scratch, `services-${services}`);
    writeFiles(directory, objects);
    const size = new Size(embedded, project, settings, directory, objects);
    await size.clear();
    return size;
  }

  variants(helm: string): Record<"hobnob" | "kubectl" | "helm", Variant> {
    const options = { env: this.embedded.environment, cwd: this.directory };
    const install = `'${helm}' install platform chart --wait --timeout 5m\n${this.#waitForBalancer()}`;
    const restore = () => this.clear();
    return {
      hobnob: {
        prepare: () => this.embedded.prepare(this.project, this.settings),
        run: () => timed("pulumi", [...UP, "--stack", STACK], this.embedded.options(this.project)),
        restore,
      },
      kubectl: { run: () => timed("sh", ["-ec", this.#applyAndWait()], options), restore },
      helm: { run: () => timed("sh", ["-ec", install], options), restore },
    };
  }

  /** Both waits at once, so that neither costs the other's time. */
  #applyAndWait(): string {
    const rollouts = "kubectl rollout status -f workloads.yaml";
    return `kubectl apply -f objects.yaml\n${rollouts} & rollouts=$!\n${this.#waitForBalancer()}\nwait $rollouts`;
  }

  #waitForBalancer(): string {
    const balancer = this.objects.find(({ kind, spec }) => kind === "Service" && spec?.type === "LoadBalancer");
    const { name, namespace } = balancer?.metadata ?? {};
    return `kubectl wait --for=jsonpath='{.status.loadBalancer.ingress}' --timeout=5m -n ${namespace} service/${name}`;
  }

  /** Removes all objects, and what the stack knows of them. */
  async clear(): Promise<void> {
    const { embedded, project, directory } = this;
    const remove = (...args: string[]) =>
      execa("kubectl", ["delete", "--ignore-not-found", ...args], { cwd: directory, env: embedded.environment });
    // A namespace that still holds what has a finalizer looks again after 8 s: it goes last, and empty.
    await remove("-f", "workloads.yaml", "--cascade=foreground");
    await remove("-f", "contents.yaml");
    await remove("persistentvolumeclaims", "--all", "--all-namespaces");
    await remove("-f", "namespaces.yaml");
    // Of a run of the program they have names of their own.
    await remove("clusterroles,clusterrolebindings", "-l", OWNER_LABEL);
    await remove("persistentvolumes", "--all", "--wait=false");
    await remove("secrets", "-l", "owner=helm");
    if (embedded.knows(project)) await embedded.pulumi(project, "stack", "rm", "--yes", "--force", "--preserve-config");
  }
}

const WORKLOADS = /^(Deployment|StatefulSet|DaemonSet)$/;

function writeFiles(directory: string, objects: Manifest[]): void {
  const templates = join(directory, "chart", "templates");
  mkdirSync(templates, { recursive: true });
  const yaml = (some: Manifest[]) => some.map((object) => stringify(object)).join("---\n");
  writeFileSync(join(directory, "objects.yaml"), yaml(objects));
  const part = (name: string, holds: (object: Manifest) => boolean) =>
    writeFileSync(join(directory, name), yaml(objects.filter(holds)));
  part("workloads.yaml", ({ kind }) => WORKLOADS.test(kind));
  part("contents.yaml", ({ kind }) => kind !== "Namespace");
  part("namespaces.yaml", ({ kind }) => kind === "Namespace");
  writeFileSync(
    join(directory, "chart", "Chart.yaml"),
    stringify({ apiVersion: "v2", name: "platform", version: "1.0.0" }),
  );
  // What is in the objects must not be taken for a template.
  writeFileSync(join(templates, "objects.yaml"), yaml(objects).replaceAll("{{", '{{ "{{" }}'));
}
