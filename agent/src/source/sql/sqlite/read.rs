//! One connection. It is used on blocking threads only, one look at a time.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::super::Page;
use super::super::cursor::Place;
use super::job::{Job, Trouble};
use super::table::Table;
use crate::event::Timestamp;
use crate::source::Error;

/// Pages of the file that `SQLite` may cache, in KiB: what is read in order is
/// not read twice, and a gateway has better use for the default of 2 MiB.
const CACHE_KIB: i32 = 256;

/// An open connection.
#[derive(Debug)]
pub(super) struct Reader {
    job: Arc<Job>,
    connection: Connection,
    /// Device and inode: another file may come to stand under the path.
    file: (u64, u64),
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
            connection.busy_timeout(job.busy_timeout)?;
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

    /// The page behind `place`; empty where nothing was committed since the
    /// last one.
    pub(super) fn read(&mut self, place: &Place, now: Timestamp) -> Result<Page, Trouble> {
        let job = Arc::clone(&self.job);
        if job.file()? != self.file {
            let path = job.path.display();
            return Err(Trouble::Broken(Error::new(format!(
                "another file has taken the place of the database {path}"
            ))));
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
        if !page.more {
            if page.next.is_none()
                && let Place::After(keys) = place
            {
                page.seen.push(("cursor", table.fallen_behind(keys)?));
            }
            if !self.examined {
                page.seen.extend(table.examine()?);
                self.examined = true;
            }
            // What was just read is handed over before the next look.
            self.done = Some(version);
        }
        Ok(page)
    }
}
