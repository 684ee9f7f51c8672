//! The one place where wall time comes from: it stamps events.
//!
//! Schedules run on the monotonic clock: tokio's `Instant` in async code, which
//! tests pause, and [`Steady`] on the two threads.

use std::sync::Arc;
#[cfg(test)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
#[cfg(test)]
use std::time::Duration;
use std::time::Instant;

use crate::event::Timestamp;

/// Wall time. Cheap to clone; all clones of a test's clock move together.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock that stands until [`Clock::set`] moves it.
    pub fn fixed(at: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(at.0))))
    }

    /// Moves a fixed clock; the machine's clock is never set.
    pub fn set(&self, at: Timestamp) {
        if let Some(fixed) = &self.0 {
            fixed.store(at.0, Ordering::Relaxed);
        }
    }

    pub fn now(&self) -> Timestamp {
        if let Some(fixed) = &self.0 {
            return Timestamp(fixed.load(Ordering::Relaxed));
        }
        #[expect(clippy::disallowed_methods, reason = "the clock is where wall time comes from")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // Before 1970 a machine's clock is certainly wrong; zero says so.
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// Monotonic time of the threads. One type, so that a simulator can let hours
/// pass in a moment; all clones of a test's move together.
#[derive(Debug, Clone, Default)]
pub enum Steady {
    #[default]
    Real,
    /// Stands until a test moves it.
    #[cfg(test)]
    Virtual(Arc<Mutex<Instant>>),
}

impl Steady {
    /// A time that passes only by [`Steady::pass`].
    #[cfg(test)]
    pub(crate) fn still() -> Self {
        Self::Virtual(Arc::new(Mutex::new(Instant::now())))
    }

    pub fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            #[cfg(test)]
            Self::Virtual(at) => *at.lock().unwrap(),
        }
    }

    /// Moves a test's time.
    #[cfg(test)]
    pub(crate) fn pass(&self, time: Duration) {
        if let Self::Virtual(at) = self {
            *at.lock().unwrap() += time;
        }
    }
}
