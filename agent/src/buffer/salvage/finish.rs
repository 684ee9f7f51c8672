//! What is put in order once all rows are in the new file: names of epochs,
//! cursors, what Kafka has already, totals, and what is missing.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension as _;

use super::{CURSORS_LOST, Kind, LOSS, MOST_STARTS, Salvage, Value, cells};
use crate::buffer::file::Totals;
use crate::buffer::usage::Usage;
use crate::buffer::{BatchId, FileEpoch, forget, state};

/// A batch of a start that lies further behind the last known one has a
/// damaged number: no file loses so many epochs and keeps the batches.
const MOST_UNKNOWN_STARTS: i64 = 1_000;

/// Ranges that are told: enough to see what is missing, short enough for a line.
const MOST_RANGES: usize = 16;

impl Salvage {
    pub(super) fn finish(&mut self, gateway: &str) -> Result<(), rusqlite::Error> {
        let before: Option<Totals> =
            state::get(&self.out, "totals")?.and_then(|text| serde_json::from_slice(&text).ok());
        self.name_epochs(gateway)?;
        for (source, (_, cursor)) in &self.cursors {
            // One that is of another type since has a session instead.
            if state::get(&self.out, &state::session_key(source))?.is_none() {
                self.state(&state::cursor_key(source), cursor)?;
            }
        }
        if self.loss.cursors_lost {
            state::put(&self.out, CURSORS_LOST, b"")?;
        }
        let epochs = state::epochs(&self.out)?;
        // Rows that were deleted show up again where the map of free pages is
        // damaged: what Kafka is known to have stays away.
        let memory = state::memory(&self.out)?;
        let position = memory.position.zip(memory.cluster);
        if let Some((position, cluster)) = &position {
            let counts = (&mut self.totals, &mut Usage::default());
            forget::forget(&self.out, &epochs, position, cluster, counts)?;
        }
        self.settle_letters()?;
        let missing = self.missing(&epochs)?;
        self.loss.batches = self.totals.batches;
        self.loss.events = self.totals.events;
        let here = (self.totals.batches + self.loss.unreadable, self.totals.events);
        self.loss.lost_batches = before.map(|b| b.batches.saturating_sub(here.0).max(missing));
        self.loss.lost_events = before.map(|b| b.events.saturating_sub(here.1));
        let newest = self.put_totals(before, &epochs)?;
        self.settle_rules(newest)?;
        Usage::recount(&self.out)?;
        let text = serde_json::to_string(&self.loss).unwrap_or_default();
        state::put(&self.out, LOSS, text.as_bytes())
    }

