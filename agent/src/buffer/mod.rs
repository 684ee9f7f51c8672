//! One `SQLite` file: batches, source checkpoints, dead letters, counters.

mod position;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use position::Position;

use crate::collect::DeadLetter;
use crate::event::{Quality, Timestamp};
use crate::flow;
use crate::units::{ByteSize, Period};

/// `[buffer]`: the file and how it is written.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file; its folder must exist and be writable.
    #[serde(default = "default_path")]
    pub path: PathBuf,
    /// Longest time from an event to its commit.
    #[serde(default = "default_commit_interval")]
    pub commit_interval: Period,
    /// Bytes that the stored events may take; then sources are held back.
    #[serde(default = "default_max_size")]
    pub max_size: ByteSize,
}

fn default_path() -> PathBuf {
    PathBuf::from("/var/lib/tidegate/buffer.db")
}
const fn default_commit_interval() -> Period {
    Period::from_secs(1)
}
const fn default_max_size() -> ByteSize {
    ByteSize::mib(1024)
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: default_path(),
            commit_interval: default_commit_interval(),
            max_size: default_max_size(),
        }
    }
}

/// Place of a batch in the file: the epoch's ordinal in the file (23 bits)
/// above the batch number within the epoch (40 bits). Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BatchId(pub i64);

/// A random number of 64 bits, new at every start of the process and for every
/// new or salvaged file; printed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A stored batch as the forwarder reads it.
#[derive(Debug, Clone)]
pub struct Batch {
    pub id: BatchId,
    pub epoch: Epoch,
    /// Number of the batch within its epoch, from 1.
    pub number: u64,
    pub flow: flow::Hash,
    /// Sequence number of its first event within the epoch.
    pub first_seq: u64,
    pub count: u32,
    /// Canonical CBOR, decompressed; read it with [`Batch::events`].
    pub events: Vec<u8>,
}

/// One event of a batch, borrowed from its bytes: what `encode` walks without
/// an allocation.
#[derive(Debug)]
pub struct EventRef<'a> {
    pub seq: u64,
    pub device: &'a str,
    pub time: Timestamp,
    pub read_at: Option<Timestamp>,
    pub quality: Quality,
    /// Static labels of gateway and source, as they were when it was read.
    pub labels: &'a [(&'a str, &'a str)],
    pub fields: &'a [FieldRef<'a>],
}

#[derive(Debug, Clone, Copy)]
pub struct FieldRef<'a> {
    /// Index of the name within the batch: an encoder may cache what it made
    /// of a name under it.
    pub name_index: usize,
    pub name: &'a str,
    pub value: ValueRef<'a>,
    pub quality: Option<Quality>,
}

/// [`Value`](crate::event::Value), borrowed.
#[derive(Debug, Clone, Copy)]
pub enum ValueRef<'a> {
    Null,
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Decimal(crate::event::Decimal),
    Text(&'a str),
    Bytes(&'a [u8]),
    Timestamp {
        time: Timestamp,
        zoned: bool,
    },
    Date(i32),
    Time(u64),
    Uuid([u8; 16]),
    Json(&'a str),
    /// The elements as a CBOR array of values; walk it with `iter`.
    Array(ArrayRef<'a>),
}

/// The elements of an array value, decoded as they are asked for.
#[derive(Debug, Clone, Copy)]
pub struct ArrayRef<'a> {
    /// CBOR of the elements, one behind the other.
    pub(crate) bytes: &'a [u8],
    pub(crate) len: usize,
}

impl Batch {
    /// Walks the events in order. An error means that the bytes are damaged
    /// though the file's own checks passed: the batch becomes a dead letter.
    pub fn events(
        &self,
        _each: impl FnMut(EventRef<'_>) -> Result<(), Damaged>,
    ) -> Result<(), Damaged> {
        todo!()
    }
}

/// The bytes of a batch are not what was written.
#[derive(Debug, thiserror::Error)]
#[error("batch is damaged: {0}")]
pub struct Damaged(pub String);

/// What the forwarder reads with: a connection of its own that never writes.
/// Each call is one short read transaction.
#[derive(Debug)]
pub struct Reader;

impl Reader {
    /// Batches of one flow behind `after`, oldest first: at least one if there
    /// is one, then as many as stay below `max_events` and `max_bytes`.
    pub fn batches(
        &mut self,
        _flow: flow::Hash,
        _after: BatchId,
        _max_events: u32,
        _max_bytes: usize,
    ) -> Result<Vec<Batch>, ReadError> {
        todo!()
    }

    /// Every flow that has batches in the file, with its stream's last
    /// definition: also those that the configuration no longer names.
    pub fn flows(&mut self) -> Result<Vec<(flow::Hash, flow::Lane, Arc<flow::Stream>)>, ReadError> {
        todo!()
    }

    /// The file's epochs, oldest first; the last is the running one.
    pub fn epochs(&mut self) -> Result<Vec<Epoch>, ReadError> {
        todo!()
    }
}

/// The file cannot be read now; the forwarder says so once and tries again.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the buffer")]
pub struct ReadError(#[from] rusqlite::Error);

/// The forwarder's hand on the writer. Cheap to clone; every call is blocking
/// and belongs on a thread of its own.
#[derive(Debug, Clone)]
pub struct Store;

impl Store {
    pub fn reader(&self) -> Result<Reader, ReadError> {
        todo!()
    }

    /// What the file remembers about positions in Kafka.
    pub fn memory(&self) -> Memory {
        todo!()
    }

    /// Deletes what `position` covers (by SAFETY.md, "Two counters and an
    /// epoch") and remembers that a position exists in this cluster. Waits for
    /// its commit. At start, before anything is sent.
    pub fn adopt(&self, _position: &Position, _cluster: &str) -> Result<Adopted, Gone> {
        todo!()
    }

    /// The same for a position that this process has just committed: it does
    /// not wait, the writer gathers such calls into few large deletes.
    pub fn forget(&self, _position: Position, _cluster: &str) -> Result<(), Gone> {
        todo!()
    }

    /// Commits dead letters; waits. Before any transaction whose position
    /// passes them (SAFETY 9).
    pub fn bury(&self, _dead: Vec<DeadLetter>) -> Result<(), Gone> {
        todo!()
    }

    /// Waits until something is stored behind `seen`, `stop` was called or the
    /// time is over; gives what was newest then.
    pub fn wait_newer(&self, _seen: BatchId, _at_most: std::time::Duration) -> BatchId {
        todo!()
    }
}

/// What the file remembers of its positions.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Cluster in which a position of this file was last committed.
    pub cluster: Option<String>,
    /// The last position that this file saw committed there.
    pub position: Option<Position>,
}

/// What adopting a position did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    pub deleted_batches: u64,
    pub deleted_events: u64,
    /// Ranges that are sent though the position may cover them, in words, one
    /// each: what may be double, for the log.
    pub in_doubt: Vec<String>,
}

/// The writer has ended: the agent is going down.
#[derive(Debug, thiserror::Error)]
#[error("the buffer is closed")]
pub struct Gone;
