//! Simulated devices as an agent and other clients meet them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may end them")]

use std::fs::File as Port;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use prost::Message as _;
use rumqttc_v4::mqttbytes::QoS;
use rumqttc_v4::mqttbytes::v4::{Connect, Packet, Publish, Subscribe};
use tidegate::decode::sparkplug::proto::{Metric, MetricValue, Payload};
use tidegate::source::Config;
use tidegate::source::modbus::{self, Measured, Outline};
use tidegate::tap::{News, Shown, Tap};
use tidegate_demo::devices::{Devices, File, Talk};
use tokio_modbus::client::tcp;
use tokio_modbus::prelude::{Reader as _, SlaveContext as _};
use tokio_modbus::{ExceptionCode, Slave};

/// Long for an answer that comes, whatever else the machine does.
const WHOLE: &str = "1 s";

/// After this long nothing comes any more: the test fails, rather than hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where none comes.
const BRIEF: &str = "100 ms";

/// What a gateway says of a unit that does not answer it.
const NOBODY: ExceptionCode = ExceptionCode::GatewayTargetDevice;

/// Of an MQTT packet.
const LONGEST: usize = 1 << 16;

/// A device behind TCP, RTU and ASCII, which all hold the same; `faults` as in the file.
fn file(faults: &str) -> File {
    let port = |framing: &str| {
        format!(
            "[[modbus]]\nname = \"{framing}\"\nframing = \"{framing}\"\n\
             [[modbus.device]]\nname = \"meter\"\nunit = 3\nsignals = [\n\
             {{ name = \"volts\", table = \"input\", address = 4, type = \"f32\", \
             order = \"cdab\", value = {{ constant = 230.5 }} }},\n\
             {{ name = \"power\", table = \"input\", address = 6, type = \"i16\", scale = 0.1, \
             value = {{ constant = -20.5 }} }},\n]\nfaults = [{faults}]\n"
        )
    };
    File::parse(&["tcp", "rtu", "ascii"].map(port).concat()).unwrap()
}

async fn start(file: &File) -> Devices {
    Devices::start(file, Talk::Nothing).await.unwrap()
}

/// What `tidegate plan --measure` finds out with the configuration that the devices print.
async fn measured(devices: &Devices, timeout: &str) -> Vec<(String, Measured)> {
    let text =
        devices.configuration().replace("stream =", &format!("timeout = \"{timeout}\"\nstream ="));
    let mut all = Vec::new();
    for source in sources(&text) {
        let Config::Modbus(config) = source else { continue };
        all.push((config.name.clone(), measure(&config).await));
    }
    all
}

/// What the agent makes of the configuration that the devices print.
fn sources(text: &str) -> Vec<Config> {
    loaded(text).sources
}

/// The whole configuration.
fn loaded(text: &str) -> tidegate::config::Config {
    let text = format!("[gateway]\nid = \"g\"\n[kafka]\nbrokers = \"localhost:9092\"\n{text}");
    tidegate::config::load_str(&text, "gateway.toml", std::iter::empty()).unwrap().config
}

/// Of the one request that reads all.
async fn measure(config: &modbus::Config) -> Measured {
    let mut outline = Outline::new(config);
    outline.measure(config, |_, _| ()).await.unwrap();
    let mut reads = outline.groups.into_iter().flat_map(|group| group.requests);
    let read = reads.next().unwrap();
    assert!(reads.next().is_none(), "one request reads both");
    read.measured.unwrap()
}

#[tokio::test]
async fn the_agent_reads_them_with_the_configuration_that_they_print() {
    let devices = start(&file("")).await;
    let all = measured(&devices, WHOLE).await;
    assert_eq!(all.len(), 3);
    for (name, measured) in all {
        assert!(matches!(measured, Measured::Took(_)), "{name}: {measured:?}");
    }
}

