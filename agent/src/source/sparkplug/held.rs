//! Messages of one edge node that cannot be read yet, as they came, in order and bounded.
//! No clock.

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
