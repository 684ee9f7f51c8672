//! Sparkplug as Eclipse Tahu speaks it: what the agent's messages of the payload read out of
//! Tahu's bytes, and what Tahu reads out of theirs.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use prost::Message as _;
use tidegate::decode::sparkplug::proto::{
    Argument, Cell, DataSet, DataType, Metric, MetricValue as Value, Payload, Property, Template,
};
use tidegate_e2e::mosquitto::Mosquitto;
use tidegate_e2e::process::Process;
use tidegate_e2e::tahu::{EdgeNode, Host, Listener};
use tidegate_e2e::{folder, target};

/// Until something has been heard that comes within seconds.
const DELIVERY: Duration = Duration::from_mins(1);

static MOSQUITTO: LazyLock<Mosquitto> = LazyLock::new(|| Mosquitto::started("tahu-mosquitto"));

/// A node, and what it publishes.
struct Pair {
    name: &'static str,
    node: EdgeNode,
    listener: Listener,
}

impl Pair {
    fn started(name: &'static str) -> Self {
        let listener = Listener::started(&MOSQUITTO, &format!("{name}-listener"));
        Self { name, node: EdgeNode::started(MOSQUITTO.port, name, "d1"), listener }
    }

    /// The node's next message, without what other nodes say meanwhile.
    fn next(&mut self) -> (String, Payload) {
        loop {
            let message = self.listener.message();
            let mut levels = message.topic.split('/').skip(2);
            let (kind, node) = (levels.next(), levels.next());
            if let Some(kind) = kind.filter(|kind| *kind != "NCMD" && node == Some(self.name)) {
                let payload = Payload::decode(message.payload.as_slice()).expect("it is a payload");
                return (kind.to_owned(), payload);
            }
        }
    }

    fn expect(&mut self, kind: &str) -> Payload {
        let (got, payload) = self.next();
        assert_eq!(got, kind, "{payload:?}");
        payload
    }
}

fn metric<'a>(payload: &'a Payload, name: &str) -> &'a Metric {
    let mut all = payload.metrics.iter();
    all.find(|metric| metric.name.as_deref() == Some(name)).expect("it has this metric")
}

/// What `EdgeNode.java` gives its device. Signed integers are two's complement, 32 bits where
/// they fit; Tahu writes a `UInt32` as a `long_value`; arrays are bytes, little-endian
/// (6.4.17), and one of booleans has its count before its bits, the first the highest.
fn expected() -> Vec<(&'static str, DataType, Option<Value>)> {
    let text = |text: &str| Some(Value::String(text.to_owned()));
    let bytes = |bytes: &[u8]| Some(Value::Bytes(bytes.to_vec()));
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    let when: u64 = 1_764_300_000_123;
    vec![
        ("i8", DataType::Int8, Some(Value::Int((-128_i32).cast_unsigned()))),
        ("i16", DataType::Int16, Some(Value::Int((-32_768_i32).cast_unsigned()))),
        ("i32", DataType::Int32, Some(Value::Int(1 << 31))),
        ("i64", DataType::Int64, Some(Value::Long(1 << 63))),
        ("u8", DataType::UInt8, Some(Value::Int(255))),
        ("u16", DataType::UInt16, Some(Value::Int(65_535))),
        ("u32", DataType::UInt32, Some(Value::Long(u32::MAX.into()))),
        ("u64", DataType::UInt64, Some(Value::Long(u64::MAX))),
        ("f32", DataType::Float, Some(Value::Float(-118.625))),
        ("f64", DataType::Double, Some(Value::Double(123_456_789.062_5))),
        ("flag", DataType::Boolean, Some(Value::Boolean(true))),
        ("text", DataType::String, text("Kessel 7 läuft")),
        ("long_text", DataType::Text, text("line 1\nline 2")),
        ("id", DataType::Uuid, text(uuid)),
        ("when", DataType::DateTime, Some(Value::Long(when))),
        ("nothing", DataType::Int32, None),
        ("bytes", DataType::Bytes, bytes(&[0, 0xFF, 10])),
        ("file", DataType::File, bytes(b"hi")),
        ("i8s", DataType::Int8Array, bytes(&[0x80, 0x7F])),
        ("i16s", DataType::Int16Array, bytes(&[0, 0x80, 2, 0])),
        ("i32s", DataType::Int32Array, bytes(&[0xFE, 0xFF, 0xFF, 0xFF, 3, 0, 0, 0])),
        ("i64s", DataType::Int64Array, {
            bytes(&[(-2_i64).to_le_bytes(), 3_i64.to_le_bytes()].concat())
        }),
        ("u8s", DataType::UInt8Array, bytes(&[255, 1])),
        ("u16s", DataType::UInt16Array, bytes(&[0xFF, 0xFF, 1, 0])),
        ("u32s", DataType::UInt32Array, bytes(&[0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0])),
        ("u64s", DataType::UInt64Array, bytes(&[0xFF; 8])),
        ("f32s", DataType::FloatArray, {
            bytes(&[(-0.5_f32).to_le_bytes(), 1.25_f32.to_le_bytes()].concat())
        }),
        ("f64s", DataType::DoubleArray, {
            bytes(&[(-0.5_f64).to_le_bytes(), 1.25_f64.to_le_bytes()].concat())
        }),
        ("flags", DataType::BooleanArray, bytes(&[10, 0, 0, 0, 0b1011_0000, 0b1100_0000])),
        ("texts", DataType::StringArray, bytes(b"one\0\0zwei\0")),
        ("times", DataType::DateTimeArray, bytes(&when.to_le_bytes())),
    ]
}

