//! A stored batch and its events, borrowed from its bytes.

use std::sync::Arc;

use super::{BatchId, Epoch, codec};
use crate::event::{Decimal, Quality, Timestamp};
use crate::flow;

/// A stored batch as the forwarder reads it.
#[derive(Debug, Clone)]
pub struct Batch {
    pub id: BatchId,
    /// Id of the gateway under which it was written: part of its events' ids,
    /// also when the file is opened under another one later.
    pub gateway: Arc<str>,
    pub epoch: Epoch,
    /// Number of the batch within its epoch, from 1.
    pub number: u64,
    pub flow: flow::Hash,
    /// Sequence number of its first event within the epoch.
    pub first_seq: u64,
    pub count: u32,
    /// Canonical CBOR, decompressed; read it with [`Batch::events`]. The
    /// stored bytes where they cannot be decompressed, which is damage.
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
    Decimal(Decimal),
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

impl<'a> ArrayRef<'a> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = ValueRef<'a>> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || codec::element(&mut rest))
    }
}

impl Batch {
    /// Walks the events in order. An error means that the bytes are damaged
    /// though the file's own checks passed: the batch becomes a dead letter.
    /// What `each` answers as an error ends the walk and is given back.
    pub fn events(
        &self,
        each: impl FnMut(EventRef<'_>) -> Result<(), Damaged>,
    ) -> Result<(), Damaged> {
        codec::walk(&self.events, self.first_seq, each)
    }
}

/// The bytes of a batch are not what was written.
#[derive(Debug, thiserror::Error)]
#[error("batch is damaged: {0}")]
pub struct Damaged(pub String);
