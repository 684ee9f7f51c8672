//! Producers that Kafka fences: a gateway that slept for too long, and two that
//! go by one name.

use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::{Judge, Record};
use tidegate_e2e::kafka::Kafka;
use tidegate_e2e::plant::Plant;
use tidegate_e2e::process::Signal;
use tidegate_e2e::{folder, outage, settings};

/// The shortest that a transaction may be allowed.
const TRANSACTION: &str = "transaction_timeout = \"10 s\"\n";

/// Kafka looks for transactions whose time is over each 10 s.
const ASLEEP: Duration = Duration::from_secs(22);

const AT_ONCE: Duration = Duration::ZERO;
const DRAIN: Duration = Duration::from_mins(3);

#[test]
fn an_agent_that_slept_longer_than_its_transaction_may_stand_open_goes_on_by_itself() {
    let folder = folder("asleep");
    let kafka = Kafka::started("asleep-kafka");
    let mut plant = Plant::start("asleep", &folder, "5");
    let uplink = settings::plain(&kafka.brokers()) + TRANSACTION;
    let head = settings::head("gw1", &folder, &uplink);
    let mut agent = Agent::new(&folder, &(head + &plant.settings()));
    agent.start();
    plant.wait_subscribed();
    plant.teach(&agent);

    plant.produce(5_000, AT_ONCE, |_, _| {});
    agent.process().signal(Signal::STOP);
    plant.produce(1_000, AT_ONCE, |_, _| {});
    outage(ASLEEP);
    agent.process().signal(Signal::CONT);
    plant.produce(1_000, AT_ONCE, |_, _| {});

    let mut judge = Judge::new(&kafka);
    plant.wait_delivered(&mut judge, DRAIN);
    agent.stop();
    plant.assert_exactly_once(judge.look());
}

/// Until the earlier one has seen that another delivers in its place.
const SEEN: Duration = Duration::from_mins(1);

/// An agent under the one id, with a file and sources of its own, whose records
/// carry `name`.
fn twin(name: &str, kafka: &Kafka) -> (Plant, Agent) {
    let folder = folder(name);
    let plant = Plant::start(name, &folder, "5");
    let head = settings::head("gw1", &folder, &settings::plain(&kafka.brokers()));
    let head = head.replacen("id =", &format!("labels = {{ twin = \"{name}\" }}\nid ="), 1);
    let agent = Agent::new(&folder, &(head + &plant.settings()));
    (plant, agent)
}

#[test]
fn of_two_agents_under_one_id_the_later_goes_on_and_the_other_keeps_what_it_collects() {
    let kafka = Kafka::started("twins-kafka");
    let (mut first, mut earlier) = twin("first", &kafka);
    let (mut second, mut later) = twin("second", &kafka);
    let of = |records: &[Record], name: &str| -> Vec<Record> {
        records.iter().filter(|record| record.text("twin") == name).cloned().collect()
    };
    let mut judge = Judge::new(&kafka);

    earlier.start();
    first.wait_subscribed();
    first.teach(&earlier);
    first.produce(1_000, AT_ONCE, |_, _| {});
    first.wait_delivered(&mut judge, DRAIN);

    later.start();
    second.wait_subscribed();
    second.produce(1_000, AT_ONCE, |_, _| {});
    earlier.wait_line(&["another agent runs under this gateway's id"], SEEN);
    first.produce(1_000, AT_ONCE, |_, _| {});
    second.produce(1_000, AT_ONCE, |_, _| {});
    judge.look_until("all of the later one", DRAIN, |records| {
        second.are_delivered(&of(records, "second"))
    });
    let there = of(&judge.records, "first").iter().filter(|r| r.topic == "sensors").count();
    assert!(there < 1_500, "the earlier one stands aside: {there}");
    later.stop();
    second.assert_exactly_once(&of(judge.look(), "second"));

    // It has collected all the while, and a start takes over at once.
    earlier.kill();
    earlier.start();
    judge.look_until("all of the earlier one", DRAIN, |records| {
        first.are_delivered(&of(records, "first"))
    });
    earlier.stop();
    first.assert_exactly_once(&of(judge.look(), "first"));
}
