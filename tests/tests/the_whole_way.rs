//! From MQTT, Modbus and a table to a read-committed reader of Kafka, while
//! everything in between fails.

use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::chance::Chance;
use tidegate_e2e::judge::{Judge, Record};
use tidegate_e2e::kafka::{self, Kafka};
use tidegate_e2e::plant::Plant;
use tidegate_e2e::{folder, settings};

/// How long Kafka is gone each time.
const GONE: Duration = Duration::from_secs(20);

/// How long Kafka is not there at the beginning.
const LATE: Duration = Duration::from_secs(30);

/// As fast as it goes.
const AT_ONCE: Duration = Duration::ZERO;

/// Until what waits in the buffer is in Kafka; several times what it takes.
const DRAIN: Duration = Duration::from_mins(3);

/// Kafka is gone three times, each time in another way; the agent is killed at five
/// moments and the line to mosquitto is cut at five others, which a seed chooses.
#[test]
fn every_event_arrives_once_while_everything_fails() {
    const MESSAGES: u64 = 50_000;
    const IN_AN_OUTAGE: u64 = 5_000;
    /// What is sent when all is well again. It is more than the load's rest: a Kafka that
    /// is killed right after a commit may forget the commit's marker, and then the partition's
    /// readers wait until the same producer commits there again.
    const AT_THE_END: u64 = 2_000;

    let mut chance = Chance::new();
    eprintln!("E2E_SEED={}", chance.seed);
    let mut kills = chance.moments(5, MESSAGES - AT_THE_END).into_iter().peekable();
    let mut cuts = chance.moments(5, MESSAGES - AT_THE_END).into_iter().peekable();

    let folder = folder("whole-way");
    let mut kafka = Kafka::started("whole-way-kafka");
    let mut plant = Plant::start("whole-way", &folder, "5");
    let head = settings::head_with_system("gw1", &folder, &settings::plain(&kafka.brokers()));
    let mut agent = Agent::new(&folder, &(head + &plant.settings()));
    agent.start();
    plant.wait_subscribed();
    plant.teach(&agent);

    let (mut killed, mut cut) = (0, 0);
    let mut faults = |plant: &Plant, published: u64| {
        if kills.next_if(|moment| *moment <= published).is_some() {
            agent.kill();
            agent.start();
            killed += 1;
        }
        if cuts.next_if(|moment| *moment <= published).is_some() {
            plant.line.cut();
            cut += 1;
        }
    };
    let between = (MESSAGES - AT_THE_END - 3 * IN_AN_OUTAGE) / 3;

    plant.produce(between, AT_ONCE, &mut faults);
    kafka.freeze();
    plant.produce(IN_AN_OUTAGE, GONE, &mut faults);
    kafka.thaw();

    plant.produce(between, AT_ONCE, &mut faults);
    kafka.stop();
    plant.produce(IN_AN_OUTAGE, GONE, &mut faults);
    kafka.start();

    plant.produce(between, AT_ONCE, &mut faults);
    kafka.kill();
    plant.produce(IN_AN_OUTAGE, GONE, &mut faults);
    kafka.start();

    plant.produce(MESSAGES - plant.messages(), AT_ONCE, &mut faults);
    assert_eq!((killed, cut), (5, 5), "every fault has happened");

    let mut judge = Judge::new(&kafka);
    plant.wait_delivered(&mut judge, DRAIN);
    agent.stop();
    plant.assert_exactly_once(judge.look());
    assert_tells_of_itself(&judge.records);
}

#[test]
fn a_kafka_that_comes_later_gets_everything() {
    let folder = folder("late");
    let mut kafka = Kafka::prepared("late-kafka");
    let mut plant = Plant::start("late", &folder, "3.1.1");
    let head = settings::head("gw1", &folder, &settings::plain(&kafka.brokers()));
    let mut agent = Agent::new(&folder, &(head + &plant.settings()));
    agent.start();
    plant.wait_subscribed();

    plant.produce(3_000, LATE, |_, _| {});
    kafka.start();
    plant.produce(1_000, AT_ONCE, |_, _| {});

    let mut judge = Judge::new(&kafka);
    plant.wait_delivered(&mut judge, DRAIN);
    agent.stop();
    plant.assert_exactly_once(judge.look());
}

#[test]
fn over_tls_with_a_scram_login_it_is_the_same() {
    let folder = folder("scram");
    let mut kafka = Kafka::started("scram-kafka");
    let mut plant = Plant::start("scram", &folder, "5");
    let login = settings::password("scram-sha-256");
    let login = settings::login(&kafka.secure(), &kafka.certificates, &login);
    let head = settings::head("gw1", &folder, &login);
    let mut agent = Agent::new(&folder, &(head + &plant.settings()));
    agent.environment("KAFKA_PASSWORD", kafka::PASSWORD);
    agent.start();
    plant.wait_subscribed();
    plant.teach(&agent);

    plant.produce(2_000, AT_ONCE, |_, _| {});
    agent.kill();
    agent.start();
    plant.line.cut();
    plant.produce(1_000, AT_ONCE, |_, _| {});
    kafka.stop();
    plant.produce(1_000, AT_ONCE, |_, _| {});
    kafka.start();
    plant.produce(1_000, AT_ONCE, |_, _| {});

    let mut judge = Judge::new(&kafka);
    plant.wait_delivered(&mut judge, DRAIN);
    agent.stop();
    plant.assert_exactly_once(judge.look());
}

/// The agent's own events, which count among all others' seqs: each run that lives
/// for a heartbeat begins with a start, and the last one ends with a stop.
fn assert_tells_of_itself(records: &[Record]) {
    let own: Vec<_> = records.iter().filter(|record| record.topic == "tidegate.system").collect();
    let of_kind = |kind: &str| {
        let of_kind = own.iter().filter(|record| record.text("kind") == kind);
        of_kind.map(|record| record.text("epoch")).collect::<Vec<_>>()
    };
    let (starts, beats) = (of_kind("start"), of_kind("heartbeat"));
    assert!(!beats.is_empty());
    let begun = |epoch: &str| starts.iter().filter(|start| **start == epoch).count();
    assert!(beats.iter().all(|epoch| begun(epoch) == 1), "{starts:?} {beats:?}");
    assert_eq!(of_kind("stop").len(), 1);
    assert!(of_kind("gap").is_empty(), "nothing was dropped");
}
