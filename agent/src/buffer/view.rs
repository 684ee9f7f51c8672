//! What an operator looks at the file with: dead letters, depth, single events.
//!
//! A connection of its own that never writes, in short read transactions, so
//! that it may stand beside a running agent. What it gives is data: how it is
//! shown is for `control` and the commands to say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use super::file::Totals;
use super::lock::Lock;
use super::usage::Usage;
use super::{
    Batch, BatchId, Birth, Dropped, Epoch, Memory, OpenError, ReadError, Reader, damage, drops,
    failure, schema, state,
};
use crate::event::Timestamp;
use crate::flow::{self, Stream};

/// The file at rest, held under the lock: no agent runs meanwhile. Its layout
/// is brought forward, nothing else is changed: no epoch begins.
#[derive(Debug)]
pub struct AtRest {
    #[expect(dead_code, reason = "held, not used")]
    lock: Lock,
    path: PathBuf,
    /// Of the last run; `None`: there was none.
    gateway: Option<Arc<str>>,
}

impl AtRest {
    /// Fails where an agent has the file, naming its pid, where there is no
    /// file, since looking at one must not make it, and where it is damaged: what
    /// is still in it is for the salvage of the next start to read.
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        let unread = |cause| OpenError::SetAside { path: path.to_owned(), cause };
        if !path.is_file() && !damage::is_begun(path).map_err(unread)? {
            return Err(OpenError::Missing(path.to_owned()));
        }
        let lock = Lock::take(path)?;
        let damaged = |cause| OpenError::Damaged { path: path.to_owned(), cause };
        if let Some(cause) = damage::awaited(path).map_err(unread)? {
            return Err(damaged(cause.to_owned()));
        }
        match schema::open(path) {
            Err(OpenError::File { cause, .. }) if failure::is_damage_at_start(&cause) => {
                Err(damaged(cause.to_string()))
            }
            Err(other) => Err(other),
            Ok(connection) => {
                let failed = |cause| OpenError::File { path: path.to_owned(), cause };
                let last = state::epochs(&connection).map_err(failed)?.pop();
                let gateway = last.map(|last| last.gateway);
                Ok(Self { lock, path: path.to_owned(), gateway })
            }
        }
    }

    /// Fails where the last run was another gateway's. Whoever writes or sends in its place
    /// takes the name from the configuration, and the unit may have it from elsewhere.
    pub fn must_be_of(&self, named: &str) -> Result<(), OpenError> {
        match &self.gateway {
            Some(known) if **known != *named => Err(OpenError::OtherGateway {
                path: self.path.clone(),
                known: known.to_string(),
                named: named.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// A look at the file.
#[derive(Debug)]
pub struct View {
    reader: Reader,
    path: PathBuf,
}

/// A dead letter in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub id: i64,
    pub at: Timestamp,
    pub reason: String,
    pub origin: String,
    /// Of the whole payload, which is kept up to a bound.
    pub length: u64,
    /// The stream of the event in it, which can be sent again.
    pub stream: Option<String>,
}

/// A dead letter with all that is kept of it.
#[derive(Debug, Clone)]
pub struct WholeLetter {
    pub letter: Letter,
    pub payload: Vec<u8>,
    /// The event that Kafka refused, as a batch of its own.
    pub event: Option<Batch>,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    All,
    Ids(Vec<i64>),
    /// Buried before this time, in nanoseconds since 1970.
    Before(i64),
}

/// How much of one flow waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Depth {
    pub flow: flow::Hash,
    pub lane: String,
    /// Name and topic; `None` where the file has lost the definition.
    pub stream: Option<Arc<Stream>>,
    pub batches: u64,
    pub events: u64,
    /// What they take of the file: what a stream's share is measured by.
    pub bytes: u64,
    /// Time of the oldest event.
    pub oldest: Timestamp,
}

/// An epoch that the file knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub epoch: Epoch,
    pub gateway: Arc<str>,
    pub batches: u64,
}

/// How the file stands.
#[derive(Debug)]
pub struct Survey {
    pub file_bytes: u64,
    pub wal_bytes: u64,
    pub depth: Vec<Depth>,
    /// Oldest first.
    pub epochs: Vec<Run>,
    pub memory: Memory,
    pub committed: u64,
    pub dead_letters: u64,
    pub dead_bytes: u64,
    pub dead_dropped: u64,
    /// What rules of the user's have dropped, by stream and reason.
    pub dropped: Vec<Dropped>,
}

/// A batch with the words for where it goes.
#[derive(Debug)]
pub struct Peeked {
    pub stream: String,
    pub lane: String,
    pub batch: Batch,
}

type Definitions = BTreeMap<flow::Hash, (String, Option<Arc<Stream>>)>;

impl View {
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self { reader: Reader::open(path)?, path: path.to_owned() })
    }

    fn connection(&self) -> &Connection {
        self.reader.connection()
    }

    /// Dead letters before this one, newest first.
    pub fn letters(&self, before: Option<i64>, limit: u32) -> Result<Vec<Letter>, ReadError> {
        let names = self.definitions()?;
        let mut statement = self.connection().prepare_cached(
            "SELECT id, at, reason, origin, length,
                 (SELECT flow FROM dead_event WHERE letter = id)
             FROM dead_letter WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let rows = statement.query_map((before.unwrap_or(i64::MAX), limit), |row| {
            let flow: Option<u32> = row.get(5)?;
            Ok(Letter {
                id: row.get(0)?,
                at: Timestamp(row.get(1)?),
                reason: row.get(2)?,
                origin: row.get(3)?,
                length: row.get::<_, i64>(4)?.cast_unsigned(),
                stream: flow.map(|flow| named(&names, flow::Hash(flow))),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn count_letters(&self) -> Result<u64, ReadError> {
        let mut statement = self.connection().prepare_cached("SELECT count(*) FROM dead_letter")?;
        let count: i64 = statement.query_row([], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// One dead letter, whole.
    pub fn letter(&mut self, id: i64) -> Result<Option<WholeLetter>, ReadError> {
        let next = id.saturating_add(1);
        let found = self.letters(Some(next), 1)?.into_iter().find(|letter| letter.id == id);
        let Some(letter) = found else { return Ok(None) };
        let payload: Option<Vec<u8>> = self
            .connection()
            .prepare_cached("SELECT payload FROM dead_letter WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let event = self.dead_event(id)?;
        Ok(payload.map(|payload| WholeLetter { letter, payload, event }))
    }

    fn dead_event(&mut self, letter: i64) -> Result<Option<Batch>, ReadError> {
        type Row = (i64, u32, i64, i64, Vec<u8>, Vec<u8>);
        let row: Option<Row> = self
            .connection()
            .prepare_cached(
                "SELECT place, flow, seq, raw, birth, data FROM dead_event WHERE letter = ?1",
            )?
            .query_row([letter], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
            })
            .optional()?;
        let Some((place, flow, seq, raw, birth, data)) = row else { return Ok(None) };
        let Some(birth) = Birth::parse(&birth) else { return Ok(None) };
        let place = BatchId(place);
        Ok(Some(Batch {
            id: place,
            gateway: birth.gateway,
            epoch: birth.epoch,
            written: birth.epoch,
            number: place.number(),
            flow: flow::Hash(flow),
            first_seq: seq.cast_unsigned(),
            count: 1,
            buried: Vec::new(),
            events: self.reader.plain(&data, raw),
        }))
    }

    /// Ids of these dead letters, oldest first; `whole`: of those that hold an
    /// event. There are never more than the bound on dead letters, except for
    /// ids that were asked for.
    pub fn ids(&self, which: &Which, whole: bool) -> Result<Vec<i64>, ReadError> {
        let before = match which {
            Which::Ids(ids) => {
                let mut ids = ids.clone();
                ids.sort_unstable();
                ids.dedup();
                return Ok(ids);
            }
            Which::All => i64::MAX,
            Which::Before(at) => *at,
        };
        let mut statement = self.connection().prepare_cached(
            "SELECT id FROM dead_letter WHERE at < ?1
             AND (NOT ?2 OR EXISTS (SELECT 1 FROM dead_event WHERE letter = id)) ORDER BY id",
        )?;
        let rows = statement.query_map((before, whole), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How the file stands. Reads each row's head once.
    pub fn survey(&self) -> Result<Survey, ReadError> {
        // All of one moment.
        let moment = self.connection().unchecked_transaction()?;
        let definitions = self.definitions()?;
        let usage = Usage::load(&moment)?;
        let mut statement = moment.prepare_cached(
            "SELECT flow, count(*), sum(count), min(oldest) FROM batch GROUP BY flow",
        )?;
        let depth = statement.query_map([], |row| {
            let flow = flow::Hash(row.get(0)?);
            let (lane, stream) = definitions.get(&flow).cloned().unwrap_or_default();
            Ok(Depth {
                flow,
                lane,
                stream,
                batches: row.get::<_, i64>(1)?.cast_unsigned(),
                events: row.get::<_, i64>(2)?.cast_unsigned(),
                bytes: usage.of(flow),
                oldest: Timestamp(row.get(3)?),
            })
        })?;
        let mut depth: Vec<Depth> = depth.collect::<Result<_, _>>()?;
        let name = |depth: &Depth| depth.stream.as_ref().map(|stream| stream.name.clone());
        depth.sort_by_key(|depth| (name(depth), depth.lane.clone()));
        let totals = self.totals()?;
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        Ok(Survey {
            file_bytes: size(&self.path),
            wal_bytes: size(Path::new(&wal)),
            depth,
            epochs: self.runs()?,
            memory: state::memory(self.connection())?,
            committed: totals.committed,
            dead_letters: totals.dead_letters,
            dead_bytes: totals.dead_bytes,
            dead_dropped: totals.dead_dropped,
            dropped: drops::dropped(&moment)?,
        })
    }

    /// The oldest or newest batches, oldest first, of one stream or of all:
    /// enough of them for so many events, if there are as many.
    pub fn peek(
        &mut self,
        stream: Option<&str>,
        events: u32,
        newest: bool,
    ) -> Result<Vec<Peeked>, ReadError> {
        let names = self.definitions()?;
        let of: Vec<flow::Hash> = names
            .iter()
            .filter(|(_, (_, known))| {
                stream.is_none_or(|wanted| known.as_ref().is_some_and(|known| known.name == wanted))
            })
            .map(|(flow, _)| *flow)
            .collect();
        let sql = if newest {
            "SELECT id, flow, count FROM batch WHERE flow = ?1 ORDER BY id DESC LIMIT ?2"
        } else {
            "SELECT id, flow, count FROM batch WHERE flow = ?1 ORDER BY id LIMIT ?2"
        };
        let mut places: Vec<(BatchId, flow::Hash, u32)> = Vec::new();
        for flow in of {
            let mut statement = self.connection().prepare_cached(sql)?;
            let rows = statement.query_map((flow.0, events), |row| {
                Ok((BatchId(row.get(0)?), flow::Hash(row.get(1)?), row.get(2)?))
            })?;
            places.extend(rows.collect::<Result<Vec<_>, _>>()?);
        }
        places.sort_unstable_by_key(|(id, ..)| if newest { -id.0 } else { id.0 });
        let (mut found, mut count) = (Vec::new(), 0_u32);
        for (id, flow, of_batch) in places {
            if count >= events {
                break;
            }
            count = count.saturating_add(of_batch);
            let read = self.reader.batches(flow, BatchId(id.0.saturating_sub(1)), 1, 1)?;
            // It may have been sent and deleted meanwhile.
            if let Some(batch) = read.into_iter().find(|batch| batch.id == id) {
                let lane = names.get(&flow).map(|(lane, _)| lane.clone()).unwrap_or_default();
                found.push(Peeked { stream: named(&names, flow), lane, batch });
            }
        }
        if newest {
            found.reverse();
        }
        Ok(found)
    }

    fn totals(&self) -> Result<Totals, ReadError> {
        let text = state::get(self.connection(), "totals")?;
        Ok(text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default())
    }

    fn runs(&self) -> Result<Vec<Run>, ReadError> {
        let mut runs = Vec::new();
        for known in state::epochs(self.connection())? {
            let (first, last) =
                (BatchId::new(known.ordinal, 0), BatchId::new(known.ordinal, u64::MAX));
            let batches: i64 = self
                .connection()
                .prepare_cached("SELECT count(*) FROM batch WHERE id BETWEEN ?1 AND ?2")?
                .query_row((first.0, last.0), |row| row.get(0))?;
            let batches = batches.cast_unsigned();
            runs.push(Run { epoch: known.epoch, gateway: known.gateway, batches });
        }
        Ok(runs)
    }

    fn definitions(&self) -> Result<Definitions, ReadError> {
        let mut statement =
            self.connection().prepare_cached("SELECT flow, lane, definition FROM stream")?;
        let rows = statement.query_map([], |row| {
            let definition: String = row.get(2)?;
            let stream = serde_json::from_str(&definition).ok().map(Arc::new);
            Ok((flow::Hash(row.get(0)?), (row.get(1)?, stream)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// The stream's name, or the flow's hash where the file no longer knows it.
fn named(names: &Definitions, flow: flow::Hash) -> String {
    let known = names.get(&flow).and_then(|(_, stream)| stream.as_ref());
    known.map_or_else(|| format!("{:08x}", flow.0), |stream| stream.name.clone())
}
