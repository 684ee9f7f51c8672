//! What happens under one seed, and the quiet end of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::broker::{Broker, Topic};
use super::chance::Chance;
use super::gateway::{Gateway, Stored};
use super::{Mutant, judge};
use crate::forward::pace::Pace;

/// Things that happen before the trouble ends.
const TURNS: u64 = 300;

/// Steps, and time, in which twins that nothing troubles find out who sends; the
/// longest pause and a look at the twin fit into it.
const SETTLING: usize = 400;
const SETTLING_TIME: Duration = Duration::from_mins(1);

/// Steps within which a quiet Kafka must have taken everything.
const MOST_STEPS: usize = 4_000;

/// The broker's limit of a transaction in the model, as the agents ask for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a seed is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One agent, one file, one cluster: exactly once without any doubt.
    Plain,
    /// A second agent under the same id, with a file of its own or a clone's.
    Twins,
    /// Kafka forgets the position, or is another cluster: an event may come
    /// twice under its id.
    Lost,
    /// Kafka forgets the position: exactly once, as far as its topics can be read.
    Forgotten,
}

pub(super) struct World {
    pub(super) kind: Kind,
    pub(super) broker: Arc<Mutex<Broker>>,
    pub(super) gateways: Vec<Gateway>,
    /// Everything that was ever committed to a file.
    stored: Vec<Stored>,
    pace: Pace,
    chance: Chance,
    folder: tempfile::TempDir,
}

/// In memory where that is possible: what a power cut leaves of a medium is
/// another test's.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn run(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    let kind = match seed % 8 {
        0 | 1 | 4 | 5 => Kind::Plain,
        2 | 6 => Kind::Twins,
        3 => Kind::Lost,
        _ => Kind::Forgotten,
    };
    let mut world = World::new(seed, kind, mutant);
    for _ in 0..TURNS {
        world.turn();
        world.check()?;
    }
    world.calm();
    world.settle()?;
    world.drain()?;
    judge::judge(&world)
}

impl World {
    pub(super) fn new(seed: u64, kind: Kind, mutant: Option<Mutant>) -> Self {
        let mut chance = Chance::of(seed);
        let pace = Pace::still();
        let mut broker = Broker::new(Chance::of(chance.below(u64::MAX)), pace.clone(), TIMEOUT);
        broker.mutant = mutant;
        for name in ["a", "b", "c"] {
            let largest = if chance.hits(300) { 1_000 } else { 5_000 };
            let ahead = if chance.hits(300) { 10_000 } else { i64::MAX / 2 };
            let topic = Topic { there: true, forbidden: false, largest, ahead, log: Vec::new() };
            broker.topics.insert(name.to_owned(), topic);
        }
        let broker = Arc::new(Mutex::new(broker));
        let mut world = Self {
            kind,
            broker,
            gateways: Vec::new(),
            stored: Vec::new(),
            pace,
            chance,
            folder: folder(),
        };
        world.add(None);
        world
    }

    /// Another agent under the same id, with a copy of this one's file.
    pub(super) fn add(&mut self, clone_of: Option<usize>) {
        let who = self.gateways.len();
        let folder = self.folder.path().join(who.to_string());
        std::fs::create_dir(&folder).unwrap();
        let mut gateway = Gateway::new(who, folder, &self.broker);
        if let Some(origin) = clone_of.and_then(|origin| self.gateways.get_mut(origin)) {
            origin.kill();
            for name in ["buffer.db", "buffer.db-wal"] {
                let from = origin.folder.join(name);
                if from.try_exists().unwrap() {
                    std::fs::copy(from, gateway.folder.join(name)).unwrap();
                }
            }
            *gateway.memory.lock().unwrap() = origin.memory.lock().unwrap().clone();
            origin.start();
        }
        gateway.start();
        self.gateways.push(gateway);
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.broker.lock().unwrap().wrong.clone().map_or(Ok(()), Err)
    }

    /// The step of whichever agent is due first; time passes until then.
    pub(super) fn step(&mut self) {
        let due = self.gateways.iter_mut().filter(|gateway| gateway.lives());
        let Some(next) = due.min_by_key(|gateway| gateway.ready()) else { return };
        let ready = next.ready().unwrap_or_else(|| self.pace.now());
        self.pace.park(ready.saturating_duration_since(self.pace.now()));
        next.step(&self.pace);
    }

