//! What happens under one seed, and the quiet end of it.

pub(super) mod full;
pub(super) mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::life::{Ground, Life, STREAMS, Shape, Stored};
use super::mqtt::{Broker, DEVICES, Key};
use super::{Mutant, judge};
use crate::clock::{Clock, Steady};
use crate::event::Timestamp;
use crate::forward::pace::Pace;
use crate::forward::simulator::broker::{Broker as Kafka, Topic};
use crate::forward::simulator::chance::Chance;
use crate::forward::simulator::{self as kafka};
use crate::source::mqtt::wire;

/// Where the true time begins.
const START: Timestamp = Timestamp(1_767_225_600_000_000_000);

/// Things that happen before the trouble ends.
const TURNS: u64 = 700;

/// Steps within which a quiet world must have delivered everything.
const MOST_STEPS: usize = 6_000;

/// The broker's limit of a transaction in the model, as the agent asks for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Older, by a little more than the day that is allowed, a record may be gone
/// before it is read (SAFETY 10).
const OLDEST_STAMP_MS: i64 = 25 * 3_600_000;

/// What was handed over while the clock was wrong is with Kafka by then, or was
/// aborted.
const HANDED_OVER: Duration = Duration::from_secs(30);

const DAY_NS: i64 = 86_400_000_000_000;

/// A file that a few large readings fill.
const SMALL: u64 = 140 * 1024;

/// How the wall clock goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wall {
    Right,
    /// Nobody has set it since the start: 1970.
    Unset,
    /// Wrong by so many nanoseconds.
    Off(i64),
}

pub(super) struct World {
    chance: Chance,
    shape: Shape,
    pub(super) mutant: Option<Mutant>,
    time: Steady,
    began: Instant,
    wall: Wall,
    /// When the wall clock was last seen to be wrong.
    wrong: Option<Instant>,
    clock: Clock,
    runtime: Runtime,
    /// How far the client's time has come.
    synced: Instant,
    pub(super) mqtt: Arc<Mutex<Broker>>,
    pub(super) kafka: Arc<Mutex<Kafka>>,
    pub(super) life: Option<Life>,
    pub(super) path: PathBuf,
    _folder: tempfile::TempDir,
    /// Rows of the table, and readings of the device, so far.
    pub(super) rows: u64,
    polled: u64,
    disk_full: bool,
    /// Everything that was ever found in the file, and how often by its content.
    pub(super) stored: Vec<Stored>,
    pub(super) copies: BTreeMap<Key, u32>,
    /// Ids of what was only in memory when its process died.
    pub(super) vanished: BTreeSet<String>,
    pub(super) letters: BTreeMap<String, u32>,
    pub(super) acknowledged: Vec<Key>,
    /// Records of each topic whose stamp was looked at.
    stamped: [usize; 4],
}

pub(super) fn run(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    within(World::new(seed, mutant), World::live)
}

