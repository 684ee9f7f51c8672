import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Date;
import java.util.List;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.tahu.edge.EdgeClient;
import org.eclipse.tahu.edge.api.MetricHandler;
import org.eclipse.tahu.message.SparkplugBPayloadDecoder;
import org.eclipse.tahu.message.SparkplugBPayloadEncoder;
import org.eclipse.tahu.message.model.DataSet.DataSetBuilder;
import org.eclipse.tahu.message.model.DataSetDataType;
import org.eclipse.tahu.message.model.EdgeNodeDescriptor;
import org.eclipse.tahu.message.model.File;
import org.eclipse.tahu.message.model.MessageType;
import org.eclipse.tahu.message.model.Metric;
import org.eclipse.tahu.message.model.Metric.MetricBuilder;
import org.eclipse.tahu.message.model.MetricDataType;
import org.eclipse.tahu.message.model.Parameter;
import org.eclipse.tahu.message.model.ParameterDataType;
import org.eclipse.tahu.message.model.PropertyDataType;
import org.eclipse.tahu.message.model.PropertySet.PropertySetBuilder;
import org.eclipse.tahu.message.model.PropertyValue;
import org.eclipse.tahu.message.model.Row;
import org.eclipse.tahu.message.model.Row.RowBuilder;
import org.eclipse.tahu.message.model.SparkplugBPayload;
import org.eclipse.tahu.message.model.SparkplugBPayload.SparkplugBPayloadBuilder;
import org.eclipse.tahu.message.model.SparkplugBPayloadMap.SparkplugBPayloadMapBuilder;
import org.eclipse.tahu.message.model.SparkplugDescriptor;
import org.eclipse.tahu.message.model.SparkplugMeta;
import org.eclipse.tahu.message.model.StatePayload;
import org.eclipse.tahu.message.model.Template.TemplateBuilder;
import org.eclipse.tahu.message.model.Topic;
import org.eclipse.tahu.message.model.Value;
import org.eclipse.tahu.model.MqttServerDefinition;
import org.eclipse.tahu.mqtt.ClientCallback;
import org.eclipse.tahu.mqtt.MqttClientId;
import org.eclipse.tahu.mqtt.MqttServerName;
import org.eclipse.tahu.mqtt.MqttServerUrl;
import org.eclipse.tahu.util.PayloadUtil;

/**
 * A Sparkplug edge node with one device, of Eclipse Tahu's EdgeClient, which gives aliases,
 * counts seq, and leaves names out of DATA: EdgeNode URL GROUP NODE DEVICE [PRIMARY-HOST].
 *
 * <p>Each message that it publishes it prints as a line of JSON: its type, then the payload as
 * Tahu writes it. Commands come on stdin, a line each:
 *
 * <pre>
 * data METRIC VALUE     a DDATA; the types are those of the birth, `null` is null
 * node METRIC VALUE     an NDATA
 * historical METRIC VALUE
 * all                   a DDATA of all metrics of the device, as they were born
 * gap                   a seq that is never published
 * device-death, device-birth
 * other-aliases         each metric of the device has another's with the next birth
 * rebirth               as if a host had asked for it
 * quit                  DDEATH, NDEATH, and the end
 * </pre>
 */
public final class EdgeNode implements MetricHandler, ClientCallback {
    private final EdgeNodeDescriptor node;
    private final String device;
    private final EdgeClient client;
    private long bdSeq = -1;
    /** Places by which the device's metrics are turned: aliases are given in their order. */
    private volatile int turned = 0;

    public static void main(String[] arguments) throws Exception {
        String host = arguments.length > 4 ? arguments[4] : null;
        new EdgeNode(arguments[0], arguments[1], arguments[2], arguments[3], host).run();
    }

    private EdgeNode(String url, String group, String name, String device, String host) throws Exception {
        this.node = new EdgeNodeDescriptor(group, name);
        this.device = device;
        MqttServerDefinition server = new MqttServerDefinition(
            new MqttServerName("broker"), new MqttClientId("tahu-" + name, false),
            new MqttServerUrl(url), null, null, 30, getDeathTopic());
        client = new EdgeClient(this, node, List.of(device), host, true, 0L, List.of(server), this, null);
    }

