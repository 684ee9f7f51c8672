//! The whole file read piece by piece beside a running agent (SAFETY 17).
//!
//! A start looks at both ends of the queue only. Damage in the middle of a long
//! backlog would show when its turn comes, perhaps days later: here it shows
//! while more of the file can still be read. What `verify` adds up needs one
//! look at everything at once, and is left to it.

use rusqlite::Connection;

use super::schema::damaged;
use super::verify::{look, portion};
use super::{BatchId, ReadError, Reader, Store};
use crate::flow;

/// Plain bytes of a step; a step is one short read after another.
const STEP: usize = 1024 * 1024;

/// Rows of a step: alarms and slow sources make batches of one event.
const MOST_ROWS: u32 = 256;

/// KiB of page cache: no page is read twice.
const CACHE: i32 = 128;

/// One pass over the file: what was there when it began.
#[derive(Debug)]
pub(crate) struct Scrub {
    store: Store,
    reader: Reader,
    /// Of batches and of dead letters the last that was read, and the last of all.
    batches: (BatchId, BatchId),
    letters: (i64, i64),
    read: Scrubbed,
}

/// What a pass has read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scrubbed {
    pub batches: u64,
    pub events: u64,
    /// Batches with which something is wrong; the others are sound.
    pub wrong: u64,
    /// The first of them, in words.
    pub first: Option<String>,
}

impl Scrub {
    /// Begins a pass. Blocking, as is each step.
    pub(crate) fn begin(store: Store) -> Result<Self, ReadError> {
        let reader = store.reader()?;
        let newest = store.newest();
        let letter = last_letter(reader.connection()).map_err(ReadError);
        let letter = letter.inspect_err(|error| store.alarm(error))?;
        let (batches, letters) = ((BatchId(0), newest), (0, letter));
        Ok(Self { store, reader, batches, letters, read: Scrubbed::default() })
    }

    /// Reads on; false at the end of the file. An error that says that the file
    /// is damaged has reached the writer, which takes itself down.
    pub(crate) fn step(&mut self) -> Result<bool, ReadError> {
        let more = match self.batches() {
            Ok(false) => self.letters().map_err(ReadError),
            more => more,
        };
        more.inspect_err(|error| self.store.alarm(error))
    }

    pub(crate) fn read(&self) -> &Scrubbed {
        &self.read
    }

    fn batches(&mut self) -> Result<bool, ReadError> {
        let (after, last) = self.batches;
        let mut places = portion(self.reader.connection(), after.0, MOST_ROWS)?;
        places.retain(|(id, ..)| *id <= last.0);
        let mut left = STEP;
        let more = !places.is_empty();
        for (id, flow, oldest) in places {
            if left == 0 {
                break;
            }
            self.batches.0 = BatchId(id);
            // Each batch by the way that the forwarder takes to it.
            let found = self.reader.batches(flow::Hash(flow), BatchId(id - 1), 1, 1)?;
            let Some(batch) = found.into_iter().find(|batch| batch.id.0 == id) else {
                self.not_found(BatchId(id))?;
                continue;
            };
            left = left.saturating_sub(batch.events.len());
            self.read.batches += 1;
            self.read.events += u64::from(batch.count);
            if let Some(wrong) = look(&batch, oldest) {
                self.read.find(wrong);
            }
        }
        Ok(more)
    }

    /// A batch that stands in its table and is not found by its flow: most likely it
    /// was sent in this moment.
    fn not_found(&mut self, batch: BatchId) -> Result<(), ReadError> {
        let query = "SELECT 1 FROM batch NOT INDEXED WHERE id = ?1";
        if !self.reader.connection().prepare_cached(query)?.exists([batch.0])? {
            return Ok(());
        }
        if self.reader.knows(batch) {
            // The position would pass it, and it would never be sent.
            return Err(ReadError(damaged("a table and its index do not agree")));
        }
        self.read.batches += 1;
        self.read.find(format!("batch {} is of an epoch that is not known", batch.number()));
        Ok(())
    }

    fn letters(&mut self) -> Result<bool, rusqlite::Error> {
        let (after, last) = self.letters;
        let mut statement = self.reader.connection().prepare_cached(
            "SELECT id, length(reason) + length(origin), payload FROM dead_letter
             WHERE id > ?1 AND id <= ?2 ORDER BY id",
        )?;
        let mut rows = statement.query((after, last))?;
        let mut left = STEP;
        while left > 0 {
            let Some(row) = rows.next()? else { return Ok(false) };
            self.letters.0 = row.get(0)?;
            row.get::<_, i64>(1)?;
            left = left.saturating_sub(row.get_ref(2)?.as_blob()?.len().max(STEP / 256));
        }
        Ok(true)
    }
}

impl Scrubbed {
    fn find(&mut self, wrong: String) {
        self.wrong += 1;
        self.first.get_or_insert(wrong);
    }
}

fn last_letter(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.pragma_update(None, "cache_size", -CACHE)?;
    let last = "SELECT coalesce(max(id), 0) FROM dead_letter";
    connection.query_row(last, [], |row| row.get(0))
}