#[tokio::test]
async fn values_lie_where_the_file_says() {
    let devices = start(&file("")).await;
    // 230.5 as an f32 is 0x43668000; -20.5 by 0.1 is -205.
    let address = devices.address("tcp").unwrap().parse().unwrap();
    let mut client = tcp::connect_slave(address, Slave(3)).await.unwrap();
    let registers = client.read_input_registers(4, 3).await.unwrap().unwrap();
    assert_eq!(registers, [0x8000, 0x4366, 0xFF33]);

    let answer = on_the_line(&devices);
    assert_eq!(answer, [3, 4, 6, 0x80, 0, 0x43, 0x66, 0xFF, 0x33]);
}

/// The first bytes of an answer of RTU; its checksum is for the agent to look at.
fn on_the_line<const COUNT: usize>(devices: &Devices) -> [u8; COUNT] {
    let line = devices.address("rtu").unwrap();
    let mut port = Port::options().read(true).write(true).open(line).unwrap();
    port.write_all(&[3, 4, 0, 4, 0, 3, 0xF0, 0x28]).unwrap();
    let mut answer = [0; COUNT];
    port.read_exact(&mut answer).unwrap();
    answer
}

#[tokio::test]
async fn noise_comes_before_an_answer_and_a_short_one_ends_in_its_middle() {
    let fault = "{ what = \"noise\", when = { every = 2 } }, \
                 { what = \"short\", when = { every = 1 } }";
    let devices = start(&file(fault)).await;
    assert_eq!(on_the_line(&devices), [3, 4, 6, 0x80, 0]);
    // Had more of the first been said, it would stand before the second.
    assert_eq!(on_the_line(&devices), [0, 0xFF, 0x55, 3, 4, 6]);
}

#[tokio::test]
async fn each_fault_is_what_the_agent_says_of_it() {
    let silent = ["no answer in time"; 3];
    let cases = [
        ("{ late = \"900 ms\" }", silent),
        ("\"silence\"", silent),
        ("{ exception = 4 }", ["04"; 3]),
        ("\"disconnect\"", ["the connection broke", silent[0], silent[0]]),
        // Half an answer to the agent's probe is fewer bytes than a frame of RTU has.
        ("\"short\"", [silent[0], silent[0], "broke off"]),
    ];
    for (what, expected) in cases {
        let fault = format!("{{ what = {what}, when = {{ every = 1 }} }}");
        let devices = start(&file(&fault)).await;
        let all = measured(&devices, BRIEF).await;
        for ((name, measured), expected) in all.into_iter().zip(expected) {
            let Measured::Failed(words) = &measured else { panic!("{what} {name}: {measured:?}") };
            assert!(words.contains(expected), "{what} {name}: {words}");
        }
    }
}

#[tokio::test]
async fn each_unit_of_a_bus_is_itself_and_another_is_the_gateway_s_affair() {
    let unit = |unit: u8| {
        format!(
            "[[modbus.device]]\nname = \"{unit}\"\nunit = {unit}\nsignals = [{{ name = \"own\", \
             table = \"holding\", address = 0, value = {{ constant = {unit} }} }}]\n"
        )
    };
    let text = format!("[[modbus]]\nname = \"bus\"\n{}{}", unit(3), unit(9));
    let devices = start(&File::parse(&text).unwrap()).await;
    let address = devices.address("bus").unwrap().parse().unwrap();
    let mut client = tcp::connect_slave(address, Slave(3)).await.unwrap();
    for (unit, expected) in [(3, Ok(vec![3])), (9, Ok(vec![9])), (4, Err(NOBODY))] {
        client.set_slave(Slave(unit));
        assert_eq!(client.read_holding_registers(0, 1).await.unwrap(), expected, "{unit}");
    }
}

#[tokio::test]
async fn the_agent_bears_noise_on_a_line_and_not_over_tcp() {
    let fault = "{ what = \"noise\", when = { every = 1 } }";
    let devices = start(&file(fault)).await;
    for (name, measured) in measured(&devices, WHOLE).await {
        let is_line = name != "tcp";
        assert_eq!(matches!(measured, Measured::Took(_)), is_line, "{name}: {measured:?}");
    }
}

