import { Elasticsearch } from "../../components/elasticsearch";
import { type Bag, Plugin } from "../local/plugin";
import { type Captured, capture } from "../unit/graph";

/** The component's graph with true passwords and certificates, made by the simulated plugins and kept from one graph to the next. */
export class Secured {
  private readonly made = new Map<string, Bag>();
  private plugins = new Map<string, Plugin>();

  async start(): Promise<void> {
    for (const name of ["random", "tls"]) {
      const plugin = await Plugin.start(name);
      await plugin.configure({});
      this.plugins.set(name, plugin);
    }
  }

  async stop(): Promise<void> {
    for (const plugin of this.plugins.values()) await plugin.stop();
  }

  /** Its certificates are made anew in the next graph, with the keys that there are. */
  expire(): void {
    for (const key of this.made.keys()) if (key.includes("Cert")) this.made.delete(key);
  }

  graph(passwordGenerations: number[]): Promise<Captured[]> {
    return capture(
      () =>
        new Elasticsearch("elasticsearch", {
          ...{
            namespace: "hobnob",
            storageClassName: "standard",
            replicas: 3,
            memory: "1Gi",
            cpu: "1",
            diskSize: "1Gi",
          },
          ...{ mmap: false, spread: "hard", clients: [], apiServer: "cilium", workers: [] },
          ...{ security: true, passwordGenerations },
        }),
      { mocks: { resource: (args) => this.make(args) } },
    );
  }

  private make({ type, name, inputs }: { type: string; name: string; inputs: Bag }) {
    const plugin = this.plugins.get(type.split(":")[0] ?? "");
    if (!plugin) return undefined;
    const key = `${type}::${name}`;
    const known = this.made.get(key);
    if (known) return { state: known };
    return plugin.create(type, inputs).then(({ state }) => {
      const plain = Object.fromEntries(
        Object.entries(state).map(([property, value]) => [property, (value as Bag)?.value ?? value]),
      );
      this.made.set(key, plain);
      return { state: plain };
    });
  }
}
