//! A damaged file is set aside, what can be read of it goes into a new one, and
//! the agent goes on. Nobody has to come.
//!
//! The steps, and what a crash between two of them leaves:
//!
//! 1. `.salvaging` says that the file goes to `<path>.damaged-<time>`.
//!    *Before the next step: nothing has happened; the next start looks anew.*
//! 2. The file is renamed to that name, then its -wal, -shm and -journal: a
//!    -wal beside another file would destroy it.
//!    *From here on the next start goes on with the step that is missing.*
//! 3. What can be read is written to `<path>.salvage` and put on the medium.
//!    *The next start begins this step anew.*
//! 4. `.salvage` is renamed to the file's name.
//!    *The next start finds the file and removes `.salvaging`.*
//! 5. `.salvaging` goes.
//!
//! The renamed file is not changed any more. The newest few are kept for who
//! wants to look: [`prune`].

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};
use tracing::{info, warn};

use super::file::Totals;
use super::schema::{self, beside};
use super::{BatchId, Loss, OpenError, own, reserve, salvage, state};
use crate::clock::Clock;

/// What belongs to a database and goes with it.
const PARTS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Files that were set aside and are kept. More tell a person nothing new.
const MOST_KEPT: usize = 3;

/// Rows at each end of the queue that every start looks at: where a power cut
/// and a worn card show first.
const ROWS: i64 = 8;

/// Looks for what `SQLite` would pass over, and goes on with a salvage that was
/// interrupted or that the run before asked for.
pub(super) fn prepare(path: &Path, gateway: &str) -> Result<(), OpenError> {
    let failed = |cause| OpenError::SetAside { path: path.to_owned(), cause };
    match fs::read_to_string(note(path)) {
        Ok(text) => {
            let (name, cause) = text.split_once('\n').unwrap_or_default();
            let cause = cause.trim_end();
            if let Some(aside) = named(path, name) {
                return go_on(path, &aside, gateway, cause);
            }
            let cause = if cause.is_empty() { "it was damaged while in use" } else { cause };
            return set_aside(path, gateway, cause);
        }
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        // Not text: it was cut off while it was written, before anything else.
        Err(cause) if cause.kind() == ErrorKind::InvalidData => {
            fs::remove_file(note(path)).map_err(failed)?;
        }
        Err(cause) => return Err(failed(cause)),
    }
    match salvage::hidden(path).map_err(failed)? {
        Some(cause) => set_aside(path, gateway, cause),
        None => Ok(()),
    }
}

/// Why the next start will salvage the file before it uses it, as far as that
/// shows before the file is opened: until then nobody else may open it, since
/// `SQLite` may throw away what is still to be read.
pub(super) fn awaited(path: &Path) -> std::io::Result<Option<&'static str>> {
    if is_begun(path)? {
        return Ok(Some("a salvage is asked for or begun"));
    }
    salvage::hidden(path)
}

/// Whether a salvage is asked for or begun; the file may be gone meanwhile.
pub(super) fn is_begun(path: &Path) -> std::io::Result<bool> {
    note(path).try_exists()
}

/// Asks the next start for a salvage, whatever it sees itself: damage in the
/// list of free pages, for instance, only shows when a page is needed.
pub(super) fn ask(path: &Path, cause: &str) {
    let cause = cause.replace('\n', " ");
    if let Err(error) = write_note(path, &format!("\n{cause}\n")) {
        warn!(%error, "cannot note that the buffer is damaged, the next start looks itself");
    }
}

/// Moves the file out of the way and makes a new one of what can be read.
pub(super) fn set_aside(path: &Path, gateway: &str, cause: &str) -> Result<(), OpenError> {
    warn!(path = %path.display(), cause, "the buffer is damaged, what can be read is salvaged");
    // It is small, and these lines may be all that is to be written.
    reserve::release(path);
    let failed = |error| OpenError::SetAside { path: path.to_owned(), cause: error };
    let aside = free_name(path).map_err(failed)?;
    let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    write_note(path, &format!("{name}\n{cause}\n")).map_err(failed)?;
    go_on(path, &aside, gateway, cause)
}

