//! The file against a queue in memory: append, forget, open again, kill, full.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rusqlite::Connection;

use crate::buffer::{BatchId, Changes, Encoder, Epoch, File, Labels, Position, Reader, Sealed};
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
    Forget(usize, usize),
    Reopen,
    /// What stands on the disk at this moment is all that is left.
    Kill,
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

#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: BatchId,
    epoch: Epoch,
    number: u64,
    first_seq: u64,
    times: Vec<i64>,
}

const SOURCES: [&str; 2] = ["a", "b"];

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
                number: batch.number,
                first_seq: batch.first_seq,
                times,
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
    let step = prop_oneof![
        6 => group().prop_map(Step::Append),
        1 => group().prop_map(Step::Full),
        3 => (0..2_usize, 0..3_usize).prop_map(|(flow, n)| Step::Forget(flow, n)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..25)
}

/// What the file must hold.
#[derive(Debug, Default)]
struct Model {
    queues: [VecDeque<Row>; 2],
    saved: BTreeMap<&'static str, Checkpoint>,
    /// Sizes of the dead letters, oldest first, and how many had to go.
    dead: VecDeque<u64>,
    dropped: u64,
    committed: u64,
    time: i64,
    /// Of the running epoch.
    number: u64,
    seq: u64,
    used: BatchId,
}

impl Model {
    /// What a commit will have added to each flow.
    fn append(&mut self, file: &File, group: &Group) {
        for (queue, count) in self.queues.iter_mut().zip(group.events) {
            if count == 0 {
                continue;
            }
            self.number += 1;
            let running = file.epochs().last().unwrap();
            let row = Row {
                id: BatchId::new(running.ordinal, self.number),
                epoch: running.epoch,
                number: self.number,
                first_seq: self.seq + 1,
                times: (self.time..self.time + i64::from(count)).collect(),
            };
            self.time += i64::from(count);
            self.seq += u64::from(count);
            self.committed += u64::from(count);
            assert!(row.id > self.used, "an id came twice");
            self.used = row.id;
            queue.push_back(row);
        }
        self.saved.extend(
            group.saves.map(|(source, cursor)| (SOURCES[source], checkpoint(cursor, self.time))),
        );
        if let Some(letter) = group.dead.map(letter) {
            let size = letter.reason.len() + letter.origin.len() + letter.payload.len();
            self.dead.push_back(size as u64);
            while self.dead.iter().sum::<u64>() > SIZE / 8 {
                self.dead.pop_front();
                self.dropped += 1;
            }
        }
    }

    fn check(&self, file: &File, eyes: &mut Eyes, flows: [flow::Hash; 2]) {
        for (flow, queue) in flows.into_iter().zip(&self.queues) {
            assert_eq!(VecDeque::from(rows(&mut eyes.reader, flow)), *queue);
        }
        let totals = file.totals();
        let events: usize = self.queues.iter().flatten().map(|row| row.times.len()).sum();
        assert_eq!(totals.events, events as u64);
        assert_eq!(totals.batches, (self.queues[0].len() + self.queues[1].len()) as u64);
        assert_eq!(totals.committed, self.committed);
        assert_eq!(totals.dead_letters, self.dead.len() as u64);
        assert_eq!(totals.dead_bytes, self.dead.iter().sum::<u64>());
        assert_eq!(totals.dead_dropped, self.dropped);
        let mut letters = eyes
            .connection
            .prepare_cached(
                "SELECT length(reason) + length(origin) + length(payload)
                 FROM dead_letter ORDER BY id",
            )
            .unwrap();
        let letters = letters.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        let letters: VecDeque<u64> =
            letters.map(|length| length.unwrap().cast_unsigned()).collect();
        assert_eq!(letters, self.dead);
    }
}

/// What looks into the file beside the writer.
struct Eyes {
    reader: Reader,
    connection: Connection,
}

impl Eyes {
    fn open(folder: &Path) -> Self {
        let path = folder.join("buffer.db");
        let reader = Reader::open(&path).unwrap();
        Self { reader, connection: Connection::open(path).unwrap() }
    }
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
}

impl World {
    fn new() -> Self {
        let mut flows = Flows::default();
        let ids = [flows.id("one", Lane::Live), flows.id("two", Lane::Bulk)];
        let folder = folder();
        let file = open(folder.path());
        let position = next(&file, None);
        let eyes = Some(Eyes::open(folder.path()));
        Self { flows, ids, folder, file: Some(file), eyes, model: Model::default(), position }
    }

    fn file(&mut self) -> &mut File {
        self.file.as_mut().unwrap()
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
        let file = self.file.as_mut().unwrap();
        if full {
            file.most_pages(1);
            let error = file.commit(&changes, Timestamp(0)).unwrap_err();
            assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull), "{error}");
            file.most_pages(MOST_PAGES);
        } else {
            self.model.append(file, group);
            file.commit(&changes, Timestamp(0)).unwrap();
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Append(ref group) => self.append(group, false),
            Step::Full(ref group) => self.append(group, true),
            Step::Forget(flow, count) => {
                let hash = self.hashes()[flow];
                let queue = &mut self.model.queues[flow];
                let gone: Vec<Row> = queue.drain(..count.min(queue.len())).collect();
                if let Some(last) = gone.last() {
                    self.position.advance(hash, last.epoch, last.number);
                }
                let position = self.position.clone();
                let positions = vec![(&position, "kafka")];
                let changes = Changes { positions, ..Changes::default() };
                let adopted = self.file().commit(&changes, Timestamp(0)).unwrap();
                assert_eq!(adopted[0].deleted_batches, gone.len() as u64);
            }
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
    }
}
