//! The file as its one writer sees it, and one commit.
//!
//! Everything that changes together stands in one transaction: the events, the
//! checkpoints behind them, what Kafka's position covers, dead letters, totals.

mod ahead;
mod errand;
mod follow;
mod open;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use self::follow::Followed;
use super::codec::Encoder;
use super::drops::{Dropped, dropped, note_unnumbered};
use super::evict::{Growing, newest_gap};
use super::forget::{delivered, forget};
use super::lock::Lock;
use super::pack::Packer;
use super::reserve::Reserve;
use super::state::{self, Lost, cursors, put, put_totals, save};
use super::usage::Usage;
use super::{
    Adopted, BatchId, Burial, FileEpoch, Loss, Memory, Position, Row, damage, dead, failure,
};
use crate::collect::{Checkpoint, DeadLetter};
use crate::event::Timestamp;
use crate::flow::{self, Flows};

/// The file open for writing.
pub(crate) struct File {
    pub(super) connection: Connection,
    path: PathBuf,
    running: FileEpoch,
    pub(super) epochs: Vec<FileEpoch>,
    pub(super) totals: Totals,
    /// The last numbers of the running epoch that were given out: those of what
    /// stands in memory are no part of the totals.
    ahead: (u64, u64),
    pub(super) usage: Usage,
    pub(super) dropped: Vec<Dropped>,
    /// Gaps of this opening that what is dropped next may be added to.
    pub(super) growing: Growing,
    memory: Memory,
    saved: BTreeMap<String, Checkpoint>,
    /// Sources whose checkpoint a salvage did not find.
    lost: Lost,
    /// What the salvage before this opening cost.
    salvaged: Option<Loss>,
    /// What the last one cost, whenever that was.
    last_loss: Option<Loss>,
    reserve: Reserve,
    /// What the running configuration says of its streams.
    followed: Followed,
    /// Definitions that are in the file, as text.
    streams: HashMap<flow::Hash, String>,
    dead_room: u64,
    packer: Packer,
    raw: Vec<u8>,
    /// Of this opening.
    pub(super) commits: u64,
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
    /// Batch and event numbers of the running epoch that are used: up to here all is
    /// in this file, was in it, or is in Kafka. Where the epoch ended is told to other
    /// copies of the file by it, and they let go what stands before.
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
    /// What stood in memory, all of it; before the batches.
    pub held: Vec<std::sync::Arc<Row>>,
    pub batches: Vec<Sealed<'a>>,
    pub saved: Vec<(&'a str, &'a Checkpoint)>,
    pub dead: Vec<&'a DeadLetter>,
    /// Those that come with the event that Kafka refused.
    pub buried: Vec<&'a Burial>,
    /// What comes and is not stored, and the last gap that is told.
    pub refused: Vec<Dropped>,
    pub told: i64,
    /// Positions to delete by, oldest first, with their cluster.
    pub positions: Vec<(&'a Position, &'a str)>,
    /// Batches to delete, each because all of it was seen in Kafka.
    pub delivered: &'a [BatchId],
}

impl Changes<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
            && self.batches.is_empty()
            && self.saved.is_empty()
            && self.dead.is_empty()
            && self.buried.is_empty()
            && self.refused.is_empty()
            && self.positions.is_empty()
            && self.delivered.is_empty()
    }
}

