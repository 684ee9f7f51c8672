//! A client that answers nothing any more: the watchdog. And what it must leave alone.

use std::time::Duration;

use super::judge;
use super::plan::{Kind, World};

#[test]
fn a_client_that_answers_nothing_is_made_anew() {
    let mut world = World::new(1, Kind::Plain, None);
    world.store(0);
    world.pass(Duration::from_secs(5));
    world.broker.lock().unwrap().stuck.insert(0);
    world.store(0);
    world.pass(Duration::from_secs(20));
    assert!(world.gateways[0].waiting() > 0, "nothing passes a stuck client");
    // A new one is not stuck; thrice the transaction's time-out is its time.
    world.pass(Duration::from_secs(40));
    assert_eq!(world.gateways[0].waiting(), 0);
    world.drain().unwrap();
    judge::judge(&world).unwrap();
}

#[test]
fn a_topic_whose_end_gives_only_errors_is_given_up_and_everything_is_sent() {
    let mut world = World::new(1, Kind::Forgotten, None);
    world.store(0);
    world.pass(Duration::from_secs(20));
    world.gateways[0].kill();
    let mut broker = world.broker.lock().unwrap();
    broker.offsets.clear();
    broker.sick = broker.topics.keys().next().cloned();
    drop(broker);
    world.gateways[0].start();
    assert!(world.gateways[0].remembers().is_some());
    world.store(0);
    // Longer than a topic may give nothing, and than the watchdog waits.
    world.pass(Duration::from_mins(4));
    assert_eq!(world.gateways[0].waiting(), 0);
    world.drain().unwrap();
    judge::judge(&world).unwrap();
}
