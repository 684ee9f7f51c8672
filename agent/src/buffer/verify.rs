//! The whole file, looked at slowly: what a start does not do (SAFETY 17).
//!
//! It reads in short transactions, so that it may run beside an agent: what is
//! deleted meanwhile was there and is passed over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;

use super::file::Totals;
use super::usage::Usage;
use super::{Batch, BatchId, ReadError, Reader};
use crate::flow;

/// Findings that are kept: who has more of them restores a backup or salvages.
const MOST_FINDINGS: usize = 100;

/// Batches that are read before the progress is told: a second's work.
const PORTION: u32 = 200;

/// What was seen, and what is wrong with it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub batches: u64,
    pub events: u64,
    pub dead_letters: u64,
    /// Nothing, in a file that is well.
    pub wrong: Vec<String>,
}

/// Numbers of the events of one birth, as ranges: gateway and epoch → first,
/// last. 16 bytes a batch.
type Numbers = BTreeMap<(Arc<str>, u64), Vec<(u64, u64)>>;

/// Checks pages, batches, numbers and totals; `progress` hears how many batches
/// of how many are done.
pub fn verify(path: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Verified, ReadError> {
    let mut reader = Reader::open(path)?;
    let mut seen = Verified::default();
    pages(reader.connection(), &mut seen)?;
    let total = count(reader.connection(), "SELECT count(*) FROM batch")?;
    let mut numbers = Numbers::new();
    let mut after = 0_i64;
    loop {
        let places = portion(reader.connection(), after, PORTION)?;
        let Some((last, ..)) = places.last() else { break };
        after = *last;
        for (id, flow, oldest) in places {
            let read = reader.batches(flow::Hash(flow), BatchId(id - 1), 1, 1)?;
            match read.into_iter().find(|batch| batch.id.0 == id) {
                Some(found) => batch(&found, oldest, &mut seen, &mut numbers),
                // Sent meanwhile, or of an epoch that the file does not know.
                None => missing(reader.connection(), id, &mut seen)?,
            }
        }
        progress(seen.batches, total.max(seen.batches));
    }
    overlaps(numbers, &mut seen);
    references(reader.connection(), &mut seen)?;
    totals(reader.connection(), &mut seen)?;
    usage(reader.connection(), &mut seen)?;
    Ok(seen)
}

impl Verified {
    fn find(&mut self, what: String) {
        if self.wrong.len() < MOST_FINDINGS {
            self.wrong.push(what);
        }
    }
}

/// `SQLite`'s own check of every page.
fn pages(connection: &Connection, seen: &mut Verified) -> Result<(), ReadError> {
    let mut statement = connection.prepare("PRAGMA integrity_check(100)")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            seen.find(line);
        }
    }
    Ok(())
}

