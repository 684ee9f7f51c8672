use prost::Message as _;
use std::time::Duration;
use tidegate::decode::sparkplug::proto::{DataType, Metric, MetricValue, Payload};

use super::config::What;
use super::node::{At, Node};
use crate::devices::file::File;

/// A node `press` with the device `pump`, whose values change with each second.
fn press() -> Node {
    let text = "[[sparkplug]]\nname = \"plant\"\n[[sparkplug.node]]\nname = \"press\"\n\
        interval = \"1 s\"\nvalues = [{ name = \"still\", type = \"boolean\", value = { constant = 1 } }]\n\
        [[sparkplug.node.device]]\nname = \"pump\"\n\
        values = [{ name = \"count\", type = \"int32\", value = { counter = { from = -2, every = \"1 s\" } } }]\n";
    let file = File::parse(text).unwrap();
    let [plant] = file.sparkplug.as_slice() else { panic!("one group") };
    Node::new("plant", &plant.nodes[0])
}

/// What the node and its device say in their turn of this second.
fn turn(node: &mut Node, second: u64, faults: [Option<What>; 2]) -> Vec<(String, Payload)> {
    let at = At { elapsed: Duration::from_secs(second), millis: 1_000 * second };
    let [of_node, of_device] = faults;
    let mut messages = node.turn(0, of_node, at);
    messages.extend(node.turn(1, of_device, at));
    messages.iter().map(read).collect()
}

/// Its kind, and what it says.
fn read(message: &rumqttc_v4::mqttbytes::v4::Publish) -> (String, Payload) {
    let topic = String::from_utf8_lossy(&message.topic).into_owned();
    let kind = topic.split('/').nth(2).unwrap().to_owned();
    let device = if kind.starts_with('D') { "/pump" } else { "" };
    assert_eq!(topic, format!("spBv1.0/plant/{kind}/press{device}"));
    assert_eq!(message.qos as u8, u8::from(kind == "NDEATH"), "{kind}");
    (kind, Payload::decode(message.payload.clone()).unwrap())
}

