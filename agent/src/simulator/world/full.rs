//! A file that runs full while it is not told yet what Kafka has (SAFETY 12).

use std::time::Duration;

use super::{Mutant, SMALL, World, judge, within};

/// How an error ends that says of a gap that it does not tell the truth.
pub(in crate::simulator) const DISHONEST: &str = "a gap says that it was dropped";

/// After so long what was read is committed.
const INTERVAL: Duration = Duration::from_millis(1_050);

/// Steps within which the forwarder comes to where it is wanted.
const SOON: usize = 200;

/// Readings of one commit, and commits that are more than the file has room for.
const READINGS: usize = 12;
const COMMITS: usize = 8;

fn small(mutant: Option<Mutant>) -> World {
    let mut world = World::new(1, mutant);
    (world.shape.max_size, world.shape.max_age) = (SMALL, false);
    world.shape.when_needed = false;
    world
}

impl World {
    /// Starts, and lets the forwarder say in a transaction of its own who sends.
    fn announce(&mut self) -> Result<(), String> {
        self.start();
        ["sending", "committing", "sending"]
            .into_iter()
            .try_for_each(|state| self.send_until(state))
    }

    /// A few large readings, in one commit.
    fn read(&mut self) -> Result<(), String> {
        for _ in 0..READINGS {
            self.poll();
        }
        self.writer()?;
        self.time.pass(INTERVAL);
        self.writer()
    }

    /// The forwarder goes on until its state is this one, and nobody else does.
    fn send_until(&mut self, state: &str) -> Result<(), String> {
        for _ in 0..SOON {
            self.send()?;
            self.time.pass(Duration::from_millis(50));
            if self.life.as_ref().is_some_and(|life| life.state().starts_with(state)) {
                return Ok(());
            }
        }
        Err(format!("not {state} after {SOON} steps"))
    }

    /// Has the oldest readings with Kafka, in a transaction that is to be committed.
    fn send_the_oldest(&mut self) -> Result<(), String> {
        self.announce()?;
        self.read()?;
        self.send_until("committing")
    }

    fn read_until_something_is_dropped(&mut self) -> Result<(), String> {
        for _ in 0..COMMITS {
            self.read()?;
            if self.life.as_ref().is_some_and(|life| life.gaps() > 0) {
                return Ok(());
            }
        }
        Err(format!("nothing was dropped in {COMMITS} commits"))
    }

    fn end(&mut self) -> Result<(), String> {
        self.calm();
        self.drain()?;
        judge::judge(self)
    }
}

/// The oldest readings are with Kafka, and the commit of their transaction is still
/// to come, when others fill the file.
pub(in crate::simulator) fn readings_behind_an_open_transaction(
    mutant: Option<Mutant>,
) -> Result<(), String> {
    within(small(mutant), |world| {
        world.send_the_oldest()?;
        world.read_until_something_is_dropped()?;
        world.end()
    })
}

/// The process before has sent the oldest readings and was killed before it deleted
/// them; the next one has to drop some before Kafka answers it.
pub(in crate::simulator) fn readings_of_an_earlier_process(
    mutant: Option<Mutant>,
) -> Result<(), String> {
    within(small(mutant), |world| {
        world.send_the_oldest()?;
        world.send_until("sending")?;
        world.kill();
        world.kafka.lock().unwrap().up = false;
        world.start();
        world.read_until_something_is_dropped()?;
        world.end()
    })
}

#[test]
fn what_stands_in_an_open_transaction_is_never_dropped() {
    readings_behind_an_open_transaction(None).unwrap();
}

#[test]
fn of_what_an_earlier_process_may_have_sent_a_gap_says_so() {
    readings_of_an_earlier_process(None).unwrap();
}
