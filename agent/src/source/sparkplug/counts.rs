//! What a host saw: counted by its source, read by whoever looks.

use std::sync::atomic::{AtomicU64, Ordering};

/// One of the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Births of nodes and devices that were taken.
    Births,
    /// Deaths of nodes and devices that were taken.
    Deaths,
    /// Gaps in a node's sequence numbers.
    Gaps,
    /// Requests to be born again.
    Rebirths,
    /// Messages that were held until a birth.
    Held,
    /// Messages, or parts of one, that went out without a birth.
    Unresolved,
    /// Messages that were passed over: what a broker had retained, what came twice, late
    /// deaths of an earlier session.
    Passed,
}

/// Since the process started.
#[derive(Debug, Default)]
pub struct Counts([AtomicU64; Count::ALL.len()]);

impl Count {
    pub const ALL: [Self; 7] = [
        Self::Births,
        Self::Deaths,
        Self::Gaps,
        Self::Rebirths,
        Self::Held,
        Self::Unresolved,
        Self::Passed,
    ];

    /// The word for it, wherever it is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Births => "births",
            Self::Deaths => "deaths",
            Self::Gaps => "gaps",
            Self::Rebirths => "rebirths",
            Self::Held => "held",
            Self::Unresolved => "unresolved",
            Self::Passed => "passed",
        }
    }
}

impl Counts {
    pub(crate) fn add(&self, count: Count) {
        if let Some(place) = self.0.get(count as usize) {
            place.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn get(&self, count: Count) -> u64 {
        self.0.get(count as usize).map_or(0, |place| place.load(Ordering::Relaxed))
    }
}