/// `NBIRTH 0, DDATA 2`: kinds and seq; of an NDEATH its session.
fn shown(messages: &[(String, Payload)]) -> String {
    let each = messages.iter().map(|(kind, payload)| match payload.seq {
        Some(seq) => format!("{kind} {seq}"),
        None => format!("{kind} of {}", session(payload)),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn session(payload: &Payload) -> u64 {
    let metric = payload.metrics.iter().find(|metric| metric.name() == "bdSeq").unwrap();
    let Some(MetricValue::Long(session)) = metric.value else { panic!("{metric:?}") };
    session
}

fn rebirth() -> Vec<u8> {
    let metric = Metric {
        name: Some("Node Control/Rebirth".to_owned()),
        value: Some(MetricValue::Boolean(true)),
        ..Metric::default()
    };
    Payload { metrics: vec![metric], ..Payload::default() }.encode_to_vec()
}

const WELL: [Option<What>; 2] = [None, None];

#[test]
fn it_is_born_with_names_and_types_and_sends_what_has_changed_under_an_alias() {
    let mut node = press();
    let births = turn(&mut node, 0, WELL);
    assert_eq!(shown(&births), "NBIRTH 0, DBIRTH 1");
    assert_eq!(session(&births[0].1), 0);
    let names: Vec<_> = births[0].1.metrics.iter().map(|m| (m.name(), m.alias)).collect();
    assert_eq!(names, [("bdSeq", None), ("Node Control/Rebirth", None), ("still", Some(1))]);
    let count = &births[1].1.metrics[0];
    assert_eq!((count.name(), count.datatype()), ("count", DataType::Int32 as u32));
    assert_eq!(count.value, Some(MetricValue::Int((-2_i32).cast_unsigned())));

    let data = turn(&mut node, 1, WELL);
    assert_eq!(shown(&data), "DDATA 2");
    let [value] = data[0].1.metrics.as_slice() else { panic!("{data:?}") };
    assert_eq!((value.alias, value.timestamp), (Some(2), Some(1_000)));
    assert_eq!((&value.name, value.datatype), (&None, None));
    assert_eq!(value.value, Some(MetricValue::Int((-1_i32).cast_unsigned())));
    assert_eq!(shown(&turn(&mut node, 1, WELL)), "", "nothing has changed");
}

#[test]
fn seq_goes_to_255_and_around() {
    let mut node = press();
    turn(&mut node, 0, WELL);
    let last: Vec<_> = (1..=256).map(|second| shown(&turn(&mut node, second, WELL))).collect();
    assert_eq!(last[252..], ["DDATA 254", "DDATA 255", "DDATA 0", "DDATA 1"]);
}

#[test]
fn a_host_that_asks_gets_the_births_of_the_same_session() {
    let mut node = press();
    let at = At { elapsed: Duration::from_secs(9), millis: 9_000 };
    assert!(node.command(&rebirth(), at).is_empty(), "it is not there yet");
    turn(&mut node, 0, WELL);
    turn(&mut node, 1, WELL);
    let births: Vec<_> = node.command(&rebirth(), at).iter().map(read).collect();
    assert_eq!(shown(&births), "NBIRTH 0, DBIRTH 1");
    assert_eq!(session(&births[0].1), 0);
    assert!(node.command(b"\x12\xFF", at).is_empty(), "that is no command");
}

/// What comes in the second of the fault and in the two after it.
#[track_caller]
fn check(faults: [Option<What>; 2], expected: [&str; 3]) {
    let mut node = press();
    turn(&mut node, 0, WELL);
    let got = [(1, faults), (2, WELL), (3, WELL)]
        .map(|(second, faults)| shown(&turn(&mut node, second, faults)));
    assert_eq!(got, expected, "{faults:?}");
}

#[test]
fn each_fault_is_what_its_name_says() {
    let device = |what| [None, Some(what)];
    check(device(What::Silence), ["", "DDATA 2", "DDATA 3"]);
    check(device(What::Lost), ["", "DDATA 3", "DDATA 4"]);
    check(device(What::Death), ["DDEATH 2", "DBIRTH 3", "DDATA 4"]);
    check(device(What::Unborn), ["DDEATH 2, DDATA 3", "DDATA 4", "DDATA 5"]);
    let node = |what| [Some(what), None];
    check(node(What::Death), ["NDEATH of 0", "NBIRTH 0, DBIRTH 1", "DDATA 2"]);
    check(node(What::Unborn), ["NDEATH of 0, DDATA 0", "DDATA 1", "DDATA 2"]);
    let late = "NBIRTH 0, DBIRTH 1, NDEATH of 0";
    check(node(What::LateWill), [late, "DDATA 2", "DDATA 3"]);
}

#[test]
fn a_device_that_is_back_has_other_aliases_until_the_node_is_born() {
    let mut node = press();
    turn(&mut node, 0, WELL);
    turn(&mut node, 1, [None, Some(What::Death)]);
    let aliases = |messages: Vec<(String, Payload)>| -> Vec<Option<u64>> {
        messages.iter().map(|(_, payload)| payload.metrics[0].alias).collect()
    };
    let again = [2, 3].map(|second| aliases(turn(&mut node, second, WELL)));
    assert_eq!(again, [[Some(3)], [Some(3)]]);
    let at = At { elapsed: Duration::from_secs(4), millis: 4_000 };
    let births = node.command(&rebirth(), at).iter().map(read).collect();
    assert_eq!(aliases(births), [None, Some(2)], "the first of the node is its session");
}

#[test]
fn an_unknown_alias_comes_with_what_is_known() {
    let mut node = press();
    turn(&mut node, 0, WELL);
    let data = turn(&mut node, 1, [None, Some(What::UnknownAlias)]);
    let aliases: Vec<_> = data[0].1.metrics.iter().map(|metric| metric.alias).collect();
    assert_eq!(aliases, [Some(2), Some(1 << 32)]);
}

#[test]
fn a_session_has_the_next_number_and_what_was_unborn_is_born_when_a_host_asks() {
    let mut node = press();
    turn(&mut node, 0, WELL);
    let births = turn(&mut node, 1, [Some(What::LateWill), None]);
    assert_eq!((session(&births[0].1), session(&births[2].1)), (1, 0));
    turn(&mut node, 2, [Some(What::Unborn), None]);
    let at = At { elapsed: Duration::from_secs(3), millis: 3_000 };
    let births: Vec<_> = node.command(&rebirth(), at).iter().map(read).collect();
    assert_eq!(shown(&births), "NBIRTH 0, DBIRTH 1");
    assert_eq!(session(&births[0].1), 2);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let wrong = |device: &str| {
        let text = format!(
            "[[sparkplug]]\nname = \"plant\"\n[[sparkplug.node]]\nname = \"press\"\n\
             interval = \"1 s\"\n[[sparkplug.node.device]]\n{device}\n"
        );
        File::parse(&text).unwrap_err().to_string()
    };
    let fault = "faults = [{ what = \"late_will\", when = { every = 2 } }]";
    let told = wrong(&format!("name = \"pump\"\nvalues = []\n{fault}"));
    assert_eq!(told, "plant.press.pump: a device has no last will, its node has");
    let told = wrong("name = \"a/b\"\nvalues = []");
    assert_eq!(told, "plant: `a/b` is no level of a topic, which has no /, + and #");
    let told = wrong(
        "name = \"pump\"\nvalues = [{ name = \"a\", type = \"u16\", value = { constant = 1 } }]",
    );
    assert!(told.contains("u16"), "{told}");
}
