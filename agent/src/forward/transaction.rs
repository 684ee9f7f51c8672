//! What the open transaction has carried so far, and whether it goes on.

use super::load::Load;
use crate::buffer::{BatchId, Epoch};
use crate::event::Timestamp;
use crate::flow;

/// A transaction goes out in parts: of a load that was handed over, only where
/// it ends is kept. So a backlog pays for a commit once in many loads, and two
/// loads are all that stands in memory, beside the one that the client has.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) open: bool,
    parts: u32,
    events: usize,
    bytes: usize,
    /// For each flow the last batch that is in it.
    ends: Vec<(flow::Hash, BatchId, Epoch, u64)>,
    /// When the first event of each batch was read.
    taken: Vec<Timestamp>,
    /// Ids of its first and its last record.
    range: Option<(String, String)>,
}

impl Transaction {
    pub(super) fn begun() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// The load was handed over.
    pub(super) fn add(&mut self, load: &Load) {
        self.parts += 1;
        self.events += load.records.iter().filter(|record| !record.buried).count();
        self.bytes += load.bytes();
        self.taken.extend(&load.taken);
        for end in &load.ends {
            match self.ends.iter_mut().find(|known| known.0 == end.0) {
                Some(known) => *known = *end,
                None => self.ends.push(*end),
            }
        }
        if let (Some(first), Some(last)) = (load.records.first(), load.records.last()) {
            let before = self.range.take().map(|(first, _)| first);
            self.range = Some((before.unwrap_or_else(|| first.id()), last.id()));
        }
    }

    /// Loads that are in it and are no longer held.
    pub(super) fn parts(&self) -> u32 {
        self.parts
    }

    pub(super) fn events(&self) -> usize {
        self.events
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn ends(&self) -> &[(flow::Hash, BatchId, Epoch, u64)] {
        &self.ends
    }

    pub(super) fn taken(&self) -> &[Timestamp] {
        &self.taken
    }

    pub(super) fn range(&self) -> Option<&(String, String)> {
        self.range.as_ref()
    }
}