fn go_on(path: &Path, aside: &Path, gateway: &str, cause: &str) -> Result<(), OpenError> {
    let failed = |error| OpenError::SetAside { path: path.to_owned(), cause: error };
    move_away(path, aside).map_err(failed)?;
    if !path.try_exists().map_err(failed)? {
        let new = beside(path, ".salvage");
        for part in ["", "-journal"] {
            remove(&beside(&new, part)).map_err(failed)?;
        }
        let done = salvage::salvage(aside, &new, gateway, cause);
        done.map_err(|cause| OpenError::Salvage { path: aside.to_owned(), cause })?;
        fs::rename(&new, path).map_err(failed)?;
        sync_folder(path).map_err(failed)?;
    }
    remove(&note(path)).map_err(failed)?;
    sync_folder(path).map_err(failed)
}

/// All or nothing that is still there; the database first, so that its name
/// tells how far this went.
fn move_away(path: &Path, aside: &Path) -> std::io::Result<()> {
    if !aside.try_exists()? {
        if !path.try_exists()? {
            // Only its -wal is left. (Not through a link to nothing.)
            File::create_new(path)?.sync_all()?;
        }
        fs::rename(path, aside)?;
        sync_folder(path)?;
    }
    if path.try_exists()? {
        // The new file is in its place; what stands beside it is its own.
        return Ok(());
    }
    for part in PARTS {
        match fs::rename(beside(path, part), beside(aside, part)) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
    }
    sync_folder(path)
}

/// Deletes the oldest of the files that were set aside, until they are few and
/// take no more than `most` bytes; the newest stays.
pub(super) fn prune(path: &Path, most: u64) {
    let mut kept = 0;
    let mut bytes = 0_u64;
    for file in all_aside(path).into_iter().rev() {
        let parts = || ["", "-wal", "-shm", "-journal"].map(|part| beside(&file, part));
        let sizes = parts().into_iter().filter_map(|part| fs::metadata(part).ok());
        bytes = sizes.map(|data| data.len()).fold(bytes, u64::saturating_add);
        kept += 1;
        if kept == 1 || kept <= MOST_KEPT && bytes <= most {
            continue;
        }
        info!(path = %file.display(), "an old damaged buffer is deleted");
        // The database last: without it the others would never be found.
        for part in parts().iter().rev() {
            if let Err(error) = remove(part) {
                warn!(path = %part.display(), %error, "cannot delete an old damaged buffer");
            }
        }
    }
}

/// Names of the files that were set aside, oldest first.
pub(super) fn all_aside(path: &Path) -> Vec<PathBuf> {
    let Some(folder) = path.parent() else { return Vec::new() };
    let Ok(entries) =
        fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<PathBuf> = names.filter_map(|name| named(path, &name)).collect();
    found.sort();
    found
}

/// The path of a file that was set aside, if the name is one's.
fn named(path: &Path, name: &str) -> Option<PathBuf> {
    let file = path.file_name()?.to_str()?;
    let time = name.strip_prefix(file)?.strip_prefix(".damaged-")?;
    let plain = time.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.');
    (plain && !time.is_empty()).then(|| path.with_file_name(name))
}

fn free_name(path: &Path) -> std::io::Result<PathBuf> {
    let now = Clock::system().now();
    let time = jiff::Timestamp::from_nanosecond(i128::from(now.0)).unwrap_or_default();
    let time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    for again in 0_u32.. {
        // A machine without a clock has the same time at every start.
        let suffix = if again == 0 { String::new() } else { format!(".{again:06}") };
        let name = beside(path, &format!(".damaged-{time}{suffix}"));
        if !name.try_exists()? {
            return Ok(name);
        }
    }
    Err(std::io::Error::other("no name is free"))
}

fn note(path: &Path) -> PathBuf {
    beside(path, ".salvaging")
}

/// In one step: a half written name must never be followed.
fn write_note(path: &Path, text: &str) -> std::io::Result<()> {
    let new = beside(path, ".salvaging-new");
    let mut file = own::make(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, note(path))?;
    sync_folder(path)
}

