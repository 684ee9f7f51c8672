//! Dead letters in the file: bounded, the newest stay.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::file::Totals;
use crate::collect::DeadLetter;
use crate::event::Timestamp;

/// Dead letters are for a person, who reads the newest.
const DEAD_LETTERS: u64 = 10_000;
const DEAD_LETTER_TOTAL: u64 = 64 * 1024 * 1024;

/// An eighth of the file's size is theirs; with what their pages leave empty it
/// is a quarter at most.
const DEAD_LETTER_SHARE: u64 = 8;

/// Bytes that they may take in a file of this size.
pub(super) fn room(max_size: u64) -> u64 {
    DEAD_LETTER_TOTAL.min(max_size / DEAD_LETTER_SHARE)
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
        let oldest: Option<(i64, i64)> = transaction
            .prepare_cached(
                "SELECT id, octet_length(reason) + octet_length(origin) + length(payload)
                 FROM dead_letter ORDER BY id LIMIT 1",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, length)) = oldest else { break };
        transaction.prepare_cached("DELETE FROM dead_letter WHERE id = ?1")?.execute([id])?;
        totals.dead_letters = totals.dead_letters.saturating_sub(1);
        totals.dead_bytes = totals.dead_bytes.saturating_sub(length.cast_unsigned());
        totals.dead_dropped += 1;
    }
    Ok(())
}