#[tokio::test]
async fn lines_come_with_their_values_and_every_second_one_short() {
    let text = "[[text]]\nname = \"scale\"\ninterval = \"20 ms\"\nline = \"W {kg} kg {no}\"\n\
                values = [{ name = \"kg\", value = { constant = 12.5 } }]\n\
                faults = [{ what = \"short\", when = { every = 2 } }]\n";
    let devices = start(&File::parse(text).unwrap()).await;
    let sources = sources(&devices.configuration());
    assert!(matches!(&sources[..], [Config::Serial(scale)] if scale.name == "scale"));
    let port = Port::open(devices.address("scale").unwrap()).unwrap();
    let lines: Vec<String> = BufReader::new(port).lines().take(2).map(Result::unwrap).collect();
    assert_eq!(lines, ["W 12.5 kg {no}", "W 12.5 kW 12.5 kg {no}"]);
}

#[tokio::test]
async fn messages_come_with_their_values() {
    let text = "[[mqtt]]\nname = \"hall\"\n[[mqtt.device]]\ntopic = \"hall/pump\"\n\
                interval = \"20 ms\"\nvalues = [{ name = \"bar\", value = { constant = 2.25 } }]\n";
    let devices = start(&File::parse(text).unwrap()).await;
    let address = devices.address("hall").unwrap();
    // The broker runs on this thread's runtime, so a client that blocks does not.
    let payload = tokio::task::spawn_blocking(move || first_message(&address)).await.unwrap();
    assert_eq!(payload, r#"{"bar":2.25}"#);
}

fn first_message(address: &str) -> String {
    let mut client = Client::subscribed(address, "hall/+");
    String::from_utf8(client.message().payload.to_vec()).unwrap()
}

/// A client of a broker, which blocks.
struct Client {
    stream: TcpStream,
    bytes: bytes::BytesMut,
}

impl Client {
    fn subscribed(address: &str, filter: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { stream, bytes: bytes::BytesMut::new() };
        let mut subscribe = Subscribe::new(filter, QoS::AtMostOnce);
        subscribe.pkid = 1;
        client.send(&Packet::Connect(Connect::new("tester")));
        client.send(&Packet::Subscribe(subscribe));
        client
    }

    fn send(&mut self, packet: &Packet) {
        let mut bytes = bytes::BytesMut::new();
        packet.write(&mut bytes, LONGEST).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    fn message(&mut self) -> Publish {
        let mut part = [0; 256];
        loop {
            while let Ok(packet) = Packet::read(&mut self.bytes, LONGEST) {
                if let Packet::Publish(message) = packet {
                    return message;
                }
            }
            let count = self.stream.read(&mut part).unwrap();
            assert!(count > 0, "the broker ended the connection");
            self.bytes.extend(part.iter().take(count));
        }
    }
}

#[tokio::test]
async fn a_host_that_comes_late_asks_an_edge_node_for_its_births() {
    let text = "[[sparkplug]]\nname = \"hall\"\ngroup = \"plant\"\n\
                [[sparkplug.node]]\nname = \"press\"\ninterval = \"20 ms\"\n\
                [[sparkplug.node.device]]\nname = \"pump\"\n\
                values = [{ name = \"bar\", value = { counter = { every = \"1 ms\" } } }]\n";
    let devices = start(&File::parse(text).unwrap()).await;
    let address = devices.address("hall").unwrap();
    let printed = devices.configuration();
    for line in ["type = \"sparkplug\"", "groups = [\"plant\"]", &format!("\"{address}\"")] {
        assert!(printed.contains(line), "{printed}");
    }
    let sources = sources(&printed);
    assert!(matches!(&sources[..], [Config::Sparkplug(hall)] if hall.groups == ["plant"]));
    let late = tokio::task::spawn_blocking(move || late_host(&address));
    let (data, births) = late.await.unwrap();
    assert_eq!(data.topic, "spBv1.0/plant/DDATA/press/pump");
    let topics: Vec<_> = births.iter().map(|birth| birth.topic.clone()).collect();
    assert_eq!(topics, ["spBv1.0/plant/NBIRTH/press", "spBv1.0/plant/DBIRTH/press/pump"]);
    let payload = |message: &Publish| Payload::decode(message.payload.clone()).unwrap();
    let (node, device) = (payload(&births[0]), payload(&births[1]));
    assert_eq!((node.seq, device.seq), (Some(0), Some(1)));
    assert_eq!(device.metrics[0].name(), "bar");
    assert_eq!(device.metrics[0].alias, payload(&data).metrics[0].alias);
}

/// Takes the first data, asks for births, and takes two.
fn late_host(address: &str) -> (Publish, Vec<Publish>) {
    let mut client = Client::subscribed(address, "spBv1.0/plant/#");
    let mut data = client.message();
    // It may have come before the node.
    while is_birth(&data) {
        data = client.message();
    }
    let rebirth = Metric {
        name: Some("Node Control/Rebirth".to_owned()),
        value: Some(MetricValue::Boolean(true)),
        ..Metric::default()
    };
    let payload = Payload { metrics: vec![rebirth], ..Payload::default() }.encode_to_vec();
    let command = Publish::new("spBv1.0/plant/NCMD/press", QoS::AtMostOnce, payload);
    client.send(&Packet::Publish(command));
    let mut births = Vec::new();
    while births.len() < 2 {
        let message = client.message();
        if is_birth(&message) {
            births.push(message);
        }
    }
    (data, births)
}

fn is_birth(message: &Publish) -> bool {
    String::from_utf8_lossy(&message.topic).contains("BIRTH")
}

/// What each value says by its millions: whose it is.
const EDGE_NODE: &str = r#"
[[sparkplug]]
name = "hall"
group = "plant"
[[sparkplug.node]]
name = "press"
interval = "10 ms"
values = [
  { name = "strokes", type = "int64", value = { counter = { from = 1e6, every = "1 ms" } } },
  { name = "oil", value = { counter = { from = 2e6, every = "1 ms" } } },
]
[[sparkplug.node.device]]
name = "pump"
values = [
  { name = "speed", type = "int32", value = { counter = { from = 3e6, every = "1 ms" } } },
  { name = "bar", value = { counter = { from = 4e6, every = "1 ms" } } },
]
faults = [{ what = "unknown_alias", when = { every = 11 } },
          { what = "lost", when = { every = 17 } }, { what = "unborn", when = { every = 50 } }]
[[sparkplug.node]]
name = "saw"
interval = "10 ms"
values = [{ name = "cuts", value = { counter = { from = 5e6, every = "1 ms" } } }]
faults = [{ what = "late_will", when = { every = 30 } }]
"#;

/// Names of that file, by the millions of their values.
const METRICS: [(&str, &str); 5] = [
    ("press", "strokes"),
    ("press", "oil"),
    ("press/pump", "speed"),
    ("press/pump", "bar"),
    ("saw", "cuts"),
];

/// What the agent has read of them.
#[derive(Debug, Default)]
struct ReadOfEdgeNodes {
    good: u32,
    gone: u32,
    unknown: u32,
}

impl ReadOfEdgeNodes {
    fn field(&mut self, device: &str, field: &Shown) {
        // An alias beyond those with a field of their own.
        if field.name == "alias_others" {
            assert_ne!(field.quality, "good", "{field:?}");
            self.unknown += 1;
            return;
        }
        let Ok(value) = field.value.parse::<f64>() else { return };
        let mut known = METRICS.iter().zip(1..);
        let known = known.find(|(metric, _)| **metric == (device, &*field.name));
        let is_good = field.quality == "good";
        // Its deaths are all of sessions before.
        assert!(is_good || device != "saw", "{field:?}");
        if let Some((_, millions)) = known {
            let from = 1e6 * f64::from(millions);
            assert!((from..from + 1e6).contains(&value), "{field:?}");
            self.good += u32::from(is_good);
            self.gone += u32::from(!is_good);
        } else {
            assert!(field.name.starts_with("alias_") && !is_good, "{field:?}");
            self.unknown += 1;
        }
    }
}

#[tokio::test]
async fn the_agent_reads_edge_nodes_with_faults_and_no_value_under_another_s_name() {
    let devices = start(&File::parse(EDGE_NODE).unwrap()).await;
    let text = devices.configuration() + "rebirth_interval = \"1 s\"\n";
    let loaded = loaded(&text);
    let [source] = &loaded.sources[..] else { panic!("{text}") };
    let mut tap = Tap::start(&loaded, source, false);
    let mut read = ReadOfEdgeNodes::default();
    // The device dies and is unknown more than once: each time the node was asked for births.
    let all = async {
        while read.good < 400 || read.gone < 6 || read.unknown < 10 {
            let Some(News::Read(seen, dead)) = tap.next().await else { continue };
            assert!(dead.is_empty(), "{dead:?}");
            for seen in &seen {
                seen.fields.iter().for_each(|field| read.field(&seen.event.device, field));
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_mins(1), all).await;
    assert!(in_time.is_ok(), "{read:?}");
    tap.stop().await;
}

/// The program, for a file of this text.
fn program(folder: &Path, text: &str) -> Command {
    let file = folder.join("plant.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.arg("devices").arg(file).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_program_prints_what_a_gateway_needs_and_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("bus");
    let text = format!(
        "[[modbus]]\nname = \"bus\"\naddress = \"{}\"\n[[modbus.device]]\nname = \"pump\"\n\
         signals = [{{ name = \"bar\", table = \"input\", address = 7, value = {{ constant = 3 }} }}]\n",
        link.display()
    );
    let mut demo = program(folder.path(), &text).spawn().unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
    let shown: Vec<String> = lines.take_while(|line| line != "]").collect();
    let expected = "  { name = \"bar\", table = \"input\", address = 7, type = \"u16\" },";
    assert_eq!(shown.last().map(String::as_str), Some(expected));
    assert!(shown.contains(&format!("address = \"{}\"", link.display())), "{shown:?}");
    assert!(std::fs::metadata(&link).unwrap().file_type().is_char_device());
    let pid = rustix::process::Pid::from_child(&demo);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(demo.wait().unwrap().success());
    assert!(std::fs::symlink_metadata(&link).is_err(), "the link went with it");
}

#[test]
fn a_link_takes_no_file_s_place() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("bus");
    std::fs::write(&taken, "somebody's").unwrap();
    let text =
        format!("[[modbus]]\nname = \"bus\"\naddress = \"{}\"\ndevice = []\n", taken.display());
    let output = program(folder.path(), &text).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let expected = format!("bus cannot have its address: {} is there already", taken.display());
    assert!(told.contains(&expected), "{told}");
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "somebody's");
}

#[test]
fn a_file_that_is_wrong_is_named_with_what_is_wrong_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[modbus]]\nname = \"bus\"\nbaud = 0\ndevice = []\n";
    let output = program(folder.path(), text).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("plant.toml: bus: baud = 0 lets no byte pass"), "{told}");
}

