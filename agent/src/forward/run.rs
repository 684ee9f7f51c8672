//! The forward thread: asks the core what comes next and does it.

mod finish;
mod look;
mod refused;
mod send;
mod start;
#[cfg(test)]
mod tests;
mod twin;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::info;

use self::twin::Twin;
use super::Status;
use super::backfill::Backfill;
use super::config::Config;
use super::core::{Core, Outcome, State};
use super::line::{Kept, Line, Open, Presence};
use super::lineup::Lineup;
use super::load::Load;
use super::pace::Pace;
use super::sieve::Sieve;
use super::size::Sizer;
use super::tails::Look;
use super::transaction::Transaction;
use super::trouble::{Class, Refusal, Trouble, refusal};
use super::voice::Voice;
use crate::buffer::{BatchId, Position, Reader, Store};
use crate::clock::Clock;

/// How long the thread sleeps while nothing is stored; the client's events
/// (lost brokers, tokens) and a stop wait no longer.
const IDLE: Duration = Duration::from_millis(250);

/// First wait for a commit; the next load is encoded while it goes on.
const COMMIT_FIRST: Duration = Duration::from_millis(4);

/// Further waits for a commit, and slices of a flush.
const SLICE: Duration = Duration::from_millis(250);

/// How long a backlog keeps new flows and topics that came back from being
/// looked at; an alarm of a stream that was quiet so far waits no longer.
const LOOK: Duration = Duration::from_secs(1);

/// An idle forwarder asks the file so often although nobody said that something is new.
const ANYWAY: Duration = Duration::from_mins(1);

/// Brokers forget offsets after seven days without a commit (SAFETY 3).
const RENEW: Duration = Duration::from_hours(24);

/// How often in a row a transaction that names no culprit is tried as it is.
const MOST_AGAIN: u32 = 3;

/// Longer than any transaction of a healthy cluster holds the position back
/// after `init_transactions` has ended ours.
const UNREADABLE: Duration = Duration::from_secs(30);

/// So many times the transaction's time-out without a commit or an answer that
/// nothing is to be sent, and the client is made anew. After one the broker has
/// ended the transaction, after the second a healthy client has been told so.
const STUCK: u32 = 3;

/// When the thread must end, once that is known.
pub(super) type StopAt = Arc<Mutex<Option<Instant>>>;

/// What the thread runs on.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a note of its own, no state of a machine"
)]
pub(super) struct Forward<L> {
    config: Config,
    gateway: String,
    store: Store,
    reader: Option<Reader>,
    clock: Clock,
    pace: Pace,
    open: Open<L>,
    stop: StopAt,
    status: watch::Sender<Status>,
    core: Core,
    link: Option<L>,
    lineup: Lineup,
    sizer: Sizer,
    backfill: Backfill,
    voice: Voice,
    transaction: Transaction,
    /// What is handed over now, or next.
    load: Load,
    /// What is encoded while the client sends or the broker commits.
    next: Load,
    /// So many transactions have one load each: in one with several something
    /// was refused, and only of the last load it could be found out what.
    careful: u32,
    /// Origins of the dead letters since the last commit: a load that is tried
    /// again meets them again. At most one for each record of a load.
    buried: BTreeSet<String>,
    /// Records of `load` that were refused, perhaps for their content.
    suspects: Vec<usize>,
    /// The load is sent again as it is after the abort, for the so-manieth time.
    keep: bool,
    again: u32,
    cluster: String,
    /// What Kafka has.
    kept: Kept,
    /// What it has once the open transaction is committed, and not before: an
    /// aborted transaction must leave no trace in the next position.
    pending: Option<Kept>,
    /// Its commit was asked for, and no answer came yet.
    unanswered: bool,
    seen: BatchId,
    /// With this as the newest batch nothing at all was stored: an idle gateway does
    /// not ask the file again and again.
    emptied: Option<BatchId>,
    last_was_trial: bool,
    began: Instant,
    last_commit: Instant,
    /// When something was last known to work.
    progress: Instant,
    stuck_told: bool,
    twin: Twin,
    /// The position is lost: how far the look for what is in Kafka is.
    look: Option<Look>,
    /// The position in Kafka does not name this run as its sender yet.
    unannounced: bool,
    /// Another file has sent under this gateway's id.
    beside_twin: bool,
    /// When topics were looked for last.
    looked: Option<Instant>,
    first_start: bool,
    /// Since when the position could not be read, and whether it was said.
    unreadable_since: Option<Instant>,
    unreadable_told: bool,
    /// A stop was asked for before it was seen that nothing is left.
    drained: bool,
}

impl<L: Line> Forward<L> {
    #[expect(clippy::too_many_arguments, reason = "it is put together in one place")]
    pub(super) fn new(
        config: Config,
        gateway: String,
        store: Store,
        clock: Clock,
        pace: Pace,
        open: Open<L>,
        stop: StopAt,
        status: watch::Sender<Status>,
    ) -> Self {
        let now = pace.now();
        Self {
            backfill: Backfill::new(config.backfill_limit, now),
            config,
            gateway,
            store,
            reader: None,
            clock,
            pace,
            open,
            stop,
            status,
            core: Core::new(),
            link: None,
            lineup: Lineup::default(),
            sizer: Sizer::new(),
            voice: Voice::default(),
            transaction: Transaction::default(),
            load: Load::default(),
            next: Load::default(),
            careful: 0,
            buried: BTreeSet::new(),
            suspects: Vec::new(),
            keep: false,
            again: 0,
            cluster: String::new(),
            kept: Kept { offset: 0, position: Position::default() },
            pending: None,
            unanswered: false,
            seen: BatchId(0),
            emptied: None,
            last_was_trial: false,
            began: now,
            last_commit: now,
            progress: now,
            stuck_told: false,
            twin: Twin::default(),
            look: None,
            unannounced: false,
            beside_twin: false,
            looked: None,
            first_start: true,
            unreadable_since: None,
            unreadable_told: false,
            drained: false,
        }
    }

