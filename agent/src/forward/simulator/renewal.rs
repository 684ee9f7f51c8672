//! A position that nobody commits for a week is forgotten (SAFETY, Positions 3).

use std::sync::Mutex;
use std::time::Duration;

use super::plan::{Kind, World};
use super::{Mutant, judge};

/// Twice as many as after which a broker forgets.
const DAYS: u32 = 14;

/// Nothing happens for nearly a day, and then there is time for what is due daily.
const QUIET: Duration = Duration::from_mins(24 * 60 - 1);
const DUE: Duration = Duration::from_secs(61);

/// An agent that stays connected and gets nothing to send; an error where its position
/// is forgotten.
pub(super) fn a_fortnight_without_an_event(mutant: Option<Mutant>) -> Result<(), String> {
    let mut world = World::new(1, Kind::Plain, mutant);
    world.store(0);
    world.pass(Duration::from_secs(10));
    for day in 1..=DAYS {
        world.idle(QUIET);
        world.pass(DUE);
        let mut broker = world.broker.lock().unwrap();
        broker.expire();
        if broker.offsets.is_empty() {
            return Err(format!("the position is forgotten on day {day}"));
        }
    }
    world.store(0);
    world.drain()?;
    judge::judge(&world)
}

#[test]
fn a_quiet_gateway_renews_its_position_before_a_broker_forgets_it() {
    a_fortnight_without_an_event(None).unwrap();
}

const LOST: &str = "the position in Kafka is lost";

/// What the log says while `world` goes on for a while.
fn told(world: &mut World) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let writer = Mutex::new(log.reopen().unwrap());
    let told = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    tracing::subscriber::with_default(told, || world.pass(Duration::from_secs(20)));
    std::fs::read_to_string(log.path()).unwrap()
}

#[test]
fn a_position_that_is_gone_is_said_and_what_kafka_has_is_not_sent_again() {
    let mut world = World::new(1, Kind::Lost, None);
    // There never was one: nothing is lost.
    let first = told(&mut world);
    assert!(!first.contains(LOST), "{first}");
    // Kafka has these, and the file does not know it yet.
    world.store(0);
    for _ in 0..40 {
        world.step();
    }
    world.gateways[0].kill();
    world.broker.lock().unwrap().offsets.clear();
    world.gateways[0].start();
    let known = world.gateways[0].remembers().unwrap();
    world.store(0);
    let again = told(&mut world);
    assert!(again.contains(LOST), "{again}");
    assert!(again.contains(&known), "it names how far it had come: {again}");
    world.drain().unwrap();
    let sent: Vec<u32> = world.broker.lock().unwrap().arrived.values().copied().collect();
    assert!(!sent.is_empty() && sent.iter().all(|times| *times == 1), "{sent:?}");
    judge::judge(&world).unwrap();
}
