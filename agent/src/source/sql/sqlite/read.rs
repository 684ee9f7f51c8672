//! One connection. It is used on blocking threads only, one look at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, InterruptHandle, OpenFlags};

use super::super::Page;
use super::super::cursor::Place;
use super::job::{File, Job, Trouble};
use super::table::Table;
use crate::event::Timestamp;
use crate::source::Error;

/// Pages of the file that `SQLite` may cache, in KiB: what is read in order is
/// not read twice, and a gateway has better use for the default of 2 MiB.
const CACHE_KIB: i32 = 256;

/// `SQLite` waits for a lock no longer at a time, because nothing can interrupt
/// it there: a stop of the agent waits that long.
const LOCK_SLICE: Duration = Duration::from_millis(100);

/// An open connection.
#[derive(Debug)]
pub(super) struct Reader {
    job: Arc<Job>,
    connection: Connection,
    /// Another file may come to stand under the path.
    file: File,
    /// The `data_version` up to which everything was read.
    done: Option<i64>,
    /// The definition was held against the table: that may read all of it, so
    /// it is done once a connection.
    examined: bool,
}

impl Reader {
    pub(super) fn open(job: Arc<Job>) -> Result<Self, Trouble> {
        // Before the open: a file that is exchanged in between is then noticed
        // at the next look.
        let file = job.file()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connect = |path: &Path| {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(job.busy_timeout.min(LOCK_SLICE))?;
            if let Some(view) = &job.view {
                connection.execute_batch(view)?;
            }
            connection.pragma_update(None, "query_only", true)?;
            connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
            Ok(connection)
        };
        let connection = connect(&job.path).map_err(|error| job.broken(error))?;
        Ok(Self { job, connection, file, done: None, examined: false })
    }

    /// Ends a read that runs in another thread.
    pub(super) fn interrupt(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// What tells this database from another under the same path.
    pub(super) const fn mark(&self) -> u64 {
        self.file.mark
    }

    /// The page behind `place`, which was reached in the database `of`; empty
    /// where nothing was committed since the last one.
    pub(super) fn read(
        &mut self,
        place: &Place,
        of: Option<u64>,
        now: Timestamp,
    ) -> Result<Page, Trouble> {
        let job = Arc::clone(&self.job);
        if job.file()? != self.file {
            let path = job.path.display();
            return Err(Trouble::Broken(Error::new(format!(
                "another file has taken the place of the database {path}"
            ))));
        }
        // All that stood there was handed over: looking at the definition may
        // take long, and its failure must cost no row.
        if self.done.is_some() && !self.examined {
            let seen = self.examine(&job, now)?;
            return Ok(Page { seen, more: true, ..Page::default() });
        }
        // Everything below sees one snapshot; dropping it ends the read lock.
        let snapshot = self.connection.transaction().map_err(|error| job.broken(error))?;
        let version: i64 = snapshot
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .map_err(|error| job.broken(error))?;
        if self.done == Some(version) {
            return Ok(Page { seen: vec![("lock", None)], ..Page::default() });
        }
        let table = Table { job: &job, snapshot, now };
        let mut page = match place {
            Place::Start => table.page(&[])?,
            Place::End => table.end()?,
            Place::After(keys) => table.page(keys)?,
        };
        page.seen.push(("lock", None));
        if let Place::After(keys) = place {
            // Neither is ever said to be over: rows that come do not tell
            // whether those below were read.
            if of.is_some_and(|of| of != self.file.mark)
                && let Some(what) = table.exchanged(keys)?
            {
                page.seen.push(("file", Some(what)));
            }
            if !page.more
                && page.next.is_none()
                && let Some(what) = table.fallen_behind(keys)?
            {
                page.seen.push(("cursor", Some(what)));
            }
        }
        if !page.more {
            // What was just read is handed over before the next look.
            self.done = Some(version);
        }
        Ok(page)
    }

    /// Holds the definition against the table, in a snapshot of its own.
    fn examine(&mut self, job: &Job, now: Timestamp) -> Result<Seen, Trouble> {
        let snapshot = self.connection.transaction().map_err(|error| job.broken(error))?;
        let found = Table { job, snapshot, now }.examine();
        self.examined = !matches!(found, Err(Trouble::Busy));
        match found {
            Err(Trouble::Broken(error)) => {
                Ok(vec![("definition", Some(format!("cannot be examined: {error}")))])
            }
            other => other,
        }
    }
}

/// Subjects that were looked at, and what is wrong with each, if anything is.
type Seen = Vec<(&'static str, Option<String>)>;