    /// Gives each start that has batches its epoch: as its row has it, else as
    /// the index has it, else a new one, so that nothing is lost.
    fn name_epochs(&mut self, gateway: &str) -> Result<(), rusqlite::Error> {
        let known = state::epochs(&self.out)?;
        let gateway = known.last().map_or(gateway, |last| &last.gateway);
        let newest = known.last().map(|last| last.ordinal);
        let newest = newest.or_else(|| self.epochs.keys().copied().max());
        let most = newest.unwrap_or(0).saturating_add(MOST_UNKNOWN_STARTS);
        let of_file = 1..=most.min(MOST_STARTS);
        for (ordinal, epoch) in &self.epochs {
            if of_file.contains(ordinal) {
                self.out.execute(
                    "INSERT OR IGNORE INTO epoch (ordinal, epoch, gateway) VALUES (?1, ?2, ?3)",
                    (ordinal, epoch, gateway),
                )?;
            }
        }
        let mut place = 0;
        while let Some(id) = self.next_batch(BatchId::new(place, u64::MAX).0)? {
            place = BatchId(id).ordinal();
            let last = self.last_of(place)?.map_or(0, |(number, _)| number);
            if !of_file.contains(&place) {
                let (first, last) = (BatchId::new(place, 0).0, BatchId::new(place, u64::MAX).0);
                let (batches, events): (i64, i64) = self.out.query_row(
                    "SELECT count(*), sum(count) FROM batch WHERE id BETWEEN ?1 AND ?2",
                    (first, last),
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                self.out.execute("DELETE FROM batch WHERE id BETWEEN ?1 AND ?2", (first, last))?;
                self.totals.batches -= batches.cast_unsigned();
                self.totals.events -= events.cast_unsigned();
                continue;
            }
            let mut epoch = [0; 8];
            getrandom::fill(&mut epoch).map_err(|cause| {
                rusqlite::Error::ToSqlConversionFailure(cause.to_string().into())
            })?;
            let named = self.out.execute(
                "INSERT OR IGNORE INTO epoch (ordinal, epoch, gateway) VALUES (?1, ?2, ?3)",
                (place, i64::from_ne_bytes(epoch), gateway),
            )?;
            self.loss.renamed_epochs += named as u64;
            // What has ended knows its end; the newest takes it from the totals.
            self.out.execute(
                "UPDATE epoch SET last = ?2
                 WHERE ordinal = ?1 AND last IS NULL AND ordinal < (SELECT max(ordinal) FROM epoch)",
                (place, last.cast_signed()),
            )?;
        }
        self.out.execute(
            "UPDATE epoch SET last = 0
             WHERE last IS NULL AND ordinal < (SELECT max(ordinal) FROM epoch)",
            [],
        )?;
        Ok(())
    }

    fn next_batch(&self, after: i64) -> Result<Option<i64>, rusqlite::Error> {
        self.out
            .prepare_cached("SELECT id FROM batch WHERE id > ?1 ORDER BY id LIMIT 1")?
            .query_row([after], |row| row.get(0))
            .optional()
    }

    /// Number and last seq of the last batch of a start.
    fn last_of(&self, ordinal: i64) -> Result<Option<(u64, u64)>, rusqlite::Error> {
        self.out
            .prepare_cached(
                "SELECT id, first_seq + count - 1 FROM batch
                 WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT 1",
            )?
            .query_row((BatchId::new(ordinal, 0).0, BatchId::new(ordinal, u64::MAX).0), |row| {
                Ok((BatchId(row.get(0)?).number(), row.get::<_, i64>(1)?.cast_unsigned()))
            })
            .optional()
    }

    /// Counts what the file has now; the rest is as it was. Gives the last place
    /// that was ever given to a batch, as far as that is known.
    fn put_totals(
        &mut self,
        before: Option<Totals>,
        epochs: &[FileEpoch],
    ) -> Result<BatchId, rusqlite::Error> {
        let newest = epochs.last();
        let ended = newest.and_then(|newest| newest.last);
        let last = newest.map(|newest| self.last_of(newest.ordinal)).transpose()?.flatten();
        let last = last.unwrap_or_default();
        // They are another start's where the row of the newest is lost.
        let counted = before.filter(|_| ended.is_none()).unwrap_or_default();
        let before = before.unwrap_or_default();
        let totals = Totals {
            number: counted.number.max(last.0).max(ended.unwrap_or(0)),
            seq: counted.seq.max(last.1),
            batches: self.totals.batches,
            events: self.totals.events,
            committed: before.committed.max(self.totals.events),
            dead_letters: self.totals.dead_letters,
            dead_bytes: self.totals.dead_bytes,
            ..before
        };
        state::put_totals(&self.out, &totals)?;
        Ok(BatchId::new(newest.map_or(0, |newest| newest.ordinal), totals.number))
    }

    /// Counts the batches that stand in the index and no longer in the table,
    /// and says between which ids they were.
    fn missing(&mut self, epochs: &[FileEpoch]) -> Result<u64, rusqlite::Error> {
        let mut ranges = BTreeSet::new();
        let mut missing = 0;
        let memory = state::memory(&self.out)?;
        for page in std::mem::take(&mut self.indices) {
            let Some(bytes) = self.pages.read(page) else { continue };
            let Some(kind @ (Kind::Index | Kind::Branch)) = cells::kind(&bytes) else { continue };
            for cell in cells::cells(&bytes, kind).flatten() {
                let values = cells::values(cell.local).unwrap_or_default();
                let [Value::Int(flow), Value::Int(id)] = values.as_slice() else { continue };
                let Ok(flow) = u32::try_from(*flow) else { continue };
                let sent = memory.position.as_ref().is_some_and(|position| {
                    let covered = position.covered(crate::flow::Hash(flow), epochs);
                    covered.iter().any(|(first, last)| (first.0..=last.0).contains(id))
                });
                if sent || self.unreadable.contains(id) || self.stands(*id)? {
                    continue;
                }
                missing += 1;
                if ranges.len() < MOST_RANGES {
                    ranges.extend(self.around(BatchId(*id), epochs)?);
                }
            }
        }
        self.loss.ranges = ranges.into_iter().collect();
        Ok(missing)
    }

    fn stands(&self, id: i64) -> Result<bool, rusqlite::Error> {
        self.out.prepare_cached("SELECT 1 FROM batch WHERE id = ?1")?.exists([id])
    }

    /// Between which events a batch was that is missing. What was put in again
    /// has numbers of elsewhere and says nothing about it.
    fn around(&self, id: BatchId, epochs: &[FileEpoch]) -> Result<Option<String>, rusqlite::Error> {
        let Some(epoch) = epochs.iter().find(|known| known.ordinal == id.ordinal()) else {
            return Ok(None);
        };
        let bound = |query: &str, to: BatchId| -> Result<Option<i64>, rusqlite::Error> {
            self.out.prepare_cached(query)?.query_row((id.0, to.0), |row| row.get(0)).optional()
        };
        let first = bound(
            "SELECT first_seq + count FROM batch
             WHERE id < ?1 AND id >= ?2 AND birth IS NULL ORDER BY id DESC LIMIT 1",
            BatchId::new(id.ordinal(), 0),
        )?;
        let last = bound(
            "SELECT first_seq - 1 FROM batch
             WHERE id > ?1 AND id <= ?2 AND birth IS NULL ORDER BY id LIMIT 1",
            BatchId::new(id.ordinal(), u64::MAX),
        )?;
        let last = last.map_or_else(|| "its end".to_owned(), |last| last.to_string());
        Ok(Some(format!("{}/{}/{} to {last}", epoch.gateway, epoch.epoch, first.unwrap_or(1))))
    }
}
