//! What goes before Kafka has it, because a rule of the user's says so: for
//! room, or for its age. Everything else stays.
//!
//! Batches go oldest first, in one range for each flow, with their counting in
//! the same commit. What the forwarder has read for a transaction is pinned
//! (SAFETY 12): the caller holds [`Pins`] from before the plan until after the
//! commit, so that nothing is read meanwhile.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rusqlite::{OptionalExtension as _, Transaction};

use super::drops::{Dropped, Ids, Reason, dropped, note};
use super::file::{File, Totals};
use super::state::put_totals;
use super::usage::{Usage, size};
use super::{BatchId, Birth, Epoch, FileEpoch, Position};
use crate::event::Timestamp;
use crate::flow;

/// Rows of one flow that are looked at together while the oldest are sought.
const LOOK: i64 = 256;

/// Nobody had this program before 2025: an earlier time is that of a clock that
/// nothing has set yet, and says nothing about an age.
pub(super) const EARLIEST: Timestamp = Timestamp(1_735_689_600_000_000_000);

/// Behind every batch.
const NEWEST: BatchId = BatchId(i64::MAX);

/// What the writer must leave as it is.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// Of each flow the last batch that was read for a transaction.
    pub loaded: HashMap<flow::Hash, BatchId>,
    /// Gaps up to this one are told, or are being told.
    pub told: i64,
}

/// Room that is wanted, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demand {
    pub reason: Reason,
    pub bytes: u64,
    /// Flows and their streams: all of one entry before any of the next.
    pub of: Vec<Vec<(flow::Hash, String)>>,
}

/// Batches of one flow: those behind `after` up to `last`.
#[derive(Debug)]
struct Doomed {
    flow: flow::Hash,
    stream: String,
    after: BatchId,
    last: BatchId,
}

/// For each kind of drop the gap that was noted last.
pub(super) type Growing = HashMap<Kind, Noted>;

/// Of which flow, why, in which epoch the ids count, whether perhaps sent.
type Kind = (flow::Hash, Reason, Epoch, bool);

/// A gap: everything behind `after` went, up to `last`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted {
    gap: i64,
    after: BatchId,
    last: BatchId,
}

/// A flow's rows while the oldest of several flows are sought.
struct Queue<'a> {
    flow: flow::Hash,
    stream: &'a str,
    /// Where it begins, and how far it was read.
    pin: BatchId,
    read: BatchId,
    /// Ids and sizes.
    rows: VecDeque<(BatchId, u64)>,
    last: Option<BatchId>,
}

impl File {
    /// Drops the oldest of what the demand names, until it is met or nothing is
    /// left that may go. Gives the number of batches.
    pub(crate) fn evict(&mut self, demand: &Demand, pins: &Pins) -> Result<u64, rusqlite::Error> {
        let mut wanted = demand.bytes;
        let mut doomed = Vec::new();
        for class in &demand.of {
            self.oldest(class, NEWEST, pins, &mut wanted, &mut doomed)?;
        }
        self.drop_all(&doomed, demand.reason, pins.told)
    }

    /// Notes that all that is stored now was stored by now, and drops of what was
    /// stored before `before` the oldest, about `most` bytes. Gives the number of
    /// batches: none is left once it is zero.
    pub(crate) fn expire(
        &mut self,
        now: Timestamp,
        before: Timestamp,
        most: u64,
        pins: &Pins,
    ) -> Result<u64, rusqlite::Error> {
        let newest = self.newest();
        if now >= EARLIEST && self.totals.batches > 0 {
            // The same batches do not get younger.
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO mark (id, at) VALUES (?1, ?2)")?
                .execute((newest.0, now.0))?;
        }
        let last: Option<i64> = self
            .connection
            .prepare_cached("SELECT max(id) FROM mark WHERE at < ?1")?
            .query_row([before.0], |row| row.get(0))?;
        let Some(last) = last.map(BatchId) else { return Ok(0) };
        let (mut wanted, mut doomed) = (most, Vec::new());
        self.oldest(&self.streams_stored()?, last, pins, &mut wanted, &mut doomed)?;
        let gone = self.drop_all(&doomed, Reason::Age, pins.told)?;
        // The last one counts as long as something of it is left: for the next step, or
        // pinned and on its way to Kafka.
        self.connection.prepare_cached("DELETE FROM mark WHERE id < ?1")?.execute([last.0])?;
        Ok(gone)
    }

