//! The Modbus source against devices on libraries that nobody here wrote: pymodbus,
//! pyModbusTCP, modbus-serial and libmodbus (`peers/modbus/README.md` has their registers),
//! over TCP, RTU over TCP, and RTU and ASCII on serial lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::{Judge, Record};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::line::Line;
use tidegate_e2e::peer::Peer;
use tidegate_e2e::settings::{modbus_group, modbus_signal};
use tidegate_e2e::{faulty, folder, ports, settings};

const DELIVERY: Duration = Duration::from_mins(1);

/// One for all; each test has a gateway and a topic of its own.
static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::started("modbus-peers-kafka"));

/// The gateway `name`, its one stream of the same name, and these sources.
fn agent(name: &str, sources: &str) -> Agent {
    let folder = folder(name);
    let head = settings::head(name, &folder, &settings::plain(&KAFKA.brokers()));
    started(&folder, &(head + &settings::stream(name, 1) + sources))
}

/// The same with its own stream, which goes to this topic.
fn agent_with_system(name: &str, topic: &str, sources: &str) -> Agent {
    let folder = folder(name);
    let head = settings::head_with_system(name, &folder, &settings::plain(&KAFKA.brokers()));
    let head = head.replace("[system]\n", &format!("[system]\ntopic = \"{topic}\"\n"));
    started(&folder, &(head + &settings::stream(name, 1) + sources))
}

fn started(folder: &Path, config: &str) -> Agent {
    let mut agent = Agent::new(folder, config);
    agent.start();
    agent
}

/// A source and its first device, which is unit 1 and has the source's name.
fn source(stream: &str, name: &str, address: &str, framing: &str, timeout: &str) -> String {
    format!(
        "
[[source]]
type = \"modbus\"
name = \"{name}\"
address = \"{address}\"
framing = \"{framing}\"
timeout = \"{timeout}\"
stream = \"{stream}\"
{}",
        device(name, 1)
    )
}

fn device(name: &str, unit: u8) -> String {
    format!("\n[[source.device]]\nname = \"{name}\"\nunit = {unit}\n")
}

/// A signal and the field that must come of it.
struct Expected {
    signal: String,
    name: String,
    value: Value,
    quality: &'static str,
}

impl Expected {
    fn good(name: &str, table: &str, address: u16, more: &str, value: Value) -> Self {
        let comma = if more.is_empty() { "" } else { ", " };
        let signal = format!("{}{comma}{more}", modbus_signal(name, table, address));
        Self { signal, name: name.to_owned(), value, quality: "good" }
    }
}

/// The groups of each device, by the table of `peers/modbus/README.md`: all types, the
/// largest requests, and an address that is refused among others that are not.
fn groups() -> [Vec<Expected>; 5] {
    let holding = |name: &str, address, more: &str, value: Value| {
        Expected::good(name, "holding", address, more, value)
    };
    let mut types = vec![
        holding("u16", 0, "", json!(4660)),
        holding("i16", 1, "type = \"i16\"", json!(-12345)),
        holding("u64", 10, "type = \"u64\"", json!(81_985_529_216_486_895_u64)),
        holding(
            "u64_cdab",
            14,
            "type = \"u64\", order = \"cdab\"",
            json!(0x0123_4567_89AB_CDEF_u64),
        ),
        holding("f64", 26, "type = \"f64\"", json!(123_456_789.062_5)),
        holding("f64_cdab", 30, "type = \"f64\", order = \"cdab\"", json!(123_456_789.062_5)),
        holding("text", 34, "type = \"string\", length = 4", json!("Tidegate")),
        holding(
            "text_badc",
            38,
            "type = \"string\", length = 4, order = \"badc\"",
            json!("boiler-7"),
        ),
    ];
    for (address, order) in (0..).step_by(2).zip(["abcd", "cdab", "badc", "dcba"]) {
        let number = format!("type = \"i32\", order = \"{order}\"");
        types.push(holding(&format!("i32_{order}"), 2 + address, &number, json!(-123_456_789)));
        let fraction = format!("type = \"f32\", order = \"{order}\"");
        types.push(holding(&format!("f32_{order}"), 18 + address, &fraction, json!(-118.625)));
    }
    for bit in 0..16 {
        let more = format!("type = \"bit\", bit = {bit}");
        let value = json!(0xA50F >> bit & 1 == 1);
        types.push(holding(&format!("bit{bit}"), 42, &more, value));
    }
    // One request of 125 registers.
    let mut inputs = vec![
        Expected::good("in0", "input", 0, "type = \"i16\"", json!(-2)),
        Expected::good("in1", "input", 1, "type = \"u32\"", json!(0xDEAD_BEEF_u32)),
    ];
    inputs.extend((3..125).map(|address| {
        let name = format!("in{address}");
        Expected::good(&name, "input", address, "", json!(0x4000 + address))
    }));
    // Requests of 2,000 bits.
    let coils = (0..2_000_u16).map(|address| {
        let a = u32::from(address);
        let value = json!((a * a + a / 7).is_multiple_of(3));
        Expected::good(&format!("coil{address}"), "coil", address, "", value)
    });
    let discretes = (0..2_000_u16).map(|address| {
        let a = u32::from(address);
        let value = json!((a * a + a / 11) % 5 < 2);
        Expected::good(&format!("discrete{address}"), "discrete", address, "", value)
    });
    let mut refused = Expected::good("nowhere", "holding", 9_000, "", Value::Null);
    refused.quality = "bad_address";
    let around = vec![
        Expected::good("before", "coil", 0, "", json!(true)),
        Expected::good("beside", "holding", 43, "", json!(1)),
        refused,
        Expected::good("after", "input", 124, "", json!(0x4000 + 124)),
    ];
    [types, inputs, coils.collect(), discretes.collect(), around]
}

