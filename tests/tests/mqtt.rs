//! The MQTT source against a real mosquitto: every message once in both versions and
//! both qualities, and what goes wrong with one source or one message alone.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tidegate_e2e::agent::Agent;
use tidegate_e2e::certificates::{Certificates, Pair};
use tidegate_e2e::judge::{self, Judge};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::mosquitto::{self, Mosquitto};
use tidegate_e2e::process::Process;
use tidegate_e2e::proxy::Proxy;
use tidegate_e2e::publisher::Publisher;
use tidegate_e2e::{folder, settings};

const DELIVERY: Duration = Duration::from_mins(1);

/// One of each for all; each test has a gateway and topics of its own.
static KAFKA: LazyLock<Kafka> = LazyLock::new(|| Kafka::started("mqtt-kafka"));
static MOSQUITTO: LazyLock<Mosquitto> = LazyLock::new(|| Mosquitto::started("mqtt-mosquitto"));

/// A source that reads the topics below `topic`; `more` is what else it says.
fn source(name: &str, address: &str, topic: &str, more: &str) -> String {
    format!(
        "
[[source]]
type = \"mqtt\"
name = \"{name}\"
address = \"{address}\"
stream = \"{topic}\"
{more}

[[source.subscription]]
topic = \"{topic}/{{device}}\"
"
    )
}

fn agent(name: &str, folder: &Path, sources: &str) -> Agent {
    let config = settings::head(name, folder, &settings::plain(&KAFKA.brokers()))
        + &settings::stream(name, 1)
        + sources;
    Agent::new(folder, &config)
}

/// Waits until the source `name/source` has subscribed.
fn wait_subscribed(name: &str, source: &str) {
    MOSQUITTO.wait_line(&format!("Sending SUBACK to tidegate-{name}-{source}"), DELIVERY);
}

