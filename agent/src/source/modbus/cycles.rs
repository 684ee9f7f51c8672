//! What became of a group's cycles: counted by its source, read by whoever looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of one group. Its device and its own name tell it from all others
/// of its source.
#[derive(Debug)]
pub struct Cycles {
    pub device: Arc<str>,
    pub group: String,
    read: AtomicU64,
    missed: AtomicU64,
    rested: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
}

/// What was done since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Cycles in which a group was read, whole or in part.
    pub read: u64,
    /// Cycles skipped because their time went by.
    pub missed: u64,
    /// Cycles skipped because the device was resting.
    pub rested: u64,
    /// Cycles that ended without an answer, or with a wrong one.
    pub failed: u64,
    /// Requests that a device refused.
    pub refused: u64,
}

impl Cycles {
    pub(crate) fn new(device: Arc<str>, group: String) -> Self {
        let none = AtomicU64::default;
        let (read, missed, rested, failed, refused) = (none(), none(), none(), none(), none());
        Self { device, group, read, missed, rested, failed, refused }
    }

    /// Counts what is new. Nothing is told by one count about another, so that
    /// no order is kept between them.
    pub(crate) fn add(&self, new: Counts) {
        let pairs = [
            (&self.read, new.read),
            (&self.missed, new.missed),
            (&self.rested, new.rested),
            (&self.failed, new.failed),
            (&self.refused, new.refused),
        ];
        for (known, new) in pairs.into_iter().filter(|(_, new)| *new > 0) {
            known.fetch_add(new, Ordering::Relaxed);
        }
    }

    pub fn counts(&self) -> Counts {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            read: now(&self.read),
            missed: now(&self.missed),
            rested: now(&self.rested),
            failed: now(&self.failed),
            refused: now(&self.refused),
        }
    }
}
