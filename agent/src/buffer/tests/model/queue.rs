//! What the file must hold: the model beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rusqlite::Connection;

use super::{Group, SIZE, SOURCES, STREAMS, checkpoint, letter, rows};
use crate::buffer::usage::size;
use crate::buffer::{BatchId, Epoch, File, Reader, Reason, Skip};
use crate::collect::Checkpoint;
use crate::flow;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub id: BatchId,
    /// Where its events were numbered, and where it was written.
    pub epoch: Epoch,
    pub written: Epoch,
    pub number: u64,
    pub first_seq: u64,
    pub times: Vec<i64>,
    /// Numbers of those that are dead letters.
    pub buried: Vec<u64>,
}

impl Row {
    fn last_seq(&self) -> u64 {
        self.first_seq + self.times.len() as u64 - 1
    }
}

/// A dead letter with the event that can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub id: i64,
    pub size: u64,
    pub event: Option<Buried>,
}

#[derive(Debug, Clone)]
pub(super) struct Buried {
    pub flow: usize,
    pub place: BatchId,
    pub epoch: Epoch,
    pub seq: u64,
    pub time: i64,
}

/// What was dropped of a flow and an epoch, with the first and the last number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Gap {
    stream: &'static str,
    /// The places between which everything went, while it may grow; the file does not
    /// tell.
    between: Option<(BatchId, BatchId)>,
    epoch: u64,
    perhaps_sent: bool,
    events: u64,
    first: u64,
    last: u64,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub queues: [VecDeque<Row>; 2],
    pub saved: BTreeMap<&'static str, Checkpoint>,
    /// Oldest first, how many there ever were, and how many had to go.
    pub dead: VecDeque<Letter>,
    letters: i64,
    crowded_out: u64,
    committed: u64,
    pub time: i64,
    /// Of the running epoch.
    pub number: u64,
    pub seq: u64,
    used: BatchId,
    /// Places of what was put in again: its ids are counted apart.
    requeued: BTreeSet<BatchId>,
    gaps: Vec<Gap>,
    /// So many of the gaps are told.
    pub told: usize,
    dropped: BTreeMap<&'static str, u64>,
}

impl Model {
    fn place(&mut self, file: &File) -> (BatchId, Epoch) {
        self.number += 1;
        let running = file.epochs().last().unwrap();
        let id = BatchId::new(running.ordinal, self.number);
        assert!(id > self.used, "an id came twice");
        self.used = id;
        (id, running.epoch)
    }

    /// What a commit will have added to each flow.
    pub(super) fn append(&mut self, file: &File, group: &Group) {
        for (flow, count) in group.events.into_iter().enumerate() {
            if count == 0 {
                continue;
            }
            let (id, epoch) = self.place(file);
            let times = (self.time..self.time + i64::from(count)).collect();
            let (number, first_seq) = (self.number, self.seq + 1);
            let buried = Vec::new();
            let row = Row { id, epoch, written: epoch, number, first_seq, times, buried };
            self.time += i64::from(count);
            self.seq += u64::from(count);
            self.committed += u64::from(count);
            self.queues[flow].push_back(row);
        }
        self.saved.extend(
            group.saves.map(|(source, cursor)| (SOURCES[source], checkpoint(cursor, self.time))),
        );
        if let Some(letter) = group.dead.map(letter) {
            let size = letter.reason.len() + letter.origin.len() + letter.payload.len();
            self.bury(size as u64, None);
        }
    }

    /// The newest letters stay. An event is buried once.
    pub(super) fn bury(&mut self, size: u64, event: Option<Buried>) {
        if let Some(event) = &event {
            let row = self.queues[event.flow].iter_mut().find(|row| row.id == event.place);
            let row = row.expect("what is refused was read");
            if row.buried.contains(&event.seq) {
                return;
            }
            row.buried.push(event.seq);
            row.buried.sort_unstable();
        }
        self.letters += 1;
        self.dead.push_back(Letter { id: self.letters, size, event });
        while self.dead.iter().map(|letter| letter.size).sum::<u64>() > SIZE / 8 {
            let gone = self.dead.pop_front().unwrap();
            self.unmark(&gone);
            self.crowded_out += 1;
        }
    }