    /// Loads so small that a few events fill them.
    #[cfg(test)]
    pub(super) fn in_parts_of(&mut self, bytes: usize) {
        self.sizer.in_parts_of(bytes);
    }

    /// Until it is stopped.
    pub(super) fn run(mut self) {
        loop {
            let pause = self.step();
            if self.stopping().is_some_and(|end| self.drained || end <= self.pace.now()) {
                return;
            }
            self.rest(pause);
        }
    }

    /// One step of the core's; how long to pause after it.
    pub(super) fn step(&mut self) -> Duration {
        if self.core.take_rebuild() {
            self.link = None;
        }
        let state = self.core.state();
        let result = match state {
            State::Connecting => self.connect(),
            State::ReadingPosition => self.read_position(),
            State::Looking => self.look_at_tails(),
            State::Sending => self.send(),
            State::Committing => self.commit(),
            State::Aborting => self.abort(),
            State::Sifting => self.sift(),
            State::Watching => self.look_who_sends(),
        };
        let outcome = match &result {
            Ok(outcome) => *outcome,
            Err(trouble) => {
                self.say(trouble);
                // Whatever took the transaction may have been its length.
                let lost = match state {
                    State::Sending | State::Sifting => true,
                    State::Committing => trouble.class > Class::Repeat,
                    State::Connecting
                    | State::ReadingPosition
                    | State::Looking
                    | State::Aborting
                    | State::Watching => false,
                };
                if lost && !self.load.is_empty() {
                    self.sizer.timed_out();
                }
                Outcome::Failed(trouble.class)
            }
        };
        if outcome == Outcome::Failed(Class::Fenced) {
            self.twin.fenced(self.pace.now());
        }
        let outcome = self.watch_over(state, outcome);
        let pause = self.core.settle(outcome);
        self.report();
        pause
    }

    fn say(&mut self, trouble: &Trouble) {
        let told = self.link.as_ref().and_then(Line::told);
        self.voice.trouble(trouble, told.as_deref(), &self.config.brokers, self.pace.now());
    }

    /// The watchdog: a client that gets nowhere is made anew, which runs the
    /// whole start. Whether it is the line's fault or the client's own cannot
    /// be told from here, and a new one costs little.
    fn watch_over(&mut self, state: State, outcome: Outcome) -> Outcome {
        let works = match outcome {
            Outcome::Done => state != State::Sending && state != State::Aborting,
            Outcome::Idle | Outcome::Aside | Outcome::Lost => true,
            // A look has bounds of its own.
            Outcome::More => state == State::Looking,
            // A new client is made anyhow.
            Outcome::Failed(Class::Rebuild | Class::Fenced) => return outcome,
            Outcome::Refused | Outcome::Failed(_) => false,
        };
        let now = self.pace.now();
        if works {
            self.progress = now;
            self.stuck_told = false;
        }
        let stuck = self.config.transaction_timeout.get() * STUCK;
        if now.saturating_duration_since(self.progress) < stuck {
            return outcome;
        }
        self.progress = now;
        if !std::mem::replace(&mut self.stuck_told, true) {
            info!(state = state.as_str(), without_progress = ?stuck, "the Kafka client is made anew, again and again until one gets through");
        }
        Outcome::Failed(Class::Rebuild)
    }

    fn stopping(&self) -> Option<Instant> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out_of_time(&self) -> bool {
        self.stopping().is_some_and(|end| end <= self.pace.now())
    }

    fn rest(&self, pause: Duration) {
        let end = self.pace.now() + pause;
        loop {
            let left = end.saturating_duration_since(self.pace.now());
            if left.is_zero() || self.out_of_time() {
                return;
            }
            if let Some(link) = &self.link {
                link.poll();
            }
            // `stop` unparks, so that a short grace is not slept away.
            self.pace.park(left.min(IDLE));
        }
    }

    fn report(&self) {
        let state = self.core.state().as_str();
        let aside = self.lineup.those_aside();
        self.status.send_if_modified(|status| {
            let changed = status.state != state
                || status.last_error != self.voice.text
                || status.aside != aside;
            if changed {
                status.state = state;
                status.last_error.clone_from(&self.voice.text);
                status.aside = aside;
            }
            changed
        });
    }
}

fn linked<L>(link: Option<&L>) -> Result<&L, Trouble> {
    link.ok_or_else(no_link)
}

fn no_link() -> Trouble {
    Trouble::new(Class::Rebuild, "the Kafka client is gone")
}

fn gone() -> Trouble {
    Trouble::new(Class::Rebuild, "the buffer is closed")
}

fn unreadable(error: &crate::buffer::ReadError) -> Trouble {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    Trouble::new(Class::Repeat, format!("{error}: {cause}"))
}
