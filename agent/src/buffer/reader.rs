//! Reads batches beside the connection that writes.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};
use tracing::warn;
use zstd::bulk::Decompressor;

use super::{Batch, BatchId, Birth, Epoch, FileEpoch, Gap, Shared, Waiting, drops, schema, state};
use crate::event::Timestamp;
use crate::flow;

/// A batch that claims to be longer is damaged: an event of more than 8 MiB is
/// never stored, and one of more than 128 KiB stands alone.
pub(super) const MOST_RAW: usize = 64 * 1024 * 1024;

/// The file cannot be read now; the forwarder says so once and tries again.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the buffer")]
pub struct ReadError(#[from] pub(super) rusqlite::Error);

/// What the forwarder reads with: a connection of its own that never writes.
/// Each call is one short read transaction: a longer one would keep the WAL
/// from being used again.
pub struct Reader {
    connection: Connection,
    decompressor: Decompressor<'static>,
    epochs: HashMap<i64, (Epoch, Arc<str>)>,
    /// Flows whose definition is not understood, and was told to be so.
    strange: BTreeSet<flow::Hash>,
    /// Who is told that the file is damaged.
    shared: Option<Arc<Shared>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        let connection = schema::open_reader(path)?;
        let decompressor = Decompressor::new().expect("a context of zstd needs only memory");
        let mut reader = Self {
            connection,
            decompressor,
            epochs: HashMap::new(),
            strange: BTreeSet::new(),
            shared: None,
        };
        reader.learn_epochs()?;
        Ok(reader)
    }

    /// Tells the writer when the file turns out to be damaged.
    pub(super) fn watched(mut self, shared: Arc<Shared>) -> Self {
        self.shared = Some(shared);
        self
    }

    fn watch<T>(&self, read: Result<T, ReadError>) -> Result<T, ReadError> {
        read.inspect_err(|ReadError(cause)| {
            if let Some(shared) = &self.shared {
                shared.alarm(cause);
            }
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether the file knew the epoch of this batch when it was opened.
    pub(super) fn knows(&self, batch: BatchId) -> bool {
        self.epochs.contains_key(&batch.ordinal())
    }

    /// What was compressed; the bytes as they are where they are damaged.
    pub(super) fn plain(&mut self, data: &[u8], raw: i64) -> Vec<u8> {
        plain(&mut self.decompressor, data, usize::try_from(raw).unwrap_or(usize::MAX))
    }

    /// Batches of one flow behind `after`, oldest first: at least one if there
    /// is one, then as many as stay below `max_events` and `max_bytes`.
    pub fn batches(
        &mut self,
        flow: flow::Hash,
        after: BatchId,
        max_events: u32,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, ReadError> {
        let read = self.read_batches(flow, after, max_events, max_bytes);
        self.watch(read)
    }

    fn read_batches(
        &mut self,
        flow: flow::Hash,
        after: BatchId,
        max_events: u32,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, ReadError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, first_seq, count, raw, data, birth FROM batch
             WHERE flow = ?1 AND id > ?2 ORDER BY id",
        )?;
        let mut letters = self
            .connection
            .prepare_cached("SELECT seq FROM dead_event WHERE place = ?1 ORDER BY seq")?;
        let mut rows = statement.query((flow.0, after.0))?;
        let (mut found, mut events, mut bytes) = (Vec::new(), 0_u32, 0_usize);
        while let Some(row) = rows.next()? {
            let id = BatchId(row.get(0)?);
            let count: u32 = row.get(2)?;
            let raw = usize::try_from(row.get::<_, i64>(3)?).unwrap_or(usize::MAX);
            events = events.saturating_add(count);
            bytes = bytes.saturating_add(raw);
            if !found.is_empty() && (events > max_events || bytes > max_bytes) {
                break;
            }
            let Some((epoch, gateway)) = self.epochs.get(&id.ordinal()) else {
                // Not of this file's epochs: nothing that can be named.
                continue;
            };
            let data = row.get_ref(4)?.as_blob().unwrap_or_default();
            let mut plain = plain(&mut self.decompressor, data, raw);
            let birth = match row.get::<_, Option<Vec<u8>>>(5)? {
                None => Birth { epoch: *epoch, gateway: Arc::clone(gateway) },
                Some(bytes) => Birth::parse(&bytes).unwrap_or_else(|| {
                    // Events without their ids cannot be sent: damage too.
                    plain = bytes;
                    Birth { epoch: *epoch, gateway: Arc::clone(gateway) }
                }),
            };
            let buried = letters.query_map([id.0], |row| row.get::<_, i64>(0))?;
            let buried = buried.map(|seq| seq.map(i64::cast_unsigned)).collect::<Result<_, _>>()?;
            found.push(Batch {
                id,
                gateway: birth.gateway,
                epoch: birth.epoch,
                written: *epoch,
                number: id.number(),
                flow,
                first_seq: row.get::<_, i64>(1)?.cast_unsigned(),
                count,
                buried,
                events: plain,
            });
        }
        Ok(found)
    }

    /// The ids of what waits of one flow behind `after`, oldest first, of so many
    /// batches at most.
    pub fn waiting(
        &self,
        flow: flow::Hash,
        after: BatchId,
        most: u32,
    ) -> Result<Vec<Waiting>, ReadError> {
        self.watch(self.read_waiting(flow, after, most).map_err(ReadError))
    }

    fn read_waiting(
        &self,
        flow: flow::Hash,
        after: BatchId,
        most: u32,
    ) -> Result<Vec<Waiting>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, first_seq, count, birth FROM batch
             WHERE flow = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        )?;
        let mut letters =
            self.connection.prepare_cached("SELECT seq FROM dead_event WHERE place = ?1")?;
        let mut rows = statement.query((flow.0, after.0, most))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let id = BatchId(row.get(0)?);
            let birth = match row.get::<_, Option<Vec<u8>>>(3)? {
                None => self
                    .epochs
                    .get(&id.ordinal())
                    .map(|(epoch, gateway)| Birth { epoch: *epoch, gateway: Arc::clone(gateway) }),
                Some(bytes) => Birth::parse(&bytes),
            };
            let buried = letters.query_map([id.0], |row| row.get::<_, i64>(0))?;
            let buried = buried.map(|seq| seq.map(i64::cast_unsigned)).collect::<Result<_, _>>()?;
            found.push(Waiting {
                id,
                birth,
                first_seq: row.get::<_, i64>(1)?.cast_unsigned(),
                count: row.get(2)?,
                buried,
            });
        }
        Ok(found)
    }

    /// Time of the oldest event of the flow's oldest batch.
    pub fn oldest(&self, flow: flow::Hash) -> Result<Option<Timestamp>, ReadError> {
        let oldest = self
            .connection
            .prepare_cached("SELECT oldest FROM batch WHERE flow = ?1 ORDER BY id LIMIT 1")
            .and_then(|mut first| first.query_row([flow.0], |row| row.get(0)).optional());
        self.watch(oldest.map(|oldest| oldest.map(Timestamp)).map_err(ReadError))
    }

    /// What was dropped behind the gap `after`, oldest first.
    pub fn gaps(&self, after: i64) -> Result<Vec<Gap>, ReadError> {
        self.watch(drops::gaps(&self.connection, after).map_err(ReadError))
    }

    /// Every flow that has batches in the file, with its stream's last
    /// definition: also those that the configuration no longer names.
    pub fn flows(&mut self) -> Result<Vec<(flow::Hash, flow::Lane, Arc<flow::Stream>)>, ReadError> {
        let read = self.read_flows();
        self.watch(read)
    }

    fn read_flows(
        &mut self,
    ) -> Result<Vec<(flow::Hash, flow::Lane, Arc<flow::Stream>)>, ReadError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT flow, lane, definition FROM stream
             WHERE EXISTS (SELECT 1 FROM batch WHERE batch.flow = stream.flow)",
        )?;
        let rows = statement.query_map([], |row| {
            let hash = flow::Hash(row.get(0)?);
            Ok((hash, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        })?;
        let (mut flows, mut strange) = (Vec::new(), Vec::new());
        for row in rows {
            let (hash, lane, definition) = row?;
            let lane = match lane.as_str() {
                "alarm" => flow::Lane::Alarm,
                "bulk" => flow::Lane::Bulk,
                _ => flow::Lane::Live,
            };
            match serde_json::from_str(&definition) {
                Ok(stream) => flows.push((hash, lane, Arc::new(stream))),
                Err(error) => strange.push((hash, named(&definition), error)),
            }
        }
        for (flow, stream, error) in strange {
            // Once a start: it is asked for with each transaction.
            if self.strange.insert(flow) {
                warn!(stream, %error, "definition of a stream in the buffer is not understood, its events wait there");
            }
        }
        Ok(flows)
    }

    /// The file's epochs, oldest first; the last is the running one.
    pub fn epochs(&mut self) -> Result<Vec<Epoch>, ReadError> {
        Ok(self.learn_epochs()?.iter().map(|known| known.epoch).collect())
    }

    fn learn_epochs(&mut self) -> Result<Vec<FileEpoch>, ReadError> {
        let known = state::epochs(&self.connection)?;
        let named = |known: &FileEpoch| (known.ordinal, (known.epoch, Arc::clone(&known.gateway)));
        self.epochs = known.iter().map(named).collect();
        Ok(known)
    }
}

