//! What an operator asks of the file, each in one commit of its own.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{File, Totals, definition, put_totals};
use crate::buffer::dead::{Done, Errand, Skip, remove};
use crate::buffer::usage::{Usage, size};
use crate::buffer::{BatchId, Epoch, FileEpoch, ForeignBatch};
use crate::flow::{self, Flows, Stream};

impl File {
    /// Does all of it or, after an error, nothing. `flows` are those of the
    /// running configuration: what is sent again goes where they say now. An
    /// import ends before the first batch that does not fit: so many bytes of
    /// this flow.
    pub(crate) fn errand(
        &mut self,
        errand: &Errand,
        flows: &Flows,
        mut fits: impl FnMut(flow::Hash, u64) -> bool,
    ) -> Result<Done, rusqlite::Error> {
        let (mut totals, mut usage) = (self.totals, self.usage.clone());
        let transaction = self.connection.transaction()?;
        let mut done = Done::default();
        match errand {
            Errand::Requeue(letters) => {
                for letter in letters {
                    let counts = (&mut totals, &mut usage);
                    match requeue(&transaction, *letter, &self.running, flows, counts)? {
                        None => done.done += 1,
                        Some(skip) => done.skipped.push((*letter, skip)),
                    }
                }
            }
            Errand::Import(batches) => {
                for batch in batches {
                    let counts = (&mut totals, &mut usage);
                    match import(&transaction, batch, &self.running, &mut fits, counts)? {
                        None => done.done += 1,
                        Some(skip) => done.skipped.push((batch.id.0, skip)),
                    }
                    // Those behind it would overtake it.
                    if done.skipped.last().is_some_and(|(_, skip)| *skip == Skip::NoRoom) {
                        break;
                    }
                }
            }
            Errand::Drop(letters) => {
                for letter in letters {
                    if remove(&transaction, *letter, &mut totals)? {
                        done.done += 1;
                    } else {
                        done.skipped.push((*letter, Skip::Unknown));
                    }
                }
            }
        }
        if totals != self.totals {
            put_totals(&transaction, &totals)?;
        }
        if usage != self.usage {
            usage.save(&transaction)?;
        }
        transaction.commit()?;
        self.commits += 1;
        (self.totals, self.usage) = (totals, usage);
        Ok(done)
    }
}

/// One letter becomes a batch of one event, in a place that no position has
/// passed; or why not.
fn requeue(
    transaction: &Transaction<'_>,
    letter: i64,
    running: &FileEpoch,
    flows: &Flows,
    (totals, usage): (&mut Totals, &mut Usage),
) -> Result<Option<Skip>, rusqlite::Error> {
    let event: Option<(i64, u32, i64)> = transaction
        .prepare_cached("SELECT place, flow, length(data) FROM dead_event WHERE letter = ?1")?
        .query_row([letter], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((place, flow, data)) = event else {
        let known = transaction
            .prepare_cached("SELECT 1 FROM dead_letter WHERE id = ?1")?
            .exists([letter])?;
        return Ok(Some(if known { Skip::NoEvent } else { Skip::Unknown }));
    };
    // While its batch is there, it may be read again after a restart, and only
    // the letter keeps its event from being sent from there.
    let there = transaction.prepare_cached("SELECT 1 FROM batch WHERE id = ?1")?.exists([place])?;
    if there {
        return Ok(Some(Skip::StillSending));
    }
    redefine(transaction, flow, flows)?;
    totals.number += 1;
    transaction
        .prepare_cached(
            "INSERT INTO batch (id, flow, first_seq, count, raw, oldest, birth, data)
             SELECT ?1, flow, seq, 1, raw, oldest, birth, data FROM dead_event WHERE letter = ?2",
        )?
        .execute((BatchId::new(running.ordinal, totals.number).0, letter))?;
    remove(transaction, letter, totals)?;
    usage.add(flow::Hash(flow), 1, data.cast_unsigned());
    totals.batches += 1;
    totals.events += 1;
    Ok(None)
}

/// A batch of another file gets a place in this one and keeps its events' ids;
/// or why not.
fn import(
    transaction: &Transaction<'_>,
    batch: &ForeignBatch,
    running: &FileEpoch,
    fits: &mut impl FnMut(flow::Hash, u64) -> bool,
    (totals, usage): (&mut Totals, &mut Usage),
) -> Result<Option<Skip>, rusqlite::Error> {
    let epoch = batch.written.cast_signed();
    let own =
        transaction.prepare_cached("SELECT 1 FROM epoch WHERE epoch = ?1")?.exists([epoch])?;
    if own {
        return Ok(Some(Skip::Own));
    }
    let place = (Epoch(batch.written).to_string(), batch.id.number().cast_signed());
    let known = transaction
        .prepare_cached("SELECT 1 FROM imported WHERE epoch = ?1 AND number = ?2")?
        .exists(params![place.0, place.1])?;
    if known {
        return Ok(Some(Skip::Imported));
    }
    let (flow, data) = (flow::Hash(batch.flow), batch.data.len() as u64);
    if !fits(flow, size(1, data)) {
        return Ok(Some(Skip::NoRoom));
    }
    transaction
        .prepare_cached("INSERT INTO imported (epoch, number) VALUES (?1, ?2)")?
        .execute(place)?;
    transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO stream (flow, lane, definition) VALUES (?1, ?2, ?3)",
        )?
        .execute((batch.flow, &batch.lane, &batch.definition))?;
    totals.number += 1;
    transaction
        .prepare_cached(
            "INSERT INTO batch (id, flow, first_seq, count, raw, oldest, birth, data)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            BatchId::new(running.ordinal, totals.number).0,
            batch.flow,
            batch.first_seq,
            batch.count,
            batch.raw,
            batch.oldest,
            batch.birth,
            batch.data,
        ])?;
    usage.add(flow, 1, data);
    totals.batches += 1;
    totals.events += batch.count.cast_unsigned();
    Ok(None)
}

/// What is sent again goes where the running configuration says, if it still
/// has the stream: another topic may be what mended the cause.
fn redefine(
    transaction: &Transaction<'_>,
    flow: u32,
    flows: &Flows,
) -> Result<(), rusqlite::Error> {
    let known: Option<String> = transaction
        .prepare_cached("SELECT definition FROM stream WHERE flow = ?1")?
        .query_row([flow], |row| row.get(0))
        .optional()?;
    let Some(stream) = known.and_then(|text| serde_json::from_str::<Stream>(&text).ok()) else {
        return Ok(());
    };
    if let Some(now) = flows.stream(&stream.name).filter(|now| ***now != stream) {
        transaction
            .prepare_cached("UPDATE stream SET definition = ?2 WHERE flow = ?1")?
            .execute((flow, definition(now)))?;
    }
    Ok(())
}
