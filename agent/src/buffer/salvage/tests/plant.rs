//! A file with all in it that a file can have.

use super::*;
use crate::buffer::evict::EARLIEST;
use crate::buffer::{Demand, Dropped, Pins, Reason};

/// What is done to a file before it is damaged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// One commit: events of the first flow and of the second, and bytes each.
    Append(u8, u8, u16),
    /// The first flow's batches up to the last are in Kafka.
    Forget,
    Bury(u8),
    /// The second flow's oldest batch makes room, and something is refused.
    Evict,
    /// What is stored is a day older.
    Mark,
    Reopen,
    /// All that stands in the -wal goes into the file.
    Checkpoint,
}

pub(super) const PLANT: &[Step] = &[
    Step::Append(3, 2, 400),
    Step::Append(1, 0, 9_000),
    Step::Forget,
    Step::Reopen,
    Step::Append(2, 5, 700),
    Step::Bury(3),
    Step::Append(0, 1, 30_000),
    Step::Checkpoint,
    Step::Append(4, 4, 1_500),
    Step::Mark,
    Step::Evict,
    Step::Reopen,
    Step::Append(2, 2, 2_000),
    Step::Append(2, 0, 100),
];

pub(super) struct Plant {
    pub(super) folder: tempfile::TempDir,
    /// Kept open, so that the -wal stays.
    pub(super) file: Option<File>,
    pub(super) flows: Flows,
    noise: u64,
    appended: u8,
    days: i64,
}

impl Plant {
    pub(super) fn new(steps: &[Step]) -> Self {
        let mut plant = Self {
            folder: tempfile::tempdir().unwrap(),
            file: None,
            flows: Flows::default(),
            noise: 0x2545_f491_4f6c_dd1d,
            appended: 0,
            days: 0,
        };
        plant.file = Some(open(&plant.path()));
        for step in steps {
            plant.step(*step);
        }
        plant
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("buffer.db")
    }

    pub(super) fn step(&mut self, step: Step) {
        let path = self.path();
        let flows = [self.flows.id("one", Lane::Live), self.flows.id("two", Lane::Bulk)];
        match step {
            Step::Append(first, second, bytes) => {
                let labels: Labels = Arc::from([]);
                let mut batches = Vec::new();
                for (flow, count) in flows.into_iter().zip([first, second]) {
                    let mut encoder = Encoder::default();
                    for _ in 0..count {
                        encoder.add(0, &labels, &event(flow, self.bytes(bytes)));
                    }
                    if count > 0 {
                        batches.push((flow, encoder));
                    }
                }
                self.appended += 1;
                let cursor = Checkpoint::Cursor([self.appended].as_slice().into());
                let session = Checkpoint::Session([self.appended].as_slice().into());
                let batches = batches
                    .iter()
                    .map(|(id, events)| Sealed { flow: self.flows.get(*id), events })
                    .collect();
                let saved = vec![("table", &cursor), ("broker", &session)];
                let changes = Changes { batches, saved, ..Changes::default() };
                self.file.as_mut().unwrap().commit(&changes, Timestamp(1)).unwrap();
            }
            Step::Forget => {
                let file = self.file.as_mut().unwrap();
                let kafka = file.memory().position.clone();
                let mut position =
                    Position::continued(kafka.as_ref(), "gw1", "kafka", file.epochs());
                let running = file.epochs().last().unwrap().epoch;
                let number = file.newest().number();
                position.advance(self.flows.get(flows[0]).hash, running, number);
                let changes =
                    Changes { positions: vec![(&position, "kafka")], ..Changes::default() };
                file.commit(&changes, Timestamp(1)).unwrap();
            }
            Step::Bury(count) => {
                let letter = DeadLetter {
                    reason: "no JSON".to_owned(),
                    origin: "broker/topic".to_owned(),
                    payload: self.bytes(6_000),
                    length: 6_000,
                };
                let changes =
                    Changes { dead: vec![&letter; usize::from(count)], ..Changes::default() };
                self.file.as_mut().unwrap().commit(&changes, Timestamp(1)).unwrap();
            }
            Step::Evict => {
                let flow = self.flows.get(flows[1]);
                let of = vec![vec![(flow.hash, flow.stream.name.clone())]];
                let demand = Demand { reason: Reason::Size, bytes: 1, of };
                let file = self.file.as_mut().unwrap();
                let told = file.newest_gap().unwrap();
                file.evict(&demand, &Pins { told, ..Pins::default() }).unwrap();
                let refused = Dropped {
                    stream: flow.stream.name.clone(),
                    reason: Reason::Newest,
                    events: 3,
                    bytes: 30,
                };
                let changes = Changes { refused: vec![refused], told, ..Changes::default() };
                file.commit(&changes, Timestamp(1)).unwrap();
            }
            Step::Mark => {
                self.days += 1;
                let now = Timestamp(EARLIEST.0 + self.days * 86_400_000_000_000);
                let file = self.file.as_mut().unwrap();
                file.expire(now, EARLIEST, u64::MAX, &Pins::default()).unwrap();
            }
            Step::Reopen => {
                self.file = None;
                self.file = Some(open(&path));
            }
            Step::Checkpoint => {
                let other = Connection::open(&path).unwrap();
                other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            }
        }
    }