/// The records of this device and this group, known by its first signal.
fn with_group<'a>(
    records: &'a [Record],
    device: &str,
    group: &[Expected],
) -> impl Iterator<Item = &'a Record> {
    let first = &group.first().expect("a group has signals").name;
    records.iter().filter(move |record| record.key == device && record.value.get(first).is_some())
}

/// What is wrong in the records of a device with a group, in words. A busy machine may
/// cost a reading (its fields are null), but never make it another one.
fn wrong(records: &[Record], device: &str, group: &[Expected]) -> Vec<String> {
    let mut wrong = Vec::new();
    for record in with_group(records, device, group) {
        for expected in group {
            let name = &expected.name;
            let (value, quality) = (record.value.get(name), record.quality(name));
            let right = (value, quality) == (Some(&expected.value), expected.quality);
            let silent = (value, quality) == (Some(&Value::Null), "timeout");
            if !right && !silent {
                wrong.push(format!(
                    "{device}, {{ {} }}: expected {} ({}), got {} ({quality})",
                    expected.signal,
                    expected.value,
                    expected.quality,
                    value.map_or_else(|| "nothing".to_owned(), Value::to_string),
                ));
            }
        }
    }
    wrong
}

#[test]
fn every_value_of_every_peer_arrives_as_it_is() {
    let name = "modbus-peers";
    let lines = folder("modbus-peers-lines");
    let line = |name: &str| Line::new(&lines, name);
    let (rtu, ascii, libmodbus) = (line("rtu"), line("ascii"), line("libmodbus"));
    let [tcp, over_tcp, python, node, c] = [(); 5].map(|()| ports::free().to_string());
    let _peers = [
        Peer::started("pymodbus_server.py", &["tcp", &tcp]),
        Peer::started("pymodbus_server.py", &["rtu-over-tcp", &over_tcp]),
        Peer::started("pymodbus_server.py", &["rtu", &rtu.device]),
        Peer::started("pymodbus_server.py", &["ascii", &ascii.device]),
        Peer::started("pymodbustcp_server.py", &[&python]),
        Peer::started("modbus_serial_server.js", &[&node]),
        Peer::started("libmodbus_server", &["tcp", &c]),
        Peer::started("libmodbus_server", &["rtu", &libmodbus.device]),
    ];
    let host = |port: &str| format!("127.0.0.1:{port}");
    let ways = [
        ("pymodbus-tcp", host(&tcp), "tcp"),
        ("pymodbus-rtu-over-tcp", host(&over_tcp), "rtu"),
        ("pymodbus-rtu", rtu.master.clone(), "rtu"),
        ("pymodbus-ascii", ascii.master.clone(), "ascii"),
        ("pymodbustcp-tcp", host(&python), "tcp"),
        ("modbus-serial-tcp", host(&node), "tcp"),
        ("libmodbus-tcp", host(&c), "tcp"),
        ("libmodbus-rtu", libmodbus.master.clone(), "rtu"),
    ];
    // How a peer takes it that it is asked for another unit: one says that something
    // is wrong, the others nothing.
    let absent = BTreeMap::from([
        ("pymodbus-tcp", "device_error"),
        ("modbus-serial-tcp", "timeout"),
        ("libmodbus-rtu", "timeout"),
    ]);
    let groups = groups();
    let mut sources = String::new();
    for (peer, address, framing) in &ways {
        sources += &source(name, peer, address, framing, "1 s");
        for expected in &groups {
            sources +=
                &modbus_group("2 s", expected.iter().map(|expected| expected.signal.clone()));
        }
        if absent.contains_key(peer) {
            sources += &device(&format!("{peer}-absent"), 9);
            sources += &modbus_group("30 s", [modbus_signal("nobody", "holding", 0)]);
        }
    }
    let mut agent = agent(name, &sources);

    let complete = |records: &[Record]| {
        let whole = |device: &str, group: &[Expected]| {
            let answered = |record: &Record| {
                group.iter().all(|expected| record.quality(&expected.name) != "timeout")
            };
            with_group(records, device, group).any(answered)
        };
        let told = |peer: &str, expected: &str| {
            let device = format!("{peer}-absent");
            records.iter().any(|r| r.key == device && r.text("quality") == expected)
        };
        ways.iter().all(|(peer, ..)| groups.iter().all(|group| whole(peer, group)))
            && absent.iter().all(|(peer, expected)| told(peer, expected))
    };
    let mut judge = Judge::of_topic(&KAFKA, name);
    judge.look_until("an event with all of each group of each peer", DELIVERY, complete);
    agent.stop();

    let records = judge.look();
    let all = ways
        .iter()
        .flat_map(|(peer, ..)| groups.iter().flat_map(move |group| wrong(records, peer, group)));
    // A wrong value is in every event.
    let all: BTreeSet<_> = all.collect();
    let some: Vec<_> = all.into_iter().take(40).collect();
    assert!(some.is_empty(), "{}", some.join("\n"));
    let nobody = records.iter().filter(|record| record.key.ends_with("-absent"));
    nobody.for_each(|record| assert_eq!(record.value["nobody"], Value::Null, "{record:?}"));
}

