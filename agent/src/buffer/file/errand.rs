//! What an operator asks of the file, each in one commit of its own.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{File, Totals, definition, put_totals};
use crate::buffer::dead::{Done, Errand, Skip, remove};
use crate::buffer::{BatchId, FileEpoch, ForeignBatch};
use crate::flow::{Flows, Stream};

impl File {
    /// Does all of it or, after an error, nothing. `flows` are those of the
    /// running configuration: what is sent again goes where they say now.
    pub(crate) fn errand(
        &mut self,
        errand: &Errand,
        flows: &Flows,
    ) -> Result<Done, rusqlite::Error> {
        let mut totals = self.totals;
        let transaction = self.connection.transaction()?;
        let mut done = Done::default();
        match errand {
            Errand::Requeue(letters) => {
                for letter in letters {
                    match requeue(&transaction, *letter, &self.running, flows, &mut totals)? {
                        None => done.done += 1,
                        Some(skip) => done.skipped.push((*letter, skip)),
                    }
                }
            }
            Errand::Import(batches) => {
                for batch in batches {
                    match import(&transaction, batch, &self.running, &mut totals)? {
                        None => done.done += 1,
                        Some(skip) => done.skipped.push((batch.id.0, skip)),
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
        transaction.commit()?;
        self.totals = totals;
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
    totals: &mut Totals,
) -> Result<Option<Skip>, rusqlite::Error> {
    let event: Option<(i64, u32)> = transaction
        .prepare_cached("SELECT place, flow FROM dead_event WHERE letter = ?1")?
        .query_row([letter], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((place, flow)) = event else {
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
    totals: &mut Totals,
) -> Result<Option<Skip>, rusqlite::Error> {
    let epoch = batch.written.cast_signed();
    let own =
        transaction.prepare_cached("SELECT 1 FROM epoch WHERE epoch = ?1")?.exists([epoch])?;
    if own {
        return Ok(Some(Skip::Own));
    }
    let news = transaction
        .prepare_cached("INSERT OR IGNORE INTO imported (epoch, number) VALUES (?1, ?2)")?
        .execute((epoch, batch.id.number().cast_signed()))?;
    if news == 0 {
        return Ok(Some(Skip::Imported));
    }
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
