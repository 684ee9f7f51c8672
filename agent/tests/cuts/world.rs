//! One gateway with its disk: it runs, the power is cut, it runs again.

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tidegate::buffer::{self, BatchId, OpenError, Position, Reader, Stats, Store};
use tidegate::clock::Clock;
use tidegate::collect::{self, Buffer, Collector, Intake, SourceInfo, Ticket};
use tidegate::event::Timestamp;
use tidegate::flow::{self, Flows, Lane};
use tidegate::units::Period;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::dice::Dice;
use crate::machine::{Disk, Fuse, Machine};
use crate::medium::Medium;
use crate::model::{Found, Model, Sizes, dead_letter};
use crate::neighbour::Neighbour;
use crate::vfs;

const GATEWAY: &str = "gw1";
const CLUSTER: &str = "kafka";

/// Nothing is committed for the time alone: the script says when.
const NEVER: Period = Period::from_secs(3_600);

/// Steps of one process at most.
const MOST_STEPS: u64 = 40;

/// Processes between two cuts at most.
const MOST_PROCESSES: u64 = 3;

/// The power went, or the process was killed.
#[derive(Debug)]
struct Cut;

/// What the agent was about when the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    Starting,
    Running,
    Closing,
    /// All was done and the machine still on.
    Idle,
}

pub(crate) struct World {
    folder: tempfile::TempDir,
    runtime: Runtime,
    dice: Dice,
    /// Whether another process is there at a start.
    neighbours: Dice,
    medium: Medium,
    sizes: Sizes,
    disk: Disk,
    model: Model,
    moment: Moment,
    epochs: Vec<u64>,
    /// Positions as text, in the order in which Kafka committed them, and how
    /// many of them the file surely knows of.
    positions: Vec<String>,
    adopted: usize,
}

