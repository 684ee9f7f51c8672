//! What the file must know of batches that stand in memory: their numbers, and what
//! becomes of those when Kafka has them (SAFETY 22).
//!
//! The file names no number of its epoch as used while a batch with it is neither
//! written nor in Kafka. A copy of the file that goes on elsewhere tells where the
//! epoch ended in it, and the original lets go what stands before: it would delete
//! what only its own memory had when the copy was made.

use super::{File, Totals};
use crate::buffer::{Batch, BatchId, FileEpoch, Position, Row};
use crate::flow;

impl File {
    /// Gives a batch of so many events, which stays in memory, its numbers: those
    /// that it would have in the file. `make` makes it of its place and first seq.
    pub(crate) fn take_number(
        &mut self,
        count: u32,
        make: impl FnOnce(&FileEpoch, BatchId, u64) -> Row,
    ) -> Row {
        let (number, seq) = self.given();
        self.ahead = (number + 1, seq + u64::from(count));
        make(&self.running, BatchId::new(self.running.ordinal, number + 1), seq + 1)
    }

    /// The last numbers that were given.
    pub(super) fn given(&self) -> (u64, u64) {
        let Totals { number, seq, .. } = self.totals;
        (number.max(self.ahead.0), seq.max(self.ahead.1))
    }

    /// Kafka has committed so many events that stood in memory; `first` is the
    /// oldest batch that still does. To be told with the next commit.
    pub(crate) fn passed(&mut self, events: u64, first: Option<&Batch>) {
        self.totals.committed += events;
        let before = first.map(|first| (first.number - 1, first.first_seq - 1));
        (self.totals.number, self.totals.seq) = before.unwrap_or(self.given());
    }

    /// The newest batch that the flow has in the file.
    pub(crate) fn newest_of(&self, flow: flow::Hash) -> Result<Option<BatchId>, rusqlite::Error> {
        if self.totals.batches == 0 {
            return Ok(None);
        }
        let query = "SELECT max(id) FROM batch WHERE flow = ?1";
        let newest =
            self.connection.prepare_cached(query)?.query_row([flow.0], |row| row.get(0))?;
        Ok(Option::map(newest, BatchId))
    }

    /// Whether the position says of the file what it does not know yet: batches that
    /// may go, or that there is a position at all.
    pub(crate) fn is_news(
        &self,
        position: &Position,
        cluster: &str,
    ) -> Result<bool, rusqlite::Error> {
        let known =
            self.memory.position.is_some() && self.memory.cluster.as_deref() == Some(cluster);
        if !known || self.totals.batches == 0 {
            return Ok(!known);
        }
        let query = "SELECT 1 FROM batch WHERE flow = ?1 AND id BETWEEN ?2 AND ?3";
        let mut there = self.connection.prepare_cached(query)?;
        for flow in position.flows.keys() {
            for (first, last) in position.covered(*flow, &self.epochs) {
                if there.exists((flow.0, first.0, last.0))? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
