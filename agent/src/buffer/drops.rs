//! What rules of the user's dropped: counted for ever by stream and reason, and
//! told to Kafka piece by piece, as gaps.
//!
//! Both stand in the commit that drops. A gap stays until the commit of the
//! event that tells it has named it as told (it is kept longer, for a person);
//! what is dropped before that, and next to it, is added to it, so that a rule that
//! drops all day makes few of them.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::Epoch;

/// Gaps that are kept for who looks into the file, or waits for Kafka to be
/// told of them: the totals outlive them.
const GAPS_KEPT: i64 = 1_000;

/// Why events were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The file had reached its size.
    Size,
    /// The stream had reached its share of it.
    Share,
    /// The disk had too little room left.
    Disk,
    /// They had waited too long.
    Age,
    /// There was no room when they came, and their stream keeps what is there.
    Newest,
}

impl Reason {
    pub const ALL: [Self; 5] = [Self::Size, Self::Share, Self::Disk, Self::Age, Self::Newest];

    /// The word that stands in the file and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Share => "share",
            Self::Disk => "disk",
            Self::Age => "age",
            Self::Newest => "newest",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// What was dropped of one stream for one reason since the file was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    pub stream: String,
    pub reason: Reason,
    pub events: u64,
    /// As they stood in the file, or were about to.
    pub bytes: u64,
}

/// Events that never come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Place in the file's list of gaps.
    pub id: i64,
    pub what: Dropped,
    /// Where their ids lie; `None`: they never had any.
    pub ids: Option<Ids>,
    /// A process that ended since may have sent the first of them.
    pub perhaps_sent: bool,
}

/// The dropped events are those of their stream and lane from `first` to `last`;
/// others have seqs between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    pub gateway: Arc<str>,
    pub epoch: Epoch,
    pub first: u64,
    pub last: u64,
}

/// Counts what is dropped and notes it: in the gap `into`, if that is still there,
/// else in a new one. Gives the gap.
pub(super) fn note(
    transaction: &Transaction<'_>,
    what: &Dropped,
    ids: Option<&Ids>,
    perhaps_sent: bool,
    into: Option<i64>,
) -> Result<i64, rusqlite::Error> {
    let (events, bytes) = (what.events.cast_signed(), what.bytes.cast_signed());
    let reason = what.reason.as_str();
    transaction
        .prepare_cached(
            "INSERT INTO dropped (stream, reason, events, bytes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET
                 events = events + excluded.events, bytes = bytes + excluded.bytes",
        )?
        .execute((&what.stream, reason, events, bytes))?;
    let first = ids.map(|ids| ids.first.cast_signed());
    let last = ids.map(|ids| ids.last.cast_signed());
    let grown = transaction
        .prepare_cached(
            "UPDATE gap SET events = events + ?2, bytes = bytes + ?3,
                 first_seq = min(first_seq, ?4), last_seq = max(last_seq, ?5)
             WHERE id = ?1",
        )?
        .execute((into, events, bytes, first, last))?;
    if let (Some(into), 1..) = (into, grown) {
        return Ok(into);
    }
    let gateway = ids.map(|ids| &*ids.gateway);
    let epoch = ids.map(|ids| ids.epoch.0.cast_signed());
    transaction
        .prepare_cached(
            "INSERT INTO gap (stream, reason, events, bytes, gateway, epoch, first_seq,
                 last_seq, perhaps_sent)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            what.stream,
            reason,
            events,
            bytes,
            gateway,
            epoch,
            first,
            last,
            perhaps_sent
        ])?;
    let gap = transaction.last_insert_rowid();
    transaction.prepare_cached("DELETE FROM gap WHERE id <= ?1")?.execute([gap - GAPS_KEPT])?;
    Ok(gap)
}

/// The same for what never had a number; gaps up to `told` are told, or being
/// told, and stay as they are.
pub(super) fn note_unnumbered(
    transaction: &Transaction<'_>,
    what: &Dropped,
    told: i64,
) -> Result<i64, rusqlite::Error> {
    let open: Option<i64> = transaction
        .prepare_cached(
            "SELECT max(id) FROM gap
             WHERE id > ?1 AND stream = ?2 AND reason = ?3 AND epoch IS NULL",
        )?
        .query_row((told, &what.stream, what.reason.as_str()), |row| row.get(0))?;
    note(transaction, what, None, false, open)
}

/// The totals of all streams.
pub(super) fn dropped(connection: &Connection) -> Result<Vec<Dropped>, rusqlite::Error> {
    let mut statement = connection
        .prepare_cached("SELECT stream, reason, events, bytes FROM dropped ORDER BY 1, 2")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.extend(one(row, 0)?);
    }
    Ok(found)
}

/// The gaps behind `after`, oldest first. A list that ends before `after` is of
/// another file than the one that `after` was learned from: then all of it.
pub(super) fn gaps(connection: &Connection, after: i64) -> Result<Vec<Gap>, rusqlite::Error> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'gap'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let after = if last.unwrap_or_default() < after { 0 } else { after };
    let mut statement = connection.prepare_cached(
        "SELECT id, gateway, epoch, first_seq, last_seq, perhaps_sent,
             stream, reason, events, bytes
         FROM gap WHERE id > ?1 ORDER BY id",
    )?;
    let mut rows = statement.query([after])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let ids = match (row.get::<_, Option<String>>(1)?, row.get::<_, Option<i64>>(2)?) {
            (Some(gateway), Some(epoch)) => Some(Ids {
                gateway: gateway.into(),
                epoch: Epoch(epoch.cast_unsigned()),
                first: row.get::<_, i64>(3)?.cast_unsigned(),
                last: row.get::<_, i64>(4)?.cast_unsigned(),
            }),
            _ => None,
        };
        let (id, perhaps_sent) = (row.get(0)?, row.get(5)?);
        found.extend(one(row, 6)?.map(|what| Gap { id, what, ids, perhaps_sent }));
    }
    Ok(found)
}

/// Stream, reason, events and bytes from column `at` on; `None`: a reason of a
/// newer version.
fn one(row: &rusqlite::Row<'_>, at: usize) -> Result<Option<Dropped>, rusqlite::Error> {
    let reason: String = row.get(at + 1)?;
    let Some(reason) = Reason::of(&reason) else { return Ok(None) };
    Ok(Some(Dropped {
        stream: row.get(at)?,
        reason,
        events: row.get::<_, i64>(at + 2)?.cast_unsigned(),
        bytes: row.get::<_, i64>(at + 3)?.cast_unsigned(),
    }))
}
