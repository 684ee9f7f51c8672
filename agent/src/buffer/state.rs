//! The small state of the file: epochs, checkpoints, the position, totals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};

use super::file::Totals;
use super::{Epoch, FileEpoch, Memory, Position, salvage};
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

/// The key under which a source's cursor stands.
pub(super) fn cursor_key(source: &str) -> String {
    format!("{CURSOR}/{source}")
}

/// The same of a session; a source has one of them at most.
pub(super) fn session_key(source: &str) -> String {
    format!("{SESSION}/{source}")
}

/// Saves what this source must find again. One that was configured anew as
/// another type saves another kind, and must not find the old one again.
pub(super) fn save(
    connection: &Connection,
    source: &str,
    checkpoint: &Checkpoint,
) -> Result<(), rusqlite::Error> {
    let (cursor, session) = (cursor_key(source), session_key(source));
    let (key, other, bytes) = match checkpoint {
        Checkpoint::Cursor(bytes) => (cursor, session, bytes),
        Checkpoint::Session(bytes) => (session, cursor, bytes),
    };
    connection.prepare_cached("DELETE FROM state WHERE key = ?1")?.execute([other])?;
    put(connection, &key, bytes)
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

/// Sources that a salvage left without a checkpoint, though they may have had
/// one (SAFETY 13).
#[derive(Debug, Default)]
pub(super) struct Lost {
    sources: BTreeSet<String>,
    /// The salvage did not know who they are: whoever has no checkpoint.
    open: bool,
}

impl Lost {
    pub(super) fn read(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let mut statement =
            connection.prepare("SELECT substr(key, 6) FROM state WHERE key LIKE 'lost/%'")?;
        let sources = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Self { sources, open: get(connection, salvage::CURSORS_LOST)?.is_some() })
    }

    /// Of a source without a checkpoint.
    pub(super) fn holds(&self, source: &str) -> bool {
        self.open || self.sources.contains(source)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// These are the ones; whoever comes later never had a checkpoint.
    pub(super) fn settle<'a>(
        &mut self,
        connection: &Connection,
        sources: impl Iterator<Item = &'a &'a str>,
    ) -> Result<(), rusqlite::Error> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        for source in sources {
            put(connection, &format!("lost/{source}"), b"")?;
            self.sources.insert((*source).to_owned());
        }
        connection.execute("DELETE FROM state WHERE key = ?1", [salvage::CURSORS_LOST])?;
        Ok(())
    }
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

/// What [`cursors`] wrote; nothing where it is damaged.
pub(super) fn read_cursors(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let Ok(ciborium::Value::Map(pairs)) = ciborium::from_reader(bytes) else { return Vec::new() };
    pairs
        .into_iter()
        .filter_map(|(source, cursor)| Some((source.into_text().ok()?, cursor.into_bytes().ok()?)))
        .collect()
}
