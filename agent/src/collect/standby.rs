//! What is in memory and is written only where Kafka does not take it within the
//! commit interval: whole groups, in order (SAFETY 22).
//!
//! Their rows stand in [`buffer::held`](crate::buffer); here is what belongs to
//! them: which deliveries they answer, and what their sources would have to find
//! again if they were written. A group is done once none of its rows is left, and
//! is answered once all before it are done too: a ticket stands for every earlier
//! one of its source.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::Checkpoint;
use super::group::{Group, Part};
use crate::buffer::{Batch, BatchId};

/// One group, without its events.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its last batch, or the last one before it where it has none.
    last: BatchId,
    closed: Instant,
    pub parts: BTreeMap<u16, Part>,
    pub since: Vec<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Standby {
    groups: VecDeque<Waiting>,
    /// Of each source what it must find again if it has to, also where all that it
    /// handed over is with Kafka: its answers may still be on their way.
    saved: BTreeMap<u16, Checkpoint>,
    /// Of each source the state that the file has of it, where that is known to be
    /// one that recognises nothing.
    idle: BTreeMap<u16, Checkpoint>,
}

impl Standby {
    /// The group stays in memory; `last` is its last batch.
    pub(super) fn add(&mut self, group: Group, last: BatchId, closed: Instant) {
        let Group { parts, since, saved, .. } = group;
        self.saved.extend(saved);
        self.groups.push_back(Waiting { last, closed, parts, since });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Nothing of it is left to be written.
    pub(super) fn is_written(&self) -> bool {
        self.groups.is_empty() && self.saved.is_empty()
    }

    /// Since when the oldest stands in memory.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.groups.front().map(|group| group.closed)
    }

    /// The next group that is done; `first` is the oldest batch that is not.
    pub(super) fn next_done(&mut self, first: Option<&Batch>) -> Option<Waiting> {
        self.groups.pop_front_if(|group| first.is_none_or(|first| group.last < first.id))
    }

    /// All of it is in the file. Gives the groups.
    pub(super) fn written(&mut self) -> VecDeque<Waiting> {
        self.saved.clear();
        std::mem::take(&mut self.groups)
    }

    /// What its sources must find again, the newest of each.
    pub(super) fn saved(&self) -> &BTreeMap<u16, Checkpoint> {
        &self.saved
    }

    /// Whether the file has this state of the source.
    pub(super) fn knows(&self, source: u16, idle: &Checkpoint) -> bool {
        self.idle.get(&source) == Some(idle)
    }

    /// The file has these states now.
    pub(super) fn learn(&mut self, idle: BTreeMap<u16, Checkpoint>) {
        self.idle.extend(idle);
    }

    /// The file may have other states of these sources from here on. Gives those that
    /// it had, for a write that for certain did not happen.
    pub(super) fn unlearn(&mut self, sources: &[u16]) -> BTreeMap<u16, Checkpoint> {
        let known = sources.iter().filter_map(|source| self.idle.remove_entry(source));
        known.collect()
    }

    /// Sources come and go, and their places are others'.
    pub(super) fn unlearn_all(&mut self) {
        self.idle.clear();
    }
}

#[cfg(test)]
impl Standby {
    pub(super) fn groups(&self) -> impl Iterator<Item = &Waiting> {
        self.groups.iter()
    }

    pub(super) fn put_before(&mut self, mut before: Self) {
        before.groups.append(&mut self.groups);
        before.saved.append(&mut self.saved);
        before.idle.append(&mut self.idle);
        *self = before;
    }
}