    /// Without its letter an event is sent, if its batch is still there.
    fn unmark(&mut self, letter: &Letter) {
        if let Some(event) = &letter.event {
            let rows = self.queues[event.flow].iter_mut();
            for row in rows.filter(|row| row.id == event.place) {
                row.buried.retain(|seq| *seq != event.seq);
            }
        }
    }

    /// What becomes of the letter with this id.
    pub(super) fn requeue(&mut self, file: &File, id: i64) -> Option<Skip> {
        let Some(at) = self.dead.iter().position(|letter| letter.id == id) else {
            return Some(Skip::Unknown);
        };
        let Some(event) = self.dead[at].event.clone() else { return Some(Skip::NoEvent) };
        if self.queues[event.flow].iter().any(|row| row.id == event.place) {
            return Some(Skip::StillSending);
        }
        self.dead.remove(at);
        let (id, written) = self.place(file);
        self.requeued.insert(id);
        self.queues[event.flow].push_back(Row {
            id,
            epoch: event.epoch,
            written,
            number: self.number,
            first_seq: event.seq,
            times: vec![event.time],
            buried: Vec::new(),
        });
        None
    }

    /// The oldest unpinned places of these flows: all of one class before the next.
    pub(super) fn oldest(
        &self,
        classes: &[Vec<usize>],
        pins: [BatchId; 2],
        count: usize,
    ) -> Vec<BatchId> {
        let mut found = Vec::new();
        for class in classes {
            let of = |flow: &usize| {
                let pin = pins[*flow];
                self.queues[*flow].iter().map(|row| row.id).filter(move |id| *id > pin)
            };
            let mut ids: Vec<BatchId> = class.iter().flat_map(of).collect();
            ids.sort_unstable();
            found.extend(ids);
        }
        found.truncate(count);
        found
    }

    pub(super) fn evict(&mut self, doomed: &[BatchId], pins: [BatchId; 2], running: Epoch) {
        for (flow, stream) in STREAMS.into_iter().enumerate() {
            let queue = std::mem::take(&mut self.queues[flow]);
            let (gone, left) = queue.into_iter().partition(|row| doomed.contains(&row.id));
            self.queues[flow] = left;
            let gone = Vec::<Row>::from(gone);
            let Some(newest) = gone.last().map(|row| row.id) else { continue };
            let mut parts = BTreeMap::new();
            for row in gone {
                let earlier = row.written != running;
                let again = self.requeued.contains(&row.id);
                let (first, last) = (row.first_seq, row.last_seq());
                let gap = parts.entry((row.written.0, row.epoch.0, again)).or_insert(Gap {
                    stream,
                    between: Some((pins[flow], row.id)),
                    epoch: row.epoch.0,
                    perhaps_sent: earlier && pins[flow] == BatchId::default(),
                    events: 0,
                    first,
                    last,
                });
                gap.events += (row.times.len() - row.buried.len()) as u64;
                (gap.first, gap.last) = (gap.first.min(first), gap.last.max(last));
                gap.between = Some((pins[flow], newest));
            }
            for gap in parts.into_values().filter(|gap| gap.events > 0) {
                *self.dropped.entry(stream).or_default() += gap.events;
                self.note(gap);
            }
        }
    }

    /// One more, or more of the last of its kind, if nothing stands between and it
    /// is not told yet.
    fn note(&mut self, gap: Gap) {
        let same = |known: &&mut Gap| {
            (known.stream, known.epoch, known.perhaps_sent)
                == (gap.stream, gap.epoch, gap.perhaps_sent)
        };
        let last = self.gaps.iter_mut().skip(self.told).rev().find(same);
        let begin = |gap: &Gap| gap.between.map(|(after, _)| after);
        let adjoins = |known: &&mut Gap| known.between.is_some() && begin(known) == begin(&gap);
        let Some(known) = last.filter(adjoins) else {
            self.gaps.push(gap);
            return;
        };
        known.events += gap.events;
        (known.first, known.last) = (known.first.min(gap.first), known.last.max(gap.last));
        known.between = gap.between;
    }

    /// Kafka has this batch: nothing is dropped together with what stands before it.
    pub(super) fn sent(&mut self, flow: usize, batch: BatchId) {
        for gap in self.gaps.iter_mut().filter(|gap| gap.stream == STREAMS[flow]) {
            gap.between = gap.between.filter(|(_, last)| batch <= *last);
        }
    }

