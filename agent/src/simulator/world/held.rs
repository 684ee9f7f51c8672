//! A message that looks like an earlier one, while the file is only written where it
//! is needed (SAFETY 22).

use std::time::Duration;

use super::{Mutant, World, within};
use crate::simulator::mqtt::{DEVICES, Key};
use crate::source::mqtt;

/// How an error ends that says of a message that it is in no topic.
pub(in crate::simulator) const LOST: &str = "is acknowledged and in no topic";

/// The message that comes twice, and one between.
const SAME: Key = (DEVICES[0], 1_001);
const OTHER: Key = (DEVICES[0], 1_002);

/// Steps within which a message is answered.
const SOON: usize = 100;

impl World {
    /// A message goes out under this id, and is answered.
    fn exchange(&mut self, id: u16, key: Key) -> Result<(), String> {
        self.mqtt.lock().unwrap().queue_as(id, key);
        for _ in 0..SOON {
            self.everything()?;
            if self.mqtt.lock().unwrap().is_idle() {
                return Ok(());
            }
        }
        Err(format!("{key:?} was not answered within {SOON} steps"))
    }

    fn session(&self) -> Vec<u8> {
        let life = self.life.as_ref().unwrap();
        let query = "SELECT value FROM state WHERE key = 'session/mqtt'";
        life.side.query_row(query, [], |row| row.get(0)).unwrap()
    }
}

/// A broker that counts its ids up has come around: a new message has the id and the
/// content of one that the file knew when it was written last. The agent dies with it
/// in memory.
pub(in crate::simulator) fn a_message_like_an_earlier_one(
    mutant: Option<Mutant>,
) -> Result<(), String> {
    let mut world = World::new(1, mutant);
    world.shape.when_needed = true;
    (world.shape.max_size, world.shape.max_age) = (64 * 1024 * 1024, false);
    world.mqtt.lock().unwrap().counts = true;
    within(world, |world| {
        world.start();
        world.learn()?;
        // Kafka is away, and the file is written.
        world.kafka.lock().unwrap().up = false;
        world.exchange(5_000, SAME)?;
        let written = world.session();
        world.kafka.lock().unwrap().up = true;
        for step in 0_u16.. {
            world.exchange(40_000 + step, (OTHER.0, OTHER.1 + u64::from(step)))?;
            if mqtt::is_idle(&world.session()) {
                break;
            }
        }
        let idle = world.session();
        if mutant == Some(Mutant::StaleCheckpoint) {
            let life = world.life.as_ref().unwrap();
            let put = "UPDATE state SET value = ?1 WHERE key = 'session/mqtt'";
            life.side.execute(put, [&written]).unwrap();
        }
        // It comes again, is taken, and is not with Kafka yet.
        world.mqtt.lock().unwrap().queue_as(5_000, SAME);
        world.mqtt.lock().unwrap().send();
        world.client();
        world.writer()?;
        world.time.pass(Duration::from_millis(1_050));
        world.writer()?;
        let held = world.life.as_ref().unwrap().held();
        if held.is_empty() || mutant.is_none() && world.session() != idle {
            return Err("the message is not in memory".to_owned());
        }
        world.mqtt.lock().unwrap().client_dies(0);
        world.end_of_life();
        world.start();
        world.calm();
        world.drain()?;
        let kafka = world.kafka.lock().unwrap();
        let of = world.stored.iter().filter(|stored| (stored.stream, stored.number) == SAME);
        let arrived = of.filter(|stored| kafka.arrived.contains_key(&stored.id())).count();
        if arrived < 2 { Err(format!("one of two {SAME:?} {LOST}")) } else { Ok(()) }
    })
}

#[test]
fn a_new_message_that_looks_like_one_before_it_is_taken_after_a_crash() {
    a_message_like_an_earlier_one(None).unwrap();
}