impl File {
    /// Keeps dead letters to a share of the size that the file may have: they
    /// are never sent, and a file that they fill would hold the sources back
    /// for ever.
    pub(crate) fn limit(&mut self, max_size: u64) -> Result<(), rusqlite::Error> {
        damage::prune(&self.path, max_size);
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

    /// Commits that this opening has made.
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// What rules of the user's have dropped since the file was made.
    pub(crate) fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// Whether the disk has no room for what was to be written, after a write that
    /// failed.
    pub(crate) fn is_full(&self, cause: &rusqlite::Error) -> bool {
        failure::is_full(&self.connection, cause)
    }

    /// Whether a commit that failed with this is for certain not on the medium. One of
    /// which only the last sync failed may be there after a power cut.
    pub(crate) fn is_undone(&self, cause: &rusqlite::Error) -> bool {
        self.is_full(cause) && !failure::is_unsynced(cause)
    }

    /// What failed, in words, after a commit that did.
    pub(crate) fn explain(&self, cause: &rusqlite::Error) -> String {
        failure::explain(&self.connection, cause)
    }

    /// The newest gap of the file.
    pub(crate) fn newest_gap(&self) -> Result<i64, rusqlite::Error> {
        newest_gap(&self.connection)
    }

    /// Bytes that the flow has in the file.
    pub(crate) fn usage(&self, flow: flow::Hash) -> u64 {
        self.usage.of(flow)
    }

    pub(crate) fn saved(&self, source: &str) -> Option<&Checkpoint> {
        self.saved.get(source)
    }

    /// Learns the checkpoints that were committed since the opening.
    pub(crate) fn learn_saved(&mut self) -> Result<(), rusqlite::Error> {
        self.saved = state::saved(&self.connection)?;
        Ok(())
    }

    /// Whether the source has no checkpoint because a salvage did not find it.
    pub(crate) fn is_lost(&self, source: &str) -> bool {
        self.lost.holds(source)
    }

    /// What the salvage before this opening cost, if there was one.
    pub(crate) fn loss(&self) -> Option<&Loss> {
        self.salvaged.as_ref()
    }

    /// What the last salvage cost, whenever that was.
    pub(crate) fn last_loss(&self) -> Option<&Loss> {
        self.last_loss.as_ref()
    }

    /// Writes down what a salvage left open, once it is known who runs: which of
    /// these sources lost their checkpoint (one that comes later never had one),
    /// and the definition of a flow whose own is lost.
    pub(crate) fn settle(
        &mut self,
        sources: &[&str],
        flows: &Flows,
    ) -> Result<(), rusqlite::Error> {
        if self.salvaged.is_none() && !self.lost.is_open() {
            return Ok(());
        }
        let lost = sources.iter().filter(|name| !self.saved.contains_key(**name));
        let transaction = self.connection.transaction()?;
        self.lost.settle(&transaction, lost)?;
        for (_, flow) in flows.iter() {
            transaction.execute(
                "INSERT OR IGNORE INTO stream (flow, lane, definition) SELECT ?1, ?2, ?3
                 WHERE EXISTS (SELECT 1 FROM batch WHERE flow = ?1)",
                (flow.hash.0, flow.lane.as_str(), definition(&flow.stream)),
            )?;
        }
        transaction.commit()
    }

    /// The disk is full: gives the reserve back, for deletes. False when it is
    /// given already.
    pub(crate) fn give_reserve(&mut self) -> bool {
        self.reserve.give(&self.path)
    }

    /// Takes the reserve again once there is room.
    pub(crate) fn take_reserve(&mut self) {
        self.reserve.take(&self.path);
    }

    /// The file itself is damaged: the next opening is to salvage it, whatever
    /// it sees.
    pub(crate) fn ask_for_salvage(&self, cause: &str) {
        damage::ask(&self.path, cause);
    }

    /// Id of the last batch that was written, in this epoch or, before its
    /// first, the place just before it.
    pub(crate) fn newest(&self) -> BatchId {
        BatchId::new(self.running.ordinal, self.totals.number.max(self.ahead.0))
    }

    /// One commit. After an error nothing of it has happened, for all that
    /// this process can know: it is tried again as a whole. (Where the medium
    /// took it and only said otherwise, a crash before the next try leaves
    /// events in the file that were never acknowledged: their source sends
    /// them again, under new ids.)
    ///
    /// Gives for each position what it deleted, then the same of what was seen.
    pub(crate) fn commit(
        &mut self,
        changes: &Changes<'_>,
        now: Timestamp,
    ) -> Result<Vec<Adopted>, rusqlite::Error> {
        let (mut totals, mut usage) = (self.totals, self.usage.clone());
        if !changes.held.is_empty() || !changes.batches.is_empty() {
            // All that has a number is in the file after this.
            (totals.number, totals.seq) = self.given();
        }
        let transaction = self.connection.transaction()?;
        // A power cut anywhere before the last line costs what is not
        // acknowledged yet; its source has it still, or the device does.
        let mut adopted = Vec::new();
        let mut memory = None;
        for (position, cluster) in &changes.positions {
            let counts = (&mut totals, &mut usage);
            adopted.push(forget(&transaction, &self.epochs, position, cluster, counts)?);
            if position.is_of(&self.epochs, cluster) {
                memory = Some(Memory {
                    cluster: Some((*cluster).to_owned()),
                    position: Some((*position).clone()),
                });
            }
        }
        if !changes.delivered.is_empty() {
            let counts = (&mut totals, &mut usage);
            adopted.push(delivered(&transaction, changes.delivered, counts)?);
        }
        if let Some(memory) = &memory {
            let text = memory.position.as_ref().map(Position::encode).unwrap_or_default();
            put(&transaction, "position", text.as_bytes())?;
            put(&transaction, "cluster", memory.cluster.as_deref().unwrap_or_default().as_bytes())?;
        }
        let cursors = cursors(&changes.saved);
        let mut streams = self.followed.write(&transaction)?;
        let known = (&self.followed, &self.streams);
        for held in &changes.held {
            let Row { batch, lane, stream, oldest } = &**held;
            let flow = (batch.flow, *lane, &**stream);
            define(&transaction, flow, known, &mut streams)?;
            let data = self.packer.pack(&batch.events, 0);
            let row = NewRow {
                id: batch.id,
                flow: batch.flow,
                first_seq: batch.first_seq,
                count: batch.count.into(),
                oldest: *oldest,
                raw: batch.events.len(),
            };
            row.insert(&transaction, None, data, (&mut totals, &mut usage))?;
        }
        for batch in &changes.batches {
            let flow::Flow { hash, lane, stream, .. } = batch.flow;
            define(&transaction, (*hash, *lane, stream), known, &mut streams)?;
            batch.events.finish(&mut self.raw);
            let data = self.packer.pack(&self.raw, cursors.as_ref().map_or(0, Vec::len));
            totals.number += 1;
            let row = NewRow {
                id: BatchId::new(self.running.ordinal, totals.number),
                flow: *hash,
                first_seq: totals.seq + 1,
                count: batch.events.count().into(),
                oldest: batch.events.oldest().unwrap_or(Timestamp(0)),
                raw: self.raw.len(),
            };
            row.insert(&transaction, cursors.as_deref(), data, (&mut totals, &mut usage))?;
            totals.seq += row.count;
        }
        for (source, checkpoint) in &changes.saved {
            save(&transaction, source, checkpoint)?;
        }
        for letter in &changes.dead {
            dead::bury(&transaction, letter, now, &mut totals)?;
        }
        for burial in &changes.buried {
            burial.commit(&transaction, now, &mut totals)?;
        }
        dead::make_room(&transaction, self.dead_room, &mut totals)?;
        for refused in &changes.refused {
            note_unnumbered(&transaction, refused, changes.told)?;
        }
        put_totals(&transaction, &totals)?;
        if usage != self.usage {
            usage.save(&transaction)?;
        }
        let counted = if changes.refused.is_empty() { None } else { Some(dropped(&transaction)?) };
        transaction.commit()?;
        self.commits += 1;
        // From here on a power cut costs nothing.
        (self.totals, self.usage) = (totals, usage);
        for (position, _) in &changes.positions {
            self.end_gaps(position);
        }
        if !changes.delivered.is_empty() {
            self.growing.clear();
        }
        if let Some(counted) = counted {
            self.dropped = counted;
        }
        self.streams.extend(streams);
        self.followed.written();
        if let Some(memory) = memory {
            self.memory = memory;
        }
        Ok(adopted)
    }

    /// Ids of the batches that are in the file.
    #[cfg(test)]
    pub(crate) fn batch_ids(&self) -> std::collections::BTreeSet<i64> {
        let mut statement = self.connection.prepare_cached("SELECT id FROM batch").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Lets the file grow to so many pages; to no more than it has where that
    /// is less. `SQLite` then answers as on a full disk.
    #[cfg(test)]
    pub(crate) fn most_pages(&self, pages: u32) {
        self.connection.pragma_update(None, "max_page_count", pages).unwrap();
    }
}

/// Notes the stream's definition where it is not what the file has.
fn define(
    transaction: &Connection,
    (hash, lane, stream): (flow::Hash, flow::Lane, &flow::Stream),
    (followed, known): (&Followed, &HashMap<flow::Hash, String>),
    new: &mut Vec<(flow::Hash, String)>,
) -> Result<(), rusqlite::Error> {
    let definition = followed.of(stream);
    let newest = new.iter().rev().find(|(flow, _)| *flow == hash).map(|(_, text)| text);
    if newest.or_else(|| known.get(&hash)) != Some(&definition) {
        transaction.execute(
            "INSERT OR REPLACE INTO stream (flow, lane, definition) VALUES (?1, ?2, ?3)",
            (hash.0, lane.as_str(), &definition),
        )?;
        new.push((hash, definition));
    }
    Ok(())
}

/// A batch on its way into its table.
struct NewRow {
    id: BatchId,
    flow: flow::Hash,
    first_seq: u64,
    count: u64,
    oldest: Timestamp,
    /// Bytes before they were packed.
    raw: usize,
}

impl NewRow {
    fn insert(
        &self,
        transaction: &Connection,
        cursors: Option<&[u8]>,
        packed: std::io::Result<Vec<u8>>,
        (totals, usage): (&mut Totals, &mut Usage),
    ) -> Result<(), rusqlite::Error> {
        let data = packed.map_err(|cause| rusqlite::Error::ToSqlConversionFailure(cause.into()))?;
        transaction
            .prepare_cached(
                "INSERT INTO batch (id, flow, first_seq, count, raw, oldest, cursors, data)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                self.id.0,
                self.flow.0,
                self.first_seq.cast_signed(),
                self.count.cast_signed(),
                i64::try_from(self.raw).unwrap_or(i64::MAX),
                self.oldest.0,
                cursors,
                data,
            ])?;
        usage.add(self.flow, 1, data.len() as u64);
        totals.batches += 1;
        totals.events += self.count;
        totals.committed += self.count;
        Ok(())
    }
}

fn definition(stream: &flow::Stream) -> String {
    serde_json::to_string(stream).expect("a stream is plain words and numbers")
}