/// The next rows: id, flow, time of the oldest event.
pub(super) fn portion(
    connection: &Connection,
    after: i64,
    most: u32,
) -> Result<Vec<(i64, u32, i64)>, ReadError> {
    let mut statement = connection
        .prepare_cached("SELECT id, flow, oldest FROM batch WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let rows =
        statement.query_map((after, most), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn batch(batch: &Batch, oldest: i64, seen: &mut Verified, numbers: &mut Numbers) {
    seen.batches += 1;
    seen.events += u64::from(batch.count);
    if let Some(wrong) = look(batch, oldest) {
        seen.find(wrong);
    }
    let last = batch.first_seq.saturating_add(u64::from(batch.count)).saturating_sub(1);
    let birth = (Arc::clone(&batch.gateway), batch.epoch.0);
    numbers.entry(birth).or_default().push((batch.first_seq, last));
}

/// What is wrong with a batch whose row names this as the time of its oldest event.
pub(super) fn look(batch: &Batch, oldest: i64) -> Option<String> {
    let (mut count, mut earliest) = (0_u32, i64::MAX);
    let walked = batch.events(|event| {
        count += 1;
        earliest = earliest.min(event.time.0);
        Ok(())
    });
    let wrong = match walked {
        Err(damaged) => damaged.to_string(),
        Ok(()) if count != batch.count => {
            format!("{count} events where {} should be", batch.count)
        }
        Ok(()) if count > 0 && earliest != oldest => {
            "its oldest event is not the one that its row names".to_owned()
        }
        Ok(()) => return None,
    };
    Some(format!("batch {} of epoch {}: {wrong}", batch.number, batch.written))
}

fn missing(connection: &Connection, id: i64, seen: &mut Verified) -> Result<(), ReadError> {
    if connection.prepare_cached("SELECT 1 FROM batch WHERE id = ?1")?.exists([id])? {
        let place = BatchId(id);
        seen.batches += 1;
        seen.find(format!(
            "batch {} of opening {}: the file does not know its epoch",
            place.number(),
            place.ordinal()
        ));
    }
    Ok(())
}

/// No number may be in two batches.
fn overlaps(numbers: Numbers, seen: &mut Verified) {
    for ((gateway, epoch), mut ranges) in numbers {
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [(_, end), (begin, _)] = pair
                && begin <= end
            {
                seen.find(format!("{gateway}/{epoch:016x}: event {begin} is in two batches"));
            }
        }
    }
}

/// What belongs together is there.
fn references(connection: &Connection, seen: &mut Verified) -> Result<(), ReadError> {
    for (sql, what) in [
        (
            "SELECT count(DISTINCT flow) FROM batch
             WHERE NOT EXISTS (SELECT 1 FROM stream WHERE stream.flow = batch.flow)",
            "flows with batches have no definition: they are never sent",
        ),
        (
            "SELECT count(DISTINCT flow) FROM dead_event
             WHERE NOT EXISTS (SELECT 1 FROM stream WHERE stream.flow = dead_event.flow)",
            "flows with dead letters have no definition: these are never sent again",
        ),
        (
            "SELECT count(*) FROM dead_event
             WHERE NOT EXISTS (SELECT 1 FROM dead_letter WHERE id = letter)",
            "events of dead letters have lost their letter",
        ),
    ] {
        let found = count(connection, sql)?;
        if found > 0 {
            seen.find(format!("{found} {what}"));
        }
    }
    Ok(())
}

/// The counts that each commit keeps, against what is there; in one statement,
/// so that no commit comes between.
fn totals(connection: &Connection, seen: &mut Verified) -> Result<(), ReadError> {
    let (text, batches, events, letters): (Option<Vec<u8>>, i64, i64, i64) = connection.query_row(
        "SELECT (SELECT value FROM state WHERE key = 'totals'),
                 (SELECT count(*) FROM batch), (SELECT coalesce(sum(count), 0) FROM batch),
                 (SELECT count(*) FROM dead_letter)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    seen.dead_letters = letters.cast_unsigned();
    let Some(kept) = text.and_then(|text| serde_json::from_slice::<Totals>(&text).ok()) else {
        seen.find("the totals cannot be read".to_owned());
        return Ok(());
    };
    for (what, kept, there) in [
        ("batches", kept.batches, batches),
        ("events", kept.events, events),
        ("dead letters", kept.dead_letters, letters),
    ] {
        if kept != there.cast_unsigned() {
            seen.find(format!("{there} {what} are there, the totals say {kept}"));
        }
    }
    Ok(())
}

/// The bytes of each flow, which its stream's share is measured by.
fn usage(connection: &Connection, seen: &mut Verified) -> Result<(), ReadError> {
    // One moment for both: no commit comes between.
    let moment = connection.unchecked_transaction()?;
    if Usage::load(&moment)? != Usage::add_up(&moment)? {
        seen.find("the bytes of each flow are not those that were counted".to_owned());
    }
    Ok(())
}

fn count(connection: &Connection, sql: &str) -> Result<u64, ReadError> {
    let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}