    /// Steps for so long.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.pace.now() + time;
        while self.pace.now() < end {
            self.step();
            for gateway in &mut self.gateways {
                gateway.forget();
            }
        }
    }

    /// Time in which nobody does anything.
    pub(super) fn idle(&self, time: Duration) {
        self.pace.park(time);
    }

    pub(super) fn store(&mut self, index: usize) {
        self.stored.extend(self.gateways[index].store());
    }

    /// One thing happens.
    fn turn(&mut self) {
        let index = self.chance.index(self.gateways.len());
        let what = self.chance.below(1_000);
        tracing::debug!(what, index, "turn");
        match what {
            0..600 => self.step(),
            600..760 => self.store(index),
            760..870 => self.gateways[index].forget(),
            870..890 => {
                self.gateways[index].kill();
                self.gateways[index].start();
            }
            890..905 => {
                // In the midst of a step that is still to come.
                let calls = self.chance.below(12) + 1;
                self.broker.lock().unwrap().dies_in = Some(calls);
                for _ in 0..20 {
                    self.step();
                }
                self.broker.lock().unwrap().dies_in = None;
                for gateway in &mut self.gateways {
                    if !gateway.lives() {
                        gateway.start();
                    }
                }
            }
            905..930 => {
                let mut broker = self.broker.lock().unwrap();
                broker.up = !broker.up;
            }
            930..950 => {
                let faults = [0, 20, 100, 400][self.chance.index(4)];
                self.broker.lock().unwrap().faults = faults;
            }
            950..970 => {
                let mut broker = self.broker.lock().unwrap();
                let name = ["a", "b", "c"][self.chance.index(3)];
                let topic = broker.topics.get_mut(name).unwrap();
                if self.chance.hits(500) {
                    topic.there = !topic.there;
                } else {
                    topic.forbidden = !topic.forbidden;
                }
            }
            // The agent stood still, or the line did: the broker ends what is open.
            970..985 => {
                let long = self.chance.millis(30_000);
                self.idle(long);
                self.broker.lock().unwrap().expire();
            }
            985..988 => self.broker.lock().unwrap().forget_ids(),
            _ => self.rare(index),
        }
    }

    /// What belongs to the kind of the seed.
    fn rare(&mut self, index: usize) {
        match self.kind {
            Kind::Twins if self.gateways.len() < 3 => {
                let origin = self.chance.hits(500).then_some(index);
                self.add(origin);
            }
            Kind::Plain | Kind::Twins => {}
            Kind::Forgotten => {
                // Before it remembers one, a file cannot tell it from a first start.
                if self.gateways[index].remembers().is_some() {
                    self.broker.lock().unwrap().offsets.clear();
                }
                if self.chance.hits(500) {
                    self.gateways[index].start();
                }
            }
            Kind::Lost => {
                let mut broker = self.broker.lock().unwrap();
                if self.chance.hits(700) {
                    broker.offsets.clear();
                } else {
                    let name = format!("kafka{}", self.chance.below(100));
                    broker.replace(name);
                    drop(broker);
                    // Its line goes to another cluster: the producer is made
                    // anew, as it is when a broker's address changes hands.
                    self.gateways[index].start();
                }
            }
        }
    }

    fn calm(&mut self) {
        let mut broker = self.broker.lock().unwrap();
        (broker.up, broker.faults) = (true, 0);
        for topic in broker.topics.values_mut() {
            (topic.there, topic.forbidden) = (true, false);
        }
    }

    /// Twins that are left alone find out who sends: each is fenced once at most,
    /// and then nobody fences anybody any more.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for gateway in &mut self.gateways {
            if !gateway.lives() {
                gateway.start();
            }
        }
        let inits = |world: &Self| world.broker.lock().unwrap().inits.len();
        let before = inits(self);
        self.live_on()?;
        let settled = inits(self);
        self.live_on()?;
        // One of its own start, one after a fence.
        let fenced = settled - before > 2 * self.gateways.len();
        if fenced || inits(self) > settled {
            let inits = self.broker.lock().unwrap().inits.split_off(before);
            return Err(format!("twins fence each other in turn: {inits:?}"));
        }
        Ok(())
    }

    fn live_on(&mut self) -> Result<(), String> {
        let end = self.pace.now() + SETTLING_TIME;
        let mut turn = 0;
        while turn < SETTLING || self.pace.now() < end {
            self.step();
            let index = turn % self.gateways.len();
            // Else they would only ever send, and no time would pass.
            if turn < SETTLING && self.chance.hits(300) {
                self.store(index);
            }
            self.gateways[index].forget();
            self.check()?;
            turn += 1;
        }
        Ok(())
    }

    /// Everything that is stored is sent: each agent in turn is left alone, as
    /// a twin only goes on when the other has stopped.
    pub(super) fn drain(&mut self) -> Result<(), String> {
        for index in 0..self.gateways.len() {
            for (other, gateway) in self.gateways.iter_mut().enumerate() {
                if other != index {
                    gateway.kill();
                }
            }
            if !self.gateways[index].lives() {
                self.gateways[index].start();
            }
            let mut steps = 0;
            while self.gateways[index].waiting() > 0 {
                tracing::debug!(index, state = self.gateways[index].state(), "drains");
                steps += 1;
                if steps > MOST_STEPS {
                    let gateway = &self.gateways[index];
                    return Err(format!(
                        "agent {index} is {} after {MOST_STEPS} steps, {} batches wait: {:?}",
                        gateway.state(),
                        gateway.waiting(),
                        gateway.trouble()
                    ));
                }
                self.step();
                self.gateways[index].forget();
                self.check()?;
            }
        }
        self.check()
    }

    /// For each topic the events that must stand in it, with their flow.
    pub(super) fn expected(&self) -> BTreeMap<&'static str, BTreeMap<String, usize>> {
        let mut expected: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for stored in self.stored.iter().filter(|stored| !stored.poison) {
            expected.entry(stored.topic).or_default().insert(stored.id.clone(), stored.flow);
        }
        expected
    }

    /// Every event that no topic takes is a dead letter, and nothing else is.
    pub(super) fn letters(&self) -> Result<(), String> {
        let poison: BTreeSet<String> =
            self.stored.iter().filter(|stored| stored.poison).map(Stored::origin).collect();
        let buried: BTreeSet<String> = self.gateways.iter().flat_map(Gateway::letters).collect();
        match poison.symmetric_difference(&buried).next() {
            Some(other) if buried.contains(other) => Err(format!("{other} is a dead letter")),
            Some(other) => Err(format!("{other} is no dead letter")),
            None => Ok(()),
        }
    }
}
