//! Producers that Kafka fences: a gateway that slept for too long, and two that
//! go by one name.

use std::time::Duration;

use tidegate_e2e::agent::Agent;
use tidegate_e2e::judge::Judge;
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