    /// Bytes that no compression makes smaller.
    fn bytes(&mut self, count: u16) -> Vec<u8> {
        let next = || {
            self.noise ^= self.noise << 13;
            self.noise ^= self.noise >> 7;
            self.noise ^= self.noise << 17;
            self.noise.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(usize::from(count)).collect()
    }

    /// What a power cut leaves now.
    pub(super) fn cut(&self) -> tempfile::TempDir {
        copied(self.folder.path())
    }
}

pub(super) fn open(path: &Path) -> File {
    File::open(path, "gw1").unwrap()
}

/// The page in which a table or an index begins, counted from 0.
pub(super) fn root(path: &Path, name: &str) -> usize {
    let query = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let other = Connection::open(path).unwrap();
    let root: u32 = other.query_row(query, [name], |row| row.get(0)).unwrap();
    root as usize - 1
}

fn event(flow: crate::flow::Id, bytes: Vec<u8>) -> Event {
    Event {
        flow,
        device: "d".into(),
        time: Timestamp(5),
        read_at: None,
        quality: Quality::Good,
        fields: vec![Field {
            name: "raw".into(),
            unit: None,
            value: FieldValue::Bytes(bytes.into()),
            quality: None,
        }],
    }
}

pub(super) fn copied(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["buffer.db", "buffer.db-wal"] {
        if from.join(name).try_exists().unwrap() {
            fs::copy(from.join(name), folder.path().join(name)).unwrap();
        }
    }
    folder
}

/// All rows of all tables, as text.
pub(super) fn rows(path: &Path) -> BTreeSet<String> {
    let connection = Connection::open(path).unwrap();
    let mut found = BTreeSet::new();
    for (table, columns) in [
        ("state", "key, hex(value)"),
        ("epoch", "ordinal, epoch, gateway, last"),
        ("stream", "flow, lane, definition"),
        ("batch", "id, flow, first_seq, count, raw, oldest, hex(cursors), hex(data)"),
        ("dead_letter", "id, at, reason, origin, length, hex(payload)"),
        ("dropped", "stream, reason, events, bytes"),
        (
            "gap",
            "id, stream, reason, events, bytes, quote(gateway), quote(epoch), quote(first_seq),
             quote(last_seq), perhaps_sent",
        ),
        ("mark", "id, at"),
        ("sqlite_sequence", "name, seq"),
    ] {
        let query = format!("SELECT concat_ws('|', {columns}) FROM {table}");
        let mut statement = connection.prepare(&query).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        found.extend(rows.map(|row| format!("{table}|{}", row.unwrap())));
    }
    found
}

pub(super) fn batches(path: &Path) -> BTreeSet<String> {
    rows(path).into_iter().filter(|row| row.starts_with("batch|")).collect()
}

/// Writes into a file at a place.
pub(super) fn overwrite(path: &Path, place: usize, bytes: &[u8]) {
    let mut whole = fs::read(path).unwrap();
    let end = whole.len().min(place + bytes.len());
    whole[place..end].copy_from_slice(&bytes[..end - place]);
    fs::write(path, whole).unwrap();
}
