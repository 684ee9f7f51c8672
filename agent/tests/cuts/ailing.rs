//! A medium that errs while the agent runs, at chosen moments: a write fails, a
//! sync fails, or nothing can be written until somebody comes. The agent holds its sources back, tries
//! again, goes on by itself, and what it has acknowledged outlives a power cut.

use std::path::Path;

use tidegate::buffer::{self, BatchId, Position, Stats, Store};
use tidegate::clock::Clock;
use tidegate::collect::{self, Buffer, Collector, Delivery, Intake, SourceInfo, Ticket};
use tidegate::event::{Event, Field, Quality, Timestamp, Value};
use tidegate::flow::{self, Flows, Lane};
use tidegate::units::Period;
use tokio::sync::watch;

use crate::dice::Dice;
use crate::machine::{Ail, Disk, Fuse, Machine};
use crate::medium::Medium;
use crate::vfs;

/// Times that a medium errs in one life of a machine.
const SPELLS: u64 = 5;

/// Machines; they spend their time on the pauses between two tries.
const MACHINES: u64 = 12;

/// How a medium errs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    OneWrite,
    OneSync,
    /// An error elsewhere has made the system mount it to read only: each write fails
    /// until it is mounted anew, which is once the agent has said so.
    ReadOnly,
}

/// Bytes of a large event: a hundred of them fill the -wal, which is then written
/// into the file.
const LARGE: u64 = 60_000;

struct Gateway {
    collector: Collector,
    intake: Intake,
    store: Store,
    stats: watch::Receiver<Stats>,
    flow: flow::Id,
    hash: flow::Hash,
    /// Numbers of events: those handed over, and those acknowledged.
    handed: i64,
    position: Option<Position>,
    gone: Vec<i64>,
}

fn open(folder: &Path) -> Buffer {
    let config = buffer::Config {
        path: folder.join("buffer.db"),
        // The script says when.
        commit_interval: Period::from_secs(3_600),
        ..buffer::Config::default()
    };
    Buffer::open(&config, "gw1", Clock::fixed(Timestamp(7))).expect("the agent starts")
}

fn start(buffer: Buffer) -> Gateway {
    let mut flows = Flows::default();
    let flow = flows.id("plant", Lane::Live);
    let hash = flows.get(flow).hash;
    let source = SourceInfo { name: "a".into(), labels: Vec::new() };
    let (collector, mut intakes) = collect::start(buffer, vec![source], flows).expect("a thread");
    let store = collector.store();
    let stats = store.stats();
    let intake = intakes.remove(0);
    let (position, gone) = (None, Vec::new());
    Gateway { collector, intake, store, stats, flow, hash, handed: 0, position, gone }
}

impl Gateway {
    async fn deliver(&mut self, dice: &mut Dice) -> Ticket {
        let length = if dice.once_in(2) { LARGE } else { 300 };
        let mut body = vec![0; usize::try_from(length).expect("it is small")];
        dice.fill(&mut body);
        let field =
            Field { name: "b".into(), unit: None, value: Value::Bytes(body.into()), quality: None };
        let event = Event {
            flow: self.flow,
            device: "d".into(),
            time: Timestamp(self.handed),
            read_at: None,
            quality: Quality::Good,
            fields: vec![field],
        };
        self.handed += 1;
        let delivery =
            Delivery { events: vec![event], bytes: 1, urgent: true, ..Delivery::default() };
        self.intake.deliver(delivery).await.expect("the writer lives")
    }

    /// What is stored, oldest first.
    fn stored(&self) -> Vec<i64> {
        let mut reader = self.store.reader().expect("the file can be read");
        let batches = reader.batches(self.hash, BatchId::default(), u32::MAX, usize::MAX);
        let mut times = Vec::new();
        for batch in batches.expect("the file can be read") {
            let walked = batch.events(|event| {
                times.push(event.time.0);
                Ok(())
            });
            walked.expect("a batch is whole");
        }
        times
    }

    /// Kafka has the oldest batch: it is deleted with the next commit.
    fn send_one(&mut self) {
        let mut reader = self.store.reader().expect("the file can be read");
        let batches = reader.batches(self.hash, BatchId::default(), 1, usize::MAX);
        let Some(batch) = batches.expect("the file can be read").into_iter().next() else { return };
        let position = self.position.get_or_insert_with(|| self.store.next_position(None, "kafka"));
        position.advance(self.hash, batch.epoch, batch.number);
        self.store.forget(position.clone(), "kafka").expect("the writer lives");
        batch
            .events(|event| {
                if !self.gone.contains(&event.time.0) {
                    self.gone.push(event.time.0);
                }
                Ok(())
            })
            .expect("a batch is whole");
    }

