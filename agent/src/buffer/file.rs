//! The file as its one writer sees it: opening, and one commit.
//!
//! Everything that changes together stands in one transaction: the events, the
//! checkpoints behind them, what Kafka's position covers, dead letters, totals.

mod errand;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use zstd::bulk::Compressor;

use super::codec::Encoder;
use super::forget::forget;
use super::lock::Lock;
use super::state::{cursors, epochs, get, memory, parts, put, put_totals, saved};
use super::{Adopted, BatchId, Burial, FileEpoch, Memory, OpenError, Position, dead, schema};
use crate::collect::{Checkpoint, DeadLetter};
use crate::event::Timestamp;
use crate::flow;

/// Epochs whose batches are gone stay known for as many starts: a position
/// that names one then still says what it covers.
const EPOCHS_KEPT: i64 = 16;

/// Level 3 makes these batches no smaller.
pub(super) const LEVEL: i32 = 1;

/// The file open for writing.
pub(crate) struct File {
    connection: Connection,
    path: PathBuf,
    running: FileEpoch,
    epochs: Vec<FileEpoch>,
    totals: Totals,
    memory: Memory,
    saved: BTreeMap<String, Checkpoint>,
    /// Definitions that are in the file, as text.
    streams: HashMap<flow::Hash, String>,
    dead_room: u64,
    compressor: Compressor<'static>,
    raw: Vec<u8>,
    /// Last field: the lock goes after the connection.
    _lock: Lock,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What is counted in the commit that changes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    /// Batch and event numbers of the running epoch that are used.
    pub number: u64,
    pub seq: u64,
    /// In the file now.
    pub batches: u64,
    pub events: u64,
    /// Ever committed.
    pub committed: u64,
    pub dead_letters: u64,
    pub dead_bytes: u64,
    /// Dead letters that made room for newer ones.
    pub dead_dropped: u64,
}

/// One batch to write.
#[derive(Debug)]
pub(crate) struct Sealed<'a> {
    pub flow: &'a flow::Flow,
    pub events: &'a Encoder,
}

/// What one commit changes.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    pub batches: Vec<Sealed<'a>>,
    pub saved: Vec<(&'a str, &'a Checkpoint)>,
    pub dead: Vec<&'a DeadLetter>,
    /// Those that come with the event that Kafka refused.
    pub buried: Vec<&'a Burial>,
    /// Positions to delete by, oldest first, with their cluster.
    pub positions: Vec<(&'a Position, &'a str)>,
}

impl Changes<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
            && self.saved.is_empty()
            && self.dead.is_empty()
            && self.buried.is_empty()
            && self.positions.is_empty()
    }
}

/// How the file stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// Pages in use, in bytes.
    pub used: u64,
    pub oldest: Option<Timestamp>,
}

impl File {
    /// Takes the lock, opens the file, and commits a new epoch before its
    /// first event.
    pub(crate) fn open(path: &Path, gateway: &str) -> Result<Self, OpenError> {
        let lock = Lock::take(path)?;
        let mut connection = schema::open(path)?;
        let failed = |cause| OpenError::File { path: path.to_owned(), cause };
        let memory = memory(&connection).map_err(failed)?;
        let totals = start(&mut connection, gateway, &memory, random(path)?).map_err(failed)?;
        let epochs = epochs(&connection).map_err(failed)?;
        let running = epochs.last().cloned().expect("start has just written one");
        if running.ordinal > BatchId::MOST_ORDINAL {
            return Err(OpenError::Worn(path.to_owned()));
        }
        let saved = saved(&connection).map_err(failed)?;
        let compressor = Compressor::new(LEVEL).expect("level 1 exists");
        Ok(Self {
            connection,
            path: path.to_owned(),
            running,
            epochs,
            totals,
            memory,
            saved,
            streams: HashMap::new(),
            dead_room: dead::room(u64::MAX),
            compressor,
            raw: Vec::new(),
            _lock: lock,
        })
    }

