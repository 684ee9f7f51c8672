//! The small state of the file: epochs, checkpoints, the position, totals.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

use super::file::Totals;
use super::{Epoch, FileEpoch, Memory, Position};
use crate::collect::Checkpoint;

/// The epochs of the file, oldest first.
pub(super) fn epochs(connection: &Connection) -> Result<Vec<FileEpoch>, rusqlite::Error> {
    let mut statement = connection
        .prepare_cached("SELECT ordinal, epoch, gateway, last FROM epoch ORDER BY ordinal")?;
    let rows = statement.query_map([], |row| {
        Ok(FileEpoch {
            ordinal: row.get(0)?,
            epoch: Epoch(row.get::<_, i64>(1)?.cast_unsigned()),
            gateway: Arc::from(row.get::<_, String>(2)?),
            last: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
        })
    })?;
    rows.collect()
}

pub(super) fn memory(connection: &Connection) -> Result<Memory, rusqlite::Error> {
    let text = |key| -> Result<Option<String>, rusqlite::Error> {
        Ok(get(connection, key)?.and_then(|bytes| String::from_utf8(bytes).ok()))
    };
    Ok(Memory {
        cluster: text("cluster")?,
        position: text("position")?.and_then(|text| Position::parse(&text).ok()),
    })
}

const CURSOR: &str = "cursor";
const SESSION: &str = "session";

/// Saves what this source must find again. One that was configured anew as
/// another type saves another kind, and must not find the old one again.
pub(super) fn save(
    connection: &Connection,
    source: &str,
    checkpoint: &Checkpoint,
) -> Result<(), rusqlite::Error> {
    let (kind, other, bytes) = match checkpoint {
        Checkpoint::Cursor(bytes) => (CURSOR, SESSION, bytes),
        Checkpoint::Session(bytes) => (SESSION, CURSOR, bytes),
    };
    connection
        .prepare_cached("DELETE FROM state WHERE key = ?1")?
        .execute([format!("{other}/{source}")])?;
    put(connection, &format!("{kind}/{source}"), bytes)
}

pub(super) fn saved(
    connection: &Connection,
) -> Result<BTreeMap<String, Checkpoint>, rusqlite::Error> {
    let mut found = BTreeMap::new();
    let mut statement = connection.prepare("SELECT key, value FROM state WHERE key LIKE '%/%'")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, value): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let checkpoint = match key.split_once('/') {
            Some((CURSOR, source)) => (source.to_owned(), Checkpoint::Cursor(value.into())),
            Some((SESSION, source)) => (source.to_owned(), Checkpoint::Session(value.into())),
            _ => continue,
        };
        found.insert(checkpoint.0, checkpoint.1);
    }
    Ok(found)
}

pub(super) fn get(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT value FROM state WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

pub(super) fn put(connection: &Connection, key: &str, value: &[u8]) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO state (key, value) VALUES (?1, ?2)")?
        .execute((key, value))?;
    Ok(())
}

pub(super) fn put_totals(connection: &Connection, totals: &Totals) -> Result<(), rusqlite::Error> {
    put(connection, "totals", serde_json::to_string(totals).unwrap_or_default().as_bytes())
}

/// The cursors of a commit as each of its rows carries them, for salvage
/// (SAFETY 13): CBOR, source → bytes.
pub(super) fn cursors(saved: &[(&str, &Checkpoint)]) -> Option<Vec<u8>> {
    let cursors: Vec<(ciborium::Value, ciborium::Value)> = saved
        .iter()
        .filter_map(|(source, checkpoint)| match checkpoint {
            Checkpoint::Cursor(bytes) => Some(((*source).into(), bytes.to_vec().into())),
            Checkpoint::Session(_) => None,
        })
        .collect();
    if cursors.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    ciborium::into_writer(&ciborium::Value::Map(cursors), &mut out).ok()?;
    Some(out)
}
