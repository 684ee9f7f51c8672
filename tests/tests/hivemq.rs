//! The MQTT source against `HiveMQ` CE, a broker that may be killed: it keeps each message that
//! it acknowledges. It gives freed packet ids again at once, so that QoS 1 may come twice, as
//! README.md says, and QoS 2 may not.

use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::hivemq::HiveMq;
use tidegate_e2e::judge::{self, Judge};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::proxy::{Mode, Proxy};
use tidegate_e2e::publisher::Publisher;
use tidegate_e2e::{folder, outage, settings};

const DELIVERY: Duration = Duration::from_mins(2);

/// Messages of each source between two kills: far more than are on the way to it at once, so
/// that a kill comes while most of them wait.
const PART: u64 = 200;

/// Of the broker and of the agent.
const KILLS: usize = 3;

/// Messages that `HiveMQ` sends to a client before their acknowledgements.
const ON_THE_WAY: usize = 50;

/// Several commits of the agent.
const COMMITTED: Duration = Duration::from_secs(1);

/// Protocol and quality of each source, and whether it reads over TLS or over
/// a line that can be cut.
const SOURCES: [(&str, u8, bool); 4] =
    [("5", 1, true), ("5", 2, true), ("3.1.1", 1, false), ("3.1.1", 2, false)];

/// Its name, its stream, and what stands before the device in its topics.
fn name(protocol: &str, qos: u8) -> String {
    format!("hive-{}-{qos}", protocol.replace('.', ""))
}

fn source(broker: &HiveMq, line: &Proxy, (protocol, qos, is_secure): (&str, u8, bool)) -> String {
    let name = name(protocol, qos);
    let way = if is_secure {
        let (port, ours) = (broker.tls_port, &broker.certificates);
        format!(
            "address = \"localhost:{port}\"\n\
             tls = {{ ca = \"{}\", certificate = \"{}\", key = \"{}\" }}",
            ours.ca.display(),
            ours.client.certificate.display(),
            ours.client.key.display()
        )
    } else {
        format!("address = \"{}\"", line.address())
    };
    let stream = settings::stream(&name, 1);
    format!(
        "{stream}
[[source]]
type = \"mqtt\"
name = \"{name}\"
{way}
protocol = \"{protocol}\"
qos = {qos}
stream = \"{name}\"

[[source.subscription]]
topic = \"{name}/{{device}}\"
"
    )
}

/// Publishes the next part of each source of these qualities; `counts` are how many there were.
fn publish(broker: &HiveMq, counts: &mut [u64; 4], qualities: &[u8]) {
    let mut publisher = Publisher::connect(broker.port, "publisher");
    for ((protocol, qos, _), count) in SOURCES.into_iter().zip(counts) {
        if !qualities.contains(&qos) {
            continue;
        }
        let name = name(protocol, qos);
        let message = |n: u64| (format!("{name}/d{}", n % 7), format!(r#"{{"n":{n}}}"#).into());
        let messages: Vec<_> = (*count + 1..=*count + PART).map(message).collect();
        if qos == 2 {
            publisher.publish_exactly_once(&messages);
        } else {
            publisher.publish(&messages);
        }
        *count += PART;
    }
}

/// Waits until all sources are up, by what the agent says from its `mark`-th line on.
fn wait_up(agent: &mut Agent, mark: usize) {
    let log = agent.process().log.clone();
    for (protocol, qos, _) in SOURCES {
        let source = format!("\"{}\"", name(protocol, qos));
        log.wait(mark, &format!("{source} that is up"), DELIVERY, |line| {
            line.contains("source is up") && line.contains(&source)
        });
    }
}

#[test]
fn nothing_is_lost_and_qos_2_comes_once_when_broker_and_agent_are_killed() {
    let folder = folder("hivemq");
    let (kafka, mut broker) = std::thread::scope(|scope| {
        let kafka = scope.spawn(|| Kafka::started("hivemq-kafka"));
        let broker = HiveMq::started("hivemq-broker");
        (kafka.join().expect("Kafka starts"), broker)
    });
    let mut config = settings::head("hivemq", &folder, &settings::plain(&kafka.brokers()));
    let line = Proxy::to(broker.port);
    config.extend(SOURCES.map(|each| source(&broker, &line, each)));
    let mut agent = Agent::new(&folder, &config);
    agent.start();
    wait_up(&mut agent, 0);

    let mut counts = [0; 4];
    // Killed in the middle of QoS 2, HiveMQ forgets its last PUBRELs and publishes again what it
    // has released, which no client can tell from a new message.
    publish(&broker, &mut counts, &[1]);
    let mark = agent.process().log.len();
    broker.kill();
    broker.start();
    wait_up(&mut agent, mark);
    publish(&broker, &mut counts, &[1, 2]);
    // What the agent has committed, and what the broker does not hear of.
    line.set(Mode::BlackHole);
    outage(COMMITTED);
    agent.kill();
    line.cut();
    line.set(Mode::Forward);
    publish(&broker, &mut counts, &[1, 2]);
    broker.kill();
    broker.start();
    agent.start();
    wait_up(&mut agent, 0);
    publish(&broker, &mut counts, &[1, 2]);

    for ((protocol, qos, _), count) in SOURCES.into_iter().zip(counts) {
        check(&kafka, &name(protocol, qos), qos, count);
    }
    agent.stop();
    for (protocol, qos, _) in SOURCES {
        let words = ["broker gives freed packet ids again at once", &name(protocol, qos)];
        assert!(!agent.lines(&words).is_empty(), "{words:?}");
    }
}

/// Every message is in Kafka, and how often.
fn check(kafka: &Kafka, name: &str, qos: u8, count: u64) {
    let numbers = |records: &[judge::Record]| -> Vec<u64> {
        records.iter().map(|record| record.number("n")).collect()
    };
    let mut judge = Judge::of_topic(kafka, name);
    judge.look_until(&format!("all messages of {name}"), DELIVERY, |records| {
        judge::fate(count, numbers(records)).lost.is_empty()
    });
    let judge::Fate { repeated, foreign, .. } = judge::fate(count, numbers(judge.look()));
    let most = if qos == 2 { 0 } else { KILLS * ON_THE_WAY };
    assert!(repeated.len() <= most, "{name}: {} more than once: {repeated:?}", repeated.len());
    assert!(foreign.is_empty(), "{name}: {foreign:?}");
}
