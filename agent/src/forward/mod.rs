//! Sends batches in order of priority, one Kafka transaction at a time.
//!
//! One thread of its own, `forward`, does everything here, because librdkafka
//! blocks. [`core`] decides what follows from what, [`run`] does it; what it asks
//! of Kafka is [`line`], and [`link`] is that on librdkafka.
//!
//! Invariants (SAFETY.md, "Positions" and "Transactions"):
//! - every new producer runs the whole start: fence, read the position, delete
//!   what it covers, only then send;
//! - a commit is repeated until its outcome is known;
//! - nothing leaves the file before Kafka has committed it;
//! - a record becomes a dead letter only when it was refused alone, and is
//!   buried before the position passes it;
//! - a topic that is missing holds up nobody but its own streams.

mod backfill;
mod config;
mod context;
mod core;
#[cfg(test)]
mod fuzz;
mod line;
mod lineup;
mod link;
mod load;
mod native;
pub(crate) mod pace;
mod run;
mod sieve;
#[cfg(test)]
pub(crate) mod simulator;
mod size;
mod tail;
mod tails;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod transaction;
mod trouble;
mod voice;

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use config::{Compression, Config, Delivery, Finding, Login, Mechanism, Tls};

use crate::buffer::Store;
use crate::clock::Clock;
use crate::delays::Delays;
use crate::pulse::Pulse;

/// How the forwarder is; it changes with each transaction and each change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// A word for it: connecting, reading position, looking, sending, committing,
    /// aborting, standing aside.
    pub state: &'static str,
    /// Since the start of the process; bytes are those of keys and values.
    pub delivered_events: u64,
    pub delivered_bytes: u64,
    /// Transactions that Kafka has committed; with `at_least_once`, loads that
    /// it has taken.
    pub transactions: u64,
    /// From the reading of each batch's first event to that commit.
    pub took: Delays,
    /// What keeps it from delivering now.
    pub last_error: Option<String>,
    /// Streams of which something is stored that Kafka does not take: the others go on.
    pub aside: Vec<Aside>,
}

/// A stream that stands aside until its topic takes something again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    pub stream: String,
    pub topic: String,
    /// Why, and what would help.
    pub cause: String,
}

impl Status {
    /// Words that a state may have.
    pub const STATES: [&str; 7] = [
        "connecting",
        "reading position",
        "looking",
        "sending",
        "committing",
        "aborting",
        "standing aside",
    ];

    /// Of a forwarder that has done nothing yet.
    pub fn begin() -> Self {
        Self {
            state: "connecting",
            delivered_events: 0,
            delivered_bytes: 0,
            transactions: 0,
            took: Delays::default(),
            last_error: None,
            aside: Vec::new(),
        }
    }

    /// Kafka is reached and its position known: what is stored is sent.
    pub fn is_reached(&self) -> bool {
        matches!(self.state, "sending" | "committing" | "aborting")
    }
}

/// The running forward thread.
#[derive(Debug)]
pub struct Forwarder {
    stop: run::StopAt,
    pulse: Pulse,
    thread: JoinHandle<()>,
    ended: Receiver<std::convert::Infallible>,
    /// The same, to be waited for.
    gone: watch::Receiver<()>,
}

/// Kept of the grace for closing the client.
const CLOSING: Duration = Duration::from_millis(500);

/// Longer than a healthy broker takes for a commit.
const LEAVING: Duration = Duration::from_secs(2);

/// Starts forwarding what `store` holds; how it is stands in `status`, which goes
/// on with the next one after a change of the configuration.
pub fn start(
    config: Config,
    gateway: &str,
    store: Store,
    clock: Clock,
    status: watch::Sender<Status>,
) -> std::io::Result<Forwarder> {
    start_with(Pulse::new("forward"), config, gateway, store, clock, status)
}

/// The same in the place of one that has ended, with its [pulse](Forwarder::pulse): who
/// looks after that need not know that it is another thread now.
pub(crate) fn start_with(
    pulse: Pulse,
    config: Config,
    gateway: &str,
    store: Store,
    clock: Clock,
    status: watch::Sender<Status>,
) -> std::io::Result<Forwarder> {
    let stop = run::StopAt::default();
    let (end, ended) = sync_channel(1);
    let (alive, gone) = watch::channel(());
    let forward = run::Forward::new(
        config,
        gateway.to_owned(),
        store,
        clock,
        pace::Pace::default(),
        Box::new(link::Link::open),
        Arc::clone(&stop),
        status,
    );
    let beats = pulse.clone();
    let thread = std::thread::Builder::new().name("forward".to_owned()).spawn(move || {
        beats.is_of_this_thread();
        forward.run();
        // Dropping them says that the thread is done.
        drop((end, alive));
    })?;
    Ok(Forwarder { stop, pulse, thread, ended, gone })
}

impl Forwarder {
    /// The thread's beat.
    pub const fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Waits until the thread has ended, which only [`Forwarder::stop`] should make
    /// it do. May be dropped and called again.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: it only closes.
        while self.gone.changed().await.is_ok() {}
    }

    /// Asks the thread to end soon: another one takes its place. What it is about
    /// to commit it may.
    pub fn leave(&self) {
        self.stop_at(Instant::now() + LEAVING);
    }

    fn stop_at(&self, end: Instant) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        self.thread.thread().unpark();
    }

    /// Sends what is stored until the grace is over or nothing is left, then
    /// ends. Blocking, never longer than the grace: a call that a dead broker
    /// holds up is left behind, what was not committed is sent at the next
    /// start, and the transaction that stands open is fenced by it.
    pub fn stop(self, grace: Duration) {
        let sending = grace.saturating_sub(CLOSING.min(grace / 4));
        self.stop_at(Instant::now() + sending);
        match self.ended.recv_timeout(grace) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Disconnected) => {
                // A panic of the thread has been told by the panic hook.
                drop(self.thread.join());
            }
            Err(RecvTimeoutError::Timeout) => {
                tracing::info!("Kafka does not answer in time, the rest is sent at the next start");
            }
        }
    }
}
