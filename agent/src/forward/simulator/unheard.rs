//! A commit whose answer never comes (SAFETY, Positions 2).

use std::time::Duration;

use super::judge;
use super::plan::{Kind, World};

/// The uplink is down for longer than a coordinator remembers an id: it then
/// refuses what it has long done.
#[test]
fn a_commit_that_nobody_knows_any_more_is_not_sent_again() {
    let mut world = World::new(1, Kind::Plain, None);
    world.pass(Duration::from_secs(5));
    world.store(0);
    while world.gateways[0].state() != "committing" {
        world.step();
    }
    world.broker.lock().unwrap().mute = true;
    world.step();
    let mut broker = world.broker.lock().unwrap();
    broker.mute = false;
    broker.forget_ids();
    drop(broker);
    world.pass(Duration::from_mins(1));
    world.drain().unwrap();
    judge::judge(&world).unwrap();
}