    /// Names of the streams that have batches, also of those that the
    /// configuration no longer names.
    fn streams_stored(&self) -> Result<Vec<(flow::Hash, String)>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT flow, coalesce(definition ->> '$.name', printf('%08x', flow)) FROM stream
             WHERE EXISTS (SELECT 1 FROM batch WHERE batch.flow = stream.flow)",
        )?;
        let rows = statement.query_map([], |row| Ok((flow::Hash(row.get(0)?), row.get(1)?)))?;
        rows.collect()
    }

    /// The oldest unpinned batches of these flows, none behind `newest`, that together
    /// have `wanted` bytes.
    fn oldest(
        &self,
        flows: &[(flow::Hash, String)],
        newest: BatchId,
        pins: &Pins,
        wanted: &mut u64,
        doomed: &mut Vec<Doomed>,
    ) -> Result<(), rusqlite::Error> {
        let mut queues: Vec<Queue<'_>> = flows
            .iter()
            .map(|(flow, stream)| {
                let pin = pins.loaded.get(flow).copied().unwrap_or_default();
                Queue { flow: *flow, stream, pin, read: pin, rows: VecDeque::new(), last: None }
            })
            .collect();
        while *wanted > 0 {
            for queue in &mut queues {
                if queue.rows.is_empty() {
                    self.read_on(queue, newest)?;
                }
            }
            let heads = queues.iter_mut().filter(|queue| !queue.rows.is_empty());
            let Some(queue) = heads.min_by_key(|queue| queue.rows.front().copied()) else { break };
            if let Some((id, bytes)) = queue.rows.pop_front() {
                queue.last = Some(id);
                *wanted = wanted.saturating_sub(bytes);
            }
        }
        doomed.extend(queues.into_iter().filter_map(|queue| {
            let stream = queue.stream.to_owned();
            Some(Doomed { flow: queue.flow, stream, after: queue.pin, last: queue.last? })
        }));
        Ok(())
    }

    fn read_on(&self, queue: &mut Queue<'_>, newest: BatchId) -> Result<(), rusqlite::Error> {
        // The length of a blob stands at the row's head: its data is not read.
        let mut statement = self.connection.prepare_cached(
            "SELECT id, length(data) FROM batch WHERE flow = ?1 AND id > ?2 AND id <= ?3
             ORDER BY id LIMIT ?4",
        )?;
        let mut rows = statement.query((queue.flow.0, queue.read.0, newest.0, LOOK))?;
        while let Some(row) = rows.next()? {
            let data = row.get::<_, i64>(1)?.cast_unsigned();
            queue.read = BatchId(row.get(0)?);
            queue.rows.push_back((queue.read, size(1, data)));
        }
        Ok(())
    }

    /// No gap grows over what this position says was sent behind it.
    pub(crate) fn end_gaps(&mut self, position: &Position) {
        let Self { growing, epochs, .. } = self;
        growing.retain(|(flow, ..), noted| {
            let Some((epoch, number)) = position.flows.get(flow) else { return true };
            let known = epochs.iter().find(|known| known.epoch == *epoch);
            known.is_some_and(|known| BatchId::new(known.ordinal, *number) <= noted.last)
        });
    }

    /// One commit. A power cut before its end leaves the events and no count, one
    /// behind it the count and no events.
    fn drop_all(
        &mut self,
        doomed: &[Doomed],
        reason: Reason,
        told: i64,
    ) -> Result<u64, rusqlite::Error> {
        if doomed.is_empty() {
            return Ok(0);
        }
        let mut counts = Counts {
            totals: self.totals,
            usage: self.usage.clone(),
            growing: self.growing.clone(),
        };
        let transaction = self.connection.transaction()?;
        for range in doomed {
            drop_range(&transaction, &self.epochs, range, reason, told, &mut counts)?;
        }
        let Counts { totals, usage, growing } = counts;
        put_totals(&transaction, &totals)?;
        usage.save(&transaction)?;
        let counted = dropped(&transaction)?;
        transaction.commit()?;
        self.commits += 1;
        let gone = self.totals.batches.saturating_sub(totals.batches);
        (self.totals, self.usage, self.dropped) = (totals, usage, counted);
        self.growing = growing;
        Ok(gone)
    }
}

