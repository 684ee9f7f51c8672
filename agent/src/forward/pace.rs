//! The forwarder's monotonic time: what it is, and how to wait for it.
//!
//! One type, so that the simulator can let hours pass in a moment. Wall time,
//! which stamps records, is [`Clock`](crate::clock::Clock).

#[cfg(test)]
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::buffer::{BatchId, Store};

#[derive(Debug, Clone, Default)]
pub(super) enum Pace {
    #[default]
    Real,
    /// Stands until it is waited for or a test moves it.
    #[cfg(test)]
    Virtual(Arc<Mutex<Instant>>),
}

impl Pace {
    /// A pace that passes only by waiting.
    #[cfg(test)]
    pub(super) fn still() -> Self {
        Self::Virtual(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            #[cfg(test)]
            Self::Virtual(at) => *at.lock().unwrap(),
        }
    }

    pub(super) fn since(&self, earlier: Instant) -> Duration {
        self.now().saturating_duration_since(earlier)
    }

    /// Sleeps; a stop unparks the thread and so ends it early.
    pub(super) fn park(&self, at_most: Duration) {
        match self {
            Self::Real => std::thread::park_timeout(at_most),
            #[cfg(test)]
            Self::Virtual(at) => *at.lock().unwrap() += at_most,
        }
    }

    /// Waits until something is stored behind `seen`, or the time is over.
    pub(super) fn newer(&self, store: &Store, seen: BatchId, at_most: Duration) -> BatchId {
        match self {
            Self::Real => store.wait_newer(seen, at_most),
            #[cfg(test)]
            Self::Virtual(at) => {
                let newest = store.wait_newer(seen, Duration::ZERO);
                if newest <= seen {
                    *at.lock().unwrap() += at_most;
                }
                newest
            }
        }
    }
}
