//! Messages of one edge node that cannot be read yet, as they came, in order and bounded.
//! No clock.
//!
//! What came with QoS 1 or 2 is acknowledged with the commit that takes it. While it is
//! held that commit keeps it in the source's checkpoint ([`Saved`]): the broker has
//! forgotten it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::event::Timestamp;

/// What one held message takes besides its payload.
const EACH: usize = 96;

/// DATA before its birth.
#[derive(Debug)]
pub(super) struct Raw {
    /// `None`: the node's own.
    pub(super) device: Option<Arc<str>>,
    pub(super) payload: Box<[u8]>,
    /// When it was read.
    pub(super) read: Timestamp,
    pub(super) since: Instant,
    /// It is acknowledged, and so must not be lost by a crash.
    pub(super) is_saved: bool,
}

impl Raw {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        EACH + self.payload.len()
    }
}

/// Those of one node. The caller keeps to the bounds, with [`Held::pop`].
#[derive(Debug, Default)]
pub(super) struct Held {
    messages: VecDeque<Raw>,
    bytes: usize,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, raw: Raw) {
        self.bytes += raw.bytes();
        self.messages.push_back(raw);
    }

    pub(super) fn saved(&self) -> impl Iterator<Item = &Raw> {
        self.messages.iter().filter(|raw| raw.is_saved)
    }

    /// The oldest.
    pub(super) fn pop(&mut self) -> Option<Raw> {
        let raw = self.messages.pop_front()?;
        self.bytes -= raw.bytes();
        Some(raw)
    }

    /// Since when the oldest is held.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.messages.front().map(|raw| raw.since)
    }

    /// All, or those of one device or of the node itself, in order.
    pub(super) fn take(&mut self, of: Of<'_>) -> Vec<Raw> {
        let is_wanted = |raw: &Raw| match of {
            Of::All => true,
            Of::Only(device) => raw.device.as_deref() == device,
        };
        let (taken, kept): (VecDeque<Raw>, VecDeque<Raw>) =
            std::mem::take(&mut self.messages).into_iter().partition(is_wanted);
        self.bytes = kept.iter().map(Raw::bytes).sum();
        self.messages = kept;
        taken.into()
    }
}

/// Which of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    All,
    /// Of a device, or with `None` of the node itself.
    Only(Option<&'a str>),
}

/// What a checkpoint keeps of what is held.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Saved {
    #[prost(message, repeated, tag = "1")]
    pub(super) messages: Vec<SavedMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SavedMessage {
    #[prost(string, tag = "1")]
    pub(super) group: String,
    #[prost(string, tag = "2")]
    pub(super) node: String,
    #[prost(string, optional, tag = "3")]
    pub(super) device: Option<String>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) payload: Vec<u8>,
    /// In ns since 1970.
    #[prost(sint64, tag = "5")]
    pub(super) read: i64,
}
