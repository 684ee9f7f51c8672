//! Two agents under one gateway's id (SAFETY, Positions 5).

use std::time::Duration;

use super::judge;
use super::plan::{Kind, World};

/// Of a clone's card, or with a file of its own.
fn twins(clone: bool) -> World {
    let mut world = World::new(1, Kind::Twins, None);
    world.store(0);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.gateways[0].state(), "sending");
    world.add(clone.then_some(0));
    world.store(1);
    world.pass(Duration::from_secs(10));
    world
}

fn states(world: &World) -> Vec<&'static str> {
    world.gateways.iter().map(super::gateway::Gateway::state).collect()
}

#[test]
fn the_later_started_goes_on_and_the_earlier_stands_aside() {
    let mut world = twins(false);
    world.store(0);
    world.store(1);
    world.pass(Duration::from_mins(1));
    assert_eq!(states(&world), ["standing aside", "sending"]);
    // Neither fences the other again, though one of them has nothing to send.
    let inits = world.broker.lock().unwrap().inits.len();
    world.pass(Duration::from_hours(2));
    assert_eq!(states(&world), ["standing aside", "sending"]);
    assert_eq!(world.broker.lock().unwrap().inits.len(), inits);
}

#[test]
fn an_idle_start_says_at_once_who_sends() {
    let mut world = World::new(1, Kind::Twins, None);
    world.pass(Duration::from_secs(10));
    world.add(None);
    // Nothing is stored by the later one: its place is known all the same.
    world.pass(Duration::from_secs(10));
    world.store(0);
    world.pass(Duration::from_mins(1));
    assert_eq!(states(&world), ["standing aside", "sending"]);
}

#[test]
fn an_earlier_run_of_its_own_file_is_no_twin() {
    let mut world = World::new(1, Kind::Twins, None);
    world.store(0);
    world.pass(Duration::from_secs(10));
    world.gateways[0].start();
    world.store(0);
    let pace = world.broker.lock().unwrap().pace.clone();
    while world.gateways[0].state() != "sending" {
        world.gateways[0].step(&pace);
    }
    // Its first transaction stands open for too long, so that the position still names
    // the run before.
    world.broker.lock().unwrap().init("tidegate-gw1", 0);
    world.pass(Duration::from_mins(1));
    assert_eq!(states(&world), ["sending"]);
    world.drain().unwrap();
    judge::judge(&world).unwrap();
}

#[test]
fn while_the_position_is_lost_one_of_them_looks_and_the_other_waits() {
    let mut world = World::new(1, Kind::Twins, None);
    world.store(0);
    world.pass(Duration::from_secs(10));
    world.broker.lock().unwrap().up = false;
    world.store(0);
    // Both have what waits, and know that there was a position.
    world.add(Some(0));
    let mut broker = world.broker.lock().unwrap();
    broker.offsets.clear();
    broker.sick = broker.topics.keys().next().cloned();
    broker.up = true;
    let before = broker.inits.len();
    drop(broker);
    world.pass(Duration::from_mins(10));
    let mut ended = states(&world);
    ended.sort_unstable();
    assert_eq!(ended, ["sending", "standing aside"]);
    let inits = world.broker.lock().unwrap().inits.len() - before;
    assert!(inits <= 4, "they fenced each other {inits} times");
    world.drain().unwrap();
    judge::judge(&world).unwrap();
}

#[test]
fn a_twin_that_is_gone_is_followed_and_nothing_is_lost() {
    for clone in [false, true] {
        let mut world = twins(clone);
        world.store(0);
        world.store(1);
        world.pass(Duration::from_mins(1));
        let stands = states(&world).iter().position(|state| *state == "standing aside");
        let stands = stands.unwrap_or_else(|| panic!("{:?}", states(&world)));
        world.gateways[1 - stands].kill();
        world.pass(Duration::from_mins(10));
        assert_eq!(world.gateways[stands].state(), "standing aside", "too early");
        world.pass(Duration::from_mins(10));
        assert_eq!(world.gateways[stands].state(), "sending");
        world.drain().unwrap();
        judge::judge(&world).unwrap();
    }
}
