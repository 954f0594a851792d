import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.Build;
import org.elasticsearch.client.internal.node.NodeClient;
import org.elasticsearch.cluster.ClusterState;
import org.elasticsearch.cluster.service.ClusterService;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginBundle;
import org.elasticsearch.plugins.PluginsLoader;
import org.elasticsearch.rest.BaseRestHandler;
import org.elasticsearch.rest.RestController;
import org.elasticsearch.rest.RestRequest;
import org.elasticsearch.rest.RestResponse;
import org.elasticsearch.rest.RestStatus;

/**
 * Starts one node from the published jars: `java -Des.path.home=… -Des.path.conf=… Starter key=value…`.
 * The stock main class needs an agent and native libraries that are not published. The node ends with its standard input.
 */
public class Starter {
  public static void main(String[] arguments) throws Exception {
    LogConfigurator.configureESLogging();
    Settings.Builder settings = Settings.builder().put("path.home", System.getProperty("es.path.home"));
    for (String argument : arguments) {
      String[] pair = argument.split("=", 2);
      settings.put(pair[0], pair[1]);
    }
    var environment = InternalSettingsPreparer.prepareEnvironment(
        settings.build(), Map.of(), Path.of(System.getProperty("es.path.conf")), () -> "elasticsearch");
    Node node = new Node(environment, PluginsLoader.createPluginsLoader(modules(Path.of(System.getProperty("es.path.home"), "modules")), Set.of(), Map.of(), false));
    node.injector().getInstance(RestController.class).registerHandler(new Root(node));
    Runtime.getRuntime().addShutdownHook(new Thread(() -> close(node)));
    node.start();
    while (System.in.read() != -1) {}
    System.exit(0);
  }

  /** 9.x has one parameter more than 8.x. */
  @SuppressWarnings("unchecked")
  private static Set<PluginBundle> modules(Path directory) throws ReflectiveOperationException {
    for (var method : PluginsLoader.class.getMethods()) {
      if (!method.getName().equals("loadModulesBundles")) continue;
      Object[] parameters = method.getParameterCount() == 1 ? new Object[] {directory} : new Object[] {directory, false};
      return (Set<PluginBundle>) method.invoke(null, parameters);
    }
    throw new NoSuchMethodException("PluginsLoader.loadModulesBundles");
  }

  private static void close(Node node) {
    try {
      node.prepareForClose();
      node.close();
    } catch (IOException error) {
      error.printStackTrace();
    }
  }

  /** `GET /`, which the unpublished module rest-root answers in a distribution. */
  private static class Root extends BaseRestHandler {
    private final Node node;

    Root(Node node) {
      this.node = node;
    }

    @Override
    public String getName() {
      return "main_action";
    }

    @Override
    public List<Route> routes() {
      return List.of(new Route(RestRequest.Method.GET, "/"), new Route(RestRequest.Method.HEAD, "/"));
    }

    @Override
    protected RestChannelConsumer prepareRequest(RestRequest request, NodeClient client) {
      return channel -> {
        ClusterState state = node.injector().getInstance(ClusterService.class).state();
        var body = channel.newBuilder().startObject()
            .field("name", Node.NODE_NAME_SETTING.get(node.settings()))
            .field("cluster_name", state.getClusterName().value())
            .field("cluster_uuid", state.metadata().clusterUUID())
            .startObject("version").field("number", Build.current().version()).field("build_flavor", "default").endObject()
            .field("tagline", "You Know, for Search")
            .endObject();
        channel.sendResponse(new RestResponse(RestStatus.OK, body));
      };
    }
  }
}