    /// Delivers until the medium errs, and until it is well again. Gives whether it was
    /// a commit that it erred at.
    async fn spell(&mut self, machine: &Machine, how: Trouble, dice: &mut Dice) -> bool {
        match how {
            Trouble::OneWrite => machine.ail(Ail::Write, dice.roll(400), 1),
            Trouble::OneSync => machine.ail(Ail::Sync, dice.roll(40), 1),
            Trouble::ReadOnly => machine.ail(Ail::Write, dice.roll(400), u64::MAX),
        }
        let mut failed = false;
        loop {
            if dice.once_in(4) {
                self.send_one();
            }
            let ticket = self.deliver(dice).await;
            let mut stats = self.stats.clone();
            let failing = async {
                let seen = stats.wait_for(|stats| stats.failing.is_some()).await;
                seen.expect("the writer lives").failing.clone()
            };
            let why = tokio::select! {
                biased;
                done = self.intake.wait_committed(ticket) => {
                    done.expect("the writer lives");
                    None
                }
                why = failing => why,
            };
            if let Some(why) = why {
                assert!(why.contains("I/O"), "it says why: {why}");
                // What is stored can be read and sent meanwhile.
                let stored = self.stored();
                if self.intake.committed() < ticket {
                    assert!(!stored.contains(&(self.handed - 1)), "it is not acknowledged");
                }
                failed = true;
                machine.heal();
                // No start anew: the same writer takes it in the end.
                self.intake.wait_committed(ticket).await.expect("the writer lives");
                let well = stats.wait_for(|stats| stats.failing.is_none()).await.map(drop);
                well.expect("the writer lives");
            }
            if machine.is_well() {
                return failed;
            }
        }
    }
}

/// Gives how many spells hit a commit.
fn live(seed: u64, how: Trouble) -> u64 {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut dice = Dice::new(seed);
    let folder = tempfile::tempdir().expect("a folder for the lock");
    let medium = Medium { sector: 4096, powersafe: true };
    let machine = Machine::boot(Disk::new(), medium, Fuse::Never);
    vfs::plug_in(folder.path(), &machine);
    let mut gateway = start(open(folder.path()));
    let mut failed = 0;
    for _ in 0..SPELLS {
        failed += u64::from(runtime.block_on(gateway.spell(&machine, how, &mut dice)));
    }
    assert!(!gateway.collector.is_damaged(), "an error of the medium is no damage");
    // The power goes; what was acknowledged is there or in Kafka.
    let disk = machine.cut(&mut dice);
    let Gateway { collector, handed, gone, position, .. } = gateway;
    drop(collector);
    vfs::plug_in(folder.path(), &Machine::boot(disk, medium, Fuse::Never));
    let buffer = open(folder.path());
    assert!(buffer.loss().is_none(), "the file is whole");
    let again = start(buffer);
    if let Some(position) = position {
        again.store.adopt(&position, "kafka").expect("the writer lives");
    }
    let left: Vec<i64> = (0..handed).filter(|number| !gone.contains(number)).collect();
    assert_eq!(again.stored(), left, "seed {seed}, {how:?}");
    again.collector.close();
    vfs::unplug(folder.path());
    failed
}

fn check(how: Trouble) {
    let lives: Vec<_> =
        (0..MACHINES).map(|seed| std::thread::spawn(move || live(seed, how))).collect();
    let failed: u64 = lives.into_iter().map(|life| life.join().expect("a life ends well")).sum();
    assert!(failed > MACHINES, "{failed} of {} spells hit a commit", MACHINES * SPELLS);
}

#[test]
fn a_medium_that_does_not_write_holds_the_sources_back_and_costs_nothing() {
    check(Trouble::OneWrite);
}

#[test]
fn a_medium_that_does_not_sync_holds_the_sources_back_and_costs_nothing() {
    check(Trouble::OneSync);
}

#[test]
fn a_disk_that_can_only_be_read_holds_the_sources_back_and_costs_nothing() {
    check(Trouble::ReadOnly);
}