/// Puts the names in the file's folder on the medium.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// What can be checked of a file of any size in a moment (SAFETY 17): the
/// catalogue, the small tables, both ends of the queue.
pub(super) fn check(connection: &Connection) -> Result<(), rusqlite::Error> {
    if schema::catalogue(connection)? != schema::expected()? {
        return Err(schema::damaged("the catalogue is damaged"));
    }
    let form = |name: &str| -> Result<String, rusqlite::Error> {
        connection.query_row(
            &format!("SELECT format('%s', {name}) FROM pragma_{name}"),
            [],
            |row| row.get(0),
        )
    };
    if (&*form("auto_vacuum")?, &*form("encoding")?) != ("2", "UTF-8") {
        return Err(schema::damaged("the header is damaged"));
    }
    for table in ["state", "epoch", "stream", "dropped", "gap", "mark"] {
        let found: String =
            connection
                .query_row(&format!("PRAGMA integrity_check({table})"), [], |row| row.get(0))?;
        if found != "ok" {
            return Err(schema::damaged(&found));
        }
    }
    let newest: Option<i64> =
        connection.query_row("SELECT max(ordinal) FROM epoch", [], |row| row.get(0))?;
    let used: Option<i64> = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'epoch'", [], |row| row.get(0))
        .optional()?;
    // The newest epoch is never deleted.
    if used != newest {
        return Err(schema::damaged("the number of starts is damaged"));
    }
    let totals = state::get(connection, "totals")?;
    let totals = totals.map(|text| serde_json::from_slice::<Totals>(&text));
    if newest.is_some() && !matches!(totals, Some(Ok(_))) {
        return Err(schema::damaged("the totals are damaged"));
    }
    let newest = BatchId::new(newest.unwrap_or(0), u64::MAX);
    for order in ["", "DESC"] {
        let mut rows = connection.prepare(&format!(
            "SELECT id, flow, first_seq + count + raw + oldest, length(cursors), data
             FROM batch NOT INDEXED ORDER BY id {order} LIMIT {ROWS}"
        ))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (id, flow): (i64, i64) = (row.get(0)?, row.get(1)?);
            row.get::<_, i64>(2)?;
            row.get_ref(4)?.as_blob()?;
            if id > newest.0 {
                return Err(schema::damaged("a batch of a start that never was"));
            }
            exists(
                connection,
                "SELECT 1 FROM batch INDEXED BY batch_flow WHERE flow = ?1 AND id = ?2",
                (flow, id),
            )?;
        }
        let mut rows = connection.prepare(&format!(
            "SELECT flow, id FROM batch INDEXED BY batch_flow
             ORDER BY flow {order}, id {order} LIMIT {ROWS}"
        ))?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (flow, id): (i64, i64) = (row.get(0)?, row.get(1)?);
            exists(
                connection,
                "SELECT 1 FROM batch NOT INDEXED WHERE flow = ?1 AND id = ?2",
                (flow, id),
            )?;
        }
        let mut rows = connection
            .prepare(&format!("SELECT * FROM dead_letter ORDER BY id {order} LIMIT {ROWS}"))?;
        let mut rows = rows.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}

fn exists(connection: &Connection, query: &str, key: (i64, i64)) -> Result<(), rusqlite::Error> {
    if connection.prepare_cached(query)?.exists(key)? {
        return Ok(());
    }
    Err(schema::damaged("a table and its index do not agree"))
}

/// Says in one line what a salvage cost.
pub(super) fn tell(loss: &Loss) {
    let unknown = || "unknown".to_owned();
    warn!(
        cause = loss.cause,
        set_aside = %loss.set_aside.display(),
        batches = loss.batches,
        events = loss.events,
        lost_batches = loss.lost_batches.map_or_else(unknown, |n| n.to_string()),
        lost_events = loss.lost_events.map_or_else(unknown, |n| n.to_string()),
        lost_ids = loss.ranges.join(", "),
        unreadable_batches = loss.unreadable,
        renamed_epochs = loss.renamed_epochs,
        cursors_lost = loss.cursors_lost,
        no_room = loss.no_room,
        "the buffer was damaged, what could be read goes on in a new file"
    );
}