#[test]
fn the_file_in_the_documentation_is_right() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/devices.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, behind) = docs.split_once("```toml\n").unwrap();
    let (text, _) = behind.split_once("```").unwrap();
    File::parse(text).unwrap();
}

/// The device's map, and a value in it, over the wire; and the configuration that reads it.
#[tokio::test]
async fn a_sunspec_device_says_what_it_has() {
    let file = File::parse(
        "[[modbus]]\nname = \"roof\"\n[[modbus.device]]\nname = \"inverter\"\n\
         sunspec = { models = [[1, 66], [103, 50]] }\n\
         signals = [{ name = \"W\", table = \"holding\", address = 40084, type = \"i16\", \
         value = { constant = 1500 } }]\n",
    );
    let devices = start(&file.unwrap()).await;
    let sources = sources(&devices.configuration());
    let Some(Config::Modbus(config)) = sources.first() else { panic!("{sources:?}") };
    let sunspec = config.devices[0].groups[0].sunspec.as_ref().unwrap();
    assert_eq!(sunspec.base, Some(40_000));
    let mut client = tcp::connect(config.address.parse().unwrap()).await.unwrap();
    client.set_slave(Slave(1));
    let mut read = async |address, count| {
        client.read_holding_registers(address, count).await.unwrap().unwrap()
    };
    assert_eq!(read(40_000, 5).await, [0x5375, 0x6E53, 1, 66, 0]);
    assert_eq!(read(40_070, 2).await, [103, 50]);
    assert_eq!(read(40_083, 3).await, [0, 1_500, 0]);
    assert_eq!(read(40_122, 2).await, [0xFFFF, 0]);
}
