//! Reads what can be read of a damaged file and makes a new one of it.
//!
//! It does not ask `SQLite`, which gives up at the first page that is wrong and
//! cannot open a file whose header or catalogue is. It looks at every page on
//! its own ([`pages`], [`wal`]), takes the rows that stand in it ([`cells`]),
//! and tells their table by their shape: a lost page costs what stood in it and
//! nothing else.
//!
//! The invariants:
//! - what comes over has the id that it had: epochs keep their ordinals, and
//!   the new file draws a new epoch as each opening does;
//! - a batch that comes over can be decoded; one that cannot is a dead letter;
//! - a source whose cursor may have been lost is known as such (SAFETY 13);
//! - the salvage of a whole file is that file;
//! - the damaged file is only read.

mod cells;
mod finish;
#[cfg(test)]
mod fuzz;
mod letters;
mod pages;
mod rules;
#[cfg(test)]
mod tests;
mod wal;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use zstd::bulk::Decompressor;

use super::batch::Damaged;
use super::failure::is_full;
use super::file::Totals;
use super::reader::MOST_RAW;
use super::{BatchId, codec, dead, schema, state};
use crate::clock::Clock;
use crate::collect::{DEAD_LETTER_BYTES, DeadLetter};
use crate::pulse;
use cells::{Cell, Kind, Value};
use pages::Pages;

const PAGE: usize = schema::PAGE as usize;

/// Bytes of one commit of the new file: what a full disk takes back.
const CHUNK: usize = 8 * 1024 * 1024;

/// A start with a higher ordinal is damage: with it the file would soon be worn.
const MOST_STARTS: i64 = BatchId::MOST_ORDINAL / 2;

/// Pages of the small table of state that are walked at most: a damaged tree
/// may be a ring.
const MOST_STATE_PAGES: u32 = 10_000;

/// Tells in the new file that sources without a cursor may have had one.
pub(super) const CURSORS_LOST: &str = "cursors_lost";

/// The [`Loss`] that the next opening tells.
pub(super) const LOSS: &str = "loss";

/// The same after that opening.
pub(super) const LAST_LOSS: &str = "last_loss";

/// What a salvage found and what it could not bring over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loss {
    /// How the damage showed.
    pub cause: String,
    /// Where the damaged file is now.
    pub set_aside: PathBuf,
    /// What came over.
    pub batches: u64,
    pub events: u64,
    /// What did not, by the damaged file's own count; `None` where that is lost
    /// as well.
    pub lost_batches: Option<u64>,
    pub lost_events: Option<u64>,
    /// Ids between which lost events stood, as `gateway/epoch/first to last`,
    /// as far as they are known.
    pub ranges: Vec<String>,
    /// Batches of which the bytes came over but cannot be read: dead letters.
    pub unreadable: u64,
    /// Epochs that had to be named anew: what of them was sent already goes
    /// again, under other ids.
    pub renamed_epochs: u64,
    /// Some sources may have had a cursor that is lost; they stop and say so.
    pub cursors_lost: bool,
    /// The disk had no room for the rest, which stands in the damaged file.
    pub no_room: bool,
}

/// Reads `from`, with the -wal beside it, into a new file `to`, which is on the
/// medium afterwards. `gateway` names what has lost its name.
pub(super) fn salvage(
    from: &Path,
    to: &Path,
    gateway: &str,
    cause: &str,
) -> Result<Loss, rusqlite::Error> {
    let failed = |cause: std::io::Error| rusqlite::Error::ToSqlConversionFailure(cause.into());
    let pages = Pages::open(from).map_err(failed)?;
    let out = schema::make(to)?;
    let mut salvage = Salvage {
        pages,
        out,
        decompressor: Decompressor::new().expect("a context of zstd needs only memory"),
        totals: Totals::default(),
        epochs: BTreeMap::new(),
        indices: Vec::new(),
        cursors: BTreeMap::new(),
        unreadable: BTreeSet::new(),
        taken: 0,
        state_pages: 0,
        last_gap: 0,
        loss: Loss { cause: cause.to_owned(), set_aside: from.to_owned(), ..Loss::default() },
    };
    salvage.out.execute_batch("BEGIN")?;
    salvage.run(gateway)?;
    let Salvage { out, loss, .. } = salvage;
    out.close().map_err(|(_, cause)| cause)?;
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(failed)?;
    Ok(loss)
}

