//! The MQTT session over kills of the agent and restarts of the broker, over TLS with
//! client certificates: nothing lost and nothing twice. `MESSAGES=25000` is the whole
//! campaign, 100,000 messages over both versions and both qualities.

use std::sync::LazyLock;

use tidegate_e2e::campaign::Campaign;
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::Mosquitto;

/// One for all; each campaign has a gateway, a topic and an MQTT broker of its own.
static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::started("kills-kafka"));

/// Each kind of fault comes a few times.
const MESSAGES: u64 = 3_000;

/// `MESSAGES`, else what `make test` takes.
fn messages() -> u64 {
    let given = std::env::var("MESSAGES").ok();
    given.map_or(MESSAGES, |text| text.parse().expect("MESSAGES is a number"))
}

#[expect(clippy::print_stderr, reason = "what happened stands with a failure")]
fn check(name: &'static str, protocol: &'static str, qos: u8) {
    let campaign = Campaign { name, protocol, qos, messages: messages() };
    let mut mosquitto = Mosquitto::started(&format!("{name}-mosquitto"));
    let report = campaign.run(&KAFKA, &mut mosquitto, |line| eprintln!("{line}"));
    let json = report.json(&campaign);
    eprintln!("{json}");
    assert_eq!((report.lost, report.doubled), (0, 0), "{json}");
    assert!(report.kills > 0 && report.restarts > 0 && report.sent_again > 0, "{json}");
}

#[test]
fn qos_1_in_3_1_1_is_neither_lost_nor_doubled() {
    check("kills-v4-once", "3.1.1", 1);
}

#[test]
fn qos_1_in_5_is_neither_lost_nor_doubled() {
    check("kills-v5-once", "5", 1);
}

#[test]
fn qos_2_in_3_1_1_is_neither_lost_nor_doubled() {
    check("kills-v4-twice", "3.1.1", 2);
}

#[test]
fn qos_2_in_5_is_neither_lost_nor_doubled() {
    check("kills-v5-twice", "5", 2);
}