/// What counts only once it is committed.
struct Counts {
    totals: Totals,
    usage: Usage,
    growing: Growing,
}

fn drop_range(
    transaction: &Transaction<'_>,
    epochs: &[FileEpoch],
    range: &Doomed,
    reason: Reason,
    told: i64,
    counts: &mut Counts,
) -> Result<(), rusqlite::Error> {
    let Counts { totals, usage, growing } = counts;
    // By epoch, since ids count within it: that of their birth, where events were
    // put in again. (A row without one says so in its head: nothing behind its
    // data is read.)
    let mut parts = BTreeMap::new();
    let mut statement = transaction.prepare_cached(
        "SELECT id >> 40, birth, count(*), sum(count), sum(length(data)),
             min(first_seq), max(first_seq + count - 1),
             sum((SELECT count(*) FROM dead_event WHERE place = id))
         FROM batch WHERE flow = ?1 AND id > ?2 AND id <= ?3 GROUP BY 1, 2",
    )?;
    let mut rows = statement.query((range.flow.0, range.after.0, range.last.0))?;
    while let Some(row) = rows.next()? {
        let mut numbers = [0; 6];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = row.get::<_, i64>(at + 2)?.cast_unsigned();
        }
        parts.insert((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?), numbers);
    }
    for ((ordinal, birth), [batches, events, data, first, last, buried]) in parts {
        let bytes = usage.remove(range.flow, batches, data);
        totals.batches = totals.batches.saturating_sub(batches);
        totals.events = totals.events.saturating_sub(events);
        let known = epochs.iter().find(|known| known.ordinal == ordinal);
        let birth = match &birth {
            Some(bytes) => Birth::parse(bytes),
            None => known.map(|known| Birth {
                epoch: known.epoch,
                gateway: std::sync::Arc::clone(&known.gateway),
            }),
        };
        let ids = birth.map(|Birth { epoch, gateway }| Ids { gateway, epoch, first, last });
        // What an earlier process sent last may still be here while no position
        // was read; behind what this one has loaded nothing was sent.
        let earlier = known.is_none_or(|known| known.last.is_some());
        let perhaps_sent = earlier && range.after == BatchId::default();
        // A dead letter keeps its event: it is not dropped with its batch.
        let events = events.saturating_sub(buried);
        if events == 0 {
            continue;
        }
        let what = Dropped { stream: range.stream.clone(), reason, events, bytes };
        let kind = ids.as_ref().map(|ids| (range.flow, reason, ids.epoch, perhaps_sent));
        // What was loaded in between was perhaps sent: no gap goes over it. (Nor over
        // what a position covers, see `end_gaps`: who begins anew has loaded nothing.)
        let adjoins = |noted: &&Noted| noted.gap > told && noted.after == range.after;
        let into = kind.and_then(|kind| growing.get(&kind)).filter(adjoins).map(|noted| noted.gap);
        let gap = note(transaction, &what, ids.as_ref(), perhaps_sent, into)?;
        growing
            .extend(kind.map(|kind| (kind, Noted { gap, after: range.after, last: range.last })));
    }
    transaction
        .prepare_cached("DELETE FROM batch WHERE flow = ?1 AND id > ?2 AND id <= ?3")?
        .execute((range.flow.0, range.after.0, range.last.0))?;
    Ok(())
}

/// The newest gap of the file.
pub(super) fn newest_gap(connection: &rusqlite::Connection) -> Result<i64, rusqlite::Error> {
    let newest = connection
        .query_row("SELECT max(id) FROM gap", [], |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok(newest.flatten().unwrap_or_default())
}