/// A running agent.
struct Process {
    collector: Collector,
    intakes: Vec<Intake>,
    /// The last one of each source.
    tickets: Vec<Ticket>,
    store: Store,
    stats: watch::Receiver<Stats>,
    reader: Reader,
    flows: Vec<(flow::Id, flow::Hash)>,
    position: Position,
    sent: Vec<BatchId>,
    life: u64,
    /// A position that goes with the next commit.
    forgetting: Option<usize>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let medium =
            Medium { sector: if dice.once_in(2) { 512 } else { 4096 }, powersafe: dice.once_in(2) };
        // With large events the WAL is full a few times in a life, and is
        // written back and begun again.
        let large = dice.once_in(4);
        Self {
            folder: tempfile::tempdir().expect("a folder for the lock"),
            runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
            dice,
            neighbours: Dice::new(!seed),
            medium,
            sizes: if large {
                Sizes { body: 60_000, session: 20_000 }
            } else {
                Sizes { body: 300, session: 6_000 }
            },
            disk: Disk::new(),
            model: Model::new(),
            moment: Moment::Idle,
            epochs: Vec::new(),
            positions: Vec::new(),
            adopted: 0,
        }
    }

    /// Power on, cut somewhere, and what the medium has then against the model.
    /// Tells when it was cut.
    pub(crate) fn live(&mut self) -> Moment {
        let fuse = self.fuse();
        let mut machine = Machine::boot(std::mem::take(&mut self.disk), self.medium, fuse);
        let folder = self.folder.path().to_owned();
        let mut killed = false;
        for _ in 0..=self.dice.roll(MOST_PROCESSES) {
            vfs::plug_in(&folder, &machine);
            if self.process(&machine, std::mem::take(&mut killed)).is_ok() {
                continue;
            }
            assert!(machine.is_dead(), "nobody died, and something failed");
            if !self.dice.once_in(3) {
                break;
            }
            // Only the process was killed.
            machine = machine.without_process(self.fuse());
            killed = true;
            self.moment = Moment::Idle;
            self.check(machine.now(), false);
        }
        self.disk = machine.cut(&mut self.dice);
        vfs::unplug(&folder);
        self.check(self.disk.clone(), true);
        self.moment
    }

    fn fuse(&mut self) -> Fuse {
        let large = self.sizes.body > 1_000;
        match self.dice.roll(8) {
            0 => Fuse::Never,
            1 | 2 => Fuse::Sync(1 + self.dice.roll(10)),
            3 | 4 => Fuse::Sync(1 + self.dice.roll(40)),
            5 => Fuse::Call(1 + self.dice.roll(50)),
            _ => Fuse::Call(1 + self.dice.roll(if large { 6_000 } else { 400 })),
        }
    }

    fn config(&self) -> buffer::Config {
        config(self.folder.path())
    }

    /// Another process beside a start after a kill. Where the medium spoils what
    /// stands beside a write, the start must have written the -wal back itself.
    fn neighbour(&mut self, machine: &Arc<Machine>) -> Option<Neighbour> {
        let there = self.medium.powersafe && self.neighbours.once_in(2);
        there.then(|| Neighbour::begin(&self.config().path, machine)).flatten()
    }

    fn process(&mut self, machine: &Arc<Machine>, killed: bool) -> Result<(), Cut> {
        self.moment = Moment::Starting;
        let neighbour = if killed { self.neighbour(machine) } else { None };
        let buffer = match Buffer::open(&self.config(), GATEWAY, clock()) {
            Ok(buffer) => buffer,
            Err(OpenError::File { .. }) if machine.is_dead() => return Err(Cut),
            Err(error) => panic!("the agent does not start: {error:?}"),
        };
        drop(neighbour);
        let epoch = buffer.epoch().0;
        assert!(!self.epochs.contains(&epoch), "an epoch came again");
        self.epochs.push(epoch);
        // What it has found may only have been written by a process that was
        // killed before it could sync; writing it back synced it, or a commit of this
        // start, where another process was about to write it back.
        self.model.promised();
        let mut process = self.begin(buffer).ok_or(Cut)?;
        self.moment = Moment::Running;
        for _ in 0..self.dice.roll(MOST_STEPS) {
            self.step(&mut process)?;
        }
        if self.dice.once_in(3) {
            self.deliver(&mut process, 3);
        }
        if self.dice.once_in(4) {
            machine.turn_off();
            return Err(Cut);
        }
        // It ends as the agent does: what was handed over is committed.
        self.moment = Moment::Closing;
        drop(process.reader);
        process.collector.close();
        if machine.is_dead() {
            return Err(Cut);
        }
        self.model.promised();
        self.moment = Moment::Idle;
        Ok(())
    }

    fn begin(&mut self, buffer: Buffer) -> Option<Process> {
        let (collector, intakes, flows) = start(buffer);
        let store = collector.store();
        let mut process = Process {
            stats: store.stats(),
            reader: store.reader().ok()?,
            sent: vec![BatchId::default(); flows.len()],
            position: Position::default(),
            tickets: vec![Ticket::default(); intakes.len()],
            life: self.epochs.len() as u64,
            forgetting: None,
            collector,
            intakes,
            store,
            flows,
        };
        let kafka = self.model.kafka.position.clone();
        if let Some(position) = kafka.clone() {
            let store = process.store.clone();
            let adopted = self.call(&mut process.stats, move || store.adopt(&position, CLUSTER))?;
            assert_eq!(adopted.in_doubt, [""; 0], "the file is the one that sent");
            self.adopted = self.positions.len();
        }
        process.position = process.store.next_position(kafka.as_ref(), CLUSTER);
        Some(process)
    }

    /// A call that waits for its commit: nothing if the power went meanwhile.
    fn call<T: Send + 'static>(
        &self,
        stats: &mut watch::Receiver<Stats>,
        what: impl FnOnce() -> Result<T, buffer::Gone> + Send + 'static,
    ) -> Option<T> {
        let call = self.runtime.spawn_blocking(what);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                done = call => done.expect("a call does not panic").ok(),
                _ = stats.wait_for(|stats| stats.failing.is_some()) => None,
            }
        })
    }

    fn step(&mut self, process: &mut Process) -> Result<(), Cut> {
        match self.dice.roll(10) {
            0..3 => self.deliver(process, 1),
            3 => self.deliver(process, 4),
            4..7 => {
                self.deliver(process, 2);
                self.flush(process)?;
            }
            7 | 8 => self.send(process)?,
            _ => self.bury(process)?,
        }
        Ok(())
    }

    fn deliver(&mut self, process: &mut Process, times: u64) {
        let flows: Vec<flow::Id> = process.flows.iter().map(|(id, _)| *id).collect();
        for _ in 0..=self.dice.roll(times) {
            let place = self.dice.index(self.model.sources.len());
            let source = &mut self.model.sources[place];
            let delivery = source.next(&flows, process.life, self.sizes, &mut self.dice);
            let intake = &mut process.intakes[place];
            let ticket = self.runtime.block_on(intake.deliver(delivery));
            process.tickets[place] = ticket.expect("the writer lives");
        }
    }

    /// Waits until everything is committed that was handed over.
    fn flush(&mut self, process: &mut Process) -> Result<(), Cut> {
        let Process { intakes, tickets, stats, .. } = process;
        // Once for all: a second request could meet a later delivery, and a
        // seed would not be the same twice.
        intakes[0].flush();
        let intakes = intakes.iter_mut().zip(tickets);
        for (source, (intake, ticket)) in self.model.sources.iter_mut().zip(intakes) {
            let committed = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    done = intake.wait_committed(*ticket) => done.is_ok(),
                    _ = stats.wait_for(|stats| stats.failing.is_some()) => false,
                }
            });
            if !committed {
                return Err(Cut);
            }
            source.acknowledged = source.handed;
        }
        if let Some(position) = process.forgetting.take() {
            self.adopted = self.adopted.max(position);
        }
        Ok(())
    }

    /// One transaction of the forwarder.
    fn send(&mut self, process: &mut Process) -> Result<(), Cut> {
        let place = self.dice.index(process.flows.len());
        let flow = process.flows[place].1;
        let most = 1 + u32::try_from(self.dice.roll(20)).expect("it is small");
        let batches =
            process.reader.batches(flow, process.sent[place], most, usize::MAX).map_err(|_| Cut)?;
        let Some(last) = batches.last() else { return Ok(()) };
        process.sent[place] = last.id;
        process.position.advance(flow, last.epoch, last.number);
        self.model.see(&batches);
        self.model.kafka.commit(&batches, &process.position);
        self.positions.push(process.position.encode());
        if self.dice.once_in(2) {
            process.store.forget(process.position.clone(), CLUSTER).map_err(|_| Cut)?;
            process.forgetting = Some(self.positions.len());
        }
        Ok(())
    }

    fn bury(&mut self, process: &mut Process) -> Result<(), Cut> {
        let origin = format!("forwarder/{}", self.dice.next());
        let dead = vec![dead_letter(&origin, &mut self.dice)];
        self.model.buried.insert(origin.clone(), false);
        let store = process.store.clone();
        self.call(&mut process.stats, move || store.bury(dead)).ok_or(Cut)?;
        self.model.buried.insert(origin, true);
        Ok(())
    }

    /// What another machine finds on a copy of the medium, or, of what is not
    /// durable yet, another process on the same.
    fn check(&mut self, disk: Disk, durable: bool) {
        let folder = tempfile::tempdir().expect("a folder for the lock");
        let machine = Machine::boot(disk, self.medium, Fuse::Never);
        vfs::plug_in(folder.path(), &machine);
        let config = config(folder.path());
        let (dead, committed) = tables(&config.path);
        let buffer = Buffer::open(&config, GATEWAY, clock()).expect("the agent starts");
        let named = |source: &crate::model::Source| {
            buffer.saved(source.name).map(|saved| (source.name, saved))
        };
        let saved = self.model.sources.iter().filter_map(named).collect();
        let (collector, intakes, flows) = start(buffer);
        let store = collector.store();
        // The file may know an older position than Kafka, never a newer one.
        let text = store.memory().position.as_ref().map(Position::encode);
        let known = text.map_or(0, |text| {
            let place = self.positions.iter().rposition(|position| *position == text);
            place.expect("the file knows no position that Kafka never had") + 1
        });
        assert!(known >= self.adopted, "the file has forgotten a position that it adopted");
        if let Some(position) = &self.model.kafka.position {
            let adopted = store.adopt(position, CLUSTER).expect("the writer lives");
            assert_eq!(adopted.in_doubt, [""; 0], "the file is the one that sent");
        }
        let mut reader = store.reader().expect("the file can be read");
        let mut batches = Vec::new();
        for (_, flow) in flows {
            let found = reader.batches(flow, BatchId::default(), u32::MAX, usize::MAX);
            batches.extend(found.expect("the file can be read"));
        }
        batches.sort_by_key(|batch| batch.id);
        drop((reader, intakes));
        collector.close();
        vfs::unplug(folder.path());
        self.model.check(&Found { batches, saved, dead, committed }, durable);
    }
}

