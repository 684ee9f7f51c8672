//! The forwarder's monotonic time: what it is, and how to wait for it.
//!
//! One type, so that the simulator can let hours pass in a moment. Wall time,
//! which stamps records, is [`Clock`](crate::clock::Clock).

use std::time::{Duration, Instant};

use crate::buffer::{BatchId, Store};
use crate::clock::Steady;
use crate::pulse;

#[derive(Debug, Clone, Default)]
pub(crate) struct Pace(Steady);

impl Pace {
    /// A pace that passes only by waiting.
    #[cfg(test)]
    pub(super) fn still() -> Self {
        Self(Steady::still())
    }

    /// The pace of this time.
    #[cfg(test)]
    pub(crate) fn of(time: Steady) -> Self {
        Self(time)
    }

    /// Whoever looks at the time gets on: each wait for Kafka does, again and again.
    pub(super) fn now(&self) -> Instant {
        pulse::beat();
        self.0.now()
    }

    pub(super) fn since(&self, earlier: Instant) -> Duration {
        self.now().saturating_duration_since(earlier)
    }

    /// Sleeps; a stop unparks the thread and so ends it early.
    pub(super) fn park(&self, at_most: Duration) {
        match &self.0 {
            Steady::Real => std::thread::park_timeout(at_most),
            #[cfg(test)]
            time @ Steady::Virtual(_) => time.pass(at_most),
        }
    }

    /// Waits until something is stored behind `seen`, or the time is over.
    pub(super) fn newer(&self, store: &Store, seen: BatchId, at_most: Duration) -> BatchId {
        match &self.0 {
            Steady::Real => store.wait_newer(seen, at_most),
            #[cfg(test)]
            time @ Steady::Virtual(_) => {
                let newest = store.newest();
                if newest <= seen {
                    time.pass(at_most);
                }
                newest
            }
        }
    }
}