#[test]
fn the_agents_messages_read_every_type_out_of_tahus_births() {
    let mut pair = Pair::started("types");
    let birth = pair.expect("NBIRTH");
    assert_eq!((birth.seq, birth.timestamp.is_some()), (Some(0), true));
    let rebirth = metric(&birth, "Node Control/Rebirth");
    assert_eq!((rebirth.alias, &rebirth.value), (None, &Some(Value::Boolean(false))));
    let Some(Value::Template(definition)) = &metric(&birth, "pump_type").value else {
        panic!("{birth:?}")
    };
    assert_eq!(definition.is_definition, Some(true));

    let birth = pair.expect("DBIRTH");
    assert_eq!(birth.seq, Some(1));
    for (name, kind, value) in expected() {
        let metric = metric(&birth, name);
        assert_eq!((metric.datatype(), &metric.value), (kind as u32, &value), "{name}");
        assert_eq!(metric.is_null.unwrap_or_default(), value.is_none(), "{name}");
        assert!(metric.alias.is_some() && metric.timestamp.is_some(), "{name}");
    }
    let metadata = metric(&birth, "file").metadata.as_ref().expect("a file has a name");
    assert_eq!(metadata.file_name(), "log.txt");
    let properties = metric(&birth, "f32").properties.clone().expect("it has properties");
    let values = properties.values.into_iter().map(|value| value.value);
    let mut properties: Vec<_> = properties.keys.into_iter().zip(values).collect();
    properties.sort_by(|(one, _), (other, _)| one.cmp(other));
    let unit = ("engUnit".to_owned(), Some(Property::String("degC".to_owned())));
    assert_eq!(properties, [("Quality".to_owned(), Some(Property::Int(192))), unit]);
    let Some(Value::DataSet(table)) = &metric(&birth, "table").value else { panic!("{birth:?}") };
    check_table(table);
    let Some(Value::Template(pump)) = &metric(&birth, "pump").value else { panic!("{birth:?}") };
    check_pump(pump);
}

#[track_caller]
fn check_table(table: &DataSet) {
    let DataSet { num_of_columns, columns, types, rows } = table;
    assert_eq!((num_of_columns, columns.len()), (&Some(3), 3));
    let kinds = [DataType::String, DataType::Double, DataType::Int32].map(|kind| kind as u32);
    assert_eq!(types, &kinds);
    let rows = rows.iter().map(|row| row.elements.iter().map(|cell| cell.value.clone()));
    let rows: Vec<Vec<_>> = rows.map(Iterator::collect).collect();
    let row = |name: &str, bar, count: i32| {
        let count = Cell::Int(count.cast_unsigned());
        vec![Some(Cell::String(name.to_owned())), Some(Cell::Double(bar)), Some(count)]
    };
    assert_eq!(rows, [row("north", 2.5, -4), row("south", 3.5, 5)]);
}

#[track_caller]
fn check_pump(pump: &Template) {
    let Template { template_ref, metrics, parameters, .. } = pump;
    assert_eq!(template_ref.as_deref(), Some("pump_type"));
    let values: Vec<_> = metrics.iter().map(|m| (m.name(), m.value.clone())).collect();
    let running = ("running", Some(Value::Boolean(true)));
    assert_eq!(values, [("bar", Some(Value::Double(2.75))), running]);
    let parameters: Vec<_> = parameters.iter().map(|p| (p.name(), p.value.clone())).collect();
    assert_eq!(parameters, [("maker", Some(Argument::String("ACME".to_owned())))]);
}