    /// All gaps are told from now on. Gives their number.
    pub(super) fn tell(&mut self) -> i64 {
        self.told = self.gaps.len();
        self.told.try_into().unwrap()
    }

    pub(super) fn check(&self, file: &File, eyes: &mut Eyes, flows: [flow::Hash; 2]) {
        for (flow, queue) in flows.into_iter().zip(&self.queues) {
            assert_eq!(VecDeque::from(rows(&mut eyes.reader, flow)), *queue);
            assert_eq!(file.usage(flow), eyes.usage(flow), "bytes of a flow");
        }
        let totals = file.totals();
        let events: usize = self.queues.iter().flatten().map(|row| row.times.len()).sum();
        assert_eq!(totals.events, events as u64);
        assert_eq!(totals.batches, (self.queues[0].len() + self.queues[1].len()) as u64);
        assert_eq!(totals.committed, self.committed);
        assert_eq!(totals.dead_letters, self.dead.len() as u64);
        assert_eq!(totals.dead_bytes, self.dead.iter().map(|letter| letter.size).sum::<u64>());
        assert_eq!(totals.dead_dropped, self.crowded_out);
        let letters: Vec<(i64, u64)> =
            self.dead.iter().map(|letter| (letter.id, letter.size)).collect();
        assert_eq!(eyes.letters(), letters);
        let dropped = file.dropped().iter().map(|one| {
            assert_eq!(one.reason, Reason::Size);
            (&*one.stream, one.events)
        });
        assert!(dropped.eq(self.dropped.iter().map(|(stream, events)| (*stream, *events))));
        let seen = |gap: &Gap| Gap { between: None, ..gap.clone() };
        let mut gaps: Vec<Gap> = self.gaps.iter().map(seen).collect();
        gaps.sort();
        assert_eq!(eyes.gaps(), gaps);
    }
}

/// What looks into the file beside the writer.
pub(super) struct Eyes {
    pub reader: Reader,
    connection: Connection,
}

impl Eyes {
    pub(super) fn open(folder: &std::path::Path) -> Self {
        let path = folder.join("buffer.db");
        let reader = Reader::open(&path).unwrap();
        Self { reader, connection: Connection::open(path).unwrap() }
    }

    /// Bytes of a row, as a flow's are counted.
    pub(super) fn size(&self, id: BatchId) -> u64 {
        let mut length =
            self.connection.prepare_cached("SELECT length(data) FROM batch WHERE id = ?1").unwrap();
        let length: i64 = length.query_row([id.0], |row| row.get(0)).unwrap();
        size(1, length.cast_unsigned())
    }

    fn usage(&self, flow: flow::Hash) -> u64 {
        let mut sum = self
            .connection
            .prepare_cached(
                "SELECT count(*), coalesce(sum(length(data)), 0) FROM batch WHERE flow = ?1",
            )
            .unwrap();
        let (rows, data): (i64, i64) =
            sum.query_row([flow.0], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        size(rows.cast_unsigned(), data.cast_unsigned())
    }

    fn letters(&self) -> Vec<(i64, u64)> {
        let mut letters = self
            .connection
            .prepare_cached(
                "SELECT id, length(reason) + length(origin) + length(payload)
                     + coalesce((SELECT length(data) FROM dead_event WHERE letter = id), 0)
                 FROM dead_letter ORDER BY id",
            )
            .unwrap();
        let rows = letters.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).unwrap();
        rows.map(|row| row.map(|(id, size)| (id, size.cast_unsigned())).unwrap()).collect()
    }

    fn gaps(&self) -> Vec<Gap> {
        let found = self.reader.gaps(0).unwrap().into_iter().map(|gap| {
            let ids = gap.ids.expect("what is dropped from the file has ids");
            let stream = STREAMS.into_iter().find(|stream| *stream == gap.what.stream).unwrap();
            Gap {
                stream,
                between: None,
                epoch: ids.epoch.0,
                perhaps_sent: gap.perhaps_sent,
                events: gap.what.events,
                first: ids.first,
                last: ids.last,
            }
        });
        let mut found: Vec<Gap> = found.collect();
        found.sort();
        found
    }
}
