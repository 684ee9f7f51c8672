//! The layout of the file and the settings of its connections.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::OpenError;

/// "TGB1": tells this file from any other.
const APPLICATION: i32 = 0x5447_4231;

/// The newest layout that this program knows.
const LAYOUT: i32 = 3;

/// A commit of a quiet gateway changes three pages (`state`, the row, its index), and
/// the file system writes whole blocks of 4 KiB: with pages of 4 KiB that are four
/// blocks, with these two (1.4 GB and 0.7 GB a day at a commit a second). That its
/// row fits into one is for `pack`. Rows of a loaded gateway are tens of kilobytes,
/// and no larger for it.
pub(super) const PAGE: u32 = 1024;

/// Pages; the measured bytes per commit hardly depend on it. 4 MB of WAL are
/// read again at most after a power cut. A little below [`WAL_LIMIT`], which the
/// commit that reaches it then keeps to.
const CHECKPOINT: u32 = 3900;

/// Bytes that the WAL keeps after a checkpoint.
pub(super) const WAL_LIMIT: u32 = 4 * 1024 * 1024;

/// KiB of page cache of each connection: a queue hardly reads a page twice. With 2 MiB
/// a burst held 1.2 MB more and took as long.
const CACHE: i32 = 512;

/// A reader holds a lock for microseconds only.
const BUSY: Duration = Duration::from_secs(5);

/// A file is made in two steps; a power cut between them leaves its header and
/// the first page of the pointer map.
const PAGES_WITHOUT_TABLES: i64 = 2;

/// A layout beyond this is a damaged number and no newer program's.
const MOST_LAYOUT: i32 = 1_000;

/// How each layout is made of the one before; the first of an empty file.
const STEPS: [&str; LAYOUT as usize] = [
    "
    -- Small state that changes with nearly every commit, in one table so that
    -- it costs one page a commit: totals, the position, each source's checkpoint.
    CREATE TABLE state (
        key TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) WITHOUT ROWID;
    -- One row for each time that the file was opened. AUTOINCREMENT: an ordinal
    -- never comes again, so that a batch's id never does.
    CREATE TABLE epoch (
        ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
        epoch INTEGER NOT NULL UNIQUE,
        gateway TEXT NOT NULL,
        last INTEGER
    );
    -- The definition of each stream that has batches (SAFETY 14).
    CREATE TABLE stream (
        flow INTEGER PRIMARY KEY,
        lane TEXT NOT NULL,
        definition TEXT NOT NULL
    );
    -- The events of one commit of one flow. id: ordinal << 40 | number.
    CREATE TABLE batch (
        id INTEGER PRIMARY KEY,
        flow INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        count INTEGER NOT NULL,
        raw INTEGER NOT NULL,
        oldest INTEGER NOT NULL,
        cursors BLOB,
        data BLOB NOT NULL
    );
    CREATE INDEX batch_flow ON batch (flow);
    CREATE TABLE dead_letter (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        reason TEXT NOT NULL,
        origin TEXT NOT NULL,
        length INTEGER NOT NULL,
        payload BLOB NOT NULL
    );
    ",
    "
    -- Where the events of a batch were numbered, if that was not in its place:
    -- epoch and gateway of their ids. They were put in again.
    ALTER TABLE batch ADD COLUMN birth BLOB;
    -- The event of a dead letter that Kafka refused, as its batch row would hold
    -- it; `place` is the batch that it was refused in. A table of its own: what
    -- lists dead letters need not read past the events.
    CREATE TABLE dead_event (
        letter INTEGER PRIMARY KEY,
        birth BLOB NOT NULL,
        data BLOB NOT NULL,
        place INTEGER NOT NULL,
        flow INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        raw INTEGER NOT NULL,
        oldest INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX dead_event_place ON dead_event (place, seq);
    CREATE INDEX dead_event_flow ON dead_event (flow, place, seq);
    -- Batches of other files that were taken in, by their places there: none
    -- comes in twice. The epoch is its 16 hexadecimal digits.
    CREATE TABLE imported (
        epoch TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (epoch, number)
    ) WITHOUT ROWID;
    -- What rules of the user's have dropped since the file was made.
    CREATE TABLE dropped (
        stream TEXT NOT NULL,
        reason TEXT NOT NULL,
        events INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (stream, reason)
    ) WITHOUT ROWID;
    -- The same, piece by piece, as it is told to Kafka: with the ids that never
    -- come, where what was dropped had ids.
    CREATE TABLE gap (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        stream TEXT NOT NULL,
        reason TEXT NOT NULL,
        events INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        gateway TEXT,
        epoch INTEGER,
        first_seq INTEGER,
        last_seq INTEGER,
        perhaps_sent INTEGER NOT NULL
    );
    -- All batches up to `id` were stored by the time `at`: how old they are.
    CREATE TABLE mark (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL
    );
    ",
    // Batches may be of the codec's second form, which an older program takes for damage.
    "",
];

/// Opens the file to write, makes it where it is missing, and brings an older
/// layout forward.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let failed = |cause| OpenError::File { path: path.to_owned(), cause };
    let mut connection = Connection::open(path).map_err(failed)?;
    settle(&connection).map_err(failed)?;
    // What turns out to be damaged is set aside as it is, with its -wal.
    keep_wal(&connection, true).map_err(failed)?;
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let tables = number("SELECT count(*) FROM sqlite_schema").map_err(failed)?;
    if tables == 0 {
        lay_out(&connection).map_err(failed)?;
    }
    let pages = number("PRAGMA page_count").map_err(failed)?;
    let application = number("PRAGMA application_id").map_err(failed)?;
    let layout = number("PRAGMA user_version").map_err(failed)?;
    let ours = number(
        "SELECT count(*) FROM sqlite_schema WHERE name IN ('state', 'epoch', 'stream', 'batch')",
    );
    if tables > 0 && application != i64::from(APPLICATION) {
        return Err(match ours.map_err(failed)? {
            3.. => failed(damaged("the header is damaged")),
            _ => OpenError::Foreign(path.to_owned()),
        });
    }
    if tables == 0 && pages > PAGES_WITHOUT_TABLES || (tables > 0) != (layout > 0) {
        return Err(failed(damaged("the catalogue is damaged")));
    }
    let done = usize::try_from(layout).unwrap_or(usize::MAX);
    let Some(steps) = STEPS.get(done..) else {
        return Err(match i32::try_from(layout) {
            Ok(found @ LAYOUT..=MOST_LAYOUT) => {
                OpenError::Newer { path: path.to_owned(), found, known: LAYOUT }
            }
            _ => failed(damaged("the header is damaged")),
        });
    };
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // What is committed is on the medium before anything is acknowledged.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT).map_err(failed)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(failed)?;
    connection.pragma_update(None, "cache_size", -CACHE).map_err(failed)?;
    build(&mut connection, steps).map_err(failed)?;
    Ok(connection)
}

