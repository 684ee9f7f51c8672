//! Opening the file: what it remembers is read, and a new epoch is committed
//! before its first event.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use rusqlite::Connection;

use super::follow::Followed;
use super::{File, Totals};
use crate::buffer::drops::{Dropped, dropped};
use crate::buffer::evict::Growing;
use crate::buffer::lock::Lock;
use crate::buffer::pack::Packer;
use crate::buffer::reserve::Reserve;
use crate::buffer::state::{Lost, epochs, get, memory, put_totals, saved};
use crate::buffer::usage::Usage;
use crate::buffer::{
    BatchId, FileEpoch, Loss, Memory, OpenError, damage, dead, failure, room, salvage, schema,
};
use crate::collect::Checkpoint;

/// Epochs whose batches are gone stay known for as many starts: a position
/// that names one then still says what it covers.
const EPOCHS_KEPT: i64 = 16;

impl File {
    /// Takes the lock, opens the file, and commits a new epoch before its
    /// first event.
    pub(crate) fn open(path: &Path, gateway: &str) -> Result<Self, OpenError> {
        let lock = Lock::take(path)?;
        damage::prepare(path, gateway)?;
        let begun = match begin(path, gateway) {
            Err(OpenError::File { cause, .. }) if failure::is_damage_at_start(&cause) => {
                damage::set_aside(path, gateway, &cause.to_string())?;
                begin(path, gateway)?
            }
            other => other?,
        };
        let Begun {
            connection,
            epochs,
            totals,
            usage,
            dropped,
            memory,
            saved,
            lost,
            salvaged,
            last_loss,
        } = begun;
        let running = epochs.last().cloned().expect("start has just written one");
        if running.ordinal > BatchId::MOST_ORDINAL {
            return Err(OpenError::Worn(path.to_owned()));
        }
        if let Some(loss) = &salvaged {
            damage::tell(loss);
        }
        let mut reserve = Reserve::default();
        reserve.take(path);
        Ok(Self {
            connection,
            path: path.to_owned(),
            running,
            epochs,
            totals,
            ahead: (0, 0),
            usage,
            dropped,
            growing: Growing::new(),
            memory,
            saved,
            lost,
            salvaged,
            last_loss,
            reserve,
            followed: Followed::default(),
            streams: HashMap::new(),
            dead_room: dead::room(u64::MAX),
            packer: Packer::default(),
            raw: Vec::new(),
            commits: 0,
            _lock: lock,
        })
    }
}

/// What an opening finds.
struct Begun {
    connection: Connection,
    epochs: Vec<FileEpoch>,
    totals: Totals,
    usage: Usage,
    dropped: Vec<Dropped>,
    memory: Memory,
    saved: BTreeMap<String, Checkpoint>,
    lost: Lost,
    salvaged: Option<Loss>,
    last_loss: Option<Loss>,
}

fn begin(path: &Path, gateway: &str) -> Result<Begun, OpenError> {
    let epoch = random(path)?;
    let connection = schema::open(path)?;
    found(connection, gateway, epoch)
        .map_err(|cause| OpenError::File { path: path.to_owned(), cause })
}

fn found(mut connection: Connection, gateway: &str, epoch: u64) -> Result<Begun, rusqlite::Error> {
    damage::check(&connection)?;
    // What was recovered from the -wal may end within a sector, and the next frame
    // would be written beside it: it goes into the database first. Where that does
    // not go (a full disk, another process that is at it), the -wal is as good as it
    // was, and the commit of the epoch syncs it at the latest: sources are answered
    // for what is found here, though a process that was killed may not have synced it.
    if let Err(cause) = room::empty_wal(&connection)
        && failure::is_unsynced(&cause)
    {
        // The system does not write it a second time by itself, and the next sync
        // would say that all is well: the next start writes it into the database.
        return Err(cause);
    }
    schema::keep_wal(&connection, false)?;
    let memory = memory(&connection)?;
    let told = |key| -> Result<Option<Loss>, rusqlite::Error> {
        Ok(get(&connection, key)?.and_then(|text| serde_json::from_slice(&text).ok()))
    };
    let salvaged = told(salvage::LOSS)?;
    let last_loss = salvaged.clone().or(told(salvage::LAST_LOSS)?);
    let lost = Lost::read(&connection)?;
    let totals = start(&mut connection, gateway, &memory, epoch)?;
    Ok(Begun {
        epochs: epochs(&connection)?,
        totals,
        usage: Usage::load(&connection)?,
        dropped: dropped(&connection)?,
        memory,
        saved: saved(&connection)?,
        lost,
        salvaged,
        last_loss,
        connection,
    })
}

/// Ends the epoch before and begins a new one, in one commit.
fn start(
    connection: &mut Connection,
    gateway: &str,
    memory: &Memory,
    epoch: u64,
) -> Result<Totals, rusqlite::Error> {
    let transaction = connection.transaction()?;
    let text: Option<Vec<u8>> = get(&transaction, "totals")?;
    let mut totals: Totals =
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    transaction.execute(
        "UPDATE epoch SET last = ?1 WHERE ordinal = (SELECT max(ordinal) FROM epoch)",
        [totals.number.cast_signed()],
    )?;
    (totals.number, totals.seq) = (0, 0);
    transaction.execute(
        "INSERT INTO epoch (epoch, gateway) VALUES (?1, ?2)",
        (epoch.cast_signed(), gateway),
    )?;
    let newest = transaction.last_insert_rowid();
    for known in epochs(&transaction)? {
        let lowest = BatchId::new(known.ordinal, 0);
        let named = memory.position.as_ref().is_some_and(|position| {
            position.flows.values().any(|(epoch, _)| *epoch == known.epoch)
        });
        if known.ordinal <= newest - EPOCHS_KEPT && !named {
            transaction.execute(
                "DELETE FROM epoch WHERE ordinal = ?1
                 AND NOT EXISTS (SELECT 1 FROM batch WHERE id BETWEEN ?2 AND ?3)",
                (known.ordinal, lowest.0, BatchId::new(known.ordinal, u64::MAX).0),
            )?;
        }
    }
    transaction.execute(
        // What a dead letter can bring back needs its stream too (SAFETY 14).
        "DELETE FROM stream
         WHERE NOT EXISTS (SELECT 1 FROM batch WHERE batch.flow = stream.flow)
         AND NOT EXISTS (SELECT 1 FROM dead_event WHERE dead_event.flow = stream.flow)",
        [],
    )?;
    put_totals(&transaction, &totals)?;
    // The log tells it with this opening; whoever tells it elsewhere may take
    // longer.
    transaction.execute(
        "UPDATE OR REPLACE state SET key = ?2 WHERE key = ?1",
        [salvage::LOSS, salvage::LAST_LOSS],
    )?;
    transaction.commit()?;
    Ok(totals)
}

/// From `getrandom(2)`, which waits until the kernel's source is seeded: in the
/// first seconds after power-on `/dev/urandom` of an older kernel answers before
/// it is, with what it may have answered at the start before.
fn random(path: &Path) -> Result<u64, OpenError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|cause| {
        let cause = cause.raw_os_error().map_or_else(
            || std::io::Error::other(cause.to_string()),
            std::io::Error::from_raw_os_error,
        );
        OpenError::Random { path: path.to_owned(), cause }
    })?;
    Ok(u64::from_ne_bytes(bytes))
}
