//! How many bytes each flow has in the file, for its stream's share: counted in
//! the commit that changes it, since adding up a file of gigabytes takes longer
//! than a start may.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::state::{get, put};
use crate::flow;

/// Of a row beside its data: its other columns, and its entry in the index.
const ROW: u64 = 80;

const KEY: &str = "usage";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Usage(BTreeMap<u32, u64>);

impl Usage {
    /// As it was saved; a file that has not saved any yet is added up.
    pub(super) fn load(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let saved = get(connection, KEY)?.and_then(|text| serde_json::from_slice(&text).ok());
        saved.map_or_else(|| Self::add_up(connection), |saved| Ok(Self(saved)))
    }

    /// Counts what is there and saves it, whatever was saved: after a salvage.
    pub(super) fn recount(connection: &Connection) -> Result<(), rusqlite::Error> {
        let counted = Self::add_up(connection)?;
        if counted == Self::default() && get(connection, KEY)?.is_none() {
            return Ok(());
        }
        counted.save(connection)
    }

    /// What is there, whatever was saved.
    pub(super) fn add_up(connection: &Connection) -> Result<Self, rusqlite::Error> {
        let mut statement = connection
            .prepare("SELECT flow, count(*), sum(length(data)) FROM batch GROUP BY flow")?;
        let mut rows = statement.query([])?;
        let mut usage = Self::default();
        while let Some(row) = rows.next()? {
            let (batches, data) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            usage.add(flow::Hash(row.get(0)?), batches.cast_unsigned(), data.cast_unsigned());
        }
        Ok(usage)
    }

    pub(super) fn save(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let text = serde_json::to_vec(&self.0).unwrap_or_default();
        put(connection, KEY, &text)
    }

    pub(super) fn of(&self, flow: flow::Hash) -> u64 {
        self.0.get(&flow.0).copied().unwrap_or_default()
    }

    /// So many batches with so many bytes of data came. Gives what they take.
    pub(super) fn add(&mut self, flow: flow::Hash, batches: u64, data: u64) -> u64 {
        let bytes = size(batches, data);
        let known = self.0.entry(flow.0).or_default();
        *known = known.saturating_add(bytes);
        bytes
    }

    /// So many went.
    pub(super) fn remove(&mut self, flow: flow::Hash, batches: u64, data: u64) -> u64 {
        let bytes = size(batches, data);
        let left = self.of(flow).saturating_sub(bytes);
        if left == 0 {
            self.0.remove(&flow.0);
        } else {
            self.0.insert(flow.0, left);
        }
        bytes
    }
}

/// About what so many batches with so many bytes of data take in the file.
pub(super) const fn size(batches: u64, data: u64) -> u64 {
    data.saturating_add(batches.saturating_mul(ROW))
}
