//! A client that answers nothing any more: the watchdog.

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