    /// Keeps dead letters to a share of the size that the file may have: they
    /// are never sent, and a file that they fill would hold the sources back
    /// for ever.
    pub(crate) fn limit(&mut self, max_size: u64) -> Result<(), rusqlite::Error> {
        self.dead_room = dead::room(max_size);
        let mut totals = self.totals;
        let transaction = self.connection.transaction()?;
        dead::make_room(&transaction, self.dead_room, &mut totals)?;
        if totals != self.totals {
            put_totals(&transaction, &totals)?;
        }
        transaction.commit()?;
        self.totals = totals;
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn epochs(&self) -> &[FileEpoch] {
        &self.epochs
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn saved(&self, source: &str) -> Option<&Checkpoint> {
        self.saved.get(source)
    }

    /// Id of the last batch that was written, in this epoch or, before its
    /// first, the place just before it.
    pub(crate) fn newest(&self) -> BatchId {
        BatchId::new(self.running.ordinal, self.totals.number)
    }

    /// One commit. After an error nothing of it has happened, for all that
    /// this process can know: it is tried again as a whole. (Where the medium
    /// took it and only said otherwise, a crash before the next try leaves
    /// events in the file that were never acknowledged: their source sends
    /// them again, under new ids.)
    ///
    /// Gives for each position what it deleted.
    pub(crate) fn commit(
        &mut self,
        changes: &Changes<'_>,
        now: Timestamp,
    ) -> Result<Vec<Adopted>, rusqlite::Error> {
        let mut totals = self.totals;
        let transaction = self.connection.transaction()?;
        // A power cut anywhere before the last line costs what is not
        // acknowledged yet; its source has it still, or the device does.
        let mut adopted = Vec::new();
        let mut memory = None;
        for (position, cluster) in &changes.positions {
            adopted.push(forget(&transaction, &self.epochs, position, cluster, &mut totals)?);
            if position.is_of(&self.epochs, cluster) {
                memory = Some(Memory {
                    cluster: Some((*cluster).to_owned()),
                    position: Some((*position).clone()),
                });
            }
        }
        if let Some(memory) = &memory {
            let text = memory.position.as_ref().map(Position::encode).unwrap_or_default();
            put(&transaction, "position", text.as_bytes())?;
            put(&transaction, "cluster", memory.cluster.as_deref().unwrap_or_default().as_bytes())?;
        }
        let cursors = cursors(&changes.saved);
        let mut streams = Vec::new();
        for batch in &changes.batches {
            let hash = batch.flow.hash;
            let definition = definition(&batch.flow.stream);
            if self.streams.get(&hash) != Some(&definition) {
                transaction.execute(
                    "INSERT OR REPLACE INTO stream (flow, lane, definition) VALUES (?1, ?2, ?3)",
                    (hash.0, batch.flow.lane.as_str(), &definition),
                )?;
                streams.push((hash, definition));
            }
            batch.events.finish(&mut self.raw);
            let data = self
                .compressor
                .compress(&self.raw)
                .map_err(|cause| rusqlite::Error::ToSqlConversionFailure(cause.into()))?;
            let count = u64::from(batch.events.count());
            totals.number += 1;
            let id = BatchId::new(self.running.ordinal, totals.number);
            transaction
                .prepare_cached(
                    "INSERT INTO batch (id, flow, first_seq, count, raw, oldest, cursors, data)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    id.0,
                    hash.0,
                    (totals.seq + 1).cast_signed(),
                    count.cast_signed(),
                    i64::try_from(self.raw.len()).unwrap_or(i64::MAX),
                    batch.events.oldest().map_or(0, |oldest| oldest.0),
                    cursors,
                    data,
                ])?;
            totals.seq += count;
            totals.batches += 1;
            totals.events += count;
            totals.committed += count;
        }
        for (source, checkpoint) in &changes.saved {
            let (kind, bytes) = parts(checkpoint);
            put(&transaction, &format!("{kind}/{source}"), bytes)?;
        }
        for letter in &changes.dead {
            dead::bury(&transaction, letter, now, &mut totals)?;
        }
        for burial in &changes.buried {
            burial.commit(&transaction, now, &mut totals)?;
        }
        dead::make_room(&transaction, self.dead_room, &mut totals)?;
        put_totals(&transaction, &totals)?;
        transaction.commit()?;
        // From here on a power cut costs nothing.
        self.totals = totals;
        self.streams.extend(streams);
        if let Some(memory) = memory {
            self.memory = memory;
        }
        Ok(adopted)
    }

    /// What stands in the file now.
    pub(crate) fn state(&self) -> Result<State, rusqlite::Error> {
        let number = |name: &str| -> Result<u64, rusqlite::Error> {
            let mut statement = self.connection.prepare_cached(&format!("PRAGMA {name}"))?;
            statement.query_row([], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
        };
        let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
        let oldest = self
            .connection
            .prepare_cached("SELECT oldest FROM batch ORDER BY id LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        Ok(State {
            used: pages.saturating_mul(number("page_size")?),
            oldest: oldest.map(Timestamp),
        })
    }
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

fn definition(stream: &flow::Stream) -> String {
    serde_json::to_string(stream).expect("a stream is plain words and numbers")
}
