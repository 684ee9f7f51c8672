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
    /// Epoch in which the batch was written, as positions name it. Another one
    /// than `epoch` where the events were put in again: they keep their ids.
    pub written: Epoch,
    /// Number of the batch within the epoch in which it was written, from 1.
    pub number: u64,
    pub flow: flow::Hash,
    /// Sequence number of its first event within the epoch.
    pub first_seq: u64,
    pub count: u32,
    /// Those of its events that are dead letters already, by their numbers:
    /// they are not sent, whatever the broker would say now.
    pub buried: Vec<u64>,
    /// Canonical CBOR, decompressed; read it with [`Batch::events`]. The
    /// stored bytes where they cannot be decompressed, which is damage.
    pub events: Vec<u8>,
}

/// The ids of a stored batch, without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub id: BatchId,
    /// Where its events were numbered; none where that is damaged.
    pub birth: Option<Birth>,
    /// Sequence number of its first event within that epoch.
    pub first_seq: u64,
    pub count: u32,
    /// Those of its events that are dead letters already, by their numbers.
    pub buried: Vec<u64>,
}

impl Waiting {
    /// Sequence number of its last event.
    pub fn last_seq(&self) -> u64 {
        self.first_seq.saturating_add(u64::from(self.count)).saturating_sub(1)
    }
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

    /// The event with this number as a dead letter keeps it, to be sent again.
    pub fn refused(&self, seq: u64) -> Result<Refused, Damaged> {
        let index = seq.checked_sub(self.first_seq).and_then(|index| usize::try_from(index).ok());
        let (time, raw) = codec::extract(&self.events, index.unwrap_or(usize::MAX))?;
        let data = zstd::bulk::compress(&raw, super::pack::LEVEL)
            .map_err(|cause| Damaged(cause.to_string()))?;
        Ok(Refused {
            place: self.id,
            flow: self.flow,
            seq,
            raw: raw.len() as u64,
            oldest: time,
            birth: Birth { epoch: self.epoch, gateway: Arc::clone(&self.gateway) },
            data,
        })
    }
}

/// An event that Kafka refused alone, as its batch row would hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The batch that it was refused in.
    pub(super) place: BatchId,
    pub(super) flow: flow::Hash,
    pub(super) seq: u64,
    pub(super) raw: u64,
    pub(super) oldest: Timestamp,
    pub(super) birth: Birth,
    pub(super) data: Vec<u8>,
}

/// Where events were numbered: with their numbers, their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Birth {
    pub epoch: Epoch,
    pub gateway: Arc<str>,
}

impl std::fmt::Display for Birth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.gateway, self.epoch)
    }
}

impl Birth {
    /// As it stands in the file: eight bytes of the epoch, then the gateway.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [&self.epoch.0.to_be_bytes(), self.gateway.as_bytes()].concat()
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (epoch, gateway) = bytes.split_first_chunk()?;
        let gateway = str::from_utf8(gateway).ok()?.into();
        Some(Self { epoch: Epoch(u64::from_be_bytes(*epoch)), gateway })
    }
}

/// The bytes of a batch are not what was written.
#[derive(Debug, thiserror::Error)]
#[error("batch is damaged: {0}")]
pub struct Damaged(pub String);