/// The states of a device in the agent's own stream, in their order.
fn states<'a>(records: &'a [Record], device: &str) -> Vec<&'a str> {
    let of_device = |r: &&Record| r.key == device && r.text("kind") == "device";
    records.iter().filter(of_device).map(|record| record.text("state")).collect()
}

#[test]
fn a_killed_peer_is_told_to_be_down_and_read_by_itself_when_it_is_back() {
    let (name, system) = ("modbus-peers-killed", "modbus-peers-killed.system");
    let line = Line::new(&folder("modbus-peers-killed-lines"), "rtu");
    let [tcp, over_tcp, nobody] = [(); 3].map(|()| ports::free().to_string());
    let mut peers = [
        Peer::started("pymodbus_server.py", &["tcp", &tcp]),
        Peer::started("pymodbus_server.py", &["rtu-over-tcp", &over_tcp]),
        Peer::started("pymodbus_server.py", &["rtu", &line.device]),
    ];
    let ways = [
        ("tcp", format!("127.0.0.1:{tcp}"), "tcp"),
        ("rtu-over-tcp", format!("127.0.0.1:{over_tcp}"), "rtu"),
        ("rtu", line.master.clone(), "rtu"),
        ("fallback", format!("127.0.0.1:{nobody}"), "tcp"),
    ];
    let fallback = format!("fallback = \"127.0.0.1:{tcp}\"\nstream");
    let mut sources = String::new();
    for (way, address, framing) in &ways {
        let source = source(name, way, address, framing, "300 ms");
        sources +=
            &if *way == "fallback" { source.replacen("stream", &fallback, 1) } else { source };
        sources += &modbus_group("100 ms", [modbus_signal("run", "holding", 43)]);
    }
    let mut agent = agent_with_system(name, system, &sources);
    let (mut judge, mut own) = (Judge::of_topic(&KAFKA, name), Judge::of_topic(&KAFKA, system));
    let mut wait_state = |state: &str| {
        own.look_until(&format!("each is {state} at last"), DELIVERY, |records| {
            ways.iter().all(|(way, ..)| states(records, way).last() == Some(&state))
        });
    };
    let mut wait = |value: Value| {
        judge.look_until(&format!("run = {value} of each"), DELIVERY, |records| {
            ways.iter()
                .all(|(way, ..)| records.iter().any(|r| r.key == *way && r.value["run"] == value))
        });
    };
    wait(json!(1));
    wait_state("up");
    peers.iter_mut().for_each(Peer::kill);
    wait(Value::Null);
    wait_state("down");
    for peer in &mut peers {
        peer.start_again("2");
    }
    wait(json!(2));
    wait_state("up");
    agent.stop();
    for record in own.look().iter().filter(|record| record.text("kind") == "device") {
        let is_up = record.text("state") == "up";
        assert_eq!(record.value["reason"] == Value::Null, is_up, "{record:?}");
    }
    let taken = own.records.iter().filter(|record| record.text("kind") == "address");
    let taken: Vec<_> = taken.map(|r| (r.text("source"), r.text("address"))).collect();
    assert_eq!(taken, [("fallback", format!("127.0.0.1:{tcp}").as_str())]);
}

