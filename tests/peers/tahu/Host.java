import java.lang.reflect.Proxy;
import java.util.List;
import org.eclipse.tahu.host.HostApplication;
import org.eclipse.tahu.host.api.MultiHostApplicationEventHandler;
import org.eclipse.tahu.message.SparkplugBPayloadDecoder;
import org.eclipse.tahu.message.model.Metric;
import org.eclipse.tahu.model.MqttServerDefinition;
import org.eclipse.tahu.mqtt.MqttClientId;
import org.eclipse.tahu.mqtt.MqttServerName;
import org.eclipse.tahu.mqtt.MqttServerUrl;

/**
 * A Sparkplug host of Eclipse Tahu: Host URL HOST-ID. It asks for births where it cannot read
 * data or misses a seq. Each thing that Tahu tells it, it prints as a line: what happened,
 * whose it is, and of a metric its name, type and value.
 */
public final class Host {
    public static void main(String[] arguments) throws Exception {
        var handler = (MultiHostApplicationEventHandler) Proxy.newProxyInstance(
            Host.class.getClassLoader(),
            new Class<?>[] {MultiHostApplicationEventHandler.class},
            (proxy, method, told) -> {
                // Of each the first is the broker.
                if (told != null && told.length > 1 && !method.getName().equals("onMessage")) {
                    say(method.getName(), told);
                }
                return null;
            });
        MqttServerDefinition server = new MqttServerDefinition(
            new MqttServerName("broker"), new MqttClientId("tahu-host-" + arguments[1], false),
            new MqttServerUrl(arguments[0]), null, null, 30, null);
        var host = new HostApplication(
            handler, arguments[1], List.of("spBv1.0/#"), List.of(server), null,
            new SparkplugBPayloadDecoder(), true);
        host.start(true);
        Thread.currentThread().join();
    }

    private static synchronized void say(String what, Object[] told) {
        StringBuilder line = new StringBuilder(what.substring("on".length())).append(' ').append(told[1]);
        if (told.length > 2 && told[2] instanceof Metric metric) {
            line.append(' ').append(metric.getName()).append(' ').append(metric.getDataType());
            line.append(' ').append(metric.getValue());
        }
        System.out.println(line);
    }
}
