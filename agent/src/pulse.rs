//! Who of the agent's threads gets on: each stage leaves a beat with each turn
//! of its loop, and whoever waits long for another leaves one meanwhile.
//!
//! A thread that hangs (a medium that neither writes nor errs, a dead lock, a
//! loop without end) leaves none. The unit's watchdog is fed only while all of
//! them do: see [`crate::agent::Watchdog`].

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long a stage may be silent where nobody says otherwise: longer than a worn
/// card takes for one commit.
pub const SILENCE: Duration = Duration::from_mins(2);

/// The beat of one stage. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Pulse {
    stage: &'static str,
    /// Milliseconds since [`origin`].
    last: Arc<AtomicU64>,
}

impl Pulse {
    /// Of a stage that begins now.
    pub fn new(stage: &'static str) -> Self {
        Self { stage, last: Arc::new(AtomicU64::new(milliseconds(Instant::now()))) }
    }

    pub const fn stage(&self) -> &'static str {
        self.stage
    }

    /// From now on [`beat`] on this thread is one of this stage.
    pub fn is_of_this_thread(&self) {
        MINE.with_borrow_mut(|mine| *mine = Some(Mine::Stage(self.clone())));
    }

    /// The last beat was an hour ago or more.
    #[cfg(test)]
    pub(crate) fn hang(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// Since the last beat.
    pub fn silent(&self) -> Duration {
        let last = self.last.load(Ordering::Relaxed);
        Duration::from_millis(milliseconds(Instant::now()).saturating_sub(last))
    }
}

/// What a beat of this thread does.
#[derive(Debug)]
enum Mine {
    Stage(Pulse),
    /// It calls this, not more often than each [`CALLED`].
    Call {
        call: fn(),
        last: Instant,
    },
}

/// Long work beats with each page that it reads.
const CALLED: Duration = Duration::from_secs(1);

thread_local! {
    static MINE: RefCell<Option<Mine>> = const { RefCell::new(None) };
}

/// While it lasts this thread's beats call `call`, once a second at most: for
/// the start of an agent, before there are stages.
#[derive(Debug)]
pub struct Calling(Option<Mine>);

/// See [`Calling`].
pub fn calling(call: fn()) -> Calling {
    let now = Instant::now();
    Calling(MINE.with_borrow_mut(|mine| mine.replace(Mine::Call { call, last: now })))
}

impl Drop for Calling {
    fn drop(&mut self) {
        MINE.with_borrow_mut(|mine| *mine = self.0.take());
    }
}

/// This thread gets on. Costs a few nanoseconds; nothing on a thread that is no
/// stage's.
pub fn beat() {
    MINE.with_borrow_mut(|mine| match mine {
        Some(Mine::Stage(pulse)) => {
            pulse.last.store(milliseconds(Instant::now()), Ordering::Relaxed);
        }
        Some(Mine::Call { call, last }) if last.elapsed() >= CALLED => {
            *last = Instant::now();
            call();
        }
        None | Some(Mine::Call { .. }) => {}
    });
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// The first beat is no zero, so that a test can have one long before it.
const BEFORE: u64 = 3_600_000;

fn milliseconds(at: Instant) -> u64 {
    let since = at.saturating_duration_since(origin()).as_millis();
    u64::try_from(since).unwrap_or(u64::MAX).saturating_add(BEFORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_of_the_thread_that_leaves_it() {
        let pulse = Pulse::new("buffer");
        pulse.last.store(u64::MAX, Ordering::Relaxed);
        beat();
        assert_eq!(pulse.last.load(Ordering::Relaxed), u64::MAX, "of no stage's thread");
        let stage = pulse.clone();
        std::thread::spawn(move || {
            stage.is_of_this_thread();
            beat();
        })
        .join()
        .unwrap();
        assert_ne!(pulse.last.load(Ordering::Relaxed), u64::MAX);
    }
}