/// What zstd writes begins with no array, which `events` reports as damage; the
/// dead letter shows these bytes.
fn plain(decompressor: &mut Decompressor<'static>, data: &[u8], raw: usize) -> Vec<u8> {
    let plain = if raw <= MOST_RAW { decompressor.decompress(data, raw).ok() } else { None };
    plain.unwrap_or_else(|| data.to_vec())
}

/// The stream's name in a definition of another version of this program.
fn named(definition: &str) -> String {
    serde_json::from_str::<serde_json::Value>(definition)
        .ok()
        .and_then(|known| known.get("name")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| definition.to_owned())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_prepared_once_whatever_it_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buffer.db");
        let writer = schema::open(&path).unwrap();
        let reader = Reader::open(&path).unwrap();
        for connection in [&writer, reader.connection()] {
            let mut behind =
                connection.prepare("SELECT id FROM batch WHERE flow = ?1 AND id > ?2").unwrap();
            for after in 0..10 {
                assert!(!behind.exists((7, after)).unwrap());
            }
            assert_eq!(behind.get_status(StatementStatus::RePrepare), 0);
        }
    }

    #[test]
    fn a_definition_that_is_not_understood_is_told_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buffer.db");
        let connection = schema::open(&path).unwrap();
        connection
            .execute_batch(
                r#"INSERT INTO stream (flow, lane, definition) VALUES
                       (7, 'live', '{"name":"plant","target":{"topic":"t"}}');
                   INSERT INTO batch (id, flow, first_seq, count, raw, oldest, data)
                       VALUES (1, 7, 1, 1, 1, 0, x'00');"#,
            )
            .unwrap();
        let mut reader = Reader::open(&path).unwrap();
        assert!(reader.flows().unwrap().is_empty());
        assert_eq!(reader.strange, BTreeSet::from([flow::Hash(7)]));
        assert_eq!(named(r#"{"name":"plant","target":{}}"#), "plant");
        assert_eq!(named("damaged"), "damaged");
    }
}
