//! Dead letters in the file: bounded, the newest stay.
//!
//! One that Kafka refused holds its event whole, so that it can be sent again
//! once the cause is mended: under its own id, from a new place in the file.
//! Such an event lies either in its batch, marked as buried, or in a batch of
//! its own after the letter was taken away; what lets one go and makes the
//! other is one commit. So nothing of it is lost or sent twice.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::file::Totals;
use super::{ForeignBatch, Refused};
use crate::collect::DeadLetter;
use crate::event::Timestamp;

/// Dead letters are for a person, who reads the newest.
const DEAD_LETTERS: u64 = 10_000;
const DEAD_LETTER_TOTAL: u64 = 64 * 1024 * 1024;

/// An eighth of the file's size is theirs; with what their pages leave empty it
/// is a quarter at most.
const DEAD_LETTER_SHARE: u64 = 8;

/// Letters that one commit takes away or sends again at most: what a slow card
/// writes while no source waits for long.
pub(crate) const ERRAND_LETTERS: usize = 250;

/// Bytes that they may take in a file of this size.
pub(super) fn room(max_size: u64) -> u64 {
    DEAD_LETTER_TOTAL.min(max_size / DEAD_LETTER_SHARE)
}

/// A dead letter, with the event in it where it can be sent again.
#[derive(Debug)]
pub(crate) struct Burial {
    pub letter: DeadLetter,
    pub event: Option<Refused>,
}

/// What an operator asks of the file; one commit each.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Takes these dead letters away and puts their events in again.
    Requeue(Vec<i64>),
    /// Takes these dead letters away.
    Drop(Vec<i64>),
    /// Takes these batches of another file in.
    Import(Vec<ForeignBatch>),
}

/// What became of an errand.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub done: u64,
    /// Letters or batches that were left as they are, and why.
    pub skipped: Vec<(i64, Skip)>,
}

/// Why a dead letter was left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// There is none with this id (any more).
    Unknown,
    /// It holds no event: a source could make none of it.
    NoEvent,
    /// This file took the batch in before.
    Imported,
    /// The batch was written by this very file.
    Own,
    /// Nothing is dropped to make room for it, nor for those behind it.
    NoRoom,
    /// The batch that it was refused in is still in the file: Kafka has not
    /// committed the position that passes it.
    StillSending,
}

impl Skip {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "there is no dead letter with this id",
            Self::NoEvent => {
                "it holds no event that could be sent: show it, mend its source, and drop it"
            }
            Self::Imported => "it was taken in before",
            Self::Own => "it is this buffer's own: it is sent from here, or was",
            Self::NoRoom => "the buffer, or its stream's share of it, has no room for it",
            Self::StillSending => {
                "the transaction behind it is not committed yet: ask again once Kafka is reached"
            }
        }
    }
}

impl Burial {
    pub(super) fn commit(
        &self,
        transaction: &Transaction<'_>,
        now: Timestamp,
        totals: &mut Totals,
    ) -> Result<(), rusqlite::Error> {
        if let Some(event) = &self.event {
            let known = transaction
                .prepare_cached("SELECT 1 FROM dead_event WHERE place = ?1 AND seq = ?2")?
                .exists((event.place.0, event.seq.cast_signed()))?;
            if known {
                return Ok(());
            }
        }
        bury(transaction, &self.letter, now, totals)?;
        if let Some(event) = &self.event {
            transaction
                .prepare_cached(
                    "INSERT INTO dead_event (letter, place, flow, seq, raw, oldest, birth, data)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    transaction.last_insert_rowid(),
                    event.place.0,
                    event.flow.0,
                    event.seq.cast_signed(),
                    event.raw.cast_signed(),
                    event.oldest.0,
                    event.birth.bytes(),
                    event.data,
                ])?;
            totals.dead_bytes += event.data.len() as u64;
        }
        Ok(())
    }
}

pub(super) fn bury(
    transaction: &Connection,
    dead: &DeadLetter,
    now: Timestamp,
    totals: &mut Totals,
) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached(
            "INSERT INTO dead_letter (at, reason, origin, length, payload)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            now.0,
            dead.reason,
            dead.origin,
            i64::try_from(dead.length).unwrap_or(i64::MAX),
            dead.payload
        ])?;
    totals.dead_letters += 1;
    totals.dead_bytes += (dead.reason.len() + dead.origin.len() + dead.payload.len()) as u64;
    Ok(())
}

/// Drops the oldest dead letters beyond the bounds.
pub(super) fn make_room(
    transaction: &Transaction<'_>,
    dead_room: u64,
    totals: &mut Totals,
) -> Result<(), rusqlite::Error> {
    while totals.dead_letters > DEAD_LETTERS || totals.dead_bytes > dead_room {
        let oldest: Option<i64> = transaction
            .prepare_cached("SELECT id FROM dead_letter ORDER BY id LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let Some(id) = oldest else { break };
        remove(transaction, id, totals)?;
        totals.dead_dropped += 1;
    }
    Ok(())
}

/// Takes a dead letter and its event away; false where there is none.
pub(super) fn remove(
    transaction: &Transaction<'_>,
    id: i64,
    totals: &mut Totals,
) -> Result<bool, rusqlite::Error> {
    let length: Option<i64> = transaction
        .prepare_cached(
            "SELECT octet_length(reason) + octet_length(origin) + length(payload)
                 + coalesce((SELECT length(data) FROM dead_event WHERE letter = id), 0)
             FROM dead_letter WHERE id = ?1",
        )?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(length) = length else { return Ok(false) };
    transaction.prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM dead_event WHERE letter = ?1")?.execute([id])?;
    totals.dead_letters = totals.dead_letters.saturating_sub(1);
    totals.dead_bytes = totals.dead_bytes.saturating_sub(length.cast_unsigned());
    Ok(true)
}