/// What connections that write and those that read have in common.
fn settle(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY)?;
    // Plans are those of the statement alone. Else each range by a bound value
    // (`id > ?`) has its statement prepared again whenever the value changes.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Makes a new file for salvage: quick to fill and not safe before all of it is
/// on the medium.
pub(super) fn make(path: &Path) -> Result<Connection, rusqlite::Error> {
    let mut connection = Connection::open(path)?;
    lay_out(&connection)?;
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -CACHE)?;
    build(&mut connection, &STEPS)?;
    Ok(connection)
}

/// Whether the last connection leaves the -wal as it is when it goes, instead of
/// writing it into the database.
pub(super) fn keep_wal(connection: &Connection, keep: bool) -> Result<(), rusqlite::Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)?;
    Ok(())
}

/// The catalogue of the newest layout, one row each: what a file must have.
pub(super) fn catalogue(connection: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let mut statement = connection.prepare(
        "SELECT format('%s %s %d %s', type, name, rootpage, coalesce(sql, ''))
         FROM sqlite_schema ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// The same as it is right after it was made; it does not change while we run.
pub(super) fn expected() -> Result<&'static [String], rusqlite::Error> {
    static EXPECTED: OnceLock<Vec<String>> = OnceLock::new();
    if let Some(known) = EXPECTED.get() {
        return Ok(known);
    }
    let mut connection = Connection::open_in_memory()?;
    lay_out(&connection)?;
    build(&mut connection, &STEPS)?;
    let made = catalogue(&connection)?;
    Ok(EXPECTED.get_or_init(|| made))
}

/// Both take effect only before the first table; set again, the second would be a
/// commit of its own.
fn lay_out(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "page_size", PAGE)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")
}

fn build(connection: &mut Connection, steps: &[&str]) -> Result<(), rusqlite::Error> {
    if steps.is_empty() {
        return Ok(());
    }
    // A power cut in here leaves the layout before.
    let transaction = connection.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", LAYOUT)?;
    transaction.commit()
}

/// What `SQLite` says of a damaged file, said by us.
pub(super) fn damaged(what: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(what.to_owned()))
}

/// The file of the same name with something behind it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Refuses what is not a buffer of exactly this layout: a file that is only read
/// cannot be brought forward.
pub(super) fn known(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |cause| OpenError::File { path: path.to_owned(), cause };
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
    let application: i32 = number("application_id").map_err(failed)?;
    let layout: i32 = number("user_version").map_err(failed)?;
    if application != APPLICATION {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    match layout {
        LAYOUT => Ok(()),
        found if found < LAYOUT => Err(OpenError::Older(path.to_owned())),
        found => Err(OpenError::Newer { path: path.to_owned(), found, known: LAYOUT }),
    }
}

/// Opens the file to read, beside the connection that writes.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    settle(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -CACHE)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{BatchId, Epoch, Reader};
    use crate::flow;

    #[test]
    fn a_file_of_the_first_layout_is_brought_forward_with_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buffer.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.execute_batch(
            "INSERT INTO epoch (epoch, gateway) VALUES (7, 'gw1');
             INSERT INTO batch (id, flow, first_seq, count, raw, oldest, data)
                 VALUES (1099511627777, 3, 5, 1, 1, 0, x'00');",
        )
        .unwrap();
        old.pragma_update(None, "application_id", APPLICATION).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        drop(open(&path).unwrap());
        let mut reader = Reader::open(&path).unwrap();
        let found = reader.batches(flow::Hash(3), BatchId(0), 9, 9).unwrap().remove(0);
        assert_eq!((found.epoch, found.written), (Epoch(7), Epoch(7)));
        assert_eq!((&*found.gateway, found.first_seq, found.number), ("gw1", 5, 1));
    }
}
