//! The whole file read piece by piece beside a running agent (SAFETY 17).
//!
//! A start looks at both ends of the queue only. Damage in the middle of a long
//! backlog would show when its turn comes, perhaps days later: here it shows
//! while more of the file can still be read. What `verify` adds up needs one
//! look at everything at once, and is left to it.

use super::verify::{look, portion};
use super::{BatchId, ReadError, Reader, Store};
use crate::flow;

/// Plain bytes of a step; a step is one short read after another.
const STEP: usize = 1024 * 1024;

/// Rows of a step: alarms and slow sources make batches of one event.
const MOST_ROWS: u32 = 64;

/// KiB of page cache: no page is read twice.
const CACHE: i32 = 128;

/// One pass over the file.
#[derive(Debug)]
pub(crate) struct Scrub {
    store: Store,
    reader: Reader,
    after: i64,
    letter: i64,
    seen: Seen,
}

/// What a pass has read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub batches: u64,
    pub events: u64,
    /// Batches of which no event, or not every one, can be read.
    pub unreadable: u64,
    /// The first of them, in words.
    pub first: Option<String>,
}

impl Scrub {
    /// Begins a pass. Blocking, as is each step.
    pub(crate) fn begin(store: Store) -> Result<Self, ReadError> {
        let reader = store.reader()?;
        let small = reader.connection().pragma_update(None, "cache_size", -CACHE);
        small.map_err(ReadError).inspect_err(|error| store.alarm(error))?;
        Ok(Self { store, reader, after: 0, letter: 0, seen: Seen::default() })
    }

    /// Reads on; false at the end of the file. An error that says that the file
    /// is damaged has reached the writer, which takes itself down.
    pub(crate) fn step(&mut self) -> Result<bool, ReadError> {
        let read = match self.batches() {
            Ok(false) => self.letters(),
            more => more,
        };
        read.inspect_err(|error| self.store.alarm(error))
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    fn batches(&mut self) -> Result<bool, ReadError> {
        let places = portion(self.reader.connection(), self.after, MOST_ROWS)?;
        let mut left = STEP;
        let more = !places.is_empty();
        for (id, flow, oldest) in places {
            if left == 0 {
                break;
            }
            self.after = id;
            // Each batch by the way that the forwarder takes to it.
            let read = self.reader.batches(flow::Hash(flow), BatchId(id - 1), 1, 1)?;
            // One that is not there was sent meanwhile.
            let Some(batch) = read.into_iter().find(|batch| batch.id.0 == id) else { continue };
            left = left.saturating_sub(batch.events.len());
            self.seen.batches += 1;
            self.seen.events += u64::from(batch.count);
            if let Some(wrong) = look(&batch, oldest) {
                self.seen.unreadable += 1;
                self.seen.first.get_or_insert(wrong);
            }
        }
        Ok(more)
    }

    fn letters(&mut self) -> Result<bool, ReadError> {
        let mut statement = self.reader.connection().prepare_cached(
            "SELECT id, reason, origin, payload FROM dead_letter WHERE id > ?1 ORDER BY id LIMIT 1",
        )?;
        let mut rows = statement.query([self.letter])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        for column in ["reason", "origin", "payload"] {
            row.get_ref(column)?;
        }
        self.letter = row.get("id")?;
        Ok(true)
    }
}
