//! The file against a queue in memory: append, forget, drop, bury, requeue, tell,
//! open again, kill, and each of the writes on a disk that is full.

mod queue;

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use self::queue::{Buried, Eyes, Model, Row};
use crate::buffer::{
    BatchId, Burial, Changes, Demand, Done, Encoder, Errand, File, Labels, Pins, Position, Reader,
    Reason, Sealed, verify,
};
use crate::collect::{Checkpoint, DeadLetter};
use crate::event::{Event, Field, Quality, Timestamp, Value};
use crate::flow::{self, Flows, Lane};

#[derive(Debug, Clone)]
enum Step {
    /// One commit.
    Append(Group),
    /// The same on a disk that is full: it fails.
    Full(Group),
    /// The flow's oldest batches are in Kafka.
    Forget {
        flow: usize,
        count: usize,
        full: bool,
    },
    /// The forwarder has read so many of the flow's batches: they are pinned.
    Load {
        flow: usize,
        count: usize,
    },
    /// So many of the oldest batches that are not pinned go for room.
    Evict {
        of: Class,
        count: usize,
        full: bool,
    },
    /// What was dropped is told: it does not grow any more.
    Tell,
    /// Kafka refused an event of one of the flow's first batches.
    Refuse {
        flow: usize,
        batch: usize,
        event: usize,
    },
    /// One of the dead letters, or one that is not there, is to be sent again.
    Requeue {
        letter: usize,
        full: bool,
    },
    Reopen,
    /// What stands on the disk at this moment is all that is left.
    Kill,
}

/// Whose batches may go.
#[derive(Debug, Clone, Copy)]
enum Class {
    One,
    Both,
    SecondFirst,
}

impl Class {
    fn flows(self) -> Vec<Vec<usize>> {
        match self {
            Self::One => vec![vec![0]],
            Self::Both => vec![vec![0, 1]],
            Self::SecondFirst => vec![vec![1], vec![0]],
        }
    }
}

/// What a commit brings.
#[derive(Debug, Clone)]
struct Group {
    /// So many events of the first flow and of the second.
    events: [u8; 2],
    /// The source that saves something, and whether that is a cursor.
    saves: Option<(usize, bool)>,
    /// Length of a dead letter's payload.
    dead: Option<usize>,
}

const SOURCES: [&str; 2] = ["a", "b"];
const STREAMS: [&str; 2] = ["one", "two"];

/// Dead letters may take an eighth of it, which is 2 KiB: a few of them.
const SIZE: u64 = 16 * 1024;

/// Bytes of an event that a full disk has no room for, and that no zstd makes
/// smaller than the pages that deletes have left.
const LARGE: usize = 400_000;

/// What `SQLite` allows where nobody asks for less.
const MOST_PAGES: u32 = 4_294_967_294;

fn open(folder: &Path) -> File {
    let mut file = File::open(&folder.join("buffer.db"), "gw1").unwrap();
    file.limit(SIZE).unwrap();
    file
}

fn event(flow: flow::Id, time: i64) -> Event {
    Event {
        flow,
        device: "d".into(),
        time: Timestamp(time),
        read_at: None,
        quality: Quality::Good,
        fields: Vec::new(),
    }
}

fn large(flow: flow::Id) -> Event {
    let mut random = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        random.to_be_bytes()[0]
    })
    .take(LARGE)
    .collect();
    let value = Value::Bytes(bytes.into());
    let fields = vec![Field { name: "n".into(), unit: None, value, quality: None }];
    Event { fields, ..event(flow, 0) }
}

fn rows(reader: &mut Reader, flow: flow::Hash) -> Vec<Row> {
    let batches = reader.batches(flow, BatchId(0), u32::MAX, usize::MAX).unwrap();
    batches
        .into_iter()
        .map(|batch| {
            let mut times = Vec::new();
            batch
                .events(|event| {
                    times.push(event.time.0);
                    Ok(())
                })
                .unwrap();
            assert_eq!(batch.count as usize, times.len());
            Row {
                id: batch.id,
                epoch: batch.epoch,
                written: batch.written,
                number: batch.number,
                first_seq: batch.first_seq,
                times,
                buried: batch.buried,
            }
        })
        .collect()
}