struct Salvage {
    pages: Pages,
    out: Connection,
    decompressor: Decompressor<'static>,
    totals: Totals,
    /// Ordinals and epochs as the index of the epochs has them.
    epochs: BTreeMap<i64, i64>,
    /// Pages that hold the index of the batches.
    indices: Vec<u32>,
    /// Of each source the cursor with the newest batch.
    cursors: BTreeMap<String, (i64, Vec<u8>)>,
    /// Batches that became dead letters.
    unreadable: BTreeSet<i64>,
    /// Bytes of rows that are not committed.
    taken: usize,
    state_pages: u32,
    /// The highest number that a gap ever had.
    last_gap: i64,
    loss: Loss,
}

impl Salvage {
    fn run(&mut self, gateway: &str) -> Result<(), rusqlite::Error> {
        let root = self.out.query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'state'",
            [],
            // Root pages stand in front, in the order in which they are made.
            |row| row.get::<_, u32>(0),
        )?;
        // First what is small and what all the rest is read by.
        let complete = self.state_tree(root, 0)? && state::get(&self.out, "totals")?.is_some();
        self.loss.cursors_lost = !complete;
        self.out.execute_batch("COMMIT")?;
        let mut next = 1;
        while next <= self.pages.count() {
            let kept = self.totals;
            match self.chunk(next) {
                Ok(after) => next = after,
                Err(cause) if is_full(&self.out, &cause) => {
                    // What is undone makes the room for the end.
                    if !self.out.is_autocommit() {
                        self.out.execute_batch("ROLLBACK")?;
                    }
                    self.totals = kept;
                    self.loss.no_room = true;
                    break;
                }
                Err(cause) => return Err(cause),
            }
        }
        self.out.execute_batch("BEGIN")?;
        self.finish(gateway)?;
        self.out.execute_batch("COMMIT")
    }

    /// Takes what stands from this page on in one commit; gives the page to go
    /// on with.
    fn chunk(&mut self, first: u32) -> Result<u32, rusqlite::Error> {
        self.out.execute_batch("BEGIN")?;
        self.taken = 0;
        let mut page = first;
        while page <= self.pages.count() && self.taken < CHUNK {
            pulse::beat();
            if self.pages.is_used(page) {
                self.page(page)?;
            }
            page += 1;
        }
        self.out.execute_batch("COMMIT")?;
        Ok(page)
    }

    /// Whether all of the small state is there: only then a source without a
    /// cursor is one that never had any.
    fn state_tree(&mut self, page: u32, depth: u32) -> Result<bool, rusqlite::Error> {
        self.state_pages += 1;
        // A tree is never as deep.
        if depth > 20 || self.state_pages > MOST_STATE_PAGES || page < 2 {
            return Ok(false);
        }
        let Some(bytes) = self.pages.read(page) else { return Ok(false) };
        let Some(kind @ (Kind::Index | Kind::Branch)) = cells::kind(&bytes) else {
            return Ok(false);
        };
        let mut complete = true;
        for cell in cells::cells(&bytes, kind) {
            let Some(cell) = cell else {
                complete = false;
                continue;
            };
            if kind == Kind::Branch {
                complete &= self.state_tree(cell.below, depth + 1)?;
            }
            let row = self.whole(cell);
            complete &= match row.as_deref().and_then(cells::values).as_deref() {
                Some([Value::Text(key), Value::Blob(value)]) => {
                    self.state(key, value)?;
                    true
                }
                _ => false,
            };
        }
        if kind == Kind::Branch {
            complete &= self.state_tree(cells::rightmost(&bytes), depth + 1)?;
        }
        Ok(complete)
    }

    fn page(&mut self, page: u32) -> Result<(), rusqlite::Error> {
        let Some(bytes) = self.pages.read(page) else { return Ok(()) };
        let Some(kind) = cells::kind(&bytes) else { return Ok(()) };
        let mut of_batches = false;
        for cell in cells::cells(&bytes, kind).flatten() {
            let Some(row) = self.whole(cell) else { continue };
            let Some(values) = cells::values(&row) else { continue };
            if kind == Kind::Table {
                self.row(cell.rowid, &values)?;
                self.taken += row.len();
                continue;
            }
            match *values {
                [Value::Text(key), Value::Blob(value)] => self.state(key, value)?,
                [
                    Value::Text(stream),
                    Value::Text(reason),
                    Value::Int(events),
                    Value::Int(bytes),
                ] => {
                    self.count(stream, reason, events, bytes)?;
                }
                [Value::Text(epoch), Value::Int(number)] => self.imported(epoch, number)?,
                [Value::Int(_), Value::Int(id)] if BatchId(id).ordinal() > 0 => of_batches = true,
                [Value::Int(epoch), Value::Int(ordinal)] => {
                    self.epochs.insert(ordinal, epoch);
                }
                _ => {}
            }
        }
        if of_batches {
            self.indices.push(page);
        }
        Ok(())
    }

    fn whole(&self, cell: Cell<'_>) -> Option<Vec<u8>> {
        let mut row = cell.local.to_vec();
        self.pages.follow(cell.next, cell.length, &mut row).then_some(row)
    }

    fn state(&self, key: &str, value: &[u8]) -> Result<(), rusqlite::Error> {
        self.out
            .prepare_cached("INSERT OR IGNORE INTO state (key, value) VALUES (?1, ?2)")?
            .execute((key, value))?;
        Ok(())
    }

    /// A row of whichever table has this shape.
    fn row(&mut self, rowid: i64, values: &[Value<'_>]) -> Result<(), rusqlite::Error> {
        match *values {
            [
                Value::Null,
                Value::Int(flow),
                Value::Int(first_seq),
                Value::Int(count),
                Value::Int(raw),
                Value::Int(oldest),
                cursors @ (Value::Null | Value::Blob(_)),
                Value::Blob(data),
                // A row of layout 1 ends before it.
                ref birth @ ..,
            ] if u32::try_from(flow).is_ok()
                && BatchId(rowid).ordinal() > 0
                && matches!(birth, [] | [Value::Null | Value::Blob(_)]) =>
            {
                let blob = |value| if let Value::Blob(bytes) = value { Some(bytes) } else { None };
                let (cursors, birth) = (blob(cursors), birth.first().copied().and_then(blob));
                let row =
                    Row { id: rowid, flow, first_seq, count, raw, oldest, cursors, data, birth };
                self.batch(&row)
            }
            [Value::Null, Value::Int(epoch), Value::Text(gateway), last]
                if (1..=MOST_STARTS).contains(&rowid) =>
            {
                let last = if let Value::Int(last) = last { Some(last) } else { None };
                self.out.execute(
                    "INSERT OR IGNORE INTO epoch (ordinal, epoch, gateway, last)
                     VALUES (?1, ?2, ?3, ?4)",
                    (rowid, epoch, gateway, last),
                )?;
                Ok(())
            }
            [Value::Null, Value::Text(lane), Value::Text(definition)] => {
                self.out.execute(
                    "INSERT OR IGNORE INTO stream (flow, lane, definition) VALUES (?1, ?2, ?3)",
                    (rowid, lane, definition),
                )?;
                Ok(())
            }
            [
                Value::Null,
                Value::Int(at),
                Value::Text(reason),
                Value::Text(origin),
                Value::Int(length),
                Value::Blob(payload),
            ] if rules::ROWIDS.contains(&rowid) => {
                let added = self
                    .out
                    .prepare_cached(
                        "INSERT OR IGNORE INTO dead_letter
                         (id, at, reason, origin, length, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute((rowid, at, reason, origin, length, payload))?;
                if added > 0 {
                    self.totals.dead_letters += 1;
                    self.totals.dead_bytes += (reason.len() + origin.len() + payload.len()) as u64;
                }
                Ok(())
            }
            _ if self.letter(rowid, values)? => Ok(()),
            _ => self.rule(rowid, values),
        }
    }

    fn batch(&mut self, row: &Row<'_>) -> Result<(), rusqlite::Error> {
        // Also of one that cannot be read: its rows were taken.
        for (source, cursor) in state::read_cursors(row.cursors.unwrap_or_default()) {
            let known = self.cursors.entry(source).or_default();
            if known.0 < row.id {
                *known = (row.id, cursor);
            }
        }
        if let Err(damaged) = self.check(row) {
            if self.unreadable.insert(row.id) {
                self.bury(row, &damaged)?;
            }
            return Ok(());
        }
        let added = self
            .out
            .prepare_cached(
                "INSERT OR IGNORE INTO batch
                 (id, flow, first_seq, count, raw, oldest, cursors, data, birth)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                row.id,
                row.flow,
                row.first_seq,
                row.count,
                row.raw,
                row.oldest,
                row.cursors,
                row.data,
                row.birth
            ])?;
        if added > 0 {
            self.totals.batches += 1;
            self.totals.events += row.count.cast_unsigned();
        }
        Ok(())
    }

    /// Whether the batch holds as many events as it says.
    fn check(&mut self, row: &Row<'_>) -> Result<(), Damaged> {
        let length = usize::try_from(row.raw).ok().filter(|raw| *raw <= MOST_RAW);
        let plain = length.and_then(|raw| self.decompressor.decompress(row.data, raw).ok());
        let plain = plain.ok_or_else(|| Damaged("it cannot be decompressed".to_owned()))?;
        let mut found = 0;
        codec::walk(&plain, row.first_seq.cast_unsigned(), |_| {
            found += 1;
            Ok(())
        })?;
        if found == row.count && found > 0 {
            Ok(())
        } else {
            Err(Damaged(format!("{found} events instead of {}", row.count)))
        }
    }

    fn bury(&mut self, row: &Row<'_>, damaged: &Damaged) -> Result<(), rusqlite::Error> {
        self.loss.unreadable += 1;
        let id = BatchId(row.id);
        let letter = DeadLetter {
            reason: damaged.to_string(),
            origin: format!(
                "batch {} of start {}, seq {} to {}",
                id.number(),
                id.ordinal(),
                row.first_seq,
                row.first_seq.saturating_add(row.count).saturating_sub(1)
            ),
            payload: row.data.iter().copied().take(DEAD_LETTER_BYTES).collect(),
            length: row.data.len() as u64,
        };
        dead::bury(&self.out, &letter, Clock::system().now(), &mut self.totals)
    }
}

/// A row of the table `batch`.
#[derive(Debug)]
struct Row<'a> {
    id: i64,
    flow: i64,
    first_seq: i64,
    count: i64,
    raw: i64,
    oldest: i64,
    cursors: Option<&'a [u8]>,
    data: &'a [u8],
    birth: Option<&'a [u8]>,
}

