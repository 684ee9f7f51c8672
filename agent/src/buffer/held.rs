//! Batches that stand in memory: `write = "when_needed"` writes them only where
//! Kafka does not commit them soon (SAFETY 22).
//!
//! The invariants:
//! - they have the numbers and ids that they keep in the file;
//! - a flow that has some has no rows in the file: the file's are sent first, so
//!   that a position never passes a batch that was not sent;
//! - they go into the file all together, or one by one because a position covers
//!   them; nothing is dropped here.
//!
//! Only the writer adds and takes away; the forwarder reads beside it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Batch, BatchId, FileEpoch, Position};
use crate::event::Timestamp;
use crate::flow::{self, Lane, Stream};

/// Bytes that may stand in memory: some seconds of a busy gateway, and
/// no more than waits before the writer. What comes beyond is written.
pub(crate) const MOST_HELD: usize = 4 * 1024 * 1024;

/// About what a row takes beside its events, here and with the group that it came in:
/// a thousand small ones are more than their bytes.
const ROW: usize = 512;

/// What stands in memory now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InMemory {
    pub batches: u64,
    pub events: u64,
    pub bytes: u64,
}

/// A batch, and what its row needs besides.
#[derive(Debug)]
pub(crate) struct Row {
    pub batch: Batch,
    pub lane: Lane,
    pub stream: Arc<Stream>,
    /// Time of its oldest event.
    pub oldest: Timestamp,
}

/// The rows in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Held {
    rows: VecDeque<Arc<Row>>,
    bytes: usize,
}

impl Held {
    /// Behind all that is here.
    pub(crate) fn push(&mut self, row: Row) {
        debug_assert!(self.rows.back().is_none_or(|last| last.batch.id < row.batch.id));
        self.bytes += Self::size(row.batch.events.len());
        self.rows.push_back(Arc::new(row));
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a batch of so many bytes takes.
    pub(crate) const fn size(events: usize) -> usize {
        events + ROW
    }

    /// The oldest that is neither written nor known to be in Kafka.
    pub(crate) fn first(&self) -> Option<&Batch> {
        self.rows.front().map(|row| &row.batch)
    }

    /// They stand in the file now.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Lets go what the position covers, by the rule that the file deletes by. Gives
    /// the number of events.
    pub(crate) fn forget(&mut self, position: &Position, epochs: &[FileEpoch]) -> u64 {
        let (mut events, bytes) = (0, &mut self.bytes);
        self.rows.retain(|row| {
            let Batch { flow, id, count, .. } = &row.batch;
            let covered = position.covered(*flow, epochs);
            let stays = !covered.iter().any(|(first, last)| (first..=last).contains(&id));
            if !stays {
                events += u64::from(*count);
                *bytes -= Self::size(row.batch.events.len());
            }
            stays
        });
        events
    }

    /// As [`Reader::batches`](super::Reader::batches).
    pub(super) fn batches(
        &self,
        flow: flow::Hash,
        after: BatchId,
        max_events: u32,
        max_bytes: usize,
    ) -> Vec<Batch> {
        let (mut found, mut events, mut bytes) = (Vec::new(), 0_u32, 0_usize);
        let of = self.rows.iter().map(|row| &row.batch);
        for batch in of.filter(|batch| batch.flow == flow && batch.id > after) {
            events = events.saturating_add(batch.count);
            bytes = bytes.saturating_add(batch.events.len());
            if !found.is_empty() && (events > max_events || bytes > max_bytes) {
                break;
            }
            found.push(batch.clone());
        }
        found
    }

    /// The flows that have some, by their newest definition.
    pub(super) fn flows(&self) -> Vec<(flow::Hash, Lane, Arc<Stream>)> {
        let mut flows: Vec<(flow::Hash, Lane, Arc<Stream>)> = Vec::new();
        for row in self.rows.iter().rev() {
            let flow = row.batch.flow;
            if !flows.iter().any(|(known, ..)| *known == flow) {
                flows.push((flow, row.lane, Arc::clone(&row.stream)));
            }
        }
        flows
    }

    #[cfg(test)]
    pub(crate) fn put_before(&mut self, mut before: Self) {
        before.rows.append(&mut self.rows);
        before.bytes += self.bytes;
        *self = before;
    }

    pub(crate) fn count(&self) -> InMemory {
        let events = self.rows.iter().map(|row| u64::from(row.batch.count)).sum();
        InMemory { batches: self.rows.len() as u64, events, bytes: self.bytes as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Epoch;

    fn row(number: u64, stream: &str) -> Row {
        let lane = Lane::Live;
        let batch = Batch {
            id: BatchId::new(1, number),
            gateway: "gw1".into(),
            epoch: Epoch(7),
            written: Epoch(7),
            number,
            flow: flow::Hash::of(stream, lane),
            first_seq: number * 10,
            count: 10,
            buried: Vec::new(),
            events: vec![0; 100],
        };
        let stream = Stream { name: stream.into(), topic: stream.into(), create: None };
        Row { batch, lane, stream: Arc::new(stream), oldest: Timestamp(0) }
    }

    fn epochs() -> Vec<FileEpoch> {
        vec![FileEpoch { ordinal: 1, epoch: Epoch(7), gateway: "gw1".into(), last: None }]
    }

    fn numbers(held: &Held) -> Vec<u64> {
        held.rows().map(|row| row.batch.number).collect()
    }

    #[test]
    fn a_position_lets_go_of_each_flow_what_it_covers_and_no_more() {
        let mut held = Held::default();
        for (number, stream) in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "a")] {
            held.push(row(number, stream));
        }
        let mut position = Position::continued(None, "gw1", "kafka", &epochs());
        assert_eq!(held.forget(&position, &epochs()), 0);
        position.advance(flow::Hash::of("a", Lane::Live), Epoch(7), 3);
        assert_eq!(held.forget(&position, &epochs()), 20);
        assert_eq!((numbers(&held), held.bytes()), (vec![2, 4, 5], 3 * (100 + ROW)));
        // Another file's epoch says nothing about what stands here.
        position.advance(flow::Hash::of("b", Lane::Live), Epoch(9), 4);
        assert_eq!(held.forget(&position, &epochs()), 0);
        assert_eq!(
            held.count(),
            InMemory { batches: 3, events: 30, bytes: 3 * (100 + ROW as u64) }
        );
    }

    #[test]
    fn what_is_read_stays_within_the_bounds_and_is_at_least_one() {
        let mut held = Held::default();
        for number in 1..=4 {
            held.push(row(number, "a"));
        }
        let flow = flow::Hash::of("a", Lane::Live);
        let read = |after, events, bytes| -> Vec<u64> {
            let batches = held.batches(flow, BatchId::new(1, after), events, bytes);
            batches.iter().map(|batch| batch.number).collect()
        };
        assert_eq!(read(0, u32::MAX, usize::MAX), [1, 2, 3, 4]);
        assert_eq!(read(2, 1, 1), [3]);
        assert_eq!(read(0, 20, usize::MAX), [1, 2]);
        assert_eq!(read(0, u32::MAX, 250), [1, 2]);
        assert_eq!(read(4, u32::MAX, usize::MAX), [0; 0]);
    }
}
