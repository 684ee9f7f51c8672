//! `tidegate plan` as people and scripts meet it; the devices are not there.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may end them")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

const HEAD: &str = r#"
[gateway]
id = "gw1"
[kafka]
brokers = "127.0.0.1:1"
[[source]]
type = "mqtt"
name = "broker"
address = "127.0.0.1:1883"
stream = "hall"
subscription = [{ topic = "a/{device}" }]
"#;

/// One device on a port that is not there.
const BUS: &str = r#"
[[source]]
type = "modbus"
name = "cellar-bus"
address = "/dev/serial/by-id/nobodys"
stream = "plant.cellar"
serial = { baud = 9600 }
[[source.device]]
name = "meter"
unit = 3
[[source.device.group]]
name = "power"
interval = "1 s"
signals = [
  { name = "power", table = "input", address = 12, type = "f32" },
  { name = "energy", table = "input", address = 18, type = "f32" },
  { name = "serial", table = "input", address = 64, type = "u32" },
]
"#;

struct Gateway {
    _folder: tempfile::TempDir,
    config: PathBuf,
}

impl Gateway {
    fn new(sources: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("gateway.toml");
        std::fs::write(&config, format!("{HEAD}{sources}")).unwrap();
        Self { _folder: folder, config }
    }

    fn command(&self, words: &[&str]) -> Output {
        Command::new(TIDEGATE).args(words).arg("--config").arg(&self.config).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_plan_shows_requests_time_and_the_shortest_interval_without_asking_anybody() {
    let output = Gateway::new(BUS).command(&["plan", "cellar-bus"]);
    assert!(output.status.success(), "{output:?}");
    insta::assert_snapshot!(text(&output.stdout), @"
    cellar-bus: /dev/serial/by-id/nobodys, 9600 baud, Modbus RTU
    DEVICE  UNIT  GROUP  READS           COUNT  FIELDS  HOLES  ESTIMATED  MEASURED
    meter   3     power  input 12 to 19  8      2       4      47.2 ms    -
    meter   3     power  input 64 to 65  2      1       0      33.5 ms    -

    DEVICE  GROUP  REQUESTS  TIME     INTERVAL  OF THE BUS  SHORTEST INTERVAL
    meter   power  2         80.7 ms  1 s       8.1 %       80.7 ms

    the bus is busy 8.1 % of its time
    ");
}

#[test]
fn a_program_reads_the_same() {
    let output = Gateway::new(BUS).command(&["plan", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["source"], "cellar-bus");
    let group = &told["groups"][0];
    assert_eq!((&group["device"], &group["interval_ms"]), (&"meter".into(), &1000.0.into()));
    assert!(group["shortest_ms"].as_f64().unwrap() > 10.0);
    let read = &group["requests"][0];
    assert_eq!((&read["table"], &read["address"]), (&"input".into(), &12.into()));
    assert_eq!((&read["count"], &read["holes"]), (&8.into(), &4.into()));
    assert!(read["estimated_ms"].as_f64().unwrap() > 10.0);
}

#[test]
fn a_port_that_is_not_there_is_named_and_the_plan_shown() {
    let output = Gateway::new(BUS).command(&["plan", "--measure"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("cellar-bus: cannot open /dev/serial/by-id/nobodys"), "{error}");
    assert!(text(&output.stdout).contains("input 12 to 19"));
}

#[test]
fn what_cannot_be_planned_is_said() {
    let gateway = Gateway::new(BUS);
    for (words, expected) in [
        (&["plan", "attic"][..], "there is no source `attic`, only broker, cellar-bus"),
        (&["plan", "broker"], "source `broker` is not of the type \"modbus\""),
    ] {
        let output = gateway.command(words);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(expected), "{output:?}");
    }
    let output = Gateway::new("").command(&["plan"]);
    assert!(text(&output.stderr).contains("no source of the type \"modbus\""), "{output:?}");
}

#[test]
fn a_bus_with_more_to_read_than_its_time_allows_is_told_by_plan_and_check() {
    let gateway = Gateway::new(&BUS.replace("\"1 s\"", "\"50 ms\""));
    let output = gateway.command(&["plan"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("that does not fit"), "{output:?}");
    let output = gateway.command(&["check"]);
    assert!(output.status.success(), "it works all the same");
    let told = text(&output.stdout);
    assert!(told.contains("source[1].device: takes about"), "{told}");
    assert!(told.contains("tidegate plan cellar-bus"), "{told}");
}

#[test]
fn a_group_whose_requests_its_device_decides_is_named() {
    let gateway = Gateway::new(&format!(
        "{BUS}[[source.device.group]]\ninterval = \"1 s\"\nsunspec = {{ models = [103] }}\n"
    ));
    let said = gateway.command(&["plan"]);
    let said = String::from_utf8(said.stdout).unwrap();
    let last = said.lines().last().unwrap();
    assert_eq!(
        last,
        "meter group 1: what it reads the device says (SunSpec), which is not asked here; \
         `tidegate tap cellar-bus` shows it"
    );
    let said = gateway.command(&["plan", "--json"]);
    let told: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(told["groups"][1]["sunspec"], true);
    assert_eq!(told["groups"][0].get("sunspec"), None);
}