/// In memory, where there is such a folder: thousands of histories sync tens
/// of thousands of times, and what a sync is worth is for `tests/cuts`.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn copied(from: &Path) -> tempfile::TempDir {
    let folder = folder();
    for name in ["buffer.db", "buffer.db-wal"] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn next(file: &File, kafka: Option<&Position>) -> Position {
    Position::continued(kafka, "gw1", "kafka", file.epochs())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = || {
        let saves = prop::option::of((0..SOURCES.len(), any::<bool>()));
        let dead = prop::option::weighted(0.3, 0..700_usize);
        ((0..4_u8, 0..4_u8), saves, dead).prop_map(|((a, b), saves, dead)| Group {
            events: [a, b],
            saves,
            dead,
        })
    };
    let flow = || 0..2_usize;
    let class = prop_oneof![Just(Class::One), Just(Class::Both), Just(Class::SecondFirst)];
    let full = || prop::bool::weighted(0.2);
    let step = prop_oneof![
        8 => group().prop_map(Step::Append),
        1 => group().prop_map(Step::Full),
        3 => (flow(), 0..3_usize, full())
            .prop_map(|(flow, count, full)| Step::Forget { flow, count, full }),
        1 => (flow(), 0..3_usize).prop_map(|(flow, count)| Step::Load { flow, count }),
        2 => (class, 1..4_usize, full())
            .prop_map(|(of, count, full)| Step::Evict { of, count, full }),
        1 => Just(Step::Tell),
        3 => (flow(), 0..2_usize, 0..3_usize)
            .prop_map(|(flow, batch, event)| Step::Refuse { flow, batch, event }),
        3 => (0..5_usize, full()).prop_map(|(letter, full)| Step::Requeue { letter, full }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..30)
}

fn checkpoint(cursor: bool, time: i64) -> Checkpoint {
    let bytes = time.to_be_bytes().as_slice().into();
    if cursor { Checkpoint::Cursor(bytes) } else { Checkpoint::Session(bytes) }
}

fn letter(length: usize) -> DeadLetter {
    DeadLetter {
        reason: "refused".to_owned(),
        origin: "a".to_owned(),
        payload: vec![7; length],
        length: length as u64,
    }
}

/// A gateway that does what the steps say, beside the model.
struct World {
    flows: Flows,
    ids: [flow::Id; 2],
    folder: tempfile::TempDir,
    file: Option<File>,
    eyes: Option<Eyes>,
    model: Model,
    position: Position,
    pins: Pins,
}

impl World {
    fn new() -> Self {
        let mut flows = Flows::default();
        let ids = [flows.id(STREAMS[0], Lane::Live), flows.id(STREAMS[1], Lane::Bulk)];
        let folder = folder();
        let file = open(folder.path());
        let position = next(&file, None);
        let eyes = Some(Eyes::open(folder.path()));
        let model = Model::default();
        let pins = Pins::default();
        Self { flows, ids, folder, file: Some(file), eyes, model, position, pins }
    }

    /// Writes; on a full disk it may fail, and then nothing of it has happened.
    fn write<T>(
        &mut self,
        full: bool,
        what: impl FnOnce(&mut File) -> Result<T, rusqlite::Error>,
    ) -> Option<T> {
        let file = self.file.as_mut().unwrap();
        if full {
            file.most_pages(1);
        }
        let written = what(file);
        file.most_pages(MOST_PAGES);
        match written {
            Ok(done) => Some(done),
            Err(error) => {
                let code = error.sqlite_error_code();
                assert!(full && code == Some(rusqlite::ErrorCode::DiskFull), "{error}");
                None
            }
        }
    }

    fn hashes(&self) -> [flow::Hash; 2] {
        self.ids.map(|id| self.flows.get(id).hash)
    }

    fn append(&mut self, group: &Group, full: bool) {
        let labels: Labels = Arc::from([]);
        let mut time = self.model.time;
        let mut batches = Vec::new();
        for (id, count) in self.ids.into_iter().zip(group.events) {
            let mut encoder = Encoder::default();
            for _ in 0..count {
                encoder.add(0, &labels, &event(id, time));
                time += 1;
            }
            if full {
                encoder.add(0, &labels, &large(id));
            }
            if encoder.count() > 0 {
                batches.push((id, encoder));
            }
        }
        let saved = group.saves.map(|(source, cursor)| (SOURCES[source], checkpoint(cursor, time)));
        let dead = group.dead.map(letter);
        let flows = self.flows.clone();
        let changes = Changes {
            batches: batches
                .iter()
                .map(|(id, events)| Sealed { flow: flows.get(*id), events })
                .collect(),
            saved: saved.iter().map(|(source, saved)| (*source, saved)).collect(),
            dead: dead.iter().collect(),
            ..Changes::default()
        };
        if full {
            let file = self.file.as_mut().unwrap();
            file.most_pages(1);
            let error = file.commit(&changes, Timestamp(0)).unwrap_err();
            assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull), "{error}");
            file.most_pages(MOST_PAGES);
        } else {
            let file = self.file.as_mut().unwrap();
            self.model.append(file, group);
            file.commit(&changes, Timestamp(0)).unwrap();
        }
    }

    fn forget(&mut self, flow: usize, count: usize, full: bool) {
        let hash = self.hashes()[flow];
        let count = count.min(self.model.queues[flow].len());
        let mut position = self.position.clone();
        if let Some(at) = count.checked_sub(1) {
            let last = &self.model.queues[flow][at];
            position.advance(hash, last.written, last.number);
        }
        let adopted = self.write(full, |file| {
            let positions = vec![(&position, "kafka")];
            file.commit(&Changes { positions, ..Changes::default() }, Timestamp(0))
        });
        if let Some(adopted) = adopted {
            assert_eq!(adopted[0].deleted_batches, count as u64);
            let last = self.model.queues[flow].drain(..count).next_back();
            if let Some(last) = last {
                self.model.sent(flow, last.id);
            }
            self.position = position;
        }
    }

    fn pinned(&self) -> [BatchId; 2] {
        self.hashes().map(|hash| self.pins.loaded.get(&hash).copied().unwrap_or_default())
    }

    fn evict(&mut self, of: Class, count: usize, full: bool) {
        let (classes, pins) = (of.flows(), self.pinned());
        let doomed = self.model.oldest(&classes, pins, count);
        let eyes = self.eyes.as_ref().unwrap();
        // A byte more than all but the last of them have: that one goes too.
        let but_one = &doomed[..doomed.len().saturating_sub(1)];
        let bytes = but_one.iter().map(|id| eyes.size(*id)).sum::<u64>() + 1;
        let hashes = self.hashes();
        let name = |flow: &usize| (hashes[*flow], STREAMS[*flow].to_owned());
        let of = classes.iter().map(|class| class.iter().map(name).collect()).collect();
        let demand = Demand { reason: Reason::Size, bytes, of };
        let pinned = std::mem::take(&mut self.pins);
        let gone = self.write(full, |file| file.evict(&demand, &pinned));
        self.pins = pinned;
        if let Some(gone) = gone {
            assert_eq!(gone, doomed.len() as u64);
            let running = self.file.as_ref().unwrap().epochs().last().unwrap().epoch;
            self.model.evict(&doomed, pins, running);
        }
    }

    /// As the forwarder does it: with the event as the batch has it.
    fn refuse(&mut self, flow: usize, batch: usize, event: usize) {
        let hash = self.hashes()[flow];
        let eyes = self.eyes.as_mut().unwrap();
        let batches = eyes.reader.batches(hash, BatchId(0), u32::MAX, usize::MAX).unwrap();
        let Some(batch) = batches.get(batch) else { return };
        let row = &self.model.queues[flow].iter().find(|row| row.id == batch.id).unwrap();
        let at = event % row.times.len();
        let seq = row.first_seq + at as u64;
        let buried = Buried { flow, place: row.id, epoch: row.epoch, seq, time: row.times[at] };
        let refused = batch.refused(seq).unwrap();
        let letter = letter(100);
        let size = letter.reason.len() + letter.origin.len() + letter.payload.len();
        let size = (size + refused.data.len()) as u64;
        let burial = Burial { letter, event: Some(refused) };
        let changes = Changes { buried: vec![&burial], ..Changes::default() };
        self.file.as_mut().unwrap().commit(&changes, Timestamp(0)).unwrap();
        self.model.bury(size, Some(buried));
    }

    fn requeue(&mut self, letter: usize, full: bool) {
        let id = self.model.dead.get(letter).map_or(i64::MAX, |letter| letter.id);
        let flows = self.flows.clone();
        let errand = Errand::Requeue(vec![id]);
        let done = self.write(full, |file| file.errand(&errand, &flows, |_, _| true));
        if let Some(done) = done {
            let skip = self.model.requeue(self.file.as_ref().unwrap(), id);
            let skipped: Vec<_> = skip.map(|skip| (id, skip)).into_iter().collect();
            assert_eq!(done, Done { done: u64::from(skipped.is_empty()), skipped });
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Append(ref group) => self.append(group, false),
            Step::Full(ref group) => self.append(group, true),
            Step::Forget { flow, count, full } => self.forget(flow, count, full),
            Step::Load { flow, count } => {
                let last = count.checked_sub(1).and_then(|at| self.model.queues[flow].get(at));
                if let Some(last) = last.map(|row| row.id) {
                    self.pins.loaded.insert(self.hashes()[flow], last);
                }
            }
            Step::Evict { of, count, full } => self.evict(of, count, full),
            Step::Tell => self.pins.told = self.model.tell(),
            Step::Refuse { flow, batch, event } => self.refuse(flow, batch, event),
            Step::Requeue { letter, full } => self.requeue(letter, full),
            Step::Reopen | Step::Kill => {
                if matches!(step, Step::Kill) {
                    self.folder = copied(self.folder.path());
                }
                // Who closes last empties the WAL into the file.
                self.eyes = None;
                self.file = None;
                let file = open(self.folder.path());
                for source in SOURCES {
                    assert_eq!(file.saved(source), self.model.saved.get(source), "{source}");
                }
                let kafka = file.memory().position.clone();
                self.position = next(&file, kafka.as_ref());
                self.file = Some(file);
                self.eyes = Some(Eyes::open(self.folder.path()));
                (self.model.number, self.model.seq) = (0, 0);
                self.pins = Pins { told: self.model.tell(), ..Pins::default() };
            }
        }
        let hashes = self.hashes();
        let file = self.file.as_ref().unwrap();
        self.model.check(file, self.eyes.as_mut().unwrap(), hashes);
    }
}

proptest! {
    #![proptest_config(super::cases(2_000))]

    #[test]
    fn the_file_is_the_queue_that_a_model_is(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.run(&step);
        }
        let verified = verify(&world.folder.path().join("buffer.db"), |_, _| {}).unwrap();
        assert_eq!(verified.wrong, [""; 0]);
    }
}
