//! Feeds the service manager's watchdog while every stage gets on, and says which
//! does not. What is fed is the pipeline: one stage that hangs starves it, and the
//! process is killed and started anew, which costs nothing (all is in the file).

use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::buffer::Store;
use crate::notify::{self, State};
use crate::pulse::{Pulse, SILENCE};

/// So many looks within the time: one that is late by a moment costs nothing.
const LOOKS: u32 = 4;

/// What can be seen of a running agent's threads.
#[derive(Debug, Clone)]
pub struct Vitals {
    pulses: Vec<Pulse>,
    store: Store,
}

impl Vitals {
    pub(super) const fn new(pulses: Vec<Pulse>, store: Store) -> Self {
        Self { pulses, store }
    }

    /// The stages that have been silent for longer than this.
    fn hanging(&self, limit: Duration) -> Vec<&'static str> {
        let silent = self.pulses.iter().filter(|pulse| pulse.silent() > limit);
        silent.map(Pulse::stage).collect()
    }
}

/// Looks after the agent's threads, from the runtime of its sources: that one
/// being blocked starves the watchdog too.
#[derive(Debug)]
pub struct Watchdog {
    /// How long a stage may be silent.
    limit: Duration,
    /// A service manager wants to be told.
    asked: bool,
}

impl Default for Watchdog {
    /// As the environment asks for (`WATCHDOG_USEC`).
    fn default() -> Self {
        let asked = notify::watchdog();
        Self { limit: asked.unwrap_or(SILENCE), asked: asked.is_some() }
    }
}

impl Watchdog {
    /// Never returns. `None` while no agent runs: it is started, mended or
    /// stopped then, each of which has bounds of its own.
    pub async fn run(self, vitals: watch::Receiver<Option<Vitals>>) {
        let mut known = Vec::new();
        loop {
            let running = vitals.borrow().clone();
            let hanging = running.as_ref().map(|v| v.hanging(self.limit)).unwrap_or_default();
            if hanging != known {
                self.tell(&hanging);
            }
            known = hanging;
            if known.is_empty() && self.asked {
                feed(State::Watchdog);
            }
            // One that rests leaves its beat until the next look.
            if let Some(running) = running {
                running.store.nudge();
            }
            tokio::time::sleep(self.limit / LOOKS).await;
        }
    }

    fn tell(&self, hanging: &[&str]) {
        if hanging.is_empty() {
            info!("every stage gets on again");
        } else {
            let (stages, silent) = (hanging.join(", "), self.limit);
            error!(stages, longer_than = ?silent, "a stage hangs, the watchdog is not fed");
        }
    }
}

/// The start, or what is done in place of one, gets on.
pub(super) fn works() {
    feed(State::Working);
}

fn feed(state: State) {
    if let Err(cause) = notify::notify(state) {
        warn!(error = %cause, ?state, "cannot tell the service manager");
    }
}
