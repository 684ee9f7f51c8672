//! A buffer carried elsewhere: a copy of the file, and its events taken in by
//! another file.
//!
//! The copy is a buffer file itself, made by `VACUUM INTO`: exact to the last
//! byte of every event, compact, without a WAL beside it, of one moment, and it
//! never holds up the writer. (The backup API would begin anew with each commit
//! of a running agent; JSON would lose what a record rounds.)
//!
//! What is taken in keeps its ids and gets places in the file's own epoch. Each
//! batch is remembered by the place that it came from, which is unique in the
//! world, so that no file is taken in twice.

use std::fs::File as Plain;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::lock::Lock;
use super::{BatchId, Birth, Loss, OpenError, ReadError, salvage, schema, state};

/// Batches and bytes of one commit of an import: it must not hold the sources
/// back for long.
const PORTION_BATCHES: u32 = 200;
const PORTION_BYTES: usize = 4 * 1024 * 1024;

/// The copy could not be made; none is there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{} is there already: name another file", .0.display())]
    Exists(PathBuf),
    #[error("cannot read the buffer {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: rusqlite::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// Copies the file, whether an agent has it or not. Gives the copy's bytes. A
/// power cut before the end leaves a `.part` and no copy.
pub fn export(buffer: &Path, to: &Path) -> Result<u64, ExportError> {
    let write = |cause| ExportError::Write { path: to.to_owned(), cause };
    let read = |cause| ExportError::Read { path: buffer.to_owned(), cause };
    let part = part(to)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(buffer, flags).map_err(read)?;
    connection.execute("VACUUM INTO ?1", [part.to_string_lossy()]).map_err(read)?;
    // It is written without a flush, being no database of anybody's yet.
    Plain::open(&part).and_then(|file| file.sync_all()).map_err(write)?;
    put_in_place(&part, to)?;
    Ok(std::fs::metadata(to).map_err(write)?.len())
}

/// Reads what can be read of a damaged file, with the -wal beside it, into a new
/// one, to look at it or to take it in elsewhere. The damaged file stays as it
/// is; no agent may have it. `gateway` names what has lost its name.
pub fn salvage_into(from: &Path, to: &Path, gateway: &str) -> Result<Loss, SalvageError> {
    if !from.is_file() {
        return Err(OpenError::Missing(from.to_owned()).into());
    }
    let _lock = Lock::take(from)?;
    let part = part(to)?;
    let loss = salvage::salvage(from, &part, gateway, "a salvage was asked for")
        .map_err(|cause| OpenError::Salvage { path: from.to_owned(), cause })?;
    put_in_place(&part, to)?;
    Ok(loss)
}

/// Nothing was salvaged, and no new file is there.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    #[error(transparent)]
    From(#[from] OpenError),
    #[error(transparent)]
    Into(#[from] ExportError),
}

/// Where the new file is written until it is whole; nothing stands there.
fn part(to: &Path) -> Result<PathBuf, ExportError> {
    let write = |cause| ExportError::Write { path: to.to_owned(), cause };
    if to.try_exists().map_err(write)? {
        return Err(ExportError::Exists(to.to_owned()));
    }
    let part = schema::beside(to, ".part");
    for name in [schema::beside(&part, "-journal"), part.clone()] {
        match std::fs::remove_file(name) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(write(cause)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(part)
}

fn put_in_place(part: &Path, to: &Path) -> Result<(), ExportError> {
    let write = |cause| ExportError::Write { path: to.to_owned(), cause };
    std::fs::rename(part, to).map_err(write)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    Plain::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all()).map_err(write)
}

/// A file whose events are taken in.
#[derive(Debug)]
pub struct Foreign {
    connection: Connection,
}

/// A batch of another file, as its row holds it.
#[derive(Debug, Clone)]
pub(crate) struct ForeignBatch {
    pub id: BatchId,
    /// Epoch in which that file wrote it; with the number its place.
    pub(super) written: u64,
    pub(super) flow: u32,
    pub(super) lane: String,
    pub(super) definition: String,
    pub(super) first_seq: i64,
    pub(super) count: i64,
    pub(super) raw: i64,
    pub(super) oldest: i64,
    pub(super) birth: Vec<u8>,
    pub(super) data: Vec<u8>,
}

impl Foreign {
    /// Only a buffer of this program's own layout is taken in.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if !path.is_file() {
            return Err(OpenError::Missing(path.to_owned()));
        }
        let failed = |cause| OpenError::File { path: path.to_owned(), cause };
        let connection = schema::open_reader(path).map_err(failed)?;
        schema::known(&connection, path)?;
        Ok(Self { connection })
    }

    /// Batches that the file has.
    pub fn batches(&self) -> Result<u64, ReadError> {
        let count: i64 =
            self.connection.query_row("SELECT count(*) FROM batch", [], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// The batches behind this one, as many as one commit takes.
    pub(crate) fn portion(&self, after: BatchId) -> Result<Vec<ForeignBatch>, ReadError> {
        let epochs = state::epochs(&self.connection)?;
        let mut statement = self.connection.prepare_cached(
            "SELECT id, batch.flow, lane, definition, first_seq, count, raw, oldest, birth, data
             FROM batch JOIN stream ON stream.flow = batch.flow
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = statement.query((after.0, PORTION_BATCHES))?;
        let (mut found, mut bytes) = (Vec::new(), 0_usize);
        while let Some(row) = rows.next()? {
            let id = BatchId(row.get(0)?);
            let Some(known) = epochs.iter().find(|known| known.ordinal == id.ordinal()) else {
                // `verify` tells of it.
                continue;
            };
            let birth: Option<Vec<u8>> = row.get(8)?;
            let birth = birth.unwrap_or_else(|| {
                Birth { epoch: known.epoch, gateway: known.gateway.clone() }.bytes()
            });
            let data: Vec<u8> = row.get(9)?;
            bytes = bytes.saturating_add(data.len());
            found.push(ForeignBatch {
                id,
                written: known.epoch.0,
                flow: row.get(1)?,
                lane: row.get(2)?,
                definition: row.get(3)?,
                first_seq: row.get(4)?,
                count: row.get(5)?,
                raw: row.get(6)?,
                oldest: row.get(7)?,
                birth,
                data,
            });
            if bytes >= PORTION_BYTES {
                break;
            }
        }
        Ok(found)
    }
}
