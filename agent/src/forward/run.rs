//! The forward thread: asks the core what comes next and does it.

mod refused;
mod start;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::info;

use super::Status;
use super::config::Config;
use super::core::{Core, Outcome, State};
use super::lineup::Lineup;
use super::link::{Kept, Link, Presence};
use super::load::Load;
use super::sieve::Sieve;
use super::size::{MOST_BYTES, Sizer};
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

/// Brokers forget offsets after seven days without a commit (SAFETY 3).
const RENEW: Duration = Duration::from_hours(24);

/// How often in a row a transaction that names no culprit is tried as it is.
const MOST_AGAIN: u32 = 3;

/// Longer than any transaction of a healthy cluster holds the position back
/// after `init_transactions` has ended ours.
const UNREADABLE: Duration = Duration::from_secs(30);

/// When the thread must end, once that is known.
pub(super) type StopAt = Arc<Mutex<Option<Instant>>>;

/// What the thread runs on.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a note of its own, no state of a machine"
)]
pub(super) struct Forward {
    config: Config,
    gateway: String,
    store: Store,
    reader: Option<Reader>,
    clock: Clock,
    stop: StopAt,
    status: watch::Sender<Status>,
    core: Core,
    link: Option<Link>,
    lineup: Lineup,
    sizer: Sizer,
    voice: Voice,
    /// What is in the transaction, or goes into the next one.
    load: Load,
    /// What is encoded while the broker commits.
    next: Load,
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
    seen: BatchId,
    last_was_trial: bool,
    began: Instant,
    last_commit: Instant,
    /// When topics were looked for last.
    looked: Option<Instant>,
    first_start: bool,
    /// Since when the position could not be read, and whether it was said.
    unreadable_since: Option<Instant>,
    unreadable_told: bool,
    /// A stop was asked for before it was seen that nothing is left.
    drained: bool,
}

impl Forward {
    pub(super) fn new(
        config: Config,
        gateway: String,
        store: Store,
        clock: Clock,
        stop: StopAt,
        status: watch::Sender<Status>,
    ) -> Self {
        let now = Instant::now();
        Self {
            config,
            gateway,
            store,
            reader: None,
            clock,
            stop,
            status,
            core: Core::new(),
            link: None,
            lineup: Lineup::default(),
            sizer: Sizer::new(),
            voice: Voice::default(),
            load: Load::default(),
            next: Load::default(),
            buried: BTreeSet::new(),
            suspects: Vec::new(),
            keep: false,
            again: 0,
            cluster: String::new(),
            kept: Kept { offset: 0, position: Position::default() },
            pending: None,
            seen: BatchId(0),
            last_was_trial: false,
            began: now,
            last_commit: now,
            looked: None,
            first_start: true,
            unreadable_since: None,
            unreadable_told: false,
            drained: false,
        }
    }

    /// Until it is stopped.
    pub(super) fn run(mut self) {
        loop {
            let pause = self.step();
            if self.stopping().is_some_and(|end| self.drained || end <= Instant::now()) {
                return;
            }
            self.rest(pause);
        }
    }

    /// One step of the core's; how long to pause after it.
    fn step(&mut self) -> Duration {
        if self.core.take_rebuild() {
            self.link = None;
        }
        let state = self.core.state();
        let result = match state {
            State::Connecting => self.connect(),
            State::ReadingPosition => self.read_position(),
            State::Sending => self.send(),
            State::Committing => self.commit(),
            State::Aborting => self.abort(),
            State::Sifting => self.sift(),
        };
        let outcome = match &result {
            Ok(outcome) => *outcome,
            Err(trouble) => {
                let told = self.link.as_ref().and_then(|link| link.context.told());
                self.voice.trouble(trouble, told.as_deref(), &self.config.brokers);
                // Whatever took the transaction may have been its length.
                let lost = match state {
                    State::Sending | State::Sifting => true,
                    State::Committing => trouble.class > Class::Repeat,
                    State::Connecting | State::ReadingPosition | State::Aborting => false,
                };
                if lost && !self.load.is_empty() {
                    self.sizer.timed_out();
                }
                Outcome::Failed(trouble.class)
            }
        };
        let pause = self.core.settle(outcome);
        self.report();
        pause
    }

    fn stopping(&self) -> Option<Instant> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out_of_time(&self) -> bool {
        self.stopping().is_some_and(|end| end <= Instant::now())
    }

    fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.out_of_time() {
                return;
            }
            if let Some(link) = &self.link {
                link.poll();
            }
            // `stop` unparks, so that a short grace is not slept away.
            std::thread::park_timeout(left.min(IDLE));
        }
    }

    fn report(&self) {
        let state = self.core.state().as_str();
        self.status.send_if_modified(|status| {
            let changed = status.state != state || status.last_error != self.voice.text;
            if changed {
                status.state = state;
                status.last_error.clone_from(&self.voice.text);
            }
            changed
        });
    }

    fn send(&mut self) -> Result<Outcome, Trouble> {
        let stopping = self.stopping().is_some();
        self.seen = self.store.wait_newer(self.seen, Duration::ZERO);
        if self.load.is_empty() {
            std::mem::swap(&mut self.load, &mut self.next);
        }
        if self.load.is_empty() || self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            let looked = self.look_for_topics();
            self.looked = Some(Instant::now());
            // A look that fails is no reason to keep back what is encoded.
            if self.load.is_empty() {
                looked?;
            }
        }
        if self.load.is_empty() {
            self.compose()?;
            std::mem::swap(&mut self.load, &mut self.next);
        }
        let renew = self.kept.offset > 0 && self.last_commit.elapsed() >= RENEW;
        if self.load.is_empty() && !renew {
            linked(self.link.as_ref())?.poll();
            self.drained = stopping;
            if !stopping {
                let since = Instant::now();
                let newest = self.store.wait_newer(self.seen, IDLE);
                // A store that goes down answers at once; its forwarder is
                // stopped a moment later and must not spin until then.
                if newest <= self.seen {
                    self.rest(IDLE.saturating_sub(since.elapsed()));
                }
            }
            return Ok(Outcome::Idle);
        }
        self.transmit()
    }

    fn reader(&mut self) -> Result<&mut Reader, Trouble> {
        if self.reader.is_none() {
            self.reader = Some(self.store.reader().map_err(|e| unreadable(&e))?);
        }
        self.reader.as_mut().ok_or_else(no_link)
    }

    /// Encodes what goes into the next transaction.
    fn compose(&mut self) -> Result<(), Trouble> {
        self.next.clear();
        // A flow that is new on a known topic, an alarm above all, goes with
        // this load and not after the backlog.
        let flows = self.reader()?.flows().map_err(|e| unreadable(&e))?;
        self.lineup.refresh(flows);
        let Some(reader) = self.reader.as_mut() else { return Ok(()) };
        // A flow on trial and all the others alternate, so that neither can
        // keep the other waiting.
        if !self.last_was_trial {
            for entry in self.lineup.trials() {
                let first =
                    reader.batches(entry.hash, entry.loaded, 1, 1).map_err(|e| unreadable(&e))?;
                if let Some(batch) = first.first() {
                    self.next.add(&entry.stream, batch);
                    self.lineup.loaded(entry.hash, batch.id);
                    self.last_was_trial = true;
                    return Ok(());
                }
            }
        }
        self.last_was_trial = false;
        let most = self.sizer.events();
        for entry in self.lineup.order() {
            let room = most.saturating_sub(u32::try_from(self.next.records.len()).unwrap_or(most));
            let bytes = MOST_BYTES.saturating_sub(self.next.bytes());
            // The first batch of all goes in whatever its size.
            if !self.next.is_empty() && (room == 0 || bytes == 0) {
                break;
            }
            let mut after = entry.loaded;
            // In small portions: what is read stands in memory beside what it
            // becomes.
            let portion = bytes.clamp(1, MOST_BYTES / 4);
            loop {
                let room =
                    most.saturating_sub(u32::try_from(self.next.records.len()).unwrap_or(most));
                if !self.next.is_empty() && (room == 0 || self.next.bytes() >= MOST_BYTES) {
                    break;
                }
                let batches = reader
                    .batches(entry.hash, after, room.max(1), portion)
                    .map_err(|e| unreadable(&e))?;
                let Some(last) = batches.last() else { break };
                after = last.id;
                for batch in &batches {
                    self.next.add(&entry.stream, batch);
                    self.lineup.loaded(entry.hash, batch.id);
                }
            }
        }
        Ok(())
    }

    /// Fills one transaction with the load and puts the position into it.
    fn transmit(&mut self) -> Result<Outcome, Trouble> {
        self.began = Instant::now();
        let dead = std::mem::take(&mut self.load.dead);
        self.keep_letters(dead.into_iter().map(|letter| (letter, None)).collect())?;
        let link = linked(self.link.as_ref())?;
        link.take_failures();
        link.begin()?;
        let all: Vec<usize> = (0..self.load.records.len()).collect();
        self.produce(&all, true)?;
        let failures = linked(self.link.as_ref())?.take_failures();
        if !failures.is_empty() {
            return self.failed(&failures);
        }
        let mut position = self.kept.position.clone();
        for (flow, _, epoch, number) in &self.load.ends {
            position.advance(*flow, *epoch, *number);
        }
        let kept = Kept { offset: self.kept.offset + 1, position };
        let link = linked(self.link.as_ref())?;
        if link.is_transactional() {
            let mut sent = link.send_position(&self.config.positions_topic, &kept);
            // Repeating it is allowed, and each try is short because of stops.
            while sent.as_ref().is_err_and(|t| t.class == Class::Repeat)
                && self.began.elapsed() < self.config.transaction_timeout.get()
                && !self.out_of_time()
            {
                link.poll();
                sent = link.send_position(&self.config.positions_topic, &kept);
            }
            sent?;
        }
        self.pending = Some(kept);
        Ok(Outcome::Done)
    }

    /// Hands these records of the load over and waits for their answers.
    /// `chunked`: in requests no larger than what each topic is known to take.
    fn produce(&mut self, indices: &[usize], chunked: bool) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        let now = self.clock.now();
        let mut id = String::new();
        let mut open = 0_usize;
        for index in indices {
            let Some(given) = self.load.records.get(*index) else { continue };
            if given.buried || given.sent {
                continue;
            }
            while !link.produce(&self.load, *index, given, now, &mut id) {
                link.flush(SLICE / 10);
                self.check_time()?;
            }
            open += 1;
            let topic = &self.load.stream(given).topic;
            let full = chunked && self.lineup.chunk(topic).is_some_and(|chunk| open >= chunk);
            if let Some(record) = self.load.records.get_mut(*index) {
                record.handed = true;
            }
            if full {
                open = 0;
                self.flush()?;
                if link.context.is_blamed() {
                    return Ok(());
                }
            }
        }
        self.flush()
    }

    fn flush(&self) -> Result<(), Trouble> {
        let link = linked(self.link.as_ref())?;
        while !link.flush(SLICE) {
            self.check_time()?;
        }
        Ok(())
    }

    fn check_time(&self) -> Result<(), Trouble> {
        if self.out_of_time() || self.began.elapsed() >= self.config.transaction_timeout.get() {
            return Err(Trouble::new(Class::Abort, "the broker takes the records too slowly"));
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<Outcome, Trouble> {
        let link = linked(self.link.as_ref())?;
        let mut done = link.commit(COMMIT_FIRST);
        if done.as_ref().is_err_and(|trouble| trouble.class == Class::Repeat) {
            if self.next.is_empty() {
                // The broker works on the commit meanwhile.
                self.compose()?;
            }
            done = linked(self.link.as_ref())?.commit(SLICE * 4);
        }
        done?;
        self.committed();
        Ok(Outcome::Done)
    }

    /// Kafka has it. A power cut from here on costs nothing: the position says
    /// so at the next start.
    fn committed(&mut self) {
        let events = self.load.records.iter().filter(|record| !record.buried).count();
        let bytes = self.load.bytes();
        if events > 0 {
            self.sizer.committed(events, self.began.elapsed());
        }
        self.again = 0;
        self.buried.clear();
        if let Some(kept) = self.pending.take() {
            self.kept = kept;
        }
        for stream in self.lineup.committed(&self.load.ends) {
            info!(stream = %stream.name, topic = %stream.topic, "stream delivers again");
        }
        self.last_commit = Instant::now();
        // The writer is gone only when the agent goes down; the position in
        // Kafka then tells the next start what to delete.
        drop(self.store.forget(self.kept.position.clone(), &self.cluster));
        self.load.clear();
        if let Some(link) = &self.link {
            link.context.well();
        }
        self.voice.well(&self.config.brokers);
        self.status.send_modify(|status| {
            status.delivered_events += events as u64;
            status.delivered_bytes += bytes as u64;
            status.last_error = None;
        });
    }

    fn abort(&mut self) -> Result<Outcome, Trouble> {
        linked(self.link.as_ref())?.abort()?;
        self.answered()?;
        self.pending = None;
        if self.suspects.is_empty() && !std::mem::take(&mut self.keep) {
            self.load.clear();
            self.next.clear();
            self.lineup.rewind();
        }
        Ok(Outcome::Done)
    }
}

fn linked(link: Option<&Link>) -> Result<&Link, Trouble> {
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