/// 0 where the bytes end before.
fn be32(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(<[u8]>::first_chunk);
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    let two = bytes.get(at..).and_then(<[u8]>::first_chunk);
    two.map_or(0, |two| u16::from_be_bytes(*two))
}

/// Why `SQLite` would read less than there is or refuse the file for another
/// reason than damage; `None` where it would not.
pub(super) fn hidden(path: &Path) -> std::io::Result<Option<&'static str>> {
    let length = match std::fs::metadata(path) {
        Ok(data) => data.len(),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => 0,
        Err(cause) => return Err(cause),
    };
    if length == 0 {
        // `SQLite` deletes a -wal that stands beside an empty file.
        let log = wal::Wal::read(&schema::beside(path, "-wal"))?;
        return Ok((log.last_page() > 0).then_some("the file is empty beside its -wal"));
    }
    let pages = Pages::open(path)?;
    let header = pages.read(1).is_none_or(|page| is_plain(&*page));
    Ok(pages.broken().or((!header).then_some("the header is damaged")))
}

/// Whether the header of a database names a format that there is. One from the
/// future is read-only to `SQLite`, or no error of the file's.
fn is_plain(page: &[u8]) -> bool {
    let byte = |at: usize| page.get(at).copied().unwrap_or_default();
    !page.starts_with(b"SQLite format 3\0")
        // Versions for writers and readers, format of the catalogue, encoding.
        || (1..=2).contains(&byte(18))
            && (1..=2).contains(&byte(19))
            && be32(page, 44) <= 4
            && be32(page, 56) <= 3
}
