//! Random histories of files and copies of them: no unsent batch is ever
//! covered, and everything that is left is sent in the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use crate::buffer::{BatchId, Epoch, FileEpoch, Position};
use crate::flow::Hash;

#[derive(Debug, Clone)]
enum Step {
    /// The process that runs on this disk ends, another begins.
    Open(usize),
    Append(usize, u32),
    /// A new producer: reads the position, deletes what it covers. Fences the
    /// producer of any other disk.
    Connect(usize),
    /// Sends so many batches of the flow, if it is not fenced.
    Send(usize, u32, usize),
    /// A copy of the disk as it is now; a process on it begins.
    Copy(usize),
    /// The power fails and the newest batches are gone with the WAL's end.
    Tear(usize, usize),
    NewDisk,
    /// Kafka forgets the position.
    Forgotten,
}

#[derive(Debug, Clone, Default)]
struct Disk {
    epochs: Vec<FileEpoch>,
    /// Number of the last batch of the running epoch.
    number: u64,
    batches: Vec<(BatchId, Hash)>,
    producer: Option<Position>,
}

#[derive(Debug, Default)]
struct World {
    drawn: u64,
    disks: Vec<Disk>,
    kafka: Option<Position>,
    sent: BTreeSet<(u64, u64)>,
    used: BTreeSet<(u64, u64)>,
}

const DISKS: usize = 4;

impl World {
    fn open(&mut self, disk: usize) {
        self.drawn += 1;
        let epoch = Epoch(self.drawn);
        let disk = &mut self.disks[disk];
        disk.producer = None;
        if let Some(running) = disk.epochs.last_mut() {
            running.last = Some(disk.number);
        }
        disk.number = 0;
        let ordinal = disk.epochs.last().map_or(1, |last| last.ordinal + 1);
        disk.epochs.push(FileEpoch { ordinal, epoch, gateway: Arc::from("gw"), last: None });
        // As the file does it: an epoch without batches is forgotten after a while.
        let batches = disk.batches.clone();
        disk.epochs.retain(|known| {
            known.ordinal > ordinal - 4
                || batches.iter().any(|(id, _)| id.ordinal() == known.ordinal)
        });
    }

    fn id(&self, disk: usize, batch: BatchId) -> (u64, u64) {
        let epochs = &self.disks[disk].epochs;
        let known = epochs.iter().find(|known| known.ordinal == batch.ordinal()).unwrap();
        (known.epoch.0, batch.number())
    }

    /// Deletes what is covered; each of it must have been sent.
    fn delete(&mut self, disk: usize, position: &Position) {
        for (batch, flow) in self.disks[disk].batches.clone() {
            let ranges = position.covered(flow, &self.disks[disk].epochs);
            if ranges.iter().any(|(first, last)| (*first..=*last).contains(&batch)) {
                let id = self.id(disk, batch);
                assert!(self.sent.contains(&id), "{id:?} was covered and never sent");
                self.disks[disk].batches.retain(|(other, _)| *other != batch);
            }
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Open(disk) => self.open(disk % self.disks.len()),
            Step::Append(disk, flow) => {
                let index = disk % self.disks.len();
                let disk = &mut self.disks[index];
                disk.number += 1;
                let running = disk.epochs.last().unwrap();
                let batch = BatchId::new(running.ordinal, disk.number);
                disk.batches.push((batch, Hash(flow)));
                let id = self.id(index, batch);
                assert!(self.used.insert(id), "{id:?} came twice");
            }
            Step::Connect(disk) => {
                let disk = disk % self.disks.len();
                if let Some(position) = self.kafka.clone() {
                    self.delete(disk, &position);
                }
                for other in &mut self.disks {
                    other.producer = None;
                }
                let next = Position::continued(
                    self.kafka.as_ref(),
                    "gw",
                    "kafka",
                    &self.disks[disk].epochs,
                );
                self.disks[disk].producer = Some(next);
            }
            Step::Send(disk, flow, count) => {
                let disk = disk % self.disks.len();
                let Some(mut position) = self.disks[disk].producer.take() else { return };
                let batches = self.disks[disk].batches.clone();
                for (batch, _) in batches.iter().filter(|(_, f)| f.0 == flow).take(count) {
                    let id = self.id(disk, *batch);
                    self.sent.insert(id);
                    position.advance(Hash(flow), Epoch(id.0), id.1);
                }
                let text = position.encode();
                self.kafka = Some(Position::parse(&text).unwrap());
                self.delete(disk, &position);
                self.disks[disk].producer = Some(position);
            }
            Step::Copy(disk) => {
                let copy = self.disks[disk % self.disks.len()].clone();
                if self.disks.len() < DISKS {
                    self.disks.push(copy);
                    self.open(self.disks.len() - 1);
                }
            }
            Step::Tear(disk, count) => {
                let index = disk % self.disks.len();
                let disk = &mut self.disks[index];
                let running = disk.epochs.last().unwrap().ordinal;
                disk.number = disk.number.saturating_sub(count as u64);
                let left = BatchId::new(running, disk.number);
                disk.batches.retain(|(batch, _)| *batch <= left);
                self.open(index);
            }
            Step::NewDisk => {
                if self.disks.len() < DISKS {
                    self.disks.push(Disk::default());
                    self.open(self.disks.len() - 1);
                }
            }
            Step::Forgotten => self.kafka = None,
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let disk = || 0..DISKS;
    let flow = || 0..2_u32;
    let step = prop_oneof![
        1 => disk().prop_map(Step::Open),
        6 => (disk(), flow()).prop_map(|(disk, flow)| Step::Append(disk, flow)),
        3 => disk().prop_map(Step::Connect),
        5 => (disk(), flow(), 1..4_usize).prop_map(|(disk, flow, n)| Step::Send(disk, flow, n)),
        1 => disk().prop_map(Step::Copy),
        1 => (disk(), 0..3_usize).prop_map(|(disk, n)| Step::Tear(disk, n)),
        1 => Just(Step::NewDisk),
        1 => Just(Step::Forgotten),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(super::cases(2_000))]

    #[test]
    fn no_unsent_batch_is_ever_covered_and_no_id_comes_twice(steps in steps()) {
        let mut world = World::default();
        world.run(&Step::NewDisk);
        for step in &steps {
            world.run(step);
        }
        // Each disk in turn is put into service until it is empty.
        for disk in 0..world.disks.len() {
            world.run(&Step::Open(disk));
            world.run(&Step::Connect(disk));
            for flow in 0..2 {
                world.run(&Step::Send(disk, flow, usize::MAX));
            }
            prop_assert!(world.disks[disk].batches.is_empty());
        }
    }
}