fn message(topic: &str, number: u64) -> (String, Vec<u8>) {
    (format!("{topic}/d{}", number % 7), format!(r#"{{"n":{number}}}"#).into_bytes())
}

/// Waits until the messages 1 to `count` are in the topic; gives the judge to look again.
fn wait_messages(topic: &str, count: u64) -> Judge {
    let mut judge = Judge::of_topic(&KAFKA, topic);
    judge.look_until(&format!("{count} messages in {topic}"), DELIVERY, |records| {
        u64::try_from(records.len()).is_ok_and(|have| have >= count)
    });
    judge
}

/// Five parts of so many messages; between them the line is cut, the agent is killed
/// and is away for one part, and the line is cut again.
fn check_exactly_once(name: &str, protocol: &str, qos: u8, part: u64) {
    let folder = folder(name);
    let line = Proxy::to(MOSQUITTO.port);
    let more = format!("protocol = \"{protocol}\"\nqos = {qos}");
    let mut agent = agent(name, &folder, &source("broker", &line.address(), name, &more));
    agent.start();
    wait_subscribed(name, "broker");
    let mut publisher = Publisher::connect(MOSQUITTO.port, &format!("{name}-publisher"));
    if qos == 1 {
        MOSQUITTO.teach(&agent, &format!("tidegate-{name}-broker"), || {
            publisher.publish(&[message(name, publisher.acknowledged + 1)]);
        });
    }
    let mut publish = || {
        let first = publisher.acknowledged + 1;
        let messages: Vec<_> = (first..first + part).map(|n| message(name, n)).collect();
        if qos == 2 {
            publisher.publish_exactly_once(&messages);
        } else {
            publisher.publish(&messages);
        }
        publisher.acknowledged
    };
    publish();
    assert_eq!(line.cut(), 1);
    publish();
    agent.kill();
    publish();
    agent.start();
    publish();
    agent.wait_line(&["source is up", "broker"], DELIVERY);
    assert_eq!(line.cut(), 1);
    let count = publish();

    let mut judge = wait_messages(name, count);
    agent.stop();
    let again = MOSQUITTO.count(&format!("Sending PUBLISH to tidegate-{name}-broker (d1"));
    assert!(again > 0, "mosquitto has delivered something a second time");
    let numbers = judge.look().iter().map(|record| record.number("n"));
    judge::assert_each_once("messages", count, numbers);
}

#[test]
fn every_message_of_qos_1_arrives_once_over_cuts_and_a_kill_in_3_1_1() {
    check_exactly_once("mqtt-v4-once", "3.1.1", 1, 400);
}

#[test]
fn every_message_of_qos_1_arrives_once_over_cuts_and_a_kill_in_5() {
    check_exactly_once("mqtt-v5-once", "5", 1, 400);
}

#[test]
fn every_message_of_qos_2_arrives_once_over_cuts_and_a_kill_in_3_1_1() {
    check_exactly_once("mqtt-v4-twice", "3.1.1", 2, 100);
}

#[test]
fn every_message_of_qos_2_arrives_once_over_cuts_and_a_kill_in_5() {
    check_exactly_once("mqtt-v5-twice", "5", 2, 100);
}

/// A message whose array has five numbers, each an event.
fn five(topic: &str, number: u64) -> (String, Vec<u8>) {
    let last = number * 5;
    let elements: Vec<String> = (last - 4..=last).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let payload = format!(r#"{{"line":1,"r":[{}]}}"#, elements.join(","));
    (format!("{topic}/d{}", number % 7), payload.into_bytes())
}

#[test]
fn every_element_of_messages_with_arrays_arrives_once_over_a_kill() {
    const PART: u64 = 200;
    let name = "mqtt-arrays";
    let folder = folder(name);
    let each = source("broker", &MOSQUITTO.address(), name, "") + "each = \"r\"\n";
    let mut agent = agent(name, &folder, &each);
    agent.start();
    wait_subscribed(name, "broker");
    let mut publisher = Publisher::connect(MOSQUITTO.port, "arrays-publisher");
    MOSQUITTO.teach(&agent, &format!("tidegate-{name}-broker"), || {
        publisher.publish(&[five(name, publisher.acknowledged + 1)]);
    });
    let mut publish = || {
        let first = publisher.acknowledged + 1;
        let messages: Vec<_> = (first..first + PART).map(|n| five(name, n)).collect();
        publisher.publish(&messages);
        publisher.acknowledged
    };
    publish();
    agent.kill();
    publish();
    agent.start();
    let count = 5 * publish();
    let mut judge = wait_messages(name, count);
    agent.stop();
    let records = judge.look();
    assert!(records.iter().all(|record| record.number("line") == 1));
    judge::assert_each_once("elements", count, records.iter().map(|record| record.number("n")));
}

fn tls(ca: &Path, client: &Pair) -> String {
    format!(
        "tls = {{ ca = \"{}\", certificate = \"{}\", key = \"{}\" }}",
        ca.display(),
        client.certificate.display(),
        client.key.display()
    )
}

#[test]
fn a_login_that_fails_is_said_once_and_heals_while_the_other_sources_go_on() {
    let name = "mqtt-logins";
    let folder = folder(name);
    let ours = &MOSQUITTO.certificates;
    let foreign = Certificates::make(&folder.join("foreign"));
    let password = folder.join("password");
    std::fs::write(&password, "wrong").expect("the folder is writable");
    let login = format!(
        "username = \"{}\"\npassword = {{ file = \"{}\" }}",
        mosquitto::USER,
        password.display()
    );
    let secure = format!("localhost:{}", MOSQUITTO.tls_port);
    let with_password = format!("127.0.0.1:{}", MOSQUITTO.login_port);
    let sources = source("plain", &MOSQUITTO.address(), name, "")
        + &source("tls", &secure, name, &tls(&ours.ca, &ours.client))
        + &source("password", &with_password, &format!("{name}-password"), &login)
        + &source("client", &secure, name, &tls(&ours.ca, &foreign.client))
        + &source("server", &secure, name, &tls(&foreign.ca, &ours.client))
        + &settings::stream(&format!("{name}-password"), 1);
    let mut agent = agent(name, &folder, &sources);
    agent.start();
    wait_subscribed(name, "plain");
    wait_subscribed(name, "tls");
    for source in ["password", "client", "server"] {
        agent.wait_line(&["source is down", &format!("\"{source}\"")], DELIVERY);
    }
    let mut publisher = Publisher::connect(MOSQUITTO.port, "logins-publisher");
    let messages: Vec<_> = (1..=10).map(|n| message(name, n)).collect();
    publisher.publish(&messages);
    // From the two sources that are well.
    wait_messages(name, 20);

    std::fs::write(&password, mosquitto::PASSWORD).expect("the folder is writable");
    wait_subscribed(name, "password");
    let topic = format!("{name}-password");
    let messages: Vec<_> = (1..=10).map(|n| message(&topic, n)).collect();
    publisher.publish(&messages);
    wait_messages(&topic, 10);
    assert!(agent.process().is_running());
    agent.stop();

    for (source, words) in
        [("password", "refused the login"), ("client", "certificate"), ("server", "certificate")]
    {
        let down = agent.lines(&["source is down", &format!("\"{source}\"")]);
        assert_eq!(down.len(), 1, "{down:#?}");
        assert!(down.iter().all(|line| line.contains(words)), "{down:#?}");
    }
}

#[test]
fn the_last_will_is_published_when_the_agent_is_killed() {
    let name = "mqtt-will";
    let folder = folder(name);
    let will = "last_will = { topic = \"will/gw\", payload = \"gone\" }";
    let mut agent = agent(name, &folder, &source("broker", &MOSQUITTO.address(), name, will));
    agent.start();
    wait_subscribed(name, "broker");
    let mut listen = Command::new("mosquitto_sub");
    listen.args(["-p", &MOSQUITTO.port.to_string(), "-i", "listener", "-t", "will/#", "-v"]);
    let listener = Process::start("mosquitto_sub", &listen);
    MOSQUITTO.wait_line("Sending SUBACK to listener", DELIVERY);
    agent.kill();
    listener.wait_line("will/gw gone", DELIVERY);
}

/// Reason and length of all that the buffer keeps as dead letters.
fn dead_letters(folder: &Path) -> Vec<(String, i64)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let buffer = Connection::open_with_flags(settings::buffer(folder), flags)
        .expect("the buffer is a database");
    let mut rows = buffer
        .prepare("SELECT reason, length FROM dead_letter ORDER BY id")
        .expect("the buffer has dead letters");
    let rows = rows
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("the dead letters can be read");
    rows.collect::<Result<_, _>>().expect("the dead letters can be read")
}

#[test]
fn what_cannot_be_taken_is_kept_once_and_acknowledged_and_its_neighbours_arrive() {
    const LARGE: usize = 20 << 20;
    let name = "mqtt-dead";
    let folder = folder(name);
    let mut agent = agent(name, &folder, &source("broker", &MOSQUITTO.address(), name, ""));
    agent.start();
    wait_subscribed(name, "broker");
    let mut publisher = Publisher::connect(MOSQUITTO.port, "dead-publisher");
    let topic = format!("{name}/d1");
    publisher.publish(&[
        message(name, 1),
        (topic.clone(), b"21.5 degrees".to_vec()),
        message(name, 2),
        (topic, vec![b'x'; LARGE]),
        message(name, 3),
    ]);
    wait_messages(name, 3);
    agent.stop();
    let acknowledged = format!("Received PUBACK from tidegate-{name}-broker");
    assert_eq!(MOSQUITTO.count(&acknowledged), 5);
    let dead = dead_letters(&folder);
    let [(text, short), (large, long)] = dead.as_slice() else { panic!("{dead:#?}") };
    assert!(text.contains("JSON") && *short == 12, "{text}");
    assert!(large.contains("max_payload") && *long >= 20 << 20, "{large}");

    agent.start();
    publisher.publish(&[message(name, 4)]);
    let mut judge = wait_messages(name, 4);
    agent.stop();
    assert_eq!(dead_letters(&folder), dead, "nothing came back");
    let numbers = judge.look().iter().map(|record| record.number("n"));
    judge::assert_each_once("messages", 4, numbers);
}

#[test]
fn a_tap_beside_the_agent_shows_every_message_and_takes_none_of_a_shared_subscription() {
    const COUNT: u64 = 200;
    let name = "mqtt-tap";
    let folder = folder(name);
    let will = "last_will = { topic = \"will/tap\", payload = \"gone\" }";
    let shared = source("broker", &MOSQUITTO.address(), name, will)
        .replace("topic = \"mqtt-tap", "topic = \"$share/crew/mqtt-tap");
    let mut agent = agent(name, &folder, &shared);
    agent.start();
    wait_subscribed(name, "broker");
    let count = COUNT.to_string();
    let tap = agent.command(&["tap", "broker", "--json", "--count", &count]);
    let mut tap = Process::start("tidegate tap", &tap);
    wait_subscribed(name, "broker-tap-");
    let mut publisher = Publisher::connect(MOSQUITTO.port, "tap-publisher");
    let messages: Vec<_> = (1..=COUNT).map(|n| message(name, n)).collect();
    publisher.publish(&messages);
    assert!(tap.wait(DELIVERY).success(), "{}", tap.log.tail());
    let mut judge = wait_messages(name, COUNT);
    agent.stop();

    let records = judge.look();
    let sent = records.iter().map(|record| record.number("n"));
    judge::assert_each_once("messages in Kafka", COUNT, sent);
    let lines = tap.log.lines();
    let events = lines.iter().filter(|line| line.starts_with('{'));
    let events: Vec<Value> = events.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let value = |event: &Value| event["fields"][0]["value"].as_u64().expect("a number");
    judge::assert_each_once("messages in the tap", COUNT, events.iter().map(value));
    for event in &events {
        let (topic, payload) = message(name, value(event));
        assert_eq!(event["raw"]["topic"], topic.as_str());
        assert_eq!(event["raw"]["payload"].as_str().map(str::as_bytes), Some(&*payload));
        assert_eq!((&event["raw"]["qos"], &event["stream"]), (&1.into(), &name.into()));
    }
    assert_eq!(MOSQUITTO.count("will/tap"), 1, "only the agent's login has a will");
}