fn config(folder: &Path) -> buffer::Config {
    buffer::Config {
        path: folder.join("buffer.db"),
        commit_interval: NEVER,
        ..buffer::Config::default()
    }
}

fn clock() -> Clock {
    Clock::fixed(Timestamp(7))
}

fn start(buffer: Buffer) -> (Collector, Vec<Intake>, Vec<(flow::Id, flow::Hash)>) {
    let mut flows = Flows::default();
    let ids = [flows.id("plant", Lane::Live), flows.id("plant", Lane::Bulk)];
    let ids = ids.map(|id| (id, flows.get(id).hash)).to_vec();
    let sources = crate::model::Source::all()
        .iter()
        .map(|source| SourceInfo { name: source.name.into(), labels: Vec::new() })
        .collect();
    let (collector, intakes) = collect::start(buffer, sources, flows).expect("a thread starts");
    (collector, intakes, ids)
}

/// The tables themselves: whole, and the totals are what they add up to. Gives
/// the dead letters and the events ever committed.
fn tables(path: &Path) -> (Vec<String>, u64) {
    let connection = Connection::open(path).expect("SQLite opens what is there");
    let text = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).expect("the layout is known");
        let rows = statement.query_map([], |row| row.get(0)).expect("the file can be read");
        rows.map(|row| row.expect("the file can be read")).collect()
    };
    let state = text("PRAGMA integrity_check");
    assert_eq!(state, ["ok"], "the file is whole");
    if text("SELECT name FROM sqlite_schema").is_empty() {
        return (Vec::new(), 0);
    }
    let numbers = |sql: &str| -> Vec<u64> {
        let texts = text(sql);
        texts.iter().map(|text| text.parse().expect("a number")).collect()
    };
    let counted = numbers(
        "SELECT CAST(count(*) AS TEXT) FROM batch
         UNION ALL SELECT CAST(coalesce(sum(count), 0) AS TEXT) FROM batch
         UNION ALL SELECT CAST(count(*) AS TEXT) FROM dead_letter
         UNION ALL SELECT CAST(coalesce(sum(octet_length(reason) + octet_length(origin)
             + length(payload)), 0) AS TEXT) FROM dead_letter",
    );
    let totals = text("SELECT CAST(value AS TEXT) FROM state WHERE key = 'totals'");
    let totals: serde_json::Value = match totals.first() {
        Some(totals) => serde_json::from_str(totals).expect("the totals are JSON"),
        // The layout was made, no epoch began.
        None => serde_json::json!({"batches": 0, "events": 0, "dead_letters": 0, "dead_bytes": 0}),
    };
    let told = |key: &str| totals.get(key).and_then(serde_json::Value::as_u64);
    let keys = ["batches", "events", "dead_letters", "dead_bytes"];
    let written: Vec<u64> = keys.iter().filter_map(|key| told(key)).collect();
    assert_eq!(counted, written, "the totals are what the tables add up to");
    // Numbers within an epoch have no gap, and none is above what is counted.
    let gaps = text(
        "SELECT 'batch ' || id || ' follows seq ' || before FROM
             (SELECT id, first_seq, id >> 40 AS ordinal,
                  lag(id) OVER w AS one, lag(first_seq + count) OVER w AS before
              FROM batch WINDOW w AS (PARTITION BY id >> 40 ORDER BY id))
         WHERE first_seq < before OR id = one + 1 AND first_seq <> before",
    );
    assert_eq!(gaps, [""; 0], "the numbers of events have no gap");
    (text("SELECT origin FROM dead_letter"), told("committed").unwrap_or_default())
}