    private void run() throws Exception {
        Thread thread = new Thread(client);
        thread.setDaemon(true);
        thread.start();
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = commands.readLine()) != null && !line.equals("quit"); ) {
            // Until just after its births Tahu drops data without a word.
            while (!client.isConnectedToPrimaryHost()) {
                Thread.sleep(5);
            }
            act(line.split(" ", 3));
        }
        client.shutdown();
        System.exit(0);
    }

    private void act(String[] words) throws Exception {
        switch (words[0]) {
            case "data" -> deviceData(List.of(changed(deviceMetrics(), words[1], words[2])));
            case "historical" -> {
                Metric metric = changed(deviceMetrics(), words[1], words[2]);
                metric.setHistorical(true);
                deviceData(List.of(metric));
            }
            case "all" -> deviceData(deviceMetrics());
            case "node" -> {
                SparkplugBPayload payload = payload(List.of(changed(nodeMetrics(), words[1], words[2])));
                client.publishNodeData(payload);
                say("NDATA", payload);
            }
            case "gap" -> client.getNextSeqNum();
            case "device-death" -> client.publishDeviceDeath(device);
            case "device-birth" -> deviceBirth();
            case "other-aliases" -> turned++;
            case "rebirth" -> client.handleRebirthRequest(true);
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    private void deviceData(List<Metric> metrics) throws Exception {
        SparkplugBPayload payload = payload(metrics);
        client.publishDeviceData(device, payload);
        say("DDATA", payload);
    }

    private void deviceBirth() throws Exception {
        SparkplugBPayload payload = payload(deviceMetrics());
        client.publishDeviceBirth(device, payload);
        say("DBIRTH", payload);
    }

    private static SparkplugBPayload payload(List<Metric> metrics) {
        return new SparkplugBPayloadBuilder().setTimestamp(new Date()).addMetrics(metrics).createPayload();
    }

    private static synchronized void say(String type, SparkplugBPayload payload) throws Exception {
        System.out.println(type + " " + PayloadUtil.toJsonString(payload));
    }

    /** The metric of this name with another value. */
    private static Metric changed(List<Metric> metrics, String name, String value) throws Exception {
        for (Metric metric : metrics) {
            if (metric.getName().equals(name)) {
                metric.setValue(value.equals("null") ? null : read(metric.getDataType(), value));
                return metric;
            }
        }
        throw new IllegalArgumentException(name);
    }

    private static Object read(MetricDataType type, String value) throws Exception {
        if (type.equals(MetricDataType.Int8)) return Byte.valueOf(value);
        if (type.equals(MetricDataType.Int16)) return Short.valueOf(value);
        if (type.equals(MetricDataType.Int32)) return Integer.valueOf(value);
        if (type.equals(MetricDataType.Int64)) return Long.valueOf(value);
        if (type.equals(MetricDataType.Float)) return Float.valueOf(value);
        if (type.equals(MetricDataType.Double)) return Double.valueOf(value);
        if (type.equals(MetricDataType.Boolean)) return Boolean.valueOf(value);
        if (type.equals(MetricDataType.String)) return value;
        throw new IllegalArgumentException("no value of the type " + type);
    }

    private static List<Metric> nodeMetrics() throws Exception {
        List<Metric> metrics = new ArrayList<>();
        metrics.add(metric("uptime", MetricDataType.Int64, 1L));
        metrics.add(metric("pump_type", MetricDataType.Template, new TemplateBuilder()
            .version("1").definition(true)
            .addMetric(metric("bar", MetricDataType.Double, 0.0))
            .addMetric(metric("running", MetricDataType.Boolean, false))
            .addParameter(new Parameter("maker", ParameterDataType.String, "none"))
            .createTemplate()));
        return metrics;
    }

    /** One of each type, where signs and lengths show. */
    private List<Metric> deviceMetrics() throws Exception {
        List<Metric> metrics = new ArrayList<>();
        metrics.add(metric("i8", MetricDataType.Int8, Byte.MIN_VALUE));
        metrics.add(metric("i16", MetricDataType.Int16, Short.MIN_VALUE));
        metrics.add(metric("i32", MetricDataType.Int32, Integer.MIN_VALUE));
        metrics.add(metric("i64", MetricDataType.Int64, Long.MIN_VALUE));
        metrics.add(metric("u8", MetricDataType.UInt8, (short) 255));
        metrics.add(metric("u16", MetricDataType.UInt16, 65535));
        metrics.add(metric("u32", MetricDataType.UInt32, 4294967295L));
        metrics.add(metric("u64", MetricDataType.UInt64, new BigInteger("18446744073709551615")));
        metrics.add(withUnit(metric("f32", MetricDataType.Float, -118.625f)));
        metrics.add(metric("f64", MetricDataType.Double, 123456789.0625));
        metrics.add(metric("flag", MetricDataType.Boolean, true));
        metrics.add(metric("text", MetricDataType.String, "Kessel 7 läuft"));
        metrics.add(metric("long_text", MetricDataType.Text, "line 1\nline 2"));
        metrics.add(metric("id", MetricDataType.UUID, "123e4567-e89b-12d3-a456-426614174000"));
        metrics.add(metric("when", MetricDataType.DateTime, new Date(1764300000123L)));
        metrics.add(metric("nothing", MetricDataType.Int32, null));
        metrics.add(metric("bytes", MetricDataType.Bytes, new byte[] {0, -1, 10}));
        metrics.add(metric("file", MetricDataType.File, new File("log.txt", new byte[] {104, 105})));
        metrics.add(metric("i8s", MetricDataType.Int8Array, new Byte[] {-128, 127}));
        metrics.add(metric("i16s", MetricDataType.Int16Array, new Short[] {-32768, 2}));
        metrics.add(metric("i32s", MetricDataType.Int32Array, new Integer[] {-2, 3}));
        metrics.add(metric("i64s", MetricDataType.Int64Array, new Long[] {-2L, 3L}));
        metrics.add(metric("u8s", MetricDataType.UInt8Array, new Short[] {255, 1}));
        metrics.add(metric("u16s", MetricDataType.UInt16Array, new Integer[] {65535, 1}));
        metrics.add(metric("u32s", MetricDataType.UInt32Array, new Long[] {4294967295L, 1L}));
        metrics.add(metric("u64s", MetricDataType.UInt64Array, new BigInteger[] {
            new BigInteger("18446744073709551615")}));
        metrics.add(metric("f32s", MetricDataType.FloatArray, new Float[] {-0.5f, 1.25f}));
        metrics.add(metric("f64s", MetricDataType.DoubleArray, new Double[] {-0.5, 1.25}));
        metrics.add(metric("flags", MetricDataType.BooleanArray, new Boolean[] {
            true, false, true, true, false, false, false, false, true, true}));
        metrics.add(metric("texts", MetricDataType.StringArray, new String[] {"one", "", "zwei"}));
        metrics.add(metric("times", MetricDataType.DateTimeArray, new Date[] {new Date(1764300000123L)}));
        metrics.add(metric("table", MetricDataType.DataSet, new DataSetBuilder(3)
            .addColumnNames(List.of("name", "bar", "count"))
            .addTypes(List.of(DataSetDataType.String, DataSetDataType.Double, DataSetDataType.Int32))
            .addRow(row("north", 2.5, -4)).addRow(row("south", 3.5, 5))
            .createDataSet()));
        metrics.add(metric("pump", MetricDataType.Template, new TemplateBuilder()
            .version("1").definition(false).templateRef("pump_type")
            .addMetric(metric("bar", MetricDataType.Double, 2.75))
            .addMetric(metric("running", MetricDataType.Boolean, true))
            .addParameter(new Parameter("maker", ParameterDataType.String, "ACME"))
            .createTemplate()));
        Collections.rotate(metrics, turned);
        return metrics;
    }

    private static Metric metric(String name, MetricDataType type, Object value) throws Exception {
        return new MetricBuilder(name, type, value).timestamp(new Date()).createMetric();
    }

    private static Metric withUnit(Metric metric) throws Exception {
        metric.setProperties(new PropertySetBuilder()
            .addProperty("engUnit", new PropertyValue<>(PropertyDataType.String, "degC"))
            .addProperty("Quality", new PropertyValue<>(PropertyDataType.Int32, 192))
            .createPropertySet());
        return metric;
    }

    private static Row row(String name, double bar, int count) {
        return new RowBuilder()
            .addValue(new Value<>(DataSetDataType.String, name))
            .addValue(new Value<>(DataSetDataType.Double, bar))
            .addValue(new Value<>(DataSetDataType.Int32, count))
            .createRow();
    }

    @Override
    public Topic getDeathTopic() {
        return new Topic(SparkplugMeta.SPARKPLUG_B_TOPIC_PREFIX, node, MessageType.NDEATH);
    }

    /** Asked for before each CONNECT. */
    @Override
    public byte[] getDeathPayloadBytes() throws Exception {
        bdSeq++;
        SparkplugBPayload payload = new SparkplugBPayloadBuilder().setTimestamp(new Date()).createPayload();
        payload.addMetric(new MetricBuilder("bdSeq", MetricDataType.Int64, bdSeq).createMetric());
        return new SparkplugBPayloadEncoder().getBytes(payload, false);
    }

    @Override
    public void publishBirthSequence() {
        try {
            var payload = new SparkplugBPayloadMapBuilder()
                .setTimestamp(new Date())
                .addMetrics(nodeMetrics())
                .addMetric(new MetricBuilder("bdSeq", MetricDataType.Int64, bdSeq).createMetric())
                .createPayload();
            client.publishNodeBirth(payload);
            say("NBIRTH", payload);
            deviceBirth();
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public boolean hasMetric(SparkplugDescriptor descriptor, String name) {
        return true;
    }

    @Override
    public void messageArrived(
            MqttServerName server, MqttServerUrl url, MqttClientId id, String topic, MqttMessage message) {
        try {
            if (topic.startsWith("spBv1.0/STATE/")) {
                StatePayload state = new ObjectMapper()
                    .readValue(message.getPayload(), StatePayload.class);
                client.handleStateMessage(topic.substring("spBv1.0/STATE/".length()), state);
            } else if (topic.contains("/NCMD/")) {
                SparkplugBPayload payload =
                    new SparkplugBPayloadDecoder().buildFromByteArray(message.getPayload(), null);
                for (Metric metric : payload.getMetrics()) {
                    System.out.println("NCMD " + metric.getName() + " " + metric.getValue());
                    if (SparkplugMeta.METRIC_NODE_REBIRTH.equals(metric.getName())
                            && Boolean.TRUE.equals(metric.getValue())) {
                        client.handleRebirthRequest(true);
                    }
                }
            }
        } catch (Exception error) {
            error.printStackTrace();
        }
    }

    @Override
    public void shutdown() {}

    @Override
    public void connectionLost(MqttServerName server, MqttServerUrl url, MqttClientId id, Throwable cause) {}

    @Override
    public void connectComplete(boolean again, MqttServerName server, MqttServerUrl url, MqttClientId id) {}
}
