//! How much room the file takes, and giving it back once a backlog is gone.

use rusqlite::{Connection, OptionalExtension as _};

use super::file::File;
use super::schema;
use crate::event::Timestamp;

/// Bytes of empty pages that the file keeps: what a steady flow takes and gives
/// back must not make the file shorter and longer all day.
const SPARE: u64 = 4 * 1024 * 1024;

/// Pages that are given back in one commit: 2 MiB, some milliseconds, and what
/// comes meanwhile waits no longer.
const SLICE: u64 = 2 * 1024 * 1024 / schema::PAGE as u64;

/// Writes the -wal into the file; true where all of it is there, so that the next
/// commit begins it anew. A power cut costs nothing.
pub(super) fn empty_wal(connection: &Connection) -> Result<bool, rusqlite::Error> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        // Another process is at it: neither number is known.
        let busy: bool = row.get(0)?;
        Ok(!busy && row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
    })
}

/// How the file stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// Pages in use, in bytes.
    pub used: u64,
    /// All its pages.
    pub length: u64,
    pub oldest: Option<Timestamp>,
}

impl State {
    /// Most of the file is empty. To cut off its end, pages in use are moved to
    /// its front: no more of them than it gets shorter by, which is when it is
    /// worth the writing.
    pub(crate) fn is_worth_shrinking(&self) -> bool {
        let empty = self.length.saturating_sub(self.used);
        empty > SPARE && empty > self.used
    }

    /// There are more empty pages than are kept.
    pub(crate) fn has_spare(&self) -> bool {
        self.length.saturating_sub(self.used) > SPARE
    }
}

impl File {
    /// What stands in the file now.
    pub(crate) fn state(&self) -> Result<State, rusqlite::Error> {
        let page = self.number("page_size")?;
        let pages = self.number("page_count")?;
        let used = pages.saturating_sub(self.number("freelist_count")?);
        let oldest = self
            .connection
            .prepare_cached("SELECT oldest FROM batch ORDER BY id LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(State {
            used: used.saturating_mul(page),
            length: pages.saturating_mul(page),
            oldest: oldest.map(Timestamp),
        })
    }

    fn number(&self, name: &str) -> Result<u64, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(&format!("PRAGMA {name}"))?;
        statement.query_row([], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    }

    /// Makes the file shorter by a slice, in a commit of its own; a power cut
    /// costs nothing.
    pub(crate) fn shrink(&mut self) -> Result<(), rusqlite::Error> {
        let spare = SPARE / self.number("page_size")?.max(1);
        let pages = self.number("freelist_count")?.saturating_sub(spare).min(SLICE);
        if pages == 0 {
            // Without a number it would be all of them.
            return Ok(());
        }
        // Each row that is stepped over is a page.
        let mut statement =
            self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        self.commits += 1;
        Ok(())
    }

    /// [`empty_wal`] of its own -wal.
    pub(crate) fn empty_wal(&self) -> Result<bool, rusqlite::Error> {
        empty_wal(&self.connection)
    }

    /// The end of the shrinking: the file itself gets shorter when the WAL is
    /// written into it.
    pub(crate) fn shrunk(&self) -> Result<(), rusqlite::Error> {
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }
}