/// What happens in a world, until it ends.
fn within(
    mut world: World,
    happens: impl FnOnce(&mut World) -> Result<(), String>,
) -> Result<(), String> {
    let result = happens(&mut world);
    drop(world.life.take());
    wire::unplug();
    result
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut chance = Chance::of(seed);
        let time = Steady::still();
        let shape = Shape {
            version_5: chance.hits(500),
            max_size: if chance.hits(300) { SMALL } else { 64 * 1024 * 1024 },
            max_age: chance.hits(150),
            bounded: chance.hits(300),
            // Not by chance: the other seeds go their way as before.
            when_needed: seed % 3 == 1 && mutant.is_none_or(Mutant::is_of_memory),
        };
        let pace = Pace::of(time.clone());
        let mut kafka = Kafka::new(Chance::of(chance.below(u64::MAX)), pace, TIMEOUT);
        if mutant == Some(Mutant::OwnTimeAlways) {
            kafka.mutant = Some(kafka::Mutant::OwnTimeAlways);
        }
        for name in STREAMS {
            let (largest, ahead) = (usize::MAX, i64::MAX / 2);
            let topic = Topic { there: true, forbidden: false, largest, ahead, log: Vec::new() };
            kafka.topics.insert(name.to_owned(), topic);
        }
        let counts = chance.hits(600);
        let of = Chance::of(chance.below(u64::MAX));
        let mqtt = Arc::new(Mutex::new(Broker::new(of, counts, shape.version_5, mutant)));
        let dialled = Arc::clone(&mqtt);
        wire::plug_in(move || dialled.lock().unwrap().connect());
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let began = time.now();
        Self {
            chance,
            shape,
            mutant,
            began,
            wall: Wall::Right,
            wrong: None,
            clock: Clock::fixed(START),
            runtime,
            synced: began,
            time,
            mqtt,
            kafka: Arc::new(Mutex::new(kafka)),
            life: None,
            path: folder.path().join("buffer.db"),
            _folder: folder,
            rows: 0,
            polled: 0,
            disk_full: false,
            stored: Vec::new(),
            copies: BTreeMap::new(),
            vanished: BTreeSet::new(),
            letters: BTreeMap::new(),
            acknowledged: Vec::new(),
            stamped: [0; 4],
        }
    }

    fn live(&mut self) -> Result<(), String> {
        self.start();
        self.learn()?;
        for _ in 0..TURNS {
            self.turn()?;
        }
        self.calm();
        self.drain()?;
        judge::judge(self)
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            path: &self.path,
            shape: &self.shape,
            clock: &self.clock,
            time: &self.time,
            kafka: &self.kafka,
            now: START,
            mutant: self.mutant,
        }
    }

    fn start(&mut self) {
        self.end_of_life();
        self.set_clock();
        let life = Life::begin(&self.ground());
        if self.disk_full {
            life.stepped.most_pages(1);
        }
        if !life.answered {
            self.mqtt.lock().unwrap().is_unsure();
        }
        self.life = Some(life);
    }

    /// The process ends, whatever it was about to do.
    fn kill(&mut self) {
        let arrives = self.chance.index(4);
        self.mqtt.lock().unwrap().client_dies(arrives);
        self.end_of_life();
    }

    /// What is only in memory ends with the process. What of it is with Kafka shows
    /// itself there.
    fn end_of_life(&mut self) {
        let Some(life) = self.life.take() else { return };
        for (epoch, seq) in life.held() {
            if !life.is_in_file(epoch, seq) {
                let stored = self.stored.iter().find(|s| (s.epoch, s.seq) == (epoch, seq));
                self.vanished.extend(stored.map(Stored::id));
            }
        }
    }

    fn since_start(&self) -> i64 {
        let since = self.time.now().saturating_duration_since(self.began);
        i64::try_from(since.as_nanos()).unwrap()
    }

    fn truly(&self) -> Timestamp {
        Timestamp(START.0 + self.since_start())
    }

    fn set_clock(&self) {
        self.clock.set(match self.wall {
            Wall::Right => self.truly(),
            Wall::Unset => Timestamp(self.since_start()),
            Wall::Off(by) => Timestamp(self.truly().0 + by),
        });
    }

    /// Lets the client's timers see the time that has passed, and the client go on.
    fn client(&mut self) {
        self.set_clock();
        let passed = self.time.now().saturating_duration_since(self.synced);
        self.synced = self.time.now();
        self.runtime.block_on(tokio::time::advance(passed));
        if let Some(life) = &mut self.life {
            life.client(&self.runtime);
        }
    }

    fn writer(&mut self) -> Result<(), String> {
        self.set_clock();
        if let Some(life) = &self.life {
            if self.mutant == Some(Mutant::Unpinned) {
                life.unpin();
            }
            if self.mutant == Some(Mutant::PastHeld) {
                life.stepped.step_past_held();
            } else {
                life.stepped.step();
            }
            if self.mutant == Some(Mutant::AckWhenHeld) {
                life.stepped.acknowledge_held();
            }
        }
        self.look()
    }

    fn send(&mut self) -> Result<(), String> {
        self.set_clock();
        let Some(life) = &mut self.life else { return Ok(()) };
        if life.ready > self.time.now() {
            return Ok(());
        }
        life.send(&self.time);
        let hangs = life.hangs();
        self.look()?;
        self.look_at_stamps()?;
        let dead = self.kafka.lock().unwrap().is_dead();
        if dead || hangs {
            self.kafka.lock().unwrap().dies_in = None;
            self.kill();
            self.start();
        }
        Ok(())
    }

    fn rows(&mut self) {
        self.set_clock();
        let last = self.rows;
        let Some(mut life) = self.life.take() else { return };
        life.read_rows(&self.runtime, last, &self.ground());
        self.life = Some(life);
    }

    /// What the file has got is known from here on.
    fn look(&mut self) -> Result<(), String> {
        let Some(life) = &mut self.life else { return Ok(()) };
        for stored in life.look() {
            let key = (stored.stream, stored.number);
            let copies = self.copies.entry(key).or_default();
            *copies += 1;
            if *copies > 1 {
                let mqtt = self.mqtt.lock().unwrap();
                let once = stored.stream == DEVICES[0];
                let doubt = mqtt.doubt.contains(&key) && !(once && mqtt.counts && mqtt.learned);
                let doubt = doubt || self.shape.when_needed && mqtt.orphans.contains(&key);
                if !doubt {
                    return Err(format!("{key:?} is stored twice without a doubt"));
                }
            }
            self.stored.push(stored);
        }
        Ok(())
    }

    /// Whether something that holds this message is in the file or was, or is with Kafka.
    fn is_safe(&self, key: Key) -> bool {
        let mut of = self.stored.iter().filter(|stored| (stored.stream, stored.number) == key);
        of.any(|stored| {
            let in_file = |life: &Life| life.is_in_file(stored.epoch, stored.seq);
            stored.written
                || self.kafka.lock().unwrap().arrived.contains_key(&stored.id())
                || self.life.as_ref().is_some_and(in_file)
        })
    }

    /// Nothing is acknowledged that is neither in the file, or was, nor with Kafka.
    fn check(&mut self) -> Result<(), String> {
        if let Some(wrong) = &self.kafka.lock().unwrap().wrong {
            return Err(wrong.clone());
        }
        let acknowledged = std::mem::take(&mut self.mqtt.lock().unwrap().acknowledged);
        for key in acknowledged {
            if super::mqtt::is_bad(key) {
                if let Some(life) = &mut self.life {
                    for letter in life.letters() {
                        *self.letters.entry(letter).or_default() += 1;
                    }
                    if !self.letters.contains_key(&super::mqtt::payload(key)) {
                        return Err(format!("{key:?} is acknowledged and no dead letter"));
                    }
                }
            } else if !self.is_safe(key) {
                return Err(format!("{key:?} is acknowledged and not in the file"));
            }
            self.acknowledged.push(key);
        }
        Ok(())
    }

    /// SAFETY 10, where the agent knows what time it is.
    fn look_at_stamps(&mut self) -> Result<(), String> {
        let now = self.truly().0 / 1_000_000;
        if self.wall != Wall::Right {
            self.wrong = Some(self.time.now());
        }
        let known = |wrong| self.time.now().saturating_duration_since(wrong) > HANDED_OVER;
        let known = self.wrong.is_none_or(known);
        let kafka = self.kafka.lock().unwrap();
        for (index, stream) in STREAMS.into_iter().enumerate() {
            let log = &kafka.topics[stream].log;
            for written in &log[self.stamped[index]..] {
                if known && now - written.stamp > OLDEST_STAMP_MS {
                    return Err(format!(
                        "{} is stamped {} ms ago",
                        written.id,
                        now - written.stamp
                    ));
                }
            }
            self.stamped[index] = log.len();
        }
        Ok(())
    }

    /// Some messages one at a time, after which a client knows how ids are given.
    fn learn(&mut self) -> Result<(), String> {
        for _ in 0..150 {
            self.everything()?;
            if self.mqtt.lock().unwrap().is_idle() {
                self.mqtt.lock().unwrap().publish();
            }
        }
        let mut mqtt = self.mqtt.lock().unwrap();
        (mqtt.learned, mqtt.same) = (mqtt.counts, mqtt.counts);
        Ok(())
    }

    /// Each part goes on, and some time passes.
    fn everything(&mut self) -> Result<(), String> {
        self.mqtt.lock().unwrap().send();
        self.client();
        self.mqtt.lock().unwrap().serve(8);
        self.check()?;
        self.rows();
        self.writer()?;
        self.send()?;
        self.time.pass(Duration::from_millis(200));
        Ok(())
    }

    /// One thing happens.
    fn turn(&mut self) -> Result<(), String> {
        let what = self.chance.below(1_000);
        tracing::debug!(what, at = self.since_start() / 1_000_000, "turn");
        match what {
            0..110 => self.mqtt.lock().unwrap().publish(),
            110..230 => self.mqtt.lock().unwrap().send(),
            230..350 => {
                let packets = self.chance.index(3) + 1;
                self.mqtt.lock().unwrap().serve(packets);
            }
            350..530 => self.client(),
            530..590 => {
                self.rows += self.chance.below(4);
                self.rows();
            }
            590..650 => self.poll(),
            650..760 => {
                self.time.pass(self.chance.millis(300));
                self.writer()?;
            }
            760..890 => self.send()?,
            890..910 => self.time.pass(self.chance.millis(3_000)),
            910..930 => {
                let arrives = self.chance.index(5);
                self.mqtt.lock().unwrap().cut(arrives);
            }
            930..950 => {
                self.kill();
                if self.chance.hits(100) {
                    self.wall = Wall::Unset;
                }
                self.start();
            }
            _ => self.rare(what)?,
        }
        self.check()
    }

    /// What does not happen all day.
    fn rare(&mut self, what: u64) -> Result<(), String> {
        match what {
            950..955 => {
                let mut mqtt = self.mqtt.lock().unwrap();
                mqtt.up = !mqtt.up;
                if !mqtt.up {
                    mqtt.cut(1);
                }
            }
            955..957 => self.mqtt.lock().unwrap().lose_session(),
            957..964 => {
                // In the midst of a step that is still to come.
                let calls = self.chance.below(12) + 1;
                self.kafka.lock().unwrap().dies_in = Some(calls);
                for _ in 0..6 {
                    self.time.pass(Duration::from_millis(100));
                    self.send()?;
                }
                self.kafka.lock().unwrap().dies_in = None;
            }
            964..972 => {
                self.disk_full = !self.disk_full;
                let pages = if self.disk_full { 1 } else { u32::MAX - 1 };
                if let Some(life) = &self.life {
                    life.stepped.most_pages(pages);
                }
            }
            972..979 => {
                let mut kafka = self.kafka.lock().unwrap();
                kafka.up = !kafka.up;
            }
            979..985 => {
                let faults = [0, 20, 100, 400][self.chance.index(4)];
                self.kafka.lock().unwrap().faults = faults;
            }
            985..988 => {
                let name = STREAMS[self.chance.index(4)];
                let mut kafka = self.kafka.lock().unwrap();
                let topic = kafka.topics.get_mut(name).unwrap();
                topic.there = !topic.there;
            }
            988..991 => {
                self.time.pass(self.chance.millis(30_000));
                self.kafka.lock().unwrap().expire();
            }
            991..992 => self.kafka.lock().unwrap().forget_ids(),
            _ => {
                self.wall = match self.chance.index(4) {
                    0 => Wall::Unset,
                    1 => Wall::Off(-DAY_NS * i64::try_from(self.chance.below(400)).unwrap()),
                    2 => Wall::Off(DAY_NS * i64::try_from(self.chance.below(400)).unwrap()),
                    _ => Wall::Right,
                };
            }
        }
        Ok(())
    }

    fn poll(&mut self) {
        self.set_clock();
        self.polled += 1;
        // Nothing that compresses: it is to fill the file.
        let words = self.chance.below(500);
        let words = (0..words).map(|_| format!("{:016x}", self.chance.below(u64::MAX)));
        let filler = words.collect::<Vec<_>>().concat();
        let (number, now) = (self.polled, self.clock.now());
        if let Some(life) = &mut self.life {
            life.poll(&self.runtime, number, filler, now);
        }
    }

    fn calm(&mut self) {
        self.wall = Wall::Right;
        self.disk_full = false;
        if let Some(life) = &self.life {
            life.stepped.most_pages(u32::MAX - 1);
        }
        let mut kafka = self.kafka.lock().unwrap();
        (kafka.up, kafka.faults) = (true, 0);
        for topic in kafka.topics.values_mut() {
            topic.there = true;
        }
        drop(kafka);
        self.mqtt.lock().unwrap().up = true;
    }

    /// Everything that was published, and is in the table, is delivered.
    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            self.everything()?;
            self.check()?;
            let Some(life) = &self.life else { continue };
            let idle = self.mqtt.lock().unwrap().is_idle();
            let settled = !life.stepped.shared().stats.borrow().unsettled;
            if idle && settled && life.has_rows(self.rows) && life.waiting() == 0 {
                return Ok(());
            }
        }
        let stands = self.mqtt.lock().unwrap().stands();
        let unsettled = |life: &Life| life.stepped.shared().stats.borrow().unsettled;
        let how = |life: &Life| (life.state(), life.waiting(), unsettled(life));
        let life = self.life.as_ref().map(how);
        Err(format!("not all is delivered after {MOST_STEPS} steps: {life:?}, MQTT {stands}"))
    }
}
