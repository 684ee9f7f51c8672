//! The layout of the file and the settings of its connections.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::OpenError;

/// "TGB1": tells this file from any other.
const APPLICATION: i32 = 0x5447_4231;

/// The newest layout that this program knows.
const LAYOUT: i32 = 2;

/// 4,096: the file system writes whole blocks of it, and the rows of a loaded
/// gateway are tens of kilobytes (a smaller page saves at most a fifth of a
/// commit of one small row, and costs more per row of a big one).
const PAGE: u32 = 4096;

/// Pages; the measured bytes per commit hardly depend on it. 4 MB of WAL are
/// read again at most after a power cut.
const CHECKPOINT: u32 = 1000;

/// Bytes that the WAL keeps after a checkpoint.
const WAL_LIMIT: u32 = 4 * 1024 * 1024;

/// KiB of page cache of each connection: a queue hardly reads a page twice.
const CACHE: i32 = 2048;

/// A reader holds a lock for microseconds only.
const BUSY: Duration = Duration::from_secs(5);

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
];

/// Opens the file to write, makes it where it is missing, and brings an older
/// layout forward.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let failed = |cause| OpenError::File { path: path.to_owned(), cause };
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    // Both take effect only before the first table.
    connection.pragma_update(None, "page_size", PAGE).map_err(failed)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get(0));
    let application: i32 = number("application_id").map_err(failed)?;
    let layout: i32 = number("user_version").map_err(failed)?;
    if tables > 0 && application != APPLICATION {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    let done = usize::try_from(layout).unwrap_or(usize::MAX);
    let Some(steps) = STEPS.get(done..) else {
        return Err(OpenError::Newer { path: path.to_owned(), found: layout, known: LAYOUT });
    };
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // What is committed is on the medium before anything is acknowledged.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT).map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", WAL_LIMIT).map_err(failed)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(failed)?;
    connection.pragma_update(None, "cache_size", -CACHE).map_err(failed)?;
    if !steps.is_empty() {
        // A power cut in here leaves the layout before.
        let transaction = connection.transaction().map_err(failed)?;
        for step in steps {
            transaction.execute_batch(step).map_err(failed)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
        transaction.pragma_update(None, "user_version", LAYOUT).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(connection)
}

/// Opens the file to read, beside the connection that writes.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -CACHE)?;
    Ok(connection)
}