#[test]
fn tahu_leaves_out_names_counts_seq_and_answers_a_rebirth_request_of_ours() {
    let mut pair = Pair::started("session");
    let node = pair.expect("NBIRTH");
    let device = pair.expect("DBIRTH");
    for command in ["data i16 -7", "node uptime 2", "gap", "historical f64 2.5", "data i32 null"] {
        pair.node.tell(command);
    }
    let expected = [
        ("DDATA", 2, &device, "i16", Some(Value::Int((-7_i32).cast_unsigned()))),
        ("NDATA", 3, &node, "uptime", Some(Value::Long(2))),
        ("DDATA", 5, &device, "f64", Some(Value::Double(2.5))),
        ("DDATA", 6, &device, "i32", None),
    ];
    for (kind, seq, birth, name, value) in expected {
        let payload = pair.expect(kind);
        let [one] = payload.metrics.as_slice() else { panic!("{payload:?}") };
        assert_eq!((payload.seq, one.alias), (Some(seq), metric(birth, name).alias), "{name}");
        assert!(one.alias.is_some(), "{name}");
        assert_eq!((&one.name, one.datatype, &one.value), (&None, None, &value), "{name}");
        assert_eq!(one.is_historical.unwrap_or_default(), name == "f64");
    }

    request_rebirth("session");
    pair.node.wait_line("NCMD Node Control/Rebirth true");
    assert_eq!(pair.expect("NBIRTH").seq, Some(0));
    assert_eq!(pair.expect("DBIRTH").seq, Some(1));
    pair.node.tell("device-death");
    assert_eq!(pair.expect("DDEATH").seq, Some(2));

    pair.node.kill();
    let death = pair.expect("NDEATH");
    assert_eq!(death.seq, None);
    assert_eq!(metric(&death, "bdSeq").value, metric(&node, "bdSeq").value);
}

#[test]
fn tahu_is_born_when_its_primary_host_is_online_and_dies_when_it_goes() {
    let listener = Listener::started(&MOSQUITTO, "primary-listener");
    let node = EdgeNode::waiting(MOSQUITTO.port, "primary", "d1", "host");
    let mut pair = Pair { name: "primary", node, listener };
    let state =
        |state: &str| MOSQUITTO.publish("spBv1.0/STATE/host", &["-r", "-q", "1", "-m", state]);
    state(r#"{"online":true,"timestamp":1}"#);
    pair.expect("NBIRTH");
    pair.expect("DBIRTH");
    state(r#"{"online":false,"timestamp":1}"#);
    pair.expect("DDEATH");
    pair.expect("NDEATH");
}

/// As docs/devices.md has it, but faster.
const SIMULATED: &str = r#"
[[sparkplug]]
name = "plant"
[[sparkplug.node]]
name = "press"
interval = "100 ms"
values = [{ name = "uptime", type = "int64", value = { counter = { every = "1 s" } } }]
faults = [{ what = "late_will", when = { every = 20 } }]
[[sparkplug.node.device]]
name = "pump"
values = [{ name = "speed", type = "int32", value = { counter = { from = -9, every = "100 ms" } } }]
faults = [{ what = "death", when = { every = 15 } }]
"#;

#[test]
fn tahus_host_reads_the_simulated_edge_nodes_and_is_not_taken_in_by_a_late_will() {
    let file = folder("tahu-host").join("plant.toml");
    std::fs::write(&file, SIMULATED).expect("the folder is writable");
    let mut demo = Command::new(target().join("debug/demo"));
    demo.arg("devices").arg(&file);
    let demo = Process::start("demo devices", &demo);
    let line = demo.wait_line("address = ", DELIVERY);
    let address = line.split('"').nth(1).expect("it stands in quotes");
    let host = Host::started(address, "host");
    let mut mark = 0;
    let mut hear = |words: &[&str]| {
        for word in words {
            let is_it = |line: &str| line.starts_with(word);
            host.0.log.wait(mark, &format!("{word} from Tahu's host"), DELIVERY, is_it);
            let lines = host.0.log.lines();
            let place = lines.iter().skip(mark).position(|line| is_it(line));
            mark += place.expect("it was there") + 1;
        }
    };
    // It has asked: what was born before it came, nobody keeps.
    hear(&["NodeBirthComplete plant/press", "DeviceBirthComplete plant/press/pump"]);
    hear(&["DataMetric plant/press/pump speed Int32 ", "DeviceDeath plant/press/pump"]);
    hear(&["Stale plant/press/pump speed Int32 ", "DeviceBirthComplete plant/press/pump"]);
    // A new session, and behind its births the last will of the old one.
    hear(&["NodeBirthComplete plant/press", "DataMetric plant/press uptime Int64 "]);
    hear(&["DataMetric plant/press/pump speed Int32 "]);
    let deaths = host.0.log.matching(0, |line| line.starts_with("NodeDeath"));
    assert_eq!(deaths, Vec::<String>::new());
}

/// A host's command, in the agent's own messages.
fn request_rebirth(node: &str) {
    let rebirth = Metric {
        name: Some("Node Control/Rebirth".to_owned()),
        datatype: Some(DataType::Boolean as u32),
        value: Some(Value::Boolean(true)),
        ..Metric::default()
    };
    let payload = Payload { metrics: vec![rebirth], ..Payload::default() };
    let file = folder("tahu-rebirth").join("payload");
    std::fs::write(&file, payload.encode_to_vec()).expect("the folder is writable");
    let file = file.to_str().expect("it has a name in UTF-8");
    MOSQUITTO.publish(&format!("spBv1.0/plant/NCMD/{node}"), &["-f", file]);
}