/// Requests that each device is asked at least; every third of them goes wrong.
const ASKED: usize = 500;

/// Several times what that takes.
const ASKING: Duration = Duration::from_mins(3);

/// Requests among which at least one must be answered with a value.
const STRETCH: usize = 100;

#[test]
fn no_value_is_wrong_while_every_third_answer_is() {
    let name = "modbus-peers-faults";
    let line = Line::new(&folder("modbus-peers-faults-lines"), "rtu");
    let [tcp, over_tcp] = [(); 2].map(|()| ports::free().to_string());
    let peers = [
        Peer::started("pymodbus_faults.py", &["tcp", &tcp]),
        Peer::started("pymodbus_faults.py", &["rtu-over-tcp", &over_tcp]),
        Peer::started("pymodbus_faults.py", &["rtu", &line.device]),
    ];
    // A line has no transactions, and some noise is usual there.
    let tcp_harmless: &[&str] = &["good", "halved", "doubled"];
    let line_harmless: &[&str] = &["good", "halved", "doubled", "numbered", "noisy"];
    let ways = [
        ("tcp", format!("127.0.0.1:{tcp}"), "tcp", tcp_harmless),
        ("rtu-over-tcp", format!("127.0.0.1:{over_tcp}"), "rtu", line_harmless),
        ("rtu", line.master.clone(), "rtu", line_harmless),
    ];
    let mut sources = String::new();
    for (way, address, framing, _) in &ways {
        sources += &source(name, way, address, framing, "100 ms");
        sources += &faulty::groups("100 ms");
    }
    let mut agent = agent(name, &sources);
    for peer in &peers {
        peer.wait_line(&format!("ASKED {ASKED}"), ASKING);
    }
    agent.stop();

    let mut judge = Judge::of_topic(&KAFKA, name);
    let records = judge.look();
    for (way, _, _, harmless) in ways {
        let numbers = faulty::numbers(records, way, harmless);
        for start in (0..ASKED).step_by(STRETCH) {
            let stretch = start + 1..=start + STRETCH;
            let good = numbers.iter().filter(|number| stretch.contains(number)).count();
            assert!(good > 0, "{way}: none of the requests {stretch:?} gave a value");
        }
        let mut gave = BTreeMap::<_, usize>::new();
        for number in &numbers {
            *gave.entry(faulty::fault(*number)).or_default() += 1;
        }
        println!("{way}: good events of more than {ASKED} requests: {gave:?}");
        // Two answers where one is due may cost the value.
        let silent =
            harmless.iter().find(|fault| **fault != "doubled" && !gave.contains_key(*fault));
        assert_eq!(silent, None, "{way}: answers that it could take");
    }
}
